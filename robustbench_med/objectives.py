"""What a training defence of the user's own derives from (docs/how-to/own-defence.md)."""

from robustbench_med.training.objectives import (
    PGDAT,
    SCHEMES,
    FastAT,
    FreeAT,
    Mart,
    Passes,
    Standard,
    Trades,
    multitask_loss,
)

__all__ = [
    "PGDAT",
    "SCHEMES",
    "FastAT",
    "FreeAT",
    "Mart",
    "Passes",
    "Standard",
    "Trades",
    "multitask_loss",
]
