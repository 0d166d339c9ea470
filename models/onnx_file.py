"""Black boxes in ONNX files, computed by ONNX Runtime."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_med.errors import UserError
from robustbench_med.models.black_box import FaultyAnswerError, Images
from robustbench_med.models.contracts import Contract
from robustbench_med.naming import canonical_hash

FOLDER_OF_DATA = "session.model_external_initializers_file_folder_path"
"""ONNX Runtime's key for where weights beside a file are; else it looks in the working folder."""


class OnnxFile:
    """An ONNX file that ONNX Runtime computes on the CPU.

    Args:
        path: of the file; data beside it are refused, as they are no part of its hash.
        contract: what it takes and gives.

    Raises:
        UserError: no ONNX Runtime, or a file that it does not take.
    """

    kept = False
    retries = 0

    def __init__(self, path: Path, contract: Contract, data: bytes) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"{path}: ONNX files need ONNX Runtime: pip install 'medrobust[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry(FOLDER_OF_DATA, os.devnull)
        try:
            self.session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common ancestor
            raise UserError(f"cannot read the ONNX file {path}: {error}") from error
        self.contract, self.sha256 = contract, hashlib.sha256(data).hexdigest()
        self.name, self.gives, self.outputs = contract.name, contract.gives, contract.outputs
        self.batch_size, self.note = contract.batch_size, contract.note
        fixed = [
            each.shape[0]
            for each in self.session.get_inputs()
            if each.shape and isinstance(each.shape[0], int)
        ]
        self.fixed = min(fixed, default=None)
        """Images of a batch, where the file says so."""
        if self.fixed is not None:
            self.batch_size = self.fixed
        if self.batch_size < 1:
            raise UserError(f"the ONNX file {path} takes batches of no image")

    def encoded(self, modalities: Sequence[Images]) -> list[Images]:
        """As the contract says."""
        return [self.contract.encoded(m) for m in modalities]

    def ask(self, sent: Sequence[Images], names: Sequence[str], tasks: Sequence[str]) -> list[Any]:
        """One run; a file of a fixed batch size gets its last batch filled up."""
        inputs = [each.name for each in self.session.get_inputs()]
        outputs = [each.name for each in self.session.get_outputs()]
        wanted = [self.contract.images.get(name, name) for name in names]
        if not set(wanted) <= set(inputs):
            if self.contract.images or not len(inputs) == len(names) == 1:
                raise UserError(
                    f"{self.name} takes {', '.join(inputs)}, the data have {', '.join(names)};"
                    " say which is which in the contract (images: {modality: input})"
                )
            wanted = inputs
        given = [self.contract.answers.get(task, task) for task in tasks]
        if not set(given) <= set(outputs):
            if self.contract.answers or not len(outputs) == len(tasks) == 1:
                raise UserError(
                    f"{self.name} gives {', '.join(outputs)}, the tasks are {', '.join(tasks)};"
                    " say which is which in the contract (answers: {task: output})"
                )
            given = outputs
        n = len(sent[0])
        whole = (
            [np.resize(m, (self.fixed, *m.shape[1:])) for m in sent]
            if self.fixed is not None
            else sent
        )
        try:
            answer = self.session.run(given, dict(zip(wanted, whole, strict=True)))
        except Exception as error:
            raise FaultyAnswerError(f"ONNX Runtime: {error}") from error
        return [z[:n] if np.ndim(z) else z for z in answer]

    def class_of(self, decision: Any, task: str) -> int:
        """A class by its name or number."""
        return self.contract.class_of(decision, task)

    def identity(self) -> dict[str, str]:
        """The file, and the contract where it is not the usual one."""
        told = self.contract.identity()
        usual = Contract(name=self.contract.name, version=self.contract.version).identity()
        source = "" if told == usual else canonical_hash(told, 1)
        return {"weights_sha256": self.sha256, "source_sha256": source}
