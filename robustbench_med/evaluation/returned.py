"""What an attack returned, checked and kept: one of the user's own that errs is named in a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import Threat, View, attack_code
from robustbench_med.errors import UserError
from robustbench_med.evaluation.types import Attacked, AttackPass, Method


def adversarials_of(result: Any, method: Method, view: View, x: Tensor, threat: Threat) -> Tensor:
    """Adversarials (B, D) within the threat, of what an attack returned.

    Args:
        result: adversarials, or what attacks find before their radius.
        x: (B, D) before the attack.

    Raises:
        UserError: an attack of the user's returned something else.
        AssertionError: one of medrobust's did.
    """
    own = method.engine == "native" and attack_code(method.name, method.parameters) is not None
    if own and not isinstance(result, Tensor) and not hasattr(result, "within"):
        raise UserError(
            f"attack {method.name!r} returned {type(result).__name__}, expected a tensor of"
            f" adversarials {tuple(x.shape)}"
        )
    x_adv = result.detach() if isinstance(result, Tensor) else result.within(view, x, threat)
    if own and x_adv.shape != x.shape:
        raise UserError(
            f"attack {method.name!r} returned a tensor {tuple(x_adv.shape)}, expected"
            f" {tuple(x.shape)}"
        )
    try:
        view.check(x_adv, x, threat)
    except AssertionError as error:
        if not own:
            raise
        said = str(error).replace("an attack ", "")
        raise UserError(
            f"attack {method.name!r} {said}; view.project brings images back into the ball"
        ) from error
    return x_adv


def keep_targets(
    case: AttackPass,
    attacked: Attacked,
    rows: NDArray[np.int64],
    aimed: NDArray[np.bool_],
    x: Tensor,
    result: Any,
) -> None:
    """Adds one batch to what the attack left behind.

    Args:
        rows: (B,) numbers of the samples.
        aimed: (B,) which of them are targets.
        x: (B, D) before the attack.
        result: adversarials (B, D), or what attacks find before their radius.
    """
    view = case.view
    x_adv = adversarials_of(result, case.method, view, x, case.threat)
    mask = torch.from_numpy(aimed).to(x.device)
    targets = rows[aimed]
    if attacked.smallest is not None:
        attacked.smallest[targets] = result.size.T[mask].cpu().numpy()
    for norm, sizes in attacked.distances.items():
        sizes[targets] = view.distances(x_adv, x, norm, case.threat.counts)[mask].cpu().numpy()
    attacked.adversarials.update(zip(targets.tolist(), x_adv[mask].cpu(), strict=True))
    if view.losses is not None:
        attacked.losses.append(view.losses[:, mask].cpu().numpy())
    if view.quarters is not None:
        attacked.quarters.append(torch.stack(view.quarters)[:, mask].cpu().numpy())
    attacked.computed += len(rows)
