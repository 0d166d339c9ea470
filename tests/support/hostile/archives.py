"""Archives that are broken, lie, or want out of their folder; `data import` meets them."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from support.hostile import sets
from support.hostile.case import Case, cuts

IMPORT = ("data", "import", "small.yaml", "input.zip", "--data-root", "root", "--quiet")
METHODS = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}  # fmt: skip
NAMES = (
    "../out.png", "../../out.png", "/tmp/owned.png", "//x/owned.png", "benign/../../out.png", "..", "C:/owned.png", "C:owned.png", "\\\\host\\x.png",
    "..\\out.png", "benign\\..\\..\\out.png", "benign/./../../out.png", "~/owned.png/../../../x", "benign/..", "./../x", "a/b/../../../x",
    "x" * 300 + ".png", "benign/" + "y" * 256, "/".join(["d"] * 2100) + "/x.png", "benign/\x1b[2J.png/../../../x", "benign/0.png/inside.png",
    "benign", "..\x00x", "/", "/etc/passwd", "\u202egnp.exe/../../x", "D:\\x",
)  # fmt: skip


def members() -> dict[str, bytes]:
    """An honest archive's."""
    return {
        f"{name}/{i}.png": sets.png(100 * label + i)
        for label, name in enumerate(sets.CLASSES)
        for i in range(sets.PER_CLASS)
    }


