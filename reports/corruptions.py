"""Corruptions, in a section of their own: accuracy by kind and severity, mean corruption errors,
heat maps and galleries.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from robustbench_med.formats.text import escaped
from robustbench_med.naming import label
from robustbench_med.paths import write_atomically
from robustbench_med.reports import gallery, plots, style, tables
from robustbench_med.reports.comparison.table import number
from robustbench_med.reports.families import variants, victim_name
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

BASELINE = "late"
"""The undefended victim that errors are relative to where nobody names another."""
SEVERITIES = (1, 2, 3, 4, 5)
ALIKE = ["data", "size", "n", "target", "protocol"]
"""Columns in which a victim and its baseline agree."""
VICTIM = ["model", "variant", "checkpoint"]
ROUNDING = 1e-9
TAKEN = ("model", "variant", "data", "synthetic", "size", "n", "target", "protocol")


def frames(every: Sequence[Record], baseline: str = BASELINE) -> dict[str, pd.DataFrame]:
    """The tables by name, of the corruptions among all records of a store."""
    corrupted = [record for record in every if record.corruption]
    kinds = by_kind(corrupted, variants(every))
    return {"corruptions": kinds, "corruption_errors": errors(kinds, baseline)}


def by_kind(records: Sequence[Record], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """corruptions.csv: a row a victim, kind and severity; means over trainings and seeds.

    Unlike a robust accuracy, `accuracy` counts samples that were wrong on clean images and right
    on corrupted ones: nobody chose the corruption.

    Args:
        records: of corruptions.
        names: `families.variants` of all records of the store.
    """
    frame, members = tables.ranked(records, names)
    rows = []
    for row, family in zip(tables.each(frame), members, strict=True):
        first, modalities = family[0], family[0].names.modalities
        touched = [m for m in modalities if m not in first.trusted]
        rows.append(
            {
                **{key: getattr(row, key) for key in TAKEN},
                "kind": first.spec.attack.name,
                "modalities": "+".join(touched),
                "severity": int(first.spec.attack.params["severity"]),
                "clean": row.clean,
                "accuracy": row.robust,
                "accuracy_low": row.robust_low,
                "accuracy_high": row.robust_high,
                "balanced_accuracy": row.balanced_accuracy,
                "clean_balanced_accuracy": row.clean_balanced_accuracy,
                "auc": row.auc,
                "trainings": row.trainings,
                "marks": row.marks,
                "checkpoint": row.checkpoint,
                "is_defended": bool(row.is_defended),
            }
        )
    found = pd.DataFrame(rows)
    order = [*ALIKE, "model", "variant", "checkpoint", "kind", "severity"]
    return found.sort_values(order, kind="stable", ignore_index=True) if rows else found


def errors(kinds: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """corruption_errors.csv: a row a victim, the least corruption error first.

    `mce` is the mean over kinds of the error summed over severities over that of the baseline on
    the same images, `relative_mce` the same of errors less those on clean images (arXiv 1903.12261,
    section 3.2); both compare the kinds that both victims have at all five severities and where the
    baseline errs at all (loses anything): `mce_kinds` and `relative_kinds` of them. They are empty
    where there is none. `balanced_mce` takes balanced accuracies, as MedMNIST-C does (arXiv
    2406.17536).

    Args:
        kinds: as `by_kind` gives them.
        baseline: a model; its undefended victim counts, the first training of several.
    """
    if kinds.empty:
        return kinds
    rows = []
    for _, alike in kinds.groupby(ALIKE, sort=False):
        plain = alike[(alike.model == label(baseline)) & ~alike.is_defended]
        reference = next((group for _, group in plain.groupby(VICTIM)), None)
        for _, mine in alike.groupby(VICTIM, sort=False):
            rows.append(_errors(mine, reference))
    frame = pd.DataFrame(rows)
    order = [*ALIKE, "mean_error", "model"]
    return frame.sort_values(order, kind="stable", ignore_index=True)


def _errors(mine: pd.DataFrame, reference: pd.DataFrame | None) -> dict[str, Any]:
    first: Any = mine.iloc[0]
    whole = _whole(mine)
    row = {
        **{key: first[key] for key in TAKEN},
        "kinds": len(whole),
        "clean_error": 1 - first.clean,
        "mean_error": 1 - whole.mean() if len(whole) else np.nan,
        **dict.fromkeys(("mce", "relative_mce", "balanced_mce"), np.nan),
        **dict.fromkeys(("mce_kinds", "relative_kinds"), 0),
        "baseline": "",
        "worst_kind": "" if whole.empty else str(whole.idxmin()),
        "worst_error": np.nan if whole.empty else 1 - whole.min(),
        "checkpoint": first.checkpoint,
        "marks": first.marks,
    }
    if reference is None:
        return row
    told: Any = reference.iloc[0]
    row["baseline"] = f"{victim_name(told.model, told.variant)} {told.checkpoint}"
    row["mce"], row["mce_kinds"] = _relative(1 - whole, 1 - _whole(reference))
    lost, lost_there = first.clean - whole, told.clean - _whole(reference)
    row["relative_mce"], row["relative_kinds"] = _relative(lost, lost_there)
    balanced = (_whole(each, "balanced_accuracy") for each in (mine, reference))
    row["balanced_mce"], _ = _relative(*(1 - each for each in balanced))
    return row


def _whole(frame: pd.DataFrame, figure: str = "accuracy") -> pd.Series:
    """The mean over severities of every kind that has all five, by kind and modalities."""
    named = frame.kind + " of " + frame.modalities
    found = frame.assign(named=named).groupby("named", sort=True)[figure].agg(["mean", "count"])
    return found["mean"][found["count"] == len(SEVERITIES)]


def _relative(mine: pd.Series, reference: pd.Series) -> tuple[float, int]:
    """The mean of the quotient over kinds that both have and where there is something to divide by,
    NaN of none; and the number of these kinds.
    """
    both = mine.index.intersection(reference.index[reference > ROUNDING])
    return float((mine[both] / reference[both]).mean()), len(both)


def told(degraded: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of `errors` as readers see them."""
    rows = []
    for row in tables.each(tables.named(degraded)):
        synthetic = " (synthetic)" if row.synthetic else ""
        rows.append(
            {
                "victim": row.model,
                "data": f"{row.data}{synthetic}, {row.size} px, n = {row.n}, {row.target}",
                "kinds": str(row.kinds),
                "clean error": number(row.clean_error),
                "mean error": number(row.mean_error),
                "worst kind": f"{row.worst_kind} {number(row.worst_error)}".strip(),
                "mCE": _of_kinds(row.mce, row.mce_kinds, row.kinds),
                "relative mCE": _of_kinds(row.relative_mce, row.relative_kinds, row.kinds),
                "baseline": row.baseline or "-",
            }
        )
    return rows


