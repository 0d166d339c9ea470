"""Evaluating, comparing, diagnosing and certifying victims from Python, named or given as
objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustbench_med.api.asking import asked, loggers_in
from robustbench_med.api.results import Certified, Comparison, Diagnoses, Results
from robustbench_med.reports import floors, tables
from robustbench_med.reports.comparison import pairs
from robustbench_med.reports.comparison.write import judge
from robustbench_med.reports.gate import Verdict
from robustbench_med.runs import benchmarks, run
from robustbench_med.runs import certify as certifying
from robustbench_med.runs import compare as comparing
from robustbench_med.runs import diagnose as diagnosing
from robustbench_med.runs import gate as gating
from robustbench_med.runs.tracked import tracked
from robustbench_med.runs.wording import in_python
from robustbench_med.store import loggers, reading, tracking
from robustbench_med.store.store import Store

Models = str | nn.Module | Sequence[str | nn.Module] | Mapping[str, nn.Module]
"""A name or a network, several of them, or networks by name."""
Attack = str | Callable[..., Tensor]
Attacks = Attack | Sequence[Attack] | Mapping[str, Callable[..., Tensor]]
"""A name or a function, several of them, or functions by name."""
Defense = str | nn.Module | Callable[..., Any]
Defenses = Defense | Sequence[Defense] | Mapping[str, nn.Module | Callable[..., Any]]
"""A name, chain, module or function of images, several of them, or such by name."""


def evaluate(
    model: Models,
    attack: Attacks = "pgd",
    *,
    out: Path | str = "reports",
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Results:
    """Attacks models and stores the records; finished cells are read, not computed again.

    Args:
        model: one or several models, by name or as modules: (B, C, H, W) in [0, 1] in, one argument
            a modality; logits (B, classes), a tuple of them, or an object with `logits` out.
        attack: one or several attacks, by name or as functions (docs/how-to/own-attack.md).
        out: folder of the records.
        device: auto, cpu, cuda or mps.
        force: compute finished cells again.
        quiet: no progress bars.
        **options: any further field of a run file, such as `data` (names, or arrays as in
            `make_data`), `eps`, `norm`, `defense`, `draws`, `limit`, `attack_params`,
            `model_params`, `recipe` (docs/python.md lists all with their defaults); `name` and
            `version` of a model that is an object; `keep="all"` or "png", which keeps all attacked
            images; `mlflow`, `tensorboard`, `wandb`; and where and how to run: `data_root`,
            `accept_unverified`, `strict`, `batch_size`, `fail_fast`, `skip_failed`, `jobs`,
            `threads`, `executor`, `address`, `gpus`, `slurm`, `shard`; or `benchmark`, whose data,
            radii, attacks and seeds are taken in place of those. Cells that fail are named in a
            `LeftOutWarning` and kept in the folder's `failures/`.

    Returns:
        The records, which print as a leaderboard.

    Raises:
        UserError: an unknown name or option, a bad value, missing data; objects that cannot be
            used, or of which something cannot be seen that `version` does not stand for.

    Example:
        >>> results = evaluate("late", ["fgsm", "pgd"], eps=["1/255", "4/255"], limit=16)
        >>> results = evaluate(model, data=(images, labels), attack="adaptive", eps="4/255")
        >>> results.table
    """
    log = loggers_in(options)
    where = {"out": Path(out), "device": device, "force": force, "quiet": quiet}
    fields = {"model": model, "attack": attack, **options}
    if (benchmark := options.pop("benchmark", None)) is not None:
        with in_python():
            fields = benchmarks.filled(benchmark, {"model": model, **options})
    with asked("run", fields, **where) as (spec, job):
        loggers.check(log)
        records = run.run(spec, job)
        store = Store(Path(out))
        read = reading.together(records, store)
        loggers.write(tracked(records, Path(out)), log)
    return Results(tuple(floors.counted(read, store.arrays)), Path(out))


def compare(
    model: Models,
    defense: Defenses,
    attack: Attacks = "pgd",
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
        model: one or several models, by name or as modules.
        defense: one or several defences or chains (`pgd-at+jpeg`), or modules and functions of
            images (B, C, H, W) in front of the network; one that suits some of the models is left
            out for the others.
        attack: one or several attacks, by name or as functions.
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
        >>> compare("late", ["bit-depth", "jpeg"], "fgsm", eps="8/255", limit=16).verdict
    """
    log = loggers_in(options)
    where = {"out": Path(out), "device": device, "force": force, "quiet": quiet}
    fields = {"model": model, "defense": defense, "attack": attack, **options}
    with asked("compare", fields, **where) as (spec, job):
        loggers.check(log)
        entries, left_out = comparing.compare(spec, job)
        judged = judge(entries, Path(out))
        records = tuple(record for entry in entries for record in (*entry.records, *entry.naive))
        loggers.write(tracked(records, Path(out)), log)
    return Comparison(
        table=tables.written(judged.table),
        pairs=pairs.frame(judged.pairs),
        verdict=judged.verdict,
        records=records,
        folder=Path(out),
        left_out=tuple(left_out),
        judged=judged.table,
    )


