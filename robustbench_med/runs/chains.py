"""Chains: cells of a grid of which each starts from what the one before broke.

`--carry` makes one of every sweep, `--cascade` one of the attacks under every threat. A chain is
worked on in its order by who works on its victim, and never by two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from operator import le

from robustbench_med.attacks import APART, entry_of
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.threats import engine_of, extent_of
from robustbench_med.store.record import CONTROL


def chain_of(cell: Cell, session: Session[RunSpec]) -> list[Cell]:
    """The chain that a cell is in, in its order, if its victim is deterministic; else the cell
    alone.
    """
    spec = session.spec
    left_out = (CONTROL, *APART)
    if cell.attack in left_out or not (spec.carry or spec.cascade):
        return [cell]
    if spec.cascade:
        attacks = [name for name in dict.fromkeys(spec.bounded) if name not in left_out]
        return [cell.model_copy(update={"attack": name}) for name in attacks]
    if is_searched_once(cell.attack, spec):
        return [cell]
    return [cell.model_copy(update={"eps": eps}) for eps in sweep_of(cell, session)]


def before(cell: Cell, session: Session[RunSpec]) -> list[Cell]:
    """The cells of its chain that come before a cell."""
    return list(itertools.takewhile(lambda each: each != cell, chain_of(cell, session)))


def has_next(cell: Cell, session: Session[RunSpec]) -> bool:
    """Whether another cell of its chain comes after a cell."""
    return chain_of(cell, session)[-1] != cell


def is_searched_once(attack: str, spec: RunSpec) -> bool:
    """Whether an attack seeks the smallest perturbation: a radius then only reads off what a search
    has found.
    """
    return entry_of(attack, engine_of(attack, spec)).minimal is not None


def sweep_of(cell: Cell, session: Session[RunSpec]) -> list[str]:
    """The radii of a cell's chain from the smallest: of those that its grid attacks the same way,
    each is put behind the first chain whose last ball it holds.
    """
    chains: list[list[str]] = []
    for eps in sorted(_radii_beside(cell, session), key=lambda eps: _size(eps, cell, session)):
        radii = _radii(eps, cell, session)
        for chain in chains:
            if all(map(le, _radii(chain[-1], cell, session), radii)):
                chain.append(eps)
                break
        else:
            chains.append([eps])
    return next(chain for chain in chains if cell.eps in chain)


def ordered(grid: Sequence[Cell], session: Session[RunSpec]) -> list[Cell]:
    """A grid in the order of its chains: each victim's radii of a norm from the smallest."""
    if not session.spec.carry:
        return list(grid)
    return list(itertools.chain.from_iterable(_by_size(grid, session)))


def _by_size(grid: Sequence[Cell], session: Session[RunSpec]) -> Iterator[list[Cell]]:
    axes = {"eps", "attack", "target_task"}
    for _, group in itertools.groupby(grid, key=lambda cell: cell.model_dump(exclude=axes)):
        yield sorted(group, key=lambda cell: _size(cell.eps, cell, session))


def _radii_beside(cell: Cell, session: Session[RunSpec]) -> list[str]:
    """The radii of a grid under a cell's norm, of the modality that it attacks where each is
    attacked alone.
    """
    radii = session.spec.radii(cell.norm)
    if not session.spec.cross_modal:
        return radii
    modality = cell.eps.partition("=")[0]
    return [f"{modality}={eps}" for eps in radii]


def _radii(eps: str, cell: Cell, session: Session[RunSpec]) -> tuple[float, ...]:
    return extent_of(eps, session.dataset(cell))


def _size(eps: str, cell: Cell, session: Session[RunSpec]) -> tuple[float, tuple[float, ...]]:
    radii = _radii(eps, cell, session)
    return sum(radii), radii
