"""What the commands of records and sidecars share: they run again as they stand, from any folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from robustbench_med.data import Dataset
from robustbench_med.models.own import is_own
from robustbench_med.registration import included


def model_option(model: str) -> str:
    """What `--model` or `--source` takes, a file of the user's by its whole path."""
    if not is_own(model):
        return model
    file, _, function = model.rpartition(":")
    return f"{Path(file).resolve()}:{function}"


def data_option(given: str) -> str:
    """What `--data` takes, cards by their whole path."""
    return "+".join(str(Path(part).resolve()) if part.endswith((".yaml", ".yml")) else part for part in given.split("+"))


def where(dataset: Dataset) -> list[str]:
    """Options that find a data set's files again."""
    root = [] if dataset.data_root is None else ["--data-root", str(dataset.data_root.resolve())]
    return [*root, *(["--accept-unverified"] if dataset.unverified else [])]


def includes(names: Collection[str]) -> list[str]:
    """Options that register attacks, losses, defences and models of the user's again."""
    return [part for path in included(names) for part in ("--include", str(path))]
