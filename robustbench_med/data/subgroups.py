"""Subgroups of samples by columns of their clinical tables: sex, bands of age, scanner, site."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data.columns import Column, Values, places

if TYPE_CHECKING:
    from robustbench_med.data.cards import Card
    from robustbench_med.data.samples import Samples

AT_ONCE = 256
Cuts = tuple[float, ...]


@dataclass(frozen=True)
class Subgroups:
    """What one column parts the samples into.

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


def bands_of(cuts: Cuts) -> list[str]:
    """What bands between cuts are called: `below 40`, `40 to 60`, `from 60`."""
    inner = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(cuts)]
    return [f"below {cuts[0]:g}", *inner, f"from {cuts[-1]:g}"]


def checked(given: Mapping[str, Cuts], tables: Mapping[str, Sequence[Column]]) -> None:
    """Refuses (ValueError) subgroups of a card that are none of its tables' columns, and cuts that
    make no bands.
    """
    known = {f"{m}.{c.name}": c for m, columns in tables.items() for c in columns}
    for name, cuts in given.items():
        if name not in known:
            raise ValueError(
                f"subgroups: {name!r} is no column of a clinical table;"
                f" known: {', '.join(known) or 'none, the card has no table'}"
            )
        limits = known[name].range
        if limits is None and cuts:
            raise ValueError(f"subgroups: {name} is categorical, it has no bands; write {name}: []")
        inside = limits is not None and all(limits[0] < cut < limits[1] for cut in cuts)
        if limits is not None and not (cuts and inside and list(cuts) == sorted(set(cuts))):
            raise ValueError(
                f"subgroups: {name} needs where its bands begin, rising, between"
                f" {limits[0]:g} and {limits[1]:g}, such as {name}: [{sum(limits) / 2:g}]"
            )


def of_cards(cards: Sequence[Card], called: Sequence[str]) -> tuple[Subgroups, ...]:
    """Those of all cards of a pairing, whose modalities are called so."""
    tables = [(m.name, card.subgroups) for card in cards for m in card.modalities]
    found = []
    for m, (name, given) in enumerate(tables):
        for key, cuts in given.items():
            table, _, column = key.partition(".")
            if table == name:
                found.append(Subgroups(f"{called[m]}.{column}", m, column, cuts))
    return tuple(found)


def arrays_of(
    found: Sequence[Subgroups], columns: Sequence[Sequence[Column]], samples: Samples
) -> dict[str, NDArray[Any]]:
    """`subgroup_NAME` (n,) of each, to be kept beside what became of the samples."""
    parts: dict[str, list[NDArray[np.str_]]] = {f"subgroup_{each.name}": [] for each in found}
    for start in range(0, len(samples) if found else 0, AT_ONCE):
        batch = samples.batch(np.arange(start, min(start + AT_ONCE, len(samples))))
        for each in found:
            table = batch[each.modality].flatten(1).numpy()
            parts[f"subgroup_{each.name}"].append(each.of(table, columns[each.modality]))
    return {name: np.concatenate(every) for name, every in parts.items()}
