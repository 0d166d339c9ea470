"""Refusals before anything starts: names that are none, parameters that nothing has, combinations
without meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_med import naming
from robustbench_med.attacks import (
    APART,
    CORRUPTIONS,
    ENGINES,
    KINDS,
    OWN_THREATS,
    asking,
    asks,
    attack_code,
    engines,
    under,
    untargeted,
)
from robustbench_med.attacks.corruptions import EVERY
from robustbench_med.errors import INCLUDE, UserError, nearest, unknown
from robustbench_med.evaluation.goals import GOALS
from robustbench_med.models import registry, user_file
from robustbench_med.models.black_box import Device, Unasked
from robustbench_med.naming import NO_BASELINE, label
from robustbench_med.parameters import check_owners, of, split
from robustbench_med.runs.chains import is_searched_once
from robustbench_med.runs.spec import DiagnoseSpec, RunSpec, ThreatsSpec, VictimsSpec
from robustbench_med.runs.threats import effort_of, engine_of, parameters_of
from robustbench_med.store.record import CONTROL
from robustbench_med.training import defenses, presets
from robustbench_med.training.defenses import Plan


def check_attacks(spec: RunSpec) -> None:
    """Refuses unknown attacks, parameters that none of them has, and targets and sources that they
    cannot take; and what `check_threats` refuses.
    """
    check_attack_names(spec)
    check_norms(spec)
    check_access(spec)
    plans = check_threats(spec)
    check_corruptions(spec)
    check_attack_parameters(spec)
    check_acceleration(spec)
    check_effort(spec, unaware=any(plan.unaware for plan in plans))
    check_transfer(spec)
    check_target(spec)
    check_chains(spec)
    if spec.cross_modal and (spec.target_task != "joint" or any("=" in eps for eps in spec.eps)):
        raise UserError(
            "--cross-modal attacks every modality and task by itself; leave out --target-task and"
            " radii by modality"
        )


def check_threats(spec: ThreatsSpec) -> list[Plan]:
    """Refuses unknown sources, and what `check_victims` refuses."""
    for model in spec.source:
        presets.check_model(model)
    boxes = [name for name in spec.model if box_of(name) is not None]
    if isinstance(spec, DiagnoseSpec) and boxes:
        raise UserError(
            "diagnose looks at gradients, and nobody sees those of the black box"
            f" {label(boxes[0])}; the signs that need none are looked for after every cell of a run"
        )
    return check_victims(spec)


def check_victims(spec: VictimsSpec) -> list[Plan]:
    """Refuses unknown models and defences, parameters and training settings that one of them does
    not have, and weights of a file for several victims.

    Returns:
        Every model with every defence.
    """
    for model in spec.model:
        presets.check_model(model)
    check_labels(spec)
    check_victim_owners(spec)
    plans = [check_victim(model, defense, spec) for model in spec.model for defense in spec.defense]
    if spec.checkpoint is not None:
        check_checkpoint(spec, plans)
    return plans


def check_labels(spec: VictimsSpec) -> None:
    """Refuses two models that tables would call the same."""
    for i, model in enumerate(spec.model):
        for twin in spec.model[:i]:
            if twin != model and label(twin) == label(model):
                raise UserError(
                    f"{twin} and {model} would both be called {label(model)} in the tables; rename"
                    " one of the files"
                )


def check_victim_owners(spec: VictimsSpec) -> None:
    """Refuses a parameter of a model or defence that the specification does not name."""
    sources = spec.source if isinstance(spec, ThreatsSpec) else []
    beside = [spec.baseline] if isinstance(spec, RunSpec) and _corrupts(spec) else []
    names = [label(model) for model in (*spec.model, *sources, *beside)]
    check_owners(spec.model_params, names, "model")
    check_owners(spec.recipe, names, "model")
    check_defense_owners(spec.defense_params, spec.defense)


def check_victim(model: str, defense: str, spec: VictimsSpec) -> Plan:
    """One model with one defence; parameters and training settings that it does not have are
    refused.
    """
    plan = defenses.plan(model, defense, spec.defense_params, presets.preset(spec.preset))
    defenses.transforms(plan.inference)
    defenses.code_of_layers((*plan.training, *plan.inference))
    if not spec.whole_range:
        defenses.check_radii(plan)
    check_model_parameters(plan.model, label(model), spec)
    presets.choose_recipe(plan.model, spec.preset, plan.training, of(spec.recipe, label(model)))
    return plan


def check_defense_owners(params: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuses a parameter of a defence that is none of these or of their chains."""
    known = [part.strip() for name in names for part in name.split("+") if part.strip() != "none"]
    if params and not known:
        raise UserError(
            f"no defence is named that could take {next(iter(params))!r}; --defense NAME names one"
        )
    check_owners(params, known, "defence")


