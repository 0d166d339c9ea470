"""Comparison of defences: one table, paired statistics, a verdict in plain words, and the figure of
robust against clean accuracy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from robustbench_med.errors import UserError
from robustbench_med.paths import write_text
from robustbench_med.reports import paper, style
from robustbench_med.reports.comparison.pairs import SIGNIFICANT, attacks, pairs, relative, rows_of
from robustbench_med.reports.style import COLOURS, MARKERS, outlined
from robustbench_med.reports.tables import each, quotable, written
from robustbench_med.store.record import CONTROL
from robustbench_med.store.store import Record, Store

FIGURE = "pareto.png"
NOTED = "compare.json"
NARROWEST = 0.2
"""Least span of an axis of accuracies."""
MARGIN = 0.03
CLOSEST = 3
"""Victims not told from the best that its sentence names."""
CLEARLY = 0.02
"""Differences of accuracies below this are not talked about."""


@dataclass(frozen=True)
class Page:
    """compare.md in its parts: what was run, the tables, and what follows from them. As text it is
    the whole page.
    """

    head: str
    tables: str
    rest: str

    def __str__(self) -> str:
        return "\n".join(
            (self.head, self.tables, self.rest, f"![Robust against clean accuracy]({FIGURE})", "")
        )


def write(
    entries: Sequence[Mapping[str, Any]],
    out: Path,
    *,
    command: str,
    seconds: float,
    left_out: Sequence[Mapping[str, Any]] = (),
) -> tuple[pd.DataFrame, Page]:
    """Writes compare.csv, compare_pairs.csv, compare_left_out.csv, compare.md, compare.tex, pareto
    (PNG, SVG); returns table and page.

    compare.json notes which records were compared, so that `rebuild` can do it again.

    Args:
        entries: dictionaries with `model`, `defense`, `records` (all attacks, radii, data sets and
            seeds) and `naive`.
        out: folder of the store.
        command, seconds: what made the records, and how long it took this time.
        left_out: what was asked for and is missing: dictionaries with `model`, `defense` (empty:
            all of the model's), `reason`, `unsuited`.
    """
    table, paired, sentences = judge(entries, out)
    page = markdown(table, paired, sentences, command, seconds, left_out)
    write_text(
        out / "compare.csv",
        str(written(table).to_csv(index=False, float_format="%.6g", lineterminator="\n")),
    )
    write_text(
        out / "compare_pairs.csv",
        str(paired.to_csv(index=False, float_format="%.6g", lineterminator="\n")),
    )
    absent = pd.DataFrame(left_out, columns=["model", "defense", "reason", "unsuited"])
    write_text(out / "compare_left_out.csv", str(absent.to_csv(index=False, lineterminator="\n")))
    write_text(out / "compare.md", str(page))
    write_text(out / "compare.tex", latex(table))
    pareto(table, out / FIGURE)
    compared = [
        {
            "model": e["model"],
            "defense": e["defense"],
            **{kind: [r.hash for r in e[kind]] for kind in ("records", "naive")},
        }
        for e in entries
    ]
    facts = {
        "command": command,
        "seconds": seconds,
        "entries": compared,
        "left_out": [dict(entry) for entry in left_out],
    }
    write_text(out / NOTED, json.dumps(facts, indent=1))
    return table, page


def rebuild(out: Path, records: Sequence[Record]) -> list[Path]:
    """Writes the folder's last comparison again from its records; returns its page's path, nothing
    where there was no comparison.

    Args:
        records: all of the folder.

    Raises:
        UserError: compare.json cannot be read, or a record that it names is gone or left out.
    """
    if not (out / NOTED).exists():
        return []
    entries, how = noted(out, records)
    write(entries, out, **how)
    return [out / "compare.md"]


def noted(out: Path, records: Sequence[Record]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The entries of the folder's last comparison, and the other arguments of its `write`;
    arguments and errors as for `rebuild`.
    """
    file, by_hash = out / NOTED, {record.hash: record for record in records}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        entries = [
            {"model": str(e["model"]), "defense": str(e["defense"])}
            | {k: [by_hash[h] for h in e[k]] for k in ("records", "naive")}
            for e in found["entries"]
        ]
        how: dict[str, Any] = {
            "command": str(found["command"]),
            "seconds": float(found["seconds"]),
            "left_out": found.get("left_out", []),
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} cannot be rebuilt ({error!r} is missing or wrong); delete it, or run"
            " `medrobust compare` again"
        ) from error
    return entries, how


