"""Splits: published where there is one, else 70/10/20, by group, stratified, seeded, stored as a hashed manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from robustbench_med.data.readers import SPLITS, Source
from robustbench_med.errors import UserError
from robustbench_med.paths import home, write_text


@dataclass(frozen=True)
class Manifest:
    """Which sample is in which split: ids in order, how they were chosen, and what the files were."""

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
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def store(self) -> None:
        """Writes the manifest below medrobust's home, once."""
        path = home() / "manifests" / f"{self.data}-{self.hash[:12]}.json"
        if not path.exists():
            write_text(path, json.dumps(asdict(self), indent=1))


def make_manifest(source: Source, seed: int) -> Manifest:
    """The split of a source.

    A published test set is kept; a missing validation part is a stratified tenth of the training groups. Without a published
    split, groups are dealt 70/10/20. The result does not depend on the order in which samples were read.
    """
    order = np.argsort(np.array(source.ids))
    published = np.array(source.published)[order]
    part = np.empty(len(order), dtype="<U5")
    if not (published == "test").any():
        policy = "grouped, stratified 70/10/20"
        fold = _folds(source, order, seed)
        part[:] = np.select([fold == 0, fold <= 2], ["val", "test"], "train")
    elif not (published == "val").any():
        policy = "published test; validation a grouped, stratified tenth of the published training part"
        part[:] = published
        train = np.flatnonzero(published == "train")
        fold = _folds(source, order[train], seed)
        part[train[fold == 0]] = "val"
    else:
        policy = "published"
        part[:] = published
    ids = np.array(source.ids)[order]
    parts = {split: tuple(str(i) for i in ids[part == split]) for split in SPLITS}
    empty = [split for split, members in parts.items() if not members]
    if empty:
        raise UserError(f"{source.card.id}: {len(ids)} images are too few, the split {' and '.join(empty)} would be empty")
    return Manifest(source.card.id, source.content, policy, seed, **parts)


def _folds(source: Source, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A fold 0..9 for each row, groups kept together, classes spread evenly."""
    y = np.array(["/".join(map(str, row)) for row in source.labels[rows]])
    groups = np.array(source.groups)[rows]
    _, counts = np.unique(y, return_counts=True)
    n_splits = 10
    if counts.max() < n_splits or len(np.unique(groups)) < n_splits:
        raise UserError(f"{source.card.id}: fewer than {n_splits} images of any class or {n_splits} groups; too few to split")
    grouped = len(np.unique(groups)) < len(groups)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(n_splits, shuffle=True, random_state=seed)
    fold = np.empty(len(rows), np.int64)
    for k, (_, held_out) in enumerate(splitter.split(rows, y, groups if grouped else None)):
        fold[held_out] = k
    return fold
