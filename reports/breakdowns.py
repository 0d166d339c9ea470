"""Tables that look inside a result: which class breaks first, and which modality breaks which task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_med.naming import number_label, radius_label
from robustbench_med.reports.tables import attack_name, by_fold, data_name, engine, families, is_cross_modal, leaderboard, trust
from robustbench_med.statistics import wilson
from robustbench_med.store import Record

Arrays = Callable[[Record, Sequence[str]], dict[str, NDArray[Any]]]
"""Reads the named per-sample arrays of a record, those it has."""


def per_class(records: Sequence[Record], arrays: Arrays) -> pd.DataFrame:
    """One row a leaderboard row x attacked task x class that occurs: clean and robust accuracy, the class that loses most first.

    Intervals are Wilson 95 % over the class's distinct images; empty in records that do not say which images repeat.
    """
    rows: list[dict[str, Any]] = []
    for family in families(records):
        first = family[0]
        spec, names = first["spec"], first["names"]
        images = [f"image_{t}" for t in spec["threat"]["tasks"]]
        outcomes = [arrays(record, ["labels", "clean_right", "robust_right", *images]) for record in family]
        key = {
            "model": spec["victim"]["model"],
            "data": data_name(first),
            "synthetic": first["synthetic"],
            "size": spec["data"]["size"],
            "norm": spec["threat"]["norm"],
            "eps": radius_label(spec["threat"]["radii"], names["modalities"]),
            "target": _target(first),
            "attack": attack_name(first),
            "engine": engine(first),
            "protocol": spec["protocol"]["name"],
            "trust": trust(family),
            "samples": sum(record["spec"]["data"]["n"] for record in by_fold(family)),
            "checkpoint": spec["victim"]["weights_sha256"][:12],
        }
        once = [family.index(record) for record in by_fold(family)]
        for t in spec["threat"]["tasks"]:
            found = []
            for c, name in enumerate(names["classes"][t]):
                members = [o["labels"][:, t] == c for o in outcomes]
                known = [(o, m) for o, m in zip(outcomes, members, strict=True) if m.any()]  # a fold may lack a rare class
                if not known:
                    continue
                clean, robust = (float(np.mean([o[what][m, t].mean() for o, m in known])) for what in ("clean_right", "robust_right"))
                repeats = all(f"image_{t}" in o for o in outcomes)
                distinct = sum(len(np.unique(outcomes[i][f"image_{t}"][members[i]])) for i in once) if repeats else None
                low, high = (None, None) if distinct is None else wilson(robust, distinct)
                found.append(
                    {
                        **key,
                        "task": names["tasks"][t],
                        "class": name,
                        "n": sum(int(members[i].sum()) for i in once),
                        "n_distinct": distinct,
                        "clean": clean,
                        "robust": robust,
                        "robust_low": low,
                        "robust_high": high,
                        "lost": clean - robust,
                        "seeds": len(family) // len(once),
                    }
                )
            rows += sorted(found, key=lambda row: -row["lost"])
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    order = ["data", "size", "samples", "norm", "target", "protocol", "attack", "engine", "eps", "model", "checkpoint", "task"]
    return frame.sort_values(order, kind="stable", ignore_index=True)


def cross_modal(records: Sequence[Record]) -> pd.DataFrame:
    """One row a model x attacked modality x task: what a perturbation of one modality alone does to one task.

    Made of the records whose threat gives exactly one of several modalities a radius and aims at exactly one task.
    """
    rows = []
    for family in families([record for record in records if is_cross_modal(record)]):
        row, names = leaderboard(family).iloc[0], family[0]["names"]
        radii = family[0]["spec"]["threat"]["radii"]
        m = int(np.argmax(radii))
        same = ("model", "data", "synthetic", "size", "norm", "attack", "engine", "protocol", "n", "n_distinct")
        figures = ("clean", "robust", "robust_low", "robust_high", "asr", "trust", "checkpoint")
        rows.append(
            {
                **{key: row[key] for key in same},
                "modality": names["modalities"][m],
                "eps": number_label(radii[m]),
                "task": names["tasks"][family[0]["spec"]["threat"]["tasks"][0]],
                **{key: row[key] for key in figures},
                "lost": row.clean - row.robust,
            }
        )
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    order = ["data", "size", "norm", "protocol", "attack", "engine", "eps", "n", "model", "checkpoint", "modality", "task"]
    return frame.sort_values(order, kind="stable", ignore_index=True)


def _target(record: Record) -> str:
    tasks, names = record["spec"]["threat"]["tasks"], record["names"]["tasks"]
    return "joint" if len(tasks) == len(names) else "+".join(names[t] for t in tasks)
