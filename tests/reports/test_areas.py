"""Multi-label sets are read by AUC first: in tables, on the page, against the constant answer."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.records import changed, record
from support.stores import store_of

from robustbench_med.cli import terminal, terminal_board
from robustbench_med.reports import areas, board_tables, entries, page_board, tables, write
from robustbench_med.store.record import Record


def of_findings(robust: float, aucs: tuple[float | None, ...], attack: str = "pgd") -> Record:
    """Two findings of 5 in 50 patients, or the second of none; 0.9 always answers "absent"."""
    made = record("late", robust, attack=attack, synthetic=False, n=50)
    tasks = [
        {
            **task.plain(),
            "clean_auc": None if auc is None else 0.8 + 0.1 * t,
            "auc": auc,
            "class_samples": [50, 0] if auc is None else [45, 5],
        }
        for t, (task, auc) in enumerate(zip(made.figures.tasks, aucs, strict=True))
    ]
    return changed(made, names__findings=made.names.tasks, figures__tasks=tasks)


def shown(found: object) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(found)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_auc_is_the_main_figure_of_findings_everywhere(tmp_path: Path) -> None:
    store_of(tmp_path, of_findings(0.7, (0.6, 0.8)), of_findings(0.6, (0.7, 0.9), "square"))
    found = write.leaderboard(tmp_path)
    (row,) = tables.each(found.board)
    assert (row.main_figure, row.clean_auc, row.worst_auc) == pytest.approx(("auc", 0.85, 0.7))
    header = (tmp_path / "leaderboard.csv").read_text().splitlines()[0].split(",")
    assert header.index("main_figure") < header.index("clean") < header.index("worst_auc")
    text = shown(terminal_board.board(found.board))
    assert text.index("AUC   worst 0.700") < text.index("AUC   clean 0.850") < text.index("bal.")
    assert "AUC, accuracy" in text
    assert "AUC   worst 0.500" in text  # the constant answer
    text = shown(terminal.cells(found.cells))
    assert text.index("AUC 0.700") < text.index("0.700")
    (paper,) = board_tables.boards(found.board)
    names = [column.heading for column in paper.columns]
    assert names[2:4] == ["clean AUC", "worst case, robust AUC"]
    assert [cell.value for cell in paper.rows[0][2:4]] == pytest.approx([0.85, 0.7])
    assert [cell.value for cell in paper.rows[1][2:4]] == [0.5, 0.5]
    assert all(len(each) == len(names) for each in paper.rows)
    records = write.read(tmp_path)
    (shown_row,) = page_board.rows(entries.entries(records, write.Store(tmp_path)))
    assert (shown_row["worst"], shown_row["worst_text"]) == (pytest.approx(0.7), "AUC 0.700")
    assert shown_row["worst_beside"].startswith("balanced accuracy 0.")
    assert list(shown_row["facts"][1]) == ["worst AUC", "0.700"]


def test_the_floor_of_rare_findings_is_an_auc_and_no_share_of_the_healthy(tmp_path: Path) -> None:
    right, wrong = of_findings(0.7, (0.6, 0.8)), of_findings(0.95, (0.4, 0.5), "square")
    above, below = (tables.cells([made]).iloc[0] for made in (right, wrong))
    assert not above.is_below_floor  # although 0.9 are healthy
    assert below.is_below_floor
    assert "below the constant answer" in below.marks
    assert "below the constant answer" not in above.marks
    plain = changed(right, names__findings=[])
    assert "below the constant answer" in tables.cells([plain]).iloc[0].marks
    store_of(tmp_path, right)
    assert not write.leaderboard(tmp_path).board.is_below_floor.any()
    store_of(tmp_path, wrong)
    assert write.leaderboard(tmp_path).board.is_below_floor.all()  # 0.45 after square


def test_findings_that_no_sample_has_are_left_out_of_the_mean_and_said(tmp_path: Path) -> None:
    made = of_findings(0.7, (0.6, None))
    assert areas.area(made, "clean") == pytest.approx(0.8)
    assert areas.area(made, "robust") == pytest.approx(0.6)
    (mark,) = areas.left_out(made)
    assert mark.startswith("AUC over 1 of 2 findings")
    assert mark in tables.cells([made]).iloc[0].marks
    assert areas.area(changed(made, names__findings=[]), "clean") is None
    task = made.figures.tasks[0].plain() | {"auc": None}  # predictions that are not finite
    broken = changed(made, figures__tasks=[task, made.figures.tasks[1].plain()])
    assert areas.area(broken, "robust") is None
