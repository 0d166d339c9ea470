"""Comparing defences: every model with every defence under every attack, and a naive attack beside each adaptive one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustbench_med import defense, runner, training
from robustbench_med.attacks import parameters as attack_parameters
from robustbench_med.checkpoints import model_parameters, open_checkpoint
from robustbench_med.data import Dataset
from robustbench_med.errors import UserError
from robustbench_med.job import Job, load_all, on_disk
from robustbench_med.models.own import label
from robustbench_med.plan import check_names
from robustbench_med.registration import include
from robustbench_med.spec import RunSpec
from robustbench_med.store import Record

CONTROL = "noise"
USUAL = ("pgd-at", "trades", "rpf", "man", "robust-mail", "jpeg", "smoothing")
"""Defences where none are asked for, those left out that suit none of the models."""


@dataclass(frozen=True)
class Entry:
    """One model with one defence: its records, and those of a naive attack (empty where the attack is adaptive anyway)."""

    model: str
    defense: str
    records: tuple[Record, ...]
    naive: tuple[Record, ...] = ()


def compare(spec: RunSpec, job: Job) -> list[Entry]:
    """Runs the grid of a comparison; finished cells are read from the store.

    The naive attack, pgd or else the first of the run's, is what a paper without adaptive attacks would have published: on a random victim
    the authors' release protocol (no EOT, one draw), on an input transform an attacker who does not know of it.

    Raises:
        UserError: as `runner.run`; a defence that suits none of the models. One that suits some is left out for the others, and
            announced.
    """
    if spec.protocol != "sound":
        raise UserError("a comparison uses the sound protocol; the release protocol's figures stand beside it as the naive ones")
    if len(spec.partitions) > 1:
        raise UserError("a comparison pairs victims on the same test samples: name one fold, e.g. --fold 0")
    if not any(attack != CONTROL for attack in spec.attack):
        raise UserError("a comparison needs an attack besides the noise control, e.g. --attack pgd")
    include(spec.include, job.display.say)
    check_names(spec.model_copy(update={"defense": ["none"], "defense_params": {}}))
    asked = "defense" in spec.model_fields_set
    if not asked:
        spec = spec.model_copy(update={"defense": list(USUAL)})
    spec = spec.model_copy(update={"data": on_disk(spec.data, job)})
    if spec.checkpoint is not None:  # the victims trained beside it are of its size
        params = model_parameters(open_checkpoint(spec.checkpoint), spec.model[0], spec.model_params)
        spec = spec.model_copy(update={"model_params": params})
    datasets = list(load_all(spec, spec.data, job).values())
    entries = []
    pairs = _pairs(spec, datasets, job, asked=asked)
    for model, name in pairs:
        plan = defense.plan(model, name, _parameters(model, name, spec), training.preset(spec.preset))
        checkpoint = spec.checkpoint if plan.model == model and not plan.training else None  # the others are trained
        own = spec.model_copy(
            update={"model": [model], "defense": [name], "defense_params": _parameters(model, name, spec), "checkpoint": checkpoint}
        )
        records = runner.run(own, job)
        entries.append(Entry(label(model), name, tuple(records), tuple(_naive(own, records, job))))
    return [_under_release(model, entry, entries, spec, job) for (model, _), entry in zip(pairs, entries, strict=True)]


def _pairs(spec: RunSpec, datasets: Sequence[Dataset], job: Job, *, asked: bool) -> list[tuple[str, str]]:
    """The combinations that make sense, undefended first; a defence that was `asked` for has to suit a model."""
    names = dict.fromkeys(("none", *spec.defense))
    pairs, refused = [], []
    for model in dict.fromkeys(spec.model):
        for name in names:
            try:
                plan = defense.plan(model, name, _parameters(model, name, spec), training.preset(spec.preset))
                defense.transforms(plan.inference)
                for dataset in datasets:
                    params = {**plan.params, **spec.model_params}
                    training.make_spec(plan.model, dataset, spec.preset, params=params, recipe=spec.recipe, seed=0, layers=plan.training)
            except UserError as error:
                refused.append((model, name, error))
            else:
                pairs.append((model, name))
    for model, name, reason in refused:
        if asked and all(name != other for _, other in pairs):
            raise reason
        job.display.warn(f"left out: {name} on {model} ({reason})")
    every = [key for key in spec.defense_params if not any(key in _parameters(m, n, spec) for m, n in pairs)]
    if every:
        raise UserError(f"no defence of this comparison has a parameter {every[0]!r}")
    return pairs


def _parameters(model: str, name: str, spec: RunSpec) -> dict[str, object]:
    """Those of the run's defence parameters that this defence has."""
    known = {key for part in name.split("+") if part.strip() in defense.names() for key in defense.parameters(part.strip())}
    return {key: value for key, value in spec.defense_params.items() if key in known}


def _naive(spec: RunSpec, records: Sequence[Record], job: Job) -> list[Record]:
    (name,), given = spec.defense, spec.defense_params
    if any("attack" in defense.parameters(part.strip()) for part in name.split("+")) and "attack" not in given:
        plain = _one_attack(spec)
        return runner.run(plain.model_copy(update={"defense_params": {**given, "attack": "unaware"}}), job)
    if any(record["stochastic"] for record in records):
        return _release(spec, job)
    return []


def _under_release(model: str, entry: Entry, entries: Sequence[Entry], spec: RunSpec, job: Job) -> Entry:
    """An undefended victim gets the release protocol's figures where a defended one of its model has them: like beside like."""
    others = [record for other in entries if other.model == entry.model for record in other.naive]
    if entry.defense != "none" or entry.naive or not any(record["spec"]["protocol"]["name"] == "release" for record in others):
        return entry
    own = spec.model_copy(update={"model": [model], "defense": ["none"], "defense_params": {}})
    return replace(entry, naive=tuple(_release(own, job)))


def _release(spec: RunSpec, job: Job) -> list[Record]:
    plain = _one_attack(spec)
    kept = {key: value for key, value in plain.attack_params.items() if key not in ("eot", "keep")}
    return runner.run(plain.model_copy(update={"attack_params": kept, "protocol": "release"}), job)


def _one_attack(spec: RunSpec) -> RunSpec:
    attacks = [attack for attack in spec.attack if attack != CONTROL]
    attack = "pgd" if "pgd" in attacks else attacks[0]
    kept = {key: value for key, value in spec.attack_params.items() if key in attack_parameters(attack)}
    source = spec.source if attack == "transfer" else []
    return spec.model_copy(update={"attack": [attack], "control": False, "attack_params": kept, "source": source})
