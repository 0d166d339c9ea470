"""What a training minimises: cross-entropy, or one of the adversarial objectives (PGD-AT, TRADES,
MART, fast, free; AWP on top).

All of them face every task at once and perturb every modality, or a random choice of modalities a
batch, within its radius.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_med.attacks import Streams, Threat, View, derive_seed
from robustbench_med.attacks.pgd import ascend, pgd

REVISION = 1
Logits = tuple[Tensor, ...]
VALIDATION_STEPS = 10
"""PGD steps of a quarter radius by which a robust training is validated (arXiv 2002.11569)."""


def multitask_loss(logits: Logits, y: Tensor) -> Tensor:
    """Cross-entropies of the tasks, weighted 1/T; unlabelled samples (-1) do not count."""
    losses = [
        F.cross_entropy(z, y[:, t], ignore_index=-1, reduction="sum")
        / (y[:, t] >= 0).sum().clamp_min(1)
        for t, z in enumerate(logits)
    ]
    return torch.stack(losses).mean()


class Passes(NamedTuple):
    """Passes a sample and step of a training: forward; inner backward ones, which stop at the
    input; backward ones to the weights too.
    """

    forward: int
    inner: int
    backward: int


class Standard:
    """Cross-entropy on the images as they are. The other objectives differ in `perturb` and
    `loss`.
    """

    passes = Passes(forward=1, inner=0, backward=1)

    def replay(self, step: int) -> int:
        """Which batch a step takes."""
        return step

    def perturb(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        """The images that the loss is taken at."""
        return x

    def loss(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        return multitask_loss(victim(*perturbed), y)

    def backward(self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int) -> Tensor:
        """Leaves the gradient in the parameters and returns the loss."""
        perturbed = self.perturb(victim, x, y, step)
        loss = self.penalised(victim, x, perturbed, y)
        loss.backward()
        return loss.detach()

    def penalised(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        penalty = getattr(victim, "penalty", None)
        loss = self.loss(victim, x, perturbed, y)
        return loss if penalty is None else loss + penalty()

    def tensors(self) -> dict[str, Tensor]:
        """State that an interrupted training needs."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""

    def validation(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor] | None:
        """Perturbed validation images, or None where the clean ones say what is asked for."""
        return None


