"""Miniatures of the published archives: exact names, nesting, formats and traps, a few tiny images
a class.

Each builder writes a tree as the archive unpacks and returns what a reader must find: for every
sample id (below the data set's id) its label, its group (None: its own) and its published split.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from robustbench_med.data.cards import MedMNISTReader, card

Expected = dict[str, tuple[int, str | None, str]]
counter = iter(range(10**9))


def picture(name: str, mode: str = "RGB") -> bytes:
    """A small picture no other call returns, in the format of the name's suffix."""
    rng = np.random.default_rng(next(counter))
    pixels = rng.integers(0, 256, (10, 12, 3), np.uint8)
    suffix = name.rpartition(".")[2].lower()
    kind = {"jpg": "JPEG", "jpeg": "JPEG", "jfif": "JPEG", "tif": "TIFF"}.get(
        suffix, suffix.upper()
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def put(root: Path, name: str, mode: str = "RGB") -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(name, mode))
    return name


def clutter(root: Path, folder: str) -> None:
    """What Windows and macOS leave beside the images; named like images where they do so."""
    for name in (
        f"{folder}/Thumbs.db",
        f"{folder}/.DS_Store",
        f"{folder}/._hidden.png",
        f"__MACOSX/{folder}/._1.jpg",
        f"{folder}/desktop.ini",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0not an image")


def classes(
    root: Path, folders: dict[str, str], n: int = 12, split: str = "", base: str = ""
) -> Expected:
    """Class folders; `folders` maps a folder to a file name with {i}. Ids are relative to
    `base`.
    """
    found: Expected = {}
    for label, (folder, name) in enumerate(folders.items()):
        for i in range(1, n + 1):
            path = put(root, f"{base}{folder}/{name.format(i=i)}", "L" if i % 3 == 0 else "RGB")
            found[path.removeprefix(base)] = label, None, split
        clutter(root, f"{base}{folder}".rstrip("/"))
    return found


def ham10000(root: Path) -> Expected:
    names = card("ham10000").tasks[0].classes
    lines, found = ["lesion_id,image_id,dx,dx_type,age,sex,localization"], {}
    for i in range(84):
        image, lesion, dx = f"ISIC_{24306 + i:07d}", f"HAM_{i // 2 * 5 % 42:07d}", i // 2 % 7
        part = 1 + i % 2  # one lesion's images lie in both parts
        put(root, f"HAM10000_images_part_{part}/{image}.{'JPG' if i == 5 else 'jpg'}")
        if i < 9:  # the mirror's second copy, in a folder that differs in letter case
            copy = root / f"ham10000_images_part_{part}_copy" / f"{image}.jpg"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(picture("x.jpg"))
        lines.append(f"{lesion},{image},{names[dx]},histo,80.0,male,scalp")
        found[image] = dx, lesion, ""
    (root / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    (root / "hmnist_28_28_L.csv").write_text("pixel0000,label\n1,2\n")
    return found


def sipakmed(root: Path) -> Expected:
    found = {}
    for label, name in enumerate(card("sipakmed").tasks[0].classes):
        inner = f"im_{name}/im_{name}"
        for slide in range(1, 13):
            put(root, f"{inner}/{slide:03d}.bmp")  # whole cluster images, no cells
            (root / f"{inner}/{slide:03d}_01_nuc.dat").write_text("1 2\n")
            for cell in (1, 2, 3)[: 1 + slide % 3]:
                path = put(
                    root, f"{inner}/CROPPED/{slide:03d}_{cell:02d}.{'BMP' if slide == 2 else 'bmp'}"
                )
                (root / f"{inner}/CROPPED/{slide:03d}_{cell:02d}_cyt.dat").write_text("1 2\n")
                found[path] = label, f"im_{name}/{slide:03d}", ""
        clutter(root, f"{inner}/CROPPED")
    return found


def br35h(root: Path) -> Expected:
    put(root, "pred/pred0.jpg")
    put(root, "Br35H-Mask-RCNN/TRAIN/y1.jpg")
    return classes(root, {"no": "no{i}.jpg", "yes": "y{i}.JPG"})


def nickparvar(root: Path) -> Expected:
    parts = {"Training": ("Tr", "train"), "Testing": ("Te", "test")}
    short = {"glioma": "gl", "meningioma": "me", "notumor": "no", "pituitary": "pi"}
    found = {}
    for folder, (prefix, split) in parts.items():
        found |= classes(
            root,
            {f"{folder}/{name}": f"{prefix}-{code}_{{i}}.jpg" for name, code in short.items()},
            split=split,
        )
    return found


def sartaj(root: Path) -> Expected:
    names = {
        "glioma_tumor": "gg ({i}).jpg",
        "meningioma_tumor": "m ({i}).jpg",
        "no_tumor": "{i}.jpg",
        "pituitary_tumor": "p ({i}).jpg",
    }
    found = classes(root, {f"Training/{name}": file for name, file in names.items()}, split="train")
    return found | classes(
        root, {f"Testing/{name}": "image({i}).jpg" for name in names}, split="test"
    )


def iq_othnccd(root: Path) -> Expected:
    base = "The IQ-OTHNCCD lung cancer dataset/The IQ-OTHNCCD lung cancer dataset/"
    found = classes(
        root,
        {f"{c} cases": f"{c} case ({{i}}).jpg" for c in ("Bengin", "Malignant", "Normal")},
        base=base,
    )
    (root / base / "IQ-OTH_NCCD lung cancer dataset.txt").write_text("about")
    return found


def sars_cov_2_ct(root: Path) -> Expected:
    return classes(root, {"COVID": "Covid ({i}).png", "non-COVID": "Non-Covid ({i}).png"})


def cxr_pneumonia(root: Path) -> Expected:
    found: Expected = {}
    for split, n in (("train", 12), ("val", 2), ("test", 4)):
        for copy in ("chest_xray/", "chest_xray/chest_xray/"):  # the archive holds everything twice
            for i in range(1, n + 1):
                normal = f"{split}/NORMAL/{'NORMAL2-' if i % 2 else ''}IM-{100 + i // 2:04d}-{i:04d}.jpeg"
                sick = f"{split}/PNEUMONIA/person{i // 2 + 1}_{'bacteria' if i % 2 else 'virus'}_{i}.jpeg"
                for label, name in enumerate((normal, sick)):
                    put(root, copy + name, "L")
                    group = (
                        f"person{i // 2 + 1}"
                        if label
                        else f"{'NORMAL2-' if i % 2 else ''}IM-{100 + i // 2:04d}"
                    )
                    found[name] = label, group, split
        clutter(root, f"chest_xray/{split}/NORMAL")
    return found


def covid_cxr(root: Path) -> Expected:
    return classes(
        root,
        {"covid": "COVID-{i}.jfif", "normal": "n{i}.png", "virus": "v{i}.jpeg"},
        base="COVID_IEEE/",
    )


def shenzhen(root: Path) -> Expected:
    found = {}
    for i in range(1, 29):
        label = int(i > 14)
        name = f"CHNCXR_{i:04d}_{label}.{'PNG' if i == 3 else 'png'}"
        put(root, f"ChinaSet_AllFiles/CXR_png/{name}", "L")
        found[name] = label, None, ""
        reading = root / f"ChinaSet_AllFiles/ClinicalReadings/CHNCXR_{i:04d}_{label}.txt"
        reading.parent.mkdir(parents=True, exist_ok=True)
        reading.write_text("normal")
    clutter(root, "ChinaSet_AllFiles/CXR_png")
    return found


def busi(root: Path) -> Expected:
    base = "Dataset_BUSI_with_GT/"
    found = classes(
        root, {c: f"{c} ({{i}}).png" for c in ("benign", "malignant", "normal")}, base=base
    )
    for name in list(found):
        put(root, base + name.replace(".png", "_mask.png"), "L")
    put(root, f"{base}benign/benign (1)_mask_1.png", "L")
    return found


def skin_cancer_isic(root: Path) -> Expected:
    found = {}
    for split in ("train", "test"):
        found |= classes(
            root, {f"{split}/{c}": "{i}.jpg" for c in ("benign", "malignant")}, split=split
        )
        classes(
            root, {f"data/{split}/{c}": "{i}.jpg" for c in ("benign", "malignant")}
        )  # the same again
    return found


def wce_colon(root: Path) -> Expected:
    found = {}
    for split, n in (("train", 8), ("val", 5), ("test", 2)):
        names = card("wce-colon").tasks[0].classes
        found |= classes(
            root, {f"{split}/{c}": f"{split}_{c[2:]}_ ({{i}}).jpg" for c in names}, n=n, split=split
        )
    return found


def c_nmc_2019(root: Path) -> Expected:
    found = {}
    for subject in range(1, 25):
        for label, (kind, who) in enumerate((("all", str(subject)), ("hem", f"H{subject}"))):
            for cell in (1, 2):
                name = f"fold_{subject % 3}/{kind}/UID_{who}_{subject}_{cell}_{kind}.bmp"
                put(root, f"C-NMC_training_data/{name}")
                found[name] = label, who, ""
    put(root, "C-NMC_test_prelim_phase_data/1.bmp")
    return found


def cbis_ddsm(root: Path) -> Expected:
    """The JPEG mirror: paths of the DICOM download in the tables, files by series; a mammogram with
    two abnormalities.
    """
    found: Expected = {}
    for kind in ("mass", "calc"):
        for part, split in (("Training", "train"), ("Test", "test")):
            density = "breast_density" if kind == "mass" else "breast density"
            columns = (
                f"patient_id,{density},left or right breast,image view,abnormality id,abnormality"
                " type,pathology"
            )
            lines = [f"{columns},image file path,cropped image file path"]
            for i in range(24 if split == "train" else 6):
                patient = f"P_{(10_000 if split == 'test' else 0) + i // 2 + (5_000 if kind == 'calc' else 0):05d}"
                view = ("CC", "MLO")[i % 2]
                case = f"{kind.title()}-{part}_{patient}_LEFT_{view}"
                series = f"1.3.6.1.4.1.9590.{kind}.{part}.{i}"
                for abnormality in (1, 2) if i == 0 else (1,):
                    pathology = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")[
                        (i // 2 + abnormality - 1) % 3
                    ]
                    path = (  # a line break inside the cell, as published
                        f'"{case}/1.3.6.1.study/{series}/000000.dcm\n"'
                    )
                    kind_of = "mass" if kind == "mass" else "calcification"
                    lines.append(
                        f"{patient},3,LEFT,{view},{abnormality},{kind_of},{pathology},{path},{path}"
                    )
                    found[f"{case}/{kind_of}-{abnormality}"] = (
                        int(pathology == "MALIGNANT"),
                        patient,
                        split,
                    )
                put(root, f"jpeg/{series}/1-{i:03d}.jpg", "L")
            put(root, f"jpeg/1.3.6.1.4.1.9590.crop.{kind}.{part}/1-1.jpg", "L")
            path = root / f"csv/{kind}_case_description_{part.lower().replace('ing', '')}_set.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    (root / "csv/dicom_info.csv").write_text("file_path\n")
    return found


TREES: dict[str, Callable[[Path], Expected]] = {
    "ham10000": ham10000,
    "sipakmed": sipakmed,
    "br35h": br35h,
    "nickparvar-mri": nickparvar,
    "sartaj-mri": sartaj,
    "iq-othnccd": iq_othnccd,
    "sars-cov-2-ct": sars_cov_2_ct,
    "cxr-pneumonia": cxr_pneumonia,
    "covid-cxr": covid_cxr,
    "shenzhen-tb": shenzhen,
    "busi": busi,
    "skin-cancer-isic": skin_cancer_isic,
    "wce-colon": wce_colon,
    "c-nmc-2019": c_nmc_2019,
    "cbis-ddsm": cbis_ddsm,
}


def medmnist(path: Path, name: str) -> Expected:
    """The npz of a MedMNIST set with its classes and channels, a few images a split; as numpy
    writes it, compressed.
    """
    each = card(name)
    assert isinstance(each.reader, MedMNISTReader)
    n_classes, channels = len(each.tasks[0].classes), each.modalities[0].channels
    rng, arrays, found = np.random.default_rng(next(counter)), {}, {}
    for split, n in (("train", 3 * n_classes), ("val", n_classes), ("test", 2 * n_classes)):
        arrays[f"{split}_images"] = rng.integers(
            0, 256, (n, 28, 28, 3)[: 3 + (channels == 3)], np.uint8
        )
        arrays[f"{split}_labels"] = np.repeat(
            (np.arange(n) % n_classes).astype(np.uint8)[:, None], len(each.tasks), 1
        )
        found |= {f"{split}/{i:06d}": (i % n_classes, None, split) for i in range(n)}
    np.savez_compressed(path / f"{each.reader.flag}.npz", **arrays)
    return found
