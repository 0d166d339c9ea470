"""What is true of an attack stands in its entry, and a function of the user's has the defaults."""

import pytest
import torch

from robustbench_med.attacks import ATTACKS, ENGINES, Attack, complete, entry_of, radius_free
from robustbench_med.attacks import untargeted as cannot_aim
from robustbench_med.attacks.pgd import RANDOM
from robustbench_med.naming import NORMS

TWO, THREE = ("Linf", "L2"), ("Linf", "L2", "L1")
FACTS = {  # of those that differ from the defaults
    "noise": {"targeted": False},
    "fgsm": {"norms": TWO, "ray": "fgsm_ray"},
    "bim": {"norms": TWO},
    "mim": {"norms": TWO},
    "square": {"norms": THREE},
    "sparse-rs": {"norms": ("L0",)},
    "pgd": {"random": RANDOM, "escalates": "quick"},
    "apgd": {"norms": THREE, "escalates": "quick"},
    "apgd-t": {"norms": THREE, "targeted": False, "only_loss": "dlr-targeted"},
    "malt": {"norms": THREE, "targeted": False, "only_loss": "dlr-targeted"},
    "cw": {"norms": TWO, "minimal": "cw_minimal", "radius_free": ("L2",)},
    "ddn": {
        "minimal": "ddn_minimal",
        "norms": ("L2",),
        "radius_free": ("L2",),
        "only_loss": "ce",
    },
    "fmn": {"minimal": "fmn_minimal", "radius_free": ("Linf", "L2", "L1", "L0")},
    "ead": {"minimal": "ead_minimal", "norms": ("L1",), "radius_free": ("L1",)},
    "sigma-zero": {"minimal": "sigma_zero_minimal", "norms": ("L0",), "radius_free": ("L0",)},
    "fab": {"norms": THREE, "minimal": "fab_minimal", "radius_free": THREE},
    "autoattack": {"norms": THREE, "targeted": False, "ensemble": "ensemble"},
    "adaptive": {"targeted": False, "escalates": "auto"},
    "hopskipjump": {"norms": TWO, "minimal": "hopskipjump_minimal"},
    "boundary": {
        "norms": ("L2",),
        "minimal": "boundary_minimal",
        "radius_free": ("L2",),
    },
}


def mine(view, x, y, threat, streams, *, steps: int = 3, loss: str = "ce", version: str = "first"):
    """The point itself."""
    return x


def test_the_entries_say_what_the_tables_said() -> None:
    for name in ATTACKS:
        entry, default = entry_of(name), Attack(name=name, function=ATTACKS[name])
        assert entry.name == name
        facts = {}
        for fact in (
            "targeted",
            "norms",
            "ray",
            "minimal",
            "radius_free",
            "norms",
            "only_loss",
            "ensemble",
            "random",
            "escalates",
        ):
            value = getattr(entry, fact)
            if value != getattr(default, fact):
                facts[fact] = getattr(value, "__name__", value)
        assert facts == FACTS.get(name, {}), name
    free = {(name, norm) for name in ATTACKS for norm in NORMS if radius_free(name, norm)}
    searches = {(name, norm) for name in ("fgsm", "fab", "hopskipjump") for norm in TWO}
    searches |= {("fmn", norm) for norm in NORMS} | {("fab", "L1")}
    one = {("boundary", "L2"), ("cw", "L2"), ("ddn", "L2"), ("ead", "L1"), ("sigma-zero", "L0")}
    assert free == searches | one
    names = {name for table in ENGINES.values() for name in table}
    assert {name for name in names if cannot_aim(name)} == {
        "noise",
        "apgd-t",
        "malt",
        "autoattack",
        "adaptive",
    }


def test_a_bare_function_in_the_dictionary_has_the_default_entry(monkeypatch) -> None:
    monkeypatch.setitem(ATTACKS, "mine", mine)
    assert entry_of("mine") == Attack(name="mine", function=mine)
    assert complete("mine", {"steps": 5, "version": "second"}) == {
        "steps": 5,
        "loss": "ce",
        "version": "second",
    }
    for wrong in ({"steps": 0}, {"loss": "unknown"}, {"speed": 1}):
        with pytest.raises(ValueError, match=f"attack 'mine'.*{next(iter(wrong))}"):
            complete("mine", wrong)
    assert not cannot_aim("mine")
    assert not radius_free("mine", "Linf")


def test_what_replaces_an_attack_does_not_inherit_its_entry(monkeypatch) -> None:
    """Else a run would compute the smallest perturbation of the attack that was replaced."""
    monkeypatch.setitem(ATTACKS, "fab", mine)
    assert entry_of("fab").before_radius is None
    assert entry_of("fab").function is mine


def test_a_loss_of_the_users_is_a_choice_at_once(monkeypatch) -> None:
    from robustbench_med.attacks import LOSSES

    with pytest.raises(ValueError, match="loss must be one of ce, margin, dlr, pma, got 'flat'"):
        complete("pgd", {"loss": "flat"})
    monkeypatch.setitem(LOSSES, "flat", lambda z, y: torch.zeros(len(z)))
    assert complete("pgd", {"loss": "flat"})["loss"] == "flat"
