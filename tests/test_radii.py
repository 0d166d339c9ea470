"""Radii as they are typed: understood exactly or refused in one line, and none above the range of a
pixel by mistake.
"""

import math
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import medrobust, refused

from robustbench_med import evaluate
from robustbench_med.errors import UserError
from robustbench_med.parsing import (
    canonical,
    named,
    parse_number,
    positive_numbers,
    split_radii,
    validate,
    whole_numbers,
    whole_range,
)
from robustbench_med.runs.corrupting import attacked_by
from robustbench_med.runs.spec import RunSpec, cells
from robustbench_med.store.store import Store
from robustbench_med.training import defenses

SMALL = [
    "--model",
    "early",
    "--model-param",
    "width=4",
    "--size",
    32,
    "--limit",
    4,
    "--recipe",
    "steps=2",
    "--recipe",
    "batch_size=8",
]
NO_RADII = ["", " ", ",", "4/255,", ",4/255", "nan", "inf", "1e400", "1e-400", "1e-50", "1/1e300", "٤/255", "1_0/255", "0x1", "1/2/3",
            "4/-255", "-1", "1/0", "four", "mri=4/255,", "mri=", "=1", "mri", "mri=1/255,mri=2/255", "9" * 400,
            "1/" + "9" * 5000]  # fmt: skip


def radii_of(eps: object, **more: object) -> list[str]:
    return validate(RunSpec, {"model": "late", "eps": eps, **more}, "run").eps


@pytest.mark.parametrize("text", NO_RADII)
def test_what_is_no_radius_is_one_line_with_an_example(text: str) -> None:
    for read in (
        lambda: radii_of(split_radii([text])),
        lambda: radii_of(text),
        lambda: radii_of([text]),
    ):
        with pytest.raises(UserError, match="4/255") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        math.nan,
        math.inf,
        -1,
        -0.5,
        [],
        {},
        {"mri": None},
        {"mri": True},
        {"mri": -1},
        [[0.1]],
        [None],
        ["4/255", ""],
    ],
)
def test_a_run_file_and_python_hold_radii_or_are_refused(value: object) -> None:
    with pytest.raises(UserError, match="4/255") as caught:
        radii_of(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "radius"),
    [("-0", 0.0), (-0.0, 0.0), (0, 0.0), ("0/255", 0.0), ("-0.0/255", 0.0), ("0e-999", 0.0), ("+4/255", 4 / 255), (" 4 / 255 ", 4 / 255),
     ("0.5/255", 0.5 / 255), (4 / 255, 4 / 255), ("1e-3", 0.001), (".5", 0.5), (1, 1.0), ("255/255", 1.0), ("1.", 1.0)],
)  # fmt: skip
def test_other_notations_are_understood_exactly_and_no_zero_is_negative(
    value: object, radius: float
) -> None:
    (text,) = radii_of(value)
    assert parse_number(text) == radius
    assert math.copysign(1, parse_number(text)) == 1


def test_equal_radii_are_one_cell_whatever_their_notation() -> None:
    assert radii_of(["4/255", 4 / 255, "0.01568627450980392", "8/510"]) == ["4/255"]
    assert radii_of([{"xray": 0, "mri": "4/255"}, "mri=4/255,xray=-0"]) == ["mri=4/255,xray=0"]
    run = RunSpec(model="late", eps="0,-0,0.0", control=False)
    assert len(cells(run)) == 1


@given(st.floats(2.0**-126, 2.0**126))
def test_the_notation_of_a_radius_reads_back_as_the_very_float(radius: float) -> None:
    assert named(canonical(repr(radius))) == {"": radius}
    assert canonical(canonical(repr(radius))) == canonical(repr(radius))


