"""Adversarial attacks on victims of several modalities and tasks: pure functions of a flat view,
one paper a file.

Nothing here knows of models, data sets or the harness. An attack is a function
`(view, x, y, threat, streams, *, parameters) -> x_adv`: x (B, D) in [0, 1], y (B, T) with -1 for a
missing label.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from robustbench_med.attacks import engines
from robustbench_med.attacks.apgd import apgd, apgd_t
from robustbench_med.attacks.autoattack import VERSIONS, autoattack, chosen, members
from robustbench_med.attacks.bim import bim
from robustbench_med.attacks.cw import cw, cw_minimal
from robustbench_med.attacks.fab import fab, fab_minimal
from robustbench_med.attacks.fgsm import Ray, fgsm, fgsm_ray
from robustbench_med.attacks.hopskipjump import hopskipjump, hopskipjump_minimal
from robustbench_med.attacks.losses import DLR_TARGETED, LOSSES, effective
from robustbench_med.attacks.mim import mim
from robustbench_med.attacks.minimal import Minimal
from robustbench_med.attacks.noise import noise
from robustbench_med.attacks.pgd import pgd
from robustbench_med.attacks.square import square
from robustbench_med.attacks.transfer import transfer
from robustbench_med.attacks.view import View
from robustbench_med.provenance import code

Attack = Callable[..., Tensor]
ATTACKS: dict[str, Attack] = {
    "noise": noise,
    "fgsm": fgsm,
    "bim": bim,
    "pgd": pgd,
    "mim": mim,
    "apgd": apgd,
    "apgd-t": apgd_t,
    "cw": cw,
    "fab": fab,
    "square": square,
    "autoattack": autoattack,
    "transfer": transfer,
    "hopskipjump": hopskipjump,
}
MINIMAL: dict[str, Callable[..., Minimal]] = {
    "cw": cw_minimal,
    "fab": fab_minimal,
    "hopskipjump": hopskipjump_minimal,
}
"""Attacks that seek the smallest perturbation, whatever the radius."""
UNSCALED: dict[str, Callable[..., Minimal | Ray]] = {"fgsm": fgsm_ray, **MINIMAL}
"""What comes before the radius in an attack that asks for it only at its end: `(...) -> found`,
then `found.within(view, x, threat)`.
"""


def radius_free(name: str, norm: str) -> bool:
    """Whether what is found does not depend on the radius, but for the proportions of several: one
    search serves a sweep.
    """
    return name in UNSCALED and not (
        name == "cw" and norm == "Linf"
    )  # its boxes start at the radius


UNTARGETED = ("noise", "apgd-t", "autoattack")
"""Attacks that cannot aim at a class of the user's."""
CHOICES: dict[str, Mapping[str, Any] | tuple[str, ...]] = {
    "loss": LOSSES,
    "keep": ("best", "last"),
    "version": VERSIONS,
}
"""What parameters of the native attacks may be, losses of the user's among them; each engine has
its own.
"""
POSITIVE = (
    "steps",
    "restarts",
    "eot",
    "queries",
    "targets",
    "search",
    "evaluations",
    "initial",
    "step_size",
    "lr",
    "c",
    "p",
    "rho",
    "decay",
)


ENGINES: dict[str, dict[str, Attack]] = {
    "native": ATTACKS,
    **{name: library.ATTACKS for name, library in engines.ENGINES.items()},
}


def parameters(name: str, engine: str = "native") -> dict[str, Any]:
    """An attack's own parameters with their defaults."""
    signature = inspect.signature(ENGINES[engine][name])
    return {
        p.name: p.default
        for p in signature.parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name != "sources"
    }


def revision(name: str, engine: str = "native") -> dict[str, int]:
    """Revisions of an attack's file and of those that it is made of (`REVISION` in each), by the
    file's name.

    Of an attack of the user's those of medrobust's files that it imports. Raise a `REVISION`
    whenever results may change.
    """
    return code.revisions(ENGINES[engine][name], f"attack {name!r}") | code.revisions(
        View, "the view"
    )


