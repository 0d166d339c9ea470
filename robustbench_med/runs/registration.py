"""Attacks, losses and defences of the user's own: registered from Python, or by the files that
`--include` names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robustbench_med.attacks import ENGINES, LOSSES
from robustbench_med.errors import UserError
from robustbench_med.models.defenses import INFERENCE, NETWORK
from robustbench_med.models.registry import MODELS
from robustbench_med.models.trial import in_one_line
from robustbench_med.models.user_file import PREFIX
from robustbench_med.provenance import code, source_files
from robustbench_med.training.objectives import PGDAT, SCHEMES

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
}
_SHIPPED = {kind: dict(table) for kind, table in _TABLES.items()}
Registered = dict[tuple[str, str], Any]
"""What is registered, by kind and name."""


@dataclass(frozen=True)
class _Included:
    fingerprint: str
    registered: Registered


_INCLUDED: dict[Path, _Included] = {}


def register_attack(name: str, function: Callable[..., Any], *, version: str | None = None) -> None:
    """Makes an attack of yours one as any other, as `ATTACKS[name] = function` does.

    Args:
        name: what `--attack` calls it.
        function: `(view, x, y, threat, streams, *, parameters) -> x_adv`, see
            docs/how-to/own-attack.md.
        version: your word for its code, in place of its source: raise it whenever its results may
            change.

    Raises:
        UserError: the name comes with medrobust, or is no name.
    """
    _register("attack", name, function, version)


def register_loss(name: str, function: Callable[..., Any], *, version: str | None = None) -> None:
    """Makes a loss of yours, `(logits (B, C), labels (B,)) -> (B,)`, a value of the attacks'
    parameter `loss`.

    Args:
        name: what `--attack-param loss=` calls it.
        function: larger where the prediction is more wrong.
        version: as in `register_attack`.

    Raises:
        UserError: the name comes with medrobust, or is no name.
    """
    _register("loss", name, function, version)


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
            before it is trained; "training": an objective, a class derived from
            `robustbench_med.objectives.PGDAT`.
        kind: which of the three it is.
        version: as in `register_attack`.

    Raises:
        UserError: the name comes with medrobust, or is no name; a kind that there is not; a
            training defence of another class.
    """
    if kind not in _DEFENSES:
        raise UserError(f"a defence is of the kind {', '.join(_DEFENSES)}, got {kind!r}")
    is_objective = isinstance(build, type) and issubclass(build, PGDAT)
    if is_objective and kind != "training":
        raise UserError(f"defence {name!r} is an objective: register it with kind='training'")
    if kind == "training" and not is_objective:
        raise UserError(
            f"training defence {name!r}: expected a class derived from"
            f" robustbench_med.objectives.PGDAT, got {build!r}"
        )
    if any(name in _SHIPPED[other] for other in _DEFENSES):
        raise UserError(f"there is a defence {name!r} in medrobust; give yours another name")
    _register(kind, name, build, version)


def _register(kind: str, name: str, thing: Any, version: str | None) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UserError(
            f"{name!r} is no name: letters, digits, '-', '_' and '.', without spaces, ',' or '+'"
        )
    if name in _SHIPPED[kind]:
        raise UserError(
            f"there is a{'n' if kind == 'attack' else ''} {kind} {name!r} in medrobust; give yours"
            " another name"
        )
    if not callable(thing):
        raise UserError(f"{kind} {name!r} must be a function or class, got {type(thing).__name__}")
    code.declare(thing, version)
    _TABLES[kind][name] = thing


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
    try:
        files = source_files.imported(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
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
                "it registers no attack, loss or defence; see register_attack, register_loss and"
                " register_defense"
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


def only_here(names: Collection[str]) -> list[str]:
    """Those of these names that this process registered by no file: no other one knows them."""
    own = {name for kind, table in _TABLES.items() for name in table if name not in _SHIPPED[kind]}
    files = {name for each in _INCLUDED.values() for _, name in _standing(each)}
    return sorted((own - files) & set(names))