def packed(content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


def _named(name: str) -> bytes:
    """With one member of such a name, which zipfile itself would not write."""
    data = name.encode("utf-8", "surrogatepass")
    stand_in = "n" * len(data)
    return packed({**members(), stand_in: b"x"}).replace(stand_in.encode(), data)


def _special(mode: int, content: bytes = b"/etc/passwd") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members().items():
            archive.writestr(name, data)
        info = zipfile.ZipInfo("benign/special.png")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(info, content)
    return file.getvalue()


def _many(count: int) -> bytes:
    """Empty members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(count):
            archive.writestr(zipfile.ZipInfo(f"benign/{i}.png"), b"")
    return file.getvalue()


def _nested() -> bytes:
    inner = packed({"x": bytes(1 << 24)})
    for _ in range(5):
        inner = packed({f"{i}.zip": inner for i in range(4)}, zipfile.ZIP_STORED)
    return packed({"benign/all.zip": inner})


def _overlapping() -> bytes:
    """Entries of the directory that all point to one member (a quilt bomb)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("benign/0.png", bytes(1 << 22))
        first = archive.filelist[0]
        for i in range(1, 3000):
            info = zipfile.ZipInfo(f"benign/{i}.png")
            for key in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(info, key, getattr(first, key))
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    return file.getvalue()


def _patched(offset: int, data: bytes, *, central: bool = True, base: bytes | None = None) -> bytes:
    """The directory (or first local header) of an archive with other bytes in it."""
    whole = bytearray(base or packed(members()))
    at = whole.find(b"PK\x01\x02" if central else b"PK\x03\x04")
    whole[at + offset : at + offset + len(data)] = data
    return bytes(whole)


def _fields() -> Iterator[tuple[str, bytes]]:
    """Single fields of the first entry and of the end record that lie."""
    words = {"0": 0, "all ones": 0xFFFFFFFF, "half": 0x7FFFFFFF, "one": 1}
    for field, offset in {"crc": 16, "packed size": 20, "size": 24, "place": 42}.items():
        for word, value in words.items():
            yield f"{field} {word}", _patched(offset, struct.pack("<I", value))
    for method in (1, 2, 6, 9, 12, 14, 19, 93, 95, 97, 99, 255, 65535):
        yield f"method {method}", _patched(10, struct.pack("<H", method))
    for flag in (1, 0x21, 0x41, 0x2001):
        yield f"flag {flag:#x}", _patched(8, struct.pack("<H", flag))
    for length in (0, 1, 5000, 65535):
        yield f"name of {length}", _patched(28, struct.pack("<H", length))
        yield f"extra of {length}", _patched(30, struct.pack("<H", max(length, 1)))
        yield f"local name of {length}", _patched(26, struct.pack("<H", length), central=False)
    whole = packed(members())
    end = whole.rfind(b"PK\x05\x06")
    for field, offset, form in (("entries", 10, "<H"), ("size of directory", 12, "<I"), ("place of directory", 16, "<I"), ("comment", 20, "<H")):  # fmt: skip
        for value in (0, 1, 0x7FFF, 0xFFFF):
            changed = bytearray(whole)
            struct.pack_into(form, changed, end + offset, value)
            if bytes(changed) != whole:
                yield f"end record: {field} {value}", bytes(changed)


def _flips() -> Iterator[tuple[str, bytes]]:
    """A byte of packed content that is another one, in each method."""
    for method, number in METHODS.items():
        whole = packed(members(), number)
        for i in range(6):
            changed = bytearray(whole)
            at = 60 + i * 67
            changed[at] ^= 0xFF
            yield f"{method}: byte {at} flipped", bytes(changed)


def _archives() -> Iterator[tuple[str, bytes]]:
    for i, name in enumerate(NAMES):
        if "\0" not in name:
            yield f"name {i} {name[:30]!r}", _named(name)
    for kind in ("S_IFLNK", "S_IFIFO", "S_IFCHR", "S_IFBLK", "S_IFSOCK"):
        yield kind, _special(getattr(stat, kind))
    yield from _fields()
    yield from _flips()
    for method, number in METHODS.items():
        for name, data in cuts(packed(members(), number), 4):
            yield f"{method}: {name}", data
    yield "bomb", packed({"benign/0.png": bytes(1 << 28)})
    yield "bomb of lzma", packed({"benign/0.png": bytes(1 << 28)}, zipfile.ZIP_LZMA)
    yield "bomb of bzip2", packed({"benign/0.png": bytes(1 << 28)}, zipfile.ZIP_BZIP2)
    yield "overlapping", _overlapping()
    yield "nested", _nested()
    yield "300,000 members", _many(300_000)
    yield "another tree", packed({"what/0.png": sets.png(1)})
    yield "no member", packed({})
    yield "clutter alone", packed({"__MACOSX/._x": b"x"})
    yield "text", b"this is no archive"
    yield "nothing", b""
    yield "an end record alone", b"PK\x05\x06" + bytes(18)
    yield "twice", packed(members()) + packed(members())
    yield "HTML", b"<!DOCTYPE html><title>log in</title>"
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
            for name, data in members().items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        yield f"a tar archive ({mode})", file.getvalue()


def _places() -> Iterator[tuple[str, Callable[[Path], object]]]:
    yield "absent", lambda folder: None
    yield "a folder", lambda folder: (folder / "input.zip").mkdir()
    yield "a pipe", lambda folder: os.mkfifo(folder / "input.zip")
    yield "zeros without end", lambda folder: (folder / "input.zip").symlink_to("/dev/zero")
    yield "a link to itself", lambda folder: (folder / "input.zip").symlink_to("input.zip")


def cases() -> list[Case]:
    """All are refused whole, or give the images of the honest archive."""

    def made(make: Callable[[Path], object]) -> Callable[[Path], object]:
        def write(folder: Path) -> None:
            (folder / "small.yaml").write_bytes(_card())
            make(folder)

        return write

    found = []
    for name, data in _archives():
        found.append(Case(name, IMPORT, made(_writer(data)), says=("input.zip",), right=_right))
    for name, make in _places():
        found.append(Case(name, IMPORT, made(make), says=("input.zip",)))
    return found


def _right(folder: Path) -> bool:
    """The images are those of the honest archive, and nothing else is there."""
    made = folder / "root" / "small"
    return {
        path.relative_to(made).as_posix(): path.read_bytes()
        for path in made.rglob("*")
        if path.is_file()
    } == members()


def _writer(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "input.zip").write_bytes(data)


def _card() -> bytes:
    import yaml

    return yaml.safe_dump(sets.CARD).encode()
