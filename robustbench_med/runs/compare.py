"""Comparing defences: every model with every defence under every attack, and a naive attack beside
each adaptive one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from robustbench_med import errors
from robustbench_med.attacks import APART
from robustbench_med.attacks import entry_of as attack_entry
from robustbench_med.attacks import parameters as attack_parameters
from robustbench_med.data import Dataset
from robustbench_med.errors import IncompleteError, UserError
from robustbench_med.naming import MISSING, label
from robustbench_med.parameters import of, only, owned, split
from robustbench_med.reports.comparison.entries import Entry, LeftOut
from robustbench_med.runs.checks import box_of, check_attacks, check_defense_owners
from robustbench_med.runs.failing import announce
from robustbench_med.runs.job import Job
from robustbench_med.runs.run import run_grids
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.failure import Failure
from robustbench_med.store.record import CONTROL, Record
from robustbench_med.training import defenses, presets
from robustbench_med.training.checkpoints import model_parameters

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
        UserError: as `run`; parameters that fit no model; a defence that suits none of the models.
            One that suits some is left out for the others, and announced.
    """
    check_protocol(spec)
    if job.shard is not None:
        raise UserError("a comparison pairs all victims; shards are of `run`, and merged")
    asked = "defense" in spec.model_fields_set
    if not asked:
        spec = spec.model_copy(update={"defense": list(USUAL)})
    session = Session.open(spec, job, check_comparison)
    session = session.of(with_parameters_of_checkpoint(session))
    pairs, left_out = pairs_of(session, asked=asked)
    for missing in left_out:
        job.display.warn(f"left out: {missing}")
    entries, failed = entries_of(pairs, session)
    left_out += failed
    for missing in left_out:
        if not missing.unsuited:
            errors.left_out(f"left out of the comparison: {missing}")
    return entries, [missing for missing in left_out if asked or not missing.unsuited]


# --- what can be compared -------------------------------------------------------------------------


def check_protocol(spec: RunSpec) -> None:
    """Refuses a run whose records could not be compared."""
    if spec.protocol != "sound":
        raise UserError(
            "a comparison uses the sound protocol; the release protocol's figures stand beside it"
            " as the naive ones"
        )
    if len(spec.partitions) > 1:
        raise UserError(
            "a comparison pairs victims on the same test samples: name one fold, e.g. --fold 0"
        )
    if MISSING in spec.attack:
        raise UserError(
            f"a comparison is of attacks within a ball; `medrobust run --attack {MISSING}` says"
            " what victims make of missing modalities"
        )
    if apart := [attack for attack in spec.attack if attack in APART]:
        raise UserError(
            f"{', '.join(apart)}: a comparison is of attacks within a ball; `medrobust run --attack"
            f" {apart[0]}` has all victims in one table"
        )
    if not any(attack != CONTROL for attack in spec.attack):
        raise UserError("a comparison needs an attack besides the noise control, e.g. --attack pgd")


def check_comparison(spec: RunSpec) -> None:
    """Refuses what no model could be compared with; what all models share need not fit them all."""
    undefended = {
        "defense": ["none"],
        "defense_params": {},
        "model_params": owned(spec.model_params),
        "recipe": owned(spec.recipe),
    }
    check_attacks(spec.model_copy(update=undefended))
    check_defense_owners(spec.defense_params, spec.defense)


def with_parameters_of_checkpoint(session: Session[RunSpec]) -> RunSpec:
    """The run with the parameters that weights of a file tell of: victims trained beside them are
    of their size.
    """
    spec, checkpoint = session.spec, session.victims.plans.checkpoint
    if checkpoint is None:
        return spec
    (model,) = spec.model
    params = model_parameters(checkpoint, model, of(spec.model_params, label(model)))
    return spec.model_copy(update={"model_params": {**spec.model_params, **params}})


