"""What a run asks for, in the terms of attacks and data: refusals before anything starts, threats,
parameters, commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_med import naming
from robustbench_med.attacks import ENGINES, Threat, attack_code, complete, untargeted
from robustbench_med.attacks import parameters as attack_parameters
from robustbench_med.data import Dataset
from robustbench_med.errors import INCLUDE, UserError, nearest, unknown
from robustbench_med.evaluation.protocol import GOALS
from robustbench_med.models import registry
from robustbench_med.models import user_file as own
from robustbench_med.naming import label
from robustbench_med.parameters import check_owners, of, split
from robustbench_med.parsing import parse_radii
from robustbench_med.runs.spec import EOT_AUTOATTACK, EOT_DEFAULT, Cell, RunSpec
from robustbench_med.training import defenses as defense
from robustbench_med.training import presets


def check_names(spec: RunSpec) -> None:
    """Refuses unknown models, attacks and presets, and parameters that a model, or no attack or
    defence of the run, has.
    """
    for model in spec.model + spec.source:
        presets.check_model(model)
    for i, model in enumerate(spec.model):
        if twin := [
            other for other in spec.model[:i] if other != model and label(other) == label(model)
        ]:
            raise UserError(
                f"{twin[0]} and {model} would both be called {label(model)} in the tables; rename"
                " one of the files"
            )
    known = ENGINES[spec.engine]
    for attack in spec.attack:
        if attack not in known and attack != "noise":
            raise unknown(
                "attack" if spec.engine == "native" else f"attack of the engine {spec.engine}",
                attack,
                known,
                INCLUDE,
            )
    plans = check_victims(spec)
    check_attack_parameters(spec)
    if "transfer" in spec.attack and not spec.source:
        raise UserError(
            "transfer makes its adversarials on other victims; name them with --source late or"
            " --source late,mail"
        )
    if spec.source and "transfer" not in spec.attack:
        raise UserError("--source is for --attack transfer")
    if spec.target is not None:
        if spec.target not in GOALS and not spec.target.isdigit():
            raise UserError(
                f"--target takes random, least-likely or the number of a class, got {spec.target!r}"
            )
        for attack in spec.attack:
            if untargeted(attack):
                raise UserError(f"{attack} cannot aim at a class; take it out of this --target run")
    if spec.cross_modal and (spec.target_task != "joint" or any("=" in eps for eps in spec.eps)):
        raise UserError(
            "--cross-modal attacks every modality and task by itself; leave out --target-task and"
            " radii by modality"
        )
    if spec.checkpoint is not None and (
        len(spec.model) > 1 or len(spec.data) > 1 or len(spec.train_seed) > 1
    ):
        raise UserError(
            "--checkpoint belongs to one model, one data set and one training; run them one by one"
        )
    if spec.checkpoint is not None and spec.folds is not None:
        raise UserError(
            "--checkpoint does not go with --folds: every fold needs a victim that was not trained"
            " on it"
        )
    if spec.checkpoint is not None and any(
        (p.model, p.training) != (plans[0].model, plans[0].training) for p in plans
    ):
        raise UserError(
            "--checkpoint holds the weights of one training, but these defences are trained"
            " differently; run them one by one"
        )


def check_defense_owners(given: Mapping[str, Any], defenses: Sequence[str]) -> None:
    """Refuses a parameter of a defence that is none of these or of their chains."""
    check_owners(
        given,
        [part.strip() for name in defenses for part in name.split("+") if part.strip() != "none"],
        "defence",
    )


def check_victims(spec: RunSpec) -> list[defense.Plan]:
    """Every model with every defence of the run; parameters and training settings that one of them
    does not have are refused.
    """
    names = [label(model) for model in (*spec.model, *spec.source)]
    check_owners(spec.model_params, names, "model")
    check_owners(spec.recipe, names, "model")
    check_defense_owners(spec.defense_params, spec.defense)
    plans = []
    for model in spec.model:
        for name in spec.defense:
            plan = defense.plan(model, name, spec.defense_params, presets.preset(spec.preset))
            defense.transforms(plan.inference)
            defense.code_of_layers((*plan.training, *plan.inference))
            if not spec.whole_range:
                defense.check_radii(plan)
            check_model_parameters(plan.model, label(model), spec)
            presets.choose_recipe(
                plan.model, spec.preset, plan.training, of(spec.recipe, label(model))
            )
            plans.append(plan)
    return plans


def check_model_parameters(network: str, name: str, spec: RunSpec) -> None:
    """Refuses parameters of the model `name` that its network (another one behind some defences)
    does not have.
    """
    known = registry.parameters(network)
    if naming.is_own(network) and own.load(network).takes_any():
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


def check_attack_parameters(spec: RunSpec) -> None:
    """Refuses parameters that no attack of the run has, or not the one they are for, and values an
    attack cannot take.
    """
    check_owners(spec.attack_params, spec.attack, "attack")
    for key in spec.attack_params:
        owner, name = split(key)
        asked = [owner] if owner else spec.attack
        has = {
            attack: parameters_of(attack, spec, stochastic=False, given=False) for attack in asked
        }
        if not any(name in own for own in has.values()):
            known = list(dict.fromkeys(name for own in has.values() for name in own))
            raise UserError(
                f"no attack of this run ({', '.join(asked)}) has a parameter {name!r};"
                f" {nearest(name, known)}"
            )
    for attack in spec.attack:
        attack_code(attack, parameters_of(attack, spec, stochastic=False), engine_of(attack, spec))


def make_threat(cell: Cell, spec: RunSpec, dataset: Dataset) -> Threat:
    """The threat model of a cell on this data."""
    names = list(dataset.tasks)
    if cell.target_task == "joint":
        tasks = tuple(range(len(names)))
    elif cell.target_task in names:
        tasks = (names.index(cell.target_task),)
    elif cell.target_task.isdigit() and int(cell.target_task) < len(names):
        tasks = (int(cell.target_task),)
    else:
        raise unknown(
            "target task", cell.target_task, ["joint", *names, *map(str, range(len(names)))]
        )
    targeted = spec.target is not None and cell.attack != "noise"
    return Threat(cell.norm, parse_radii(cell.eps, dataset.modalities), tasks, targeted=targeted)


def engine_of(attack: str, spec: RunSpec) -> str:
    """Who computes an attack: the noise control is always native."""
    return "native" if attack == "noise" else spec.engine


def parameters_of(
    attack: str, spec: RunSpec, *, stochastic: bool, unaware: bool = False, given: bool = True
) -> dict[str, Any]:
    """An attack's complete parameters: its defaults, the protocol's, then the user's (unless not
    `given`).

    Args:
        unaware: the attack does not see an input transform of the victim: it would stop where the
            bare network falls.
    """
    engine = engine_of(attack, spec)
    known = attack_parameters(attack, engine)
    # a random victim's iterates are not picked by the draw they happened to fail at, whatever the
    # number of draws
    eot = EOT_AUTOATTACK if attack == "autoattack" else EOT_DEFAULT
    protocol: dict[str, Any] = {
        "eot": eot if stochastic else 1,
        **({"keep": "last"} if stochastic or unaware else {}),
    }
    if (
        spec.protocol == "release"
    ):  # the authors' notebook: 10 steps of eps/4 from the clean image, no EOT
        protocol = {"steps": 10, "step_size": 0.25, "random_start": False, "eot": 1, "keep": "last"}
    wanted = {**protocol, **(of(spec.attack_params, attack) if given else {})}
    try:
        return complete(
            attack, {key: value for key, value in wanted.items() if key in known}, engine
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def sample_limit(spec: RunSpec) -> int | None:
    """How many test samples a run evaluates: the user's number, else the preset's; None = all."""
    limit: int | None = (
        presets.preset(spec.preset).get("limit") if spec.limit is None else spec.limit
    )
    return limit or None
