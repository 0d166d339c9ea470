"""Trust read from a store: tables, diagnoses and the command line."""

import json

import numpy as np
import pytest
from rich.console import Console
from support.cli import medrobust
from support.records import fill
from support.trust_rows import CHALLENGE, N, adaptive, diagnosed, read, right, row, sign

from robustbench_med.cli import terminal
from robustbench_med.reports import floors, paper, paper_tables, tables
from robustbench_med.store import reading, trust, words
from robustbench_med.store.diagnosis import DIAGNOSES
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

pytestmark = pytest.mark.challenged


def test_a_store_is_read_together_with_its_diagnoses_and_the_board_says_so(tmp_path) -> None:
    store = Store[Record](tmp_path)
    weak, strong, other = row("pgd", 0.5), row("autoattack", 0.4), row("pgd", 0.7, model="late")
    fill(store, weak, strong, other)
    board = tables.cells(floors.read(store)).set_index(["model", "attack"])
    assert board.trust.to_dict() == {
        ("late", "pgd"): "unchallenged",
        ("mail", "pgd"): "failed",
        ("mail", "autoattack"): "unchallenged",
    }
    assert board.worst_case.to_dict() == pytest.approx(
        {("late", "pgd"): 0.7, ("mail", "pgd"): 0.4, ("mail", "autoattack"): 0.4}
    )
    Store(tmp_path, DIAGNOSES).write(diagnosed(other, sign("failed")), {"ids": np.arange(3)})
    board = tables.cells(floors.read(store)).set_index(["model", "attack"])
    assert board.trust["late", "pgd"] == "failed"
    (alone,) = reading.together([weak], store)
    assert alone.trust.word == "failed"
    assert "trust" not in alone.plain()


def test_a_table_for_papers_quotes_the_worst_case_beside_its_attacks(tmp_path) -> None:
    made = [row("pgd", 0.5), row("apgd", 0.4), row("pgd", 0.6, model="late", eps=8 / 255)]
    fill(store := Store[Record](tmp_path), *made)
    found = list(paper_tables.cells(tables.cells(floors.read(store)), "robust"))
    assert ["Linf 4/255" in table.caption for table in found] == [True, False]
    heads = [[column.heading for column in table.columns] for table in found]
    assert heads == [["victim", "clean", "apgd", "pgd", "worst case"], ["victim", "clean", "pgd"]]
    by_victim = {cells[0].value: cells[-1] for cells in found[0].rows}
    assert by_victim["mail"].value == pytest.approx(0.4)
    assert paper.DOUBTED not in by_victim["mail"].mark  # that pgd failed is in the figure
    assert "late" not in by_victim


def test_the_row_of_several_trainings_has_the_worst_of_their_words(tmp_path) -> None:
    made = [row("pgd", 0.5, train_seed=s) for s in (0, 1)] + [row("apgd", 0.3, train_seed=1)]
    fill(store := Store[Record](tmp_path), *made)
    (pgd,) = tables.cells(floors.read(store)).query("attack == 'pgd'").itertuples()
    assert (pgd.trust, pgd.trainings) == ("failed", 2)
    assert pgd.worst_case == pytest.approx(0.4)


def test_the_terminal_says_in_80_columns_what_failed_and_what_lifts_the_rest() -> None:
    weak, strong = row("pgd", 0.5), row("autoattack", 0.4)
    arrays = {made.hash: right(made) for made in (weak, strong)}
    found = trust.judged([weak, strong], lambda made, names: arrays[made.hash])
    board = tables.cells([made.with_trust(found[made.hash]) for made in (weak, strong)])
    console = Console(width=80, record=True)
    console.print(terminal.cells(board))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    cells = " ".join(line.split("│")[-2].strip() for line in lines if line.count("│") == 6)
    assert "failed autoattack broke" in " ".join(cells.split())
    assert "unchallenged lifted by --attack" in " ".join(cells.split())


@pytest.mark.slow
def test_a_run_says_how_far_its_rows_can_be_believed(tmp_path) -> None:
    small = ["--model", "late", "--model-param", "width=8", "--size", 32, "--recipe", "steps=30"]
    few = ["--limit", 8, "--out", tmp_path]
    ran = medrobust(
        "run", *small, "--attack", "pgd,square", "--eps", "8/255",
        "--attack-param", "square.queries=20", "--attack-param", "pgd.steps=2", *few,
    )  # fmt: skip
    rows = {one.spec.attack.name: one for one in floors.read(Store(tmp_path))}
    assert rows["noise"].trust.word is None if "noise" in rows else True
    given = {name: one.trust.word for name, one in rows.items() if name != "noise"}
    assert set(given.values()) <= set(words.WORDS)
    for word in given.values():
        assert word in ran.stdout
    shown = medrobust("show", rows["pgd"].short, "--out", tmp_path).stdout
    assert given["pgd"] in shown
    assert "worst case" in shown
    medrobust("diagnose", *small, "--eps", "8/255", *few, "--steps", 2, "--queries", 4)  # fmt: skip
    (kept,) = Store(tmp_path, DIAGNOSES).records()
    assert kept.signs == [
        type(kept.signs[0]).model_validate(each)
        for each in json.loads((tmp_path / "diagnostics.json").read_text())[0]["signs"]
    ]
    worst = kept.signs[0].verdict  # the worst comes first
    after = {one.spec.attack.name: one.trust.word for one in floors.read(Store(tmp_path))}
    if worst != "fine":
        assert words.WORDS.index(after["pgd"]) <= words.WORDS.index(worst)
    assert medrobust("verify", "--out", tmp_path).stdout.strip().endswith("0 files do not")


@pytest.mark.parametrize(
    ("said", "word"),
    [({}, "challenged"), ({"left": [0.5] * 4}, "challenged"), ({"left": [0.0] * 4}, "failed")],
)
def test_a_challenger_that_broke_one_task_more_fails_no_row_that_left_as_much(said, word) -> None:
    """It took a task of four samples of which the row that it challenged left both, another row one
    of them; older records do not say what it left.
    """
    fallen = [f"s{i}" for i in range(4)]
    broke = CHALLENGE | {"broken": fallen, "taken": 0.02, "bound": 0.02, **said}
    both, one = np.ones((N, 2), bool), np.ones((N, 2), bool)
    both[50:], one[50:], one[:4, 0] = False, False, False
    weak, strong = read(
        (row("pgd", challenges=[broke], tasks=(0, 1)), both),
        (adaptive(challenges=[CHALLENGE], tasks=(0, 1)), one),
    )
    assert (weak.word, strong.word) == ("failed", word)
