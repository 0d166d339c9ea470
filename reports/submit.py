"""Entries of a store for a folder of results, with what their authors say of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from robustbench_med.errors import UserError, unknown
from robustbench_med.reports import floors
from robustbench_med.reports.entries import entries
from robustbench_med.reports.under_training import under_trained
from robustbench_med.store import entry_files
from robustbench_med.store.entry import About, Entry
from robustbench_med.store.entry_checks import faults
from robustbench_med.store.store import Store, nothing_left

FOLDERS = re.compile(r"(?:^|(?<=[=,+]))/(?:[^/,=+]+/)+")
"""Of absolute paths, at the beginning of a word or behind what parts several names in it."""
QUOTED_FOLDERS = re.compile(r"(?<=['\"])/(?:[^/'\"]+/)+")


class AboutFile(BaseModel):
    """What `--about` holds: of all victims, and of single ones by the leaderboard's name."""

    model_config = ConfigDict(extra="forbid")

    all: About | None = None
    victims: dict[str, About] = {}


@dataclass(frozen=True)
class Submitted:
    """What `submit` did: paths of the entries that it wrote, and why others were refused."""

    written: list[Path]
    refused: list[str]


def submit(
    out: Path,
    folder: Path,
    *,
    about: Path | None = None,
    models: Sequence[str] = (),
    accept_unverified: bool = False,
) -> Submitted:
    """Writes entries of the victims of a store into a folder; nothing of those that are not whole.

    Args:
        out: folder of the store.
        folder: where entries go.
        about: YAML file with who, papers and reported figures (`AboutFile`).
        models: victims, as the leaderboard names them; empty: all.
        accept_unverified: take those whose data are not the published files, marked.

    Raises:
        UserError: there is nothing to submit, or the file cannot be read.
    """
    told = AboutFile() if about is None else read_about(about)
    store = Store(out)
    records = floors.read(store)
    sound = [record for record in records if record.spec.protocol.name == "sound"]
    found = entries(sound, store, among=records, shortfalls=under_trained(records))
    if not found:
        raise nothing_left(f"{out} holds no attacked victim; `medrobust run --out {out}`", store)
    names = {entry.victim.model for entry in found}
    for name in (*models, *told.victims):
        if name not in names:
            raise unknown("victim", name, sorted(names))
    whole, refused = [], []
    for entry in found:
        if models and entry.victim.model not in models:
            continue
        entry = without_places(with_about(entry, told))
        reasons = faults(entry)
        if entry.data.unverified and not accept_unverified:
            reasons.append(
                "its data are not the published files; --accept-unverified writes it, marked and"
                " without a rank"
            )
        if reasons:
            refused.append(f"{entry.id} is not written: {'; '.join(reasons)}")
        else:
            whole.append(entry)
    return Submitted(entry_files.write(whole, folder) if whole else [], refused)


def without_places(entry: Entry) -> Entry:
    """An entry whose commands say nothing of where its author's files lie."""
    plain = entry.plain()
    for threat in plain["threats"]:
        for attack in threat["attacks"]:
            attack["command"] = without_folders(attack["command"])
    return Entry.of(plain)


def without_folders(command: str) -> str:
    """A command whose folder of data is called DATA, and whose other files are named without their
    folders.
    """
    if not command.startswith("medrobust "):  # a call in Python
        return QUOTED_FOLDERS.sub("", command)
    words = shlex.split(command)
    named = [
        "DATA" if before == "--data-root" else FOLDERS.sub("", word)
        for before, word in zip(["", *words], words, strict=False)
    ]
    return shlex.join(named) if named != words else command


def with_about(entry: Entry, told: AboutFile) -> Entry:
    """An entry with what a file says of it: of all victims, and of this one alone on top."""
    of_all = told.all.plain() if told.all else {}
    of_this = told.victims.get(entry.victim.model)
    said = {**of_all, **(of_this.plain() if of_this else {})}
    return Entry.of(entry.plain() | ({"about": said} if said else {}))


def read_about(path: Path) -> AboutFile:
    """What an `--about` file says.

    Raises:
        UserError: it cannot be read, or says something that an entry does not know.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = AboutFile.model_validate(content)
        for said in (found.all, *found.victims.values()):
            extra = sorted((said.model_extra or {}) if said else ())
            if extra:
                raise UserError(f"{path}: {unknown('key', extra[0], About.model_fields)}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "a mapping is expected"
        raise UserError(f"{path}: {where}: {first['msg']}; CONTRIBUTING.md shows one") from error
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return found
