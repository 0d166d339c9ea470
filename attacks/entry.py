"""What is true of an attack: the entry beside its function, which `registry` lists."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from robustbench_med.attacks.losses import LOSSES
from robustbench_med.attacks.threat import Norm

if TYPE_CHECKING:
    from robustbench_med.attacks.fgsm import Ray
    from robustbench_med.attacks.minimal import Minimal

LINF_L2: tuple[Norm, ...] = ("Linf", "L2")
"""Norms of attacks whose papers know no others."""
Allowed = Mapping[str, Any] | tuple[str, ...] | tuple[int, ...]
"""Values that a parameter may have."""
Member = tuple[str, dict[str, Any]]
"""An attack of an ensemble: its name and parameters."""
COMMON_CHOICES: dict[str, Allowed] = {
    "loss": LOSSES,
    "keep": ("best", "last"),
    "combine": ("mean", "normalised"),
    "schedule": ("constant", "cosine"),
}
"""Values of the parameters that mean the same in every attack, losses of the user's among them."""
POSITIVE = (
    "steps",
    "restarts",
    "eot",
    "queries",
    "targets",
    "search",
    "evaluations",
    "initial",
    "step_size",
    "lr",
    "c",
    "p",
    "rho",
    "decay",
)
"""Parameters that must be positive in every attack that has them."""
SHARES = ("momentum",)
"""Those that must lie in [0, 1] in every attack that has them."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is true of an attack. An attack of the user's has the defaults.

    Args:
        name: what `--attack` calls it.
        function: `(view, x, y, threat, streams, *, parameters) -> x_adv`: x (B, D) in [0, 1], y
            (B, T) with -1 for a missing label. Its keyword-only parameters are those of
            `--attack-param`, and its file's `REVISION`, with those of the files it imports, is the
            attack's.
        targeted: whether it can aim at a class of the user's.
        minimal: the same attack, whatever the size of what it finds: the smallest perturbation.
        ray: the same attack up to its only step, whose length is the radius.
        norms: under which it exists.
        radius_free: norms under which `minimal` or `ray` does not depend on the radius, but for the
            proportions of several.
        choices: values that its parameters may have, where not every value of the type will do.
        positive: parameters that must be positive.
        shares: parameters that must lie in [0, 1].
        random: defaults that are others against a random victim.
        escalates: the effort (`--effort`) that the attack makes by default where it is the first
            round of a search for a stronger one; None: its budget is fixed.
        only_loss: the loss of an attack that lets nobody choose one.
        ensemble: what an attack made of others runs: `(class_counts, norm, *, stochastic,
            parameters) -> version, members`.
        flips: whether it can give categorical columns of a clinical table other values.
        chooses: whether it can aim at some of a sample's tasks, whichever are easiest.

    Example:
        ENTRY = Attack(name="pgd", function=pgd)
    """

    name: str
    function: Callable[..., Tensor]
    targeted: bool = True
    minimal: Callable[..., Minimal] | None = None
    ray: Callable[..., Ray] | None = None
    norms: tuple[Norm, ...] = ("Linf", "L2", "L1", "L0")
    radius_free: tuple[Norm, ...] = ("Linf", "L2")
    choices: Mapping[str, Allowed] = field(default_factory=lambda: COMMON_CHOICES)
    positive: tuple[str, ...] = POSITIVE
    shares: tuple[str, ...] = SHARES
    random: Mapping[str, Any] = field(default_factory=dict)
    escalates: Literal["quick", "auto"] | None = None
    only_loss: str | None = None
    ensemble: Callable[..., tuple[str, Sequence[Member]]] | None = None
    flips: bool = False
    chooses: bool = False

    @property
    def before_radius(self) -> Callable[..., Minimal | Ray] | None:
        """What comes before the radius in an attack that asks for it only at its end: `(...) ->
        result`, then `result.within(view, x, threat)`; None of other attacks.
        """
        return self.minimal or self.ray

    def parameters(self, *, random: bool = False) -> dict[str, Any]:
        """Its parameters with their defaults; `random`: those against a random victim."""
        defaults = {
            p.name: p.default
            for p in inspect.signature(self.function).parameters.values()
            if p.kind is p.KEYWORD_ONLY and p.name != "sources"
        }
        return defaults | (dict(self.random) if random else {})

    def complete(
        self, overrides: Mapping[str, Any], called: str, *, random: bool = False
    ) -> dict[str, Any]:
        """Its parameters with some overridden.

        Other steps without a step_size go as far in all as the default's, 2.5 radii: 10 of a
        quarter, 40 of a sixteenth. `random`: the defaults are those against a random victim.

        Args:
            overrides: values by the parameter's name.
            called: what an error calls the attack, such as "attack 'pgd'".

        Raises:
            ValueError: an unknown name, a wrong type, or a value that the attack does not take.
        """
        defaults = self.parameters(random=random)
        completed = dict(defaults)
        for key, value in overrides.items():
            if key not in defaults:
                raise ValueError(
                    f"{called} has no parameter {key!r}; it has: {', '.join(defaults) or 'none'}"
                )
            if not _fits(value, defaults[key]):
                raise ValueError(
                    f"{called}: {key} must be of type {type(defaults[key]).__name__}, got {value!r}"
                )
            if key in self.positive and value <= 0:
                raise ValueError(f"{called}: {key} must be positive, got {value!r}")
            if key in self.shares and not 0 <= value <= 1:
                raise ValueError(f"{called}: {key} must lie in [0, 1], got {value!r}")
            completed[key] = type(defaults[key])(value)
        if "steps" in overrides and "step_size" in defaults and "step_size" not in overrides:
            completed["step_size"] = defaults["steps"] * defaults["step_size"] / completed["steps"]
        for key, allowed in self.choices.items():
            if key in completed and completed[key] not in allowed:
                known = ", ".join(map(str, allowed))
                raise ValueError(f"{called}: {key} must be one of {known}, got {completed[key]!r}")
        return completed


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of a default's type; a whole number is a float too."""
    if isinstance(default, float) and type(value) is int:
        return True
    return isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
