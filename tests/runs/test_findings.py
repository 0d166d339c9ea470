"""Multi-label sets from end to end: a miniature in ChestMNIST's layout, the attacker's choice of
findings, and the worst case of each and of the patients.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from support import records as made_of

from robustbench_med import evaluate, statistics
from robustbench_med.attacks import Threat
from robustbench_med.attacks.losses import easiest, named, standing
from robustbench_med.data import Files, load
from robustbench_med.data.splits import strata
from robustbench_med.errors import UserError
from robustbench_med.reports import findings
from robustbench_med.reports.families import variants
from robustbench_med.store.store import Store

T = 14


def chestmnist(folder: Path, **changes: np.ndarray) -> Path:
    """chestmnist.npz of a few images: each finding is a bright square of its own."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 64), ("val", 16), ("test", 16)):
        labels = (rng.random((n, T)) < 0.3).astype(np.uint8)
        images = rng.integers(60, 100, (n, 28, 28))
        for i, t in zip(*np.nonzero(labels), strict=True):
            row, column = divmod(int(t), 4)
            images[i, 7 * row : 7 * row + 6, 7 * column : 7 * column + 6] += 60
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(folder / "chestmnist.npz", **(arrays | changes))
    return folder


def test_fourteen_columns_are_fourteen_tasks_of_two_classes(tmp_path: Path) -> None:
    data = load("chestmnist", size=28, files=Files(chestmnist(tmp_path), accept_unverified=True))
    labels = np.load(tmp_path / "chestmnist.npz")["test_labels"]
    test = data.splits["test"]
    assert (data.tasks[0], data.tasks[-1], len(data.tasks)) == ("atelectasis", "hernia", T)
    assert set(data.classes) == {("absent", "present")}
    order = [int(name.rpartition("/")[2]) for name in test.ids]
    assert np.array_equal(test.labels.numpy(), labels[order])
    assert test.findings == [True] * T
    chestmnist(tmp_path, test_labels=labels[:, :1])
    with pytest.raises(UserError, match=r"test_labels must be 14 numbers an image, got"):
        load("chestmnist", size=28, files=Files(tmp_path, accept_unverified=True))


def test_a_split_spreads_the_rarest_finding_of_each_image() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, -1, 1], [0, 0, -1]])
    rare = strata(labels, multilabel=True)
    assert rare[0] != rare[1] != rare[2] != rare[3]
    assert len(strata(labels, multilabel=False)) == len(set(strata(labels, multilabel=False)))


def two_class(margins: list[float]) -> list[torch.Tensor]:
    """Logits of one sample, label 0, a task each: what class 1 is ahead by."""
    return [torch.tensor([[0.0, margin]]) for margin in margins]


def test_the_attacker_takes_the_findings_that_are_easiest_and_no_masked_one() -> None:
    logits, y = two_class([-3.0, -1.0, 2.0, -2.0]), torch.tensor([[0, 0, 0, -1]])
    any_, two = (Threat("Linf", (0.1,), (0, 1, 2, 3), least=least) for least in (1, 2))
    assert easiest(logits, y, any_, 1)[:, 0].tolist() == [False, False, True, False]
    assert easiest(logits, y, two, 2)[:, 0].tolist() == [False, True, True, False]
    assert easiest(logits, y, two, 4)[:, 0].tolist() == [True, True, True, False]
    assert standing(logits, y, any_).tolist() == [0.0]
    assert standing(logits, y, two).tolist() == [0.5]
    assert standing(logits, y, Threat("Linf", (0.1,), (0, 1, 2, 3))).item() == pytest.approx(2 / 3)
    assert named("margin", two)(logits, y).tolist() == [1.0]  # 2 - 1
    nobody = torch.full((1, 4), -1)
    assert standing(logits, nobody, any_).tolist() == [0.0]
    assert named("ce", any_)(logits, nobody).tolist() == [0.0]


def test_a_rare_finding_is_trivial_by_its_auc_and_not_by_its_share() -> None:
    labels = np.zeros(400, np.int64)
    labels[:12] = 1
    ranked = np.linspace(0.4, 0.01, 400)  # never predicted, always in the right order
    good = np.stack([1 - ranked, ranked], 1)
    assert statistics.trivial_finding(good, labels) is None
    shuffled = good[np.random.default_rng(0).permutation(400)]
    assert "is not above 0.5" in str(statistics.trivial_finding(shuffled, labels))
    assert statistics.finding_cannot_tell(good, labels) is None
    assert "one class does not occur" in str(statistics.finding_cannot_tell(good, labels * 0))


