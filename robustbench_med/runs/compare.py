"""Comparing defences: every model with every defence under every attack, and a naive attack beside
each adaptive one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robustbench_med import errors
from robustbench_med.attacks import parameters as attack_parameters
from robustbench_med.data import Dataset
from robustbench_med.errors import UserError
from robustbench_med.naming import label
from robustbench_med.parameters import of, only, owned, split
from robustbench_med.reports.comparison.entries import Entry, LeftOut
from robustbench_med.runs import run
from robustbench_med.runs.checks import check_defense_owners, check_names
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import Job, load_all, on_disk
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.store import Record
from robustbench_med.training import defenses as defense
from robustbench_med.training import presets
from robustbench_med.training.checkpoints import model_parameters, open_checkpoint

CONTROL = "noise"
USUAL = ("pgd-at", "trades", "rpf", "man", "robust-mail", "jpeg", "smoothing")
"""Defences where none are asked for, those left out that suit none of the models."""


def compare(spec: RunSpec, job: Job) -> tuple[list[Entry], list[LeftOut]]:
    """Runs the grid of a comparison, finished cells read from the store; returns it, and what was
    asked for and is missing from it.

    A model that the parameters do not fit is left out (`errors.left_out`), and the comparison goes
    on with the others. The naive attack, pgd or else the first of the run's, is what a paper
    without adaptive attacks would have published: on a random victim the authors' release protocol
        (no EOT, one draw), on an input transform an attacker who does not know of it.

    Raises:
        UserError: as `runner.run`; parameters that fit no model; a defence that suits none of the
            models. One that suits some is left out for the others, and announced.
    """
    if spec.protocol != "sound":
        raise UserError(
            "a comparison uses the sound protocol; the release protocol's figures stand beside it"
            " as the naive ones"
        )
    if len(spec.partitions) > 1:
        raise UserError(
            "a comparison pairs victims on the same test samples: name one fold, e.g. --fold 0"
        )
    if not any(attack != CONTROL for attack in spec.attack):
        raise UserError("a comparison needs an attack besides the noise control, e.g. --attack pgd")
    include(spec.include, job.display.say)
    alone = {
        "model_params": owned(spec.model_params),
        "recipe": owned(spec.recipe),
    }  # what all share need not fit all
    check_names(spec.model_copy(update={"defense": ["none"], "defense_params": {}, **alone}))
    asked = "defense" in spec.model_fields_set
    if not asked:
        spec = spec.model_copy(update={"defense": list(USUAL)})
    check_defense_owners(spec.defense_params, spec.defense)
    spec = spec.model_copy(update={"data": on_disk(spec.data, job)})
    if spec.checkpoint is not None:  # the victims trained beside it are of its size
        params = model_parameters(
            open_checkpoint(spec.checkpoint),
            spec.model[0],
            of(spec.model_params, label(spec.model[0])),
        )
        spec = spec.model_copy(update={"model_params": {**spec.model_params, **params}})
    datasets = list(load_all(spec, spec.data, job).values())
    entries = []
    pairs, left_out = _pairs(spec, datasets, asked=asked)
    for missing in left_out:
        job.display.warn(f"left out: {missing}")
    for model, name in pairs:
        plan = defense.plan(model, name, _parameters(name, spec), presets.preset(spec.preset))
        checkpoint = (
            spec.checkpoint if plan.model == model and not plan.training else None
        )  # the others are trained
        own = _of_model(model, spec).model_copy(
            update={
                "defense": [name],
                "defense_params": _parameters(name, spec),
                "checkpoint": checkpoint,
            }
        )
        records = run.run(own, job)
        entries.append(Entry(label(model), name, tuple(records), tuple(_naive(own, records, job))))
    entries = [
        _under_release(model, entry, entries, spec, job)
        for (model, _), entry in zip(pairs, entries, strict=True)
    ]
    for missing in left_out:
        if not missing.unsuited:
            errors.left_out(f"left out of the comparison: {missing}")
    return entries, [missing for missing in left_out if asked or not missing.unsuited]


def _pairs(
    spec: RunSpec, datasets: Sequence[Dataset], *, asked: bool
) -> tuple[list[tuple[str, str]], list[LeftOut]]:
    """The combinations that make sense, undefended first, and the others; a defence that was
    `asked` for has to suit a model.
    """
    models = list(dict.fromkeys(spec.model))
    pairs, left_out = [], []
    for model in models:
        for name in dict.fromkeys(("none", *spec.defense)):
            reason = _refusal(model, name, spec, datasets)
            if reason is None:
                pairs.append((model, name))
            elif name == "none":  # its defences have nothing to be compared with
                left_out.append(LeftOut(label(model), "", reason, unsuited=False))
                break
            else:
                usual = spec.model_copy(update={"model_params": {}, "recipe": {}})
                unsuited = _refusal(model, name, usual, datasets) is not None
                left_out.append(LeftOut(label(model), name, reason, unsuited))
    if not pairs:
        raise UserError("; ".join(dict.fromkeys(missing.reason for missing in left_out)))
    for missing in left_out:
        if asked and sum(missing.defense == other.defense for other in left_out) == len(models):
            raise UserError(missing.reason)
    compared = {name for _, name in pairs} | {
        missing.defense for missing in left_out if missing.defense and not missing.unsuited
    }
    unused = [
        key
        for key in spec.defense_params
        if not any(key in _parameters(name, spec) for name in compared)
    ]
    if unused:
        raise UserError(f"no defence of this comparison has a parameter {unused[0]!r}")
    return pairs, left_out


def _refusal(model: str, name: str, spec: RunSpec, datasets: Sequence[Dataset]) -> str | None:
    """Why a model with this defence cannot be trained on these data with the parameters of the run;
    None where it can.
    """
    own = label(model)
    try:
        plan = defense.plan(model, name, _parameters(name, spec), presets.preset(spec.preset))
        defense.transforms(plan.inference)
        if not spec.whole_range:
            defense.check_radii(plan)
        for dataset in datasets:
            params = {**plan.params, **of(spec.model_params, own)}
            recipe = of(spec.recipe, own)
            presets.make_spec(
                plan.model,
                dataset,
                spec.preset,
                params=params,
                recipe=recipe,
                seed=0,
                layers=plan.training,
            )
    except UserError as error:
        return str(error)
    return None


def _parameters(name: str, spec: RunSpec) -> dict[str, object]:
    """Those of the run's defence parameters that this defence has."""
    parts = [part.strip() for part in name.split("+") if part.strip() in defense.names()]
    known = {key for part in parts for key in defense.parameters(part)}
    return {
        key: value
        for key, value in only(spec.defense_params, parts).items()
        if split(key)[1] in known
    }


