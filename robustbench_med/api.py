"""The public functions: what the command line does, from Python. Results print well, in notebooks
too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from robustbench_med import parsing
from robustbench_med.data import Dataset
from robustbench_med.dataspec import Preprocessing
from robustbench_med.errors import UserError, nearest
from robustbench_med.progress import Display
from robustbench_med.reports import board as leaderboards
from robustbench_med.reports import floors, tables
from robustbench_med.reports.comparison import pairs
from robustbench_med.reports.comparison.entries import LeftOut
from robustbench_med.reports.comparison.page import missing
from robustbench_med.reports.comparison.table import display
from robustbench_med.reports.comparison.write import judge
from robustbench_med.runs import benchmarks, checks, entries, run, spec, victims
from robustbench_med.runs import compare as comparison
from robustbench_med.runs.device import choose_device
from robustbench_med.runs.job import Job
from robustbench_med.runs.session import load_one
from robustbench_med.store import reading
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store, nothing_left

if TYPE_CHECKING:
    from torch import nn

SHOWN = (
    "rank",
    "model",
    "data",
    "norm",
    "eps",
    "n",
    "clean",
    "worst",
    "worst_low",
    "worst_high",
    "worst_balanced_accuracy",
    "noise",
    "each_attack",
    "trust",
    "marks",
)

CELLS_SHOWN = ("model", "data", "norm", "eps", "attack", "n", "clean", "robust", "marks")

FILES = ("data_root", "accept_unverified")
VICTIM = ("defense", "defense_params", "checkpoint")
"""What `load_model` takes besides: where data lie, and what the victim is."""


@dataclass(frozen=True)
class Results:
    """Evaluated cells.

    Example:
        >>> results = evaluate("late", "fgsm", eps="4/255", limit=16)
        >>> results.table  # the leaderboard
        >>> [record.figures.robust for record in results.records]

    Attributes:
        records: one a cell, with the fields that docs/record.schema.json describes:
            `results.records[0].figures.robust`; `record.plain()` is its JSON as dictionaries.
        folder: where they lie; `medrobust report --out FOLDER` writes everything about them.
    """

    records: tuple[Record, ...]
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """The leaderboard of these records, a row a victim and threat; docs/columns.md tells what
        the columns mean. Empty where nothing but noise was run.
        """
        board = leaderboards.leaderboard(self.records, Store(self.folder))
        return tables.written(floors.with_floors(board))

    @property
    def cells(self) -> pd.DataFrame:
        """A row an attack: the columns of cells.csv."""
        return tables.written(floors.with_floors(tables.cells(self.records)))

    @property
    def _shown(self) -> pd.DataFrame:
        table = self.table
        return table[list(SHOWN)] if len(table) else self.cells[list(CELLS_SHOWN)]

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        shown = (
            self._shown.to_string(index=False, float_format="%.3f", na_rep="-")
            if self.records
            else "nothing"
        )
        return f"{len(self.records)} records in {self.folder}\n{shown}"

    def _repr_html_(self) -> str:
        shown = (
            self._shown.to_html(index=False, float_format="{:.3f}".format, border=0, na_rep="-")
            if self.records
            else ""
        )
        return (
            f"<p>{len(self.records)} records in <code>{escape(str(self.folder))}</code></p>{shown}"
        )


@dataclass(frozen=True)
class Comparison:
    """Defences side by side.

    Attributes:
        table: a row a model x defence x data set x threat: clean, robust under every attack, worst
            case, naive figure, cost.
        pairs: the paired statistics: every two victims of one model, or under one defence, on the
            same samples.
        verdict: what follows, in sentences.
        records: all records behind it, the naive attacks' among them.
        folder: where they lie.
        left_out: what was asked for and is missing, with `model`, `defense` (empty: the model
            altogether), `reason` and `unsuited` (the defence has no place in the model; else the
            parameters did not fit, and a `LeftOutWarning` said so).
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    verdict: tuple[str, ...]
    records: tuple[Record, ...]
    folder: Path
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def _said(self) -> list[str]:
        return [*self.verdict, *missing(self.left_out)]

    def __repr__(self) -> str:
        return "\n".join([display(self.table).to_string(index=False), *self._said])

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in self._said)
        return f"{display(self.table).to_html(index=False, border=0)}<ul>{sentences}</ul>"


