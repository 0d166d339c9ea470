"""Clinical tables and paired phantoms: cells as numbers, what is missing, and one latent patient."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from robustbench_med.data import card, facts, load, phantoms_paired
from robustbench_med.data.cards import CARDS, Card
from robustbench_med.data.columns import Column, encode
from robustbench_med.errors import UserError

AGE = Column(name="age", range=(20, 90), unit="years")
SITE = Column(name="site", values=("arm", "leg", "back"))


def own_card(path: Path, **changed: object) -> str:
    """The card of the paired phantoms with some fields of its own."""
    written = yaml.safe_load((CARDS / "phantoms-paired.yaml").read_text()) | changed
    path.write_text(yaml.safe_dump(written))
    return str(path)


def test_cells_become_numbers_in_their_range_and_one_hot_groups() -> None:
    rows = [{"age": "55", "site": "leg"}, None, {"age": "", "site": ""}, {"age": "120"}]
    table = encode((AGE, SITE), rows)
    assert table.dtype == np.float32
    assert np.allclose(table[0], [0.5, 0, 1, 0])
    assert not table[1].any()  # no table at all
    assert np.allclose(table[2], [0.75, 0, 0, 0])  # the mean of 0.5 and 1, beyond which nothing is
    assert np.allclose(table[3], [1, 0, 0, 0])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"age": "old"}, "'old' is no number"),
        ({"age": "nan"}, "is no number"),
        ({"site": "nose"}, "'nose' is none of its values"),
    ],
)
def test_a_cell_that_is_none_names_the_column(row: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        encode((AGE, SITE), [row])


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"name": "age"}, "needs either a range or values"),
        ({"name": "age", "range": [90, 20]}, "the range 90 to 20 is none"),
        ({"name": "sex", "values": ["f"]}, "needs two values"),
        ({"name": "flips", "range": [0, 1]}, "cannot be called 'flips'"),
    ],
)
def test_a_column_that_is_none_is_refused(tmp_path: Path, column: dict, said: str) -> None:
    path = own_card(tmp_path / "card.yaml", modalities=[{"name": "clinic", "columns": [column]}])
    with pytest.raises(UserError, match=said):
        card(path)


def test_a_modality_is_an_image_or_a_table(tmp_path: Path) -> None:
    for modality in ({"name": "a"}, {"name": "a", "channels": 1, "columns": [{"name": "b"}]}):
        with pytest.raises(UserError, match="modalities"):
            card(own_card(tmp_path / "card.yaml", modalities=[modality]))


def test_paired_phantoms_are_of_one_patient_and_some_miss_a_modality() -> None:
    data, people = load("phantoms-paired", size=32), phantoms_paired.Patients(size=32)
    assert data.shapes == [(1, 32, 32), (1, 32, 32), (7, 1, 1)]
    test = data.splits["test"]
    images = test.batch(np.arange(len(test)))
    rows = test.index[:, 0] + 2048 + 256
    assert np.array_equal(people.labels[rows], test.labels.numpy())
    there = np.stack([m.flatten(1).any(1).numpy() for m in images], 1)
    assert np.array_equal(~there, people.absent[rows])
    assert (there.sum(1) >= 2).all()
    shares = people.absent.mean(0)
    assert np.allclose(shares, phantoms_paired.SHARES[1:], atol=0.02)
    # of one patient: the lesion that the MRI shows is half of the diagnosis, the nodule the other
    ring = images[0][there[:, 0]].flatten(1).std(1)
    sick = (test.labels[:, 0] % 2 == 1)[there[:, 0]]
    assert float(ring[sick].mean()) > float(ring[~sick].mean()) + 0.01


def test_a_card_may_take_some_modalities_and_tasks_of_the_paired_phantoms(tmp_path: Path) -> None:
    whole = yaml.safe_load((CARDS / "phantoms-paired.yaml").read_text())
    path = own_card(
        tmp_path / "card.yaml", modalities=whole["modalities"][1:], tasks=whole["tasks"][1:]
    )
    part, everything = (load(name, size=16).splits["val"] for name in (path, "phantoms-paired"))
    assert np.array_equal(part.labels[:, 0], everything.labels[:, 1])
    for few, all_ in zip(part.batch([0, 5]), everything.batch([0, 5])[1:], strict=True):
        assert np.array_equal(few, all_)
    other = own_card(
        tmp_path / "other.yaml", modalities=[{"name": "ct", "channels": 1}], subgroups={}
    )
    with pytest.raises(UserError, match="no such modality 'ct'"):
        load(other, size=16)


def test_every_word_of_a_column_is_in_the_hash_of_the_data(tmp_path: Path) -> None:
    whole: Card = card("phantoms-paired")
    before = load("phantoms-paired", size=16).content
    written = [m.model_dump(mode="json", exclude_defaults=True) for m in whole.modalities]
    written[2]["columns"][0]["range"] = [10, 100]
    after = load(own_card(tmp_path / "card.yaml", modalities=written), size=16).content
    assert before != after


def test_data_show_tells_the_columns_and_that_the_set_is_paired() -> None:
    told = facts(card("phantoms-paired"), None)
    assert told["pairing"].startswith("paired")
    assert "age 20 to 90 years" in told["table clinic"]
    assert "smoking never/former/current" in told["table clinic"]
    assert facts(card("breastmnist"), None)["pairing"].startswith("one modality")
