"""Downloads and imports against a server on loopback: what goes wrong on networks, disks and in
archives.
"""

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.cli import medrobust, refused
from support.downloads import Server, disk_of, serving
from support.files import write_folder_set
from support.miniatures import TREES, medmnist, picture

from robustbench_med.data import Files, archive, card, fetch
from robustbench_med.data.archive import import_files, unpack
from robustbench_med.data.cards import CARDS, MedMNISTReader
from robustbench_med.data.readers.medmnist import published_files
from robustbench_med.data.source import fetch as fetch_card
from robustbench_med.data.source import read
from robustbench_med.errors import UserError

BODY = np.random.default_rng(0).bytes(3 * (1 << 20) + 17)
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(BODY) as running:
        yield running


def test_a_download_is_whole_checked_and_not_repeated(server: Server, tmp_path: Path) -> None:
    target = fetch.download(server.url, tmp_path / "a" / "set.npz", MD5, Files())
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["set.npz"]
    fetch.download(server.url, target, MD5, Files())
    assert server.requests == [None]


def test_the_md5_of_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        fetch.md5_of(tmp_path)


def test_a_cut_connection_is_resumed_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    server.cuts = [1 << 20, 1 << 20]
    target = fetch.download(server.url, tmp_path / "set.npz", MD5, Files())
    assert target.read_bytes() == BODY
    starts = [int(r.removeprefix("bytes=")[:-1]) if r else 0 for r in server.requests]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] < starts[2] < len(BODY)


def test_a_later_command_goes_on_where_an_earlier_one_gave_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    server.cuts = [2 << 20]
    with pytest.raises(UserError, match="try again to continue"):
        fetch.download(server.url, tmp_path / "set.npz", MD5, Files())
    kept = (tmp_path / "set.npz.part").stat().st_size
    assert kept > 1 << 20
    assert fetch.download(server.url, tmp_path / "set.npz", MD5, Files()).read_bytes() == BODY
    assert server.requests[-1] == f"bytes={kept}-"


def test_a_server_without_ranges_starts_over_and_a_complete_partial_file_is_enough(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "set.npz.part").write_bytes(BODY[:1000])
    server.ranges = False
    assert fetch.download(server.url, tmp_path / "set.npz", MD5, Files()).read_bytes() == BODY
    (tmp_path / "b.npz.part").write_bytes(BODY)
    server.ranges = True
    assert fetch.download(server.url, tmp_path / "b.npz", MD5, Files()).read_bytes() == BODY


def test_another_md5_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="md5 is not"):
        fetch.download(server.url, tmp_path / "set.npz", "0" * 32, Files())
    assert list(tmp_path.glob("set*")) == []


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")]
)
def test_an_error_of_the_server_is_one_line(
    server: Server, tmp_path: Path, status: int, reason: str
) -> None:
    server.status = status
    with pytest.raises(UserError, match=f"the server answered {reason}"):
        fetch.download(server.url, tmp_path / "set.npz", MD5, Files())


def test_nobody_listening_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ConnectionError"):
        fetch.download("http://127.0.0.1:9/set.npz", tmp_path / "set.npz", MD5, Files())


def test_a_full_disk_is_one_line_and_the_part_is_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with disk_of(1 << 20), pytest.raises(UserError, match=r"no space for set\.npz"):
        fetch.download(server.url, tmp_path / "set.npz", MD5, Files())
    assert 0 < (tmp_path / "set.npz.part").stat().st_size <= 1 << 20
    assert fetch.download(server.url, tmp_path / "set.npz", MD5, Files()).read_bytes() == BODY
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: type("usage", (), {"free": 1000}))
    with pytest.raises(UserError, match="0 MiB free, 3 are needed"):
        fetch.download(server.url, tmp_path / "other.npz", MD5, Files())


def test_the_command_fetches_the_size_that_is_asked_for(server: Server, tmp_path: Path) -> None:
    medmnist(tmp_path, "retinamnist")
    server.body = (tmp_path / "retinamnist.npz").read_bytes()
    file = {"url": server.url, "md5": hashlib.md5(server.body).hexdigest()}
    nowhere = {"url": "http://127.0.0.1:9/set.npz", "md5": MD5}
    given = yaml.safe_load((CARDS / "retinamnist.yaml").read_text())
    given["reader"]["files"] = dict.fromkeys((28, 128, 224), nowhere) | {64: file}
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(given))
    done = medrobust("data", "fetch", mine, "--size", 50)
    path = Path(done.stdout.strip())
    again = json.loads(medrobust("data", "fetch", mine, "--size", 50, "--json").stdout)
    assert again == [{"name": str(mine), "path": str(path)}]
    assert path.name == "retinamnist_64.npz"
    assert path.read_bytes() == server.body
    assert fetch_card(card(str(mine)), 64, Files()) == path
    assert len(server.requests) == 1
    read_again = read(card(str(mine)), size=64, files=Files(strict=True))
    assert not read_again.unverified
    assert "medrobust data import busi" in refused(medrobust("data", "fetch", "busi", check=2))


