"""Parts of a model card: the code that loads the weights, the training curve, the worst cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robustbench_med import naming
from robustbench_med.reports import tables
from robustbench_med.reports.paper import escaped
from robustbench_med.store.record import CONTROL, Record

POINTS = 8
"""Rows of a training curve at most, besides the last."""


def loading(record: Record) -> list[str]:
    """Python that loads the victim of a record and runs it on one sample."""
    victim, data = record.spec.victim, record.spec.data
    preset = f", preset={victim.preset!r}" if victim.preset else ""
    unverified = ", accept_unverified=True" if record.unverified else ""
    lie = "" if record.synthetic else "  # data_root=FOLDER: where its files lie"
    arguments: dict[str, Any] = {"preset": victim.preset}
    if victim.params:
        arguments["params"] = dict(victim.params)
    if victim.defense:
        arguments["defense"] = "+".join(layer.name for layer in victim.defense)
        arguments["defense_params"] = {
            f"{layer.name}.{key}": value
            for layer in victim.defense
            for key, value in layer.params.items()
        }
    if record.victim.origin == "zoo":
        arguments["seed"] = victim.train_seed
    else:
        arguments["checkpoint"] = record.victim.checkpoint
    told = [f"    {key}={value!r}," for key, value in arguments.items() if value not in ({}, None)]
    logits = ", ".join(f"(1, {len(classes)})" for classes in record.names.classes)
    return [
        "import torch",
        "",
        "from robustbench_med import load_data, load_model",
        "",
        f"data = load_data({data.name!r}{preset}, size={data.size}{unverified}){lie}",
        "model = load_model(",
        f"    {naming.label(record.architecture)!r},",
        "    data=data,",
        *told,
        ")",
        f"channels = {data.channels!r}  # of {', '.join(record.names.modalities)}",
        f"images = [torch.rand(1, c, {data.size}, {data.size}) for c in channels]  # in 0..1",
        f"logits = model(*images)  # {', '.join(record.names.tasks)}: {logits}",
    ]


def training_curve(history: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a table of losses and validation figures by step, thinned out to about
    POINTS of them, the last one always.
    """
    columns = list(dict.fromkeys(key for row in history for key in row))
    every = -(-len(history) // POINTS)
    kept = [*history[:-1][every - 1 :: every], *history[-1:]]
    return [column.replace("_", " ") for column in columns], [
        [_shown(row.get(column)) for column in columns] for row in kept
    ]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def worst_cases(board: pd.DataFrame) -> list[str]:
    """A line a data set and threat: what the attacks leave together, and which harmed most.

    Args:
        board: the cells of one victim; those that are naive or controls are no case.
    """
    honest = board[(board.attack != CONTROL) & ~board.is_naive]
    keys = ["data", "norm", "target", "eps_value", "eps", "protocol", "n"]
    lines = []
    for _, group in honest.groupby(keys, sort=True):
        row = next(tables.each(group.sort_values("robust", kind="stable")))
        left = row.robust if pd.isna(row.worst_case) else min(row.worst_case, row.robust)
        case = f"{row.data}, {row.norm} {row.eps}, target {row.target}"
        attacks = f"{len(group)} attack{'s' * (len(group) > 1)}, {row.attack} the strongest"
        lines.append(
            f"{escaped(case)}: **{left:.3f}** of {row.clean:.3f} clean, {escaped(attacks)},"
            f" {row.trust or 'no word of trust'}"
        )
    return lines
