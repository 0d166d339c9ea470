"""Which colour, marker, dash and hatch a name is drawn with."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# Okabe & Ito's palette: told apart by colour-blind readers and in print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES: tuple[Any, ...] = ("-", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))
HATCHES = ("", "///", "...", "xxx", "|||", "\\\\\\", "ooo")
LOOKS = len(COLOURS) * len(MARKERS)
KEPT = (
    *("late", "mail", "robust-mail", "gmu", "cross-attention", "early", "mmtm"),
    *("lmf", "drifa-net", "unimodal", "mail+rpf", "mail+man", "robust-mail-release"),
)
"""Our models, the first seven of them each with a colour of its own."""


class Look(NamedTuple):
    """How one name is drawn: points and lines by colour, marker and dash, bars by colour and
    hatch.
    """

    colour: str
    marker: str
    dash: Any
    hatch: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of each name; of up to 49 names no two share colour and marker, or colour and hatch.

    Our models keep theirs in every figure of every store. Other names have the one their own
    letters give them, or one near it where another has that or a colour is still free.
    """
    wanted, kept = set(names), {name: i for i, name in enumerate(KEPT)}
    found = {name: number for name, number in kept.items() if name in wanted}
    for name in sorted(wanted - set(found)):
        found[name] = _free(zlib.crc32(name.encode()) % LOOKS, list(found.values()))
    return {name: _look(found[name]) for name in sorted(found)}


def _free(first: int, taken: Sequence[int]) -> int:
    """Of the looks from the `first` on the next that is free, of the colours used least."""
    colours = Counter(number % len(COLOURS) for number in taken)
    order = [(first + step) % LOOKS for step in range(LOOKS)]
    free = [number for number in order if number not in taken] or order
    return min(free, key=lambda number: colours[number % len(COLOURS)])


def _look(number: int) -> Look:
    again, colour = divmod(number, len(COLOURS))
    return Look(
        COLOURS[colour],
        MARKERS[(colour + again) % len(MARKERS)],
        DASHES[again % len(DASHES)],
        HATCHES[again % len(HATCHES)],
    )
