"""Attacks of a threat of their own, in a section of their own: patches, and perturbations that are
one for all patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_med.paths import writable_folder
from robustbench_med.reports import gallery, tables
from robustbench_med.reports.comparison.table import number
from robustbench_med.reports.families import variants
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

FOLDER = "own-threats"
ALIKE = ["data", "size", "n", "target", "protocol", "threat", "norm", "eps"]
"""Columns in which rows agree that are to be compared."""
TAKEN = ("model", "variant", "data", "synthetic", "size", "n", "target", "protocol")
FIGURES = (
    "clean",
    "robust",
    "robust_low",
    "robust_high",
    "balanced_accuracy",
    "clean_balanced_accuracy",
    "auc",
    "trainings",
    "trust",
    "why",
    "marks",
    "checkpoint",
)


def frame(every: Sequence[Record]) -> pd.DataFrame:
    """own_threats.csv, of those among all records of a store: a row a victim and threat, the most
    robust of those to be compared first; means over trainings and seeds.
    """
    return by_threat([record for record in every if record.own_threat], variants(every))


def by_threat(records: Sequence[Record], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The same of records that are all of such threats.

    Args:
        names: `families.variants` of all records of the store.
    """
    found, members = tables.ranked(records, names)
    rows = []
    for row, family in zip(tables.each(found), members, strict=True):
        first = family[0]
        rows.append(
            {
                **{key: getattr(row, key) for key in TAKEN},
                "threat": first.attack_label,
                "modalities": "+".join(m for m in first.names.modalities if m not in first.trusted),
                "norm": row.norm if first.within else "",
                "eps": row.eps if first.within else "",
                **{key: getattr(row, key) for key in FIGURES},
            }
        )
    ordered = pd.DataFrame(rows)
    if not rows:
        return ordered
    order = [*ALIKE, "robust", "model", "variant", "checkpoint"]
    ascending = [name != "robust" for name in order]
    return ordered.sort_values(order, ascending=ascending, kind="stable", ignore_index=True)


def told(found: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of `by_threat` as readers see them."""
    rows = []
    for row in tables.each(tables.named(found)):
        synthetic = " (synthetic)" if row.synthetic else ""
        within = f" within {row.norm} {row.eps}" if row.norm else f" on {row.modalities}"
        rows.append(
            {
                "victim": row.model,
                "data": f"{row.data}{synthetic}, {row.size} px, n = {row.n}, {row.target}",
                "threat": f"{row.threat}{within}",
                "clean": number(row.clean),
                "robust": f"{number(row.robust)} [{row.robust_low:.3f}, {row.robust_high:.3f}]",
                "balanced": number(row.balanced_accuracy),
                "trust": ": ".join(filter(None, [row.trust, row.why])),
            }
        )
    return rows


def write_galleries(store: Store[Record], records: Sequence[Record], folder: Path) -> list[Path]:
    """Samples before and after, of every record; returns the paths."""
    written: list[Path] = []
    for record in records:
        kept: Any = gallery.examples(store, record)
        if kept:
            written.append(
                writable_folder(folder)
                / f"{record.attack_label.replace(' ', '-')}-{record.short}.png"
            )
            gallery.save_png(record, kept, written[-1])
    return written
