"""Run specifications: what a user asks for, validated, expanded to cells, hashed.

A run is a grid: models x data x attacks x radii x seeds. YAML and command line fill the same `RunSpec`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from robustbench_med.augmentation import Augmentation
from robustbench_med.data.preprocessing import Preprocessing
from robustbench_med.data.splits import Fold
from robustbench_med.errors import UserError
from robustbench_med.models.own import label
from robustbench_med.models.registry import MODELS
from robustbench_med.parameters import flat, split
from robustbench_med.radii import DECIMAL, as_text, canonical, check_range, number, split_radii

EOT_DEFAULT = 4
"""Draws per gradient against a stochastic victim under the sound protocol."""

EOT_AUTOATTACK = 20
"""The same for AutoAttack's version for random victims (arXiv 2003.01690, section 6.2)."""

Spec = TypeVar("Spec", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Recipe(_Strict):
    """How to train. Exactly one of `steps` and `epochs`."""

    steps: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=2)
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["one-cycle", "plateau", "trapezoid"] = "one-cycle"
    clip_norm: float | None = Field(1.0, gt=0)
    eval_every: int | None = Field(None, ge=1)
    """Steps between validations; by default an epoch."""
    early_stop: int | None = Field(None, ge=1)
    """Validations without improvement after which training ends."""
    augmentation: Augmentation = "none"
    warm_up: tuple[float, float] | None = None
    """Shares of the training between which the model's own `warm_up` goes from 0 to 1; only later weights are kept."""
    freeze_bn: float | None = Field(None, gt=0, lt=1)
    """Share of the training after which BatchNorm uses its running statistics, as in inference; a trapezoid then goes on more slowly."""
    settle_bn: bool = False
    """Those statistics are then taken anew, over a random victim's draws as inference sees them, and follow the training
    (`batch_norm.Settled`). Left out at its default: older hashes stay."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.settle_bn and self.freeze_bn is None:
            raise ValueError("settle_bn needs freeze_bn, the share of the training after which it begins")
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if not self.settle_bn:
            plain.pop("settle_bn")
        return plain


class Layer(_Strict):
    """One defence and its parameters."""

    name: str
    params: dict[str, Any] = {}


class TrainSpec(_Strict):
    """Everything that determines the weights; its hash names the checkpoint."""

    model: str
    params: dict[str, Any]
    data: str
    manifest: str
    size: int
    channels: tuple[int, ...]
    class_counts: tuple[int, ...]
    preset: str
    recipe: Recipe
    seed: int
    half: bool = False
    """Weights stored in half precision."""
    preprocessing: Preprocessing = Preprocessing()
    defense: tuple[Layer, ...] = ()
    """Defences that change the training. This, the preprocessing and what follows are left out at their default: older hashes stay."""
    fold: Fold | None = None
    """Fold of a cross-validation that the victim is not trained on."""
    source_sha256: str = ""
    """Hash of the file that builds a model of the user's own; its folder is no part of the specification."""
    code: dict[str, str] = {}
    """Hashes of the user's own code in the defences, by their name."""
    revisions: dict[str, int] = {}
    """Revisions of medrobust's files behind network and defences, where they are above 1."""
    start: Path | None = None
    start_sha256: str = ""
    """Weights that the training begins with: where they lie (no part of the specification) and their hash."""

    @property
    def name(self) -> str:
        """How tables and file names call the model."""
        return label(self.model)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self) | {"model": self.name}
        plain.pop("start", None)
        for key in ("source_sha256", "code", "revisions", "start_sha256"):
            if not plain.get(key):
                plain.pop(key, None)
        if self.preprocessing == Preprocessing():
            plain.pop("preprocessing", None)
        if not self.defense:
            plain.pop("defense", None)
        if self.fold is None:
            plain.pop("fold", None)
        return plain


def _flat_of_models(given: dict[str, Any]) -> dict[str, Any]:
    """A mapping is a model's parameters where its key names one; else the value of a parameter of a model of the user's own."""
    return flat(given, nested=lambda key: key in MODELS or not key.isidentifier())


