"""Uniform noise in the ball: the control that every real attack must beat."""

from __future__ import annotations

from torch import Tensor

from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.streams import Streams
from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import View

REVISION = 1


def noise(view: View, x: Tensor, y: Tensor, threat: Threat, streams: Streams) -> Tensor:
    """One point drawn uniformly from the ball around each sample; looks at neither the victim nor
    the labels.
    """
    return view.random_point(x, threat, streams)


ENTRY = Attack(name="noise", function=noise, targeted=False, flips=True, chooses=True)
