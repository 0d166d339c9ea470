"""The threat and the attack of a cell: radii and tasks on its data, who computes the attack, and
with which parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from robustbench_med.attacks import CORRUPTIONS, Threat, complete, entry_of
from robustbench_med.attacks import parameters as attack_parameters
from robustbench_med.errors import UserError, unknown
from robustbench_med.evaluation.types import Effort
from robustbench_med.naming import CORRUPTION, number_label
from robustbench_med.parameters import of
from robustbench_med.parsing import parse_radii
from robustbench_med.runs.spec import Case, Cell, RunSpec, ThreatsSpec
from robustbench_med.store.record import CONTROL

EOT_DEFAULT = 4
"""Draws per gradient against a stochastic victim under the sound protocol."""

EOT_AUTOATTACK = 20
"""The same for AutoAttack's version for random victims (arXiv 2003.01690, section 6.2)."""


class Described(Protocol):
    """Data as a threat sees them: the names of their modalities and tasks, and (C, H, W) of each
    modality.
    """

    @property
    def modalities(self) -> tuple[str, ...]: ...

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def shapes(self) -> Sequence[tuple[int, int, int]]: ...


def threat_of(
    point: Cell | Case, dataset: Described, spec: ThreatsSpec, *, targeted: bool = False
) -> Threat:
    """The threat model of a cell or case on its data.

    Args:
        spec: what the point is of.

    Raises:
        UserError: a radius for a modality, or a task, that the data do not have; of L1 or L0 one
            that holds every image of a modality.
    """
    names = list(dataset.tasks)
    if point.target_task == "joint":
        tasks = tuple(range(len(names)))
    elif point.target_task in names:
        tasks = (names.index(point.target_task),)
    elif point.target_task.isdigit() and int(point.target_task) < len(names):
        tasks = (int(point.target_task),)
    else:
        raise unknown(
            "target task", point.target_task, ["joint", *names, *map(str, range(len(names)))]
        )
    radii = parse_radii(point.eps, dataset.modalities)
    counts = spec.l0_counts if point.norm == "L0" else "pixels"
    threat = Threat(point.norm, radii, tasks, targeted=targeted, counts=counts)
    if not spec.whole_range:
        check_size(threat, dataset)
    return threat


def check_size(threat: Threat, dataset: Described) -> None:
    """Refuses (UserError) L1 and L0 radii whose ball holds every image of a modality."""
    if threat.norm not in ("L1", "L0"):
        return
    by_place = threat.norm == "L0" and threat.counts == "pixels"
    what = "pixels" if by_place else "coordinates"
    for name, radius, (channels, height, width) in zip(
        dataset.modalities, threat.radii, dataset.shapes, strict=True
    ):
        most = height * width * (1 if by_place else channels)
        if radius >= most:
            raise UserError(
                f"eps {number_label(radius)} ({threat.norm}): an image of {name} has {most} {what},"
                " so that the ball holds every image; --whole-range (whole_range: true) takes it as"
                " it stands"
            )


def is_targeted(cell: Cell, spec: RunSpec) -> bool:
    """Whether the attack of a cell aims at a class: the noise control and corruptions never do."""
    return spec.target is not None and cell.attack not in (CONTROL, *CORRUPTIONS)


def engine_of(attack: str, spec: RunSpec) -> str:
    """Who computes an attack: the noise control is always native, and so are corruptions, which
    stand apart from engines.
    """
    if attack in CORRUPTIONS:
        return CORRUPTION
    return "native" if attack == CONTROL else spec.engine


PASSES_OVER_PGD = 50
"""Budget of a search: so many times the passes of `pgd` by default on that victim."""


def effort_of(attack: str, spec: RunSpec, *, stochastic: bool, unaware: bool) -> Effort | None:
    """When the search that an attack begins stops; None where the attack runs once, as those of a
    fixed budget do whatever the effort.

    Raises:
        UserError: a search that cannot be made.
    """
    usual = entry_of(attack, engine_of(attack, spec)).escalates
    wanted = spec.effort or usual or "quick"
    if usual is None or wanted == "quick":
        return None
    refused = {
        "--protocol release has a fixed budget": spec.protocol == "release",
        "a search is untargeted": spec.target is not None,
        "an adaptive attack knows of the victim's transform; leave out attack=unaware": unaware,
    }
    for why, applies in refused.items():
        if applies:
            said = "" if spec.effort else f" ({attack} makes it by default; --effort quick is one)"
            raise UserError(f"--effort {wanted}{said}: {why}")
    passes = attack_parameters("pgd")["steps"] * (EOT_DEFAULT if stochastic else 1)
    return Effort(wanted, spec.max_passes or PASSES_OVER_PGD * passes)


def parameters_of(
    attack: str, spec: RunSpec, *, stochastic: bool, unaware: bool = False, given: bool = True
) -> dict[str, Any]:
    """An attack's complete parameters: its defaults, the protocol's, then the user's (unless not
    `given`).

    Args:
        stochastic: whether the victim is random.
        unaware: the attack does not see an input transform of the victim: it would stop where the
            bare network falls.

    Raises:
        UserError: a value that the attack cannot take.
    """
    engine = engine_of(attack, spec)
    known = attack_parameters(attack, engine)
    wanted = protocol_parameters(attack, spec, stochastic=stochastic, unaware=unaware)
    if given:
        wanted |= of(spec.attack_params, attack)
    try:
        return complete(
            attack,
            {key: value for key, value in wanted.items() if key in known},
            engine,
            random=stochastic and spec.protocol == "sound",
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def parameters_of_cell(
    cell: Cell, spec: RunSpec, *, stochastic: bool, unaware: bool = False
) -> dict[str, Any]:
    """The same of a cell, a corruption's severity among them."""
    given = parameters_of(cell.attack, spec, stochastic=stochastic, unaware=unaware)
    return given if cell.severity is None else given | {"severity": cell.severity}


def protocol_parameters(
    attack: str, spec: RunSpec, *, stochastic: bool, unaware: bool
) -> dict[str, Any]:
    """What the protocol of a run asks of an attack that has these parameters."""
    if spec.protocol == "release":
        # the authors' notebook: 10 steps of eps/4 from the clean image, no EOT
        return {"steps": 10, "step_size": 0.25, "random_start": False, "eot": 1, "keep": "last"}
    eot = EOT_AUTOATTACK if attack == "autoattack" else EOT_DEFAULT
    parameters: dict[str, Any] = {"eot": eot if stochastic else 1}
    if stochastic or unaware:
        # a random victim's iterates are not picked by the draw they happened to fail at, whatever
        # the number of draws
        parameters["keep"] = "last"
    return parameters
