"""Small victims."""

import torch
from torch import Tensor, nn


class TwoHeads(nn.Module):
    """A small deterministic victim of two modalities (1 x 8 x 8 and 3 x 6 x 6) and two tasks (2 and
    4 classes).
    """

    n_modalities = 2
    class_counts = (2, 4)
    stochastic = False
    shapes = ((1, 8, 8), (3, 6, 6))

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(
            torch.randn(172, 12, generator=generator) / 4, requires_grad=False
        )
        self.heads = nn.ParameterList(
            nn.Parameter(torch.randn(12, n, generator=generator), requires_grad=False)
            for n in self.class_counts
        )

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        h = torch.tanh((torch.cat((a.flatten(1), b.flatten(1)), 1) - 0.5) @ self.first)
        return tuple(h @ head for head in self.heads)


class CoinFlip(nn.Module):
    """Right with probability 0.7 on every input, whatever an attacker does; has a gradient, which
    leads nowhere.
    """

    n_modalities = 1
    class_counts = (2,)
    stochastic = True

    def forward(self, x: Tensor) -> tuple[Tensor]:
        label = (
            x[:, 0, 0, 0] > 0.5
        ).float()  # the corner pixel carries the label; tests keep it trusted by their radius
        right = (torch.rand(len(x), device=x.device) < 0.7).float()
        sign = 2 * (label * right + (1 - label) * (1 - right)) - 1
        z = sign * (1 + 0 * x.mean((1, 2, 3)))
        return (torch.stack((-z, z), 1),)
