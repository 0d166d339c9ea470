"""The leaderboard as one HTML file that opens from disk: table, charts and records, nothing fetched
from anywhere.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from robustbench_med import __version__
from robustbench_med.naming import radius_label
from robustbench_med.reports import gallery
from robustbench_med.reports.paper import CONTROL
from robustbench_med.reports.plots import describe, trusted_text
from robustbench_med.reports.tables import by_engine, named, ranked
from robustbench_med.store.store import Record, Store

MAX_BYTES = 7_500_000
"""Size the page may reach; examples are put in, best rows first, while there is room."""
SHOWN = 2  # examples of each rule
COLUMNS = (
    "record",
    "rank",
    "model",
    "data",
    "threat",
    "attack",
    "protocol",
    "n",
    "clean",
    "robust",
    "95 % interval",
    "GFLOPs",
    "trust",
    "marks",
)
FILTERS = ("data", "attack", "threat", "family", "model", "protocol", "trust")


def render(store: Store, records: Sequence[Record], title: str = "medrobust leaderboard") -> str:
    """The page's HTML.

    Args:
        store: where examples are read from.
        records: what to show: all of the store's, as a rule.
    """
    by_hash = {record["hash"]: record for record in records}
    rows = sorted(
        _rows(records), key=lambda row: row["attack"] == CONTROL
    )  # best first, naive attacks behind, the controls last
    packed = {
        "plotly": _packed(
            files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
        ),
        "datatables": _packed(
            files("itables").joinpath("html/dt_bundle.js").read_text(encoding="utf-8")
        ),
    }
    settings = Counter(row["setting"] for row in rows)
    synthetic = sum(record["synthetic"] for record in records)
    context = {
        "title": title,
        "summary": (
            f"{len(rows)} rows from {len(records)} records, {synthetic} of them on synthetic data."
        ),
        "synthetic": synthetic > 0,
        "version": __version__,
        "columns": COLUMNS,
        "filters": [
            {"label": name, "choices": _choices(rows, name)}
            | ({"column": COLUMNS.index(name)} if name in COLUMNS else {})
            for name in FILTERS
        ],
        "settings": [setting for setting, _ in settings.most_common()],
        "rows": rows,
        "css": _template("page.css"),
        "js": _template("page.js"),
        "datatables_css": (
            files("itables").joinpath("html/dt_bundle.css").read_text(encoding="utf-8")
        ),
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_template("page.html.j2"))
    details = [{**row, "records": [_record(by_hash[h]) for h in row["hashes"]]} for row in rows]
    bare = len(
        template.render(
            context, packed=packed | {"data": _packed(json.dumps({"rows": details}))}
        ).encode()
    )
    room = MAX_BYTES - bare
    for row in details:
        if row["attack"] == CONTROL:
            continue
        shown = _examples(store, by_hash[row["hashes"][0]])
        room -= sum(len(example["png"]) for example in shown)
        if room < 0:
            break
        if shown:
            row["records"][0]["gallery"] = shown
    return template.render(
        context, packed=packed | {"data": _packed(json.dumps({"rows": details}))}
    )


def _rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """The leaderboard's rows with what the page shows and filters by, in the leaderboard's
    order.
    """
    board, members = ranked(records)
    board = named(board)
    for (_, row), family in zip(board.iterrows(), members, strict=True):
        hashes = [record["hash"] for record in family]
        yield {
            **{key: row[key] for key in ("model", "data", "protocol", "norm", "trust", "marks")},
            "record": hashes[0][:8],
            "hashes": hashes,
            "family": row.family,
            "rank": None if pd.isna(row["rank"]) else int(row["rank"]),
            "naive": bool(row.is_naive),
            "n": int(row.n),
            "threat": f"{row.norm} {row.eps}, {row.target}",
            "attack": by_engine(row.attack, row.engine),
            **{
                key: float(row[key])
                for key in (
                    "clean",
                    "clean_low",
                    "clean_high",
                    "robust",
                    "robust_low",
                    "robust_high",
                    "gflops",
                )
            },
            "low": float(row.robust_low),
            "high": float(row.robust_high),
            "radius": row.eps_value * (255 if row.norm == "Linf" else 1),
            "trusted": trusted_text(row),
            "settings": f", eot {row.eot:g}" if pd.notna(row.eot) and row.draws > 1 else "",
            "setting": describe(row),
            "overall": _overall(row),
        }


def _overall(row: Any) -> list[tuple[str, str]]:
    """The figures of a row of the leaderboard, as its record's page begins."""
    spread = (
        ""
        if pd.isna(row.robust_std)
        else f", standard deviation {row.robust_std:.3f} over {row.trainings} trainings"
    )
    behind = f"{row.trainings} training(s)" + (f" on {row.folds} folds" if row.folds > 1 else "")
    behind += f", {row.evaluation_seeds} evaluation seed(s) each"
    return [
        ("clean accuracy", f"{row.clean:.3f} [{row.clean_low:.3f}, {row.clean_high:.3f}]"),
        (
            "robust accuracy",
            f"{row.robust:.3f} [{row.robust_low:.3f}, {row.robust_high:.3f}]{spread}",
        ),
        ("means over", behind),
        ("rank", "none: the attack is naive" if pd.isna(row["rank"]) else str(row["rank"])),
        ("trust", row.trust),
        ("marks", row.marks or "none"),
    ]


