"""Paired phantoms: an MRI, an X-ray and a clinical table of one drawn patient. Synthetic, and
labelled so everywhere.

The latent patient has a lesion in the brain, a nodule in the lung, both or neither (`diagnosis`),
an age and habits. The MRI shows the lesion alone, the X-ray the nodule alone; the table holds age,
sex, smoking and a blood marker, which rises with both and says for certain neither. `outcome` is
what extent and age make likely. So no modality has the answer by itself, and of some patients one
is missing.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data.columns import Column, Values, encode
from robustbench_med.data.phantoms import Studies

VERSION = 1
"""As `phantoms.VERSION`."""
MODALITIES = ("mri", "xray", "clinic")
DIAGNOSES = ("healthy", "brain", "lung", "both")
OUTCOMES = ("low risk", "high risk")
RING, NODULE = 2, 1
"""The classes of `phantoms` that a lesion and a nodule are drawn as."""
SHARES = (0.7, 0.1, 0.15, 0.05)
"""Of patients who miss nothing, the MRI, the X-ray, the table."""
SMOKING = ("never", "former", "current")


class Patients(Studies):
    """All splits in a row, as `Studies`; what a patient misses stays black.

    Attributes:
        labels: (n, 2), diagnosis and outcome.
        absent: (n, 3), whether the modality is missing.
        cells: of each patient the table's cells by column; None where the table is missing.
    """

    def __init__(self, *, size: int, seed: int = 0) -> None:
        super().__init__(size=size, seed=seed)
        drawn = [self._patient(key) for key in self.keys]
        self.labels = np.array([labels for labels, _, _ in drawn], np.int64)
        diagnosis = self.labels[:, 0]
        self.findings = np.stack((diagnosis % 2 * RING, diagnosis // 2 * NODULE), 1)
        self.absent = np.array([[m == missing for m in (1, 2, 3)] for _, missing, _ in drawn])
        self.cells = [
            None if gone else cells
            for (_, _, cells), gone in zip(drawn, self.absent[:, 2], strict=True)
        ]

    def _patient(self, key: tuple[int, int]) -> tuple[tuple[int, int], int, dict[str, str]]:
        """Labels, number of what is missing (0: nothing), and cells of one patient."""
        rng = np.random.default_rng([self.seed, *key, 1])
        diagnosis = int(rng.integers(len(DIAGNOSES)))
        brain, lung = diagnosis % 2, diagnosis // 2
        age = float(np.clip(rng.normal(55 + 4 * brain + 4 * lung, 12), 20, 90))
        odds = np.array([0.5 - 0.2 * lung, 0.3, 0.2 + 0.2 * lung])
        smoking = SMOKING[rng.choice(len(SMOKING), p=odds)]
        marker = float(np.clip(rng.normal(10 + 5 * brain + 5 * lung, 6), 0, 40))
        risk = 1.5 * (brain + lung - 1) + (age - 59) / 14 + rng.normal(0, 0.3)
        cells = {
            "age": f"{age:.1f}",
            "sex": ("female", "male")[rng.integers(2)],
            "smoking": smoking,
            "marker": f"{marker:.1f}",
        }
        missing = int(rng.choice(len(SHARES), p=SHARES))
        return (diagnosis, int(risk > 0)), missing, cells

    def draw(self, rows: NDArray[np.int64]) -> None:
        super().draw(rows)
        for m in (0, 1):
            self.pixels[m, rows[self.absent[rows, m]]] = 0

    def table(self, columns: tuple[Column, ...]) -> Values:
        """(n, D) in [0, 1], as the card's columns say."""
        return encode(columns, self.cells)


@functools.lru_cache(maxsize=2)
def patients(size: int) -> Patients:
    """The patients of one size, shared by all who load them."""
    return Patients(size=size)
