"""What an attack of the user's returns: a fault is one line that names it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robustbench_med.attacks import Threat, View, attack_code
from robustbench_med.errors import UserError
from robustbench_med.evaluation.types import Method


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
