"""The shape of a certificate: what was proved about a victim, as a pydantic model and so as a JSON
schema.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from robustbench_med.store.parts import (
    DataSpec,
    Environment,
    InputsAndTasks,
    Kept,
    Number,
    Part,
    Share,
    Size,
    VictimSpec,
)


class SmoothingSpec(Part):
    """Randomised smoothing: noise, which modalities carry it (numbers), draws that choose a class
    and that bound its probability.
    """

    sigma: Number = Field(gt=0)
    noised: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    n0: int = Field(ge=1)
    n: int = Field(ge=1)
    alpha: Number = Field(gt=0, lt=1, description="chance that a certificate is wrong")
    chunk: int | None = Field(
        None, ge=1, description="samples that stayed together, where draws depend on the batch"
    )


class CertificateSpec(Part):
    """What the certificate's hash is taken over."""

    victim: VictimSpec
    data: DataSpec
    certificate: SmoothingSpec
    seed: int
    randomness: int | None = Field(
        None, ge=1, description="revision of the scheme of random numbers"
    )


class CertifiedTask(Part):
    """Figures of one task over its labelled samples; radii are L2 sizes for pixels in 0..1."""

    task: str
    n: int
    n_distinct: int
    n_groups: int | None = Field(
        None, description="patients, or what else the card groups by; images where it names nothing"
    )
    n_effective: Number | None = Field(
        None,
        description=(
            "independent samples that `certified_accuracy` is worth: its interval counts these"
        ),
    )
    abstained: Share
    certified_accuracy: Share = Field(description="share certified right, at whatever radius")
    average_radius: Size = Field(description="mean radius, 0 where wrong or abstained")
    largest_radius: Size
    trivial: str | None = Field(
        None,
        description="why the smoothed victim is no better than a constant at this task, or null",
    )

    @property
    def independent(self) -> float:
        """The effective number of samples; distinct images where their groups are not known."""
        return float(self.n_distinct if self.n_effective is None else self.n_effective)


class Certificate(Kept):
    """What was proved about one victim with noise on some of its modalities; the radius of every
    sample lies beside it as npz.
    """

    spec: CertificateSpec
    defense: str
    names: InputsAndTasks
    synthetic: bool
    figures: list[CertifiedTask] = Field(min_length=1)
    noised: str = Field(
        description=(
            "what the radius bounds: `all modalities` jointly, or one `alone`, the others trusted"
        )
    )
    notes: list[str]
    batch_dependent: str | None = Field(
        None, description="how predictions for an image depend on its neighbours in the batch"
    )
    environment: Environment

    @property
    def alone(self) -> str:
        """The one modality with noise where the others are trusted; else empty."""
        noised, modalities = self.spec.certificate.noised, self.names.modalities
        return modalities[noised[0]] if len(noised) < len(modalities) else ""

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        """Figures go by task, noised modalities by number."""
        if [figures.task for figures in self.figures] != self.names.tasks:
            raise ValueError("figures are not those of the tasks named")
        if max(self.spec.certificate.noised) >= len(self.names.modalities):
            raise ValueError("spec.certificate.noised names a modality that is none")
        return self