def pairs_of(
    session: Session[RunSpec], *, asked: bool
) -> tuple[list[tuple[str, str]], list[LeftOut]]:
    """The pairs of model and defence that make sense, undefended first, and the others; a defence
    that was `asked` for has to suit a model.
    """
    spec, datasets = session.spec, list(session.datasets.values())
    models = list(dict.fromkeys(spec.model))
    pairs, left_out = [], []
    for model in models:
        for defense in dict.fromkeys(("none", *spec.defense)):
            reason = refusal(model, defense, spec, datasets)
            if reason is None:
                pairs.append((model, defense))
            elif defense == "none":  # its defences have nothing to be compared with
                left_out.append(LeftOut(label(model), "", reason, unsuited=False))
                break
            else:
                usual = spec.model_copy(update={"model_params": {}, "recipe": {}})
                unsuited = refusal(model, defense, usual, datasets) is not None
                left_out.append(LeftOut(label(model), defense, reason, unsuited))
    if not pairs:
        raise UserError("; ".join(dict.fromkeys(missing.reason for missing in left_out)))
    if asked:
        check_suited(left_out, len(models))
    compared = [defense for _, defense in pairs]
    failed = [missing.defense for missing in left_out if missing.defense and not missing.unsuited]
    check_used({*compared, *failed}, spec)
    return pairs, left_out


def check_suited(left_out: Sequence[LeftOut], n_models: int) -> None:
    """Refuses a defence that was left out for every model."""
    for missing in left_out:
        if sum(missing.defense == other.defense for other in left_out) == n_models:
            raise UserError(missing.reason)


def check_used(compared: Iterable[str], spec: RunSpec) -> None:
    """Refuses a parameter that none of these defences has."""
    used = {key for defense in compared for key in parameters_of_defense(defense, spec)}
    for key in spec.defense_params:
        if key not in used:
            raise UserError(f"no defence of this comparison has a parameter {key!r}")


def refusal(model: str, defense: str, spec: RunSpec, datasets: Sequence[Dataset]) -> str | None:
    """Why a model with this defence cannot be trained on these data with the parameters of the run;
    None where it can.
    """
    params, recipe = of(spec.model_params, label(model)), of(spec.recipe, label(model))
    try:
        plan = plan_of(model, defense, spec)
        defenses.transforms(plan.inference)
        if not spec.whole_range:
            defenses.check_radii(plan)
        for dataset in datasets:
            presets.make_spec(
                plan.model,
                dataset,
                spec.preset,
                params={**plan.params, **params},
                recipe=recipe,
                seed=0,
                layers=plan.training,
            )
    except UserError as error:
        return str(error)
    return None


def plan_of(model: str, defense: str, spec: RunSpec) -> defenses.Plan:
    """A model with a defence, and those of the run's parameters that the defence has."""
    params = parameters_of_defense(defense, spec)
    return defenses.plan(model, defense, params, presets.preset(spec.preset))


def parameters_of_defense(defense: str, spec: RunSpec) -> dict[str, object]:
    """Those of the run's defence parameters that this defence has."""
    parts = [part for part in parts_of(defense) if part in defenses.names()]
    known = {key for part in parts for key in defenses.parameters(part)}
    return {
        key: value
        for key, value in only(spec.defense_params, parts).items()
        if split(key)[1] in known
    }


def parts_of(defense: str) -> list[str]:
    """The defences of a chain."""
    return [part.strip() for part in defense.split("+")]


# --- what is run ----------------------------------------------------------------------------------


Pair = tuple[str, str]
"""A model and a defence."""


def entries_of(
    pairs: Sequence[Pair], session: Session[RunSpec]
) -> tuple[list[Entry], list[LeftOut]]:
    """What was measured of each pair, and the pairs of which a cell failed: they are compared with
    nothing, nor is any defence of a model that failed without one.

    Raises:
        UserError: nothing is left.
    """
    parts = {(model, defense): part_of(model, defense, session) for model, defense in pairs}
    measured, failures = ran(parts, session)
    beside = {pair: naive(parts[pair], records) for pair, records in measured.items()}
    naively, failed = ran({pair: spec for pair, spec in beside.items() if spec}, session)
    failures |= failed
    left_out = [
        LeftOut(label(pair[0]), pair[1], cells_failed(failures[pair], session.out), unsuited=False)
        for pair in pairs
        if pair in failures
    ]
    compared = [pair for pair in measured if pair not in failures]
    for model, defense in [pair for pair in compared if (pair[0], "none") not in compared]:
        reason = f"{label(model)} without a defence failed"
        left_out.append(LeftOut(label(model), defense, reason, unsuited=False))
        compared.remove((model, defense))
    if not compared:
        every = [failure for several in failures.values() for failure in several]
        announce(every, len(every), session.out)
    entries = {
        (model, defense): Entry(
            label(model),
            defense,
            tuple(measured[model, defense]),
            tuple(naively.get((model, defense), ())),
        )
        for model, defense in compared
    }
    return under_release(entries, session), left_out


