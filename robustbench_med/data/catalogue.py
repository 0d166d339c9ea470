"""What a user can name as data: a row a card, and all about one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustbench_med.data.cards import Card, Modality, PhantomReader, card, ids
from robustbench_med.data.source import locate, placement
from robustbench_med.data.subgroups import bands_of
from robustbench_med.naming import BY_INDEX


def catalogue(data_root: Path | None) -> list[dict[str, Any]]:
    """One row a shipped card, the benchmark's twenty before the extras, with where its files
    lie.
    """
    return [
        {
            "id": each.id,
            "modalities": ", ".join(m.name for m in each.modalities),
            "images": f"{each.images:,}",
            "classes": ", ".join(str(len(task.classes)) for task in each.tasks),
            "licence": each.licence,
            "access": each.access,
            "twenty": each.twenty,
            "on_disk": on_disk(each, data_root),
        }
        for each in sorted(map(card, ids()), key=lambda each: (not each.synthetic, not each.twenty))
    ]


def on_disk(each: Card, data_root: Path | None) -> str:
    """Where a card's files lie, "built in", or "no"."""
    if isinstance(each.reader, PhantomReader):
        return "built in"
    return str(locate(each, data_root) or "no")


def facts(each: Card, data_root: Path | None) -> dict[str, str]:
    """All about one data set, ready to print."""
    described = {
        "id": each.id,
        "title": (each.title or each.id) + (" (synthetic)" if each.synthetic else ""),
        "description": each.description.strip(),
        "modalities": ", ".join(f"{m.name} ({kind(m)})" for m in each.modalities),
        "pairing": pairing(each),
        **{
            f"table {m.name}": "\n".join(column.described for column in m.columns)
            for m in each.modalities
            if m.columns
        },
        "figures apart by": "\n".join(
            f"{name}: {', '.join(bands_of(cuts)) if cuts else 'its values'}"
            for name, cuts in each.subgroups.items()
        ),
        **{
            f"task {task.name}": ", ".join(
                f"{i} {name}"
                + (f" ({each.class_counts[name]:,})" if name in each.class_counts else "")
                for i, name in enumerate(task.classes)
            )
            for task in each.tasks
        },
        "images": ", ".join(f"{split} {n:,}" for split, n in each.counts.items()),
        "split": each.split.strip(),
        "published results": published_results(each),
        "source": each.url,
        "licence": each.licence,
        "access": each.access,
        "how to get it": "\n".join(f"{i}. {step}" for i, step in enumerate(each.obtain, 1)),
        "where to put it": placement(each),
        "as published": "\n".join(each.tree),
        "on disk": on_disk(each, data_root),
        "citation": each.citation.strip(),
        "provenance": each.provenance.strip(),
        "known defects": "\n".join(each.known_defects) or "none known",
    }
    return {name: text for name, text in described.items() if text}


def of_pairing(name: str, data_root: Path | None) -> list[dict[str, str]]:
    """The same of a data set, or of each that a pairing `a+b` joins."""
    cards = [card(part) for part in name.split("+")]
    found = [facts(each, data_root) for each in cards]
    if len(cards) > 1:
        for each, told in zip(cards, found, strict=True):
            others = ", ".join(other.id for other in cards if other is not each)
            told["pairing"] = f"{BY_INDEX} with {others}: modalities of different patients"
    return found


def kind(modality: Modality) -> str:
    """What a modality is, and whether some samples lack it."""
    what = {None: "table", 1: "grey", 3: "RGB"}[modality.channels]
    return f"{what}, some samples lack it" if modality.optional else what


def pairing(each: Card) -> str:
    """Whether a sample's modalities are of one patient; nothing where there is one."""
    if len(each.modalities) == 1:
        return "one modality; beside another set (a+b) it is paired by index: of different patients"
    return "paired: the modalities of a sample are of one patient"


def published_results(each: Card) -> str:
    """What publications report of a data set, a line each, with the sources below."""
    several = len(each.tasks) > 1
    lines = [f"{figure.task + ': ' if several else ''}{figure.result}" for figure in each.published]
    return "\n".join([*lines, *dict.fromkeys(figure.source for figure in each.published)])
