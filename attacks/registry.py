"""The attacks by name, medrobust's and the user's own, and what can be asked of each.

Nothing here knows of models, data sets or the harness. An attack of medrobust's is one line in
`SHIPPED`: the entry that stands beside its function.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from robustbench_med.attacks import (
    adaptive,
    apgd,
    autoattack,
    bim,
    boundary,
    corruptions,
    cw,
    ddn,
    ead,
    engines,
    fab,
    fgsm,
    fmn,
    hopskipjump,
    malt,
    mim,
    noise,
    patch,
    pgd,
    sigma_zero,
    sparse_rs,
    square,
    transfer,
    universal,
)
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.losses import LOSSES, effective
from robustbench_med.attacks.threat import Norm
from robustbench_med.attacks.view import View
from robustbench_med.naming import CORRUPTION, OWN_THREAT
from robustbench_med.provenance import code
from robustbench_med.provenance.objects import summary

SHIPPED = (
    noise.ENTRY,
    fgsm.ENTRY,
    bim.ENTRY,
    pgd.ENTRY,
    mim.ENTRY,
    apgd.ENTRY,
    apgd.TARGETED_ENTRY,
    malt.ENTRY,
    cw.ENTRY,
    ddn.ENTRY,
    fmn.ENTRY,
    ead.ENTRY,
    sigma_zero.ENTRY,
    fab.ENTRY,
    square.ENTRY,
    sparse_rs.ENTRY,
    autoattack.ENTRY,
    adaptive.ENTRY,
    transfer.ENTRY,
    hopskipjump.ENTRY,
    boundary.ENTRY,
)
ATTACKS: dict[str, Callable[..., Tensor]] = {entry.name: entry.function for entry in SHIPPED}
"""The functions of all attacks there are now: `ATTACKS["mine"] = function` makes one of yours one
as any other.
"""
ENGINES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "native": ATTACKS,
    **{name: library.attacks for name, library in engines.ENGINES.items()},
}
_ENTRIES = {entry.name: entry for entry in SHIPPED}
OWN_THREATS = {entry.name: entry for entry in (patch.ENTRY, universal.ENTRY)}
"""Attacks that engines stand beside: what bounds them is no ball around each sample."""
APART = (*corruptions.CORRUPTIONS, *OWN_THREATS)
"""What `--attack` takes beside the attacks of an engine, in sections of their own on the board."""


def entry_of(name: str, engine: str = "native") -> Attack:
    """What is true of an attack; of the user's own the defaults."""
    if engine == CORRUPTION:
        return corruptions.entry_of(name)
    if engine == OWN_THREAT:
        return OWN_THREATS[name]
    function = ENGINES[engine][name]
    if engine != "native":
        choices = engines.ENGINES[engine].choices.get(name, {})
        norms = engines.ENGINES[engine].norms_of(name)
        return Attack(name=name, function=function, targeted=False, norms=norms, choices=choices)
    entry = _ENTRIES.get(name)
    if entry is None or entry.function is not function:
        return Attack(name=name, function=function)
    return entry


SCORES = frozenset({"square", "sparse-rs"})
"""Attacks that ask a victim for its scores alone."""
DECISIONS = frozenset({"adaptive", "hopskipjump", "boundary", "noise", "transfer"})
"""Those that ask only which class it is, or can make do with that."""


def asks(name: str) -> str | None:
    """What a native attack asks of a victim: "gradients", "scores" or "decisions"; None of the
    user's own, of which nobody knows, and of corruptions, which ask nothing.
    """
    if name in APART:
        return "gradients" if name in OWN_THREATS else None
    entry = entry_of(name)
    if _ENTRIES.get(name) is not entry:
        return None
    return "scores" if name in SCORES else "decisions" if name in DECISIONS else "gradients"


def untargeted(name: str) -> bool:
    """Whether an attack of this name cannot aim at a class of the user's, whatever the engine."""
    return name in _ENTRIES and not _ENTRIES[name].targeted


def under(norm: Norm, engine: str = "native") -> list[str]:
    """The names of the attacks that exist under a norm."""
    return [name for name in ENGINES[engine] if norm in entry_of(name, engine).norms]


def black_box(norm: Norm) -> str:
    """The attack by scores under a norm."""
    return "sparse-rs" if norm == "L0" else "square"


