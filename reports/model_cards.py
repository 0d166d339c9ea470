"""The model card of a victim in Hugging Face's layout, out of its records and its checkpoint's
sidecar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from robustbench_med import __version__
from robustbench_med.reports import card_parts, floors, tables
from robustbench_med.reports.paper import escaped
from robustbench_med.store.parts import DefenseSpec
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


SYNTHETIC = [
    (
        "> **Synthetic data.** Some or all images behind this card are drawn, not taken from"
        " patients: its figures say how"
    ),
    "> attacks and the victim behave, and nothing about a clinic.",
    "",
]
INTENDED_USE = [
    (
        "For research on adversarial robustness: measuring attacks and defences, comparing fusion"
        " architectures. Not a medical device, not"
    ),
    (
        "validated on patients, not for diagnosis or triage. The figures hold for these data, this"
        " preprocessing and this threat model;"
    ),
    "a robust accuracy is an upper bound, and a stronger attack may lower it.",
]
ELSEWHERE = (
    "Threat models, protocol, trust and the commands that make these figures again:"
    f" [{ROBUSTNESS_CARD}]({ROBUSTNESS_CARD})."
)


@dataclass(frozen=True)
class VictimRecords:
    """One trained victim: its records (at least one), its checkpoint's sidecar (empty: none was
    found), its architecture's paper, and what `under_training.under_trained` finds among all
    records of its store (None: these are all).
    """

    records: Sequence[Record]
    sidecar: Mapping[str, Any]
    paper: str = ""
    shortfalls: tables.Shortfalls | None = None

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
    by_victim: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        victim = record.spec.victim
        by_victim.setdefault((victim.model, victim.weights_sha256), []).append(record)
    return [by_victim[key] for key in sorted(by_victim)]


def model_card(victim: VictimRecords) -> str:
    """The model card: front matter that the Hugging Face hub reads, then what somebody must know
    who wants to use the weights.
    """
    synthetic = SYNTHETIC if any(record.synthetic for record in victim.records) else []
    lines = ["---", _front_matter(victim).strip(), "---", "", f"# {escaped(victim.name)}", ""]
    lines += [
        *synthetic,
        "A multimodal medical image classifier, trained and attacked by medrobust.",
    ]
    lines += ["", *_listing(_facts(victim)), ""]
    for title, section in (
        ("Intended use and limits", INTENDED_USE),
        ("How to load it", fenced(card_parts.loading(victim.records[0]), "python")),
        ("Evaluation", _evaluation(victim)),
        ("Training", _training(victim)),
        ("Licence", [_licence_text(victim)]),
        ("Citation", _citation(victim)),
    ):
        lines += [f"## {title}", "", *section, ""]
    return "\n".join([*lines, f"Card written by medrobust {__version__}.", ""])


# --- parts ----------------------------------------------------------------------------------------


def _facts(victim: VictimRecords) -> dict[str, str]:
    first = victim.records[0]
    names, size = first.names, first.spec.data.size
    channels = ", ".join(map(str, first.spec.data.channels))
    tasks = zip(names.tasks, names.classes, strict=True)
    return {
        "modalities": ", ".join(names.modalities),
        **{f"task {task}": ", ".join(classes) for task, classes in tasks},
        "input": f"one {size} x {size} image per modality, pixels in 0..1, channels {channels}",
        "random at inference": (
            f"yes: predictions differ from pass to pass, {first.draws} draws were taken"
            if first.stochastic
            else "no"
        ),
        "parameters": f"{first.victim.parameters:,}",
        "cost of one sample": f"{first.victim.gflops:.3g} GFLOPs",
        "defences": _defenses(first.spec.victim.defense) or "none besides its architecture",
        "weights": f"{first.victim.checkpoint} (sha256 {victim.weights})",
    }


def _front_matter(victim: VictimRecords) -> str:
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
        "datasets": sorted({name for r in victim.records for name in r.spec.data.name.split("+")}),
        "tags": [*tags, "synthetic-data"]
        if any(record.synthetic for record in victim.records)
        else tags,
        **({"model-index": [{"name": victim.name, "results": results}]} if results else {}),
    }
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def _of_the_package(victim: VictimRecords) -> bool:
    """Whether the weights come with medrobust, whose licence then holds."""
    return all(record.victim.origin == "zoo" for record in victim.records)


def _licence_text(victim: VictimRecords) -> str:
    if _of_the_package(victim):
        return "MIT: these weights come with medrobust."
    return (
        "medrobust is MIT licensed. The licence of these weights is not stated by their sidecar:"
        " whoever publishes them decides, within the licences of the training data (`medrobust data"
        " show ID`) and of any pretrained weights."
    )


def _citation(victim: VictimRecords) -> list[str]:
    lines = ["```bibtex", BIBTEX, "```"] if PAPER in victim.paper else []
    other = f" The architecture: {escaped(victim.paper)}." if victim.paper and not lines else ""
    return [*lines, *([""] if lines else []), f"medrobust itself: see its CITATION.cff.{other}"]


def _evaluation(victim: VictimRecords) -> list[str]:
    """The worst case of each threat, then every figure."""
    worst = [f"- {line}" for line in card_parts.worst_cases(_board(victim))]
    head = ["Robust accuracy in the worst case of all attacks:", "", *worst, ""] if worst else []
    return [*head, *figures_table(victim, per_task=False), "", ELSEWHERE]


def _training(victim: VictimRecords) -> list[str]:
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
        "defences in training": _defenses(
            [DefenseSpec(**layer) for layer in training.get("defense", [])]
        )
        or "none",
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
        *_markdown(*card_parts.training_curve(victim.sidecar["history"])),
        "",
        "Trained by:",
        "",
        *fenced([victim.sidecar["command"]]),
    ]


def _validation(figures: Mapping[str, Any]) -> str:
    text = f"accuracy {figures['accuracy']:.3f}, balanced {figures['balanced_accuracy']:.3f}"
    if figures.get("auc") is not None:
        text += f", AUC {figures['auc']:.3f}"
    if (published := figures.get("published")) is not None:
        text += (
            f" (published of the test images: {published['model']} at {published['size']} px,"
            f" accuracy {published['accuracy']:.3f}, AUC {published['auc']:.3f};"
            f" {published['source']})"
        )
    return text + (f"; no better than chance: {figures['trivial']}" if figures["trivial"] else "")


def _defenses(layers: Sequence[DefenseSpec]) -> str:
    return "; ".join(f"{layer.name} ({_assigned(layer.params)})" for layer in layers)


def _assigned(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in params.items())


def _board(victim: VictimRecords) -> Any:
    """The victim's rows of the cells, by data and radius, the strongest attack of each first, the
    noise control last.
    """
    board = tables.cells(victim.records, shortfalls=victim.shortfalls)
    order = ["data", "norm", "target", "eps_value", "eps", "control", "robust", "attack"]
    return board.assign(control=board.attack == CONTROL).sort_values(order, kind="stable")


def figures_table(victim: VictimRecords, *, per_task: bool) -> list[str]:
    """The victim's clean and robust accuracies as Markdown, `per_task` with those of every task."""
    head = ["data", "threat", "target", "attack", "protocol", "n", "clean [95 %]", "robust [95 %]"]
    head += ["bal. acc., clean / robust", "AUC, clean / robust"]
    head += ["robust, every task", "trust", "marks"] if per_task else ["trust", "marks"]
    rows, board = [], _board(victim)
    for row in tables.each(board):
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
                f"{row.clean_balanced_accuracy:.3f} / {row.balanced_accuracy:.3f}",
                " / ".join(
                    "-" if pd.isna(auc) else f"{auc:.3f}" for auc in (row.clean_auc, row.auc)
                ),
                *([_per_task(row)] if per_task else []),
                f"{row.trust}: {row.why}" if row.why else row.trust or "-",
                row.marks or "-",
            ]
        )
    for floor in tables.each(floors.rows(board)):
        share, balanced, auc = (
            f"{value:.3f}" for value in (floor.robust, floor.balanced_accuracy, floor.auc)
        )
        cells = [floor.data, "-", floor.target, floors.CONSTANT, "-", str(floor.n), share, share]
        cells += [f"{balanced} / {balanced}", f"{auc} / {auc}", *(["-"] if per_task else [])]
        rows.append([*cells, "-", floor.marks or "-"])
    return _markdown(head, rows)


def _or_dash(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"


def _per_task(row: Any) -> str:
    tasks = [key.removeprefix("robust_") for key in row._fields if re.fullmatch(r"robust_\d+", key)]
    return ", ".join(
        f"{getattr(row, f'task_{t}')} {getattr(row, f'robust_{t}'):.3f}"
        for t in tasks
        if pd.notna(getattr(row, f"robust_{t}"))
    )


# --- Markdown -------------------------------------------------------------------------------------


def _listing(facts: Mapping[str, str]) -> list[str]:
    return _markdown(["what", "value"], [[key, value] for key, value in facts.items()])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    every = [[escaped(str(cell)) for cell in row] for row in (head, *rows)]
    return ["| " + " | ".join(row) + " |" for row in (every[0], ["---"] * len(head), *every[1:])]


def fenced(lines: Sequence[str], language: str = "sh") -> list[str]:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *lines, fence]
