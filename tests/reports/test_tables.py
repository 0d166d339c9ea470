"""Tables: documented columns, classes and modalities, what papers print."""

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.files import ROOT
from support.records import certificate, certify, changed, fill, record

from robustbench_med.errors import UserError
from robustbench_med.reports import (
    breakdowns,
    certified,
    columns,
    paper,
    paper_tables,
    records,
    tables,
    write,
)
from robustbench_med.statistics import wilson
from robustbench_med.store import record as schema
from robustbench_med.store.record import Record
from robustbench_med.store.store import CERTIFICATES, Store

DOCS = ROOT / "docs"


def store_of(tmp_path: Path, *records, images: bool = False) -> Store:
    return fill(Store(tmp_path), *records, images=images)


def test_every_column_is_documented_in_its_order_and_the_pages_are_up_to_date(tmp_path) -> None:
    store = store_of(tmp_path, record(), record(eps=[4 / 255, 0.0], tasks=(1,)))
    proved = certified.frames(certify(Store(tmp_path, CERTIFICATES), certificate()))
    for name, frame in (write.frames(store, store.records()) | proved).items():
        found = dict.fromkeys(
            re.sub(r"^(task|clean|robust)_\d+$", r"\1_T", column)
            for column in tables.written(frame).columns
        )
        assert list(found) == list(columns.COLUMNS[name]), name
    assert (DOCS / "columns.md").read_text() == columns.page()
    for name in schema.SCHEMAS:
        assert (DOCS / f"{name}.schema.json").read_text() == schema.json_schema(name)


def test_records_follow_the_schema_and_a_broken_one_does_not() -> None:
    assert Record.of(record(trust="warn").plain()) == record(trust="warn")
    broken = record().plain()
    broken["figures"]["robust"] = 1.5
    with pytest.raises(ValueError, match="robust"):
        Record.model_validate(broken)
    assert json.loads(schema.json_schema())["required"]


def test_csv_round_trips_through_pandas(tmp_path) -> None:
    store = store_of(
        tmp_path, record('a,b\n"quoted"', 0.123456789), record("ütf", 0.7, trust="fail")
    )
    for name, frame in write.frames(store, store.records()).items():
        if len(frame):
            again = pd.read_csv(io.StringIO(tables.csv(frame)), keep_default_na=True)
            assert list(again.columns) == list(tables.written(frame).columns), name
            assert len(again) == len(frame)
            if "model" in frame:
                assert again.model.tolist() == frame.model.tolist()
    board = pd.read_csv(io.StringIO(tables.csv(tables.leaderboard(store.records()))))
    assert board.robust.tolist() == pytest.approx([0.7, 0.123457], abs=1e-12)


def test_trust_is_the_worst_of_a_family_and_old_records_were_not_checked() -> None:
    assert tables.trust([record()]) == "not checked"
    assert tables.trust([record(trust="pass"), record()]) == "not checked"
    assert (
        tables.trust([record(trust="pass"), record(trust="fail"), record(trust="warn")]) == "fail"
    )
    assert tables.leaderboard([record(trust="warn")]).trust.tolist() == ["warn"]


def test_robust_figures_carry_trust_by_record_and_by_class(tmp_path) -> None:
    made = [
        record(trust="warn", seed=0),
        record(trust="fail", seed=1),
        record("late", trust="pass"),
    ]
    long = records.long_form(made)
    assert long.groupby("record").trust.unique().map(list).to_dict() == {
        r.short: [r.trust] for r in made
    }
    classes = breakdowns.per_class(made, store_of(tmp_path, *made).arrays)
    assert classes.groupby("model").trust.unique().map(list).to_dict() == {
        "late": ["pass"],
        "mail": ["fail"],
    }


def test_the_median_smallest_perturbation_is_a_mean_over_seeds_and_empty_where_there_is_none() -> (
    None
):
    searched = [
        record(attack="cw", seed=0),
        record(attack="cw", seed=1),
        record("late", attack="cw"),
    ]
    searched = [
        changed(one, figures__minimal_norm={"median": median, "curve": [[0.0, 0.9]]})
        for one, median in zip(searched, (0.5, 0.7, None), strict=True)
    ]
    frame = tables.leaderboard([*searched, record("gmu")]).set_index("model")
    assert frame.minimal_norm_median["mail"] == pytest.approx(0.6)
    assert frame.minimal_norm_median[["late", "gmu"]].isna().all()


