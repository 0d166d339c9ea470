"""Queries of a black box, counted by sample: what each question was about, when it first gave an
adversarial, and a cap behind which nothing is asked any more.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustbench_med.attacks.losses import standing
from robustbench_med.attacks.threat import Threat

if TYPE_CHECKING:
    from robustbench_med.attacks.view import View

SLACK = 1e-4
"""Share of a radius by which rounding may leave the ball."""
Ask = Callable[[Tensor], tuple[Tensor, ...]]


class Queries:
    """The questions of one attack on a batch.

    A question about an image that this attack has asked about before is none, unless the victim is
    random. Behind the cap an attacker hears that nothing is broken: of images that it has asked
    about what they answered, of others what the clean image did.

    Args:
        x: (B, D) clean images.
        y: (B, T) labels, or classes aimed at.
        threat: in which adversarials count.
        most: questions a sample; None: without end.
        afresh: whether each question is another draw.
    """

    def __init__(
        self, x: Tensor, y: Tensor, threat: Threat, *, most: int | None, afresh: bool
    ) -> None:
        self.x, self.y, self.threat, self.most, self.afresh = x, y, threat, most, afresh
        self.rows = torch.arange(len(x))
        self.asked = [0] * len(x)
        self.heard: list[dict[bytes, tuple[Tensor, ...]]] = [{} for _ in range(len(x))]
        self.clean: dict[int, tuple[Tensor, ...]] = {}
        self.broke = torch.full((len(x), len(threat.tasks)), -1, dtype=torch.int64)
        """(B, attacked tasks): questions until 1, 2, ... of them were broken at once; -1: never."""

    @contextlib.contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """Inside, questions are about these rows of the batch alone."""
        before, self.rows = self.rows, self.rows[rows.cpu()]
        try:
            yield
        finally:
            self.rows = before

    def answers(self, view: View, x: Tensor, ask: Ask) -> tuple[Tensor, ...]:
        """The logits for x (k R, D), k questions for each of the rows one after another."""
        copies = len(x) // max(len(self.rows), 1)
        whose = self.rows.repeat(copies).tolist()
        keys = [hashlib.sha256(row.tobytes()).digest() for row in x.detach().cpu().numpy()]
        if len(whose) != len(x):
            raise ValueError(f"a pass over {len(x)} images, but the batch has {len(self.rows)}")
        sent, numbers = [], []
        for place, (sample, key) in enumerate(zip(whose, keys, strict=True)):
            known = key in self.heard[sample]
            if known and not self.afresh:
                sent.append(place)  # the victim answers it as before
            elif self.most is None or self.asked[sample] < self.most:
                self.asked[sample] += 1
                sent.append(place)
            numbers.append(self.asked[sample])
        logits = self._heard(x, whose, keys, sent, ask)
        self._note(view, x, logits, torch.tensor(whose), torch.tensor(numbers))
        return logits

    def _heard(
        self, x: Tensor, whose: Sequence[int], keys: Sequence[bytes], sent: list[int], ask: Ask
    ) -> tuple[Tensor, ...]:
        """The answers, those behind the cap made up."""
        rows: dict[int, tuple[Tensor, ...]] = {}
        if sent:
            answered = ask(x[sent])
            for i, place in enumerate(sent):
                rows[place] = tuple(z[i] for z in answered)
                self.heard[whose[place]][keys[place]] = tuple(z[i].detach() for z in answered)
        for place in range(len(x)):
            if place not in rows:
                sample = whose[place]
                rows[place] = self.heard[sample].get(keys[place]) or self._of_clean(sample, ask)
        each = [rows[place] for place in range(len(x))]
        return tuple(torch.stack(task) for task in zip(*each, strict=True))

    def _of_clean(self, sample: int, ask: Ask) -> tuple[Tensor, ...]:
        if sample not in self.clean:
            self.clean[sample] = tuple(z[0] for z in ask(self.x[sample : sample + 1]))
        return self.clean[sample]

    def _note(
        self, view: View, x: Tensor, logits: Sequence[Tensor], whose: Tensor, numbers: Tensor
    ) -> None:
        """Notes when more tasks were first broken inside the ball."""
        threat, on = self.threat, whose.to(x.device)
        radii = x.new_tensor(threat.radii)
        moved = view.distances(x.detach(), self.x[on], threat.norm, threat.counts)
        inside = (moved <= radii * (1 + SLACK) + 1e-6).all(1)
        share = standing([z.detach() for z in logits], self.y[on], threat)
        broken = ((1 - share) * len(threat.tasks)).round().long() * inside
        for sample, number, n in zip(
            whose.tolist(), numbers.tolist(), broken.tolist(), strict=True
        ):
            first = self.broke[sample, :n]
            first[first < 0] = number
