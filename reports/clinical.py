"""What a regulator asks for: sensitivity, specificity, PPV and NPV at thresholds chosen on
validation images, areas under curves, decisions that flip, calibration; clean and under attack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_med.naming import nature
from robustbench_med.reports import decisions, plots, style
from robustbench_med.reports.decisions import Decisions, Floats, Reliability
from robustbench_med.reports.families import groups_of, variants, victim_name
from robustbench_med.reports.looks import COLOURS, MARKERS
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store
from robustbench_med.store.validation import Validations

SENSITIVITY = 0.95
"""What thresholds of a fixed sensitivity reach on validation images."""
CLEAN = "clean"
NO_VALIDATION = "no validation pass beside it (older record, or no validation part): no thresholds"
MISFIT = "validation images lack the class: no thresholds"
VICTIM = ["model", "variant", "data", "size", "n", "train_seed", "seed", "checkpoint", "protocol"]
"""Columns in which the rows of one victim on one set of samples agree."""
DRAWN = [name for name in VICTIM if name != "seed"]
"""The same of one figure."""
NAMES = ("sensitivity", "specificity", "ppv", "npv")
Rules = dict[str, tuple[float, int]]
"""Thresholds of a class by their rule, with the validation images behind them."""


def frames(store: Store[Record], every: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """clinical.csv and calibration.csv, of all records of a store, corruptions among them."""
    rows = Rows(Thresholds(store.folder.parent), every)
    for record in sorted(every, key=place):
        rows.add(record, store.arrays(record, needed(record)))
    return rows.frames()


class Rows:
    """The rows of clinical.csv and calibration.csv, and reliability diagrams, record by record in
    the order of `place`.

    Every record has rows of its own, and every victim and seed one `clean` set: thresholds belong
    to a training. Records whose outcomes hold no probabilities are left out.
    """

    def __init__(self, thresholds: Thresholds, every: Sequence[Record]) -> None:
        self.thresholds, self.every, self.names = thresholds, every, variants(every)
        self.clinical: list[dict[str, Any]] = []
        self.calibration: list[dict[str, Any]] = []
        self.bins: dict[tuple[str, int], Reliability] = {}
        """Of a record's hash, or a victim's clean images (`clean_key`), and task."""

    def add(self, record: Record, arrays: Mapping[str, NDArray[Any]]) -> None:
        """The rows of a record; `arrays`: those `needed`, others beside them."""
        if "robust_probabilities_0" not in arrays:
            return
        at, key = self.thresholds.of(record), key_of(record, self.names[record.hash])
        seen = (clean_key(key), 0) in self.bins
        for when in ("robust",) if seen else ("clean", "robust"):
            where = key | (attacked(record) if when == "robust" else unattacked(record))
            for t in range(len(record.names.tasks)):
                if when == "clean" or t in record.spec.threat.tasks:
                    self.clinical += _decisions(record, arrays, at, where, when, t)
                    row, bins = _calibration(record, arrays, where, when, t)
                    self.calibration.append(row)
                    self.bins[clean_key(key) if when == "clean" else record.hash, t] = bins

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {"clinical": in_order(self.clinical), "calibration": in_order(self.calibration)}

    def diagrams(self) -> Iterator[tuple[str, Figure]]:
        """A reliability diagram a victim and set of samples, of its first evaluation seed, by a
        name for its file: share right against confidence, a panel a task; clean, under noise, and
        under the corruption and the attack that leave least.
        """
        groups: dict[tuple[str, ...], list[Record]] = {}
        for record in sorted(self.every, key=lambda each: (each.spec.seed, place(each))):
            where = key_of(record, self.names[record.hash])
            groups.setdefault(tuple(str(where[name]) for name in DRAWN), []).append(record)
        for key, members in sorted(groups.items()):
            first, variant = members[0], self.names[members[0].hash]
            shown = _shown([each for each in members if each.spec.seed == first.spec.seed])
            whose = [clean_key(key_of(first, variant)), *(each.hash for _, each in shown[1:])]
            lines = [
                (label, {t: self.bins[hash_, t] for t in self._tasks(hash_, first)})
                for (label, _), hash_ in zip(shown, whose, strict=True)
            ]
            if all(bins for _, bins in lines):
                yield plots.slug(key), _diagram(first, variant, lines)

    def _tasks(self, hash_: str, record: Record) -> Iterator[int]:
        return (t for t in range(len(record.names.tasks)) if (hash_, t) in self.bins)


def clean_key(key: Mapping[str, Any]) -> str:
    """What a victim's clean images on one set of samples are known by."""
    return str([key[name] for name in VICTIM])


