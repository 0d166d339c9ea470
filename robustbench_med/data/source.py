"""A data set as read: its listing, its decoded images, and what a reader of the results must
know.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data import phantoms, phantoms_paired
from robustbench_med.data.cache import decoded
from robustbench_med.data.cards import (
    TOTAL,
    Card,
    FolderReader,
    MedMNISTReader,
    PhantomReader,
    Published,
    TableReader,
)
from robustbench_med.data.columns import encode
from robustbench_med.data.images import Images, Selected, Tabled
from robustbench_med.data.listing import SPLITS, Cells, Files, Listing
from robustbench_med.data.preprocessing import REVISION
from robustbench_med.data.readers.files import roots
from robustbench_med.data.readers.folders import (
    class_folders,
    find_folder,
    list_folders,
    top_folders,
)
from robustbench_med.data.readers.medmnist import (
    fetch_medmnist,
    find_medmnist,
    list_medmnist,
    preferred,
)
from robustbench_med.data.readers.tables import find_tables, list_table
from robustbench_med.data.subgroups import Parted
from robustbench_med.data.units import OfDrawn, Scales
from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError


@dataclass(frozen=True)
class Source:
    """n readable samples of M modalities and T tasks.

    Attributes:
        ids, labels, groups, published: as in `Listing`.
        images: of each modality, n images (C_m, size, size).
        made: how the pixels are made: the revision of the drawing or of the decoder, with the md5
            of an archive.
        digests: one hash a sample of its bytes on disk; equal hashes are the same image twice.
            Empty for drawn images.
        unreadable: reason by id.
        notes: what a reader of the results must know (unverified file, unreadable images, counts
            that differ).
        unverified, cells, parted: as in `Listing`.
        scales: of each modality, what units of its files are in [0, 1]; None of a table.
    """

    card: Card
    ids: tuple[str, ...]
    images: tuple[Images, ...]
    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    published: tuple[str, ...]
    made: str
    digests: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    unverified: bool = False
    cells: tuple[Cells, ...] = ()
    scales: tuple[Scales | None, ...] = ()
    parted: tuple[Parted, ...] = ()

    @property
    def references(self) -> tuple[Published | None, ...]:
        """The best published figure of each task; None where the images are not the published
        ones (unverified, unreadable or another number of them, drawn) or nothing is published.
        """
        theirs = not (
            self.card.synthetic
            or self.unverified
            or self.unreadable
            or count_notes(self.card, self.published)
        )
        return tuple(self.card.reference(task.name) if theirs else None for task in self.card.tasks)

    @functools.cached_property
    def content(self) -> str:
        """sha256 over all that a result can depend on but the split: images, labels, groups, and
        what the card says the labels mean.

        The order in which samples were read plays no part.
        """
        facts = {
            "modalities": [
                modality.model_dump(exclude_defaults=True) for modality in self.card.modalities
            ],
            "tasks": [task.model_dump() for task in self.card.tasks],
            "label_rule": label_rule(self.card),
            "made": self.made,
        }
        content = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for row in sorted(
            range(len(self.ids)), key=self.ids.__getitem__
        ):  # one by one: there may be a quarter of a million
            sample = [
                self.ids[row],
                self.groups[row],
                self.labels[row].tolist(),
                self.digests[row] if self.digests else None,
            ]
            cells = [self.cells[row]] if self.cells else []
            content.update(json.dumps(sample + cells).encode())
        return content.hexdigest()


def read(
    card: Card, *, size: int, files: Files, preprocessing: Preprocessing | None = None
) -> Source:
    """Reads a whole data set at `size` x `size` pixels, downloading it first where it is open and
    absent.
    """
    if isinstance(card.reader, PhantomReader):
        return _phantoms(card, size) if card.reader.kind == "phantoms" else _patients(card, size)
    listing = list_samples(card, size, files)
    entry = decoded(listing, size, preprocessing or Preprocessing(), files)
    unreadable = tuple((listing.ids[row], why) for row, why in sorted(entry.unreadable.items()))
    if unreadable and files.strict:
        name, why = unreadable[0]
        raise UserError(
            f"{name} cannot be read ({why}); mend or delete it, or leave --strict out to skip it"
        )
    kept = np.array(
        [row for row in range(len(listing.ids)) if row not in entry.unreadable], np.int64
    )
    if not len(kept):
        raise UserError(f"{listing.base} holds no readable image of {card.id}")
    everything = len(kept) == len(listing.ids)
    published = _select(listing.published, kept)
    for split in sorted(set(listing.published) - set(published)):
        raise UserError(
            f"{card.id}: no image of the published {split} part can be read; {unreadable[0][0]}:"
            f" {unreadable[0][1]}"
        )
    notes = [
        *listing.notes,
        *count_notes(card, published),
        *(f"{card.id}: {n} images: {text}" for text, n in entry.remarks.items()),
    ]
    if unreadable:
        names = ", ".join(name.removeprefix(f"{card.id}/") for name, _ in unreadable[:5])
        notes.append(
            f"{len(unreadable)} unreadable images skipped:"
            f" {names}{', ...' if len(unreadable) > 5 else ''}"
        )
    return Source(
        card,
        _select(listing.ids, kept),
        _modalities(listing, entry.images, None if everything else kept),
        listing.labels[kept],
        _select(listing.groups, kept),
        published,
        f"{listing.content or 'files'}, decoder {REVISION}",
        tuple(entry.digests[:, row].tobytes().hex() for row in kept),
        unreadable,
        tuple(notes),
        listing.unverified,
        tuple(listing.cells[row] for row in kept) if listing.cells else (),
        _scales(card, entry.scales[:, kept]),
        tuple(listing.parted[row] for row in kept) if listing.parted else (),
    )


def _scales(card: Card, measured: NDArray[np.float64]) -> tuple[Scales | None, ...]:
    """In the order of the card, from those of its images (M', n, 3)."""
    images = iter(measured)
    return tuple(None if modality.columns else next(images) for modality in card.modalities)


def _modalities(
    listing: Listing, pictures: Sequence[Images], kept: NDArray[np.int64] | None
) -> tuple[Images, ...]:
    """Images and clinical tables in the order of the card; `kept`: those rows alone."""
    found: list[Images] = []
    images, table = iter(pictures), 0
    for modality in listing.card.modalities:
        if modality.columns:
            rows = [cells[table] for cells in listing.cells]
            found.append(Tabled(encode(modality.columns, rows)))
            table += 1
        else:
            found.append(next(images))
    return tuple(found if kept is None else (Selected(each, kept) for each in found))


def label_rule(card: Card) -> Any:
    """Where a card says the labels are: columns and what their values mean, or patterns of folders
    and file names; else None.
    """
    reader = card.reader
    if isinstance(reader, TableReader):
        more = reader.model_dump(include={"outlines", "unknown"}, exclude_defaults=True)
        return [reader.labels, reader.values, *([more] if more else [])]
    if isinstance(reader, FolderReader):
        return [
            [class_folders(reader, name), reader.names.get(name, "*")]
            for name in card.tasks[0].classes
        ]
    return None


def list_samples(card: Card, size: int, files: Files) -> Listing:
    """The listing of a set that lies in files; errors name the set."""
    try:
        return _listed(card, size, files)
    except UserError as error:
        if card.id in str(error):
            raise
        raise UserError(f"{card.id}: {error}") from error


def _listed(card: Card, size: int, files: Files) -> Listing:
    reader = card.reader
    if isinstance(reader, MedMNISTReader):
        return list_medmnist(card, reader, size, files)
    if isinstance(reader, FolderReader):
        return list_folders(card, reader, files.data_root)
    assert isinstance(reader, TableReader)
    return list_table(card, reader, files.data_root)


def fetch(card: Card, size: int, files: Files) -> Path:
    """The file of an open set, downloaded where it is absent; a set to get by hand is a UserError
    with the steps.
    """
    if isinstance(card.reader, MedMNISTReader):
        on_disk = find_medmnist(card, card.reader, size, files.data_root)
        if on_disk is not None and on_disk[1] == preferred(size)[0]:
            return on_disk[0]
        return fetch_medmnist(card, card.reader, size, files)
    if isinstance(card.reader, PhantomReader):
        raise UserError(f"{card.id} needs no download: {placement(card)}")
    steps = " ".join(f"({i}) {step}" for i, step in enumerate(card.obtain, 1))
    raise UserError(
        f"{card.id} cannot be fetched from here ({card.access})."
        f" {steps or f'Get it from {card.url}.'}"
    )


def locate(card: Card, data_root: Path | None) -> Path | None:
    """The folder or file a card's samples lie in; None where they are not on disk (or not in files
    at all).
    """
    reader = card.reader
    if isinstance(reader, MedMNISTReader):
        on_disk = find_medmnist(card, reader, 28, data_root)
        return on_disk[0] if on_disk else None
    if isinstance(reader, FolderReader):
        return find_folder(card, reader, data_root)
    return find_tables(card, reader, data_root) if isinstance(reader, TableReader) else None


def placement(card: Card) -> str:
    """Where a user puts the files."""
    reader = card.reader
    if isinstance(reader, PhantomReader):
        return "nothing to get: drawn by this package"
    if isinstance(reader, MedMNISTReader):
        return (
            f"{reader.flag}.npz (or _64, _128, _224) in a folder named with --data-root, or in"
            " ~/.medmnist; else it is downloaded"
        )
    names = (
        top_folders(card, reader)
        if isinstance(reader, FolderReader)
        else [table.file for table in reader.tables]
    )
    return (
        f"<data root>/{card.id}/ with {', '.join(names)}; the default data root is {roots(None)[0]}"
    )


def count_notes(card: Card, published: Sequence[str]) -> list[str]:
    """A note for every split whose number of images is not the card's."""
    counts = {split: published.count(split) for split in SPLITS} if any(published) else {}
    counts[TOTAL] = len(published)
    return [
        f"{card.id} {split}: {counts[split]} images, published {expected}"
        for split, expected in card.counts.items()
        if split in counts and counts[split] != expected
    ]


def _phantoms(card: Card, size: int) -> Source:
    studies = phantoms.studies(size)
    published = tuple(SPLITS[split] for split, _ in studies.keys)
    ids = tuple(f"{card.id}/{SPLITS[split]}/{i:05d}" for split, i in studies.keys)
    images = tuple(phantoms.Drawing(studies, m) for m in (0, 1))
    made, scales = f"drawing {phantoms.VERSION}", tuple(map(OfDrawn, images))
    return Source(card, ids, images, studies.labels, ids, published, made, scales=scales)


def _patients(card: Card, size: int) -> Source:
    patients = phantoms_paired.patients(size)
    published = tuple(SPLITS[split] for split, _ in patients.keys)
    ids = tuple(f"{card.id}/{SPLITS[split]}/{i:05d}" for split, i in patients.keys)
    classes = {"diagnosis": phantoms_paired.DIAGNOSES, "outcome": phantoms_paired.OUTCOMES}
    images: list[Images] = []
    for modality in card.modalities:
        drawn = modality.name in phantoms_paired.MODALITIES[:2] and modality.channels == 1
        if not (drawn or (modality.name == phantoms_paired.MODALITIES[2] and modality.columns)):
            raise UserError(f"{card.id}: paired phantoms draw no such modality {modality.name!r}")
        number = phantoms_paired.MODALITIES.index(modality.name)
        images.append(
            phantoms.Drawing(patients, number)
            if drawn
            else Tabled(patients.table(modality.columns))
        )
    if any(classes.get(task.name) != task.classes for task in card.tasks):
        raise UserError(f"{card.id}: the tasks of paired phantoms are {classes}")
    labels = patients.labels[:, [list(classes).index(task.name) for task in card.tasks]]
    made = f"drawing {phantoms_paired.VERSION} of patients, {phantoms.VERSION}"
    scales = tuple(None if isinstance(each, Tabled) else OfDrawn(each) for each in images)
    return Source(card, ids, tuple(images), labels, ids, published, made, scales=scales)


def _select(values: Sequence[str], rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(values[row] for row in rows)
