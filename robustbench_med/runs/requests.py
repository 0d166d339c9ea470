"""Requests: what a cell is before its victim exists, with the training in the place of weights.

A request names the failure of a cell, which may have come to no weights; records are named by more
(`identity`).
"""

from __future__ import annotations

from typing import Any

from robustbench_med.naming import canonical_hash, training_hash
from robustbench_med.runs.chains import before
from robustbench_med.runs.identity import threat_identity
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec, VictimPoint
from robustbench_med.runs.threats import (
    effort_of,
    engine_of,
    is_targeted,
    parameters_of_cell,
    threat_of,
)
from robustbench_med.runs.victim_plans import Plans, VictimPlan


def request_of(cell: Cell, session: Session[RunSpec]) -> dict[str, Any]:
    """Everything that a planned cell asks for. The user's own code is left out: mended, it succeeds
    to the same request.
    """
    spec, dataset, plan = session.spec, session.dataset(cell), session.victims.plans.of(cell)
    threat = threat_of(cell, dataset, spec, session.samples(cell), targeted=is_targeted(cell, spec))
    unaware = plan.defended.unaware
    effort = effort_of(cell.attack, spec, stochastic=False, unaware=unaware)
    sources = session.victims.source_points(cell) if cell.attack == "transfer" else []
    return {
        **victim_request(cell, session),
        "threat": threat_identity(threat, spec.target),
        "attack": {
            "name": cell.attack,
            "params": parameters_of_cell(cell, spec, stochastic=False, unaware=unaware),
            "engine": engine_of(cell.attack, spec),
            "effort": effort and effort.name,
            "sources": [_victim(session.victims.source_plans, point) for point in sources],
        },
        "protocol": {
            "name": spec.protocol,
            "draws": spec.draws,
            "chunk": spec.chunk,
            "batch_draws": spec.batch_draws,
            "challenge": spec.challenge,
            **({"accelerate": spec.accelerate} if spec.accelerate else {}),
        },
        "samples": len(session.samples(cell)),
        "seed": cell.seed,
        **_chain_before(cell, session),
    }


def _chain_before(cell: Cell, session: Session[RunSpec]) -> dict[str, Any]:
    """The part `before`: attack and radii of the cells of its chain that come before a cell."""
    chain = before(cell, session)
    return {"before": [[each.attack, each.eps] for each in chain]} if chain else {}


def request_hash(cell: Cell, session: Session[RunSpec]) -> str:
    """The name of a request."""
    return canonical_hash(request_of(cell, session))


def victim_request(point: VictimPoint, session: Session[RunSpec]) -> dict[str, Any]:
    """Which victim on which data: what the cells of a unit share."""
    dataset = session.dataset(point)
    return {
        "victim": _victim(session.victims.plans, point),
        "data": {
            "name": dataset.name,
            "fold": dataset.fold,
            "size": dataset.size,
            "manifest": dataset.manifest_hash,
        },
    }


def _victim(plans: Plans, point: VictimPoint) -> dict[str, Any]:
    plan: VictimPlan = plans.of(point)
    training = plan.spec.model_copy(update={"source_sha256": "", "code": {}})
    weights = (
        {"training": training_hash(training)}
        if plan.checkpoint is None
        else {"weights_sha256": plan.checkpoint.sha256}
    )
    return {"model": plan.defended.name, "defense": plan.defended.layers, **weights}
