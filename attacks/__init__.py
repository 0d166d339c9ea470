"""Adversarial attacks on victims of several modalities and tasks: pure functions of a flat view,
one paper a file.

Nothing here knows of models, data sets or the harness. An attack is a function
`(view, x, y, threat, streams, *, parameters) -> x_adv`: x (B, D) in [0, 1], y (B, T) with -1 for a
missing label.
"""

from robustbench_med.attacks import accelerated, engines
from robustbench_med.attacks.accelerated import Accelerated
from robustbench_med.attacks.corruptions import CORRUPTIONS, KINDS, SEVERITIES
from robustbench_med.attacks.entry import Attack
from robustbench_med.attacks.fgsm import Ray
from robustbench_med.attacks.losses import LOSSES
from robustbench_med.attacks.minimal import Minimal, scaled_size
from robustbench_med.attacks.queries import Queries
from robustbench_med.attacks.registry import (
    APART,
    ATTACKS,
    ENGINES,
    OWN_THREATS,
    asks,
    attack_code,
    black_box,
    complete,
    describe,
    described_apart,
    entry_of,
    parameters,
    radius_free,
    ran,
    revision,
    under,
    untargeted,
)
from robustbench_med.attacks.streams import (
    SCHEME,
    Draws,
    Streams,
    derive_seed,
    seeded,
)
from robustbench_med.attacks.threat import Columns, Threat
from robustbench_med.attacks.view import PassCount, RefusedError, View, gives

__all__ = [
    "APART",
    "ATTACKS",
    "CORRUPTIONS",
    "ENGINES",
    "KINDS",
    "LOSSES",
    "OWN_THREATS",
    "SCHEME",
    "SEVERITIES",
    "Accelerated",
    "Attack",
    "Columns",
    "Draws",
    "Minimal",
    "PassCount",
    "Queries",
    "Ray",
    "RefusedError",
    "Streams",
    "Threat",
    "View",
    "accelerated",
    "asks",
    "attack_code",
    "black_box",
    "complete",
    "derive_seed",
    "describe",
    "described_apart",
    "engines",
    "entry_of",
    "gives",
    "parameters",
    "radius_free",
    "ran",
    "revision",
    "scaled_size",
    "seeded",
    "under",
    "untargeted",
]
