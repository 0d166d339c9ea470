"""What a user sees while work goes on: bars that move, time left, lines where no terminal is."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from support.evaluations import two_head_samples
from support.victims import TwoHeads

from robustbench_med import progress
from robustbench_med.attacks import Threat, View, complete
from robustbench_med.evaluation.meter import metered
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Effort, Method, Setting
from robustbench_med.progress import Display, Overall, clock, time_left
from robustbench_med.runs.executors.shown import Board


def display(monkeypatch, *, terminal: bool) -> tuple[Display, io.StringIO]:
    shown = io.StringIO()
    made = Display()
    made.console = Console(file=shown, force_terminal=terminal, width=120)
    return made, shown


def test_time_left_is_known_from_the_first_step_on() -> None:
    assert time_left(0, 10, 5.0) is None
    assert time_left(2, 10, 5.0) == pytest.approx(20.0)
    assert time_left(12, 10, 5.0) == 0
    assert clock(3725) == "1:02:05"


def test_a_pipe_gets_a_line_a_minute(monkeypatch) -> None:
    made, shown = display(monkeypatch, terminal=False)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with made.bar("late pgd", 100) as advance:
        for _ in range(10):
            now[0] += 20
            advance(5, "note")
    lines = shown.getvalue().splitlines()
    assert lines[0] == "late pgd: 15%, 0:01:00, about 0:05:40 left  note"
    assert len(lines) == 3


def test_several_workers_give_a_pipe_a_line_a_minute_too(monkeypatch) -> None:
    made, shown = display(monkeypatch, terminal=False)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    board = Board(made, [SimpleNamespace(cells=[1] * 4)] * 2)
    for seconds, finished in ((30, 1), (40, 1), (10, 1), (60, 0)):
        now[0] += seconds
        if finished:
            board.finished()
        else:
            board.receive(0, "advance", {"n": 1, "note": ""})
    assert shown.getvalue().splitlines() == [
        "8 cells of 2 victims: 25%, 0:01:10, about 0:03:30 left",
        "8 cells of 2 victims: 38%, 0:02:20, about 0:03:53 left",
    ]


def test_a_training_in_a_pipe_is_said_once(monkeypatch) -> None:
    made, shown = display(monkeypatch, terminal=False)
    with made.lazy_bar("training late on d") as bar:
        bar(1, 50, "")
        bar(50, 50, "")
    assert shown.getvalue().splitlines() == ["training late on d: 50 steps"]


def test_bars_of_cells_come_and_go_below_that_of_the_grid(monkeypatch) -> None:
    made, shown = display(monkeypatch, terminal=True)
    with made.overall("all 2 cells", 10) as grid:
        with made.bar("[1/2] late pgd", 4) as advance:
            advance(2, "")
            assert len(made.grid.progress.tasks) == 2
        assert len(made.grid.progress.tasks) == 1
        grid.left_out(6)
        grid.finished(2)
        (task,) = made.grid.progress.tasks
        assert (task.completed, task.total) == (2, 4)
    assert made.grid is None
    assert "all 2 cells" in shown.getvalue()


def test_what_was_done_before_is_no_part_of_the_rate() -> None:
    shown = []
    grid = Overall(30, lambda done, total: shown.append((done, total)))
    grid.left_out(10)
    grid.finished(5)
    assert shown == [(0, 20), (5, 20)]


def test_a_bar_moves_within_one_batch_and_ends_where_it_should() -> None:
    view, told = View(TwoHeads(), TwoHeads.shapes), []
    x = torch.rand(8, view.dim)
    with metered([view], 8, 20, told.append):
        for _ in range(10):
            view.logits(x)
        assert sum(told) == pytest.approx(4.0, abs=0.1)
        before = len(told)
    assert before == 10
    assert sum(told) == pytest.approx(8.0)
    assert view.tick is None


def test_more_passes_than_were_thought_do_not_overfill_a_bar() -> None:
    view, told = View(TwoHeads(), TwoHeads.shapes), []
    with metered([view], 2, 3, told.append):
        for _ in range(30):
            view.logits(torch.rand(2, view.dim))
        assert sum(told) < 2
    assert sum(told) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "method",
    [
        Method("pgd", complete("pgd", {"steps": 10})),
        Method("noise", {}),
        Method("pgd", complete("pgd", {"steps": 5}), effort=Effort("auto", 40, 10)),
    ],
    ids=["pgd", "noise", "search"],
)
def test_an_attack_in_one_batch_tells_of_its_steps(method: Method) -> None:
    samples, told = two_head_samples(12), []
    victim = TwoHeads().eval()
    setting = Setting("sound", 4, 0, torch.device("cpu"), 64)
    clean = clean_pass(victim, samples, setting, lambda n: None, stochastic=False)
    threat = Threat("Linf", (0.001, 0.001), (0, 1))
    attack_pass(victim, samples, clean, threat, method, setting, told.append)
    assert sum(told) == pytest.approx(2 * len(samples))
    assert len(told) > (3 if method.name == "noise" else 10) - 1
    assert all(part > 0 for part in told if part != told[0])
