"""MAIL: multi-attention integration learning for multimodal medical images (arXiv 2602.15346, KDD
2026).

The network follows the authors' Keras release, asymmetric padding and biases included, so that
released weights give the released logits. Shapes are (B, C, H, W); M is the number of modalities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import Tensor, nn

from robustbench_med.models.contract import Generators

REVISION = 1
BN_EPS = 1e-3
DROPOUT = 0.25


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: (before, after), the smaller half first."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pads (B, C, H, W) so that a `kernel`/`stride` window gives ceil(H / stride) x ceil(W /
    stride).
    """
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    if top == bottom == left == right == 0:
        return x
    return F.pad(x, (left, right, top, bottom), value=value)


def channels_last(x: Tensor) -> Tensor:
    """The same (B, C, H, W) in another order of the memory."""
    return x.contiguous(memory_format=torch.channels_last)


def halved(x: Tensor) -> Tensor:
    """SAME maxima of 3 x 3 windows two apart, (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2))."""
    if x.shape[2] % 2 or x.shape[3] % 2:
        return F.max_pool2d(pad_same(x, 3, 2, -torch.inf), 3, 2)
    return F.max_pool2d(x, 3, 2, ceil_mode=True)  # of even sides nothing but the end is padded


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, Glorot-uniform weights and zero bias."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        symmetric = (
            kernel // 2 if stride == 1 else 0
        )  # stride 1 and an odd kernel: PyTorch's own padding is SAME
        super().__init__(
            cin, cout, kernel, stride=stride, padding=symmetric, groups=groups, bias=bias
        )

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return super().forward(x if stride == 1 else pad_same(x, kernel, stride))


def dense(cin: int, cout: int) -> nn.Linear:
    """Linear layer with Glorot-uniform weights and zero bias."""
    layer = nn.Linear(cin, cout)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def dropout(x: Tensor, generators: Generators | None, *, wanted: bool) -> Tensor:
    """Dropout of rate `DROPOUT` on (B, C, H, W), each sample's from numbers of its own where there
    are generators.
    """
    if not wanted or generators is None:
        return F.dropout(x, DROPOUT, training=wanted)
    b, c, h, w = x.shape
    dropped = generators.bernoulli(c * h * w, round(256 * DROPOUT)).view(b, h, w, c)
    return x.masked_fill(dropped.permute(0, 3, 1, 2), 0.0) / (1 - DROPOUT)


