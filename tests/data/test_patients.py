"""What intervals count: patients where the card names them, else images; in every table that has
one.
"""

import re
from typing import Any

import numpy as np
import pytest
import yaml
from support.cli import medrobust
from support.files import write_folder_set
from support.folds import of_fold
from support.records import certificate, certify, changed, outcomes, record

from robustbench_med.data import load
from robustbench_med.data.listing import Files
from robustbench_med.reports import breakdowns, certified, tables
from robustbench_med.reports.comparison.entries import Entry
from robustbench_med.reports.comparison.rows import Row, clusters, rows_of
from robustbench_med.statistics import effective_n, wilson
from robustbench_med.store.store import CERTIFICATES, Record, Store


def with_sizes(made: Record, clean: float, robust: float) -> Record:
    sizes = {"n_effective_clean": clean, "n_effective_robust": robust}
    tasks = [{**task.plain(), **sizes} for task in made.figures.tasks]
    return changed(made, figures__tasks=tasks)


def test_the_leaderboards_interval_counts_what_the_records_say_of_every_fold_and_training() -> None:
    (row,) = tables.each(tables.cells([with_sizes(record(), 30.0, 12.5)]))
    assert row.n_effective == 12.5
    assert (row.robust_low, row.robust_high) == wilson(0.5, 12.5)
    assert (row.clean_low, row.clean_high) == wilson(0.9, 30.0)
    (row,) = tables.each(
        tables.cells([with_sizes(record(train_seed=t), 30.0, n) for t, n in ((0, 10.0), (1, 40.0))])
    )
    assert row.n_effective == pytest.approx(
        16
    )  # harmonic: the variance of a mean is at most the mean variance
    (row,) = tables.each(
        tables.cells([with_sizes(of_fold(k, 0.5), 30.0, 10.0 + k) for k in range(3)])
    )
    assert row.n_effective == pytest.approx(33)


def with_groups(made: Record, groups: np.ndarray) -> dict[str, Any]:
    n = made.spec.data.n
    return (
        outcomes(made)
        | {f"image_{t}": np.arange(n) for t in (0, 1)}
        | {f"group_{t}": groups for t in (0, 1)}
    )


