"""Missing modalities: what stands in their place, and figures that scikit-learn agrees with."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from support.cli import medrobust
from support.evaluations import CPU, SMALL_PAIRED, samples_of, setting
from support.victims import TwoHeads

from robustbench_med import compare, evaluate
from robustbench_med.errors import UserError
from robustbench_med.evaluation import absence
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.store.absence import ABSENCES
from robustbench_med.store.store import Store

N = 40


def samples(missing: int = 8):
    """40 samples for `TwoHeads`, some of which miss the second modality."""
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 256, (N, *shape), dtype=np.uint8) for shape in TwoHeads.shapes]
    images[1][:missing] = 0
    labels = np.stack([rng.integers(0, n, N) for n in TwoHeads.class_counts], 1)
    return samples_of(*images, labels=labels)


def test_a_modality_becomes_zero_the_mean_of_those_who_have_it_or_that_of_somebody_else() -> None:
    given = samples()
    x = given.batch(np.arange(N))
    zero, mean, other = (absence.replaced(given, 1, by, 0) for by in absence.REPLACEMENTS)
    for one in (zero, mean, other):
        assert torch.equal(one.batch(np.arange(N))[0], x[0])
        assert torch.equal(one.batch([3, 30])[1], one.batch(np.arange(N))[1][[3, 30]])
    assert not zero.batch(np.arange(N))[1].any()
    assert torch.allclose(mean.batch([5])[1][0], x[1][8:].mean(0), atol=1e-6)
    replaced = other.batch(np.arange(N))[1]
    rows = [int((x[1] == one).flatten(1).all(1).nonzero()[0]) for one in replaced]
    assert min(rows) >= 8  # nobody gets an image that is missing
    assert all(row != i for i, row in enumerate(rows))
    assert max(np.bincount(rows)) <= 3  # nobody's stands for all
    again = absence.replaced(given, 1, "another patient", 0).batch(np.arange(N))[1]
    assert torch.equal(replaced, again)
    assert not torch.equal(
        replaced, absence.replaced(given, 1, "another patient", 1).batch(np.arange(N))[1]
    )


def test_the_donor_is_another_patient() -> None:
    given = samples(0)
    component = given.components[0]
    patients = tuple(f"p{i // 10}" for i in range(N))
    object.__setattr__(component, "groups", patients)
    donors = absence.donors_of(given, 0, 0)
    assert all(patients[donor] != patients[i] for i, donor in enumerate(donors))
    object.__setattr__(component, "groups", ("one",) * N)
    vars(given).pop("label_groups")
    assert np.array_equal(absence.donors_of(given, 0, 0), np.arange(N))  # there is nobody else


@pytest.mark.parametrize("seed", range(12))
def test_the_donor_is_the_next_of_another_patient_on_the_circle(seed: int) -> None:
    rng, given = np.random.default_rng(seed), samples()
    patients = np.sort(rng.integers(0, 1 + seed // 2, N)).astype(str)
    object.__setattr__(given.components[0], "groups", tuple(patients))
    order = np.random.default_rng([seed, 0]).permutation(N)
    there = np.concatenate([has.numpy() for _, has in absence.parts_of(given, 0)])
    able = order[there[order]]
    for place, row in enumerate(order):
        others = [able[(place + 1 + j) % len(able)] for j in range(len(able))]
        first = next((each for each in others if patients[each] != patients[row]), row)
        assert absence.donors_of(given, 0, seed)[row] == first


def test_the_figures_are_those_of_scikit_learn_on_the_same_probabilities() -> None:
    given, victim = samples(), TwoHeads().eval()
    without = absence.replaced(given, 1, "mean", 0)
    clean = clean_pass(victim, without, setting(), lambda n: None, stochastic=False)
    with torch.no_grad():
        logits = victim(*without.batch(np.arange(N)))
    for t, row in enumerate(absence.figures(given, clean, ("a", "b"))):
        y, p = given.labels[:, t].numpy(), logits[t].softmax(1).to(CPU).numpy()
        assert row["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(1)))
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, p.argmax(1)))
        scores = p[:, 1] if p.shape[1] == 2 else p
        assert row["auc"] == pytest.approx(roc_auc_score(y, scores, multi_class="ovr"), abs=1e-6)


def test_a_run_writes_one_table_keeps_it_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**SMALL_PAIRED, "attack": "missing", "out": tmp_path, "quiet": True}
    done = evaluate(**given)
    assert [record.spec.attack.name for record in done.records] == ["noise"]
    (kept,) = Store(tmp_path, ABSENCES).records()
    assert len(kept.rows) == 2 * (1 + 3 * 3)
    assert kept.rows[0].accuracy == done.records[0].figures.tasks[0].clean
    monkeypatch.setattr(absence, "replaced", None)
    evaluate(**given)
    with pytest.raises(TypeError):
        evaluate(**given, seed=1)  # other patients, another hash


def test_the_table_and_the_terminal_say_what_each_modality_is_worth(tmp_path: Path) -> None:
    arguments = "run --data phantoms-paired --model late --model-param width=4 --recipe steps=10"
    arguments += f" --size 16 --limit 12 --attack missing --out {tmp_path}"
    said = medrobust(*arguments.split()).stdout
    assert "another patient's" in said
    assert "all there" in said
    table = pd.read_csv(tmp_path / "missing.csv")
    assert set(table.modality) == {"all there", "mri", "xray", "clinic"}
    assert np.allclose(table.change[table.modality == "all there"], 0)


def test_a_comparison_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="attacks within a ball"):
        compare("late", ["none", "jpeg"], attack="missing", out=tmp_path, quiet=True)
