"""Miniatures of the published archives of truly paired sets, as `miniatures`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robustbench_med.data.cards import card
from support.miniatures import Expected, ham10000, put
from support.scans import write_nifti


def volume(path: Path, seed: int, marked: range | None = None) -> None:
    """A small volume of 21 axial slices; an outline where `marked` says which slices it has."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 900, (12, 10, 21)).astype(np.int16)
    if marked is not None:
        values = np.zeros_like(values)
        values[4:6, 4:6, list(marked)] = 4
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, values)


def listed(path: Path, lines: Iterable[str]) -> None:
    """Writes lines of a table."""
    path.write_text("".join(f"{line}\n" for line in lines))


def brats2020(root: Path) -> Expected:
    """14 patients; of every second the outline ends below the middle."""
    base = root / "MICCAI_BraTS2020_TrainingData"
    lines = [
        "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,"
        "BraTS_2019_subject_ID,BraTS_2020_subject_ID"
    ]
    found: Expected = {}
    positions = card("brats2020").reader.slices  # type: ignore[union-attr]
    for i in range(14):
        patient = f"BraTS20_Training_{i + 1:03d}"
        for m, kind in enumerate(("flair", "t1", "t1ce", "t2")):
            volume(base / patient / f"{patient}_{kind}.nii", 4 * i + m)
        marked = range(3, 10 if i % 2 else 18)
        volume(base / patient / f"{patient}_seg.nii", 0, marked)
        lines.append(
            f"{'LGG' if i % 4 == 3 else 'HGG'},Brats17_{i},Brats18_{i},NA,BraTS19_{i},{patient}"
        )
        for position in positions:
            label = int(round(position * 20) in marked)
            found[f"{patient}/z{position:.3f}"] = label, patient, ""
    listed(base / "name_mapping.csv", lines)
    (base / "survival_info.csv").write_text("Brats20ID,Age,Survival_days,Extent_of_Resection\n")
    return found


def brats2021(root: Path) -> Expected:
    lines, found = ["BraTS21ID,MGMT_value"], {}
    for i in range(12):
        patient = f"{7 * i:05d}"
        folder = f"BraTS2021_{patient}"
        for m, kind in enumerate(("flair", "t1", "t1ce", "t2", "seg")):
            volume(root / folder / f"{folder}_{kind}.nii.gz", 100 + 5 * i + m)
        lines.append(f"{patient},{i % 2}")
        for position in card("brats2021").reader.slices:  # type: ignore[union-attr]
            found[f"{patient}/z{position:.3f}"] = i % 2, patient, ""
    listed(root / "train_labels.csv", lines)
    return found


def derm7pt(root: Path) -> Expected:
    kinds = ["basal cell carcinoma", "clark nevus", "melanoma (in situ)", "lentigo"]
    kinds.append("seborrheic keratosis")
    lines = ["case_num,diagnosis,seven_point_score,elevation,location,sex,clinic,derm,notes"]
    parts = {"train": range(0, 30), "val": range(30, 40), "test": range(40, 60)}
    found: Expected = {}
    for i in range(60):
        names = [f"NEL/Nel{i:03d}.jpg", f"NEL/Nel{i + 500:03d}.JPG"]
        for name in names:
            put(root, f"release_v0/images/{name}")
        place = ("head neck", "back", "")[i % 3]
        lines.append(f"{i + 1},{kinds[i % 5]},3,palpable,{place},female,{names[0]},{names[1]},")
        split = next(part for part, rows in parts.items() if i in rows)
        found[str(i + 1)] = i % 5, None, split
    meta = root / "release_v0/meta"
    meta.mkdir()
    listed(meta / "meta.csv", lines)
    for part, rows in parts.items():
        name = "valid" if part == "val" else part
        listed(meta / f"{name}_indexes.csv", ["indexes", *map(str, rows)])
    return found


def chexpert(root: Path) -> Expected:
    """Every third study has no lateral view, one has two; uncertain labels and blanks, each of the
    fourteen findings one row behind the one before.
    """
    columns = (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung"
        " Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural"
        " Effusion,Pleural Other,Fracture,Support Devices"
    )
    found: Expected = {}
    base = "CheXpert-v1.0-small"
    for part, first, n in (("train", 1, 40), ("valid", 64541, 10)):
        lines = [columns]
        for i in range(n):
            patient = f"patient{first + i // 2:05d}"
            study = f"{part}/{patient}/study{1 + i % 2}"
            said = [("0.0", "1.0", "-1.0", "")[(i + f) % 4] for f in range(14)]
            views = [("Frontal", "view1_frontal"), ("Lateral", "view2_lateral")][: 1 + (i % 3 > 0)]
            for kind, view in views:
                path = put(root, f"{base}/{study}/{view}.jpg", "L")
                side = "AP" if kind == "Frontal" else ""
                lines.append(
                    f"{path},{('Male', 'Female')[i % 2]},{20 + i},{kind},{side},{','.join(said)}"
                )
            label = {"0.0": 0, "1.0": 1}.get(said[0], -1)
            found[f"{study}/view1_frontal"] = label, patient, {"valid": "test"}.get(part, part)
        listed(root / base / f"{part}.csv", lines)
    return found


def gamma(root: Path) -> Expected:
    lines, found = ["data,non,early,mid_advanced"], {}
    for i in range(36):
        name = f"{i + 1:04d}"
        folder = f"training/multi-modality_images/{name}"
        put(root, f"{folder}/{name}.jpg")
        for scan in (0, 128, 255):
            put(root, f"{folder}/{name}/{scan}_image.jpg", "L")
        lines.append(f"{name}," + ",".join("1" if k == i % 3 else "0" for k in range(3)))
        found[name] = i % 3, None, ""
    listed(root / "glaucoma_grading_training_GT.csv", lines)
    return found


PAIRED_TREES = {
    "brats2020": brats2020,
    "brats2021": brats2021,
    "derm7pt": derm7pt,
    "ham10000-clinic": ham10000,
    "chexpert": chexpert,
    "gamma": gamma,
}