def judge(
    entries: Sequence[Mapping[str, Any]], out: Path
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The comparison's table, its paired statistics and its verdict; `entries` and `out` as for
    `write`.
    """
    store = Store(out)
    rows = [row for entry in entries for row in rows_of(entry, store)]
    table = relative(pd.DataFrame([row.figures for row in rows]))
    paired = pairs(rows)
    return table, paired, verdict(table, paired)


def verdict(table: pd.DataFrame, paired: pd.DataFrame) -> list[str]:
    """What the numbers say, one sentence a defended victim, then the best one."""
    sentences = []
    for _, group in table.groupby(["data", "norm", "eps", "model"], sort=False):
        plain = group[group.defense == "none"].iloc[0]
        for _, row in group[group.defense != "none"].iterrows():
            found = _difference(row, plain, paired)
            assert found is not None  # victims of one model are always paired
            sentences.append(_sentence(row, plain, found))
    for keys, group in table.groupby(["data", "norm", "eps"], sort=False):
        if len(group) > 1:
            where = f"On {keys[0]} ({keys[1]}, {keys[2]})"
            judged = group[[quotable(row) for row in each(group)]]
            if judged.empty:
                sentences.append(
                    f"{where} no victim can be called the best: all are trivial, or their attacks"
                    " failed."
                )
                continue
            best = judged.iloc[int(judged.worst.argmax())]
            if best.worst == 0:
                sentences.append(
                    f"{where} nothing withstands: for every sample of every victim some attack"
                    " succeeds."
                )
                continue
            sentences.append(
                f"{where} {best.model} with {best.defense} has the highest worst-case robust"
                f" accuracy, {best.worst:.3f} [{best.worst_low:.3f}, {best.worst_high:.3f}], at a"
                f" clean accuracy of {best.clean:.3f}."
                + _undecided(best, judged.drop(index=best.name), paired)
            )
    return sentences


@dataclass(frozen=True)
class Difference:
    """Worst-case robust accuracy of one victim minus another's on the same samples, with its
    interval and Holm's p-value.
    """

    gain: float
    low: float
    high: float
    p: float

    @property
    def shown(self) -> bool:
        """Whether there is one beyond doubt: the interval is clear of zero and p, corrected for the
        number of pairs, is small.
        """
        return self.p < SIGNIFICANT and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        return (
            f"{_points(self.gain)} points [{_points(self.low)}, {_points(self.high)}], McNemar-Holm"
            f" p = {self.p:.2g}"
        )


def _difference(a: Any, b: Any, paired: pd.DataFrame) -> Difference | None:
    """Of two rows of the table, a minus b; None where they were not paired."""
    for _, pair in paired.iterrows():
        sides = [(pair.model_a, pair.defense_a), (pair.model_b, pair.defense_b)]
        if (pair["data"], pair.norm, pair.eps) != (a["data"], a.norm, a.eps):
            continue
        if sides == [(a.model, a.defense), (b.model, b.defense)]:
            return Difference(pair.difference, pair.low, pair.high, pair.p_holm)
        if sides == [(b.model, b.defense), (a.model, a.defense)]:
            return Difference(-pair.difference, -pair.high, -pair.low, pair.p_holm)
    return None


def _undecided(best: Any, others: pd.DataFrame, paired: pd.DataFrame) -> str:
    """From which others the victim with the highest figure cannot be told, and with how many it was
    not paired.
    """
    close, apart = [], 0
    for _, other in others.iterrows():
        ahead = _difference(best, other, paired)
        if ahead is None:
            apart += 1
        elif not ahead.shown:
            close.append(f"{other.model} with {other.defense} ({ahead})")
    more = f" and {len(close) - CLOSEST} more" if len(close) > CLOSEST else ""
    said = f" No difference is shown from {'; '.join(close[:CLOSEST])}{more}." if close else ""
    return said + (
        f" Not paired with it: {apart} of another model and another defence." if apart else ""
    )


def _doubt(*rows: Any) -> str:
    """A sentence on those of these rows whose attack failed or whose victim is trivial, if any."""
    doubted = [f"{row.defense}: {row.worst_sign}" for row in rows if row.trust == "fail"]
    doubted += [f"{row.defense}: no better than chance on a task" for row in rows if row.is_trivial]
    return f" Do not quote it ({'; '.join(doubted)})." if doubted else ""


def _sentence(row: Any, plain: Any, found: Difference) -> str:
    who = f"{row.model} on {row.data} ({row.norm}, {row.eps}): {row.defense}"
    if not found.shown:
        said = f"{who} cannot be told from none, no difference shown: {found}"
    elif found.gain > 0:
        said = f"{who} beats none by {found}"
    else:
        said = f"{who} is worse than none by {found}"
    costs = [f"{_points(row.clean - plain.clean)} points of clean accuracy"]
    costs += [
        f"{row[key]:.1f} x {what}"
        for key, what in (("training_x", "training"), ("inference_x", "inference FLOPs"))
        if pd.notna(row[key])
    ]
    said += f"; cost: {', '.join(costs)}."
    if pd.notna(row.naive) and row.worst > row.naive + CLEARLY:
        said += (
            " The naive attack did more harm than those of the comparison: give them more steps"
            " before you conclude."
        )
    elif pd.notna(row.naive):
        release = row.naive_how == "release"
        apparent = row.naive - (plain.naive if release else plain[row.naive_attack])
        if apparent > CLEARLY:
            if_sure = "shrinks" if found.gain < apparent - CLEARLY else "holds"
            fate = (
                if_sure
                if found.gain > 0 and found.shown
                else "vanishes"
                if found.gain < apparent / 2
                else "is uncertain"
            )
            naive, sound = (
                ("the release protocol", "EOT")
                if release
                else ("an attack unaware of the transform", "BPDA")
            )
            said += (
                f" Its advantage under {naive}, {100 * apparent:.1f} points, {fate} under {sound}."
            )
    return said + _doubt(plain, row)


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # no -0.0


# --- what is written ------------------------------------------------------------------------------


def display(table: pd.DataFrame) -> pd.DataFrame:
    """The columns people read, as text."""
    shown = pd.DataFrame(
        {
            "model": table.model,
            "defence": table.defense,
            "data": table["data"],
            "threat": table.norm + " " + table.eps,
        }
    )
    for name in ("clean", *attacks(table)):
        shown[name] = table[name].map(_number)
    shown["worst case [95 %]"] = [
        f"{w:.3f} [{low:.3f}, {high:.3f}]"
        for w, low, high in zip(table.worst, table.worst_low, table.worst_high, strict=True)
    ]
    if (table.trainings > 1).any():
        shown["sd over trainings"] = pd.to_numeric(table.worst_std).map(_number)
    shown["naive"] = table.naive.map(_number)
    shown["GFLOPs"] = table.gflops.map("{:.3g}".format)
    for name, key in (
        ("training x", "training_x"),
        ("FLOPs x", "inference_x"),
        ("latency x", "latency_x"),
    ):
        shown[name] = pd.to_numeric(table[key]).map(lambda v: "-" if pd.isna(v) else f"{v:.1f}")
    shown["trust"] = [
        f"{verdict}: {sign}" if sign else verdict
        for verdict, sign in zip(table.trust, table.worst_sign, strict=True)
    ]
    shown["marks"] = table.marks.where(table.marks != "", "-")
    return shown


def markdown(
    table: pd.DataFrame,
    paired: pd.DataFrame,
    sentences: Sequence[str],
    command: str,
    seconds: float,
    left_out: Sequence[Mapping[str, Any]] = (),
) -> Page:
    """The whole comparison as a page."""
    head = [
        "# Comparison of defences",
        "",
        f"`{command}`",
        "",
        f"{seconds / 60:.1f} minutes of this run; finished cells are kept.",
        "",
    ]
    shown_tables, lines = [], ["## Verdict", "", *(f"- {sentence}" for sentence in sentences), ""]
    for keys, group in table.groupby(["data", "size", "norm", "eps"], sort=False):
        first = group.iloc[0]
        synthetic = ", synthetic" if first.synthetic else ""
        shown_tables += [
            (
                f"## {keys[0]} ({keys[1]} px{synthetic}), {keys[2]} {keys[3]}, n = {first.n},"
                f" {_behind(first)}"
            ),
            "",
        ]
        shown_tables += [*_markdown_table(display(group)), ""]
    lines += [
        (
            "Worst case: per sample the attack that hurts most (for random victims chosen on one"
            " half of the draws and measured on the"
        ),
        (
            "other, or one attack on every sample where that harms more). Naive: what an attack"
            " that ignores the defence would have"
        ),
        (
            "reported (no EOT and one draw on random victims, unaware of input transforms). Trust:"
            " the worst sign that an attack failed,"
        ),
        (
            "over the attacks of a row. Training x and FLOPs x are relative to no defence, counted"
            " in passes and FLOPs; latency x is a"
        ),
        "clock's.",
        "",
    ]
    if not paired.empty:
        shown = paired.assign(
            a=paired.model_a + " " + paired.defense_a,
            b=paired.model_b + " " + paired.defense_b,
            difference=[
                f"{_points(d)} [{_points(low)}, {_points(high)}]"
                for d, low, high in zip(paired.difference, paired.low, paired.high, strict=True)
            ],
            p=paired.p.map(lambda p: f"{p:.2g}"),
            corrected=[
                f"{p:.2g}{' *' if Difference(d, low, high, p).shown else ''}"
                for d, low, high, p in zip(
                    paired.difference, paired.low, paired.high, paired.p_holm, strict=True
                )
            ],
            threat=paired.norm + " " + paired.eps,
        )
        lines += ["## Pairs on the same samples, worst case, points of a minus b", ""]
        lines += [
            *_markdown_table(shown[["data", "threat", "a", "b", "difference", "p", "corrected"]]),
            "",
        ]
    if left_out:
        lines += ["## Left out", "", *(f"- {line}" for line in missing(left_out)), ""]
    return Page("\n".join(head), "\n".join(shown_tables), "\n".join(lines))


def _behind(row: Any) -> str:
    """How many trainings and evaluation seeds stand behind a row."""
    return f"trainings: {row.trainings}" + (
        f", evaluation seeds of each: {row.evaluation_seeds}" if row.evaluation_seeds > 1 else ""
    )


def missing(left_out: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for everything that was asked for and is not in the tables."""
    return [
        f"{entry['model']}{' with ' + entry['defense'] if entry['defense'] else ''} is missing from"
        f" this comparison: {entry['reason']}."
        + (" The defence does not suit this model." if entry["unsuited"] else "")
        for entry in left_out
    ]


def _markdown_table(frame: pd.DataFrame) -> list[str]:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).values.tolist()]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def latex(table: pd.DataFrame) -> str:
    """The tables for a paper (package booktabs): one a data set and threat."""
    return "\n".join(
        paper.latex(printed(keys, group))
        for keys, group in table.groupby(["data", "size", "norm", "eps"], sort=False)
    )


