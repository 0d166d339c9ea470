"""Entries in a folder: one small JSON a victim."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from robustbench_med.errors import UserError, left_out
from robustbench_med.formats import json_file
from robustbench_med.paths import writable_folder, write_text
from robustbench_med.store.entry import FORMAT, Entry


def path_of(entry: Entry, folder: Path) -> Path:
    """Where an entry lies."""
    return folder / f"{entry.id}.json"


def write(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Writes entries and returns their paths."""
    writable_folder(folder)
    for entry in entries:
        text = json.dumps(entry.plain(), indent=1, allow_nan=False, ensure_ascii=False)
        write_text(path_of(entry, folder), text + "\n")
    return [path_of(entry, folder) for entry in entries]


def read_one(path: Path) -> Entry:
    """An entry.

    Raises:
        UserError: it cannot be read, breaks the schema, or has another name than its id.
    """
    content = json_file.load_object(path, "the entry", "entry_bytes")
    try:
        entry = Entry.of(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path}: {where or 'an entry is expected'}: {first['msg']}; docs/entry.schema.json"
            " shows the format"
        ) from error
    if entry.format > FORMAT:
        raise UserError(
            f"{path} has the format {entry.format}; this medrobust reads {FORMAT}: update it"
        )
    if path.stem != entry.id:
        raise UserError(f"{path} holds the entry {entry.id}: call it {entry.id}.json")
    return entry


def read(folder: Path) -> list[Entry]:
    """All entries of a folder, ordered by id; those that cannot be read are named in a
    `LeftOutWarning`.

    Raises:
        UserError: there is none.
    """
    found, faults = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            found.append(read_one(path))
        except UserError as error:
            faults.append(str(error))
    for fault in faults:
        left_out(fault)
    if not found:
        raise UserError(
            f"{folder} holds no entries; `medrobust submit --out STORE --to {folder}` writes some"
        )
    return found
