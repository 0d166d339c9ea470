"""Radii in the unit of the files, translated image by image: `xray=4grey`, `ct=20HU`, `mri=1%`."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from robustbench_med.attacks import Threat
from robustbench_med.data import Samples
from robustbench_med.data.columns import Column
from robustbench_med.data.units import FIELDS, Sizes
from robustbench_med.errors import UserError
from robustbench_med.formats.text import line
from robustbench_med.parsing import in_units, unit_label

WHY_NOT = {
    "grey": "their levels are not evenly spaced in what is shown (numbers with a fraction, a"
    " look-up table, a sigmoid window)",
    "HU": "a DICOM file says that it is in Hounsfield units by its modality CT or RescaleType HU;"
    " of NIfTI the card must (unit: HU of the modality); other formats have none",
    "%": "they hold no number",
}


NOUNS = {"grey": "grey levels", "HU": "Hounsfield units", "%": "range"}
IN_NO_FILE = (
    "images handed over as arrays are in no file that a unit could be of; write radii for pixels in"
    " 0..1"
)


class Described(Protocol):
    """What a threat in units asks of data (`threats.Described`)."""

    @property
    def modalities(self) -> tuple[str, ...]: ...

    @property
    def columns(self) -> tuple[tuple[Column, ...], ...]: ...

    @property
    def optional(self) -> tuple[int, ...]: ...


def asked(eps: str, dataset: Described) -> dict[str, tuple[float, str]]:
    """Radius and unit of each modality that has one in a unit; one for all is that of images."""
    radii = in_units(eps)
    if "" not in radii:
        return radii
    columns = dataset.columns or ((),) * len(dataset.modalities)
    images = [name for name, table in zip(dataset.modalities, columns, strict=True) if not table]
    return dict.fromkeys(images, radii[""])


def translated(threat: Threat, eps: str, dataset: Described, samples: Samples | None) -> Threat:
    """The threat with the radii that `eps` has in units of files, of each sample where they differ.

    None is above 1, a pixel's whole range; that of an image which a sample misses is 0.

    Args:
        threat: with 0 in the place of these radii.
        samples: None where images are in no file.

    Raises:
        UserError: images without the unit.
    """
    wanted = asked(eps, dataset)
    if samples is None:
        raise UserError(f"eps {eps}: {IN_NO_FILE}")
    radii = np.tile(np.array(threat.radii), (len(samples), 1))
    for m, name in enumerate(dataset.modalities):
        if name in wanted:
            size, unit = wanted[name]
            one = sizes_of(samples, m, unit, eps=eps, optional=m in dataset.optional)
            radii[:, m] = np.minimum(size * one, 1.0) if size else 0.0
    each = tuple(tuple(row) for row in radii.tolist())
    said = tuple((name, unit_label(*radius)) for name, radius in sorted(wanted.items()))
    largest = tuple(radii.max(0).tolist())
    return replace(threat, radii=largest, each=each if len(set(each)) > 1 else (), units=said)


def sizes_of(samples: Samples, m: int, unit: str, *, eps: str, optional: bool) -> Sizes:
    """(n,): what one unit of modality m is in [0, 1]; 0 of images that samples miss.

    Raises:
        UserError: images without the unit.
    """
    sizes, ranges = samples.sizes(unit)[m], samples.sizes("%")[m]
    if sizes is None or ranges is None:
        raise UserError(f"eps {eps}: {IN_NO_FILE}")
    if optional:  # what is missing is black
        sizes = np.where(ranges == 0, 0.0, sizes)
    without = np.flatnonzero(np.isnan(sizes))
    if len(without):
        raise UserError(
            f"eps {eps}: {len(without)} of {len(samples)} images have no {NOUNS[unit]}, such as"
            f" {line(samples.ids[int(without[0])])}: {WHY_NOT[unit]}; write the radius for pixels"
            " in 0..1"
        )
    return sizes


def extent(eps: str, dataset: Described) -> tuple[float, ...]:
    """The radii in units of files one by one, each modality's in each unit: those in different
    units say nothing of each other.
    """
    wanted = asked(eps, dataset)
    pairs = [wanted.get(name, (0.0, "")) for name in dataset.modalities]
    return tuple(size if its == unit else 0.0 for size, its in pairs for unit in FIELDS)
