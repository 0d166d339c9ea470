"""Entries out of records: of every victim and its samples, the worst case under each threat."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from robustbench_med.reports import floors, under_training
from robustbench_med.reports.areas import area
from robustbench_med.reports.comparison.believed import trust_of
from robustbench_med.reports.comparison.metrics import no_robustness
from robustbench_med.reports.comparison.worst import (
    WorstCase,
    lowest_auc,
    of_tasks,
    on_samples,
    worst_case,
)
from robustbench_med.reports.families import (
    OTHER_WEIGHTS,
    by_fold,
    by_threat,
    by_training,
    effective_n,
    exact,
    families,
    other_weights,
    over_trainings,
    variants,
    victims,
)
from robustbench_med.reports.tables import (
    Shortfalls,
    by_engine,
    missing_folds,
    params_apart,
    searches,
)
from robustbench_med.statistics import exact_rate, wilson
from robustbench_med.store import trust, words
from robustbench_med.store.entry import (
    AttackResult,
    Convergence,
    Entry,
    EntryData,
    EntryEnvironment,
    EntryVictim,
    Family,
    TaskResult,
    ThreatResult,
    Weights,
    WorstResult,
)
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

MINIMAL = frozenset({"cw", "ddn", "fmn", "ead", "sigma-zero", "fab", "fab-t"})
"""Attacks that seek the smallest perturbation along gradients."""
OUTCOMES: tuple[Convergence, ...] = ("converged", "spent", "capped")
"""Of searches, that which says most of a verdict first."""


def entries(
    records: Sequence[Record],
    store: Store[Record],
    *,
    among: Sequence[Record] | None = None,
    shortfalls: Shortfalls = MappingProxyType({}),
) -> list[Entry]:
    """An entry a victim and samples that an attack was run on, ordered by id.

    Args:
        records: what the entries are of; those read together have their trust (`floors.read`).
        store: where their outcomes lie.
        among: all records of the store where these are some of them.
        shortfalls: `under_training.under_trained` of all records of the store.
    """
    names = variants(records if among is None else among)
    apart = other_weights(records if among is None else among)
    found = []
    for key, group in victims(records):
        doubts = [
            *_weights_marks(group, apart),
            *under_training.of_family(group, shortfalls),
        ]
        threats = [
            _threat(mine, store, doubts)
            for mine in by_threat(group)
            if any(not record.control for record in mine)
        ]
        if threats:
            found.append(_entry(key, group, names[group[0].hash], threats))
    return sorted(found, key=lambda entry: entry.id)


def _weights_marks(group: Sequence[Record], apart: set[str]) -> list[str]:
    """The weights of a victim whose training seed has several."""
    named = [r.spec.victim.checkpoint for r in group if r.hash in apart]
    return [f"{OTHER_WEIGHTS}: {named[0]}"] if named else []


def _entry(
    key: str, group: Sequence[Record], variant: str, threats: Sequence[ThreatResult]
) -> Entry:
    first, victim = group[0], group[0].spec.victim
    data = _data(group)
    shown = f"{victim.model[:60]}-{data.name[:40]}-{data.size}px-n{data.n}"
    return Entry.of(
        {
            "id": re.sub(r"[^a-z0-9.+_-]+", "-", shown.lower()).strip("-.+_") + f"-{key[:8]}",
            "format": 1,
            "victim": EntryVictim(
                model=victim.model,
                architecture=first.architecture,
                defense=victim.defense,
                params=victim.params,
                preset=victim.preset,
                recipe=victim.recipe,
                variant=variant,
                parameters=first.victim.parameters,
                gflops=first.victim.gflops,
                gmacs=first.victim.gmacs,
                weights=_weights(group),
            ).plain(),
            "data": data.plain(),
            "threats": [
                threat.plain()
                for threat in sorted(threats, key=lambda t: (t.norm, t.radii, t.target))
            ],
            "environment": EntryEnvironment(
                devices=sorted({record.environment.device for record in group}),
                versions=dict(sorted(first.environment.versions.items())),
            ).plain(),
        }
    )


def _weights(group: Sequence[Record]) -> list[Weights]:
    """Those of every training."""
    found = []
    for records in by_training(group):
        spec, facts = records[0].spec, records[0].victim
        found.append(
            Weights(
                train_seed=spec.victim.train_seed,
                fold=spec.data.fold.number if spec.data.fold else None,
                sha256=spec.victim.weights_sha256,
                origin=facts.origin,
                file=facts.checkpoint,
                url=None,
            )
        )
    return found


def _data(group: Sequence[Record]) -> EntryData:
    first, folds = group[0], by_fold(group)
    data = first.spec.data
    return EntryData(
        name=data.name,
        split=data.split,
        n=sum(record.spec.data.n for record in folds),
        n_distinct=sum(min(task.n_distinct for task in r.figures.tasks) for r in folds),
        size=data.size,
        channels=data.channels,
        manifests=[record.spec.data.manifest for record in folds],
        samples=[record.spec.data.samples for record in folds],
        folds=len(folds),
        folds_of=data.fold.of if data.fold else None,
        synthetic=first.synthetic,
        unverified=any(record.unverified for record in group),
        modalities=first.names.modalities,
        tasks=first.names.tasks,
    )


def _threat(group: Sequence[Record], store: Store[Record], doubts: Sequence[str]) -> ThreatResult:
    """A victim under one threat.

    Args:
        group: all records of it; some of an attack.
        doubts: marks that it has beside those of the records.
    """
    measured = [record for record in group if not record.control]
    first, floor = measured[0], floors.of(group)
    parts = [on_samples(fold, store) for fold in _by_fold(measured)]
    worst = worst_case(parts, lowest_auc(measured))
    found = trust_of(group, measured, worst.worst, doubts)
    brief = words.worst(r.trust.together or r.trust for r in measured)
    attacks = _attacks(measured)
    clean = _mean(over_trainings(group, lambda record: exact(record, "clean")))
    below = no_robustness(worst.worst, worst.worst_balanced_accuracy, floor, worst.worst_auc)
    marks = [*filter(None, [found.marks]), *missing_folds(group), *_uneven(attacks, measured)]
    threat = first.spec.threat
    return ThreatResult(
        norm=threat.norm,
        counts=threat.counts,
        radii=threat.radii,
        eps=first.eps,
        target=first.target + (f" to {threat.target}" if threat.target else ""),
        tasks=threat.tasks,
        protocol=first.spec.protocol.name,
        draws=first.draws,
        clean=clean,
        clean_interval=list(wilson(clean, _worth(group, "clean"))),
        clean_balanced_accuracy=_mean(over_trainings(group, _clean_balanced_accuracy)),
        clean_auc=_clean_auc(group),
        multilabel=first.multilabel,
        worst=_worst(worst),
        decided_by=min(attacks, key=lambda attack: (attack.robust, attack.label)).label,
        attacks=attacks,
        noise=_noise([record for record in group if record.control]),
        by_task=_by_task(group, of_tasks(parts)),
        trainings=len(by_training(measured)),
        evaluation_seeds=_seeds(measured),
        trust=word_of(found.trust),
        why=found.why,
        brief=brief.brief if brief.word == found.trust else found.why,
        marks=[*marks, floors.BELOW] if below else marks,
        naive=all(record.naive for record in measured),
        trivial=found.is_trivial,
        random=any(record.stochastic for record in measured),
        floor_accuracy=None if floor is None else floor.accuracy,
        floor_balanced_accuracy=None if floor is None else floor.balanced_accuracy,
        imbalanced=floors.is_imbalanced(floor),
    )


def word_of(text: str) -> words.Word | None:
    """The word of trust that a column holds; None of an empty one."""
    return next((word for word in get_args(words.Word) if word == text), None)


def _by_fold(measured: Sequence[Record]) -> list[list[Record]]:
    folds: dict[int | None, list[Record]] = {}
    for record in measured:
        fold = record.spec.data.fold
        folds.setdefault(None if fold is None else fold.number, []).append(record)
    return list(folds.values())


def _worst(worst: WorstCase) -> WorstResult:
    return WorstResult.model_validate(vars(worst))


def _worth(records: Sequence[Record], figure: Literal["clean", "robust"]) -> float:
    """Independent samples behind a mean over the attacked tasks, of the task that has fewest."""
    return min(_worth_at(records, t, figure) for t in records[0].spec.threat.tasks)


def _worth_at(records: Sequence[Record], t: int, figure: Literal["clean", "robust"]) -> float:
    return effective_n(records, lambda record: record.figures.tasks[t].independent(figure))


def _seeds(records: Sequence[Record]) -> list[int]:
    """Evaluation seeds that every training has."""
    found = [{record.spec.seed for record in training} for training in by_training(records)]
    return sorted(set.intersection(*found))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _noise(controls: Sequence[Record]) -> float | None:
    return _mean(over_trainings(controls, lambda r: exact(r, "robust"))) if controls else None


def _clean_balanced_accuracy(record: Record) -> float:
    tasks = record.spec.threat.tasks
    return _mean([record.figures.tasks[t].clean_balanced_accuracy for t in tasks])


def _clean_auc(group: Sequence[Record]) -> float | None:
    found = over_trainings(group, lambda record: area(record, "clean"))
    return _mean(found) if found else None


def _by_task(
    group: Sequence[Record], worst: Sequence[tuple[float, float, float]]
) -> list[TaskResult]:
    """Every task before the attacks, and the attacked ones in their worst case."""
    attacked = dict(zip(group[0].spec.threat.tasks, worst, strict=True))
    found = []
    for t, name in enumerate(group[0].names.tasks):

        def rate(record: Record, t: int = t) -> float:
            task = record.figures.tasks[t]
            return exact_rate(task.clean, task.n, record.draws)

        clean = _mean(over_trainings(group, rate))
        worth = _worth_at(group, t, "clean")
        value, *interval = attacked.get(t, (None,))
        found.append(
            TaskResult(
                task=name,
                attacked=t in attacked,
                n=sum(record.figures.tasks[t].n for record in by_fold(group)),
                clean=clean,
                clean_interval=list(wilson(clean, worth)),
                worst=value,
                worst_interval=interval or None,
            )
        )
    return found


# --- attacks --------------------------------------------------------------------------------------


def _attacks(measured: Sequence[Record]) -> list[AttackResult]:
    """Every attack of a worst case, the one that leaves least first; those in the middle of a
    cascade are in its last.
    """
    groups = families(measured)
    firsts = [group[0] for group in groups]
    names = [by_engine(first.attack_label, first.spec.engine) for first in firsts]
    apart = params_apart(names, [first.attack_params for first in firsts])
    found = [
        _attack(group, f"{name} {params}".strip())
        for group, name, params in zip(groups, names, apart, strict=True)
    ]
    return sorted(found, key=lambda attack: (attack.robust, attack.label))


def _attack(family: Sequence[Record], label: str) -> AttackResult:
    first, spec = family[0], family[0].spec
    robust = _mean(over_trainings(family, lambda record: exact(record, "robust")))
    believed = words.of_family(family)
    outcomes = [search.outcome for search in searches(family)]
    return AttackResult(
        label=label,
        name=spec.attack.name,
        engine=spec.engine,
        params=spec.attack.params,
        effort=spec.attack.effort,
        revision=spec.attack.revision,
        families=sorted({kind for record in family for kind in kinds(record)}),
        convergence=max(outcomes, key=OUTCOMES.index) if outcomes else None,
        robust=robust,
        robust_interval=list(wilson(robust, _worth(family, "robust"))),
        trainings=len(by_training(family)),
        evaluation_seeds=_seeds(family),
        trust=believed.word,
        signs=[str(reason) for reason in believed.reasons],
        records=[record.hash for record in family],
        command=first.command,
        **({"accelerate": first.accelerate} if first.accelerate else {}),
    )


def kinds(record: Record) -> set[Family]:
    """Families of the attacks that a record holds."""
    return {_kind(name) for name in trust.attack_names(record)}


def _kind(name: str) -> Family:
    if name == "transfer":
        return "transfer"
    if name in trust.BLACK_BOXES:
        return "black box"
    return "minimal" if name in MINIMAL else "gradient"


def _uneven(attacks: Sequence[AttackResult], measured: Sequence[Record]) -> list[str]:
    """A mark where some of the trainings met fewer attacks than others."""
    trainings = len(by_training(measured))
    fewer = [attack.label for attack in attacks if attack.trainings < trainings]
    return [f"not on every training: {', '.join(fewer)}"] if fewer else []
