"""Cards of a victim: a model card in Hugging Face's layout and a robustness card, out of its
records and its checkpoint's sidecar.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from robustbench_med import __version__
from robustbench_med.reports import tables
from robustbench_med.reports.paper import escaped
from robustbench_med.store.record import CONTROL, Record

MODEL_CARD, ROBUSTNESS_CARD = "README.md", "ROBUSTNESS.md"
PAPER = "2602.15346"
BIBTEX = """@inproceedings{dhar2026effective,
  title     = {Effective and Robust Multimodal Medical Image Analysis},
  author    = {Dhar and Zaidi and Haghighat},
  booktitle = {KDD},
  year      = {2026},
  doi       = {10.1145/3770854.3780331},
  note      = {arXiv 2602.15346}
}"""


@dataclass(frozen=True)
class Victim:
    """One trained victim: its records (at least one), its checkpoint's sidecar (empty: none was
    found), its architecture's paper.
    """

    records: Sequence[Record]
    sidecar: Mapping[str, Any]
    paper: str = ""

    @property
    def name(self) -> str:
        """The model with its defences."""
        return self.records[0].spec.victim.model

    @property
    def weights(self) -> str:
        """The weights' sha256."""
        return self.records[0].spec.victim.weights_sha256

    @property
    def folder(self) -> str:
        """A folder name that any file system takes: the name's plain characters and the weights'
        hash.
        """
        plain = re.sub(r"[^A-Za-z0-9+-]+", "_", self.name).strip("_")[:60] or "victim"
        return f"{plain}-{self.weights[:12]}"


def victims(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each victim: the same weights under the same name (defences at inference are
    part of it).
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.spec.victim.model, record.spec.victim.weights_sha256), []).append(
            record
        )
    return [found[key] for key in sorted(found)]


def model_card(victim: Victim) -> str:
    """The model card: front matter that the Hugging Face hub reads, then what somebody must know
    who wants to use the weights.
    """
    first = victim.records[0]
    spec, names, facts = first.spec, first.names, first.victim
    synthetic = any(record.synthetic for record in victim.records)
    lines = ["---", _front_matter(victim).strip(), "---", "", f"# {escaped(victim.name)}", ""]
    if synthetic:
        lines += [
            (
                "> **Synthetic data.** Some or all images behind this card are drawn, not taken"
                " from patients: its figures say how"
            ),
            "",
        ]
        lines[-1:] = ["> attacks and the victim behave, and nothing about a clinic.", ""]
    lines += [
        "A multimodal medical image classifier, trained and attacked by medrobust.",
        "",
        *_listing(
            {
                "modalities": ", ".join(names.modalities),
                **{
                    f"task {t}": ", ".join(c)
                    for t, c in zip(names.tasks, names.classes, strict=True)
                },
                "input": (
                    f"one {spec.data.size} x {spec.data.size} image per modality,"
                    " pixels in 0..1, channels " + ", ".join(map(str, spec.data.channels))
                ),
                "random at inference": (
                    f"yes: predictions differ from pass to pass, {first.draws} draws were taken"
                    if first.stochastic
                    else "no"
                ),
                "parameters": f"{facts.parameters:,}",
                "cost of one sample": f"{facts.gflops:.3g} GFLOPs",
                "defences": (
                    _defenses([layer.plain() for layer in spec.victim.defense])
                    or "none besides its architecture"
                ),
                "weights": f"{facts.checkpoint} (sha256 {victim.weights})",
            }
        ),
        "",
        "## Intended use and limits",
        "",
        (
            "For research on adversarial robustness: measuring attacks and defences, comparing"
            " fusion architectures. Not a medical device, not"
        ),
        (
            "validated on patients, not for diagnosis or triage. The figures hold for these data,"
            " this preprocessing and this threat model;"
        ),
        "a robust accuracy is an upper bound, and a stronger attack may lower it.",
        "",
        "## Training",
        "",
        *_training(victim),
        "",
        "## Evaluation",
        "",
        *_table(victim, per_task=False),
        "",
        (
            "Threat models, protocol, trust verdicts and the commands that make these figures"
            f" again: [{ROBUSTNESS_CARD}]({ROBUSTNESS_CARD})."
        ),
        "",
        "## Licence",
        "",
        _licence_text(victim),
        "",
        "## Citation",
        "",
        *_citation(victim),
        "",
        f"Card written by medrobust {__version__}.",
        "",
    ]
    return "\n".join(lines)


