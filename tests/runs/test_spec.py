"""Specifications: what a user writes, and what it means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_med.cli import run_files
from robustbench_med.cli.values import assignments
from robustbench_med.data import Preprocessing
from robustbench_med.errors import UserError
from robustbench_med.naming import canonical_hash, number_label, radius_label
from robustbench_med.parsing import parse_number, parse_radii, split_radii, validate
from robustbench_med.runs.spec import RunSpec, cells
from robustbench_med.training.spec import Recipe, TrainSpec


@pytest.mark.parametrize("text", ["4/0", "-1", "-1/255", "abc", "", "nan", "inf", "1e999", "1//2"])
def test_a_bad_radius_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="eps must be a number or fraction"):
        parse_number(text)


def test_radii_of_all_or_of_named_modalities() -> None:
    assert parse_radii("4/255", ["mri", "xray"]) == (4 / 255, 4 / 255)
    assert parse_radii("mri=4/255, xray=0", ["mri", "xray"]) == (4 / 255, 0.0)
    assert parse_radii("xray=0.1", ["mri", "xray"]) == (0.0, 0.1)
    with pytest.raises(UserError, match="names the modality 'ct'"):
        parse_radii("ct=1/255", ["mri", "xray"])


def test_several_radii_in_one_option_and_one_per_modality() -> None:
    assert split_radii(["1/255,2/255", "mri=4/255,xray=0"]) == [
        "1/255",
        "2/255",
        "mri=4/255,xray=0",
    ]


@given(st.integers(1, 254))
def test_labels_of_grey_levels_read_back_as_the_same_radius(k: int) -> None:
    label = f"{k / 255:g}" if k in (51, 102, 153, 204) else f"{k}/255"
    assert number_label(k / 255) == label
    assert parse_number(number_label(k / 255)) == k / 255
    assert radius_label((k / 255, 0.0), ["a", "b"]) == f"a={label},b=0"
    assert number_label(1.0) == "1"


def test_assignments_read_numbers_words_and_lists() -> None:
    assert assignments(
        ["steps=5", "lr=1e-3", "loss=margin", "warm_up=[0.1, 0.6]", "half=true"]
    ) == {
        "steps": 5,
        "lr": 1e-3,
        "loss": "margin",
        "warm_up": [0.1, 0.6],
        "half": True,
    }
    with pytest.raises(UserError, match="NAME=VALUE"):
        assignments(["steps"])


def test_the_grid_has_every_combination_once_and_the_noise_control() -> None:
    run = RunSpec(
        model=["a", "b", "a"], attack=["pgd", "noise"], eps=["1/255", "2/255"], seed=[0, 1]
    )
    grid = cells(run)
    assert len(grid) == len(set(grid)) == 2 * 2 * 2 * 2
    assert len(cells(run.model_copy(update={"control": False, "attack": ["pgd"]}))) == 2 * 2 * 2
    assert [cell.model for cell in grid] == ["a"] * 8 + ["b"] * 8  # each victim is loaded once


def test_a_run_file_with_lists_and_a_radius_per_modality(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: [mail, late]\neps:\n  - 1/255\n  - {mri: 4/255, xray: 0}\n")
    run = validate(RunSpec, run_files.read(path, "run"), "run")
    assert run.model == ["mail", "late"]
    assert run.eps == ["1/255", "mri=4/255,xray=0"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": ["mail"], "modle": 1}, "unknown field 'modle'"),
        ({"model": ["mail"], "draws": 0}, "draws"),
        ({"model": []}, "model"),
        ({"model": ["mail"], "protocol": "fast"}, "protocol"),
    ],
)
def test_a_faulty_run_is_one_line_that_names_the_field(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        validate(RunSpec, values, "run")
    assert "\n" not in str(caught.value)


def test_the_hash_depends_on_values_not_on_key_order() -> None:
    assert canonical_hash({"a": 1, "b": 2}) == canonical_hash({"b": 2, "a": 1})
    assert canonical_hash({"a": 1}) != canonical_hash({"a": 2})


def test_preprocessing_is_part_of_what_a_checkpoint_is_and_the_default_leaves_earlier_hashes_alone() -> (
    None
):
    plain = {
        "model": "late", "params": {}, "data": "phantoms", "manifest": "x", "size": 32, "channels": (1,), "class_counts": (2,),
        "preset": "quick", "recipe": Recipe(steps=1), "seed": 0,
    }  # fmt: skip
    usual, padded = TrainSpec(**plain), TrainSpec(**plain, preprocessing=Preprocessing(fit="pad"))
    assert "preprocessing" not in usual.model_dump(mode="json")
    assert canonical_hash(usual) != canonical_hash(padded)
    assert "fold" not in usual.model_dump(mode="json")
    assert (
        canonical_hash(TrainSpec(**plain, fold=(0, 5)))
        != canonical_hash(TrainSpec(**plain, fold=(1, 5)))
        != canonical_hash(usual)
    )
    with pytest.raises(UserError, match=r"preprocessing\.fit"):
        validate(RunSpec, {"model": "late", "preprocessing": {"fit": "squeeze"}}, "run")


def test_folds_are_an_axis_of_the_grid_and_one_that_does_not_exist_is_refused() -> None:
    run = RunSpec(model=["late", "mail"], data=["a", "b"], attack=["pgd"], folds=3)
    assert [(c.data, c.fold, c.model) for c in cells(run)[::2]] == [
        (d, (k, 3), m) for d in "ab" for k in range(3) for m in run.model
    ]
    assert {c.fold for c in cells(run.model_copy(update={"fold": [2]}))} == {(2, 3)}
    assert {c.fold for c in cells(RunSpec(model=["late"]))} == {None}
    for wrong in ({"folds": 3, "fold": "3"}, {"fold": 0}, {"folds": 1}, {"folds": 3, "fold": [-1]}):
        with pytest.raises(UserError, match="fold"):
            validate(RunSpec, {"model": "late", **wrong}, "run")


def test_one_value_stands_for_a_list_of_one() -> None:
    run = RunSpec(model="a", eps="8/255", attack="fgsm", seed=3)
    assert (run.model, run.eps, run.attack, run.seed) == (["a"], ["8/255"], ["fgsm"], [3])
    assert RunSpec(model="a", eps={"mri": "4/255", "xray": 0}).eps == ["mri=4/255,xray=0"]