def part_of(model: str, defense: str, session: Session[RunSpec]) -> RunSpec:
    """The run of one model with one defence."""
    spec, plan = session.spec, plan_of(model, defense, session.spec)
    untrained = plan.model == model and not plan.training  # the others are trained
    return of_one_model(model, spec).model_copy(
        update={
            "defense": [defense],
            "defense_params": parameters_of_defense(defense, spec),
            "checkpoint": spec.checkpoint if untrained else None,
        }
    )


def ran(
    parts: Mapping[Pair, RunSpec], session: Session[RunSpec]
) -> tuple[dict[Pair, list[Record]], dict[Pair, list[Failure]]]:
    """The records of the parts of a comparison of which no cell failed, and the failures of the
    others.
    """
    for spec in parts.values():
        check_attacks(spec)
    found = run_grids([session.of(spec) for spec in parts.values()]) if parts else []
    each = list(zip(parts, found, strict=True))
    return (
        {pair: records for pair, (records, failures) in each if not failures},
        {pair: failures for pair, (_, failures) in each if failures},
    )


def cells_failed(failures: Sequence[Failure], out: Path) -> str:
    """Why a part of a comparison is missing."""
    return (
        f"{len(failures)} cells failed, the first of them: {failures[0].error};"
        f" `medrobust rerun --failed --out {shlex.quote(str(out))}` tries them again"
    )


def naive(spec: RunSpec, records: Sequence[Record]) -> RunSpec | None:
    """The run of a naive attack on one model with one defence; None where the attack on it is
    adaptive anyway.
    """
    if any(hides_from_attacks(part, spec) for part in parts_of(spec.defense[0])):
        params = {**spec.defense_params, "attack": "unaware"}
        return with_one_attack(spec).model_copy(update={"defense_params": params})
    if any(record.stochastic for record in records):
        return released(spec)
    return None


def hides_from_attacks(defense: str, spec: RunSpec) -> bool:
    """Whether a defence can be kept from attacks, and the run leaves it open."""
    return "attack" in defenses.parameters(defense) and "attack" not in of(
        spec.defense_params, defense
    )


def under_release(entries: Mapping[Pair, Entry], session: Session[RunSpec]) -> list[Entry]:
    """Undefended victims get the release protocol's figures where a defended one of their model
    has them: like beside like.
    """
    released_too = {
        model
        for (model, _), entry in entries.items()
        if "release" in {record.spec.protocol.name for record in entry.naive}
    }
    undefended = {"defense": ["none"], "defense_params": {}}
    parts = {
        (model, "none"): released(of_one_model(model, session.spec).model_copy(update=undefended))
        for model in released_too
        if not entries[model, "none"].naive
    }
    found, failures = ran(parts, session)
    for several in failures.values():
        raise IncompleteError(cells_failed(several, session.out))
    return [
        replace(entry, naive=tuple(found[pair])) if pair in found else entry
        for pair, entry in entries.items()
    ]


def released(spec: RunSpec) -> RunSpec:
    """One attack of the run, under the authors' release protocol."""
    one = with_one_attack(spec)
    params = {
        key: value
        for key, value in one.attack_params.items()
        if split(key)[1] not in ("eot", "keep")
    }
    return one.model_copy(update={"attack_params": params, "protocol": "release"})


def with_one_attack(spec: RunSpec) -> RunSpec:
    """The run with pgd alone (of a black box, which has no gradient, the surrogate's transfer),
    or else the first of its attacks; once, as no search is naive.
    """
    attacks = [attack for attack in spec.attack if attack != CONTROL]
    searched = attack_entry(attacks[0]).escalates == "auto"
    once = "pgd" if box_of(spec.model[0]) is None else "transfer"
    attack = once if once in attacks or searched else attacks[0]
    known = attack_parameters(attack)
    params = {
        key: value
        for key, value in only(spec.attack_params, [attack]).items()
        if split(key)[1] in known
    }
    one = spec.model_copy(
        update={
            "attack": [attack],
            "control": False,
            "attack_params": params,
            "effort": None,
            "max_passes": None,
            "carry": False,
            "cascade": False,
            "source": spec.source if attack == "transfer" else [],
        }
    )
    return of_one_model(spec.model[0], one)


def of_one_model(model: str, spec: RunSpec) -> RunSpec:
    """The run of one model alone, without the parameters that are for others."""
    victims = [label(name) for name in (model, *spec.source)]
    return spec.model_copy(
        update={
            "model": [model],
            "model_params": only(spec.model_params, victims),
            "recipe": only(spec.recipe, victims),
        }
    )
