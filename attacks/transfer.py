"""Transfer: adversarials made on other victims (Papernot et al., arXiv 1605.07277), the control for
masked gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.pgd import Contest, pgd
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1


def transfer(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    sources: Sequence[View] = (),
    steps: int = 40,
    step_size: float = 0.0625,
    loss: str = "margin",
    eot: int = 1,
) -> Tensor:
    """PGD on each source until its last step; each sample keeps the candidate that does best
    against the victim itself.

    Args:
        sources: views of the victims that adversarials are made on; they have the tasks and shapes
            of this one.
        steps, step_size, loss, eot: of PGD, which goes on past the source's boundary.
    """
    if not sources:
        raise ValueError("transfer needs at least one source victim")
    contest = Contest(view, x, y, threat)
    for source in sources:
        rows = contest.open()
        if len(rows) == 0:
            break
        if source.whole:
            rows = torch.arange(len(x))
        with source.only(rows):
            candidate = pgd(
                source,
                x[rows],
                y[rows],
                threat,
                streams.take(rows),
                steps=steps,
                step_size=step_size,
                loss=loss,
                eot=eot,
                keep="last",
            )
        view.passes.forward += source.passes.forward
        view.passes.backward += source.passes.backward
        source.passes.forward = source.passes.backward = 0
        contest.enter(rows, candidate)
    return contest.best


ENTRY = Attack(name="transfer", function=transfer, flips=True, chooses=True)
