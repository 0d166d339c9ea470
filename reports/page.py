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
from robustbench_med.reports import corruptions, floors, gallery, page_board
from robustbench_med.reports.entries import entries
from robustbench_med.reports.own_threats import told as own_told
from robustbench_med.reports.page_record import details as details_of
from robustbench_med.reports.page_record import share
from robustbench_med.reports.plots import describe, trusted_text
from robustbench_med.reports.tables import by_engine, each, named, ranked
from robustbench_med.reports.under_training import under_trained
from robustbench_med.store.entry import Entry
from robustbench_med.store.record import CONTROL
from robustbench_med.store.store import Record, Store

MAX_BYTES = 4_000_000
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
    "robust bal. acc.",
    "robust AUC",
    "GFLOPs",
    "trust",
    "marks",
)
FILTERS = ("data", "attack", "threat", "family", "model", "protocol", "trust")


def render(
    store: Store[Record],
    records: Sequence[Record],
    title: str = "medrobust leaderboard",
    *,
    degraded: pd.DataFrame | None = None,
    own_threats: pd.DataFrame | None = None,
) -> str:
    """The page's HTML.

    Args:
        store: where examples are read from.
        records: of attacks, what to show: all of the store's, as a rule.
        degraded: a row a victim under corruptions (`corruptions.errors`).
        own_threats: a row a victim and threat of its own (`own_threats.frame`).
    """
    by_hash = {record.hash: record for record in records}
    cells, members = ranked(records)
    rows = sorted(
        _rows(named(cells), members), key=lambda row: row["attack"] == CONTROL
    )  # best first, naive attacks behind, the controls last
    found = entries(records, store, shortfalls=under_trained(records))
    board, context, libraries = page_board.rows(found), _context(rows, title), _libraries()
    synthetic = sum(record.synthetic for record in records)
    context |= _of_board(board, synthetic=synthetic > 0)
    context["summary"] = (
        f"{_some(len(board), 'victim and threat', 'victims and threats')} from {len(records)}"
        f" records, {synthetic} of them on synthetic data."
    )
    context["corruptions"] = [] if degraded is None else corruptions.told(degraded)
    context["own_threats"] = [] if own_threats is None else own_told(own_threats)
    context["floors"] = [_floor(floor) for floor in each(floors.rows(cells))]
    template = _environment().from_string(_template("page.html.j2"))

    def page(details: Sequence[Mapping[str, Any]]) -> str:
        data = _packed(json.dumps({"rows": details, "board": board}, allow_nan=False))
        return template.render(context, packed={**libraries, "data": data})

    details = [{**row, "records": [details_of(by_hash[h]) for h in row["hashes"]]} for row in rows]
    _put_in_examples(details, store, by_hash, room=MAX_BYTES - len(page(details).encode()))
    return page(details)


def of_entries(
    found: Sequence[Entry], title: str = "medrobust leaderboard", *, documentation: str = ""
) -> str:
    """The page of entries: the leaderboard alone, as entries hold neither outcomes nor images.

    Args:
        documentation: where a link to the documentation leads; empty: there is none.
    """
    board, libraries = page_board.rows(found), _libraries()
    del libraries["plotly"]
    context = _context([], title) | _of_board(
        board, synthetic=any(entry.data.synthetic for entry in found)
    )
    context["summary"] = (
        f"{_some(len(board), 'victim and threat', 'victims and threats')} from {len(found)}"
        " entries."
    )
    template = _environment().from_string(_template("page.html.j2"))
    data = _packed(json.dumps({"rows": [], "board": board}, allow_nan=False))
    context |= {"floors": [], "corruptions": [], "own_threats": [], "documentation": documentation}
    return template.render(context, packed={**libraries, "data": data})


def _some(n: int, one: str, several: str) -> str:
    return f"{n} {one if n == 1 else several}"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _of_board(board: Sequence[Mapping[str, Any]], *, synthetic: bool) -> dict[str, Any]:
    """What the template shows of the leaderboard."""
    return {
        "board": board,
        "synthetic": synthetic,
        "board_columns": page_board.COLUMNS,
        "board_filters": [
            {
                "label": name,
                "choices": sorted({row[name] for row in board}),
                "column": page_board.COLUMNS.index(name),
            }
            for name in page_board.FILTERS
        ],
    }