@pytest.mark.parametrize(
    ("eps", "more", "meant"),
    [("8", {}, "8/255"), (8, {}, "8/255"), ("1/255,1.5", {}, "1.5/255"), ("mri=8,xray=0", {}, "8/255"), ({"mri": 2}, {}, "2/255"),
     ("8", {"norm": ["L2", "Linf"]}, "8/255"), ("300", {}, "pixels lie in 0..1")],
)  # fmt: skip
def test_linf_radii_above_one_are_refused_unless_the_whole_range_is_meant(
    eps: object, more: dict, meant: str
) -> None:
    with pytest.raises(UserError, match="--whole-range") as caught:
        radii_of(eps, **more)
    assert meant in str(caught.value)
    assert radii_of(eps, whole_range=True, **more)
    assert radii_of(eps, norm="L2")


def test_a_ball_that_holds_every_image_is_said() -> None:
    assert radii_of(1) == ["1"]
    (line,) = whole_range(["254/255", "1"])
    assert line.startswith("eps 1 (Linf): the ball holds every image of every modality")
    (line,) = whole_range(["mri=1,xray=0"])
    assert "every image of mri" in line


def test_a_training_within_a_linf_ball_above_one_is_refused() -> None:
    for text in ("pgd-at", "trades+awp", "free-at", "fast-at+jpeg"):
        with pytest.raises(UserError, match=r"eps 8: .*did you mean 8/255\?"):
            defenses.check_radii(defenses.plan("late", text, {"eps": 8}, {}))
    defenses.check_radii(defenses.plan("late", "pgd-at", {"eps": 1}, {}))
    defenses.check_radii(defenses.plan("late", "pgd-at", {"eps": 8, "norm": "L2"}, {}))
    same = [
        defenses.plan("late", "pgd-at", {"eps": eps}, {}).training
        for eps in ("4/255", 4 / 255, "0.01568627450980392")
    ]
    assert same[0] == same[1] == same[2]


@pytest.mark.parametrize("command", ["run", "compare", "diagnose", "train", "certify"])
def test_every_command_that_takes_a_radius_asks_before_it_takes_8(command: str, tmp_path) -> None:
    given = ["--defense", "pgd-at", "--defense-param", "eps=8"]
    given = [*given[:1], "pgd-at+input-noise", *given[2:]] if command == "certify" else given
    assert "did you mean 8/255?" in refused(
        medrobust(command, "--model", "late", *given, "--out", tmp_path, check=2)
    )
    if command in ("run", "compare", "diagnose"):
        assert "did you mean 8/255?" in refused(
            medrobust(command, "--model", "late", "--eps", "8", "--out", tmp_path, check=2)
        )
        assert "empty radius" in refused(
            medrobust(command, "--model", "late", "--eps", "", "--out", tmp_path, check=2)
        )


def test_the_whole_range_is_in_the_command_that_makes_the_record_again(
    drawn_root, tmp_path
) -> None:
    there = ["--data-root", drawn_root, "--out", tmp_path]
    done = medrobust("run", *SMALL, "--attack", "fgsm", "--eps", "8", "--whole-range", "--no-control", "--data", drawn_root / "heads.yaml",
                     *there)  # fmt: skip
    assert "the ball holds every image of every modality" in " ".join(done.stderr.split())
    (record,) = Store(tmp_path).records()
    assert record.spec.threat.radii == [8.0]
    again = medrobust(*shlex.split(record.command)[1:], *there)
    assert f"done before, record {record['hash'][:12]}" in again.stderr


def test_one_radius_in_two_notations_is_one_record(drawn_root, tmp_path) -> None:
    options = {
        "model_params": {"width": 4},
        "size": 32,
        "limit": 4,
        "recipe": {"steps": 2, "batch_size": 8},
        "data_root": drawn_root,
    }
    found = evaluate("early", "fgsm", data=str(drawn_root / "heads.yaml"), eps=["0", -0.0, "4/255", 4 / 255], control=False, out=tmp_path,
                     quiet=True, **options)  # fmt: skip
    assert sorted(record.spec.threat.radii[0] for record in found.records) == [
        0.0,
        4 / 255,
    ]


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1e-400", "1_0", "٤", "0.1,", "a"])
def test_other_numbers_in_lists_are_in_plain_digits_too(text: str) -> None:
    with pytest.raises(UserError, match="--sigma takes positive numbers"):
        positive_numbers(text, "--sigma")
    with pytest.raises(UserError, match="--classes takes positive whole numbers"):
        whole_numbers(text.replace("inf", "²"), "--classes")


