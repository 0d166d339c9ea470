"""The threat and the attack of a cell: radii and tasks on its data, who computes the attack, and
with which parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from robustbench_med.attacks import (
    APART,
    CORRUPTIONS,
    ENGINES,
    OWN_THREATS,
    Columns,
    Threat,
    asking,
    complete,
    entry_of,
    under,
)
from robustbench_med.attacks import parameters as attack_parameters
from robustbench_med.data import Samples
from robustbench_med.data.columns import FLIPS, Column, places, width_of
from robustbench_med.errors import UserError, unknown
from robustbench_med.evaluation.goals import check_goal
from robustbench_med.evaluation.types import Effort
from robustbench_med.naming import ANY, CORRUPTION, OWN_THREAT, number_label
from robustbench_med.parameters import of
from robustbench_med.parsing import columns_of, in_units, parse_radii
from robustbench_med.runs import radii_in_units
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
    def class_counts(self) -> tuple[int, ...]: ...  # empty: not known yet

    @property
    def shapes(self) -> Sequence[tuple[int, int, int]]: ...

    @property
    def columns(self) -> tuple[tuple[Column, ...], ...]: ...

    @property
    def optional(self) -> tuple[int, ...]: ...


def threat_of(
    point: Cell | Case,
    dataset: Described,
    spec: ThreatsSpec,
    samples: Samples | None,
    *,
    targeted: bool = False,
) -> Threat:
    """The threat model of a cell or case on its data.

    Args:
        spec: what the point is of.
        samples: those it is evaluated on, of which radii in the unit of their files depend; None
            where images are in no file.

    Raises:
        UserError: a radius for a modality, or a task, that the data do not have, or in a unit that
            their files do not; of L1 or L0 one that holds every image of a modality.
    """
    tasks, least = aim_of(point.target_task, list(dataset.tasks))
    if isinstance(spec, RunSpec) and dataset.class_counts:
        check_goal(spec.target, [dataset.class_counts[t] for t in tasks])
    counts = spec.l0_counts if point.norm == "L0" else "pixels"
    threat = Threat(
        point.norm,
        radii_of(point.eps, dataset),
        tasks,
        targeted=targeted,
        counts=counts,
        columns=tables_of(point.eps, dataset),
        optional=dataset.optional,
        least=least,
    )
    if least is not None:
        check_choice(threat, point, spec)
    if in_units(point.eps):
        threat = radii_in_units.translated(threat, point.eps, dataset, samples)
    if threat.each and isinstance(point, Cell) and point.attack in OWN_THREATS:
        raise UserError(
            f"eps {point.eps} differs between the images, which {point.attack} does not respect;"
            " write radii for pixels in 0..1"
        )
    if threat.columns:
        check_columns(threat, point, spec)
    if any(threat.radii[m] for m in dataset.optional):
        check_missing(threat, dataset, point, spec)
    if not spec.whole_range:
        check_size(threat, dataset)
    return threat


def aim_of(target: str, names: Sequence[str]) -> tuple[tuple[int, ...], int | None]:
    """The tasks that `--target-task` aims at, and how many of them are to be wrong; None: all.

    Raises:
        UserError: no such task, or another number than there are.
    """
    everything = tuple(range(len(names)))
    number = target.removeprefix("k=")
    if target == "joint":
        return everything, None
    if target in names:
        return (names.index(target),), None
    if target.isdigit() and int(target) < len(names):
        return (int(target),), None
    if target == ANY or (target != number and number.isascii() and number.isdigit()):
        least = 1 if target == ANY else int(number)
        if not 1 <= least <= len(names):
            raise UserError(
                f"target task {target}: the data have 1 to {len(names)} tasks to choose"
            )
        return everything, least if least < len(names) else None
    known = ["joint", ANY, f"k=1 to k={len(names)}", *names, *map(str, everything)]
    raise unknown("target task", target, known)


def check_choice(threat: Threat, point: Cell | Case, spec: ThreatsSpec) -> None:
    """Refuses (UserError) what cannot leave the choice of the tasks to the attacker."""
    aim = f"--target-task {point.target_task}"
    if not isinstance(point, Cell) or not isinstance(spec, RunSpec):
        raise UserError(f"diagnose looks at all tasks or at one: {aim} is for run")
    able = [name for name in under(point.norm) if entry_of(name).chooses]
    refused = {
        f"the engine {spec.engine} attacks all tasks": engine_of(point.attack, spec)
        in ENGINES.keys() - {"native"},
        f"{point.attack} attacks all tasks; what can choose: {', '.join(able)}": point.attack
        not in able,
        "a search for the strongest attack is for all tasks": spec.effort not in (None, "quick"),
        "classes to aim at (--target) are of all tasks": threat.targeted,
    }
    for why, applies in refused.items():
        if applies:
            raise UserError(f"{aim}: {why}")


def radii_of(eps: str, dataset: Described) -> tuple[float, ...]:
    """The radius of each modality; of a table whose columns are attacked `Columns.radius`."""
    tables = [m for m, columns in zip(dataset.modalities, dataset.columns, strict=False) if columns]
    radii = parse_radii(eps, dataset.modalities, trusted=tables, units=True)
    bounds = tables_of(eps, dataset)
    return tuple(
        bounds[m].radius if bounds and bounds[m] else r  # type: ignore[union-attr]
        for m, r in enumerate(radii)
    )


def extent_of(eps: str, dataset: Described) -> tuple[float, ...]:
    """The radii of a threat one by one, those of columns and flips too: where none of one threat is
    larger than of another, its ball lies within.
    """
    extent = list(radii_of(eps, dataset))
    for name, columns in zip(dataset.modalities, dataset.columns, strict=False):
        bounds = columns_of(eps, name)
        extent += [bounds.get(column, 0.0) for column in (*(c.name for c in columns), FLIPS)]
    return tuple(extent) + radii_in_units.extent(eps, dataset)


def tables_of(eps: str, dataset: Described) -> tuple[Columns | None, ...]:
    """What may change of each table; empty where none is attacked.

    Raises:
        UserError: a column that a table does not have, a categorical one with a radius, a number of
            flips that is none.
    """
    found = [
        table_of(name, columns, bounds) if (bounds := columns_of(eps, name)) else None
        for name, columns in zip(dataset.modalities, dataset.columns, strict=False)
    ]
    return tuple(found) if any(found) else ()


def table_of(name: str, columns: Sequence[Column], bounds: Mapping[str, float]) -> Columns | None:
    """What may change of one table, from the bounds of its columns in their own units; None where
    all are 0.
    """
    numeric = {column.name: column for column in columns if column.range is not None}
    where = places(columns)
    groups = tuple(where[column.name] for column in columns if column.range is None)
    radii = [0.0] * width_of(columns)
    flips = bounds.get(FLIPS, 0.0)
    for column, bound in bounds.items():
        if column in numeric:
            low, high = numeric[column].range or (0.0, 1.0)
            radii[where[column][0]] = bound / (high - low)
        elif column in where:
            raise UserError(
                f"eps: {name}.{column} is categorical, it has no radius; {name}.{FLIPS}=1 lets one"
                " such column take another value"
            )
        elif column != FLIPS:
            raise unknown("column", f"{name}.{column}", [*where, FLIPS])
    if flips != round(flips) or flips > len(groups):
        raise UserError(
            f"eps: {name}.{FLIPS} is the number of categorical columns that may change, 0 to"
            f" {len(groups)}, got {flips:g}"
        )
    if not flips and not any(radii):
        return None
    said = tuple((f"{name}.{column}", bound) for column, bound in sorted(bounds.items()) if bound)
    return Columns(said, tuple(radii), groups, int(flips))


def check_columns(threat: Threat, point: Cell | Case, spec: ThreatsSpec) -> None:
    """Refuses (UserError) what no attack can do to the columns of a table."""
    if threat.norm != "Linf":
        raise UserError(
            f"eps {point.eps}: columns of a table are bounded under Linf, not {threat.norm}"
        )
    if not isinstance(point, Cell) or not isinstance(spec, RunSpec):
        return
    engine = engine_of(point.attack, spec)
    if engine != "native":
        raise UserError(
            f"the engine {engine} knows one radius a modality, and a table's columns have their"
            " own; take --engine native"
        )
    able = [name for name in under("Linf") if entry_of(name).flips]
    if threat.flips and point.attack not in able:
        raise UserError(
            f"{point.attack} moves numbers along a gradient and cannot give categorical columns"
            f" another value; what can: {', '.join(able)}"
        )


def check_missing(
    threat: Threat, dataset: Described, point: Cell | Case, spec: ThreatsSpec
) -> None:
    """Refuses (UserError) attacks that would draw what a sample misses."""
    if not isinstance(point, Cell) or not isinstance(spec, RunSpec):
        return
    engine = engine_of(point.attack, spec)
    if engine == CORRUPTION:
        return
    if engine != "native" or entry_of(point.attack).minimal is not None:
        who = point.attack if engine == "native" else f"the engine {engine}"
        attacked = [dataset.modalities[m] for m in dataset.optional if threat.radii[m]]
        names = ", ".join(attacked)
        raise UserError(
            f"{who} cannot leave alone what a sample misses, and some samples here lack {names};"
            " take pgd, apgd, square, autoattack or adaptive, or trust these modalities"
            f" (--eps {attacked[0]}=0,...)"
        )


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
    """Whether the attack of a cell aims at a class: those beside engines never do."""
    return spec.target is not None and cell.attack not in (CONTROL, *APART)


def engine_of(attack: str, spec: RunSpec) -> str:
    """Who computes an attack: the noise control is always native; corruptions and attacks of a
    threat of their own stand apart from engines.
    """
    if attack in CORRUPTIONS:
        return CORRUPTION
    if attack in OWN_THREATS:
        return OWN_THREAT
    return "native" if attack == CONTROL else spec.engine


PASSES_OVER_PGD = 50
"""Budget of a search: so many times the passes of `pgd` by default on that victim."""


def effort_of(
    attack: str, spec: RunSpec, *, stochastic: bool, unaware: bool, boxed: bool = False
) -> Effort | None:
    """When the search that an attack begins stops; None where the attack runs once, as those of a
    fixed budget do whatever the effort.

    Args:
        boxed: whether the victim is a black box: its queries are what there is to spend.

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
    if boxed:
        return Effort("auto", 0, spec.max_queries or asking.QUERIES)
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