def test_a_card_of_ones_own_may_leave_the_files_of_a_shipped_flag_out(tmp_path: Path) -> None:
    given = yaml.safe_load((CARDS / "retinamnist.yaml").read_text())
    shipped = dict(given["reader"]["files"])
    mine = tmp_path / "mine.yaml"

    def published(**reader: object) -> object:
        mine.write_text(yaml.safe_dump(given | {"reader": {"kind": "medmnist", **reader}}))
        own = card(str(mine))
        assert isinstance(own.reader, MedMNISTReader)
        return {size: file.model_dump() for size, file in published_files(own, own.reader).items()}

    assert published(flag="retinamnist") == shipped
    assert published(flag="mine", files=shipped) == shipped
    for flag in ("mine", "sartaj-mri"):
        with pytest.raises(UserError, match=f"no shipped card bears the flag '{flag}'"):
            published(flag=flag)
    with pytest.raises(UserError, match=r"reader\.medmnist\.files"):
        published(flag="mine", files={28: shipped[28]})
    with pytest.raises(UserError, match=r"reader\.medmnist\.files\.32"):
        published(flag="mine", files=shipped | {32: shipped[28]})
    with pytest.raises(UserError, match=r"28\.md5"):
        published(flag="mine", files=shipped | {28: {"url": "u", "md5": "0"}})


# --- archives -------------------------------------------------------------------------------------


def zip_of(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png",
        "/tmp/outside.png",
        "a/../../outside.png",
        "..\\outside.png",
        "C:/outside.png",
    ],
)
def test_a_member_that_points_out_of_the_archive_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    source = zip_of(
        tmp_path / "bad.zip", {"no/no1.png": picture("x.png"), name.replace("\\", "|"): b"x"}
    )
    source.write_bytes(
        source.read_bytes().replace(b"..|outside.png", b"..\\outside.png")
    )  # zipfile itself writes no backslash
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match="points out of the archive"):
        unpack(source, tmp_path / "target", lambda *_: None)
    assert list((tmp_path / "target").iterdir()) == []


