"""Tables out of records: the leaderboard, the long form, and what things cost. Pure functions of
the store's content.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd

from robustbench_med.naming import radius_label, shown_radius
from robustbench_med.reports.families import (
    OTHER_WEIGHTS,
    SHORT,
    by_fold,
    by_training,
    data_name,
    effective,
    effective_n,
    evaluation_seeds,
    families,
    other_weights,
    over_trainings,
    variants,
    victim_name,
)
from robustbench_med.statistics import wilson
from robustbench_med.store.store import Record

TRUST = ("fail", "warn", "not checked", "pass")
"""Verdicts on a record, worst first; records made before there were diagnostics were not checked.
"""

AVERAGED = ("clean", "robust", "clean_vote", "robust_vote", "asr", "balanced_accuracy", "auc")

NAIVE = ("naive attack on a random model", "attacker unaware of the input transform")
"""Marks of rows whose attack ignored the defence: their robust accuracy is an over-estimate and
gets no rank.
"""

VALUES = (
    "is_naive",
    "is_trivial",
    "is_unaware",
    "is_defended",
    "is_joint",
    "eps_value",
    "trusted",
    "family",
    "settings",
    "alone",
)
"""Columns for code, which reads nothing out of the texts beside them; no file has them (`written`).
"""

COMPARABLE = ["data", "size", "n", "norm", "eps", "target", "attack", "engine", "protocol"]
"""Columns in which rows must agree to be ranked against each other: not the attack's parameters, as
random victims need EOT.
"""


def leaderboard(records: Sequence[Record], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a model x data x threat model x attack, best robust accuracy first; no figure here
    was measured by a clock.

    Rows of naive attacks come after all others.

    Figures are means over trainings, those of each pooled over its evaluation seeds; `robust_std`
    is over trainings (empty for one). Intervals are Wilson 95 % on the effective number of samples
    (`statistics.effective_n`), of all folds together. `rank` counts within the rows of the same
    data, threat, attack and protocol; rows of naive attacks have none and count for none.

    Args:
        names: `families.variants` of all records where these are some of them.
    """
    return ranked(records, names)[0]


def ranked(
    records: Sequence[Record], names: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, list[list[Record]]]:
    """The leaderboard, and the records behind each of its rows in the same order."""
    found = families(records)
    names, apart = variants(records) if names is None else names, other_weights(records)
    frame = pd.DataFrame([_row(family, names[family[0]["hash"]], apart) for family in found])
    if frame.empty:
        return frame, []
    keys = [
        "robust",
        "clean",
        "data",
        "attack",
        "norm",
        "eps",
        "target",
        "model",
        "attack_params",
        "checkpoint",
    ]
    frame = frame.sort_values(
        keys, ascending=[False, False] + [True] * (len(keys) - 2), kind="stable"
    )
    frame = frame.sort_values("is_naive", kind="stable")
    members = [found[i] for i in frame.index]
    ranks = (
        frame[~frame.is_naive]
        .groupby(COMPARABLE)["robust"]
        .rank(method="min", ascending=False)
        .astype("Int64")
    )
    frame.insert(0, "rank", ranks.reindex(frame.index))
    return frame.reset_index(drop=True), members


def _row(family: Sequence[Record], variant: str, apart: Set[str]) -> dict[str, Any]:
    first = family[0]
    spec, names, victim = first["spec"], first["names"], first["victim"]
    folds = by_fold(family)
    of = spec["data"].get("fold", {}).get("of", 1)
    missing = [f"{of - len(folds)} of {of} folds missing"] if len(folds) < of else []
    attacked = [names["tasks"][t] for t in spec["threat"]["tasks"]]
    other = (
        [f"{OTHER_WEIGHTS}: {spec['victim']['weights_sha256'][:SHORT]}"]
        if first["hash"] in apart
        else []
    )
    mean = {key: _mean(over_trainings(family, _figure(key))) for key in AVERAGED}
    n = {
        key: min(
            effective_n(family, _effective(t, f"n_effective_{key}"))
            for t in spec["threat"]["tasks"]
        )
        for key in ("clean", "robust")
    }
    intervals = {key: wilson(mean[key] or 0.0, n[key]) for key in n}
    robust = over_trainings(family, _figure("robust"))
    row = {
        "model": spec["victim"]["model"],
        "data": data_name(first),
        "synthetic": first["synthetic"],
        "norm": spec["threat"]["norm"],
        "eps": radius_label(spec["threat"]["radii"], names["modalities"]),
        "target": "joint" if len(attacked) == len(names["tasks"]) else "+".join(attacked),
        "attack": attack_name(first),
        "engine": engine(first),
        "protocol": spec["protocol"]["name"],
        "n": sum(r["spec"]["data"]["n"] for r in folds),
        "n_distinct": min(
            sum(r["figures"]["tasks"][t]["n_distinct"] for r in folds)
            for t in spec["threat"]["tasks"]
        ),
        "clean": mean["clean"],
        "clean_low": intervals["clean"][0],
        "clean_high": intervals["clean"][1],
        "robust": mean["robust"],
        "robust_low": intervals["robust"][0],
        "robust_high": intervals["robust"][1],
        "robust_std": float(np.std(robust, ddof=1)) if len(robust) > 1 else None,
        "trainings": len(by_training(family)),
        "evaluation_seeds": evaluation_seeds(family),
        "folds": len(folds),
        "n_effective": n["robust"],
        "asr": mean["asr"],
        "balanced_accuracy": mean["balanced_accuracy"],
        "auc": mean["auc"],
        "clean_vote": mean["clean_vote"],
        "robust_vote": mean["robust_vote"],
        "minimal_norm_median": _mean(
            over_trainings(family, lambda r: (r["figures"].get("minimal_norm") or {}).get("median"))
        ),
        "draws": first["draws"],
        "eot": spec["attack"]["params"].get("eot"),
        "trust": trust(family),
        "marks": "; ".join([*marks(family), *missing, *other]),
        "parameters": victim["parameters"],
        "gflops": victim["gflops"],
        "gmacs": victim["gmacs"],
        "preset": spec["victim"]["preset"],
        "size": spec["data"]["size"],
        "attack_params": _assigned(spec["attack"]["params"]),
        "checkpoint": spec["victim"]["weights_sha256"][:SHORT],
        "variant": variant,
        **row_values(family),
    }
    for t, name in enumerate(names["tasks"]):
        row |= {
            f"task_{t}": name,
            f"clean_{t}": _mean(over_trainings(family, _of_task(t, "clean"))),
            f"robust_{t}": _mean(over_trainings(family, _of_task(t, "robust"))),
        }
    return row


