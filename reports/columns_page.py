"""docs/columns.md: `python -m robustbench_med.reports.columns_page > docs/columns.md` writes it."""

from __future__ import annotations

from robustbench_med.reports.columns import COLUMNS

TITLES = {
    "leaderboard": (
        "One row a victim x data x threat model x protocol: the worst case over all attacks that"
        " were run, mean over trainings; real data first, best first within a setting."
    ),
    "cells": (
        "One row a model x data x threat model x attack x protocol, mean over trainings, best"
        " robust accuracy first."
    ),
    "records": (
        "One row a record x task x figure: everything measured, in long form for statistics"
        " software."
    ),
    "cost": "One row a record: passes, seconds, memory. A clock measured some of these.",
    "victims": (
        "One row a trained victim: what it costs. A clock measured the latencies and the training."
    ),
    "per_class": "One row a row of cells.csv x attacked task x class: which disease breaks first.",
    "cross_modal": (
        "One row a model x attacked modality x task, from runs that perturb one modality and aim at"
        " one task."
    ),
    "queries": (
        "One row a record of a black box x number of queries: how robust accuracy falls with them"
        " (queries.png)."
    ),
    "findings": (
        "One row a victim and threat x finding of a multi-label set, over all attacks and aims, and"
        " one of the patients of whom none flipped."
    ),
    "missing": (
        "One row a victim x modality x what is in its place x task, from `--attack missing`:"
        " accuracy with all modalities, without each, with each replaced."
    ),
    "clinical": (
        "One row a record (and `clean` once a victim) x task x class x threshold, from `medrobust"
        " report`: what decisions are worth."
    ),
    "calibration": (
        "One row a record (and `clean` once a victim) x task, from `medrobust report`: how far"
        " confidence can be believed."
    ),
    "corruptions": (
        "One row a victim x kind of corruption x severity, from `medrobust run --attack"
        " corruptions`, mean over trainings and seeds."
    ),
    "corruption_errors": "One row a victim: its errors under all corruptions, the fewest first.",
    "subgroups": (
        "One row a record (and `clean` once a victim) x task x class x [subgroup](clinical.md) that"
        " the card names, from `medrobust report`."
    ),
    "abstention": (
        "One row a record x attacked task, of victims with a [reject option](abstaining.md): what"
        " they answer."
    ),
    "own_threats": (
        "One row a victim x threat of its own, a patch or a universal perturbation, mean over"
        " trainings and seeds."
    ),
    "compare": (
        "One row a model x defence x data x threat model, from `medrobust compare`, mean over"
        " trainings, and the constant answer of each data set and threat."
    ),
    "compare_pairs": "One row a pair of victims of one model or one defence, on the same samples.",
    "compare_left_out": (
        "One row a victim that was asked for and is missing from a comparison; no rows: none is."
    ),
    "certified_tasks": (
        "One row a victim x noise x noised modalities x task, from `medrobust certify`: what is"
        " certified at all."
    ),
    "certified": (
        "One row more a radius: the certified accuracy curve, up to the first radius that the draws"
        " cannot certify."
    ),
}


INTRODUCTION = """\
`medrobust run`, `report`, `compare` and `certify` write these CSV files; rows and columns come in a stable order,
figures with six digits. An empty field means: not measured, or not defined. JSON schemas: of the records behind them
[record.schema.json](record.schema.json), of certificates [certificate.schema.json](certificate.schema.json). This page is
written by `python -m robustbench_med.reports.columns_page > docs/columns.md`."""  # noqa: E501


def page() -> str:
    """docs/columns.md."""
    lines = ["# Columns of the tables", "", INTRODUCTION]
    for table, columns in COLUMNS.items():
        lines += ["", f"## {table}.csv", "", TITLES[table], "", "| column | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {text} |" for name, text in columns.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")
