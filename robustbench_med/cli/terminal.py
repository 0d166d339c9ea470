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
from robustbench_med.naming import radius_label
from robustbench_med.reports.claims import Finding
from robustbench_med.reports.comparison.table import attacks
from robustbench_med.reports.families import victim_name
from robustbench_med.reports.tables import by_engine, marks, named, trust
from robustbench_med.store.merge import Merged
from robustbench_med.store.store import Record

if TYPE_CHECKING:
    from robustbench_med.reports.comparison.page import Page  # it draws: slow to import


def leaderboard(frame: pd.DataFrame) -> RenderableType:
    """One table a data set, threat and protocol; best first within each radius and attack."""
    tables: list[RenderableType] = []
    frame = named(frame)
    for (data, size, n, norm, target, protocol), group in frame.groupby(
        ["data", "size", "n", "norm", "target", "protocol"], sort=True
    ):
        synthetic = " (synthetic)" if group.synthetic.any() else ""
        table = Table(
            title=(
                f"{data}{synthetic}, {size} px, {norm}, target {target}, protocol {protocol}, n"
                f" = {n}"
            ),
            title_justify="left",
        )
        for name in ("eps", "attack", "model"):
            table.add_column(name, no_wrap=True)
        for name in (
            "clean",
            "robust",
            "95 % interval",
            "ASR",
            "bal. acc.",
            "AUC",
            "draws",
            "GFLOPs",
        ):
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("trust", "marks"):
            table.add_column(name, no_wrap=name == "trust")
        group = group.assign(control=group.attack != "noise")
        group = group.sort_values(
            ["eps_value", "eps", "control", "attack", "rank", "model"], kind="stable"
        )
        last = None
        for _, row in group.iterrows():
            if last not in (None, (row.eps, row.attack)):
                table.add_section()
            last = (row.eps, row.attack)
            attack = by_engine(row.attack, row.engine)
            spread = (
                ""
                if pd.isna(row.robust_std)
                else f" ± {row.robust_std:.3f} ({row.trainings} trainings)"
            )
            cells = [row.eps, attack, row.model, _number(row.clean), _number(row.robust) + spread]
            cells += [
                f"{row.robust_low:.3f} - {row.robust_high:.3f}",
                _number(row.asr),
                _number(row.balanced_accuracy),
                _number(row.auc),
            ]
            cells += [str(row.draws), f"{row.gflops:.3f}", row.trust, row.marks]
            table.add_row(
                *map(escape, cells),
                style="dim" if row.attack == "noise" else _TRUST_STYLE.get(row.trust),
            )
        tables.append(table)
    return Group(*tables)


def board(frame: pd.DataFrame, warnings: Sequence[str]) -> RenderableType:
    """The leaderboard, with what is odd about its records below."""
    return warned(leaderboard(frame), warnings)


def warned(shown: RenderableType, warnings: Sequence[str]) -> RenderableType:
    """What is shown, with warnings below."""
    return Group(shown, *(Text(f"warning: {warning}", "yellow") for warning in warnings))


def record(found: Record) -> RenderableType:
    """One record in full."""
    head = Table(show_header=False, title=f"record {found['hash']}", title_justify="left", box=None)
    for name, text in _facts(found).items():
        head.add_row(name, escape(text))
    signs = [_signs(found["diagnostics"])] if found.get("diagnostics") else []
    return Group(head, _figures(found), *signs)


