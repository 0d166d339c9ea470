"""Folders of records from Python: read, joined, planned, looked after, written as tables and
cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustbench_med.api.asking import asked
from robustbench_med.api.calls import Attacks, Models
from robustbench_med.api.results import Results
from robustbench_med.models.registry import MODELS
from robustbench_med.reports import floors, write
from robustbench_med.reports.robustness.write import cards
from robustbench_med.runs import packages
from robustbench_med.runs import plan as planning
from robustbench_med.runs import status as looking
from robustbench_med.runs.planned import RunPlan
from robustbench_med.runs.status import Status
from robustbench_med.runs.wording import in_python
from robustbench_med.store import merge as joining
from robustbench_med.store.merge import Merged
from robustbench_med.store.store import Store, nothing_left
from robustbench_med.training.checkpoints import find_sidecar


def leaderboard(out: Path | str = "reports") -> Results:
    """All records in a folder that fit; a `LeftOutWarning` names the others.

    Raises:
        UserError: there are none.

    Example:
        >>> leaderboard("reports").table
    """
    store = Store(Path(out))
    records = floors.read_all(store)
    if not records:
        raise nothing_left(
            f"{out} holds no records; evaluate(..., out={str(out)!r}) makes some", store
        )
    return Results(tuple(records), Path(out))


def report(
    out: Path | str = "reports", *, html: bool = True, figures: bool = True, baseline: str = "late"
) -> list[Path]:
    """Writes everything that can be made of the records and certificates in a folder: tables (CSV,
    Markdown, LaTeX), figures, examples, the page `leaderboard.html`.

    Args:
        out: the folder.
        html: whether to write the page.
        figures: whether to draw figures and galleries.
        baseline: the undefended victim that errors under corruptions are relative to.

    Returns:
        The files.

    Raises:
        UserError: the folder holds nothing, or cannot be written.

    Example:
        >>> report("reports", html=False)
    """
    packages.load()
    with in_python():
        return list(write.everything(Path(out), html=html, pictures=figures, baseline=baseline))


def card(
    out: Path | str = "reports",
    *,
    model: str | Sequence[str] = (),
    checkpoints: Path | str | Sequence[Path | str] = (),
    robustness: bool = False,
    about: Path | str | None = None,
    baseline: str = "late",
) -> list[Path]:
    """Writes a model card (as the Hugging Face hub reads it) and a robustness card for every victim
    in a folder.

    Args:
        out: the folder.
        model: victims, as the leaderboard names them; empty: all.
        checkpoints: folders where weights of yours and their sidecars lie.
        robustness: also write the card of one page, as HTML and PDF, for a validation file.
        about: YAML file of what no record knows, for that page: intended_use and the like.
        baseline: the undefended victim that its corruption errors are relative to.

    Returns:
        The files.

    Raises:
        UserError: an unknown victim, or nothing in the folder.

    Example:
        >>> card("reports", model="late")
    """
    papers = {name: entry.paper for name, entry in MODELS.items()}
    names = [model] if isinstance(model, str) else list(model)
    folders = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    with in_python():
        said = None if about is None else Path(about)
        pages = cards(Path(out), said=said, models=names, baseline=baseline) if robustness else []
        written = write.cards(
            Path(out), find_sidecar, papers, models=names, checkpoints=[Path(f) for f in folders]
        )
        return [*written, *pages]


def merge(
    sources: Path | str | Sequence[Path | str],
    out: Path | str = "reports",
    *,
    anonymous: bool = False,
) -> Merged:
    """Joins the records and certificates of several folders in one; none is ever changed.

    Args:
        sources: the folders that are copied from.
        out: the one that is copied into.
        anonymous: copies to be shared: samples named by HMAC with a key that stays in your
            configuration, no images, no paths.

    Returns:
        How many were copied or the same, and `conflicts`: what both have with other figures.

    Raises:
        UserError: a source without any, or with something that cannot be believed.

    Example:
        >>> merge(["machine-a", "machine-b"], "reports").conflicts
    """
    folders = [sources] if isinstance(sources, str | Path) else sources
    with in_python():
        return joining.merge([Path(folder) for folder in folders], Path(out), anonymous=anonymous)


def plan(
    model: Models,
    attack: Attacks = "pgd",
    *,
    out: Path | str = "reports",
    device: str = "auto",
    quiet: bool = False,
    **options: Any,
) -> RunPlan:
    """What `evaluate` would do with the same arguments, and how long it would take; nothing is
    trained and nothing attacked.

    Args:
        model: one or several models, by name or as modules.
        attack: one or several attacks, by name or as functions.
        out: folder of the records.
        device: auto, cpu, cuda or mps.
        quiet: no progress bars.
        **options: as for `evaluate`.

    Returns:
        Cells done and to do, trainings, passes, memory, disk and seconds.

    Raises:
        UserError: as `evaluate`.

    Example:
        >>> plan("late", "pgd", eps="4/255").seconds
    """
    where = {"out": Path(out), "device": device, "quiet": quiet}
    with asked("plan", {"model": model, "attack": attack, **options}, **where) as (spec, job):
        return planning.plan(spec, job)


def status(out: Path | str = "reports") -> Status:
    """How far the last run in a folder is: from another process, during the run and after it.

    Raises:
        UserError: no run began there.

    Example:
        >>> status("reports").left  # seconds to go
    """
    with in_python():
        return looking.status(Path(out))
