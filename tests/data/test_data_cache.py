"""The cache of decoded images: made once, by one process, whole or not at all; and made anew when
files change.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.downloads import disk_of
from support.files import write_folder_set
from support.medmnist import medmnist_arrays

from robustbench_med.data import Files, Preprocessing, cache, card, load
from robustbench_med.data.source import read
from robustbench_med.errors import UserError
from robustbench_med.provenance import hashes
from robustbench_med.provenance.hashes import hashes_of


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return write_folder_set(tmp_path, "heads", "mri")


def pixels_of(path: Path, size: int = 16, **given: object) -> np.ndarray:
    source = read(card(str(path)), size=size, files=Files(data_root=path.parent), **given)
    return source.images[0][np.arange(len(source.ids))]


def entries(home: Path) -> list[Path]:
    return [path for path in (home / "cache").glob("heads-*/*") if path.is_dir()]


def test_images_are_decoded_once_for_each_size_and_preprocessing(
    heads: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def rewritten(path: Path, other: Path) -> None:
    """As a download over the old file, its time set back."""
    path.write_bytes(other.read_bytes())


def renamed(path: Path, other: Path) -> None:
    """As an archive unpacked beside it and moved into place."""
    shutil.copy2(other, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


def linked(path: Path, other: Path) -> None:
    """As a store of objects that are linked into place."""
    path.unlink()
    path.hardlink_to(other)


def turn_upside_down(root: Path, put: Callable[[Path, Path], None]) -> None:
    """Another release of a set: inverted pixels, names, sizes and times as before."""
    for path in sorted(root.rglob("*.bmp")):
        other = root.parent / "release" / f"{path.parent.name}-{path.name}"
        other.parent.mkdir(exist_ok=True)
        ImageOps.invert(Image.open(path)).save(other)
        before = path.stat()
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        put(path, other)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def as_bitmaps(heads: Path) -> Path:
    """Bitmaps of one size and one, old time."""
    for path in (heads.parent / "heads").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    for path in (heads.parent / "heads").rglob("*.bmp"):
        os.utime(path, (1e9, 1e9))
    return heads


@pytest.mark.parametrize(
    "settled", [hashes.SETTLED, -60.0]
)  # with hashes of young files remembered or not
@pytest.mark.parametrize("put", [rewritten, renamed, linked])
def test_another_release_with_the_same_names_sizes_and_times_is_other_data(
    heads: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path, Path], None], settled: float
) -> None:
    monkeypatch.setattr(hashes, "SETTLED", settled)
    files = Files(data_root=as_bitmaps(heads).parent)
    before, first = pixels_of(heads, 32), load(str(heads), size=32, files=files)
    turn_upside_down(heads.parent / "heads", put)
    assert np.array_equal(pixels_of(heads, 32), 255 - before)
    second = load(str(heads), size=32, files=files)
    assert {first.manifest_hash, first.content}.isdisjoint({second.manifest_hash, second.content})


def test_another_archive_with_the_same_name_size_and_time_is_other_data(tmp_path: Path) -> None:
    def pixels() -> np.ndarray:
        return read(
            card("breastmnist"), size=28, files=Files(data_root=tmp_path, accept_unverified=True)
        ).images[0][np.arange(4)]

    path, arrays = tmp_path / "breastmnist.npz", medmnist_arrays()
    np.savez(path, **arrays)
    os.utime(path, (1e9, 1e9))
    before, size = pixels(), path.stat().st_size
    np.savez(
        path,
        **{
            name: 255 - array if name.endswith("images") else array
            for name, array in arrays.items()
        },
    )
    os.utime(path, (1e9, 1e9))
    assert path.stat().st_size == size
    assert np.array_equal(pixels(), 255 - before)


def test_two_roots_share_an_entry_only_where_their_files_are_the_same(
    heads: Path, home: Path, tmp_path: Path
) -> None:
    as_bitmaps(heads)
    roots = [heads.parent, *(tmp_path / name for name in ("copy", "links", "other"))]
    shutil.copytree(roots[0] / "heads", roots[1] / "heads")
    shutil.copytree(roots[0] / "heads", roots[2] / "heads", copy_function=os.link)
    shutil.copytree(roots[0] / "heads", roots[3] / "heads")
    turn_upside_down(roots[3] / "heads", rewritten)
    for _ in range(2):  # to and fro
        found = [read(card(str(heads)), size=32, files=Files(data_root=root)) for root in roots]
        first, copied, linked_, other = (source.images[0][np.arange(80)] for source in found)
        assert np.array_equal(first, copied)
        assert np.array_equal(first, linked_)
        assert np.array_equal(first, 255 - other)
        assert [len({source.content for source in some}) for some in (found[:3], found)] == [1, 2]
    assert len(entries(home)) == 2


def cut(data: bytes) -> bytes:
    return data[:-5]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped])
@pytest.mark.parametrize("name", ["images-0.npy", "index.json", "digests.npy"])
def test_a_damaged_entry_is_noticed_and_made_again(
    heads: Path, home: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    said: list[str] = []
    files = Files(data_root=heads.parent, say=said.append)
    first = read(card(str(heads)), size=16, files=files)
    pixels = first.images[0][np.arange(80)]
    path = entries(home)[0] / name
    before = path.stat()
    path.write_bytes(damage(path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert said == []
    again = read(card(str(heads)), size=16, files=files)
    assert np.array_equal(again.images[0][np.arange(80)], pixels)
    assert (again.digests, again.content) == (first.digests, first.content)
    assert len(said) == 1
    assert "damaged and are made again" in said[0]


def test_a_damaged_memory_of_hashes_does_no_harm(
    heads: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED", -60.0)
    first = pixels_of(heads)
    memories = [*(home / "cache" / "hashes").iterdir(), entries(home)[0] / "checked.json"]
    assert len(memories) == 2
    for path in memories:
        for damage in (flipped, cut):
            path.write_bytes(damage(path.read_bytes()))
            assert np.array_equal(pixels_of(heads), first)


def test_an_unchanged_file_costs_a_stat_and_a_changed_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{i}" for i in range(600)]
    for path in paths:
        path.write_bytes(path.name.encode())
    expected = [hashlib.sha256(path.name.encode()).hexdigest() for path in paths]
    memory, opened, asked = tmp_path / "memory.json", list[Path](), list[Path]()
    plain_read, plain_stat = hashes._read, hashes._signature_of
    monkeypatch.setattr(
        hashes, "_read", lambda path, *given: (opened.append(path), plain_read(path, *given))[1]
    )
    monkeypatch.setattr(
        hashes, "_signature_of", lambda path: (asked.append(path), plain_stat(path))[1]
    )
    assert hashes_of(paths, memory) == expected
    assert not memory.exists()  # these files are young: one more change might bear the same time
    monkeypatch.setattr(hashes, "SETTLED", -60.0)
    assert hashes_of(paths, memory) == expected
    assert len(opened) == 1200
    opened.clear(), asked.clear()
    assert hashes_of(paths, memory) == expected
    assert (opened, asked) == ([], paths)
    paths[3].write_bytes(b"x")
    paths[4].unlink()
    assert hashes_of(paths, memory) == [
        *expected[:3],
        hashlib.sha256(b"x").hexdigest(),
        "",
        *expected[5:],
    ]
    assert opened == paths[3:5]


def test_a_file_that_changes_while_it_is_decoded_is_refused(
    heads: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = cache.hashes_of

    def then_changed(paths: list[Path], *given: object, **more: object) -> list[str]:
        found = plain(paths, *given, **more)
        Image.new("L", (32, 32), 255).save(paths[7])
        return found

    monkeypatch.setattr(cache, "hashes_of", then_changed)
    with pytest.raises(
        UserError, match=r"image\(7\)\.png changed while it was read; run the command again"
    ):
        pixels_of(heads)
    assert entries(home) == []


def test_an_unreadable_file_is_remembered_and_refused_under_strict(heads: Path) -> None:
    (heads.parent / "heads" / "solid" / "image(3).png").write_bytes(b"no image")
    for _ in range(2):
        source = read(card(str(heads)), size=16, files=Files(data_root=heads.parent))
        assert [name for name, _ in source.unreadable] == ["heads/solid/image(3).png"]
        assert len(source.ids) == len(source.digests) == 79
        assert "heads/solid/image(3).png" not in source.ids
        row = source.ids.index("heads/solid/image(4).png")  # behind the gap
        expected = np.asarray(
            Image.open(heads.parent / "heads" / "solid" / "image(4).png").resize(
                (16, 16), Image.Resampling.BILINEAR
            )
        )
        assert np.array_equal(source.images[0][np.array([row])][0, 0], expected)
        with pytest.raises(
            UserError, match=r"solid/image\(3\)\.png cannot be read \(UnidentifiedImageError"
        ):
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
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_BUILD, str(heads)], stdout=subprocess.PIPE, text=True
    ) as other:
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
    """A batch costs its own pixels, and nothing of the file once it is gone. Resident memory is
    measured in benchmarks/data_cache.py.
    """
    images = read(card(str(heads)), size=128, files=Files(data_root=heads.parent)).images[0]
    whole = len(images) * 128 * 128
    tracemalloc.start()
    try:
        for start in range(0, len(images), 8):
            batch = images[np.arange(start, start + 8)]
            assert batch.shape == (8, 1, 128, 128)
        del batch
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 8 * 128 * 128
    assert 8 * 128 * 128 < peak < whole / 2


@pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="only Linux tells what a process maps"
)
def test_no_map_of_a_cached_file_outlives_its_batch(heads: Path) -> None:
    images = read(card(str(heads)), size=16, files=Files(data_root=heads.parent)).images[0]
    batch = images[np.arange(5)]
    assert len(batch) == 5
    assert "images-0.npy" not in Path("/proc/self/maps").read_text()
    held = np.load(images.path, mmap_mode="r")
    assert (
        "images-0.npy" in Path("/proc/self/maps").read_text()
    )  # that is how a map that stays would be seen
    del held
