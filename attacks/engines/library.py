"""What is true of another library's attacks behind the view: the entry that stands at the end of
its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata

from torch import Tensor

from robustbench_med.attacks.threat import Norm, Threat


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library as an engine.

    Args:
        name: what `--engine` calls it.
        package: what pip calls it.
        purpose: what it is for, in a line.
        pinned: the version that `medrobust engines install` installs without its dependencies; None
            where it comes with the extra `engines`.
        why_alone: why it is installed without them.
        attacks: its attacks by the native ones' names, with a native attack's arguments.
        norms: those of the attacks that it does not have for Linf and L2.
        judges_iterates: attacks that look at predictions to keep or drop candidates.
        choices: what its attacks' parameters may be, by attack and parameter, where not every value
            of the type will do.
    """

    name: str
    package: str
    purpose: str
    pinned: str | None = None
    why_alone: str = ""
    attacks: dict[str, Callable[..., Tensor]]
    norms: Mapping[str, tuple[Norm, ...]] = field(default_factory=dict)
    judges_iterates: tuple[str, ...] = ()
    choices: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def norms_of(self, attack: str) -> tuple[Norm, ...]:
        """Under which norms the library has an attack."""
        return self.norms.get(attack, ("Linf", "L2"))

    @property
    def installed(self) -> str | None:
        """Its version, or None where it is not installed."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None

    @property
    def how_to_get(self) -> str:
        """What to type to install it."""
        return "medrobust engines install" if self.pinned else "pip install 'medrobust[engines]'"

    @property
    def missing(self) -> str | None:
        """What to type where it is not installed, else None."""
        if self.installed is not None:
            return None
        return f"{self.package} is not installed; type: {self.how_to_get}"

    def refusal(self, attack: str, threat: Threat, *, stochastic: bool) -> str | None:
        """Why the library cannot run this cell, or None where it can. What depends on classes or
        shapes is refused when it runs.
        """
        if threat.targeted:
            return "targeted attacks are native only"
        norms = self.norms_of(attack)
        if threat.norm not in norms:
            return f"its {attack} knows {' and '.join(norms)}, not {threat.norm}"
        if threat.norm != "Linf" and sum(r > 0 for r in threat.radii) > 1:
            return f"it knows one {threat.norm} ball around everything, not one a modality"
        if attack in self.judges_iterates:
            if stochastic:
                return (
                    f"its {attack} keeps or drops candidates on a single draw, which is no"
                    " robustness for a random victim"
                )
            if len(threat.tasks) > 1:
                return f"its {attack} stops at the first wrong task; name one with --target-task"
        return None
