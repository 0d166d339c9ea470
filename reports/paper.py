"""Tables as papers print them: models down, attacks across, best bold, second underlined, +-
intervals; Markdown and LaTeX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import pandas as pd

from robustbench_med.reports.tables import by_engine, each, named

Better = Literal["high", "low"] | None
SYNTHETIC = "†"
DOUBTED = "‡"
TRIVIAL = "§"
NAIVE = "¶"
PORTRAIT, LANDSCAPE = 95, 150
"""Characters in a line of a table that fit A4 paper, upright and on its side."""


@dataclass(frozen=True)
class Cell:
    """What stands in a table: text, or a number with half the width of its interval, footnote
    marks, and whether it may be the best.
    """

    value: float | str | None
    half: float | None = None
    mark: str = ""
    ranked: bool = True


@dataclass(frozen=True)
class Column:
    """A column: its heading, which of its numbers are the better ones (None: no ranking), and
    digits after the point.
    """

    heading: str
    better: Better = None
    digits: int = 3


@dataclass(frozen=True)
class Table:
    """A table ready to be printed; `caption` is plain text that tells data, threat model, protocol
    and n.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def rankings(self) -> list[list[int | None]]:
        """For every cell 1 (best of its column), 2 (second best) or None, by the figures as they
        are shown; ties share a rank.

        Cells that are not `ranked` have none, and neither has a column in which all others tie.
        """
        ranks: list[list[int | None]] = [[None] * len(self.columns) for _ in self.rows]
        for j, column in enumerate(self.columns):
            figures = {
                i: v
                for i, row in enumerate(self.rows)
                if row[j].ranked and (v := _figure(row[j])) is not None
            }
            shown = {i: round(v, column.digits) for i, v in figures.items()}
            if column.better is None or len(set(shown.values())) < 2:
                continue
            order = sorted(set(shown.values()), reverse=column.better == "high")
            for i, value in shown.items():
                ranks[i][j] = order.index(value) + 1 if value in order[:2] else None
        return ranks


def markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table under its caption."""
    lines = [
        f"**{escaped(table.caption)}**",
        "",
        "| " + " | ".join(escaped(c.heading) for c in table.columns) + " |",
        "|"
        + "|".join("---:" if _numeric(table, j) else "---" for j in range(len(table.columns)))
        + "|",
    ]
    for row, ranks in zip(table.rows, table.rankings(), strict=True):
        cells = []
        for cell, column, rank in zip(row, table.columns, ranks, strict=True):
            value, half = _texts(cell, column)
            value = {1: f"**{value}**", 2: f"<u>{value}</u>"}.get(rank or 0, escaped(value))
            cells.append(value + (f" ± {half}" if half else "") + cell.mark)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", escaped(_legend(table)), ""])


def latex(table: Table) -> str:
    r"""A LaTeX `table` in booktabs style.

    It needs \usepackage{booktabs} and an engine that reads UTF-8 names it has glyphs for.
    """
    return "\n".join(
        [r"\begin{table}", r"\centering", _caption(table), *_tabular(table), r"\end{table}", ""]
    )


def _caption(table: Table) -> str:
    return rf"\caption{{{_tex(table.caption)}. {_tex(_legend(table))}}}"


def _tabular(table: Table) -> list[str]:
    alignment = "".join("r" if _numeric(table, j) else "l" for j in range(len(table.columns)))
    lines = [
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(_tex(c.heading) for c in table.columns) + r" \\",
        r"\midrule",
    ]
    for row, ranks in zip(table.rows, table.rankings(), strict=True):
        cells = []
        for cell, column, rank in zip(row, table.columns, ranks, strict=True):
            value, half = map(_tex, _texts(cell, column))
            value = {1: rf"\textbf{{{value}}}", 2: rf"\underline{{{value}}}"}.get(rank or 0, value)
            cells.append(value + (rf" $\pm$ {half}" if half else "") + _tex(cell.mark))
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def document(tables: Sequence[Table]) -> str:
    """A LaTeX document on A4 paper that holds the tables in their order, several a page.

    Wide ones lie on their side, and are made smaller where that is not enough.
    """
    packages = (
        "[a4paper,margin=15mm]{geometry}",
        "{booktabs}",
        "{float}",
        "{graphicx}",
        "{pdflscape}",
    )
    lines = [r"\documentclass{article}", *(rf"\usepackage{package}" for package in packages)]
    lines += [r"\setlength{\belowcaptionskip}{4pt}", r"\begin{document}"]
    for lying, group in groupby(tables, lambda table: _width(table) > PORTRAIT):
        body = [line for table in group for line in _placed(table)]
        lines += [r"\begin{landscape}", *body, r"\end{landscape}"] if lying else body
    return "\n".join([*lines, r"\end{document}", ""])


def _placed(table: Table) -> list[str]:
    """A table that stays where it is and fits a page's width."""
    tabular = _tabular(table)
    if _width(table) > LANDSCAPE:
        tabular = [r"\resizebox{\linewidth}{!}{%", *tabular, "}"]
    return [r"\begin{table}[H]", r"\centering", _caption(table), *tabular, r"\end{table}"]


