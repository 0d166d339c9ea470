"""Certified accuracy against radius: certified.csv, certified_tasks.csv and certified.png, from the certificates of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm

from robustbench_med.paths import write_text
from robustbench_med.reports import style
from robustbench_med.statistics import wilson
from robustbench_med.store import CERTIFICATES, Record, Store

POINTS = 41
"""Radii of a curve, from 0 to the largest that n draws can certify."""
CASE = ["data", "size", "task", "n", "sigma", "n0", "draws", "alpha"]
"""Curves that agree in these share a panel."""


def write(out: Path) -> pd.DataFrame:
    """Writes tables and figure of all certificates in a folder; returns the table by task."""
    store = Store(out, CERTIFICATES)
    records = store.records()
    tasks = pd.DataFrame([row for record in records for row in by_task(record)]).sort_values([*CASE, "model", "noised", "train_seed"])
    curves = pd.DataFrame([row for record in records for row in curve(record, store)])
    for name, frame in (("certified_tasks.csv", tasks), ("certified.csv", curves)):
        write_text(out / name, str(frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")))
    figure(curves, out / "certified.png")
    return tasks


def _key(record: Record) -> dict[str, Any]:
    spec, certificate = record["spec"], record["spec"]["certificate"]
    return {
        "model": spec["victim"]["model"],
        "data": spec["data"]["name"],
        "synthetic": record["synthetic"],
        "size": spec["data"]["size"],
        "noised": record["noised"],
        "sigma": certificate["sigma"],
        "n0": certificate["n0"],
        "draws": certificate["n"],
        "alpha": certificate["alpha"],
        "train_seed": spec["victim"]["train_seed"],
        "seed": spec["seed"],
        "checkpoint": spec["victim"]["weights_sha256"][:12],
    }


def by_task(record: Record) -> list[dict[str, Any]]:
    """One row a task: share abstained, certified accuracy at radius 0, average certified radius (0 where wrong or abstained)."""
    return [{**_key(record), **figures} for figures in record["figures"]]


def curve(record: Record, store: Store) -> list[dict[str, Any]]:
    """One row a task and radius: share of samples certified right at this L2 radius, with Wilson's interval over distinct images."""
    arrays, certificate = store.arrays(record), record["spec"]["certificate"]
    # n of n draws: the bound is alpha^(1/n)
    largest = max(certificate["sigma"] * float(norm.ppf(certificate["alpha"] ** (1 / certificate["n"]))), 0.0)
    rows = []
    for t, figures in enumerate(record["figures"]):
        known = arrays["labels"][:, t] >= 0
        right = (arrays["predicted"][:, t] == arrays["labels"][:, t])[known]
        for radius in np.linspace(0, 1.02 * largest, POINTS):
            share = float((right & (arrays["radius"][known, t] > radius)).mean())
            low, high = wilson(share, figures["n_distinct"])
            rows.append({**_key(record), "task": figures["task"], "n": figures["n"], "radius": float(radius), "certified": share}
                        | {"certified_low": low, "certified_high": high})  # fmt: skip
    return rows


def figure(curves: pd.DataFrame, path: Path) -> None:
    """A panel a data set, task and noise; colour by model, line by what is noised; means over seeds."""
    panels = list(curves.groupby(CASE, sort=True))
    colours = style.looks(curves.model)
    with plt.rc_context(style.STYLE):
        drawn, axes = style.grid(len(panels), width=5.6, height=4.8)
        for axis, (keys, group) in zip(axes, panels, strict=True):
            data, _, task, n, sigma, n0, draws, alpha = keys
            for (model, noised), line in group.groupby(["model", "noised"], sort=True):
                mean = line.groupby("radius").certified.mean()
                dash = style.DASHES[sorted(set(group.noised)).index(str(noised)) % len(style.DASHES)]
                axis.plot(mean.index, mean, color=colours[str(model)][0], linestyle=dash, label=f"{model}, noise on {noised}")
            synthetic = " (synthetic)" if group.synthetic.any() else ""
            axis.set(
                title=f"{data}{synthetic}\n{task}, {n} samples\nsigma = {sigma:g}, n0 = {n0}, n = {draws}, alpha = {alpha:g}",
                xlabel="L2 radius, pixels in 0..1, over the noised modalities",
                ylabel="certified accuracy",
                ylim=(-0.02, 1.02),
            )
        style.legend(drawn, axes, columns=2)
        style.save(drawn, path)
