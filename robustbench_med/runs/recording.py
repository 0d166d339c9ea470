"""What is written about a cell that was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from robustbench_med import naming
from robustbench_med.attacks import ran
from robustbench_med.data import Dataset
from robustbench_med.evaluation import cost, signs
from robustbench_med.evaluation.protocol import single_draw
from robustbench_med.evaluation.signs import Sign
from robustbench_med.evaluation.types import (
    Challenge,
    Clean,
    Method,
    Outcome,
)
from robustbench_med.runs.commands import command_of
from robustbench_med.runs.device import peak_memory_mib
from robustbench_med.runs.estimates import Estimate
from robustbench_med.runs.identity import Inputs
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.record import Record
from robustbench_med.version import versions


@dataclass(frozen=True)
class Measurement:
    """What was measured in one cell.

    Attributes:
        clean: the clean pass, shared by all attacks on the victim.
        method: the attack as it ran.
        outcome: its figures, and the arrays of every sample.
        signs: that it may have failed.
        leaning: how predictions of the victim or a source depend on the batch; None: they do not.
        started: when the attack began, in seconds since 1970.
        challenges: what short attacks of other kinds took of what it left.
        expected: how long it was to take, where that was known.
    """

    clean: Clean
    method: Method
    outcome: Outcome
    signs: list[Sign]
    leaning: str | None
    started: float
    challenges: list[Challenge]
    expected: Estimate | None


def record_of(inputs: Inputs, session: Session[RunSpec], measured: Measurement) -> Record:
    """What is written about a cell."""
    dataset, victim = inputs.dataset, inputs.victim
    clean, method, outcome = measured.clean, measured.method, measured.outcome
    attack_ran = _attack_ran(inputs, measured)
    content = {
        "hash": inputs.hash,
        "spec": inputs.spec,
        "command": command_of(inputs.cells, inputs.run, len(inputs.samples), dataset),
        "names": {
            "modalities": list(dataset.modalities),
            "tasks": list(dataset.tasks),
            "classes": [list(c) for c in dataset.classes],
            **({"subgroups": [g.name for g in dataset.subgroups]} if dataset.subgroups else {}),
            **_findings(inputs),
        },
        **_references(dataset),
        "figures": outcome.figures,
        **({"attack_ran": attack_ran} if attack_ran else {}),
        "diagnostics": signs.plain(measured.signs),
        "soft_gradients": callable(getattr(victim.module, "soft", None)),
        **_challenges(measured.challenges),
        **({"carried": asdict(outcome.carried)} if outcome.carried else {}),
        "stochastic": clean.stochastic,
        **({"batch_dependent": measured.leaning} if measured.leaning else {}),
        "draws": clean.draws,
        "naive": single_draw(clean, method, outcome.search) or victim.plan.unaware,
        "synthetic": dataset.synthetic,
        "notes": [
            *dataset.notes,
            *victim.nature.notes,
            *_of_box(victim.module),
            *_of_random(clean, inputs),
        ],
        "unverified": dataset.unverified,
        "repeatable": victim.nature.repeatable,
        "architecture": naming.label(victim.plan.model),
        "on_gpu": session.device.type != "cpu",
        "distinct_images": dict(zip(dataset.modalities, inputs.samples.distinct, strict=True)),
        "victim": {
            **victim.cost(dataset),
            "checkpoint": str(victim.checkpoint.path.name),
            "origin": victim.checkpoint.origin,
        },
        "cost": {
            **outcome.cost,
            **_expected(measured.expected),
            "batch_size": session.batch.size,
            "peak_memory_mib": peak_memory_mib(session.device),
        },
        "environment": {
            "device": cost.device_name(session.device),
            "versions": versions(),
            "started": measured.started,
            "threads": torch.get_num_threads(),
        },
    }
    return Record.of(content)


def _attack_ran(inputs: Inputs, measured: Measurement) -> dict[str, Any]:
    """What an attack's parameters left open, and the rounds of its search."""
    dataset, threat, method = inputs.dataset, inputs.threat, measured.method
    class_counts = {dataset.tasks[t]: len(dataset.classes[t]) for t in threat.tasks}
    told, random = dict(method.parameters), measured.clean.draws > 1
    known = (
        ran(method.name, told, class_counts, threat.norm, stochastic=random)
        if method.engine == "native"
        else {}
    )
    if (parts := measured.outcome.arrays.get("part")) is not None:
        known = known | {"parts": [int((parts == part).sum()) for part in (0, 1)]}
    search = measured.outcome.search
    return known if search is None else known | {"search": search.plain()}


def _of_box(victim: nn.Module) -> list[str]:
    """The note on how images reach a black box, where that changes them."""
    box = getattr(victim, "black_box", None)
    return [box.device.note] if box is not None and box.device.note else []


def _of_random(clean: Clean, inputs: Inputs) -> list[str]:
    """The notes on a random victim that is in no chain, or that one draw judges; empty where more
    do, or the protocol asks for one.
    """
    run, notes = inputs.run, list[str]()
    if (run.carry or run.cascade) and not inputs.victim.is_deterministic:
        notes.append(
            f"{'--carry' if run.carry else '--cascade'} is for deterministic victims: this one was"
            " attacked by itself"
        )
    if clean.stochastic and clean.draws == 1 and run.protocol == "sound":
        notes.append(
            "one draw: the victim is random, and was attacked and judged as if one pass were its"
            " answer (--draws 1); its interval knows nothing of how other draws would differ"
        )
    return notes


def _findings(inputs: Inputs) -> dict[str, list[str]]:
    """The part `findings` of the names; empty where the set is not multi-label."""
    tasks = zip(inputs.dataset.tasks, inputs.samples.findings, strict=True)
    found = [name for name, is_finding in tasks if is_finding]
    return {"findings": found} if found else {}


def _expected(estimate: Estimate | None) -> dict[str, object]:
    """What the cell was to take, beside what it took; empty where that was not known."""
    if estimate is None:
        return {}
    return {"estimated_seconds": estimate.seconds, "estimate_basis": estimate.basis}


def _challenges(challenges: list[Challenge]) -> dict[str, object]:
    """The part `challenges` of a record; empty where none ran."""
    rows = [asdict(each) for each in challenges]
    usual = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return {"challenges": usual} if usual else {}


def _references(dataset: Dataset) -> dict[str, list[dict[str, object] | None]]:
    """The part `references` of a record; empty where nothing was published."""
    if not any(dataset.references):
        return {}
    wanted = {"model", "size", "accuracy", "auc", "source"}
    return {
        "references": [
            None if figure is None else figure.model_dump(include=wanted)
            for figure in dataset.references
        ]
    }
