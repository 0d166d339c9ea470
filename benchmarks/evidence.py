"""How much of Robust-MAIL's robustness is real: a section of docs/results.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from studies import DRAWS, FAMILY, QUERIES

from robustbench_med.reports import curves, looks, style, tables
from robustbench_med.reports.comparison import paired
from robustbench_med.reports.comparison.rows import clusters
from robustbench_med.reports.marks import trivial_on
from robustbench_med.store.store import Record, Store

DOCS = Path(__file__).parents[1] / "docs"
Cells = dict[tuple[str, str], Record]
"""Records by victim and column."""


@dataclass(frozen=True)
class Column:
    """Which records stand in a column of the table."""

    attack: str
    protocol: str
    params: dict[str, int] = field(default_factory=dict)


COLUMNS = {
    "release protocol": Column("pgd", "release"),
    **{f"pgd, 10 steps, EOT {n}": Column("pgd", "sound", {"eot": n, "steps": 10}) for n in DRAWS},
    f"pgd, 40 steps, EOT {DRAWS[-1]}": Column("pgd", "sound", {"eot": DRAWS[-1], "steps": 40}),
    "transfer from mail": Column("transfer", "sound"),
    f"square, {QUERIES} queries": Column("square", "sound"),
}


def evidence(folder: Path) -> list[str]:
    """How much of Robust-MAIL's robustness is real: the release protocol's figure beside those of
    sound attacks, and what remains.
    """
    store = Store(folder)
    cells = by_column(store.records())
    lines = ["| victim | clean | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for model in FAMILY:
        of_model = [cell for (victim, _), cell in cells.items() if victim == model]
        clean = np.mean([cell.figures.clean for cell in of_model])
        shown = [interval(cells.get((model, name))) for name in COLUMNS]
        lines.append(f"| {model} | {clean:.3f} | " + " | ".join(shown) + " |")
    lines.append("")
    lines += [remaining(store, cells, model) for model in FAMILY[1:]]
    draw_eot(cells)
    return [*lines, "", "![Robust accuracy against EOT draws](figures/results-eot.png)", ""]


def by_column(records: list[Record]) -> Cells:
    """The records by victim and column."""
    cells: Cells = {}
    for record in records:
        attack, protocol = record.spec.attack, record.spec.protocol.name
        for name, column in COLUMNS.items():
            same = (attack.name, protocol) == (column.attack, column.protocol)
            if same and column.params.items() <= attack.params.items():
                cells[record.spec.victim.model, name] = record
    return cells


def strongest(cells: Cells, model: str, beside: str) -> Record:
    """Of the attacks that both were put to, and of transfer, which the source itself cannot be."""
    both = [
        name
        for name in COLUMNS
        if (model, name) in cells and ((beside, name) in cells or name == "transfer from mail")
    ]
    return min((cells[model, name] for name in both), key=lambda r: float(r.figures.robust))


def remaining(store: Store, cells: Cells, model: str) -> str:
    """What is left of a victim's advantage over mail under the strongest attacks, in a line."""
    apparent = advantage(store, cells[model, "release protocol"], cells["mail", "release protocol"])
    worst, plain = strongest(cells, model, "mail"), strongest(cells, "mail", model)
    real = advantage(store, worst, plain)
    if apparent[0] <= 0:
        left = "there was none to lose"
    elif (share := 100 * max(real[0], 0) / apparent[0]) > 100:
        left = "all of it is left"
    else:
        left = f"{share:.0f} % of it is left"
    sure = "" if real[1] > 0 else ", which may be chance"
    few, many = (cells[model, f"pgd, 10 steps, EOT {n}"].figures.robust for n in DRAWS[-2:])
    falls = f" It still falls from {DRAWS[-2]} to {DRAWS[-1]} draws: more may take more."
    return (
        f"- **{model}**: {points(apparent)} over mail under the release protocol;"
        f" {points(real)} under the strongest attack on each ({how(worst)} against it,"
        f" {how(plain)} against mail): {left}{sure}."
        + (falls if many < few - 0.01 else "")
        + "".join(f" Mind: it is {mark}." for mark in trivial_on([worst]))
    )


def draw_eot(cells: Cells) -> None:
    """The figure of robust accuracy against EOT draws."""
    names = {f"pgd, 10 steps, EOT {n}" for n in DRAWS}
    attacks = tables.cells([record for (_, name), record in cells.items() if name in names])
    with style.styled():
        figure = curves.eot(attacks, looks.looks(FAMILY))
        assert figure is not None
        style.save(figure, DOCS / "figures" / "results-eot.png")


def how(record: Record) -> str:
    """The attack of a record, in words."""
    params = record.spec.attack.params
    if record.spec.protocol.name == "release":
        return "the release protocol's"
    return (
        f"{record.attack_label}, EOT {params['eot']}, {params['steps']} steps"
        if {"eot", "steps"} <= params.keys()
        else record.attack_label
    )


def advantage(store: Store[Record], a: Record, b: Record) -> tuple[float, float, float]:
    """Difference of two victims' robust accuracy on the same samples, in points, with a bootstrap
    interval over patients or images.
    """
    first, second = store.arrays(a), store.arrays(b)
    if not np.array_equal(first["ids"], second["ids"]):
        raise AssertionError("paired victims were measured on different samples")
    known = first["labels"] >= 0
    together = clusters(first)
    difference = (first["robust_right"] - second["robust_right"])[known]
    low, high = paired.bootstrap_difference(difference, together[np.nonzero(known)[0]].tolist())
    return 100 * float(difference.mean()), 100 * low, 100 * high


def points(difference: tuple[float, float, float]) -> str:
    """A difference and its interval."""
    return "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*difference)


def interval(record: Record | None) -> str:
    """Robust accuracy and its interval."""
    if record is None:
        return "-"
    low, high = record.figures.robust_interval
    return f"{record.figures.robust:.3f} [{low:.3f}, {high:.3f}]"
