"""A record's part of the page: what opens when a row of the cells is clicked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from robustbench_med.naming import nature
from robustbench_med.reports import floors
from robustbench_med.reports.marks import flops
from robustbench_med.store.attacks import Sign
from robustbench_med.store.figures import TaskFigures
from robustbench_med.store.record import Record


def details(record: Record) -> dict[str, Any]:
    """What opens when a row is clicked."""
    return {
        "hash": record.hash,
        "facts": list(_facts(record).items()),
        "tasks": [
            [*_task(name, figures), share(floors.accuracy_at(record, t))]
            for t, (name, figures) in enumerate(
                zip(record.names.tasks, record.figures.tasks, strict=True)
            )
        ],
        "diagnostics": [_sign(sign) for sign in record.diagnostics],
        "challenges": [
            [
                challenge.challenger,
                str(challenge.n),
                f"{100 * challenge.taken:.1f}",
                ", ".join(challenge.broken) or "none",
            ]
            for challenge in record.challenges
        ],
        "command": record.command,
        "spec": record.spec.plain(),
        "gallery": [],
        "no_gallery": (
            "No examples here: none were kept, or this page had no room left. `medrobust show"
            f" {record.short} --gallery FILE.png` draws what there is."
        ),
    }


def _facts(record: Record) -> dict[str, str]:
    """What was measured on what, by whom and at what cost."""
    data, seed = record.spec.data, record.spec.victim.train_seed
    kind = nature(data.name, synthetic=record.synthetic)
    fold = f", fold {data.fold.number} of {data.fold.of}" if data.fold else ""
    victim = "random" if record.stochastic else "deterministic"
    training = "unknown (foreign weights)" if seed is None else str(seed)
    versions = record.environment.versions.items()
    return {
        "data": f"{data.name}{kind}{fold}, n = {data.n}, {data.size} px",
        "threat": (
            f"{record.spec.threat.norm_label} {record.eps}, target {' + '.join(record.targets)}"
        ),
        "victim": (
            f"{record.spec.victim.model}, {record.victim.parameters:,} parameters,"
            f" {flops(record.victim.gflops)}, {victim}, {record.draws} draw(s) a prediction"
        ),
        "seeds": f"evaluation {record.spec.seed}, training {training}",
        "passes": (
            f"{record.cost.attack_forward_per_sample:.0f} forward,"
            f" {record.cost.attack_backward_per_sample:.0f} backward per attacked sample"
        ),
        "seconds": f"{record.cost.seconds:.1f} on {record.environment.device}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions),
        **_of_box(record),
        "notes": "; ".join(record.notes) or "none",
    }


def _of_box(record: Record) -> dict[str, str]:
    """What an adaptive attack on a black box was made of, and cannot know; else nothing."""
    search = record.attack_ran.search if record.attack_ran else None
    if search is None or not search.cannot_know:
        return {}
    return {
        "members": "; ".join(f"{one.attack}: {one.why}" for one in search.rounds),
        "left out": "; ".join(f"{name}: {why}" for name, why in search.left_out.items()) or "none",
        "cannot know": "; ".join(search.cannot_know),
    }


def _sign(sign: Sign) -> dict[str, str]:
    """A sign that the attack failed, with advice where it did."""
    advice = "" if sign.verdict == "fine" else sign.advice
    return {"sign": sign.sign, "verdict": sign.verdict, "text": sign.text, "advice": advice}


def _task(name: str, figures: TaskFigures) -> list[str]:
    return [
        name,
        f"{figures.n} ({figures.n_distinct})",
        share(figures.clean, figures.clean_interval),
        share(figures.robust, figures.robust_interval),
        *map(share, (figures.asr, figures.balanced_accuracy, figures.auc)),
    ]


def share(value: float | None, interval: Sequence[float] = ()) -> str:
    """A share with its interval; a dash where there is none."""
    text = "-" if value is None or pd.isna(value) else f"{value:.3f}"
    return f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else text
