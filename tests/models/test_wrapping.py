"""The wrappers of docs/wrapping.md, each as it stands, on images: their logits are those of what
they wrap behind its normalisation.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from support.cli import medrobust, refused
from support.files import ROOT, SHARED_DATA
from support.medmnist import medmnist_arrays
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from robustbench_med.models import registry

PAGE = (ROOT / "docs" / "wrapping.md").read_text()
WRAPPERS = dict(re.findall(r'^```python title="(.+?)"\n(.*?)^```', PAGE, re.M | re.S))
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
THEIR_NET = f"""
from torch import nn

def create_model(name, num_classes, in_chans):
    net = nn.Sequential(nn.Conv2d(in_chans, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, num_classes))
    net.default_cfg = {{"mean": {IMAGENET["mean"]}, "std": {IMAGENET["std"]}}}
    return net
"""
THEIR_LIGHTNING = """
import lightning
from torch import nn

class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 2))
    def forward(self, x):
        return self.net(x)
"""
Reference = Callable[[Tensor], Tensor]


def plain(channels: int = 1) -> nn.Sequential:
    torch.manual_seed(3)
    layers = (nn.Conv2d(channels, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 2))
    return nn.Sequential(*layers).eval()


def normal(x: Tensor, mean: list[float], std: list[float]) -> Tensor:
    return (x.expand(-1, 3, -1, -1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(
        3, 1, 1
    )


def timm_like(folder: Path) -> Reference:
    net = plain(3)
    (folder / "their_net.py").write_text(THEIR_NET)
    torch.save(net.state_dict(), folder / "weights.pth")
    return lambda x: net(normal(x, **IMAGENET))


def hugging_face(folder: Path) -> Reference:
    torch.manual_seed(3)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=48,
        patch_size=16,
        id2label={0: "benign", 1: "malignant"},
        label2id={"benign": 0, "malignant": 1},
    )
    net = ViTForImageClassification(config).eval()
    net.save_pretrained(folder / "classifier")
    about = {"image_mean": [0.4] * 3, "image_std": [0.3] * 3}
    (folder / "classifier" / "preprocessor_config.json").write_text(json.dumps(about))

    def logits(x: Tensor) -> Tensor:
        large = nn.functional.interpolate(x, size=48, mode="bilinear")
        return net(normal(large, [0.4] * 3, [0.3] * 3)).logits

    return logits


def monai_densenet(folder: Path) -> Reference:
    torch.manual_seed(3)
    net = DenseNet(2, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2)).eval()
    torch.save(net.state_dict(), folder / "densenet.pt")
    return lambda x: net(2 * x - 1)


def lightning_checkpoint(folder: Path) -> Reference:
    net = plain()
    (folder / "their_lightning.py").write_text(THEIR_LIGHTNING)
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save(
        {"state_dict": state, "pytorch-lightning_version": lightning.__version__},
        folder / "mine.ckpt",
    )
    return lambda x: net(2 * x - 1)


def exported_program(folder: Path) -> Reference:
    net = plain()
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(net, (torch.rand(2, 1, 32, 32),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "program.pt2")
    return lambda x: net(2 * x - 1)


def torchscript(folder: Path) -> Reference:
    net = plain()
    torch.jit.script(net).save(folder / "net.ts")
    return lambda x: net(2 * x - 1)


MADE = {
    f"{made.__name__}.py": made
    for made in (
        timm_like,
        hugging_face,
        monai_densenet,
        lightning_checkpoint,
        exported_program,
        torchscript,
    )
}


def images_in(folder: Path) -> Path:
    """Real images where they are, else miniatures of their shape."""
    if (SHARED_DATA / "breastmnist.npz").exists():
        shutil.copy(SHARED_DATA / "breastmnist.npz", folder)
    else:
        np.savez(folder / "breastmnist.npz", **medmnist_arrays())
    return folder


def test_the_page_holds_every_wrapper_in_less_than_fifteen_lines() -> None:
    assert WRAPPERS.keys() == MADE.keys()
    assert all(
        len([line for line in block.splitlines() if line.strip()]) < 15
        for block in WRAPPERS.values()
    )


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize("name", list(MADE))
def test_a_wrapper_of_the_page_is_what_it_wraps_and_runs_as_it_stands(
    name, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reference = MADE[name](tmp_path)
    (tmp_path / name).write_text(WRAPPERS[name])
    victim = registry.build(f"{name}:build", (1,), (2,), {}, image_size=32)
    x = torch.rand(3, 1, 32, 32, requires_grad=True)
    (logits,) = victim(x)
    torch.testing.assert_close(logits, reference(x))
    assert torch.autograd.grad(logits.sum(), x)[0].abs().sum() > 0
    run = [
        "run",
        "--data",
        "breastmnist",
        "--data-root",
        images_in(tmp_path),
        "--accept-unverified",
        "--attack",
        "fgsm",
    ]
    shown = medrobust(
        *run,
        "--model",
        f"{name}:build",
        "--no-train",
        "--size",
        32,
        "--limit",
        4,
        "--no-control",
        "--no-challenge",
        "--out",
        "o",
    )
    assert "training" not in shown.stderr
    (record,) = (json.loads(path.read_text()) for path in Path("o/records").glob("*.json"))
    assert record["victim"]["origin"] == "build"


WRAPPED = {
    "timm_like.py": "their_net.py:tiny",
    "hugging_face.py": "classifier",
    "exported_program.py": "program.pt2",
    "torchscript.py": "net.ts",
}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize("name", list(WRAPPED))
def test_what_wrap_writes_is_a_victim(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    reference = MADE[name](tmp_path)
    with (tmp_path / "their_net.py").open("a") as file:
        file.write("\ndef tiny():\n    return create_model('tiny', 2, 3)\n")
    medrobust("wrap", WRAPPED[name], "--out", "wrapper.py")
    text = (tmp_path / "wrapper.py").read_text()
    normalised = name in ("timm_like.py", "hugging_face.py")
    assert ("TODO no normalisation" in text) != normalised
    if name == "timm_like.py":
        assert str(IMAGENET["mean"]) in text
        assert "TODO its weights" in text
        text = text.replace(
            "tiny()\n",
            "tiny()\n        self.net.load_state_dict(torch.load('weights.pth', weights_only=True))\n",
            1,
        )
    else:
        text = text.replace("MEAN, STD = [0.0], [1.0]", "MEAN, STD = [0.5], [0.5]")
    (tmp_path / "wrapper.py").write_text(text)
    assert "2 classes" in text
    victim = registry.build("wrapper.py:build", (1,), (2,), {}, image_size=32)
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(victim(x)[0], reference(x))


def test_wrap_names_heads_inputs_and_what_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.py").write_text(
        """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(n)) for n in (4, 3))
        self.a(torch.zeros(1, 1, 32, 32)), self.b(torch.zeros(1, 1, 32, 32))
    def forward(self, mri, xray):
        return {"features": mri, "lesion": self.a(mri), "lung": self.b(xray)}

class Sized(nn.Module):
    def __init__(self, width, depth=2):
        super().__init__()
"""
    )
    text = medrobust("wrap", "two.py:Net").stdout
    assert "# task 0: outputs['lesion'], 4 classes" in text
    assert "# task 1: outputs['lung'], 3 classes" in text
    assert "left out, no logits (B, classes): outputs['features']" in text
    assert "SIZE = 32" in text
    (tmp_path / "wrapper.py").write_text(text)
    victim = registry.build("wrapper.py:build", (1, 1), (4, 3), {}, image_size=32)
    assert [z.shape for z in victim(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32))] == [
        (2, 4),
        (2, 3),
    ]
    assert "TODO Sized needs width: put their values in" in medrobust("wrap", "two.py:Sized").stdout


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("two.py:Nothing", "cannot read two.py"),
        ("w.safetensors", "holds weights alone"),
        ("nowhere.ts", "cannot read the network nowhere.ts"),
        (".", "cannot read the model's configuration"),
    ],
)
def test_what_cannot_be_wrapped_is_one_line(what, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(medrobust("wrap", what, check=2))
