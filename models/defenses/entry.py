"""What is true of a defence: the entry that stands beside its function or class."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from torch import nn

HARNESS_FIELDS = ("shapes", "radii", "seed")
"""Fields of an objective that the harness fills in."""
Role = Literal["loss", "scheme", "around", "augmentation"]
"""What an objective is to a training: another loss or an adversarial scheme (one a training),
something around a scheme, or another way to draw images.
"""


@dataclass(frozen=True)
class InMail:
    """A defence that is a network of its own where the model is MAIL.

    Attributes:
        model: the network.
        parameters: what the defence's parameters are called there.
    """

    model: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Defense:
    """What is true of a defence. A defence of the user's has the defaults.

    Args:
        name: what `--defense` calls it.
        network: `(victim, shapes, *, parameters)` changes a victim before it is trained.
        transform: makes a module in front of the victim from its parameters.
        objective: the class of what its training minimises, a data class whose fields are the
            defence's parameters; a scheme's is derived from
            `robustbench_med.training.objectives.PGDAT`.
        role: of the objective.
        fixed: fields of the objective that are no parameters.
        under_awp: whether a scheme can stand under adversarial weight perturbation.
        in_mail: what it is where the model is MAIL; None: what it is on any model.
        summary: where there is no function or class whose documentation would tell.

    Example:
        ENTRY = Defense(name="trades", objective=Trades)
    """

    name: str
    network: Callable[..., None] | None = None
    transform: Callable[..., nn.Module] | None = None
    objective: Callable[..., Any] | None = None
    role: Role = "scheme"
    fixed: tuple[str, ...] = ()
    under_awp: bool = True
    in_mail: InMail | None = None
    summary: str = ""

    @property
    def kind(self) -> Literal["training", "network", "inference"]:
        """What it changes first."""
        if self.objective is not None:
            return "training"
        return "network" if self.transform is None else "inference"

    def parameters(self) -> dict[str, Any]:
        """Its parameters with their defaults; those of an augmentation are its transform's."""
        if self.objective is None or self.role == "augmentation":
            function = self.transform or self.network
            arguments = inspect.signature(function).parameters.values() if function else ()
            return {p.name: p.default for p in arguments if p.kind is p.KEYWORD_ONLY}
        hidden = {*HARNESS_FIELDS, *self.fixed}
        own = {
            each.name: each.default
            for each in dataclasses.fields(cast(Any, self.objective))
            if each.init and each.name not in hidden
        }
        return {"eps": "4/255", **own} if self.role == "scheme" else own

    @property
    def made_of(self) -> list[Callable[..., Any]]:
        """The functions and classes behind it."""
        parts = (self.objective, self.network, self.transform)
        return [part for part in parts if part is not None]
