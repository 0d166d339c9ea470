"""Image encoders for the fusion baselines: MONAI's networks, cut into four stages so that fusion
can happen between them.

Every encoder turns one modality (B, C, H, W), standardised to [-1, 1], into a map (B, d, h, w) by
four `stages`; called, it returns the pooled features (B, d). `channels` are those of the four
stages' maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from monai.networks.nets import DenseNet, EfficientNet, ResNet, ViT
from torch import Tensor, nn

REVISION = 1
SMALL = 32
"""Images of this many pixels and below get a stem that keeps their resolution: the usual one would
leave one position at the end.
"""

# EfficientNet-B0: repeats, kernel, stride, expansion, channels in and out, squeeze ratio (arXiv
# 1905.11946, table 1)
MBCONV = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)

Encoder = nn.Module


class ResNetEncoder(ResNet):
    """ResNet-18 or -50 (arXiv 1512.03385); `width` channels in the first stage (64: the usual)."""

    def __init__(
        self, block: str, layers: Sequence[int], channels: int, *, width: int, image_size: int
    ) -> None:
        small = image_size <= SMALL
        super().__init__(
            block,
            list(layers),
            [width, 2 * width, 4 * width, 8 * width],
            spatial_dims=2,
            n_input_channels=channels,
            conv1_t_size=3 if small else 7,
            conv1_t_stride=1 if small else 2,
            no_max_pool=small,
            feed_forward=False,
        )
        self.channels = [
            c * (4 if block == "bottleneck" else 1)
            for c in (width, 2 * width, 4 * width, 8 * width)
        ]

    def stage(self, k: int, x: Tensor) -> Tensor:
        """Stage k of 0..3: its input map (the image for k = 0) -> its output map."""
        if k == 0:
            x = self.act(self.bn1(self.conv1(x)))
            return self.layer1(x if self.no_max_pool else self.maxpool(x))
        return (self.layer2, self.layer3, self.layer4)[k - 1](x)


class DenseNetEncoder(DenseNet):
    """DenseNet-121 (arXiv 1608.06993); `width` channels after the stem and half as many more a
    layer (64: the usual).
    """

    def __init__(self, channels: int, *, width: int, image_size: int) -> None:
        super().__init__(2, channels, 1, init_features=width, growth_rate=width // 2)
        del self.class_layers
        if image_size <= SMALL:
            self.features.conv0 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            self.features.pool0 = nn.Identity()
        self.parts = [["conv0", "norm0", "relu0", "pool0", "denseblock1"]]
        self.parts += [[f"transition{k}", f"denseblock{k + 1}"] for k in (1, 2, 3)]
        self.parts[3] += ["norm5", "relu0"]
        c, self.channels = width, []
        for repeats in (6, 12, 24, 16):
            c += repeats * (width // 2)
            self.channels.append(c)
            c //= 2

    def stage(self, k: int, x: Tensor) -> Tensor:
        """Stage k of 0..3, as in `ResNetEncoder`."""
        for name in self.parts[k]:
            x = self.features.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self, x)


class EfficientNetEncoder(EfficientNet):
    """EfficientNet-B0 (arXiv 1905.11946) with its width coefficient `width` / 64; no stochastic
    depth, so that it is deterministic.
    """

    def __init__(self, channels: int, *, width: int, image_size: int) -> None:
        small = image_size <= SMALL
        super().__init__(
            list(MBCONV),
            in_channels=channels,
            num_classes=1,
            width_coefficient=width / 64,
            image_size=(
                2 * image_size if small else image_size
            ),  # fixes the paddings of maps that stay twice as large
            norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
            drop_connect_rate=0.0,
        )
        del self._fc
        if small:
            self._conv_stem.stride = (1, 1)
            self._conv_stem_padding = nn.ZeroPad2d(1)
        self.cuts = (0, 2, 3, 5, 7)
        outs = [args.output_filters for args in self._blocks_args]
        self.channels = [outs[1], outs[2], outs[4], self._conv_head.out_channels]

    def stage(self, k: int, x: Tensor) -> Tensor:
        """Stage k of 0..3, as in `ResNetEncoder`."""
        if k == 0:
            x = self._swish(self._bn0(self._conv_stem(self._conv_stem_padding(x))))
        for block in list(self._blocks)[self.cuts[k] : self.cuts[k + 1]]:
            x = block(x)
        return self._swish(self._bn1(self._conv_head(self._conv_head_padding(x)))) if k == 3 else x

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self, x)


class ViTEncoder(ViT):
    """ViT-Ti (arXiv 2010.11929, 2012.12877): 12 blocks of 3 * `width` channels and 3 heads (64: the
    usual); about 14 x 14 patches.
    """

    def __init__(self, channels: int, *, width: int, image_size: int) -> None:
        # the patch size nearest to 1/14 of a side among those that divide it
        patch = min(
            (p for p in range(1, image_size + 1) if image_size % p == 0),
            key=lambda p: abs(math.log(image_size / p / 14)),
        )
        hidden = 3 * width
        super().__init__(
            channels, image_size, patch, hidden, 4 * hidden, 12, 3, spatial_dims=2, qkv_bias=True
        )
        self.side = image_size // patch
        self.channels = [hidden] * 4

    def stage(self, k: int, x: Tensor) -> Tensor:
        """Three transformer blocks of the twelve; tokens (B, h w, d) travel as a map (B, d,
        h, w).
        """
        tokens = self.patch_embedding(x) if k == 0 else x.flatten(2).transpose(1, 2)
        for block in self.blocks[3 * k : 3 * k + 3]:
            tokens = block(tokens)
        tokens = self.norm(tokens) if k == 3 else tokens
        return tokens.transpose(1, 2).unflatten(2, (self.side, self.side))

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self, x)


def pooled(encoder: Encoder, x: Tensor) -> Tensor:
    """All stages, then the mean over positions: (B, C, H, W) -> (B, d)."""
    return feature_map(encoder, x).mean((2, 3))


def feature_map(encoder: Encoder, x: Tensor) -> Tensor:
    """All stages: (B, C, H, W) -> (B, d, h, w)."""
    for k in range(4):
        x = encoder.stage(k, x)  # type: ignore[operator]
    return x


ENCODERS: dict[str, Callable[..., Encoder]] = {
    "resnet18": lambda c, **kw: ResNetEncoder("basic", (2, 2, 2, 2), c, **kw),
    "resnet50": lambda c, **kw: ResNetEncoder("bottleneck", (3, 4, 6, 3), c, **kw),
    "densenet121": DenseNetEncoder,
    "efficientnet-b0": EfficientNetEncoder,
    "vit": ViTEncoder,
}


def build(name: str, channels: int, *, width: int, image_size: int) -> Encoder:
    """A fresh encoder; unknown names and widths it cannot have are refused (ValueError)."""
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    if width < 4 or width % 2:
        raise ValueError(f"width of an encoder must be even and at least 4, got {width}")
    return ENCODERS[name](channels, width=width, image_size=image_size)
