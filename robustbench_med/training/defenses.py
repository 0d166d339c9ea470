"""Defences by name: what `--defense` means for a model, its training and its inference.

A defence is one name or several joined by "+", such as `trades+awp`, `pni+pgd-at` or `pgd-at+jpeg`.
Some change the training (a scheme), some the network that is trained, some only what happens to the
inputs at inference; those last share the checkpoint of the victim without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from robustbench_med.attacks import SCHEME
from robustbench_med.errors import INCLUDE, UserError, unknown
from robustbench_med.models import registry
from robustbench_med.models.defenses import (
    INFERENCE,
    NETWORK,
    ROBUST_MAIL,
    Defended,
    Defense,
    randomised,
)
from robustbench_med.models.defenses import SHIPPED as OF_NETWORKS_AND_INPUTS
from robustbench_med.models.defenses.own import looked_at
from robustbench_med.naming import label
from robustbench_med.parameters import of, split
from robustbench_med.parsing import as_text, canonical, check_range
from robustbench_med.provenance import code
from robustbench_med.provenance.objects import summary
from robustbench_med.training.objectives import (
    AROUND,
    PGDAT,
    SCHEMES,
    GaussianAugmentation,
)
from robustbench_med.training.objectives import SHIPPED as OF_TRAINING
from robustbench_med.training.spec import DRAWS, Layer

SMOOTHING = replace(randomised.SMOOTHING, objective=GaussianAugmentation, role="augmentation")
"""Noise in front of a network that was trained with such noise."""
MAIL = "mail"
"""The model of which some defences are networks of their own."""
SHIPPED = (*OF_TRAINING, *AROUND, *OF_NETWORKS_AND_INPUTS, SMOOTHING)
_ENTRIES = {entry.name: entry for entry in SHIPPED}
STAGES = ("network", "loss", "scheme", "around", "augmentation")
"""The order of defences in a training, whatever the order of their names in a chain."""


@dataclass(frozen=True)
class Plan:
    """A defended model: the network to train, what changes its training, and the transforms in
    front of it at inference.

    `params`: constructor parameters of the network, where the defence is a network of its own.
    """

    model: str
    training: tuple[Layer, ...] = ()
    inference: tuple[Layer, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How tables call it: the model's name, the defences' after it."""
        names = dict.fromkeys(layer.name for layer in (*self.training, *self.inference))
        return "+".join((label(self.model), *names)) + (" (unaware attack)" if self.unaware else "")

    @property
    def unaware(self) -> bool:
        """Whether the attacker is kept from knowing of an input transform."""
        return any(layer.params.get("attack") == "unaware" for layer in self.inference)

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Everything about the defences, for a record."""
        return [
            layer.model_dump(mode="json")
            for layer in {layer.name: layer for layer in (*self.training, *self.inference)}.values()
        ]


def names() -> tuple[str, ...]:
    """Every defence there is now, the user's own among them."""
    around = [entry.name for entry in AROUND]
    return tuple(dict.fromkeys(("none", *SCHEMES, *around, *NETWORK, ROBUST_MAIL.name, *INFERENCE)))


def entry_of(name: str) -> Defense:
    """What is true of a defence; of the user's own the defaults."""
    objective: Any = SCHEMES.get(name)
    own = Defense(
        name=name,
        objective=objective,
        role="scheme" if objective is None or issubclass(objective, PGDAT) else "loss",
        network=NETWORK.get(name),
        transform=INFERENCE.get(name),
    )
    entry = _ENTRIES.get(name)
    if entry is not None and all(part in entry.made_of for part in own.made_of):
        return entry
    if not own.made_of:
        raise KeyError(name)
    return own


def parameters(name: str) -> dict[str, Any]:
    """A defence's parameters with their defaults."""
    return {} if name == "none" else entry_of(name).parameters()


def describe() -> list[dict[str, Any]]:
    """Name, kind, first paragraph of documentation and parameters of every defence."""
    rows = []
    for name in names()[1:]:
        entry = entry_of(name)
        documented = entry.transform or entry.network or entry.objective
        rows.append(
            {
                "name": name,
                "kind": entry.kind,
                "summary": entry.summary or summary(documented),
                "parameters": entry.parameters(),
            }
        )
    return rows


