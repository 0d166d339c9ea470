"""How the names of a file's tensors become those of a network: wrappers put a prefix before all of
them, or rename them.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.errors import UserError
from robustbench_med.formats.weights import few

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of tensors by their name, in the order in which they are kept."""
Map = Mapping[str, str | None]
"""What stands in the place of a prefix of names, the longest that fits being taken; None: tensors
that are left out.
"""
ORDER, DROPPED = "order", "-"
COUNTERS = ("n_averaged",)
"""What `torch.optim.swa_utils.AveragedModel` keeps beside the weights."""
MOST = 8
"""Prefixes of one mapping that are looked for."""
TRIED = 64
"""Tensors of a file that are tried in the place of the network's first."""


@dataclass(frozen=True)
class Misfit:
    """A file whose names are not those of a network.

    Attributes:
        path: of the file.
        file, network: shapes by name.
    """

    path: Path
    file: Shapes
    network: Shapes

    def error(self) -> UserError:
        """Which names, what is nearest to them, and what to do."""
        missing = sorted(self.network.keys() - self.file.keys())
        extra = sorted(self.file.keys() - self.network.keys())
        what = " and ".join(
            f"{verb} {few(names)}"
            for verb, names in (("lacks", missing), ("has besides", extra))
            if names
        )
        said = f"{self.path} does not fit this model: it {what}"
        if near := self.nearest(missing, extra):
            said += f"; nearest: {near}"
        if offers := list(self.offers()):
            return UserError(f"{said}; {'; or '.join(offers)}")
        return UserError(f"{said}; was it trained as another model or with other parameters?")

    def nearest(self, missing: Sequence[str], extra: Sequence[str]) -> str:
        """Names of the file that are like some which it lacks, with their shapes."""
        pairs = []
        for name in missing[:3]:
            for other in difflib.get_close_matches(name, extra[:2000], n=1, cutoff=0.6):
                pairs.append(f"{other} {self.file[other]} for {name} {self.network[name]}")
        return ", ".join(pairs)

    def offers(self) -> Iterator[str]:
        """Mappings under which it fits, as they are asked for."""
        for found in self.mappings():
            options = " ".join(f"--checkpoint-map {_typed(*pair)}" for pair in found.items())
            yield f"it fits with {options} ({_shown(self, found)})"
        if paired := self.in_order():
            yield (
                f"its {len(paired)} tensors have the shapes of the model's in the same order:"
                f" --checkpoint-map {ORDER} takes them so ({_shown(self, paired)})"
            )

    def mappings(self) -> list[Map]:
        """Mappings of prefixes under which every tensor of the network is there in its shape."""
        first = next(iter(self.network), None)
        if first is None:
            return []
        starts: list[Map] = [{}] if self.file.get(first) == self.network[first] else []
        starts += itertools.islice(self.changes(first), TRIED)
        found: list[Map] = []
        for start in starts:
            whole = self.completed(start)
            if whole and whole not in found:
                found.append(whole)
        return found[:MOST]

    def completed(self, start: Map) -> Map | None:
        """A mapping with more prefixes until it serves every tensor of the network; what then is
        left of the file is left out. None where there is none.
        """
        found = dict(start)
        for _ in range(MOST):
            there = set(renamed(self.file, found).values())
            lacks = [name for name in self.network if name not in there]
            if not lacks:
                used = renamed(self.file, found)
                spare = [name for name, new in used.items() if new not in self.network]
                found |= dict.fromkeys(_heads(spare, used.keys() - set(spare)), None)
                return found if self.fits(found) else None
            more = next((c for c in self.changes(lacks[0]) if not c.keys() & found.keys()), None)
            if more is None:
                return None
            found |= more
        return None

    def changes(self, name: str) -> list[dict[str, str | None]]:
        """Changes of a prefix that make a tensor of the file that of the network, whose names end
        alike; those that leave most of the name alone come first.
        """
        found: list[tuple[int, dict[str, str | None]]] = []
        for other, shape in self.file.items():
            kept = _common_end(name, other) if shape == self.network[name] else ""
            if kept and other != name:
                change: dict[str, str | None] = {other.removesuffix(kept): name.removesuffix(kept)}
                found.append((-len(kept), change))
        return [change for _, change in sorted(found, key=lambda each: each[0])]

    def fits(self, asked: Map) -> bool:
        """Whether all tensors of the network are there, each once, in their shapes."""
        used = {old: new for old, new in renamed(self.file, asked).items() if new is not None}
        shapes = {new: self.file[old] for old, new in used.items()}
        return len(shapes) == len(used) and shapes == dict(self.network)

    def in_order(self) -> dict[str, str | None]:
        """The file's names beside those of the network, where their shapes agree one by one."""
        if list(self.file.values()) != list(self.network.values()):
            return {}
        return dict(zip(self.file, self.network, strict=True))


