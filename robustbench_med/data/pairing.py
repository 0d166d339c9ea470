"""Pairing: multimodal samples out of one data set, or of several unpaired ones by index."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.data import subgroups
from robustbench_med.data.cards import Card, Published, card
from robustbench_med.data.columns import Column
from robustbench_med.data.images import Images, Selected
from robustbench_med.data.listing import SPLITS, Files
from robustbench_med.data.source import Source, read
from robustbench_med.data.splits import (
    Manifest,
    fold_label,
    fold_manifest,
    make_manifest,
    shipped_notes,
)
from robustbench_med.dataspec import Fold, Preprocessing, shapes
from robustbench_med.errors import UserError


@dataclass(frozen=True)
class Component:
    """One split of one data set inside a pairing: `images` of each of its modalities, `labels` (n,
    T'), `ids` and `groups` (n).
    """

    images: tuple[Images, ...]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    """The patient (or lesion, volume) of each; the id itself where the card names none."""

    def __repr__(self) -> str:
        return f"Component({len(self.ids)} samples)"


@dataclass(frozen=True)
class Samples:
    """One split of a pairing.

    Attributes:
        components: the data sets behind it, in the order of the pairing.
        index: (n, number of components), which row of each component a sample is made of.
        channels: channels of each modality as the model sees them.
    """

    components: tuple[Component, ...]
    index: NDArray[np.int64]
    channels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples)"

    @property
    def ids(self) -> list[str]:
        """Stable sample ids: the parts' ids, escaped, joined by "+"."""
        return [
            "+".join(escaped(c.ids[row]) for c, row in zip(self.components, rows, strict=True))
            for rows in self.index
        ]

    @functools.cached_property
    def labels(self) -> Tensor:
        """(n, T) int64, -1 = not labelled."""
        return torch.from_numpy(
            np.concatenate([c.labels[self.index[:, k]] for k, c in enumerate(self.components)], 1)
        )

    @property
    def distinct(self) -> list[int]:
        """Number of distinct images behind each modality; below n where the shorter set cycles."""
        counts = []
        for rows, component in zip(self.index.T, self.components, strict=True):
            counts += [len(np.unique(rows))] * len(component.images)
        return counts

    @property
    def label_rows(self) -> NDArray[np.int64]:
        """(n, T), which row of its component each task's label belongs to: equal rows are the same
        image again.
        """
        tasks = [component.labels.shape[1] for component in self.components]
        return self.index.repeat(tasks, 1)

    @functools.cached_property
    def label_groups(self) -> NDArray[np.int64]:
        """(n, T), a number for the group that each task's labelled image belongs to: repeats of an
        image share one.
        """
        columns = []
        for rows, component in zip(self.index.T, self.components, strict=True):
            _, group = np.unique(np.array(component.groups), return_inverse=True)
            columns += [group[rows]] * component.labels.shape[1]
        return np.stack(columns, 1)

    @property
    def distinct_labels(self) -> list[int]:
        """Number of distinct labelled images behind each task."""
        return [
            len(np.unique(rows[known]))
            for rows, known in zip(self.label_rows.T, self.labels.numpy().T >= 0, strict=True)
        ]

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Tensor]:
        """The modalities of some samples: M float32 tensors (len(rows), C_m, S, S) in [0, 1]."""
        return self.gather(self.index[np.asarray(rows)])

    def gather(self, index: NDArray[np.int64]) -> list[Tensor]:
        """As `batch`, for explicit component rows (b, number of components)."""
        arrays = [images[index[:, k]] for k, c in enumerate(self.components) for images in c.images]
        tensors = [
            torch.from_numpy(array).float() / 255
            if array.dtype == np.uint8
            else torch.from_numpy(array)
            for array in arrays
        ]
        return [
            t.expand(-1, c, -1, -1).contiguous() if t.shape[1] < c else t
            for t, c in zip(tensors, self.channels, strict=True)
        ]

    def head(self, n: int | None) -> Samples:
        """The first n samples (all when None)."""
        return replace(self, index=self.index[:n])

    def drawn(self, n: int | None) -> Samples:
        """n samples at random, always the same ones, in their order (all when None): whoever gave
        arrays may have sorted them.
        """
        if n is None or n >= len(self):
            return self
        rows = np.random.default_rng(0).choice(len(self), n, replace=False)
        return replace(self, index=self.index[np.sort(rows)])


