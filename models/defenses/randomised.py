"""Randomised defences: fresh noise in filters, gates, weights or pixels at every forward pass.
Attacks on them need EOT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robustbench_med.models.contract import Generators, Victim
from robustbench_med.models.defenses.entry import Defense, InMail
from robustbench_med.models.mail import Gate
from robustbench_med.models.robust_mail import modulate
from robustbench_med.models.soft import soft_gradients

REVISION = 1
Shapes = Sequence[tuple[int, int, int]]


class RandomFilters(nn.Module):
    """Weight (cout, cin, k, k) whose last `n` filters are drawn from N(0, 1/k^2) at every use; only
    the others are stored.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, trained: Tensor) -> Tensor:
        drawn = (
            torch.randn(self.n, *trained.shape[1:], device=trained.device, dtype=trained.dtype)
            / trained.shape[-1]
        )
        return torch.cat((trained, drawn))

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[: -self.n].clone()


class NoisyWeight(nn.Module):
    """W + alpha std(W) N(0, 1), alpha learned per layer (equation 2 of arXiv 1811.09310, initial
    value 0.25).
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.25))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.alpha * weight.std().detach() * torch.randn_like(weight)


def random_filters(victim: nn.Module, shapes: Shapes, *, ratio: float = 0.25) -> None:
    """Random projection filters (Dong & Xu, CVPR 2023): a share of the filters of every modality's
    first convolution is random.

    Args:
        ratio: share of random filters, in (0, 1).
    """
    if not 0 < ratio < 1:
        raise ValueError(f"rpf: ratio must lie in (0, 1), got {ratio}")
    for layer in first_convolutions(victim, shapes):
        n = min(max(round(ratio * layer.out_channels), 1), layer.out_channels - 1)
        parametrize.register_parametrization(layer, "weight", RandomFilters(n))
    facts = cast(Victim, victim)
    facts.stochastic = facts.shares_noise = True


def gate_noise(victim: nn.Module, shapes: Shapes, *, noise: float = 0.6) -> None:
    """Modulated attention noise (arXiv 2602.15346) on any model with sigmoid gates: g becomes
    clip(g + n (1 + n), 0, 1).

    Args:
        noise: standard deviation of n.
    """
    if noise <= 0:
        raise ValueError(f"man: noise must be positive, got {noise}")
    gates = [module for module in victim.modules() if isinstance(module, Gate)]
    if not gates:
        raise ValueError(
            "man puts noise on attention gates, and this model has none; mail, drifa-net, gmu and"
            " mmtm do"
        )

    def modulated(module: nn.Module, arguments: Any, gate: Tensor) -> Tensor:
        return modulate(gate, noise * torch.randn_like(gate))

    for gate in gates:
        gate.register_forward_hook(modulated)
    cast(Victim, victim).stochastic = True
    cast(Any, victim).soft = soft_gradients


def weight_noise(victim: nn.Module, shapes: Shapes) -> None:
    """Parametric noise injection (He et al., CVPR 2019, arXiv 1811.09310): noise of learned size on
    convolutions and linear layers.

    Its authors train it adversarially (`pni+pgd-at`); without that the learned size falls towards
    zero.
    """
    for layer in list(victim.modules()):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            parametrize.register_parametrization(layer, "weight", NoisyWeight())
    facts = cast(Victim, victim)
    facts.stochastic = facts.shares_noise = True


def first_convolutions(victim: nn.Module, shapes: Shapes) -> list[nn.Conv2d]:
    """The convolutions that see the images before any other convolution has; one a modality in most
    models.

    Found by a forward pass in which only what a convolution returned requires gradients.
    """
    first: list[nn.Conv2d] = []

    def seen(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not arguments[0].requires_grad and layer not in first:
            assert isinstance(layer, nn.Conv2d)
            first.append(layer)
        return output.detach().requires_grad_()

    handles = [m.register_forward_hook(seen) for m in victim.modules() if isinstance(m, nn.Conv2d)]
    trainable = [p for p in victim.parameters() if p.requires_grad]
    training = victim.training
    try:
        victim.eval().requires_grad_(False)
        with torch.enable_grad():
            victim(*(torch.rand(1, *shape) for shape in shapes))
    finally:
        victim.train(training)
        for parameter in trainable:
            parameter.requires_grad_(True)
        for handle in handles:
            handle.remove()
    if not first:
        raise ValueError("rpf replaces filters of convolutions, and this model has none")
    return first


class ResizePad(nn.Module):
    """Random resizing and padding (Xie et al., ICLR 2018, arXiv 1711.01991): each image shrunk by
    up to a tenth, at a random place.

    The paper pads to a larger image; here the size stays, so that models of fixed input size can be
    defended too.

    Args:
        smallest: smallest scale, in (0, 1).
    """

    stochastic = True

    def __init__(self, *, smallest: float = 0.9) -> None:
        super().__init__()
        if not 0 < smallest < 1:
            raise ValueError(f"resize-pad: smallest must lie in (0, 1), got {smallest}")
        self.smallest = smallest

    def forward(self, x: Tensor, generators: Generators | None = None) -> Tensor:
        b = len(x)
        drawn = torch.rand(b, 3, device=x.device) if generators is None else generators.uniform(3)
        drawn = drawn.to(x.dtype)
        scale = self.smallest + (1 - self.smallest) * drawn[:, 0]
        shift = (1 - scale)[:, None] * (2 * drawn[:, 1:] - 1)  # of the centre, in half sides
        theta = torch.zeros(b, 2, 3, device=x.device, dtype=x.dtype)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
        theta[:, :, 2] = -shift / scale[:, None]
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class InputNoise(nn.Module):
    """Gaussian noise on the pixels; `smoothing` also trains with it (Cohen et al., arXiv
    1902.02918). Not clipped.

    Args:
        sigma: standard deviation, for pixels in [0, 1].
    """

    stochastic = True

    def __init__(self, *, sigma: float = 0.12) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma = sigma

    def forward(self, x: Tensor, generators: Generators | None = None) -> Tensor:
        if generators is None:
            return x + self.sigma * torch.randn_like(x)
        return x + self.sigma * generators.normal(x[0].numel()).view_as(x).to(x.dtype)


RPF = Defense(
    name="rpf", network=random_filters, in_mail=InMail("mail+rpf", {"ratio": "rpf_ratio"})
)
MAN = Defense(name="man", network=gate_noise, in_mail=InMail("mail+man", {"noise": "noise"}))
PNI = Defense(name="pni", network=weight_noise)
RESIZE_PAD = Defense(name="resize-pad", transform=ResizePad)
INPUT_NOISE = Defense(name="input-noise", transform=InputNoise)
SMOOTHING = Defense(name="smoothing", transform=InputNoise)
"""At inference; its training is the harness's."""
