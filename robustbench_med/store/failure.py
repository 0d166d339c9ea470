"""Cells that failed: `failures/<hash>.json` in a run's folder, until they succeed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from robustbench_med.errors import UserError, left_out
from robustbench_med.formats import json_file
from robustbench_med.formats.files import UnreadableError
from robustbench_med.naming import Norm
from robustbench_med.paths import write_text
from robustbench_med.store.belief import HASH_LENGTH
from robustbench_med.store.parts import SHORT, Environment, Hash, Part


class FailedCell(Part):
    """The point of the grid that failed, as a run asked for it."""

    model: str
    defense: str
    data: str
    fold: tuple[int, int] | None
    train_seed: int
    seed: int
    attack: str
    eps: str
    norm: Norm
    target_task: str

    def __str__(self) -> str:
        defended = "" if self.defense == "none" else f"+{self.defense}"
        fold = "" if self.fold is None else f" fold {self.fold[0]}"
        seeds = f" train seed {self.train_seed}" if self.train_seed else ""
        seeds += f" seed {self.seed}" if self.seed else ""
        name = Path(self.model).name if ".py" in self.model else self.model
        return f"{name}{defended} {self.attack} {self.eps} {self.norm} on {self.data}{fold}{seeds}"


class Failure(Part):
    """A cell that could not be evaluated."""

    hash: Hash = Field(description="of the request")
    spec: dict[str, Any] = Field(
        description="the request: the training in place of weights that there may be none of"
    )
    cell: FailedCell
    command: str = Field(description="what tries it again")
    where: Literal["victim", "cell"] = Field(
        description="whether the victim could not be had, or the attack on it failed"
    )
    error: str = Field(description="in one line")
    traceback: str
    mendable: bool = Field(description="an error of the user's input or code, not of medrobust's")
    environment: Environment

    @property
    def short(self) -> str:
        """The first digits of its hash, as commands call it."""
        return self.hash[:SHORT]


class Failures:
    """The failures of a run's folder.

    Example:
        >>> [str(failure.cell) for failure in Failures(Path("reports")).all()]
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / "failures"

    def path(self, request: str) -> Path:
        """Where the failure of a request lies."""
        return self.folder / f"{request[:HASH_LENGTH]}.json"

    def write(self, failure: Failure) -> None:
        """Keeps a failure, in place of an earlier one of the same request."""
        write_text(self.path(failure.hash), json.dumps(failure.plain(), indent=1))

    def remove(self, request: str) -> None:
        """Takes the failure of a request away, if there is one."""
        self.path(request).unlink(missing_ok=True)

    def kept(self, request: str) -> Failure | None:
        """The failure of a request; None where it did not fail."""
        path = self.path(request)
        return _read(path) if path.exists() else None

    def all(self) -> list[Failure]:
        """Every failure, ordered by hash; a `LeftOutWarning` names files that are none."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(_read(path))
            except UserError as error:
                left_out(str(error))
        return found


def _read(path: Path) -> Failure:
    try:
        return Failure.model_validate(json_file.load_object(path, "the failure"))
    except (UnreadableError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.reason
        raise UserError(f"{path} cannot be read as a failure ({reason}); delete it") from error
