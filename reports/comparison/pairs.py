"""What a comparison measured: a row a victim, and victims two by two on the same samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.naming import canonical_hash
from robustbench_med.reports.families import groups_of
from robustbench_med.reports.tables import TRUST, doubts, trivial_on, trust
from robustbench_med.store.parts import DataSpec
from robustbench_med.store.record import CONTROL, TrainingFacts
from robustbench_med.store.store import Record, Store

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Row:
    """One model with one defence on one data set under one threat: figures, and per unit what the
    paired statistics need.
    """

    figures: dict[str, Any]
    worst: NDArray[np.float64]
    """(units,) worst-case fraction right of every labelled (sample, attacked task), mean over
    trainings.
    """
    first: NDArray[np.float64]
    """The same of the first seed alone: McNemar's test takes each patient once, with one victim."""
    units: tuple[str, ...]
    clusters: tuple[int, ...]
    """The patient or image behind each unit (`clusters`): units that share it are resampled
    together.
    """


def rows_of(entry: Mapping[str, Any], store: Store[Record]) -> list[Row]:
    """One row a data set and threat model of an entry."""
    groups: dict[str, list[Record]] = {}
    for record in entry["records"]:
        groups.setdefault(_setting(record), []).append(record)
    naive: dict[str, list[Record]] = {}
    for record in entry["naive"]:
        naive.setdefault(_setting(record), []).append(record)
    return [_row(entry, records, naive.get(key, []), store) for key, records in groups.items()]


def _setting(record: Record) -> str:
    return canonical_hash({"data": record.spec.data.plain(), "threat": record.spec.threat.plain()})


def _data(data: DataSpec) -> str:
    """The data set, with the one fold of a cross-validation that was compared on."""
    return data.name + (f" (fold {data.fold.number} of {data.fold.of})" if data.fold else "")


def _row(
    entry: Mapping[str, Any],
    records: Sequence[Record],
    naive: Sequence[Record],
    store: Store[Record],
) -> Row:
    first = records[0]
    spec, victim = first.spec, first.victim
    tasks = spec.threat.tasks
    attacks = list(dict.fromkeys(record.attack_label for record in records))
    real = [attack for attack in attacks if attack != CONTROL]
    by_seed: dict[tuple[int | None, int], dict[str, Record]] = {}
    for record in records:
        key = (record.spec.victim.train_seed, record.spec.seed)
        by_seed.setdefault(key, {})[record.attack_label] = record
    measured = [record for record in records if record.attack_label in real]
    arrays = store.arrays(first)
    known = arrays["labels"][:, tasks] >= 0
    of_training: dict[int | None, list[statistics.Floats]] = {}
    for (train_seed, _), of_seed in by_seed.items():
        rights = [store.arrays(of_seed[attack])["robust_right"][:, tasks] for attack in real]
        of_training.setdefault(train_seed, []).append(
            statistics.worst_case(rights, known, first.draws)
        )
    worst = [np.mean(of_seeds, 0) for of_seeds in of_training.values()]
    mean = np.mean(worst, 0)
    per_task = [float(mean[known[:, i], i].mean()) for i in range(len(tasks))]
    distinct = [first.figures.tasks[t].n_distinct for t in tasks]
    n = min(
        _independent(mean[known[:, i], i], known[:, i], arrays, t, distinct[i])
        for i, t in enumerate(tasks)
    )
    rate = float(np.mean(per_task))
    low, high = statistics.wilson(rate, n)
    training = victim.training
    sample, task = np.nonzero(known)
    together = clusters(arrays)
    figures = {
        "model": entry["model"],
        "defense": entry["defense"],
        "victim": spec.victim.model,
        "data": _data(spec.data),
        "synthetic": first.synthetic,
        "size": spec.data.size,
        "norm": spec.threat.norm,
        "eps": first.eps,
        "protocol": spec.protocol.name,
        "n": spec.data.n,
        "n_distinct": min(distinct),
        "trainings": len(of_training),
        "evaluation_seeds": min(map(len, of_training.values())),
        "clean": float(np.mean([r.figures.clean for r in records])),
        **{
            a: float(np.mean([r.figures.robust for r in records if r.attack_label == a]))
            for a in attacks
        },
        "worst": rate,
        "worst_low": low,
        "worst_high": high,
        "worst_std": (
            float(np.std([w[known].mean() for w in worst], ddof=1)) if len(worst) > 1 else None
        ),
        "naive": float(np.mean([r.figures.robust for r in naive])) if naive else None,
        "naive_attack": naive[0].attack_label if naive else None,
        "naive_how": _how(naive[0]) if naive else None,
        "draws": first.draws,
        "eot": next(
            (r.spec.attack.params.get("eot") for r in records if r.attack_label in real),
            None,
        ),
        "gflops": victim.gflops,
        "latency_ms": victim.latency_ms,
        "parameters": victim.parameters,
        "training_gflops": (
            training and training.steps * training.batch_size * _passes(training) * victim.gflops
        ),
        "training_seconds": training and training.seconds,
        "trust": trust(measured),
        "worst_sign": _worst_sign(measured),
        "marks": "; ".join(doubts(records)),
        "is_trivial": bool(trivial_on(records)),
    }
    return Row(
        figures,
        mean[known],
        np.asarray(next(iter(of_training.values()))[0][known]),
        tuple(f"{arrays['ids'][s]}/{t}" for s, t in zip(sample, task, strict=True)),
        tuple(together[sample].tolist()),
    )


