"""Arrays that were read are kept while they are small, and those that are not there too."""

import numpy as np
import pytest
from support.records import fill, record

from robustbench_med.store import recent
from robustbench_med.store.recent import Recent
from robustbench_med.store.store import Store

SMALL = np.zeros(7000)


def test_each_array_is_read_once() -> None:
    asked: list[list[str]] = []

    def load(names: list[str]) -> recent.Arrays:
        asked.append(names)
        return {name: np.zeros(3) for name in names if name != "absent"}

    kept = Recent()
    assert list(kept.of("a", ["right", "absent"], load)) == ["right"]
    assert sorted(kept.of("a", ["absent", "labels", "right"], load)) == ["labels", "right"]
    kept.of("b", ["right"], load)
    assert asked == [["right", "absent"], ["labels"], ["right"]]


def test_what_is_kept_is_bounded_and_cannot_be_written_to(monkeypatch) -> None:
    monkeypatch.setattr(recent, "ALL", 3 * recent.LARGE)
    kept = Recent()
    for digest in map(str, range(9)):
        kept.of(digest, ["large", "small"], lambda _: {"large": np.zeros(1 << 16), "small": SMALL})
        assert kept.bytes <= recent.ALL
        assert all(array is not None and array.nbytes < 1 << 16 for array in kept.known.values())
    assert 0 < len(kept.known) < 9
    (small,) = kept.of("8", ["small"], lambda _: {}).values()
    with pytest.raises(ValueError, match="read-only"):
        small[0] = 1


def test_outcomes_that_were_replaced_are_read_again(tmp_path) -> None:
    store = fill(Store(tmp_path), record("late", 0.5))
    (first,) = store.records()
    before = store.arrays(first, ["robust_right"])["robust_right"]
    assert store.arrays(first, ["robust_right"])["robust_right"] is before
    store.write(first, {**store.arrays(first), "robust_right": ~before.astype(bool)})
    (second,) = store.records()
    assert (store.arrays(second, ["robust_right"])["robust_right"] != before).all()
