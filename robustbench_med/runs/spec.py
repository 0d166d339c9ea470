"""Specifications: what a user asks for, validated and expanded to a grid.

A run is a grid: models x data x attacks x radii x seeds. Run files, Python and command line fill
the same classes. `runs/options.py` says how a field is typed; everything here is light enough for
`--help` to import.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from robustbench_med.dataspec import Fold, Preprocessing
from robustbench_med.errors import UserError
from robustbench_med.naming import MISSING, Acceleration, Counts, Norm, label
from robustbench_med.parameters import flat, split
from robustbench_med.parsing import (
    STRICT,
    Count,
    Seed,
    as_texts,
    canonical,
    check_radius,
    norm_of,
    radii_under,
    split_radii,
    within,
)
from robustbench_med.runs.weights_spec import AskedSpec, CappedSpec, MayTrain, WeightsSpec

Ways = Annotated[list[Acceleration], AfterValidator(lambda ways: sorted(set(ways)))]
Parameters = Annotated[dict[str, Any], AfterValidator(flat)]
"""`{"steps": 5}` for all that have them, `{"pgd.steps": 5}` or `{"pgd": {"steps": 5}}` for one."""


def _flat_of_models(params: dict[str, Any]) -> dict[str, Any]:
    return flat(params, nested=lambda key: not key.isidentifier())


ModelParameters = Annotated[dict[str, Any], AfterValidator(_flat_of_models)]
"""The same of models. Under a name that a parameter can have, a mapping is a value (of a parameter
of the user's own model), unless it is the name of a model of the specification.
"""


class CrossValidation(BaseModel):
    """Folds of a grouped cross-validation over all samples, in place of the usual split; each
    trains a victim of its own.
    """

    model_config = STRICT

    folds: Annotated[int | None, within("folds")] = Field(None, ge=2)
    """How many; None = the usual split."""
    fold: list[int] = []
    """Which of them, from 0; empty = all."""

    @field_validator("fold", mode="before")
    @classmethod
    def _fold_listed(cls, value: object) -> object:
        return _listed(value)

    @field_validator("fold")
    @classmethod
    def _fold_exists(cls, value: list[int], info: ValidationInfo) -> list[int]:
        folds = info.data.get("folds")
        if any(not 0 <= k < (folds or 0) for k in value):
            raise ValueError(
                "it needs folds" if folds is None else f"folds are numbered 0 to {folds - 1}"
            )
        return value

    @property
    def partitions(self) -> list[Fold | None]:
        """What `data.load` takes as `fold`, one after another: the usual split, or the folds."""
        return (
            [None]
            if self.folds is None
            else [(k, self.folds) for k in self.fold or range(self.folds)]
        )


class TrainedSpec(CrossValidation, WeightsSpec):
    """Which victims, as their trainings determine them. Every list is one axis of a grid."""

    model: list[str] = Field(min_length=1)
    defense: list[str] = ["none"]
    data: list[str] = ["phantoms"]
    preset: str = "quick"
    train_seed: list[Seed] = [0]
    size: int | None = Field(None, ge=16, le=1024)
    preprocessing: Preprocessing = Preprocessing()
    model_params: ModelParameters = {}
    defense_params: Parameters = {}
    recipe: Parameters = {}
    whole_range: bool = False
    """Takes Linf radii above 1, more than a pixel's whole range."""
    include: list[Path] = []
    """Files of the user's that register attacks, losses and defences."""

    @field_validator("model", "defense", "data", "train_seed", "include", mode="before")
    @classmethod
    def _victims_listed(cls, value: object) -> object:
        return _listed(value)

    @model_validator(mode="before")
    @classmethod
    def _parameters_of_one_model(cls, values: Any) -> Any:
        """`{"late": {"width": 8}}` becomes `{"late.width": 8}` where late is a model of this
        specification.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("model_params"), Mapping):
            return values
        models = [*_listed(values.get("model", [])), *_listed(values.get("source", []))]
        owners = {label(name) for name in models if isinstance(name, str)}
        return {**values, "model_params": _by_owner(values["model_params"], owners)}


class VictimsSpec(TrainedSpec, MayTrain, AskedSpec):
    """Which victims a command asks for, and on which samples: what run, compare, certify and
    diagnose have in common.
    """

    seed: list[Seed] = [0]
    """Seeds of the evaluation."""
    draws: Count = 16
    """Forward passes per prediction of a random victim."""
    limit: int | None = Field(None, ge=0)
    """First n test samples; 0 = all; None = what the preset says."""
    chunk: Count = 32
    """Samples that stay together where random victims draw for a batch as a whole."""
    allow_batch_dependent: bool = False
    """Evaluates a victim whose prediction depends on the batch; a sign fails its trust."""

    @field_validator("seed", mode="before")
    @classmethod
    def _seeds_listed(cls, value: object) -> object:
        return _listed(value)


class ThreatsSpec(VictimsSpec):
    """Victims, and the threats that they are put to."""

    eps: list[str] = ["Linf:4/255", "L2:0.5", "L1:12", "L0:10"]
    """Radii, each for the norm that it names, or for all norms that none names (`radii`)."""
    norm: list[Norm] = ["Linf"]
    l0_counts: Counts = "pixels"
    """What an L0 radius counts: a place's channels together, or each by itself."""
    target_task: str = "joint"
    protocol: Literal["sound", "release"] = "sound"
    source: list[str] = []
    """Undefended victims whose adversarials are tried too."""
    batch_draws: Count = 1
    """Draws of one EOT gradient that share a batch."""

    @field_validator("eps", mode="before")
    @classmethod
    def _radii_as_text(cls, value: object) -> list[str]:
        if not (radii := as_texts(value)):
            raise UserError("eps: an empty list of radii; expected some such as [1/255, 4/255]")
        return list(dict.fromkeys(map(canonical, split_radii(radii))))

    @field_validator("norm", "source", mode="before")
    @classmethod
    def _threat_listed(cls, value: object) -> object:
        return _listed(value)

    @model_validator(mode="after")
    def _radii_in_range(self) -> Self:
        for norm in self.norm:
            for eps in self.radii(norm):
                check_radius(eps, norm, self.l0_counts, whole_range=self.whole_range)
        return self

    @model_validator(mode="after")
    def _every_norm_has_a_radius(self) -> Self:
        for asked in self.norm:
            if not self.radii(asked):
                raise UserError(
                    f"eps: no radius for the norm {asked}; add one, such as {asked}:..."
                )
        usual = self.eps == type(self).model_fields["eps"].get_default()
        unasked = [] if usual else [n for n, _ in map(norm_of, self.eps) if n not in self.norm]
        if any(unasked):
            other = next(filter(None, unasked))
            raise UserError(f"eps: a radius for the norm {other}, which --norm does not name")
        if self.l0_counts != "pixels" and "L0" not in self.norm:
            raise UserError(f"--l0-counts {self.l0_counts} says what --norm L0 counts; add it")
        return self

    def radii(self, norm: Norm) -> list[str]:
        """The radii of a norm, without its name."""
        return list(dict.fromkeys(radii_under(self.eps, norm)))


class RunSpec(ThreatsSpec, CappedSpec):
    """What `medrobust run` does."""

    attack: list[str] = ["pgd"]
    attack_params: Parameters = {}
    control: bool = True
    """Adds the noise control at every radius."""
    engine: Literal["native", "torchattacks", "art", "foolbox"] = "native"
    effort: Literal["quick", "auto", "max"] | None = None
    """How long attacks are followed by stronger ones; None: what is usual for the attack."""
    max_passes: int | None = Field(None, ge=1)
    """Gradient passes an attacked sample after which effort auto stops; None: 50 times pgd's."""
    target: str | None = None
    """Makes attacks targeted: "random", "least-likely" or the number of a class."""
    cross_modal: bool = False
    """Every attacked modality x task by itself."""
    challenge: bool = True
    """Challenges what each attack left by short attacks of other kinds."""
    carry: bool = False
    """Samples that a smaller radius broke are not attacked again at a larger one."""
    cascade: bool = False
    """Each attack gets what those before it left."""
    accelerate: Ways = []
    """How an attack's passes are computed faster; what is judged is computed as ever."""
    baseline: str = "late"
    """The undefended victim that corruption errors are relative to; "none": no victim."""

    @property
    def bounded(self) -> list[str]:
        """The attacks within a ball: all but the replacement of modalities."""
        return [attack for attack in self.attack if attack != MISSING]

    @field_validator("attack", "accelerate", mode="before")
    @classmethod
    def _attacks_listed(cls, value: object) -> object:
        return _listed(value)


class DiagnoseSpec(ThreatsSpec):
    """What `medrobust diagnose` does."""

    limit: int | None = Field(32, ge=1)
    steps: Count = Field(20, ge=2)
    """Steps of PGD; twice as many are tried too."""
    queries: Count = Field(500, ge=2)
    """Queries of the square attack."""
    eot: Count = 4
    """Draws per gradient against a random victim; 1 and 32, or twice as many, are tried too."""


class CertifySpec(VictimsSpec):
    """What `medrobust certify` does."""

    defense: list[str] = ["smoothing"]
    sigma: list[Annotated[float, Field(gt=0)]] = []
    """Standard deviations of the noise, each with victims of its own where the defence trains with
    it; empty: the defence's.
    """
    n0: Count = 100
    """Draws that choose the class."""
    n: Count = 1000
    """Draws that bound its probability."""
    alpha: float = 0.001
    """Chance that a certificate is wrong, in (0, 1)."""
    per_modality: bool = True
    """Also certifies each modality alone, the others trusted."""

    @field_validator("sigma", mode="before")
    @classmethod
    def _levels_listed(cls, value: object) -> object:
        return _listed(value)

    @field_validator("alpha")
    @classmethod
    def _is_a_chance(cls, alpha: float) -> float:
        if not 0 < alpha < 1:
            raise UserError(f"--alpha must lie in (0, 1), got {alpha:g}")
        return alpha

    @model_validator(mode="after")
    def _sigma_said_once(self) -> Self:
        if self.sigma and any(split(key)[1] == "sigma" for key in self.defense_params):
            raise UserError("--sigma and --defense-param sigma=... say the same; give one of them")
        return self


class TrainingsSpec(TrainedSpec):
    """What `medrobust train` does."""

    half: bool = False
    """Stores weights in half precision."""


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _by_owner(params: Mapping[Any, Any], owners: Collection[str]) -> dict[Any, Any]:
    """Parameters with those of an owner under keys such as `late.width`."""
    flattened: dict[Any, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and isinstance(key, str) and label(key) in owners:
            flattened |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flattened[key] = value
    return flattened


class VictimPoint(BaseModel):
    """One victim and evaluation seed before its data are known: a point of the grid of victims."""

    model_config = STRICT

    model: str
    defense: str = "none"
    data: str
    fold: Fold | None = None
    train_seed: int
    seed: int


class Cell(VictimPoint):
    """One evaluation before its victim and data are known: a point of the grid."""

    attack: str
    eps: str
    norm: Norm
    target_task: str = "joint"
    severity: int | None = None
    """Of a corruption; None of attacks."""


class Case(VictimPoint):
    """One victim under one threat: a point of the grid of `diagnose`."""

    eps: str
    norm: Norm
    target_task: str = "joint"


def victim_points(spec: VictimsSpec) -> list[VictimPoint]:
    """Every victim and evaluation seed in a stable order; a victim's seeds stand side by side, so
    that it is loaded once.
    """
    axes: dict[str, Sequence[Any]] = {
        "data": spec.data,
        "fold": spec.partitions,
        "model": spec.model,
        "defense": spec.defense,
        "train_seed": spec.train_seed,
        "seed": spec.seed,
    }
    grid = itertools.product(*(dict.fromkeys(axis) for axis in axes.values()))
    return [VictimPoint.model_validate(dict(zip(axes, point, strict=True))) for point in grid]


def cells(run: RunSpec) -> list[Cell]:
    """The grid of a run in a stable order: victims outermost, then norms and radii, the noise
    control of every radius first.
    """
    attacks = list(dict.fromkeys((["noise"] if run.control else []) + run.bounded))
    threats = itertools.product(_norms_and_radii(run), attacks)
    return [
        Cell(**dict(victim), norm=norm, eps=eps, attack=attack, target_task=run.target_task)
        for victim, ((norm, eps), attack) in itertools.product(victim_points(run), threats)
    ]


def cases(spec: DiagnoseSpec) -> list[Case]:
    """The grid of `diagnose` in a stable order, victims outermost."""
    threats = _norms_and_radii(spec)
    return [
        Case(**dict(victim), norm=norm, eps=eps, target_task=spec.target_task)
        for victim, (norm, eps) in itertools.product(victim_points(spec), threats)
    ]


def _norms_and_radii(spec: ThreatsSpec) -> list[tuple[Norm, str]]:
    return [(norm, eps) for norm in dict.fromkeys(spec.norm) for eps in spec.radii(norm)]


def cross_modal(
    grid: Sequence[Cell], names: Mapping[str, tuple[Sequence[str], Sequence[str]]]
) -> list[Cell]:
    """Each cell once for every modality attacked alone and every task; `names` gives modalities and
    tasks of each data set.
    """
    return [
        cell.model_copy(update={"eps": f"{modality}={cell.eps}", "target_task": task})
        for cell in grid
        for modality in names[cell.data][0]
        for task in names[cell.data][1]
    ]
