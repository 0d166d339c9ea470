"""What a plan holds: cells done and to do, trainings, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from robustbench_med.attacks.budget import Budget
from robustbench_med.progress import clock
from robustbench_med.runs.estimates import Basis, Estimate
from robustbench_med.runs.spec import Cell, VictimPoint

State = Literal["done", "to do", "failed"]
"""Failed before: it is tried again, unless the job says otherwise."""


@dataclass(frozen=True)
class PlannedCell:
    """One cell of the grid.

    Attributes:
        cell: what is to be evaluated.
        label: its victim, as tables call it.
        state: whether its record is there, or the failure of an earlier try.
        passes: forward and backward passes it takes at most; None where that is not known.
        flops: of them.
        estimate: how long it takes; None of a done one, and where nothing tells.
    """

    cell: Cell
    label: str
    state: State
    passes: Budget | None
    flops: int | None
    estimate: Estimate | None


@dataclass(frozen=True)
class PlannedTraining:
    """One training that is needed; `seconds` None where nothing tells."""

    name: str
    seconds: float | None
    basis: Literal["training", "passes"]
    bytes: int


@dataclass
class PlannedVictim:
    """One victim with its cells: what one worker takes on at a time.

    Attributes:
        point: its place in the grid.
        name: what tables call it.
        training: the one it needs first, unless a victim before it needs the same.
        memory: bytes of one gradient of a batch.
    """

    point: VictimPoint
    name: str
    training: PlannedTraining | None
    memory: int
    cells: list[PlannedCell] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of its training and cells, as far as they are known."""
        trained = self.training.seconds if self.training else None
        return (trained or 0.0) + sum(c.estimate.seconds for c in self.cells if c.estimate)


@dataclass(frozen=True)
class RunPlan:
    """A run before it begins.

    Attributes:
        victims: with their cells, in the order of the grid.
        baseline: victims that errors under corruptions are measured against, with theirs; they
            come once all others are done.
        jobs: workers that share the victims.
        batch: samples a batch.
        device: on which times hold.
        record_bytes: of a record and its outcomes, about.
        left: states of cells that the run leaves as they are.
    """

    victims: tuple[PlannedVictim, ...]
    jobs: int
    batch: int
    device: str
    record_bytes: int
    left: tuple[State, ...] = ("done",)
    baseline: tuple[PlannedVictim, ...] = ()

    def __repr__(self) -> str:
        unknown = f", {self.unknown} of unknown time" if self.unknown else ""
        return (
            f"<plan: {len(self.to_do)} of {len(self.cells)} cells to do, {len(self.trainings)}"
            f" trainings, about {clock(self.elapsed)} with {self.jobs} workers on {self.device}"
            f"{unknown}>"
        )

    @property
    def every(self) -> tuple[PlannedVictim, ...]:
        """All victims, those of the baseline last."""
        return *self.victims, *self.baseline

    @property
    def cells(self) -> list[PlannedCell]:
        """All of the grid, and of the baseline."""
        return [cell for victim in self.every for cell in victim.cells]

    @property
    def to_do(self) -> list[PlannedCell]:
        """Cells that the run would try."""
        return [cell for cell in self.cells if cell.state not in self.left]

    @property
    def trainings(self) -> list[PlannedTraining]:
        """Trainings that are needed."""
        return [victim.training for victim in self.every if victim.training]

    @property
    def unknown(self) -> int:
        """Cells and trainings whose time is not known."""
        cells = sum(cell.estimate is None for cell in self.to_do)
        return cells + sum(training.seconds is None for training in self.trainings)

    def by_basis(self, basis: Basis) -> int:
        """Cells to do whose time rests on this."""
        return sum(c.estimate is not None and c.estimate.basis == basis for c in self.to_do)

    @property
    def seconds(self) -> float:
        """One worker's time."""
        return sum(victim.seconds for victim in self.every)

    @property
    def elapsed(self) -> float:
        """The time until all workers are done: each takes the longest victim that is left."""
        return sum(_elapsed(victims, self.jobs) for victims in (self.victims, self.baseline))

    @property
    def passes(self) -> Budget:
        """Passes of the cells to do at most, as far as they are known."""
        return sum((cell.passes for cell in self.to_do if cell.passes), Budget())

    @property
    def flops(self) -> int:
        """FLOPs of these passes."""
        return sum(cell.flops for cell in self.to_do if cell.flops)

    @property
    def memory(self) -> int:
        """Bytes of the largest victim's gradient of a batch."""
        return max((victim.memory for victim in self.every), default=0)

    @property
    def disk(self) -> int:
        """Bytes of new weights and records."""
        return self.record_bytes * len(self.to_do) + sum(t.bytes for t in self.trainings)


def _elapsed(victims: Sequence[PlannedVictim], jobs: int) -> float:
    """Seconds until workers are done with victims."""
    workers = [0.0] * jobs
    for seconds in sorted((victim.seconds for victim in victims), reverse=True):
        workers[workers.index(min(workers))] += seconds
    return max(workers)
