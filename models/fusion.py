"""Fusion baselines over MONAI encoders, from no fusion at all to token cross-attention; each class
names its paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_med.models.mail import Gate
from robustbench_med.models.tables import Planes, TableEncoder

REVISION = 1
PLANES = 8
"""Channels that a table takes in early fusion."""


def standardise(x: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], inside the model, so that attacks work in pixel space."""
    return 2 * x - 1


class LateFusion(nn.Module):
    """One encoder a modality, features concatenated, one linear head per task (Baltrusaitis et al.,
    arXiv 1705.09406, section 6.1).

    The other baselines are made of the same encoders and heads and differ in `fuse`.

    Args:
        channels: channels of each modality.
        class_counts: classes of each task.
        encoder: resnet18, resnet50, densenet121, efficientnet-b0 or vit.
        width: size of the encoder, 64 for the usual one (ResNet: channels of the first stage).
        image_size: pixels of a side, chooses the stem.
        tables: modalities that are clinical tables (B, D, 1, 1): an MLP encodes them.
        optional: modalities that samples may miss: a learned vector takes the place of their
            features.

    `forward(*modalities)` takes M tensors (B, C_m, H, W), float32 in [0, 1], and returns one (B,
    classes) of logits per task. `present` (B, M): which of the optional modalities are there.
    """

    stochastic = False
    takes_present = True

    def __init__(
        self,
        channels: Sequence[int],
        class_counts: Sequence[int],
        *,
        encoder: str = "resnet18",
        width: int = 64,
        image_size: int = 64,
        tables: Sequence[int] = (),
        optional: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.n_modalities = len(channels)
        self.class_counts = tuple(class_counts)
        self.tables = tuple(tables)
        self.encoders = nn.ModuleList(self.make_encoders(channels, encoder, width, image_size))
        stages: list[int] = self.encoders[0].channels  # type: ignore[assignment]
        self.heads = nn.ModuleList(nn.Linear(self.make_fusion(stages), n) for n in class_counts)
        self.absent = nn.ParameterDict(
            {str(m): torch.zeros(stages[-1]) for m in optional if self.takes_present}
        )

    def make_encoders(
        self, channels: Sequence[int], encoder: str, width: int, image_size: int
    ) -> list[nn.Module]:
        from robustbench_med.models import encoders  # MONAI: seconds to import

        made: dict[int, nn.Module] = {
            m: encoders.build(encoder, c, width=width, image_size=image_size)
            for m, c in enumerate(channels)
            if m not in self.tables
        }
        stages = [width, 2 * width, 4 * width, 8 * width]
        if made:
            stages = next(iter(made.values())).channels  # type: ignore[assignment]
        return [
            TableEncoder(c, stages) if m in self.tables else made[m] for m, c in enumerate(channels)
        ]

    def make_fusion(self, stages: Sequence[int]) -> int:
        """Makes what `fuse` needs for encoders with these channels a stage; returns the size of the
        fused features.
        """
        return stages[-1] * self.n_modalities

    def features(self, xs: Sequence[Tensor], present: Tensor | None) -> list[Tensor]:
        """Standardised images, M x (B, C_m, H, W) -> M x (B, d)."""
        found = [encoder(x) for encoder, x in zip(self.encoders, xs, strict=True)]
        for m, absent in self.absent.items() if present is not None else ():
            found[int(m)] = torch.where(present[:, int(m), None], found[int(m)], absent)  # type: ignore[index]
        return found

    def fuse(self, xs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        """Standardised images, M x (B, C_m, H, W) -> fused features (B, D)."""
        return torch.cat(self.features(xs, present), 1)

    def forward(self, *modalities: Tensor, present: Tensor | None = None) -> tuple[Tensor, ...]:
        if len(modalities) != self.n_modalities:
            raise ValueError(f"expected {self.n_modalities} modalities, got {len(modalities)}")
        h = self.fuse([standardise(x) for x in modalities], present)
        return tuple(head(h) for head in self.heads)


class Unimodal(LateFusion):
    """One encoder a task and no fusion: task t sees modality t alone (the last modality where there
    are more tasks).

    The control of every fusion claim: an attack on one modality cannot reach another task here.
    Arguments as in `LateFusion`.
    """

    takes_present = False

    def make_encoders(
        self, channels: Sequence[int], encoder: str, width: int, image_size: int
    ) -> list[nn.Module]:
        self.inputs = [min(t, self.n_modalities - 1) for t in range(len(self.class_counts))]
        self.tables = tuple(i for i, m in enumerate(self.inputs) if m in self.tables)
        return super().make_encoders([channels[m] for m in self.inputs], encoder, width, image_size)

    def make_fusion(self, stages: Sequence[int]) -> int:
        return stages[-1]

    def forward(self, *modalities: Tensor, present: Tensor | None = None) -> tuple[Tensor, ...]:
        if len(modalities) != self.n_modalities:
            raise ValueError(f"expected {self.n_modalities} modalities, got {len(modalities)}")
        return tuple(
            head(encoder(standardise(modalities[m])))
            for m, encoder, head in zip(self.inputs, self.encoders, self.heads, strict=True)
        )


class EarlyFusion(LateFusion):
    """Modalities concatenated on channels, one encoder for all (Baltrusaitis et al., arXiv
    1705.09406, section 6.1).

    Arguments as in `LateFusion`; the images share height and width, tables become planes of
    constants beside them.
    """

    takes_present = False

    def make_encoders(
        self, channels: Sequence[int], encoder: str, width: int, image_size: int
    ) -> list[nn.Module]:
        self.side = image_size
        self.planes = nn.ModuleDict({str(m): Planes(channels[m], PLANES) for m in self.tables})
        depth = sum(PLANES if m in self.tables else c for m, c in enumerate(channels))
        self.tables = ()
        return super().make_encoders([depth], encoder, width, image_size)

    def make_fusion(self, stages: Sequence[int]) -> int:
        return stages[-1]

    def fuse(self, xs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        maps = list(xs)
        sides = next(
            (x.shape[2:] for m, x in enumerate(xs) if str(m) not in self.planes),
            (self.side, self.side),
        )
        for m, planes in self.planes.items():
            maps[int(m)] = planes(maps[int(m)], *sides)
        return self.encoders[0](torch.cat(maps, 1))


class GMU(LateFusion):
    """Gated multimodal unit (Arevalo et al., arXiv 1702.01992, equation 3): h = sum_m z_m tanh(W_m
    x_m), gates per feature.

    Two modalities are the paper's: z_1 = sigma(W_z [x_1, x_2]), z_2 = 1 - z_1. For more, a softmax
    with the last logit 0 keeps the gates of a feature summing to one (the paper's own extension
    does not). Arguments as in `LateFusion`.
    """

    def make_fusion(self, stages: Sequence[int]) -> int:
        d, m = stages[-1], self.n_modalities
        self.project = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in range(m))
        if m > 1:
            self.gate = nn.Linear(m * d, (m - 1) * d, bias=False)
        if m == 2:
            self.sigmoid = Gate()
        return d

    def gates(self, features: Sequence[Tensor]) -> Tensor:
        """z, (B, M, d), positive and summing to one over the modalities. features M x (B, d)."""
        if self.n_modalities == 1:
            return torch.ones_like(features[0])[:, None]
        logits = self.gate(torch.cat(list(features), 1)).unflatten(1, (-1, features[0].shape[1]))
        if self.n_modalities == 2:
            z = self.sigmoid(logits)
            return torch.cat((z, 1 - z), 1)
        return torch.cat((logits, torch.zeros_like(features[0])[:, None]), 1).softmax(1)

    def fuse(self, xs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        features = self.features(xs, present)
        h = torch.stack(
            [torch.tanh(project(f)) for project, f in zip(self.project, features, strict=True)], 1
        )
        return (self.gates(features) * h).sum(1)


class MMTM(nn.Module):
    """Multimodal transfer module (Joze et al., arXiv 1911.08670, equations 1 to 4): joint squeeze,
    an excitation per modality.

    x_m <- 2 sigma(E_m) x_m, E_m = W_m relu(W [S_1, ..., S_M]), S_m the mean of x_m over positions;
    the bottleneck is a quarter.
    """

    def __init__(self, c: int, n_modalities: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(n_modalities * c, max(n_modalities * c // 4, 1))
        self.excite = nn.ModuleList(
            nn.Linear(self.squeeze.out_features, c) for _ in range(n_modalities)
        )
        self.sigmoid = Gate()

    def forward(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """M x (B, c, h_m, w_m) -> same."""
        joint = torch.relu(self.squeeze(torch.cat([x.mean((2, 3)) for x in xs], 1)))
        return [
            x * (2 * self.sigmoid(excite(joint)))[..., None, None]
            for excite, x in zip(self.excite, xs, strict=True)
        ]


class MMTMFusion(LateFusion):
    """One encoder a modality with an MMTM (arXiv 1911.08670) after each of the last three stages.
    Arguments as in `LateFusion`.
    """

    takes_present = False

    def make_fusion(self, stages: Sequence[int]) -> int:
        self.mmtm = nn.ModuleList(MMTM(c, self.n_modalities) for c in stages[1:])
        return super().make_fusion(stages)

    def fuse(self, xs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        xs = list(xs)
        for k in range(4):
            xs = [encoder.stage(k, x) for encoder, x in zip(self.encoders, xs, strict=True)]  # type: ignore[operator]
            if k > 0:
                xs = self.mmtm[k - 1](xs)
        return torch.cat([x.mean((2, 3)) for x in xs], 1)


class LMF(LateFusion):
    """Low-rank multimodal fusion (Liu et al., arXiv 1806.00064, equation 7): h = sum_r prod_m W_m^r
    [x_m; 1].

    That is the product of all modalities' features, tensor fusion (arXiv 1707.07250), with a weight
    tensor of rank `rank`.

    Args:
        rank: r of the paper; 4 is its usual choice.
        Others: see `LateFusion`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        class_counts: Sequence[int],
        *,
        encoder: str = "resnet18",
        width: int = 64,
        image_size: int = 64,
        rank: int = 4,
        tables: Sequence[int] = (),
        optional: Sequence[int] = (),
    ) -> None:
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.rank = rank
        super().__init__(
            channels,
            class_counts,
            encoder=encoder,
            width=width,
            image_size=image_size,
            tables=tables,
            optional=optional,
        )

    def make_fusion(self, stages: Sequence[int]) -> int:
        d = stages[-1]
        self.factors = nn.ParameterList(
            nn.Parameter(torch.empty(self.rank, d + 1, d)) for _ in range(self.n_modalities)
        )
        for factor in self.factors:
            nn.init.normal_(factor, std=1 / math.sqrt(d + 1))
        self.bias = nn.Parameter(torch.zeros(d))
        return d

    def combine(self, features: Sequence[Tensor]) -> Tensor:
        """M x (B, d) -> (B, d)."""
        product = torch.ones(())
        for x, factor in zip(features, self.factors, strict=True):
            extended = torch.cat((x, torch.ones_like(x[:, :1])), 1)
            product = product.to(x) * torch.einsum("bd,rdo->bro", extended, factor)
        return product.sum(1) + self.bias

    def fuse(self, xs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        return self.combine(self.features(xs, present))


class CrossAttention(LateFusion):
    """Token cross-attention between encoders (MulT, Tsai et al., arXiv 1906.00295, section 3.1; no
    recurrence over time here).

    The positions of modality m's last map ask those of all other modalities (its own where it is
    alone): a residual multi-head attention behind a LayerNorm, then the mean over positions.
    Arguments as in `LateFusion`.
    """

    takes_present = False

    def make_fusion(self, stages: Sequence[int]) -> int:
        d = stages[-1]
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(self.n_modalities))
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(d, math.gcd(d, 4), batch_first=True)
            for _ in range(self.n_modalities)
        )
        return super().make_fusion(stages)

    def attend(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """M x (B, n_m, d) -> same: each modality's tokens plus what they found in the others'."""
        normed = [norm(t) for norm, t in zip(self.norms, tokens, strict=True)]
        out = []
        for m, (t, attention) in enumerate(zip(tokens, self.attentions, strict=True)):
            others = normed[:m] + normed[m + 1 :] or normed
            asked = torch.cat(others, 1)
            out.append(t + attention(normed[m], asked, asked, need_weights=False)[0])
        return out

    def fuse(self, xs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        maps = list(xs)
        for k in range(4):
            maps = [encoder.stage(k, x) for encoder, x in zip(self.encoders, maps, strict=True)]  # type: ignore[operator]
        return torch.cat(
            [t.mean(1) for t in self.attend([x.flatten(2).transpose(1, 2) for x in maps])], 1
        )
