"""Tables: documented columns, classes and modalities, what papers print."""

import io
import json
import re
import shutil

import pandas as pd
import pytest
from support.files import ROOT
from support.records import certificate, certify, changed, record
from support.stores import store_of

from robustbench_med.reports import (
    breakdowns,
    certified,
    columns,
    columns_page,
    paper_tables,
    records,
    tables,
    write,
)
from robustbench_med.statistics import wilson
from robustbench_med.store import schemas as schema
from robustbench_med.store.record import Record
from robustbench_med.store.store import CERTIFICATES, Store

DOCS = ROOT / "docs"


def test_every_column_is_documented_in_its_order_and_the_pages_are_up_to_date(tmp_path) -> None:
    store = store_of(tmp_path, record(), record(eps=[4 / 255, 0.0], tasks=(1,)))
    proved = certified.frames(certify(Store(tmp_path, CERTIFICATES), certificate()))
    for name, frame in (write.frames(store, store.records()) | proved).items():
        if name in ("own_threats", "abstention"):  # tests/runs have some
            continue
        found = dict.fromkeys(
            re.sub(r"^(task|clean|robust)_\d+$", r"\1_T", column)
            for column in tables.written(frame).columns
        )
        assert list(found) == list(columns.COLUMNS[name]), name
    assert (DOCS / "columns.md").read_text() == columns_page.page()
    for name in schema.SCHEMAS:
        assert (DOCS / f"{name}.schema.json").read_text() == schema.json_schema(name)


def test_records_follow_the_schema_and_a_broken_one_does_not() -> None:
    assert Record.of(record(trust="doubtful").plain()) == record(trust="doubtful")
    broken = record().plain()
    broken["figures"]["robust"] = 1.5
    with pytest.raises(ValueError, match="robust"):
        Record.model_validate(broken)
    assert json.loads(schema.json_schema())["required"]


def test_csv_round_trips_through_pandas(tmp_path) -> None:
    store = store_of(
        tmp_path, record('a,b\n"quoted"', 0.123456789), record("ütf", 0.7, trust="failed")
    )
    for name, frame in write.frames(store, store.records()).items():
        if len(frame):
            again = pd.read_csv(io.StringIO(tables.csv(frame)), keep_default_na=True)
            assert list(again.columns) == list(tables.written(frame).columns), name
            assert len(again) == len(frame)
            if "model" in frame:
                assert again.model.tolist() == frame.model.tolist()
    board = pd.read_csv(io.StringIO(tables.csv(tables.cells(store.records()))))
    assert board.robust.tolist() == pytest.approx([0.7, 0.123457], abs=1e-12)


def test_trust_is_the_worst_of_a_family() -> None:
    fine, bad, worse = (record(trust=verdict) for verdict in ("fine", "doubtful", "failed"))
    assert tables.believed([fine]) == tables.believed([record()])
    assert tables.believed([fine, worse, bad])["trust"] == "failed"
    assert tables.cells([bad]).trust.tolist() == ["doubtful"]
    assert tables.cells([bad]).why.tolist() == ["zero gradient: half of the gradients are 0"]


def test_robust_figures_carry_trust_by_record_and_by_class(tmp_path) -> None:
    made = [
        record(trust="doubtful", seed=0),
        record(trust="failed", seed=1),
        record("late", trust="fine"),
    ]
    long = records.long_form(made)
    assert long.groupby("record").trust.unique().map(list).to_dict() == {
        r.short: [word]
        for r, word in zip(made, ("doubtful", "failed", "unchallenged"), strict=True)
    }
    classes = breakdowns.per_class(made, store_of(tmp_path, *made).arrays)
    assert classes.groupby("model").trust.unique().map(list).to_dict() == {
        "late": ["unchallenged"],
        "mail": ["failed"],
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
    frame = tables.cells([*searched, record("gmu")]).set_index("model")
    assert frame.minimal_norm_median["mail"] == pytest.approx(0.6)
    assert frame.minimal_norm_median[["late", "gmu"]].isna().all()


def test_engines_are_rows_of_their_own_and_not_ranked_against_each_other() -> None:
    board = tables.cells([record(robust=0.5), record(robust=0.4, engine="art")])
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
