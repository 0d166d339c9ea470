"""The four words of trust: how far a robust accuracy can be believed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from robustbench_med.store.record import Record

Word = Literal["failed", "doubtful", "unchallenged", "challenged"]
WORDS: tuple[Word, ...] = get_args(Word)
"""Worst first. `failed`: more was broken of what the attack left, or it could not work; not to be
quoted. `doubtful`: it may be too high; quoted with the reason alone. `unchallenged`: nothing speaks
against it, and too little stands behind it. `challenged`: gradient and black-box attacks ran until
the answer stood, and no challenger broke more than the tolerance.
"""
MEANINGS: dict[Word, str] = {
    "failed": "more was broken than this attack broke, or it could not work: not to be quoted",
    "doubtful": "it may be too high: quoted with its reason alone",
    "unchallenged": "nothing speaks against it, and too little stands behind it",
    "challenged": (
        "attacks with and without gradients ran until the answer stood, and nothing broke more"
    ),
}
"""The same in a line each."""
NAMED = 3
"""Samples that a reason names; `medrobust show` names all."""


@dataclass(frozen=True)
class Reason:
    """One thing that speaks against a figure.

    Attributes:
        word: what it makes of it.
        by: what says so: a sign, a challenger, another row.
        text: in words.
        broken: ids of the samples that it broke.
    """

    word: Word
    by: str
    text: str
    broken: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}{self.samples(NAMED)}"

    def samples(self, most: int | None = None) -> str:
        """The samples in brackets, the first `most` of them."""
        if not self.broken:
            return ""
        more = 0 if most is None else max(len(self.broken) - most, 0)
        return f" ({', '.join(self.broken[:most])}{f' and {more} more' if more else ''})"


@dataclass(frozen=True)
class Trust:
    """How far a figure can be believed.

    Attributes:
        word: None for what gets none: the noise control, the release protocol.
        reasons: what speaks against it, the worst first.
        missing: what `challenged` still asks for; empty where something speaks against it.
        lift: what would lift an unchallenged figure: options of `medrobust run`.
        worst_case: robust accuracy when each sample meets the worst of all rows of the victim and
            threat; of a random victim the lowest of them. None where no others were read.
        together: the word, with reasons, of that worst case.
    """

    word: Word | None
    reasons: tuple[Reason, ...] = ()
    missing: str = ""
    lift: str = ""
    worst_case: float | None = None
    together: Trust | None = None

    @property
    def because(self) -> str:
        """Why it has its word, in a line: the worst reason, or what is missing and lifts it."""
        if self.reasons:
            more = len(self.reasons) - 1
            return str(self.reasons[0]) + (f"; and {more} more" if more else "")
        return f"{self.missing}; lifted by {self.lift}" if self.lift else self.missing

    @property
    def in_full(self) -> list[str]:
        """All reasons, with every sample that was broken."""
        return [f"{reason.text}{reason.samples()}" for reason in self.reasons]

    @property
    def brief(self) -> str:
        """As `because`, in a few words: what says so first, or what lifts it."""
        if self.reasons:
            first, broken = self.reasons[0], len(self.reasons[0].broken)
            return f"{first.by} broke {broken}" if broken else first.by
        return f"lifted by {self.lift}" if self.lift else ""


NONE = Trust(None)


def worst(found: Iterable[Trust]) -> Trust:
    """The one of several that can be believed least; `NONE` where none has a word."""
    judged = [(WORDS.index(one.word), one) for one in found if one.word is not None]
    return min(judged, key=lambda pair: pair[0], default=(0, NONE))[1]


def of_family(records: Iterable[Record]) -> Trust:
    """That of the record of a row that can be believed least."""
    return worst(record.trust for record in records)


def with_reasons(trust: Trust, more: Sequence[Reason]) -> Trust:
    """The same figure, with more that speaks against it."""
    reasons = sorted((*trust.reasons, *more), key=lambda reason: WORDS.index(reason.word))
    return Trust(reasons[0].word, tuple(reasons)) if reasons else trust
