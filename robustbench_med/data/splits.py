"""Splits: published where there is one, else 70/10/20, by group, stratified, seeded, stored as a
hashed manifest.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from robustbench_med.data.listing import SPLITS
from robustbench_med.data.source import Source
from robustbench_med.dataspec import Fold
from robustbench_med.errors import UserError
from robustbench_med.paths import home, remember

MANIFESTS = files(__package__) / "manifests"


@dataclass(frozen=True)
class Manifest:
    """Which sample is in which split: ids in order, how they were chosen, and what the files
    were.
    """

    data: str
    content: str
    policy: str
    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def hash(self) -> str:
        """sha256 over the canonical JSON."""
        return hashlib.sha256(
            json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()

    def store(self) -> None:
        """Writes the manifest below medrobust's home, once."""
        path = home() / "manifests" / f"{self.data}-{self.hash[:12]}.json"
        if not path.exists():
            remember(path, json.dumps(asdict(self), indent=1))


def make_manifest(source: Source, seed: int) -> Manifest:
    """The split of a source.

    A published test set is kept; a missing validation part is a stratified tenth of the training
    groups. Without a published split, groups are dealt 70/10/20. Copies of one file count as one
    group, so that no split made here has a twin in another. The result does not depend on the order
    in which samples were read.
    """
    order = np.argsort(np.array(source.ids))
    published = np.array(source.published)[order]
    part = np.empty(len(order), dtype="<U5")
    if not (published == "test").any():
        policy = "grouped, stratified 70/10/20"
        fold = folds(source, order, seed)
        part[:] = np.select([fold == 0, fold <= 2], ["val", "test"], "train")
    elif not (published == "val").any():
        policy = (
            "published test; validation a grouped, stratified tenth of the published training part"
        )
        part[:] = published
        train = np.flatnonzero(published == "train")
        fold = folds(source, order[train], seed)
        part[train[fold == 0]] = "val"
    else:
        policy = "published"
        part[:] = published
    return _manifest(source, order, part, policy, seed)


def fold_manifest(source: Source, seed: int, *, fold: int, n_folds: int) -> Manifest:
    """One fold of a grouped, stratified cross-validation over all samples, whatever split is
    published.

    Fold `fold` is the test part; a stratified tenth of the other groups is the validation part.
    """
    order = np.argsort(np.array(source.ids))
    held_out = folds(source, order, seed, n_folds) == fold
    part = np.where(held_out, "test", "train")
    rest = np.flatnonzero(~held_out)
    part[rest[folds(source, order[rest], seed) == 0]] = "val"
    return _manifest(
        source, order, part, f"grouped, stratified cross-validation, fold {fold} of {n_folds}", seed
    )


def shipped(data: str) -> Manifest | None:
    """The seed-0 manifest that comes with the package: where the archive was seen and its sample
    ids are stable.
    """
    path = MANIFESTS / f"{data}.json"
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Manifest(**(document | {split: tuple(document[split]) for split in SPLITS}))


def shipped_notes(manifest: Manifest) -> list[str]:
    """One line where a split is not the shipped one of its set and seed: what differs. Empty where
    it is, or none is shipped.
    """
    theirs = shipped(manifest.data)
    if theirs is None or manifest.seed != theirs.seed:
        return []
    ours, expected = (
        {sample: split for split in SPLITS for sample in getattr(m, split)}
        for m in (manifest, theirs)
    )
    different = {
        "missing": sorted(expected.keys() - ours.keys()),
        "not in it": sorted(ours.keys() - expected.keys()),
        "in another part": sorted(
            sample for sample in ours.keys() & expected.keys() if ours[sample] != expected[sample]
        ),
    }
    said = [
        f"{len(samples):,} {what} (such as {samples[0]})"
        for what, samples in different.items()
        if samples
    ]
    return (
        [f"{manifest.data}: not the split that comes with medrobust: {', '.join(said)}"]
        if said
        else []
    )


def fold_label(fold: Fold | None) -> str:
    """What a line about a data set adds to its name."""
    return "" if fold is None else f", fold {fold[0]} of {fold[1]}"


def folds(
    source: Source, rows: NDArray[np.int64], seed: int, n_folds: int = 10
) -> NDArray[np.int64]:
    """A fold 0..n_folds-1 for each row, groups and copies kept together, classes spread evenly."""
    from sklearn.model_selection import (  # a second to import
        StratifiedGroupKFold,
        StratifiedKFold,
    )

    y = strata(source.labels[rows], multilabel=source.card.multilabel)
    groups = units(source)[rows]
    _, counts = np.unique(y, return_counts=True)
    n_groups = len(np.unique(groups))
    if counts.max() < n_folds or n_groups < n_folds:
        raise UserError(
            f"{source.card.id}: fewer than {n_folds} images of any class or {n_folds} groups; too"
            " few to split"
        )
    grouped = n_groups < len(groups)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(
        n_folds, shuffle=True, random_state=seed
    )
    fold = np.empty(len(rows), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The least populated class", UserWarning
        )  # rare classes miss some folds: unavoidable
        for k, (_, held_out) in enumerate(splitter.split(rows, y, groups if grouped else None)):
            fold[held_out] = k
    return fold


def strata(labels: NDArray[np.int64], *, multilabel: bool) -> NDArray[Any]:
    """What each of n samples is of, for classes to be spread evenly: its labels (n, T) together; of
    findings, whose combinations are too many, the rarest that is present.
    """
    if not multilabel:
        return np.array(["/".join(map(str, row)) for row in labels])
    present = labels == 1
    order = np.argsort(present.sum(0), kind="stable")
    rank = np.where(present[:, order].any(1), present[:, order].argmax(1), -1)
    return rank.astype(str)


def units(source: Source) -> NDArray[np.int64]:
    """What must not be torn apart: a number for each sample, the same for one group and for copies
    of one file.

    Numbered by the first id of each unit, so that the order of the samples plays no part.
    """
    n = len(source.ids)
    _, group = np.unique(np.array(source.groups), return_inverse=True)
    _, copies = np.unique(np.array(source.digests or source.ids), return_inverse=True)
    edges = np.concatenate([n + group, n + group.max() + 1 + copies])
    size = int(edges.max()) + 1
    graph = coo_array(
        (np.ones(2 * n, np.int8), (np.tile(np.arange(n), 2), edges)), shape=(size, size)
    )
    _, component = connected_components(graph, directed=False)
    order = np.argsort(np.array(source.ids))
    _, first, number = np.unique(component[:n][order], return_index=True, return_inverse=True)
    unit = np.empty(n, np.int64)
    unit[order] = np.argsort(np.argsort(first))[number]
    return unit


def _manifest(
    source: Source, order: NDArray[np.int64], part: NDArray[np.str_], policy: str, seed: int
) -> Manifest:
    ids = np.array(source.ids)[order]
    parts = {split: tuple(str(i) for i in ids[part == split]) for split in SPLITS}
    empty = [split for split, members in parts.items() if not members]
    if empty:
        raise UserError(
            f"{source.card.id}: {len(ids)} images are too few, the split {' and '.join(empty)}"
            " would be empty"
        )
    return Manifest(source.card.id, source.content, policy, seed, **parts)