@dataclass(frozen=True)
class Dataset:
    """A data set or pairing ready for training and evaluation."""

    name: str
    splits: dict[str, Samples]
    modalities: tuple[str, ...]
    channels: tuple[int, ...]
    tasks: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    size: int
    synthetic: bool
    manifest_hash: str
    preprocessing: Preprocessing
    notes: tuple[str, ...]
    content: str
    """Hash of images, labels and what they mean, and of the split's seed: the same for all folds of
    a cross-validation.
    """
    references: tuple[Published | None, ...]
    """The published figure with the highest AUC of each task, to hold clean figures against; None
    where there is none, and where the images or the test part are not the published ones
    (unverified files, drawn images, a fold).
    """
    unverified: bool = False
    """Whether a file is not the published one: reading it again takes `--accept-unverified`."""
    fold: Fold | None = None
    given: str = ""
    """What `--data` was: card ids or paths, joined by "+"."""
    data_root: Path | None = None
    """Where its files were looked for first."""
    columns: tuple[tuple[Column, ...], ...] = ()
    """Of each modality the columns of its table, none of an image; empty where all are images."""
    optional: tuple[int, ...] = ()
    """Modalities that some samples lack."""
    subgroups: tuple[subgroups.Subgroups, ...] = ()

    def __repr__(self) -> str:
        inputs = ", ".join(
            f"{name} {'x'.join(map(str, shape))}"
            for name, shape in zip(self.modalities, self.shapes, strict=True)
        )
        tasks = ", ".join(
            f"{task} ({len(names)} classes)"
            for task, names in zip(self.tasks, self.classes, strict=True)
        )
        sizes = ", ".join(f"{part} {len(samples)}" for part, samples in self.splits.items())
        return f"<data set {self.label}: {inputs}; {tasks}; {sizes}>"

    def check_labelled(self, split: str, samples: Samples) -> None:
        """Refuses (UserError) samples of a split of which a task has no label."""
        for name, labels in zip(self.tasks, samples.labels.T, strict=True):
            if not bool((labels >= 0).any()):
                raise UserError(
                    f"{self.label}: none of the {len(samples)} images taken of the {split} part is"
                    f" labelled for the task {name}; take more of them (--limit), or leave the task"
                    " out of the card"
                )

    @property
    def label(self) -> str:
        """The name, and which fold of a cross-validation it is."""
        return self.name + fold_label(self.fold)

    @property
    def class_counts(self) -> tuple[int, ...]:
        return tuple(map(len, self.classes))

    @property
    def tables(self) -> tuple[int, ...]:
        """Modalities that are clinical tables."""
        return tuple(m for m, columns in enumerate(self.columns) if columns)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, S, S) of each modality, (D, 1, 1) of a table."""
        return shapes(self.channels, self.size, self.tables)


def load(
    name: str,
    *,
    size: int,
    channels: int | None = None,
    split_seed: int = 0,
    fold: Fold | None = None,
    preprocessing: Preprocessing | None = None,
    files: Files | None = None,
) -> Dataset:
    """Loads a data set, or a pairing `a+b`.

    A pairing joins unpaired sets by index after a seeded permutation, the shorter one cycling;
    every set brings its own modalities and tasks. All sets of a pairing share the image size.

    Args:
        name: card ids or paths to YAML cards, joined by "+".
        size: pixels of a side.
        channels: of every modality as the model asks (grey is repeated); None: as in the files.
        split_seed: seed of splits and pairing.
        fold: (k, n): fold k, from 0, of the n of a grouped cross-validation, not the usual split.
        preprocessing: how files become squares of 8 bits.
        files: where files are looked for and what is tolerated in them.

    Returns:
        The train, val and test samples, and what a record says of them.

    Raises:
        UserError: an unknown set, one that is not on disk, files that do not fit its card.

    Example:
        load("breastmnist+pneumoniamnist", size=64).splits["test"].batch([0, 1, 2])
    """
    cards = _cards(name)
    files, preprocessing = files or Files(), preprocessing or Preprocessing()
    sources = [read(c, size=size, files=files, preprocessing=preprocessing) for c in cards]
    manifests = [_manifest(source, split_seed, fold) for source in sources]
    for manifest in manifests:
        manifest.store()
    seen = _channels(name, cards, channels)
    return Dataset(
        name="+".join(c.id for c in cards),
        splits=_splits(sources, manifests, split_seed, seen),
        modalities=_unique([(modality.name, c.id) for c in cards for modality in c.modalities]),
        channels=seen,
        tasks=_unique([(task.name, c.id) for c in cards for task in c.tasks]),
        classes=tuple(task.classes for c in cards for task in c.tasks),
        size=size,
        synthetic=any(c.synthetic for c in cards),
        manifest_hash=_joint_hash([manifest.hash for manifest in manifests], split_seed),
        preprocessing=preprocessing,
        notes=_notes(sources, manifests, fold),
        content=_joint_hash([manifest.content for manifest in manifests], split_seed),
        references=_references(sources, fold),
        unverified=any(source.unverified for source in sources),
        fold=fold,
        given=name,
        data_root=files.data_root,
        **_kinds(cards),
    )


def _cards(name: str) -> list[Card]:
    """The cards of a pairing's data sets; one that is named twice is a UserError."""
    cards = [card(part) for part in name.split("+")]
    if len({c.id for c in cards}) < len(cards):
        raise UserError(f"the pairing {name!r} names a data set twice")
    return cards


