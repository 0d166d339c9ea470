"""Tables for print: what is best, what is doubted, LaTeX that compiles."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from support.records import changed, record
from support.stores import board, store_of

from robustbench_med.errors import UserError
from robustbench_med.reports import (
    breakdowns,
    marks,
    paper,
    paper_tables,
    records,
    tables,
    write,
)
from robustbench_med.statistics import wilson


def test_best_is_bold_second_underlined_and_of_several_settings_the_strongest_counts() -> None:
    table, *_ = paper_tables.cells(board())
    text = paper.markdown(table)
    (clean_low, clean_high), (low, high) = wilson(0.9, 40), wilson(0.7, 40)
    clean = f"0.900 \\[{clean_low:.3f}, {clean_high:.3f}\\]"
    assert f"| late | {clean} | - | **0.700** \\[{low:.3f}, {high:.3f}\\] |" in text.replace(
        "**0.900**", "0.900"
    )
    assert "| tied |" in text
    assert text.count("**0.700**") == 2
    assert text.count("<u>0.600</u>") == 1
    assert "0.400 \\[" in text
    assert "0.500" not in text
    assert "† Synthetic images." in text
    tex = paper.latex(table)
    for part in (
        r"\toprule",
        r"\textbf{0.700} [",
        r"\underline{0.600}",
        r"heads+\allowbreak{}chests\textdagger{}",
        "n = 50",
    ):
        assert part in tex


def test_costs_rank_the_smaller_first_and_doubted_figures_carry_a_mark() -> None:
    (table,) = paper_tables.victims(
        records.victims([record("late", gflops=2.0), record("mail", gflops=1.0)])
    )
    assert "**1.000**" in paper.markdown(table)
    assert "<u>2.000</u>" in paper.markdown(table)
    table, *_ = paper_tables.cells(
        tables.cells([record("late", 0.7, trust="failed"), record("mail", trust="fine")])
    )
    assert paper.markdown(table).count("‡") == 2  # the cell and the legend


def test_naive_rows_stand_behind_all_others_and_have_no_rank() -> None:
    made = [
        record("late", 0.3),
        record("mail", 0.5),
        record("late+jpeg (unaware attack)", 0.9, naive=True),
        record("gmu", 0.5),
    ]
    frame = tables.cells(made)
    assert frame.model.tolist()[-1] == "late+jpeg (unaware attack)"
    assert frame["rank"].tolist()[:3] == [1, 1, 3]
    assert pd.isna(frame["rank"].iloc[3])
    assert tables.csv(frame).splitlines()[-1].startswith(",late+jpeg (unaware attack),")


def test_papers_do_not_call_naive_failed_or_trivial_figures_the_best() -> None:
    made = [
        record("fooled (unaware attack)", 0.9, naive=True, clean=0.99),
        record("masked", 0.8, trust="failed"),
        record("constant", 0.7, trivial="predicts one class", clean=0.98),
        record("late", 0.4, trust="doubtful", clean=0.92),
        record("mail", 0.3),
    ]
    table, *_ = paper_tables.cells(tables.cells(made))
    assert [row[0].value for row in table.rows] == [
        "constant",
        "late",
        "mail",
        "masked",
        "fooled (unaware attack)",
    ]
    text, tex = paper.markdown(table), paper.latex(table)
    assert re.findall(r"\*\*(0\.\d+)", text) == ["0.920", "0.400"]
    assert re.findall(r"<u>(0\.\d+)", text) == ["0.900", "0.300", "0.900"]
    assert "constant§" in text
    for doubt, marked in (
        ("¶", "over-estimate, not ranked"),
        ("‡", "column trust"),
        ("§", "no better than a constant"),
    ):
        assert text.count(doubt) == (3 if doubt == "‡" else 2), doubt  # cells and legend
        assert marked in text.lower()
    for part in (r"\P{}", r"\S{}", r"\textdaggerdbl{}", r"\textbf{0.400}"):
        assert part in tex


def test_by_class_too_the_best_is_an_honest_one(tmp_path) -> None:
    made = [
        record("fooled", 0.9, naive=True),
        record("masked", 0.8, trust="failed"),
        record("mail", 0.4),
        record("late", 0.2),
    ]
    store = store_of(tmp_path, *made)
    for table in paper_tables.per_class(
        breakdowns.per_class(made, store.arrays), tables.cells(made)
    ):
        best = {
            row[0].value
            for row, ranks in zip(table.rows, table.rankings(), strict=True)
            if 1 in ranks
        }
        assert best == {"mail"}
        assert [row[0].value for row in table.rows[:-1]] == ["late", "mail", "masked", "fooled"]
        assert [row[1].mark for row in table.rows[:-1]] == ["", "", "‡", "¶"]
        constant = [cell.value for cell in table.rows[-1]]
        assert constant == ["always the most frequent class", 1.0, 0.0]


def test_nothing_is_best_where_all_tie() -> None:
    table, *_ = paper_tables.cells(tables.cells([record("late", 0.5), record("mail", 0.5)]))
    assert table.rankings() == [[None] * 3] * 2


def test_the_cost_table_has_a_row_a_victim_with_the_median_of_its_trainings() -> None:
    seconds = {0: 10.0, 1: 30.0, 2: 11.0}
    passes = {"steps": 4, "batch_size": 8, "forward": 1, "backward": 1}
    made = [
        changed(record("late", train_seed=seed), victim__training={**passes, "seconds": took})
        for seed, took in seconds.items()
    ]
    made += [
        record("late", preset="paper", gflops=2.0),
        record("mail"),
        record("late+jpeg (unaware attack)", naive=True),
    ]
    (table,) = paper_tables.victims(records.victims(made))
    assert [row[0].value for row in table.rows] == [
        "late (preset paper)",
        "late (preset quick)",
        "mail",
    ]
    assert [row[-1].value for row in table.rows] == [None, 11.0, None]
    assert "median of 1 to 3 trainings" in table.caption


@pytest.mark.parametrize(
    ("seeds", "train_seeds", "end"),
    [
        ((0,), (0,), "n = 50"),
        ((0, 1), (0,), "n = 50, mean of 2 evaluation seeds"),
        ((0,), (0, 1, 2), "n = 50, mean of 3 trainings"),
    ],
)
def test_captions_tell_of_how_many_trainings_and_evaluations_a_figure_is_the_mean(
    seeds, train_seeds, end
) -> None:
    made = [
        record(seed=seed, train_seed=train_seed) for seed in seeds for train_seed in train_seeds
    ]
    table, *_ = paper_tables.cells(tables.cells(made))
    assert table.caption.endswith(end)


def test_tables_share_pages_and_only_wide_ones_lie_on_their_side() -> None:
    narrow = paper.Table(
        "t",
        "narrow",
        [paper.Column("victim"), paper.Column("clean")],
        [[paper.TableCell("late"), paper.TableCell(0.5)]],
    )
    many = [paper.Column(f"pgd {i}/255") for i in range(5)]
    wide = paper.Table(
        "t",
        "wide",
        [paper.Column("victim"), *many],
        [[paper.TableCell("late"), *[paper.TableCell(0.5, (0.4, 0.6))] * 5]],
    )
    text = paper.document([narrow, narrow, wide, wide])
    assert r"\clearpage" not in text
    assert text.count(r"\begin{landscape}") == 1
    before, lying = text.split(r"\begin{landscape}")
    assert (before.count("narrow."), lying.count("wide.")) == (2, 2)


TEX = (
    ["pdflatex", "-halt-on-error", "-interaction=nonstopmode"]
    if shutil.which("pdflatex")
    else ["tectonic"]
)


@pytest.mark.skipif(
    shutil.which(TEX[0]) is None, reason="neither pdflatex nor tectonic on this machine"
)
def test_latex_tables_compile_whatever_the_names(tmp_path) -> None:
    names = ["50% & more_or_less #1", "a\\b^c~d{e}$f", "<script>", "resnet-18"]
    made = [record(name, 0.2 * i, trust="failed") for i, name in enumerate(names)]
    made += [
        record(eps=i / 255, naive=i > 4, trivial="predicts one class") for i in range(1, 16)
    ]  # wide: on its side, made smaller
    store = store_of(tmp_path, *made, record(eps=[4 / 255, 0.0], tasks=(1,)))
    write.papers(write.frames(store, store.records()), tmp_path / "paper")
    done = subprocess.run(
        [*TEX, "all.tex"],
        cwd=tmp_path / "paper",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert (tmp_path / "paper" / "all.pdf").stat().st_size > 10_000
    assert "Overfull" not in (tmp_path / "paper" / "all.log").read_text(errors="replace")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_a_pasted_table_fits_a_column_of_an_article(tmp_path) -> None:
    data = "breastmnist+pneumoniamnist"
    attacks = ("fgsm", "pgd", "apgd", "square", "autoattack", "hopskipjump")
    made = [
        record(name, i / 9, data=data, attack=attack)
        for name in ("late+adversarial-training", "cross-attention+input-noise+jpeg")
        for i, attack in enumerate(attacks)
    ]
    board = tables.cells(made)
    pasted = [paper.latex(table) for table in paper_tables.cells(board)]
    start = [r"\documentclass{article}", r"\usepackage{booktabs,graphicx}", r"\begin{document}"]
    text = "\n".join([*start, *pasted, r"\end{document}"])
    (tmp_path / "article.tex").write_text(text, encoding="utf-8")
    command = [*TEX, "article.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0
    assert len(pasted) >= 2
    assert "Overfull" not in (tmp_path / "article.log").read_text(errors="replace")


def test_outcomes_that_cannot_be_read_are_one_line(tmp_path) -> None:
    made = record()
    store = store_of(tmp_path, made)
    store.path(made.hash).with_suffix(".npz").write_bytes(b"PK broken")
    with pytest.raises(UserError, match="--force"):
        store.arrays(made)
    assert np.isfinite(made.figures.robust)


def test_samples_that_are_not_finite_are_marked_by_the_most_of_a_row(tmp_path) -> None:
    several = [record(seed=seed) for seed in (0, 1)]
    several[1] = changed(several[1], figures__not_finite=7)
    assert "not finite for 7 samples" in marks.marks(several)
    assert not any("finite" in mark for mark in marks.marks([record()]))