def _width(table: Table) -> int:
    """About how many characters a line of the table has."""
    total = 0
    for j, column in enumerate(table.columns):
        texts = [
            sum(map(len, _texts(row[j], column))) + (3 if row[j].half is not None else 0)
            for row in table.rows
        ]
        total += max(len(column.heading), *texts) + 2
    return total


# --- the tables -----------------------------------------------------------------------------------


def leaderboards(board: pd.DataFrame) -> Iterator[Table]:
    """A table a data set, size, n, norm, target and protocol: a row a victim, a column an attack
    and radius.

    Of several settings of one attack the strongest on that victim stands there (lowest robust
    accuracy). Victims attacked by naive attacks alone come last.
    """
    setting, board = ["data", "size", "n", "norm", "target", "protocol"], named(board)
    for _, group in board.groupby(setting, sort=True):
        first: Any = group.iloc[0]
        group = group.assign(control=group.attack != CONTROL, victim=victim_names(group))
        conditions = group.sort_values(["eps_value", "eps", "control", "attack", "engine"])[
            ["eps", "attack", "engine"]
        ].drop_duplicates()
        strongest = (
            group.sort_values("robust", kind="stable")
            .groupby(["victim", "eps", "attack", "engine"])
            .head(1)
        )
        columns, rows = [Column("victim"), Column("clean", "high")], []
        for c in each(conditions):
            columns.append(
                Column(
                    f"{by_engine(c.attack, c.engine)} {c.eps}",
                    None if c.attack == CONTROL else "high",
                )
            )
        for victim, mine in _honest_first(strongest):
            by_condition = {(r.eps, r.attack, r.engine): r for r in each(mine)}
            clean: Any = mine.iloc[0]
            trivial = bool(mine.is_trivial.any())
            cells = [Cell(victim, mark=TRIVIAL if trivial else "")]
            cells.append(
                replace(_with_interval(clean, "clean"), ranked=not (trivial or mine.is_naive.all()))
            )
            for c in each(conditions):
                row = by_condition.get((c.eps, c.attack, c.engine))
                if row is None:
                    cells.append(Cell(None))
                else:
                    cells.append(
                        replace(
                            _with_interval(row, "robust"),
                            **judgement(row.trust, naive=row.is_naive, trivial=row.is_trivial),
                        )
                    )
            rows.append(cells)
        caption = (
            f"Robust accuracy on {data_name(first)}, {first['size']} px, {first.norm}, target"
            f" {first.target}, "
        )
        caption += (
            f"protocol {first.protocol}, n ="
            f" {first.n}{_several(strongest.trainings, 'mean', 'trainings')}"
        )
        caption += _several(strongest.evaluation_seeds, "mean", "evaluation seeds")
        yield Table("leaderboard", caption, columns, rows)


def victims(frame: pd.DataFrame) -> Iterator[Table]:
    """What the victims of each data set cost: a row a victim, the median over its trainings.

    Rows of attacks that are unaware of a defence are left out: the same victims stand there without
        that.
    """
    wanted = [
        ("parameters", "parameters, M", 1e6, 3),
        ("gflops", "GFLOPs", 1, 3),
        ("gmacs", "GMACs", 1, 3),
        ("latency_cpu_ms", "CPU ms", 1, 1),
        ("latency_gpu_ms", "GPU ms", 1, 1),
        ("peak_memory_mib", "memory, MiB", 1, 1),
        ("training_seconds", "training, s", 1, 0),
    ]
    for _, group in named(frame[~frame.is_unaware]).groupby(["data", "size"], sort=True):
        first: Any = group.iloc[0]
        shown = [w for w in wanted if group[w[0]].notna().any()]
        columns = [
            Column("victim"),
            *(Column(heading, "low", digits) for _, heading, _, digits in shown),
        ]
        rows = []
        for model, mine in group.groupby("model", sort=True):
            medians = mine[[key for key, *_ in shown]].astype(float).median()  # of known figures
            cells = [
                Cell(None if pd.isna(medians[key]) else medians[key] / unit)
                for key, _, unit, _ in shown
            ]
            rows.append([Cell(str(model)), *cells])
        trainings = group.groupby("model").size()
        caption = (
            f"Cost of one sample on {data_name(first)}, {first['size']}"
            f" px{_several(trainings, 'median', 'trainings')}"
        )
        yield Table("cost", caption, columns, rows)


