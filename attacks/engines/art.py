"""The Adversarial Robustness Toolbox (Nicolae et al., arXiv 1807.01069) behind the view; parameters
as in the native attacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_med.attacks.engines.library import Library
from robustbench_med.attacks.engines.one_tensor import OneTensor, Run, through
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 1
NORMS = {"Linf": np.inf, "L2": 2}


def load() -> Any:
    """Its evasion attacks, or a refusal that tells how to get them."""
    try:
        from art.attacks import evasion
    except ImportError as error:
        raise RefusedError(f"ART cannot be imported ({error}): {LIBRARY.how_to_get}") from error
    return evasion


def classifier(model: nn.Module, image: Tensor, classes: int) -> Any:
    """Its wrapper of a model."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(image.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if image.device.type == "cpu" else "gpu",
    )


def simple(name: str, **options: Any) -> Run:
    """A run of one of its attacks: built on a classifier, called with NumPy arrays."""

    def run(model: OneTensor, image: Tensor, label: Tensor) -> Tensor:
        evasion = load()
        with numpy_seeded(int(torch.randint(2**31 - 1, ()))):
            try:
                attack = getattr(evasion, name)(classifier(model, image, model.classes), **options)
            except ValueError as error:  # it checks its parameters as it is built
                raise RefusedError(f"ART's {name} says: {error}") from error
            return torch.from_numpy(attack.generate(image.cpu().numpy(), y=label.cpu().numpy())).to(
                image
            )

    return run


@contextlib.contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, which ART draws from, and restores it."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def fgsm(view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams) -> Tensor:
    return through(
        simple(
            "FastGradientMethod", eps=max(threat.radii), norm=NORMS[threat.norm], batch_size=len(x)
        ),
        view,
        x,
        y,
        threat,
    )


def bim(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    step_size: float = 0.125,
) -> Tensor:
    options = {
        "eps": max(threat.radii),
        "eps_step": step_size * max(threat.radii),
        "max_iter": steps,
        "batch_size": len(x),
        "verbose": False,
    }
    return through(simple("BasicIterativeMethod", **options), view, x, y, threat)


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
    options = {
        "eps": max(threat.radii),
        "eps_step": step_size * max(threat.radii),
        "max_iter": steps,
        "norm": NORMS[threat.norm],
        "num_random_init": int(random_start),
        "batch_size": len(x),
        "verbose": False,
    }
    return through(simple("ProjectedGradientDescentPyTorch", **options), view, x, y, threat)


def cw(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    search: int = 6,
    lr: float = 0.01,
    c: float = 1.0,
) -> Tensor:
    options = {
        "max_iter": steps,
        "binary_search_steps": search,
        "learning_rate": lr,
        "initial_const": c,
    }
    return through(
        simple("CarliniL2Method", batch_size=len(x), verbose=False, **options), view, x, y, threat
    )


def square(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    queries: int = 1000,
    p: float = 0.8,
) -> Tensor:
    options = {
        "eps": max(threat.radii),
        "norm": NORMS[threat.norm],
        "max_iter": queries,
        "p_init": p,
        "batch_size": len(x),
        "verbose": False,
    }
    return through(simple("SquareAttack", **options), view, x, y, threat, needs_plane=True)


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
    options = {
        "max_iter": steps,
        "max_eval": evaluations,
        "init_eval": initial,
        "norm": NORMS[threat.norm],
        "verbose": False,
    }
    return through(simple("HopSkipJump", batch_size=64, **options), view, x, y, threat)


def autoattack(
    view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams, *, step_size: float = 0.1
) -> Tensor:
    classes = min(view.class_counts[t] for t in threat.tasks)
    if classes < 3:
        raise RefusedError(
            f"its AutoAttack's DLR needs 3 classes; this task has {classes}: use --engine native"
        )
    options = {
        "eps": max(threat.radii),
        "eps_step": step_size * max(threat.radii),
        "norm": NORMS[threat.norm],
        "batch_size": len(x),
    }
    return through(simple("AutoAttack", **options), view, x, y, threat, needs_plane=True)


LIBRARY = Library(
    name="art",
    package="adversarial-robustness-toolbox",
    purpose="checks the native attacks; the input transforms and HopSkipJump are computed by it",
    attacks={f.__name__: f for f in (fgsm, bim, pgd, cw, square, hopskipjump, autoattack)},
    norms={"bim": ("Linf",), "cw": ("L2",)},
    judges_iterates=("cw", "square", "hopskipjump", "autoattack"),
)