class Gate(nn.Module):
    """A sigmoid attention gate in (0, 1); a module of its own, so that a defence can put noise on
    it.
    """

    def forward(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's channel shuffle (arXiv 1707.01083): view (g, C/g), transpose, flatten. Keeps the
    channels-last layout.
    """
    return (
        x.permute(0, 2, 3, 1)
        .unflatten(3, (groups, -1))
        .transpose(3, 4)
        .flatten(3)
        .permute(0, 3, 1, 2)
    )


class EMILA(nn.Module):
    """Efficient multi-scale local attention: three parallel kernels, then channel attention. (B,
    cin, H, W) -> (B, c, H/s, W/s).
    """

    def __init__(
        self, cin: int, c: int, *, stride: int, groups: int, bn_momentum: float, reduction: int = 4
    ) -> None:
        super().__init__()
        self.groups = groups
        self.gpc = SameConv2d(cin, c, 1, stride=stride, groups=groups)
        self.dw3 = SameConv2d(cin, cin, 3, stride=stride, groups=cin)
        self.dw5 = SameConv2d(cin, cin, 5, stride=stride, groups=cin)
        self.fuse = SameConv2d(c + 2 * cin, c, 1, groups=2)
        self.bn_fuse = nn.BatchNorm2d(c, BN_EPS, bn_momentum)
        self.fc1 = dense(c, c // reduction)
        self.fc2 = dense(c // reduction, c)
        self.scale = nn.Parameter(torch.empty(1))
        nn.init.trunc_normal_(
            self.scale, std=2**0.5, a=-2 * 2**0.5, b=2 * 2**0.5
        )  # He-normal with fan-in 1
        self.proj = SameConv2d(cin, c, 1, stride=stride)
        self.bn_proj = nn.BatchNorm2d(c, BN_EPS, bn_momentum)

    def scales(self, x: Tensor) -> Tensor:
        """The three kernels, (B, c + 2 cin, h, w)."""
        return torch.cat((self.gpc(x), self.dw3(x), self.dw5(x)), 1)

    def multi_scale(self, x: Tensor) -> Tensor:
        """u: the three scales, shuffled and fused, (B, c, h, w)."""
        return self.bn_fuse(self.fuse(shuffle_channels(self.scales(x), self.groups)))

    def attention_logits(self, u: Tensor) -> Tensor:
        """FC2(relu(FC1(q))), (B, c).

        q = (GmP + GAP + GMP + GSP) + (GMP - GAP - GmP) of u; min and mean pools cancel, which
        leaves 2 GMP + GSP.
        """
        q = 2 * u.amax((2, 3)) + u.sum((2, 3))
        return self.fc2(F.relu(self.fc1(q)))

    def forward(self, x: Tensor) -> Tensor:
        u = self.multi_scale(x)
        a = torch.sigmoid(self.scale * self.attention_logits(u))[..., None, None]
        return F.relu(self.bn_proj(self.proj(x)) + u * a)


class ERLA(nn.Module):
    """Residual block of two EMILA; the shortcut is a 1x1 convolution when the stride is not 1."""

    def __init__(
        self,
        emila: type[EMILA],
        cin: int,
        c: int,
        *,
        stride: int,
        bn_momentum: float,
        **kwargs: float,
    ) -> None:
        super().__init__()
        common = {"bn_momentum": bn_momentum, **kwargs}
        self.e1 = emila(cin, c, stride=stride, **common)  # type: ignore[arg-type]
        self.bn1 = nn.BatchNorm2d(c, BN_EPS, bn_momentum)
        self.e2 = emila(c, c, stride=1, **common)  # type: ignore[arg-type]
        self.pw = SameConv2d(c, c, 1)
        self.bn2 = nn.BatchNorm2d(c, BN_EPS, bn_momentum)
        self.short = (
            nn.Identity()
            if stride == 1 and cin == c
            else nn.Sequential(
                SameConv2d(cin, c, 1, stride=stride), nn.BatchNorm2d(c, BN_EPS, bn_momentum)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.e1(x)))
        h = self.bn2(self.pw(self.e2(h)))
        return F.relu(h + self.short(x))


class EMCAM(nn.Module):
    """Efficient multimodal cross-attention: a frequency and a spatial branch, shared by the
    modalities. M x (B, c, h, w) -> same.
    """

    dct: Tensor

    def __init__(self, c: int, n_modalities: int, *, groups: int) -> None:
        super().__init__()
        self.dense = dense(c, c)
        self.mod = nn.Parameter(torch.ones(3))  # scalars of High, Low, Mean
        self.gpc = SameConv2d(c, c, 1, groups=groups, bias=False)
        self.dw3 = SameConv2d(c, c, 3, groups=c, bias=False)
        self.dw5 = SameConv2d(c, c, 5, groups=c, bias=False)
        self.fuse = SameConv2d(3 * c, c, 1, bias=False)
        self.gamma = nn.Parameter(torch.ones(1))
        self.s = nn.ParameterList(torch.ones(c, 1, 1) for _ in range(n_modalities))
        self.alpha = nn.ParameterList(torch.ones(c, 1, 1) for _ in range(n_modalities))
        basis = dct(np.eye(c), type=2, norm="ortho", axis=0)
        self.register_buffer(
            "dct", torch.from_numpy(basis).float()[:, :, None, None], persistent=False
        )

    def frequency(self, xs: Sequence[Tensor]) -> Tensor:
        """F = sigma(sum of High + Low + Mean over the modalities), (B, c, h, w): DCT-II along the
        channels.
        """
        total: Tensor | float = 0.0
        for x in xs:
            d = F.conv2d(x, self.dct)
            h1, l1, l2 = (
                torch.sigmoid(self.dense(pooled))[..., None, None]
                for pooled in (d.amax((2, 3)), d.mean((2, 3)), d.amin((2, 3)))
            )
            high, low = h1 + (h1 - l1) + (d - l2), l1 + l2
            mean = high - low
            total = total + self.mod[0] * high + self.mod[1] * low + self.mod[2] * mean
        return torch.sigmoid(torch.as_tensor(total))

    def pooled_scales(self, x: Tensor) -> Tensor:
        """P(x) = GAP + GMP of the multi-scale group depth-wise convolution, (B, c, 1, 1)."""
        y = self.fuse(torch.cat((self.gpc(x), self.dw3(x), self.dw5(x)), 1))
        return y.mean((2, 3), keepdim=True) + y.amax((2, 3), keepdim=True)

    def spatial(self, xs: Sequence[Tensor]) -> Tensor:
        """S = sigma(sum of p_m s_m), (B, c, 1, 1): p_m <- p_m + P(p_m) + p_prev, a chain in which
        each sees the one before, updated.
        """
        p = [self.pooled_scales(x) for x in xs]
        for m in range(len(p)):
            updated = p[m] + self.pooled_scales(p[m])
            if len(p) > 1:
                updated = updated + (p[m - 1] if m else p[1])
            p[m] = updated
        return torch.sigmoid(
            torch.stack([p_m * s_m for p_m, s_m in zip(p, self.s, strict=True)]).sum(0)
        )

    def attention(self, xs: Sequence[Tensor]) -> Tensor:
        """A = sigma(F gamma + S s_1), (B, c, h, w); s_1 serves a second time, as released."""
        return torch.sigmoid(self.frequency(xs) * self.gamma + self.spatial(xs) * self.s[0])

    def forward(self, xs: Sequence[Tensor]) -> list[Tensor]:
        a = self.attention(xs)
        return [x * a * alpha for x, alpha in zip(xs, self.alpha, strict=True)]


class MAIL(nn.Module):
    """MAIL with M >= 1 modalities and one linear head per task.

    Args:
        channels: channels of each modality; their number is M.
        class_counts: classes of each task.
        width: channels of the first stage, a multiple of `groups` (64 as released).
        groups: groups of the grouped convolutions and of the channel shuffle.
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
        groups: int = 16,
        mc_dropout: bool = True,
        bn_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        if width % groups:
            raise ValueError(
                f"width must be a multiple of groups, got width={width} and groups={groups}"
            )
        self.n_modalities = len(channels)
        self.class_counts = tuple(class_counts)
        self.mc_dropout = self.stochastic = mc_dropout
        self.stem = nn.ModuleList(
            nn.Sequential(
                SameConv2d(c, width, 7, stride=2), nn.BatchNorm2d(width, BN_EPS, bn_momentum)
            )
            for c in channels
        )
        widths = [width * 2**k for k in range(4)]
        steps = [  # (cin, cout, stride) of the eight blocks
            step
            for cin, c in zip([width, *widths], widths, strict=False)
            for step in ((cin, c, 1 if c == width else 2), (c, c, 1))
        ]
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                self.make_block(cin, c, stride, groups, bn_momentum) for cin, c, stride in steps
            )
            for _ in channels
        )
        self.fuse = nn.ModuleList(self.make_fusion(c, groups) for c in widths)
        self.heads = nn.ModuleList(dense(self.n_modalities * widths[-1], n) for n in class_counts)

    def make_block(self, cin: int, c: int, stride: int, groups: int, bn_momentum: float) -> ERLA:
        return ERLA(EMILA, cin, c, stride=stride, groups=groups, bn_momentum=bn_momentum)

    def make_fusion(self, c: int, groups: int) -> EMCAM:
        return EMCAM(c, self.n_modalities, groups=groups)

    def features(
        self, modalities: Sequence[Tensor], generators: Generators | None = None
    ) -> Tensor:
        """Fused features, (B, M * 8 * width)."""
        xs = [F.relu(stem(x)) for stem, x in zip(self.stem, modalities, strict=True)]
        # depth-wise kernels and maxima are up to twice as fast in this layout
        if not self.training:
            xs = list(map(channels_last, xs))
        xs = [channels_last(halved(x)) for x in xs]
        for stage, fuse in enumerate(self.fuse):
            for m, x in enumerate(xs):
                first, second = self.blocks[m][2 * stage : 2 * stage + 2]  # type: ignore[index]
                x = first(x)
                if stage > 0:
                    x = dropout(x, generators, wanted=self.training or self.mc_dropout)
                xs[m] = second(x)
            xs = fuse(xs)
        return torch.cat(xs, 1).mean((2, 3))

    def forward(
        self, *modalities: Tensor, generators: Generators | None = None
    ) -> tuple[Tensor, ...]:
        h = self.features(modalities, generators)
        return tuple(head(h) for head in self.heads)
