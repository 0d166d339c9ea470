"""Black boxes that are functions of NumPy arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from robustbench_med.errors import UserError
from robustbench_med.models import trial
from robustbench_med.models.black_box import (
    REVISION,
    FaultyAnswerError,
    Gives,
    Images,
    Unasked,
)
from robustbench_med.naming import canonical_hash
from robustbench_med.provenance import code


class OfFunction:
    """A function of NumPy arrays that answers."""

    kept = False
    note = ""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        gives: Gives,
        outputs: trial.Kind | None,
        version: str | None,
        batch_size: int,
        retries: int,
    ) -> None:
        self.function, self.name, self.gives = function, name, gives
        self.outputs, self.version = outputs, version
        self.batch_size, self.retries = batch_size, retries

    def encoded(self, modalities: Sequence[Images]) -> list[Images]:
        """As they are."""
        return [np.ascontiguousarray(m, np.float32) for m in modalities]

    def ask(self, sent: Sequence[Images], names: Sequence[str], tasks: Sequence[str]) -> list[Any]:
        """What the function returns for copies of the images."""
        try:
            answer = self.function(*(m.copy() for m in sent))
        except Exception as error:
            raise FaultyAnswerError(f"it raised {type(error).__name__}: {error}") from error
        if isinstance(answer, Mapping):
            missing = [task for task in tasks if task not in answer]
            if missing:
                raise FaultyAnswerError(f"no answer for {missing[0]}")
            return [answer[task] for task in tasks]
        return list(answer) if isinstance(answer, tuple | list) else [answer]

    def class_of(self, decision: Any, task: str) -> int:
        """The decision is a number."""
        if isinstance(decision, bool) or not isinstance(decision, int | float):
            raise FaultyAnswerError(
                f"the decision {decision!r} for {task}, needed a class's number"
            )
        if decision % 1 != 0:  # so are NaN and infinity
            raise FaultyAnswerError(f"the decision {decision!r} for {task}, needed a whole number")
        return int(decision)

    def identity(self) -> dict[str, str]:
        """Its code, or the user's version."""
        if self.version is None:
            source = code.code_of(self.function, f"black box {self.name!r}") or ""
        else:
            source = hashlib.sha256(f"version {self.version}".encode()).hexdigest()
        what = {"gives": self.gives, "outputs": self.outputs}
        return {"weights_sha256": canonical_hash(what, REVISION), "source_sha256": source}


def black_box(
    function: Callable[..., Any],
    *,
    gives: Gives = "scores",
    outputs: trial.Kind | None = None,
    name: str | None = None,
    version: str | None = None,
    batch_size: int = 64,
    retries: int = 0,
) -> Unasked:
    """A function of NumPy arrays as a victim that nobody can look into: only attacks that ask for
    no gradient are made on it.

    Args:
        function: takes the modalities as arguments, float32 (B, C, H, W) in [0, 1] each; returns
            scores (B, classes), or for two classes (B,) probabilities of the second; or decisions,
            (B,) numbers of classes. Of several tasks a list, or a mapping by their names.
        gives: "scores" or "decisions".
        outputs: what scores are: "logits", "probabilities" (rows that sum to 1) or "sigmoid"; None:
            probabilities where they sum to 1, else logits.
        name: what tables call it; None: the function's name.
        version: your word for what answers, in place of the function's code: raise it whenever
            answers may change.
        batch_size: images of one call at most.
        retries: how often a faulty answer (another size, NaN, an error) is asked for again.

    Returns:
        What `evaluate` takes as `model`.

    Raises:
        UserError: no function.

    Example:
        >>> device = black_box(predict, gives="decisions", version="2.1")
        >>> evaluate(device, data=(x, y), attack="hopskipjump")
    """
    if not callable(function):
        raise UserError(f"black_box takes a function, got {type(function).__name__}")
    if gives not in ("scores", "decisions"):
        raise UserError(f"gives is scores or decisions, got {gives!r}")
    called = name or getattr(function, "__name__", type(function).__name__).strip("<>_") or "box"
    return Unasked(
        OfFunction(
            function,
            name=called,
            gives=gives,
            outputs=outputs,
            version=version,
            batch_size=batch_size,
            retries=retries,
        )
    )