def gate(
    model: Models,
    attack: Attacks = "adaptive",
    *,
    min: Mapping[str, float] | None = None,  # noqa: A002
    max: Mapping[str, float] | None = None,  # noqa: A002
    on: str = "interval",
    trust: str = "unchallenged",
    min_samples: int = 16,
    out: Path | str = "reports",
    **options: Any,
) -> Verdict:
    """Asks bounds of models' figures: runs what is missing, and answers yes, no or not known.

    Args:
        model: as in `evaluate`.
        attack: as in `evaluate`.
        min: figures with what they must reach, such as {"robust": 0.6,
            "sensitivity@malignant": 0.9}.
        max: figures with what they must not exceed, such as {"ece": 0.1} (docs/gate.md).
        on: "interval": asked of the worse end of the 95 % interval; "point": of the figure.
        trust: the least word that a robust figure needs.
        min_samples: test samples that a victim needs.
        out: folder of the records; gate.xml (JUnit) and gate.sarif are written there.
        **options: as for `evaluate`, `device`, `force` and `quiet` among them.

    Returns:
        The verdict, true where all bounds hold: `code` (0 all hold, 1 one fails, 3 no answer),
        `rows`, `table`.

    Raises:
        UserError: as `evaluate`; no bound, or one on a figure that there is not.

    Example:
        >>> print(gate(model, data=(images, labels), eps="2/255", min={"robust": 0.6}))
    """
    with in_python():
        bounds = gating.bounds_of(min or {}, max or {})
        terms = gating.terms_of(on, trust, min_samples)
    where = {"device": options.pop("device", "auto"), "force": options.pop("force", False)}
    where |= {"out": Path(out), "quiet": options.pop("quiet", False)}
    with asked("gate", {"model": model, "attack": attack, **options}, **where) as (spec, job):
        return gating.gate(spec, job, bounds, terms)


def diagnose(
    model: Models,
    *,
    out: Path | str = "reports",
    device: str = "auto",
    quiet: bool = False,
    **options: Any,
) -> Diagnoses:
    """Looks for signs that attacks fail on victims: can their robust accuracy be trusted?

    Args:
        model: one or several models, by name or as modules.
        out: folder in which the signs are kept, and hold against the rows of `evaluate`.
        device: auto, cpu, cuda or mps.
        quiet: no progress bars.
        **options: any further field of `medrobust diagnose`: `data`, `defense`, `eps`, `norm`,
            `source`, `limit`, `steps`, `queries`, `eot`; `name` and `version` as in `evaluate`.

    Returns:
        The signs of each victim and threat, which print with what is doubtful.

    Raises:
        UserError: as `evaluate`.

    Example:
        >>> diagnose(model, data=(images, labels), eps="4/255").rows[0]["verdict"]
    """
    where = {"out": Path(out), "device": device, "quiet": quiet}
    with asked("diagnose", {"model": model, **options}, **where) as (spec, job):
        return Diagnoses(tuple(diagnosing.diagnose(spec, job)), Path(out))


def certify(
    model: Models,
    *,
    out: Path | str = "reports",
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Certified:
    """Certifies smoothed victims (Cohen et al., arXiv 1902.02918): L2 radii that no attack can
    beat.

    Args:
        model: one or several models, by name or as modules; a module gets Gaussian noise in front
            (`defense="input-noise"`), since `smoothing` trains with it.
        out: folder of the certificates.
        device: auto, cpu, cuda or mps.
        force: certify again what is there.
        quiet: no progress bars.
        **options: any further field of `medrobust certify`: `data`, `defense`, `sigma`, `n0`, `n`,
            `alpha`, `per_modality`, `limit`, ...; `name`, `version` and loggers as in `evaluate`.

    Returns:
        The certificates, which print as a table.

    Raises:
        UserError: as `evaluate`; a defence without Gaussian noise on the input.

    Example:
        >>> certify(model, data=(images, labels), sigma=0.25).table
    """
    log = loggers_in(options)
    where = {"out": Path(out), "device": device, "force": force, "quiet": quiet}
    with asked("certify", {"model": model, **options}, **where) as (spec, job):
        loggers.check(log)
        records = certifying.certify(spec, job)
        loggers.write([tracking.of_certificate(each) for each in records], log)
    return Certified(tuple(records), Path(out))