def _facts(found: Record) -> dict[str, str]:
    """What was measured and how, in words."""
    spec, names = found["spec"], found["names"]
    held_out = spec["data"].get("fold")
    fold = f", fold {held_out['number']} of {held_out['of']}" if held_out else ""
    return {
        "victim": (
            f"{spec['victim']['model']} ({assigned(spec['victim']['params'])}), weights"
            f" {spec['victim']['weights_sha256'][:12]} from the {found['victim']['origin']}"
        ),
        "data": (
            f"{spec['data']['name']}{' (synthetic)' if found['synthetic'] else ''}, split"
            f" {spec['data']['split']}{fold},"
            f" n = {spec['data']['n']}, {spec['data']['size']} px, manifest"
            f" {spec['data']['manifest'][:12]}"
        ),
        "threat": (
            f"{spec['threat']['norm']}, eps"
            f" {radius_label(spec['threat']['radii'], names['modalities'])}, target"
            f" {' + '.join(names['tasks'][t] for t in spec['threat']['tasks'])}"
        ),
        "attack": f"{spec['attack']['name']} ({assigned(spec['attack']['params'])})",
        **({"ran": _ran(found["attack_ran"])} if "attack_ran" in found else {}),
        "protocol": (
            f"{spec['protocol']['name']}, {found['draws']} draw(s) a prediction,"
            f" {'stochastic' if found['stochastic'] else 'deterministic'} victim, seed"
            f" {spec['seed']}"
        ),
        "trust": trust([found]),
        "marks": "; ".join(marks([found])) or "none",
        "notes": "; ".join(found["notes"]) or "none",
        "passes": (
            f"{found['cost']['attack_forward_per_sample']:.0f} forward,"
            f" {found['cost']['attack_backward_per_sample']:.0f} backward per attacked sample"
        ),
        "seconds": f"{found['cost']['seconds']:.1f} on {found['environment']['device']}",
        "versions": ", ".join(
            f"{name} {version}" for name, version in found["environment"]["versions"].items()
        ),
        "again": found["command"],
    }


FIGURES = (
    "clean",
    "robust",
    "robust_vote",
    "asr",
    "clean_balanced_accuracy",
    "balanced_accuracy",
    "clean_auc",
    "auc",
)


def _figures(found: Record) -> Table:
    """A row a task, the first two figures with their intervals."""
    table = Table(title="figures", title_justify="left")
    table.add_column("task")
    for name in FIGURES:
        table.add_column(name.replace("_", " "), justify="right")
    for name, task in zip(found["names"]["tasks"], found["figures"]["tasks"], strict=True):
        cells = [_number(task[key]) for key in FIGURES]
        for i, key in ((0, "clean_interval"), (1, "robust_interval")):
            cells[i] += f" [{task[key][0]:.3f}, {task[key][1]:.3f}]"
        table.add_row(escape(name), *map(escape, cells))
    return table


def _ran(made: Mapping[str, Any]) -> str:
    """What the attack made of its parameters: the version and members of an ensemble, the loss of
    each task.
    """
    if "members" in made:
        return (
            f"{made['version']}:"
            f" {'; '.join(' '.join((m['attack'], _ran(m))).strip() for m in made['members'])}"
        )
    return ", ".join(f"{loss} on {task}" for task, loss in made.get("losses", {}).items())


def _signs(diagnostics: Sequence[Mapping[str, Any]], title: str = "diagnostics") -> Table:
    """The signs that an attack failed, with advice where one did."""
    table = Table(title=escape(title), title_justify="left")
    for name in ("sign", "verdict", "measured", "advice"):
        table.add_column(name)
    for sign in diagnostics:
        advice = sign["advice"] if sign["verdict"] != "pass" else ""
        cells = (sign["sign"], sign["verdict"], sign["text"], advice)
        table.add_row(*map(escape, cells), style=_TRUST_STYLE.get(sign["verdict"]))
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
            *map(escape, (c.hash[:12], str(c.source), c.what, f"{c.ours:.4f}", f"{c.theirs:.4f}"))
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
        shown.append(_signs(row["signs"], f"{where}: {row['trust']}"))
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
    for _, row in table.iterrows():
        figures = {
            "clean": _number(row.clean),
            **{name: _number(row[name]) for name in attacks(table)},
        }
        figures |= {
            "worst": f"{row.worst:.3f} [{row.worst_low:.3f}, {row.worst_high:.3f}]",
            "naive": _number(row.naive),
        }
        costs = [f"{row.gflops:.3g} GFLOPs"]
        costs += [
            f"{row[key]:.1f} x {what}"
            for key, what in (("training_x", "training"), ("latency_x", "latency"))
            if pd.notna(row[key])
        ]
        cells = [
            f"{row.model}\nwith {row.defense}",
            f"{row['data']}\n{row.norm} {row.eps}\nn {row.n}, trainings {row.trainings}"
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
