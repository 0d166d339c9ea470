"""Corruptions: images as a worse scanner, camera or archive would give them; no adversary chooses
them (Hendrycks and Dietterich, arXiv 1903.12261; MedMNIST-C, arXiv 2406.17536).

Kinds for every image are here, artefacts of one modality in `artefacts`. Their strengths lie in
the range of these papers; blurs are in parts of an image's side, so that they mean the same at 32
pixels and at 512.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from robustbench_med.attacks import artefacts
from robustbench_med.attacks.artefacts import poisson
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 1
SEVERITIES = (1, 2, 3, 4, 5)
EVERY = "corruptions"
"""What `--attack` calls all kinds that suit the data, at all severities."""


@dataclass(frozen=True)
class Kind:
    """One corruption.

    Args:
        name: what `--attack` calls it.
        function: `(images (B, C, H, W) in [0, 1], strength, streams) -> images`; what leaves [0, 1]
            is cut.
        strengths: of the five severities.
        modalities: that it occurs in, by the names of cards; empty: all.
    """

    name: str
    function: Callable[[Tensor, float, Streams], Tensor]
    strengths: tuple[float, float, float, float, float]
    modalities: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What it does, in a paragraph."""
        text = " ".join((self.function.__doc__ or "").split("\n\n")[0].split())
        return text + (f" For {', '.join(self.modalities)}." if self.modalities else "")

    def suits(self, modality: str) -> bool:
        """Whether it occurs in a modality."""
        return not self.modalities or modality in self.modalities


def gaussian_noise(x: Tensor, level: float, streams: Streams) -> Tensor:
    """Electronic noise: Gaussian, the same everywhere."""
    return x + level * streams.normal(x[0].numel()).to(x).view_as(x)


def shot_noise(x: Tensor, photons: float, streams: Streams) -> Tensor:
    """Too little light: Poisson counts of so many photons at white."""
    share = streams.uniform(x[0].numel()).to(x).view_as(x)
    return poisson(photons * x, share) / photons


def impulse_noise(x: Tensor, share: float, streams: Streams) -> Tensor:
    """Dead pixels: a share of the places is black or white."""
    places = x.shape[2] * x.shape[3]
    hit, colour = streams.uniform(2 * places).to(x).view(-1, 2, 1, *x.shape[2:]).unbind(1)
    return torch.where(hit < share, (colour < 0.5).to(x), x)


