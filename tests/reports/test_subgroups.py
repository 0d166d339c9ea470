"""Subgroups: cells of clinical tables and of other columns become subgroups, cards that name none
are refused, records that are done follow their card. What the figures are: test_agreement.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support.cli import medrobust, refused
from support.table_sets import TableSet

from robustbench_med.data import Files, load
from robustbench_med.data.cards import Card, card
from robustbench_med.data.columns import Column, encode
from robustbench_med.data.subgroups import Subgroups, arrays_of
from robustbench_med.errors import UserError
from robustbench_med.reports.columns import COLUMNS
from robustbench_med.store.store import Store

COLUMN = (
    Column(name="age", range=(20, 90)),
    Column(name="sex", values=("female", "male")),
)


def test_cells_become_subgroups_and_bands_begin_where_the_card_says() -> None:
    cells = [{"age": a, "sex": s} for a, s in (("44.9", "male"), ("45", "female"), ("65", ""))]
    table = encode(COLUMN, [*cells, None])
    age = Subgroups("clinic.age", 0, "age", (45, 65))
    assert age.of(table, COLUMN).tolist() == ["below 45", "45 to 65", "from 65", ""]
    sex = Subgroups("clinic.sex", 0, "sex")
    assert sex.of(table, COLUMN).tolist() == ["male", "female", "", ""]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clinic.weight": []}, "no column of a clinical table"),
        ({"clinic.sex": [3]}, "categorical"),
        ({"clinic.age": []}, "where its bands begin"),
        ({"clinic.age": [65, 45]}, "rising"),
        ({"clinic.age": [10]}, "between 20 and 90"),
    ],
)
def test_a_card_that_parts_by_nothing_is_refused(given, said) -> None:
    content = card("phantoms-paired").model_dump(exclude_defaults=True)
    with pytest.raises(ValueError, match=said):
        Card.model_validate({**content, "subgroups": given})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"se": []}, r"labels\.csv line 2: no column 'se'; columns: image, .*sex, age, site"),
        ({"sex": [3]}, "line 2: subgroups: sex is 'F', no number"),
        ({"age": []}, "the column age has 51 values, more than 50"),
        ({"age": [65, 45]}, "age needs where its bands begin, rising"),
        ({"note": []}, "the column note has no cell"),
        ({"a/b": []}, "cannot be called 'a/b'"),
        ({"all": []}, "cannot be called 'all'"),
    ],
)
def test_a_column_of_the_table_that_parts_nothing_is_refused(given, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        clinic(tmp_path, given).load()
    assert "\n" not in str(caught.value)


def clinic(root: Path, subgroups: dict[str, list[float]]) -> TableSet:
    """60 images of 30 patients, columns that no network sees, and parts by a column."""
    made = TableSet(root)
    sex, site = ("F", "M", ""), ("A", "B; '=1+1", "unknown")
    made.rows = [
        row
        | {"sex": sex[i // 2 % 3], "age": f"{30 + i}.5" if i % 7 else "NA", "site": site[i % 3]}
        | {"part": ("train", "val", "test")[i // 20], "note": ""}
        for i, row in enumerate(made.rows)
    ]
    parts = {part: [part] for part in ("train", "val", "test")}
    made.card["reader"] |= {"parts": {"column": "part", **parts}, "unknown": ["NA"]}
    made.card["subgroups"] = subgroups
    made.draw()
    return made


def test_columns_that_no_network_sees_part_samples_alone_and_in_a_pairing(tmp_path) -> None:
    given = {"sex": [], "age": [45.5, 80], "site": []}
    made = clinic(tmp_path, given)
    data = made.load()
    test = data.splits["test"].head(9)
    found = arrays_of(data.subgroups, data.columns, test)
    rows = [made.rows[int(each.split("/i")[1][:3])] for each in test.ids]
    assert found["subgroup_sex"].tolist() == [row["sex"] for row in rows]
    expected = ["" if row["site"] == "unknown" else row["site"] for row in rows]
    assert found["subgroup_site"].tolist() == expected
    for said, row in zip(found["subgroup_age"], rows, strict=True):
        age = None if row["age"] == "NA" else float(row["age"])
        assert said == ("" if age is None else "45.5 to 80" if age < 80 else "from 80")
    assert any("20 of 60 samples have no cell in the column sex" in note for note in data.notes)
    made.card["subgroups"] = {}
    assert made.load().content == data.content  # neither a victim nor a record is another's
    made.card["subgroups"] = given
    made.write()
    shutil.copytree(made.folder, tmp_path / "again")
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(made.card | {"id": "again"}))
    both = f"{tmp_path / 'lesions.yaml'}+{tmp_path / 'again.yaml'}+phantoms-paired"
    joined = load(both, size=16, files=Files(data_root=tmp_path))
    names = [each.name for each in joined.subgroups]
    mine = [f"{where}-{name}" for where in ("lesions", "again") for name in sorted(given)]
    assert names == [*mine, "clinic.sex", "clinic.age"]
    found = arrays_of(joined.subgroups, joined.columns, joined.splits["test"])
    for place, sample in enumerate(joined.splits["test"].ids):
        number = int(sample.split("+")[1].split("/i")[1][:3])
        assert found["subgroup_again-sex"][place] == made.rows[number]["sex"]
    table = joined.splits["test"].batch(range(50))[-1].flatten(1).numpy()
    named = joined.subgroups[-2].of(table, joined.columns[-1])
    assert found["subgroup_clinic.sex"][:50].tolist() == named.tolist()


def test_a_mended_cell_and_another_column_reach_records_that_are_done(tmp_path) -> None:
    made, out = clinic(tmp_path, {"sex": []}), tmp_path / "out"
    made.write()
    asked = (
        "run",
        "--model",
        "late",
        "--model-param",
        "width=4",
        "--recipe",
        "steps=2",
        "--size",
        16,
    )
    asked += ("--data", tmp_path / "lesions.yaml", "--data-root", tmp_path, "--out", out)
    asked += ("--attack", "fgsm", "--eps", "8/255", "--no-challenge", "--no-control")
    medrobust(*asked)
    store = Store(out)
    (record,), lines = store.records(), len(pd.read_csv(out / "cells.csv"))
    before = store.arrays(record)
    assert record.names.subgroups == ["sex"]
    medrobust(*asked)
    assert store.records() == [record]
    made.rows[41]["sex"] = "X"
    made.card["subgroups"] = {"site": [], "sex": []}
    made.write()
    said = medrobust(*asked)
    assert "done before" in said.stderr
    (anew,) = store.records()
    assert (anew.hash, anew.cost, anew.names.subgroups) == (
        record.hash,
        record.cost,
        ["sex", "site"],
    )
    after = store.arrays(anew)
    assert set(after) - set(before) == {"subgroup_site"}
    assert (after["subgroup_sex"] != before["subgroup_sex"]).sum() == 1
    assert all((after[n] == before[n]).all() for n in before if n != "subgroup_sex")
    medrobust("report", "--out", out, "--no-html", "--no-figures")
    found = pd.read_csv(out / "subgroups.csv", keep_default_na=False)
    assert set(found[found.subgroup == "site"].value) == {"A", "B; '=1+1", "unknown"}
    assert "unknown" in set(found[found.subgroup == "sex"].value)
    assert len(pd.read_csv(out / "cells.csv")) == lines
    medrobust("merge", out, "--out", tmp_path / "shared", "--anonymous")
    (copy,) = Store(tmp_path / "shared").records()
    assert not [name for name in Store(tmp_path / "shared").arrays(copy) if "subgroup" in name]
    text = copy.model_dump_json()
    assert "site" not in text
    assert "1+1" not in text
    assert not copy.names.subgroups


def test_figures_by_sex_and_age_and_bounds_of_a_gate_on_them(tmp_path) -> None:
    out = tmp_path / "out"
    small = ("--size", 32, "--model-param", "width=8", "--recipe", "steps=4", "--limit", 40)
    attacked = ("--attack", "fgsm", "--eps", "4/255", "--no-challenge", "--out", out)
    medrobust("run", "--model", "late", "--data", "phantoms-paired", *small, *attacked)
    medrobust("report", "--out", out, "--no-html", "--no-figures")
    found = pd.read_csv(out / "subgroups.csv", keep_default_na=False)
    assert list(found.columns) == list(COLUMNS["subgroups"])
    assert set(found.subgroup) == {"all", "clinic.sex", "clinic.age"}
    assert set(found.condition) == {"clean", "noise", "fgsm"}
    (record,) = [each for each in Store(out).records() if not each.control]
    mine_alone = found[(found.record == record.short) & (found.condition == "fgsm")]
    gate = ("gate", "--model", "late", "--data", "phantoms-paired", *small, *attacked)
    bound = "robust-sensitivity@lung[clinic.sex=female]"
    medrobust(
        *gate, "--max", f"{bound}=1", "--on", "point", "--trust", "failed", "--min-samples", 2
    )
    row = mine_alone[(mine_alone["class"] == "lung") & (mine_alone.value == "female")].iloc[0]
    assert "lung[clinic.sex=female]" in (out / "gate.xml").read_text()
    below = float(row.sensitivity) - 0.01
    medrobust(*gate, "--max", f"{bound}={below}", "--on", "point", check=1)
    for asked, said in (("lung[clinic.sex=f]", "no value 'f'"), ("lung[age=f]", "no column 'age'")):
        told = medrobust(*gate, "--min", f"sensitivity@{asked}=0.1", check=2)
        assert said in refused(told)
    by_value = found[(found.condition == "fgsm") & (found.task == "outcome")]
    every = by_value[by_value["class"] == "all"].groupby("subgroup").samples.sum()
    assert len(set(every)) == 1  # each column parts all samples
