"""What the terminal shows of one record, and of what `medrobust diagnose` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.listings import assigned
from robustbench_med.cli.searches import called, rounds
from robustbench_med.naming import nature
from robustbench_med.reports import floors
from robustbench_med.reports.marks import marks
from robustbench_med.store.attacks import AttackRan, Challenge, Sign
from robustbench_med.store.record import SHORT, Record
from robustbench_med.store.words import Trust

TRUST_STYLE = {"failed": "red", "doubtful": "yellow"}
"""How rows and signs are printed, by word."""


def record(measured: Record, doubts: Sequence[str] = ()) -> RenderableType:
    """One record in full.

    Args:
        doubts: marks that other records of its folder give it.
    """
    head = Table(show_header=False, title=f"record {measured.hash}", title_justify="left", box=None)
    for name, text in _facts(measured, doubts).items():
        head.add_row(name, escape(text))
    signs = [_signs(measured.diagnostics)] if measured.diagnostics else []
    challenges = [_challenges(measured.challenges)] if measured.challenges else []
    ran = measured.attack_ran
    search = [rounds(ran.search)] if ran and ran.search else []
    return Group(head, _figures(measured), *search, *signs, *challenges)


def _facts(measured: Record, doubts: Sequence[str]) -> dict[str, str]:
    """What was measured and how, in words."""
    spec, cost, environment = measured.spec, measured.cost, measured.environment
    data, ran = spec.data, measured.attack_ran
    fold = f", fold {data.fold.number} of {data.fold.of}" if data.fold else ""
    return {
        "victim": (
            f"{spec.victim.model} ({assigned(spec.victim.params)}), weights"
            f" {spec.victim.checkpoint} from the {measured.victim.origin}"
        ),
        "data": (
            f"{data.name}{nature(data.name, synthetic=measured.synthetic)},"
            f" split {data.split}{fold}, n = {data.n}, {data.size} px,"
            f" manifest {data.manifest[:SHORT]}"
        ),
        "threat": (
            f"{spec.threat.norm_label}, eps {measured.eps}, target {' + '.join(measured.targets)}"
        ),
        "attack": called(spec.attack.name, spec.attack.params),
        **({"ran": _ran(ran)} if ran and (ran.members or ran.losses) else {}),
        **({"carried": _carried(measured)} if measured.spec.carried else {}),
        "protocol": (
            f"{spec.protocol.name}, {measured.draws} draw(s) a prediction,"
            f" {'stochastic' if measured.stochastic else 'deterministic'} victim, seed {spec.seed}"
        ),
        **_believed(measured.trust),
        **_marks(measured, doubts),
        "notes": "; ".join(measured.notes) or "none",
        "passes": (
            f"{cost.attack_forward_per_sample:.0f} forward,"
            f" {cost.attack_backward_per_sample:.0f} backward per attacked sample"
        ),
        "seconds": f"{cost.seconds:.1f} on {environment.device}",
        "versions": ", ".join(
            f"{name} {version}" for name, version in environment.versions.items()
        ),
        "again": measured.command,
    }


def _believed(found: Trust) -> dict[str, str]:
    """The word, with everything that it rests on, all samples named; and the worst case of all rows
    of the victim and threat.
    """
    worst = {} if found.worst_case is None else {"worst case": f"{found.worst_case:.3f}"}
    why = "\n".join(found.in_full) or found.because
    return {"trust": found.word or "-", **({"why": why} if why else {}), **worst}


def _marks(measured: Record, doubts: Sequence[str]) -> dict[str, str]:
    """What to know before believing it, and the constant answer's figures beside its own."""
    floor = floors.of([measured])
    constant = (
        "not known: the record does not say how many samples each class has"
        if floor is None
        else f"accuracy {floor.accuracy:.3f}, balanced accuracy {floor.balanced_accuracy:.3f}, AUC"
        f" {floor.auc:.3f}, before and after any attack"
    )
    shown = "; ".join([*marks([measured]), *doubts]) or "none"
    return {"marks": shown, floors.CONSTANT: constant}


