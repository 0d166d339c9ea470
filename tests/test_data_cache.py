"""The cache of decoded images: made once, by one process, whole or not at all; and made anew when files change."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import write_folder_set
from PIL import Image
from test_data_fetch import disk_of

from robustbench_med.data import Files, Preprocessing, cache, card, load
from robustbench_med.data.source import read
from robustbench_med.errors import UserError


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return write_folder_set(tmp_path, "heads", "mri")


def pixels_of(path: Path, size: int = 16, **given: object) -> np.ndarray:
    source = read(card(str(path)), size=size, files=Files(data_root=path.parent), **given)
    return source.images[0][np.arange(len(source.ids))]


def entries(home: Path) -> list[Path]:
    return [path for path in (home / "cache").glob("heads-*/*") if path.is_dir()]


def test_images_are_decoded_once_for_each_size_and_preprocessing(heads: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pixels_of(heads)
    others = [pixels_of(heads, 24), pixels_of(heads, preprocessing=Preprocessing(scaling="minmax"))]
    assert len(entries(home)) == 3
    assert not np.array_equal(first, others[1])

    def refuse(*given: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "prepare", refuse)
    assert np.array_equal(pixels_of(heads), first)
    dataset = load(str(heads), size=16, files=Files(data_root=heads.parent))
    assert len(dataset.splits["train"].batch(range(10))[0]) == 10


def test_a_changed_file_is_decoded_anew_and_a_touched_one_is_the_same_data(heads: Path) -> None:
    def manifest() -> str:
        return load(str(heads), size=16, files=Files(data_root=heads.parent)).manifest_hash

    before, hashed = pixels_of(heads), manifest()
    path = heads.parent / "heads" / "none" / "image(0).png"
    os.utime(path, (1, 1))
    assert manifest() == hashed
    Image.new("L", (32, 32), 255).save(path)
    changed = pixels_of(heads)
    assert (changed[0] == 255).all()
    assert np.array_equal(changed[1:], before[1:])
    assert manifest() != hashed


def test_a_damaged_entry_is_made_again(heads: Path, home: Path) -> None:
    first = pixels_of(heads)
    for name in ("images-0.npy", "index.json", "digests.npy"):
        path = entries(home)[0] / name
        path.write_bytes(path.read_bytes()[:-5])
        assert np.array_equal(pixels_of(heads), first)


def test_an_unreadable_file_is_remembered_and_refused_under_strict(heads: Path) -> None:
    (heads.parent / "heads" / "solid" / "image(3).png").write_bytes(b"no image")
    for _ in range(2):
        source = read(card(str(heads)), size=16, files=Files(data_root=heads.parent))
        assert [name for name, _ in source.unreadable] == ["heads/solid/image(3).png"]
        assert len(source.ids) == len(source.digests) == 79
        assert "heads/solid/image(3).png" not in source.ids
        row = source.ids.index("heads/solid/image(4).png")  # behind the gap
        expected = np.asarray(Image.open(heads.parent / "heads" / "solid" / "image(4).png").resize((16, 16), Image.Resampling.BILINEAR))
        assert np.array_equal(source.images[0][np.array([row])][0, 0], expected)
        with pytest.raises(UserError, match=r"solid/image\(3\)\.png cannot be read \(UnidentifiedImageError"):
            read(card(str(heads)), size=16, files=Files(data_root=heads.parent, strict=True))


def test_a_full_disk_leaves_nothing_behind(heads: Path, home: Path) -> None:
    with disk_of(4096), pytest.raises(UserError, match="cannot keep decoded images"):
        pixels_of(heads, 64)
    assert entries(home) == []
    assert len(pixels_of(heads, 64)) == 80


SLOW_BUILD = """
import sys, time
from pathlib import Path
from robustbench_med.data import Files, cache, card
from robustbench_med.data.source import read
plain = cache.prepare
def slow(*given):
    print("decoding", flush=True)
    time.sleep(60)
    return plain(*given)
cache.prepare = slow
read(card(sys.argv[1]), size=16, files=Files(data_root=Path(sys.argv[1]).parent))
"""


def test_two_builders_do_not_meet_and_a_killed_one_does_no_harm(heads: Path, home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(heads)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().startswith("decoding")  # two threads print at once
        found: list[np.ndarray] = []
        waiting = threading.Thread(target=lambda: found.append(pixels_of(heads)))
        waiting.start()
        time.sleep(0.5)
        assert waiting.is_alive()  # it waits for the other's result
        other.kill()
        waiting.join(30)
    assert len(found[0]) == 80
    assert [path.suffix for path in entries(home)] == [""]  # no half entry is left


def test_batches_do_not_stay_in_memory(heads: Path) -> None:
    """Every batch maps the file anew: what was read before is not resident. Measured in benchmarks/data_cache.py."""
    source = read(card(str(heads)), size=16, files=Files(data_root=heads.parent))
    batch = source.images[0][np.arange(5)]
    assert batch.base is None or not isinstance(batch.base, np.memmap)
    assert not isinstance(batch, np.memmap)