Parameters = Annotated[dict[str, Any], AfterValidator(flat)]
"""`{"steps": 5}` for all that have them, `{"pgd.steps": 5}` or `{"pgd": {"steps": 5}}` for one."""
ModelParameters = Annotated[dict[str, Any], AfterValidator(_flat_of_models)]


class CrossValidation(_Strict):
    """Folds of a grouped cross-validation over all samples, in place of the usual split; each trains a victim of its own."""

    folds: int | None = Field(None, ge=2)
    """How many; None = the usual split."""
    fold: list[int] = []
    """Which of them, from 0; empty = all."""

    @field_validator("fold", mode="before")
    @classmethod
    def _fold_listed(cls, value: object) -> object:
        return value if isinstance(value, list) else [value]

    @field_validator("fold")
    @classmethod
    def _fold_exists(cls, value: list[int], info: ValidationInfo) -> list[int]:
        folds = info.data.get("folds")
        if any(not 0 <= k < (folds or 0) for k in value):
            raise ValueError("it needs folds" if folds is None else f"folds are numbered 0 to {folds - 1}")
        return value

    @property
    def partitions(self) -> list[Fold | None]:
        """What `data.load` takes as `fold`, one after another: the usual split, or the folds."""
        return [None] if self.folds is None else [(k, self.folds) for k in self.fold or range(self.folds)]


class RunSpec(CrossValidation):
    """What `medrobust run` does; every list is one axis of the grid."""

    model: list[str] = Field(min_length=1)
    defense: list[str] = ["none"]
    defense_params: Parameters = {}
    attack: list[str] = ["pgd"]
    data: list[str] = ["phantoms"]
    eps: list[str] = ["4/255"]
    norm: list[Literal["Linf", "L2"]] = ["Linf"]
    target_task: str = "joint"
    seed: list[int] = [0]
    train_seed: list[int] = [0]
    preset: str = "quick"
    protocol: Literal["sound", "release"] = "sound"
    draws: int = Field(16, ge=1)
    limit: int | None = Field(None, ge=0)
    """First n test samples; 0 = all; None = what the preset says."""
    size: int | None = Field(None, ge=16, le=1024)
    preprocessing: Preprocessing = Preprocessing()
    attack_params: Parameters = {}
    model_params: ModelParameters = {}
    recipe: Parameters = {}
    checkpoint: Path | None = None
    control: bool = True
    """Adds the noise control at every radius."""
    engine: Literal["native", "torchattacks", "art"] = "native"
    source: list[str] = []
    """Victims that `transfer` makes its adversarials on."""
    target: str | None = None
    """Makes attacks targeted: "random", "least-likely" or the number of a class."""
    cross_modal: bool = False
    """Every attacked modality x task by itself."""
    batch_draws: int = Field(1, ge=1)
    """Draws of one EOT gradient that share a batch."""
    chunk: int = Field(32, ge=1)
    """Samples that stay together where predictions depend on the batch: random victims that draw for it as a whole."""
    allow_batch_dependent: bool = False
    """Evaluates a victim whose prediction for an image depends on its neighbours in the batch, with a sign that fails its trust."""
    whole_range: bool = False
    """Takes Linf radii above 1, more than a pixel's whole range."""
    include: list[Path] = []
    """Files of the user's that register attacks, losses and defences."""

    @field_validator("eps", mode="before")
    @classmethod
    def _as_text(cls, value: list[object]) -> list[str]:
        if not value:
            raise UserError("eps: an empty list of radii; expected some such as [1/255, 4/255]")
        return list(dict.fromkeys(map(canonical, split_radii(list(map(as_text, value))))))

    @field_validator(
        "model", "defense", "attack", "data", "eps", "norm", "seed", "train_seed", "source", "include", mode="before"
    )  # runs first
    @classmethod
    def _listed(cls, value: object) -> object:
        return value if isinstance(value, list) else [value]

    @model_validator(mode="after")
    def _radii_in_range(self) -> RunSpec:
        for eps in self.eps if "Linf" in self.norm and not self.whole_range else ():
            check_range(eps, "eps")
        return self