def _independent(
    right: NDArray[Any],
    known: NDArray[np.bool_],
    arrays: Mapping[str, NDArray[Any]],
    t: int,
    distinct: int,
) -> float:
    """Independent samples that the labelled ones of task t are worth."""
    groups = groups_of(arrays, t)
    return (
        distinct if groups is None else min(statistics.effective_n(right, groups[known]), distinct)
    )


def clusters(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Of every sample, the patient (or image, where the card names none) in the set of the pairing
    that has fewest.

    Samples that share one are resampled together. Older outcomes know their images by id alone.
    """
    by_task = [
        groups
        for t in range(arrays["labels"].shape[1])
        if (groups := groups_of(arrays, t)) is not None
    ]
    parts = by_task or list(np.array([str(i).split("+") for i in arrays["ids"]]).T)
    index = [np.unique(part, return_inverse=True)[1] for part in parts]
    return min(index, key=lambda codes: int(codes.max()))


def _passes(training: TrainingFacts) -> int:
    """In forward ones: a backward pass to the input costs one, to the weights too two. Older
    records count both kinds as the latter.
    """
    return int(training.forward + training.inner + 2 * training.backward)


def _how(record: Record) -> str:
    """What is naive about an attack: the authors' release protocol on a random victim, or not
    knowing of an input transform.
    """
    return "release" if record.spec.protocol.name == "release" else "unaware"


def _worst_sign(records: Sequence[Record]) -> str:
    """The sign behind the worst trust verdict; empty where all is well or nothing was checked."""
    signs = [sign for record in records for sign in record.diagnostics if sign.verdict != "pass"]
    return str(min(signs, key=lambda sign: TRUST.index(sign.verdict)).sign) if signs else ""


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Adds costs relative to the undefended model: `training_x`, `inference_x` (FLOPs) and
    `latency_x` (a clock's).
    """
    keys = ["model", "data", "size", "norm", "eps"]
    base = table[table.defense == "none"].set_index(keys)[
        ["training_gflops", "gflops", "latency_ms"]
    ]
    plain = table[keys].merge(base, left_on=keys, right_index=True, how="left", validate="m:1")
    pairs_of = (
        ("training_x", "training_gflops"),
        ("inference_x", "gflops"),
        ("latency_x", "latency_ms"),
    )
    return table.assign(
        **{name: pd.to_numeric(table[key]) / pd.to_numeric(plain[key]) for name, key in pairs_of}
    )


def attacks(table: pd.DataFrame) -> list[str]:
    """The attacks of a comparison's table, a column each."""
    names = list(table.columns)
    return names[names.index("clean") + 1 : names.index("worst")]


def pairs(rows: Sequence[Row]) -> pd.DataFrame:
    """Victims of one model, or under one defence, two by two on the same samples: McNemar with
    Holm's correction, bootstrap interval.

    A unit is one task of one sample; for McNemar (the first seed alone) it is right when its
    worst-case fraction is above one half, and a patient or image counts once, for the victim that
    is right on more of its units. `difference` is a minus b in worst-case robust accuracy, its
    interval a bootstrap over patients or images.
    """
    found = []
    for a, b in itertools.combinations(rows, 2):
        same = all(a.figures[key] == b.figures[key] for key in ("data", "size", "norm", "eps", "n"))
        if not same or (
            a.figures["model"] != b.figures["model"]
            and a.figures["defense"] != b.figures["defense"]
        ):
            continue
        if a.units != b.units:
            raise AssertionError("paired victims were measured on different samples")
        difference = a.worst - b.worst
        low, high = statistics.bootstrap_difference(difference, a.clusters)
        found.append(
            {
                **{key: a.figures[key] for key in ("data", "norm", "eps")},
                **{
                    f"{key}_{side}": row.figures[key]
                    for side, row in (("a", a), ("b", b))
                    for key in ("model", "defense")
                },
                "difference": float(difference.mean()),
                "low": low,
                "high": high,
                "p": statistics.mcnemar(a.first > 0.5, b.first > 0.5, a.clusters),
                "n": len(difference),
            }
        )
    frame = pd.DataFrame(found)
    if not frame.empty:
        frame["p_holm"] = statistics.holm(list(frame.p))
    return frame
