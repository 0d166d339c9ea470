"""torchattacks (Kim, arXiv 2010.01950) behind the view; parameters keep the names and units of the
native attacks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustbench_med.attacks.engines.library import Library
from robustbench_med.attacks.engines.one_tensor import OneTensor, Run, through
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 1


def load() -> Any:
    """The library, or a refusal that tells how to get it."""
    try:
        import torchattacks
    except ImportError as error:
        raise RefusedError(
            f"torchattacks cannot be imported ({error}): {LIBRARY.how_to_get}"
        ) from error
    return torchattacks


def simple(name: str, **options: Any) -> Run:
    """A run of one of its attacks, which are called with (images, labels)."""

    def run(model: OneTensor, image: Tensor, label: Tensor) -> Tensor:
        attack = getattr(load(), name)(model, **options)
        return attack(image, label)

    return run


def fgsm(view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams) -> Tensor:
    return through(simple("FGSM", eps=max(threat.radii)), view, x, y, threat)


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
    return through(
        simple("BIM", eps=max(threat.radii), alpha=step_size * max(threat.radii), steps=steps),
        view,
        x,
        y,
        threat,
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
    options = {
        "eps": max(threat.radii),
        "alpha": step_size * max(threat.radii),
        "steps": steps,
        "random_start": random_start,
    }
    return through(
        simple("PGD" if threat.norm == "Linf" else "PGDL2", **options), view, x, y, threat
    )


def eotpgd(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    step_size: float = 0.125,
    random_start: bool = True,
    eot: int = 4,
) -> Tensor:
    options = {
        "eps": max(threat.radii),
        "alpha": step_size * max(threat.radii),
        "steps": steps,
        "random_start": random_start,
        "eot_iter": eot,
    }
    return through(simple("EOTPGD", **options), view, x, y, threat)


def mim(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 20,
    step_size: float = 0.125,
    decay: float = 1.0,
) -> Tensor:
    return through(
        simple(
            "MIFGSM",
            eps=max(threat.radii),
            alpha=step_size * max(threat.radii),
            steps=steps,
            decay=decay,
        ),
        view,
        x,
        y,
        threat,
    )


def cw(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    lr: float = 0.01,
    c: float = 1.0,
) -> Tensor:
    return through(simple("CW", c=c, steps=steps, lr=lr), view, x, y, threat)


def apgd(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
    rho: float = 0.75,
) -> Tensor:
    if loss == "dlr" and min(view.class_counts[t] for t in threat.tasks) < 3:
        raise RefusedError("DLR needs 3 classes; this task has 2: use loss=ce or --engine native")
    options = {
        "eps": max(threat.radii),
        "norm": threat.norm,
        "steps": steps,
        "n_restarts": restarts,
        "loss": loss,
        "rho": rho,
        "seed": seed(),
    }
    return through(simple("APGD", **options), view, x, y, threat)


def fab(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    steps: int = 100,
    restarts: int = 1,
) -> Tensor:
    classes = view.class_counts[threat.tasks[0]]
    options = {
        "eps": max(threat.radii),
        "norm": threat.norm,
        "steps": steps,
        "n_restarts": restarts,
        "n_classes": classes,
        "seed": seed(),
    }
    return through(simple("FAB", multi_targeted=classes > 2, **options), view, x, y, threat)


def square(
    view: View,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    streams: Streams,
    *,
    queries: int = 1000,
    p: float = 0.8,
    loss: str = "margin",
) -> Tensor:
    options = {
        "eps": max(threat.radii),
        "norm": threat.norm,
        "n_queries": queries,
        "p_init": p,
        "loss": loss,
        "seed": seed(),
    }
    return through(simple("Square", **options), view, x, y, threat, needs_plane=True)


def autoattack(
    view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams, *, version: str = "standard"
) -> Tensor:
    classes = view.class_counts[threat.tasks[0]]
    if classes < 4:
        raise RefusedError(
            f"its AutoAttack's targeted DLR needs 4 classes; this task has {classes}: use --engine"
            " native"
        )
    options = {
        "eps": max(threat.radii),
        "norm": threat.norm,
        "version": version,
        "n_classes": classes,
        "seed": seed(),
    }
    return through(simple("AutoAttack", **options), view, x, y, threat, needs_plane=True)


def seed() -> int:
    """A seed drawn from the run's own random numbers: by itself the library would take the
    clock.
    """
    return int(torch.randint(2**31 - 1, ()))


LIBRARY = Library(
    name="torchattacks",
    package="torchattacks",
    purpose="checks the native attacks, and retraces what was published with it",
    pinned="3.5.1",
    why_alone=(
        "it demands requests 2.25, which has known vulnerabilities, and torchvision, but imports"
        " neither"
    ),
    attacks={
        f.__name__: f for f in (fgsm, bim, pgd, eotpgd, mim, cw, apgd, fab, square, autoattack)
    },
    norms={
        "fgsm": ("Linf",),
        "bim": ("Linf",),
        "mim": ("Linf",),
        "eotpgd": ("Linf",),
        "cw": ("L2",),
    },
    judges_iterates=("cw", "apgd", "fab", "square", "autoattack"),
    choices={
        "apgd": {"loss": ("ce", "dlr")},
        "square": {"loss": ("margin", "ce")},
        "autoattack": {"version": ("standard", "plus", "rand")},
    },
)
