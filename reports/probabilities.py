"""Tables and figures of what victims predict (clinical, calibration, subgroups, reliability), made
in one pass over the outcomes of all records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from robustbench_med.reports import clinical, subgroups
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store


class Probabilities:
    """What records of a store predict; each of their files is read once."""

    def __init__(self, store: Store[Record], every: Sequence[Record]) -> None:
        thresholds = clinical.Thresholds(store.folder.parent)
        self.decided = clinical.Rows(thresholds, every)
        self.parted = subgroups.Rows(thresholds, every)
        for record in sorted(every, key=clinical.place):
            wanted = [*clinical.needed(record), *subgroups.needed(record)]
            arrays = store.arrays(record, wanted)
            self.decided.add(record, arrays)
            self.parted.add(record, arrays)

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return self.decided.frames() | {"subgroups": self.parted.frame()}

    def diagrams(self) -> Iterator[tuple[str, Figure]]:
        """Reliability diagrams by names for their files."""
        return self.decided.diagrams()
