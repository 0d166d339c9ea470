"""A recipe's optimizer and learning-rate schedule, and their state as an interrupted training keeps
it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.errors import UserError
from robustbench_med.formats.weights import few
from robustbench_med.training.spec import Recipe

FROZEN_LR = 0.15
"""Factor on a trapezoid's learning rate once BatchNorm is frozen: without its normalisation the
full rate diverges.
"""


def optimizer(victim: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam or AdamW over a victim's parameters; `foreach` gives the same floats, sooner on networks
    of many small tensors.
    """
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(victim.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=True)


def scheduler(of: torch.optim.Optimizer, recipe: Recipe, total: int, freeze_at: int) -> Any:
    """Learning rate by step out of `total`; a trapezoid and a constant one drop where BatchNorm
    freezes. A plateau's steps on the validation loss instead.
    """
    if recipe.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(of, recipe.lr, total_steps=total + 1)
    if recipe.schedule in ("trapezoid", "constant"):
        ramp = min(50, max(total // 10, 1))
        falls = recipe.schedule == "trapezoid"

        def factor(t: int) -> float:
            fall = max(0.02, (total - t) / (0.4 * total)) if falls else 1.0
            shape = min((t + 1) / ramp, 1.0, fall)
            return shape * (FROZEN_LR if t >= freeze_at else 1.0)

        return torch.optim.lr_scheduler.LambdaLR(of, factor)
    return torch.optim.lr_scheduler.ReduceLROnPlateau(of, factor=0.1, patience=70, min_lr=1e-5)


def plain(scheduler: Any) -> dict[str, Any]:
    """A scheduler's state without its functions."""
    state = scheduler.state_dict()
    return {
        k: v
        for k, v in state.items()
        if isinstance(v, (int, float, str, list, bool, type(None))) and k != "lr_lambdas"
    }


def tensors(of: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors."""
    state = of.state_dict()["state"]
    named = {}
    for i, of_parameter in state.items():
        for key, tensor in of_parameter.items():
            named[f"optimizer/{i}/{key}"] = tensor
    # one-cycle moves the first beta too
    schedule = [[group["lr"], *group["betas"]] for group in of.param_groups]
    return named | {"schedule": torch.tensor(schedule, dtype=torch.float64)}


def restore(of: torch.optim.Optimizer, named: dict[str, Tensor]) -> None:
    """Puts an optimizer where `tensors` left it."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in named.items():
        if name.startswith("optimizer/"):
            _, i, key = name.split("/")
            state.setdefault(int(i), {})[key] = tensor
    groups = of.state_dict()["param_groups"]
    for group, (lr, *betas) in zip(groups, named["schedule"].tolist(), strict=True):
        group["lr"], group["betas"] = lr, tuple(betas)
    of.load_state_dict({"state": state, "param_groups": groups})


def check_finite(
    figures: Mapping[str, float], victim: nn.Module, name: str, step: int, partial: Path
) -> None:
    """Ends (UserError) a training whose figures are no longer finite, and leaves nothing of it to
    go on from.
    """
    lost = [
        f"{key.replace('_', ' ')} is {value} at step {step}"
        for key, value in figures.items()
        if not math.isfinite(value)
    ]
    if not lost:
        return
    partial.unlink(missing_ok=True)
    broken = [key for key, weights in victim.named_parameters() if not weights.isfinite().all()]
    what = f", and weights are not finite: {few(broken)}" if broken else ""
    raise UserError(
        f"the training of {name} has diverged: its {lost[0]}{what}; lower the learning rate"
        " (--recipe lr=...), or look in the model for a division by zero or a logarithm of zero"
    )
