"""What the terminal shows of what can be named: models with their costs, attacks, defences, data
sets and suites.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # torch behind them takes seconds to import
    from robustbench_med.attacks.engines.library import Library
    from robustbench_med.data.suites import Suite
    from robustbench_med.runs.cached import CacheEntry

ON_PARAMETERS = (
    "Costs are for two grey modalities and tasks of 4 and 3 classes. Arguments: --model-param"
    " NAME=VALUE."
)


def models(rows: Sequence[Mapping[str, Any]], preset: str, description: str) -> RenderableType:
    """What `--model` takes."""
    table = Table(
        title=escape(f"models, preset {preset}: {description}"),
        title_justify="left",
        caption=ON_PARAMETERS,
    )
    for name in ("model", "parameters", "GFLOPs", "GMACs", "stochastic", "paper", "arguments"):
        table.add_column(
            name, justify="right" if name in ("parameters", "GFLOPs", "GMACs") else "left"
        )
    for row in rows:
        table.add_row(
            row["model"],
            *_size(row),
            "yes" if row["stochastic"] else "no",
            row["paper"],
            escape(assigned(row["arguments"])),
        )
    return table


def costs(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """`medrobust cost`."""
    table = Table(
        title=f"cost of one sample, {rows[0]['size']} px, on {rows[0]['device']}",
        title_justify="left",
    )
    for name in ("model", "parameters", "GFLOPs", "GMACs", "latency ms", "peak memory MiB"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in rows:
        table.add_row(
            row["model"],
            *_size(row),
            f"{row['latency_ms']:.1f}",
            f"{row['peak_memory_mib']:.1f}",
        )
    return table


def attacks(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What `--attack` takes."""
    caption = "Parameters: --attack-param NAME=VALUE. EOT is set by the protocol."
    return _attacks("attacks", rows, caption)


