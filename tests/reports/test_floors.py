"""The floor of every table: what always answering the most frequent class reaches."""

from pathlib import Path

import pytest
from support.records import changed, fill, record

from robustbench_med.reports import floors
from robustbench_med.reports.floors import Floor
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store


def with_classes(made: Record, *tasks: list[int]) -> Record:
    """A record that says how many samples each class of each task has."""
    for t, counts in enumerate(tasks):
        made = changed(made, **{f"figures__tasks__{t}__class_samples": counts})
    return made


def test_the_constant_reaches_the_share_of_the_most_frequent_class() -> None:
    floor = Floor.of_counts([[114, 42], [390, 234]])
    assert floor.accuracy == pytest.approx((0.7308 + 0.625) / 2, abs=1e-4)
    assert (floor.balanced_accuracy, floor.auc, floor.imbalanced) == (0.5, 0.5, True)
    assert not Floor.of_counts([[6, 4], [4, 6]]).imbalanced


def test_classes_that_do_not_occur_are_none_of_its_balanced_accuracy() -> None:
    floor = Floor.of_counts([[5, 0, 5], [2, 2, 2]])
    assert floor.balanced_accuracy == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_the_floor_is_that_of_the_attacked_tasks_and_of_all_folds() -> None:
    made = with_classes(record(tasks=(1,)), [50, 0], [20, 30])
    assert floors.of([made]) == Floor(0.6, 0.5, imbalanced=False)
    folds = [
        changed(
            with_classes(record(tasks=(0,)), counts, [25, 25]),
            spec__data__fold={"number": number, "of": 2, "content": "d" * 64},
        )
        for number, counts in enumerate(([40, 10], [0, 50]))
    ]
    assert floors.of(folds) == Floor(0.6, 0.5, imbalanced=False)


def test_records_without_counts_get_those_of_their_labels(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), record(tasks=(0,)))
    (old,) = store.records()
    assert floors.of([old]) is None
    (made,) = floors.counted([old], store.arrays)
    assert floors.of([made]) == Floor(0.5, 0.5, imbalanced=False)
    assert floors.counted([made], lambda *_: pytest.fail("it was known")) == [made]
    assert floors.counted([old], lambda *_: {}) == [old]


def test_a_figure_at_the_floor_is_below_the_constant_answer() -> None:
    floor = Floor(0.7, 0.5, imbalanced=True)
    assert floors.below_floor(0.7, floor)
    assert not floors.below_floor(0.71, floor)
    assert not floors.below_floor(0.0, None)


def test_sentences_are_judged_on_balanced_accuracy_where_a_class_prevails() -> None:
    assert floors.judged_metric(Floor(0.7, 0.5, imbalanced=True)) == "balanced_accuracy"
    assert floors.judged_metric(Floor(0.5, 0.5, imbalanced=False)) == "robust"
    assert floors.judged_metric(None) == "robust"
