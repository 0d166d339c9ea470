"""What a training minimises: cross-entropy, or one of the adversarial objectives (PGD-AT, TRADES,
MART, fast, free; AWP on top).

All of them face every task at once and perturb every modality, or a random choice of modalities a
batch, within its radius.
"""

from collections.abc import Callable

from robustbench_med.training.objectives import awp, fast_at, free_at, mart, pgd_at, trades
from robustbench_med.training.objectives.awp import AWP
from robustbench_med.training.objectives.fast_at import FastAT
from robustbench_med.training.objectives.free_at import FreeAT
from robustbench_med.training.objectives.mart import Mart
from robustbench_med.training.objectives.pgd_at import PGDAT, VALIDATION_STEPS, statistics_held
from robustbench_med.training.objectives.smoothing import GaussianAugmentation
from robustbench_med.training.objectives.standard import Passes, Standard, kl, multitask_loss
from robustbench_med.training.objectives.trades import Trades

REVISION = 1
"""Of all files here: raised whenever what a training ends with may change."""
Objective = Standard | AWP
SHIPPED = (pgd_at.ENTRY, trades.ENTRY, mart.ENTRY, fast_at.ENTRY, free_at.ENTRY)
"""The schemes of medrobust."""
AROUND = (awp.ENTRY,)
"""What goes around a scheme."""
SCHEMES: dict[str, Callable[..., PGDAT]] = {
    entry.name: entry.objective for entry in SHIPPED if entry.objective is not None
}
"""The classes of all schemes there are now: `SCHEMES["mine"] = Mine` makes one of yours one as any
other.
"""

__all__ = [
    "AROUND",
    "AWP",
    "PGDAT",
    "SCHEMES",
    "SHIPPED",
    "VALIDATION_STEPS",
    "FastAT",
    "FreeAT",
    "GaussianAugmentation",
    "Mart",
    "Objective",
    "Passes",
    "Standard",
    "Trades",
    "kl",
    "multitask_loss",
    "statistics_held",
]
