"""Robust-MAIL: MAIL with random projection filters and modulated attention noise (arXiv 2602.15346,
KDD 2026).

Both mechanisms draw afresh at every forward pass, in training and in inference: the classifier is
stochastic, and attacks on it need EOT (arXiv 1802.00420).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.models.mail import BN_EPS, EMCAM, EMILA, ERLA, MAIL, SameConv2d, pad_same
from robustbench_med.models.soft import clip, soft_gradients

REVISION = 1
RPF_L2 = 1e-4


class RPFConv2d(SameConv2d):
    """Convolution of which `n_random` output channels use a kernel drawn from N(0, 1/k^2) at every
    forward pass (Dong & Xu, CVPR 2023).

    The trained channels come first, the random ones last, without bias. Grouped (1x1 here): both
    parts see every input. Depth-wise: the random part takes the last `n_random` input channels.
    """

    def __init__(
        self, cin: int, cout: int, kernel: int, *, stride: int, groups: int, n_random: int
    ) -> None:
        self.n_random = n_random
        self.depthwise = groups == cin == cout and kernel > 1
        trained = cout - n_random
        if self.depthwise:
            super().__init__(trained, trained, kernel, stride=stride, groups=trained)
        else:
            super().__init__(cin, trained, kernel, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.n_random == 0:
            return super().forward(x)
        kernel, stride = self.kernel_size[0], self.stride[0]
        shape = (self.n_random, *self.weight.shape[1:])
        weight = torch.randn(shape, device=x.device, dtype=x.dtype) / kernel
        if not self.depthwise:
            random = F.conv2d(
                pad_same(x, kernel, stride), weight, stride=stride, groups=self.groups
            )
            return torch.cat((super().forward(x), random), 1)
        assert self.bias is not None  # each channel sees its own: one convolution, the same numbers
        weight = torch.cat((self.weight, weight))
        bias = torch.cat((self.bias, self.bias.new_zeros(self.n_random)))
        x = x if stride == 1 else pad_same(x, kernel, stride)
        return F.conv2d(x, weight, bias, stride, self.padding, groups=len(weight))


def random_count(c: int, ratio: float, groups: int) -> int:
    """Random filters among `c` grouped ones: the nearest multiple of `groups`, at least one group,
    always leaving one trained.
    """
    if ratio == 0 or c == groups:
        return 0
    return min(max(round(ratio * c / groups) * groups, groups), c - groups)


def normal_like(x: Tensor) -> Tensor:
    """N(0, 1) noise of the shape of x (B, C, H, W), drawn in the channels-last order of the
    features: filling by stride is far slower.
    """
    b, c, h, w = x.shape
    return torch.randn((b, h, w, c), device=x.device, dtype=x.dtype).permute(0, 3, 1, 2)


def normalised(x: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Tensor:
    """(B, C, H, W) as several BatchNorms leave the channels that lie one after another in it, in
    inference.
    """
    mean, var, weight, bias = (
        torch.cat([getattr(norm, name) for norm in norms])
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=BN_EPS)


def modulate(x: Tensor, n: Tensor) -> Tensor:
    """Modulated attention noise: clip(x + n (1 + n), 0, 1)."""
    return clip(x + n * (1 + n))


def soften(gate: Tensor, strength: float) -> Tensor:
    """1 - strength + strength * gate: no gate at strength 0, the released one at 1 (see
    `RobustMAIL.warm_up`).
    """
    return gate if strength == 1 else 1 - strength + strength * gate


class RobustEMILA(EMILA):
    """EMILA with random projection filters in its three kernels and noise on both of its
    attentions; returns u (m a)^3.

    Without `rpf` the kernels, without `man` the attention and the output are plain EMILA's.
    """

    def __init__(
        self,
        cin: int,
        c: int,
        *,
        stride: int,
        groups: int,
        bn_momentum: float,
        rpf_ratio: float,
        noise: float,
        rpf: bool = True,
        man: bool = True,
        reduction: int = 4,
    ) -> None:
        super().__init__(
            cin, c, stride=stride, groups=groups, bn_momentum=bn_momentum, reduction=reduction
        )
        self.noise, self.rpf, self.man = noise, rpf, man
        self.strength = 1.0
        if not rpf:
            return
        depthwise = min(round(rpf_ratio * cin), cin - 1)
        self.gpc = RPFConv2d(
            cin, c, 1, stride=stride, groups=groups, n_random=random_count(c, rpf_ratio, groups)
        )
        self.dw3 = RPFConv2d(cin, cin, 3, stride=stride, groups=cin, n_random=depthwise)
        self.dw5 = RPFConv2d(cin, cin, 5, stride=stride, groups=cin, n_random=depthwise)
        self.bn1 = nn.BatchNorm2d(c, BN_EPS, bn_momentum)
        self.bn3 = nn.BatchNorm2d(cin, BN_EPS, bn_momentum)
        self.bn5 = nn.BatchNorm2d(cin, BN_EPS, bn_momentum)

    def scales(self, x: Tensor) -> Tensor:
        if not self.rpf:
            return super().scales(x)
        norms, kernels = (self.bn1, self.bn3, self.bn5), (self.gpc, self.dw3, self.dw5)
        if self.training:  # each has its statistics to keep
            return torch.cat([norm(each(x)) for norm, each in zip(norms, kernels, strict=True)], 1)
        return normalised(torch.cat([each(x) for each in kernels], 1), norms)

    def forward(self, x: Tensor) -> Tensor:
        if not self.man:
            return super().forward(x)
        u = self.multi_scale(x)
        logits = self.attention_logits(u)
        noise = self.strength * self.noise
        a = torch.sigmoid(self.scale * modulate(logits, noise * torch.randn_like(logits)))[
            ..., None, None
        ]
        out = F.relu(self.bn_proj(self.proj(x)) + u * a)
        m = modulate(out, noise * normal_like(out))
        return u * soften(m * a, self.strength) ** 3


class RobustEMCAM(EMCAM):
    """EMCAM whose attention A becomes (m A) m^4 with m = clip(A + n v (1 + n), 0, 1)."""

    def __init__(self, c: int, n_modalities: int, *, groups: int, noise: float) -> None:
        super().__init__(c, n_modalities, groups=groups)
        self.noise = noise
        self.v = nn.Parameter(torch.ones(1))
        self.strength = 1.0

    def attention(self, xs: Sequence[Tensor]) -> Tensor:
        a = super().attention(xs)
        n = self.strength * self.noise * normal_like(a)
        m = soften(clip(a + n * self.v * (1 + n)), self.strength)
        return (m * a) * (m * m) * (m * m)


class RobustMAIL(MAIL):
    """MAIL with random projection filters (RPF) and modulated attention noise (MAN).

    Args:
        rpf_ratio: share of random filters in [0, 1). The released notebook defines RPF and leaves
            the ratio at 0; its other cell uses 0.25.
        noise: standard deviation of MAN (0.6 as released).
        rpf, man: one mechanism taken out, for ablations: without `rpf` the convolutions are MAIL's
            (no BatchNorm after each kernel, no extra L2), without `man` the attentions and block
            outputs are (no gates, no noise).
        Others: see `MAIL`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        class_counts: Sequence[int],
        *,
        width: int = 64,
        groups: int = 16,
        mc_dropout: bool = True,
        bn_momentum: float = 0.01,
        rpf_ratio: float = 0.25,
        noise: float = 0.6,
        rpf: bool = True,
        man: bool = True,
    ) -> None:
        if not 0 <= rpf_ratio < 1:
            raise ValueError(f"rpf_ratio must lie in [0, 1), got {rpf_ratio}")
        if noise < 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        self.rpf_ratio, self.noise, self.rpf, self.man = rpf_ratio, noise, rpf, man
        # filters are drawn once a batch, and noise on every feature would cost a fifth of a pass
        self.takes_generators = False
        super().__init__(
            channels,
            class_counts,
            width=width,
            groups=groups,
            mc_dropout=mc_dropout,
            bn_momentum=bn_momentum,
        )
        self.shares_noise = rpf and rpf_ratio > 0  # one draw of the filters serves a whole batch
        if man:
            self.soft = soft_gradients
        self.stochastic = mc_dropout or (rpf and rpf_ratio > 0) or (man and noise > 0)

    def make_block(self, cin: int, c: int, stride: int, groups: int, bn_momentum: float) -> ERLA:
        mechanisms: dict[str, Any] = {
            "rpf_ratio": self.rpf_ratio,
            "noise": self.noise,
            "rpf": self.rpf,
            "man": self.man,
        }
        return ERLA(
            RobustEMILA, cin, c, stride=stride, groups=groups, bn_momentum=bn_momentum, **mechanisms
        )

    def make_fusion(self, c: int, groups: int) -> EMCAM:
        if not self.man:
            return super().make_fusion(c, groups)
        return RobustEMCAM(c, self.n_modalities, groups=groups, noise=self.noise)

    def warm_up(self, progress: float) -> None:
        """For training: noise and powers of the gates come in gradually, absent at progress 0, as
        released at 1.

        The released block returns u (m a)^3, so that at the start most of the signal is multiplied
        away; a block that returns u first learns features, and the gates then close around them.
        """
        for module in self.modules():
            if isinstance(module, (RobustEMILA, RobustEMCAM)):
                module.strength = progress

    def penalty(self) -> Tensor:
        """The extra L2 on the trained part of the random projection layers, a scalar to add to the
        training loss.
        """
        layers = [layer for layer in self.modules() if isinstance(layer, RPFConv2d)]
        zero = next(self.parameters()).new_zeros(())
        return (
            RPF_L2 * torch.stack([zero, *(layer.weight.square().sum() for layer in layers)]).sum()
        )
