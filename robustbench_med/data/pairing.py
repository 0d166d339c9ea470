"""Pairing: multimodal samples out of one data set, or of several unpaired ones by index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_med.data import subgroups
from robustbench_med.data.cards import Card, Published, card
from robustbench_med.data.columns import Column
from robustbench_med.data.images import Selected
from robustbench_med.data.listing import SPLITS, Files
from robustbench_med.data.samples import Component, Samples
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
    subgroups: tuple[subgroups.Subgroups | subgroups.Listed, ...] = ()

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
        rows,
        source.scales,
        source.card.multilabel,
        tuple(source.parted[row] for row in rows) if source.parted else (),
    )


def _pair(parts: Sequence[Component], split: str, seed: int, channels: tuple[int, ...]) -> Samples:
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    permutations = [rng.permutation(len(part.ids)) for part in parts]
    n = max(map(len, permutations))
    index = np.stack(
        [permutation[np.arange(n) % len(permutation)] for permutation in permutations], 1
    )
    return Samples(tuple(parts), index, channels)