def check_model_parameters(network: str, name: str, spec: VictimsSpec) -> None:
    """Refuses parameters of the model `name` that its network (another one behind some defences)
    does not have.
    """
    known = registry.parameters(network)
    if naming.is_own(network) and user_file.load(network).takes_any():
        return
    for key in of(spec.model_params, name):
        if key not in known:
            several = len(spec.model) > 1 and key in spec.model_params
            alone = (
                f" Give it to those that have it alone, as --model-param MODEL.{key}=..."
                if several
                else ""
            )
            raise UserError(
                f"model {label(network)!r} has no parameter {key!r}; {nearest(key, known)}{alone}"
            )


def check_checkpoint(spec: VictimsSpec, plans: Sequence[Plan]) -> None:
    """Refuses weights of a file for several victims, which the weights of one cannot be, and for a
    network that has its own.
    """
    for plan in plans:
        if registry.network_of(plan.model) is not None:
            raise UserError(f"--checkpoint: {plan.model} has its weights already; leave it out")
    if len(spec.model) > 1 or len(spec.data) > 1 or len(spec.train_seed) > 1:
        raise UserError(
            "--checkpoint belongs to one model, one data set and one training; run them one by one"
        )
    if spec.folds is not None:
        raise UserError(
            "--checkpoint does not go with --folds: every fold needs a victim that was not trained"
            " on it"
        )
    if any((p.model, p.training) != (plans[0].model, plans[0].training) for p in plans):
        raise UserError(
            "--checkpoint holds the weights of one training, but these defences are trained"
            " differently; run them one by one"
        )


def check_attack_names(spec: RunSpec) -> None:
    """Refuses attacks that the engine of the run does not have, and an engine that is missing."""
    known, library = ENGINES[spec.engine], engines.ENGINES.get(spec.engine)
    if library is not None and library.missing is not None:
        raise UserError(f"--engine {spec.engine}: {library.missing}")
    for attack in spec.bounded:
        if attack not in known and attack not in (CONTROL, *APART):
            raise unknown(
                "attack" if spec.engine == "native" else f"attack of the engine {spec.engine}",
                attack,
                [*known, *APART],
                INCLUDE,
            )


def check_access(spec: RunSpec) -> None:
    """Refuses attacks that ask a black box for what it does not give, and a cap on queries of what
    is none.
    """
    boxes = [name for name in spec.model if box_of(name) is not None]
    if spec.max_queries is not None and len(boxes) < len(spec.model):
        raise UserError(
            "--max-queries caps what black boxes are asked (net.onnx, http://..., black_box(...));"
            f" {next(label(m) for m in spec.model if m not in boxes)} is none"
        )
    for name in boxes:
        device = box_of(name)
        assert device is not None
        if spec.engine != "native":
            raise UserError(f"--engine {spec.engine}: black boxes are attacked by native attacks")
        if "adaptive" in spec.bounded and (spec.effort in ("quick", "max") or spec.max_passes):
            raise UserError(
                "--effort and --max-passes are for victims with gradients; of a black box adaptive"
                f" asks --max-queries of each sample, {asking.QUERIES} by default"
            )
        for attack in spec.bounded:
            needed = asks(attack)
            if needed == "gradients":
                known = ", ".join(known_to(device.gives))
                raise UserError(
                    f"{attack} follows the gradient of the victim, and nobody sees that of the"
                    f" black box {label(name)}; what asks for none: {known}"
                )
            if needed == "scores" and device.gives == "decisions":
                raise UserError(
                    f"{attack} asks for scores, and {label(name)} gives decisions alone; what asks"
                    f" for no more: {', '.join(known_to('decisions'))}"
                )


def known_to(gives: str) -> list[str]:
    """The attacks on a black box that answers so."""
    enough = ("scores", "decisions") if gives == "scores" else ("decisions",)
    return [name for name in ENGINES["native"] if name != CONTROL and asks(name) in enough]


def box_of(name: str) -> Device | None:
    """The device behind a model; None of what is no black box."""
    given = registry.network_of(name)
    return given.network.device if given and isinstance(given.network, Unasked) else None


def check_norms(spec: RunSpec) -> None:
    """Refuses attacks under a norm that they do not know."""
    for norm in spec.norm:
        known = under(norm, spec.engine)
        for attack in spec.bounded:
            if attack in OWN_THREATS and norm not in OWN_THREATS[attack].norms:
                names = ", ".join(OWN_THREATS[attack].norms)
                raise UserError(f"{attack} does not exist under the norm {norm}; it does: {names}")
            if attack not in known and attack not in (CONTROL, *APART):
                raise UserError(
                    f"{attack} does not exist under the norm {norm} (engine {spec.engine}); what"
                    f" does: {', '.join(known) or 'nothing'}"
                )


