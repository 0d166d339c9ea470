"""How the authors' Keras networks name what is in MAIL, Robust-MAIL and DRIFA-Net here.

Keras numbers the layers of a functional model, class by class, in the order of `model.layers`: by
distance from the outputs, and at one distance along the graph from the first output. The tables
below follow the classes and attributes of the authors' notebooks
(github.com/misti1203/MAIL-Robust-MAIL and DRIFA-Net), which are written for two modalities.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import cast

from torch import nn

from robustbench_med.models.drifa_net import DRIFANet
from robustbench_med.models.mail import ERLA, MAIL
from robustbench_med.models.robust_mail import RobustEMILA, RobustMAIL, RPFConv2d

INNER = "deeper_global_local_attention/"
RELEASED = ("mail", "robust-mail", "robust-mail-release", "drifa-net")


@dataclass(frozen=True)
class Variable:
    """A variable of a Keras layer.

    Attributes:
        path: below the layer, in Keras 3's files.
        name: the parameter here; several variables of one name are joined. None: the release
            declares it and never uses it.
        trainable: in legacy files a layer's trainable variables come first.
        one: the release never changes it from 1, and here it is not there.
    """

    path: str
    name: str | None
    trainable: bool = True
    one: bool = False


Layers = dict[str, list[list[Variable]]]
"""By class, in Keras' order: the variables of every layer, in order of creation."""


def layout(model: nn.Module) -> Layers:
    """The Keras layers of a network; ValueError where the authors have released none like it."""
    if isinstance(model, RobustMAIL) and not (model.rpf and model.man):
        raise ValueError("the authors released no network with RPF or MAN alone")
    if not isinstance(model, (MAIL, DRIFANet)) or model.n_modalities != 2:
        raise ValueError(
            "the authors' releases are MAIL, Robust-MAIL and DRIFA-Net of two modalities"
        )
    layers: Layers = defaultdict(list)
    (_mail if isinstance(model, MAIL) else _drifa_net)(model, layers)  # type: ignore[arg-type]
    layers["dense"] = [_kernel("", f"heads.{t}") for t in range(len(model.class_counts))]
    return dict(layers)


def _mail(model: MAIL, layers: Layers) -> None:
    convolution, norm = layers["conv2d"], layers["batch_normalization"]
    both = range(model.n_modalities)
    convolution += [_kernel("", f"stem.{m}.0") for m in both]
    norm += [_norm("", f"stem.{m}.1") for m in both]
    for b in range(8):
        blocks = {f"blocks.{m}.{b}": cast(ERLA, model.blocks[m][b]) for m in both}  # type: ignore[index]
        for name in ("e1", "e2"):
            layers["multi_kernel_group_wise_conv"] += [
                _emila(f"{block}.{name}", getattr(erla, name)) for block, erla in blocks.items()
            ]
        norm += [_norm("", f"{block}.bn1") for block in blocks]
        for block, erla in blocks.items():
            convolution.append(_kernel("", f"{block}.pw"))
            norm.append(_norm("", f"{block}.bn2"))
            if not isinstance(erla.short, nn.Identity):
                convolution.append(_kernel("", f"{block}.short.0"))
                norm.append(_norm("", f"{block}.short.1"))
        if b % 2:
            layers["deeper_attention_layer1"].append(
                _emcam(f"fuse.{b // 2}", robust=isinstance(model, RobustMAIL))
            )


def _emila(name: str, emila: nn.Module) -> list[Variable]:
    found = [Variable("vars/0", f"{name}.scale")]
    robust = isinstance(emila, RobustEMILA)
    if robust:  # weights of the spatial and channel noise
        found += [Variable(f"vars/{i}", None, trainable=False, one=True) for i in (1, 2)]
    for theirs, ours, kind, norm in (
        ("conv1x1", "gpc", "conv", "bn1"),
        ("dw3", "dw3", "dw", "bn3"),
        ("dw5", "dw5", "dw", "bn5"),
    ):
        found += _kernel(f"{theirs}/_{kind}_train/" if robust else f"{theirs}/", f"{name}.{ours}")
        if robust and cast(RPFConv2d, getattr(emila, ours)).n_random:  # drawn afresh at every pass
            found += [
                Variable(f"{theirs}/_{kind}_rand/vars/{i}", None, trainable=False) for i in (0, 1)
            ]
        if robust:
            found += _norm({"conv1x1": "bn1x1/"}.get(theirs, f"bn_{theirs}/"), f"{name}.{norm}")
    for part, make in {
        "fuse": _kernel,
        "bn_fuse": _norm,
        "fc1": _kernel,
        "fc2": _kernel,
        "proj": _kernel,
        "bn_proj": _norm,
    }.items():
        found += make(f"{part}/", f"{name}.{part}")
    return found


