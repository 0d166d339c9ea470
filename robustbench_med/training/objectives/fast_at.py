"""Fast adversarial training (Wong et al., arXiv 2001.03994)."""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_med.models.defenses.entry import Defense
from robustbench_med.training.objectives.pgd_at import PGDAT


@dataclass
class FastAT(PGDAT):
    """Fast adversarial training (Wong et al., arXiv 2001.03994, algorithm 3): one step of 1.25
    radii from a random start.
    """

    steps: int = 1
    step_size: float = 1.25


ENTRY = Defense(name="fast-at", objective=FastAT, fixed=("steps",))
