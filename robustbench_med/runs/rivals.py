"""Whom adversarials are carried over from when an attack is challenged: the victim without its
defences, where it is at hand, else a small network that imitates the victim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.attacks import View, derive_seed, gives
from robustbench_med.data import Dataset, Samples
from robustbench_med.evaluation.batching import batches, drawing_of, drawn, shapes_of
from robustbench_med.evaluation.types import Drawing, Setting, TransferSource
from robustbench_med.provenance import code
from robustbench_med.runs.identity import Inputs
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.victims import LoadedVictim
from robustbench_med.store.attacks import SurrogateSpec
from robustbench_med.training import defenses, presets
from robustbench_med.training.surrogate import imitate

FROM_ANSWERS = ("transfer", "adaptive")
"""Attacks on a black box that make adversarials on a surrogate."""
WITHIN_MAIL = {entry.in_mail.model for entry in defenses.SHIPPED if entry.in_mail is not None}
"""Networks that are MAIL with a defence in it."""
ANSWERS = 500
"""Training images that the victim is asked about for a surrogate, at most."""


@dataclass
class Rival:
    """A network that adversarials are carried over from.

    Attributes:
        name: what readers call the challenger.
        answers: passes of the victim that making it takes.
        small: whether its own passes are none to speak of.
        make: loads or trains it.
    """

    name: str
    answers: int
    small: bool
    make: Callable[[], nn.Module]

    def seen(self, like: View) -> tuple[View, Drawing]:
        """The network as an attack sees it that sees the victim as `like`, and what its predictions
        depend on.
        """
        network = self.make()
        random = bool(getattr(network, "stochastic", False))
        shapes = [segment.shape for segment in like.segments]
        view = View(network, shapes, draws=2 if random else 1)
        return view, drawing_of(network, stochastic=random)


def rival_of(inputs: Inputs, session: Session[RunSpec], setting: Setting) -> Rival:
    """The undefended twin of a victim where its weights are there already, else a surrogate."""
    twin = twin_of(inputs, session)
    if twin is not None:
        return Rival("transfer from the undefended twin", 0, False, twin)
    n = min(ANSWERS, len(asked_about(inputs.dataset)[1]))
    return Rival("transfer from a surrogate", n, True, lambda: surrogate_of(inputs, setting, n))


def asked_about(dataset: Dataset) -> tuple[str, Samples]:
    """The part of the data whose images a victim is asked about for a surrogate: arrays may come
    without a training part.
    """
    name = "train" if "train" in dataset.splits else "test"
    return name, dataset.splits[name]


def asked_for(
    victim: LoadedVictim, cell: Cell, dataset: Dataset, run: RunSpec
) -> SurrogateSpec | None:
    """The surrogate that the attack of a cell makes its adversarials on: a black box's, where no
    other source is named; None where it makes none. At most `max_queries` answers train it.
    """
    named = cell.attack == "transfer" and bool(run.source)
    if gives(victim.module) is None or cell.attack not in FROM_ANSWERS or named:
        return None
    part, images = asked_about(dataset)
    n = min(ANSWERS, len(images), run.max_queries or ANSWERS)
    return SurrogateSpec(images=n, split=part, revision=code.revisions(imitate, "the surrogate"))


def surrogate_of(inputs: Inputs, setting: Setting, n: int) -> nn.Module:
    """The surrogate trained on the victim's answers about n images, made once a seed."""
    made = inputs.victim.surrogates
    if (setting.seed, n) not in made:
        _, images = asked_about(inputs.dataset)
        made[setting.seed, n] = distilled(inputs, images, n, setting)
    return made[setting.seed, n]


def surrogate_source(inputs: Inputs, setting: Setting) -> TransferSource:
    """The surrogate of `Inputs.surrogate`, as what adversarials are made on."""
    assert inputs.surrogate is not None
    n = inputs.surrogate.images
    return TransferSource(surrogate_of(inputs, setting, n), False, "none", answers=n)


def twin_of(inputs: Inputs, session: Session[RunSpec]) -> Callable[[], nn.Module] | None:
    """Loads the same network without defences; None where the victim has none, or where the twin
    would have to be trained.
    """
    victim, cell, device = inputs.victim, inputs.cell, session.device
    spec, checkpoint = victim.spec, victim.checkpoint
    in_mail = victim.plan.model in WITHIN_MAIL
    if gives(victim.module) is not None:  # the device behind it has no gradient either
        return None
    if victim.plan.training or in_mail:
        undefended = {"model": defenses.MAIL} if in_mail else {}
        point = cell.model_copy(update={"defense": "none", **undefended})
        spec = session.victims.source_plans.of(point).spec
        found = session.victims.twin(point)
        if found is None:
            return None
        checkpoint = found
    elif not victim.plan.inference:
        return None
    return lambda: presets.load(spec, checkpoint, device)[0]


def distilled(inputs: Inputs, images: Samples, n: int, setting: Setting) -> nn.Module:
    """A surrogate trained on the victim's answers about n of these images, drawn by the seed."""
    nature = inputs.victim.nature
    view = View(inputs.victim.module, shapes_of(images))
    rng = np.random.default_rng(derive_seed(setting.seed, "surrogate images"))
    rows = np.sort(rng.permutation(len(images))[:n])
    size = setting.chunk if nature.drawing == "batch" else setting.batch_size
    answers: list[tuple[Tensor, ...]] = []
    for part in batches(rows, size):
        x = view.pack(images.batch(part)).to(setting.device)
        with drawn(view, nature.drawing, setting, images.ids, part, "surrogate"):
            answers += [
                tuple(z[:, :n] for z, n in zip(drawn_now, view.class_counts, strict=True))
                for drawn_now in view.predictions(x)
            ]
    return imitate(
        images.batch(rows),
        [torch.cat(task) for task in zip(*answers, strict=True)],
        seed=setting.seed,
        device=setting.device,
    )
