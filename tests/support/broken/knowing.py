"""Attacks that know the defect: the product's own PGD and APGD on what lies beneath it, judged on the
victim itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.attacks import Draws, Streams, Threat, View, complete, entry_of
from robustbench_med.attacks.pgd import Contest
from robustbench_med.data import Samples

CHUNK = 32
"""Samples that stand together: what `--chunk` is by default."""
CHOOSING, JUDGING = 16, 64
"""Draws of a random victim by which a candidate is chosen, and fresh ones by which it is judged."""
EOT = 8
RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pgd", {"steps": 50, "loss": "margin", "keep": "last", "step_size": 0.1}),
    ("pgd", {"steps": 50, "loss": "ce", "keep": "last", "step_size": 0.1}),
    ("pgd", {"steps": 50, "loss": "margin", "keep": "best", "restarts": 3}),
    ("apgd", {"steps": 50, "loss": "margin", "restarts": 3}),
    ("apgd", {"steps": 50, "loss": "ce"}),
)
"""Attacks on the repaired victim. Those with keep=last go on behind its boundary: what lies just
behind it need not lie behind the victim's.
"""


def left(
    victim: nn.Module, samples: Samples, threat: Threat, repaired: Sequence[nn.Module]
) -> float:
    """Robust accuracy under the attack, mean over the attacked tasks and over fresh draws.

    Args:
        victim: as evaluated; what has a `forget` is asked for it before every judgement.
        samples: attacked in chunks of `CHUNK`.
        threat: the ball and the tasks.
        repaired: victims whose gradients are followed.
    """
    lost = 0.0
    for first in range(0, len(samples), CHUNK):
        rows = list(range(first, min(first + CHUNK, len(samples))))
        judge = Judge(victim, samples, rows, threat)
        for number, each in enumerate(repaired):
            for candidate in judge.candidates(each, number):
                judge.enter(candidate)
        lost += judge.left() * len(rows)
    return lost / len(samples)


class Judge:
    """Candidates of one chunk on the victim itself: every sample keeps its best one, and so does the
    chunk as a whole, whose samples may look at each other.
    """

    def __init__(
        self, victim: nn.Module, samples: Samples, rows: Sequence[int], threat: Threat
    ) -> None:
        self.victim, self.threat = victim, threat
        self.ids = [samples.ids[row] for row in rows]
        modalities = samples.batch(rows)
        self.shapes = [tuple(m.shape[1:]) for m in modalities]
        self.y = samples.labels[list(rows)]
        self.view = self.seen(victim, "choosing", CHOOSING)
        self.x = self.view.pack(modalities)
        self.contest = Contest(self.view, self.x, self.y, threat)
        self.whole, self.lowest = self.x, 2.0

    def seen(self, victim: nn.Module, purpose: str, draws: int) -> View:
        """A view that draws for the batch as a whole, in every run the same numbers."""
        view = View(victim, self.shapes, draws=draws)
        view.own = Draws("knowing", purpose, self.ids[0])
        return view

    def candidates(self, repaired: nn.Module, number: int) -> Iterator[Tensor]:
        """What every run makes of the clean images on a repaired victim."""
        random = bool(getattr(repaired, "stochastic", False))
        for run, (name, given) in enumerate(RUNS):
            view = View(repaired, self.shapes, draws=EOT if random else 1)
            parameters = complete(name, given | ({"eot": EOT} if random else {}), random=random)
            streams = Streams.seeded(0, self.ids, f"knowing {number} {run}")
            attack = entry_of(name).function
            yield attack(view, self.x, self.y, self.threat, streams, **parameters)

    def enter(self, candidate: Tensor) -> None:
        """Measures a candidate (B, D)."""
        self.view.check(candidate, self.x, self.threat)
        everyone = torch.arange(len(candidate))
        forget(self.victim)
        self.contest.enter(everyone, candidate)
        forget(self.victim)
        together = float(self.view.standing(candidate, self.y, self.threat).mean())
        if together < self.lowest:
            self.whole, self.lowest = candidate, together

    def left(self) -> float:
        """The share standing over fresh draws of the lower of both choices."""
        view = self.seen(self.victim, "judging", JUDGING)
        found = []
        for candidate in (self.contest.best, self.whole):
            forget(self.victim)
            found.append(float(view.standing(candidate, self.y, self.threat).mean()))
        return min(found)


def forget(victim: nn.Module) -> None:
    """A victim that keeps a memory begins again: an attacker tries out on a copy of their own."""
    if hasattr(victim, "forget"):
        victim.forget()
