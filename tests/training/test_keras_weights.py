"""Keras files, written here in Keras' published layouts out of a random network's own weights, and
imported back.
"""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from support.cli import medrobust, refused
from torch import nn

from robustbench_med.models import registry
from robustbench_med.models.keras_layout import Variable, layout
from robustbench_med.training.keras import to_torch

NETWORKS = {
    "mail": {"width": 16},
    "robust-mail": {"width": 16, "rpf_ratio": 0.0, "noise": 0.0},
    "robust-mail rpf": {"width": 32, "rpf_ratio": 0.5, "noise": 0.0},
    "drifa-net": {"width": 4},
}


def network(key: str, seed: int = 0) -> nn.Module:
    """A network all of whose parameters and statistics are random, so that no two can be mistaken
    for each other.
    """
    torch.manual_seed(seed)
    built = registry.build(
        key.split()[0], (3, 1), (5, 7), {**NETWORKS[key], "mc_dropout": False}, image_size=32
    )
    for name, tensor in built.state_dict().items():
        if name.endswith(("running_var", "weight")):
            tensor.copy_(
                torch.rand(tensor.shape) + 0.5
                if tensor.ndim == 1
                else torch.randn(tensor.shape) / tensor[0].numel() ** 0.5
            )
        elif tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.2)
    return built


def keras_arrays(built: nn.Module) -> list[tuple[str, list[tuple[Variable, np.ndarray]]]]:
    """The layers (`conv2d`, `conv2d_1`, ...) with their variables in Keras' shapes."""
    state = {name: tensor.numpy() for name, tensor in built.state_dict().items()}
    scalars, found = {}, []
    for kind, layers in layout(built).items():
        for number, variables in enumerate(layers):
            arrays = []
            for v in variables:
                if v.name is None:
                    array = np.ones(1, np.float32)
                elif v.name.endswith(".mod"):  # three scalars there, a vector of three here
                    scalars[v.name] = scalars.get(v.name, -1) + 1
                    array = state[v.name][scalars[v.name]].reshape(1, 1, 1, 1)
                else:
                    array = state[v.name]
                    depthwise = array.ndim == 4 and "dw" in v.path
                    array = (
                        array.T
                        if array.ndim == 2
                        else (
                            array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
                            if array.ndim == 4
                            else array
                        )
                    )
                    array = array.reshape(1, 1, 1, -1) if array.ndim == 3 else array
                arrays.append((v, array))
            found.append((f"{kind}_{number}" if number else kind, arrays))
    return found


def write_keras3(target: io.BytesIO | Path, built: nn.Module) -> None:
    with h5py.File(target, "w") as file:
        for layer, arrays in keras_arrays(built):
            for v, array in arrays:
                file[f"layers/{layer}/{v.path}"] = array
        file["layers/dropout/seed_generator/vars/0"] = np.array([1, 2], np.uint32)
        file["optimizer/vars/0"] = np.int64(7)


def write_legacy(target: Path, built: nn.Module) -> None:
    """Numbers as in a notebook whose cells ran twice; layers in the order of `model.layers`;
    trainable weights first.
    """
    with h5py.File(target, "w") as file:
        group = file.create_group("model_weights")
        names = []
        for layer, arrays in keras_arrays(built):
            kind, number = (
                (layer.rpartition("_")[0], int(layer.rpartition("_")[2]))
                if layer.rpartition("_")[2].isdigit()
                else (layer, 0)
            )
            names.append(f"{kind}_{number + 40}")
            mine = group.create_group(names[-1])
            weights = [f"{names[-1]}/{v.path}:0" for v, _ in arrays]
            for name, (_, array) in zip(weights, arrays, strict=True):
                mine[name] = array
            order = sorted(
                zip(weights, arrays, strict=True), key=lambda pair: not pair[1][0].trainable
            )
            mine.attrs["weight_names"] = [name.encode() for name, _ in order]
        group.attrs["layer_names"] = [name.encode() for name in names]


def write_npz(target: Path, built: nn.Module) -> None:
    ordered = [
        (layer, sorted(arrays, key=lambda pair: not pair[0].trainable))
        for layer, arrays in keras_arrays(built)
    ]
    np.savez(
        target,
        **{
            f"{layer}:{i}": array
            for layer, arrays in ordered
            for i, (_, array) in enumerate(arrays)
        },
    )


def write_keras(target: Path, built: nn.Module) -> None:
    weights = io.BytesIO()
    write_keras3(weights, built)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", weights.getvalue())


WRITERS = {
    "a.keras": write_keras,
    "a.weights.h5": write_keras3,
    "a.h5": write_legacy,
    "a.npz": write_npz,
}


