"""`data verify`: what is wrong with a data set on disk, and whether its split leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data import duplicates
from robustbench_med.data.cards import TOTAL, Card
from robustbench_med.data.images import Images, Selected
from robustbench_med.data.listing import SPLITS, Files
from robustbench_med.data.source import Source, read
from robustbench_med.data.splits import Manifest, make_manifest, shipped_notes

Report = dict[str, Any]
EXAMPLES = 5


def verify(card: Card, files: Files, *, seed: int = 0, look: bool = True) -> Report:
    """Counts, unreadable files, balance, groups and twins of one data set under its split of a
    seed.

    Args:
        look: also search for images that look alike: half a minute for 100,000 images, four times
            that for twice as many.

    Returns:
        A report ready for JSON. `leaks` is true where a group, a copy or a look-alike lies in two
        of train, val and test. Twins are numbers of images with a twin, and `conflicting` those
        whose twin has another label.
    """
    source = read(card, size=duplicates.SIDE, files=files)
    manifest = make_manifest(source, seed)
    part = _parts(source, manifest)
    twins = {"copies": _twins(source, part, duplicates.copies(source.digests or source.ids, part))}
    if look:
        with files.progress(f"comparing {card.id}") as tick:
            _, kind = np.unique(
                [f"{split} {y.tolist()}" for split, y in zip(part, source.labels, strict=True)],
                return_inverse=True,
            )
            pairs = [
                _look_alikes(images, kind, tick)
                for images, modality in zip(source.images, card.modalities, strict=True)
                if not modality.columns
            ]
        found = np.concatenate([np.empty((0, 2), np.int64), *pairs])
        twins["look_alikes"] = _twins(source, part, np.unique(found, axis=0))
    groups = _groups(source, part)
    return {
        "id": card.id,
        "policy": manifest.policy,
        "seed": seed,
        "manifest": manifest.hash,
        "counts": _counts(card, source, part),
        "classes": _classes(card, source, part),
        "unreadable": dict(source.unreadable),
        "groups": groups,
        "twins": twins,
        "notes": [*source.notes, *shipped_notes(manifest)],
        "leaks": bool(groups["shared"]) or any(kind["across"] for kind in twins.values()),
    }


def _parts(source: Source, manifest: Manifest) -> list[str]:
    of = {sample: split for split in SPLITS for sample in getattr(manifest, split)}
    return [of[sample] for sample in source.ids]


def _look_alikes(
    images: Images, kind: NDArray[np.int64], tick: Callable[[int, int, str], None]
) -> duplicates.Pairs:
    """Pairs of images of one modality that look alike; what samples miss looks like nothing."""
    there = [images[rows].any((1, 2, 3)) for rows in _chunks(len(images))]
    rows = np.flatnonzero(np.concatenate(there))
    found = duplicates.look_alikes(Selected(images, rows), kind[rows], _counted(tick, len(rows)))
    return rows[found]


def _chunks(n: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, n, duplicates.CHUNK):
        yield np.arange(start, min(start + duplicates.CHUNK, n))


def _counted(tick: Any, total: int) -> Any:
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        tick(done, total, "")

    return advance


def _counts(card: Card, source: Source, part: Sequence[str]) -> list[dict[str, Any]]:
    """Images of each part, and what is published of it."""
    images_of = Counter(source.published) if any(source.published) else Counter()
    images_of[TOTAL] = len(source.ids)
    rows = [
        {"part": s, "published": card.counts[s], "found": images_of[s]}
        for s in (*SPLITS, TOTAL)
        if s in card.counts
    ]
    return rows + [
        {"part": f"used as {split}", "published": None, "found": part.count(split)}
        for split in SPLITS
    ]


def _classes(card: Card, source: Source, part: Sequence[str]) -> list[dict[str, Any]]:
    """Images of each class of each task in each part, and what is published."""
    rows = []
    for t, task in enumerate(card.tasks):
        for label, name in [*enumerate(task.classes), (-1, "not labelled")]:
            members = Counter(
                split for split, y in zip(part, source.labels[:, t], strict=True) if y == label
            )
            published = card.class_counts.get(name) if t == 0 else None
            if label >= 0 or members:
                rows.append(
                    {
                        "task": task.name,
                        "class": name,
                        "published": published,
                        "found": members.total(),
                        **{s: members[s] for s in SPLITS},
                    }
                )
    return rows


def _groups(source: Source, part: Sequence[str]) -> dict[str, Any]:
    """How many groups there are, and which lie in two parts."""
    where: dict[str, set[str]] = {}
    for group, split in zip(source.groups, part, strict=True):
        where.setdefault(group, set()).add(split)
    shared = sorted(group for group, splits in where.items() if len(splits) > 1)
    return {
        "number": len(where),
        "largest": max(Counter(source.groups).values()),
        "shared": len(shared),
        "between": _between(where[group] for group in shared),
        "examples": shared[:EXAMPLES],
    }


def _twins(source: Source, part: Sequence[str], pairs: duplicates.Pairs) -> dict[str, Any]:
    """Images with a twin inside and across parts, those with another label, and examples."""
    across = [(i, j) for i, j in pairs.tolist() if part[i] != part[j]]
    conflicting = [
        (i, j) for i, j in pairs.tolist() if (source.labels[i] != source.labels[j]).any()
    ]

    def number(some: Iterable[Sequence[int]]) -> int:
        return len({row for pair in some for row in pair})

    between = {}
    for a, b in combinations(SPLITS, 2):
        some = [pair for pair in across if {part[pair[0]], part[pair[1]]} == {a, b}]
        between[f"{a}-{b}"] = {
            s: len({row for pair in some for row in pair if part[row] == s}) for s in (a, b)
        }
    return {
        "images": number(pairs.tolist()),
        "across": number(across),
        "conflicting": number(conflicting),
        "between": between,
        "examples": [
            [source.ids[i], source.ids[j]] for i, j in (across or pairs.tolist())[:EXAMPLES]
        ],
        "conflicts": [[source.ids[i], source.ids[j]] for i, j in conflicting[:EXAMPLES]],
    }


def _between(shared: Iterable[set[str]]) -> dict[str, int]:
    counts = Counter(
        f"{a}-{b}" for splits in shared for a, b in combinations(SPLITS, 2) if {a, b} <= splits
    )
    return {f"{a}-{b}": counts[f"{a}-{b}"] for a, b in combinations(SPLITS, 2)}
