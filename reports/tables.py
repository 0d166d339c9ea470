"""The cells out of records, and what their rows say: marks, trust, names; pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from robustbench_med.formats.text import cell
from robustbench_med.naming import OWN_THREAT, shown_radius
from robustbench_med.reports import floors, under_training
from robustbench_med.reports.areas import area
from robustbench_med.reports.families import (
    OTHER_WEIGHTS,
    by_fold,
    by_training,
    effective_n,
    evaluation_seeds,
    exact,
    families,
    other_weights,
    over_trainings,
    variants,
    victim_name,
)
from robustbench_med.reports.marks import ABSTAINS, marks, trivial_on
from robustbench_med.statistics import tied, wilson
from robustbench_med.store.attacks import SearchRan
from robustbench_med.store.record import Record
from robustbench_med.store.words import of_family

AVERAGED = ("clean", "robust", "clean_vote", "robust_vote", "asr", "balanced_accuracy")

VALUES = (
    "is_naive",
    "is_trivial",
    "is_unaware",
    "is_defended",
    "is_joint",
    "is_below_floor",
    "is_under_trained",
    "floor",
    "eps_value",
    "trusted",
    "family",
    "settings",
    "alone",
    "brief",
    "apart",
)
"""Columns for code, which reads nothing out of the texts beside them; no file has them (`written`).
"""

COMPARABLE = ["data", "size", "n", "norm", "eps", "target", "attack", "engine", "protocol"]
"""Columns in which rows must agree to be ranked against each other: not the attack's parameters, as
random victims need EOT.
"""


Shortfalls = Mapping[str, Sequence[under_training.Shortfall]]
"""What `under_training.under_trained` finds in a store."""


def cells(
    records: Sequence[Record],
    names: Mapping[str, str] | None = None,
    shortfalls: Shortfalls | None = None,
) -> pd.DataFrame:
    """One row a model x data x threat model x attack, best robust accuracy first; no figure here
    was measured by a clock.

    Rows of naive attacks come after all others.

    Figures are means over trainings, those of each pooled over its evaluation seeds; `robust_std`
    is over trainings (empty for one). Intervals are Wilson 95 % on the effective number of samples
    (`statistics.effective_n`), of all folds together. `rank` counts within the rows of the same
    data, threat, attack and protocol, by robust balanced accuracy where a task's classes are
    imbalanced; rows of naive attacks, failed ones and those below the floor have none and count
    for none.

    Args:
        names: `families.variants` of all records where these are some of them.
        shortfalls: `under_training.under_trained` of all records, the same.
    """
    return ranked(records, names, shortfalls)[0]


def ranked(
    records: Sequence[Record],
    names: Mapping[str, str] | None = None,
    shortfalls: Shortfalls | None = None,
) -> tuple[pd.DataFrame, list[list[Record]]]:
    """The cells, and the records behind each row in the same order."""
    unordered = families(records)
    names, apart = variants(records) if names is None else names, other_weights(records)
    if shortfalls is None:
        shortfalls = under_training.under_trained(records)
    rows = []
    for family in unordered:
        short = under_training.of_family(family, shortfalls)
        row = _row(family, names[family[0].hash], [*_weights(family[0], apart), *short])
        rows.append(row | {"is_under_trained": bool(short)})
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame, []
    alike = ["model", "variant", "data", "size", "n", "norm", "eps", "target", "protocol"]
    called = [str(row) for row in frame[[*alike, "attack", "engine"]].to_numpy().tolist()]
    params = [family[0].attack_params for family in unordered]
    frame["apart"] = params_apart(called, params)
    best_first = ["robust", "clean"]
    keys = ["data", "attack", "norm", "eps", "target", "model", "attack_params", "checkpoint"]
    frame = frame.sort_values(
        [*best_first, *keys], ascending=[False, False] + [True] * len(keys), kind="stable"
    )
    frame = frame.sort_values("is_naive", kind="stable")
    members = [unordered[i] for i in frame.index]
    frame.insert(0, "rank", _ranks(frame).reindex(frame.index))
    return frame.reset_index(drop=True), members


def _ranks(frame: pd.DataFrame) -> pd.Series:
    """The place of every row that may have one, by the figure that its floor says."""
    silent = frame.marks.str.contains(f"(?:^|; ){ABSTAINS}")
    failed = frame.trust == "failed"
    honest = frame[~(frame.is_naive | frame.is_below_floor | silent | failed)]
    imbalanced = honest.floor.map(floors.is_imbalanced).astype(bool)
    imbalanced = imbalanced.groupby([honest[key] for key in COMPARABLE]).transform("any")
    return (
        honest.assign(judged=tied(honest.balanced_accuracy.where(imbalanced, honest.robust)))
        .groupby(COMPARABLE)["judged"]
        .rank(method="min", ascending=False)
        .astype("Int64")
    )


def _row(family: Sequence[Record], variant: str, doubts: Sequence[str]) -> dict[str, Any]:
    first, spec = family[0], family[0].spec
    row = {
        "model": spec.victim.model,
        "data": spec.data.label,
        "synthetic": first.synthetic,
        "norm": spec.threat.norm_label,
        "eps": first.eps,
        "target": first.target,
        "attack": first.attack_label,
        "engine": spec.engine,
        "protocol": spec.protocol.name,
        **_figures(family),
        "draws": first.draws,
        "eot": spec.attack.params.get("eot"),
        "combine": spec.attack.params.get("combine"),
        "loss": spec.attack.params.get("loss"),
        "effort": effort(family),
        **believed(family),
        "marks": "; ".join([*marks(family), *missing_folds(family), *doubts]),
        "parameters": first.victim.parameters,
        "gflops": first.victim.gflops,
        "gmacs": first.victim.gmacs,
        "preset": spec.victim.preset,
        "size": spec.data.size,
        "attack_params": assigned(first.attack_params),
        "checkpoint": spec.victim.checkpoint,
        "variant": variant,
        **row_values(family),
    }
    for t, name in enumerate(first.names.tasks):
        row |= {
            f"task_{t}": name,
            f"clean_{t}": _mean(over_trainings(family, _of_task(t, "clean"))),
            f"robust_{t}": _mean(over_trainings(family, _of_task(t, "robust"))),
        }
    return row


def effort(family: Sequence[Record]) -> str:
    """How the searches of a row went; empty where the attack ran once."""
    return "; ".join(dict.fromkeys(map(told, searches(family))))


def searches(family: Sequence[Record]) -> list[SearchRan]:
    """The searches that the attack of a row began."""
    return [ran.search for record in family if (ran := record.attack_ran) and ran.search]


def told(ran: SearchRan) -> str:
    """How a search went, in words."""
    passes, queries = (ran.rounds[-1].passes, ran.rounds[-1].queries) if ran.rounds else (0, 0)
    asked = [f"{passes:.0f} passes"] if ran.rounds and (passes or not queries) else []
    asked += [f"{queries:.0f} queries"] if queries else []
    cost = f" after {' and '.join(asked)}" if asked else ""
    following = "" if ran.next_passes is None else f"; try --max-passes {ran.next_passes}"
    return f"{ran.effort}: {ran.outcome}{cost}{following}"


def _figures(family: Sequence[Record]) -> dict[str, Any]:
    """Counts, and figures with their intervals: means over trainings."""
    tasks, folds = family[0].spec.threat.tasks, by_fold(family)
    mean = {key: _mean(over_trainings(family, attrgetter(f"figures.{key}"))) for key in AVERAGED}
    robust = over_trainings(family, lambda record: exact(record, "robust"))
    mean["robust"] = _mean(robust)
    mean["clean"] = _mean(over_trainings(family, lambda record: exact(record, "clean")))
    n_clean = min(effective_n(family, _independent(t, "clean")) for t in tasks)
    n_robust = min(effective_n(family, _independent(t, "robust")) for t in tasks)
    clean_low, clean_high = wilson(mean["clean"] or 0.0, n_clean)
    robust_low, robust_high = wilson(mean["robust"] or 0.0, n_robust)
    return {
        "n": sum(record.spec.data.n for record in folds),
        "n_distinct": min(
            sum(record.figures.tasks[t].n_distinct for record in folds) for t in tasks
        ),
        "clean": mean["clean"],
        "clean_low": clean_low,
        "clean_high": clean_high,
        "clean_balanced_accuracy": _mean(over_trainings(family, _clean_balanced_accuracy)),
        "clean_auc": _mean(over_trainings(family, lambda record: area(record, "clean"))),
        "robust": mean["robust"],
        "robust_low": robust_low,
        "robust_high": robust_high,
        "worst_case": _mean(over_trainings(family, lambda record: record.trust.worst_case)),
        "robust_std": float(np.std(robust, ddof=1)) if len(robust) > 1 else None,
        "trainings": len(by_training(family)),
        "evaluation_seeds": evaluation_seeds(family),
        "folds": len(folds),
        "n_effective": n_robust,
        "asr": mean["asr"],
        "balanced_accuracy": mean["balanced_accuracy"],
        "auc": _robust_auc(family),
        "clean_vote": mean["clean_vote"],
        "robust_vote": mean["robust_vote"],
        "minimal_norm_median": _mean(over_trainings(family, _median_norm)),
    }


def missing_folds(family: Sequence[Record]) -> list[str]:
    """A mark where folds of a cross-validation are not there."""
    fold, there = family[0].spec.data.fold, len(by_fold(family))
    if fold is None or there == fold.of:
        return []
    return [f"{fold.of - there} of {fold.of} folds missing"]


def _weights(record: Record, apart: Set[str]) -> list[str]:
    """The weights of a victim whose training seed has several."""
    return [f"{OTHER_WEIGHTS}: {record.spec.victim.checkpoint}"] if record.hash in apart else []


def row_values(family: Sequence[Record]) -> dict[str, Any]:
    """The columns VALUES of a family: what is wrong with its figures, what was attacked, and how
    far.

    `eps_value`: the largest radius; `trusted`: modalities without one where others have one;
    `settings`: the attack's but for EOT.
    """
    first, spec, floor = family[0], family[0].spec, floors.of(family)
    return {
        "is_naive": first.naive,
        "is_trivial": bool(trivial_on(family)),
        "is_unaware": first.unaware,
        "is_defended": bool(spec.victim.defense),
        "is_joint": first.joint,
        "is_below_floor": floors.below_floor(_robust(family), floor, _robust_auc(family)),
        "floor": floor,
        "eps_value": shown_radius(max(spec.threat.radii)),
        "trusted": first.trusted,
        "family": first.architecture,
        "settings": assigned({k: v for k, v in spec.attack.params.items() if k != "eot"}),
    }


def written(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as files and users get it: the columns that columns.py describes."""
    return frame.drop(columns=frame.columns.intersection(list(VALUES)))


