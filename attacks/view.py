"""The flat view: one tensor (B, D) in front of a victim of several modalities and tasks.

This and the space below it are the only places in the package that know a sample has several parts.
Attacks see one flat tensor, a step or a projection on it, and a loss.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from robustbench_med.attacks.losses import JointLoss, named, standing
from robustbench_med.attacks.queries import Queries
from robustbench_med.attacks.space import RefusedError, Space
from robustbench_med.attacks.streams import Draws
from robustbench_med.attacks.threat import Threat

REVISION = 1
Combine = Literal["mean", "normalised"]
"""Of what an EOT gradient is the mean: see `View.gradient`."""


def gives(victim: nn.Module) -> str | None:
    """What a black box answers with, "scores" or "decisions"; None of a victim that is none."""
    return getattr(getattr(victim, "black_box", None), "gives", None)


@dataclass
class PassCount:
    """Forward and backward passes, counted in samples."""

    forward: int = 0
    backward: int = 0


class View(Space):
    """A victim seen through one flat tensor x (B, D) in [0, 1].

    Args:
        victim: `forward(*modalities) -> tuple of logits`, in evaluation mode, parameters without
            gradients.
        shapes: (C, H, W) of each modality.
        draws: forward passes per prediction, K: 1 for a deterministic victim.
        batch_draws: draws of one EOT gradient that share a batch. 1 keeps memory flat; more is
            faster on a GPU, and right only for victims whose noise is drawn for each sample, not
            once a batch.
    """

    def __init__(
        self,
        victim: nn.Module,
        shapes: Sequence[tuple[int, int, int]],
        *,
        draws: int = 1,
        batch_draws: int = 1,
    ) -> None:
        super().__init__(shapes)
        self.victim = victim
        self.draws = draws
        self.batch_draws = batch_draws
        self.own: Draws | None = None
        """The seeds of a random victim's own numbers; None for a deterministic one, and where
        global generators are left as they are.
        """
        self.through: Callable[..., tuple[Tensor, ...]] | None = None
        """What computes the victim's passes in its place, faster; not those of soft gradients."""
        self.queries: Queries | None = None
        """Of an attack on a black box: what its passes ask; None: nobody counts."""
        self.passes = PassCount()
        self.tick: Callable[[int], None] | None = None
        """Called with the samples of each forward pass, for who shows how far an attack is."""
        self._nonfinite, self._unread = 0, list[Tensor]()
        self.losses: Tensor | None = None
        self.quarters: tuple[Tensor, Tensor] | None = None
        """Shares (B,) that stood after three quarters of an attack's budget, and at its end, of
        attacks that note it; a caller reads and clears them.
        """

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Classes of each task."""
        return tuple(self.victim.class_counts)  # type: ignore[arg-type]

    @property
    def abstains(self) -> bool:
        """Whether the victim may reject: each task's logits then end with a score of that."""
        return bool(getattr(self.victim, "abstains", False))

    def logits(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        """One forward pass: a (B, classes) tensor per task.

        Of a victim that may abstain one column more, the largest where it rejects. With labels y
        (B, T or more) that column is none, and the label stands for both answers that an attacker
        does not want: another class is largest exactly where the victim is wrong and answers.
        """
        self.passes.forward += len(x)
        if self.tick is not None:
            self.tick(len(x))
        if self.queries is not None:
            return self.queries.answers(self, x, self._passed)
        logits = self._passed(x)
        return logits if y is None or not self.abstains else unwanted(logits, y)

    def _passed(self, x: Tensor) -> tuple[Tensor, ...]:
        modalities, victim = self.unpack(x), self.through or self.victim
        if self.own is not None:
            return self.own.run(victim, modalities)
        return tuple(victim(*modalities))

    @property
    def random(self) -> bool:
        """Whether two passes may differ: a lucky draw is then no success, and no sample leaves the
        batch by itself.
        """
        return self.draws > 1 or self.own is not None

    @property
    def whole(self) -> bool:
        """Whether the batch must stay together to the end: the victim draws for it as a whole, or
        its samples look at each other.
        """
        return self.own is not None and self.own.whole

    @contextlib.contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """Inside, passes are over these rows of the batch alone: a victim that draws for each
        sample has to know whose numbers, and who counts queries whose they are.
        """
        with contextlib.ExitStack() as stack:
            for each in (self.own, self.queries):
                if each is not None:
                    stack.enter_context(each.only(rows))
            yield

    @contextlib.contextmanager
    def by_itself(self) -> Iterator[None]:
        """Inside, the victim computes its passes itself."""
        through, self.through = self.through, None
        try:
            yield
        finally:
            self.through = through

    @property
    def has_soft(self) -> bool:
        """Whether the victim offers soft gradients."""
        return callable(getattr(self.victim, "soft", None))

    @contextlib.contextmanager
    def softened(self, *, wanted: bool = True) -> Iterator[None]:
        """Inside, if `wanted`, gradients are the victim's soft ones: its clips, gates and roundings
        pass some, and its logits stay (BPDA, arXiv 1802.00420).

        Raises:
            RefusedError: the victim offers none.
        """
        if not wanted:
            yield
            return
        if not self.has_soft:
            raise RefusedError("soft gradients: this victim offers none (a method `soft`)")
        with self.by_itself(), self.victim.soft():  # type: ignore[operator]
            yield

    @torch.no_grad()
    def predictions(self, x: Tensor, y: Tensor | None = None) -> Iterator[tuple[Tensor, ...]]:
        """The logits of `draws` fresh forward passes, one after another."""
        for _ in range(self.draws):
            yield self.logits(x, y)

    def standing(self, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Share of fresh draws and attacked, labelled tasks on which the attacker fails, (B,). y
        (B, T), -1 = not labelled.
        """
        return torch.stack([standing(logits, y, threat) for logits in self.predictions(x, y)]).mean(
            0
        )

    def mean_logits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits averaged over fresh draws: how an attacker ranks the classes."""
        return tuple(torch.stack(drawn).mean(0) for drawn in zip(*self.predictions(x), strict=True))

    def runners_up(self, x: Tensor, y: Tensor, threat: Threat, most: int) -> list[Tensor]:
        """The likeliest wrong classes at x, one (B, T) a rank; a task with fewer classes than ranks
        starts again from its first.
        """
        logits = [z[:, :n] for z, n in zip(self.mean_logits(x), self.class_counts, strict=True)]
        ranks = min(most, max(logits[t].shape[1] for t in threat.tasks) - 1)
        ordered = [
            z.scatter(1, y[:, t : t + 1].clamp_min(0), -torch.inf).argsort(1, descending=True)
            for t, z in enumerate(logits)
        ]
        return [
            torch.stack([order[:, rank % (order.shape[1] - 1)] for order in ordered], 1)
            for rank in range(ranks)
        ]

    def gradient(
        self,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        loss: str | JointLoss = "ce",
        eot: int = 1,
        combine: Combine = "mean",
    ) -> Gradient:
        """Ascent direction of the summed task losses at x, over `eot` fresh draws of the victim.

        `combine` says of what the direction is the mean. "mean": of the draws' gradients g_k, an
        estimate of the gradient of the expected loss (EOT, arXiv 1802.00420). "normalised": of
        g_k / |g_k|_2, each sample and modality by itself. What an attacker wants to raise is the
        share of draws that are wrong. To first order draw k, of margin l_k < 0, is wrong once x has
        moved by -l_k / |g_k| along g_k: the mean over draws of these distances, their denominators
        held fixed, falls along the mean of g_k / |g_k|, so every draw counts alike, where the mean
        follows the few draws of the steepest loss. It is the gradient of no expected loss. It is
        biased towards what most draws agree on: a draw whose gradient is small, because it is
        settled either way or its noise has closed a gate, weighs as much as one at its boundary,
        and a gradient of nothing but rounding is taken for a direction. With one draw and "Linf"
        both give the same step.

        Args:
            x: (B, D) in [0, 1].
            y: (B, T), -1 = not labelled.
            loss: a name in `LOSSES`, or a function of (logits of all tasks, y) that gives (B,).
            eot: number of draws. They are accumulated, so memory does not grow with it.
            combine: "mean" or "normalised".

        Returns:
            The direction (B, D), the mean loss (B,), and the share (B,) still standing under the
            same draws. What is not finite in a draw's gradient counts as zero (under "mean" in
            every draw's), and its sample in `nonfinite_gradients`.
        """
        if gives(self.victim) is not None:
            raise RefusedError(
                "it follows the gradient of the victim, and a black box has none that anybody sees"
            )
        objective = loss if callable(loss) else named(loss, threat)
        if eot == 1 and combine == "mean":
            one, losses, logits = self._drawn(x, y, objective)
            return Gradient(self._finite(one), losses, lambda: standing(logits, y, threat))
        direction, finite = torch.zeros_like(x), torch.ones_like(x, dtype=torch.bool)
        value = stands = x.new_zeros(len(x))
        for first in range(0, eot, self.batch_draws):
            labels = y.repeat(n := min(self.batch_draws, eot - first), 1)
            found, losses, logits = self._drawn(x if n == 1 else x.repeat(n, 1), labels, objective)
            finite &= (gradients := found.view(n, *x.shape)).isfinite().all(0)
            if combine == "normalised":
                usable = torch.where(gradients.isfinite(), gradients, 0.0)
                gradients = self.normalised(usable.flatten(0, 1)).view_as(gradients)
            direction = direction + gradients.sum(0)
            value = value + losses.view(n, -1).sum(0)
            stands = stands + standing(logits, labels, threat).view(n, -1).sum(0)
        if x.device.type != "cpu" or not finite.all():
            self._unread.append((~finite.all(1)).sum())
            direction = torch.where(direction.isfinite(), direction, 0.0)
        return Gradient(direction / eot, value / eot, lambda: stands / eot)

    def _finite(self, gradient: Tensor) -> Tensor:
        """The gradient (B, D) of one draw, 0 where it is not finite, which is counted."""
        if gradient.device.type == "cpu" and math.isfinite(float(gradient.sum())):
            return gradient
        finite = gradient.isfinite()
        self._unread.append(
            (~finite.all(1)).sum()
        )  # read where somebody asks: no step waits for it
        return torch.where(finite, gradient, 0.0)

    @property
    def nonfinite_gradients(self) -> int:
        """How many samples' gradients were not finite."""
        self._nonfinite += sum(int(count) for count in self._unread)
        self._unread.clear()
        return self._nonfinite

    @nonfinite_gradients.setter
    def nonfinite_gradients(self, count: int) -> None:
        self._nonfinite, self._unread = count, []

    def _drawn(
        self, x: Tensor, y: Tensor, objective: JointLoss
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Of one pass the gradient (B, D), the losses (B,) and the logits. A function of its own,
        so that nothing else of a draw is left when the next begins.
        """
        leaf = x.detach().requires_grad_()
        gradient: Tensor | None = None
        with torch.enable_grad():
            logits = self.logits(leaf, y)
            losses = objective(logits, y)
            # a victim that cuts its graph has no gradient at all; that counts as zero, and
            # `diagnose` says so
            if losses.requires_grad:
                (gradient,) = torch.autograd.grad(
                    losses, leaf, torch.ones_like(losses), allow_unused=True
                )
        self.passes.backward += len(x)
        return (
            torch.zeros_like(x) if gradient is None else gradient,
            losses.detach(),
            tuple(z.detach() for z in logits),
        )

    def trace(self, losses: Tensor) -> None:
        """Notes in `losses` the attack losses (steps, B) of a run, NaN where a sample had left the
        batch; a caller reads and clears them.

        Of several runs on one batch (restarts, targets, members of an ensemble) the first counts:
        it alone has every sample in it.
        """
        if self.losses is None:
            self.losses = losses


def unwanted(logits: Sequence[Tensor], y: Tensor) -> tuple[Tensor, ...]:
    """Logits (B, classes + 1) whose largest class is 0, and last a score s of rejection, as
    (B, classes): another class than the label is largest exactly where the prediction is wrong and
    answered. What attacks ascend are the margins between these.

    With m = max_{j != y} z_j - z_y, positive where wrong, they are

    - wrong and answered (s <= 0): min(m, -s);
    - wrong and rejected: -s / (1 + s), in (-1, 0), along the gradient of -s alone;
    - right, rejected or not: m - 1, along the gradient of m alone.

    So first wrong, then answered, and every state is worth more than those before it (selective
    gradients: arXiv 2106.15023, section 4). To look at s while the prediction is right is a trap:
    with s = c - |m|, which asks for a lead, m - s = 2m + ... has no gradient left where it is added
    to -m, k (c - |m|) leads back for k > 1, and min(m, -s) does below the middle of the rejected
    band. The score is taken up once the attack is past that band, where its gradient leads on.

    A score without a gradient of its own is the business of who gives it (`models/abstaining.py`,
    whose revision speaks for this function: it is no part of other victims' results).
    """
    found = []
    for t, z in enumerate(logits):
        label, classes, score = y[:, t : t + 1].clamp_min(0), z[:, :-1], z[:, -1:]
        own = classes.gather(1, label)
        right = classes.argmax(1, keepdim=True) == label
        silent = ~right & ~(score <= 0)
        held = torch.where(silent, score / (1 + score.abs()).detach(), torch.maximum(own, score))
        held = torch.where(right, own + 1, held)
        found.append(torch.where(silent, classes.detach(), classes).scatter(1, label, held))
    return tuple(found)


@dataclass(frozen=True)
class Gradient:
    """One EOT gradient: `direction` (B, D), mean `loss` (B,), and the share `standing` (B,) under
    the draws it was taken over, computed where somebody asks.
    """

    direction: Tensor
    loss: Tensor
    stands: Callable[[], Tensor]

    @cached_property
    def standing(self) -> Tensor:
        """(B,)."""
        return self.stands()


__all__ = ["Combine", "Gradient", "PassCount", "RefusedError", "View"]
