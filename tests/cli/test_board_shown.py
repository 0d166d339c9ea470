"""The leaderboard in the terminal, and how a run ends."""

import io

import pytest
from rich.console import Console
from support.records import changed, record
from support.stores import store_of

from robustbench_med.cli import terminal_board
from robustbench_med.reports import write

LONG = "robust-mail+pgd-at+total-variation (unaware attack)"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_name_and_figure_is_whole_whatever_the_width(width, tmp_path) -> None:
    made = [record(name, 0.6, attack=a) for name in (LONG, "[b]x[/b]") for a in ("pgd", "noise")]
    made += [record(LONG, 0.8, train_seed=1, attack=a) for a in ("pgd", "noise")]
    store_of(tmp_path, *made)
    console = Console(width=width, file=io.StringIO())
    console.print(terminal_board.shown(write.leaderboard(tmp_path)))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(line.strip("│ ") for line in lines).split())
    for whole in ("worst 0.700 [", "± 0.141 (2 trainings)", "noise 0.6", "[b]x[/b]", "pgd 0.700"):
        assert whole in text, whole
    joined = "".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))
    assert LONG.replace(" ", "") in joined.replace(" ", "")
    assert "…" not in text


def test_a_run_ends_with_the_worst_sign_and_one_command_that_helps(tmp_path) -> None:
    made = [record("late", 0.7, trust="doubtful"), record("mail", 0.7)]
    store_of(tmp_path, *made)
    board = write.leaderboard(tmp_path).board
    said = list(terminal_board.ending(board, ["late", "mail"]))
    assert said == [
        "least to be believed: late at 4/255 is doubtful: zero gradient: half of the gradients are 0",
        "trust: doubtful: it may be too high: quoted with its reason alone; unchallenged: nothing"
        " speaks against it, and too little stands behind it",
        "next: the same with --attack adaptive",
    ]
    only = list(terminal_board.ending(board[board.model == "mail"], ["mail"]))
    assert only[-1] == "next: the same with --attack adaptive"
    assert list(terminal_board.ending(board.iloc[:0].assign(variant=""), [])) == []


def test_a_folder_of_controls_alone_shows_its_cells(tmp_path) -> None:
    store_of(tmp_path, record(attack="noise"), changed(record("late", attack="noise")))
    found = write.leaderboard(tmp_path)
    assert found.board.empty
    assert not (tmp_path / "leaderboard.csv").exists()
    console = Console(width=80, file=io.StringIO())
    console.print(terminal_board.shown(found))
    assert "noise" in console.file.getvalue()
