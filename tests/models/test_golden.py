"""Networks against the tensors of the authors' Keras release."""

import re

import numpy as np
import pytest
import torch
from support.files import ROOT

from robustbench_med.evaluation import cost
from robustbench_med.models.drifa_net import DRIFANet
from robustbench_med.models.mail import MAIL
from robustbench_med.models.robust_mail import RobustMAIL

GOLDEN = ROOT / "tests" / "golden"
RENAMED = {r"^(fuse\.\d)\.gs$": r"\1.gamma", r"^(fuse\.\d)\.nw$": r"\1.v"}


def own_name(name: str) -> str:
    for pattern, replacement in RENAMED.items():
        name = re.sub(pattern, replacement, name)
    name = re.sub(r"^(fuse\.\d)\.ls(\d)$", lambda m: f"{m[1]}.s.{int(m[2]) - 1}", name)
    name = re.sub(r"^(mifa\.\d)\.l(\d)\.", lambda m: f"{m[1]}.k.{int(m[2]) - 1}.", name)
    return re.sub(r"^((?:fuse|mifa)\.\d)\.a(\d)$", lambda m: f"{m[1]}.alpha.{int(m[2]) - 1}", name)


def load_golden(model: torch.nn.Module, file: str) -> tuple[list[torch.Tensor], list[np.ndarray]]:
    arrays = np.load(GOLDEN / file)
    state = {
        own_name(key[2:]): torch.from_numpy(arrays[key])
        for key in arrays.files
        if key.startswith("p:")
    }
    own = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert set(state) == set(own)
    model.load_state_dict(state, strict=False)
    return [torch.from_numpy(arrays[key]) for key in ("x", "y")], [
        arrays[key] for key in ("logits0", "logits1")
    ]


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("mail_w16_32px.npz", MAIL((3, 3), (5, 7), width=16, mc_dropout=False)),
        (
            "robust_mail_w16_32px.npz",
            RobustMAIL((3, 3), (5, 7), width=16, mc_dropout=False, rpf_ratio=0, noise=0),
        ),
        ("drifa_w4_32px.npz", DRIFANet((3, 3), (5, 7), width=4, mc_dropout=False)),
    ],
)
def test_logits_equal_the_keras_release(file: str, model: torch.nn.Module) -> None:
    inputs, expected = load_golden(model, file)
    with torch.no_grad():
        logits = model.eval()(*inputs)
    for ours, theirs in zip(logits, expected, strict=True):
        assert np.abs(ours.numpy() - theirs).max() <= 1e-5


@pytest.mark.parametrize(
    ("model", "expected"), [(MAIL, 11_372_540), (RobustMAIL, 11_415_040), (DRIFANet, 53_865_668)]
)
def test_parameter_counts_of_the_paper(model: type[torch.nn.Module], expected: int) -> None:
    arguments = {"rpf_ratio": 0.0} if model is RobustMAIL else {}
    net = model((3, 3), (5, 7), width=64, **arguments)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize(("model", "expected"), [(MAIL, 1.313), (DRIFANet, 4.794)])
def test_flops_at_the_papers_setting(model: type[torch.nn.Module], expected: float) -> None:
    assert cost.flops(model((3, 3), (5, 7)).eval(), [(3, 128, 128)] * 2) / 1e9 == pytest.approx(
        expected, abs=5e-4
    )