def test_engines_are_rows_of_their_own_and_not_ranked_against_each_other() -> None:
    board = tables.leaderboard([record(robust=0.5), record(robust=0.4, engine="art")])
    assert sorted(zip(board.engine, board["rank"], strict=True)) == [("art", 1), ("native", 1)]


def test_the_class_that_loses_most_comes_first_with_an_interval_over_its_distinct_images(
    tmp_path,
) -> None:
    made = record(robust=0.5)
    store = store_of(tmp_path, made)
    arrays = store.arrays(made)
    arrays["robust_right"][arrays["labels"][:, 1] == 1, 1] = 0  # every d is lost
    shutil.rmtree(store.folder)
    store.write(made, arrays)
    frame = breakdowns.per_class(store.records(), store.arrays)
    lung = frame[frame.task == "lung"]
    assert lung["class"].tolist() == ["d", "c"]
    assert lung.robust.tolist() == [
        0.0,
        pytest.approx(13 / 25),
    ]  # of 25 c the first 13 are among the first 25 samples
    assert lung.n.tolist() == [25, 25]
    assert lung.n_distinct.tolist() == [20, 20]
    assert (lung.robust_low.iloc[1], lung.robust_high.iloc[1]) == pytest.approx(wilson(13 / 25, 20))


def test_the_cross_modal_matrix_holds_exactly_the_records_of_one_modality_and_one_task() -> None:
    single = [
        record(robust=r, eps=e, tasks=(t,))
        for r, e, t in ((0.9, [0.1, 0.0], 0), (0.6, [0.1, 0.0], 1), (0.3, [0.0, 0.1], 1))
    ]
    frame = breakdowns.cross_modal([*single, record(), record(eps=[0.1, 0.0]), record(tasks=(0,))])
    found = {(row.modality, row.task): row.robust for row in frame.itertuples()}
    assert found == {("mri", "lesion"): 0.9, ("mri", "lung"): 0.6, ("xray", "lung"): 0.3}
    (table,) = paper_tables.cross_modal(frame)
    assert [[cell.value for cell in row] for row in table.rows] == [
        ["mri", 0.9, 0.6],
        ["xray", None, 0.3],
    ]


def test_latency_goes_to_the_column_of_its_device() -> None:
    on_cpu = record()
    on_gpu = changed(record(seed=1), victim__latency_ms=0.25, on_gpu=True)
    (row,) = records.victims([on_cpu, on_gpu]).itertuples()
    assert (row.latency_cpu_ms, row.latency_gpu_ms, row.records) == (1.0, 0.25, 2)
    assert pd.isna(row.training_seconds)


def test_training_time_is_what_the_records_say_of_it() -> None:
    training = {"steps": 4, "batch_size": 8, "forward": 1, "backward": 1, "seconds": 12.5}
    timed = changed(record(), victim__training=training)
    foreign = changed(record("late"), victim__training=None)  # weights without a sidecar
    frame = records.victims([timed, foreign]).set_index("model")
    assert frame.training_seconds["mail"] == 12.5
    assert pd.isna(frame.training_seconds["late"])


def board() -> pd.DataFrame:
    figures = {"late": 0.7, "mail": 0.5, "gmu": 0.6, "tied": 0.7}
    return tables.leaderboard(
        [record(m, r) for m, r in figures.items()]
        + [record("mail", 0.4, eot=16), record(attack="noise", robust=0.9)]
    )


def test_best_is_bold_second_underlined_and_of_several_settings_the_strongest_counts() -> None:
    (table,) = paper_tables.leaderboards(board())
    text = paper.markdown(table)
    half = (wilson(0.7, 40)[1] - wilson(0.7, 40)[0]) / 2
    assert f"| late | 0.900 ± 0.095 | - | **0.700** ± {half:.3f} |" in text.replace(
        "**0.900**", "0.900"
    )
    assert "| tied |" in text
    assert text.count("**0.700**") == 2
    assert text.count("<u>0.600</u>") == 1
    assert "0.400 ±" in text
    assert "0.500" not in text
    assert "† Synthetic images." in text
    tex = paper.latex(table)
    for part in (
        r"\toprule",
        r"\textbf{0.700} $\pm$",
        r"\underline{0.600}",
        r"heads+chests\textdagger{}",
        "n = 50",
    ):
        assert part in tex


