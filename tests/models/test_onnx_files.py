"""ONNX files of odd shapes and contents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustbench_med.errors import UserError
from robustbench_med.models import contracts
from robustbench_med.models.black_box import BlackBox
from robustbench_med.models.onnx_file import OnnxFile

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def onnx_file(path: Path, shape: list[int | str] | None = None, **model: Any) -> Path:
    """A linear network of one image, with a label beside its scores where `labelled`."""
    labelled = model.pop("labelled", False)
    inputs = [helper.make_tensor_value_info("x", 1, shape or ["n", 1, 4, 4])]
    if model.pop("scalar", False):
        inputs.append(helper.make_tensor_value_info("s", 1, []))
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    outputs = [helper.make_tensor_value_info("scores", 1, None)]
    if labelled:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0))
        outputs.insert(0, helper.make_tensor_value_info("label", 7, None))
    weights = numpy_helper.from_array(np.eye(16, 2, dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weights])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path, **model)
    return path


def asked_of(path: Path) -> list[torch.Tensor]:
    few = [torch.rand(3, 1, 4, 4)]
    device = OnnxFile(path, contracts.Contract(name="net", version="1"), path.read_bytes())
    return BlackBox(device, ["image"], ["task"], [2], few).raw(few)


def test_weights_beside_an_onnx_file_are_refused(tmp_path, monkeypatch) -> None:
    whole = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    path = onnx_file(tmp_path / "net.onnx", **whole)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"cannot read the ONNX file .*External data"):
        asked_of(path)


def test_onnx_files_of_odd_shapes_answer_or_say_why_not(tmp_path) -> None:
    for shape in ([1, 1, 4, 4], [2, 1, 4, 4], ["n", 1, 4, 4]):
        assert asked_of(onnx_file(tmp_path / "net.onnx", shape))[0].shape == (3, 2)
    with pytest.raises(UserError, match="batches of no image"):
        asked_of(onnx_file(tmp_path / "net.onnx", [0, 1, 4, 4]))
    with pytest.raises(UserError, match="net takes x, s, the data have image; say which is which"):
        asked_of(onnx_file(tmp_path / "net.onnx", [2, 1, 4, 4], scalar=True))
    with pytest.raises(UserError, match="net gives label, scores, the tasks are task; say which"):
        asked_of(onnx_file(tmp_path / "net.onnx", labelled=True))


def test_a_file_of_batches_of_one_says_how_many_classes_it_has(tmp_path) -> None:
    path = onnx_file(tmp_path / "net.onnx", [1, 1, 4, 4])
    device = OnnxFile(path, contracts.Contract(name="net", version="1"), path.read_bytes())
    box = BlackBox(device, ["image"], ["task"], None, [torch.rand(3, 1, 4, 4)])
    assert box.class_counts == (2,)
