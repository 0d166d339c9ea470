"""Everything that a comparison writes, and what it writes again from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from robustbench_med.paths import write_text
from robustbench_med.reports import floors
from robustbench_med.reports.comparison import entries, pairs, table
from robustbench_med.reports.comparison.entries import Compared, Entry
from robustbench_med.reports.comparison.page import Page, markdown
from robustbench_med.reports.comparison.pairs import Pair
from robustbench_med.reports.comparison.pareto import FIGURE, pareto
from robustbench_med.reports.comparison.rows import rows_of
from robustbench_med.reports.comparison.verdict import verdict
from robustbench_med.reports.tables import csv
from robustbench_med.reports.under_training import under_trained
from robustbench_med.store import reading
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store


@dataclass(frozen=True)
class Judged:
    """What a comparison shows.

    Attributes:
        table: a row a victim, data set and threat; its columns are those of compare.csv, and those
            for code (`tables.VALUES`).
        pairs: victims two by two.
        verdict: what follows, in sentences.
    """

    table: pd.DataFrame
    pairs: tuple[Pair, ...]
    verdict: tuple[str, ...]


def judge(compared: Sequence[Entry], out: Path) -> Judged:
    """The comparison's table, its paired statistics and its verdict.

    Args:
        compared: the entries, whose records lie in the store of the folder `out`.
    """
    store = Store(out)
    every = floors.counted(reading.judged(store.look()[0], store), store.arrays)
    read, shortfalls = {record.hash: record for record in every}, under_trained(every)
    rows = [
        row
        for entry in compared
        for row in rows_of(
            replace(entry, records=tuple(read[record.hash] for record in entry.records)),
            store,
            shortfalls,
        )
    ]
    frame, paired = table.frame(rows), pairs.pairs(rows)
    return Judged(frame, tuple(paired), tuple(verdict(frame, paired)))


def write(compared: Compared, out: Path) -> tuple[Judged, Page]:
    """Writes compare.csv, compare_pairs.csv, compare_left_out.csv, compare.md, compare.tex, pareto
    (PNG, SVG); returns what was found, and the page.

    compare.json notes which records were compared, so that `rebuild` can do it again.

    Args:
        compared: the comparison, whose records lie in the store of the folder `out`.
    """
    judged = judge(compared.entries, out)
    page = markdown(
        judged.table,
        judged.pairs,
        judged.verdict,
        command=compared.command,
        seconds=compared.seconds,
        left_out=compared.left_out,
    )
    absent = pd.DataFrame(
        [asdict(missing) for missing in compared.left_out],
        columns=["model", "defense", "reason", "unsuited"],
    )
    write_text(out / "compare.csv", csv(table.with_constant(judged.table)))
    write_text(out / "compare_pairs.csv", csv(pairs.frame(judged.pairs)))
    write_text(out / "compare_left_out.csv", csv(absent))
    write_text(out / "compare.md", str(page))
    write_text(out / "compare.tex", table.latex(judged.table))
    pareto(judged.table, out / FIGURE)
    entries.save(compared, out)
    return judged, page


def rebuild(out: Path, records: Sequence[Record]) -> list[Path]:
    """Writes the folder's last comparison again from its records; returns its page's path, nothing
    where there was no comparison.

    Args:
        out: folder of the store.
        records: all of the folder.

    Raises:
        UserError: compare.json cannot be read, or a record that it names is gone or left out.
    """
    if not (out / entries.NOTED).exists():
        return []
    write(entries.read(out, records), out)
    return [out / "compare.md"]
