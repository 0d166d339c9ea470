"""Subgroups of samples by columns: of their clinical tables, or of the rows that list them and that
no network sees: sex, bands of age, scanner, site.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data.columns import Column, Values, places
from robustbench_med.errors import UserError

if TYPE_CHECKING:
    from robustbench_med.data.cards import Card
    from robustbench_med.data.samples import Samples

Cuts = tuple[float, ...]
Parted = tuple[str, ...]
"""The subgroup of a sample in each column of its listing that the card names; "" where the cell is
missing.
"""
EVERYBODY, UNKNOWN = "all", "unknown"
"""What tables call all samples, and those whose cell is missing."""
MOST = 50
"""Values of a column without bands: what has more, such as patients, parts nothing."""
LONGEST = 100
"""Characters of a column's name, and of a cell."""
NO_NAME = set("[]=@/\\\r\n")
"""What a column's name must not hold: bounds of a gate name it as class[column=value]."""


@dataclass(frozen=True)
class Subgroups:
    """What one column of a clinical table parts the samples into.

    Args:
        name: modality and column, `clinic.age`.
        modality: number of the table.
        column: of it.
        cuts: where the bands of a numeric column begin, in its own unit; none of a categorical one.
    """

    name: str
    modality: int
    column: str
    cuts: Cuts = ()

    def of(self, table: Values, columns: Sequence[Column]) -> NDArray[np.str_]:
        """(n,) the subgroup of each row of a table (n, D); "" where the table or the cell is
        missing.
        """
        start, stop = places(columns)[self.column]
        column = next(each for each in columns if each.name == self.column)
        known, cells = table.any(1), table[:, start:stop]
        if column.range is None:
            named = np.array([*column.values, ""])
            return named[np.where(cells.any(1), cells.argmax(1), len(column.values))]
        low, high = column.range
        values = (low + cells[:, 0].astype(np.float64) * (high - low)).round(4)
        bands = np.array([*bands_of(self.cuts), ""])
        return bands[np.where(known, np.searchsorted(self.cuts, values, "right"), len(bands) - 1)]


@dataclass(frozen=True)
class Listed:
    """What one column of a data set's listing parts the samples into.

    Args:
        name: of the column; with the data set in front where several of a pairing have it.
        part: number of the data set in its pairing.
        place: of the column among those that its card names.
    """

    name: str
    part: int
    place: int

    def of(self, samples: Samples) -> NDArray[np.str_]:
        """(n,) the subgroup of each sample; "" where the cell is missing."""
        parted = samples.components[self.part].parted
        return np.array([parted[row][self.place] for row in samples.index[:, self.part]], np.str_)


def bands_of(cuts: Cuts) -> list[str]:
    """What bands between cuts are called: `below 40`, `40 to 60`, `from 60`."""
    inner = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(cuts)]
    return [f"below {cuts[0]:g}", *inner, f"from {cuts[-1]:g}"]


def of_tables(card: Card) -> dict[str, Column]:
    """The columns of a card's clinical tables, as `clinic.age`."""
    return {f"{m.name}.{column.name}": column for m in card.modalities for column in m.columns}


def of_listing(card: Card) -> dict[str, Cuts]:
    """What a card parts by that is no column of its clinical tables."""
    tables = of_tables(card)
    return {name: cuts for name, cuts in card.subgroups.items() if name not in tables}


def checked(card: Card) -> None:
    """Refuses (ValueError) subgroups of a card that are no columns, and cuts that make no bands."""
    tables = of_tables(card)
    for name, cuts in card.subgroups.items():
        if name in tables:
            _check_bands(name, cuts, tables[name].range)
            continue
        of_a_table = name.partition(".")[0] in {m.name for m in card.modalities if m.columns}
        if card.reader.kind != "table" or of_a_table:
            raise ValueError(
                f"subgroups: {name!r} is no column of a clinical table; known:"
                f" {', '.join(tables) or 'none, the card has neither such a table nor a CSV file'}"
            )
        if not 0 < len(name) <= LONGEST or NO_NAME & set(name) or name == EVERYBODY:
            raise ValueError(
                f"subgroups: a column cannot be called {name[:LONGEST]!r} here; rename it in the"
                f" file: at most {LONGEST} characters, none of []=@/\\, not {EVERYBODY!r}"
            )
        if cuts:
            _check_bands(name, cuts, (-math.inf, math.inf))