def radius_free(name: str, norm: str) -> bool:
    """Whether what a native attack finds does not depend on the radius, but for the proportions of
    several: one search serves a sweep.
    """
    entry = entry_of(name)
    return entry.before_radius is not None and norm in entry.radius_free


def parameters(name: str, engine: str = "native") -> dict[str, Any]:
    """An attack's own parameters with their defaults."""
    return entry_of(name, engine).parameters()


def complete(
    name: str, overrides: Mapping[str, Any], engine: str = "native", *, random: bool = False
) -> dict[str, Any]:
    """The parameters of an attack, its defaults overridden; see `Attack.complete`.

    Args:
        name: of the attack.
        overrides: values by the parameter's name.
        engine: "native", or the library whose attack it is.
        random: whether the defaults are those against a random victim.

    Returns:
        Every parameter with its value.

    Raises:
        ValueError: an unknown name, a wrong type, or a value that the engine lacks.
    """
    of_engine = "" if engine in ("native", CORRUPTION, OWN_THREAT) else f" of the engine {engine}"
    return entry_of(name, engine).complete(overrides, f"attack {name!r}{of_engine}", random=random)


def revision(name: str, engine: str = "native") -> dict[str, int]:
    """Revisions of an attack's file and of those that it is made of (`REVISION` in each), by the
    file's name.

    Of an attack of the user's those of medrobust's files that it imports. Raise a `REVISION`
    whenever results may change.
    """
    return code.revisions(_function(name, engine), f"attack {name!r}") | code.revisions(
        View, "the view"
    )


def attack_code(name: str, params: Mapping[str, Any], engine: str = "native") -> str | None:
    """sha256 of the user's own code in an attack with these parameters: its function's and its
    loss's; None where all is medrobust's.

    Raises:
        UserError: code that cannot be told, see `robustbench_med.provenance.code`.
    """
    if engine == CORRUPTION:
        return None
    ours = engine in ("native", OWN_THREAT)
    loss = LOSSES.get(params.get("loss", "")) if ours else None
    own = code.code_of(_function(name, engine), f"attack {name!r}")
    of_loss = None if loss is None else code.code_of(loss, f"loss {params['loss']!r}")
    return own if of_loss is None else hashlib.sha256(f"{own} {of_loss}".encode()).hexdigest()


def _function(name: str, engine: str) -> Callable[..., Tensor]:
    """Whose code makes an attack's results."""
    if engine == CORRUPTION:
        return corruptions.corrupt
    return OWN_THREATS[name].function if engine == OWN_THREAT else ENGINES[engine][name]


def describe() -> list[dict[str, Any]]:
    """Name, first paragraph of documentation (its module's, with the paper; the function's of the
    user's own), and parameters of every attack.
    """
    rows = []
    for name, function in ATTACKS.items():
        documented = inspect.getmodule(function) if name in _ENTRIES else function
        row = {"name": name, "summary": summary(documented), "parameters": parameters(name)}
        rows.append(row)
    return rows


def described_apart() -> list[dict[str, Any]]:
    """The same of attacks of a threat of their own."""
    return [
        {
            "name": name,
            "summary": summary(inspect.getmodule(entry.function)),
            "parameters": entry.parameters(),
        }
        for name, entry in OWN_THREATS.items()
    ]


def ran(
    name: str,
    params: Mapping[str, Any],
    class_counts: Mapping[str, int],
    norm: Norm,
    *,
    stochastic: bool,
) -> dict[str, Any]:
    """What a native attack makes of its complete parameters on these tasks, for the record; empty
    where they leave nothing open.

    Args:
        name: of the attack.
        params: its complete parameters.
        class_counts: classes of each attacked task, by its name.
        norm: of the threat.
        stochastic: whether the attack sees several draws a prediction.

    Returns:
        "losses": the loss of each task, where the attack has one to choose; of an ensemble the
        "version" and its "members" in their order, each with its name ("attack") and losses.
    """
    entry = entry_of(name)
    if entry.ensemble is not None:
        version, members = entry.ensemble(
            list(class_counts.values()), norm, stochastic=stochastic, **params
        )
        rows = []
        for member, own in members:
            what_ran = ran(member, complete(member, own), class_counts, norm, stochastic=stochastic)
            rows.append({"attack": member, **what_ran})
        return {"version": version, "members": rows}
    loss = entry.only_loss or params.get("loss")
    if loss is None:
        return {}
    return {"losses": {task: effective(loss, n) for task, n in class_counts.items()}}