@dataclass
class PGDAT(Standard):
    """PGD adversarial training (Madry et al., arXiv 1706.06083, equation 2.1).

    Args:
        shapes: (C, H, W) of each modality.
        radii: radius of each modality.
        norm: "Linf" or "L2".
        steps, step_size: of the inner PGD, a step being a share of the radius.
        attacked: "all" modalities in every batch, or a "random" non-empty choice of them a batch.
        seed: of the starting points.
    """

    shapes: Sequence[tuple[int, int, int]]
    radii: tuple[float, ...]
    norm: Any = "Linf"
    steps: int = 7
    step_size: float = 0.25
    attacked: str = "all"
    seed: int = 0

    @property
    def passes(self) -> Passes:  # type: ignore[override]
        return Passes(self.steps + 1, self.steps, 1)

    def threat(self, step: int, tasks: int) -> Threat:
        """The threat of one batch."""
        radii = self.radii
        if self.attacked == "random" and len(radii) > 1:
            choice = np.random.default_rng([self.seed, step, 2]).integers(1, 2 ** len(radii))
            radii = tuple(r if choice >> m & 1 else 0.0 for m, r in enumerate(radii))
        return Threat(self.norm, radii, tuple(range(tasks)))

    def streams(self, n: int, step: int) -> Streams:
        return Streams(
            [
                torch.Generator().manual_seed(derive_seed(self.seed, "training", step, i))
                for i in range(n)
            ]
        )

    def perturb(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        view = View(victim, self.shapes)
        with statistics_held(victim):
            return view.unpack(
                self.adversarial(
                    view, view.pack(x), y, self.threat(step, y.shape[1]), step
                ).detach()
            )

    def adversarial(self, view: View, x: Tensor, y: Tensor, threat: Threat, step: int) -> Tensor:
        streams = self.streams(len(x), step)
        return pgd(
            view, x, y, threat, streams, steps=self.steps, step_size=self.step_size, keep="last"
        )

    def validation(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        """PGD against the victim as it is evaluated; a random one's last iterate, not the draw it
        failed at.
        """
        view = View(victim, self.shapes)
        threat = Threat(self.norm, self.radii, tuple(range(y.shape[1])))
        keep = "last" if getattr(victim, "stochastic", False) else "best"
        flat, streams = view.pack(x), self.streams(len(y), step)
        return view.unpack(
            pgd(
                view, flat, y, threat, streams, steps=VALIDATION_STEPS, step_size=0.25, keep=keep
            ).detach()
        )


@dataclass
class Trades(PGDAT):
    """TRADES (Zhang et al., arXiv 1901.08573, equation 5): CE(f(x), y) + beta max KL(f(x) ||
    f(x')), per task, mean over tasks.
    """

    beta: float = 6.0

    @property
    def passes(self) -> Passes:  # type: ignore[override]
        return Passes(self.steps + 3, self.steps, 2)

    def adversarial(self, view: View, x: Tensor, y: Tensor, threat: Threat, step: int) -> Tensor:
        with torch.no_grad():
            clean = [z.softmax(1) for z in view.logits(x)]
        noise = self.streams(len(x), step).normal(view.dim).to(x)
        start = view.project(x + 0.001 * noise, x, threat)

        def divergence(logits: Sequence[Tensor], y: Tensor) -> Tensor:
            return torch.stack([kl(p, z) for p, z in zip(clean, logits, strict=True)]).sum(0)

        return ascend(
            view,
            start,
            x,
            y,
            threat,
            steps=self.steps,
            step_size=self.step_size,
            loss=divergence,
            eot=1,
            keep="last",
        )

    def loss(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        clean, moved = victim(*x), victim(*perturbed)
        divergence = torch.stack(
            [kl(a.softmax(1), b).mean() for a, b in zip(clean, moved, strict=True)]
        ).mean()
        return multitask_loss(clean, y) + self.beta * divergence


@dataclass
class Mart(PGDAT):
    """MART (Wang et al., ICLR 2020, equation 11): boosted CE at x', and KL(f(x) || f(x')) weighted
    by 1 - p_y(x).
    """

    beta: float = 5.0

    @property
    def passes(self) -> Passes:  # type: ignore[override]
        return Passes(self.steps + 2, self.steps, 2)

    def loss(
        self, victim: nn.Module, x: Sequence[Tensor], perturbed: Sequence[Tensor], y: Tensor
    ) -> Tensor:
        total = []
        for t, (clean, moved) in enumerate(zip(victim(*x), victim(*perturbed), strict=True)):
            known = y[:, t] >= 0
            label = y[:, t].clamp_min(0)[:, None]
            p, q = clean.softmax(1), moved.softmax(1)
            runner_up = q.scatter(1, label, 0.0).amax(1)
            boosted = F.cross_entropy(moved, label[:, 0], reduction="none") - torch.log1p(
                -runner_up.clamp_max(1 - 1e-6)
            )
            weighted = kl(p, moved) * (1 - p.gather(1, label)[:, 0])
            total.append(
                ((boosted + self.beta * weighted) * known).sum() / known.sum().clamp_min(1)
            )
        return torch.stack(total).mean()


@dataclass
class FastAT(PGDAT):
    """Fast adversarial training (Wong et al., arXiv 2001.03994, algorithm 3): one step of 1.25
    radii from a random start.
    """

    steps: int = 1
    step_size: float = 1.25


@dataclass
class FreeAT(PGDAT):
    """Free adversarial training (Shafahi et al., arXiv 1904.12843, algorithm 1): a batch replayed
    `replays` times.

    One backward pass serves weights and perturbation; the perturbation is carried from step to
    step, and over to the next batch.
    """

    replays: int = 4
    delta: Tensor | None = field(default=None, repr=False)
    passes = Passes(forward=1, inner=0, backward=1)

    def replay(self, step: int) -> int:
        return step // self.replays

    def backward(self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int) -> Tensor:
        view = View(victim, self.shapes)
        clean, threat = view.pack(x), self.threat(self.replay(step), y.shape[1])
        delta = torch.zeros_like(clean) if self.delta is None else self.delta.to(clean)
        leaf = view.project(clean + delta, clean, threat).requires_grad_()
        loss = self.penalised(victim, x, view.unpack(leaf), y)
        loss.backward()
        assert leaf.grad is not None
        self.delta = (
            view.project(leaf.detach() + view.steepest(leaf.grad, threat), clean, threat) - clean
        )
        return loss.detach()

    def tensors(self) -> dict[str, Tensor]:
        return {} if self.delta is None else {"delta": self.delta}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.delta = tensors.get("delta")


@dataclass
class AWP:
    """Adversarial weight perturbation (Wu et al., arXiv 2004.05884, equation 8) around another
    objective.

    The gradient is taken at weights moved against the objective by `gamma` times their norm, layer
    by layer.
    """

    base: PGDAT
    gamma: float = 0.005

    def __post_init__(self) -> None:
        self.replay, self.validation = self.base.replay, self.base.validation
        self.tensors, self.restore = self.base.tensors, self.base.restore

    @property
    def passes(self) -> Passes:
        forward, inner, backward = self.base.passes
        return Passes(forward + backward, inner, 2 * backward)  # the loss once more

    def backward(self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int) -> Tensor:
        perturbed = self.base.perturb(victim, x, y, step)
        weights = [p for p in victim.parameters() if p.dim() > 1]
        with statistics_held(victim):
            gradients = torch.autograd.grad(
                self.base.penalised(victim, x, perturbed, y), weights, allow_unused=True
            )
        kept = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                if g is not None:
                    w.add_(self.gamma * w.norm() / (g.norm() + 1e-12) * g)
        loss = self.base.penalised(victim, x, perturbed, y)
        loss.backward()
        with torch.no_grad():
            for w, old in zip(weights, kept, strict=True):
                w.copy_(old)
        return loss.detach()


@dataclass
class GaussianAugmentation(Standard):
    """Training on noisy images, which randomised smoothing asks for (Cohen et al., arXiv
    1902.02918, section 3.3); validated on such.
    """

    sigma: float

    def perturb(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        return [m + self.sigma * torch.randn_like(m) for m in x]

    def validation(
        self, victim: nn.Module, x: Sequence[Tensor], y: Tensor, step: int
    ) -> Sequence[Tensor]:
        return self.perturb(victim, x, y, step)


Objective = Standard | AWP
SCHEMES: dict[str, Callable[..., PGDAT]] = {
    "pgd-at": PGDAT,
    "trades": Trades,
    "mart": Mart,
    "fast-at": FastAT,
    "free-at": FreeAT,
}


def kl(p: Tensor, logits: Tensor) -> Tensor:
    """KL(p || softmax(logits)), (B,); p (B, C) probabilities."""
    return F.kl_div(logits.log_softmax(1), p, reduction="none").sum(1)


@contextlib.contextmanager
def statistics_held(victim: nn.Module) -> Iterator[None]:
    """BatchNorm normalises as in training, but its running statistics do not learn from adversarial
    iterates.
    """
    layers = [m for m in victim.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [layer.momentum for layer in layers]
    counts = [
        layer.num_batches_tracked.clone()
        for layer in layers
        if layer.num_batches_tracked is not None
    ]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
        for layer, count in zip(
            (m for m in layers if m.num_batches_tracked is not None), counts, strict=True
        ):
            layer.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