def _check_bands(name: str, cuts: Cuts, limits: tuple[float, float] | None) -> None:
    if limits is None and cuts:
        raise ValueError(f"subgroups: {name} is categorical, it has no bands; write {name}: []")
    inside = limits is not None and all(limits[0] < cut < limits[1] for cut in cuts)
    if limits is not None and not (cuts and inside and list(cuts) == sorted(set(cuts))):
        usual = sum(limits) / 2 if math.isfinite(limits[0]) else 60
        raise ValueError(
            f"subgroups: {name} needs where its bands begin, rising"
            + (f", between {limits[0]:g} and {limits[1]:g}" if math.isfinite(limits[0]) else "")
            + f", such as {name}: [{usual:g}]"
        )


def subgroup_of(name: str, cell: str, cuts: Cuts) -> str:
    """What a cell of a listing says: itself, or the band of its number; "" where it is empty.

    Raises:
        ValueError: no number where there are bands, or too long.
    """
    if cell in ("", UNKNOWN):
        return ""
    if not cuts:
        if len(cell) > LONGEST:
            raise ValueError(f"subgroups: {name} is {cell[:40]!r}..., longer than {LONGEST}")
        return cell
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"subgroups: {name} is {cell[:40]!r}, no number; leave the cell empty where nothing is"
            f" known, or part by what it says: {name}: []"
        )
    return bands_of(cuts)[int(np.searchsorted(cuts, value, "right"))]


def told(card: Card, parted: Sequence[Parted]) -> list[str]:
    """What a reader of the results must know of cells that are missing.

    Raises:
        UserError: a column of too many values, or of none at all.
    """
    notes = []
    for place, name in enumerate(of_listing(card)):
        values = {each[place] for each in parted} - {""}
        if not 0 < len(values) <= MOST:
            raise UserError(
                f"{card.id}: subgroups: the column {name} has"
                f" {f'{len(values)} values, more than {MOST}' if values else 'no cell'}; name"
                f" another, or where bands of numbers begin: {name}: [40, 60]"
            )
        if missing := sum(not each[place] for each in parted):
            notes.append(
                f"{card.id}: {missing} of {len(parted)} samples have no cell in the column"
                f" {name}: their subgroup is {UNKNOWN!r}"
            )
    return notes


def of_cards(cards: Sequence[Card], called: Sequence[str]) -> tuple[Subgroups | Listed, ...]:
    """Those of all cards of a pairing, whose modalities are called so."""
    listed = [name for card in cards for name in of_listing(card)]
    found: list[Subgroups | Listed] = []
    first = 0
    for part, card in enumerate(cards):
        tables, mine = of_tables(card), list(of_listing(card))
        numbers = {m.name: number for number, m in enumerate(card.modalities, first)}
        for key, cuts in card.subgroups.items():
            if key in tables:
                table, _, column = key.partition(".")
                m = numbers[table]
                found.append(Subgroups(f"{called[m]}.{column}", m, column, cuts))
            else:
                name = key if listed.count(key) == 1 else f"{card.id}-{key}"
                found.append(Listed(name, part, mine.index(key)))
        first += len(card.modalities)
    return tuple(found)


def arrays_of(
    found: Sequence[Subgroups | Listed], columns: Sequence[Sequence[Column]], samples: Samples
) -> dict[str, NDArray[Any]]:
    """`subgroup_NAME` (n,) of each, to be kept beside what became of the samples."""
    modalities = [
        (images, samples.index[:, k])
        for k, component in enumerate(samples.components)
        for images in component.images
    ]
    arrays: dict[str, NDArray[Any]] = {}
    for each in found:
        if isinstance(each, Listed):
            arrays[f"subgroup_{each.name}"] = each.of(samples)
        else:
            images, rows = modalities[each.modality]
            table = np.asarray(images[rows], np.float32).reshape(len(rows), -1)
            arrays[f"subgroup_{each.name}"] = each.of(table, columns[each.modality])
    return arrays