@pytest.mark.parametrize(
    ("key", "file"),
    [
        *(("drifa-net", file) for file in WRITERS),
        ("mail", "a.keras"),
        ("mail", "a.h5"),
        ("robust-mail", "a.keras"),
        ("robust-mail rpf", "a.h5"),
    ],
)
def test_a_network_comes_back_from_every_format_of_keras(key, file, tmp_path) -> None:
    built = network(key)
    WRITERS[file](tmp_path / file, built)
    given = [
        part
        for name, value in NETWORKS[key].items()
        if name == "rpf_ratio"
        for part in ("--model-param", f"{name}={value}")
    ]
    done = medrobust(
        "import-keras",
        tmp_path / file,
        "--model",
        key.split()[0],
        "--out",
        tmp_path / "out.safetensors",
        *given,
    )
    assert f"--model-param width={NETWORKS[key]['width']}" in done.stderr
    assert "channels (3, 1), classes (5, 7)" in done.stderr
    again = network(key, seed=1)
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "out.safetensors"))
    x = [torch.rand(2, c, 32, 32) for c in (3, 1)]
    with torch.no_grad():
        outputs = []
        for net in (built, again):
            torch.manual_seed(0)  # the random filters are the same
            outputs.append(net(*x))
    for before, after in zip(*outputs, strict=True):
        assert (before - after).abs().max() <= 1e-6
    state = again.state_dict()
    for name, tensor in built.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, state[name]), name


def test_names_and_numbers_are_those_of_a_file_that_keras_wrote() -> None:
    """Facts of files that Keras 3.15 saved of networks with the notebooks' classes and
    attributes.
    """
    inner = "deeper_global_local_attention"
    layers = layout(registry.build("mail", (3, 3), (5, 7), {"width": 16}, image_size=32))
    count = {
        "conv2d": 2 + 16 + 6,
        "batch_normalization": 2 + 32 + 6,
        "multi_kernel_group_wise_conv": 32,
        "deeper_attention_layer1": 4,
        "dense": 2,
    }
    assert {kind: len(found) for kind, found in layers.items()} == count
    assert [v.path for v in layers["deeper_attention_layer1"][0]][2:11] == [
        f"{inner}/vars/{i}" for i in range(9)
    ]
    assert [v.name for v in layers["deeper_attention_layer1"][0]][7:11] == [
        "fuse.0.gamma",
        "fuse.0.s.0",
        None,
        "fuse.0.s.1",
    ]
    # at one distance from the outputs: the point-wise convolution of a modality, then its
    # shortcut's, then the next modality's
    assert [v[0].name for v in layers["conv2d"][6:10]] == [
        f"blocks.{m}.2.{part}.weight" for m in (0, 1) for part in ("pw", "short.0")
    ]
    drifa = layout(registry.build("drifa-net", (3, 3), (5, 7), {"width": 4}, image_size=32))
    assert {kind: len(found) for kind, found in drifa.items()} == {
        "conv2d": 40, "batch_normalization": 40, "deeper_attention_layer1": 48, "deeper_attention_layer": 8, "dense": 2
    }  # fmt: skip
    assert [v[0].name for v in drifa["conv2d"][10:16]] == [
        f"blocks.{m}.2.{part}.weight" for part in ("c1", "c2", "short.0") for m in (0, 1)
    ]


def test_an_import_and_a_list_as_json(tmp_path) -> None:
    path, out = tmp_path / "a.weights.h5", tmp_path / "out.safetensors"
    write_keras3(path, network("mail"))
    listed = json.loads(medrobust("import-keras", path, "--list", "--json").stdout)
    assert listed["layers/conv2d/vars/0"][:2] == [7, 7]
    command = ["import-keras", path, "--model", "mail", "--out", out, "--json"]
    done = json.loads(medrobust(*command).stdout)
    assert done["path"] == str(out)
    assert done["class_counts"] == [5, 7]
    assert f"--checkpoint {out}" in done["command"]