def _channels(name: str, cards: Sequence[Card], channels: int | None) -> tuple[int, ...]:
    """Channels of each modality as the model sees it; RGB where grey is asked for is a
    UserError.
    """
    modalities = [modality for c in cards for modality in c.modalities]
    seen = tuple(m.depth if m.columns else max(m.depth, channels or 0) for m in modalities)
    if channels is not None and any(
        each != channels and not m.columns for each, m in zip(seen, modalities, strict=True)
    ):
        raise UserError(
            f"{name}: the preset asks for {channels} channel(s), but the images are RGB"
        )
    return seen


def _kinds(cards: Sequence[Card]) -> dict[str, Any]:
    """`columns` and `optional` of a `Dataset`."""
    modalities = [modality for c in cards for modality in c.modalities]
    columns = tuple(modality.columns for modality in modalities)
    called = _unique([(m.name, c.id) for c in cards for m in c.modalities])
    return {
        "subgroups": subgroups.of_cards(cards, called),
        "columns": columns if any(columns) else (),
        "optional": tuple(m for m, modality in enumerate(modalities) if modality.optional),
    }


def _manifest(source: Source, seed: int, fold: Fold | None) -> Manifest:
    """The usual split, or a fold of a cross-validation."""
    if fold is None:
        return make_manifest(source, seed)
    return fold_manifest(source, seed, fold=fold[0], n_folds=fold[1])


def _splits(
    sources: Sequence[Source], manifests: Sequence[Manifest], seed: int, channels: tuple[int, ...]
) -> dict[str, Samples]:
    """The paired samples of every split."""
    splits = {}
    for split in SPLITS:
        parts = [_part(s, m, split) for s, m in zip(sources, manifests, strict=True)]
        splits[split] = _pair(parts, split, seed, channels)
    return splits


def _notes(
    sources: Sequence[Source], manifests: Sequence[Manifest], fold: Fold | None
) -> tuple[str, ...]:
    """What a reader of the results must know of the files, and of a split that is not the shipped
    one.
    """
    notes = [note for source in sources for note in source.notes]
    if fold is None:
        for manifest in manifests:
            notes += shipped_notes(manifest)
    return tuple(notes)


def _references(sources: Sequence[Source], fold: Fold | None) -> tuple[Published | None, ...]:
    """The best published figure of each task; a fold tests on other images than published."""
    return tuple(
        figure if fold is None else None for source in sources for figure in source.references
    )


def _joint_hash(hashes: Sequence[str], seed: int) -> str:
    """One hash of all data sets and of the seed that pairs them."""
    return hashlib.sha256(f"{'+'.join(hashes)}/{seed}".encode()).hexdigest()


def escaped(part: str) -> str:
    """An id as a part of a pairing's: "%" is written %25 and "+" %2B, so that other ids stay other
    ids and "+" parts them.
    """
    return part.replace("%", "%25").replace("+", "%2B")


def _unique(names: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Short names; those that occur twice get their data set in front."""
    short = [name for name, _ in names]
    return tuple(name if short.count(name) == 1 else f"{origin}-{name}" for name, origin in names)


def _part(source: Source, manifest: Manifest, split: str) -> Component:
    row_of = {sample: row for row, sample in enumerate(source.ids)}
    members: tuple[str, ...] = getattr(manifest, split)
    rows = np.array([row_of[sample] for sample in members])
    groups = tuple(source.groups[row] for row in rows)
    return Component(
        tuple(Selected(images, rows) for images in source.images),
        source.labels[rows],
        members,
        groups,
    )


def _pair(parts: Sequence[Component], split: str, seed: int, channels: tuple[int, ...]) -> Samples:
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    permutations = [rng.permutation(len(part.ids)) for part in parts]
    n = max(map(len, permutations))
    index = np.stack(
        [permutation[np.arange(n) % len(permutation)] for permutation in permutations], 1
    )
    return Samples(tuple(parts), index, channels)