def load_data(
    name: str = "phantoms",
    *,
    preset: str = "quick",
    size: int | None = None,
    fold: tuple[int, int] | None = None,
    data_root: Path | str | None = None,
    accept_unverified: bool = False,
) -> Dataset:
    """A data set or pairing `a+b`, at a preset's image size and channels.

    Args:
        name: an id (`medrobust data list`), a pairing, or a path to a YAML card.
        preset: sizes, as `medrobust models` shows them.
        size: pixels of a side, instead of the preset's.
        fold: (k, n): fold k, from 0, of a grouped n-fold cross-validation, instead of the usual
            split.
        data_root: folder that holds the data sets on disk.
        accept_unverified: use a file whose md5 is not the published one.

    Returns:
        The data set; `dataset.splits["test"].batch(range(8))` are M float32 tensors (8, C_m, S, S)
        in [0, 1].

    Raises:
        UserError: an unknown name, missing or unreadable files.
    """
    files = {"data_root": data_root, "accept_unverified": accept_unverified}
    job = _job(files, quiet=True)
    return load_one(name, preset, size, Preprocessing(), job, fold=fold)


def load_model(
    name: str,
    *,
    data: Dataset | str = "phantoms",
    preset: str = "quick",
    params: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
    **options: Any,
) -> nn.Module:
    """A trained victim, ready for attack; from the cache or the zoo, else trained now.

    Args:
        name: a model of `medrobust models`; or the id of an entry of the shipped leaderboard, or an
            entry's JSON file, whose data, defence, parameters and weights are taken.
        data: what it was or will be trained on: a data set of `load_data` with the same preset, or
            a name.
        params: constructor arguments.
        recipe: training settings, e.g. `{"epochs": 30}`.
        seed: seed of the training.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.
        **options: `defense`, a defence or chain such as "pgd-at+jpeg", with `defense_params`;
            `checkpoint`, a file of weights in place of a training; where `data` is a name,
            `data_root` and `accept_unverified` as in `load_data`.

    Returns:
        A module in evaluation mode without parameter gradients: M tensors (B, C_m, S, S) in [0, 1]
        in, a tuple of logits (B, classes_t) out, one a task.

    Raises:
        UserError: an unknown model, defence, parameter or option, weights that do not fit.
    """
    files = {key: options.pop(key) for key in FILES if key in options}
    if entries.is_entry(name):
        more, given = bool(params or recipe or options), None if isinstance(data, str) else data
        return entries.load(name, given, choose_device(device), _job(files, quiet=quiet), more=more)
    for option in options:
        if option not in VICTIM:
            raise UserError(
                f"load_model: unknown option {option!r}; {nearest(option, (*VICTIM, *FILES))}"
            )
    if files and not isinstance(data, str):
        raise UserError(f"load_model: {', '.join(files)} belongs to load_data, which made the data")
    dataset = load_data(data, preset=preset, **files) if isinstance(data, str) else data
    asked = {
        "model": name,
        "data": dataset.name,
        "preset": preset,
        "model_params": dict(params or {}),
        "recipe": dict(recipe or {}),
        **options,
    }
    victim = parsing.validate(spec.VictimsSpec, asked, "load_model")
    checks.check_victims(victim)
    place, display = choose_device(device), Display(quiet=quiet)
    return victims.load_module(victim, dataset, seed, place, display)


