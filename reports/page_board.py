"""The leaderboard's part of the page: a row a victim and threat, and what opens behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from robustbench_med.naming import nature
from robustbench_med.reports import board
from robustbench_med.reports.comparison.metrics import METRICS
from robustbench_med.reports.comparison.table import number
from robustbench_med.reports.marks import flops
from robustbench_med.reports.tables import each
from robustbench_med.store.entry import AttackResult, Entry, ThreatResult

COLUMNS = (
    "rank",
    "victim",
    "worst case",
    "clean",
    "threat",
    "data",
    "decided by",
    "attacks",
    "trust",
    "noise",
    "parameters, M",
    "GFLOPs",
    "defence",
    "paper",
)
FILTERS = ("data", "threat", "defence", "trust")


def rows(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """The rows in the leaderboard's order, with what the table shows and what a click opens."""
    threats = {
        _key(
            entry.id, threat.norm_label, threat.eps, threat.target, threat.protocol, threat.draws
        ): (
            entry,
            threat,
        )
        for entry in found
        for threat in entry.threats
    }
    ranked = board.named(board.frame(found))
    return [
        _row(row, *threats[_key(row.entry, row.norm, row.eps, row.target, row.protocol, row.draws)])
        for row in each(ranked)
    ]


def _key(*parts: object) -> tuple[object, ...]:
    return parts


def _row(row: Any, entry: Entry, threat: ThreatResult) -> dict[str, Any]:
    protocol = "" if row.protocol == "sound" else f", protocol {row.protocol}"
    shown = {
        "rank": None if pd.isna(row.rank) else int(row.rank),
        "victim": row.model,
        "data": f"{row.data}{nature(row.data, synthetic=row.synthetic)}",
        "threat": f"{row.norm} {row.eps}, {row.target}{protocol}",
        "defence": row.defense,
        "trust": row.trust or "-",
        "sign": row.sign,
        "why": row.why,
        **_figures(row),
        "decided_by": row.decided_by,
        "attacks": int(row.attacks),
        "families": row.families,
        "noise": None if pd.isna(row.noise) else float(row.noise),
        "parameters": row.parameters / 1e6,
        "gflops": float(row.gflops),
        "paper": None if pd.isna(row.paper) else row.paper,
        "paper_year": None if pd.isna(row.paper_year) else int(row.paper_year),
        "unranked": row.unranked,
        "benchmark": row.benchmark,
        "marks": row.marks,
    }
    return shown | {
        "facts": [[name, text] for name, text in _facts(row, entry).items() if text],
        "tasks": [
            [
                task.task,
                str(task.n),
                _ends(task.clean, task.clean_interval),
                "-" if task.worst is None else _ends(task.worst, task.worst_interval or ()),
            ]
            for task in threat.by_task
        ],
        "each": [_attack(attack) for attack in threat.attacks],
    }


def _figures(row: Any) -> dict[str, Any]:
    """The worst case and the clean figure: numbers to sort by, and how they are shown; of findings
    AUC, the accuracy beside it.
    """
    metric = METRICS[row.judged_on]
    worst = _with_interval(row, metric.worst_low, metric.worst_high, metric.worst)
    clean = number(getattr(row, metric.clean))
    if row.main_figure == board.AUC and pd.notna(row.worst_auc):
        within = metric.name.removeprefix("robust ")
        return {
            "worst": float(row.worst_auc),
            "worst_text": f"AUC {number(row.worst_auc)}",
            "worst_beside": f"{within} {worst}",
            "clean": float(row.clean_auc),
            "clean_text": f"AUC {number(row.clean_auc)}",
            "clean_beside": f"{within} {clean}",
        }
    return {
        "worst": float(getattr(row, metric.worst)),
        "worst_text": worst,
        "worst_beside": "",
        "clean": float(getattr(row, metric.clean)),
        "clean_text": clean,
        "clean_beside": "",
    }


def _facts(row: Any, entry: Entry) -> dict[str, str]:
    """What opens first when a row is clicked."""
    spread = ""
    if pd.notna(row.worst_std):
        spread = f", ± {row.worst_std:.3f} (standard deviation over {row.trainings} trainings)"
    reported = ""
    if pd.notna(row.reported):
        reported = (
            f"{row.reported:.3f} {row.reported_figure} ({row.reported_setting};"
            f" {row.reported_source}); measured minus reported {row.difference:+.3f}"
        )
    areas = {"worst AUC": number(row.worst_auc), "clean AUC": number(row.clean_auc)}
    weights = [
        f"{one.sha256} ({one.origin}: {entry.about.urls.get(one.sha256[:12], one.file)})"
        for one in entry.victim.weights
    ]
    return {
        "rank": "" if pd.isna(row.rank) else f"{row.rank} of {row.benchmark}",
        "no rank": row.unranked,
        **(areas if row.main_figure == board.AUC else {}),
        "worst-case robust accuracy": _with_interval(row, "worst_low", "worst_high", "worst")
        + spread,
        "worst-case robust balanced accuracy": _with_interval(
            row,
            "worst_balanced_accuracy_low",
            "worst_balanced_accuracy_high",
            "worst_balanced_accuracy",
        ),
        **(areas if row.main_figure != board.AUC else {}),
        "clean accuracy": _with_interval(row, "clean_low", "clean_high", "clean"),
        "noise of the same radius": number(row.noise),
        "reported by its paper": reported,
        "trust": f"{row.trust}: {row.why}" if row.why else row.trust,
        "note": entry.about.note or "",
        "marks": row.marks,
        "samples": f"{row.n} ({row.n_distinct} distinct), {row.size} px, split {entry.data.split}",
        "manifest": ", ".join(entry.data.manifests),
        "paper": _paper(row.paper, row.paper_link, row.paper_year),
        "paper of the defence": _paper(
            row.defense_paper, row.defense_paper_link, row.defense_paper_year
        ),
        "extra data": row.extra_data,
        "handed in by": entry.about.who or "",
        "size": f"{row.parameters:,} parameters, {flops(row.gflops)}, preset {row.preset}",
        "weights": "; ".join(weights),
        "entry": row.entry,
    }


def _paper(title: Any, link: Any, year: Any) -> str:
    if pd.isna(title):
        return ""
    return f"{title}{'' if pd.isna(year) else f' ({int(year)})'}, {link}"


def _attack(attack: AttackResult) -> dict[str, Any]:
    families = ", ".join(attack.families)
    ran = f"search {attack.convergence}" if attack.convergence else "once"
    return {
        "cells": [attack.label, _ends(attack.robust, attack.robust_interval), families, ran],
        "trust": attack.trust or "-",
        "signs": "; ".join(attack.signs) or "-",
        "command": attack.command,
        "record": attack.records[0],
    }


def _with_interval(row: Any, low: str, high: str, figure: str) -> str:
    return _ends(getattr(row, figure), (getattr(row, low), getattr(row, high)))


def _ends(value: float, ends: Sequence[float]) -> str:
    return f"{value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")
