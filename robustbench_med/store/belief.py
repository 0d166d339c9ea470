"""Whether a file of a store can be believed: its shape, its identity, and that nothing was changed
since it was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from robustbench_med import naming
from robustbench_med.errors import UserError
from robustbench_med.formats import json_file, text
from robustbench_med.formats.files import UnreadableError
from robustbench_med.paths import home, write_text
from robustbench_med.provenance.hashes import (
    SETTLED,
    last_change,
    read_sealed,
    sealed,
    signature,
)
from robustbench_med.store.parts import Digests, Kept
from robustbench_med.store.record import SHAPE, Kind

K = TypeVar("K", bound=Kept)
Content = dict[str, Any]
"""JSON that may be a record or certificate of whatever shape."""
HASH_LENGTH = 16
NAMED = 5
"""Files that a warning names; `medrobust verify` lists all."""


@dataclass(frozen=True)
class Stale:
    """What is known of a record of an older identity: `spec` has the fields of its time."""

    hash: str
    spec: Content
    command: str | None


class MisfitError(Exception):
    """Why a file is not believed; `stale` is the record where it is whole but of an older
    identity.
    """

    def __init__(self, reason: str, stale: Stale | None = None) -> None:
        super().__init__(reason)
        self.stale = stale


@dataclass(frozen=True)
class Misfit:
    """A file of a store that is not believed, and why; `stale`: the record, where it is whole but
    of an older identity.
    """

    path: Path
    reason: str
    stale: Stale | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def listing(misfits: Sequence[Misfit]) -> str:
    """Names the first few of them, a line each, and counts the rest."""
    more = len(misfits) - NAMED
    return "\n  ".join([*map(str, misfits[:NAMED]), *([f"and {more} more"] if more > 0 else [])])


def stamped(kept: K, outcomes: str) -> K:
    """A record as it is written: with its versions, and the digests that its readers check.

    Args:
        outcomes: sha256 of the npz beside it.
    """
    versioned = kept.model_copy(update={"schema_": naming.SCHEMA, "shape": SHAPE})
    digests = Digests(outcomes=outcomes, record=digest(versioned.plain()))
    return versioned.model_copy(update={"digests": digests})


def digest(content: Mapping[str, Any]) -> str:
    """sha256 of a record's canonical JSON, but for the digests themselves."""
    plain = {key: value for key, value in content.items() if key != "digests"}
    return hashlib.sha256(
        json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def read(path: Path, kind: Kind[K]) -> K:
    """One record (or certificate, by `kind`) in today's shape.

    Raises:
        MisfitError: it is not JSON, breaks the schema, is not what its name or its digest says, or
            is of an older identity.
    """
    try:
        content = json_file.load_object(path, f"the {kind.noun}")
        return _believed(content, path, kind)
    except UnreadableError as error:
        raise MisfitError(f"it is not a readable {kind.noun} ({error.reason})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = text.line(".".join(map(str, first["loc"])))
        raise MisfitError(
            f"it is no {kind.noun} of this version: {where}: {text.line(first['msg'])}"
        ) from error
    except (ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise MisfitError(f"it is not a readable {kind.noun} ({text.line(error)})") from error


def _believed(raw: Content, path: Path, kind: Kind[K]) -> K:
    schema, content = raw.get("schema", 1), lifted(raw)
    if type(schema) is not int or not 1 <= schema <= naming.SCHEMA:
        raise MisfitError(
            f"its schema is {text.line(repr(schema), 80)}; this version knows up to"
            f" {naming.SCHEMA}: was it written by a newer medrobust?"
        )
    spec, spec_hash = content.get("spec"), content.get("hash")
    if not isinstance(spec, dict) or not isinstance(spec_hash, str):
        raise MisfitError(f"it is no {kind.noun} of this version: it lacks its hash or its spec")
    if path.stem != spec_hash[:HASH_LENGTH]:
        raise MisfitError("its name is not its hash")
    if naming.canonical_hash({"schema": schema, **spec}) != spec_hash:
        raise MisfitError("its hash is not that of its specification; it was altered")
    if schema < naming.SCHEMA:
        _check_digests(raw, schema)
        command = content.get("command")
        raise MisfitError(
            f"it is of an older identity (schema {schema}, now {naming.SCHEMA}); `medrobust rerun"
            f" --stale --out {path.parents[1]}` makes it again",
            stale=Stale(spec_hash, spec, command if isinstance(command, str) else None),
        )
    kept = kind.model.model_validate(content, strict=True)
    _check_digests(raw, schema)
    return kept


def _check_digests(raw: Content, schema: int) -> None:
    digests = raw.get("digests")
    if digests is None and (schema > 1 or raw.get("shape", 1) > 1):
        raise MisfitError("it lacks its digests; it was altered")
    if digests is not None and (
        not isinstance(digests, dict) or digests.get("record") != digest(raw)
    ):
        raise MisfitError("its content is not what was written (another digest); it was altered")


def _from_1(content: Content) -> Content:
    """Shape 1 did not say which identity it was of, and held no digests."""
    return {**content, "schema": 1}


def _from_2(content: Content) -> Content:
    """Shape 2 said in words alone what `unverified`, `repeatable`, `architecture` and `on_gpu` say;
    certificates have none of them.
    """
    try:
        if "attack" not in content["spec"]:
            return content
        victim, notes = content["spec"]["victim"], content["notes"]
        device = content["victim"].get("device", content["environment"]["device"])
        layers = "".join(f"+{layer['name']}" for layer in victim.get("defense", ()))
        return {
            **content,
            "unverified": any(note.startswith("unverified: ") for note in notes),
            "repeatable": not any(note.startswith("not repeatable: ") for note in notes),
            "architecture": victim["model"].removesuffix(" (unaware attack)").removesuffix(layers),
            "on_gpu": not device.startswith("cpu"),
        }
    except (AttributeError, KeyError, TypeError):  # no record: the schema says what is wrong
        return content


def _from_3(content: Content) -> Content:
    """Shape 3 held a word of trust, which is computed on reading now, and signs passed, warned or
    failed.
    """
    kept = {key: value for key, value in content.items() if key != "trust"}
    verdicts = {"pass": "fine", "warn": "doubtful", "fail": "failed"}
    try:
        signs = [
            {**sign, "verdict": verdicts.get(sign["verdict"], sign["verdict"])}
            for sign in content.get("diagnostics", ())
        ]
    except (KeyError, TypeError):  # no record: the schema says what is wrong
        return kept
    return kept | ({"diagnostics": signs} if "diagnostics" in kept else {})


UPGRADES: dict[int, Callable[[Content], Content]] = {1: _from_1, 2: _from_2, 3: _from_3}
"""By shape, what lifts a record to the next one."""


def lifted(content: Content) -> Content:
    """A record of any shape so far, in today's.

    Raises:
        MisfitError: a shape that this version does not know.
    """
    shape = content.get("shape", 1)
    if type(shape) is not int or not 1 <= shape <= SHAPE:
        raise MisfitError(
            f"its shape is {text.line(repr(shape), 80)}; this version knows up to {SHAPE}: was it"
            " written by a newer medrobust?"
        )
    for older in range(shape, SHAPE):
        content = {**UPGRADES[older](content), "shape": older + 1}
    return content


class Memory:
    """Which files of a folder had which sha256, by inode, times and size, so that a large store is
    hashed once.

    It lies below MEDROBUST_HOME and may be lost at any time; only digests that fitted are
    remembered.
    """

    def __init__(self, folder: Path) -> None:
        self.path = (
            home()
            / "hashed"
            / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:HASH_LENGTH]}.json"
        )
        self.known: dict[str, str] = read_sealed(self.path) or {}
        self.changed = False

    def fits(self, path: Path, sha256: str, *, fresh: bool = False) -> bool:
        """Whether a file has this sha256; `fresh`: hash it whatever is remembered."""
        about = path.stat()
        key = f"{signature(about)} {sha256}"
        if not fresh and self.known.get(path.name) == key:
            return True
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
        if last_change(about) < time.time() - SETTLED and self.known.get(path.name) != key:
            self.known[path.name], self.changed = key, True
        return True

    def keep(self) -> None:
        """Writes what is remembered, where that is possible."""
        if self.changed:
            with contextlib.suppress(UserError):
                write_text(self.path, sealed(self.known))
            self.changed = False