def per_class(frame: pd.DataFrame, board: pd.DataFrame) -> Iterator[Table]:
    """Robust accuracy of every class under the attack that does most harm at each setting's largest
    radius.

    Args:
        board: the leaderboard of the same records, which says what is naive or trivial.
    """
    if frame.empty:
        return
    frame = _judged(named(frame[frame.attack != CONTROL]), named(board))
    for _, group in frame.groupby(
        ["data", "size", "samples", "norm", "target", "protocol", "task"], sort=True
    ):
        group = group[group.eps_value == group.eps_value.max()]
        group = group.assign(victim=victim_names(group))
        overall = (
            (group if group.is_naive.all() else group[~group.is_naive])
            .groupby(["attack", "engine", "eps"])
            .robust.mean()
        )
        attack, engine, eps = overall.idxmin()
        group = group[(group.attack == attack) & (group.engine == engine) & (group.eps == eps)]
        first: Any = group.iloc[0]
        group = (
            group.sort_values("robust", kind="stable")
            .groupby(["victim", "class"], sort=False)
            .head(1)
        )
        classes = sorted(group["class"].unique())
        rows = []
        for victim, mine in _honest_first(group):
            cells = [Cell(victim, mark=TRIVIAL if mine.is_trivial.any() else "")]
            for name in classes:
                found = mine[mine["class"] == name]
                if found.empty:
                    cells.append(Cell(None))
                else:
                    row: Any = found.iloc[0]
                    cells.append(
                        replace(
                            _with_interval(row, "robust"),
                            **judgement(row.trust, naive=row.is_naive, trivial=row.is_trivial),
                        )
                    )
            rows.append(cells)
        caption = (
            f"Robust accuracy by class, task {first.task}, {attack} {first.eps} on"
            f" {data_name(first)}, {first['size']} px, "
        )
        caption += (
            f"{first.norm}, target {first.target}, protocol {first.protocol}, n = {first.samples}"
        )
        yield Table(
            "per-class",
            caption,
            [Column("victim"), *(Column(name, "high") for name in classes)],
            rows,
        )


def cross_modal(frame: pd.DataFrame) -> Iterator[Table]:
    """A matrix a victim and setting: attacked modality down, task across, robust accuracy in the
    cells.
    """
    if frame.empty:
        return
    setting = [
        "data",
        "size",
        "norm",
        "protocol",
        "attack",
        "engine",
        "eps",
        "n",
        "model",
        "checkpoint",
    ]
    for _, group in named(frame).groupby(setting, sort=True):
        first: Any = group.iloc[0]
        tasks = list(dict.fromkeys(group.task))
        rows = []
        for modality, mine in group.groupby("modality", sort=False):
            cells = [Cell(str(modality))]
            for task in tasks:
                found = mine[mine.task == task]
                cells.append(Cell(None) if found.empty else _with_interval(found.iloc[0], "robust"))
            rows.append(cells)
        caption = (
            f"Robust accuracy of {first.model} on a task when one modality is attacked,"
            f" {first.attack} {first.eps} on {data_name(first)}, "
        )
        caption += f"{first['size']} px, {first.norm}, protocol {first.protocol}, n = {first.n}"
        yield Table(
            "cross-modal",
            caption,
            [Column("attacked modality"), *(Column(task) for task in tasks)],
            rows,
        )


CONTROL = "noise"


def victim_names(group: pd.DataFrame) -> list[str]:
    """A model's name, with its checkpoint where the table holds several of that name."""
    several = group.groupby("model").checkpoint.nunique()
    return [
        f"{m} {c}" if several[m] > 1 else str(m)
        for m, c in zip(group.model, group.checkpoint, strict=True)
    ]


