"""What is written out of a store: tables, figures, pages, cards. It reads the store and nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_med.errors import UserError, left_out, unknown
from robustbench_med.paths import sweep_below, writable_folder, write_text
from robustbench_med.reports import (
    absence,
    abstention,
    board,
    board_tables,
    breakdowns,
    certified,
    corruptions,
    curves,
    families,
    figures,
    findings,
    floors,
    model_cards,
    own,
    own_threats,
    page,
    paper,
    paper_tables,
    querying,
    robustness_cards,
    tables,
    under_training,
)
from robustbench_med.reports.claims import Finding, judge, load, measured_costs, save
from robustbench_med.reports.comparison.write import rebuild
from robustbench_med.reports.gallery import examples, save_all, save_png
from robustbench_med.reports.probabilities import Probabilities
from robustbench_med.reports.records import cost, long_form, victims
from robustbench_med.reports.tables import csv
from robustbench_med.store import entry_files
from robustbench_med.store.absence import ABSENCES
from robustbench_med.store.alone import alone
from robustbench_med.store.store import CERTIFICATES, Record, Store, nothing_left

FIGURE = "robust_accuracy.png"
PAGE = "leaderboard.html"
EMPTY = pd.DataFrame()
NONE = "{out} holds no records; `medrobust run --out {out}` makes some"


@dataclass(frozen=True)
class Shown:
    """What commands show of a folder; tables are empty where nothing of the kind was run.

    Attributes:
        board: the leaderboard (`board.frame`).
        cells: a row an attack (`tables.cells`).
        warnings: what is odd about the records.
        missing: what victims of theirs make of missing modalities (`absence.frame`).
        corruptions: a row a victim (`corruptions.errors`).
        own_threats: a row a victim and threat (`own_threats.frame`).
        findings: the worst case of each finding of multi-label sets (`findings.frame`).
    """

    board: pd.DataFrame
    cells: pd.DataFrame
    warnings: list[str]
    missing: pd.DataFrame = field(default_factory=pd.DataFrame)
    corruptions: pd.DataFrame = field(default_factory=pd.DataFrame)
    own_threats: pd.DataFrame = field(default_factory=pd.DataFrame)
    findings: pd.DataFrame = field(default_factory=pd.DataFrame)


@alone
def leaderboard(
    out: Path, *, only: Sequence[Record] | None = None, baseline: str = corruptions.BASELINE
) -> Shown:
    """Writes the CSV tables and the figures beside them from all records below `out`.

    Args:
        only: show the victims of these records alone; the files always hold all of the store.
        baseline: the undefended victim that corruption errors are relative to.
    """
    store = Store(out)
    every = floors.read_all(store)
    if not every:
        raise nothing_left(NONE.format(out=out), store)
    records = [record for record in every if not record.apart]
    by_name = frames(store, every) | corruptions.frames(every, baseline)
    _basics(out, by_name)
    _pictures_apart(out, store, every, by_name)
    _over_radii(records, out / FIGURE)
    odd = families.warnings(every)
    degraded, own_rows = by_name["corruption_errors"], by_name["own_threats"]
    if only is None:
        whole_store = by_name["leaderboard"], by_name["cells"], odd, by_name["missing"]
        return Shown(*whole_store, degraded, own_rows, by_name["findings"])
    asked = {record.hash for record in only}
    shown = [record for record in records if record.hash in asked]
    if degraded.size:
        shown_too = {record.spec.victim.checkpoint for record in only if record.corruption}
        degraded = degraded[degraded.checkpoint.isin(shown_too)]
    own_rows = own_threats.frame([record for record in every if record.hash in asked])
    shortfalls = under_training.under_trained(records)
    names = families.variants(every)
    whole = [
        record
        for _, group in families.victims(records)
        for threat in families.by_threat(group)
        if any(record.hash in asked for record in threat)
        for record in threat
    ]  # a worst case is over all attacks that the store knows
    ranked = board.leaderboard(whole, store, among=every, shortfalls=shortfalls)
    first = ranked, tables.cells(shown, names, shortfalls), odd
    missing = absence.of_victims(by_name["missing"], shown)
    of_findings = findings.of_shown(by_name["findings"], shown)
    return Shown(*first, missing, degraded, own_rows, of_findings)


def from_entries(folder: Path, out: Path) -> Shown:
    """Writes leaderboard.csv, paper/leaderboard.md and .tex, and the page, of a folder of
    entries.
    """
    found = entry_files.read(folder)
    ranked = board.frame(found)
    writable_folder(out)
    write_text(out / "leaderboard.csv", csv(floors.with_floors(ranked)))
    papers({"leaderboard": ranked}, out / "paper")
    write_text(out / PAGE, page.of_entries(found))
    return Shown(ranked, pd.DataFrame(), [])


def warnings(out: Path) -> list[str]:
    """What is odd about the records and certificates below `out`: weights that share their training
    seed with others.
    """
    return [
        *families.warnings(Store(out).records()),
        *families.warnings(Store(out, CERTIFICATES).records()),
    ]


@alone
def everything(
    out: Path, *, html: bool = True, pictures: bool = True, baseline: str = corruptions.BASELINE
) -> list[Path]:
    """Everything that can be made of the store: CSV, Markdown and LaTeX tables, figures, galleries,
    the page; returns new paths.

    A folder may hold records, certificates or both; neither is a UserError. The page needs records.

    Args:
        html: write leaderboard.html.
        pictures: write figures/ and gallery/ (for every victim and data set the record under the
            attack that harmed it most).
        baseline: the undefended victim that corruption errors are relative to.
    """
    store, proofs = Store(out), Store(out, CERTIFICATES)
    certificates = certified.frames(proofs)
    every = floors.read_all(store)
    records = [record for record in every if not record.apart]
    proved = len(certificates["certified"]) > 0
    if not every and not proved:
        raise nothing_left(NONE.format(out=out), store, proofs)
    by_name = frames(store, every) | corruptions.frames(every, baseline) | certificates
    predicted = Probabilities(store, every)
    by_name |= predicted.frames()
    _basics(out, by_name)
    _over_radii(records, out / FIGURE)
    if proved:
        certified.draw(certificates["certified"], out / certified.FIGURE)
    written = papers(by_name, out / "paper")
    written += _pictures_apart(out, store, every, by_name)
    try:
        written += rebuild(out, records)
    except UserError as error:
        left_out(str(error))
    if pictures:
        written += figures.write(records, by_name, out / "figures", families.variants(every))
        written += figures.save(predicted.diagrams(), out / "figures", "reliability")
        written += save_all(store, strongest(records), out / "gallery")
    if html and every:
        degraded = by_name["corruption_errors"]
        shared = by_name["own_threats"]
        write_text(out / PAGE, page.render(store, records, degraded=degraded, own_threats=shared))
        written.append(out / PAGE)
    return written


def read(out: Path) -> list[Record]:
    """All records below a folder that fit, with the samples of each class; none is a UserError."""
    store = Store(out)
    records = floors.read(store)
    if not records:
        raise nothing_left(NONE.format(out=out), store)
    return records


def strongest(records: Sequence[Record]) -> list[Record]:
    """For every model and data set the record with the lowest robust accuracy under an attack that
    is no control.
    """
    first: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda record: (record.figures.robust, record.hash)):
        if not record.control:
            first.setdefault((record.spec.data.name, record.spec.victim.model), record)
    return [first[key] for key in sorted(first)]


def frames(store: Store[Record], every: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """The tables of attacks by name, as columns.py describes them; corruptions are not in them, and
    attacks of a threat of their own in one of their own.
    """
    names = families.variants(every)
    records = [record for record in every if not record.apart]
    return {
        "leaderboard": board.leaderboard(records, store, among=every),
        "cells": tables.cells(records, names),
        "records": long_form(records),
        "cost": cost(records),
        "victims": victims(records, names),
        "per_class": breakdowns.per_class(records, store.arrays, names),
        "cross_modal": breakdowns.cross_modal(records, names),
        "queries": querying.table(records),
        "abstention": abstention.frame(every),
        "own_threats": own_threats.frame(every),
        "findings": findings.frame(records, store, names),
        "missing": absence.frame(Store(store.folder.parent, ABSENCES).records()),
        **own.frames(records),
    }


def _over_radii(records: Sequence[Record], path: Path) -> None:
    """The figure over the radius, of records whose radii do not differ between images; none of it
    where there are none.
    """
    of_one = [record for record in records if not record.spec.threat.each]
    if of_one:
        curves.robust_against_radius(of_one, path)
    else:
        path.unlink(missing_ok=True)


def _basics(out: Path, by_name: Mapping[str, pd.DataFrame]) -> None:
    """The CSV tables, those that are empty taken away, and the figures beside them."""
    sweep_below(writable_folder(out))
    as_files = dict(by_name)
    for name in ("leaderboard", "cells"):
        as_files[name] = floors.with_floors(by_name[name])
    for name, frame in as_files.items():
        if len(frame):
            write_text(out / f"{name}.csv", csv(frame))
        else:
            (out / f"{name}.csv").unlink(missing_ok=True)
    figures.write_cross_modal(by_name["cross_modal"], out)
    querying.write(by_name["queries"], out)


def _pictures_apart(
    out: Path, store: Store[Record], every: Sequence[Record], by_name: Mapping[str, pd.DataFrame]
) -> list[Path]:
    """Heat maps and galleries of corruptions, and galleries of attacks of a threat of their own,
    where there are any.
    """
    written, shared = list[Path](), [record for record in every if record.own_threat]
    if shared:
        written += own_threats.write_galleries(store, shared, out / own_threats.FOLDER)
    records = [record for record in every if record.corruption]
    if not records:
        return written
    return written + corruptions.write_pictures(
        store, records, by_name["corruptions"], writable_folder(out / "corruptions")
    )


def paper_kinds(by_name: Mapping[str, pd.DataFrame]) -> Iterator[paper.Table]:
    """The tables for papers out of those of `frames` and `certified.frames`; an empty one gives
    none.
    """
    makers: dict[str, Callable[[pd.DataFrame], Iterator[paper.Table]]] = {
        "leaderboard": board_tables.boards,
        "cells": paper_tables.cells,
        "victims": paper_tables.victims,
        "cross_modal": paper_tables.cross_modal,
        "findings": findings.tables,
        "missing": absence.tables,
        "per_class": lambda classes: paper_tables.per_class(classes, by_name["cells"]),
        "certified": lambda proved: certified.tables(proved, by_name["certified_tasks"]),
    }
    for name, make in makers.items():
        if name in by_name and not by_name[name].empty:
            yield from make(by_name[name])


def papers(by_name: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """NAME.md and NAME.tex of each kind of table, and all.tex, a document that holds them; returns
    the paths.
    """
    writable_folder(folder)
    kinds: dict[str, list[paper.Table]] = {}
    for table in paper_kinds(by_name):
        kinds.setdefault(table.name, []).append(table)
    texts = {"all.tex": paper.document([table for group in kinds.values() for table in group])}
    for name, group in kinds.items():
        texts[f"{name}.md"] = "\n".join(map(paper.markdown, group))
        texts[f"{name}.tex"] = "\n".join(map(paper.latex, group))
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def costs(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """model_cost.csv: one row a model."""
    write_text(writable_folder(out) / "model_cost.csv", csv(pd.DataFrame(rows)))


def claims(out: Path, files: Sequence[Path]) -> list[Finding]:
    """claims.csv and claims.md: the claims that come with medrobust and those of the user's files,
    against the store in `out`.
    """
    published = load()
    for path in files:
        published += load(path)
    store = Store(out)
    records = floors.read(store)
    known = measured_costs(victims(records), out / "model_cost.csv")
    if not records and known.empty:
        neither = (
            f"{out} holds neither records nor model_cost.csv; `medrobust run` and `medrobust cost"
            f" --out {out}` make them"
        )
        raise nothing_left(neither, store)
    cells = tables.cells(records)
    findings = [judge(claim, cells, known) for claim in published]
    save(findings, writable_folder(out))
    return findings


def gallery(out: Path, record: Record, path: Path) -> None:
    """The examples of one record as a PNG; a record without any is a UserError."""
    kept = examples(Store(out), record)
    if not kept:
        raise UserError(f"record {record.short} keeps no examples: compute it with --force")
    if path.suffix != ".png":
        raise UserError(f"--gallery writes a PNG; {path} should end in .png")
    save_png(record, kept, path)


def cards(
    out: Path,
    find_sidecar: Callable[[str, str, Sequence[Path]], Mapping[str, Any]],
    papers: Mapping[str, str],
    *,
    models: Sequence[str] = (),
    checkpoints: Sequence[Path] = (),
) -> list[Path]:
    """cards/NAME-WEIGHTS/README.md (model card) and ROBUSTNESS.md of every victim of the store;
    returns the paths.

    Args:
        find_sidecar: what stands beside weights, by their file's name, their sha256 and folders to
            look into besides the usual ones; empty where nothing does.
        papers: where architectures come from, by model.
        models: victims, as the leaderboard names them; empty: all.
        checkpoints: folders where sidecars may lie, besides medrobust's cache and the zoo.
    """
    measured = read(out)
    groups, shortfalls = model_cards.victims(measured), under_training.under_trained(measured)
    names = sorted({group[0].spec.victim.model for group in groups})
    for name in models:
        if name not in names:
            raise unknown("victim", name, names)
    for folder in checkpoints:
        if not folder.is_dir():
            raise UserError(f"--checkpoints {folder} is no folder; name that of JSON sidecars")
    written = []
    for records in groups:
        facts, spec = records[0].victim, records[0].spec.victim
        if models and spec.model not in models:
            continue
        shared = any(record.source for record in records)  # what lies beside weights holds paths
        where = (facts.checkpoint, spec.weights_sha256, checkpoints)
        sidecar = {} if shared and facts.origin != "zoo" else find_sidecar(*where)
        model = sidecar["training"]["model"] if sidecar else spec.model
        victim = model_cards.VictimRecords(records, sidecar, papers.get(model, ""), shortfalls)
        for file, text in (
            (model_cards.MODEL_CARD, model_cards.model_card(victim)),
            (model_cards.ROBUSTNESS_CARD, robustness_cards.robustness_card(victim)),
        ):
            written.append(out / "cards" / victim.folder / file)
            write_text(written[-1], text)
    return written
