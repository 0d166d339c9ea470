"""What the public calls return: records and tables that print well, in notebooks too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med.errors import UserError
from robustbench_med.reports import (
    certified,
    corruptions,
    curves,
    floors,
    gallery,
    looks,
    own_threats,
    paper,
    paper_tables,
    style,
)
from robustbench_med.reports import tables as boards
from robustbench_med.reports.board import leaderboard
from robustbench_med.reports.comparison import pareto
from robustbench_med.reports.comparison import table as comparisons
from robustbench_med.reports.comparison.entries import LeftOut
from robustbench_med.reports.comparison.page import missing
from robustbench_med.reports.corruptions import BASELINE
from robustbench_med.store import adversarials
from robustbench_med.store.record import Record
from robustbench_med.store.store import CERTIFICATES, Certificate, Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = (
    "rank",
    "model",
    "data",
    "norm",
    "eps",
    "n",
    "clean",
    "worst",
    "worst_low",
    "worst_high",
    "worst_balanced_accuracy",
    "noise",
    "each_attack",
    "trust",
    "marks",
)
CELLS_SHOWN = ("model", "data", "norm", "eps", "attack", "n", "clean", "robust", "marks")
By = Literal["robust", "balanced_accuracy", "auc"]


@dataclass(frozen=True)
class Results:
    """Evaluated cells.

    Example:
        >>> results = evaluate("late", "fgsm", eps="4/255", limit=16)
        >>> results.table  # the leaderboard
        >>> [record.figures.robust for record in results.records]

    Attributes:
        records: one a cell, with the fields that docs/record.schema.json describes:
            `results.records[0].figures.robust`; `record.plain()` is its JSON as dictionaries.
        folder: where they lie; `report(FOLDER)` writes everything about them.
    """

    records: tuple[Record, ...]
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """The leaderboard of these records, a row a victim and threat; docs/columns.md tells what
        the columns mean. Empty where nothing but noise or corruptions was run.
        """
        board = leaderboard(self._attacked, Store(self.folder))
        return boards.written(floors.with_floors(board))

    @property
    def cells(self) -> pd.DataFrame:
        """A row an attack: the columns of cells.csv. Beside the label `eps` stand numbers:
        `radius`, the largest of the modalities', and `radius_M` of each modality M where there are
        several.
        """
        if not self._attacked:
            return pd.DataFrame()
        board, members = boards.ranked(self._attacked)
        radii = pd.DataFrame([_radii(family[0]) for family in members], index=board.index)
        at = list(board.columns).index("eps") + 1
        board = pd.concat([board.iloc[:, :at], radii, board.iloc[:, at:]], axis=1)
        return boards.written(floors.with_floors(board))

    @property
    def corruptions(self) -> pd.DataFrame:
        """A row a victim, kind of corruption and severity: the columns of corruptions.csv; empty
        where none was run. `corruption_errors(baseline)` sums them up.
        """
        return boards.written(corruptions.by_kind(self._corrupted))

    @property
    def own_threats(self) -> pd.DataFrame:
        """A row a victim and threat of its own (patches, universal perturbations): the columns of
        own_threats.csv; empty where none was run.
        """
        return boards.written(own_threats.frame(self.records))

    def corruption_errors(self, baseline: str = BASELINE) -> pd.DataFrame:
        """A row a victim: mean corruption errors, relative to an undefended victim of the same data
        among these records; the columns of corruption_errors.csv.
        """
        return boards.written(corruptions.errors(corruptions.by_kind(self._corrupted), baseline))

    @property
    def _attacked(self) -> list[Record]:
        return [record for record in self.records if not record.apart]

    @property
    def _corrupted(self) -> list[Record]:
        return [record for record in self.records if record.corruption]

    @property
    def adversarials(self) -> list[dict[str, NDArray[np.float32]]]:
        """The attacked images of each record, in the order of `records`: by modality (n, C, H, W)
        in [0, 1], all samples of the record; what was not attacked is as it was.

        Raises:
            UserError: they were not kept: `evaluate(..., keep="all")` keeps them.
        """
        return [
            adversarials.kept(self.folder, record.hash, record.names.modalities)
            for record in self.records
        ]

    @property
    def examples(self) -> list[list[gallery.Example]]:
        """Some samples of each record before and after the attack, in the order of `records`: the
        first, and those that lost most.
        """
        store = Store(self.folder)
        return [gallery.examples(store, record) for record in self.records]

    def plot(self, ax: Axes | Sequence[Axes] | None = None) -> Figure:
        """Robust accuracy against radius, a panel an attack, as `report` draws it.

        Args:
            ax: axes of yours to draw on, one a panel; None: a new figure.

        Raises:
            UserError: there is nothing to draw, or another number of axes.
        """
        if not self._attacked:
            raise UserError("nothing to plot: there are no records of attacks")
        board = boards.named(boards.cells(self._attacked))
        with style.styled():
            return curves.radius_figure(board, looks.looks(board.model), axes=listed(ax))

    def to_markdown(self, by: By = "robust") -> str:
        """The cells as papers print them: GitHub's Markdown, a table a data set and threat.

        Args:
            by: robust accuracy, balanced accuracy or AUC.
        """
        return "\n".join(paper.markdown(table) for table in self._printed(by))

    def to_latex(self, by: By = "robust") -> str:
        """The same in LaTeX (booktabs).

        Args:
            by: robust accuracy, balanced accuracy or AUC.
        """
        return "\n".join(paper.latex(table) for table in self._printed(by))

    def _printed(self, by: By) -> Iterator[paper.Table]:
        return paper_tables.cells(boards.cells(self._attacked), by=by)

    @property
    def _shown(self) -> pd.DataFrame:
        table = self.table
        if not self._attacked:
            return self.corruption_errors() if self._corrupted else self.own_threats
        if not len(table):
            return self.cells[list(CELLS_SHOWN)]
        return table[list(SHOWN)].assign(rank=table["rank"].astype(object).fillna("-"))

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        shown = (
            self._shown.to_string(index=False, float_format="%.3f", na_rep="-")
            if self.records
            else "nothing"
        )
        return f"{len(self.records)} records in {self.folder}\n{shown}"

    def _repr_html_(self) -> str:
        shown = (
            self._shown.to_html(index=False, float_format="{:.3f}".format, border=0, na_rep="-")
            if self.records
            else ""
        )
        return (
            f"<p>{len(self.records)} records in <code>{escape(str(self.folder))}</code></p>{shown}"
        )


def _radii(record: Record) -> dict[str, float]:
    """The numbers of a record's radii."""
    radii, names = record.spec.threat.radii, record.names.modalities
    each = {f"radius_{name}": radius for name, radius in zip(names, radii, strict=True)}
    return {"radius": max(radii), **(each if len(names) > 1 else {})}