def test_links_bombs_and_encrypted_members_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("no/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as target:
        target.writestr(link, "/etc/passwd")
    bomb = zip_of(tmp_path / "bomb.zip", {f"no/{i}.png": bytes(1 << 24) for i in range(3)})
    assert bomb.stat().st_size < 100_000
    locked = zip_of(tmp_path / "locked.zip", {"no/1.png": b"x"}, zipfile.ZIP_STORED)
    data = bytearray(locked.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(data)
    for name, message in (
        ("link", "is a link"),
        ("bomb", "no archive of images"),
        ("locked", "is encrypted"),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=message):
            unpack(tmp_path / f"{name}.zip", tmp_path / name, lambda *_: None)
        assert list((tmp_path / name).iterdir()) == []


def test_an_archive_that_lies_about_its_sizes_is_stopped(tmp_path: Path) -> None:
    source = zip_of(tmp_path / "lie.zip", {"no/1.png": bytes(1 << 20)})
    data = bytearray(source.read_bytes())
    position = data.index(b"PK\x01\x02") + 24  # the directory's size of the unpacked member
    data[position : position + 4] = (10).to_bytes(4, "little")
    source.write_bytes(data)
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match=r"lie\.zip"):
        unpack(source, tmp_path / "target", lambda *_: None)
    assert (
        sum(path.stat().st_size for path in (tmp_path / "target").rglob("*") if path.is_file())
        < 1 << 16
    )


def test_an_import_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    root.mkdir()
    tree = tmp_path / "tree"
    tree.mkdir()
    TREES["busi"](tree)
    names = sorted(path for path in tree.rglob("*") if path.is_file())
    good = zip_of(
        tmp_path / "good.zip",
        {path.relative_to(tree).as_posix(): path.read_bytes() for path in names},
    )
    cut = tmp_path / "cut.zip"
    cut.write_bytes(good.read_bytes()[:-300])
    flipped = bytearray(good.read_bytes())
    flipped[flipped.index(b"benign (2).png") + 100] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(flipped)
    wrong = zip_of(
        tmp_path / "wrong.zip", {"Dataset_BUSI_with_GT/benign/benign (1).png": picture("x.png")}
    )
    files = Files(data_root=root)
    for path, message in (
        (cut, "not a zip archive"),
        (tmp_path / "flipped.zip", "cannot read the archive"),
        (wrong, "not the archive of busi"),
    ):
        with pytest.raises(UserError, match=message):
            import_files(card("busi"), [path], files)
        assert list(root.iterdir()) == []
    with disk_of(100), pytest.raises(UserError, match=r"cannot (unpack|write)"):
        import_files(card("busi"), [good], files)
    with monkeypatch.context() as patch:
        patch.setattr(fetch.shutil, "disk_usage", lambda path: type("usage", (), {"free": 1000}))
        with pytest.raises(UserError, match="MiB free"):
            import_files(card("busi"), [good], files)
    assert list(root.iterdir()) == []

    done = medrobust("data", "import", "busi", good, "--data-root", root, "--json")
    assert json.loads(done.stdout) == {"name": "busi", "path": str(root / "busi")}
    assert not (root / "busi" / "__MACOSX").exists()
    assert "exists already" in refused(
        medrobust("data", "import", "busi", good, "--data-root", root, check=2)
    )
    assert "needs no import" in refused(medrobust("data", "import", "octmnist", good, check=2))


@pytest.mark.parametrize("around", ["", "busi/", "busi/busi/"])
def test_an_archive_may_hold_the_folder_that_the_files_are_kept_in(
    around: str, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    expected = TREES["busi"](tree)
    paths = [path for path in tree.rglob("*") if path.is_file()]
    members = {around + path.relative_to(tree).as_posix(): path.read_bytes() for path in paths}
    source, files = zip_of(tmp_path / "archive.zip", members), Files(data_root=tmp_path / "root")
    if around == "busi/busi/":
        with pytest.raises(UserError, match="not the archive of busi"):
            import_files(card("busi"), [source], files)
        assert list((tmp_path / "root").iterdir()) == []
        return
    import_files(card("busi"), [source], files)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["busi"]
    assert len(read(card("busi"), size=8, files=files).ids) == len(expected)


def test_several_archives_and_a_table_make_one_set(tmp_path: Path) -> None:
    """As Dataverse has HAM10000: two zips without folders, and a table beside them."""
    tree = tmp_path / "tree"
    tree.mkdir()
    expected = TREES["ham10000"](tree)
    parts = [
        zip_of(
            tmp_path / f"HAM10000_images_part_{k}.zip",
            {p.name: p.read_bytes() for p in (tree / f"HAM10000_images_part_{k}").iterdir()},
        )
        for k in (1, 2)
    ]
    import_files(card("ham10000"), [*parts, tree / "HAM10000_metadata.csv"], Files())
    assert len(read(card("ham10000"), size=8, files=Files()).ids) == len(expected)


def test_cells_on_black_compress_well_and_are_no_bomb(tmp_path: Path) -> None:
    pixels = np.zeros((450, 450, 3), np.uint8)
    pixels[200:240, 200:240] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    source = zip_of(
        tmp_path / "cells.zip",
        {f"fold_0/all/UID_1_1_{i}_all.bmp": buffer.getvalue() for i in range(40)},
    )
    unpacked = 40 * len(buffer.getvalue())
    assert archive.SMALL < unpacked > 90 * source.stat().st_size
    (tmp_path / "target").mkdir()
    unpack(source, tmp_path / "target", lambda *_: None)
    assert sum(path.stat().st_size for path in (tmp_path / "target").rglob("*.bmp")) == unpacked


def test_a_users_own_card_is_imported_too(tmp_path: Path) -> None:
    path = write_folder_set(tmp_path / "a", "heads", "mri")
    tree = tmp_path / "a" / "heads"
    source = zip_of(
        tmp_path / "own.zip",
        {p.relative_to(tree).as_posix(): p.read_bytes() for p in tree.rglob("*.png")},
    )
    (tmp_path / "root").mkdir()
    assert (
        import_files(card(str(path)), [source], Files(data_root=tmp_path / "root"))
        == tmp_path / "root" / "heads"
    )