def test_what_does_not_fit_is_listed_and_nothing_is_written(tmp_path) -> None:
    built, out = network("drifa-net"), tmp_path / "out.safetensors"
    path = tmp_path / "a.weights.h5"
    command = ["import-keras", path, "--model", "drifa-net", "--out", out]

    def fault(change) -> str:
        write_keras3(path, built)
        with h5py.File(path, "r+") as file:
            change(file)
        return refused(medrobust(*command, check=2))

    def replace(file, name, array) -> None:
        del file[name]
        file[name] = array

    assert "39 layers conv2d, expected 40" in fault(lambda f: f.__delitem__("layers/conv2d_5"))
    assert "1 layers prelu, expected 0" in fault(
        lambda f: f.__setitem__("layers/prelu/vars/0", np.ones(3))
    )
    assert "conv2d 5: lacks vars/1" in fault(lambda f: f.__delitem__("layers/conv2d_5/vars/1"))
    assert "dense 0: has vars/2 besides" in fault(
        lambda f: f.__setitem__("layers/dense/vars/2", np.ones(3))
    )
    line = fault(lambda f: replace(f, "layers/conv2d_5/vars/0", np.ones((5, 5, 4, 4))))
    assert (
        "layers/conv2d_5/vars/0 is (5, 5, 4, 4), which does not make blocks.1.0.c2.weight (4, 4,"
        " 3, 3)" in line
    )
    assert "is not finite" in fault(lambda f: replace(f, "layers/dense/vars/1", np.full(5, np.nan)))
    assert not out.exists()


def test_a_noise_weight_that_this_network_has_no_place_for_is_refused(tmp_path) -> None:
    path = tmp_path / "a.weights.h5"
    write_keras3(path, network("robust-mail"))
    with h5py.File(path, "r+") as file:
        file["layers/multi_kernel_group_wise_conv_3/vars/1"][...] = 0.5
    done = medrobust(
        "import-keras", path, "--model", "robust-mail", "--out", tmp_path / "o.safetensors", check=2
    )
    assert "is 0.5, in the release always 1" in refused(done)


def test_a_mapping_serves_files_with_other_names_and_must_be_complete(tmp_path) -> None:
    built, out = network("drifa-net"), tmp_path / "out.safetensors"
    arrays = {f"theirs/{v.name}": array for _, pairs in keras_arrays(built) for v, array in pairs}
    np.savez(
        tmp_path / "a.npz",
        **{f"net:{name}": array for name, array in arrays.items()},
        **{"net:extra": np.ones(2)},
    )
    weights = {name.removeprefix("theirs/"): f"net:{name}" for name in arrays}
    mapping = {"weights": weights, "unused": ["net:ext*"]}
    command = [
        "import-keras",
        tmp_path / "a.npz",
        "--model",
        "drifa-net",
        "--mapping",
        tmp_path / "m.yaml",
        "--out",
        out,
    ]

    def run(change: dict, check: int = 2):
        (tmp_path / "m.yaml").write_text(yaml.safe_dump({**mapping, **change}))
        return medrobust(*command, check=check)

    some = next(name for name in weights if "mifa" in name)
    assert "net:extra is neither mapped nor unused" in refused(run({"unused": []}))
    assert "which is not there" in refused(run({"weights": {**weights, some: "net:nothing"}}))
    fewer = {name: theirs for name, theirs in weights.items() if name != some}
    assert f"nothing is assigned to {some}" in refused(
        run({"weights": fewer, "unused": ["net:ext*", weights[some]]})
    )
    assert "must hold `weights:`" in refused(run({"weight": {}}))
    assert "3 under `weights:` is no name" in refused(run({"weights": {**weights, 3: "net:extra"}}))
    assert not out.exists()
    run({}, check=0)
    loaded = safetensors.torch.load_file(out)
    assert all(
        torch.equal(tensor, loaded[name])
        for name, tensor in built.state_dict().items()
        if not name.endswith("tracked")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.keras", "--out", "o.safetensors"], "cannot read the Keras weights"),
        (["junk.h5", "--out", "o.safetensors"], "cannot read the Keras weights"),
        (["junk.keras", "--out", "o.safetensors"], "cannot read the Keras weights"),
        (["junk.h5", "--out", "o.pt"], "must end in .safetensors"),
        (["junk.h5"], "name the file to write"),
        (["junk.h5", "--model", "late", "--out", "o.safetensors"], "unknown released model"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("junk.h5", "junk.keras"):
        Path(name).write_bytes(b"junk")
    assert message in refused(medrobust("import-keras", *arguments, check=2))


def test_kernels_turn_from_keras_to_pytorch() -> None:
    kernel = np.arange(3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
    assert (to_torch(kernel, (4, 4, 3, 3))[1, 2] == kernel[:, :, 2, 1]).all()  # out 1, in 2
    depthwise = np.arange(3 * 3 * 4).reshape(3, 3, 4, 1)
    assert (to_torch(depthwise, (4, 1, 3, 3))[2, 0] == depthwise[:, :, 2, 0]).all()
    assert to_torch(np.ones((2, 3)), (2, 3)) is None
    assert to_torch(np.ones((1, 1, 1, 5)), (5, 1, 1)).shape == (5, 1, 1)
