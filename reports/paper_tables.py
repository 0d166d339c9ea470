"""The tables of a paper out of those of the store: models down, attacks or costs across."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from robustbench_med.reports import floors
from robustbench_med.reports.breakdowns import MATRIX
from robustbench_med.reports.paper import (
    AREA,
    TRIVIAL,
    Column,
    Table,
    TableCell,
    data_name,
    judgement,
)
from robustbench_med.reports.tables import by_engine, each, named, victim_names
from robustbench_med.store.record import CONTROL
from robustbench_med.store.words import WORDS


@dataclass(frozen=True)
class _Shown:
    """A figure that the cells are printed by.

    Attributes:
        title: how its caption begins.
        clean, robust: its columns of the cells before and after the attack.
    """

    title: str
    clean: str
    robust: str


SHOWN = (
    _Shown("Robust accuracy", "clean", "robust"),
    _Shown("Robust balanced accuracy", "clean_balanced_accuracy", "balanced_accuracy"),
    _Shown("Robust AUC", "clean_auc", "auc"),
)


def cells(board: pd.DataFrame, by: str | None = None) -> Iterator[Table]:
    """A table a data set, size, n, norm, radius, target and protocol, by robust accuracy, balanced
    accuracy and AUC: a row a victim, a column an attack, the constant answer last.

    Of several settings of one attack the strongest on that victim stands there (lowest robust
    accuracy). Victims attacked by naive attacks alone come behind the others. Where the classes of
    a task are imbalanced no accuracy is the best, but a balanced accuracy.

    Args:
        by: one of the three figures alone: robust, balanced_accuracy or auc.
    """
    setting = ["data", "size", "n", "norm", "target", "protocol", "eps_value", "eps"]
    for _, group in named(board).groupby(setting, sort=True):
        group = group.assign(control=group.attack != CONTROL, victim=victim_names(group))
        by_area = any(map(floors.is_multilabel, group.floor))
        for shown in sorted(SHOWN, key=lambda one: not (by_area and one.robust == "auc")):
            if by in (None, shown.robust) and group[shown.robust].notna().any():
                yield _cells(group, shown)


def _cells(group: pd.DataFrame, shown: _Shown) -> Table:
    """The rows of one setting by one figure."""
    first: Any = group.iloc[0]
    attacks = group.sort_values(["control", "attack", "engine"])[["attack", "engine"]]
    attacks = attacks.drop_duplicates()
    strongest = (
        group.sort_values("robust", kind="stable").groupby(["victim", "attack", "engine"]).head(1)
    )
    ranks = not (shown.robust == "robust" and any(map(floors.is_imbalanced, group.floor)))
    columns = [Column("victim"), Column("clean", "high" if ranks else None)]
    columns += [
        Column(by_engine(c.attack, c.engine), "high" if ranks and c.attack != CONTROL else None)
        for c in each(attacks)
    ]
    several = shown.robust == "robust" and _several_attacks(strongest)
    columns += [Column("worst case", "high" if ranks else None)] * several
    rows = []
    for victim, mine in _honest_first(strongest):
        by_attack = {(r.attack, r.engine): r for r in each(mine)}
        clean: Any = mine.iloc[0]
        trivial = bool(mine.is_trivial.any())
        cells = [TableCell(victim, mark=TRIVIAL if trivial else "")]
        cells.append(
            replace(_with_interval(clean, shown.clean), ranked=not (trivial or mine.is_naive.all()))
        )
        for c in each(attacks):
            row = by_attack.get((c.attack, c.engine))
            cells.append(TableCell(None) if row is None else _robust(row, shown.robust))
        cells += [_worst_case(mine)] if several else []
        rows.append(cells)
    for floor in each(floors.rows(group)):
        constant = TableCell(getattr(floor, shown.robust), ranked=False)
        rows.append([TableCell(floor.model), *[constant] * (len(columns) - 1)])
    caption = (
        f"{shown.title} on {data_name(first)}, {first['size']} px, {first.norm} {first.eps}, target"
        f" {first.target}, protocol {first.protocol}, n = {first.n}"
    )
    caption += _several(strongest.trainings, "mean", "trainings")
    caption += _several(strongest.evaluation_seeds, "mean", "evaluation seeds")
    if any(map(floors.is_multilabel, group.floor)):
        caption += f"; {AREA} findings"
    if several:
        caption += "; worst case: every sample under the attack that harms it most of all run on it"
    if not ranks:
        caption += ". The classes are imbalanced: the table by balanced accuracy says what is best"
    return Table("cells", caption, columns, rows)


def _several_attacks(rows: pd.DataFrame) -> bool:
    """Whether a victim met several attacks that were read together."""
    attacked = rows[(rows.attack != CONTROL) & rows.worst_case.notna()]
    return bool(attacked.victim.duplicated().any())


def _worst_case(rows: pd.DataFrame) -> TableCell:
    """What all attacks of one radius leave of a victim, with the marks of the one that can be
    believed most: what another broke beyond it is in the figure.
    """
    known: list[Any] = [row for row in each(rows) if pd.notna(row.worst_case) and row.trust]
    if not known:
        return TableCell(None)
    best, value = max(known, key=lambda row: WORDS.index(row.trust)), known[0].worst_case
    below = floors.below_floor(value, best.floor, rows.auc.min())
    return TableCell(value, **judgement(best.trust, trivial=best.is_trivial, below=below))


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
                TableCell(None if pd.isna(medians[key]) else medians[key] / unit)
                for key, _, unit, _ in shown
            ]
            rows.append([TableCell(str(model)), *cells])
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
        board: the cells of the same records, which says what is naive or trivial.
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
            cells = [TableCell(victim, mark=TRIVIAL if mine.is_trivial.any() else "")]
            for name in classes:
                found = mine[mine["class"] == name]
                if found.empty:
                    cells.append(TableCell(None))
                else:
                    row: Any = found.iloc[0]
                    cells.append(_robust(row))
            rows.append(cells)
        samples = group.drop_duplicates("class").set_index("class").n
        constant = [TableCell(float(name == samples.idxmax()), ranked=False) for name in classes]
        rows.append([TableCell(floors.CONSTANT), *constant])
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
    for _, group in named(frame).groupby(MATRIX, sort=True):
        first: Any = group.iloc[0]
        tasks = list(dict.fromkeys(group.task))
        rows = []
        for modality, mine in group.groupby("modality", sort=False):
            cells = [TableCell(str(modality))]
            for task in tasks:
                found = mine[mine.task == task]
                cells.append(
                    TableCell(None) if found.empty else _with_interval(found.iloc[0], "robust")
                )
            rows.append(cells)
        by_task = {task: mine.floor.iloc[0] for task, mine in group.groupby("task")}
        if any(by_task.values()):
            constant = [
                TableCell(floor.accuracy if (floor := by_task[task]) else None) for task in tasks
            ]
            rows.append([TableCell(floors.CONSTANT), *constant])
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


def _several(counts: pd.Series, figure: str, what: str) -> str:
    """What a caption says of figures that several trainings or evaluations stand behind."""
    fewest, most = int(counts.min()), int(counts.max())
    return (
        ""
        if most == 1
        else f", {figure} of {most if fewest == most else f'{fewest} to {most}'} {what}"
    )


def _robust(row: Any, figure: str = "robust") -> TableCell:
    """A figure after the attack with its marks, and whether it may be the best."""
    marks = judgement(
        row.trust, naive=row.is_naive, trivial=row.is_trivial, below=row.is_below_floor
    )
    return replace(_with_interval(row, figure), **marks)


def _with_interval(row: Any, figure: str) -> TableCell:
    """A figure with its interval, where it has one."""
    value, low, high = (getattr(row, f"{figure}{end}", None) for end in ("", "_low", "_high"))
    return TableCell(value, None if low is None or high is None or pd.isna(low) else (low, high))


def _judged(frame: pd.DataFrame, board: pd.DataFrame) -> pd.DataFrame:
    """Rows by class, naive or trivial where any row of the cells is that has their name."""
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
