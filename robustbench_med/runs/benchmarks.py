"""A run of a benchmark: its samples, threats, reference set and seeds for a victim of the
user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustbench_med.errors import UserError
from robustbench_med.runs.options import flags_of
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.benchmark import benchmark

FREE = ("preset", "train_seed", "attack", "attack_params")
"""What a benchmark proposes and a user may say otherwise: how the victim is trained, further
attacks.
"""
NEEDED: dict[str, Any] = {
    "engine": "native",
    "control": True,
    "challenge": True,
    "folds": None,
    "accelerate": [],
}
"""Fields that a benchmark needs at their default."""


def filled(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run's fields with those of a benchmark.

    Args:
        name: of the benchmark.
        values: what the user says, by field of `RunSpec`.

    Raises:
        UserError: there is no such benchmark, or they say otherwise.
    """
    fixed = benchmark(name).run_options()
    for field, value in {**fixed, **NEEDED}.items():
        if field not in FREE and field in values and not _same(field, values[field], value):
            flag = flags_of("run", field)[0]
            raise UserError(
                f"--benchmark {name} has {_shown(flag, value)}; leave {flag} out, or run without"
                " --benchmark (such rows get no rank)"
            )
    attacks = values.get("attack", [])
    listed = [attacks] if isinstance(attacks, str) else list(attacks)
    return {
        **fixed,
        **values,
        "attack": list(dict.fromkeys([*fixed["attack"], *listed])),
        "attack_params": {**dict(values.get("attack_params", {})), **fixed["attack_params"]},
        **{key: value for key, value in fixed.items() if key not in FREE},
    }


def _same(field: str, said: Any, fixed: Any) -> bool:
    """Whether a user's value is the benchmark's, both as the specification reads them."""
    usual = RunSpec.model_validate({"model": ["late"], "norm": ["Linf"], field: fixed})
    if field == "eps":
        read = RunSpec.model_validate({"model": ["late"], "eps": said})
        return {e.removeprefix("Linf:") for e in read.eps} == {
            e.removeprefix("Linf:") for e in usual.eps
        }
    read = RunSpec.model_validate({"model": ["late"], field: said})
    return bool(getattr(read, field) == getattr(usual, field))


def _shown(flag: str, value: Any) -> str:
    if value in (None, []):
        return f"no {flag}"
    return f"{flag} {','.join(map(str, value)) if isinstance(value, list) else value}"