def listed(ax: Axes | Sequence[Axes] | None) -> list[Axes] | None:
    """Axes that were given, as a list."""
    return None if ax is None else [*np.ravel(np.array(ax, dtype=object))]


@dataclass(frozen=True)
class Comparison:
    """Defences side by side.

    Example:
        >>> found = compare("late", ["bit-depth", "jpeg"], "fgsm", eps="8/255", limit=16)
        >>> found.table[["defense", "clean", "worst"]]
        >>> found.pairs[["defense_a", "defense_b", "difference", "p_holm"]]

    Attributes:
        table: a row a model x defence x data set x threat: clean, robust under every attack, worst
            case, naive figure, cost.
        pairs: the paired statistics: every two victims of one model, or under one defence, on the
            same samples.
        verdict: what follows, in sentences.
        records: all records behind it, the naive attacks' among them.
        folder: where they lie.
        left_out: what was asked for and is missing, with `model`, `defense` (empty: the model
            altogether), `reason` and `unsuited` (the defence has no place in the model; else the
            parameters did not fit, and a `LeftOutWarning` said so).
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    verdict: tuple[str, ...]
    records: tuple[Record, ...]
    folder: Path
    left_out: tuple[LeftOut, ...] = ()
    judged: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """The table with the columns that figures and printed tables are made of."""

    def plot(self, ax: Axes | Sequence[Axes] | None = None) -> Figure:
        """Worst-case robust against clean accuracy, a panel a data set and threat, as `compare`
        draws it.

        Args:
            ax: axes of yours to draw on, one a panel; None: a new figure.
        """
        with style.styled():
            return pareto.figure(self.judged, axes=listed(ax))

    def to_markdown(self) -> str:
        """The table as papers print it, in GitHub's Markdown."""
        return "\n".join(paper.markdown(each) for each in comparisons.papers(self.judged))

    def to_latex(self) -> str:
        """The same in LaTeX (booktabs)."""
        return "\n".join(paper.latex(each) for each in comparisons.papers(self.judged))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def _said(self) -> list[str]:
        return [*self.verdict, *missing(self.left_out)]

    def __repr__(self) -> str:
        return "\n".join([comparisons.display(self.table).to_string(index=False), *self._said])

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self._said)
        shown = comparisons.display(self.table).to_html(index=False, border=0)
        return f"{shown}<ul>{sentences}</ul>"


