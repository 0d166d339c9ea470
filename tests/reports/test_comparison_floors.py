"""What a comparison says beside the constant answer, and where classes are imbalanced."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from support.comparisons import PASSED, USUAL, row_of
from support.records import changed, outcomes, record

from robustbench_med.reports.comparison import pairs as paired
from robustbench_med.reports.comparison.entries import Entry
from robustbench_med.reports.comparison.page import markdown
from robustbench_med.reports.comparison.pareto import figure, pareto
from robustbench_med.reports.comparison.rows import Naive, Row, rows_of
from robustbench_med.reports.comparison.table import display, frame, latex, with_constant
from robustbench_med.reports.comparison.verdict import verdict
from robustbench_med.reports.floors import BELOW, CONSTANT, Floor
from robustbench_med.reports.style import LARGEST_AREA, UNKNOWN_AREA
from robustbench_med.reports.tables import csv
from robustbench_med.statistics import balanced_accuracy, effective_n, wilson
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

LABELS = np.repeat([0, 1], [80, 20])
FOUR_FIFTHS = Floor.of_counts([[80, 20]])
HALF = Floor.of_counts([[100, 100]])


def of_classes(defense: str, first: int, second: int, *, floor: Floor = FOUR_FIFTHS) -> Row:
    """A row that is right on so many of the 80 samples of one class and the 20 of another."""
    right = np.concatenate([np.arange(80) < first, np.arange(20) < second]).astype(float)
    return row_of(defense, right, labels=LABELS, floor=floor)


def sentences_of(*rows: Row) -> list[str]:
    return verdict(frame(rows), paired.pairs(rows))


def test_where_classes_are_imbalanced_victims_are_judged_on_balanced_accuracy() -> None:
    """Two points of accuracy apart, 27.5 of balanced accuracy."""
    said, best = sentences_of(of_classes("none", 80, 5), of_classes("trades", 68, 19))
    assert "trades beats none in robust balanced accuracy by +27.5 points [" in said
    assert "class-weighted McNemar-Holm p = " in said
    assert "points of clean balanced accuracy" in said
    assert "late with trades has the highest worst-case robust balanced accuracy, 0.900" in best
    assert best.endswith("at a clean balanced accuracy of 0.890.")
    by_accuracy = replace(FOUR_FIFTHS, imbalanced=False)
    said, best = sentences_of(
        of_classes("none", 80, 5, floor=by_accuracy),
        of_classes("trades", 68, 19, floor=by_accuracy),
    )
    assert "trades cannot be told from none, no difference shown: +2.0 points [" in said
    assert "highest worst-case robust accuracy, 0.870" in best


def test_a_victim_that_falls_back_on_the_frequent_class_is_not_the_best() -> None:
    """Its accuracy under attack is the higher one, and that of the constant answer."""
    constant, honest = of_classes("man", 80, 0), of_classes("none", 66, 18)
    worse = row_of("jpeg", of_classes("", 60, 10).outcomes.worst, labels=LABELS, floor=FOUR_FIFTHS)
    said, other, best = sentences_of(honest, constant, worse)
    assert "man is worse than none in robust balanced accuracy by -36.3 points" in said
    assert best.startswith("On d (Linf, 4/255) late with none has the highest")
    assert frame([honest, constant]).marks.tolist() == ["", BELOW]
    assert "beats" not in other


@pytest.mark.parametrize("swapped", [False, True])
def test_at_or_below_the_constant_answer_nothing_beats_anything(swapped) -> None:
    low, lower = np.arange(200) < 80, np.arange(200) < 20
    plain, defended = (low, lower) if swapped else (lower, low)
    rows = [
        row_of("none", plain.astype(float), floor=HALF),
        row_of("jpeg", defended.astype(float), floor=HALF),
    ]
    said, best = sentences_of(*rows)
    better = "none" if swapped else "jpeg"
    assert "beats" not in said
    assert "is worse than" not in said
    assert (
        f"but {better} is at or below the constant answer (robust accuracy 0.400, constant 0.500):"
        " that is no robustness"
    ) in said
    assert best == (
        f"On d (Linf, 4/255) no victim is robust: late with {better}, the highest, is at or below"
        " the constant answer (robust accuracy 0.400, constant 0.500)."
    )


def test_a_balanced_accuracy_of_chance_is_the_constant_answers_whatever_the_accuracy() -> None:
    chance = replace(FOUR_FIFTHS, accuracy=0.7)
    row = of_classes("man", 76, 1, floor=chance)
    assert row.worst.worst > chance.accuracy
    assert row.worst.worst_balanced_accuracy == pytest.approx(0.5)
    assert row.is_below_floor
    assert not replace(row, floor=replace(chance, imbalanced=False)).is_below_floor
    (best,) = sentences_of(of_classes("none", 80, 0, floor=chance), row)[1:]
    assert "no victim is robust" in best
    assert "(robust balanced accuracy 0.500, constant 0.500)" in best


def test_what_a_naive_attack_shows_is_of_the_same_figure_and_no_robustness_below_the_floor() -> (
    None
):
    naive = Naive(0.85, 0.60, "pgd", "unaware")
    plain, jpeg = of_classes("none", 66, 16), replace(of_classes("jpeg", 67, 9), naive=naive)
    said = sentences_of(plain, jpeg)[0]
    assert "Its advantage under" not in said  # 0.60 balanced against 0.81
    high = replace(jpeg, naive=replace(naive, naive_balanced_accuracy=0.9125))
    said = sentences_of(plain, high)[0]
    assert "unaware of the transform, 10.0 points, leaves no robustness under BPDA" in said


def test_an_under_trained_victim_has_its_mark_in_every_sentence() -> None:
    marked = replace(
        PASSED, marks="under-trained on lesion (AUC 0.7, late 0.9)", is_under_trained=True
    )
    plain, better = np.zeros(200), np.repeat([1.0, 0.0], 100)
    said, best = sentences_of(row_of("none", plain), row_of("trades", better, trust=marked))
    assert "trades (under-trained) beats none by +50.0" in said
    assert "late with trades (under-trained) has the highest" in best
    said, best = sentences_of(row_of("none", plain, trust=marked), row_of("trades", better))
    assert "trades beats none (under-trained) by +50.0" in said
    close = np.repeat([1.0, 0.0], [98, 102])
    _, best = sentences_of(row_of("none", better), row_of("trades", close, trust=marked))
    assert "No difference is shown from late with trades (under-trained) (" in best


def test_every_table_ends_with_the_constant_answer() -> None:
    rows = [of_classes("none", 80, 5), of_classes("trades", 68, 19)]
    rows += [replace(row, setting=replace(row.setting, eps="8/255")) for row in rows]
    rows = [replace(row, costs=replace(row.costs, parameters=12_345_678)) for row in rows]
    table = with_constant(frame(rows))
    assert table.model.tolist() == ["late", "late", CONSTANT] * 2
    constant = table.iloc[2]
    assert (constant.clean, constant.pgd, constant.worst, constant.floor_accuracy) == (0.8,) * 4
    assert constant.worst_balanced_accuracy == constant.pgd_balanced_accuracy == 0.5
    assert constant.worst_auc == constant.pgd_auc == 0.5
    assert table.trainings.fillna(0).tolist() == [1, 1, 0] * 2
    assert ",12345678," in csv(table)
    shown = display(frame(rows))
    assert shown["balanced accuracy, worst case [95 %]"].tolist()[:3] == [
        "0.625 [0.100, 0.800]", "0.900 [0.100, 0.800]", "0.500",
    ]  # fmt: skip
    assert shown["AUC, worst case"].tolist()[:3] == ["0.600", "0.600", "0.500"]


def test_pairs_hold_all_three_differences_and_say_which_is_judged() -> None:
    rows = [of_classes("none", 80, 5), of_classes("trades", 68, 19)]
    rows[1] = replace(rows[1], worst=replace(rows[1].worst, worst_auc=0.75))
    (pair,) = paired.pairs(rows)
    table = paired.frame([pair]).iloc[0]
    assert table.judged_on == "balanced_accuracy"
    assert table.difference == table.balanced_accuracy_difference == pytest.approx(-0.275)
    assert table.accuracy_difference == pytest.approx(-0.02)
    assert table.auc_difference == pytest.approx(-0.15)
    assert pair.mirrored().auc_difference == pytest.approx(0.15)
    text = str(markdown(frame(rows), [pair], [], command="medrobust compare", seconds=1.0))
    assert "| robust balanced accuracy | -27.5 [" in text
    assert "| -2.0 | -27.5 | -15.0 |" in text


def test_in_print_the_judged_column_ranks_and_what_is_below_the_floor_does_not() -> None:
    rows = [of_classes("none", 70, 8), of_classes("trades", 76, 15), of_classes("man", 80, 1)]
    rows.append(of_classes("jpeg", 80, 2))
    tex = latex(frame(rows))
    assert r"\textbf{0.850} [" in tex  # balanced accuracy of trades
    assert r"\underline{0.550} [" in tex  # of jpeg
    assert r"\textbf{0.910}" not in tex  # its accuracy
    assert "0.525" in tex
    below = [of_classes("none", 70, 18), of_classes("man", 79, 0), of_classes("jpeg", 68, 16)]
    assert r"\underline{0.825}" in latex(frame(below))  # second: man has no rank
    assert f"{CONSTANT} &" in tex


def test_the_figure_has_the_floor_and_says_what_it_shows(tmp_path) -> None:
    rows = [of_classes("none", 80, 5), of_classes("trades", 68, 19)]
    pareto(frame(rows), tmp_path / "pareto.png")
    drawn = (tmp_path / "pareto.svg").read_text()
    assert CONSTANT in drawn
    assert "robust balanced accuracy, worst case" in drawn
    assert "clean balanced accuracy" in drawn
    assert drawn.count("stroke-dasharray") >= 2  # the line and its entry in the legend
    even = [row_of(name, np.ones(8), data="e", floor=HALF) for name in ("none", "jpeg")]
    pareto(frame([*rows, *even]), tmp_path / "both.png")
    both = (tmp_path / "both.svg").read_text()
    assert ">robust balanced accuracy, worst case<" in both
    assert ">robust accuracy, worst case<" in both


# --- out of records -------------------------------------------------------------------------------


def imbalanced(attack: str, broken: slice, auc: float) -> tuple[Record, dict]:
    """A record of one attack on 50 samples, every fifth of class 1 at both tasks, and its outcomes:
    some are broken at the second task. The last 10 images repeat the first.
    """
    made = record(attack=attack)
    tasks = [task.plain() | {"auc": auc} for task in made.figures.tasks]
    made = changed(made, draws=1, figures__tasks=tasks, figures__auc=auc)
    labels = np.repeat((np.arange(50) % 5 == 0).astype(int)[:, None], 2, 1)
    right = np.ones((50, 2), np.float32)
    right[broken, 1] = 0
    return made, outcomes(made) | {"labels": labels, "robust_right": right}


def test_the_worst_case_of_the_balanced_accuracy_is_that_of_the_outcomes(tmp_path) -> None:
    store, made = Store(tmp_path), []
    for each, arrays in (
        imbalanced("pgd", slice(0, 50, 5), 0.7),
        imbalanced("fgsm", slice(1, 50, 5), 0.4),
    ):
        store.write(each, arrays)
        made.append(each)
    (row,) = rows_of(Entry("mail", "none", tuple(made)), store)
    labels = (np.arange(50) % 5 == 0).astype(int)
    right = np.where(np.arange(50) % 5 < 2, 0.0, 1.0)
    of_task = balanced_accuracy(right, labels, 2)
    assert row.worst.worst == pytest.approx((1 + right.mean()) / 2)
    assert row.worst.worst_balanced_accuracy == pytest.approx((1 + of_task) / 2)
    assert row.worst.worst_auc == 0.4
    frequent = min(effective_n(right[labels == 0], np.flatnonzero(labels == 0) % 40), 32)
    expected = wilson((1 + of_task) / 2, 4 / (1 / 8 + 1 / frequent))  # 8 images of class 1
    assert (
        row.worst.worst_balanced_accuracy_low,
        row.worst.worst_balanced_accuracy_high,
    ) == pytest.approx(expected)
    assert row.floor == Floor.of_counts([[40, 10]] * 2)
    assert set(zip(row.outcomes.tasks, row.outcomes.classes, strict=True)) == {
        (task, label) for task in (0, 1) for label in (0, 1)
    }


def test_an_auc_that_one_attack_lacks_has_no_worst_case(tmp_path) -> None:
    store = Store(tmp_path)
    (made, arrays), (other, others) = (
        imbalanced(attack, slice(0, 5), 0.7) for attack in ("pgd", "fgsm")
    )
    other = changed(other, figures__auc=None)
    store.write(made, arrays)
    store.write(other, others)
    (row,) = rows_of(Entry("mail", "none", (made, other)), store)
    assert row.worst.worst_auc is None
    assert row.robust["pgd"].auc == 0.7
    assert display(frame([row]))["AUC, worst case"].tolist() == ["-", "0.500"]


def test_a_sample_counts_under_several_norms_only_if_it_stands_under_every_one(tmp_path) -> None:
    store, made = Store(tmp_path), []
    for norm, eps, broken in (
        ("Linf", 4 / 255, slice(0, 50, 5)),
        ("L1", 3.0, slice(0, 20)),
        ("L1", 6.0, slice(0, 25)),
    ):
        own, arrays = imbalanced("pgd", broken, 0.5)
        each = record(attack="pgd", norm=norm, eps=eps)
        each = changed(each, draws=1, figures__tasks=own["figures"]["tasks"], figures__auc=0.5)
        store.write(each, arrays)
        made.append(each)
    *alone, together = rows_of(Entry("mail", "none", tuple(made)), store)
    assert [(row.setting.norm, row.setting.eps) for row in alone] == [
        ("Linf", "4/255"),
        ("L1", "3"),
        ("L1", "6"),
    ]
    assert (together.setting.norm, together.setting.eps) == ("Linf + L1", "4/255 + 6")
    stands = (np.arange(50) % 5 != 0) & (np.arange(50) >= 25)
    assert together.worst.worst == pytest.approx((1 + stands.mean()) / 2)
    assert [round(row.worst.worst, 3) for row in alone] == [0.9, 0.8, 0.75]
    table = frame([*alone, together])
    assert display(table)["pgd"].tolist()[-2] == "-"  # no figure of one attack
    assert len(rows_of(Entry("mail", "none", tuple(made[1:])), store)) == 2  # one norm alone


def test_black_boxes_whose_flops_nobody_knows_have_a_point_all_the_same(tmp_path) -> None:
    unknown = replace(USUAL, gflops=0.0, training_gflops=None)
    asked = [row_of(name, np.ones(8), costs=unknown) for name in ("none", "jpeg")]
    pareto(frame(asked), tmp_path / "pareto.png")
    beside = [row_of("none", np.ones(8)), replace(asked[1], model="device")]
    (points,) = figure(frame(beside)).axes[:1]
    drawn = [found for found in points.collections if isinstance(found, PathCollection)]
    areas = [found.get_sizes()[0] for found in drawn]
    assert sorted(areas) == [UNKNOWN_AREA, LARGEST_AREA]
