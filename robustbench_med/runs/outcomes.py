"""What becomes of the cells of a run, kept in its ledger."""

from __future__ import annotations

from robustbench_med.runs.units import Outcome
from robustbench_med.store.ledger import Writer


class Outcomes:
    """Called with what became of a cell, as soon as that is known.

    Attributes:
        ledger: of the run.
        known: outcomes so far, by the number of the cell.
    """

    def __init__(self, ledger: Writer) -> None:
        self.ledger = ledger
        self.known: dict[int, Outcome] = {}

    def __call__(self, outcome: Outcome) -> None:
        self.known[outcome.number] = outcome
        self.ledger.note(outcome.number, record=outcome.record, failure=outcome.failure)