def found(path: Path, file: Shapes, network: Shapes, asked: Sequence[str]) -> dict[str, str | None]:
    """The mapping of a file's names to a network's; empty where they are the same.

    Without one that is asked for, a prefix that all names of the file have is taken away, or put
    before them, where they are those of the network then.

    Args:
        path: of the file, for errors.
        file: shapes of its tensors by name.
        network: the same of the network's state_dict.
        asked: `OLD=NEW`, prefixes of names, `OLD=-` for tensors to leave out, or "order".

    Raises:
        UserError: names that differ, with the mappings that would do; or what was asked for is
            none, or does not do.
    """
    misfit = Misfit(path, file, network)
    if asked:
        return _asked(misfit, asked)
    if file.keys() == network.keys():
        return {}
    bare = {name: shape for name, shape in file.items() if name not in COUNTERS}
    dropped: dict[str, str | None] = {name: None for name in COUNTERS if name in file}
    for one in Misfit(path, bare, network).mappings():
        old, new = next(iter(one.items()))
        if len(one) == 1 and new is not None and all(name.startswith(old) for name in bare):
            return {**one, **dropped}
    raise misfit.error()


def _asked(misfit: Misfit, asked: Sequence[str]) -> dict[str, str | None]:
    """What the user says, once it does."""
    if list(asked) == [ORDER]:
        if paired := misfit.in_order():
            return paired
        raise UserError(
            f"--checkpoint-map {ORDER}: the tensors of {misfit.path} are not those of the model in"
            f" the same order ({_first_other(misfit)})"
        )
    pairs: dict[str, str | None] = {}
    for each in asked:
        old, sign, new = each.partition("=")
        if not sign:
            raise UserError(
                f"--checkpoint-map takes OLD=NEW, prefixes of names, OLD=- or {ORDER}, got {each!r}"
            )
        pairs[old] = None if new == DROPPED else new
    unused = [old for old in pairs if not any(name.startswith(old) for name in misfit.file)]
    if unused:
        raise UserError(
            f"--checkpoint-map: no name in {misfit.path} begins with {unused[0]!r}; it has"
            f" {few(list(misfit.file))}"
        )
    names = renamed(misfit.file, pairs)
    kept = [new for new in names.values() if new is not None]
    twice = next((new for new in kept if kept.count(new) > 1), None) if _doubled(kept) else None
    if twice is not None:
        raise UserError(f"--checkpoint-map makes two tensors of {misfit.path} one: {twice}")
    if set(kept) != set(misfit.network):
        shapes = {new: misfit.file[old] for old, new in names.items() if new is not None}
        raise Misfit(misfit.path, shapes, misfit.network).error()
    return pairs


def renamed(names: Mapping[str, object], asked: Map) -> dict[str, str | None]:
    """What becomes of each name; None of one that is left out."""
    longest = sorted(asked, key=len, reverse=True)
    new: dict[str, str | None] = {}
    for name in names:
        old = next((old for old in longest if name.startswith(old)), None)
        if old is None:
            new[name] = name
        else:
            into = asked[old]
            new[name] = None if into is None else into + name[len(old) :]
    return new


def told(taken: Map, n: int) -> str:
    """A mapping in words, for whom the weights are loaded."""
    if len(taken) > MOST:
        return f"{n} tensors taken in their order"
    words = [
        f"{old or 'nothing'} left out"
        if new is None
        else f"{old or 'nothing'} -> {new or 'nothing'}"
        for old, new in taken.items()
    ]
    return f"names of tensors changed, {', '.join(words)}"


def _doubled(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _common_end(one: str, other: str) -> str:
    """The last parts of two names that are the same."""
    pairs = zip(reversed(one.split(".")), reversed(other.split(".")), strict=False)
    same = [part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return ".".join(reversed(same))


def _heads(spare: Sequence[str], used: Iterable[str]) -> list[str]:
    """The first parts of names that are left over, where nothing in use begins so; else the whole
    names.
    """
    taken = {_head(name) for name in used}
    return list(dict.fromkeys(n if _head(n) in taken else _head(n) for n in spare))


def _head(name: str) -> str:
    first, dot, _ = name.partition(".")
    return first + dot


def _typed(old: str, new: str | None) -> str:
    return f"'{old}={DROPPED if new is None else new}'"


def _shown(misfit: Misfit, asked: Map) -> str:
    """The first tensor under its old and its new name, and how many there are."""
    names = {old: new for old, new in renamed(misfit.file, asked).items() if new is not None}
    old, new = next(iter(names.items()))
    return f"{old} -> {new} and {len(names) - 1} more"


def _first_other(misfit: Misfit) -> str:
    """Where the shapes of a file and a network first differ."""
    pairs = zip(misfit.file.items(), misfit.network.items(), strict=False)
    for (old, one), (new, other) in pairs:
        if one != other:
            return f"{old} is {one}, {new} is {other}"
    return f"{len(misfit.file)} tensors, needed {len(misfit.network)}"