@dataclass(frozen=True)
class Diagnoses:
    """Signs that attacks fail on victims.

    Example:
        >>> found = diagnose(model, data=(images, labels), eps="4/255", limit=8)
        >>> found.table[["sign", "verdict", "text"]]

    Attributes:
        rows: one a victim, seed and threat: `model`, `data`, `norm`, `eps`, `verdict` (the worst of
            its signs), `signs`, each with `sign`, `verdict`, `figure`, `text` and `advice`.
        folder: where they are kept, and hold against the rows of `evaluate`.
    """

    rows: tuple[Mapping[str, Any], ...]
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """A row a sign, the worst of each victim first."""
        kept = ("model", "data", "norm", "eps", "target", "n")
        found = []
        for row in self.rows:
            found += [{key: row[key] for key in kept} | dict(sign) for sign in row["signs"]]
        return pd.DataFrame(found)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        lines = [f"{len(self.rows)} diagnoses in {self.folder}"]
        for row in self.rows:
            threat = f"{row['norm']} {row['eps']}"
            lines.append(f"{row['model']} on {row['data']}, {threat}: {row['verdict']}")
            lines += [
                f"  {sign['verdict']}: {sign['sign']}: {sign['text']}"
                for sign in row["signs"]
                if sign["verdict"] != "fine"
            ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


@dataclass(frozen=True)
class Certified:
    """Certificates of smoothed victims: radii within which no attack changes a prediction.

    Example:
        >>> proved = certify(model, data=(images, labels), sigma=0.25, n=100)
        >>> proved.curves[["task", "radius", "certified"]]

    Attributes:
        records: one a victim, noise and choice of noised modalities; docs/certificate.schema.json.
        folder: where they lie.
    """

    records: tuple[Certificate, ...]
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """A row a certificate and task: abstentions, certified accuracy, radii (L2, pixels in
        0..1).
        """
        return pd.DataFrame(certified.by_task(self.records))

    @property
    def curves(self) -> pd.DataFrame:
        """Certified accuracy against radius, a row a point."""
        return certified.curves(self.records, Store(self.folder, CERTIFICATES))

    def plot(self, ax: Axes | Sequence[Axes] | None = None) -> Figure:
        """Certified accuracy against radius, a panel a task and choice of noised modalities.

        Args:
            ax: axes of yours to draw on, one a panel; None: a new figure.
        """
        with style.styled():
            return certified.figure(self.curves, axes=listed(ax))

    def to_markdown(self) -> str:
        """The curves at round radii as papers print them, in GitHub's Markdown."""
        return "\n".join(map(paper.markdown, certified.tables(self.curves, self.table)))

    def to_latex(self) -> str:
        """The same in LaTeX (booktabs)."""
        return "\n".join(map(paper.latex, certified.tables(self.curves, self.table)))

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        shown = self.table.to_string(index=False, float_format="%.3f", na_rep="-")
        return f"{len(self.records)} certificates in {self.folder}\n{shown}"

    def _repr_html_(self) -> str:
        shown = self.table.to_html(index=False, float_format="{:.3f}".format, border=0, na_rep="-")
        where = escape(str(self.folder))
        return f"<p>{len(self.records)} certificates in <code>{where}</code></p>{shown}"
