"""How tests run an attack."""

from torch import Tensor

from robustbench_med.attacks import (
    ATTACKS,
    Streams,
    Threat,
    View,
    complete,
    entry_of,
    parameters,
    under,
)
from robustbench_med.naming import NORMS
from support.victims import TwoHeads

IDS = [f"sample{i}" for i in range(16)]
PAIRS = [(name, norm) for norm in NORMS for name in under(norm)]
"""Every attack under every norm that it knows."""


def only_norm(name: str) -> str:
    """The first norm that an attack has: Linf wherever it can."""
    return entry_of(name).norms[0]


SHORT = {
    "steps": 10,
    "queries": 60,
    "search": 3,
    "evaluations": 40,
    "initial": 10,
}  # where an attack has such parameters and a test names none


def attack(name: str, view: View, x: Tensor, y: Tensor, threat: Threat, ids=IDS, **given) -> Tensor:
    short = {key: value for key, value in SHORT.items() if key in parameters(name)}
    sources = (
        {"sources": [View(TwoHeads(seed=1).to(x.dtype).eval(), TwoHeads.shapes)]}
        if name == "transfer"
        else {}
    )
    return ATTACKS[name](
        view,
        x,
        y,
        threat,
        Streams.seeded(0, ids, name),
        **complete(name, {**short, **given}),
        **sources,
    )
