"""Attacks, losses, defences, models and data sets of the user's own: registered from Python, by the
files that `--include` names, or for one call.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from robustbench_med.attacks import APART, ENGINES, LOSSES
from robustbench_med.data import GIVEN, data_of
from robustbench_med.errors import UserError, unknown
from robustbench_med.formats.files import door
from robustbench_med.models.black_box import Unasked
from robustbench_med.models.defenses import INFERENCE, NETWORK
from robustbench_med.models.defenses.own import OfFunction
from robustbench_med.models.given import left_as_it_was
from robustbench_med.models.registry import MODELS, Entry, Given
from robustbench_med.models.trial import in_one_line
from robustbench_med.models.user_file import PREFIX
from robustbench_med.provenance import code, source_files
from robustbench_med.provenance.networks import identity_of
from robustbench_med.reports.own import OWN
from robustbench_med.training.objectives import SCHEMES, Standard

_DEFENSES: dict[str, dict[str, Any]] = {
    "inference": INFERENCE,
    "network": NETWORK,
    "training": SCHEMES,
}
_TABLES: dict[str, dict[str, Any]] = {
    "attack": ENGINES["native"],
    "loss": LOSSES,
    **_DEFENSES,
    "model": MODELS,
    "dataset": GIVEN,
    "report": OWN,
}
_SHIPPED = {kind: dict(table) for kind, table in _TABLES.items()}
KINDS = ("attack", "loss", "defense", "model", "dataset", "report")
"""What `register` takes."""
Registered = dict[tuple[str, str], Any]
"""What is registered, by kind and name."""


@dataclass(frozen=True)
class _Included:
    fingerprint: str
    registered: Registered


_INCLUDED: dict[Path, _Included] = {}
_PACKAGED: set[tuple[str, str]] = set()


def register(kind: str, name: str, thing: Any, *, version: str | None = None) -> None:
    """Makes a part of yours one as any other, wherever names go, for as long as this process lasts.

    Args:
        kind: "attack": a function `(view, x, y, threat, streams, *, parameters) -> x_adv`, see
            docs/how-to/own-attack.md. "loss": `(logits (B, C), labels (B,)) -> (B,)`, larger where
            more wrong, a value of the attacks' parameter `loss`. "defense": a module or function of
            images (B, C, H, W), a class that makes such a module, or a data class derived from
            `PGDAT` or `Standard` of `robustbench_med.objectives`, which trains. "model":
            a network with its weights, or `build(channels, class_counts, *, parameters)`, which is
            trained. "dataset": what `data` of `evaluate` takes. "report": a function of records
            that returns a data frame, which `report` writes as NAME.csv.
        name: what calls and the command line name it.
        version: your word for its code, in place of its source: raise it whenever its results may
            change.

    Raises:
        UserError: a kind that there is not, a name that comes with medrobust or is none, a thing of
            another kind.

    Example:
        >>> register("loss", "gap", lambda z, y: z.logsumexp(1) - z.gather(1, y[:, None])[:, 0])
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if kind == "defense":
        kind, thing = kind_of_defense(thing)
        _check_defense(name)
    elif kind == "dataset":
        thing = data_of(thing, name)
    put(kind, name, thing, version=version)


def register_attack(name: str, function: Callable[..., Any], *, version: str | None = None) -> None:
    """`register("attack", name, function)`."""
    put("attack", name, function, version=version)


def register_loss(name: str, function: Callable[..., Any], *, version: str | None = None) -> None:
    """`register("loss", name, function)`."""
    put("loss", name, function, version=version)


