"""The leaderboard: one row a victim and threat out of entries, ranked within a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from robustbench_med.naming import BY_INDEX, by_index, shown_radius
from robustbench_med.reports import floors, under_training
from robustbench_med.reports.entries import entries
from robustbench_med.reports.families import victim_name
from robustbench_med.reports.marks import ABSTAINS
from robustbench_med.reports.tables import Shortfalls
from robustbench_med.statistics import tied
from robustbench_med.store.benchmark import UNVERIFIED, benchmark_of
from robustbench_med.store.entry import AttackResult, Entry, Paper, Reported, ThreatResult
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

SETTING = ["synthetic", "benchmark", "data", "size", "n", "norm", "eps_value", "eps", "target"]
"""Columns that put rows side by side, in the order of the board: real data first."""
COMPARABLE = [*SETTING, "protocol"]
"""Columns in which rows must agree to be ranked against each other."""
AUC = "auc"
"""The main figure of findings of a multi-label set, in `main_figure`."""
NO_BENCHMARK = "in no benchmark"


def leaderboard(
    records: Sequence[Record],
    store: Store[Record],
    *,
    among: Sequence[Record] | None = None,
    shortfalls: Shortfalls | None = None,
) -> pd.DataFrame:
    """The board of records; see `frame`.

    Args:
        records: what it shows, read with their trust (`floors.read`).
        store: where their outcomes lie.
        among: all records of the store where these are some of them.
        shortfalls: `under_training.under_trained` of all records of the store.
    """
    every = records if among is None else among
    if shortfalls is None:
        shortfalls = under_training.under_trained(every)
    return frame(entries(records, store, among=every, shortfalls=shortfalls))


def frame(found: Sequence[Entry]) -> pd.DataFrame:
    """One row a victim and threat, as columns.py describes it; no figure was measured by a clock.

    Real data come before synthetic ones; within a setting the best comes first, by the figure that
    its classes allow (`floors.judged_metric`). `rank` counts within a benchmark the rows whose
    attacks hold its reference set; `unranked` says what the others lack.
    """
    return placed(found)[0]


def placed(found: Sequence[Entry]) -> tuple[pd.DataFrame, list[int]]:
    """The leaderboard, and of each row which of the threats of all entries, one after another, it
    is of.
    """
    rows = [_row(entry, threat) for entry in found for threat in entry.threats]
    board = pd.DataFrame(rows)
    if board.empty:
        return board, []
    imbalanced = board.groupby(COMPARABLE, dropna=False)["is_imbalanced"].transform("any")
    board["judged_on"] = imbalanced.map({True: "balanced_accuracy", False: "robust"})
    board["main_figure"] = board.main_figure.where(board.main_figure == AUC, board.judged_on)
    judged = board.worst_balanced_accuracy.where(imbalanced, board.worst)
    board = board.assign(judged=tied(judged), is_unnamed=board.benchmark == "")
    order = ["synthetic", "is_unnamed", *SETTING[1:], "is_naive", "judged", "clean", "model"]
    order += ["variant", "protocol", "entry"]
    rising = [key not in ("judged", "clean") for key in order]
    board = board.sort_values(order, ascending=rising, kind="stable")
    behind = board.index.tolist()
    board = board.reset_index(drop=True)
    ranked = board[board.unranked == ""]
    ranks = ranked.groupby(COMPARABLE).judged.rank(method="min", ascending=False)
    board.insert(0, "rank", ranks.astype("Int64").reindex(board.index))
    return board.drop(columns=["judged", "is_unnamed", "is_imbalanced"]), behind


def _row(entry: Entry, threat: ThreatResult) -> dict[str, Any]:
    victim, data, worst = entry.victim, entry.data, threat.worst
    benchmark = benchmark_of(data, threat)
    below = floors.BELOW in threat.marks
    marks = [*(["synthetic data"] if data.synthetic else []), *threat.marks]
    marks[int(data.synthetic) : int(data.synthetic)] = [BY_INDEX] if by_index(data.name) else []
    clean_low, clean_high = threat.clean_interval
    return {
        "model": victim.model,
        "defense": "+".join(layer.name for layer in victim.defense) or "none",
        "data": data.label,
        "synthetic": data.synthetic,
        "norm": threat.norm_label,
        "eps": threat.eps,
        "target": threat.target,
        "protocol": threat.protocol,
        "benchmark": "" if benchmark is None else benchmark.name,
        "unranked": _unranked(entry, threat, below=below),
        "n": data.n,
        "n_distinct": data.n_distinct,
        "main_figure": AUC if threat.multilabel else "",
        "clean": threat.clean,
        "clean_low": clean_low,
        "clean_high": clean_high,
        "clean_balanced_accuracy": threat.clean_balanced_accuracy,
        "clean_auc": threat.clean_auc,
        **worst.plain(),
        "decided_by": threat.decided_by,
        "attacks": len(threat.attacks),
        "each_attack": "; ".join(f"{one.label} {one.robust:.3f}" for one in threat.attacks),
        "families": ", ".join(sorted({kind for one in threat.attacks for kind in one.families})),
        "convergence": _convergence(threat.attacks),
        "noise": threat.noise,
        "trust": threat.trust or "",
        "sign": threat.brief,
        "why": threat.why,
        "marks": "; ".join(marks),
        "trainings": threat.trainings,
        "evaluation_seeds": len(threat.evaluation_seeds),
        "folds": data.folds,
        **_reported(entry.about.reported, threat),
        "parameters": victim.parameters,
        "gflops": victim.gflops,
        "gmacs": victim.gmacs,
        "preset": victim.preset,
        "size": data.size,
        "draws": threat.draws,
        "extra_data": _extra_data(entry),
        **_papers(entry),
        "checkpoint": entry.checkpoint,
        "variant": victim.variant,
        "entry": entry.id,
        "is_naive": threat.naive,
        "is_trivial": threat.trivial,
        "is_below_floor": below,
        "is_imbalanced": threat.imbalanced,
        "floor": _floor(threat),
        "eps_value": shown_radius(max(threat.radii)),
        "family": victim.architecture,
    }


def _floor(threat: ThreatResult) -> floors.Floor | None:
    if threat.floor_accuracy is None or threat.floor_balanced_accuracy is None:
        return None
    return floors.Floor(
        threat.floor_accuracy,
        threat.floor_balanced_accuracy,
        imbalanced=threat.imbalanced,
        multilabel=threat.multilabel,
    )


def _unranked(entry: Entry, threat: ThreatResult, *, below: bool) -> str:
    """Why a row has no rank; empty where it has one."""
    benchmark = benchmark_of(entry.data, threat)
    reasons = [NO_BENCHMARK] if benchmark is None else []
    if benchmark is not None:
        missing = benchmark.missing(entry.data, threat)
        lacks = [one for one in missing if one != UNVERIFIED]
        reasons += [UNVERIFIED] if UNVERIFIED in missing else []
        reasons += [f"lacks {', '.join(lacks)}"] if lacks else []
    reasons += [ABSTAINS] if any(mark.startswith(ABSTAINS) for mark in threat.marks) else []
    reasons += ["naive attacks alone"] if threat.naive else []
    reasons += ["its trust failed"] if threat.trust == "failed" else []
    return "; ".join([*reasons, *([floors.BELOW] if below else [])])


def _convergence(attacks: Sequence[AttackResult]) -> str:
    """How the search for the strongest attack ended, of several the one that says most."""
    outcomes = {attack.convergence for attack in attacks}
    known = [each for each in ("converged", "spent", "capped") if each in outcomes]
    return known[0] if known else ""


def _reported(reported: Sequence[Reported], threat: ThreatResult) -> dict[str, Any]:
    """What the victim's paper reports under this threat, and how far the measured figure is from
    it.
    """
    fits = [
        one for one in reported if one.norm in (None, threat.norm) and one.eps in (None, threat.eps)
    ]
    by_figure = {one.figure: one for one in reversed(fits)}
    one = by_figure.get("robust", by_figure.get("clean"))
    if one is None:
        keys = ("reported", "reported_figure", "difference", "reported_setting", "reported_source")
        return dict.fromkeys(keys)
    measured = threat.worst.worst if one.figure == "robust" else threat.clean
    return {
        "reported": one.value,
        "reported_figure": one.figure,
        "difference": measured - one.value,
        "reported_setting": one.setting,
        "reported_source": one.source,
    }


def _extra_data(entry: Entry) -> str:
    foreign = any(weights.train_seed is None for weights in entry.victim.weights)
    return entry.about.extra_data or ("not known" if foreign else "none")


@cache
def known_papers() -> Mapping[str, Mapping[str, Paper]]:
    """Papers of medrobust's own models and defences, by `models` and `defenses` and the name."""
    text = (files("robustbench_med.reports") / "papers.yaml").read_text(encoding="utf-8")
    return {
        kind: {name: Paper.model_validate(paper) for name, paper in papers.items()}
        for kind, papers in yaml.safe_load(text).items()
    }


def _papers(entry: Entry) -> dict[str, Any]:
    """The papers of the model and of its defence: the entry's own, else those known; of a chain
    that of its first layer.
    """
    known, layers = known_papers(), entry.victim.defense
    of_layers = [known["defenses"].get(layer.name) for layer in layers]
    model = entry.about.paper or known["models"].get(entry.victim.architecture)
    defense = entry.about.defense_paper or next(filter(None, of_layers), None)
    return dict(_cells("paper", model)) | dict(_cells("defense_paper", defense))


def _cells(name: str, paper: Paper | None) -> Iterator[tuple[str, Any]]:
    yield name, paper.title if paper else None
    yield f"{name}_link", paper.link if paper else None
    yield f"{name}_year", paper.year if paper else None


def named(board: pd.DataFrame) -> pd.DataFrame:
    """The board for readers: victims that share a name are told apart in its column `model`."""
    if board.empty:
        return board
    both = zip(board.model, board.variant, strict=True)
    return board.assign(model=[victim_name(model, variant) for model, variant in both])