def check_attack_parameters(spec: RunSpec) -> None:
    """Refuses parameters that no attack of the run has, or not the one they are for, and values an
    attack cannot take.
    """
    kinds = KINDS if EVERY in spec.attack else ()
    check_owners(spec.attack_params, [*spec.bounded, *kinds], "attack")
    for key in spec.attack_params:
        owner, name = split(key)
        asked = [owner] if owner else spec.bounded
        has = {
            attack: parameters_of(attack, spec, stochastic=False, given=False) for attack in asked
        }
        if not any(name in own for own in has.values()):
            known = list(dict.fromkeys(name for own in has.values() for name in own))
            raise UserError(
                f"no attack of this run ({', '.join(asked)}) has a parameter {name!r};"
                f" {nearest(name, known)}"
            )
    for attack in spec.bounded:
        attack_code(attack, parameters_of(attack, spec, stochastic=False), engine_of(attack, spec))


def check_corruptions(spec: RunSpec) -> None:
    """Refuses an unknown baseline, and one without corruptions."""
    if not _corrupts(spec):
        if spec.baseline != RunSpec.model_fields["baseline"].default:
            raise UserError(f"--baseline is for corruptions; add --attack {EVERY}")
    elif spec.baseline != NO_BASELINE:
        presets.check_model(spec.baseline)


def _corrupts(spec: RunSpec) -> bool:
    return any(attack in CORRUPTIONS for attack in spec.attack)


def check_acceleration(spec: RunSpec) -> None:
    """Refuses to make faster what other libraries, or machines that nobody sees into, compute."""
    how = ", ".join(spec.accelerate)
    if how and spec.engine != "native":
        raise UserError(f"--accelerate {how}: attacks of the engine {spec.engine} compute alone")
    boxes = [name for name in spec.model if box_of(name) is not None]
    if how and boxes:
        raise UserError(
            f"--accelerate {how}: the black box {label(boxes[0])} computes where nobody sees it"
        )


def check_effort(spec: RunSpec, *, unaware: bool) -> None:
    """Refuses a search that cannot be made, and a budget or effort that no attack would use.

    Args:
        unaware: whether an attack of the run is kept from knowing of a victim's transform.
    """
    efforts = [effort_of(name, spec, stochastic=False, unaware=unaware) for name in spec.bounded]
    if any(efforts):
        return
    if spec.effort in ("auto", "max"):
        raise UserError(
            f"--effort {spec.effort}: the budget of {', '.join(spec.bounded)} is fixed; those of"
            " adaptive, pgd and apgd (of the engine native) are not"
        )
    if spec.max_passes is not None:
        raise UserError("--max-passes bounds a search; add --effort auto, or --attack adaptive")


def check_transfer(spec: RunSpec) -> None:
    """Refuses a transfer attack without sources, which none but black boxes get by themselves, and
    sources without one.
    """
    others = [name for name in spec.model if box_of(name) is None]
    if "transfer" in spec.bounded and not spec.source and others:
        raise UserError(
            "transfer makes its adversarials on other victims; name them with --source late or"
            " --source late,mail (a black box needs none: its answers train one)"
        )
    if spec.source and "transfer" not in spec.bounded:
        raise UserError("--source is for --attack transfer")


def check_target(spec: RunSpec) -> None:
    """Refuses a target that is none, and attacks that cannot aim at one."""
    if spec.target is None:
        return
    if spec.target not in GOALS and not spec.target.isdigit():
        raise UserError(
            f"--target takes random, least-likely or the number of a class, got {spec.target!r}"
        )
    for attack in spec.bounded:
        if attack in OWN_THREATS or untargeted(attack):
            raise UserError(f"{attack} cannot aim at a class; take it out of this --target run")


def check_chains(spec: RunSpec) -> None:
    """Refuses chains of figures that are not worst cases over a growing set of attempts."""
    if not (spec.carry or spec.cascade):
        return
    asked = "--carry" if spec.carry else "--cascade"
    if spec.carry and spec.cascade:
        raise UserError("--carry and --cascade make chains of the same cells; take one of them")
    if spec.protocol != "sound":
        raise UserError(f"{asked} is for the protocol sound; release attacks every sample")
    if spec.target is not None:
        raise UserError(f"{asked}: a wrong class is not yet the one aimed at; leave out --target")
    attacks = [name for name in dict.fromkeys(spec.bounded) if name not in (CONTROL, *APART)]
    for attack in attacks[1:] if spec.cascade else ():
        if is_searched_once(attack, spec):
            raise UserError(
                f"--cascade: {attack} measures the smallest perturbation of every sample; put it"
                " first, or take it out"
            )
