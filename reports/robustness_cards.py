"""The robustness card of a victim: every figure with its threat model, protocol and command, and
how far it can be believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from robustbench_med.reports.model_cards import (
    MODEL_CARD,
    VictimRecords,
    fenced,
    figures_table,
)
from robustbench_med.reports.paper import escaped
from robustbench_med.store.record import Record
from robustbench_med.store.words import of_family


def robustness_card(victim: VictimRecords) -> str:
    """The robustness card: every figure with its threat model, protocol and command, and how far
    it can be believed.
    """
    synthetic = (
        "**Synthetic data**: nothing here is a figure about patients."
        if any(record.synthetic for record in victim.records)
        else ""
    )
    settings = {
        "attacker": (
            "perturbs all modalities at once, except those with radius 0; knows weights and"
            " defences unless a row is marked otherwise (square, sparse-rs, hopskipjump and"
            " boundary: only what the victim answers; transfer: only other victims)"
        ),
        "radii": (
            "`Linf`: most that a pixel in 0..1 may change; one ball per modality in `L2`, `L1` (sum"
            " of changes) and `L0` (number of changed pixels)"
        ),
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


MEANING: Mapping[str, str] = {
    "failed": "more can be broken of what an attack left; do not quote its figure.",
    "doubtful": "a figure may be too high; quote it with the reason alone.",
    "unchallenged": "nothing speaks against the figures, and too little stands behind one.",
    "challenged": (
        "attacks with and without gradients ran until the answer stood, and no challenger broke"
        " more. It is no proof."
    ),
    "": "no attack of a protocol that can be judged was run.",
}
"""What the words of trust say of a card's figures."""


def _trust(records: Sequence[Record]) -> list[str]:
    """The worst word; of every figure what it rests on, with all samples broken; and of every sign
    that speaks against an attack what to do, once.
    """
    worst = of_family(records)
    word = worst.word or ""
    lines = [f"Worst of all figures: **{word or '-'}**: {MEANING[word]}", ""]
    ordered = sorted(records, key=lambda record: record.hash)
    for record in ordered:
        found = record.trust
        if found.word is not None:
            seen = "; ".join(found.in_full) or found.because
            who = f"{record.attack_label}, {record.spec.threat.norm_label} {record.eps}"
            lines.append(
                f"- {escaped(who)}, record {record.short}: **{found.word}**"
                + (f": {escaped(seen)}" if seen else "")
            )
    lines += ["", f"Signs looked for: {_looked_for(records)}.", ""]
    signs: dict[tuple[str, str], list[str]] = {}
    for record in ordered:
        for sign in record.diagnostics:
            if sign.verdict != "fine":
                seen = f"{record.attack_label}, record {record.short}: {sign.text}"
                signs.setdefault((sign.sign, sign.advice), []).append(seen)
    for (name, advice), cases in sorted(signs.items()):
        lines.append(f"- **{escaped(name)}**. Advice: {escaped(advice)}")
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
