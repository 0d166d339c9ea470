"""What medrobust keeps below its home and can make again: weights, trainings under way, decoded
images, and what black boxes have answered; what of it is used, and what goes when room is needed.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from robustbench_med.errors import UserError
from robustbench_med.formats import json_file
from robustbench_med.formats.files import UnreadableError
from robustbench_med.models import answers
from robustbench_med.models.black_box import kept_under
from robustbench_med.owners import lock
from robustbench_med.paths import home
from robustbench_med.store.merge import KINDS

Sort = Literal["weights", "training under way", "decoded images", "answers"]
ASKED = 600.0
"""Seconds since its last answer in which somebody may still be asking a black box."""
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class CacheEntry:
    """One thing of the cache.

    Attributes:
        name: its path below medrobust's home.
        kind: what it is.
        bytes: of all its files.
        used: when it was last read or written, in seconds since 1970.
        needed: whether a record, certificate or diagnosis of a named folder is of these weights,
            or of the black box that answered.
        busy: whether somebody works on it now.
        files: its files and folders.
    """

    name: str
    kind: Sort
    bytes: int
    used: float
    needed: bool
    busy: bool
    files: tuple[Path, ...]


def entries(stores: Sequence[Path]) -> list[CacheEntry]:
    """Everything in the cache, what goes first at the top: what no record of these folders needs,
    the longest unused first.
    """
    needed = _weights_of(stores)
    found = [*_weights(needed), *_under_way(), *_images(), *_answers(needed)]
    return sorted(found, key=lambda entry: (entry.needed, entry.used, entry.name))


def prune(stores: Sequence[Path], most: int | None, *, dry_run: bool) -> list[CacheEntry]:
    """Takes things out of the cache, in the order of `entries`; what somebody works on stays.

    Args:
        stores: folders of records whose weights go last.
        most: bytes that may be left; None: all that no record needs goes.
        dry_run: only tells what would go.

    Returns:
        What went.
    """
    known = entries(stores)
    left, gone = sum(entry.bytes for entry in known), []
    for entry in known:
        over = not entry.needed if most is None else left > most
        if entry.busy or not over:
            continue
        left -= entry.bytes
        gone.append(entry)
        if not dry_run:
            _remove(entry)
    return gone


def size_of(text: str) -> int:
    """Bytes of `20G`, `500M` or a plain number; powers of 1024.

    Raises:
        UserError: it is none.
    """
    size = r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?)(?:iB|B)?"
    match = re.fullmatch(size, text.strip(), re.IGNORECASE)
    if match is None:
        raise UserError(f"--max-size takes a size such as 20G or 500M, got {text!r}")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _weights(needed: set[str]) -> Iterator[CacheEntry]:
    for path in _folder("checkpoints", "*.safetensors"):
        if path.name.endswith(".partial.safetensors"):
            continue
        sidecar = path.with_suffix(".json")
        files = tuple(each for each in (path, sidecar) if each.exists())
        sha256 = _plain(sidecar).get("weights_sha256")
        yield _entry(path, "weights", files, needed=sha256 in needed)


def _under_way() -> Iterator[CacheEntry]:
    for path in _folder("checkpoints", "*.partial.safetensors"):
        yield _entry(path, "training under way", (path,))


def _images() -> Iterator[CacheEntry]:
    for path in _folder("cache", "*px/*"):
        if path.is_dir():
            yield _entry(path, "decoded images", (path,))


def _answers(needed: set[str]) -> Iterator[CacheEntry]:
    for path in _folder("answers", "*.sqlite"):
        entry = _entry(path, "answers", tuple(answers.files_of(path)), needed=path.stem in needed)
        yield replace(entry, busy=time.time() - path.stat().st_mtime < ASKED)


def _folder(name: str, pattern: str) -> list[Path]:
    paths = sorted((home() / name).glob(pattern))
    return [path for path in paths if not path.name.startswith(".")]


def _entry(path: Path, kind: Sort, files: tuple[Path, ...], *, needed: bool = False) -> CacheEntry:
    stats = [
        each.stat()
        for file in files
        for each in (file.rglob("*") if file.is_dir() else (file,))
        if each.is_file()
    ]
    seen = stats if path.is_dir() else [path.stat()]  # a sidecar is read by whoever looks
    used = max((max(stat.st_atime, stat.st_mtime) for stat in seen), default=0.0)
    name = path.relative_to(home()).as_posix()
    size = sum(stat.st_size for stat in stats)
    return CacheEntry(name, kind, size, used, needed, _is_busy(path), files)


def _is_busy(path: Path) -> bool:
    """Whether a living process holds the lock of a training, or of images that are decoded."""
    stem = path.name.removesuffix(".safetensors").removesuffix(".partial")
    for place in (path.with_name(f"{path.name}.lock"), path.with_name(f"{stem}.lock")):
        held = lock.read(place)
        if held is not None and not held.is_dead(place):
            return True
    return False


def _weights_of(stores: Sequence[Path]) -> set[str]:
    """sha256 of all weights that records, certificates and diagnoses of these folders are of; of
    black boxes what their answers are called.
    """
    found: set[str] = set()
    for out in stores:
        folders = [out / kind.folder for kind in KINDS]
        if not any(folder.is_dir() for folder in folders):
            raise UserError(f"{out} holds no records or certificates")
        for path in (path for folder in folders for path in folder.glob("[0-9a-f]*.json")):
            spec = _plain(path).get("spec") or {}
            victim = spec.get("victim", {})
            found.add(victim.get("weights_sha256"))
            if victim.get("access") is not None:
                names = ("weights_sha256", "source_sha256")
                identity = {name: victim.get(name) or "" for name in names}
                found.add(answers.path_of(kept_under(identity)).stem)
            sources = [*spec.get("attack", {}).get("sources", []), *spec.get("sources", [])]
            found.update(source.get("weights_sha256") for source in sources)
    return found - {None}


def _plain(path: Path) -> dict[str, Any]:
    """The JSON object of a file; empty where it is none."""
    try:
        return json_file.load_object(path, "it")
    except UnreadableError:
        return {}


def _remove(entry: CacheEntry) -> None:
    for path in entry.files:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot remove {path}: {error.strerror or error}") from error