def own_threats(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What `--attack` takes besides: threats that the leaderboard does not hold."""
    caption = "In a section of their own on the board (docs/patches.md)."
    return _attacks("threats of their own", rows, caption)


def _attacks(title: str, rows: Sequence[Mapping[str, Any]], caption: str) -> Table:
    table = Table(title=title, title_justify="left", caption=caption)
    for name in ("attack", "what it does", "parameters and defaults"):
        table.add_column(name)
    for row in rows:
        parameters = escape(assigned(row["parameters"]) or "-")
        table.add_row(row["name"], escape(row["summary"]), parameters)
    return table


def corruptions(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What `--attack` takes besides: artefacts that no adversary chooses."""
    table = Table(
        title="corruptions",
        title_justify="left",
        caption="--attack corruptions: all that suit the data. Each at five severities, or at one:"
        " --attack-param severity=3.",
    )
    for name in ("corruption", "what it does"):
        table.add_column(name)
    for row in rows:
        table.add_row(row["name"], escape(row["summary"]))
    return table


def defenses(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What `--defense` takes."""
    table = Table(
        title="defences",
        title_justify="left",
        caption="Join with +, e.g. pni+pgd-at. Parameters: --defense-param NAME=VALUE.",
    )
    for name in ("defence", "changes", "what it does", "parameters and defaults"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            row["name"],
            row["kind"],
            escape(row["summary"]),
            escape(assigned(row["parameters"]) or "-"),
        )
    return table


def engines(libraries: Iterable[Library]) -> RenderableType:
    """`medrobust engines list`."""
    table = Table(
        title="engines",
        title_justify="left",
        caption="For --engine, beside native, which needs none of them.",
    )
    for name in ("engine", "version", "how to get it", "what it is for"):
        table.add_column(name)
    for library in libraries:
        table.add_row(
            library.name,
            library.installed or "absent",
            escape(library.how_to_get),
            escape(library.purpose),
        )
    return table


def datasets(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """`medrobust data list`."""
    table = Table(
        title="data sets",
        title_justify="left",
        caption=(
            "* one of the twenty. Pair sets with +, e.g. --data breastmnist+pneumoniamnist; --data"
            " all20 pairs the twenty."
        ),
    )
    for name in ("id", "modalities", "images", "classes", "licence", "access", "on disk"):
        table.add_column(name)
    for row in rows:
        cells = [
            row["id"] + (" *" if row["twenty"] else ""),
            *(
                row[key]
                for key in ("modalities", "images", "classes", "licence", "access", "on_disk")
            ),
        ]
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def dataset(facts: Mapping[str, str]) -> RenderableType:
    """`medrobust data show`."""
    table = Table(show_header=False, box=None)
    for name, text in facts.items():
        table.add_row(f"[bold]{escape(name)}[/]", escape(text))
    return table


def suites(known: Sequence[Suite]) -> RenderableType:
    """`medrobust data suites`."""
    table = Table(
        title="suites",
        title_justify="left",
        caption="A file of yours: a YAML mapping with `suite` and `pairings`.",
    )
    for name in ("suite", "title", "pairings"):
        table.add_column(name)
    for each in known:
        table.add_row(*map(escape, (each.suite, each.title, "\n".join(each.pairings))))
    return table


def cache(entries: Sequence[CacheEntry]) -> RenderableType:
    """`medrobust cache`."""
    total = sum(entry.bytes for entry in entries)
    table = Table(
        title=f"cache, {len(entries)} entries of {size(total)}",
        title_justify="left",
        caption="What goes first is on top. Needed: a record of a folder of --store is of it.",
    )
    for name in ("name", "kind", "size", "last used", "needed"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        needed = "yes" if entry.needed else "busy" if entry.busy else "no"
        table.add_row(escape(entry.name), entry.kind, size(entry.bytes), used, needed)
    return table


def size(n: float) -> str:
    """Bytes as `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} GiB"


def verification(report: Mapping[str, Any]) -> RenderableType:
    """`medrobust data verify`."""
    head = Table(
        show_header=False,
        box=None,
        title=f"{report['id']}: {'the split leaks' if report['leaks'] else 'no leak found'}",
        title_justify="left",
    )
    for name, text in _facts(report).items():
        if text:
            head.add_row(f"[bold]{name}[/]", escape(text))
    return Group(head, _counts(report), _classes(report), _twins(report))


def _facts(report: Mapping[str, Any]) -> dict[str, str]:
    groups, unreadable = report["groups"], report["unreadable"]
    faults = [f"{name}: {why}" for name, why in list(unreadable.items())[:5]]
    return {
        "split": f"{report['policy']}, seed {report['seed']}, manifest {report['manifest'][:12]}",
        "groups": (
            f"{groups['number']:,}, the largest of {groups['largest']:,} images; in two parts:"
            f" {groups['shared']:,}"
        ),
        "in two parts": ", ".join(groups["examples"]),
        "unreadable": "\n".join([f"{len(unreadable):,}", *faults]),
        "notes": "\n".join(report["notes"]) or "none",
    }


def _counts(report: Mapping[str, Any]) -> Table:
    """Images of every part."""
    table = Table(title="images", title_justify="left")
    for name in ("part", "published", "found"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for row in report["counts"]:
        table.add_row(row["part"], _count(row["published"]), _count(row["found"]))
    return table


def _classes(report: Mapping[str, Any]) -> Table:
    """Images of every class."""
    table = Table(title="classes", title_justify="left")
    columns = ("published", "found", "train", "val", "test")
    for name in ("task", "class", *columns):
        table.add_column(name, justify="left" if name in ("task", "class") else "right")
    for row in report["classes"]:
        counts = [_count(row[key]) for key in columns]
        table.add_row(escape(row["task"]), escape(row["class"]), *counts)
    return table


def _twins(report: Mapping[str, Any]) -> Table:
    """Images that are the same, or look it, in two parts or with two labels."""
    table = Table(
        title="images with a twin",
        title_justify="left",
        caption="Across: in another part. Conflicting: with another label.",
    )
    counted = ("images", "across", "conflicting")
    for name in ("kind", *counted, "train-val", "train-test", "val-test", "for example"):
        table.add_column(name)
    for kind, twins in report["twins"].items():
        between = [
            " / ".join(f"{n} {split}" for split, n in pair.items())
            for pair in twins["between"].values()
        ]
        counts = [_count(twins[key]) for key in counted]
        example = " = ".join(twins["examples"][0]) if twins["examples"] else "-"
        table.add_row(kind.replace("_", "-"), *counts, *between, escape(example))
    return table


def _size(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{row['parameters']:,}", f"{row['gflops']:.3f}", f"{row['gmacs']:.3f}"


def assigned(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={shlex.quote(str(value))}" for key, value in values.items())


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