def row_values(family: Sequence[Record]) -> dict[str, Any]:
    """The columns VALUES of a family: what is wrong with its figures, what was attacked, and how
    far.

    `eps_value`: the largest radius; `trusted`: modalities without one where others have one;
    `settings`: the attack's but for EOT.
    """
    first = family[0]
    spec, names = first["spec"], first["names"]
    radii = spec["threat"]["radii"]
    return {
        "is_naive": bool(first["naive"]),
        "is_trivial": bool(trivial_on(family)),
        "is_unaware": is_unaware(first),
        "is_defended": bool(spec["victim"].get("defense")),
        "is_joint": len(spec["threat"]["tasks"]) == len(names["tasks"]),
        "eps_value": shown_radius(max(radii)),
        "trusted": (
            tuple(name for name, r in zip(names["modalities"], radii, strict=True) if not r)
            if any(radii)
            else ()
        ),
        "family": first["architecture"],
        "settings": _assigned({k: v for k, v in spec["attack"]["params"].items() if k != "eot"}),
    }


def is_unaware(record: Record) -> bool:
    """Whether the attack did not know of the victim's input transform."""
    return any(
        layer["params"].get("attack") == "unaware"
        for layer in record["spec"]["victim"].get("defense", ())
    )


def written(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as files and users get it: the columns that columns.py describes."""
    return frame.drop(columns=frame.columns.intersection(list(VALUES)))


def _assigned(params: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v}" for k, v in sorted(params.items()))


def _figure(name: str) -> Callable[[Record], float | None]:
    return lambda record: record["figures"][name]


def _of_task(t: int, name: str) -> Callable[[Record], float | None]:
    return lambda record: record["figures"]["tasks"][t][name]


def _effective(t: int, name: str) -> Callable[[Record], float]:
    return lambda record: effective(record["figures"]["tasks"][t], name)


def trust(family: Sequence[Record]) -> str:
    """The worst verdict of a family's diagnostics: fail, warn, pass, or "not checked"."""
    return min((record.get("trust") or "not checked" for record in family), key=TRUST.index)


def attack_name(record: Record) -> str:
    """The attack, with the victims its adversarials come from and the classes it aims at, where it
    has any.
    """
    spec = record["spec"]
    sources = [source["model"] for source in spec["attack"].get("sources", ())]
    target = spec["threat"].get("target")
    return (
        str(spec["attack"]["name"])
        + (f" from {'+'.join(sources)}" if sources else "")
        + (f" to {target}" if target else "")
    )


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


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples, their fields of any type (pandas-stubs makes each a union of
    twenty).
    """
    return iter(frame.itertuples())


def engine(record: Record) -> str:
    """Who computed the attack: native (also in records that do not say), torchattacks or art."""
    return str(record["spec"].get("engine") or "native")


def by_engine(attack: str, engine: str) -> str:
    """An attack's name, with the engine that computed it where that is another library."""
    return attack if engine == "native" else f"{attack} ({engine})"


def is_cross_modal(record: Record) -> bool:
    """Whether exactly one of several modalities has a radius and exactly one task is the target."""
    threat = record["spec"]["threat"]
    return (
        len(threat["radii"]) > 1
        and sum(r > 0 for r in threat["radii"]) == 1
        and len(threat["tasks"]) == 1
    )


def marks(family: Sequence[Record]) -> list[str]:
    """What a reader must know before believing a row."""
    return [*(["synthetic data"] if family[0]["synthetic"] else []), *doubts(family)]


def doubts(family: Sequence[Record]) -> list[str]:
    """The marks but for synthetic data."""
    first, found = family[0], trivial_on(family)
    if broken := max(record["figures"].get("not_finite", 0) for record in family):
        found.append(f"not finite for {broken} samples")
    if first["naive"]:
        found.append(NAIVE[0] if first["stochastic"] else NAIVE[1])
    if first.get("batch_dependent"):
        found.append("depends on its batch")
    if not first["repeatable"]:
        found.append("not repeatable")
    if first["unverified"]:
        found.append("unverified data")
    return found


def trivial_on(family: Sequence[Record]) -> list[str]:
    """A mark for every task at which any of these victims is no better than a constant."""
    found = {
        f"trivial on {name}"
        for record in family
        for name, figures in zip(record["names"]["tasks"], record["figures"]["tasks"], strict=True)
        if figures["trivial"]
    }
    return sorted(found)


def quotable(row: Any) -> bool:
    """Whether anything can be said of a row: its victim is not trivial, and no sign says that an
    attack on it failed.
    """
    return bool(row.trust != "fail" and not row.is_trivial)


def long_form(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record x task x metric, with the record's hash: everything measured, for statistics
    software.
    """
    rows = []
    for record in sorted(records, key=lambda r: r["hash"]):
        spec = record["spec"]
        key = {
            "record": record["hash"][:12],
            "model": spec["victim"]["model"],
            "data": data_name(record),
            "fold": spec["data"].get("fold", {}).get("number"),
            "synthetic": record["synthetic"],
            "norm": spec["threat"]["norm"],
            "eps": radius_label(spec["threat"]["radii"], record["names"]["modalities"]),
            "attack": attack_name(record),
            "engine": engine(record),
            "protocol": spec["protocol"]["name"],
            "trust": trust([record]),
            "seed": spec["seed"],
            "train_seed": spec["victim"]["train_seed"],
        }
        for t, (name, figures) in enumerate(
            zip(record["names"]["tasks"], record["figures"]["tasks"], strict=True)
        ):
            for metric, value in figures.items():
                if metric.endswith("_interval"):
                    stem = metric.removesuffix("_interval")
                    values = {f"{stem}_low": value[0], f"{stem}_high": value[1]}
                elif isinstance(value, (int, float)):
                    values = {metric: value}
                else:  # why a victim is trivial, what has no value, what has a table of its own
                    continue
                for each, number in values.items():
                    rows.append(
                        {
                            **key,
                            "task": name,
                            "attacked": t in spec["threat"]["tasks"],
                            "metric": each,
                            "value": number,
                        }
                    )
    return pd.DataFrame(rows)


def cost(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record: passes, seconds and memory; a clock measured some of these, so they differ
    from run to run.
    """
    rows = [
        {
            "record": record["hash"][:12],
            "model": record["spec"]["victim"]["model"],
            "data": data_name(record),
            "attack": attack_name(record),
            "eps": radius_label(record["spec"]["threat"]["radii"], record["names"]["modalities"]),
            **{
                key: record["victim"][key]
                for key in ("parameters", "gflops", "gmacs", "latency_ms")
            },
            "model_memory_mib": record["victim"]["peak_memory_mib"],
            **{
                key: record["cost"][key]
                for key in (
                    "attack_forward_per_sample",
                    "attack_backward_per_sample",
                    "seconds",
                    "peak_memory_mib",
                )
            },
            "batch_size": record["cost"]["batch_size"],
            "device": record["environment"]["device"],
        }
        for record in sorted(records, key=lambda r: r["hash"])
    ]
    return pd.DataFrame(rows)


def victims(records: Sequence[Record], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a trained victim: parameters, operations and memory of one sample, latency on CPU and
    GPU, training time.

    What a clock measured is the median over the victim's records; a device none of them ran on
    leaves its column empty.
    """
    names = variants(records) if names is None else names
    found: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        spec = record["spec"]
        victim = spec["victim"]["model"], names[record["hash"]], spec["victim"]["weights_sha256"]
        found[data_name(record), spec["data"]["size"], *victim].append(record)
    rows = []
    for (data, size, model, variant, weights), group in sorted(found.items()):
        first = group[0]
        facts = [record["victim"] for record in group]
        on_gpu = [record["on_gpu"] for record in group]
        rows.append(
            {
                "model": model,
                "data": data,
                "synthetic": first["synthetic"],
                "size": size,
                "preset": first["spec"]["victim"]["preset"],
                "checkpoint": weights[:SHORT],
                "variant": variant,
                **{key: facts[0][key] for key in ("parameters", "gflops", "gmacs")},
                "latency_cpu_ms": _median(
                    [f["latency_ms"] for f, gpu in zip(facts, on_gpu, strict=True) if not gpu]
                ),
                "latency_gpu_ms": _median(
                    [f["latency_ms"] for f, gpu in zip(facts, on_gpu, strict=True) if gpu]
                ),
                "peak_memory_mib": _median([f["peak_memory_mib"] for f in facts]),
                "training_seconds": _median(
                    [
                        s
                        for f in facts
                        if (s := (f.get("training") or {}).get("seconds")) is not None
                    ]
                ),
                "records": len(group),
                "is_unaware": is_unaware(first),
            }
        )
    return pd.DataFrame(rows)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