def printed(keys: tuple[Any, ...], group: pd.DataFrame) -> paper.Table:
    """One comparison as papers print it: the best figure bold, the second underlined; what failed
    or is trivial ranks nowhere.
    """
    first = group.iloc[0]
    real = [
        attack for attack in attacks(group) if attack != CONTROL and group[attack].notna().any()
    ]
    heads = [paper.Column(name) for name in ("model", "defence")] + [
        paper.Column(name, "high") for name in ("clean", *real)
    ]
    heads += [
        paper.Column("worst case", "high"),
        paper.Column("naive"),
        paper.Column("training x", digits=1),
        paper.Column("GFLOPs"),
    ]
    rows = []
    for _, row in group.iterrows():
        trivial = row.is_trivial
        judged = paper.judgement(row.trust, trivial=trivial)
        cells = [
            paper.TableCell(row.model, mark=paper.TRIVIAL if trivial else ""),
            paper.TableCell(row.defense),
        ]
        cells += [
            paper.TableCell(row.clean, ranked=not trivial),
            *(paper.TableCell(row[name], **judged) for name in real),
        ]
        cells += [
            paper.TableCell(row.worst, (row.worst_high - row.worst_low) / 2, **judged),
            paper.TableCell(row.naive),
        ]
        rows.append([*cells, paper.TableCell(row.training_x), paper.TableCell(row.gflops)])
    behind = f", mean of {first.trainings} trainings" if first.trainings > 1 else ""
    caption = (
        f"Defences on {paper.data_name(first)}, {keys[1]} px, {keys[2]} {keys[3]}, protocol"
        f" {first.protocol}, n = {first.n}{behind}; worst case: per sample the attack that hurts"
        " most; naive: an attack that ignores the defence"
    )
    return paper.Table("compare", caption, heads, rows)


