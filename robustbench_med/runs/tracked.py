"""What loggers get of records: their sweeps, and the trainings of their victims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_med.store import tracking
from robustbench_med.store.record import Record
from robustbench_med.store.tracking import Tracked
from robustbench_med.training.checkpoints import find_sidecar


def tracked(records: Sequence[Record], out: Path) -> list[Tracked]:
    """One run a sweep over radii, and one a training of a victim of theirs whose sidecar is at
    hand.
    """
    victims = {record.spec.victim.weights_sha256: record.victim.checkpoint for record in records}
    sidecars = [find_sidecar(file, sha256) for sha256, file in victims.items()]
    trainings = [tracking.of_training(sidecar) for sidecar in sidecars if sidecar]
    return [*trainings, *tracking.of_run(records, out)]
