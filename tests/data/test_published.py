"""What publications report of a data set: in its card, beside a data set loaded, in no hash."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import medrobust
from support.files import write_folder_set
from support.table_sets import TableSet, hashes

from robustbench_med.data import Dataset, Files, card, ids, load
from robustbench_med.data.cards import MedMNISTReader
from robustbench_med.errors import UserError

FIGURES = [
    {"model": "ResNet-18", "size": 28, "accuracy": 0.8, "auc": 0.9, "source": "a paper"},
    {"model": "ResNet-50", "size": 224, "accuracy": 0.7, "auc": 0.95, "source": "a paper"},
    {"model": "ResNet-50", "size": 28, "accuracy": 0.9, "auc": 0.94, "source": "another"},
]


def folder_card(root: Path, **changes: Any) -> str:
    """The card of a set of class folders, no synthetic one, with published figures."""
    path = root / "tumours.yaml"
    if not path.exists():
        write_folder_set(root, "tumours", "mri", size=16, split=True)
    given = yaml.safe_load(path.read_text()) | {"synthetic": False, "published": FIGURES}
    path.write_text(yaml.safe_dump(given | changes))
    return str(path)


def folder_set(root: Path, fold: tuple[int, int] | None = None, **changes: Any) -> Dataset:
    given = folder_card(root, **changes)
    return load(given, size=16, fold=fold, files=Files(data_root=root))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in ids()
        if isinstance(card(name).reader, MedMNISTReader) and not card(name).multilabel
    ],  # of findings it publishes the mean alone, which is no task's
)
def test_a_medmnist_card_holds_what_medmnist_publishes(name: str) -> None:
    figures = card(name).published
    assert {(figure.model, figure.size) for figure in figures} == {
        (model, size) for model in ("ResNet-18", "ResNet-50") for size in (28, 224)
    }
    assert all("10.1038/s41597-022-01721-8" in figure.source for figure in figures)


def test_the_reference_of_a_task_is_the_figure_with_the_highest_auc() -> None:
    breast = card("breastmnist").reference("malignancy")
    assert breast is not None
    assert (breast.model, breast.size, breast.accuracy, breast.auc) == (
        "ResNet-18",
        28,
        0.863,
        0.901,
    )
    chest = card("pneumoniamnist").reference("pneumonia")
    assert chest is not None
    assert (chest.model, chest.size, chest.auc) == ("ResNet-50", 224, 0.962)
    assert card("pneumoniamnist").reference("malignancy") is None
    assert card("busi").reference(card("busi").tasks[0].name) is None


def test_a_loaded_set_has_its_reference_where_its_images_are_the_published_ones(
    tmp_path: Path,
) -> None:
    (reference,) = folder_set(tmp_path).references
    assert reference is not None
    assert reference.auc == 0.95
    assert folder_set(tmp_path, fold=(0, 3)).references == (None,)
    assert folder_set(tmp_path, synthetic=True).references == (None,)
    assert folder_set(tmp_path, published=[]).references == (None,)
    assert folder_set(tmp_path, counts={"train": 1, "test": 80}).references == (None,)
    next((tmp_path / "tumours" / "Testing").rglob("*.png")).write_bytes(b"no image")
    assert folder_set(tmp_path).references == (None,)


def test_a_pairing_has_a_reference_a_task_in_the_order_of_its_tasks(tmp_path: Path) -> None:
    paired = load(f"phantoms+{folder_card(tmp_path)}", size=16, files=Files(data_root=tmp_path))
    assert len(paired.references) == len(paired.tasks) == 3
    assert [None if figure is None else figure.auc for figure in paired.references] == [
        None,
        None,
        0.95,
    ]


def test_a_published_figure_is_in_no_hash_and_names_its_task_where_there_are_several(
    lesions: TableSet,
) -> None:
    before = hashes(lesions.load())
    lesions.card |= {"synthetic": False, "published": [{**FIGURES[0], "task": "side"}]}
    after = lesions.load()
    assert hashes(after) == before
    tumour, side = after.references
    assert tumour is None
    assert side is not None
    assert side.auc == 0.9
    lesions.card["published"] = FIGURES[:1]
    with pytest.raises(UserError, match="must name its task"):
        lesions.load()
    lesions.card["published"] = [{**FIGURES[0], "task": "colour"}]
    with pytest.raises(UserError, match="'colour', which is no task"):
        lesions.load()
    lesions.card["published"] = [{**FIGURES[0], "task": "side", "auc": 95}]
    with pytest.raises(UserError, match=r"published\.0\.auc"):
        lesions.load()


def test_data_show_prints_what_is_published(tmp_path: Path) -> None:
    shown = medrobust("data", "show", "breastmnist").stdout
    assert "published results" in shown
    assert "ResNet-18 at 28 px: accuracy 0.863, AUC 0.901" in shown
    assert "10.1038/s41597-022-01721-8" in shown
    assert "published results" not in medrobust("data", "show", "busi").stdout


def test_data_show_says_how_modalities_are_paired() -> None:
    shown = " ".join(medrobust("data", "show", "breastmnist+busi").stdout.split())
    assert "paired by index with busi: modalities of different patients" in shown
    assert "paired by index with breastmnist: modalities of different patients" in shown
    both = json.loads(medrobust("data", "show", "breastmnist+busi", "--json").stdout)
    assert [each["id"] for each in both] == ["breastmnist", "busi"]
    shown = " ".join(medrobust("data", "show", "gamma").stdout.split())
    assert "paired: the modalities of a sample are of one patient" in shown
