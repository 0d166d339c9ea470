"""Class-balanced batches of a training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.data import Samples


class BalancedBatches:
    """Batches in which every class of a data set is equally likely; unpaired sets are paired afresh
    in every batch.
    """

    def __init__(self, samples: Samples, batch_size: int, seed: int) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.classes = []
        """For each data set, the rows of each class (of each combination of its tasks' labels)."""
        for component in samples.components:
            _, kind = np.unique(component.labels, axis=0, return_inverse=True)
            self.classes.append(
                [np.flatnonzero(kind.reshape(-1) == k) for k in range(kind.max() + 1)]
            )

    def __call__(self, step: int) -> tuple[list[Tensor], Tensor, NDArray[np.int64]]:
        """Modalities, labels (B, T) and component rows of one step: a function of the seed and the
        step alone.
        """
        rng = np.random.default_rng([self.seed, step])
        index = np.empty((self.batch_size, len(self.classes)), np.int64)
        for k, classes in enumerate(self.classes):
            kinds = rng.integers(len(classes), size=self.batch_size)
            shares = rng.random(self.batch_size)
            for i, (kind, share) in enumerate(zip(kinds, shares, strict=True)):
                members = classes[kind]
                index[i, k] = members[int(share * len(members))]
        labels = np.concatenate(
            [c.labels[index[:, k]] for k, c in enumerate(self.samples.components)], 1
        )
        return self.samples.gather(index), torch.from_numpy(labels), index