class Thresholds:
    """The thresholds of every class of a record's victim, chosen once a validation."""

    def __init__(self, out: Path) -> None:
        self.validations = Validations(out)
        self.known: dict[str, dict[tuple[int, int], Rules]] = {}

    def of(self, record: Record) -> dict[tuple[int, int], Rules] | None:
        """By task and class; None where there is no validation of the victim."""
        found = self.validations.find(record)
        if found is None:
            return None
        if found.hash not in self.known:
            arrays = self.validations.store.arrays(found)
            self.known[found.hash] = {
                (t, c): _thresholds(arrays, t, c)
                for t, classes in enumerate(record.names.classes)
                for c in range(len(classes))
            }
        return self.known[found.hash]


def _thresholds(validated: Mapping[str, NDArray[Any]], t: int, c: int) -> Rules:
    """The thresholds of class c of task t; none where validation images lack it, or all are of
    it.
    """
    labels = validated["labels"][:, t]
    scores, positive = validated[f"probabilities_{t}"][labels >= 0, c], labels[labels >= 0] == c
    if positive.all() or not positive.any():
        return {}
    found = {
        "youden": decisions.youden(scores, positive),
        f"sensitivity {SENSITIVITY}": decisions.at_sensitivity(scores, positive, SENSITIVITY),
    }
    return {rule: (t, len(positive)) for rule, t in found.items() if t is not None}


def needed(record: Record) -> list[str]:
    tasks = range(len(record.names.tasks))
    stems = ("clean_probabilities", "robust_probabilities", "group", "image")
    return ["labels", *(f"{stem}_{t}" for stem in stems for t in tasks)]


def place(record: Record) -> tuple[Any, ...]:
    spec = record.spec
    size = spec.attack.params["severity"] if record.corruption else max(spec.threat.radii)
    return spec.data.label, spec.victim.model, spec.attack.name, size, record.hash


def key_of(record: Record, variant: str) -> dict[str, Any]:
    spec = record.spec
    return {
        "model": spec.victim.model,
        "variant": variant,
        "data": spec.data.label,
        "fold": spec.data.fold.number if spec.data.fold else None,
        "synthetic": record.synthetic,
        "size": spec.data.size,
        "n": spec.data.n,
        "protocol": spec.protocol.name,
        "train_seed": spec.victim.train_seed,
        "seed": spec.seed,
        "checkpoint": spec.victim.checkpoint,
    }


def unattacked(record: Record) -> dict[str, Any]:
    return {"condition": CLEAN, "norm": "", "eps": "", "severity": None, "record": record.short}


def attacked(record: Record) -> dict[str, Any]:
    spec = record.spec
    if record.corruption:
        shown = {"norm": "", "eps": "", "severity": spec.attack.params["severity"]}
    else:
        patched = record.own_threat and "size" in spec.attack.params
        norm, eps = ("", "") if patched else (spec.threat.norm_label, record.eps)
        shown = {"norm": norm, "eps": eps, "severity": None}
    return {"condition": record.attack_label, **shown, "record": record.short}


def _decisions(
    record: Record,
    arrays: Mapping[str, NDArray[Any]],
    at: Mapping[tuple[int, int], Rules] | None,
    where: Mapping[str, Any],
    when: str,
    t: int,
) -> Iterator[dict[str, Any]]:
    """A row a class of task t that occurs, against the others, and threshold."""
    known = arrays["labels"][:, t] >= 0
    labels = arrays["labels"][known, t]
    before, after = (arrays[f"{w}_probabilities_{t}"][known] for w in ("clean", when))
    groups = groups_of(arrays, t)
    groups = np.arange(len(labels)) if groups is None else groups[known]
    for c, name in enumerate(record.names.classes[t]):
        positive = labels == c
        if not positive.any():
            continue
        row = {
            **where,
            "task": record.names.tasks[t],
            "class": name,
            "positives": int(positive.sum()),
            "negatives": int((~positive).sum()),
            "auroc": decisions.auroc(after[:, c], positive),
            "auprc": decisions.auprc(after[:, c], positive),
        }
        rules = {} if at is None else at[t, c]
        if not rules:
            note = NO_VALIDATION if at is None else MISFIT
            yield row | _at(None, None, positive, groups) | {"note": note}
        for rule, (threshold, n) in rules.items():
            first = decisions.calls(before[:, c], threshold, positive)
            now = decisions.calls(after[:, c], threshold, positive)
            chosen = {"rule": rule, "threshold": threshold, "n_validation": n}
            yield row | chosen | _at(first, now, positive, groups) | {"note": ""}