def _of_kinds(value: float, n: int, of: int) -> str:
    """A relative error, with how many kinds it is of where some have nothing to divide by."""
    return number(value) + (f" ({n} kinds)" if 0 < n < of else "")


def heat_maps(kinds: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """A heat map a victim, kinds down and severities across, by a name for its file."""
    if kinds.empty:
        return
    for key, group in kinds.groupby([*ALIKE, *VICTIM], sort=True):
        first: Any = group.iloc[0]
        several = group.modalities.nunique() > 1
        named = group.kind + (" (" + group.modalities + ")" if several else "")
        values = group.assign(named=named).pivot(
            index="named", columns="severity", values="accuracy"
        )
        values = values.rename(columns=lambda severity: f"severity {severity}")
        values.insert(0, "clean", first.clean)
        values = values.loc[values.mean(axis=1).sort_values().index]
        synthetic = " (synthetic)" if first.synthetic else ""
        title = (
            f"accuracy under corruptions: {victim_name(first.model, first.variant)}\n"
            f"{first['data']}{synthetic}, {first['size']} px, n = {first.n}, target {first.target}"
        )
        yield plots.slug(key), plots.matrix(values, title)


def write_pictures(
    store: Store[Record], records: Sequence[Record], kinds: pd.DataFrame, folder: Path
) -> list[Path]:
    """heat-map-VICTIM.png of each victim, and gallery-DATA-MODALITY.png of each data set; returns
    the paths.
    """
    written = []
    with style.styled():
        for name, figure in heat_maps(kinds):
            written.append(folder / f"heat-map-{name}.png")
            style.save(figure, written[-1])
    for name, sheet in galleries(store, records):
        path = folder / f"gallery-{name}.png"
        write_atomically(path, functools.partial(sheet.save, format="PNG"))
        written.append(path)
    return written


def galleries(store: Store[Record], records: Sequence[Record]) -> Iterator[tuple[str, Image.Image]]:
    """The first sample under every kind and severity, a sheet a data set and modality."""
    groups: dict[tuple[Any, ...], dict[tuple[str, int], Record]] = {}
    for record in sorted(records, key=lambda record: record.hash):
        data, attack = record.spec.data, record.spec.attack
        for m, name in enumerate(record.names.modalities):
            if record.spec.threat.radii[m] > 0:
                key = data.label, data.size, data.manifest, m, name
                place = attack.name, int(attack.params["severity"])
                groups.setdefault(key, {}).setdefault(place, record)
    for (data, size, _, m, name), members in sorted(groups.items()):
        images = {}
        for place, record in members.items():
            if found := gallery.examples(store, record):
                images[place] = found[0].clean[m], found[0].adversarial[m]
        if images:
            title = f"{data}, {size} px: {name} under corruptions"
            yield plots.slug((data, size, name)), _sheet(images, title)


def _sheet(images: Mapping[tuple[str, int], Any], title: str) -> Image.Image:
    """Kinds down, the clean image and severities across."""
    side, gap, line, left = 128, 6, 22, 150
    kinds = sorted({kind for kind, _ in images})
    severities = sorted({severity for _, severity in images})
    width = left + (1 + len(severities)) * (side + gap)
    sheet = Image.new("RGB", (width, 2 * line + gap + len(kinds) * (side + gap)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(style.font_of(title), 15)
    pen.text((gap, gap), escaped(title), "black", font)
    for column, text in enumerate(("clean", *(f"severity {s}" for s in severities))):
        pen.text((left + column * (side + gap), line + gap), text, "black", font)
    for row, kind in enumerate(kinds):
        top = 2 * line + gap + row * (side + gap)
        pen.text((gap, top + side // 2), kind, "black", font)
        mine = {s: images[kind, s] for s in severities if (kind, s) in images}
        tiles = {0: next(iter(mine.values()))[0]}
        tiles |= {1 + severities.index(s): after for s, (_, after) in mine.items()}
        for column, image in tiles.items():
            tile = Image.fromarray(gallery.pixels(image)).resize((side, side), Image.Resampling.BOX)
            sheet.paste(tile.convert("RGB"), (left + column * (side + gap), top))
    return sheet
