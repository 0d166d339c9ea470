"""Foolbox (Rauber et al., arXiv 1707.04131) behind the view; parameters keep the names and units of
the native attacks.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from robustbench_med.attacks.engines.library import Library
from robustbench_med.attacks.engines.one_tensor import OneTensor, Run, through
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 1
START_STEPS = 50  # between an image and random noise


def load() -> Any:
    """The library, or a refusal that tells how to get it."""
    # its model zoo imports GitPython, which fails where there is no git unless it is told not to
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        import foolbox
    except ImportError as error:
        raise RefusedError(f"Foolbox cannot be imported ({error}): {LIBRARY.how_to_get}") from error
    return foolbox


def asked(model: OneTensor, image: Tensor, label: Tensor) -> tuple[Any, Tensor, Any]:
    """What its attacks are run on: its wrapper of the model, the image, and the criterion of any
    other prediction.
    """
    foolbox = load()
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=image.device)
    return wrapped, image, foolbox.criteria.Misclassification(label)


def inside(name: str, radius: float, **options: Any) -> Run:
    """A run of one of its attacks that are given a radius."""

    def run(model: OneTensor, image: Tensor, label: Tensor) -> Tensor:
        attack = getattr(load().attacks, name)(**options)
        return attack.run(*asked(model, image, label), epsilon=radius)

    return run


def smallest(name: str, **options: Any) -> Run:
    """A run of one of its attacks that seek the smallest perturbation; the image itself where there
    is none (some hand back a black one).
    """

    def run(model: OneTensor, image: Tensor, label: Tensor) -> Tensor:
        attack = getattr(load().attacks, name)(**options)
        found = attack.run(*asked(model, image, label))
        return torch.where((found == 0).flatten(1).all(1)[:, None, None, None], image, found)

    return run


def from_noise(name: str, **options: Any) -> Run:
    """A run of one of its attacks that begin at a broken image: one between the image and noise;
    the image itself where none is found.
    """

    def run(model: OneTensor, image: Tensor, label: Tensor) -> Tensor:
        attacks = load().attacks
        first = attacks.LinearSearchBlendedUniformNoiseAttack(steps=START_STEPS)
        start = first.run(*asked(model, image, label))
        with torch.no_grad():
            right, stands = (model(each).argmax(1) == label for each in (image, start))
        rows = right & ~stands
        result = image.clone()
        if rows.any():
            attack = getattr(attacks, name)(**options)
            chosen = asked(model, image[rows], label[rows])
            result[rows] = attack.run(*chosen, starting_points=start[rows])
        return result

    return run


def fgsm(view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams) -> Tensor:
    return through(
        inside(f"{threat.norm}FastGradientAttack", max(threat.radii)), view, x, y, threat
    )


def pgd(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    step_size: float = 0.125,
    random_start: bool = True,
) -> Tensor:
    options = {"steps": steps, "rel_stepsize": step_size, "random_start": random_start}
    attack = inside(f"{threat.norm}ProjectedGradientDescentAttack", max(threat.radii), **options)
    return through(attack, view, x, y, threat)


def cw(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    search: int = 9,
    lr: float = 0.01,
    c: float = 0.001,
    abort_early: bool = True,
) -> Tensor:
    options = {"steps": steps, "binary_search_steps": search, "stepsize": lr, "initial_const": c}
    options["abort_early"] = abort_early
    return through(smallest("L2CarliniWagnerAttack", **options), view, x, y, threat)


def ddn(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    gamma: float = 0.05,
    first: float = 1.0,
) -> Tensor:
    options = {"steps": steps, "gamma": gamma, "init_epsilon": first}
    return through(smallest("DDNAttack", **options), view, x, y, threat)


def fmn(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    alpha: float = 1.0,
    gamma: float = 0.05,
) -> Tensor:
    if threat.norm == "L0" and threat.counts == "pixels":
        channels = [s.shape[0] for s, r in zip(view.segments, threat.radii, strict=True) if r > 0]
        if any(each > 1 for each in channels):
            raise RefusedError(
                "its L0 counts every channel by itself: use --l0-counts coordinates or --engine"
                " native"
            )
    name = {"Linf": "LInf"}.get(threat.norm, threat.norm)
    options = {"steps": steps, "max_stepsize": alpha, "gamma": gamma}
    return through(smallest(f"{name}FMNAttack", **options), view, x, y, threat)


def ead(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    search: int = 9,
    lr: float = 0.01,
    c: float = 0.001,
    beta: float = 0.01,
    abort_early: bool = True,
) -> Tensor:
    options: dict[str, Any] = {"steps": steps, "binary_search_steps": search}
    options |= {"initial_stepsize": lr, "initial_const": c, "regularization": beta}
    options["decision_rule"] = "L1"
    options |= {"abort_early": abort_early}
    return through(smallest("EADAttack", **options), view, x, y, threat)


def boundary(
    view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams, *, steps: int = 5000
) -> Tensor:
    return through(from_noise("BoundaryAttack", steps=steps), view, x, y, threat)


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
) -> Tensor:
    options: dict[str, Any] = {
        "steps": steps,
        "max_gradient_eval_steps": evaluations,
        "initial_gradient_eval_steps": initial,
        "constraint": threat.norm.lower(),
    }
    return through(from_noise("HopSkipJumpAttack", **options), view, x, y, threat)


LIBRARY = Library(
    name="foolbox",
    package="foolbox",
    purpose="checks the native searches for the smallest perturbation; the boundary attack",
    attacks={f.__name__: f for f in (fgsm, pgd, cw, ddn, fmn, ead, boundary, hopskipjump)},
    norms={
        "fgsm": ("Linf", "L2", "L1"),
        "pgd": ("Linf", "L2", "L1"),
        "cw": ("L2",),
        "ddn": ("L2",),
        "fmn": ("Linf", "L2", "L1", "L0"),
        "ead": ("L1",),
        "boundary": ("L2",),
    },
    judges_iterates=("cw", "ddn", "fmn", "ead", "boundary", "hopskipjump"),
)
