"""The inputs of cells gathered: victim, data, threat, attack, and the record each starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robustbench_med.attacks import ENGINES, gives
from robustbench_med.errors import UserError
from robustbench_med.evaluation.types import Method
from robustbench_med.naming import label, radius_label
from robustbench_med.runs import chains, corrupting, rivals
from robustbench_med.runs.checks import box_of
from robustbench_med.runs.identity import Inputs
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.threats import (
    effort_of,
    engine_of,
    is_targeted,
    parameters_of_cell,
    threat_of,
)
from robustbench_med.runs.victims import LoadedVictim


def inputs_of(cell: Cell, session: Session[RunSpec]) -> Inputs:
    """Everything that the result of a cell depends on; its victim is trained where it never was."""
    return chained(cell, session.victim(cell), session.sources, session)


def chained(
    cell: Cell,
    victim: LoadedVictim,
    sources_of: Callable[[Cell], Sequence[LoadedVictim]],
    session: Session[RunSpec],
) -> Inputs:
    """Everything that the result of a cell depends on, the records of its chain before it among
    that where its victim is deterministic.

    Args:
        sources_of: the victims that a transfer attack starts from.
    """
    inputs = None
    for each in [*(chains.before(cell, session) if victim.is_deterministic else ()), cell]:
        sources = sources_of(each) if each.attack == "transfer" else []
        inputs = inputs_with(victim, sources, each, session, inputs)
    assert inputs is not None
    return inputs


def inputs_with(
    victim: LoadedVictim,
    sources: Sequence[LoadedVictim],
    cell: Cell,
    session: Session[RunSpec],
    before: Inputs | None,
) -> Inputs:
    """The same of a cell whose record starts from that of another, or from none."""
    spec, dataset = session.spec, session.dataset(cell)
    threat = threat_of(cell, dataset, spec, session.samples(cell), targeted=is_targeted(cell, spec))
    if threat.each and victim.nature.drawing == "batch":
        raise UserError(
            f"eps {cell.eps} differs between the images, and {victim.plan.name} predicts for a"
            " batch as a whole: there is no batch of one radius; write radii for pixels in 0..1"
        )
    params = parameters_of_cell(
        cell, spec, stochastic=victim.nature.stochastic, unaware=victim.plan.unaware
    )
    return Inputs(
        cell,
        spec,
        dataset,
        session.samples(cell),
        victim,
        threat,
        Method(
            cell.attack,
            params,
            engine_of(cell.attack, spec),
            [source.as_source for source in sources],
            effort=effort_of(
                cell.attack,
                spec,
                stochastic=victim.nature.stochastic,
                unaware=victim.plan.unaware,
                boxed=gives(victim.module) is not None,
            ),
        ),
        sources,
        rivals.asked_for(victim, cell, dataset, spec),
        before,
    )


def understand(grid: Sequence[Cell], session: Session[RunSpec]) -> None:
    """Plans the victims of a grid and refuses (UserError), before the first training, radii and
    tasks that the data do not have, and what the victims of some cells do not go with.
    """
    spec = session.spec
    threats = [threat_of(cell, session.dataset(cell), spec, session.samples(cell)) for cell in grid]
    session.victims.plan(grid)
    for cell, threat in zip(grid, threats, strict=True):
        plan = session.victims.plans.of(cell)
        if plan.abstains:
            refuse_beside_rejection(cell, spec)
        if threat.least is not None and box_of(cell.model) is not None:
            raise UserError(
                f"--target-task {cell.target_task}: queries of the black box {plan.defended.name}"
                " are counted by task; aim at all (joint) or at one"
            )


def refuse_beside_rejection(cell: Cell, spec: RunSpec) -> None:
    """Refuses (UserError) what cannot aim at wrong and answered."""
    why = {
        "--target aims at a class, and nothing at an answer": is_targeted(cell, spec),
        f"the engine {spec.engine} knows nothing of rejection": engine_of(cell.attack, spec)
        in ENGINES.keys() - {"native"},
    }
    for reason, applies in why.items():
        if applies:
            raise UserError(f"{label(cell.model)} may abstain (reject): {reason}")


def label_of(inputs: Inputs) -> str:
    """What a cell is called on the display."""
    cell, names = inputs.cell, inputs.dataset.modalities
    how = radius_label(inputs.threat.radii, names, inputs.threat.said, dict(inputs.threat.units))
    if cell.severity is not None:
        touched = [n for n, radius in zip(names, inputs.threat.radii, strict=True) if radius > 0]
        how = str(cell.severity) + (
            "" if len(touched) == len(names) else f" of {'+'.join(touched)}"
        )
    if cell.attack == corrupting.PATCH:
        params = inputs.method.parameters
        touched = [n for n, radius in zip(names, inputs.threat.radii, strict=True) if radius > 0]
        how = f"{params['size']:.3g} {params['place']} of {'+'.join(touched)}"
    return f"{inputs.victim.plan.name} {cell.attack} {how} on {inputs.dataset.label}"