def test_costs_rank_the_smaller_first_and_doubted_figures_carry_a_mark() -> None:
    (table,) = paper_tables.victims(
        records.victims([record("late", gflops=2.0), record("mail", gflops=1.0)])
    )
    assert "**1.000**" in paper.markdown(table)
    assert "<u>2.000</u>" in paper.markdown(table)
    (table,) = paper_tables.leaderboards(
        tables.leaderboard([record("late", 0.7, trust="fail"), record("mail", trust="pass")])
    )
    assert paper.markdown(table).count("‡") == 2  # the cell and the legend


def test_naive_rows_stand_behind_all_others_and_have_no_rank() -> None:
    made = [
        record("late", 0.3),
        record("mail", 0.5),
        record("late+jpeg (unaware attack)", 0.9, naive=True),
        record("gmu", 0.5),
    ]
    frame = tables.leaderboard(made)
    assert frame.model.tolist()[-1] == "late+jpeg (unaware attack)"
    assert frame["rank"].tolist()[:3] == [1, 1, 3]
    assert pd.isna(frame["rank"].iloc[3])
    assert tables.csv(frame).splitlines()[-1].startswith(",late+jpeg (unaware attack),")


def test_papers_do_not_call_naive_failed_or_trivial_figures_the_best() -> None:
    made = [
        record("fooled (unaware attack)", 0.9, naive=True, clean=0.99),
        record("masked", 0.8, trust="fail"),
        record("constant", 0.7, trivial="predicts one class", clean=0.98),
        record("late", 0.4, trust="warn", clean=0.92),
        record("mail", 0.3),
    ]
    (table,) = paper_tables.leaderboards(tables.leaderboard(made))
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
        record("masked", 0.8, trust="fail"),
        record("mail", 0.4),
        record("late", 0.2),
    ]
    store = store_of(tmp_path, *made)
    for table in paper_tables.per_class(
        breakdowns.per_class(made, store.arrays), tables.leaderboard(made)
    ):
        best = {
            row[0].value
            for row, ranks in zip(table.rows, table.rankings(), strict=True)
            if 1 in ranks
        }
        assert best == {"mail"}
        assert [row[0].value for row in table.rows] == ["late", "mail", "masked", "fooled"]
        assert [row[1].mark for row in table.rows] == ["", "", "‡", "¶"]


def test_nothing_is_best_where_all_tie() -> None:
    (table,) = paper_tables.leaderboards(
        tables.leaderboard([record("late", 0.5), record("mail", 0.5)])
    )
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
    (table,) = paper_tables.leaderboards(tables.leaderboard(made))
    assert table.caption.endswith(end)


def test_tables_share_pages_and_only_wide_ones_lie_on_their_side() -> None:
    narrow = paper.Table(
        "t",
        "narrow",
        [paper.Column("victim"), paper.Column("clean")],
        [[paper.TableCell("late"), paper.TableCell(0.5)]],
    )
    many = [paper.Column(f"pgd {i}/255") for i in range(8)]
    wide = paper.Table(
        "t",
        "wide",
        [paper.Column("victim"), *many],
        [[paper.TableCell("late"), *[paper.TableCell(0.5, 0.1)] * 8]],
    )
    text = paper.document([narrow, narrow, wide, wide])
    assert r"\clearpage" not in text
    assert text.count(r"\begin{landscape}") == 1
    before, lying = text.split(r"\begin{landscape}")
    assert (before.count("narrow."), lying.count("wide.")) == (2, 2)
    assert r"\resizebox" not in text
    assert r"\resizebox" in paper.document(
        [
            paper.Table(
                "t", "c", [paper.Column("victim"), *many * 2], [[*wide.rows[0], *wide.rows[0][1:]]]
            )
        ]
    )


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
    made = [record(name, 0.2 * i, trust="fail") for i, name in enumerate(names)]
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
    assert "not finite for 7 samples" in tables.marks(several)
    assert not any("finite" in mark for mark in tables.marks([record()]))