def motion_blur(x: Tensor, share: float, streams: Streams) -> Tensor:
    """The patient or the camera moves: an average along a line of any direction."""
    angle = math.pi * streams.uniform(1).to(x).view(-1, 1, 1)
    length = 2 + share * min(x.shape[2:])
    rows, columns = _offsets(length / 2, x)
    along = columns * angle.cos() + rows * angle.sin()
    across = rows * angle.cos() - columns * angle.sin()
    kernels = (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(0, 1)
    return _convolved(x, kernels)


def defocus_blur(x: Tensor, share: float, streams: Streams) -> Tensor:
    """Out of focus: an average over a disc."""
    radius = 0.5 + share * min(x.shape[2:])
    rows, columns = _offsets(radius, x)
    kernel = (radius + 0.5 - torch.hypot(rows, columns)).clamp(0, 1)
    return _convolved(x, kernel.expand(len(x), -1, -1))


def contrast(x: Tensor, factor: float, streams: Streams) -> Tensor:
    """Less contrast: differences from each channel's mean shrink."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + factor * (x - mean)


def brightness(x: Tensor, shift: float, streams: Streams) -> Tensor:
    """Over- or underexposed: all pixels lighter or darker."""
    return x + shift * _sign(x, streams)


def gamma(x: Tensor, exponent: float, streams: Streams) -> Tensor:
    """Another display curve: x to the power of the exponent or of its inverse."""
    return x.clamp(0, 1) ** (exponent ** _sign(x, streams))


def jpeg(x: Tensor, quality: float, streams: Streams) -> Tensor:
    """Compressed as JPEG (Pillow), channels together where there are three."""
    pixels = x.detach().cpu().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    groups = [slice(None)] if x.shape[1] == 3 else [slice(c, c + 1) for c in range(x.shape[1])]
    out = [
        np.concatenate([_compressed(image[..., g], quality) for g in groups], 2) for image in pixels
    ]
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).to(x) / 255


def pixelate(x: Tensor, share: float, streams: Streams) -> Tensor:
    """Fewer pixels: shrunk to a share of the side, and blown up again."""
    small = [max(1, round(share * side)) for side in x.shape[2:]]
    return functional.interpolate(
        functional.interpolate(x, small, mode="area"), x.shape[2:], mode="nearest"
    )


def _sign(x: Tensor, streams: Streams) -> Tensor:
    """Up or down, (B, 1, 1, 1)."""
    return (1 - 2 * (streams.uniform(1) < 0.5).float()).to(x).view(-1, 1, 1, 1)


def _offsets(radius: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (1, k, 1) and columns (1, 1, k) of a kernel that holds a radius, from its centre."""
    half = min(math.ceil(radius + 0.5), min(x.shape[2:]) - 1)
    line = torch.arange(-half, half + 1, device=x.device, dtype=x.dtype)
    return line.view(1, -1, 1), line.view(1, 1, -1)


def _convolved(x: Tensor, kernels: Tensor) -> Tensor:
    """Every image under a kernel (B, k, k) of its own, its border repeated."""
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    half, (b, c, h, w) = kernels.shape[1] // 2, x.shape
    padded = functional.pad(x, (half,) * 4, mode="replicate").view(
        1, b * c, *(h + 2 * half, w + 2 * half)
    )
    weights = kernels[:, None].repeat_interleave(c, 0)
    return functional.conv2d(padded, weights, groups=b * c).view_as(x)


def _compressed(image: np.ndarray, quality: float) -> np.ndarray:
    """(H, W, 1 or 3) as JPEG gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(
        buffer, "JPEG", quality=int(quality)
    )
    return np.asarray(Image.open(buffer)).reshape(image.shape)


MRI, MICROSCOPES = ("mri",), ("microscopy", "histology", "cytology")
X_RAYS = ("xray", "ct", "mammography")
KINDS = {
    kind.name: kind
    for kind in (
        Kind("gaussian-noise", gaussian_noise, (0.04, 0.06, 0.1, 0.14, 0.2)),
        Kind("shot-noise", shot_noise, (100, 50, 25, 12, 6)),
        Kind("impulse-noise", impulse_noise, (0.01, 0.02, 0.04, 0.07, 0.12)),
        Kind("motion-blur", motion_blur, (0.03, 0.06, 0.1, 0.15, 0.2)),
        Kind("defocus-blur", defocus_blur, (0.015, 0.025, 0.035, 0.05, 0.07)),
        Kind("contrast", contrast, (0.8, 0.65, 0.5, 0.35, 0.2)),
        Kind("brightness", brightness, (0.08, 0.15, 0.22, 0.3, 0.4)),
        Kind("gamma", gamma, (1.25, 1.5, 1.8, 2.2, 2.8)),
        Kind("jpeg", jpeg, (50, 30, 20, 12, 7)),
        Kind("pixelate", pixelate, (0.75, 0.6, 0.45, 0.35, 0.25)),
        Kind("speckle", artefacts.speckle, (0.1, 0.2, 0.3, 0.45, 0.6), ("ultrasound", "oct")),
        Kind("low-dose", artefacts.low_dose, (5000, 1500, 500, 200, 80), X_RAYS),
        Kind("rician-noise", artefacts.rician, (0.04, 0.06, 0.1, 0.14, 0.2), MRI),
        Kind("ghosting", artefacts.ghosting, (0.2, 0.35, 0.5, 0.7, 0.9), MRI),
        Kind("bias-field", artefacts.bias_field, (0.1, 0.2, 0.3, 0.4, 0.5), MRI),
        Kind("spikes", artefacts.spikes, (0.3, 0.6, 1, 1.5, 2.2), MRI),
        Kind("ringing", artefacts.ringing, (0.4, 0.5, 0.6, 0.7, 0.8), MRI),
        Kind("stain", artefacts.stain, (0.1, 0.2, 0.35, 0.5, 0.7), MICROSCOPES),
        Kind("bubbles", artefacts.bubbles, (1, 2, 3, 5, 8), MICROSCOPES),
        Kind("hair", artefacts.hair, (2, 5, 9, 14, 20), ("dermoscopy",)),
    )
}  # fmt: skip


def corrupt(
    name: str,
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    severity: int = 3,
) -> Tensor:
    """Images with one kind of corruption in every modality whose radius is not 0; looks at neither
    the victim nor the labels. What a sample misses stays missing.

    Args:
        name: of the kind.
        severity: 1 to 5.
    """
    kind = KINDS[name]
    parts = [
        kind.function(part, kind.strengths[severity - 1], streams).clamp(0, 1) if radius else part
        for part, radius in zip(view.unpack(x), threat.radii, strict=True)
    ]
    return view.present(view.pack(parts), x, threat)


def every_kind(
    view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams, *, severity: int = 3
) -> Tensor:
    """All kinds that suit the data at five severities: `medrobust run` makes a record of each.

    Raises:
        RefusedError: always; one batch takes one kind.
    """
    raise RefusedError(f"{EVERY} stands for all kinds; name one: {', '.join(KINDS)}")


CORRUPTIONS: dict[str, Callable[..., Tensor]] = {
    EVERY: every_kind,
    **{name: functools.partial(corrupt, name) for name in KINDS},
}
"""By what `--attack` calls them."""


def entry_of(name: str) -> Attack:
    """What is true of a corruption as an attack."""
    return Attack(
        name=name,
        function=CORRUPTIONS[name],
        targeted=False,
        norms=("Linf",),
        choices={"severity": SEVERITIES},
    )


def described() -> Iterable[dict[str, object]]:
    """Name, what it does, and parameters of every corruption."""
    for name, kind in KINDS.items():
        yield {"name": name, "summary": kind.summary, "parameters": {"severity": 3}}
