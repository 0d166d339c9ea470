"""Anonymous copies of a store, to be shared: names of samples by HMAC, no images, no paths; marked,
with hashes of their own. Whoever has the key can find the names again, and nobody else.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import UserError
from robustbench_med.naming import ANONYMOUS, canonical_hash
from robustbench_med.paths import config_folder
from robustbench_med.store.parts import SHORT, Kept
from robustbench_med.store.store import Store

K = TypeVar("K", bound=Kept)
KEY, KEY_BYTES = "anonymous.key", 32
DIGITS = 16
"""Of a name's HMAC: 64 bits."""
FREE = 4
"""Characters from which on a sample's name is looked for in sentences: shorter ones are words and
numbers too.
"""
KEPT = re.compile(
    r"labels|(clean|robust)_(right|vote|rejected|probabilities_\d+)|part|radii|probabilities_\d+|linf|l2|l1|l0"
    r"|minimal_size|queries|queries_to_break|image_\d+|group_\d+|predicted|radius|p_lower"
)
"""Arrays that a copy takes along besides the names; what is not named here stays behind, images
and what parts samples by age or sex above all.
"""
OF_SAMPLES = {"diagnostics", "signs", "challenges"}
"""Parts of a record whose sentences and lists may name samples."""
ROOTED = re.compile(r"(?<![\w./\\])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\s'\",;:()\[\]]+")
"""A path from a root, in a sentence."""
NOTES = "notes of the data stay with the source: they may name files"


def key_path() -> Path:
    """Where the key lies."""
    return config_folder() / KEY


def key() -> bytes:
    """The user's key, made when there is none; only the user may read it.

    Raises:
        UserError: it cannot be kept, others may read it, or it is none.
    """
    path = key_path()
    try:
        if not path.exists():
            _make(path)
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise UserError(
                f"others may read the key {path}: chmod 600 it; if somebody else has seen it, move"
                " it away and make the copies again"
            )
        found = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot keep a key in {path}: {error.strerror or error}") from error
    if len(found) != KEY_BYTES:
        raise UserError(
            f"{path} is no key ({len(found)} bytes, {KEY_BYTES} expected); move it away, and a new"
            " one is made, with which names differ from those of earlier copies"
        )
    return found


def _make(path: Path) -> None:
    """Writes a key that nobody else can ever read; of two at once the first stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


class Anonymous:
    """Makes copies under one key.

    Example:
        >>> copy, arrays = Anonymous(key()).copy(store, record)
    """

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.hashes: dict[str, str] = {}

    @property
    def fingerprint(self) -> str:
        """What tells keys apart, and nothing of them."""
        return self._mac("key")[:DIGITS]

    def name(self, sample: str) -> str:
        """What a sample is called in all copies under this key."""
        return f"p-{self._mac(f'sample {sample}')[:DIGITS]}"

    def _mac(self, text: str) -> str:
        content = text.encode("utf-8", "surrogateescape")
        return hmac.new(self.secret, content, hashlib.sha256).hexdigest()

    def copy(self, store: Store[K], record: K) -> tuple[K, dict[str, NDArray[Any]]]:
        """A copy of what a store keeps, with its arrays; one that is a copy already stays as it
        is.
        """
        arrays = store.arrays(record)
        if record.source is not None:
            return record, arrays
        ids = [str(each) for each in arrays.get("ids", ())]
        content = self._content(store, record, ids)
        kept = {name: array for name, array in arrays.items() if KEPT.fullmatch(name)}
        for name in kept:
            if re.fullmatch(r"(image|group)_\d+", name):  # rows and patients of the data set
                kept[name] = _renumbered(kept[name])
        if ids:
            kept["ids"] = np.array([self.name(sample) for sample in ids])
        return type(record).of(content), kept

    def _content(self, store: Store[K], record: K, ids: list[str]) -> dict[str, Any]:
        plain = record.plain()
        plain.pop("digests", None)
        content: dict[str, Any] = _walked(plain, _pathless)
        clean = self._cleaner(ids)
        content |= {part: _walked(content[part], clean) for part in OF_SAMPLES & content.keys()}
        data = content["spec"]["data"]
        data["samples"] = self._mac(
            f"samples {data['samples']}"
        )  # of few names, it could be guessed
        data["anonymous"] = self.fingerprint
        if "carried" in content["spec"]:
            before = store.find(plain["spec"]["carried"]["record"])
            content["spec"]["carried"]["record"] = self.hash_of(store, before)
        if "command" in content:
            content["command"] = (
                f"{ANONYMOUS} of record {record.short}: it can be made again where its source lies"
            )
        if "names" in content:
            content["names"].pop("subgroups", None)  # their arrays stay behind
        if content.get("notes"):
            content["notes"] = [NOTES]
        victim = content.get("victim", {})
        if victim.get("origin") not in (None, "zoo"):
            weights = content["spec"]["victim"]["weights_sha256"]
            victim["checkpoint"] = f"{weights[:SHORT]}.safetensors"
        content["source"] = record.hash
        content["hash"] = canonical_hash(content["spec"])
        return content

    def hash_of(self, store: Store[K], record: K) -> str:
        """The hash of a record's copy."""
        if record.hash not in self.hashes:
            self.hashes[record.hash] = self.copy(store, record)[0].hash
        return self.hashes[record.hash]

    def _cleaner(self, ids: list[str]) -> Callable[[str], str]:
        """Sentences about samples: each has its new name."""
        parts = {part for sample in ids for part in sample.split("+")}
        wanted = sorted({*ids, *parts}, key=len, reverse=True)
        names = {sample: self.name(sample) for sample in wanted}
        long = [sample for sample in wanted if len(sample) >= FREE]
        inside = re.compile("|".join(map(re.escape, long))) if long else None

        def clean(text: str) -> str:
            if text in names:
                return names[text]
            return text if inside is None else inside.sub(lambda found: names[found[0]], text)

        return clean


def _pathless(text: str) -> str:
    """A text in which a file from a root has its last part alone."""
    return ROOTED.sub(lambda found: _last(found[0]), text)


def _last(path: str) -> str:
    """The file's name."""
    return (PureWindowsPath if "\\" in path else PurePath)(path).name


def _walked(value: Any, clean: Callable[[str], str]) -> Any:
    """JSON with all of its texts cleaned, names of fields among them."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(key): _walked(each, clean) for key, each in value.items()}
    return [_walked(each, clean) for each in value] if isinstance(value, list) else value


def _renumbered(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers by first occurrence: which are the same stays, whose they are goes."""
    _, first, same = np.unique(rows, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[same]