def test_the_interval_of_a_class_counts_its_patients(tmp_path) -> None:
    made, store = record(robust=0.5), Store(tmp_path)
    arrays = with_groups(made, np.arange(50) // 10)
    store.write(made, arrays)
    classes = breakdowns.per_class([made], store.arrays)
    mine = np.arange(50) % 2 == 0
    expected = wilson(
        13 / 25, effective_n(arrays["robust_right"][mine, 0], arrays["group_0"][mine])
    )
    assert expected[0] < 0.25
    row = classes[classes["class"] == "a"].iloc[0]
    assert (row.robust_low, row.robust_high) == pytest.approx(expected)


def test_intervals_of_classes_and_worst_cases_count_draws_that_chunks_share(tmp_path) -> None:
    """The 50 samples of a task are worth 20 because of their draws: those of a class, and the worst
    case, lose as much.
    """
    made, store = record(robust=0.5, protocol="sound"), Store(tmp_path)
    spec = made.spec.plain()
    made = changed(
        made,
        draws=1,
        spec=spec | {"protocol": {**spec["protocol"], "chunk": 32}},
        figures__tasks=[
            {**task.plain(), "n_distinct": 50, "n_effective_robust": 20.0}
            for task in made.figures.tasks
        ],
    )
    store.write(made, with_groups(made, np.arange(50)))
    classes = breakdowns.per_class([made], store.arrays)
    row = classes[classes["class"] == "a"].iloc[0]
    assert (row.robust_low, row.robust_high) == pytest.approx(wilson(13 / 25, 25 * 20 / 50))
    worst = compared(store, made).worst
    assert (worst.worst_low, worst.worst_high) == pytest.approx(wilson(0.5, 20))
    assert worst.worst_balanced_accuracy_high == pytest.approx(wilson(0.5, 20)[1], abs=0.002)


def test_a_certified_curve_counts_patients(tmp_path) -> None:
    made, store = certificate(), certify(Store(tmp_path, CERTIFICATES), certificate())
    groups = np.arange(50) // 10
    store.write(made, store.arrays(made) | {f"group_{t}": groups for t in (0, 1)})
    curve = certified.frames(store)["certified"]
    expected = wilson(0.6, effective_n((np.arange(50) < 30).astype(float), groups))
    assert tuple(curve[["certified_low", "certified_high"]].iloc[0]) == pytest.approx(expected)
    sizes = {"n_groups": 5, "n_effective": 5.5}
    sized = changed(made, figures=[{**figures.plain(), **sizes} for figures in made.figures])
    row = certified.by_task([sized])[0]
    assert (row["certified_low"], row["certified_high"]) == wilson(0.6, 5.5)


def compared(store: Store, *made: Record) -> Row:
    (row,) = rows_of(Entry("mail", "none", made), store)
    return row


def test_a_comparison_has_its_spread_over_trainings_and_its_interval_over_patients(
    tmp_path,
) -> None:
    made = [
        record(robust=0.4 + 0.2 * t + 0.04 * s, seed=s, train_seed=t)
        for s in (0, 1)
        for t in (0, 1)
    ]
    store, groups = Store(tmp_path), np.arange(50) // 5
    made = [changed(one, draws=1) for one in made]
    for one in made:
        store.write(one, with_groups(one, groups))
    row = compared(store, *made)
    assert (row.trainings, row.evaluation_seeds) == (2, 2)
    assert row.worst.worst_std == pytest.approx(np.std([0.42, 0.62], ddof=1))
    mean = np.mean([store.arrays(one)["robust_right"][:, 0] for one in made], 0)
    assert (row.worst.worst_low, row.worst.worst_high) == pytest.approx(
        wilson(0.52, effective_n(mean, groups))
    )
    assert len(set(row.outcomes.clusters)) == 10
    once = compared(store, *(one for one in made if one.spec.victim.train_seed == 0))
    assert (once.trainings, once.worst.worst_std) == (1, None)


def test_patients_are_what_a_comparison_resamples_and_images_in_older_outcomes() -> None:
    ids = np.array([f"a{i}+b{i % 3}" for i in range(6)])
    labels = np.zeros((6, 2), int)
    parts = {
        "image_0": np.arange(6),
        "image_1": np.arange(6) % 3,
        "group_0": np.arange(6) // 3,
        "group_1": np.arange(6) % 3,
    }
    old = {"ids": ids, "labels": labels}
    assert clusters(old).tolist() == [0, 1, 2, 0, 1, 2]
    assert clusters(old | {key: parts[key] for key in ("image_0", "image_1")}).tolist() == [
        0,
        1,
        2,
        0,
        1,
        2,
    ]
    assert clusters(old | parts).tolist() == [0, 0, 0, 1, 1, 1]


PATIENT = r"([^/]+)/image\((\d).*"
"""A class of 20 images is ten patients': 0, 1 with 10 to 19, 2, 3, ..., 9."""


def test_a_set_with_patients_says_how_many_its_test_images_come_from(drawn_root, tmp_path) -> None:
    """In the pairing the shorter set repeats, its patients with it."""
    card = yaml.safe_load(write_folder_set(tmp_path, "scans", "mri").read_text())
    card["reader"]["group"] = PATIENT
    (tmp_path / "scans.yaml").write_text(yaml.safe_dump(card))
    data = f"{tmp_path / 'scans.yaml'}+{drawn_root / 'chests.yaml'}"
    (tmp_path / "chests").symlink_to(drawn_root / "chests")
    test = load(data, size=32, files=Files(data_root=tmp_path)).splits["test"]
    groups, images = test.label_groups, test.label_rows
    assert groups.shape == images.shape == (len(test), 2)
    patient = [
        found.groups() for sample in test.ids if (found := re.search(f"scans/{PATIENT}", sample))
    ]
    assert len(patient) == len(test)
    assert (
        np.equal.outer(groups[:, 0], groups[:, 0]) == [[a == b for b in patient] for a in patient]
    ).all()
    assert len(set(patient)) < test.distinct_labels[0]
    assert (
        np.equal.outer(groups[:, 1], groups[:, 1]) == np.equal.outer(images[:, 1], images[:, 1])
    ).all()  # none named: its own

    medrobust("run", "--model", "late", "--model-param", "width=4", "--recipe", "steps=2", "--size", 32, "--attack", "fgsm", "--no-control",
              "--data", data, "--data-root", tmp_path, "--limit", 0, "--out", tmp_path / "out")  # fmt: skip
    (made,), store = Store(tmp_path / "out").records(), Store(tmp_path / "out")
    arrays = store.arrays(made)
    for t, task in enumerate(made.figures.tasks):
        assert (arrays[f"group_{t}"] == groups[:, t]).all()
        assert task.n_groups == len(set(groups[:, t]))
        assert task.n_distinct == test.distinct_labels[t]
        for name, right in (("clean", arrays["clean_right"]), ("robust", arrays["robust_right"])):
            n = min(effective_n(right[:, t], groups[:, t]), task.n_distinct)
            assert getattr(task, f"n_effective_{name}") == pytest.approx(n)
            assert getattr(task, f"{name}_interval") == pytest.approx(
                wilson(getattr(task, name), n)
            )
    n = min(task.n_effective_robust for task in made.figures.tasks)
    assert made.figures.robust_interval == pytest.approx(wilson(made.figures.robust, n))
