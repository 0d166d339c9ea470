"""Tables as papers print them: models down, attacks across, best bold, second underlined, +- intervals; Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from robustbench_med.reports.tables import each

Better = Literal["high", "low"] | None
SYNTHETIC = "†"
DOUBTED = "‡"
TRIVIAL = "§"


@dataclass(frozen=True)
class Cell:
    """What stands in a table: text, or a number shown with `digits`, with half the width of its interval and a footnote mark."""

    value: float | str | None
    half: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its heading, which of its numbers are the better ones (None: no ranking), and digits after the point."""

    heading: str
    better: Better = None
    digits: int = 3


@dataclass(frozen=True)
class Table:
    """A table ready to be printed; `caption` is plain text that tells data, threat model, protocol and n."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def rankings(self) -> list[list[int | None]]:
        """For every cell 1 (best of its column), 2 (second best) or None, by the figures as they are shown; ties share a rank."""
        ranks: list[list[int | None]] = [[None] * len(self.columns) for _ in self.rows]
        for j, column in enumerate(self.columns):
            shown = {i: round(float(v), column.digits) for i, row in enumerate(self.rows) if (v := _figure(row[j])) is not None}
            if column.better is None or len(shown) < 2:
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
        "|" + "|".join("---:" if _numeric(table, j) else "---" for j in range(len(table.columns))) + "|",
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
    r"""A LaTeX `table` in booktabs style; needs \usepackage{booktabs} and an engine that reads UTF-8 names it has glyphs for."""
    alignment = "".join("r" if _numeric(table, j) else "l" for j in range(len(table.columns)))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.caption)}. {_tex(_legend(table))}}}",
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
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def document(tables: Sequence[Table]) -> str:
    """A LaTeX document that holds the tables, each on a page as wide as it needs."""
    body = "\n".join(latex(t) + r"\clearpage" for t in tables)
    head = "\\documentclass{article}\n\\usepackage[a3paper,landscape,margin=15mm]{geometry}\n\\usepackage{booktabs}\n"
    return f"{head}\\begin{{document}}\n{body}\n\\end{{document}}\n"


# --- the tables ----------------------------------------------------------------------------------------------------------


def leaderboards(board: pd.DataFrame) -> Iterator[Table]:
    """A table a data set, size, n, norm, target and protocol: a row a victim, a column an attack and radius.

    Of several settings of one attack the strongest on that victim stands there (lowest robust accuracy).
    """
    setting = ["data", "size", "n", "norm", "target", "protocol"]
    for _, group in board.groupby(setting, sort=True):
        first: Any = group.iloc[0]
        group = group.assign(radius=group.eps.map(radius_of), control=group.attack != CONTROL, victim=victim_names(group))
        conditions = group.sort_values(["radius", "eps", "control", "attack", "engine"])[["eps", "attack", "engine"]].drop_duplicates()
        strongest = group.sort_values("robust", kind="stable").groupby(["victim", "eps", "attack", "engine"]).head(1)
        columns, rows = [Column("victim"), Column("clean", "high")], []
        for c in each(conditions):
            engine = "" if c.engine == "native" else f" ({c.engine})"
            columns.append(Column(f"{c.attack}{engine} {c.eps}", None if c.attack == CONTROL else "high"))
        for victim, mine in strongest.groupby("victim", sort=True):
            by_condition = {(r.eps, r.attack, r.engine): r for r in each(mine)}
            clean: Any = mine.iloc[0]
            cells = [Cell(str(victim)), Cell(clean.clean, (clean.clean_high - clean.clean_low) / 2)]
            for c in each(conditions):
                row = by_condition.get((c.eps, c.attack, c.engine))
                if row is None:
                    cells.append(Cell(None))
                else:
                    cells.append(Cell(row.robust, (row.robust_high - row.robust_low) / 2, DOUBTED if row.trust in ("fail", "warn") else ""))
            rows.append(cells)
        caption = f"Robust accuracy on {data_name(first)}, {first['size']} px, {first.norm}, target {first.target}, "
        caption += f"protocol {first.protocol}, n = {first.n}"
        yield Table("leaderboard", caption, columns, rows)


def victims(frame: pd.DataFrame) -> Iterator[Table]:
    """What the victims of each data set cost."""
    wanted = [
        ("parameters", "parameters, M", 1e6, 3),
        ("gflops", "GFLOPs", 1, 3),
        ("gmacs", "GMACs", 1, 3),
        ("latency_cpu_ms", "CPU ms", 1, 1),
        ("latency_gpu_ms", "GPU ms", 1, 1),
        ("peak_memory_mib", "memory, MiB", 1, 1),
        ("training_seconds", "training, s", 1, 0),
    ]
    for _, group in frame.groupby(["data", "size"], sort=True):
        first: Any = group.iloc[0]
        shown = [w for w in wanted if group[w[0]].notna().any()]
        columns = [Column("victim"), *(Column(heading, "low", digits) for _, heading, _, digits in shown)]
        rows = []
        for (_, row), name in sorted(zip(group.iterrows(), victim_names(group), strict=True), key=lambda pair: pair[1]):
            rows.append([Cell(name), *(Cell(None if pd.isna(row[key]) else float(row[key]) / unit) for key, _, unit, _ in shown)])
        yield Table("cost", f"Cost of one sample on {data_name(first)}, {first['size']} px", columns, rows)


def per_class(frame: pd.DataFrame) -> Iterator[Table]:
    """Robust accuracy of every class under the attack that does most harm at each setting's largest radius."""
    if frame.empty:
        return
    frame = frame[frame.attack != CONTROL].assign(radius=lambda f: f.eps.map(radius_of))
    for _, group in frame.groupby(["data", "size", "samples", "norm", "target", "protocol", "task"], sort=True):
        group = group[group.radius == group.radius.max()]
        group = group.assign(victim=victim_names(group))
        overall = group.groupby(["attack", "engine"]).robust.mean()
        attack, engine = overall.idxmin()
        group = group[(group.attack == attack) & (group.engine == engine)]
        first: Any = group.iloc[0]
        group = group.sort_values("robust", kind="stable").groupby(["victim", "class"], sort=False).head(1)
        classes = sorted(group["class"].unique())
        rows = []
        for victim, mine in group.groupby("victim", sort=True):
            cells = [Cell(str(victim))]
            for name in classes:
                found = mine[mine["class"] == name]
                cells.append(Cell(None) if found.empty else _with_interval(found.iloc[0], "robust"))
            rows.append(cells)
        caption = f"Robust accuracy by class, task {first.task}, {attack} {first.eps} on {data_name(first)}, {first['size']} px, "
        caption += f"{first.norm}, target {first.target}, protocol {first.protocol}, n = {first.samples}"
        yield Table("per-class", caption, [Column("victim"), *(Column(name, "high") for name in classes)], rows)


