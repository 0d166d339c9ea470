"""Artefacts of one modality: ultrasound, X-ray and CT, MRI, microscopy, dermoscopy.

A function changes images (B, C, H, W) in [0, 1] of one modality by a strength, with random numbers
of each sample's own; what leaves [0, 1] is cut by who calls it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.special import pdtrik
from torch import Tensor
from torch.nn import functional

from robustbench_med.attacks.space import RefusedError
from robustbench_med.attacks.streams import Streams

REVISION = 1
DARK = 1e-6
"""Light of an image that is taken for black."""


def poisson(mean: Tensor, share: Tensor) -> Tensor:
    """Photon counts of these means, by the inverse of their distribution at shares from U[0, 1)."""
    shares, means = (np.asarray(each.cpu(), np.float64) for each in (share, mean))
    counts = np.ceil(pdtrik(*np.broadcast_arrays(shares, means)))
    return torch.from_numpy(np.nan_to_num(counts, nan=0.0).clip(0)).to(mean)


def speckle(x: Tensor, level: float, streams: Streams) -> Tensor:
    """Multiplicative noise of coherent imaging, as of ultrasound and OCT: x (1 + level n)."""
    return x + level * x * _plane(streams.normal(_places(x)), x)


def low_dose(x: Tensor, photons: float, streams: Streams) -> Tensor:
    """Quantum noise of fewer photons: a pixel of value x lets exp(-3 x) of them through (a
    radiograph shows dense tissue bright), and what is counted is turned back.
    """
    depth = 3.0
    share = _plane(streams.uniform(_places(x)), x)
    counted = poisson(photons * torch.exp(-depth * x), share)
    return -torch.log(counted.clamp_min(0.5) / photons) / depth


def rician(x: Tensor, level: float, streams: Streams) -> Tensor:
    """Noise of a magnitude image: Gaussian noise on its real and imaginary part (Gudbjartsson and
    Patz 1995).
    """
    real, imaginary = (_plane(each, x) for each in streams.normal(2 * _places(x)).chunk(2, 1))
    return torch.hypot(x + level * real, level * imaginary)


def ghosting(x: Tensor, level: float, streams: Streams) -> Tensor:
    """Copies along the phase axis, of every nth line of k-space weakened (TorchIO's RandomGhosting,
    arXiv 2003.04696): n is 3 to 6, the axis either, the central 4 % of lines are kept.
    """
    every, axis = streams.integers(0, (4, 2)).unbind(1)
    out = []
    for image, n, along in zip(x, (every + 3).tolist(), axis.tolist(), strict=True):
        image = image.transpose(1, 2) if along else image
        spectrum = torch.fft.fftshift(torch.fft.fft2(image), (1, 2))
        lines = torch.arange(image.shape[1], device=x.device)
        middle = (lines - image.shape[1] // 2).abs() <= 0.02 * image.shape[1]
        spectrum = torch.where(
            ((lines % n == 0) & ~middle)[None, :, None], (1 - level) * spectrum, spectrum
        )
        ghost = torch.fft.ifft2(torch.fft.ifftshift(spectrum, (1, 2))).real
        out.append(ghost.transpose(1, 2) if along else ghost)
    return torch.stack(out)


def bias_field(x: Tensor, level: float, streams: Streams) -> Tensor:
    """A coil's uneven sensitivity: exp of a polynomial of degree 3 with coefficients up to `level`
    (MONAI's RandBiasField).
    """
    from monai.transforms import RandBiasField

    out = []
    for image, seed in zip(x.cpu(), _seeds(streams), strict=True):
        transform = RandBiasField(coeff_range=(-level, level), prob=1.0)
        transform.set_random_state(seed=seed)
        out.append(torch.as_tensor(transform(image)))
    return torch.stack(out).to(x)


def spikes(x: Tensor, level: float, streams: Streams) -> Tensor:
    """A spike in k-space, `level` times its brightest point: stripes (MONAI's KSpaceSpikeNoise)."""
    from monai.transforms import KSpaceSpikeNoise

    height, width = x.shape[2:]
    places = streams.integers(0, (height, width)).tolist()
    out = []
    for image, place in zip(x.cpu(), places, strict=True):
        brightest = max(float(image.sum((1, 2)).max()), DARK)
        transform = KSpaceSpikeNoise(tuple(place), math.log(level * brightest))
        out.append(torch.as_tensor(transform(image)))
    return torch.stack(out).to(x)


def ringing(x: Tensor, level: float, streams: Streams) -> Tensor:
    """Gibbs' ringing: k-space cut outside a circle, of which `level` = 1 leaves nothing (MONAI's
    GibbsNoise).
    """
    from monai.transforms import GibbsNoise

    transform = GibbsNoise(level)
    return torch.stack([torch.as_tensor(transform(image)) for image in x.cpu()]).to(x)


HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical densities of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston
2001).
"""


def stain(x: Tensor, level: float, streams: Streams) -> Tensor:
    """Stains of another strength: densities of haematoxylin, eosin and a residue are each scaled
    by up to 1 +- level and shifted by up to level / 5 (Tellez et al., arXiv 1902.06543).

    Raises:
        RefusedError: images that are not in colour.
    """
    if x.shape[1] != 3:
        raise RefusedError(f"stain: images of {x.shape[1]} channels have no stain; it needs colour")
    vectors = functional.normalize(x.new_tensor(HED), dim=1)
    scale, shift = (2 * streams.uniform(6).to(x) - 1).mul(level).view(-1, 6, 1, 1).chunk(2, 1)
    density = -torch.log(x.clamp_min(1 / 255))
    stains = torch.einsum("bchw,cs->bshw", density, torch.linalg.inv(vectors))
    stains = stains * (1 + scale) + shift / 5
    return torch.exp(-torch.einsum("bshw,sc->bchw", stains, vectors))


def bubbles(x: Tensor, number: float, streams: Streams) -> Tensor:
    """Air under the cover slip: discs with a dark rim, within which the image is blurred and
    pale.
    """
    height, width = x.shape[2:]
    n, side = int(number), min(height, width)
    rows = torch.arange(height, device=x.device)[:, None]
    columns = torch.arange(width, device=x.device)
    blurred = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    drawn = streams.uniform(3 * n).to(x).view(-1, n, 3, 1, 1)
    for disc in drawn.unbind(1):
        radius = (0.05 + 0.1 * disc[:, 2]) * side
        distance = torch.hypot(rows - disc[:, 0] * height, columns - disc[:, 1] * width)
        inside = (radius + 0.5 - distance).clamp(0, 1)[:, None]
        rim = (1 - (distance - radius).abs() / max(1.0, 0.015 * side)).clamp(0, 1)[:, None]
        x = x + inside * (0.7 * blurred + 0.3 - x)
        x = x * (1 - 0.7 * rim)
    return x


def hair(x: Tensor, number: float, streams: Streams) -> Tensor:
    """Dark hairs over skin: arcs from border to border, about a hundredth of the side wide."""
    height, width = x.shape[2:]
    n, scale = int(number), 4
    drawn = streams.uniform(7 * n).view(-1, n, 7).tolist()
    covers = []
    for hairs in drawn:
        sheet = Image.new("L", (scale * width, scale * height), 0)
        pen = ImageDraw.Draw(sheet)
        for start, end, bend, angle, wide, dark, _ in hairs:
            points = _arc(start, end, bend, 2 * math.pi * angle, sheet.size)
            thick = max(1, round(scale * max(height, width) * (0.006 + 0.008 * wide)))
            pen.line(points, fill=round(255 * (0.7 + 0.3 * dark)), width=thick, joint="curve")
        small = sheet.resize((width, height), Image.Resampling.BOX)
        covers.append(torch.from_numpy(np.asarray(small, np.float32) / 255))
    cover = torch.stack(covers)[:, None].to(x)
    return x * (1 - cover) + 0.08 * cover


def _arc(
    start: float, end: float, bend: float, angle: float, size: tuple[int, int]
) -> list[tuple[float, float]]:
    """Points of a quadratic curve across a picture, in the direction of an angle."""
    across = np.linspace(-0.8, 0.8, 33)
    offset = (start - 0.5) + (end - start) * (across + 0.8) / 1.6
    offset = offset + (bend - 0.5) * (0.64 - across**2)
    cosine, sine = math.cos(angle), math.sin(angle)
    x = 0.5 + cosine * across - sine * offset
    y = 0.5 + sine * across + cosine * offset
    return list(zip((x * size[0]).tolist(), (y * size[1]).tolist(), strict=True))


def _places(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]


def _plane(drawn: Tensor, x: Tensor) -> Tensor:
    """Numbers (B, H W) of each place, the same in all channels: such scanners measure one."""
    return drawn.to(x).view(-1, 1, *x.shape[2:])


def _seeds(streams: Streams) -> list[int]:
    """A seed of each sample's own, for libraries that draw by themselves."""
    return streams.words(1)[:, 0].tolist()