def measured(out: Path, root: Path, **given: Any) -> Any:
    small = {"model_params": {"width": 4}, "recipe": {"steps": 40}, "size": 28, "limit": 12}
    small |= {"attack_params": {"steps": 6}, "eps": "8/255", "control": False, "quiet": True}
    return evaluate(
        "late", data="chestmnist", data_root=root, accept_unverified=True, out=out, **small | given
    )


def test_the_worst_case_of_each_finding_and_of_the_patients(tmp_path: Path) -> None:
    out, root = tmp_path / "out", chestmnist(tmp_path)
    records = [
        *measured(out, root, challenge=False).records,
        *measured(out, root, target_task="any").records,
        *measured(out, root, target_task="k=3").records,
        *measured(out, root, target_task="hernia", challenge=False).records,
    ]
    assert [record.target for record in records] == ["joint", "any", "k=3", "hernia"]
    assert len({record.hash for record in records}) == 4
    assert [record.spec.threat.least for record in records] == [None, 1, 3, None]
    store, flips = Store(out), []
    for record in records:
        arrays = store.arrays(record)
        right = arrays["clean_vote"] == arrays["labels"]
        flips.append(right & (arrays["robust_vote"] != arrays["labels"]))
        for t, figures in enumerate(record.figures.tasks):
            y, scores = arrays["labels"][:, t], arrays[f"robust_probabilities_{t}"][:, 1]
            if 0 < y.sum() < len(y):
                assert figures.auc == pytest.approx(roc_auc_score(y, scores))
    for record, flipped in list(zip(records, flips, strict=True))[:3]:
        share = (flipped.sum(1) < (record.spec.threat.least or 1)).mean()
        assert record.figures.unflipped is not None
        assert record.figures.unflipped.share == pytest.approx(share)
    assert flips[1].sum() < flips[2].sum() < flips[0].sum()  # he stops once he has what he wants
    table = findings.frame(records, store, variants(records))
    assert table.finding.tolist() == [*records[0].names.tasks, findings.NONE_FLIPPED]
    assert table.worst.iloc[-1] == pytest.approx(1 - np.any([f.any(1) for f in flips], 0).mean())
    for t, row in enumerate(table.iloc[:-1].itertuples()):
        areas = [a for r in records if (a := r.figures.tasks[t].auc) is not None]
        assert row.worst <= min(r.figures.tasks[t].robust for r in records) + 1e-6
        assert not areas or row.worst_auc == pytest.approx(min(areas), abs=1e-5)
    (paper,) = findings.tables(table)
    assert [row[0].value for row in paper.rows] == table.finding.tolist()


def test_what_a_victim_rejects_is_not_flipped(tmp_path: Path) -> None:
    share = {"fewer_than": 1, "n": 4, "share": 0.5, "interval": [0.1, 0.9]}
    made = made_of.changed(made_of.record(n=4), figures__unflipped=share)
    right, votes = np.ones((4, 2)), np.zeros((4, 2), np.int64)
    flipped = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    answered = np.array([[0, 0], [1, 0], [0, 1], [0, 0]])  # the first flip was rejected
    arrays = {"labels": votes, "clean_vote": votes, "robust_vote": flipped, "robust_right": right}
    store = Store(tmp_path)
    kept = store.write(made, {**arrays, "robust_rejected": 1.0 - answered})
    table = findings.frame([kept], store, variants([kept]))
    assert table.worst.iloc[-1] == 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target_task": "k=0"}, "1 to 14 tasks"),
        ({"target_task": "k=15"}, "1 to 14 tasks"),
        ({"target_task": "k=three"}, "unknown target task 'k=three'"),
        ({"target_task": "any", "attack": "autoattack"}, "attacks all tasks; what can choose"),
        ({"target_task": "any", "engine": "art"}, "the engine art attacks all tasks"),
        ({"target_task": "any", "attack": "universal"}, "universal attacks all tasks; what can"),
        ({"target_task": "any", "effort": "auto"}, "a search for the strongest attack"),
        ({"target_task": "any", "target": "random"}, "classes to aim at"),
    ],
)
def test_a_choice_that_cannot_be_made_is_one_line(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        measured(tmp_path / "out", chestmnist(tmp_path), **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "records").exists()