def test_every_norm_has_a_usual_radius_and_takes_its_own() -> None:
    usual = RunSpec(model="late", norm=["Linf", "L2", "L1", "L0"], control=False)
    assert [(cell.norm, cell.eps) for cell in cells(usual)] == [
        ("Linf", "4/255"),
        ("L2", "0.5"),
        ("L1", "12"),
        ("L0", "10"),
    ]
    own = split_radii(["Linf:2/255,0.03137254901960784", "L2:mri=0.5,xray=0", "7"])
    assert own == ["Linf:2/255", "Linf:0.03137254901960784", "L2:mri=0.5,xray=0", "7"]
    run = RunSpec(model="late", eps=own, norm=["L2", "L0", "Linf"])
    assert {norm: run.radii(norm) for norm in run.norm} == {
        "L2": ["mri=0.5,xray=0"],
        "L0": ["7"],
        "Linf": ["2/255", "8/255"],
    }
    file = RunSpec(model="late", eps={"L1": [3, "mri=2"], "L2": 0.5}, norm=["L1", "L2"])
    assert (file.radii("L1"), file.radii("L2")) == (["3", "mri=2"], ["0.5"])


@pytest.mark.parametrize(
    ("eps", "norm", "said"),
    [
        ("L2:0.5", ["L2", "L1"], "no radius for the norm L1"),
        ("L2:0.5,L1:3", ["L2"], "a radius for the norm L1, which --norm does not name"),
        ("L3:0.5", ["L2"], "expected NORM:RADIUS with one of Linf, L2, L1, L0"),
        ("L2:", ["L2"], "empty radius"),
        ("L0:2.5", ["L0"], "a whole number of pixels that may change, such as 10"),
        ("mri=1/2", ["L0"], "a whole number of pixels"),
        ("Linf:8,L2:8", ["Linf", "L2"], "did you mean 8/255"),
    ],
)
def test_radii_that_fit_no_norm_are_one_line(eps: str, norm: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        radii_of(split_radii([eps]), norm=norm)


def test_what_l0_counts_is_for_l0() -> None:
    with pytest.raises(UserError, match="add it"):
        radii_of("4/255", l0_counts="coordinates")
    with pytest.raises(UserError, match="a whole number of coordinates"):
        radii_of("0.5", norm="L0", l0_counts="coordinates")


def test_l1_and_l0_radii_that_hold_every_image_are_refused(drawn_root, tmp_path) -> None:
    there = ["--data", drawn_root / "heads.yaml", "--data-root", drawn_root, "--out", tmp_path]
    for norm, eps, most in (("L0", 1024, "1024 pixels"), ("L1", 1025, "1024 coordinates")):
        said = refused(medrobust("run", *SMALL, "--norm", norm, "--eps", eps, *there, check=2))
        assert f"({norm}): an image of" in said
        assert most in said
        assert "--whole-range" in said


def test_an_attack_that_a_norm_does_not_know_is_refused_with_what_there_is(tmp_path) -> None:
    given = ("run", "--model", "late", "--attack", "pgd,fgsm", "--norm", "Linf,L0")
    said = refused(medrobust(*given, "--out", tmp_path, check=2))
    assert "fgsm does not exist under the norm L0 (engine native); what does: noise, pgd" in said


def test_patches_and_corruptions_take_radii_in_units_of_files_as_they_take_others() -> None:
    names = ("mri", "xray")
    assert attacked_by("4grey", names) == attacked_by("4/255", names) == ["mri", "xray"]
    assert attacked_by("mri=0,xray=2%", names) == attacked_by("xray=1", names) == ["xray"]
    assert attacked_by("mri=0grey,xray=1/255", names) == ["xray"]
