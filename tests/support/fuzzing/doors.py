"""Every door of medrobust, with honest inputs to start from."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from PIL import Image

from robustbench_med import parsing
from robustbench_med.api.results import Results
from robustbench_med.cli import run_files
from robustbench_med.data import archive, cards, suites
from robustbench_med.data.pairing import load as load_data
from robustbench_med.data.preprocessing import ImageFile, Preprocessing, prepare
from robustbench_med.data.source import Files
from robustbench_med.formats import arrays, json_file, weights, yaml_file
from robustbench_med.formats.files import data_of, door
from robustbench_med.models import contracts
from robustbench_med.models.registry import ZOO
from robustbench_med.naming import canonical_hash
from robustbench_med.reports import claims
from robustbench_med.reports.submit import submit
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store import belief, entry_files, ledger, reading
from robustbench_med.store.failure import FailedCell, Failure, Failures
from robustbench_med.store.ledger import LedgerUnit
from robustbench_med.store.record import Environment
from robustbench_med.store.store import Store
from robustbench_med.training import checkpoints, interrupted, keras
from robustbench_med.training.spec import Recipe
from support.fuzzing.door import Door
from support.fuzzing.mutations import dumped, sentences, spoilt, text_in
from support.hostile import archives as hostile_archives
from support.hostile import keras as hostile_keras
from support.hostile import records as hostile_records
from support.hostile import sets
from support.records import fill, record
from support.scans import write_dicom, write_nifti

PACKAGE = resources.files("robustbench_med")
RUN: dict[str, Any] = {
    "model": ["late"], "attack": ["pgd"], "data": ["phantoms"], "eps": ["4/255", {"mri": 0.1}], "attack_param": {"steps": 5}, "seed": [0],
    "model_param": {"width": 8}, "recipe": {"steps": 5}, "size": 32, "limit": 8, "defense": ["none"], "norm": ["Linf"], "target_task": "tumour",
}  # fmt: skip
RECIPE: dict[str, Any] = {
    "steps": 100, "batch_size": 32, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": "constant", "clip_norm": 1.0,
    "eval_every": 50, "early_stop": 20, "augmentation": "strong", "keep": "auc", "ema": 0.995, "warm_up": [0.1, 0.5], "mixup": 0.2,
}  # fmt: skip
CONTRACT: dict[str, Any] = {
    "name": "device", "version": "1", "gives": "scores", "images": {"xray": "inputs.image"}, "encoding": "float32", "answers": {"tumour": "scores"},
    "outputs": "probabilities", "batch_size": 4, "rate": 20, "timeout": 1, "retries": 1, "headers": {"A": "b"}, "mean": [0.5], "classes": {"tumour": ["a", "b"]},
}  # fmt: skip
CLAIMS = (resources.files("robustbench_med.reports") / "claims" / "mail.yaml").read_text()
CARDS = [(PACKAGE / "data" / "cards" / f"{name}.yaml").read_text() for name in ("busi", "derm7pt", "chexpert", "phantoms-paired", "breastmnist")]  # fmt: skip
SUITES = [(PACKAGE / "data" / "suites" / "paired.yaml").read_text(), "suite: x\npairings: [phantoms, phantoms+busi]"]  # fmt: skip
TYPED = ("4/255", "0.03", ",", "=", "L2:", "Linf:", "mri", "xray", "clinic.age", "1e-3", "/", "..", "-", "0", "255", "4grey", "HU", "%", "any", "k=3")  # fmt: skip
NAMES = ("phantoms", "phantoms-paired", "busi", "derm7pt", "+", "@", "!", "[", "]", ":", "*", ".yaml", "paired", "all20")  # fmt: skip


def _to(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Reads it as a file of such a name."""

    def at(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return at


def _typed(read: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    return lambda data, _: read(data.decode("utf-8", "surrogatepass"))


def _tree(read: Callable[[Any], object]) -> Callable[[bytes, Path], object]:
    return lambda data, _: read(json.loads(data))


def _made(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


# --- typed ----------------------------------------------------------------------------------------


def _radii(text: str) -> None:
    for radii in parsing.split_radii([text]):
        norm, radius = parsing.norm_of(radii)
        parsing.parse_radii(radius, ("mri", "xray", "clinic"), ("clinic",), units=True)
        parsing.in_units(radius)
        parsing.columns_of(radius, "clinic")
        parsing.radii_under([radii], norm or "Linf")
        parsing.canonical(radius)


def _numbers(text: str) -> None:
    for read in (
        lambda: parsing.parse_number(text),
        lambda: parsing.whole_numbers(text, "--seed"),
        lambda: parsing.positive_numbers(text, "--eps"),
        lambda: parsing.pairs([text], "--recipe"),
    ):
        try:
            read()
        except parsing.UserError as error:
            str(error)


def _data(text: str, folder: Path) -> None:
    files = Files(data_root=folder)
    for name in suites.expand([text], folder)[0]:
        load_data(name, size=16, files=files)


# --- images and volumes ---------------------------------------------------------------------------


def _pictures() -> list[bytes]:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    return [_saved(image, kind)
            for image in (grey, grey.convert("RGB"), grey.convert("P"), Image.fromarray(np.zeros((8, 8), np.uint16)))
            for kind in ("png", "tiff")] + [_saved(grey, kind) for kind in ("jpeg", "bmp", "gif", "webp")]  # fmt: skip


def _saved(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _picture(suffix: str) -> Callable[[bytes, Path], object]:
    """Read as the images of a data set are."""

    def read(path: Path) -> None:
        with door("the image", path):
            prepare(ImageFile(path), data_of(path, "image_bytes"), 1, 16, Preprocessing())

    return _to(f"image{suffix}", read)


# --- records --------------------------------------------------------------------------------------


def _shown(data: bytes, folder: Path, name: str) -> None:
    records = folder / "records"
    records.mkdir()
    for other, content in hostile_records.honest():
        (records / other).write_bytes(content)
    (records / name).write_bytes(data)
    store = Store(folder)
    for kept in store.look(fresh=True)[0]:
        store.arrays(kept)
    reading.read(store)
    results = Results(store.records(), folder)
    str(results.table), str(results.cells)


def _record(data: bytes, folder: Path) -> None:
    _shown(data, folder, hostile_records.spoilt())


def _sealed(data: bytes, folder: Path) -> None:
    """As one who knows how a record is sealed would write it."""
    content = json.loads(data)
    name = hostile_records.spoilt()
    if isinstance(content, dict) and isinstance(content.get("spec"), dict):
        try:
            content["hash"] = canonical_hash({"schema": content.get("schema"), **content["spec"]})
            name = f"{content['hash'][: belief.HASH_LENGTH]}.json"
            digests = content.get("digests")
            if isinstance(digests, dict):
                digests["record"] = belief.digest(content)
        except ValueError:
            pass  # what has no hash cannot be sealed
    _shown(json.dumps(content).encode(), folder, name)


def _outcomes(data: bytes, folder: Path) -> None:
    _shown(data, folder, _spoilt(".npz"))


def _honest(suffix: str) -> bytes:
    """A file of the record that is spoilt."""
    return dict(hostile_records.honest())[_spoilt(suffix)]


def _spoilt(suffix: str) -> str:
    return Path(hostile_records.spoilt()).with_suffix(suffix).name


# --- weights --------------------------------------------------------------------------------------


def _torch_file() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3, "ema": {"a": torch.ones(2)}}, file)
    return file.getvalue()


def _keras(suffix: str) -> Callable[[bytes, Path], object]:
    return _to(
        f"in{suffix}", lambda path: keras.convert(path, "mail", path.parent / "out.safetensors")
    )


def _npz(**content: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    return file.getvalue()


def _sidecar() -> dict[str, Any]:
    name = min(path.name for path in ZOO.iterdir() if path.name.endswith(".json"))
    return dict(json.loads((ZOO / name).read_text()))


def _partial() -> bytes:
    tensors = {"a": torch.ones(3)}
    return _made(
        lambda path: interrupted.save_progress(path, tensors, {"name": "x", "step": 3}), "x"
    )


def _ledger_file() -> Any:
    units = [LedgerUnit(key="a", victim={"model": "late"}, trained=True, cells={0: 3})]
    return json.loads(
        _made(lambda p: ledger.Writer(p.parent, units).path.with_suffix(".json").rename(p), "x")
    )


def _failure_file() -> Any:
    cell = FailedCell(
        model="late", defense="none", data="phantoms", fold=None, train_seed=0, seed=0,
        attack="pgd", eps="4/255", norm="Linf", target_task="joint",
    )  # fmt: skip
    made = Failure(
        hash="0" * 64, spec={"victim": {"model": "late"}}, cell=cell, command="medrobust run", where="cell",
        error="no", traceback="no", mendable=True, environment=Environment(**json.loads(_honest(".json"))["environment"]),
    )  # fmt: skip
    return made.plain()


def _entry() -> Any:
    def write(path: Path) -> None:
        fill(Store(path.parent), record("late", 0.7))
        (made,) = submit(path.parent, path.parent / "entries").written
        made.rename(path)

    return json.loads(_made(write, "late.json"))


def _ledger(data: bytes, folder: Path) -> None:
    (folder / ledger.FOLDER).mkdir()
    (folder / ledger.FOLDER / "1-a.json").write_bytes(data)
    ledger.last(folder)


def _failure(data: bytes, folder: Path) -> None:
    (folder / "failures").mkdir()
    (folder / "failures" / f"{'0' * belief.HASH_LENGTH}.json").write_bytes(data)
    Failures(folder).all()


DOORS: dict[str, Door] = {
    "radii": Door(sentences(TYPED), _typed(_radii)),
    "numbers": Door(sentences(TYPED), _typed(_numbers)),
    "data": Door(
        sentences(NAMES), lambda data, folder: _data(data.decode("utf-8", "surrogatepass"), folder)
    ),
    "specification": Door(
        dumped([RUN]), _tree(lambda tree: parsing.validate(RunSpec, _mapping(tree), "it"))
    ),
    "recipe": Door(
        dumped([RECIPE]), _tree(lambda tree: parsing.validate(Recipe, _mapping(tree), "it"))
    ),
    "yaml": Door(
        text_in([CLAIMS, *CARDS, *SUITES]), _to("x.yaml", lambda path: yaml_file.load(path, "it"))
    ),
    "json": Door(
        text_in([json.dumps(RUN)]), _to("x.json", lambda path: json_file.load_object(path, "it"))
    ),
    "run file": Door(
        dumped([RUN], yaml.safe_dump), _to("run.yaml", lambda path: run_files.read(path, "run"))
    ),
    "card": Door(
        dumped([yaml.safe_load(text) for text in CARDS] + [sets.CARD], yaml.safe_dump),
        _to("x.yaml", lambda path: cards.card(str(path))),
    ),
    "suite": Door(
        dumped([yaml.safe_load(text) for text in SUITES], yaml.safe_dump),
        _to("x.yaml", lambda path: suites.expand([str(path)], path.parent)),
    ),
    "contract": Door(dumped([CONTRACT], yaml.safe_dump), _to("x.yaml", contracts.load)),
    "claims": Door(dumped([yaml.safe_load(CLAIMS)], yaml.safe_dump), _to("x.yaml", claims.load)),
    "record": Door(text_in([_honest(".json").decode()]), _record),
    "sealed record": Door(dumped([json.loads(_honest(".json"))]), _sealed),
    "outcomes": Door(spoilt([_honest(".npz")]), _outcomes),
    "entry": Door(dumped([_entry()]), _to(f"{_entry()['id']}.json", entry_files.read_one)),
    "ledger": Door(dumped([_ledger_file()]), _ledger),
    "failure": Door(dumped([_failure_file()]), _failure),
    "archive": Door(
        spoilt(
            [
                hostile_archives.packed({"a/0.png": sets.png(0), "b/1.png": sets.png(1)}, method)
                for method in hostile_archives.METHODS.values()
            ]
        ),
        _to(
            "x.zip",
            lambda path: archive.unpack(path, _folder(path.parent / "out"), lambda *_: None),
        ),
    ),
    "npz": Door(
        spoilt([_npz(a=np.zeros((3, 4)), b=np.arange(5))]),
        _to("x.npz", lambda path: arrays.load_npz(path, "it")),
    ),
    "image": Door(spoilt(_pictures()), _picture(".png")),
    "dicom": Door(
        spoilt([_made(lambda p: write_dicom(p, np.arange(64).reshape(8, 8)), "x.dcm")]),
        _picture(".dcm"),
    ),
    "nifti": Door(
        spoilt(
            [
                _made(lambda p: write_nifti(p, np.arange(64.0).reshape(4, 4, 4)), f"x{suffix}")
                for suffix in (".nii", ".nii.gz")
            ]
        ),
        _picture(".nii.gz"),
    ),
    "keras h5": Door(spoilt([hostile_keras.honest()]), _keras(".h5")),
    "keras 3": Door(
        spoilt([hostile_archives.packed({"model.weights.h5": hostile_keras.honest()})]),
        _keras(".keras"),
    ),
    "keras npz": Door(
        spoilt([_npz(**{"conv2d:0": np.zeros((3, 3, 3, 16)), "dense:0": np.zeros((16, 3))})]),
        _keras(".npz"),
    ),
    "safetensors": Door(
        spoilt([safetensors.torch.save({"a": torch.ones(2, 2), "b": torch.ones(3)})]),
        _to("x.safetensors", lambda path: weights.load(path, "it")),
    ),
    "torch": Door(
        spoilt([_torch_file()]), _to("x.pt", lambda p: weights.unpickled(p.read_bytes(), p))
    ),
    "sidecar": Door(dumped([_sidecar()]), _to("x.json", checkpoints.read_sidecar)),
    "partial training": Door(
        spoilt([_partial()]), _to("x", lambda p: interrupted.load_progress(p, str))
    ),
}
"""By name."""
KINDS: dict[str, tuple[str, ...]] = {
    "specifications": ("specification", "run file", "contract", "claims"),
    "radii": ("radii", "numbers"),
    "cards": ("card",),
    "pairings": ("data", "suite"),
    "recipes": ("recipe",),
    "records": ("record", "sealed record", "outcomes", "entry", "ledger", "failure"),
    "archives": ("archive",),
    "images": ("image", "dicom", "nifti"),
    "weights": ("npz", "keras h5", "keras 3", "keras npz", "safetensors", "torch", "partial training"),
    "text": ("yaml", "json", "sidecar"),
}  # fmt: skip
"""The doors of each kind of input."""


def _mapping(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise parsing.UserError("no mapping")
    return tree


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
