"""Defences by name: what `--defense` means for a model, its training and its inference.

A defence is one name or several joined by "+", such as `trades+awp`, `pni+pgd-at` or `pgd-at+jpeg`.
Some change the training (a scheme), some the network that is trained, some only what happens to the
inputs at inference; those last share the checkpoint of the victim without them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from robustbench_med.errors import INCLUDE, UserError, unknown
from robustbench_med.models import registry
from robustbench_med.models.defenses import INFERENCE, NETWORK, Defended
from robustbench_med.naming import label
from robustbench_med.parameters import of, split
from robustbench_med.parsing import as_text, canonical, check_range, parse_radii
from robustbench_med.provenance import code
from robustbench_med.provenance.objects import summary
from robustbench_med.training.objectives import (
    AWP,
    PGDAT,
    SCHEMES,
    GaussianAugmentation,
    Objective,
    Standard,
)
from robustbench_med.training.spec import Layer

OF_MAIL = {"rpf": "mail+rpf", "man": "mail+man", "robust-mail": "robust-mail"}
"""For MAIL these defences are the paper's own networks."""
OF_MAIL_PARAMETERS = {"rpf": {"ratio": "rpf_ratio"}, "man": {"noise": "noise"}, "robust-mail": {}}
"""What their parameters are called there."""

HARNESS_FIELDS = ("shapes", "radii", "seed", "delta", "base")


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
    return tuple(dict.fromkeys(("none", *SCHEMES, "awp", *NETWORK, "robust-mail", *INFERENCE)))


def parameters(name: str) -> dict[str, Any]:
    """A defence's parameters with their defaults."""
    if name in ("none", "robust-mail"):
        return {}
    if name in SCHEMES or name == "awp":
        kind: Any = AWP if name == "awp" else SCHEMES[name]
        fixed = {"free-at": ("steps", "step_size"), "fast-at": ("steps",)}.get(name, ())
        own = {
            f.name: f.default
            for f in dataclasses.fields(kind)
            if f.name not in (*HARNESS_FIELDS, *fixed)
        }
        return own if name == "awp" else {"eps": "4/255", **own}
    signature = inspect.signature({**NETWORK, **INFERENCE}[name])
    return {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}


def describe() -> list[dict[str, Any]]:
    """Name, kind, first line of documentation and parameters of every defence."""
    rows = []
    for name in names()[1:]:
        source: Any = AWP if name == "awp" else {**SCHEMES, **NETWORK, **INFERENCE}.get(name)
        kind = (
            "training"
            if name in (*SCHEMES, "awp", "smoothing")
            else "inference"
            if name in INFERENCE
            else "network"
        )
        said = (
            summary(source)
            if source
            else "The authors' RPF and MAN together, on mail (arXiv 2602.15346)."
        )
        rows.append({"name": name, "kind": kind, "summary": said, "parameters": parameters(name)})
    return rows


def plan(model: str, text: str, given: Mapping[str, Any], preset: Mapping[str, Any]) -> Plan:
    """What a model with `--defense text` is.

    Args:
        given: the user's parameters; each goes to every defence of the chain that has it,
            `jpeg.quality` to jpeg alone.
        preset: may hold `defenses: {name: {params: ...}}`.

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
    for key in given:
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
    wanted = {name: of(given, name) for name in chain}
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
    names: Sequence[str],
    known: Mapping[str, dict[str, Any]],
    wanted: Mapping[str, Any],
) -> Plan:
    networks = [name for name in names if name in OF_MAIL]
    params: dict[str, Any] = {}
    if model == "mail" and networks:
        params = {
            called: known[name][key]
            for name in networks
            for key, called in OF_MAIL_PARAMETERS[name].items()
            if key in wanted[name]
        }
        if len(networks) > 1:
            networks = ["robust-mail"]  # rpf and man together
        model, names = OF_MAIL[networks[0]], [name for name in names if name not in OF_MAIL]
    elif "robust-mail" in networks:
        raise UserError(
            f"robust-mail is a defence of mail alone, not of {model}; `rpf` and `man` go onto other"
            " models"
        )
    elif networks and model in OF_MAIL.values():
        raise UserError(f"{model} has its own {networks[0]}; choose mail with --defense {text}")
    schemes = [name for name in names if name in SCHEMES]
    if len(schemes) > 1:
        raise UserError(
            f"defence {text!r} has two training objectives, {' and '.join(schemes)}; choose one"
        )
    if "awp" in names and (not schemes or schemes == ["free-at"]):
        raise UserError(
            "awp goes on top of pgd-at, trades, mart or fast-at, as in --defense trades+awp"
        )
    if "smoothing" in names and schemes:
        raise UserError(
            f"smoothing trains with Gaussian noise and does not combine with {schemes[0]}"
        )
    layers = {name: Layer(name=name, params=known[name]) for name in names}
    order = [*NETWORK, *SCHEMES, "awp", "smoothing"]
    return Plan(
        model,
        tuple(layers[name] for name in order if name in layers),
        tuple(layers[name] for name in names if name in INFERENCE),
        params,
    )


def _made_of(name: str) -> list[Any]:
    """The functions and classes behind a defence's name."""
    ours = {"awp": AWP, "smoothing": GaussianAugmentation}
    return [table[name] for table in (SCHEMES, NETWORK, INFERENCE, ours) if name in table]