FIGURES = {
    "clean": "clean",
    "robust": "robust",
    "robust_vote": "robust vote",
    "asr": "asr",
    "clean_balanced_accuracy": "clean balanced accuracy",
    "balanced_accuracy": "robust balanced accuracy",
    "clean_auc": "clean auc",
    "auc": "robust auc",
}
"""A record's figures by task, and what they are called."""


def _figures(measured: Record) -> Table:
    """A row a task, the first two figures with their intervals."""
    table = Table(title="figures", title_justify="left")
    table.add_column("task")
    for name in (*FIGURES.values(), floors.CONSTANT):
        table.add_column(name, justify="right")
    for t, (name, task) in enumerate(
        zip(measured.names.tasks, measured.figures.tasks, strict=True)
    ):
        cells = [number(getattr(task, figure)) for figure in FIGURES]
        for i, (low, high) in enumerate((task.clean_interval, task.robust_interval)):
            cells[i] += f" [{low:.3f}, {high:.3f}]"
        cells.append(number(floors.accuracy_at(measured, t)))
        table.add_row(escape(name), *map(escape, cells))
    return table


def _ran(ran: AttackRan) -> str:
    """What the attack made of its parameters: the version and members of an ensemble, the loss of
    each task.
    """
    if ran.members is None:
        return _losses(ran.losses)
    members = [f"{member.attack} {_losses(member.losses)}".strip() for member in ran.members]
    return f"{ran.version}: {'; '.join(members)}"


def _carried(measured: Record) -> str:
    """What an earlier record of a chain spared the attack."""
    after, carried = "+".join(measured.spec.attack.after), measured.carried
    before = measured.spec.carried.record[:SHORT] if measured.spec.carried else ""
    spared = (
        f", {carried.n} samples not attacked again, of {carried.afresh} attacked afresh"
        f" {carried.withstood} withstood"
        if carried
        else ""
    )
    return f"from record {before}{f', after {after}' if after else ''}{spared}"


def _losses(by_task: Mapping[str, str] | None) -> str:
    return ", ".join(f"{loss} on {task}" for task, loss in (by_task or {}).items())


def _signs(signs: Sequence[Sign], title: str = "diagnostics") -> Table:
    """The signs that an attack failed, with advice where one did."""
    table = Table(title=escape(title), title_justify="left")
    for name in ("sign", "verdict", "measured", "advice"):
        table.add_column(name)
    for sign in signs:
        advice = "" if sign.verdict == "fine" else sign.advice
        cells = (sign.sign, sign.verdict, sign.text, advice)
        table.add_row(*map(escape, cells), style=TRUST_STYLE.get(sign.verdict))
    return table


def _challenges(challenges: Sequence[Challenge]) -> Table:
    """What challengers broke of what the attack left."""
    table = Table(title="challengers", title_justify="left")
    for name in ("challenger", "family", "tried", "points taken", "broke", "passes"):
        table.add_column(name)
    for one in challenges:
        points = f"{100 * one.taken:.1f}"
        if one.bound != one.taken:
            points += f" (at least {100 * one.bound:.1f})"
        cells = (one.challenger, one.family, str(one.n), points, ", ".join(one.broken) or "none")
        table.add_row(*map(escape, cells), str(one.passes))
    return table


def diagnostics(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The signs of each case of `medrobust diagnose`, the worst first, and what was not
    looked for.
    """
    shown: list[RenderableType] = []
    several = len({row["train_seed"] for row in rows}) > 1
    for row in rows:
        seed = f", training seed {row['train_seed']}" if several else ""
        where = (
            f"{row['model']}{seed} on {row['data']}, {row['norm']} {row['eps']}, target"
            f" {row['target']}, n = {row['n']}"
        )
        signs = [Sign(**sign) for sign in row["signs"]]
        shown.append(_signs(signs, f"{where}: {row['verdict']}"))
    alone = list(dict.fromkeys(row["model"] for row in rows if not row["siblings"]))
    if alone:
        shown.append(
            Text(
                "not looked for, as --source names no other victim: transfer beats white box"
                f" ({', '.join(alone)})"
            )
        )
    return Group(*shown)


def number(value: float | None) -> str:
    """A share with three digits; a dash where there is none."""
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"