def pareto(table: pd.DataFrame, path: Path) -> None:
    """Worst-case robust against clean accuracy; area by FLOPs, colour by model, marker by defence,
    the front as a line.
    """
    panels = list(table.groupby(["data", "size", "norm", "eps"], sort=False))
    defences, models = list(table.defense.unique()), list(table.model.unique())
    columns = min(3, len(panels))
    height = -(-len(panels) // columns)
    with style.styled():
        figure = style.new(6.2 * columns, 5.2 * height)
        axes = figure.subplots(height, columns, squeeze=False)
        for axis, ((data, size, norm, eps), group) in zip(axes.flat, panels, strict=False):
            front = group.sort_values(["clean", "worst"], ascending=False)
            front = front[front.worst > front.worst.cummax().shift(fill_value=-1)]
            axis.plot(
                front.clean, front.worst, color="#999999", linewidth=1, zorder=1, label="_front"
            )
            for _, row in group.sort_values(
                "gflops", ascending=False, kind="stable"
            ).iterrows():  # small points over large ones
                colour = COLOURS[models.index(row.model) % len(COLOURS)]
                arms = [
                    [max(row.worst - row.worst_low, 0)],
                    [max(row.worst_high - row.worst, 0)],
                ]  # rounding below 0 taken out
                axis.errorbar(
                    row.clean, row.worst, yerr=arms, color=colour, alpha=0.25, linewidth=1
                )
                axis.scatter(
                    row.clean,
                    row.worst,
                    s=40 + 260 * row.gflops / table.gflops.max(),
                    marker=(MARKERS + "<>ph*dH8")[defences.index(row.defense) % 15],
                    **outlined(colour),
                    zorder=2,
                )
            axis.set(
                xlim=span(group.clean), ylim=span(pd.concat([group.worst_low, group.worst_high]))
            )
            synthetic = " (synthetic)" if group.synthetic.any() else ""
            axis.set(
                title=(
                    f"{data}{synthetic}, {size} px\n{norm}, {eps}, protocol"
                    f" {group.protocol.iloc[0]}, n = {group.n.iloc[0]}"
                ),
                xlabel="clean accuracy",
            )
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel("robust accuracy, worst case")
        handles = [
            Line2D([], [], color=COLOURS[i % len(COLOURS)], marker="o", linestyle="", label=m)
            for i, m in enumerate(models)
        ]
        handles += [
            Line2D(
                [],
                [],
                color="#555555",
                marker=(MARKERS + "<>ph*dH8")[i % 15],
                linestyle="",
                label=d,
            )
            for i, d in enumerate(defences)
        ]
        handles.append(Line2D([], [], color="#999999", label="Pareto front"))
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=4 if columns == 1 else 6,
            frameon=False,
            title="area: FLOPs",
        )
        style.save(figure, path, path.with_suffix(".svg"))


def span(shares: pd.Series) -> tuple[float, float]:
    """Limits of an axis of shares: at least 0.2 apart so that small differences look small, room
    for the marks at 0 and 1.
    """
    low, high = float(shares.min()) - MARGIN, float(shares.max()) + MARGIN
    missing = max(0.0, NARROWEST - (high - low)) / 2
    low, high = low - missing, high + missing
    shift = max(0.0, -MARGIN - low) - max(0.0, high - 1 - MARGIN)
    return max(-MARGIN, low + shift), min(1 + MARGIN, high + shift)


def _number(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"