def _record(record: Record) -> dict[str, Any]:
    """What opens when a row is clicked."""
    spec, cost = record["spec"], record["cost"]
    synthetic = " (synthetic)" if record["synthetic"] else ""
    fold = (
        ", fold {number} of {of}".format(**spec["data"]["fold"]) if "fold" in spec["data"] else ""
    )
    facts = {
        "data": (
            f"{spec['data']['name']}{synthetic}{fold}, n = {spec['data']['n']},"
            f" {spec['data']['size']} px"
        ),
        "threat": (
            f"{spec['threat']['norm']}"
            f" {radius_label(spec['threat']['radii'], record['names']['modalities'])}, target "
            + " + ".join(record["names"]["tasks"][t] for t in spec["threat"]["tasks"])
        ),
        "victim": (
            f"{spec['victim']['model']}, {record['victim']['parameters']:,} parameters,"
            f" {record['victim']['gflops']:.3g} GFLOPs,"
            f" {'random' if record['stochastic'] else 'deterministic'}, {record['draws']} draw(s) a"
            " prediction"
        ),
        "seeds": f"evaluation {spec['seed']}, training {_seed(spec['victim']['train_seed'])}",
        "passes": (
            f"{cost['attack_forward_per_sample']:.0f} forward,"
            f" {cost['attack_backward_per_sample']:.0f} backward per attacked sample"
        ),
        "seconds": f"{cost['seconds']:.1f} on {record['environment']['device']}",
        "versions": ", ".join(
            f"{name} {version}" for name, version in record["environment"]["versions"].items()
        ),
        "notes": "; ".join(record["notes"]) or "none",
    }
    return {
        "hash": record["hash"],
        "facts": list(facts.items()),
        "tasks": [
            _task(name, figures)
            for name, figures in zip(
                record["names"]["tasks"], record["figures"]["tasks"], strict=True
            )
        ],
        "diagnostics": [_sign(sign) for sign in record.get("diagnostics") or []],
        "command": record["command"],
        "spec": spec,
        "gallery": [],
        "no_gallery": (
            "No examples here: none were kept, or this page had no room left. `medrobust show"
            f" {record['hash'][:12]} --gallery FILE.png` draws what there is."
        ),
    }


def _seed(seed: int | None) -> str:
    return "unknown (foreign weights)" if seed is None else str(seed)


def _sign(sign: Mapping[str, Any]) -> dict[str, str]:
    """A sign that the attack failed, with advice where it did."""
    advice = str(sign["advice"]) if sign["verdict"] in ("warn", "fail") else ""
    return {**{key: str(sign[key]) for key in ("sign", "verdict", "text")}, "advice": advice}


def _task(name: str, figures: Mapping[str, Any]) -> list[str]:
    def share(key: str) -> str:
        value, interval = figures[key], figures.get(f"{key}_interval")
        text = "-" if value is None else f"{value:.3f}"
        return f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else text

    return [
        name,
        f"{figures['n']} ({figures['n_distinct']})",
        *map(share, ("clean", "robust", "asr", "balanced_accuracy", "auc")),
    ]


def _examples(store: Store, record: Record) -> list[dict[str, str]]:
    found = gallery.examples(store, record)
    chosen = [
        example
        for rule in ("first", "worst")
        for example in [e for e in found if e.rule == rule][:SHOWN]
    ]
    columns = ", ".join(
        f"{name}: clean, attacked, amplified difference" for name in record["names"]["modalities"]
    )
    shown = []
    for example in chosen:
        buffer = io.BytesIO()
        Image.fromarray(gallery.strip(example)).save(buffer, "PNG", optimize=True)
        text = f"{example.rule} {example.sample}. " + ". ".join(example.lines)
        shown.append(
            {"png": base64.b64encode(buffer.getvalue()).decode(), "columns": columns, "text": text}
        )
    return shown


def _choices(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """What a filter offers: threats by norm and radius, everything else by name."""
    order = ("norm", "radius", name) if name == "threat" else (name,)
    return list(
        dict.fromkeys(
            row[name] for row in sorted(rows, key=lambda row: [row[key] for key in order])
        )
    )


def _packed(text: str) -> str:
    """gzip in base64: what page.js unpacks. The same text gives the same bytes."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _template(name: str) -> str:
    return (
        files("robustbench_med.reports").joinpath(f"templates/{name}").read_text(encoding="utf-8")
    )
