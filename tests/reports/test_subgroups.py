"""Figures by subgroup: cells become subgroups, cards that name none are refused, figures agree with
scikit-learn.
"""

import pandas as pd
import pytest
from sklearn.metrics import recall_score
from support.cli import medrobust, refused

from robustbench_med.data.cards import Card, card
from robustbench_med.data.columns import Column, encode
from robustbench_med.data.subgroups import Subgroups
from robustbench_med.reports.columns import COLUMNS
from robustbench_med.store.store import Store
from robustbench_med.store.validation import Validations

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


def test_figures_by_sex_and_age_are_those_of_scikit_learn(tmp_path) -> None:
    out = tmp_path / "out"
    small = ("--size", 32, "--model-param", "width=8", "--recipe", "steps=4", "--limit", 40)
    attacked = ("--attack", "fgsm", "--eps", "4/255", "--no-challenge", "--out", out)
    medrobust("run", "--model", "late", "--data", "phantoms-paired", *small, *attacked)
    medrobust("report", "--out", out, "--no-html", "--no-figures")
    found = pd.read_csv(out / "subgroups.csv", keep_default_na=False)
    assert list(found.columns) == list(COLUMNS["subgroups"])
    assert set(found.subgroup) == {"all", "clinic.sex", "clinic.age"}
    assert set(found.condition) == {"clean", "noise", "fgsm"}
    store = Store(out)
    (record,) = [each for each in store.records() if not each.control]
    arrays, validated = store.arrays(record), Validations(out).find(record)
    assert validated is not None
    checked = 0
    mine_alone = found[(found.record == record.short) & (found.condition == "fgsm")]
    for row in mine_alone.rename(columns={"class": "label"}).itertuples():
        t = record.names.tasks.index(row.task)
        labels, given = arrays["labels"][:, t], arrays[f"robust_probabilities_{t}"]
        value = "" if row.value == "unknown" else row.value
        mask = labels >= 0
        if row.subgroup != "all":
            mask = mask & (arrays[f"subgroup_{row.subgroup}"] == value)
        classes = record.names.classes[t]
        c = None if row.label == "all" else classes.index(row.label)
        mine = mask if c is None else mask & (labels == c)
        right = arrays["robust_right"][mine, t]
        assert row.samples == mine.sum()
        assert row.accuracy == pytest.approx(float(right.mean()), abs=1e-5)
        assert row.accuracy_low <= row.accuracy <= row.accuracy_high
        if c is None:
            continue
        called = given[mask][:, c] >= float(row.threshold)
        expected = recall_score(labels[mask] == c, called)
        assert float(row.sensitivity) == pytest.approx(expected, abs=1e-5)
        checked += 1
    assert checked > 20
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
