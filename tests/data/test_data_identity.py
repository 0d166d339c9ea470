"""What a data set is: every input of a result changes its hash, and nothing else does."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from support.table_sets import (
    OTHER_DATA,
    TableSet,
    both,
    each_row,
    hashes,
    in_card,
)

from robustbench_med.data import source


def move(given: TableSet) -> None:
    given.root = given.root.rename(given.root.with_name("moved"))


def duplicate(given: TableSet) -> None:
    given.root = shutil.copytree(given.root, given.root.with_name("copy"))


def turn_columns(given: TableSet) -> None:
    given.rows = [dict(reversed(row.items())) for row in given.rows]


SAME_DATA = {
    "nothing": lambda given: None,
    "order of rows": lambda given: given.rows.reverse(),
    "order of columns": turn_columns,
    "one more column": each_row(lambda i, row: {"age": str(i)}),
    "times": lambda given: [
        os.utime(path, (i, i)) for i, path in enumerate(given.folder.iterdir())
    ],
    "files written again": lambda given: [
        path.write_bytes(path.read_bytes()) for path in given.folder.iterdir()
    ],
    "another place": move,
    "a copy": duplicate,
    "title, source and licence": both(
        in_card("title", to="T"), in_card("url", to="elsewhere"), in_card("licence", to="CC0")
    ),
    "order of the reader's labels": in_card(
        "reader", "labels", to={"side": "side", "tumour": "label"}
    ),
}


@pytest.mark.parametrize("fold", [None, (1, 3)])
@pytest.mark.parametrize("change", OTHER_DATA.values(), ids=OTHER_DATA)
def test_every_input_of_a_table_set_is_in_its_hashes(
    lesions: TableSet, change: Callable[[TableSet], Any], fold: tuple[int, int]
) -> None:
    before = lesions.load(fold=fold)
    change(lesions)
    after = lesions.load(fold=fold)
    assert after.manifest_hash != before.manifest_hash
    assert after.content != before.content


@pytest.mark.parametrize("change", SAME_DATA.values(), ids=SAME_DATA)
def test_what_is_no_input_is_in_no_hash(
    lesions: TableSet, change: Callable[[TableSet], Any]
) -> None:
    before, folded = hashes(lesions.load()), hashes(lesions.load(fold=(1, 3)))
    lesions.write()
    change(lesions)
    assert hashes(lesions.load()) == before
    assert hashes(lesions.load(fold=(1, 3))) == folded


def test_seeds_folds_and_the_decoder_are_in_the_hash(
    lesions: TableSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        lesions.load(),
        lesions.load(split_seed=1),
        *(lesions.load(fold=(k, n)) for k, n in ((0, 3), (1, 3), (0, 4))),
    ]
    assert len({dataset.manifest_hash for dataset in found}) == 5
    assert len({dataset.content for dataset in found}) == 2  # the same for all folds
    monkeypatch.setattr(source, "REVISION", 99)
    assert lesions.load().manifest_hash not in {dataset.manifest_hash for dataset in found}