def register_defense(
    name: str,
    build: Callable[..., Any],
    *,
    kind: Literal["inference", "network", "training"] = "inference",
    version: str | None = None,
) -> None:
    """Makes a defence of yours one as any other, see docs/how-to/own-defence.md.

    Args:
        name: what `--defense` calls it.
        build: "inference": makes a module in front of the victim; "network": changes a victim
            before it is trained; "training": an objective, a data class derived from `PGDAT` or,
            where nothing is attacked, `Standard` of `robustbench_med.objectives`.
        kind: which of the three it is.
        version: as in `register`.

    Raises:
        UserError: the name comes with medrobust, or is no name; a kind that there is not; a
            training defence of another class.
    """
    if kind not in _DEFENSES:
        raise UserError(f"a defence is of the kind {', '.join(_DEFENSES)}, got {kind!r}")
    is_objective = _trains(build)
    if is_objective and kind != "training":
        raise UserError(f"defence {name!r} is an objective: register it with kind='training'")
    if kind == "training" and not is_objective:
        raise UserError(
            f"training defence {name!r}: expected a data class derived from PGDAT or Standard of"
            f" robustbench_med.objectives, got {build!r}"
        )
    _check_defense(name)
    put(kind, name, build, version=version)


def _check_defense(name: str) -> None:
    if any(name in _SHIPPED[other] for other in _DEFENSES):
        raise UserError(f"there is a defence {name!r} in medrobust; give yours another name")


