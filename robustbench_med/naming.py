"""What specifications and radii are called: content hashes, and the labels of tables and folders.
Light enough for reports to import.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel

Norm = Literal["Linf", "L2", "L1", "L0"]
"""How a threat model measures a perturbation."""
NORMS: tuple[Norm, ...] = get_args(Norm)
Acceleration = Literal["compile", "graphs", "channels-last", "bf16"]
"""A way to compute an attack's passes faster: see `attacks/accelerated.py`."""
Counts = Literal["pixels", "coordinates"]
"""What L0 counts: places of an image, all their channels together, or each channel of each."""

SCHEMA = 2
"""Version of what identifies a record: raised when an input joins the specification that its hash
is taken over (docs/records.md).
"""
TRAINING_SCHEMA = 1
"""The same of a training, whose hash names its checkpoint."""
CORRUPTION = "corruption"
"""Who computes corruptions, in the place of an engine: no adversary chooses them."""
OWN_THREAT = "own-threat"
"""The same of patches and universal perturbations, whose threat is no ball around each sample."""
NO_BASELINE = "none"
"""What `--baseline` takes where errors under corruptions are to stand by themselves."""
CONTROL = "noise"
"""The attack that is none: what random noise of the same radius does."""
MISSING = "missing"
"""The attack that no ball bounds: each modality replaced by nothing, by the mean, by another
patient's.
"""
BLACK_BOX = "black box"
"""Kind of attacks, and of rounds of a search, that ask for no gradient."""


def radius_label(
    radii: Sequence[float],
    modalities: Sequence[str],
    columns: Mapping[str, float] | None = None,
    units: Mapping[str, str] | None = None,
) -> str:
    """How a table shows the radii: `4/255` when all modalities share one, else
    `mri=4/255,xray=0`; of the attacked `columns` of clinical tables their own bounds,
    `clinic.age=5`; those in the `units` of files as they were given, `xray=4grey`.
    """
    bounds, own = columns or {}, units or {}
    shown = [own.get(name) or number_label(r) for name, r in zip(modalities, radii, strict=True)]
    if len(set(shown)) == 1 and not bounds and (own or len(set(radii)) == 1):
        return shown[0]
    tables = {name.partition(".")[0] for name in bounds}
    plain = [
        f"{name}={text}" for name, text in zip(modalities, shown, strict=True) if name not in tables
    ]
    return ",".join([*plain, *(f"{name}={bound:g}" for name, bound in bounds.items())])


ANY = "any"
"""The aim of an attacker whom one wrong task of a sample suffices."""


def aim_label(least: int) -> str:
    """What `--target-task` calls an attacker who wants so many tasks wrong: `any`, `k=3`."""
    return ANY if least == 1 else f"k={least}"


def number_label(radius: float) -> str:
    """`k/255` where the radius is a whole number k < 255 of grey levels, else up to six significant
    digits; 0.2 and the like, which are both, as people write them.
    """
    return f"{round(radius * 255)}/255" if _of_levels(radius) else f"{radius:.6g}"


def shown_radius(radius: float) -> float:
    """The number that `number_label` shows: radii of one label are one."""
    return round(radius * 255) / 255 if _of_levels(radius) else float(f"{radius:.6g}")


def _of_levels(radius: float) -> bool:
    """Whether the radius is a whole number of grey levels from 1 to 254, and no tenth."""
    levels = radius * 255
    whole = abs(levels - round(levels)) < 1e-9 and 0 < round(levels) < 255
    return whole and abs(radius - round(radius, 1)) > 1e-9


BY_INDEX = "paired by index"
"""The mark of data whose modalities are of different patients: sets joined by "+"."""


def by_index(data: str) -> bool:
    """Whether the modalities of a sample are of different patients, by the data's name."""
    return "+" in data


def nature(data: str, *, synthetic: bool) -> str:
    """What follows a data set's name in titles: whether it is drawn, whether its modalities are of
    different patients.
    """
    said = [*(["synthetic"] if synthetic else []), *([BY_INDEX] if by_index(data) else [])]
    return f" ({', '.join(said)})" if said else ""


def training_hash(training: BaseModel | Mapping[str, Any]) -> str:
    """The hash of a training's specification."""
    return canonical_hash(training, TRAINING_SCHEMA)


def canonical_hash(value: BaseModel | Mapping[str, Any], schema: int | None = None) -> str:
    """sha256 of the canonical JSON (sorted keys, no spaces) with the schema's version."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(
        {"schema": SCHEMA if schema is None else schema, **plain},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()


Keep = Literal["examples", "all", "png"]
"""Which attacked images are kept: the examples beside each record, all of them as npz, or all of
them as PNG, rounded to 8 bits.
"""
ANONYMOUS = "anonymous copy"
"""How the command of an anonymous copy begins: it cannot be made again without its source."""
MODULE = "robustbench_med."
"""How the command of a record begins that is a call in Python, of objects that no file holds."""


def is_own(name: str) -> bool:
    """Whether a model's name is a file of the user's rather than an entry of the registry."""
    return name.endswith(".py") or ".py:" in name


def is_box(name: str) -> bool:
    """Whether a model's name is that of a black box: an HTTP endpoint, or an ONNX file."""
    return is_address(name) or name.endswith(".onnx")


def is_address(name: str) -> bool:
    """Whether a model's name is an HTTP endpoint."""
    return name.startswith(("http://", "https://"))


CALLED: dict[str, str] = {}
"""What their contracts call black boxes, by the address or file that names them."""


def label(name: str) -> str:
    """How tables and file names call a model: without the folder, a black box as its contract
    does.
    """
    return CALLED.get(name) or (Path(name).name if is_own(name) or is_box(name) else name)
