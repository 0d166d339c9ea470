"""Robustness cards of a store: written, and held against it again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustbench_med import __version__
from robustbench_med.errors import UserError, unknown
from robustbench_med.formats.files import data_of, door
from robustbench_med.paths import write_atomically, write_text
from robustbench_med.reports import corruptions, floors, model_cards
from robustbench_med.reports.robustness import about, facts, html, pdf, pictures
from robustbench_med.reports.robustness.about import About
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store, nothing_left

NAME = "robustness-card"


def cards(
    out: Path,
    *,
    said: Path | None = None,
    models: Sequence[str] = (),
    baseline: str = corruptions.BASELINE,
) -> list[Path]:
    """cards/NAME-WEIGHTS/robustness-card.html and .pdf of every victim of a store; their paths.

    Args:
        out: the store's folder.
        said: YAML file of intended use and the like (`About`).
        models: victims, as the leaderboard names them; empty: all.
        baseline: the undefended victim that corruption errors are relative to.

    Raises:
        UserError: an unknown victim, nothing in the folder, a file that says something else, more
            than a page holds.
    """
    told = About() if said is None else about.read(said)
    store = Store(out)
    every = floors.read_all(store)
    if not every:
        none = f"{out} holds no records; `medrobust run --out {out}` makes some"
        raise nothing_left(none, store)
    victims = model_cards.victims(every)
    names = sorted({group[0].spec.victim.model for group in victims})
    for name in models:
        if name not in names:
            raise unknown("victim", name, names)
    found = []
    for mine in victims:
        if models and mine[0].spec.victim.model not in models:
            continue
        folder = out / "cards" / model_cards.VictimRecords(mine, {}).folder
        found.append((folder, *_made(store, mine, every, told, baseline)))
    written = []
    for folder, page, drawn in found:  # all of them fit, or none is written
        written += [folder / f"{NAME}.html", folder / f"{NAME}.pdf"]
        write_text(written[-2], page)
        _write(written[-1], drawn)
    return written


def _made(
    store: Store[Record],
    mine: Sequence[Record],
    every: Sequence[Record],
    told: About,
    baseline: str,
) -> tuple[str, bytes]:
    known = facts.gather(store, mine, every, told, baseline)
    shown = pictures.worst(store, mine)
    return html.render(known, shown), pdf.written(known, shown)


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def verify(file: Path, out: Path) -> list[str]:
    """What speaks against a card, a line each; nothing where all of it is what the store gives.

    Args:
        file: robustness-card.html or .pdf.
        out: the folder of the store that it was made from.

    Raises:
        UserError: the file is no card, or the folder holds no records.
    """
    content = _content(file)
    known = _known(content, file)
    store = Store(out)
    every = floors.read_all(store)
    if not every:
        raise nothing_left(f"{out} holds no records", store)
    mine = [
        record
        for record in every
        if record.spec.victim.model == known["victim"]
        and record.spec.victim.weights_sha256 == known["weights_sha256"]
    ]
    if not mine:
        return [f"{out} holds no record of {known['victim']} with these weights"]
    told = About.model_validate(known["about"])
    now = facts.gather(store, mine, every, told, known["baseline"])
    against = [*_sources(known, now), *_blocks(known, now)]
    if content.startswith(b"%PDF"):
        if not pdf.is_whole(content):
            against.append("the PDF was changed since it was written")
    elif known["medrobust"] == __version__ and not against:
        again = html.render(now, pictures.worst(store, mine)).encode()
        against += (
            [] if again == content else ["the page shows something else than the store gives"]
        )
    return against


def _content(file: Path) -> bytes:
    with door("the robustness card", file):
        return data_of(file, "text_bytes")


def _known(content: bytes, file: Path) -> dict[str, Any]:
    """The facts of a card."""
    wanted = {"form", "medrobust", "victim", "weights_sha256", "about", "baseline", "blocks"}
    try:
        if content.startswith(b"%PDF"):
            known = pdf.facts_of(content)
        else:
            known = html.facts_of(content.decode("utf-8"))
        About.model_validate(known["about"])
        if not wanted | {"sources"} <= known.keys() or known["form"] != facts.FORM:
            raise ValueError
        {(one["kind"], one["hash"], one["sha256"]) for one in known["sources"]}
        [block["title"] for block in known["blocks"]]
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error, RecursionError) as error:
        raise UserError(
            f"{file} is no robustness card that this version reads; `medrobust card --robustness`"
            f" writes {NAME}.html and {NAME}.pdf"
        ) from error
    found: dict[str, Any] = known
    return found


def _sources(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Files that are gone, others, or new."""
    before, after = (
        {(one["kind"], one["hash"]): one["sha256"] for one in each["sources"]}
        for each in (known, now)
    )
    lines = []
    for key in sorted(before.keys() | after.keys()):
        what = f"{key[0]} {key[1][:12]}"
        if key not in after:
            lines.append(f"{what} is not in the store")
        elif key not in before:
            lines.append(f"{what} is in the store, and the card does not know it")
        elif before[key] != after[key]:
            lines.append(f"{what} has another sha256 than the card says")
    return lines


def _blocks(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Parts that say something else than the store gives."""
    before, after = (
        {block["title"]: json.dumps(block, sort_keys=True) for block in each["blocks"]}
        for each in (known, now)
    )
    titles = list(dict.fromkeys([*before, *after]))
    return [
        f"the part {title or 'on what is asked'!r} says something else than the store gives"
        for title in titles
        if before.get(title) != after.get(title)
    ]
