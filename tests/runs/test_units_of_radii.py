"""Radii in the unit of the files: translated by a closed form, of each image its own, never left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.evaluations import evaluate as attacked
from support.evaluations import setting, two_head_samples
from support.scans import write_dicom, write_nifti
from support.victims import TwoHeads

from robustbench_med import attack, evaluate
from robustbench_med.attacks import Threat
from robustbench_med.data import Files, load
from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError
from robustbench_med.parsing import canonical, in_units, named
from robustbench_med.runs.diagnose import diagnose
from robustbench_med.runs.job import Job
from robustbench_med.runs.radii_in_units import translated
from robustbench_med.runs.spec import DiagnoseSpec
from robustbench_med.store.store import Store

WIDTHS = (400.0, 800.0, 1600.0)
"""Of the windows of the miniature's files, one after another."""
RNG = np.random.default_rng(0)


def card(folder: Path, modality: str = "ct", **more: Any) -> Path:
    """A card of two class folders beside it."""
    path = folder / "mini.yaml"
    said = "".join(f", {key}: {value}" for key, value in more.items())
    path.write_text(
        f"id: mini\nmodalities: [{{name: {modality}, channels: 1{said}}}]\n"
        "tasks: [{name: lesion, classes: [a, b]}]\nreader: {kind: folders, roots: [mini]}\n"
    )
    return path


def ct(folder: Path, n: int = 24, **elements: Any) -> Path:
    """12-bit DICOM of three windows; the lesion is brighter than all else."""
    for i in range(n):
        pixels = RNG.integers(900, 1100, (16, 16))
        pixels[4:12, 4:12] += 500 * (i % 2)
        given = {"Modality": "CT", "RescaleSlope": 2.0, "RescaleIntercept": -2048.0}
        given |= {"WindowCenter": 200.0, "WindowWidth": WIDTHS[i % 3]}
        given |= {"VOILUTFunction": "LINEAR_EXACT"} | elements
        write_dicom(folder / "mini" / "ab"[i % 2] / f"{i:03}.dcm", pixels, **given)
    return card(folder)


def png(folder: Path, n: int = 24) -> Path:
    """16-bit PNG, each with a range of its own: image i from 1000 to 1000 + 1000 (i + 1)."""
    for i in range(n):
        pixels = np.full((16, 16), 1000, np.uint16)
        pixels[4:12, 4:12] = 1000 + 1000 * (i + 1)
        path = folder / "mini" / "ab"[i % 2] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return card(folder, "xray")


def radii(path: Path, eps: str, scaling: str = "fixed") -> dict[str, float]:
    """The radius of each image of the training part by the number in its name."""
    files, how = Files(data_root=path.parent), Preprocessing(scaling=scaling)  # type: ignore[arg-type]
    data = load(str(path), size=16, preprocessing=how, files=files)
    samples = data.splits["train"]
    threat = translated(Threat("Linf", (0.0,), (0,)), eps, data, samples)
    found = threat.bounds(len(samples))
    assert threat.radii == (max(found)[0],)
    return {Path(i).stem: own for i, (own,) in zip(samples.ids, found, strict=True)}


def test_hounsfield_units_and_stored_levels_go_through_the_files_window(tmp_path: Path) -> None:
    path = ct(tmp_path)
    hu, grey = radii(path, "ct=20HU"), radii(path, "4grey")
    assert len(hu) > 12
    for name, own in hu.items():
        width = WIDTHS[int(name) % 3]
        assert own == 20 / width
        assert grey[name] == pytest.approx(4 * 2.0 / width, rel=1e-15)  # the slope is 2


def test_the_cards_window_goes_before_the_files(tmp_path: Path) -> None:
    ct(tmp_path)
    path = card(tmp_path, window="{center: 40, width: 500}")
    assert set(radii(path, "20HU").values()) == {20 / 500}


def test_levels_and_percent_of_png_of_16_bits_whatever_the_scaling(tmp_path: Path) -> None:
    path = png(tmp_path)
    assert set(radii(path, "xray=4grey").values()) == {4 / 65535}
    for name, own in radii(path, "xray=1%").items():
        assert own == pytest.approx(0.01 * 1000 * (int(name) + 1) / 65535)
    for name, own in radii(path, "xray=4grey", "minmax").items():
        assert own == pytest.approx(min(4 / (1000 * (int(name) + 1)), 1))
    assert set(radii(path, "1%", "minmax").values()) == {0.01}


def test_nifti_is_in_hounsfield_units_where_the_card_says_so(tmp_path: Path) -> None:
    for i in range(24):
        folder = tmp_path / "mini" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        values = RNG.integers(-1000, 1000, (8, 8, 4)).astype(np.int16)
        write_nifti(folder / f"{i}.nii", values)
    window = "{center: 0, width: 2000}"
    assert set(radii(card(tmp_path, window=window, unit="HU"), "20HU").values()) == {0.01}
    path = card(tmp_path, window=window)
    assert set(radii(path, "20grey").values()) == {0.01}
    with pytest.raises(UserError, match=r"have no Hounsfield units, such as mini/.*unit: HU"):
        radii(path, "20HU")


