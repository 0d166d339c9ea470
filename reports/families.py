"""Which records belong in one row of a table, and what tells apart the victims that tables would
show alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import harmonic_mean
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustbench_med import statistics
from robustbench_med.naming import canonical_hash
from robustbench_med.store.parts import SHORT
from robustbench_med.store.record import Certificate, Record

Either = Record | Certificate
K = TypeVar("K", bound=Either)


def families(records: Sequence[Record]) -> list[list[Record]]:
    """Records that differ in their seeds and folds (and so in their weights) alone, each family
    ordered by fold and seeds.

    Weights differ within a family only by fold and training seed: foreign weights are each a
    family, and where one training seed of one fold has several weights (stores of two machines,
    merged) each of these is a family of its own.
    """
    records = without_midway(records)
    kinds = {record.hash: _kind(record) for record in records}
    apart = _other_weights(records, kinds) | _twice(records, kinds)
    members: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        measured = _measured(record) if record.hash in apart else ""
        members[kinds[record.hash], measured].append(record)
    return [sorted(members[key], key=_place) for key in sorted(members)]


def without_midway(records: Sequence[Record]) -> list[Record]:
    """All but those in the middle of a cascade: its last attack tells the worst case of all, its
    first one met every sample.
    """
    passed = {r.spec.carried.record for r in records if r.spec.attack.after and r.spec.carried}
    return [r for r in records if not (r.spec.attack.after and r.hash in passed)]


def victims(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """The records of every victim on its samples, whatever attacked it: all its trainings, folds
    and seeds, the noise control among them; with a hash that names the victim and the samples.

    As in `families`, weights that share their training seed with others are a victim each, and so
    are those of one seed measured on other samples.
    """
    kinds = {record.hash: _victim_and_samples(record) for record in records}
    apart = _rivals(records, lambda r: (kinds[r.hash], _training(r)), _weights_and_samples)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        own = _weights_and_samples(record) if record.hash in apart else ""
        groups[canonical_hash({"victim": kinds[record.hash], "own": own})].append(record)
    return [(key, sorted(groups[key], key=_place)) for key in sorted(groups)]


def _victim_and_samples(record: Record) -> str:
    """The victim without its seeds and folds, and what it was measured on."""
    spec = record.spec.plain()
    data = dict(spec["data"])
    if "fold" in data:
        data = {key: data[key] for key in data.keys() - {"manifest", "n", "samples"}}
        data["fold"] = {"of": data["fold"]["of"]}
    return canonical_hash({"victim": _unseeded(spec), "data": data})


def by_threat(records: Sequence[Record]) -> list[list[Record]]:
    """The records of a victim by threat, and by how predictions were judged."""

    def threat(record: Record) -> str:
        protocol = record.spec.protocol
        judged = [protocol.name, protocol.draws, protocol.chunk]
        return canonical_hash({"threat": record.spec.threat.plain(), "judged": judged})

    return _grouped(records, threat)


def _weights_and_samples(record: Record) -> str:
    data = record.spec.data
    return f"{record.spec.victim.weights_sha256} {data.manifest} {data.n} {data.samples}"


def other_weights(records: Sequence[Either]) -> set[str]:
    """Hashes of the records that share kind, fold and training seed with others, but not the
    weights.
    """
    return _other_weights(records, {record.hash: _kind(record) for record in records})


def _other_weights(records: Sequence[Either], kinds: Mapping[str, str]) -> set[str]:
    return _rivals(
        records,
        lambda r: (kinds[r.hash], _training(r)),
        lambda r: r.spec.victim.weights_sha256,
    )


def _twice(records: Sequence[Record], kinds: Mapping[str, str]) -> set[str]:
    """Those that share the evaluation seed too, and differ all the same: a fold measured on few
    samples and on all, other sources.
    """
    return _rivals(records, lambda r: (kinds[r.hash], _training(r), r.spec.seed), _measured)


def _rivals(
    records: Sequence[K], key: Callable[[K], object], differs: Callable[[K], str]
) -> set[str]:
    rivals: dict[object, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        rivals[key(record)][differs(record)].append(record.hash)
    several = [alike for alike in rivals.values() if len(alike) > 1]
    return {name for alike in several for hashes in alike.values() for name in hashes}


def warnings(records: Sequence[Either]) -> list[str]:
    """A sentence for every training seed of a victim that has several weights."""
    apart, weights = other_weights(records), defaultdict(set)
    for record in records:
        if record.hash in apart:
            spec = record.spec
            name = spec.victim.model, spec.data.label, _training(record)
            weights[name].add(spec.victim.checkpoint)
    return [
        f"{model} on {data}: training seed {seed}{'' if fold is None else f' of fold {fold}'} has"
        f" {len(different)} different weights ({', '.join(sorted(different))}), as when stores of"
        f" two machines are joined; each has rows of its own, marked `{OTHER_WEIGHTS}`"
        for (model, data, (fold, seed)), different in sorted(weights.items(), key=str)
    ]


OTHER_WEIGHTS = "other weights"


def _kind(record: Either) -> str:
    """Everything of a record but its seeds, its fold and what these change."""
    spec = record.spec.plain()
    spec |= {"seed": None, "victim": _unseeded(spec)}
    if "carried" in spec:  # that of another seed starts from another record
        spec["carried"]["record"] = None
    if "fold" in spec["data"]:
        for key in ("manifest", "n", "samples"):
            del spec["data"][key]
        spec["data"]["fold"]["number"] = None
        for source in spec.get("attack", {}).get("sources", ()):  # trained on the fold
            source.pop("weights_sha256", None)
            source.pop("training", None)
    return canonical_hash(spec)


def _unseeded(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The victim of a specification without its training seed and fold; weights that no seed made
    stay.
    """
    victim = dict(spec["victim"])
    if victim.pop("train_seed") is not None:
        del victim["weights_sha256"]
    if "fold" in spec["data"]:  # each is a training of its own
        victim.pop("training", None)
    return victim


