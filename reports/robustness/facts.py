"""What a robustness card says, all of it plain data made of a store and of what its user says:
pages are drawn of this alone, and whoever has the store can make it again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_med import __version__
from robustbench_med.naming import canonical_hash, nature
from robustbench_med.reports import board, clinical, corruptions, own_threats
from robustbench_med.reports.comparison.table import number
from robustbench_med.reports.robustness import asked
from robustbench_med.reports.robustness.about import About
from robustbench_med.reports.robustness.tried import not_tried
from robustbench_med.reports.tables import each
from robustbench_med.store.absence import ABSENCES, Absence
from robustbench_med.store.parts import Kept
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store
from robustbench_med.store.validation import VALIDATIONS
from robustbench_med.store.words import MEANINGS, of_family

FORM = 1
"""Version of what a card holds."""
ROWS = 8
"""Of a table on the page at most."""
COMMANDS = 2
"""Commands on the page; the file names all."""
REASONS = NAMED = 3
"""Reasons against attacks, and files that it was made from, on the page."""
NO_RESULT = "none was run"
Block = dict[str, Any]
"""A part of the page: `title`, and `lines`, or `head` and `rows`; `half`: of half the width."""


def gather(
    store: Store[Record],
    mine: Sequence[Record],
    every: Sequence[Record],
    about: About,
    baseline: str,
) -> dict[str, Any]:
    """The facts of one victim.

    Args:
        store: where the records lie.
        mine: the victim's.
        every: all of the store, read with their trust (`floors.read_all`).
        about: what its user says.
        baseline: the undefended victim that corruption errors are relative to.
    """
    victim, out = mine[0].spec.victim, store.folder.parent
    lost = [
        each
        for each in Store(out, ABSENCES).records()
        if (each.spec.victim.model, each.spec.victim.weights_sha256)
        == (victim.model, victim.weights_sha256)
    ]
    adversarial = [record for record in mine if not record.corruption]
    attacked = [record for record in adversarial if not record.apart]
    tables = clinical.frames(store, mine)
    among = [record for record in every if not record.apart]
    threats = board.leaderboard(attacked, store, among=among) if attacked else pd.DataFrame()
    degraded = corruptions.frames(every, baseline)["corruption_errors"]
    if not degraded.empty:
        known = (degraded.model == victim.model) & (degraded.checkpoint == victim.checkpoint)
        degraded = degraded[known]
    sources = _sources(store, mine, lost)
    blocks = [
        _block("Intended use (said by the user of medrobust)", _said(about)),
        _block("Victim and data", _of_victim(mine)),
        _threats(threats),
        _own_threats(own_threats.frame(mine)),
        _corruptions(degraded),
        _missing(lost),
        _block("Not tried", not_tried(mine, lost)),
        _decisions(tables["clinical"], _strongest(attacked)),
        _calibration(tables["calibration"], _strongest(attacked)),
        _block("Trust", _trust(adversarial)),
        *_asked(),
        _block("Make it again", _again(mine)),
        _block("Made from", _made_from(sources)),
    ]
    return {
        "form": FORM,
        "medrobust": __version__,
        "victim": victim.model,
        "weights_sha256": victim.weights_sha256,
        "about": about.model_dump(exclude_none=True),
        "baseline": baseline,
        "synthetic": any(record.synthetic for record in mine),
        "blocks": blocks,
        "commands": _commands(mine),
        "sources": sources,
    }


def _block(title: str, lines: Sequence[str], **more: Any) -> Block:
    return {"title": title, "lines": list(lines), **more}


def _table(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    empty: str,
    marks: Iterable[str] = (),
) -> Block:
    """The first ROWS rows; a line says how many more there are, and one their marks."""
    if not rows:
        return _block(title, [empty])
    shown = {"title": title, "head": list(head), "rows": [list(row) for row in rows[:ROWS]]}
    left, marked = len(rows) - ROWS, "; ".join(dict.fromkeys(filter(None, marks)))
    lines = [f"and {left} more rows in the store's tables"] if left > 0 else []
    lines += [f"Marks: {marked}."] if marked else []
    return shown | ({"lines": lines} if lines else {})


def _said(about: About) -> list[str]:
    return about.lines or ["not stated: medrobust card --robustness --about FILE.yaml"]


def _of_victim(mine: Sequence[Record]) -> list[str]:
    first, victim = mine[0], mine[0].spec.victim
    layers = "+".join(layer.name for layer in victim.defense) or "none"
    trained = "foreign weights" if victim.train_seed is None else f"seed {victim.train_seed}"
    lines = [
        f"{first.architecture}, defence {layers}, {first.victim.parameters:,} parameters,"
        f" {trained}, random at inference: {'yes' if first.stochastic else 'no'};"
        f" weights sha256 {victim.weights_sha256}"
    ]
    by_samples = {record.spec.data.samples: record for record in mine}
    for record in sorted(by_samples.values(), key=lambda each: (each.spec.data.label, each.hash)):
        data = record.spec.data
        distinct = ", ".join(f"{m} {n}" for m, n in sorted(record.distinct_images.items()))
        tasks = "; ".join(
            f"{task} ({', '.join(classes)})"
            for task, classes in zip(record.names.tasks, record.names.classes, strict=True)
        )
        fold = f", fold {data.fold.number + 1} of {data.fold.of}" if data.fold else ""
        lines.append(
            f"{data.name}{nature(data.name, synthetic=record.synthetic)}: {data.split} part{fold},"
            f" n = {data.n} (distinct images: {distinct}), {data.size} px; tasks {tasks};"
            f" manifest {data.manifest[:12]}"
            + ("; UNVERIFIED: not the published files" if record.unverified else "")
        )
    return lines


def _interval(value: Any, low: Any, high: Any) -> str:
    """A figure with its interval."""
    shown = number(value)
    return shown if pd.isna(low) else f"{shown} [{number(low)}, {number(high)}]"


def _threats(threats: pd.DataFrame) -> Block:
    head = ["threat", "data, n", "clean [95 %]", "worst case [95 %]", "decided by", "trust"]
    rows = [
        [
            f"{row.norm} {row.eps}, {row.target}" + (" (naive)" if row.is_naive else ""),
            f"{row.data}, {row.n}",
            _interval(row.clean, row.clean_low, row.clean_high),
            _interval(row.worst, row.worst_low, row.worst_high),
            f"{row.decided_by}, of {row.attacks} attacks ({row.families})",
            row.trust or "-",
        ]
        for row in each(threats)
    ]
    marks = [row.marks for row in each(threats)]
    return _table("Threats tried: adversaries", head, rows, NO_RESULT, marks)


def _own_threats(found: pd.DataFrame) -> Block:
    head = ["threat", "data, n", "clean", "left [95 %]", "trust"]
    rows = [
        [
            f"{row.threat} on {row.modalities}" + (f", {row.norm} {row.eps}" if row.norm else ""),
            f"{row.data}, {row.n}, {row.target}",
            number(row.clean),
            _interval(row.robust, row.robust_low, row.robust_high),
            row.trust or "-",
        ]
        for row in each(found)
    ]
    marks = [row.marks for row in each(found)]
    return _table("Threats tried: patches, universal perturbations", head, rows, NO_RESULT, marks)


def _corruptions(degraded: pd.DataFrame) -> Block:
    head = ["data, n", "kinds", "clean error", "mean error", "worst kind", "mCE", "baseline"]
    rows = [
        [
            f"{row.data}, {row.n}, {row.target}",
            str(row.kinds),
            number(row.clean_error),
            number(row.mean_error),
            f"{row.worst_kind} {number(row.worst_error)}" if row.worst_kind else "-",
            number(row.mce),
            row.baseline or "-",
        ]
        for row in each(degraded)
    ]
    return _table("Threats tried: corruptions, five severities a kind", head, rows, NO_RESULT)


def _missing(lost: Sequence[Absence]) -> Block:
    worst: list[list[str]] = []
    for absence in lost:
        for task in absence.names.tasks:
            rows = [row for row in absence.rows if row.task == task and row.modality]
            if rows:
                row = min(rows, key=lambda one: one.accuracy)
                usual = next(
                    one.accuracy
                    for one in absence.rows
                    if one.task == task and one.modality is None
                )
                shown = _interval(row.accuracy, *row.interval)
                worst.append([task, number(usual), f"{row.modality} ({row.by})", shown])
    head = ["task", "all there", "worst loss of", "accuracy then [95 %]"]
    return _table("Threats tried: missing modalities", head, worst, NO_RESULT)


def _strongest(attacked: Sequence[Record]) -> Record | None:
    """The attack that leaves least, of those on all tasks where there are any."""
    found = [record for record in attacked if not record.control]
    joint = [record for record in found if record.joint] or found
    return min(joint, key=lambda one: (one.figures.robust, one.hash), default=None)


def _two(frame: pd.DataFrame, strongest: Record | None) -> Iterator[tuple[str, Any]]:
    """Rows on clean images and under the strongest attack."""
    if frame.empty:
        return
    for when, mine in (
        ("clean", frame[frame.condition == clinical.CLEAN]),
        ("attacked", frame[frame.record == (strongest.short if strongest else None)]),
    ):
        for row in each(mine):
            if when == "clean" or row.condition != clinical.CLEAN:
                yield when, row


def _decisions(found: pd.DataFrame, strongest: Record | None) -> Block:
    if not found.empty:
        found = found[found.rule.isin(("youden", ""))].rename(columns={"class": "label"})
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for when, row in _two(found, strongest):
        rows.setdefault((row.data, row.task, row.label), {})[when] = row
    head = ["class", "positives / n", "sensitivity clean [95 %]", "attacked"]
    head += ["specificity clean [95 %]", "attacked", "AUROC clean", "attacked"]
    shown = [
        [
            f"{task}: {label}",
            f"{int(pair['clean'].positives)} / {int(pair['clean'].n)}",
            *(
                _rate(pair.get(when), name)
                for name in ("sensitivity", "specificity")
                for when in ("clean", "attacked")
            ),
            *(number(getattr(pair.get(when), "auroc", None)) for when in ("clean", "attacked")),
        ]
        for (_, task, label), pair in rows.items()
        if "clean" in pair
    ]
    against = "none" if strongest is None else f"{strongest.attack_label} {strongest.eps}"
    title = f"Figures: decisions at the threshold of validation images; attacked by {against}"
    return _table(title, head, shown, "no probabilities are kept")


def _rate(row: Any, name: str) -> str:
    if row is None:
        return "-"
    return _interval(*(getattr(row, name + end) for end in ("", "_low", "_high")))


def _calibration(found: pd.DataFrame, strongest: Record | None) -> Block:
    rows = [
        [
            f"{row.task}, {when}",
            str(int(row.samples)),
            number(row.accuracy),
            f"{number(row.ece)} ({row.bins} bins)",
            number(row.brier),
            f"{number(row.confidence_right)} / {number(row.confidence_wrong)}",
        ]
        for when, row in _two(found, strongest)
    ]
    head = ["task", "samples", "accuracy", "ECE", "Brier", "confidence right / wrong"]
    return _table("Figures: calibration", head, rows, "no probabilities are kept")


def _trust(attacked: Sequence[Record]) -> list[str]:
    word = of_family(attacked).word
    if word is None:
        return ["no attack was run that can be judged"]
    counts = Counter(record.trust.word for record in attacked if record.trust.word)
    shown = ", ".join(f"{n} {one}" for one in MEANINGS if (n := counts[one]))
    lines = [f"{word}: {MEANINGS[word]}. Of the records: {shown}."]
    because = {
        f"{' '.join(filter(None, [record.attack_label, record.within]))}: {record.trust.because}"
        for record in attacked
        if record.trust.word == word and record.trust.because
    }
    lines += sorted(because)[:REASONS]
    signs = Counter(sign.sign for record in attacked for sign in record.diagnostics)
    spoke = Counter(
        sign.sign for record in attacked for sign in record.diagnostics if sign.verdict != "fine"
    )
    named = ", ".join(f"{name} ({spoke[name]} of {n})" for name, n in sorted(signs.items()))
    return [*lines, f"Signs looked for, and in how many attacks they spoke: {named or 'none'}."]


def _asked() -> list[Block]:
    blocks = [
        {
            "title": text,
            "head": ["asked", "where answered"],
            "rows": [list(row) for row in rows],
            "half": True,
        }
        for text, rows in asked.ASKED.items()
    ]
    return [*blocks, _block("", [asked.NO_CLAIM])]


def _again(mine: Sequence[Record]) -> list[str]:
    versions = {item for record in mine for item in record.environment.versions.items()}
    devices = sorted({record.environment.device for record in mine})
    commands = _commands(mine)
    more = len(commands) - COMMANDS
    return [
        f"versions: {', '.join(f'{name} {version}' for name, version in sorted(versions))};"
        f" on {', '.join(devices)}",
        *(f"$ {command}" for command in commands[:COMMANDS]),
        *([f"and {more} more commands in this file's data"] if more > 0 else []),
    ]


def _commands(mine: Sequence[Record]) -> list[str]:
    """Those of attacks first."""
    ordered = sorted(mine, key=lambda one: (one.corruption, one.control, one.command))
    return list(dict.fromkeys(record.command for record in ordered))


def _sources(
    store: Store[Record], mine: Sequence[Record], lost: Sequence[Absence]
) -> list[dict[str, str]]:
    """Every file behind the card with its sha256."""
    out, victim = store.folder.parent, mine[0].spec.victim
    validations = Store(out, VALIDATIONS)
    passes = [
        one
        for one in validations.records()
        if (one.spec.victim.model, one.spec.victim.weights_sha256)
        == (victim.model, victim.weights_sha256)
    ]
    kept: list[tuple[Store[Any], Sequence[Kept]]] = [
        (store, mine),
        (Store(out, ABSENCES), lost),
        (validations, passes),
    ]
    found = [
        {"kind": place.kind.noun, "hash": one.hash, "sha256": _sha256(place.path(one.hash))}
        for place, group in kept
        for one in group
    ]
    return sorted(found, key=lambda one: (one["kind"], one["hash"]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _made_from(sources: Sequence[Mapping[str, str]]) -> list[str]:
    kinds = Counter(one["kind"] for one in sources)
    joint = canonical_hash({"sources": [dict(one) for one in sources]})
    counts = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in sorted(kinds.items()))
    first = ", ".join(f"{one['hash'][:12]} {one['sha256'][:12]}" for one in sources[:NAMED])
    return [
        f"{counts}; sha256 of their list: {joint}",
        f"record and sha256 of its file: {first}{', ...' * (len(sources) > NAMED)} (all in this"
        " file's data; medrobust verify --card FILE --out STORE compares them)",
    ]