def _context(rows: Sequence[Mapping[str, Any]], title: str) -> dict[str, Any]:
    """What the template shows, but for the board and the data that the script unpacks."""
    settings = Counter(row["setting"] for row in rows)
    return {
        "title": title,
        "documentation": "",
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


def _libraries() -> dict[str, str]:
    """The scripts that the page needs, packed."""
    plotly = files("plotly").joinpath("package_data/plotly.min.js")
    datatables = files("itables").joinpath("html/dt_bundle.js")
    return {
        "plotly": _packed(plotly.read_text(encoding="utf-8")),
        "datatables": _packed(datatables.read_text(encoding="utf-8")),
    }


def _put_in_examples(
    details: Sequence[dict[str, Any]],
    store: Store[Record],
    by_hash: Mapping[str, Record],
    *,
    room: int,
) -> None:
    """Gives each row's first record its examples while there is room for them (bytes)."""
    for row in details:
        if row["attack"] == CONTROL:
            continue
        shown = _examples(store, by_hash[row["hashes"][0]])
        room -= sum(len(example["png"]) for example in shown)
        if room < 0:
            break
        if shown:
            row["records"][0]["gallery"] = shown


def _floor(row: Any) -> dict[str, Any]:
    """A row of the constant answer; `samples` as the rows have it that it stands below."""
    return {
        "model": row.model,
        "samples": _samples([getattr(row, key) for key in floors.SAMPLES], row.floor),
        "data": row.data,
        "threat": f"target {row.target}",
        "n": int(row.n),
        "accuracy": row.robust,
        "balanced_accuracy": row.balanced_accuracy,
        "auc": row.auc,
        "marks": row.marks,
    }


def _samples(values: Sequence[Any], floor: floors.Floor | None) -> str:
    """Which samples and tasks a row is of (`floors.SAMPLES`), and the constant answer there."""
    accuracy = "" if floor is None else f"{floor.accuracy:.6f}"
    return ", ".join([*map(str, values), accuracy])


def _rows(board: pd.DataFrame, members: Sequence[Sequence[Record]]) -> Iterator[dict[str, Any]]:
    """The leaderboard's rows with what the page shows and filters by, in the leaderboard's
    order.
    """
    for (_, row), family in zip(board.iterrows(), members, strict=True):
        hashes = [record.hash for record in family]
        yield {
            **{key: row[key] for key in ("model", "data", "protocol", "norm", "why", "marks")},
            "trust": row.trust or "-",
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
            "balanced_accuracy": float(row.balanced_accuracy),
            "auc": None if pd.isna(row.auc) else float(row.auc),
            "floor": None if row.floor is None else row.floor.accuracy,
            "samples": _samples([row[key] for key in floors.SAMPLES], row.floor),
            "low": float(row.robust_low),
            "high": float(row.robust_high),
            "radius": row.eps_value * (255 if row.norm == "Linf" else 1),
            "trusted": trusted_text(row),
            "settings": _estimate(row),
            "setting": describe(row),
            "overall": _overall(row),
        }


def _estimate(row: Any) -> str:
    """How an attack on a random victim took its gradient."""
    if pd.isna(row.eot) or row.draws == 1:
        return ""
    normalised = " normalised" if row.combine == "normalised" else ""
    loss = "" if pd.isna(row.loss) else f", {row.loss}"
    return f", eot {row.eot:g}{normalised}{loss}"


def _overall(row: Any) -> list[tuple[str, str]]:
    """The figures of a row of the leaderboard, as its record's page begins."""
    spread = (
        ""
        if pd.isna(row.robust_std)
        else f", standard deviation {row.robust_std:.3f} over {row.trainings} trainings"
    )
    behind = f"{row.trainings} training(s)" + (f" on {row.folds} folds" if row.folds > 1 else "")
    behind += f", {row.evaluation_seeds} evaluation seed(s) each"
    areas = ("AUC", f"clean {share(row.clean_auc)}, robust {share(row.auc)}")
    by_area = floors.is_multilabel(row.floor)
    return [
        *([areas] * by_area),
        ("clean accuracy", f"{row.clean:.3f} [{row.clean_low:.3f}, {row.clean_high:.3f}]"),
        (
            "robust accuracy",
            f"{row.robust:.3f} [{row.robust_low:.3f}, {row.robust_high:.3f}]{spread}",
        ),
        (
            "balanced accuracy",
            f"clean {row.clean_balanced_accuracy:.3f}, robust {row.balanced_accuracy:.3f}",
        ),
        *([areas] * (not by_area)),
        ("robust accuracy, worst case of all rows", share(row.worst_case)),
        (floors.CONSTANT, _constant(row.floor)),
        ("means over", behind),
        ("rank", _rank(row)),
        ("trust", row.trust or "-"),
        ("why", row.why or "-"),
        ("marks", row.marks or "none"),
    ]


def _constant(floor: floors.Floor | None) -> str:
    """What the constant answer reaches on a row's samples."""
    if floor is None:
        return "not known: the records do not say how many samples each class has"
    judged = " (one class prevails: ranked by balanced accuracy)" if floor.imbalanced else ""
    return (
        f"accuracy {floor.accuracy:.3f}, balanced accuracy {floor.balanced_accuracy:.3f}, AUC"
        f" {floor.auc:.3f}{judged}"
    )


def _rank(row: Any) -> str:
    """The place of a row, or why it has none."""
    if row.is_naive:
        return "none: the attack is naive"
    return f"none: {floors.BELOW}" if row.is_below_floor else str(row["rank"])


def _examples(store: Store[Record], record: Record) -> list[dict[str, str]]:
    kept = gallery.examples(store, record)
    shown = []
    for rule in ("first", "worst"):
        shown += [example for example in kept if example.rule == rule][:SHOWN]
    columns = ", ".join(
        f"{name}: clean, attacked, amplified difference" for name in record.names.modalities
    )
    pictures = []
    for example in shown:
        buffer = io.BytesIO()
        Image.fromarray(gallery.strip(example)).save(buffer, "PNG", optimize=True)
        text = f"{example.rule} {example.sample}. " + ". ".join(example.lines)
        png = base64.b64encode(buffer.getvalue()).decode()
        pictures.append({"png": png, "columns": columns, "text": text})
    return pictures


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