def _measured(record: Record) -> str:
    """What stands once in a family under one fold, training seed and evaluation seed: weights,
    those of the sources, and samples.
    """
    data = record.spec.data
    attack = record.spec.attack.plain()
    return record.spec.victim.weights_sha256 + canonical_hash(
        {
            "sources": attack.get("sources"),
            "manifest": data.manifest,
            "n": data.n,
            "samples": data.samples,
            "carried": record.spec.carried and record.spec.carried.record,
        }
    )


def _fold(record: Either) -> int | None:
    fold = record.spec.data.fold
    return None if fold is None else fold.number


def _training(record: Either) -> tuple[int | None, int | None]:
    """Fold and training seed."""
    return _fold(record), record.spec.victim.train_seed


def _place(record: Record) -> tuple[int, int, int, str]:
    fold, seed = _training(record)
    return fold or 0, -1 if seed is None else seed, record.spec.seed, record.hash


# --- inside a family ------------------------------------------------------------------------------


def by_fold(family: Sequence[Record]) -> list[Record]:
    """The first record of every fold: together they hold each test sample once."""
    return [records[0] for records in _grouped(family, _fold)]


def by_training(family: Sequence[Record]) -> list[list[Record]]:
    """The records of every trained victim: one a fold and training seed; foreign weights are one,
    whatever the fold.
    """
    return _grouped(
        family, lambda record: None if _training(record)[1] is None else _training(record)
    )


def evaluation_seeds(family: Sequence[Record]) -> int:
    """How many evaluation seeds stand behind each training, the fewest."""
    return min(len({record.spec.seed for record in records}) for records in by_training(family))


def _grouped(records: Iterable[Record], key: Callable[[Record], object]) -> list[list[Record]]:
    groups: dict[object, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())


def over_trainings(
    family: Sequence[Record], figure: Callable[[Record], float | None]
) -> list[float]:
    """A figure of each training, the mean over its evaluation seeds; empty where any record lacks
    it.
    """
    means = []
    for records in by_training(family):
        values = [value for record in records if (value := figure(record)) is not None]
        if len(values) < len(records):
            return []
        means.append(float(np.mean(values)))
    return means


def exact(record: Record, figure: Literal["clean", "robust"]) -> float:
    """A record's accuracy, the mean over the attacked tasks, as the counts behind it give it."""
    figures = record.figures
    tasks = [figures.tasks[t] for t in record.spec.threat.tasks]
    draws = record.draws
    rates = [statistics.exact_rate(getattr(task, figure), task.n, draws) for task in tasks]
    rate, told = float(np.mean(rates)), float(getattr(figures, figure))
    return rate if abs(rate - told) < 1e-6 else told