def put(
    kind: str, name: str, thing: Any, *, version: str | None = None, temporary: bool = False
) -> Any:
    """Puts a thing into the table of its kind.

    Args:
        kind: a key of the tables: attack, loss, inference, network, training, model, dataset.
        version: the user's word for its code.
        temporary: whether a name of the user's own that is taken is an error.

    Returns:
        What stood there before; None: nothing.

    Raises:
        UserError: as `register`.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(
            f"{name!r} is no name: letters, digits, '-', '_' and '.', without spaces, ',' or '+'"
        )
    if name in _SHIPPED[kind] or (kind == "attack" and name in APART):
        raise UserError(
            f"there is a{'n' if kind == 'attack' else ''} {kind} {name!r} in medrobust; give yours"
            " another name"
        )
    entry = _entry(kind, name, thing, version, declared=not temporary)
    before = _TABLES[kind].get(name)
    if temporary and before is not None and not _is_of(before, thing):
        raise UserError(
            f"there is another {_called(kind)} {name!r} already; give yours a name of its own,"
            f" {_called(kind)}={{'name': object}}"
        )
    _TABLES[kind][name] = entry
    return before


def _called(kind: str) -> str:
    """The argument that things of a kind are given as."""
    return "defense" if kind in _DEFENSES else "data" if kind == "dataset" else kind


def forget(kind: str, name: str, before: Any) -> None:
    """Puts back what stood under a name before `put`."""
    if before is None:
        _TABLES[kind].pop(name, None)
    else:
        _TABLES[kind][name] = before


def _is_of(entry: Any, thing: Any) -> bool:
    return entry is thing or (isinstance(entry, Given) and entry.network is thing)


def _entry(kind: str, name: str, thing: Any, version: str | None, *, declared: bool) -> Any:
    """What the table of a kind holds of a thing."""
    if kind == "dataset":
        return thing
    if kind == "model" and isinstance(thing, nn.Module):
        if isinstance(thing, Unasked):
            return Given(thing.on, name, "", thing, thing.identity(), version)
        with left_as_it_was(thing):
            identity = identity_of(thing, name, version)
        return Given(lambda *_: thing, name, "", thing, identity, version)
    if not callable(thing):
        raise UserError(f"{kind} {name!r} must be a function or class, got {type(thing).__name__}")
    if declared:
        code.declare(thing, version)
    return Entry(thing, name, "") if kind == "model" else thing


def kind_of_defense(thing: Any) -> tuple[str, Callable[..., Any]]:
    """Of which kind a defence is that is there as an object, and what makes it: an objective's
    class trains; a module, a function of images, or what makes a module stands in front of the
    network.

    Raises:
        UserError: another object.
    """
    if _trains(thing):
        return "training", thing
    if isinstance(thing, nn.Module):
        return "inference", _always(OfFunction(thing))
    if not callable(thing):
        raise UserError(
            "defense: expected a name, a torch.nn.Module or function from images (B, C, H, W) to"
            f" images, or a class of either, got {type(thing).__name__}"
        )
    if isinstance(thing, type):
        return "inference", thing
    first = next(iter(inspect.signature(thing).parameters.values()), None)
    if first is None or first.kind is first.KEYWORD_ONLY:
        return "inference", thing
    return "inference", _always(OfFunction(thing))


def _trains(thing: Any) -> bool:
    """Whether it is what a training minimises."""
    return isinstance(thing, type) and issubclass(thing, Standard) and is_dataclass(thing)


def _always(module: nn.Module) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return module

    return build


def include(files: Sequence[Path], say: Callable[[str], None]) -> None:
    """Runs files that register attacks, losses and defences; one that has run stays as long as it
    and what it imports are the same.

    Args:
        say: told in one line which file of code is run.

    Raises:
        UserError: a file cannot be read or run, registers nothing, or what another of them did; or
            something stands under a name of medrobust's, from here or elsewhere: its own parts ask
            for each other by name.
    """
    owners: dict[tuple[str, str], Path] = {}
    for file in dict.fromkeys(Path(file).resolve() for file in files):
        registered = _include(file, say)
        for key in registered:
            if key in owners:
                raise UserError(
                    f"{owners[key]} and {file} both register the {key[0]} {key[1]!r}; rename one of"
                    " them"
                )
            owners[key] = file
    _check()


def _check() -> None:
    for kind, shipped in _SHIPPED.items():
        if replaced := [
            name for name, thing in shipped.items() if _TABLES[kind].get(name) is not thing
        ]:
            raise UserError(
                f"the {kind} {replaced[0]!r} comes with medrobust and was replaced; give yours"
                " another name"
            )


def _include(path: Path, say: Callable[[str], None]) -> Registered:
    with door("the included file", path):
        files = source_files.imported(path)
    fingerprint, known = source_files.fingerprint(files), _INCLUDED.get(path)
    if (
        known is not None
        and known.fingerprint == fingerprint
        and len(_standing(known)) == len(known.registered)
    ):
        return known.registered
    for kind, name in _standing(known) if known is not None else ():
        del _TABLES[kind][name]
    say(f"running {path}: it is code, and runs with your rights")
    before = {kind: dict(table) for kind, table in _TABLES.items()}
    try:
        source_files.run(
            path,
            files,
            f"{PREFIX}include_{hashlib.sha256(f'{path} {fingerprint}'.encode()).hexdigest()[:16]}",
        )
        _check()
        registered = {
            (kind, name): thing
            for kind, table in _TABLES.items()
            for name, thing in table.items()
            if before[kind].get(name) is not thing
        }
        if not registered:
            raise UserError(
                "it registers no attack, loss, defence, model, data set or report; see register"
            )
    except BaseException as error:
        for kind, table in _TABLES.items():
            table.clear()
            table.update(before[kind])
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = str(error) if isinstance(error, UserError) else in_one_line(error, path)
        raise UserError(f"{path} cannot be included: {reason}") from error
    _INCLUDED[path] = _Included(fingerprint, registered)
    return registered


def _standing(included: _Included) -> Collection[tuple[str, str]]:
    """What a file registered and is still registered."""
    return [
        (kind, name)
        for (kind, name), thing in included.registered.items()
        if _TABLES[kind].get(name) is thing
    ]


def included(names: Collection[str]) -> list[Path]:
    """The files behind attacks, losses, defences or models of these names: what `--include` must
    give to find them again.
    """
    return [
        path
        for path, each in _INCLUDED.items()
        if any(name in names for _, name in _standing(each))
    ]


def of_packages(kind: str, name: str) -> None:
    """Notes that an installed package brings a part: every process has it."""
    _PACKAGED.add((kind, name))


def only_here(names: Collection[str]) -> list[str]:
    """Those of these names that this process registered by no file: no other one knows them."""
    own = {name for kind, table in _TABLES.items() for name in table if name not in _SHIPPED[kind]}
    files = {name for each in _INCLUDED.values() for _, name in _standing(each)}
    return sorted((own - files - {name for _, name in _PACKAGED}) & set(names))
