"""Tables as papers print them: best bold, second underlined, with intervals; Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from robustbench_med.formats.text import escaped as text_escaped
from robustbench_med.naming import BY_INDEX, by_index
from robustbench_med.reports.floors import CONSTANT

PICTURE = re.compile(r":([a-z0-9+-]+):")
"""What GitHub shows as one, `:lock:`."""
Better = Literal["high", "low"] | None
SYNTHETIC = "†"
DOUBTED = "‡"
TRIVIAL = "§"
UNPAIRED = "#"
NAIVE = "¶"
BELOW = "‖"
AREA = "AUC judges"
"""What captions of tables of findings hold."""
PORTRAIT = 95
"""Characters in a line of a table that fit A4 paper upright."""
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
BREAK = r"\allowbreak{}"


@dataclass(frozen=True)
class TableCell:
    """What stands in a table: text, or a number with the ends of its interval, footnote marks, and
    whether it may be the best.
    """

    value: float | str | None
    interval: tuple[float, float] | None = None
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
    rows: Sequence[Sequence[TableCell]]

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
            value, ends = _texts(cell, column)
            value = {1: f"**{value}**", 2: f"<u>{value}</u>"}.get(rank or 0, escaped(value))
            cells.append(value + (f" {escaped(ends)}" if ends else "") + cell.mark)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", escaped(_legend(table)), ""])


def latex(table: Table) -> str:
    r"""A LaTeX `table` in booktabs style, made smaller where it is wider than a line.

    It needs \usepackage{booktabs,graphicx} and an engine that reads UTF-8 names it has glyphs for.
    """
    return "\n".join(
        [r"\begin{table}", r"\centering", _caption(table), *_fitted(table), r"\end{table}", ""]
    )


def _caption(table: Table) -> str:
    text = f"{_tex(table.caption)}. {_tex(_legend(table))}"
    return rf"\caption{{{re.sub(r'([+_])', lambda at: at[1] + BREAK, text)}}}"


def _fitted(table: Table) -> list[str]:
    return [FITTED, *_tabular(table), "}"]


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
            value, ends = map(_tex, _texts(cell, column))
            value = {1: rf"\textbf{{{value}}}", 2: rf"\underline{{{value}}}"}.get(rank or 0, value)
            cells.append(value + (f" {ends}" if ends else "") + _tex(cell.mark))
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
    return [r"\begin{table}[H]", r"\centering", _caption(table), *_fitted(table), r"\end{table}"]


def _width(table: Table) -> int:
    """About how many characters a line of the table has."""
    total = 0
    for j, column in enumerate(table.columns):
        texts = [
            sum(map(len, _texts(row[j], column))) + (row[j].interval is not None)
            for row in table.rows
        ]
        total += max(len(column.heading), *texts) + 2
    return total


def data_name(row: Any) -> str:
    """The data's name, marked where its images are synthetic or of different patients."""
    return f"{row.data}{SYNTHETIC if row.synthetic else ''}{UNPAIRED if by_index(row.data) else ''}"


def judgement(
    trust: str, *, trivial: bool, naive: bool = False, below: bool = False
) -> dict[str, Any]:
    """Marks of a robust accuracy, and whether it may be the best; `below`: it is no higher than
    the constant answer's.
    """
    mark = (DOUBTED if trust in ("failed", "doubtful") else "") + (NAIVE if naive else "")
    mark += BELOW if below else ""
    return {"mark": mark, "ranked": not (trivial or naive or below or trust == "failed")}


def _legend(table: Table) -> str:
    sentences = []
    victims = sum(any(cell.ranked for cell in row[1:]) for row in table.rows)
    if any(c.better for c in table.columns) and victims > 1:
        sentences.append("Bold: best of its column; underlined: second best.")
    cells = [cell for row in table.rows for cell in row]
    if any(cell.interval is not None for cell in cells):
        sentences.append(
            "In brackets Wilson 95 % intervals over patients (images where the data name none)."
        )
    if SYNTHETIC in table.caption:
        sentences.append(f"{SYNTHETIC} Synthetic images.")
    if UNPAIRED in table.caption:
        sentences.append(f"{UNPAIRED} {BY_INDEX.capitalize()}: modalities of different patients.")
    if any(DOUBTED in cell.mark for cell in cells):
        sentences.append(
            f"{DOUBTED} Doubtful, or failed: more can be broken (column trust); not ranked where it"
            " failed."
        )
    if any(NAIVE in cell.mark for cell in cells):
        sentences.append(
            f"{NAIVE} The attack ignores the victim's defence or randomness: an over-estimate, not"
            " ranked."
        )
    if any(BELOW in cell.mark for cell in cells):
        sentences.append(
            f"{BELOW} Robust {'AUC' if AREA in table.caption else 'accuracy'} no higher than that"
            f" of {CONSTANT}: not ranked."
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


def _figure(cell: TableCell) -> float | None:
    return (
        None
        if cell.value is None or isinstance(cell.value, str) or math.isnan(cell.value)
        else float(cell.value)
    )


def _numeric(table: Table, j: int) -> bool:
    return any(_figure(row[j]) is not None for row in table.rows)


def _texts(cell: TableCell, column: Column) -> tuple[str, str]:
    number = _figure(cell)
    if number is None:
        return str(cell.value) if isinstance(cell.value, str) else "-", ""
    return (
        f"{number:.{column.digits}f}",
        "" if cell.interval is None else _ends(cell.interval, column.digits),
    )


def _ends(interval: tuple[float, float], digits: int) -> str:
    low, high = interval
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def escaped(text: str) -> str:
    """Text as one line of Markdown in which nothing is markup, mathematics or a picture."""
    plain = text_escaped(" ".join(text.splitlines()))
    marked = "".join(f"\\{c}" if c in "\\`*_[]<>|#$~" else c for c in plain)
    return PICTURE.sub(r"\\:\1:", marked)


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
    BELOW: r"$\Vert$",
    "\n": " ",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text_escaped(text, keep="\n"))
