"""The parts of a record that say how its attack went, what speaks against it, and what challenged
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import Field

from robustbench_med.naming import BLACK_BOX
from robustbench_med.store.parts import Hash, Number, Part

Verdict = Literal["fine", "doubtful", "failed"]


class SourceSpec(Part):
    """A victim that adversarials were made on, to be carried over to the victim."""

    model: str
    params: dict[str, Any]
    weights_sha256: Hash
    revision: dict[str, int] | None = None
    source_sha256: Hash | None = None


class SurrogateSpec(Part):
    """A small network that a black box's own answers trained, to make adversarials on."""

    images: int = Field(ge=1, description="that the victim was asked about")
    split: str = Field(description="of the data, whose images these are, drawn by the seed")
    revision: dict[str, int]


class EffortSpec(Part):
    """When a search that an attack begins stops."""

    name: Literal["auto", "max"]
    max_passes: int = Field(description="gradient passes an attacked sample")
    max_queries: int = Field(description="forward passes of black boxes an attacked sample")


class AttackSpec(Part):
    """The attack with all its parameters."""

    name: str
    params: dict[str, Any]
    revision: dict[str, int] | None = Field(None, description="of the files that it is made of")
    code: Hash | None = Field(None, description="of the user's own code in it")
    effort: EffortSpec | None = Field(
        None, description="of the search that it begins; absent: the attack once"
    )
    sources: list[SourceSpec] = Field([], description="victims that a transfer attack starts from")
    surrogate: SurrogateSpec | None = Field(
        None, description="trained on a black box's answers; absent: none"
    )
    after: list[str] = Field(
        [], description="the attacks of a cascade whose leavings it got; absent: it got all samples"
    )

    @property
    def called(self) -> str:
        """Its name, with what bounds a patch: its share of the area, and who chose its place."""
        size, place = (self.params.get(key) for key in ("size", "place"))
        return f"{self.name} {size:.3g} {place}" if self.name == "patch" and place else self.name


class CarriedSpec(Part):
    """The record whose adversarials were candidates: that of the next smaller radius, or of the
    attack before in a cascade.
    """

    record: Hash
    revision: int = Field(description="of the code that carries")


class Carried(Part):
    """What became of samples that candidates broke at every attacked task, here too."""

    n: int = Field(description="samples that were not attacked")
    afresh: int = Field(description="samples that were attacked all the same")
    withstood: int = Field(description="of these, how many the attack by itself did not break")


class MemberRan(Part):
    """An attack of an ensemble, and the loss that each attacked task got where the attack ascends a
    loss of choice.
    """

    attack: str
    losses: dict[str, str] | None = None


class RoundRan(Part):
    """One round of a search."""

    kind: str = Field(description="what it changed against the rounds before")
    attack: str
    parameters: dict[str, Any] = Field(description="those that are not the attack's defaults")
    why: str
    passes: Number = Field(
        description="gradient passes an attacked sample, at most, to the round's end"
    )
    queries: Number = Field(description="forward passes of black boxes, the same")
    changed: int = Field(description="samples that keep this round's candidate")
    taken: Number = Field(description="robust accuracy that it took, on draws that chose nothing")
    error: Number = Field(description="standard error of `taken` over draws")
    left: Number = Field(description="robust accuracy after it, clean accuracy less all taken")


class Took(Protocol):
    """What a round of a search took; see `RoundRan`."""

    @property
    def kind(self) -> str: ...
    @property
    def taken(self) -> float: ...
    @property
    def error(self) -> float: ...


def stands(ran: Sequence[Took], tolerance: float) -> bool:
    """Whether the last two rounds along gradients, of different kinds, took less than the tolerance
    together with the black boxes since, measured well enough to tell: a black box that takes
    nothing says nothing of gradients, and a round that seems to give something back took nothing.
    """
    along = [i for i, each in enumerate(ran) if each.kind != BLACK_BOX]
    if len(along) < 2 or ran[along[-2]].kind == ran[along[-1]].kind:
        return False
    since = ran[along[-2] :]
    known = all(each.error < tolerance / 3 for each in since)
    return known and sum(max(each.taken, 0.0) for each in since) < tolerance


class SearchRan(Part):
    """How a search for the strongest attack went."""

    effort: Literal["auto", "max"]
    outcome: Literal["converged", "capped", "spent"]
    next_passes: int | None = Field(
        description="budget to try next (--max-passes), where it was capped"
    )
    tolerance: Number = Field(description="what the last two rounds took less than, if converged")
    rounds: list[RoundRan]
    left_out: dict[str, str] = Field(
        {}, description="of a black box: attacks that are none of the rounds, and why"
    )
    cannot_know: list[str] = Field(
        [], description="of a black box: what such an attack cannot find out, in words"
    )


class AttackRan(Part):
    """What the attack made of its parameters on these tasks: DLR needs 3 classes, targeted DLR 4,
    and a task of fewer gets the margin.
    """

    losses: dict[str, str] | None = Field(
        None, description="by attacked task, where the attack ascends a loss of choice"
    )
    version: str | None = Field(None, description="of autoattack; its parameter may be `auto`")
    members: list[MemberRan] | None = Field(None, description="of autoattack, in their order")
    search: SearchRan | None = Field(None, description="where the attack began one")
    parts: list[int] | None = Field(
        None,
        description="of a universal perturbation: samples of both parts, each judged under the one"
        " made on the other",
    )


class Sign(Part):
    """One sign that the attack may have failed."""

    sign: str
    verdict: Verdict
    figure: Number | None
    text: str
    advice: str


class Challenge(Part):
    """A short attack of another kind on samples that the attack left."""

    challenger: str = Field(description="what was tried")
    family: Literal["gradient", "black box"]
    n: int = Field(description="samples tried, all of them left by the attack")
    broken: list[str] = Field(
        description="ids of those it broke; of a random victim those whose share right fell"
    )
    taken: Number = Field(
        description="robust accuracy of all samples of the cell that it takes, on fresh draws"
    )
    bound: Number = Field(
        description="one-sided lower bound of `taken` at 99 %, corrected for the number of"
        " challengers"
    )
    passes: int = Field(description="forward and backward, in samples")
    radius: Number | None = Field(
        None, description="1 where only images bounded it; null: the radii of the cell"
    )
    left: list[Number] | None = Field(
        None,
        description="of each of `broken` the share of its attacked tasks that it left, as the draws"
        " that chose it saw; absent in older records, and where only images bounded it",
    )
