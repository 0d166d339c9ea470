"""Records of the folds of a cross-validation."""

from typing import Any

from robustbench_med.naming import canonical_hash
from robustbench_med.store.store import Record
from support.records import record


def of_fold(k: int, robust: float, *, sources: str = "", **given: Any) -> Record:
    """A record on fold k of 3; `sources`: weights that a transfer attack's adversarials come
    from.
    """
    made = record(robust=robust, data="heads", **given)
    if sources:
        made["spec"]["attack"] = {
            "name": "transfer",
            "params": {},
            "sources": [{"model": "late", "weights_sha256": sources}],
        }
    fold = {"number": k, "of": 3, "content": "c" * 64}
    made["spec"]["data"] |= {"manifest": f"{k}" * 64, "samples": f"{k + 3}" * 64, "fold": fold}
    return made | {"hash": canonical_hash(made["spec"])}
