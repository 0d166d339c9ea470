"""Records of the folds of a cross-validation."""

from typing import Any

from robustbench_med.store.store import Record
from support.records import changed, record


def of_fold(k: int, robust: float, *, sources: str = "", **given: Any) -> Record:
    """A record on fold k of 3; `sources`: weights that a transfer attack's adversarials come
    from.
    """
    fold = {"number": k, "of": 3, "content": "c" * 64}
    made = changed(
        record(robust=robust, data="heads", **given),
        spec__data__manifest=f"{k}" * 64,
        spec__data__samples=f"{k + 3}" * 64,
        spec__data__fold=fold,
    )
    if not sources:
        return made
    source = {"model": "late", "params": {}, "weights_sha256": sources}
    attack = {"name": "transfer", "params": {}, "sources": [source]}
    return changed(made, spec__attack=attack)
