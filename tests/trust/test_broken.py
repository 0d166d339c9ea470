"""The panel of broken and honest victims on real images: each classifies, and each broken one falls
to an attack that knows its defect where PGD on the victim leaves much. `benchmarks/trust.py` runs
all of them under everything.
"""

from pathlib import Path

import pytest
import torch
from support.broken.catalogue import BROKEN, HONEST, VICTIMS, clean_accuracy, threat_of
from support.broken.training import pairing
from support.broken.victims import Broken
from support.files import SHARED_DATA, needs_real_data
from torch import Tensor

from robustbench_med import evaluate
from robustbench_med.attacks import Streams, View, complete, entry_of
from robustbench_med.data import Dataset, Samples

pytestmark = pytest.mark.challenged

N = 16
CAUSES = range(1, 10)
IN_ATTACKS = {7}
"""The cause that lies in the attack and not in the victim."""
MASKED = (
    "ShuffledGradient",
    "RoundedHead",
    "LogitNoise",
    "NotFinite",
    "BlendedGradient",
    "CentredLogits",
    "HiddenSoftmax",
    "HashedSign",
    "Remembering",
    "Rippled",
)
"""Of every cause one, and some of none, whose networks are few and trained in seconds."""


def plain_pgd(name: str, data: Dataset, samples: Samples) -> float:
    """Robust accuracy under ten steps of PGD along the victim's own gradients, one draw each."""
    victim = VICTIMS[name].load(data)
    images = samples.batch(range(len(samples)))
    view = View(victim, [m.shape[1:] for m in images])
    x, threat = view.pack(images), threat_of(data)
    streams = Streams.seeded(0, samples.ids, "pgd")
    attack = entry_of("pgd").function
    moved = attack(view, x, samples.labels, threat, streams, **complete("pgd", {}))
    return float(view.standing(moved, samples.labels, threat).mean())


def test_every_cause_has_two_victims_and_the_others_are_many() -> None:
    for row in set(CAUSES) - IN_ATTACKS:
        assert sum(each.row == row for each in BROKEN.values()) >= 2, row
    assert sum(each.row == 0 for each in BROKEN.values()) >= 6
    assert len(HONEST) == 8


@pytest.fixture(scope="module")
def breast_and_chest() -> Dataset:
    return pairing("breastmnist+pneumoniamnist", SHARED_DATA)


@pytest.fixture
def trained_here(shared_victims: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that one test of the session trained serve the others."""
    monkeypatch.setenv("MEDROBUST_HOME", str(shared_victims))


@needs_real_data
@pytest.mark.slow
@pytest.mark.usefixtures("trained_here")
@pytest.mark.parametrize("name", MASKED)
def test_a_broken_victim_falls_to_the_attack_that_knows_it(
    name: str, breast_and_chest: Dataset
) -> None:
    listed = VICTIMS[name]
    samples = breast_and_chest.splits["test"].head(N)
    for accuracy, classes in zip(
        clean_accuracy(listed.load(breast_and_chest), breast_and_chest.splits["test"].head(64)),
        breast_and_chest.class_counts,
        strict=True,
    ):
        assert accuracy > 1 / classes + 0.15
    truth = listed.truth(breast_and_chest, samples)
    assert truth <= plain_pgd(name, breast_and_chest, samples) - 0.1


@needs_real_data
@pytest.mark.slow
@pytest.mark.usefixtures("trained_here")
def test_the_defect_is_in_the_gradient_and_not_in_the_prediction(breast_and_chest: Dataset) -> None:
    x = breast_and_chest.splits["test"].batch(range(8))
    for name in ("WrongStraightThrough", "ShuffledGradient", "NotFinite", "NegatedModality"):
        victim = VICTIMS[name].load(breast_and_chest)
        assert isinstance(victim, Broken)
        for ours, beneath in zip(victim(*x), victim.beneath(*x), strict=True):
            assert torch.allclose(ours, beneath, atol=1e-5), name
        assert not torch.allclose(slope(victim, x), slope(victim.beneath, x), equal_nan=False), name


def slope(victim: torch.nn.Module, x: list[Tensor]) -> Tensor:
    """The gradient of the first class's logit of every task, at images between grey levels."""
    leaves = [(m + 0.3 / 255).clamp(0, 1).requires_grad_() for m in x]
    gradients = torch.autograd.grad(sum(z[:, 0].sum() for z in victim(*leaves)), leaves)
    return torch.cat([g.flatten() for g in gradients])


@needs_real_data
@pytest.mark.slow
@pytest.mark.usefixtures("trained_here")
def test_the_product_takes_a_victim_of_the_panel_as_a_users_own(
    tmp_path: Path, breast_and_chest: Dataset
) -> None:
    listed = VICTIMS["NegatedModality"]
    found = evaluate(
        listed.model,
        "pgd",
        data=listed.data,
        data_root=SHARED_DATA,
        accept_unverified=True,
        size=28,
        checkpoint=listed.checkpoint(breast_and_chest, tmp_path / "weights"),
        limit=N,
        eps="8/255",
        control=False,
        out=tmp_path / "out",
        quiet=True,
    )
    (record,) = found.records
    samples = breast_and_chest.splits["test"].head(N)
    assert record.figures.robust > listed.truth(breast_and_chest, samples) + 0.1