def csv(frame: pd.DataFrame) -> str:
    """CSV with figures to six digits, below which float32 kernels disagree, and text as `cell`s."""
    shown = written(frame).rename(columns=cell)
    shown = shown.apply(lambda column: column if is_numeric_dtype(column) else column.map(cell))
    return str(shown.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def params_apart(names: Sequence[str], params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of attacks of one name, the parameters in which they differ, as `eot=4 steps=20`; else empty.

    Args:
        names: what rows call their attacks, with whatever else they agree in.
        params: of each.
    """
    found = []
    for name, mine in zip(names, params, strict=True):
        alike = [other for n, other in zip(names, params, strict=True) if n == name]
        keys = {k for other in alike for k in other if len({str(o.get(k)) for o in alike}) > 1}
        found.append(assigned({k: v for k, v in mine.items() if k in keys}))
    return found


def assigned(params: Mapping[str, Any]) -> str:
    """Parameters in one cell, as `eot=4 steps=20`."""
    return " ".join(f"{k}={v}" for k, v in sorted(params.items()))


def _of_task(t: int, name: Literal["clean", "robust"]) -> Callable[[Record], float]:
    return lambda record: float(getattr(record.figures.tasks[t], name))


def _independent(t: int, name: Literal["clean", "robust"]) -> Callable[[Record], float]:
    return lambda record: record.figures.tasks[t].independent(name)


def _clean_balanced_accuracy(record: Record) -> float:
    """The mean over the attacked tasks."""
    tasks = record.spec.threat.tasks
    return float(np.mean([record.figures.tasks[t].clean_balanced_accuracy for t in tasks]))


def _robust_auc(family: Sequence[Record]) -> float | None:
    return _mean(over_trainings(family, lambda record: area(record, "robust")))


def _robust(family: Sequence[Record]) -> float:
    return float(np.mean(over_trainings(family, lambda record: exact(record, "robust"))))


def _median_norm(record: Record) -> float | None:
    minimal = record.figures.minimal_norm
    return None if minimal is None else minimal.median


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def believed(family: Sequence[Record]) -> dict[str, str]:
    """The columns `trust`, `why` and `brief`, of the record of a family that can be believed least;
    empty where it gets no word.
    """
    worst = of_family(family)
    return {"trust": worst.word or "", "why": worst.because, "brief": worst.brief}


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """A table for readers: victims that share a name are told apart in its column `model`, by what
    `variant` holds.
    """
    if frame.empty:
        return frame
    shown = [
        victim_name(model, variant)
        for model, variant in zip(frame.model, frame.variant, strict=True)
    ]
    return frame.assign(model=shown, variant="")


def victim_names(group: pd.DataFrame) -> list[str]:
    """A model's name, with its checkpoint where the table holds several of that name."""
    several = group.groupby("model").checkpoint.nunique()
    return [
        f"{m} {c}" if several[m] > 1 else str(m)
        for m, c in zip(group.model, group.checkpoint, strict=True)
    ]


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples, their fields of any type (pandas-stubs makes each a union of
    twenty).
    """
    return iter(frame.itertuples())


def by_engine(attack: str, engine: str) -> str:
    """An attack's name, with the engine that computed it where that is another library."""
    return attack if engine in ("native", OWN_THREAT) else f"{attack} ({engine})"
