"""DRIFA-Net: dual robust information fusion attention for multimodal medical images (arXiv
2412.01248, WACV 2025).

The network follows the authors' Keras release: every attention here is a sigmoid of sigmoids of 1x1
convolutions, a multifaceted one (MFA) within a modality and a multimodal one (MIFA) across them.
Shapes are (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.models.contract import Generators
from robustbench_med.models.mail import BN_EPS, Gate, SameConv2d, dense, dropout, pad_same

REVISION = 1
POOLS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x.amin((2, 3)),
    lambda x: x.mean((2, 3)),
    lambda x: x.amax((2, 3)),
)


class MFA(nn.Module):
    """Multifaceted attention within one modality: a hierarchy of four gates and two local ones. (B,
    c, h, w) -> same.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.g = nn.ModuleList(SameConv2d(c, c, 1) for _ in range(4))
        self.dense = dense(2 * c, c)
        self.l = nn.ModuleList(SameConv2d(c, c, 1) for _ in range(2))
        self.gs = nn.Parameter(torch.ones(1))
        self.ls = nn.Parameter(torch.ones(c, 1, 1))
        self.alpha = nn.Parameter(torch.ones(c, 1, 1))
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        c1, c2, c3, c4 = self.g
        g1 = torch.sigmoid(c1(x))
        g2 = torch.sigmoid(c2(g1))
        g3 = torch.sigmoid(c3(g1 + g2))
        g4 = torch.sigmoid(c4(g3))
        pooled = torch.cat(
            (g1.mean((2, 3)) + g2.amax((2, 3)), g3.mean((2, 3)) + g4.amax((2, 3))), 1
        )
        hierarchy = torch.sigmoid(self.dense(pooled))[..., None, None]
        l1 = torch.sigmoid(self.l[0](x)).mean((2, 3), keepdim=True)
        l2 = torch.sigmoid(self.l[1](l1))
        return x * self.gate(hierarchy * self.gs + (l1 + l2) * self.ls) * self.alpha


class RRA(nn.Module):
    """Robust residual attention: a residual block whose two convolutions are each followed by MFA;
    stride and shortcut as MAIL's ERLA.
    """

    def __init__(self, cin: int, c: int, *, stride: int, bn_momentum: float) -> None:
        super().__init__()
        self.c1 = SameConv2d(cin, c, 3, stride=stride)
        self.m1 = MFA(c)
        self.bn1 = nn.BatchNorm2d(c, BN_EPS, bn_momentum)
        self.c2 = SameConv2d(c, c, 3)
        self.m2 = MFA(c)
        self.bn2 = nn.BatchNorm2d(c, BN_EPS, bn_momentum)
        self.short = (
            nn.Identity()
            if stride == 1 and cin == c
            else nn.Sequential(
                SameConv2d(cin, c, 1, stride=stride), nn.BatchNorm2d(c, BN_EPS, bn_momentum)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.m1(self.c1(x))))
        return F.relu(self.bn2(self.m2(self.c2(h))) + self.short(x))


class MIFA(nn.Module):
    """Multimodal information fusion attention: one gate for all modalities out of their pooled
    sums. M x (B, c, h, w) -> same.
    """

    def __init__(self, c: int, n_modalities: int) -> None:
        super().__init__()
        self.dense = dense(c, c)
        self.k = nn.ModuleList(SameConv2d(c, c, 1) for _ in range(n_modalities))
        self.gs = nn.Parameter(torch.ones(1))
        self.ls = nn.Parameter(torch.ones(c, 1, 1))
        self.alpha = nn.ParameterList(torch.ones(c, 1, 1) for _ in range(n_modalities))
        self.gate = Gate()

    def attention(self, xs: Sequence[Tensor]) -> Tensor:
        """a = sigma(G s_g + L s_l), (B, c, 1, 1)."""
        local = [torch.sigmoid(k(x)) for k, x in zip(self.k, xs, strict=True)]
        pooled = [torch.stack([pool(x) for x in xs]).sum(0) for pool in POOLS]
        g = torch.stack([torch.sigmoid(self.dense(p)) for p in pooled]).sum(0)[..., None, None]
        loc = torch.stack([pool(u) for pool in POOLS for u in local]).sum(0)[..., None, None]
        return self.gate(g * self.gs + loc * self.ls)

    def forward(self, xs: Sequence[Tensor]) -> list[Tensor]:
        a = self.attention(xs)
        return [x * a * alpha for x, alpha in zip(xs, self.alpha, strict=True)]


class DRIFANet(nn.Module):
    """DRIFA-Net with M >= 1 modalities (two in the paper) and one linear head per task.

    Args:
        channels: channels of each modality; their number is M.
        class_counts: classes of each task.
        width: channels of the first stage (64 as released).
        mc_dropout: keep dropout (rate 0.25) on at inference, as the release does; the model is then
            stochastic.
        bn_momentum: PyTorch's BatchNorm momentum; 0.01 is the release's Keras 0.99, right only for
            long trainings.

    `forward(*modalities)` takes M tensors (B, C_m, H, W), float32 in [0, 1], and returns one (B,
    classes) of logits per task.
    """

    def __init__(
        self,
        channels: Sequence[int],
        class_counts: Sequence[int],
        *,
        width: int = 64,
        mc_dropout: bool = True,
        bn_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        self.n_modalities = len(channels)
        self.class_counts = tuple(class_counts)
        self.mc_dropout = self.stochastic = mc_dropout
        self.stem = nn.ModuleList(
            nn.Sequential(
                SameConv2d(c, width, 7, stride=2),
                MFA(width),
                nn.BatchNorm2d(width, BN_EPS, bn_momentum),
            )
            for c in channels
        )
        widths = [width * 2 ** (step // 2) for step in range(8)]
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                RRA(cin, c, stride=1 if cin == c else 2, bn_momentum=bn_momentum)
                for cin, c in zip([width, *widths], widths, strict=False)
            )
            for _ in channels
        )
        self.mfa = nn.ModuleList(nn.ModuleList(MFA(c) for c in widths[:-1]) for _ in channels)
        self.mifa = nn.ModuleList(MIFA(c, self.n_modalities) for c in widths)
        self.heads = nn.ModuleList(dense(self.n_modalities * widths[-1], n) for n in class_counts)

    def features(
        self, modalities: Sequence[Tensor], generators: Generators | None = None
    ) -> Tensor:
        """Fused features, (B, M * 8 * width)."""
        wanted = self.training or self.mc_dropout
        xs = [
            F.max_pool2d(pad_same(F.relu(stem(x)), 3, 2, -torch.inf), 3, 2)
            for stem, x in zip(self.stem, modalities, strict=True)
        ]
        for step, fuse in enumerate(self.mifa):
            xs = [blocks[step](x) for blocks, x in zip(self.blocks, xs, strict=True)]  # type: ignore[index]
            if step < 6:
                xs = [dropout(x, generators, wanted=wanted) for x in xs]
            if step < 7:
                xs = [extra[step](x) for extra, x in zip(self.mfa, xs, strict=True)]  # type: ignore[index]
            xs = fuse(xs)
        return dropout(torch.cat(xs, 1), generators, wanted=wanted).mean((2, 3))

    def forward(
        self, *modalities: Tensor, generators: Generators | None = None
    ) -> tuple[Tensor, ...]:
        h = self.features(modalities, generators)
        return tuple(head(h) for head in self.heads)
