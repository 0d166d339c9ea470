"""Options of the command line, each said once: how a field of a specification or of a job is typed.

Type and default are the field's. The command line makes its commands from this table, and the
commands that records and sidecars hold are written from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from robustbench_med.parsing import pairs, positive_numbers
from robustbench_med.runs.job import Job
from robustbench_med.runs.no_options import EXCEPT
from robustbench_med.runs.spec import (
    CertifySpec,
    DiagnoseSpec,
    RunSpec,
    TrainedSpec,
    TrainingsSpec,
)

WHAT, HOW, WHERE = "Victims and data", "Threat model and attack", "Where and how to run"


class Default(Enum):
    """Stands for the default that the field itself has."""

    OF_THE_FIELD = 0


@dataclass(frozen=True)
class Option:
    """How one field is typed.

    Attributes:
        help: what it does, with example values; the default is shown behind it.
        panel: where `--help` shows it.
        flags: its names, the first of them the one that commands are written with; empty: made of
            the field's name.
        metavar: what `--help` shows in place of the value's type.
        repeatable: given once for each value, instead of a list with commas.
        default: what the command takes where the field has no default, or another one.
        explicit: written into a record's command even at its default, so that a later default does
            not change what the command means.
        read: makes the field's value of the text, where that is more than to part it at commas.
    """

    help: str
    panel: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    repeatable: bool = False
    default: object = Default.OF_THE_FIELD
    explicit: bool = False
    read: Callable[[str], object] | None = None


OPTIONS: dict[str, Option] = {
    # victims and data
    "model": Option(
        "Models, comma-separated: a name (`medrobust models` lists them) or your own,"
        " path/to/file.py:function; a black box: net.onnx, http://host:port/path.",
        WHAT,
        ("--model", "-m"),
        default=None,  # a run file may name them
    ),
    "defense": Option(
        "Defences, comma-separated, each one name or a chain such as pgd-at+jpeg;"
        " `medrobust defenses` lists them.",
        WHAT,
    ),
    "data": Option(
        "Data sets, comma-separated: an id, a pairing a+b, a suite (all20), or a path to a YAML"
        " card or suite.",
        WHAT,
        explicit=True,
    ),
    "attack": Option(
        "Attacks, comma-separated, e.g. fgsm,pgd,apgd; `medrobust attacks` lists them. `missing`"
        " replaces each modality by nothing, the mean, another patient's, whatever the radius.",
        HOW,
        ("--attack", "-a"),
        explicit=True,
    ),
    "eps": Option(
        "Radii for pixels in 0..1: 1/255,4/255; one a modality: mri=4/255,xray=0 (0 = trusted);"
        " in the files' unit: ct=20HU, 4grey, 1%; for one norm: L2:0.5. Repeatable.",
        HOW,
        metavar="RADII",
        repeatable=True,
        explicit=True,
    ),
    "norm": Option(
        "Linf, L2, L1 (sum of changes) or L0 (number of changed pixels), comma-separated.",
        HOW,
        explicit=True,
    ),
    "l0_counts": Option(
        "What an L0 radius counts: pixels, all channels of a place together, or coordinates.", HOW
    ),
    "target_task": Option(
        "Tasks to make wrong: joint, any, k=3 of them, a name, a number.", HOW, explicit=True
    ),
    "target": Option(
        "Aim at a class: random, least-likely, or its number (else at any wrong class).", HOW
    ),
    "cross_modal": Option(
        "Attack every modality alone, aimed at every task alone: who depends on whom?", HOW
    ),
    "engine": Option(
        "Who computes the attacks: native, torchattacks, art or foolbox; an engine refuses what it"
        " cannot do.",
        HOW,
    ),
    "effort": Option(
        "quick: the attack once; auto: stronger ones after it until two along gradients take less"
        " than a point (adaptive does it by default; pgd and apgd can); max: ten times as long.",
        HOW,
    ),
    "max_passes": Option(
        "Gradient passes an attacked sample after which --effort auto stops (else 50 times those of"
        " pgd by default).",
        HOW,
    ),
    "max_queries": Option(
        "Queries of a black box a sample and attack, after which nothing more is asked.", HOW
    ),
    "source": Option(
        "For --attack transfer: models that adversarials are made on (a black box needs none).", HOW
    ),
    "protocol": Option(
        "sound (fresh draws, EOT against random models) or release (the authors' notebook).",
        HOW,
        explicit=True,
    ),
    "draws": Option("Forward passes per prediction of a random model.", HOW, explicit=True),
    "seed": Option("Seeds of the evaluation, comma-separated.", HOW, explicit=True),
    "steps": Option("Steps of PGD; twice as many are tried too.", HOW),
    "queries": Option("Queries of the square attack.", HOW),
    "eot": Option(
        "Draws per gradient against a random model; 1 and 32 (or twice as many) are tried too.", HOW
    ),
    "sigma": Option(
        "Standard deviations of the noise for pixels in 0..1, comma-separated, e.g. 0.12,0.25"
        " (else the defence's).",
        HOW,
        read=partial(positive_numbers, option="--sigma"),
    ),
    "n0": Option("Draws that choose the class.", HOW),
    "n": Option("Draws that bound its probability.", HOW),
    "alpha": Option("Chance that a certificate is wrong, in (0, 1).", HOW),
    "per_modality": Option(
        "Also certify each modality alone, the others trusted.",
        HOW,
        ("--per-modality", "--joint-only"),
    ),
    "train_seed": Option(
        "Seeds of the training, comma-separated: a victim each.", WHAT, explicit=True
    ),
    "folds": Option(
        "Grouped cross-validation: n folds over all samples, a victim each, instead of the usual"
        " split.",
        WHAT,
    ),
    "fold": Option("Which of the --folds, from 0, comma-separated (else all).", WHAT),
    "preset": Option(
        "Sizes and training recipe: quick (laptop) or release (the authors').", WHAT, explicit=True
    ),
    "size": Option("Pixels of an image's side, instead of the preset's.", WHAT),
    "limit": Option("First n test samples, 0 = all (else the preset's number).", WHAT),
    "chunk": Option(
        "Samples that stay together where predictions depend on the batch, as of random models"
        " that draw for it as a whole; part of a record's identity, which --batch-size is not.",
        HOW,
    ),
    "batch_draws": Option("Draws of one EOT gradient that share a batch: faster on a GPU.", HOW),
    "accelerate": Option(
        "Compute attacks faster, comma-separated: compile, graphs (CUDA), channels-last, bf16; what"
        " judges them is computed as ever. Part of a record's identity.",
        HOW,
    ),
    "checkpoint": Option(
        "Weights of the one model named: safetensors, or a state_dict as .pt or .pth.", WHAT
    ),
    "checkpoint_part": Option(
        "Which set of weights of a file that holds several, e.g. state_dict_ema.", WHAT
    ),
    "checkpoint_map": Option(
        "Names of the file's tensors in the model, by prefixes: model.=network. (OLD= takes OLD"
        " away, =NEW puts NEW before all, OLD=- leaves tensors out), or order. Repeatable.",
        WHAT,
        metavar="OLD=NEW",
        repeatable=True,
    ),
    "contract": Option("What a black box takes and gives: a YAML file (docs: Black boxes).", WHAT),
    "train": Option(
        "Train your own model where no weights are named, or take it as its code builds it, whose"
        " weights that loads (else asked where it seems to).",
        WHAT,
        ("--train", "--no-train"),
    ),
    "preprocessing": Option(
        "From file to pixels: fit=stretch (default), pad or crop; scaling=fixed (default) or"
        " minmax. Repeatable.",
        WHAT,
        ("--preprocess",),
    ),
    "attack_params": Option(
        "A parameter of the attacks that have it, e.g. steps=50; of one alone: pgd.steps=50."
        " Repeatable.",
        HOW,
        ("--attack-param",),
    ),
    "model_params": Option(
        "A constructor argument, e.g. width=32; of one model alone: late.width=32. Repeatable.",
        WHAT,
        ("--model-param",),
    ),
    "recipe": Option(
        "A training setting, e.g. epochs=30; of one model alone: late.epochs=30. Repeatable.", WHAT
    ),
    "defense_params": Option(
        "A parameter of the defences, e.g. steps=7; of one alone: pgd-at.steps=7. Repeatable.",
        WHAT,
        ("--defense-param",),
    ),
    "half": Option("Store the weights in half precision.", WHAT),
    "whole_range": Option(
        "Take Linf radii above 1, more than the whole range of a pixel (8 is not 8/255).", HOW
    ),
    "allow_batch_dependent": Option(
        "Evaluate a model whose prediction for an image depends on its neighbours in the batch;"
        " marked, its trust fails.",
        HOW,
    ),
    "control": Option(
        "Add uniform noise of each radius, which an attack has to beat.",
        HOW,
        ("--control", "--no-control"),
    ),
    "challenge": Option(
        "Try short attacks of other kinds on what the attack left; else nobody challenges it.",
        HOW,
        ("--challenge", "--no-challenge"),
    ),
    "carry": Option(
        "Attack from the smallest radius, and what it broke not again at the larger ones"
        " (deterministic models; a faster sweep).",
        HOW,
    ),
    "cascade": Option(
        "Each attack gets only what those before it in --attack left (deterministic models; their"
        " worst case sooner).",
        HOW,
    ),
    "baseline": Option(
        "The undefended model that errors under corruptions are relative to, trained on the same"
        " data; none: they stand by themselves.",
        HOW,
    ),
    # the job
    "include": Option(
        "A Python file of yours that registers attacks, losses or defences; it is run. Repeatable.",
        WHERE,
        metavar="FILE",
        repeatable=True,
    ),
    "out": Option(
        "Folder for records, tables and figures.", WHERE, ("--out", "-o"), default=Path("reports")
    ),
    "device": Option("auto, cpu, cuda, one of several such as cuda:1, or mps.", WHERE),
    "batch_size": Option("Samples a batch, or auto: halves when memory runs out.", WHERE),
    "data_root": Option("Folder that holds the data sets on disk.", WHERE),
    "accept_unverified": Option("Use a file whose md5 is not the published one.", WHERE),
    "strict": Option("Stop at an unreadable image instead of counting it.", WHERE),
    "force": Option("Compute again what is already in the store.", WHERE),
    "keep": Option(
        "Attacked images to keep: examples of each record, all (adversarials/*.npz), or png (all of"
        " them, rounded to 8 bits).",
        WHERE,
    ),
    "fail_fast": Option("End with the first cell that fails instead of going on.", WHERE),
    "skip_failed": Option("Do not try cells again that failed before.", WHERE),
    "jobs": Option(
        "Processes that work on the victims of the grid, each on others; auto: one a GPU, or one a"
        " processor.",
        WHERE,
        ("--jobs", "-j"),
    ),
    "threads": Option("Threads of PyTorch in each process (else its share of all).", WHERE),
    "executor": Option("local, ray or slurm (extras of these names); Slurm shares --out.", WHERE),
    "address": Option("Of the Ray cluster, e.g. auto (else one of this machine alone).", WHERE),
    "gpus": Option("GPUs of a Ray task, or a part of one (else 1 with --device cuda).", WHERE),
    "slurm": Option(
        "Of the Slurm jobs, such as partition=gpu,gpus_per_node=1,timeout_min=240. Repeatable.",
        WHERE,
        metavar="KEY=VALUE,...",
        read=partial(pairs, option="--slurm"),
    ),
    "detach": Option(
        "End once Slurm has the job; the same command later writes the tables.",
        WHERE,
        ("--detach", "--wait"),
    ),
    "shard": Option(
        "i/n: only the victims that fall to part i of n, for a scheduler of your own; `medrobust"
        " merge` joins the folders.",
        WHERE,
    ),
}
"""By field, in the order in which they are written into a command."""

IN_COMMAND: dict[tuple[str, str], Option] = {
    ("compare", "model"): replace(OPTIONS["model"], default=["mail"]),
    ("compare", "defense"): Option(
        "Defences to compare with none, comma-separated; `medrobust defenses` lists them. Else"
        " pgd-at, trades, jpeg, smoothing, and of rpf, man and robust-mail those that suit the"
        " models.",
        WHAT,
        default=None,
    ),
    ("certify", "model"): replace(OPTIONS["model"], default=["late"]),
    ("certify", "defense"): Option(
        "Smoothed defences, comma-separated: smoothing, input-noise, or chains that begin with"
        " them.",
        WHAT,
    ),
    ("diagnose", "limit"): Option("First n test samples.", WHAT),
    ("diagnose", "source"): Option(
        "Undefended models for the transfer sign, comma-separated; without any it is not looked"
        " for.",
        HOW,
    ),
    ("train", "train_seed"): Option(
        "Seeds of initialisation, batches and noise, comma-separated: a training each.",
        WHAT,
        ("--train-seed", "--seed"),
        explicit=True,
    ),
    ("train", "checkpoint"): Option(
        "Start from these weights of the one model named: safetensors, or a state_dict as .pt or"
        " .pth.",
        WHAT,
    ),
    ("train", "out"): Option(
        "Also copy weights and sidecar into this folder.", WHERE, ("--out", "-o"), default=None
    ),
    ("train", "force"): Option(
        "Train although there is a checkpoint, in the cache or the zoo.", WHERE
    ),
}
"""What a command says of an option in its own way."""

COMMANDS: dict[str, type[TrainedSpec]] = {
    "run": RunSpec,
    "plan": RunSpec,
    "gate": RunSpec,
    "train": TrainingsSpec,
    "compare": RunSpec,
    "certify": CertifySpec,
    "diagnose": DiagnoseSpec,
}
"""The specification that each command fills."""


@dataclass(frozen=True)
class FieldOfCommand:
    """A field that a command fills: its type and default, and whether it has one."""

    type: Any
    default: Any = None
    required: bool = False


def fields_of(command: str) -> dict[str, FieldOfCommand]:
    """The fields of a command's specification and of its job that are options, by their name."""
    everything = {}
    for name, info in COMMANDS[command].model_fields.items():
        required = info.is_required()
        default = None if required else info.get_default()
        everything[name] = FieldOfCommand(info.annotation, default, required)
    types = get_type_hints(Job)
    everything |= {f.name: FieldOfCommand(types[f.name], f.default) for f in fields(Job)}
    left_out = {name for where, name in EXCEPT if where in ("", command)}
    return {name: field for name, field in everything.items() if name not in left_out}


def option_of(command: str, field: str) -> Option:
    """How a command says one of its fields."""
    return IN_COMMAND.get((command, field)) or OPTIONS[field]


def flags_of(command: str, field: str) -> tuple[str, ...]:
    """The names of an option; of a switch that has two, the second turns it off."""
    return option_of(command, field).flags or (f"--{field.replace('_', '-')}",)
