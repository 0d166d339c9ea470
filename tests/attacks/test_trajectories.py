"""An attack's results change only with its revision: trajectories against those that were made
under the same revisions.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import trajectories

from robustbench_med import attacks
from robustbench_med.attacks import ATTACKS, CORRUPTIONS, ENGINES, OWN_THREATS
from robustbench_med.naming import CORRUPTION, OWN_THREAT
from robustbench_med.provenance.shipped import revised

REMAKE = (
    "if results may change, raise REVISION in the attack's file; then `PYTHONPATH=tests python -m"
    " support.trajectories` remakes the golden trajectories"
)


DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


def compared(called: str, *, random: bool, device: str = "cpu") -> None:
    name, threat, given = trajectories.cases(random=random)[called]
    golden, revisions = trajectories.kept(random=random)
    assert revisions[called] == trajectories.revisions_of(name), (
        f"{called}: a revision was raised: `PYTHONPATH=tests python -m support.trajectories`"
        " remakes them"
    )
    found = trajectories.trajectory(name, threat, given, random=random, device=device)
    assert np.allclose(found, golden[called], atol=trajectories.ATOL, rtol=0), (
        f"{called} is no longer what it was: {REMAKE}"
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("called", trajectories.cases(random=False))
def test_results_change_only_with_the_revision_and_are_those_of_every_device(
    called: str, device: str
) -> None:
    compared(called, random=False, device=device)


@pytest.mark.parametrize("called", trajectories.cases(random=True))
def test_results_on_a_random_victim_change_only_with_a_revision_or_the_scheme_of_random_numbers(
    called: str,
) -> None:
    compared(called, random=True)


def test_every_trajectory_moves_and_every_attack_has_some() -> None:
    x, _ = trajectories.inputs()
    golden, _ = trajectories.kept(random=False)
    assert {name.partition("/")[0] for name in golden} >= {*ATTACKS, *OWN_THREATS}
    assert set(golden) == set(trajectories.cases(random=False))
    for called, moved in golden.items():
        assert np.abs(moved - x.numpy()).max() > 0.01, called


def test_a_changed_attack_under_its_old_revision_fails_and_cannot_be_remade(monkeypatch) -> None:
    """The guard itself: a step 1 % too long is found, by the test and by the script."""
    module = sys.modules["robustbench_med.attacks.pgd"]
    ascend = module.ascend
    monkeypatch.setattr(
        module,
        "ascend",
        lambda *args, step_size, **rest: ascend(*args, step_size=1.01 * step_size, **rest),
    )
    with pytest.raises(AssertionError, match="raise REVISION"):
        compared("pgd/linf", random=False)
    monkeypatch.setattr(
        trajectories,
        "cases",
        lambda *, random: {"pgd/linf": ("pgd", trajectories.CASES["linf"], {})},
    )
    with pytest.raises(SystemExit, match="pgd/linf: results changed under the same revision"):
        trajectories.remake(random=False)


ROOT = Path(attacks.__file__).parent
SPOKEN_FOR = {
    "apgd_l1": "apgd",
    "balls": "view",
    "queries": "view",
    "random_search": "square",
    "sigma_zero": "minimal",
    "space": "view",
    "sparse_rs": "square",
    "tables": "view",
}
"""Files without a `REVISION` of their own, and the file whose it is."""
MINIMAL = {name for name in ATTACKS if attacks.entry_of(name).minimal is not None}
FILES = sorted(
    path.stem
    for path in (*ROOT.glob("*.py"), *(ROOT / "engines").glob("*.py"))
    if path.stem not in ("__init__", "budget", "entry", "library", "registry", "streams", "threat")
    if path.stem not in (*SPOKEN_FOR, "asking", "accelerated")
)  # budgets, entries, the registry and the threat model compute nothing; streams: SCHEME; asking is
# in the identity of black boxes alone (tests/models/test_adaptive_boxes.py), accelerated in that of
# cells that ask for it (tests/runs/test_identity.py)


@pytest.mark.parametrize("stem", FILES)
def test_every_file_of_the_attacks_has_a_revision_that_reaches_the_attacks_made_of_it(
    stem: str, monkeypatch
) -> None:
    package = (
        "robustbench_med.attacks.engines"
        if stem in ("art", "foolbox", "torchattacks", "one_tensor")
        else "robustbench_med.attacks"
    )
    module = sys.modules[f"{package}.{stem}"]
    tables = {**ENGINES, CORRUPTION: CORRUPTIONS, OWN_THREAT: OWN_THREATS}
    before = {
        (engine, name): attacks.revision(name, engine)
        for engine, table in tables.items()
        for name in table
    }
    monkeypatch.setattr(module, "REVISION", module.REVISION + 1)
    after = {
        (engine, name): attacks.revision(name, engine)
        for engine, table in tables.items()
        for name in table
    }
    raised = {key for key in before if before[key] != after[key]}
    assert raised, stem
    native = {name for engine, name in raised if engine == "native"}
    made_of = {
        "pgd": {
            "pgd",
            "bim",
            "mim",
            "apgd",
            "apgd-t",
            "malt",
            "autoattack",
            "adaptive",
            "transfer",
        },
        "apgd": {"apgd", "apgd-t", "malt", "autoattack", "adaptive"},
        "fgsm": {"fgsm"},
        "square": {"square", "sparse-rs", "autoattack", "adaptive"},
        "cw": {"cw", "ead"},
        "hopskipjump": {"hopskipjump", "boundary"},
        "minimal": MINIMAL | {"malt", "autoattack", "adaptive"},
        "view": set(ATTACKS),
        "losses": set(ATTACKS),
        "art": set(),
    }
    if stem in made_of:
        assert native == made_of[stem]
    if stem in ENGINES:
        assert {name for engine, name in raised if engine == stem} == set(ENGINES[stem])


@pytest.mark.parametrize(("stem", "speaker"), SPOKEN_FOR.items())
def test_a_file_without_a_revision_is_spoken_for(stem: str, speaker: str) -> None:
    package = "robustbench_med.attacks."
    assert list(revised({package + stem})) == sorted({speaker, *revised({package + speaker})})
    assert speaker in revised({package + stem})
