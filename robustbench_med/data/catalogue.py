"""What a user can name as data: a row a card, and all about one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustbench_med.data.readers import find_folder, find_medmnist, roots, top_folders
from robustbench_med.data.registry import Card, FolderReader, MedMNISTReader, PhantomReader, card, ids


def catalogue(data_root: Path | None) -> list[dict[str, Any]]:
    """One row a shipped card, with where its files lie."""
    return [
        {
            "id": each.id,
            "modalities": ", ".join(m.name for m in each.modalities),
            "images": sum(each.counts.values()),
            "classes": ", ".join(str(len(task.classes)) for task in each.tasks),
            "licence": each.licence,
            "access": each.access,
            "on_disk": on_disk(each, data_root),
        }
        for each in map(card, ids())
    ]


def on_disk(each: Card, data_root: Path | None) -> str:
    """Where a card's files lie, "built in", or "no"."""
    if isinstance(each.reader, PhantomReader):
        return "built in"
    if isinstance(each.reader, MedMNISTReader):
        found = find_medmnist(each, each.reader.flag, 28, data_root)
        return str(found[0]) if found else "no"
    folder = find_folder(each, each.reader, data_root)
    return str(folder) if folder else "no"


def facts(each: Card, data_root: Path | None) -> dict[str, str]:
    """All about one data set, ready to print."""
    return {
        "id": each.id,
        "title": each.title + (" (synthetic)" if each.synthetic else ""),
        "modalities": ", ".join(f"{m.name} ({'grey' if m.channels == 1 else 'RGB'})" for m in each.modalities),
        **{f"task {task.name}": ", ".join(f"{i} {name}" for i, name in enumerate(task.classes)) for task in each.tasks},
        "images": ", ".join(f"{split} {n:,}" for split, n in each.counts.items()),
        "source": each.url,
        "licence": each.licence,
        "access": each.access,
        "where to put it": placement(each),
        "on disk": on_disk(each, data_root),
        "citation": each.citation.strip(),
        "provenance": each.provenance.strip(),
        "known defects": " ".join(each.known_defects) or "none known",
    }


def placement(each: Card) -> str:
    """Where a user puts the files."""
    if isinstance(each.reader, PhantomReader):
        return "nothing to get: drawn by this package"
    if isinstance(each.reader, MedMNISTReader):
        return f"{each.reader.flag}.npz (or _64, _128, _224) in a folder named with --data-root, or in ~/.medmnist; else it is downloaded"
    assert isinstance(each.reader, FolderReader)
    return f"<data root>/{each.id}/ with {', '.join(top_folders(each, each.reader))}; the default data root is {roots(None)[0]}"