def _emcam(name: str, *, robust: bool) -> list[Variable]:
    own = [
        None,
        None,
        "mod",
        "mod",
        "mod",
        *(["v", None] if robust else []),
        "gamma",
        "s.0",
        None,
        "s.1",
    ]
    return [
        *(Variable(f"vars/{m}", f"{name}.alpha.{m}") for m in (0, 1)),
        *(Variable(f"{INNER}vars/{i}", part and f"{name}.{part}") for i, part in enumerate(own)),
        *_kernel(f"{INNER}global_attention/", f"{name}.dense"),
        *(
            Variable(f"{INNER}msgdc_{theirs}/vars/0", f"{name}.{ours}.weight")
            for theirs, ours in {
                "conv1x1": "gpc",
                "dw3": "dw3",
                "dw5": "dw5",
                "fuse": "fuse",
            }.items()
        ),
    ]


def _drifa_net(model: DRIFANet, layers: Layers) -> None:
    convolution, norm, mfa = (
        layers["conv2d"],
        layers["batch_normalization"],
        layers["deeper_attention_layer1"],
    )
    both = range(model.n_modalities)
    convolution += [_kernel("", f"stem.{m}.0") for m in both]
    mfa += [_mfa(f"stem.{m}.1") for m in both]
    norm += [_norm("", f"stem.{m}.2") for m in both]
    for step in range(8):
        blocks = [f"blocks.{m}.{step}" for m in both]
        short = not isinstance(model.blocks[0][step].short, nn.Identity)  # type: ignore[index]
        for part in ("c1", "c2", *(["short.0"] if short else [])):
            convolution += [_kernel("", f"{block}.{part}") for block in blocks]
        for part in ("m1", "m2"):
            mfa += [_mfa(f"{block}.{part}") for block in blocks]
        norm += [_norm("", f"{block}.bn1") for block in blocks]
        for block in blocks:
            norm += [
                _norm("", f"{block}.{part}") for part in ("bn2", *(["short.1"] if short else []))
            ]
        if step < 7:
            mfa += [_mfa(f"mfa.{m}.{step}") for m in both]
        layers["deeper_attention_layer"].append(_mifa(f"mifa.{step}"))


def _mfa(name: str) -> list[Variable]:
    return [
        Variable("vars/0", f"{name}.alpha"),
        *(Variable(f"{INNER}vars/{i}", f"{name}.{part}") for i, part in enumerate(("gs", "ls"))),
        *(v for i in range(4) for v in _kernel(f"{INNER}global_conv{i + 1}/", f"{name}.g.{i}")),
        *_kernel(f"{INNER}global_attention/", f"{name}.dense"),
        *(v for i in range(2) for v in _kernel(f"{INNER}local_conv{i + 1}/", f"{name}.l.{i}")),
    ]


def _mifa(name: str) -> list[Variable]:
    return [
        *(Variable(f"vars/{m}", f"{name}.alpha.{m}") for m in (0, 1)),
        *(Variable(f"{INNER}vars/{i}", f"{name}.{part}") for i, part in enumerate(("gs", "ls"))),
        *_kernel(f"{INNER}global_attention/", f"{name}.dense"),
        *(v for i in range(2) for v in _kernel(f"{INNER}local_conv{i + 1}/", f"{name}.k.{i}")),
    ]


def _kernel(path: str, name: str) -> list[Variable]:
    """A convolution or dense layer: kernel and bias."""
    return [Variable(f"{path}vars/0", f"{name}.weight"), Variable(f"{path}vars/1", f"{name}.bias")]


def _norm(path: str, name: str) -> list[Variable]:
    """BatchNormalization: gamma, beta, moving mean and variance."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return [
        Variable(f"{path}vars/{i}", f"{name}.{part}", trainable=i < 2)
        for i, part in enumerate(parts)
    ]
