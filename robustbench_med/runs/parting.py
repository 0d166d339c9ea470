"""The subgroups of a cell's samples, kept beside what became of them as the card has them now."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.data.subgroups import arrays_of
from robustbench_med.runs.identity import Inputs
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store


def subgroups_of(inputs: Inputs) -> dict[str, NDArray[Any]]:
    """`subgroup_NAME` (n,) of every column that the card parts by."""
    return arrays_of(inputs.dataset.subgroups, inputs.dataset.columns, inputs.samples)


def parted_anew(inputs: Inputs, record: Record, store: Store[Record]) -> Record:
    """A record that is there, with today's subgroups: they are in no hash, so that a card may name
    another column, or a cell be mended, and nothing is attacked again.
    """
    now, names = subgroups_of(inputs), [each.name for each in inputs.dataset.subgroups]
    before = store.arrays(record, list(now)) if now else {}
    same = [np.array_equal(before[name], now[name]) for name in now if name in before]
    if record.names.subgroups == names and len(same) == len(now) and all(same):
        return record
    arrays = store.arrays(record)
    kept = {name: each for name, each in arrays.items() if not name.startswith("subgroup_")}
    content = record.plain()
    content["names"] = {**content["names"], "subgroups": names}
    return store.write(Record.of(content), kept | now)