def plan(model: str, text: str, params: Mapping[str, Any], preset: Mapping[str, Any]) -> Plan:
    """What a model with `--defense text` is.

    Args:
        model: its name.
        text: a defence, or several joined by "+".
        params: the user's parameters; each goes to every defence of the chain that has it,
            `jpeg.quality` to jpeg alone.
        preset: may hold `defenses: {name: {params: ...}}`.

    Returns:
        The network to train, what changes its training, and what stands in front of it.

    Raises:
        UserError: unknown names, parameters no defence of the chain has, combinations without
            meaning.
    """
    parts = [part.strip() for part in text.split("+")]
    for name in parts:
        if name not in names():
            raise unknown("defence", name, names(), INCLUDE)
    chain = [name for name in parts if name != "none"]
    if len(set(chain)) < len(chain):
        raise UserError(f"defence {text!r} names one twice")
    known = {
        name: {**parameters(name), **preset.get("defenses", {}).get(name, {}).get("params", {})}
        for name in chain
    }
    for key in params:
        owner, plain = split(key)
        asked = [owner] if owner in chain else [] if owner else chain
        if asked and not any(plain in known[name] for name in asked):
            having = "; ".join(f"{name}: {', '.join(known[name]) or 'none'}" for name in asked)
            alone = (
                ""
                if owner
                else (
                    f"; a defence's name and a dot before it, such as pgd-at.{key}, give it to that"
                    " one alone"
                )
            )
            raise UserError(
                f"defence {owner or text!r} has no parameter {plain!r}; it has: {having}{alone}"
            )
    wanted = {name: of(params, name) for name in chain}
    for name, own in known.items():
        for key in own.keys() & wanted[name].keys():
            own[key] = _typed(name, key, wanted[name][key], own[key])
    return _combine(model, text, chain, known, wanted)


def check_radii(plan: Plan) -> None:
    """Refuses (UserError) a training that attacks within a Linf radius above 1."""
    for layer in plan.training:
        if "eps" in layer.params and layer.params.get("norm", "Linf") == "Linf":
            check_range(layer.params["eps"], f"{layer.name}: eps")


def _combine(
    model: str,
    text: str,
    chain: Sequence[str],
    known: Mapping[str, dict[str, Any]],
    wanted: Mapping[str, Any],
) -> Plan:
    if model == MAIL:
        model, params, chain = _within_mail(chain, known, wanted)
    else:
        params = {}
        _check_outside_mail(model, text, chain)
    entries = [entry_of(name) for name in chain]
    _check_training(text, entries)
    order = defenses_in_order(entries)
    if order and registry.network_of(model) is not None:
        raise UserError(
            f"{model} is trained already, and {order[0].name} is a matter of training; defences of"
            f" its inputs suit it: {', '.join(_of_inputs())}"
        )
    layers = {name: Layer(name=name, params=known[name]) for name in chain}
    return Plan(
        model,
        tuple(layers[entry.name] for entry in order),
        tuple(layers[entry.name] for entry in entries if entry.transform is not None),
        params,
    )


def _of_inputs() -> list[str]:
    """Defences without a training."""
    return [name for name in INFERENCE if not defenses_in_order([entry_of(name)])]


def _within_mail(
    chain: Sequence[str], known: Mapping[str, dict[str, Any]], wanted: Mapping[str, Any]
) -> tuple[str, dict[str, Any], list[str]]:
    """The network of MAIL's that a chain of defences stands for, its parameters, and the rest of
    the chain.
    """
    forms = {name: form for name in chain if (form := entry_of(name).in_mail) is not None}
    params = {}
    for name, form in forms.items():
        for key, called in form.parameters.items():
            if key in wanted[name]:
                params[called] = known[name][key]
    model = MAIL
    if len(forms) == 1:
        model = next(iter(forms.values())).model
    elif forms:
        model = ROBUST_MAIL.name  # rpf and man together
    return model, params, [name for name in chain if name not in forms]