def _at(
    before: NDArray[np.bool_] | None,
    after: NDArray[np.bool_] | None,
    positive: NDArray[np.bool_],
    groups: NDArray[Any],
) -> dict[str, Any]:
    """What a threshold gives, and decisions that were right and flipped, by direction; empty
    without one.
    """
    empty = {"rule": "", "threshold": None, "n_validation": None} if after is None else {}
    rates: dict[str, float | None] = {}
    made = None if after is None else Decisions.of(after, positive, groups)
    for name in NAMES:
        rate = None if made is None else getattr(made, name)
        rates[name] = rate and rate.value
        rates[f"{name}_low"] = rate and rate.low
        rates[f"{name}_high"] = rate and rate.high
    flips: dict[str, int | None] = {"missed": None, "false_alarms": None}
    if before is not None and after is not None:
        flips["missed"] = int((before & ~after & positive).sum())
        flips["false_alarms"] = int((~before & after & ~positive).sum())
    return {**empty, **rates, **flips}


def _calibration(
    record: Record,
    arrays: Mapping[str, NDArray[Any]],
    where: Mapping[str, Any],
    when: str,
    t: int,
) -> tuple[dict[str, Any], Reliability]:
    """How far confidence at task t can be believed, and the bins of it."""
    known = arrays["labels"][:, t] >= 0
    labels, given = arrays["labels"][known, t], arrays[f"{when}_probabilities_{t}"][known]
    finite = np.isfinite(given).all(1)
    right = given[finite].argmax(1) == labels[finite]
    confidence = given[finite].astype(np.float64).max(1, initial=0.0)
    bins = Reliability.of(given, labels)
    row = {
        **where,
        "task": record.names.tasks[t],
        "samples": len(labels),
        "accuracy": float(right.sum() / len(labels)) if len(labels) else math.nan,
        "ece": bins.ece,
        "bins": len(bins.samples),
        "brier": decisions.brier(given, labels),
        "confidence_right": _mean(confidence[right]),
        "confidence_wrong": _mean(confidence[~right]),
        "wrong": int((~right).sum() + (~finite).sum()),
        "not_finite": int((~finite).sum()),
    }
    return row, bins


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def in_order(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Victim by victim, clean rows first."""
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    attacked = frame.condition != CLEAN
    order = ["data", "model", "variant", "checkpoint", "seed", "protocol", "attacked"]
    sorted_ = frame.assign(attacked=attacked).sort_values(order, kind="stable", ignore_index=True)
    return sorted_.drop(columns="attacked")


def _shown(members: Sequence[Record]) -> list[tuple[str, Record]]:
    """Clean, noise of the largest radius, and of corruptions and of attacks the one that leaves
    least, among those on most tasks; attacks on most modalities.
    """
    lines = [(CLEAN, members[0])]
    noise = [each for each in members if each.control]
    if noise:
        largest = max(noise, key=lambda each: max(each.spec.threat.radii))
        lines.append((f"noise {largest.eps}", largest))
    for corrupted in (True, False):
        mine = [e for e in members if e.corruption == corrupted and not e.control]
        mine = [each for each in mine if not each.own_threat]
        if mine:
            worst = min(mine, key=_reach_and_harm)
            size = f"severity {worst.spec.attack.params['severity']}" if corrupted else worst.eps
            lines.append((f"{worst.attack_label} {size}", worst))
    return lines


def _reach_and_harm(record: Record) -> tuple[int, int, float]:
    """Smallest of what is on most tasks, then most modalities (kinds of corruptions suit some),
    then leaves least.
    """
    threat = record.spec.threat
    attacked = 0 if record.corruption else sum(radius > 0 for radius in threat.radii)
    return -len(threat.tasks), -attacked, record.figures.robust


def _diagram(
    first: Record, variant: str, lines: Sequence[tuple[str, Mapping[int, Reliability]]]
) -> Figure:
    """`lines`: what each is called, and its bins by task, of those it is about."""
    figure, axes = style.grid(len(first.names.tasks), sharey=True)
    for t, axis in enumerate(axes):
        axis.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":")
        said, counts = ["ECE"], set[int]()
        for i, (label, by_task) in enumerate(lines):
            if (bins := by_task.get(t)) is None:
                continue
            said.append(f"{label}: {bins.ece:.3f}")
            counts.add(len(bins.samples))
            look = {"marker": MARKERS[i], "linestyle": ("-", "--", "-.", ":")[i]}
            axis.plot(bins.confidence, bins.right, label=label, color=COLOURS[i], **look)
        shown = " or ".join(map(str, sorted(counts)))
        axis.set(
            xlim=(0, 1.02),
            ylim=(-0.02, 1.02),
            xlabel="confidence of the predicted class",
            title=f"task {first.names.tasks[t]}, bins of equal mass: {shown}",
        )
        axis.text(0.02, 1.0, "\n".join(said), va="top", fontsize=9)
    axes[0].set_ylabel("share right")
    spec, kind = first.spec, nature(first.spec.data.name, synthetic=first.synthetic)
    title = (
        f"reliability: {victim_name(spec.victim.model, variant)}\n{spec.data.label}{kind},"
        f" {spec.data.size} px, protocol {spec.protocol.name}, n = {spec.data.n}"
    )
    style.finish(figure, axes, title)
    return figure