def data_name(row: Any) -> str:
    """The data's name, marked where its images are synthetic."""
    return f"{row.data}{SYNTHETIC if row.synthetic else ''}"


def _several(counts: pd.Series, figure: str, what: str) -> str:
    """What a caption says of figures that several trainings or evaluations stand behind."""
    fewest, most = int(counts.min()), int(counts.max())
    return (
        ""
        if most == 1
        else f", {figure} of {most if fewest == most else f'{fewest} to {most}'} {what}"
    )


def _with_interval(row: Any, figure: str) -> Cell:
    value, low, high = (getattr(row, f"{figure}{end}") for end in ("", "_low", "_high"))
    return Cell(value, None if pd.isna(low) else (high - low) / 2)


def _judged(frame: pd.DataFrame, board: pd.DataFrame) -> pd.DataFrame:
    """Rows by class, naive or trivial where any row of the leaderboard is that has their name."""
    keys = [
        "data",
        "size",
        "samples",
        "norm",
        "eps",
        "target",
        "attack",
        "engine",
        "protocol",
        "model",
        "checkpoint",
    ]
    found = (
        board.rename(columns={"n": "samples"})
        .groupby(keys)[["is_naive", "is_trivial"]]
        .any()
        .reset_index()
    )
    return frame.drop(columns=["is_naive", "is_trivial"]).merge(
        found, on=keys, how="left", validate="many_to_one"
    )


def _honest_first(group: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each victim by its name, those behind that naive attacks alone attacked."""
    found = [(str(victim), mine) for victim, mine in group.groupby("victim", sort=True)]
    return sorted(found, key=lambda entry: bool(entry[1].is_naive.all()))


def judgement(trust: str, *, trivial: bool, naive: bool = False) -> dict[str, Any]:
    """Marks of a robust accuracy, and whether it may be the best."""
    mark = (DOUBTED if trust in ("fail", "warn") else "") + (NAIVE if naive else "")
    return {"mark": mark, "ranked": not (trivial or naive or trust == "fail")}


# --- printing -------------------------------------------------------------------------------------


def _legend(table: Table) -> str:
    sentences = []
    if any(c.better for c in table.columns) and len(table.rows) > 1:
        sentences.append("Bold: best of its column; underlined: second best.")
    cells = [cell for row in table.rows for cell in row]
    if any(cell.half is not None for cell in cells):
        sentences.append(
            "± is half the width of the Wilson 95 % interval over patients (images where the data"
            " name none)."
        )
    if SYNTHETIC in table.caption:
        sentences.append(f"{SYNTHETIC} Synthetic images.")
    if any(DOUBTED in cell.mark for cell in cells):
        sentences.append(
            f"{DOUBTED} A sign that the attack failed (column trust); not ranked where that verdict"
            " is fail."
        )
    if any(NAIVE in cell.mark for cell in cells):
        sentences.append(
            f"{NAIVE} The attack ignores the victim's defence or randomness: an over-estimate, not"
            " ranked."
        )
    if any(TRIVIAL in cell.mark for cell in cells):
        certified = table.name == "certified"
        doubt = (
            "this task: its certificates mean nothing"
            if certified
            else "a task: its figures mean little and are not ranked"
        )
        sentences.append(f"{TRIVIAL} No better than a constant at {doubt}.")
    return " ".join(sentences)


def _figure(cell: Cell) -> float | None:
    return (
        None
        if cell.value is None or isinstance(cell.value, str) or math.isnan(cell.value)
        else float(cell.value)
    )


def _numeric(table: Table, j: int) -> bool:
    return any(_figure(row[j]) is not None for row in table.rows)


def _texts(cell: Cell, column: Column) -> tuple[str, str]:
    number = _figure(cell)
    if number is None:
        return str(cell.value) if isinstance(cell.value, str) else "-", ""
    return (
        f"{number:.{column.digits}f}",
        "" if cell.half is None else f"{cell.half:.{column.digits}f}",
    )


def escaped(text: str) -> str:
    """Text as one line of Markdown in which nothing is markup."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in " ".join(text.splitlines()))


_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    SYNTHETIC: r"\textdagger{}",
    DOUBTED: r"\textdaggerdbl{}",
    TRIVIAL: r"\S{}",
    NAIVE: r"\P{}",
    "\n": " ",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