def _naive(spec: RunSpec, records: Sequence[Record], job: Job) -> list[Record]:
    (name,), given = spec.defense, spec.defense_params
    parts = [part.strip() for part in name.split("+")]
    if any(
        "attack" in defense.parameters(part) and "attack" not in of(given, part) for part in parts
    ):
        plain = _one_attack(spec)
        return run.run(
            plain.model_copy(update={"defense_params": {**given, "attack": "unaware"}}), job
        )
    if any(record.stochastic for record in records):
        return _release(spec, job)
    return []


def _under_release(
    model: str, entry: Entry, entries: Sequence[Entry], spec: RunSpec, job: Job
) -> Entry:
    """An undefended victim gets the release protocol's figures where a defended one of its model
    has them: like beside like.
    """
    others = [record for other in entries if other.model == entry.model for record in other.naive]
    if (
        entry.defense != "none"
        or entry.naive
        or not any(record.spec.protocol.name == "release" for record in others)
    ):
        return entry
    own = _of_model(model, spec).model_copy(update={"defense": ["none"], "defense_params": {}})
    return replace(entry, naive=tuple(_release(own, job)))


def _release(spec: RunSpec, job: Job) -> list[Record]:
    plain = _one_attack(spec)
    kept = {
        key: value
        for key, value in plain.attack_params.items()
        if split(key)[1] not in ("eot", "keep")
    }
    return run.run(plain.model_copy(update={"attack_params": kept, "protocol": "release"}), job)


def _one_attack(spec: RunSpec) -> RunSpec:
    attacks = [attack for attack in spec.attack if attack != CONTROL]
    attack = "pgd" if "pgd" in attacks else attacks[0]
    kept = {
        key: value
        for key, value in only(spec.attack_params, [attack]).items()
        if split(key)[1] in attack_parameters(attack)
    }
    source = spec.source if attack == "transfer" else []
    one = spec.model_copy(
        update={"attack": [attack], "control": False, "attack_params": kept, "source": source}
    )
    return _of_model(spec.model[0], one)


def _of_model(model: str, spec: RunSpec) -> RunSpec:
    """The run of one model alone, without the parameters that are for others."""
    victims = [label(name) for name in (model, *spec.source)]
    kept = {"model_params": only(spec.model_params, victims), "recipe": only(spec.recipe, victims)}
    return spec.model_copy(update={"model": [model], **kept})
