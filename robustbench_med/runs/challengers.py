"""Challengers by kind, and the trial they are put to: a few samples that an attack left standing,
and the victim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import ATTACKS, Streams, Threat, View, black_box, complete, gives
from robustbench_med.attacks.losses import standing
from robustbench_med.attacks.pgd import ascend
from robustbench_med.evaluation.batching import drawn, together
from robustbench_med.evaluation.types import Drawing, Setting
from robustbench_med.runs.identity import Inputs
from robustbench_med.runs.rivals import Rival

PER_SAMPLE = 80
"""Passes a sample below which fewer are tried; twice as many of a random victim."""
BOUNDLESS = 5
"""Samples that are tried where only images bound the attack."""
CHOOSE, FRESH = 4, 16
"""Draws of a random victim that choose between two candidates, and fresh ones that measure."""
MOST_STEPS, MOST_QUERIES = 40, 400
"""Beyond which a challenger is no longer short."""
Rows = NDArray[np.int64]
Family = Literal["gradient", "black box"]


@dataclass
class Trial:
    """Samples that an attack left standing, and the victim that challengers ask about them.

    Attributes:
        view: of the victim; a random one with the draws that choose.
        x, moved: (n, D) before and after the attack.
        y: (n, T).
        stands: (n, T) whether a task is ever right after the attack.
        ids: of the samples.
        threat, setting, drawing: of the cell.
        cell: number of samples of the cell.
        elsewhere: passes spent on another network of the victim's size.
        fresh: passes that measured, on draws that chose nothing.
    """

    view: View
    x: Tensor
    moved: Tensor
    y: Tensor
    stands: NDArray[np.bool_]
    ids: list[str]
    threat: Threat
    setting: Setting
    drawing: Drawing
    cell: int
    elsewhere: int = 0
    fresh: int = 0

    @property
    def random(self) -> bool:
        """Whether the victim is."""
        return self.view.draws > 1

    @property
    def spent(self) -> int:
        """Passes of the challengers so far."""
        asked = self.view.passes.forward + self.view.passes.backward
        return asked + self.elsewhere - self.fresh

    @property
    def everybody(self) -> Rows:
        """All rows."""
        return np.arange(len(self.x))

    def run(
        self,
        rows: Rows,
        purpose: str,
        compute: Callable[[Tensor, Streams], Tensor],
        sources: Sequence[tuple[View, Drawing]] = (),
    ) -> Tensor:
        """What `compute` makes of these rows, a batch at a time: (n, D), other rows as the attack
        left them. It is given the rows of a batch and their random streams.

        Where predictions depend on the batch, a batch is a chunk of all rows.
        """
        found = self.moved.clone()
        whole = "batch" in (self.drawing, *(drawing for _, drawing in sources))
        names = ("challenge", purpose)
        for part in together(rows, len(self.x), self.setting, whole=whole):
            ids = [self.ids[row] for row in part]
            streams = Streams.seeded(self.setting.seed, ids, " ".join(names), device=self.x.device)
            with drawn(
                self.view, self.drawing, self.setting, self.ids, part, *names, sources=sources
            ):
                moved = compute(torch.from_numpy(part), streams)
            tried = np.isin(part, rows)
            found[part[tried]] = moved.detach()[tried]
        return found

    @torch.no_grad()
    def shares(
        self, x: Tensor, rows: Rows, draws: int, purpose: str, threat: Threat | None = None
    ) -> NDArray[np.float64]:
        """(draws, len(rows)): share of the attacked tasks still right in each draw of x (n, D)."""
        parts = []
        names = ("challenge", purpose)
        for part in together(rows, len(self.x), self.setting, whole=self.drawing == "batch"):
            y = self.y[part]
            with drawn(self.view, self.drawing, self.setting, self.ids, part, *names):
                passes = [
                    standing(self.view.logits(x[part], y), y, threat or self.threat)
                    for _ in range(draws)
                ]
            parts.append(torch.stack(passes)[:, np.isin(part, rows)])
        return torch.cat(parts, 1).cpu().double().numpy()

    @cached_property
    def before(self) -> NDArray[np.float64]:
        """(draws, n) of what the attack left, under the draws that choose."""
        return self.shares(self.moved, self.everybody, self.view.draws, "choose")

    @cached_property
    def measured(self) -> NDArray[np.float64]:
        """(draws, n) of what the attack left, under fresh draws."""
        return self.measure(self.moved, self.everybody)

    def measure(self, x: Tensor, rows: Rows) -> NDArray[np.float64]:
        """(draws, len(rows)) of x (n, D) under fresh draws."""
        before = self.view.passes.forward
        shares = self.shares(x, rows, FRESH, "fresh")
        self.fresh += self.view.passes.forward - before
        return shares

    def computed(self, rows: Rows) -> int:
        """Samples that a pass over these rows computes."""
        return len(self.x) if self.drawing == "batch" else len(rows)


@dataclass(frozen=True)
class Challenger:
    """One challenger.

    Attributes:
        name, family: see `Challenge`.
        weight: its share of the budget.
        rows: which samples of the trial it tries.
        attack: (trial, passes a sample) -> candidates (n, D) each; none where it cannot begin.
        threat: another than the cell's where the attack is bounded by images alone.
    """

    name: str
    family: Family
    weight: int
    rows: Rows
    attack: Callable[[Trial, int], list[Tensor]]
    threat: Threat | None = None


def challengers(trial: Trial, inputs: Inputs, rival: Rival) -> list[Challenger]:
    """The challengers that apply, what leads back to the victim's gradient first: what they leave
    of their budget, because samples fall, is the black boxes'.
    """
    threat, method, everybody = trial.threat, inputs.method, trial.everybody
    attacked = [m for m, radius in enumerate(threat.radii) if radius > 0]
    if (access := gives(inputs.victim.module)) is not None:
        return of_black_box(trial, rival, access)
    found = []
    everywhere = len(attacked) == len(threat.radii) and not threat.columns
    for t in threat.tasks if threat.norm == "Linf" and everywhere else ():
        rows = np.flatnonzero(trial.stands[:, t])[:BOUNDLESS]
        everything = replace(threat, radii=(1.0,) * len(threat.radii), tasks=(t,))
        name = f"task {inputs.dataset.tasks[t]} alone at radius 1"
        attack = gradients(name, rows, within=everything)
        found.append(Challenger(name, "gradient", 2, rows, attack, everything))
    for t in threat.tasks if len(threat.tasks) > 1 else ():
        rows, name = np.flatnonzero(trial.stands[:, t]), f"task {inputs.dataset.tasks[t]} alone"
        attack = gradients(name, rows, within=replace(threat, tasks=(t,)))
        found.append(Challenger(name, "gradient", 2, rows, attack))
    for m in attacked if len(attacked) > 1 else ():
        name = f"modality {inputs.dataset.modalities[m]} alone"
        radii = tuple(radius * (m == k) for k, radius in enumerate(threat.radii))
        attack = gradients(name, everybody, within=threat.over(radii), start="anywhere")
        found.append(Challenger(name, "gradient", 2, everybody, attack))
    name, loss = other_loss(method.parameters)
    found.append(Challenger(name, "gradient", 3, everybody, gradients(name, everybody, loss=loss)))
    if trial.view.has_soft:
        attack = gradients("soft gradients", everybody, soft=True)
        found.append(Challenger("soft gradients", "gradient", 3, everybody, attack))
    found.append(Challenger(rival.name, "black box", 9, everybody, transfer(rival)))
    if method.name != (scores := black_box(threat.norm)):
        found.append(Challenger(scores, "black box", 3, everybody, by_scores))
    return [each for each in found if len(each.rows)]


def of_black_box(trial: Trial, rival: Rival, access: str) -> list[Challenger]:
    """The challengers that ask for no gradient, those by scores where there are any."""
    everybody = trial.everybody
    found = [Challenger(rival.name, "black box", 3, everybody, transfer(rival))]
    if access == "scores":
        name = black_box(trial.threat.norm)
        found.append(Challenger(name, "black box", 1, everybody, by_scores))
    return found


def other_loss(parameters: Any) -> tuple[str, str]:
    """What readers call the loss that an attack of these parameters did not ascend, and its name
    in `LOSSES`.
    """
    if parameters.get("loss") in ("margin", "dlr"):
        return "cross-entropy", "ce"
    return "margin loss", "margin"


def gradients(
    name: str,
    rows: Rows,
    *,
    within: Threat | None = None,
    loss: str = "margin",
    soft: bool = False,
    start: Literal["where the attack ended", "anywhere"] = "where the attack ended",
) -> Callable[[Trial, int], list[Tensor]]:
    """Steps along the victim's gradients: from where the attack ended, or from a point drawn from
    the ball; `within`: a threat other than the cell's.
    """

    def attack(trial: Trial, passes: int) -> list[Tensor]:
        view, threat = trial.view, within or trial.threat
        steps = min((passes - (CHOOSE if trial.random else 2)) // 2, MOST_STEPS)

        def climb(part: Tensor, streams: Streams) -> Tensor:
            def climb_within(own: Threat, places: Tensor, streams: Streams) -> Tensor:
                x, y, first = (t[part[places]] for t in (trial.x, trial.y, trial.moved))
                if start == "anywhere":
                    first = view.random_point(x, own, streams)
                return ascend(view, first, x, y, own, loss=loss, **short(steps, trial.random))

            with view.softened(wanted=soft):
                return by_radii(view, threat, part, streams, climb_within)

        return [trial.run(rows, name, climb)] if steps > 0 else []

    return attack


def by_radii(
    view: View,
    threat: Threat,
    part: Tensor,
    streams: Streams,
    compute: Callable[[Threat, Tensor, Streams], Tensor],
) -> Tensor:
    """What `compute` makes of the rows `part` of a trial, those of the same radii together: it is
    given their threat, their places in `part`, and their streams.
    """
    groups = threat.by_radii(part.tolist())
    if len(groups) == 1:
        return compute(groups[0][0], torch.arange(len(part)), streams)
    found: dict[int, Tensor] = {}
    for own, places in groups:
        rows = torch.tensor(places)
        with view.only(rows):
            found |= zip(places, compute(own, rows, streams.take(rows)), strict=True)
    return torch.stack([found[place] for place in range(len(part))])


def short(steps: int, random: bool) -> dict[str, Any]:
    """How few steps are made: against a random victim each follows one draw, and the steps before
    it.
    """
    how: dict[str, Any] = {"steps": steps, "eot": 1, "step_size": min(2.5 / steps, 0.5)}
    if not random:
        return how | {"keep": "best"}
    smooth = {"combine": "normalised", "momentum": 0.9, "schedule": "cosine"}
    return how | smooth | {"keep": "last", "step_size": min(10 / steps, 0.5)}


def by_scores(trial: Trial, passes: int) -> list[Tensor]:
    """Square, under L0 Sparse-RS, whose scores of a random victim are means over two draws where it
    can afford them.
    """
    name = black_box(trial.threat.norm)
    eot = 2 if trial.random and passes >= PER_SAMPLE else 1
    # against a random victim two queries are one candidate, whose second may be one too many
    queries = min((passes - trial.view.draws) // eot - trial.random, MOST_QUERIES)
    if queries < 1:
        return []
    given = complete(name, {"queries": queries, "eot": eot})

    def search(part: Tensor, streams: Streams) -> Tensor:
        def search_within(own: Threat, places: Tensor, streams: Streams) -> Tensor:
            x, y = trial.x[part[places]], trial.y[part[places]]
            return ATTACKS[name](trial.view, x, y, own, streams, **given)

        return by_radii(trial.view, trial.threat, part, streams, search_within)

    return [trial.run(trial.everybody, name, search)]


STEPS = 20
"""On the network that adversarials are carried over from."""


def transfer(rival: Rival) -> Callable[[Trial, int], list[Tensor]]:
    """Adversarials made on another network: all tasks along two losses, then each task alone from
    where the attack ended; as many of these as can be afforded, one where each step costs what one
    on the victim does.
    """

    def attack(trial: Trial, passes: int) -> list[Tensor]:
        n, draws, threat = len(trial.x), trial.view.draws, trial.threat
        left = passes - rival.answers / n
        steps = STEPS if rival.small else min(int(left - draws) // 2, STEPS)
        aims = [(threat, "margin"), (threat, "ce")]
        aims += [(replace(threat, tasks=(t,)), "margin") for t in threat.tasks]
        aims = aims[: int(left // draws) if rival.small else 1]
        if not aims or steps < 1:
            return []
        view, drawing = rival.seen(trial.view)
        how = short(steps, view.draws > 1) | {"momentum": 0.9, "keep": "last"}

        def towards(aim: Threat, loss: str) -> Tensor:
            def climb(part: Tensor, streams: Streams) -> Tensor:
                def climb_within(own: Threat, places: Tensor, streams: Streams) -> Tensor:
                    x, y, first = (t[part[places]] for t in (trial.x, trial.y, trial.moved))
                    if aim is threat:
                        first = view.random_point(x, own, streams)
                    return ascend(view, first, x, y, own, loss=loss, **how)

                return by_radii(view, aim, part, streams, climb_within)

            purpose = f"{rival.name} {loss} {aim.tasks}"
            return trial.run(trial.everybody, purpose, climb, [(view, drawing)])

        found = [towards(*aim) for aim in aims]
        spent = 0 if rival.small else view.passes.forward + view.passes.backward
        trial.elsewhere += rival.answers + spent
        return found

    return attack