def test_what_has_no_such_unit_is_one_line_that_names_a_file(tmp_path: Path) -> None:
    path = ct(tmp_path, VOILUTFunction="SIGMOID")
    for eps, said in (("4grey", "grey levels"), ("ct=20HU", "Hounsfield units")):
        with pytest.raises(UserError, match=rf"images have no {said}, such as mini/") as caught:
            radii(path, eps)
        assert "\n" not in str(caught.value)
    assert len(set(radii(path, "1%").values())) > 1
    with pytest.raises(UserError, match="modality 'mri'; this data has: ct"):
        evaluate("late", data=str(path), data_root=tmp_path, eps="mri=1%", out=tmp_path / "out")


NONSENSE = ["4 levels", "-4grey", "1e999grey", "4/2grey", "4hu", "%", "grey", "4grey%", "٤grey"]


@pytest.mark.parametrize("text", NONSENSE)
def test_other_units_are_refused_in_a_line_that_lists_them(text: str) -> None:
    with pytest.raises(UserError, match="4grey, 20HU or 1%"):
        canonical(text)


def test_radii_in_units_have_one_notation() -> None:
    assert canonical("xray=4.0 gray, mri=4/255") == "mri=4/255,xray=4grey"
    assert canonical("1e1%") == "10%"
    assert (in_units("ct=20HU,mri=0"), named("ct=20HU,mri=0")) == (
        {"ct": (20.0, "HU")},
        {"mri": 0.0},
    )


def test_units_are_for_linf_for_images_of_files_and_for_attacks(tmp_path: Path) -> None:
    for given, said in (
        ({"norm": "L2", "eps": "4grey"}, "each pixel by itself"),
        ({"data": "phantoms-paired", "eps": "clinic=4grey"}, "clinic.age=5"),
        ({"defense": "pgd-at", "defense_params": {"eps": "4grey"}}, "write radii in 0..1"),
        (
            {
                "data": "phantoms-paired",
                "defense": "pgd-at",
                "defense_params": {"eps": "mri=4/255,clinic.age=5"},
                "eps": "4/255",
            },
            "columns of a table stay as they are",
        ),
        ({"data": "phantoms", "eps": "ct=20HU"}, "modality 'ct'"),
        ({"data": "phantoms", "eps": "20HU"}, "other formats have none"),
    ):
        with pytest.raises(UserError, match=said):
            evaluate("late", **{"out": tmp_path / "out", "quiet": True, **given})
    x, y = np.zeros((2, 1, 16, 16), np.float32), np.array([0, 1])
    with pytest.raises(UserError, match="in no file"):
        evaluate("late", data=(x, y), eps="4grey", out=tmp_path / "out")
    with pytest.raises(UserError, match="in no file"):
        attack(torch.nn.Flatten(), torch.from_numpy(x), torch.from_numpy(y), eps="4grey")


ATTACKS = {
    "fgsm": {},
    "pgd": {"steps": 4, "restarts": 2},
    "apgd": {"steps": 4},
    "square": {"queries": 20},
    "autoattack": {"steps": 3, "queries": 10},
    "cw": {"steps": 4},
    "fab": {"steps": 3},
    "noise": {},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_sample_among_others_fares_as_if_all_had_its_radii(name: str) -> None:
    """Attacks along gradients, by scores and of minimal norm, each within its own ball."""
    samples, own = two_head_samples(12), ((0.02, 0.0), (0.1, 0.05))
    mixed = Threat("Linf", (0.1, 0.05), (0, 1), each=tuple(own[i % 2] for i in range(12)))
    victim, found = TwoHeads().eval(), []
    for threat in (mixed, *(Threat("Linf", radii, (0, 1)) for radii in own)):
        _, outcome = attacked(victim, samples, threat, name, setting(5), **ATTACKS[name])
        found.append(outcome)
    assert np.array_equal(found[0].arrays["radii"], mixed.each)
    assert (found[0].arrays["linf"] <= found[0].arrays["radii"] + 1e-6).all()
    for row, adversarial in found[0].adversarials.items():
        other = found[1 + row % 2].adversarials[row]  # batches of other sizes round differently
        assert torch.allclose(adversarial, other, rtol=0, atol=1e-5)


def test_a_run_shows_the_unit_and_keeps_each_radius(tmp_path: Path) -> None:
    path = ct(tmp_path)
    given = {"model_params": {"width": 4}, "recipe": {"steps": 10}, "size": 16, "limit": None}
    results = evaluate(
        "late", data=str(path), data_root=tmp_path, eps=["ct=20HU", "4/255"], out=tmp_path / "out",
        attack_params={"steps": 3}, quiet=True, **given
    )  # fmt: skip
    units, plain = [r for r in results.records if not r.control]
    assert (units.eps, plain.eps) == ("20HU", "4/255")
    assert units.spec.threat.units == {"ct": "20HU"}
    assert units.spec.threat.radii == [20 / min(WIDTHS)]
    kept = Store(tmp_path / "out").arrays(units, ["radii", "linf"])
    assert set(kept["radii"].ravel()) == {20 / width for width in WIDTHS}
    assert (kept["linf"] <= kept["radii"] + 1e-6).all()
    assert set(results.table.eps) >= {"4/255", "20HU"}
    spec = DiagnoseSpec(
        model=["late"], data=[str(path)], eps=["20HU"], size=16, model_params={"width": 4}
    )
    with pytest.raises(UserError, match="one radius for all images"):
        diagnose(spec, Job(tmp_path / "out", data_root=tmp_path))
