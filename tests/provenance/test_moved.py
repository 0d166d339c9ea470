"""Code of the user's that builds on a part of medrobust keeps its hash when the part moves: these
were made when the objectives were one file, and the threat model lay in the view.
"""

import sys
from pathlib import Path

import pytest

from robustbench_med import objectives
from robustbench_med.attacks.threat import Threat
from robustbench_med.provenance import source_files
from robustbench_med.provenance.code import code_of, revisions
from robustbench_med.provenance.shipped import first_name

MINE = '''\
from dataclasses import dataclass, replace

import torch

from robustbench_med.attacks import RefusedError, Streams, Threat, View, complete
from robustbench_med.attacks.pgd import Contest, pgd
from robustbench_med.objectives import PGDAT, Trades
from robustbench_med.models.defenses.randomised import InputNoise


def attack(view, x, y, threat, streams, *, steps: int = 3):
    if threat.targeted:
        raise RefusedError("no")
    inner = Threat(threat.norm, threat.radii, threat.tasks)
    complete("pgd", {})
    return pgd(view, x, y, inner, streams, steps=steps)


@dataclass
class Mine(PGDAT):
    """PGD-AT."""

    weight: float = 2.0

    def loss(self, victim, x, perturbed, y):
        return self.weight * super().loss(victim, x, perturbed, y)


@dataclass
class Softer(Trades):
    """TRADES."""

    beta: float = 3.0


class Blur(InputNoise):
    """Noise."""
'''
HASHES = {
    "attack": "dba7078545c215baeb57fa6a25eba41ff93e618f2f9c9a65a796f108cf534a1a",
    "Mine": "8fa6c6d1a9c539869609317066264d34f9578076421d7492091cf48202ccc0e9",
    "Softer": "2875e1db5687f6a2e4b74d77227262b1af14d7e295d8f96063464b772f00f2ed",
    "Blur": "755e77cffed16a6b5f7f8f4cd9747e2bf2c23092b4f5b8cdcf0b183bdbb914ab",
}


@pytest.mark.parametrize("name", HASHES)
def test_code_that_builds_on_what_moved_has_the_hash_and_revisions_of_before(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    files = source_files.imported(path.resolve())
    mine = getattr(source_files.run(path, files, f"medrobust_test_moved_{name}"), name)
    assert code_of(mine, name) == HASHES[name]
    stems = "losses mail objectives pgd randomised robust_mail view"
    assert revisions(mine, name) == dict.fromkeys(stems.split(), 1)


def test_every_documented_base_class_is_hashed_under_its_documented_module() -> None:
    for name in objectives.__all__:
        thing = getattr(objectives, name)
        if isinstance(thing, type):
            assert first_name(thing.__module__) == "robustbench_med.objectives", name
    assert first_name(Threat.__module__) == "robustbench_med.attacks.view"


def test_the_revision_of_a_package_speaks_for_every_file_of_it(monkeypatch) -> None:
    package = sys.modules["robustbench_med.training.objectives"]
    monkeypatch.setattr(package, "REVISION", 2)
    for thing in (package.Trades, package.AWP, package.GaussianAugmentation, package.Standard):
        expected = {"losses": 1, "objectives": 2, "pgd": 1, "view": 1}
        assert revisions(thing, thing.__name__) == expected