def code_of_layers(layers: Sequence[Layer]) -> dict[str, str]:
    """sha256 of the user's own code in these defences, by name; those of medrobust are left out,
    their revisions speak.

    Raises:
        UserError: code that cannot be told, see `robustbench_med.provenance.code`.
    """
    found = {
        layer.name: [code.code_of(each, f"defence {layer.name!r}") for each in _made_of(layer.name)]
        for layer in layers
    }
    own = {name: [sha256 for sha256 in each if sha256] for name, each in found.items()}
    return {
        name: each[0] if len(each) == 1 else hashlib.sha256(" ".join(each).encode()).hexdigest()
        for name, each in own.items()
        if each
    }


def revisions(model: str, layers: Sequence[Layer]) -> dict[str, int]:
    """Revisions of medrobust's files that a model and its defences are made of (`REVISION` in
    each), by the file's name.
    """
    found = registry.revisions(model)
    for layer in layers:
        for each in _made_of(layer.name):
            found |= code.revisions(each, f"defence {layer.name!r}")
    return found


def objective(
    layers: Sequence[Layer],
    shapes: Sequence[tuple[int, int, int]],
    modalities: Sequence[str],
    seed: int,
) -> Objective:
    """What the training of these layers minimises; bad parameters are a UserError."""
    found: Objective = Standard()
    for layer in layers:
        given = dict(layer.params)
        _check(layer)
        if layer.name in SCHEMES:
            radii = parse_radii(str(given.pop("eps")), modalities)
            if not any(radii):
                raise UserError(f"{layer.name}: eps is 0 in every modality: nothing is attacked")
            found = SCHEMES[layer.name](shapes=shapes, radii=radii, seed=seed, **given)
        elif layer.name == "awp":
            assert isinstance(found, PGDAT)
            found = AWP(found, **given)
        elif layer.name == "smoothing":
            found = GaussianAugmentation(**given)
    return found


def _check(layer: Layer) -> None:
    given = layer.params
    if given.get("norm", "Linf") not in ("Linf", "L2"):
        raise UserError(f"{layer.name}: norm must be Linf or L2, got {given['norm']!r}")
    if given.get("attacked", "all") not in ("all", "random"):
        raise UserError(
            f"{layer.name}: attacked must be all or random (a choice of modalities a batch), got"
            f" {given['attacked']!r}"
        )
    for key in ("steps", "replays", "step_size", "gamma", "sigma"):
        if given.get(key, 1) <= 0:
            raise UserError(f"{layer.name}: {key} must be positive, got {given[key]!r}")
    if given.get("beta", 0) < 0:
        raise UserError(f"{layer.name}: beta must not be negative, got {given['beta']!r}")


def wrap(network: nn.Module, layers: Sequence[Layer]) -> nn.Module:
    """The victim as it is used: the network behind its input transforms."""
    if not layers:
        return network
    return Defended(network, transforms(layers)).eval()


def transforms(layers: Sequence[Layer]) -> list[nn.Module]:
    """The input transforms of these layers; bad parameters are a UserError."""
    try:
        return [INFERENCE[layer.name](**layer.params) for layer in layers]
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
