"""The revisions in records: their keys are part of every hash, so that no move of code may change
them.
"""

import pytest

from robustbench_med.attacks import ENGINES, revision
from robustbench_med.models import registry
from robustbench_med.training import defenses
from robustbench_med.training.spec import Layer

RAISED = {"apgd": 2, "cw": 2, "hopskipjump": 2, "randomness": 3, "square": 2}
"""Revisions that are no longer the first."""
OF_ATTACKS = {
    "native": {
        "adaptive": "adaptive apgd fab losses minimal pgd square view",
        "apgd": "apgd losses pgd view",
        "apgd-t": "apgd losses pgd view",
        "autoattack": "apgd autoattack fab losses minimal pgd square view",
        "bim": "bim losses pgd view",
        "boundary": "boundary hopskipjump losses minimal view",
        "cw": "cw losses minimal view",
        "ddn": "ddn losses minimal view",
        "ead": "cw ead losses minimal view",
        "fab": "fab losses minimal view",
        "fmn": "fmn losses minimal view",
        "fgsm": "fgsm losses view",
        "hopskipjump": "hopskipjump losses minimal view",
        "malt": "apgd losses malt minimal pgd view",
        "mim": "losses mim pgd view",
        "noise": "losses noise view",
        "pgd": "losses pgd view",
        "sigma-zero": "losses minimal view",
        "sparse-rs": "losses square view",
        "square": "losses square view",
        "transfer": "losses pgd transfer view",
    },
    "torchattacks": {
        "apgd": "losses one_tensor torchattacks view",
        "autoattack": "losses one_tensor torchattacks view",
        "bim": "losses one_tensor torchattacks view",
        "cw": "losses one_tensor torchattacks view",
        "eotpgd": "losses one_tensor torchattacks view",
        "fab": "losses one_tensor torchattacks view",
        "fgsm": "losses one_tensor torchattacks view",
        "mim": "losses one_tensor torchattacks view",
        "pgd": "losses one_tensor torchattacks view",
        "square": "losses one_tensor torchattacks view",
    },
    "art": {
        "autoattack": "art losses one_tensor view",
        "bim": "art losses one_tensor view",
        "cw": "art losses one_tensor view",
        "fgsm": "art losses one_tensor view",
        "hopskipjump": "art losses one_tensor view",
        "pgd": "art losses one_tensor view",
        "square": "art losses one_tensor view",
    },
    "foolbox": dict.fromkeys(
        ("boundary", "cw", "ddn", "ead", "fgsm", "fmn", "hopskipjump", "pgd"),
        "foolbox losses one_tensor view",
    ),
}
OF_MODELS = {
    "cross-attention": "encoders fusion mail",
    "drifa-net": "drifa_net mail",
    "early": "encoders fusion mail",
    "gmu": "encoders fusion mail",
    "late": "encoders fusion mail",
    "lmf": "encoders fusion mail",
    "mail": "mail",
    "mail+man": "mail robust_mail",
    "mail+rpf": "mail robust_mail",
    "mmtm": "encoders fusion mail",
    "robust-mail": "mail robust_mail",
    "robust-mail-release": "mail robust_mail",
    "unimodal": "encoders fusion mail",
}
"""Of each model."""
OF_DEFENSES = {
    "awp": "losses objectives pgd view",
    "bit-depth": "transforms",
    "fast-at": "losses objectives pgd randomness view",
    "free-at": "losses objectives pgd randomness view",
    "input-noise": "randomised robust_mail",
    "jpeg": "transforms",
    "man": "randomised robust_mail",
    "mart": "losses objectives pgd randomness view",
    "median": "transforms",
    "pgd-at": "losses objectives pgd randomness view",
    "pni": "randomised robust_mail",
    "resize-pad": "randomised robust_mail",
    "rpf": "randomised robust_mail",
    "smoothing": "losses objectives pgd randomised robust_mail view",
    "total-variation": "transforms",
    "trades": "losses objectives pgd randomness view",
}
"""Of each defence on late fusion, besides those of the model."""


@pytest.mark.parametrize("engine", OF_ATTACKS)
def test_an_attack_has_the_revisions_that_records_hold(engine: str) -> None:
    now = {name: revision(name, engine) for name in ENGINES[engine]}
    assert now == {name: revised(stems) for name, stems in OF_ATTACKS[engine].items()}


def test_a_model_has_the_revisions_that_records_hold() -> None:
    now = {name: registry.revisions(name) for name in registry.MODELS}
    assert now == {name: revised(stems) for name, stems in OF_MODELS.items()}


def test_a_defence_has_the_revisions_that_records_hold() -> None:
    now = {
        name: defenses.revisions("late", [Layer(name=name, params={})])
        for name in defenses.names()
        if name not in ("none", "robust-mail")
    }
    expected = {name: f"{OF_MODELS['late']} {stems}" for name, stems in OF_DEFENSES.items()}
    assert now == {name: revised(stems) for name, stems in expected.items()}


def revised(stems: str) -> dict[str, int]:
    return {stem: RAISED.get(stem, 1) for stem in stems.split()}
