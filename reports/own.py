"""Tables of the user's own: functions of records that `report` writes as CSV beside the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from robustbench_med.errors import UserError
from robustbench_med.store.record import Record

OWN: dict[str, Callable[[Sequence[Record]], Any]] = {}
"""By the name of the file that they become, without `.csv`."""


def frames(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """The tables by name.

    Raises:
        UserError: a function returned something else than a data frame.
    """
    made = {}
    for name, function in OWN.items():
        frame = function(records)
        if not isinstance(frame, pd.DataFrame):
            raise UserError(
                f"report {name!r} returned {type(frame).__name__}, expected a pandas DataFrame"
            )
        made[name] = frame
    return made
