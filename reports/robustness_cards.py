"""The robustness card of a victim: every figure with its threat model, protocol, trust verdict and
command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from robustbench_med.reports import tables
from robustbench_med.reports.model_cards import (
    MODEL_CARD,
    VictimRecords,
    fenced,
    figures_table,
)
from robustbench_med.reports.paper import escaped
from robustbench_med.store.record import Record


def robustness_card(victim: VictimRecords) -> str:
    """The robustness card: every figure with its threat model, protocol, trust verdict with advice,
    and command.
    """
    synthetic = (
        "**Synthetic data**: nothing here is a figure about patients."
        if any(record.synthetic for record in victim.records)
        else ""
    )
    settings = {
        "attacker": (
            "perturbs all modalities at once, except those with radius 0; knows weights and"
            " defences unless a row is marked otherwise (square and hopskipjump: only what the"
            " victim answers; transfer: only other victims)"
        ),
        "radii": "`Linf`: most that a pixel in 0..1 may change; `L2`: one ball per modality",
        "robust": (
            "share of the samples still right after the attack (a random victim: mean over fresh"
            " draws), Wilson 95 % interval over patients (images where the data name none)"
        ),
        "protocols": "; ".join(_protocols(victim.records)),
    }
    lines = [f"# Robustness of {escaped(victim.name)}", "", *([synthetic, ""] if synthetic else [])]
    lines += [
        f"Weights sha256 `{victim.weights}`. Model card: [{MODEL_CARD}]({MODEL_CARD}).",
        "",
        "## Threat model and protocol",
        "",
    ]
    lines += [f"- **{key}**: {text}" for key, text in settings.items()]
    lines += ["", "## Clean and robust accuracy", "", *figures_table(victim, per_task=True)]
    lines += ["", "## Can it be trusted?", "", *_trust(victim.records)]
    lines += [
        "",
        "## Make it again",
        "",
        "Versions: " + _versions(victim.records),
        "",
        *fenced(_commands(victim.records)),
        "",
    ]
    return "\n".join(lines)


def _protocols(records: Sequence[Record]) -> Iterator[str]:
    sound, release = (
        "fresh draws after the attack, EOT gradients on random victims",
        "the authors' notebook: one draw, no EOT",
    )
    meaning = {"sound": sound, "release": release}
    for name, draws in sorted({(record.spec.protocol.name, record.draws) for record in records}):
        yield f"{escaped(name)} ({meaning.get(name, 'see the record')}), {draws} draws a prediction"


def _trust(records: Sequence[Record]) -> list[str]:
    """The worst verdict, and of every sign that did not pass what was seen and what to do, once."""
    signs: dict[tuple[str, str, str], list[str]] = {}
    for record in sorted(records, key=lambda record: record.hash):
        for sign in record.diagnostics:
            if sign.verdict != "pass":
                seen = f"{record.attack_label}, record {record.short}: {sign.text}"
                signs.setdefault((sign.verdict, sign.sign, sign.advice), []).append(seen)
    worst = tables.trust(records)
    meaning = {
        "fail": "do not quote these figures before the advice was followed.",
        "warn": "worth a look before a figure is quoted.",
        "pass": "the signs of a failed attack that were looked for are absent. It is no proof.",
        "not checked": (
            "some records were made without diagnostics; `medrobust diagnose` makes up for it."
        ),
    }
    lines = [
        f"Worst verdict: **{worst}**: {meaning[worst]}",
        "",
        f"Signs looked for: {_looked_for(records)}.",
        "",
    ]
    for (verdict, name, advice), cases in sorted(signs.items()):
        lines.append(f"- **{verdict}: {escaped(name)}**. Advice: {escaped(advice)}")
        lines += [f"    - {escaped(text)}" for text in cases]
    return lines


def _looked_for(records: Sequence[Record]) -> str:
    """The names of the signs that were looked for, and in how many of the records: attacks differ
    in the signs they can show.
    """
    counts = Counter(name for record in records for name in {s.sign for s in record.diagnostics})
    signs = [
        f"{escaped(name)} (in {n} of {len(records)} records)"
        for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return ", ".join(signs) or "none"


def _versions(records: Sequence[Record]) -> str:
    versions = {item for record in records for item in record.environment.versions.items()}
    return escaped(", ".join(sorted(f"{name} {version}" for name, version in versions)))


def _commands(records: Sequence[Record]) -> list[str]:
    ordered = sorted(records, key=lambda record: record.hash)
    return list(dict.fromkeys(record.command for record in ordered))
