"""Victims that may abstain: a method `reject(*modalities)` gives one score a task, and a prediction
is rejected where its score is above 0.

Rejection is one more column of a task's logits, shifted so that their largest is 0: the largest of
all is the last exactly where the victim rejects. What attacks ascend is derived at `unwanted` in
`attacks/view.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustbench_med.errors import UserError
from robustbench_med.models.contract import Victim
from robustbench_med.models.defenses import Defended
from robustbench_med.models.tables import StandIns

REVISION = 3
"""Of what is counted as rejected, and of what attacks make of it (`unwanted`)."""
MOST = 1e6
"""Scores are cut here: an infinite one is a rejection, not a failure."""


class Abstaining(nn.Module):
    """A victim with its scores of rejection, as attacks and evaluations see it; gradients go
    through both. A score that gives none gets that of a smaller lead of the first class, since
    rejected is what the victim is unsure of (BPDA, arXiv 1802.00420); its value stays.

    Args:
        network: a victim that has `reject`, which returns (B, T), or one (B,) a task.
    """

    abstains = True
    takes_generators = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        victim = cast(Victim, network)
        self.n_modalities, self.class_counts = victim.n_modalities, tuple(victim.class_counts)
        self.stochastic = bool(victim.stochastic)
        self.shares_noise = bool(getattr(network, "shares_noise", False))
        if callable(getattr(network, "soft", None)):
            self.soft = network.soft
        self.training = network.training

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        """(B, classes + 1) of each task.

        Raises:
            UserError: `reject` returned anything but one score a sample and task.
        """
        logits = self.network(*modalities)
        given = self._rejected([m.clone() for m in modalities])
        scores = scores_of(given, len(modalities[0]), len(logits))
        found = []
        for z, given_score in zip(logits, scores, strict=True):
            score = given_score.to(z).clamp(-MOST, MOST)
            if z.requires_grad and not score.requires_grad:
                first, second = z.topk(2, 1).values.unbind(1)
                score = score + (first - second).detach() - (first - second)
            found.append(torch.cat((z - z.amax(1, keepdim=True), score[:, None]), 1))
        return tuple(found)

    def _rejected(self, modalities: Sequence[Tensor]) -> Any:
        """What `reject` returns of what the victim sees: stand-ins where a modality is missing."""
        reject, stand_ins = cast(Any, self.network).reject, getattr(self.network, "stand_ins", None)
        if isinstance(stand_ins, StandIns):
            return stand_ins.rejected(reject, modalities)
        return reject(*modalities)


def scores_of(given: Any, n: int, tasks: int) -> tuple[Tensor, ...]:
    """Scores (B,) of each task in what `reject` returned."""
    if isinstance(given, Tensor):
        given = (given,) if given.shape == (n,) else given.unbind(1) if given.dim() == 2 else ()
    parts = tuple(given) if isinstance(given, tuple | list) else ()
    if len(parts) == tasks and all(isinstance(p, Tensor) and p.numel() == n for p in parts):
        return tuple(part.reshape(n) for part in parts)
    raise UserError(
        f"reject(*modalities) must return one score a task, a tensor ({n}, {tasks}) or {tasks} of"
        f" ({n},), above 0 where the victim rejects"
    )


def aware(victim: nn.Module) -> nn.Module:
    """The victim, as one that may abstain where it has `reject`.

    Raises:
        UserError: it stands behind an input transform, which `reject` would not see, or is a black
            box, whose queries `reject` would not count.
    """
    behind = victim.network if isinstance(victim, Defended) else None
    if callable(getattr(behind, "reject", None)):
        raise UserError(
            "a victim that may abstain (reject) cannot stand behind an input transform; put the"
            " transform into its forward and reject"
        )
    if not callable(getattr(victim, "reject", None)):
        return victim
    if getattr(victim, "black_box", None) is not None:
        raise UserError(
            "a black box cannot abstain (reject): it is asked for scores or decisions alone, and"
            " those queries are counted; leave reject out, or hand over the network itself"
        )
    return Abstaining(victim)


def may_abstain(victim: nn.Module) -> bool:
    """Whether a victim, as `aware` gives it, has a reject option."""
    return isinstance(victim, Abstaining)
