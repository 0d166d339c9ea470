"""The floor of every table: what always answering the most frequent class reaches."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from support.records import changed, fill, record
from support.stores import cells_csv

from robustbench_med.cli import terminal
from robustbench_med.reports import (
    curves,
    floors,
    looks,
    model_cards,
    page,
    paper,
    paper_tables,
    plots,
    tables,
    write,
)
from robustbench_med.reports import figures as drawn
from robustbench_med.reports.floors import Floor
from robustbench_med.reports.under_training import under_trained
from robustbench_med.statistics import auc_error
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


# --- in tables, figures and pages -----------------------------------------------------------------


IMBALANCED = ([110, 40], [90, 60])
"""A floor of 0.667 (0.733 and 0.6)."""


def judged(model: str, robust: float, balanced: float, **more: Any) -> Record:
    """A record on imbalanced samples."""
    made = changed(record(model, robust, **more), figures__balanced_accuracy=balanced)
    return with_classes(made, *IMBALANCED)


def test_the_leaderboard_ends_with_the_constant_answer_of_its_samples(tmp_path) -> None:
    fill(Store(tmp_path), judged("late", 0.7, 0.7), judged("mail", 0.3, 0.3, tasks=(1,)))
    write.leaderboard(tmp_path)
    whole = (tmp_path / "cells.csv").read_bytes()
    written = pd.read_csv(tmp_path / "cells.csv")
    last = written[written.model == floors.CONSTANT].set_index("target")
    assert list(written.model[-2:]) == [floors.CONSTANT] * 2
    assert last.robust.to_dict() == {"joint": pytest.approx(0.666667), "lung": 0.6}
    assert (last.clean == last.robust).all()
    figures = ["balanced_accuracy", "clean_balanced_accuracy", "auc", "clean_auc"]
    assert (last[figures] == 0.5).all(axis=None)
    assert last[["attack", "eps", "rank", "parameters", "trainings"]].isna().all(axis=None)
    assert ",10,0.1," in whole.decode()  # whole numbers stay whole beside empty fields
    assert len(cells_csv(tmp_path)) == 2
    write.leaderboard(tmp_path)
    assert (tmp_path / "cells.csv").read_bytes() == whole


def test_no_row_at_or_below_the_floor_has_a_rank_and_ranks_go_by_balanced_accuracy() -> None:
    made = [judged("fallen", 0.9, 0.55), judged("honest", 0.8, 0.75), judged("low", 0.666, 0.65)]
    board = tables.cells(made).set_index("model")
    assert board["rank"].to_dict() == {"fallen": 2, "honest": 1, "low": None}
    assert board.marks.str.contains(floors.BELOW).to_dict() == {
        "fallen": False, "honest": False, "low": True,
    }  # fmt: skip
    even = [with_classes(one, [25, 25], [25, 25]) for one in made]
    board = tables.cells(even).set_index("model")
    assert board["rank"].to_dict() == {"fallen": 1, "honest": 2, "low": 3}


def test_in_print_the_best_is_a_balanced_accuracy_above_the_floor() -> None:
    made = [judged("fallen", 0.9, 0.55), judged("honest", 0.8, 0.75), judged("low", 0.6, 0.9)]
    accuracy, balanced = paper_tables.cells(tables.cells(made))
    assert "**" not in paper.markdown(accuracy).split("\n", 1)[1]
    assert "**0.750**" in paper.markdown(balanced)
    assert "0.900‖" in paper.markdown(balanced)
    assert r"$\Vert$" in paper.latex(accuracy)
    for table, level in ((accuracy, 2 / 3), (balanced, 0.5)):
        constant = [cell.value for cell in table.rows[-1]]
        assert constant == [floors.CONSTANT, pytest.approx(level), pytest.approx(level)]


def test_the_terminal_shows_the_constant_answer_last() -> None:
    (table,) = terminal.cells(tables.cells([judged("late", 0.7, 0.61)])).renderables
    cells = {str(column.header): list(column.cells)[-1] for column in table.columns}
    lines = "0.667\nbal. 0.500\nAUC 0.500"
    assert (cells["model"], cells["clean"], cells["robust"]) == (floors.CONSTANT, lines, lines)
    first = next(iter(table.columns[3].cells))
    assert first.startswith("0.700")
    assert "bal. 0.610" in first


def test_the_terminals_leaderboard_fits_in_eighty_columns() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(terminal.cells(tables.cells([judged("robust-mail", 0.7, 0.61)])))
    text = console.file.getvalue()
    for whole in ("robust-mail", "4/255", "bal. 0.610", "ASR "):
        assert whole in text


def test_every_figure_of_robust_accuracy_has_the_floor_as_a_dashed_line(tmp_path) -> None:
    made = [judged("late", 0.7, 0.6), judged("late", 0.6, 0.5, eot=8)]
    store = fill(Store(tmp_path), *made)
    board = tables.cells(made)
    look = looks.looks(board.model)
    for figure, level in (
        (curves.radius_figure(board, look), 2 / 3),
        (curves.radius_figure(board, look, "balanced_accuracy"), 0.5),
        (curves.eot(board, look), 2 / 3),
        (plots.pareto(board, look), 2 / 3),
    ):
        lines = [line for line in figure.axes[0].lines if line.get_label() == plots.FLOOR_LABEL]
        assert [line.get_ydata()[0] for line in lines] == [pytest.approx(level)]
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert plots.FLOOR_LABEL in texts
        assert "noise control of each" not in texts
    (map_,) = plots.heat_map(board).axes
    assert map_.get_yticklabels()[-1].get_text() == floors.CONSTANT
    frames = write.frames(store, made) | {"certified": pd.DataFrame()}
    names = {name.split("-heads")[0] for name, _ in drawn.draw(made, frames)}
    assert "robust-balanced-accuracy" in names


def test_figures_show_first_who_is_above_the_floor() -> None:
    made = [judged(f"v{i:02}", 0.7 + i / 100, 0.7) for i in range(12)]
    shown, sentence = plots.leading(tables.cells([*made, judged("low", 0.66, 0.99)]))
    assert "12 of 13 victims" in sentence
    assert "low" not in set(shown.model)


def test_the_page_holds_the_floor_below_its_rows(tmp_path) -> None:
    store = fill(Store(tmp_path), judged("late", 0.7, 0.6), judged("mail", 0.5, 0.4))
    text = page.render(store, store.records())
    assert text.count("<tfoot>") == text.count(f"<td>{floors.CONSTANT}</td>") == 1
    board, members = tables.ranked(store.records())
    late, mail = page._rows(board, members)
    overall = dict(mail["overall"])
    assert (late["rank"], mail["rank"]) == (1, None)
    assert overall["rank"] == "none: below the constant answer"
    assert "accuracy 0.667, balanced accuracy 0.500" in overall[floors.CONSTANT]
    (floor,) = (page._floor(row) for row in tables.each(floors.rows(board)))
    assert floor["samples"] == late["samples"]


# --- under-trained victims ------------------------------------------------------------------------


def classifying(model: str, auc: float, n: int = 600, **more: Any) -> Record:
    """A record of a victim with this clean AUC at both tasks, on samples that all differ."""
    made = with_classes(record(model, n=n, **more), [n // 2, n // 2], [n // 2, n // 2])
    for t in (0, 1):
        made = changed(
            made,
            **{f"figures__tasks__{t}__clean_auc": auc, f"figures__tasks__{t}__n_distinct": n},
        )
    return made


def marked(*records: Record) -> set[str]:
    return {r.spec.victim.model for r in records if r.hash in under_trained(records)}


def test_the_error_of_an_auc_is_that_of_the_rank_sum_where_nothing_is_told_apart() -> None:
    assert auc_error(0.5, [58, 51]) ** 2 == pytest.approx((58 + 51 + 1) / (12 * 58 * 51))
    assert auc_error(1.0, [58, 51]) == 0
    assert auc_error(0.9, [20, 20, 20]) == pytest.approx(auc_error(0.9, [40, 20]))


def test_a_victim_far_below_the_best_undefended_one_is_under_trained() -> None:
    made = [classifying("late", 0.95), classifying("mail", 0.85), classifying("gmu", 0.93)]
    assert marked(*made) == {"mail"}
    (row,) = (row for row in tables.each(tables.cells(made)) if row.model == "mail")
    assert "under-trained on lesion (AUC 0.850, late 0.950)" in row.marks
    only = tables.cells(made[1:2], shortfalls=under_trained(made))
    assert only.marks[0] == row.marks
    assert "under-trained" not in tables.cells(made[1:2]).marks[0]


def test_few_samples_other_data_and_defended_victims_make_nobody_under_trained() -> None:
    assert marked(classifying("late", 0.95, n=30), classifying("mail", 0.85, n=30)) == set()
    assert marked(classifying("late", 0.95, data="heads"), classifying("mail", 0.85)) == set()
    assert marked(classifying("late", 0.95, size=32), classifying("mail", 0.85)) == set()
    assert marked(classifying("late+jpeg", 0.95), classifying("mail", 0.85)) == set()
    assert marked(classifying("late", 0.95), classifying("mail+jpeg", 0.85)) == {"mail+jpeg"}


def test_published_figures_count_where_the_files_are_the_published_ones() -> None:
    published = {"model": "ResNet-18", "size": 28, "accuracy": 0.9, "auc": 0.95, "source": "x"}
    made = changed(classifying("mail", 0.85), references=[published, None])
    (found,) = under_trained([made])[made.hash]
    assert str(found) == "under-trained on lesion (AUC 0.850, published ResNet-18 0.950)"
    assert marked(changed(made, unverified=True)) == set()


def test_cards_carry_the_marks_that_other_victims_of_the_store_give() -> None:
    made = [classifying("late", 0.95), classifying("mail", 0.85)]
    victim = model_cards.VictimRecords(made[1:], {}, shortfalls=under_trained(made))
    text = model_cards.model_card(victim)
    assert "under-trained on lesion (AUC 0.850, late 0.950)" in text
    assert f"| {floors.CONSTANT} | - | {made[0].spec.data.n} | 0.500 | 0.500 |" in text


def test_a_task_below_its_own_floor_is_named_though_the_mean_lies_above() -> None:
    made = with_classes(judged("late", 0.7, 0.61), [37, 13], [31, 19])
    low, high = (
        task.model_copy(update={"robust": robust})
        for task, robust in zip(made.figures.tasks, (0.5, 0.9), strict=True)
    )
    made = made.model_copy(
        update={"figures": made.figures.model_copy(update={"tasks": [low, high], "robust": 0.7})}
    )
    board = tables.cells([made])
    assert f"{floors.BELOW} on {made.names.tasks[0]}" in board.marks[0]
    assert made.names.tasks[1] not in board.marks[0]
    assert board["rank"][0] == 1
