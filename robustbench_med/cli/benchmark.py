"""`medrobust benchmark`: which benchmarks there are, and what a row of one needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import make_display

if TYPE_CHECKING:
    from rich.console import RenderableType

    from robustbench_med.store.benchmark import Benchmark

benchmark_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Benchmarks: data, threats and a reference set of attacks with a name and a version. The"
        " leaderboard ranks within them."
    ),
)


@benchmark_app.command("list")
def benchmark_list(as_json: AsJson = False) -> None:
    """The benchmarks that can be named with `medrobust run --benchmark`."""
    from robustbench_med.store.benchmark import benchmarks

    known = list(benchmarks().values())
    if as_json:
        show_json([{**each.model_dump(mode="json"), "hash": each.hash} for each in known])
    else:
        make_display(False).show(_listed(known))


@benchmark_app.command("show")
def benchmark_show(
    name: Annotated[str, typer.Argument(help="Its name, such as phantoms-v1.")],
    as_json: AsJson = False,
) -> None:
    """One benchmark: its samples, threats, reference set, seeds, and how to put a model on it.

    [bold]Example[/]: medrobust benchmark show phantoms-v1
    """
    from robustbench_med.store.benchmark import benchmark

    found = benchmark(name)
    if as_json:
        show_json({**found.model_dump(mode="json"), "hash": found.hash})
    else:
        make_display(False).show(_explained(found))


def _listed(known: list[Benchmark]) -> RenderableType:
    from rich.table import Table

    table = Table(title="benchmarks", title_justify="left")
    table.add_column("name", no_wrap=True)
    for name in ("data", "n, px", "radii", "attacks"):
        table.add_column(name, overflow="fold")
    for each in known:
        threats = "\n".join(f"{t.norm} {', '.join(t.eps)}" for t in each.threats)
        data = each.data.name + (" (synthetic)" if each.synthetic else "")
        attacks = ", ".join(wanted.attack for wanted in each.reference)
        table.add_row(each.name, data, f"{each.data.n}, {each.data.size}", threats, attacks)
    return table


def _explained(found: Benchmark) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    data = found.data
    table = Table(show_header=False, box=None, title=found.name, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    published = [f"{name}, md5 {md5}" for name, md5 in data.published.items()]
    facts = {
        "what": f"{found.title}. {found.description}",
        "data": f"{data.name}{' (synthetic)' if found.synthetic else ''}, split {data.split},"
        f" first {data.n} samples, {data.size} px",
        "files": "\n".join(published),
        "manifest": data.manifest or "of the published files",
        "threats": "\n".join(
            f"{t.norm} {', '.join(t.eps)}, target {t.target}" for t in found.threats
        ),
        "predictions": f"protocol {found.protocol}, {found.draws} draws of a random victim",
        "attacks": "\n".join(_reference(found)),
        "seeds": f"evaluation {', '.join(map(str, found.seeds))}; {found.trainings} trainings"
        " are run",
        "hash": found.hash,
        "run": f"medrobust run --benchmark {found.name} --model NAME",
    }
    for name, text in facts.items():
        if text:
            table.add_row(f"[bold]{name}[/]", escape(text))
    return table


def _reference(found: Benchmark) -> list[str]:
    """The attacks without which a row has no rank."""
    lines = []
    for wanted in found.reference:
        params = " ".join(f"{key}={value}" for key, value in wanted.params.items())
        budget = f"--max-passes {wanted.max_passes} at least" if wanted.max_passes else params
        files = " ".join(f"{file}:{number}" for file, number in wanted.revision.items())
        lines.append(f"{wanted.attack} ({budget}): {wanted.why}; revisions {files}")
    return lines
