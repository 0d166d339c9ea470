"""What a cell, or a diagnosis, found out about the attack: signs that it may have failed, and what
challengers broke of what it left.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from robustbench_med.store.parts import Number, Part

Verdict = Literal["pass", "warn", "fail"]


class Sign(Part):
    """One sign that the attack may have failed."""

    sign: str
    verdict: Verdict
    figure: Number | None
    text: str
    advice: str


class Challenge(Part):
    """What one challenger broke of what the attack left."""

    challenger: str = Field(description="what ran, as `square` or `margin loss`")
    family: Literal["gradient", "black box"]
    n: int = Field(description="samples tried, all of them left by the attack")
    broken: list[str] = Field(
        description="ids of the samples that it broke; of random victims, whose share right fell"
    )
    taken: Number = Field(
        description="robust accuracy, of all samples, that it takes at least; on fresh draws"
    )
    bound: Number = Field(
        description=(
            "one-sided 99 % lower bound of `taken`, corrected for the number of challengers;"
            " `taken` itself of deterministic victims"
        )
    )
    passes: int = Field(description="forward and backward sample passes")
