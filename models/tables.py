"""Encoders of clinical tables, and stand-ins for modalities that a patient misses.

A part of the encoders, whose `REVISION` speaks for this file too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TableEncoder(nn.Module):
    """An MLP of four layers in the place of an image encoder: a table (B, D, 1, 1) becomes maps
    (B, c, 1, 1) of the same channels a stage as the images beside it.

    Args:
        columns: coordinates of the table, D.
        channels: of each stage.
    """

    def __init__(self, columns: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(channels)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.ReLU())
            for before, after in zip((columns, *channels), channels, strict=False)
        )

    def stage(self, k: int, x: Tensor) -> Tensor:
        """Stage k of 0..3, as in `ResNetEncoder`."""
        return self.layers[k](x.flatten(1))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x.flatten(1))
        return x


class Planes(nn.Module):
    """An MLP whose outputs become constant planes beside an image's channels: (B, D, 1, 1) ->
    (B, planes, H, W).
    """

    def __init__(self, columns: int, planes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(columns, planes), nn.ReLU(), nn.Linear(planes, planes)
        )

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        return self.layers(x.flatten(1))[:, :, None, None].expand(-1, -1, height, width)


def present(modalities: Sequence[Tensor]) -> Tensor:
    """(B, M) whether each sample has each modality: what is missing is all zeros."""
    return torch.stack([x.detach().flatten(1).any(1) for x in modalities], 1)


def takes_present(module: nn.Module) -> bool:
    """Whether a victim is told which modalities are there: its forward has a keyword `present`, and
    no attribute `takes_present` says that it does not use it.
    """
    told = getattr(module, "takes_present", True)
    return bool(told) and "present" in inspect.signature(module.forward).parameters


class StandIns(nn.Module):
    """What victims see of modalities that a sample misses: the mean of the training images that
    had them, and, of victims that take it, the mask `present` (B, M).

    The means are running ones of the training, kept with the weights. It hangs before the victim's
    forward; no gradient passes through a stand-in.

    Args:
        shapes: (C, H, W) of each modality.
        optional: modalities that samples may miss.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], optional: Sequence[int]) -> None:
        super().__init__()
        self.optional = tuple(optional)
        self.there: Tensor | None = None
        """Which modalities are there, while images are filled already."""
        for m in self.optional:
            self.register_buffer(f"mean_{m}", torch.zeros(shapes[m]))
            self.register_buffer(f"count_{m}", torch.zeros(()))

    def mean(self, m: int) -> Tensor:
        """(C, H, W)."""
        return self.get_buffer(f"mean_{m}")

    @torch.no_grad()
    def learn(self, m: int, x: Tensor) -> None:
        """Takes the images (n, C, H, W) that are there into the mean."""
        if len(x):
            count = self.get_buffer(f"count_{m}").add_(len(x))
            self.mean(m).add_((x - self.mean(m)).sum(0) / count)

    def __call__(
        self, victim: nn.Module, modalities: tuple[Tensor, ...], given: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        there = present(modalities) if self.there is None else self.there
        if victim.training and self.there is None:
            for m in self.optional:
                self.learn(m, modalities[m][there[:, m]])
        given = given | ({"present": there} if takes_present(victim) else {})
        return self.filled(modalities, there), given

    def filled(self, modalities: Sequence[Tensor], there: Tensor) -> tuple[Tensor, ...]:
        """The modalities with the means where `there` (B, M) says that they are missing."""
        found = list(modalities)
        for m in self.optional:
            x, has = modalities[m], there[:, m]
            found[m] = torch.where(has[:, None, None, None], x, self.mean(m).to(x))
        return tuple(found)

    def rejected(self, reject: Callable[..., Any], modalities: Sequence[Tensor]) -> Any:
        """What `reject` of the victim returns: it sees what its forward sees, and may call it."""
        self.there = present(modalities)
        try:
            return reject(*self.filled(modalities, self.there))
        finally:
            self.there = None


def fill_missing(
    victim: nn.Module, shapes: Sequence[tuple[int, int, int]], optional: Sequence[int]
) -> None:
    """Puts stand-ins before a victim, in place; they are part of its weights."""
    stand_ins = StandIns(shapes, optional)
    victim.stand_ins = stand_ins
    victim.register_forward_pre_hook(stand_ins, with_kwargs=True)


def optional_of(victim: nn.Module) -> tuple[int, ...]:
    """The modalities that a victim has stand-ins for."""
    stand_ins = getattr(victim, "stand_ins", None)
    return stand_ins.optional if isinstance(stand_ins, StandIns) else ()