def effective_n(family: Sequence[Record], of: Callable[[Record], float]) -> float:
    """Independent samples behind a family's mean, from those behind each record (`of`).

    Folds have other samples, and add up. Within a fold all records have the same: the variance of a
    mean over trainings and seeds is at most the mean of their variances, so the harmonic mean
    counts.
    """
    return float(
        sum(
            harmonic_mean([of(record) for record in records]) for records in _grouped(family, _fold)
        )
    )


def groups_of(arrays: Mapping[str, NDArray[Any]], t: int) -> NDArray[Any] | None:
    """(n,) which group each sample's image of task t belongs to: the image itself in older
    outcomes, None in the oldest.
    """
    return arrays.get(f"group_{t}", arrays.get(f"image_{t}"))


# --- names ----------------------------------------------------------------------------------------


def variants(records: Sequence[Either]) -> dict[str, str]:
    """By record hash, what tells its victim from others of the same name on the same data, as
    `recipe steps=20`; else empty.

    Certificates are compared with those of the same noise.
    """
    apart = other_weights(records)
    namesakes: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    of_record: dict[str, tuple[tuple[Any, ...], str]] = {}
    for record in records:
        spec, victim = record.spec, _unseeded(record.spec.plain())
        if record.hash in apart:
            victim["weights_sha256"] = spec.victim.weights_sha256
        sigma = record.spec.certificate.sigma if isinstance(record, Certificate) else None
        name = spec.data.label, spec.data.size, spec.victim.model, sigma
        identity = canonical_hash(victim)
        namesakes[name][identity] = victim
        of_record[record.hash] = name, identity
    texts = {name: _told_apart(victims) for name, victims in namesakes.items()}
    return {record: texts[name][identity] for record, (name, identity) in of_record.items()}


def _pieces(victim: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """What can be said of a victim besides its name, by section and label: `recipe`,
    `recipe steps=` -> `20`.
    """
    pieces: dict[tuple[str, str], list[str]] = defaultdict(list)
    for section, value in victim.items():
        if section == "defense":
            for layer in value:
                for key, setting in layer["params"].items():
                    pieces[section, f"{layer['name']} {key}="].append(_short(setting))
        elif isinstance(value, Mapping):
            for key, setting in value.items():
                pieces[section, f"{section} {key}="].append(_short(setting))
        elif value is not None and section != "model":
            pieces[section, f"{section.removesuffix('_sha256')} "].append(_short(value))
    return {key: "/".join(values) for key, values in pieces.items()}


def _short(value: object) -> str:
    text = str(value)
    return text[:SHORT] if re.fullmatch("[0-9a-f]{64}", text) else text


HASHES = ("training", "weights_sha256")
"""Sections that say least to a reader: shown only where nothing else tells victims apart."""


def _told_apart(victims: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For every victim of one name the pieces in which it differs from others that have such a
    section.
    """
    if len(victims) == 1:
        return dict.fromkeys(victims, "")
    pieces = {name: _pieces(victim) for name, victim in victims.items()}
    keys = dict.fromkeys(key for mine in pieces.values() for key in mine)
    having = {
        key: [name for name, victim in victims.items() if victim.get(key[0]) is not None]
        for key in keys
    }
    varying = [
        key
        for key in keys
        if key[0] not in HASHES and len({pieces[name].get(key) for name in having[key]}) > 1
    ]
    plain = {name: _text(mine, varying) for name, mine in pieces.items()}
    hashes = [
        key
        for key in keys
        if key[0] in HASHES and len({mine.get(key) for mine in pieces.values()}) > 1
    ]
    alike = {text for text in plain.values() if not text or list(plain.values()).count(text) > 1}
    return {
        name: ", ".join(filter(None, (text, _text(pieces[name], hashes) if text in alike else "")))
        for name, text in plain.items()
    }


def _text(pieces: Mapping[tuple[str, str], str], keys: Sequence[tuple[str, str]]) -> str:
    return ", ".join(key[1] + pieces[key] for key in keys if key in pieces)


def victim_name(model: str, variant: str) -> str:
    """What a table or a figure calls a victim: its model, and what tells it from others of that
    name.
    """
    return f"{model} ({variant})" if variant else model
