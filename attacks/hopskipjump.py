"""HopSkipJump, which sees decisions only (Chen et al., arXiv 1904.02144): ART computes it on "every
attacked task is wrong".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.attacks.engines.art import NORMS, classifier, load, numpy_seeded
from robustbench_med.attacks.entry import LINF_L2, Attack
from robustbench_med.attacks.losses import standing
from robustbench_med.attacks.minimal import Minimal, Smallest, proportions
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 1


class Decision(nn.Module):
    """(B, D) in u, the perturbed sample over the proportions of the radii -> two logits: still
    standing, broken.
    """

    def __init__(self, view: View, x0: Tensor, y: Tensor, threat: Threat, eot: int) -> None:
        super().__init__()
        self.victim = view.victim
        self.view, self.x0, self.y, self.threat, self.eot = view, x0, y, threat, eot
        self.p = proportions(view, threat, x0)

    def place(self, image: Tensor) -> Tensor:
        """The image of ART, (B, D), as a sample: the perturbation shrunk by each modality's
        proportion.
        """
        return (self.x0 + self.p * (image - self.x0)).clamp(0, 1)

    def forward(self, image: Tensor) -> Tensor:
        x, y = self.place(image.to(self.x0)), self.y.expand(len(image), -1)
        share = torch.stack(
            [standing(self.view.logits(x), y, self.threat) for _ in range(self.eot)]
        ).mean(0)
        broken = (share * len(self.threat.tasks) < 0.5).to(x)
        return torch.stack((1 - broken, broken), 1)


def hopskipjump(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    evaluations: int = 1000,
    initial: int = 100,
    eot: int = 1,
) -> Tensor:
    """The smallest perturbation found, where it fits into the ball, else its projection.

    Args:
        steps: iterations.
        evaluations: queries of one gradient estimate at most.
        initial: queries of the first gradient estimate, and random images tried for a first
            adversarial.
        eot: draws per decision; more than half of them must be broken.
    """
    given = {"steps": steps, "evaluations": evaluations, "initial": initial, "eot": eot}
    return hopskipjump_minimal(view, x, y, threat, streams, **given).within(view, x, threat)


def hopskipjump_minimal(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int,
    evaluations: int,
    initial: int,
    eot: int,
) -> Minimal:
    """`hopskipjump`, whatever the size of what it finds; one sample at a time, each with its own
    random numbers.
    """
    if initial > evaluations:
        raise RefusedError(
            f"initial queries ({initial}) must not exceed the evaluations of one estimate"
            f" ({evaluations})"
        )
    smallest = Smallest(view, x, y, threat)
    if max(threat.radii) == 0:
        return smallest.found(noted=False)
    for i in smallest.size[-1].nonzero().squeeze(1).tolist():
        row = torch.tensor([i], device=x.device)
        with view.only(row):
            found = boundary_point(
                view, x[row], y[row], threat, streams.take(row), steps, evaluations, initial, eot
            )
            if found is None:
                continue
            smallest.offer(row, found, view.standing(found, y[row], threat))
            smallest.last(row, found)
    return smallest.found(noted=False)


def boundary_point(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    stream: Streams,
    steps: int,
    evaluations: int,
    initial: int,
    eot: int,
) -> Tensor | None:
    """Where ART ends from a random adversarial of one sample x (1, D), or None where there is none
    to start from.
    """
    evasion, model = load(), Decision(view, x, y, threat, eot).eval()
    start = first_adversarial(model, stream, initial)
    if start is None:
        return None
    with numpy_seeded(int(torch.randint(2**31 - 1, (), generator=stream.generators[0]))):
        attack = evasion.HopSkipJump(
            classifier(model, x, 2),
            norm=NORMS[threat.norm],
            max_iter=steps,
            max_eval=evaluations,
            init_eval=initial,
            verbose=False,
        )
        image = attack.generate(
            x.cpu().numpy(), y=np.zeros(1, dtype=np.int64), x_adv_init=start.cpu().numpy()
        )
    return model.place(torch.from_numpy(image).to(x))


def first_adversarial(model: Decision, stream: Streams, tries: int) -> Tensor | None:
    """A random image that is broken, (1, D), or None: ART would draw it from a generator that
    cannot be seeded.
    """
    for _ in range(tries):
        image = stream.uniform(model.view.dim).to(model.x0)
        with torch.no_grad():
            if model(image).argmax(1).item() == 1:
                return image
    return None


ENTRY = Attack(name="hopskipjump", function=hopskipjump, norms=LINF_L2, minimal=hopskipjump_minimal)
