"""Paired patients from end to end: tables with bounds of their own, and what a sample misses."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from support.evaluations import SMALL_PAIRED

from robustbench_med import evaluate
from robustbench_med.data import load
from robustbench_med.data.cards import CARDS
from robustbench_med.errors import UserError
from robustbench_med.store.store import Store

SMALL = {**SMALL_PAIRED, "control": False, "challenge": False}


def measured(out: Path, **given: object) -> list:
    return evaluate(**{**SMALL, "out": out, "quiet": True, **given}).records


def test_bounds_of_columns_are_kept_recorded_and_part_of_the_hash(tmp_path: Path) -> None:
    eps = ["mri=4/255,clinic.age=5,clinic.flips=1", "clinic.age=5", "clinic.age=10", "4/255"]
    records = measured(tmp_path, eps=eps)
    assert [record.eps for record in records] == [
        "mri=4/255,xray=0,clinic.age=5,clinic.flips=1",
        "mri=0,xray=0,clinic.age=5",
        "mri=0,xray=0,clinic.age=10",
        "mri=4/255,xray=4/255,clinic=0",
    ]
    assert len({record.hash for record in records}) == 4
    assert [record.spec.threat.columns for record in records] == [
        {"clinic.age": 5.0, "clinic.flips": 1.0},
        {"clinic.age": 5.0},
        {"clinic.age": 10.0},
        None,
    ]
    clean = records[0].figures.clean
    assert all(record.figures.robust <= clean for record in records)
    for record, most in zip(records, (1.0, 5 / 70, 10 / 70, 0.0), strict=True):
        moved = Store(tmp_path).arrays(record, ["linf"])["linf"]
        assert moved[:, 2].max() <= most + 1e-6
    assert Store(tmp_path).find(records[1].hash).spec.data.plain()["shapes"][2] == [7, 1, 1]


def test_what_cannot_be_done_to_a_table_ends_before_anything_is_trained(tmp_path: Path) -> None:
    for given, said in (
        ({"attack": "apgd", "eps": "clinic.flips=1"}, "cannot give categorical columns"),
        ({"eps": "clinic.flips=3"}, "0 to 2, got 3"),
        ({"eps": "clinic.sex=1"}, "is categorical"),
        ({"eps": "clinic=0.1"}, "clinic is a clinical table"),
        ({"eps": "mri.age=1"}, "mri is no clinical table"),
        ({"eps": "clinic.agee=1"}, "unknown column 'clinic.agee'"),
        ({"eps": "clinic.age=5", "norm": "L2"}, "bounded under Linf, not L2"),
        ({"attack": "cw", "eps": "4/255"}, "cannot leave alone what a sample misses"),
        ({"eps": "4/255", "engine": "art"}, "cannot leave alone what a sample misses"),
        ({"model": "mail", "model_params": {}}, "images alone"),
    ):
        with pytest.raises(UserError, match=said):
            measured(tmp_path, **given)


def test_corruptions_leave_missing_what_a_sample_misses(tmp_path: Path) -> None:
    params = {"severity": 5}
    how = {"attack_params": params, "baseline": "none", "limit": 48}
    (record,) = measured(tmp_path, attack="brightness", **how)
    assert record.spec.threat.radii == [1.0, 1.0, 0.0]
    moved = Store(tmp_path).arrays(record)["linf"]
    x = load("phantoms-paired", size=16).splits["test"].head(48).batch(range(48))
    for m in (0, 1):
        there = x[m].flatten(1).any(1).numpy()
        assert 24 < there.sum() < 48
        assert ((moved[:, m] > 0) == there).all()


@pytest.mark.slow
@pytest.mark.fresh
def test_late_fusion_beats_every_modality_alone_by_five_points(tmp_path: Path) -> None:
    """On both tasks, by victims trained alike; five minutes."""
    accuracy = {}
    whole = yaml.safe_load((CARDS / "phantoms-paired.yaml").read_text())
    for name in ("all", "mri", "xray", "clinic"):
        kept = [m for m in whole["modalities"] if name in ("all", m["name"])]
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(whole | {"modalities": kept, "subgroups": {}}))
        given = {"model_params": {"width": 8}, "recipe": {"steps": 300}, "size": 32, "limit": None}
        (record,) = measured(
            tmp_path / name, **given, data=str(path), attack="noise", eps="0", control=True
        )
        accuracy[name] = np.array([task.clean for task in record.figures.tasks])
    for name in ("mri", "xray", "clinic"):
        assert (accuracy["all"] >= accuracy[name] + 0.05).all(), accuracy
    assert (accuracy["all"] > 0.8).all(), accuracy


def test_the_set_of_all_modalities_is_the_one_that_is_shipped() -> None:
    data = load("phantoms-paired", size=16)
    assert data.modalities == ("mri", "xray", "clinic")
    assert data.optional == (0, 1, 2)