def attack_code(name: str, params: Mapping[str, Any], engine: str = "native") -> str | None:
    """sha256 of the user's own code in an attack with these parameters: its function's and its
    loss's; None where all is medrobust's.

    Raises:
        UserError: code that cannot be told, see `robustbench_med.provenance.code`.
    """
    loss = LOSSES.get(params.get("loss", "")) if engine == "native" else None
    own = code.code_of(ENGINES[engine][name], f"attack {name!r}")
    of_loss = None if loss is None else code.code_of(loss, f"loss {params['loss']!r}")
    return own if of_loss is None else hashlib.sha256(f"{own} {of_loss}".encode()).hexdigest()


def describe() -> list[dict[str, Any]]:
    """Name, first line of documentation (of its module, with the paper; of the user's own of the
    function), parameters of every attack.
    """
    rows = []
    for name, attack in ATTACKS.items():
        told = inspect.getmodule(attack) if attack.__module__.startswith(__name__) else attack
        summary = next(iter((inspect.getdoc(told) or "").splitlines()), "")
        rows.append({"name": name, "summary": summary, "parameters": parameters(name)})
    return rows


def complete(name: str, given: Mapping[str, Any], engine: str = "native") -> dict[str, Any]:
    """The defaults of an attack overridden by `given`; refuses unknown names, wrong types and
    values that the engine lacks (ValueError).

    Other steps without a step_size go as far in all as the default's, 2.5 radii: 10 of a quarter,
    40 of a sixteenth.
    """
    known = parameters(name, engine)
    attack = f"attack {name!r}" if engine == "native" else f"attack {name!r} of the engine {engine}"
    for key, value in given.items():
        if key not in known:
            raise ValueError(
                f"{attack} has no parameter {key!r}; it has: {', '.join(known) or 'none'}"
            )
        default = known[key]
        fits = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(
            default, bool
        )
        if not fits and not (isinstance(default, float) and type(value) is int):
            raise ValueError(
                f"{attack}: {key} must be of type {type(default).__name__}, got {value!r}"
            )
        if key in POSITIVE and value <= 0:
            raise ValueError(f"{attack}: {key} must be positive, got {value!r}")
    completed = {**known, **{key: type(known[key])(value) for key, value in given.items()}}
    if "steps" in given and "step_size" in known and "step_size" not in given:
        completed["step_size"] = known["steps"] * known["step_size"] / completed["steps"]
    for key, allowed in (
        CHOICES if engine == "native" else engines.ENGINES[engine].CHOICES.get(name, {})
    ).items():
        if key in completed and completed[key] not in allowed:
            raise ValueError(
                f"{attack}: {key} must be one of {', '.join(allowed)}, got {completed[key]!r}"
            )
    return completed


def ran(
    name: str, params: Mapping[str, Any], class_counts: Mapping[str, int], *, stochastic: bool
) -> dict[str, Any]:
    """What a native attack makes of its complete parameters on these tasks, for the record; empty
    where they leave nothing open.

    Args:
        class_counts: classes of each attacked task, by its name.
        stochastic: whether the attack sees several draws a prediction.

    Returns:
        "losses": the loss of each task, where the attack has one to choose; of autoattack the
        "version" and its "members" in their order, each with its name ("attack") and losses.
    """
    if name == "autoattack":
        version = chosen(params["version"], list(class_counts.values()), stochastic=stochastic)
        ensemble = members(
            version, **{key: value for key, value in params.items() if key != "version"}
        )
        return {
            "version": version,
            "members": [
                {
                    "attack": member,
                    **ran(member, complete(member, given), class_counts, stochastic=stochastic),
                }
                for member, given in ensemble
            ],
        }
    loss = DLR_TARGETED if name == "apgd-t" else params.get("loss")
    return (
        {}
        if loss is None
        else {"losses": {task: effective(loss, n) for task, n in class_counts.items()}}
    )