def cross_modal(frame: pd.DataFrame) -> Iterator[Table]:
    """A matrix a victim and setting: attacked modality down, task across, robust accuracy in the cells."""
    if frame.empty:
        return
    for _, group in frame.groupby(["data", "size", "norm", "protocol", "attack", "engine", "eps", "n", "model", "checkpoint"], sort=True):
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
            f"Robust accuracy of {first.model} on a task when one modality is attacked, {first.attack} {first.eps} on {data_name(first)}, "
        )
        caption += f"{first['size']} px, {first.norm}, protocol {first.protocol}, n = {first.n}"
        yield Table("cross-modal", caption, [Column("attacked modality"), *(Column(task) for task in tasks)], rows)


CONTROL = "noise"


def victim_names(group: pd.DataFrame) -> list[str]:
    """A model's name, with its checkpoint where the table holds several of that name."""
    several = group.groupby("model").checkpoint.nunique()
    return [f"{m} {c}" if several[m] > 1 else str(m) for m, c in zip(group.model, group.checkpoint, strict=True)]


def radius_of(label: str) -> float:
    """The largest radius of an `eps` label such as `4/255` or `mri=4/255,xray=0`."""
    numbers = [part.rpartition("=")[2].split("/") for part in label.split(",")]
    return max(float(n[0]) / float(n[1]) if len(n) == 2 else float(n[0]) for n in numbers)


def data_name(row: Any) -> str:
    """The data's name, marked where its images are synthetic."""
    return f"{row.data}{SYNTHETIC if row.synthetic else ''}"


def _with_interval(row: Any, figure: str) -> Cell:
    low, high = row[f"{figure}_low"], row[f"{figure}_high"]
    return Cell(row[figure], None if pd.isna(low) else (high - low) / 2)


# --- printing ------------------------------------------------------------------------------------------------------------


def _legend(table: Table) -> str:
    sentences = []
    if any(c.better for c in table.columns) and len(table.rows) > 1:
        sentences.append("Bold: best of its column; underlined: second best.")
    cells = [cell for row in table.rows for cell in row]
    if any(cell.half is not None for cell in cells):
        sentences.append("± is half the width of the Wilson 95 % interval over distinct images.")
    if SYNTHETIC in table.caption:
        sentences.append(f"{SYNTHETIC} Synthetic images.")
    if any(cell.mark == DOUBTED for cell in cells):
        sentences.append(f"{DOUBTED} A sign that the attack failed (column trust).")
    if any(cell.mark == TRIVIAL for cell in cells):
        sentences.append(f"{TRIVIAL} No better than a constant at this task: its certificates mean nothing.")
    return " ".join(sentences)


def _figure(cell: Cell) -> float | None:
    return None if cell.value is None or isinstance(cell.value, str) or math.isnan(cell.value) else float(cell.value)


def _numeric(table: Table, j: int) -> bool:
    return any(_figure(row[j]) is not None for row in table.rows)


def _texts(cell: Cell, column: Column) -> tuple[str, str]:
    number = _figure(cell)
    if number is None:
        return str(cell.value) if isinstance(cell.value, str) else "-", ""
    return f"{number:.{column.digits}f}", "" if cell.half is None else f"{cell.half:.{column.digits}f}"


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
    "\n": " ",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