def evaluate(
    model: str | Sequence[str],
    attack: str | Sequence[str] = "pgd",
    *,
    out: Path | str = "reports",
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Results:
    """Attacks models and stores the records; finished cells are read, not computed again.

    Args:
        model: one or several models.
        attack: one or several attacks.
        out: folder of the records.
        device: auto, cpu, cuda or mps.
        force: compute finished cells again.
        quiet: no progress bars.
        **options: any further field of a run file, such as `data`, `eps`, `norm`, `draws`, `limit`,
            `attack_params`, `model_params`, `recipe` (docs/python.md lists all with their
            defaults), and where and how to run: `data_root`, `accept_unverified`, `strict`,
            `batch_size`, `fail_fast`, `skip_failed`, `jobs`, `threads`, `executor`, `address`,
            `gpus`, `slurm`, `shard`; or `benchmark`, whose data, radii, attacks and seeds are
            taken in place of those. Cells that fail are named in a `LeftOutWarning` and kept in
            the folder's `failures/`.

    Returns:
        The records, which print as a leaderboard.

    Raises:
        UserError: an unknown name or option, a bad value, missing data.

    Example:
        results = evaluate("robust-mail", ["fgsm", "pgd"], eps=["1/255", "4/255"], limit=64)
        results.table
    """
    job = _job(options, out=Path(out), device=device, force=force, quiet=quiet)
    benchmark = options.pop("benchmark", None)
    asked = {"model": model, "attack": attack, **options}
    if benchmark is not None:
        asked = benchmarks.filled(benchmark, {"model": model, **options})
    records = run.run(parsing.validate(spec.RunSpec, asked, "evaluate"), job)
    store = Store(Path(out))
    read = reading.together(records, store)
    return Results(tuple(floors.counted(read, store.arrays)), Path(out))


def compare(
    model: str | Sequence[str],
    defense: str | Sequence[str],
    attack: str | Sequence[str] = "pgd",
    *,
    out: Path | str = "reports",
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Comparison:
    """Compares defences with none: attacked adaptively, a naive attack beside; finished cells are
    read, not computed again.

    Args:
        model: one or several models.
        defense: one or several defences or chains (`pgd-at+jpeg`); one that suits some of the
            models is left out for the others.
        attack: one or several attacks.
        out: folder of the records.
        device: auto, cpu, cuda or mps.
        force: compute finished cells again.
        quiet: no progress bars.
        **options: as for `evaluate`; the protocol is always sound.

    Returns:
        The table, the paired statistics, the verdict, and all records behind them.

    Raises:
        UserError: an unknown name or option, a bad value, missing data, parameters that fit no
            model, a defence that suits none.

    Example:
        compare("late", ["pgd-at", "jpeg"], "pgd", eps="8/255").verdict
    """
    job = _job(options, out=Path(out), device=device, force=force, quiet=quiet)
    asked = {"model": model, "defense": defense, "attack": attack, **options}
    entries, left_out = comparison.compare(parsing.validate(spec.RunSpec, asked, "compare"), job)
    judged = judge(entries, Path(out))
    return Comparison(
        table=tables.written(judged.table),
        pairs=pairs.frame(judged.pairs),
        verdict=judged.verdict,
        records=tuple(record for entry in entries for record in (*entry.records, *entry.naive)),
        folder=Path(out),
        left_out=tuple(left_out),
    )


def leaderboard(out: Path | str = "reports") -> Results:
    """All records in a folder that fit; a `LeftOutWarning` names the others.

    Raises:
        UserError: there are none.
    """
    store = Store(Path(out))
    records = floors.read(store)
    if not records:
        raise nothing_left(
            f"{out} holds no records; evaluate(..., out={str(out)!r}) makes some", store
        )
    return Results(tuple(records), Path(out))


def _job(options: dict[str, Any], *, quiet: bool, **where: Any) -> Job:
    """Where and how to run; takes what it needs out of the options."""
    root = options.pop("data_root", None)
    for name in ("accept_unverified", "strict", "fail_fast", "skip_failed"):
        where[name] = bool(options.pop(name, False))
    where["batch_size"] = str(options.pop("batch_size", "auto"))
    where["jobs"] = str(options.pop("jobs", 1))
    where["executor"] = options.pop("executor", "local")
    for name in ("threads", "shard", "address", "gpus", "slurm"):
        where[name] = options.pop(name, None)
    return Job(
        data_root=None if root is None else Path(root), display=Display(quiet=quiet), **where
    )
