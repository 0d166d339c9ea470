"""Augmentation of training images by MONAI's transforms, a function of the seed and the step."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Literal["none", "light", "strong", "release"]


def augment(x: Tensor, kind: Augmentation, seed: int, step: int) -> Tensor:
    """Augmented images (B, C, H, W) in [0, 1]; the modalities of a sample are changed alike.

    `light`: each image rotated by up to 10 degrees, moved by up to 6 % of a side and zoomed by up
    to 8 % a side. `release`: each image appears as it is, rotated by 20 degrees, moved by (5, 5)
    pixels, or blurred 3x3, as in the authors' notebook. `strong`: see `strongly`.
    """
    if kind == "none":
        return x
    rng = np.random.default_rng([seed, step, 1])
    if kind == "strong":
        return strongly(x, rng)
    from monai.data import get_track_meta, set_track_meta  # seconds to import
    from monai.transforms import Affine, GaussianSmooth, RandAffine

    tracked = get_track_meta()
    set_track_meta(False)  # plain tensors: the history of transforms would take most of the time
    try:
        if kind == "light":
            far = 0.06 * x.shape[-1]
            move = RandAffine(
                prob=1.0,
                rotate_range=math.radians(10),
                translate_range=(far, far),
                scale_range=(0.08, 0.08),
                padding_mode="zeros",
            )
            move.set_random_state(seed=int(rng.integers(2**32)))
            changed = [move(image) for image in x]
        else:
            rotate = Affine(rotate_params=math.radians(20), padding_mode="zeros", image_only=True)
            shift = Affine(translate_params=(5, 5), padding_mode="zeros", image_only=True)
            blur = GaussianSmooth(sigma=0.8, approx="erf")
            changes = (lambda image: image, rotate, shift, blur)
            kinds = rng.integers(len(changes), size=len(x))
            changed = [
                torch.as_tensor(changes[kind](image)) for image, kind in zip(x, kinds, strict=True)
            ]
    finally:
        set_track_meta(tracked)
    return torch.stack(changed).clamp(0, 1)


def strongly(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (B, C, H, W) in [0, 1], each mirrored left to right at even odds, rotated by up to 15
    degrees, moved by up to 10 % and zoomed by up to 15 % a side, its contrast and brightness
    changed by up to 20 % and 0.1. One bilinear sampling of the whole batch.
    """
    n = len(x)
    angle = rng.uniform(-math.radians(15), math.radians(15), n)
    zoom = 1 + rng.uniform(-0.15, 0.15, (2, n))
    mirror = rng.choice([-1.0, 1.0], n)
    move = rng.uniform(-0.2, 0.2, (2, n))  # of half a side
    rows = [
        [mirror * zoom[0] * np.cos(angle), -zoom[1] * np.sin(angle), move[0]],
        [mirror * zoom[0] * np.sin(angle), zoom[1] * np.cos(angle), move[1]],
    ]
    matrices = torch.as_tensor(np.stack(rows).transpose(2, 0, 1), dtype=x.dtype)
    grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    contrast, brightness = rng.uniform(0.8, 1.2, n), rng.uniform(-0.1, 0.1, n)
    mean = moved.mean((1, 2, 3), keepdim=True)
    scale, shift = (
        torch.as_tensor(v, dtype=x.dtype).view(-1, 1, 1, 1) for v in (contrast, brightness)
    )
    return ((moved - mean) * scale + mean + shift).clamp(0, 1)