def robustness_card(victim: Victim) -> str:
    """The robustness card: every figure with its threat model, protocol, trust verdict with advice,
    and command.
    """
    synthetic = (
        "**Synthetic data**: nothing here is a figure about patients."
        if any(r.synthetic for r in victim.records)
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
    lines += ["", "## Clean and robust accuracy", "", *_table(victim, per_task=True)]
    lines += ["", "## Can it be trusted?", "", *_trust(victim.records)]
    lines += [
        "",
        "## Make it again",
        "",
        "Versions: " + _versions(victim.records),
        "",
        *_fenced(_commands(victim.records)),
        "",
    ]
    return "\n".join(lines)


# --- parts ----------------------------------------------------------------------------------------


def _front_matter(victim: Victim) -> str:
    first = victim.records[0]
    results = []
    for row in tables.each(_board(victim)):
        if row.attack == CONTROL or row.is_naive:  # no result to be ranked by
            continue
        setting = (
            f"{row.attack}, {row.norm} {row.eps}, target {row.target}, {row.protocol} protocol, n ="
            f" {row.n}"
        )
        metrics = [
            {"type": "accuracy", "name": "clean accuracy", "value": round(float(row.clean), 4)},
            {
                "type": "accuracy",
                "name": f"robust accuracy ({setting})",
                "value": round(float(row.robust), 4),
            },
        ]
        task = {"type": "image-classification", "name": " and ".join(first.names.tasks)}
        results.append(
            {
                "task": task,
                "dataset": {"type": row.data, "name": row.data, "split": "test"},
                "metrics": metrics,
            }
        )
    tags = ["adversarial-robustness", "multimodal", "medical-imaging"]
    content = {
        "library_name": "medrobust",
        "license": "mit" if _of_the_package(victim) else "unknown",
        "pipeline_tag": "image-classification",
        "tags": [*tags, "synthetic-data"] if any(r.synthetic for r in victim.records) else tags,
        **({"model-index": [{"name": victim.name, "results": results}]} if results else {}),
    }
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def _of_the_package(victim: Victim) -> bool:
    """Whether the weights come with medrobust, whose licence then holds."""
    return all(record.victim.origin == "zoo" for record in victim.records)


def _licence_text(victim: Victim) -> str:
    if _of_the_package(victim):
        return "MIT: these weights come with medrobust."
    return (
        "medrobust is MIT licensed. The licence of these weights is not stated by their sidecar:"
        " whoever publishes them decides, within the licences of the training data (`medrobust data"
        " show ID`) and of any pretrained weights."
    )


def _citation(victim: Victim) -> list[str]:
    lines = ["```bibtex", BIBTEX, "```"] if PAPER in victim.paper else []
    other = f" The architecture: {escaped(victim.paper)}." if victim.paper and not lines else ""
    return [*lines, *([""] if lines else []), f"medrobust itself: see its CITATION.cff.{other}"]


def _training(victim: Victim) -> list[str]:
    if not victim.sidecar:
        return [
            (
                "No sidecar of these weights was found: what they were trained on is not known"
                " here. `medrobust card --checkpoints FOLDER`"
            ),
            "names the folder where weights and sidecar lie.",
        ]
    training = victim.sidecar["training"]
    recipe = {key: value for key, value in training["recipe"].items() if value is not None}
    seconds = victim.sidecar.get("seconds")
    facts = {
        "data": (
            f"{training['data']}, training split (manifest {training['manifest'][:12]}),"
            f" {training['size']} px"
        ),
        "architecture": (
            f"{training['model']}, "
            + (", ".join(f"{k}={v}" for k, v in training["params"].items()) or "standard arguments")
        ),
        "defences in training": _defenses(training.get("defense", [])) or "none",
        "preset and seed": f"{training['preset']}, seed {training['seed']}",
        "recipe": ", ".join(f"{key}={value}" for key, value in recipe.items()),
        "steps": (
            f"{victim.sidecar['history'][-1]['step']}, the weights are those of step"
            f" {victim.sidecar['best_step']}"
        ),
        **({"wall clock": f"{seconds:.0f} s"} if seconds is not None else {}),
        "precision of the file": "half" if training.get("half") else "single",
        **{
            f"validation, {v['task']}": _validation(v) for v in victim.sidecar.get("validation", [])
        },
    }
    synthetic = (
        ["The training images are **synthetic**.", ""] if victim.sidecar.get("synthetic") else []
    )
    return [
        *synthetic,
        *_listing(facts),
        "",
        "Trained by:",
        "",
        *_fenced([victim.sidecar["command"]]),
    ]


def _validation(figures: Mapping[str, Any]) -> str:
    text = f"accuracy {figures['accuracy']:.3f}, balanced {figures['balanced_accuracy']:.3f}"
    return text + (f"; no better than chance: {figures['trivial']}" if figures["trivial"] else "")


def _defenses(layers: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{layer['name']} ({', '.join(f'{k}={v}' for k, v in layer['params'].items())})"
        for layer in layers
    )


def _board(victim: Victim) -> Any:
    """The victim's rows of the leaderboard, by data and radius, the noise control of each first."""
    board = tables.leaderboard(victim.records)
    order = ["data", "norm", "target", "eps", "control", "attack", "protocol", "attack_params"]
    return board.assign(control=board.attack != CONTROL).sort_values(order, kind="stable")


def _table(victim: Victim, *, per_task: bool) -> list[str]:
    head = ["data", "threat", "target", "attack", "protocol", "n", "clean [95 %]", "robust [95 %]"]
    head += ["robust, every task", "trust", "marks"] if per_task else ["trust", "marks"]
    rows = []
    for row in tables.each(_board(victim)):
        attack = tables.by_engine(row.attack, row.engine)
        rows.append(
            [
                row.data,
                f"{row.norm} {row.eps}",
                row.target,
                f"{attack} (control)" if row.attack == CONTROL else attack,
                row.protocol,
                str(row.n),
                f"{row.clean:.3f} [{row.clean_low:.3f}, {row.clean_high:.3f}]",
                f"{row.robust:.3f} [{row.robust_low:.3f}, {row.robust_high:.3f}]",
                *([_per_task(row)] if per_task else []),
                row.trust,
                row.marks or "-",
            ]
        )
    return _markdown(head, rows)


def _per_task(row: Any) -> str:
    tasks = [key.removeprefix("robust_") for key in row._fields if re.fullmatch(r"robust_\d+", key)]
    return ", ".join(
        f"{getattr(row, f'task_{t}')} {getattr(row, f'robust_{t}'):.3f}"
        for t in tasks
        if pd.notna(getattr(row, f"robust_{t}"))
    )


def _protocols(records: Sequence[Record]) -> Iterator[str]:
    sound, release = (
        "fresh draws after the attack, EOT gradients on random victims",
        "the authors' notebook: one draw, no EOT",
    )
    meaning = {"sound": sound, "release": release}
    for name, draws in sorted({(r.spec.protocol.name, r.draws) for r in records}):
        yield f"{escaped(name)} ({meaning.get(name, 'see the record')}), {draws} draws a prediction"


def _trust(records: Sequence[Record]) -> list[str]:
    """The worst verdict, and of every sign that did not pass what was seen and what to do, once."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for record in sorted(records, key=lambda r: r.hash):
        for sign in record.diagnostics:
            if sign.verdict != "pass":
                seen = f"{record.attack_label}, record {record.short}: {sign.text}"
                found.setdefault((sign.verdict, sign.sign, sign.advice), []).append(seen)
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
    for (verdict, name, advice), cases in sorted(found.items()):
        lines.append(f"- **{verdict}: {escaped(name)}**. Advice: {escaped(advice)}")
        lines += [f"    - {escaped(text)}" for text in cases]
    return lines


def _looked_for(records: Sequence[Record]) -> str:
    """The names of the signs that were looked for, and in how many of the records: attacks differ
    in the signs they can show.
    """
    found = Counter(
        name for record in records for name in {sign.sign for sign in record.diagnostics}
    )
    signs = [
        f"{escaped(name)} (in {n} of {len(records)} records)"
        for name, n in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    ]
    return ", ".join(signs) or "none"


def _versions(records: Sequence[Record]) -> str:
    found = sorted(
        {
            f"{name} {version}"
            for record in records
            for name, version in record.environment.versions.items()
        }
    )
    return escaped(", ".join(found))


def _commands(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record.command for record in sorted(records, key=lambda r: r.hash)))


# --- Markdown -------------------------------------------------------------------------------------


def _listing(facts: Mapping[str, str]) -> list[str]:
    return _markdown(["what", "value"], [[key, value] for key, value in facts.items()])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    every = [[escaped(str(cell)) for cell in row] for row in (head, *rows)]
    return ["| " + " | ".join(row) + " |" for row in (every[0], ["---"] * len(head), *every[1:])]


def _fenced(lines: Sequence[str]) -> list[str]:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", *lines, fence]
