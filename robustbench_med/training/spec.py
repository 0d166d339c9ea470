"""What determines the weights of a victim: recipe, defences, and the whole specification of a
training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from robustbench_med.dataspec import Fold, Preprocessing, Reading, shapes
from robustbench_med.naming import label
from robustbench_med.parsing import STRICT, Count
from robustbench_med.training.augmentation import Augmentation

ADDED = ("settle_bn", "keep", "ema", "label_smoothing", "mixup")
"""Settings of a recipe that older versions lacked."""
DRAWS = "randomness"
"""What the scheme of the random numbers that a training attacks with is called among revisions."""


class Recipe(BaseModel):
    """How to train. Exactly one of `steps` and `epochs`."""

    model_config = STRICT

    steps: Count | None = None
    epochs: Count | None = None
    batch_size: int = Field(32, ge=2)
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["one-cycle", "plateau", "trapezoid", "constant"] = "one-cycle"
    clip_norm: float | None = Field(1.0, gt=0)
    eval_every: int | None = Field(None, ge=1)
    """Steps between validations; by default an epoch."""
    early_stop: int | None = Field(None, ge=1)
    """Validations without improvement after which training ends."""
    augmentation: Augmentation = "none"
    warm_up: tuple[float, float] | None = None
    """Shares of the training between which the model's own `warm_up` goes from 0 to 1; only later
    weights are kept.
    """
    freeze_bn: float | None = Field(None, gt=0, lt=1)
    """Share of the training after which BatchNorm uses its running statistics, as in inference; a
    trapezoid then goes on more slowly.
    """
    settle_bn: bool = False
    """Those statistics are then taken anew, over a random victim's draws as inference sees them,
    and follow the training (`batch_norm.Settled`). This and what follows are left out at their
    default: older hashes stay."""
    keep: Literal["loss", "auc"] = "loss"
    """Which weights are kept: those of the lowest validation loss, or of the highest AUC (mean over
    tasks). An adversarial training: of the highest robust accuracy, or robust balanced accuracy.
    """
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average over the steps: the averaged weights are validated and
    kept.
    """
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the label that is spread over all classes (arXiv 1512.00567)."""
    mixup: float = Field(0.0, ge=0)
    """Both parameters of the Beta distribution that pairs of samples are mixed by (arXiv
    1710.09412); 0: not at all.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.settle_bn and self.freeze_bn is None:
            raise ValueError(
                "settle_bn needs freeze_bn, the share of the training after which it begins"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        for key in ADDED:
            if plain[key] == type(self).model_fields[key].default:
                plain.pop(key)
        return plain


class Layer(BaseModel):
    """One defence and its parameters."""

    model_config = STRICT

    name: str
    params: dict[str, Any] = {}


class TrainSpec(BaseModel):
    """Everything that determines the weights; its hash names the checkpoint."""

    model_config = STRICT

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
    """Defences that change the training. This, the preprocessing and what follows are left out at
    their default: older hashes stay.
    """
    fold: Fold | None = None
    """Fold of a cross-validation that the victim is not trained on."""
    source_sha256: str = ""
    """Hash of the file that builds a model of the user's own; its folder is no part of the
    specification.
    """
    code: dict[str, str] = {}
    """Hashes of the user's own code in the defences, by their name."""
    revisions: dict[str, int] = {}
    """Revisions of medrobust's files behind network and defences, where they are above 1."""
    start: Path | None = None
    start_sha256: str = ""
    """Weights that the training begins with: where they lie (no part of the specification) and
    their hash.
    """
    start_reading: Reading = Reading()
    """How they are read."""

    tables: tuple[int, ...] = ()
    optional: tuple[int, ...] = ()
    """Modalities that are clinical tables, and those that samples may miss."""

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of each modality."""
        return shapes(self.channels, self.size, self.tables)

    @property
    def name(self) -> str:
        """How tables and file names call the model."""
        return label(self.model)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self) | {"model": self.name}
        plain.pop("start", None)
        plain.pop("start_reading")
        if asked := self.start_reading.model_dump(exclude_defaults=True):
            plain["start_reading"] = asked
        for key in (
            "source_sha256",
            "code",
            "revisions",
            "start_sha256",
            "tables",
            "optional",
        ):
            if not plain.get(key):
                plain.pop(key, None)
        if self.preprocessing == Preprocessing():
            plain.pop("preprocessing", None)
        if not self.defense:
            plain.pop("defense", None)
        if self.fold is None:
            plain.pop("fold", None)
        return plain
