"""Native searches for the smallest perturbation beside Foolbox's, on one victim of one modality."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_med.attacks import ENGINES, Streams, Threat, View, complete, entry_of, scaled_size
from robustbench_med.attacks.threat import Norm


@dataclass(frozen=True)
class Compared:
    """A search: the parameters of the native one, and of Foolbox's where they are others. L0 counts
    coordinates, as Foolbox does.
    """

    name: str
    norm: Norm
    given: dict[str, float]
    theirs: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.norm}"

    @property
    def threat(self) -> Threat:
        """One of a radius that holds every image, so that what is found comes back as it is."""
        return Threat(self.norm, (1e5,), (0,), counts="coordinates")


COMPARED = [
    Compared("cw", "L2", {"steps": 50, "search": 6}, {"abort_early": False}),
    Compared("ddn", "L2", {"steps": 100}),
    Compared("fmn", "L2", {"steps": 100}),
    Compared("fmn", "Linf", {"steps": 100}),
    Compared("fmn", "L1", {"steps": 100}),
    Compared("fmn", "L0", {"steps": 100}),
    Compared("ead", "L1", {"steps": 50, "search": 6}, {"abort_early": False}),
]


def of_foolbox(
    compared: Compared, view: View, x: Tensor, y: Tensor, **given: float
) -> tuple[Tensor, int]:
    """Sizes (B,) of what Foolbox finds, inf where it finds nothing; its passes in all."""
    torch.manual_seed(0)
    threat, before = compared.threat, view.passes.forward + view.passes.backward
    known = complete(compared.name, compared.given | compared.theirs | given, "foolbox")
    found = ENGINES["foolbox"][compared.name](
        view, x, y, threat, Streams.seeded(0, names(x), compared.name), **known
    )
    spent = view.passes.forward + view.passes.backward - before
    broken = (view.standing(found, y, threat) == 0) & (found != x).any(1)
    return torch.where(broken, scaled_size(view, found, x, threat), torch.inf), spent


def native(
    compared: Compared, view: View, x: Tensor, y: Tensor, **given: float
) -> tuple[Tensor, int]:
    """The same of the native search."""
    before = view.passes.forward + view.passes.backward
    search = entry_of(compared.name).minimal
    assert search is not None
    streams = Streams.seeded(0, names(x), compared.name)
    known = complete(compared.name, compared.given | given)
    found = search(view, x, y, compared.threat, streams, **known)
    return found.size[0], view.passes.forward + view.passes.backward - before


def names(x: Tensor) -> list[str]:
    return [f"sample{i}" for i in range(len(x))]
