"""What the terminal shows of results: the leaderboard, a record, a comparison, certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.listings import assigned
from robustbench_med.cli.searches import called, rounds
from robustbench_med.reports import floors
from robustbench_med.reports.claims import Finding
from robustbench_med.reports.comparison.metrics import METRICS
from robustbench_med.reports.comparison.table import attacks, interval, with_constant
from robustbench_med.reports.families import victim_name
from robustbench_med.reports.tables import by_engine, each, marks, named, trust
from robustbench_med.store.attacks import AttackRan
from robustbench_med.store.merge import Merged
from robustbench_med.store.record import CONTROL, SHORT, Record, Sign

if TYPE_CHECKING:
    from robustbench_med.reports.comparison.page import Page  # it draws: slow to import


def leaderboard(frame: pd.DataFrame) -> RenderableType:
    """One table a data set, threat and protocol; best first within each radius and attack, the
    constant answer last.
    """
    frame = named(frame)
    return Group(
        *(
            _leaderboard(group)
            for _, group in frame.groupby(
                ["data", "size", "n", "norm", "target", "protocol"], sort=True
            )
        )
    )


def _leaderboard(group: pd.DataFrame) -> Table:
    first = group.iloc[0]
    synthetic = " (synthetic)" if group.synthetic.any() else ""
    title = (
        f"{first['data']}{synthetic}, {first['size']} px, {first.norm}, target {first.target},"
        f" protocol {first.protocol}, n = {first.n}"
    )
    table = Table(title=title, title_justify="left", show_lines=True)
    for name in ("attack, eps", "model", "clean", "robust", "trust, marks"):
        table.add_column(name, overflow="fold")
    group = group.assign(control=group.attack != CONTROL)
    group = group.sort_values(
        ["eps_value", "eps", "control", "attack", "rank", "model"], kind="stable"
    )
    for _, row in group.iterrows():
        spread = ""
        if pd.notna(row.robust_std):
            spread = f"± {row.robust_std:.3f} ({row.trainings} trainings)"
        accuracy, *others = _stacked(row.robust, row.balanced_accuracy, row.auc)
        between = f"{row.robust_low:.3f} - {row.robust_high:.3f}"
        cells = [
            [by_engine(row.attack, row.engine), row.eps],
            [row.model, f"{row.gflops:.3g} GFLOPs", f"{row.draws} draws"],
            _stacked(row.clean, row.clean_balanced_accuracy, row.clean_auc),
            [accuracy, spread, between, *others, f"ASR {_number(row.asr)}"],
            [row.trust, row.marks],
        ]
        table.add_row(
            *(escape("\n".join(filter(None, lines))) for lines in cells),
            style="dim" if row.attack == CONTROL else _TRUST_STYLE.get(row.trust),
        )
    for floor in each(floors.rows(group)):
        clean = _stacked(floor.clean, floor.clean_balanced_accuracy, floor.clean_auc)
        robust = _stacked(floor.robust, floor.balanced_accuracy, floor.auc)
        shown = ("\n".join(clean), "\n".join(robust))
        table.add_row("-", floor.model, *shown, "", style="dim")
    return table


def _stacked(accuracy: float, balanced_accuracy: float, auc: float | None) -> list[str]:
    """Accuracy, and what stands below it in its cell."""
    return [
        _number(accuracy),
        f"bal. {_number(balanced_accuracy)}",
        f"AUC {_number(auc)}",
    ]


def board(frame: pd.DataFrame, warnings: Sequence[str]) -> RenderableType:
    """The leaderboard, with what is odd about its records below."""
    return warned(leaderboard(frame), warnings)


def warned(shown: RenderableType, warnings: Sequence[str]) -> RenderableType:
    """What is shown, with warnings below."""
    return Group(shown, *(Text(f"warning: {warning}", "yellow") for warning in warnings))


def record(measured: Record, doubts: Sequence[str] = ()) -> RenderableType:
    """One record in full.

    Args:
        doubts: marks that other records of its folder give it.
    """
    head = Table(show_header=False, title=f"record {measured.hash}", title_justify="left", box=None)
    for name, text in _facts(measured, doubts).items():
        head.add_row(name, escape(text))
    signs = [_signs(measured.diagnostics)] if measured.diagnostics else []
    ran = measured.attack_ran
    search = [rounds(ran.search)] if ran and ran.search else []
    return Group(head, _figures(measured), *search, *signs)


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
            f"{data.name}{' (synthetic)' if measured.synthetic else ''}, split {data.split}{fold},"
            f" n = {data.n}, {data.size} px, manifest {data.manifest[:SHORT]}"
        ),
        "threat": (
            f"{spec.threat.norm}, eps {measured.eps}, target {' + '.join(measured.targets)}"
        ),
        "attack": called(spec.attack.name, spec.attack.params),
        **({"ran": _ran(ran)} if ran and (ran.members or ran.losses) else {}),
        "protocol": (
            f"{spec.protocol.name}, {measured.draws} draw(s) a prediction,"
            f" {'stochastic' if measured.stochastic else 'deterministic'} victim, seed {spec.seed}"
        ),
        "trust": trust([measured]),
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
        cells = [_number(getattr(task, figure)) for figure in FIGURES]
        for i, (low, high) in enumerate((task.clean_interval, task.robust_interval)):
            cells[i] += f" [{low:.3f}, {high:.3f}]"
        cells.append(_number(floors.accuracy_at(measured, t)))
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


def _losses(by_task: Mapping[str, str] | None) -> str:
    return ", ".join(f"{loss} on {task}" for task, loss in (by_task or {}).items())


def _signs(signs: Sequence[Sign], title: str = "diagnostics") -> Table:
    """The signs that an attack failed, with advice where one did."""
    table = Table(title=escape(title), title_justify="left")
    for name in ("sign", "verdict", "measured", "advice"):
        table.add_column(name)
    for sign in signs:
        advice = sign.advice if sign.verdict != "pass" else ""
        cells = (sign.sign, sign.verdict, sign.text, advice)
        table.add_row(*map(escape, cells), style=_TRUST_STYLE.get(sign.verdict))
    return table


def claims(findings: Sequence[Finding]) -> RenderableType:
    """`medrobust claims`."""
    table = Table(
        title="published claims",
        title_justify="left",
        caption="What decides a claim, and all numbers: claims.md, claims.csv.",
    )
    for name in ("claim", "verdict", "reported", "measured", "because"):
        table.add_column(name, justify="right" if name in ("reported", "measured") else "left")
    styles = {"reproduced": "green", "not reproduced": "red", "not testable here": "dim"}
    for f in findings:
        measured = f"{f.evidence[0].measured:.1%}" if f.evidence else "-"
        because = f"{f.reason}; {f.evidence[0].text}" if f.evidence else f.reason
        table.add_row(
            *map(escape, (f.claim.claim, f.verdict, f"{f.claim.reported:.1%}", measured, because)),
            style=styles[f.verdict],
        )
    return table


def merged(result: Merged, out: str) -> RenderableType:
    """`medrobust merge`."""
    line = (
        f"{result.copied} records and certificates copied to {out}, {result.same} were there with"
        " the same figures, "
    )
    line += f"{len(result.conflicts)} conflicts"
    if not result.conflicts:
        return Text(line)
    table = Table(
        title=(
            "conflicts: the same specification, measured differently; what the target has was kept"
        ),
        title_justify="left",
    )
    for name in ("record", "from", "figure", "kept", "not taken"):
        table.add_column(name)
    for c in result.conflicts:
        table.add_row(
            *map(
                escape, (c.hash[:SHORT], str(c.source), c.what, f"{c.ours:.4f}", f"{c.theirs:.4f}")
            )
        )
    return Group(Text(line), table)


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
        shown.append(_signs(signs, f"{where}: {row['trust']}"))
    alone = list(dict.fromkeys(row["model"] for row in rows if not row["siblings"]))
    if alone:
        shown.append(
            Text(
                "not looked for, as --source names no other victim: transfer beats white box"
                f" ({', '.join(alone)})"
            )
        )
    return Group(*shown)


def certificates(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """`medrobust certify`."""
    first = rows[0]
    title = f"certificates, n0 = {first['n0']}, n = {first['draws']}, alpha = {first['alpha']:g}"
    table = Table(title=title, title_justify="left")
    for name in (
        "model",
        "data",
        "sigma",
        "noise on",
        "task",
        "samples",
        "abstained",
        "certified right",
        "mean radius",
        "largest",
    ):
        table.add_column(
            name, justify="left" if name in ("model", "data", "noise on", "task") else "right"
        )
    for row in rows:
        texts = (
            victim_name(row["model"], row["variant"]),
            row["data"],
            f"{row['sigma']:g}",
            row["noised"],
            row["task"],
        )
        numbers = [
            f"{row[key]:.3f}"
            for key in ("abstained", "certified_accuracy", "average_radius", "largest_radius")
        ]
        table.add_row(*map(escape, texts), str(row["n"]), *numbers)
    doubts = [
        f"{row['model']}, sigma {row['sigma']:g}, {row['noised']}, {row['task']}: {row['trivial']}"
        for row in rows
        if row["trivial"]
    ]
    return Group(
        table,
        *(Text(f"trivial, its certificates mean nothing: {doubt}", "yellow") for doubt in doubts),
    )


def page(text: str) -> RenderableType:
    """A page of Markdown."""
    return Markdown(text)


def comparison(table: pd.DataFrame, page: Page) -> RenderableType:
    """A comparison in 80 columns: its table, a victim under one threat a row, then what its page
    says beside tables.
    """
    shown = Table(show_lines=True)
    for name in ("victim", "data, threat", "accuracy", "cost", "trust"):
        shown.add_column(name, overflow="fold")
    for _, row in with_constant(table).iterrows():
        constant = row.model == floors.CONSTANT
        figures = {
            "clean": _number(row.clean),
            **{name: _number(row[name]) for name in attacks(table)},
            "worst": interval(row, METRICS["robust"]),
            "worst, balanced": interval(row, METRICS["balanced_accuracy"]),
            "worst, AUC": _number(row.worst_auc),
            "naive": _number(row.naive),
        }
        costs = [] if constant else [f"{row.gflops:.3g} GFLOPs"]
        costs += [
            f"{row[key]:.1f} x {what}"
            for key, what in (("training_x", "training"), ("latency_x", "latency"))
            if pd.notna(row[key])
        ]
        cells = [
            row.model if constant else f"{row.model}\nwith {row.defense}",
            f"{row['data']}\n{row.norm} {row.eps}\nn {row.n}"
            + ("" if constant else f", trainings {row.trainings}")
            + ("\nsynthetic" if row.synthetic else ""),
            "\n".join(f"{name} {figure}" for name, figure in figures.items() if figure != "-"),
            "\n".join(costs),
            "\n".join(part for part in (row.trust, row.worst_sign, row.marks) if part),
        ]
        shown.add_row(*map(escape, cells), style=_TRUST_STYLE.get(row.trust))
    return Group(Markdown(page.head), shown, Markdown(page.rest))


_TRUST_STYLE = {"fail": "red", "warn": "yellow"}


def _number(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"
