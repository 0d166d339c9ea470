"""What images alone bound in a grid: corruptions, which kinds at which severities on which
modalities, the baseline that their errors are measured against, and patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustbench_med.attacks import CORRUPTIONS, KINDS, SEVERITIES
from robustbench_med.attacks.corruptions import EVERY
from robustbench_med.naming import CONTROL, NO_BASELINE, label
from robustbench_med.parameters import of, only, owned
from robustbench_med.parsing import in_units, parse_radii
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec

WHOLE = "1"
"""The radius of a modality that images alone bound, of Linf."""
PATCH = "patch"
UNBOUNDED = {*CORRUPTIONS, PATCH}
"""What `--attack` takes that no radius bounds."""


def is_corruption(attack: str) -> bool:
    """Whether `--attack` means a corruption by this name."""
    return attack in CORRUPTIONS


def corrupted(
    grid: Sequence[Cell], spec: RunSpec, modalities: Mapping[str, Sequence[str]]
) -> list[Cell]:
    """A grid with every cell of a corruption taken apart: one a kind and severity, once whatever
    the radii, of which only those of 0 count; so too a patch, whose size is a parameter.

    Noise, which attacks have to beat, is left out of a grid of nothing else. A kind changes the
    modalities that it suits, or all where it is named and suits none.

    Args:
        modalities: their names, by data set.
    """
    cells = dict[str, Cell]()
    alone = set(spec.attack) <= UNBOUNDED
    for cell in grid:
        if alone and cell.attack == CONTROL:
            continue
        names = modalities[cell.data]
        if cell.attack == PATCH:
            parts = [*_patched(cell, names)]
        else:
            parts = [*_parts(cell, spec, names)] if cell.attack in CORRUPTIONS else [cell]
        cells |= {part.model_dump_json(): part for part in parts}
    return list(cells.values())


def _patched(cell: Cell, modalities: Sequence[str]) -> Iterator[Cell]:
    attacked = attacked_by(cell.eps, modalities)
    if attacked:
        yield cell.model_copy(update={"norm": "Linf", "eps": _whole(attacked, modalities)})


def attacked_by(eps: str, modalities: Sequence[str]) -> list[str]:
    """The modalities with a radius, of pixels or in the unit of their files."""
    radii, own = parse_radii(eps, modalities, units=True), in_units(eps)
    for_all = own.get("", (0.0, ""))
    return [
        name
        for name, radius in zip(modalities, radii, strict=True)
        if radius > 0 or own.get(name, for_all)[0] > 0
    ]


def _whole(attacked: Sequence[str], modalities: Sequence[str]) -> str:
    """Radii of modalities that images alone bound; the others are trusted."""
    if list(attacked) == list(modalities):
        return WHOLE
    return ",".join(f"{m}={WHOLE}" for m in attacked)


def _parts(cell: Cell, spec: RunSpec, modalities: Sequence[str]) -> Iterator[Cell]:
    attacked = attacked_by(cell.eps, modalities)
    for kind in KINDS if cell.attack == EVERY else [cell.attack]:
        suited = [name for name in attacked if KINDS[kind].suits(name)]
        if not suited and cell.attack != EVERY:
            suited = attacked
        eps = _whole(suited, modalities)
        given = of(spec.attack_params, kind).get("severity")
        for severity in (SEVERITIES if given is None else [given]) if suited else ():
            changed = {"attack": kind, "norm": "Linf", "eps": eps, "severity": severity}
            yield cell.model_copy(update=changed)


def baseline_of(session: Session[RunSpec]) -> Session[RunSpec] | None:
    """The run of the victim that corruption errors are measured against; None where the grid holds
    no corruption, or that victim already, or where it is not wanted or cannot be trained.
    """
    spec = session.spec
    asked = [attack for attack in spec.attack if attack in CORRUPTIONS]
    there = spec.baseline in spec.model and "none" in spec.defense
    if not asked or there or spec.baseline == NO_BASELINE:
        return None
    untrained = [d.name for d in session.datasets.values() if not len(d.splits.get("train", ()))]
    if untrained and "baseline" not in spec.model_fields_set:
        session.job.display.say(
            f"no baseline: {', '.join(untrained)} has nothing to train {spec.baseline} on;"
            " corruption errors stand by themselves"
        )
        return None
    names = [label(spec.baseline)]
    changed = {
        "model": [spec.baseline],
        "defense": ["none"],
        "defense_params": {},
        "model_params": only(owned(spec.model_params), names),
        "recipe": only(owned(spec.recipe), names),
        "checkpoint": None,
        "attack": asked,
        "attack_params": only(spec.attack_params, [EVERY, *KINDS]),
        "control": False,
        "source": [],
        "effort": None,
        "max_passes": None,
        "target": None,
        "carry": False,
        "cascade": False,
    }
    return session.of(spec.model_copy(update=changed))
