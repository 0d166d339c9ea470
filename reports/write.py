"""Reports: tables, figures, pages and what the terminal shows. They read the store and nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_med.errors import UserError, left_out, unknown
from robustbench_med.paths import writable_folder, write_text
from robustbench_med.reports import (
    breakdowns,
    certified,
    claims,
    families,
    figures,
    paper,
    plots,
    tables,
)
from robustbench_med.reports.claims import Finding
from robustbench_med.store.store import CERTIFICATES, RECORDS, Record, Store, nothing_left

FIGURE = "robust_accuracy.png"
PAGE = "leaderboard.html"
NONE = "{out} holds no records; `medrobust run --out {out}` makes some"


def write(out: Path, *, only: Sequence[Record] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Writes the CSV tables and the figures beside them from all records below `out`; returns the
    leaderboard, and what is odd about it.

    Args:
        only: show these records alone; the files always hold all of the store.
    """
    records = read(out)
    found = frames(Store(out), records)
    _write_basics(out, found)
    plots.robust_against_radius(records, out / FIGURE)
    shown = (
        found["leaderboard"]
        if only is None
        else tables.leaderboard(only, families.variants(records))
    )
    return shown, families.warnings(records)


def warnings(out: Path) -> list[str]:
    """What is odd about the records and certificates below `out`: weights that share their training
    seed with others.
    """
    return [
        text
        for kind in (RECORDS, CERTIFICATES)
        for text in families.warnings(Store(out, kind).records())
    ]


def _write_basics(out: Path, found: Mapping[str, pd.DataFrame]) -> None:
    writable_folder(out)
    for name, frame in found.items():
        if len(frame):
            write_text(out / f"{name}.csv", csv(frame))
        else:
            (out / f"{name}.csv").unlink(missing_ok=True)
    figures.write_cross_modal(found["cross_modal"], out)


def write_all(out: Path, *, page: bool = True, pictures: bool = True) -> list[Path]:
    """Everything that can be made of the store: CSV, Markdown and LaTeX tables, figures, galleries,
    the page; returns new paths.

    A folder may hold records, certificates or both; neither is a UserError. The page needs records.

    Args:
        page: write leaderboard.html.
        pictures: write figures/ and gallery/ (for every victim and data set the record under the
            attack that harmed it most).
    """
    from robustbench_med.reports import gallery
    from robustbench_med.reports import page as html
    from robustbench_med.reports.comparison.write import rebuild

    store, proofs = Store(out), Store(out, CERTIFICATES)
    certificates, records = certified.frames(proofs), store.records()
    proved = len(certificates["certified"]) > 0
    if not records and not proved:
        raise nothing_left(NONE.format(out=out), store, proofs)
    found = frames(store, records) | certificates
    _write_basics(out, found)
    if records:
        plots.robust_against_radius(records, out / FIGURE)
    if proved:
        certified.draw(certificates["certified"], out / certified.FIGURE)
    written = write_paper(found, out / "paper")
    try:
        written += rebuild(out, records)
    except UserError as error:
        left_out(str(error))
    if pictures:
        written += figures.write(records, found, out / "figures")
        written += gallery.write(store, strongest(records), out / "gallery")
    if page and records:
        write_text(out / PAGE, html.render(store, records))
        written.append(out / PAGE)
    return written


def read(out: Path) -> list[Record]:
    """All records below a folder that fit; none is a UserError."""
    store = Store(out)
    records = store.records()
    if not records:
        raise nothing_left(NONE.format(out=out), store)
    return records


def strongest(records: Sequence[Record]) -> list[Record]:
    """For every model and data set the record with the lowest robust accuracy under an attack that
    is no control.
    """
    found: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda r: (r["figures"]["robust"], r["hash"])):
        if record["spec"]["attack"]["name"] != paper.CONTROL:
            found.setdefault(
                (record["spec"]["data"]["name"], record["spec"]["victim"]["model"]), record
            )
    return [found[key] for key in sorted(found)]


