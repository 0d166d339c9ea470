"""What the terminal shows of a plan, and its JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.listings import size
from robustbench_med.runs.planned import PlannedCell, PlannedVictim, RunPlan

BOUND = (
    "passes and FLOPs are upper bounds: samples leave an attack once they fall; a time that rests"
    " on passes is one too, a time that rests on records is what like cells took"
)


def shown(plan: RunPlan) -> RenderableType:
    """`medrobust plan`."""
    return Group(_grid(plan), _attacks(plan.to_do), *(Text(line) for line in sentences(plan)))


def sentences(plan: RunPlan) -> list[str]:
    """The sums, a line each."""
    trained = sum(training.seconds or 0.0 for training in plan.trainings)
    states = Counter(cell.state for cell in plan.cells)
    lines = [
        f"cells: {states['done']} done, {states['to do']} to do, {states['failed']} failed before;"
        f" trainings to do: {len(plan.trainings)}",
        f"passes: {plan.passes.forward:,} forward, {plan.passes.backward:,} backward at most,"
        f" {plan.flops / 1e12:,.3g} TFLOPs",
        f"memory of a batch of {plan.batch}: {size(plan.memory)}; disk: {size(plan.disk)}",
        f"time on {plan.device}: {duration(plan.seconds)}, trainings {duration(trained)} of it;"
        f" of {len(plan.to_do)} cells {plan.by_basis('record')} by like records,"
        f" {plan.by_basis('passes')} by timed passes",
    ]
    if plan.jobs > 1:
        lines.append(
            f"with {plan.jobs} workers: {duration(plan.elapsed)}, if each is as fast alone"
        )
    if plan.unknown:
        lines.append(f"the time of {plan.unknown} cells and trainings is not known, and not in it")
    return [*lines, BOUND]


def _grid(plan: RunPlan) -> Table:
    """A row each data set, model and defence."""
    table = Table(title="grid", title_justify="left")
    for name in ("data", "model", "defence"):
        table.add_column(name, overflow="fold")
    for name in ("done", "to do", "failed", "trainings", "time"):
        table.add_column(name, justify="right")
    rows: defaultdict[tuple[str, str, str], list[PlannedVictim]] = defaultdict(list)
    for victim in plan.victims:
        rows[victim.point.data, victim.point.model, victim.point.defense].append(victim)
    for victim in plan.baseline:
        model = f"{victim.point.model} (baseline)"
        rows[victim.point.data, model, victim.point.defense].append(victim)
    for names, victims in rows.items():
        cells = [cell for victim in victims for cell in victim.cells]
        states = Counter(cell.state for cell in cells)
        counts = [str(states[state]) for state in ("done", "to do", "failed")]
        needed = sum(victim.training is not None for victim in victims)
        time = duration(sum(victim.seconds for victim in victims))
        table.add_row(*map(escape, names), *counts, str(needed), time)
    return table


def _attacks(to_do: Sequence[PlannedCell]) -> Table:
    """A row each attack."""
    table = Table(title="attacks to do", title_justify="left")
    table.add_column("attack")
    for name in ("cells", "forward passes", "backward passes", "TFLOPs", "time"):
        table.add_column(name, justify="right")
    by_attack: defaultdict[str, list[PlannedCell]] = defaultdict(list)
    for cell in to_do:
        by_attack[cell.cell.attack].append(cell)
    for attack, cells in by_attack.items():
        known = [cell for cell in cells if cell.passes is not None]
        counts = (
            [
                f"{sum(cell.passes.forward for cell in known if cell.passes):,}",
                f"{sum(cell.passes.backward for cell in known if cell.passes):,}",
                f"{sum(cell.flops or 0 for cell in known) / 1e12:,.3g}",
            ]
            if known
            else ["not known"] * 3
        )
        estimates = [cell.estimate.seconds for cell in cells if cell.estimate]
        time = duration(sum(estimates)) if estimates else "not known"
        table.add_row(escape(attack), str(len(cells)), *counts, time)
    return table


def plain(plan: RunPlan) -> Mapping[str, Any]:
    """The plan as JSON holds it."""
    return {
        "cells_done": sum(cell.state == "done" for cell in plan.cells),
        "cells_to_do": sum(cell.state == "to do" for cell in plan.cells),
        "cells_failed": sum(cell.state == "failed" for cell in plan.cells),
        "trainings": [asdict(training) for training in plan.trainings],
        "forward_passes": plan.passes.forward,
        "backward_passes": plan.passes.backward,
        "flops": plan.flops,
        "seconds": plan.seconds,
        "jobs": plan.jobs,
        "seconds_with_jobs": plan.elapsed,
        "cells_by_records": plan.by_basis("record"),
        "cells_by_passes": plan.by_basis("passes"),
        "unknown_times": plan.unknown,
        "memory_bytes": plan.memory,
        "disk_bytes": plan.disk,
        "batch_size": plan.batch,
        "device": plan.device,
        "cells": [_plain_cell(cell) for cell in plan.cells],
    }


def _plain_cell(planned: PlannedCell) -> dict[str, Any]:
    return {
        **planned.cell.model_dump(mode="json"),
        "state": planned.state,
        "forward_passes": planned.passes and planned.passes.forward,
        "backward_passes": planned.passes and planned.passes.backward,
        "flops": planned.flops,
        "seconds": planned.estimate and planned.estimate.seconds,
        "basis": planned.estimate and planned.estimate.basis,
    }


def duration(seconds: float) -> str:
    """Seconds as `2 d 3 h`, `5 h 12 min`, `3 min 20 s` or `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
