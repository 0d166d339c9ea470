"""No meaning is read back out of the texts that readers see: names and labels may look like
anything.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError
from support.files import ROOT
from support.golden_store import records_of_all_kinds
from support.records import certificate, certify, changed, fill, record

from robustbench_med import naming
from robustbench_med.cli import terminal
from robustbench_med.reports import (
    certified,
    curves,
    families,
    figures,
    looks,
    marks,
    page,
    paper,
    paper_tables,
    plots,
    records,
    tables,
    write,
)
from robustbench_med.reports import model_cards as cards
from robustbench_med.store import belief
from robustbench_med.store.record import Record
from robustbench_med.store.store import CERTIFICATES, Store

GOLDEN = ROOT / "tests" / "golden"


def drawn(made: list[Record], folder: Path) -> set[str]:
    """Names of the figures of these records."""
    store = fill(Store(folder), *made)
    found = write.frames(store, made) | certified.frames(Store(folder, CERTIFICATES))
    return {name for name, _ in figures.draw(made, found)}


def test_the_leaderboard_and_the_records_are_byte_for_byte_what_they_were() -> None:
    made = records_of_all_kinds()
    assert tables.csv(tables.cells(made)) == (GOLDEN / "cells.csv").read_text()
    assert tables.csv(records.long_form(made[-4:])) == (GOLDEN / "records.csv").read_text()


def test_columns_for_code_are_in_no_file_and_in_no_table_of_users(tmp_path) -> None:
    store = fill(Store(tmp_path), record(), record(eps=[0.1, 0.0], tasks=(0,)))
    certify(Store(tmp_path, CERTIFICATES), certificate())
    write.everything(tmp_path, html=False, pictures=False)
    files = sorted(tmp_path.glob("*.csv"))
    assert len(files) == 9
    for file in files:
        assert not set(pd.read_csv(file).columns) & set(tables.VALUES), file
    assert set(tables.VALUES) & set(tables.cells(store.records()).columns)


@pytest.mark.parametrize(
    ("radii", "norm"),
    [
        ([0.03, 0.01], "Linf"),
        ([0.5, 1.0], "L2"),
        ([0.0625, 0.07], "Linf"),
        ([0.1, 0.05], "L2"),
        ([1e-7, 0.09], "L2"),
    ],
)
def test_different_radii_are_no_trusted_modality_and_lose_no_figure(radii, norm, tmp_path) -> None:
    made = [record(eps=radii, norm=norm, tasks=tasks) for tasks in ((0, 1), (0,))]
    setting = f"heads+chests-64-50-{norm}"
    names = drawn(made, tmp_path)
    for target in ("joint", "lesion"):
        assert {
            f"{kind}-{setting}-{target}-sound"
            for kind in ("robust-accuracy", "heat-map", "clean-robust", "per-class")
        } <= names


def test_a_radius_of_one_modality_alone_has_the_cross_modal_figure_only(tmp_path) -> None:
    made = [record(eps=[0.1, 0.0], tasks=(t,)) for t in (0, 1)] + [
        record(eps=[0.0, 0.1], tasks=(t,)) for t in (0, 1)
    ]
    assert drawn(made, tmp_path) == {"cross-modal-heads+chests-64-50-Linf-sound"}


@pytest.mark.parametrize("modality", ["mri=0", "a,b", "b=0,c"])
def test_a_trusted_modality_is_one_of_radius_zero_whatever_the_names(modality) -> None:
    (attacked,), (trusting,) = (
        tables.cells([record(eps=eps, modality=modality)]).trusted
        for eps in ([0.2, 0.1], [0.0, 0.1])
    )
    assert (attacked, trusting) == ((), (modality,))
    (row,) = page._rows(*tables.ranked([record(eps=[0.0, 0.1], modality=modality)]))
    assert row["trusted"] == f", {modality} trusted"
    assert row["radius"] == pytest.approx(25.5)


@pytest.mark.parametrize(
    "task",
    [
        "x; naive attack on a random model",
        "x; trivial on lung",
        "attacker unaware of the input transform",
    ],
)
def test_a_task_may_be_called_like_a_mark(task) -> None:
    made = [record("mail", 0.5, trivial="constant"), record("late", 0.4)]
    made = [changed(one, names__tasks=[task, "lung"]) for one in made]
    board = tables.cells(made).set_index("model")
    assert not board.is_naive.any()
    assert board["rank"].tolist() == [1, 2]
    assert board.is_trivial.to_dict() == {"mail": True, "late": False}
    table, *_ = paper_tables.cells(board.reset_index())
    assert [row[0].mark for row in table.rows] == ["", paper.TRIVIAL]


def test_notes_are_shown_and_decide_nothing() -> None:
    odd = changed(
        record(),
        notes=[
            "unverified rumours about this set",
            "not repeatable by anyone else",
            "unverified: x",
            "not repeatable: y",
        ],
    )
    assert marks.marks([odd]) == ["synthetic data", "paired by index"]
    sure = changed(record(), unverified=True, repeatable=False)
    assert marks.marks([sure])[2:] == ["not repeatable", "unverified data"]


def test_a_victim_is_defended_or_attacked_unaware_by_its_layers_not_by_its_name() -> None:
    name = "a+b (unaware attack).py:build"
    own = changed(record(name, 0.3, victim={"defense": []}), architecture=name)
    plain, unaware = record("late", 0.2), record("late+jpeg (unaware attack)", 0.9)
    board = tables.cells([own, plain, unaware]).set_index("model")
    assert board.is_defended.to_dict() == {
        name: False,
        "late": False,
        unaware.spec.victim.model: True,
    }
    assert board.is_unaware.to_dict() == {
        name: False,
        "late": False,
        unaware.spec.victim.model: True,
    }
    rows, sentence = plots.leading(board.reset_index())
    assert (set(rows.model), sentence) == (
        {name, "late"},
        "1 victim under an unaware attack left out",
    )
    assert {
        row["model"]: row["family"] for row in page._rows(*tables.ranked([own, plain, unaware]))
    } == {
        name: name,
        "late": "late",
        "late+jpeg (unaware attack)": "late",
    }
    assert {
        row[0].value
        for table in paper_tables.victims(records.victims([own, plain, unaware]))
        for row in table.rows
    } == {name, "late"}


def test_a_task_called_joint_is_one_task() -> None:
    one = changed(record(eps=[0.1, 0.0], tasks=(0,)), names__tasks=["joint", "bone"])
    (row,) = tables.cells([one]).itertuples()
    assert not row.is_joint
    assert ", target joint, " in plots.describe(tables.cells([one]).iloc[0])
    assert "target" not in plots.describe(tables.cells([record()]).iloc[0])


def test_draws_are_no_part_of_an_attacks_other_settings() -> None:
    made = [
        changed(record(eot=eot), spec__attack__params__loss="mean eot=4 of all") for eot in (1, 8)
    ]
    board = tables.cells(made)
    assert set(board.settings) == {"loss=mean eot=4 of all steps=20"}
    assert curves.eot(board, looks.looks(board.model)) is not None


def test_filters_take_any_name_and_go_by_norm_and_radius() -> None:
    made = [
        record("L2 norm", data="Linf data", eps=e, norm=norm)
        for norm, e in (("Linf", 9 / 255), ("Linf", 10 / 255), ("L2", 0.5))
    ]
    rows = list(page._rows(*tables.ranked(made)))
    assert page._choices(rows, "threat") == [
        "L2 0.5, joint",
        "Linf 9/255, joint",
        "Linf 10/255, joint",
    ]
    assert page._choices(rows, "model") == ["L2 norm"]
    assert page._choices(rows, "data") == ["Linf data"]


def test_a_certificate_of_one_modality_is_known_by_its_noise_not_by_its_text(tmp_path) -> None:
    names = ["left alone", "xray"]
    both = changed(certificate(), names__modalities=names, noised="what is not left alone")
    one = changed(certificate(noised=(0,)), names__modalities=names, noised="the left one")
    curves = certified.frames(certify(Store(tmp_path, CERTIFICATES), both, one))["certified"]
    labels = {axis.get_xlabel().replace("\n", " ") for axis in certified.figure(curves).axes}
    assert labels - {""} == {
        "L2 radius, pixels in 0..1, joint",
        "L2 radius, pixels in 0..1, of left alone",
    }


def test_a_setting_whose_section_has_a_space_is_still_told_with_its_value() -> None:
    made = [record(victim={"own facts": value}) for value in ("a", "b")]
    assert sorted(families.variants(made).values()) == ["own facts a", "own facts b"]


def test_no_naive_row_is_a_result_of_a_model_card() -> None:
    made = [record(robust=0.5), record(robust=0.9, naive=True, eot=1)]
    text = cards.model_card(cards.VictimRecords(made, {}))
    assert text.count("name: robust accuracy") == 1
    assert "value: 0.5" in text


def test_the_terminal_orders_radii_by_their_size(tmp_path) -> None:
    made = [record(eps=e / 255) for e in (16, 2, 8)]
    (table,) = terminal.cells(tables.cells(made)).renderables
    radii = [cell.splitlines()[1] for cell in table.columns[0].cells]
    assert radii == ["2/255", "8/255", "16/255"]


@pytest.mark.parametrize(
    ("radius", "label", "shown"),
    [
        (4 / 255 + 1e-12, "4/255", 4 / 255),
        (0.12345678, "0.123457", 0.123457),
        (0.2, "0.2", 0.2),
        (0.0, "0", 0.0),
        (1.0, "1", 1.0),
    ],
)
def test_radii_of_one_label_are_one(radius, label, shown) -> None:
    assert (naming.number_label(radius), naming.shown_radius(radius)) == (label, shown)


# --- records that told it in words ----------------------------------------------------------------


FIELDS = ("unverified", "repeatable", "architecture", "on_gpu")


def of_shape_2(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in FIELDS} | {"shape": 2}


@pytest.mark.parametrize(
    "model", ["late", "late+jpeg", "late+jpeg (unaware attack)", "robust-mail", "mail+pni+trades"]
)
def test_a_record_of_shape_2_gets_the_fields_it_told_in_words(model) -> None:
    made = record(model).plain()
    assert {key: belief.lifted(of_shape_2(made))[key] for key in FIELDS} == {
        key: made[key] for key in FIELDS
    }
    told = of_shape_2(made)
    told["notes"] = [
        "12 images, published 156",
        "unverified: a.npz has md5 x",
        "not repeatable: the victim draws numbers that no seed repeats",
    ]
    told["victim"]["device"] = "NVIDIA H100 80GB"
    lifted = belief.lifted(told)
    assert (lifted["unverified"], lifted["repeatable"], lifted["on_gpu"]) == (True, False, True)


def test_a_store_of_shape_2_is_read(tmp_path) -> None:
    store = fill(Store(tmp_path), record(), record("late"))
    before = tables.csv(tables.cells(store.records()))
    for path in store.paths():
        old = of_shape_2(json.loads(path.read_text()))
        old["digests"]["record"] = belief.digest(old)
        path.write_text(json.dumps(old))
    assert tables.csv(tables.cells(Store(tmp_path).records())) == before


@pytest.mark.parametrize(
    "broken",
    [{"notes": None}, {"notes": [1]}, {"notes": "none"}, {"victim": None}, {"victim": []}, {"environment": {}}, {"spec": None},
     {"spec": []}, {"spec": {"attack": {}}}, {"spec": {"attack": {}, "victim": {"model": 3, "defense": [{}]}}},
     {"spec": {"attack": {}, "victim": {"model": "late", "defense": 3}}}],
)  # fmt: skip
def test_a_thing_that_is_no_record_is_left_to_the_schema(broken) -> None:
    lifted = belief.lifted({**of_shape_2(record().plain()), **broken})
    with pytest.raises(ValidationError, match="|".join(broken)):
        Record.model_validate(lifted, strict=True)
    assert not set(FIELDS) & set(belief.lifted({"spec": {"certificate": {}}, "shape": 2}))