def frames(store: Store, records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """The tables by name, as columns.py describes them."""
    names = families.variants(records)
    return {
        "leaderboard": tables.leaderboard(records, names),
        "records": tables.long_form(records),
        "cost": tables.cost(records),
        "victims": tables.victims(records, names),
        "per_class": breakdowns.per_class(records, store.arrays, names),
        "cross_modal": breakdowns.cross_modal(records, names),
    }


def paper_tables(found: Mapping[str, pd.DataFrame]) -> Iterator[paper.Table]:
    """The tables for papers out of those of `frames` and `certified.frames`; an empty one gives
    none.
    """
    makers: dict[str, Callable[[pd.DataFrame], Iterator[paper.Table]]] = {
        "leaderboard": paper.leaderboards,
        "victims": paper.victims,
        "cross_modal": paper.cross_modal,
        "per_class": lambda classes: paper.per_class(classes, found["leaderboard"]),
        "certified": lambda curves: certified.tables(curves, found["certified_tasks"]),
    }
    for name, make in makers.items():
        if name in found and not found[name].empty:
            yield from make(found[name])


def write_paper(found: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """NAME.md and NAME.tex of each kind of table, and all.tex, a document that holds them; returns
    the paths.
    """
    writable_folder(folder)
    kinds: dict[str, list[paper.Table]] = {}
    for table in paper_tables(found):
        kinds.setdefault(table.name, []).append(table)
    texts = {"all.tex": paper.document([table for group in kinds.values() for table in group])}
    for name, group in kinds.items():
        texts[f"{name}.md"] = "\n".join(map(paper.markdown, group))
        texts[f"{name}.tex"] = "\n".join(map(paper.latex, group))
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def write_costs(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """model_cost.csv: one row a model."""
    write_text(writable_folder(out) / "model_cost.csv", csv(pd.DataFrame(rows)))


def write_claims(out: Path, claims_files: Sequence[Path]) -> list[Finding]:
    """claims.csv and claims.md: the claims that come with medrobust and those of the user's files,
    against the store in `out`.
    """

    chosen = claims.load()
    for path in claims_files:
        chosen += claims.load(path)
    store = Store(out)
    records = store.records()
    costs = claims.costs(tables.victims(records), out / "model_cost.csv")
    if not records and costs.empty:
        neither = (
            f"{out} holds neither records nor model_cost.csv; `medrobust run` and `medrobust cost"
            f" --out {out}` make them"
        )
        raise nothing_left(neither, store)
    board = tables.leaderboard(records)
    findings = [claims.judge(claim, board, costs) for claim in chosen]
    write_text(writable_folder(out) / "claims.csv", csv(claims.table(findings)))
    write_text(out / "claims.md", claims.markdown(findings))
    return findings


def write_gallery(out: Path, record: Record, path: Path) -> None:
    """The examples of one record as a PNG; a record without any is a UserError."""

    from robustbench_med.reports import gallery

    found = gallery.examples(Store(out), record)
    if not found:
        raise UserError(
            f"record {record['hash'][:12]} keeps no examples (it was made by an older version);"
            " compute it again with --force"
        )
    if path.suffix != ".png":
        raise UserError(f"--gallery writes a PNG; {path} should end in .png")
    gallery.save(record, found, path)


def write_cards(
    out: Path, *, models: Sequence[str] = (), checkpoints: Sequence[Path] = ()
) -> list[Path]:
    """cards/NAME-WEIGHTS/README.md (model card) and ROBUSTNESS.md of every victim of the store;
    returns the paths.

    Args:
        models: victims, as the leaderboard names them; empty: all.
        checkpoints: folders where sidecars may lie, besides medrobust's cache and the zoo.
    """
    from robustbench_med.models.registry import MODELS
    from robustbench_med.reports import model_cards as cards
    from robustbench_med.reports import robustness_cards
    from robustbench_med.training.checkpoints import find_sidecar

    groups = cards.victims(read(out))
    names = sorted({group[0]["spec"]["victim"]["model"] for group in groups})
    for name in models:
        if name not in names:
            raise unknown("victim", name, names)
    for folder in checkpoints:
        if not folder.is_dir():
            raise UserError(
                f"--checkpoints {folder} is no folder; name the one that holds the weights' JSON"
                " sidecars"
            )
    written = []
    for records in groups:
        facts, spec = records[0]["victim"], records[0]["spec"]["victim"]
        if models and spec["model"] not in models:
            continue
        sidecar = find_sidecar(facts["checkpoint"], spec["weights_sha256"], checkpoints)
        entry = MODELS.get(sidecar["training"]["model"] if sidecar else spec["model"])
        victim = cards.Victim(records, sidecar, entry.paper if entry else "")
        for file, text in (
            (cards.MODEL_CARD, cards.model_card(victim)),
            (cards.ROBUSTNESS_CARD, robustness_cards.robustness_card(victim)),
        ):
            written.append(out / "cards" / victim.folder / file)
            write_text(written[-1], text)
    return written


def csv(frame: pd.DataFrame) -> str:
    """CSV with figures to six digits: below that float32 kernels of different machines disagree."""
    return str(tables.written(frame).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
