"""Golden trajectories: what every native attack, a patch and a universal perturbation made of fixed
inputs, under the revisions that stand beside them.

`PYTHONPATH=tests python -m support.trajectories` remakes them; it refuses to where an attack's
results changed and no `REVISION` was raised. Those of the
random victim lie in a file of their own: they change with the scheme of random numbers too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_med.attacks import (
    ATTACKS,
    OWN_THREATS,
    SCHEME,
    Draws,
    Streams,
    Threat,
    View,
    complete,
    entry_of,
    parameters,
    revision,
)
from robustbench_med.naming import OWN_THREAT
from support.files import ROOT
from support.victims import TwoHeads

GOLDEN = ROOT / "tests" / "golden"
ATOL = 2e-5
"""What they are compared within: they are kept in float32, and other machines round the last bits
of float64 otherwise.
"""
SHORT = {"steps": 6, "queries": 40, "search": 3, "evaluations": 40, "initial": 10}
STRONG: dict[str, dict[str, object]] = {"ead": {"c": 10.0, "lr": 0.3}}
"""Parameters of attacks that move nothing in so few steps."""
CASES = {
    "linf": Threat("Linf", (0.1, 0.2), (0, 1)),
    "l2": Threat("L2", (0.3, 0.6), (0, 1)),
    "one-task": Threat("Linf", (0.0, 0.1), (1,)),
    "l1": Threat("L1", (1.5, 3.0), (0, 1)),
    "l0": Threat("L0", (3, 6), (0, 1)),
}
GIVEN: dict[str, dict[str, dict[str, object]]] = {
    "pgd": {"pgd-restarts": {"restarts": 3, "loss": "margin"}, "pgd-last": {"keep": "last"}},
    "apgd": {"apgd-dlr": {"loss": "dlr"}, "apgd-pma": {"loss": "pma"}},
    "autoattack": {"autoattack-few-class": {"version": "few-class"}},
    "patch": {"patch-random-place": {"place": "random"}},
}
"""Parameters besides the defaults, by attack and what the trajectory is called."""


class Shaken(TwoHeads):
    """`TwoHeads` behind pixel noise: a random victim."""

    stochastic = True

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return super().forward(a + 0.05 * torch.randn_like(a), b + 0.05 * torch.randn_like(b))


def inputs() -> tuple[Tensor, Tensor]:
    """Four samples (4, 172) with black and white pixels, float64, and the labels that `TwoHeads`
    gives them; one is not labelled.
    """
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(4, 172, generator=generator, dtype=torch.float64)
    x[:, :16], x[:, 160:] = 0, 1
    view = View(TwoHeads().double().eval(), TwoHeads.shapes)
    y = torch.stack([z.argmax(1) for z in view.logits(x)], 1)
    y[3, 0] = -1
    return x, y


def trajectory(
    name: str, threat: Threat, given: dict[str, object], *, random: bool, device: str = "cpu"
) -> NDArray[np.float32]:
    """What an attack makes of the inputs, (4, 172)."""
    x, y = (each.to(device) for each in inputs())
    kind = Shaken if random else TwoHeads
    view = View(kind().double().eval().to(device), TwoHeads.shapes, draws=4 if random else 1)
    known = parameters(name, engine_of(name))
    short = {key: value for key, value in SHORT.items() if key in known} | (
        {"eot": 2} if "eot" in known and random else {}
    )
    short |= STRONG.get(name, {})
    sources = (
        {"sources": [View(TwoHeads(seed=1).double().eval().to(device), TwoHeads.shapes)]}
        if name == "transfer"
        else {}
    )
    streams = Streams.seeded(0, [f"sample{i}" for i in range(4)], name)
    view.own = Draws("golden", name) if random else None
    wanted = complete(name, {**short, **given}, engine_of(name))
    function = entry_of(name, engine_of(name)).function
    moved = function(view, x, y, threat, streams, **wanted, **sources)
    return moved.cpu().numpy().astype(np.float32)


def cases(*, random: bool) -> dict[str, tuple[str, Threat, dict[str, object]]]:
    """Name of a trajectory -> attack, threat, parameters."""
    return {
        f"{called}/{case}": (name, CASES[case], given)
        for name in (*ATTACKS, *OWN_THREATS)
        for called, given in {name: {}, **({} if random else GIVEN.get(name, {}))}.items()
        for case in threats_of(name, random=random)
    }


def threats_of(name: str, *, random: bool) -> list[str]:
    """The threats under whose norm there is the attack; against a random victim fewer."""
    norms = entry_of(name, engine_of(name)).norms
    known = [case for case, threat in CASES.items() if threat.norm in norms]
    return [case for case in ("linf", "l1", "l0") if random and case in known] or known


def revisions_of(name: str) -> dict[str, int]:
    """What a trajectory was made under."""
    return revision(name, engine_of(name)) | {"scheme": SCHEME}


def engine_of(name: str) -> str:
    """Who computes an attack."""
    return OWN_THREAT if name in OWN_THREATS else "native"


def file(*, random: bool) -> Path:
    return GOLDEN / f"trajectories{'_random' if random else ''}.npz"


def kept(*, random: bool) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, int]]]:
    """The trajectories as they were made, and the revisions under which."""
    with np.load(file(random=random)) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "revisions"}, json.loads(
            str(arrays["revisions"])
        )


def remake(*, random: bool) -> None:
    """Makes a file of trajectories again."""
    wanted = cases(random=random)
    made = {
        called: trajectory(name, threat, given, random=random)
        for called, (name, threat, given) in wanted.items()
    }
    revisions = {called: revisions_of(name) for called, (name, _, _) in wanted.items()}
    if file(random=random).exists():
        old, under = kept(random=random)
        same = [called for called in made if called in old and under[called] == revisions[called]]
        if changed := [
            called
            for called in same
            if not np.allclose(made[called], old[called], atol=ATOL, rtol=0)
        ]:
            raise SystemExit(
                f"{', '.join(changed)}: results changed under the same revision; raise REVISION in"
                " the attack's file first"
            )
        made |= {called: old[called] for called in same}  # not the last bits of another machine
    np.savez_compressed(file(random=random), revisions=json.dumps(revisions), **made)  # type: ignore[arg-type]


if __name__ == "__main__":
    for random in (False, True):
        remake(random=random)
