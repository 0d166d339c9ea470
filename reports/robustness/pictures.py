"""The worst images of a card: clean, attacked, difference, side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_med.reports import gallery
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

SHOWN = 2
"""Samples on the page."""


@dataclass(frozen=True)
class Picture:
    """One sample (H, W, 3) in 0..255, and what is said below it."""

    image: NDArray[np.uint8]
    caption: str


def worst(store: Store[Record], mine: Sequence[Record]) -> list[Picture]:
    """The samples that lost most under the strongest attack that keeps images; of corruptions
    where no attack does; none where nothing does.
    """
    attacks = [record for record in mine if not record.control]
    ordered = sorted(attacks, key=lambda one: (one.corruption, one.figures.robust, one.hash))
    for record in ordered:
        found = gallery.examples(store, record)
        lost = [example for example in found if example.rule == "worst"] or found
        if lost:
            return [_picture(record, example) for example in lost[:SHOWN]]
    return []


def _picture(record: Record, example: Any) -> Picture:
    modalities = ", ".join(record.names.modalities)
    caption = (
        f"{example.sample}, {' '.join(filter(None, [record.attack_label, record.within]))}"
        f" ({modalities}: clean, attacked, difference amplified). {'; '.join(example.lines)}"
    )
    return Picture(gallery.strip(example), caption)


def encoded(picture: Picture) -> str:
    """The PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(picture.image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