def _check_outside_mail(model: str, text: str, chain: Sequence[str]) -> None:
    if ROBUST_MAIL.name in chain:
        raise UserError(
            f"robust-mail is a defence of mail alone, not of {model}; `rpf` and `man` go onto other"
            " models"
        )
    within = [name for name in chain if entry_of(name).in_mail is not None]
    if within and model in {entry.in_mail.model for entry in SHIPPED if entry.in_mail is not None}:
        raise UserError(f"{model} has its own {within[0]}; choose mail with --defense {text}")


def _check_training(text: str, entries: Sequence[Defense]) -> None:
    roles = {role: [e for e in entries if e.objective and e.role == role] for role in STAGES}
    schemes = roles["loss"] + roles["scheme"]
    if len(schemes) > 1:
        raise UserError(
            f"defence {text!r} has two training objectives,"
            f" {' and '.join(entry.name for entry in schemes)}; choose one"
        )
    if roles["around"] and not (roles["scheme"] and schemes[0].under_awp):
        raise UserError(
            "awp goes on top of pgd-at, trades, mart or fast-at, as in --defense trades+awp"
        )
    if roles["augmentation"] and schemes:
        raise UserError(
            f"smoothing trains with Gaussian noise and does not combine with {schemes[0].name}"
        )


def defenses_in_order(entries: Sequence[Defense]) -> list[Defense]:
    """Those that change the network or its training, in the order in which a training's
    specification has them.
    """
    position = {name: place for place, name in enumerate(names())}

    def stage(entry: Defense) -> tuple[int, int]:
        role = "network" if entry.network is not None else entry.role
        return STAGES.index(role), position[entry.name]

    return sorted((entry for entry in entries if entry.network or entry.objective), key=stage)


def code_of_layers(layers: Sequence[Layer]) -> dict[str, str]:
    """sha256 of the user's own code in these defences, by name; those of medrobust are left out,
    their revisions speak.

    Raises:
        UserError: code that cannot be told, see `robustbench_med.provenance.code`.
    """
    hashes = {}
    for name in (layer.name for layer in layers):
        parts = [code.code_of(part, f"defence {name!r}") for part in entry_of(name).made_of]
        if own := [sha256 for sha256 in parts if sha256]:
            joined = hashlib.sha256(" ".join(own).encode()).hexdigest()
            hashes[name] = joined if len(own) > 1 else own[0]
    return hashes


def revisions(model: str, layers: Sequence[Layer]) -> dict[str, int]:
    """Revisions of medrobust's files that a model and its defences are made of (`REVISION` in
    each), by the file's name; of a training that attacks, the scheme of its random numbers too.
    """
    numbers = registry.revisions(model)
    for entry in (entry_of(layer.name) for layer in layers):
        for part in entry.made_of:
            numbers |= code.revisions(part, f"defence {entry.name!r}")
        if entry.objective is not None and entry.role == "scheme":
            numbers[DRAWS] = SCHEME
    return numbers


def wrap(network: nn.Module, layers: Sequence[Layer]) -> nn.Module:
    """The victim as it is used: the network behind its input transforms."""
    if not layers:
        return network
    return Defended(network, transforms(layers)).eval()


def transforms(layers: Sequence[Layer]) -> list[nn.Module]:
    """The input transforms of these layers; bad parameters are a UserError."""
    try:
        return [
            looked_at(INFERENCE[layer.name](**layer.params), layer.name)
            if entry_of(layer.name) not in SHIPPED
            else INFERENCE[layer.name](**layer.params)
            for layer in layers
        ]
    except ValueError as error:
        raise UserError(str(error)) from error


def harden(
    victim: nn.Module, layers: Sequence[Layer], shapes: Sequence[tuple[int, int, int]]
) -> None:
    """Puts the network's defences into a fresh victim, in place (ValueError where it has no place
    for them).
    """
    for layer in layers:
        if layer.name in NETWORK:
            NETWORK[layer.name](victim, shapes, **layer.params)


def _typed(name: str, key: str, value: Any, default: Any) -> Any:
    if key == "eps":
        return canonical(as_text(value))
    if isinstance(default, str):
        return str(value)
    fits = isinstance(value, type(default)) or (isinstance(default, float) and type(value) is int)
    if not fits or isinstance(value, bool):
        raise UserError(f"{name}: {key} must be of type {type(default).__name__}, got {value!r}")
    return type(default)(value)
