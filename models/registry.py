"""The registry of victims: names to builders, and the presets of the zoo."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

from torch import nn

from robustbench_med import naming
from robustbench_med.dataspec import shapes
from robustbench_med.formats import yaml_file
from robustbench_med.models import given as given_networks
from robustbench_med.models import trial, user_file
from robustbench_med.models.drifa_net import DRIFANet
from robustbench_med.models.fusion import (
    GMU,
    LMF,
    CrossAttention,
    EarlyFusion,
    LateFusion,
    MMTMFusion,
    Unimodal,
)
from robustbench_med.models.mail import MAIL
from robustbench_med.models.robust_mail import RobustMAIL
from robustbench_med.models.tables import fill_missing
from robustbench_med.provenance import code
from robustbench_med.provenance.networks import Identity
from robustbench_med.provenance.shipped import revised

ZOO = files(__package__) / "zoo"


@dataclass(frozen=True)
class Entry:
    """A model anybody can name: `build(channels, class_counts, **parameters)` makes a victim."""

    build: Callable[..., nn.Module]
    title: str
    paper: str


@dataclass(frozen=True)
class Given(Entry):
    """A network that is there as an object, with the weights that it has.

    Attributes:
        network: as the user made it.
        identity: of the network as it is attacked.
        version: the user's word for what cannot be seen of it.
    """

    network: nn.Module
    identity: Identity
    version: str | None = None


MODELS: dict[str, Entry] = {
    "mail": Entry(MAIL, "MAIL", "arXiv 2602.15346"),
    "mail+rpf": Entry(
        partial(RobustMAIL, man=False),
        "MAIL with random projection filters alone",
        "arXiv 2602.15346",
    ),
    "mail+man": Entry(
        partial(RobustMAIL, rpf=False),
        "MAIL with modulated attention noise alone",
        "arXiv 2602.15346",
    ),
    "robust-mail": Entry(RobustMAIL, "Robust-MAIL", "arXiv 2602.15346"),
    "robust-mail-release": Entry(
        partial(RobustMAIL, rpf_ratio=0.0),
        "Robust-MAIL as its notebook runs, RPF off",
        "arXiv 2602.15346",
    ),
    "drifa-net": Entry(DRIFANet, "DRIFA-Net", "arXiv 2412.01248"),
    "early": Entry(EarlyFusion, "Early fusion", "arXiv 1705.09406"),
    "late": Entry(LateFusion, "Late fusion", "arXiv 1705.09406"),
    "gmu": Entry(GMU, "Gated multimodal unit", "arXiv 1702.01992"),
    "mmtm": Entry(MMTMFusion, "Multimodal transfer module", "arXiv 1911.08670"),
    "lmf": Entry(LMF, "Low-rank multimodal fusion", "arXiv 1806.00064"),
    "cross-attention": Entry(CrossAttention, "Token cross-attention", "arXiv 1906.00295"),
    "unimodal": Entry(Unimodal, "No fusion, the control", "arXiv 1512.03385"),
}


_SHIPPED = frozenset(MODELS)


def source_sha256(name: str) -> str:
    """Hash of the user's own code behind a model; empty where it is medrobust's (ValueError where a
    file cannot be used).
    """
    if naming.is_own(name):
        return user_file.load(name).source_sha256
    entry = MODELS[name]
    if isinstance(entry, Given):
        return entry.identity.source_sha256
    return "" if name in _SHIPPED else code.code_of(entry.build, f"model {name!r}") or ""


def revisions(name: str) -> dict[str, int]:
    """Revisions of medrobust's files that a model is made of, by the file's name; of the user's own
    those that it imports.
    """
    if naming.is_own(name):
        return code.revisions_of_file(user_file.load(name).path) | revised({trial.__name__})
    entry = MODELS[name]
    if isinstance(entry, Given):
        return entry.identity.revisions | revised({trial.__name__, given_networks.__name__})
    return code.revisions(entry.build, f"model {name!r}")


def network_of(name: str) -> Given | None:
    """The network of the user's that is there as an object under this name."""
    entry = MODELS.get(name)
    return entry if isinstance(entry, Given) else None


def parameters(name: str) -> dict[str, Any]:
    """A model's constructor parameters with their defaults; ValueError where a file of the user's
    cannot be used.
    """
    if naming.is_own(name):
        return user_file.load(name).parameters()
    signature = inspect.signature(MODELS[name].build)
    return {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}


def build(
    name: str,
    channels: Sequence[int],
    class_counts: Sequence[int],
    given: Mapping[str, Any],
    *,
    image_size: int,
    tables: Sequence[int] = (),
    optional: Sequence[int] = (),
) -> nn.Module:
    """A fresh victim in evaluation mode.

    Args:
        channels: channels of each modality, coordinates of a table.
        class_counts: classes of each task.
        given: constructor parameters; an unknown one is refused (ValueError).
        image_size: pixels of a side, passed to the models that adapt to it.
        tables: modalities that are clinical tables; a model without a parameter `tables` is refused
            (ValueError).
        optional: modalities that samples may miss: `StandIns` take their place.
    """
    known = parameters(name)
    theirs = user_file.load(name) if naming.is_own(name) else None
    for key in given:
        if key not in known and not (theirs and theirs.takes_any()):
            raise ValueError(f"it has no parameter {key!r}; it has: {', '.join(known)}")
    arguments = dict(given)
    if "image_size" in known:
        arguments.setdefault("image_size", image_size)
    if tables and "tables" not in known:
        raise ValueError(
            "it takes images alone, and this data has a clinical table; early, late, gmu, mmtm,"
            " lmf, cross-attention and unimodal encode one, and so may a builder of yours with a"
            " keyword `tables`"
        )
    for key, numbers in (("tables", tables), ("optional", optional)):
        if numbers and key in known:
            arguments[key] = tuple(numbers)
    entry = MODELS.get(name)
    if isinstance(entry, Given):
        return entry.network
    victim = (
        user_file.build(
            theirs, channels, class_counts, arguments, image_size=image_size, tables=tables
        )
        if theirs
        else MODELS[name].build(channels, class_counts, **arguments).eval()
    )
    if optional:
        fill_missing(victim, shapes(channels, image_size, tables), optional)
    return victim


def presets() -> list[str]:
    """Names of the presets shipped."""
    return sorted(
        path.name.removesuffix(".yaml") for path in ZOO.iterdir() if path.name.endswith(".yaml")
    )


def preset(name: str) -> dict[str, Any]:
    """One preset: `size`, `channels` ("native" or a number), `recipe`, and per model `params` and
    `recipe` overrides.
    """
    return copy.deepcopy(_parsed((ZOO / f"{name}.yaml").read_text()))


@cache
def _parsed(text: str) -> dict[str, Any]:
    """The content of a preset; a run asks for it about twenty times."""
    loaded: dict[str, Any] = yaml_file.loads(text, "the preset", "that is shipped")
    return loaded
