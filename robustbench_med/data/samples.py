"""Samples: which images and labels of one or more data sets belong together, and their batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.data.images import Images, Rows
from robustbench_med.data.subgroups import Parted
from robustbench_med.data.units import Scales, Sizes, sizes


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
    rows: Rows | None = None
    """Which rows of `scales` these are; None: all."""
    scales: tuple[Scales | None, ...] = ()
    """As in `Source`; empty where nobody knows the files."""
    multilabel: bool = False
    """As in `Card`."""
    parted: tuple[Parted, ...] = ()
    """As in `Listing`."""

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

    @property
    def findings(self) -> list[bool]:
        """(T,) whether a task is a finding of a multi-label set, which AUC judges."""
        return [part.multilabel for part in self.components for _ in range(part.labels.shape[1])]

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

    def sizes(self, unit: str) -> list[Sizes | None]:
        """Of each modality (n,): what one `unit` of its files (grey, HU, %) is in [0, 1], NaN where
        an image has none; None of tables, and of images in no file.
        """
        found: list[Sizes | None] = []
        for k, part in enumerate(self.components):
            rows = self.index[:, k] if part.rows is None else part.rows[self.index[:, k]]
            scales = part.scales or (None,) * len(part.images)
            found += [None if each is None else sizes(each, rows, unit) for each in scales]
        return found or [None] * len(self.channels)

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


def escaped(part: str) -> str:
    """An id as a part of a pairing's: "%" is written %25 and "+" %2B, so that other ids stay other
    ids and "+" parts them.
    """
    return part.replace("%", "%25").replace("+", "%2B")
