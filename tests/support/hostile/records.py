"""Records, certificates, ledgers and outcomes that were changed, cut off or made up."""

from __future__ import annotations

import copy
import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robustbench_med.naming import canonical_hash
from robustbench_med.store.store import Store
from support.hostile.archives import packed
from support.hostile.case import LEFT_OUT, Case, cuts
from support.hostile.npz import ARRAYS
from support.records import fill, record

SHOW = ("leaderboard", "--out", "store")
ODD: dict[str, Any] = {
    "null": None, "text": "x", "a list": [1], "a mapping": {"a": 1}, "-1": -1, "huge": 10**30, "1e308": 1e308, "true": True, "an escape": "\x1b[2J",
}  # fmt: skip
PATHS = (
    ("hash",), ("spec",), ("spec", "victim"), ("spec", "victim", "model"), ("spec", "victim", "weights_sha256"), ("spec", "data"), ("spec", "data", "n"), ("spec", "threat"),
    ("spec", "threat", "radii"), ("spec", "threat", "norm"), ("spec", "attack"), ("spec", "attack", "name"), ("spec", "seed"), ("names",), ("figures",), ("figures", "tasks"),
    ("figures", "robust"), ("victim",), ("cost",), ("environment",), ("digests",), ("digests", "record"), ("schema",), ("shape",), ("notes",), ("draws",),
)  # fmt: skip


@functools.cache
def honest() -> tuple[tuple[str, bytes], ...]:
    """The files of two records, that of the second first."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        fill(Store(out), record("mail", 0.5), record("late", 0.7))
        files = {p.name: p.read_bytes() for p in sorted((out / "records").iterdir()) if p.is_file()}
    return tuple((name, data) for name, data in files.items() if not name.startswith("."))


def spoilt() -> str:
    """The name of the record that is spoilt."""
    return next(name for name, _ in honest() if name.endswith(".json"))


def _write(folder: Path) -> Path:
    records = folder / "store" / "records"
    records.mkdir(parents=True)
    for name, data in honest():
        (records / name).write_bytes(data)
    return records


def _changes() -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    for path in PATHS:
        for what, value in ODD.items():
            yield f"{'.'.join(path)}: {what}", functools.partial(_set, path=path, value=value)
    for path in PATHS:
        yield f"without {'.'.join(path)}", functools.partial(_drop, path=path)


def _set(content: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        content = content[part]
    content[path[-1]] = value


def _drop(content: dict[str, Any], path: tuple[str, ...]) -> None:
    for part in path[:-1]:
        content = content[part]
    content.pop(path[-1], None)


def _texts(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield from cuts(whole, 12)
    yield "binary", bytes(range(256)) * 20
    yield "UTF-16", whole.decode().encode("utf-16")
    yield "Latin-1", b'{"a": "\xe4"}'
    yield "a surrogate", b'{"hash": "\\ud800"}'
    yield "100,000 brackets", b"[" * 100_000
    yield "100,000 mappings", b'{"a":' * 100_000
    yield "5,000 digits", b'{"hash": ' + b"9" * 5000 + b"}"
    yield "a float of 400 digits", b'{"hash": 1e400}'
    yield "NaN", b'{"hash": NaN}'
    yield "a word", b'"word"'
    yield "null", b"null"
    yield "a list", b"[]"
    yield "an empty mapping", b"{}"
    yield "two documents", whole + whole
    yield "a trailing comma", whole[:-1].rstrip() + b",}"
    yield "a NUL", whole.replace(b"mail", b"ma\0l").replace(b"late", b"la\0e")
    yield "an escape", whole.replace(b"mail", b"ma\x1bl").replace(b"late", b"la\x1be")
    yield "a key twice", b'{"hash": "a", ' + whole[1:]


def _rehashed(content: dict[str, Any]) -> dict[str, Any]:
    """Made up whole: the hash is that of the specification, the digest is left out."""
    content = copy.deepcopy(content)
    content["hash"] = canonical_hash({"schema": content.get("schema", 2), **content["spec"]})
    content.pop("digests", None)
    return content


def cases() -> list[Case]:
    """Each is left out with its name, the other record is shown."""
    name = spoilt()
    whole = dict(honest())[name]
    other = next(n for n, _ in honest() if n.endswith(".json") and n != name)
    shown = json.loads(dict(honest())[other])["spec"]["victim"]["model"]
    found: list[Case] = []

    def add(what: str, make: Callable[[Path], object], command: tuple[str, ...] = SHOW) -> None:
        found.append(
            Case(what, command, lambda f: make(_write(f)), LEFT_OUT, (name.split(".")[0], shown))
        )

    def replaced(data: bytes, suffix: str = ".json") -> Callable[[Path], object]:
        return lambda records: (records / name).with_suffix(suffix).write_bytes(data)

    for what, change in _changes():
        content = json.loads(whole)
        before = copy.deepcopy(content)
        change(content)
        if content != before:
            add(what, replaced(json.dumps(content).encode()))
    for what, data in _texts(whole):
        add(what, replaced(data))
    add("made up", replaced(json.dumps(_rehashed(json.loads(whole))).encode()))
    npz = dict(honest())[name.replace(".json", ".npz")]
    for what, data in cuts(npz, 6):
        add(f"outcomes {what}", replaced(data, ".npz"))
    for what, array in ARRAYS.items():
        add(f"outcomes: {what}", replaced(packed({"ids.npy": array}), ".npz"))

    def instead(make: Callable[[Path], object], suffix: str = ".json") -> Callable[[Path], object]:
        def made(records: Path) -> None:
            path = (records / name).with_suffix(suffix)
            path.unlink()
            make(path)

        return made

    for suffix in (".json", ".npz"):
        add(
            f"{suffix}: absent" if suffix == ".npz" else "a folder",
            instead(Path.mkdir if suffix == ".json" else lambda p: None, suffix),
        )
        add(f"{suffix}: a pipe", instead(os.mkfifo, suffix))
        add(f"{suffix}: zeros without end", instead(lambda p: p.symlink_to("/dev/zero"), suffix))
        add(f"{suffix}: a link to itself", instead(lambda p: p.symlink_to(p.name), suffix))
    add("a sparse file of 100 GB", instead(lambda p: os.truncate(_touched(p), 100 << 30)))
    return found


def _touched(path: Path) -> Path:
    path.touch()
    return path
