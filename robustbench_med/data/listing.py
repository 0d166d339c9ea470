"""What every reader produces: the samples of a data set before any image is decoded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data.cards import Card
from robustbench_med.data.preprocessing import Raw
from robustbench_med.data.subgroups import Parted
from robustbench_med.progress import Tick

SPLITS = ("train", "val", "test")


def silent(_: str) -> AbstractContextManager[Tick]:
    """No progress shown."""
    return contextlib.nullcontext(lambda done, total, note: None)


@dataclass(frozen=True)
class Files:
    """Where files are looked for and what is tolerated in them.

    Attributes:
        data_root: folder that holds the data sets on disk, None for medrobust's own.
        accept_unverified: use a file whose md5 is not the published one.
        strict: refuse (UserError) an unreadable image instead of skipping and counting it.
        say: called with one line about a download, or about decoded images that must be made again.
        progress: opens a progress bar with a title.
    """

    data_root: Path | None = None
    accept_unverified: bool = False
    strict: bool = False
    say: Callable[[str], None] = lambda _: None
    progress: Callable[[str], AbstractContextManager[Tick]] = silent


Cells = tuple[dict[str, str] | None, ...]


@dataclass(frozen=True)
class Listing:
    """n samples of M modalities and T tasks.

    Attributes:
        base: the folder or file they come from.
        ids: stable, path-like, unique.
        labels: (n, T), -1 where a task is not labelled.
        groups: the unit that must not straddle splits (patient, lesion); the id itself where the
            set has none.
        published: "train", "val" or "test" of the published split, "" where there is none.
        images: yields the M undecoded images of each sample, in the order of `ids`.
        content: the md5 of the one file they all come from; None where `images` yields files, which
            are hashed one by one.
        notes: what a reader of the results must know (unverified file, rows without a file).
        unverified: a file is not the published one.
        cells: of each sample the cells of each clinical table by column, None where it misses the
            table; empty where the set has none.
        parted: of each sample its subgroup in each column of the rows that the card parts by
            (`subgroups.of_listing`); empty where there are none.
    """

    card: Card
    base: Path
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    published: tuple[str, ...]
    images: Callable[[], Iterator[tuple[Raw, ...]]]
    content: str | None = None
    notes: tuple[str, ...] = ()
    unverified: bool = False
    cells: tuple[Cells, ...] = ()
    parted: tuple[Parted, ...] = ()