class TrainOptions(CrossValidation):
    """What `medrobust train` takes besides model and data."""

    preset: str = "quick"
    seed: int = 0
    defense: str = "none"
    defense_params: Parameters = {}
    whole_range: bool = False
    """Takes Linf radii of a defence above 1."""
    size: int | None = Field(None, ge=16, le=1024)
    preprocessing: Preprocessing = Preprocessing()
    params: ModelParameters = {}
    recipe: Parameters = {}
    half: bool = False
    checkpoint: Path | None = None
    """Weights to start from."""
    include: list[Path] = []
    """Files of the user's that register defences."""


class Cell(_Strict):
    """One evaluation before its victim and data are known: a point of the grid."""

    model: str
    defense: str = "none"
    data: str
    attack: str
    eps: str
    norm: Literal["Linf", "L2"]
    seed: int
    train_seed: int
    target_task: str = "joint"
    fold: Fold | None = None


def cells(run: RunSpec) -> list[Cell]:
    """The grid of a run in a stable order, the noise control of every radius first; victims outermost, so each loads once."""
    attacks = list(dict.fromkeys((["noise"] if run.control else []) + run.attack))
    axes: dict[str, list[Any]] = {
        "data": run.data,
        "fold": run.partitions,
        "model": run.model,
        "defense": run.defense,
        "train_seed": run.train_seed,
        "seed": run.seed,
        "norm": run.norm,
        "eps": run.eps,
        "attack": attacks,
        "target_task": [run.target_task],
    }
    grid = itertools.product(*(dict.fromkeys(axis) for axis in axes.values()))
    return [Cell.model_validate(dict(zip(axes, point, strict=True))) for point in grid]


def cross_modal(grid: Sequence[Cell], names: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> list[Cell]:
    """Each cell once for every modality attacked alone and every task; `names` gives modalities and tasks of each data set."""
    return [
        cell.model_copy(update={"eps": f"{modality}={cell.eps}", "target_task": task})
        for cell in grid
        for modality in names[cell.data][0]
        for task in names[cell.data][1]
    ]


def assignments(options: Sequence[str]) -> dict[str, Any]:
    """`name=value` options as a dictionary; values as YAML reads them, and 1e-3 is a number too. `late.width=8`: of one model alone."""
    found: dict[str, Any] = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UserError(f"expected NAME=VALUE such as steps=50, got {text!r}")
        try:
            loaded = yaml.safe_load(value)
        except (RecursionError, yaml.YAMLError) as error:
            raise UserError(f"cannot read the value in {text!r}: {' '.join(str(error).split())}") from error
        if isinstance(loaded, str) and DECIMAL.fullmatch(loaded):
            loaded = finite(loaded, name.strip())
        owner, plain = split(name.strip())
        key = f"{owner}.{plain.replace('-', '_')}" if owner else plain.replace("-", "_")
        try:
            found |= flat({key: loaded}, nested=lambda key: False)
        except ValueError as error:
            raise UserError(str(error)) from error
    return found


def finite(text: str, name: str) -> float:
    """The value of a parameter that is a decimal number."""
    try:
        return number(text)
    except ValueError as error:
        raise UserError(f"{name}: {text} is {error}") from error


def whole_numbers(text: str, option: str) -> list[int]:
    """Positive whole numbers, comma-separated."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"{option} takes positive whole numbers, comma-separated, got {text!r}")
    return list(map(int, parts))


def positive_numbers(text: str, option: str) -> list[float]:
    """Positive finite numbers, comma-separated."""
    try:
        numbers = [number(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) <= 0:
        raise UserError(f"{option} takes positive numbers, comma-separated, such as 0.12,0.25; got {text!r}")
    return numbers


def load_config(path: Path) -> dict[str, Any]:
    """A YAML run file as a dictionary of `RunSpec` fields."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the run file {path}: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping such as 'model: [mail, late]'")
    return loaded


def validate(kind: type[Spec], values: Mapping[str, Any], what: str) -> Spec:
    """Builds a spec; the first fault becomes one line (UserError) that names the field and lists the known ones."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(f"{what}: unknown field {name!r}; known: {', '.join(kind.model_fields)}") from error
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{what}: {name}: {said} (got {first['input']!r})" if name else f"{what}: {said}") from error
