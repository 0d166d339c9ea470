"""`data verify` finds what was planted, and nothing in a clean set."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.cli import medrobust
from support.files import SHARED_DATA, needs_real_data, write_folder_set
from support.miniatures import TREES

from robustbench_med.data import Files, card, duplicates
from robustbench_med.data.verify import verify


def test_a_clean_set_does_not_leak(drawn_root: Path) -> None:
    report = verify(card(str(drawn_root / "heads.yaml")), Files(data_root=drawn_root))
    assert not report["leaks"]
    assert report["unreadable"] == {}
    assert [row["found"] for row in report["counts"]] == [80, 56, 8, 16]
    assert all(row["found"] == 20 for row in report["classes"])
    assert all(kind["images"] == 0 for kind in report["twins"].values())
    medrobust("data", "verify", drawn_root / "heads.yaml", "--data-root", drawn_root)


def test_planted_twins_are_found_where_they_were_planted(tmp_path: Path) -> None:
    path = write_folder_set(tmp_path, "heads", "mri", size=96, split=True)
    training, testing = tmp_path / "heads" / "Training", tmp_path / "heads" / "Testing"
    (testing / "ring" / "image(5).png").write_bytes(
        (training / "ring" / "image(3).png").read_bytes()
    )  # a copy
    (testing / "solid" / "image(6).png").write_bytes(
        (training / "ring" / "image(4).png").read_bytes()
    )  # a copy with another label
    twin = (
        Image.open(training / "none" / "image(7).png")
        .resize((140, 120), Image.Resampling.BICUBIC)
        .point(lambda v: int(0.9 * v + 12))
    )
    twin.convert("L").save(
        testing / "none" / "image(8).jpg", quality=70
    )  # rescaled, brightened, recompressed
    (testing / "none" / "image(8).png").unlink()
    (testing / "none" / "image(9).png").write_bytes(b"")
    report = verify(card(str(path)), Files(data_root=tmp_path))
    assert report["leaks"]
    copies, alikes = report["twins"]["copies"], report["twins"]["look_alikes"]
    assert (copies["images"], copies["across"], copies["conflicting"]) == (4, 4, 2)
    assert (alikes["images"], alikes["across"], alikes["conflicting"]) == (6, 6, 2)
    assert sum(pair["test"] for name, pair in alikes["between"].items() if "test" in name) == 3
    assert list(report["unreadable"]) == ["heads/Testing/none/image(9).png"]
    assert [set(pair) for pair in copies["conflicts"]] == [
        {"heads/Training/ring/image(4).png", "heads/Testing/solid/image(6).png"}
    ]
    done = medrobust("data", "verify", path, "--data-root", tmp_path, "--json", check=1)
    assert json.loads(done.stdout) == json.loads(json.dumps(report))
    assert not verify(card(str(path)), Files(data_root=tmp_path), look=False)["twins"].keys() & {
        "look_alikes"
    }
    table = medrobust("data", "verify", path, "--data-root", tmp_path, check=1).stdout
    assert "the split leaks" in table


def test_a_group_in_two_published_parts_is_a_leak(tmp_path: Path) -> None:
    root = tmp_path / "cxr-pneumonia"
    root.mkdir()
    TREES["cxr-pneumonia"](root)
    groups = verify(card("cxr-pneumonia"), Files(data_root=tmp_path))["groups"]
    assert groups["shared"] > 0
    assert "person1" in groups["examples"]
    assert groups["between"]["train-test"] >= 2


def test_copies_are_paired_with_each_part_once() -> None:
    digests, part = (
        ["a", "b", "a", "a", "b", "c"],
        ["train", "train", "train", "test", "val", "test"],
    )
    assert duplicates.copies(digests, part).tolist() == [[0, 2], [0, 3], [1, 4], [2, 3]]
    many = duplicates.copies(["x"] * 3000, ["train", "val", "test"] * 1000)
    assert len(many) < 9000  # linear, not quadratic


def test_look_alikes_are_those_of_every_pair_compared_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", (4, 16))
    monkeypatch.setattr(duplicates, "CHUNK", 7)
    rng = np.random.default_rng(0)
    drawings = np.kron(rng.integers(60, 200, (20, 3, 8, 8)), np.ones((4, 4))) + rng.normal(
        0, 2, (5, 20, 3, 32, 32)
    )
    images = np.clip(drawings.reshape(100, 3, 32, 32), 0, 255).astype(
        np.uint8
    )  # each of 20 drawings five times, noisy
    grey = images.mean(1, dtype=np.float32)
    hashes = duplicates.perceptual_hash(grey)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= duplicates.BITS
    expected = np.argwhere(
        np.triu(near & (np.corrcoef(grey.reshape(100, -1)) >= duplicates.CORRELATION), 1)
    )
    assert len(expected) > 150
    ticks: list[int] = []
    everything = duplicates.look_alikes(
        images, np.arange(100), ticks.append
    )  # every image of a kind of its own: all pairs are named
    assert sorted(everything.tolist()) == expected.tolist()
    assert sum(ticks) == 100
    kind = rng.integers(0, 3, 100)
    named = duplicates.look_alikes(images, kind, ticks.append)

    def twins(pairs: np.ndarray) -> set[tuple[int, int]]:
        return {(int(a), int(kind[b])) for i, j in pairs for a, b in ((i, j), (j, i))}

    assert len(named) < len(expected)
    assert {tuple(pair) for pair in named.tolist()} <= {tuple(pair) for pair in expected.tolist()}
    assert twins(named) == twins(expected)


def test_a_thousand_images_that_all_look_the_same_are_named_linearly() -> None:
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 1, 32, 32), np.uint8), 1000, 0)
    assert len(duplicates.look_alikes(images, np.arange(1000) % 3, lambda n: None)) < 3000


def test_a_perceptual_hash_moves_little_with_brightness_and_much_with_content() -> None:
    rng = np.random.default_rng(0)
    from scipy.ndimage import gaussian_filter

    smooth = np.stack(
        [gaussian_filter(rng.standard_normal((32, 32)), 2) for _ in range(40)]
    ).astype(np.float32)
    hashes = duplicates.perceptual_hash(smooth)
    changed = duplicates.perceptual_hash(0.5 * smooth + 3)
    assert np.bitwise_count(hashes ^ changed).max() <= 2
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])[np.triu_indices(40, 1)]
    assert 26 < apart.mean() < 38  # two unlike pictures agree in half the bits
    assert apart.min() > duplicates.BITS


@needs_real_data
def test_sartajs_test_part_holds_copies_of_its_training_part() -> None:
    copies = verify(card("sartaj-mri"), Files(data_root=SHARED_DATA), look=False)["twins"]["copies"]
    assert copies["between"]["train-val"] == {
        "train": 0,
        "val": 0,
    }  # the split made here has no copy
    assert copies["between"]["train-test"]["test"] + copies["between"]["val-test"]["test"] == 251
    assert copies["conflicting"] == 0


@needs_real_data
@pytest.mark.parametrize(
    ("name", "across", "conflicting"), [("breastmnist", 2, 2), ("pneumoniamnist", 18, 0)]
)
def test_medmnists_published_parts_share_images(name: str, across: int, conflicting: int) -> None:
    copies = verify(card(name), Files(data_root=SHARED_DATA, accept_unverified=True), look=False)[
        "twins"
    ]["copies"]
    assert (copies["across"], copies["conflicting"]) == (across, conflicting)
