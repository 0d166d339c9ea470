"""Which records belong in one row of a table, and what tells apart the victims that tables would
show alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import harmonic_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.naming import canonical_hash
from robustbench_med.store.store import Record

SHORT = 12
"""Digits of a hash that are shown."""


def families(records: Sequence[Record]) -> list[list[Record]]:
    """Records that differ in their seeds and folds (and so in their weights) alone, each family
    ordered by fold and seeds.

    Weights differ within a family only by fold and training seed: foreign weights are each a
        family, and where one training seed of one
    fold has several weights (stores of two machines, merged) each of these is a family of its own.
    """
    apart = other_weights(records) | _twice(records)
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        found[_kind(record), _measured(record) if record["hash"] in apart else ""].append(record)
    return [sorted(found[key], key=_place) for key in sorted(found)]


def other_weights(records: Sequence[Record]) -> set[str]:
    """Hashes of the records that share kind, fold and training seed with others, but not the
    weights.
    """
    return _rivals(
        records,
        lambda r: (_kind(r), _training(r)),
        lambda r: str(r["spec"]["victim"]["weights_sha256"]),
    )


def _twice(records: Sequence[Record]) -> set[str]:
    """Those that share the evaluation seed too, and differ all the same: a fold measured on few
    samples and on all, other sources.
    """
    return _rivals(records, lambda r: (_kind(r), _training(r), r["spec"]["seed"]), _measured)


def _rivals(
    records: Sequence[Record], key: Callable[[Record], object], differs: Callable[[Record], str]
) -> set[str]:
    found: dict[object, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        found[key(record)][differs(record)].append(record["hash"])
    return {
        name
        for rivals in found.values()
        if len(rivals) > 1
        for hashes in rivals.values()
        for name in hashes
    }


def warnings(records: Sequence[Record]) -> list[str]:
    """A sentence for every training seed of a victim that has several weights."""
    apart, found = other_weights(records), defaultdict(set)
    for record in records:
        if record["hash"] in apart:
            spec = record["spec"]
            found[spec["victim"]["model"], data_name(record), _training(record)].add(
                spec["victim"]["weights_sha256"][:SHORT]
            )
    return [
        f"{model} on {data}: training seed {seed}{'' if fold is None else f' of fold {fold}'} has"
        f" {len(weights)} different weights ({', '.join(sorted(weights))}), as when stores of two"
        f" machines are joined; each has rows of its own, marked `{OTHER_WEIGHTS}`"
        for (model, data, (fold, seed)), weights in sorted(found.items(), key=str)
    ]


OTHER_WEIGHTS = "other weights"


def _kind(record: Record) -> str:
    """Everything of a record but its seeds, its fold and what these change."""
    spec = {**record["spec"], "seed": None, "victim": _unseeded(record)}
    if "fold" in spec["data"]:
        spec["data"] = {
            k: v for k, v in spec["data"].items() if k not in ("manifest", "n", "samples")
        }
        spec["data"]["fold"] = {**spec["data"]["fold"], "number": None}
        if "sources" in spec.get("attack", {}):  # trained on the fold
            sources = [
                {k: v for k, v in s.items() if k not in ("weights_sha256", "training")}
                for s in spec["attack"]["sources"]
            ]
            spec["attack"] = {**spec["attack"], "sources": sources}
    return canonical_hash(spec)


def _unseeded(record: Record) -> dict[str, Any]:
    """A record's victim without its training seed and fold; weights that no seed made stay."""
    victim = dict(record["spec"]["victim"])
    if victim.pop("train_seed") is not None:
        del victim["weights_sha256"]
    if "fold" in record["spec"]["data"]:  # each is a training of its own
        victim.pop("training", None)
    return victim


def _measured(record: Record) -> str:
    """What stands once in a family under one fold, training seed and evaluation seed: weights,
    those of the sources, and samples.
    """
    spec = record["spec"]
    samples = {key: spec["data"].get(key) for key in ("manifest", "n", "samples")}
    return spec["victim"]["weights_sha256"] + canonical_hash(
        {"sources": spec.get("attack", {}).get("sources"), **samples}
    )


def _fold(record: Record) -> int | None:
    number: int | None = record["spec"]["data"].get("fold", {}).get("number")
    return number


def _training(record: Record) -> tuple[int | None, int | None]:
    """Fold and training seed."""
    return _fold(record), record["spec"]["victim"]["train_seed"]


def _place(record: Record) -> tuple[Any, ...]:
    fold, seed = _training(record)
    return fold or 0, -1 if seed is None else seed, record["spec"]["seed"], record["hash"]


def data_name(record: Record) -> str:
    """The data set, with the number of folds where it is a cross-validation: other test samples
    than those of the usual split.
    """
    data = record["spec"]["data"]
    return str(data["name"]) + (f" ({data['fold']['of']}-fold)" if "fold" in data else "")


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
    return min(
        len({record["spec"]["seed"] for record in records}) for records in by_training(family)
    )


def _grouped(records: Iterable[Record], key: Callable[[Record], object]) -> list[list[Record]]:
    found: dict[object, list[Record]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return list(found.values())


def over_trainings(
    family: Sequence[Record], figure: Callable[[Record], float | None]
) -> list[float]:
    """A figure of each training, the mean over its evaluation seeds; empty where any record lacks
    it.
    """
    found = [[figure(record) for record in records] for records in by_training(family)]
    if any(value is None for values in found for value in values):
        return []
    return [float(np.mean(values)) for values in found]  # type: ignore[arg-type]


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


def effective(figures: Mapping[str, Any], name: str) -> float:
    """A task's effective number of samples; its distinct images in records that do not know their
    groups.
    """
    known = figures.get(name)
    return float(figures["n_distinct"] if known is None else known)


def groups_of(arrays: Mapping[str, NDArray[Any]], t: int) -> NDArray[Any] | None:
    """(n,) which group each sample's image of task t belongs to: the image itself in older
    outcomes, None in the oldest.
    """
    return arrays.get(f"group_{t}", arrays.get(f"image_{t}"))


# --- names ----------------------------------------------------------------------------------------


def variants(records: Sequence[Record]) -> dict[str, str]:
    """By record hash, what tells its victim from others of the same name on the same data, as
    `recipe steps=20`; else empty.

    Certificates are compared with those of the same noise.
    """
    apart = other_weights(records)
    named: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    of_record: dict[str, tuple[tuple[Any, ...], str]] = {}
    for record in records:
        spec, victim = record["spec"], _unseeded(record)
        if record["hash"] in apart:
            victim["weights_sha256"] = spec["victim"]["weights_sha256"]
        name = (
            data_name(record),
            spec["data"]["size"],
            spec["victim"]["model"],
            spec.get("certificate", {}).get("sigma"),
        )
        identity = canonical_hash(victim)
        named[name][identity] = victim
        of_record[record["hash"]] = name, identity
    texts = {name: _told_apart(victims) for name, victims in named.items()}
    return {record: texts[name][identity] for record, (name, identity) in of_record.items()}


def _pieces(victim: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """What can be said of a victim besides its name, by section and label: `recipe`,
    `recipe steps=` -> `20`.
    """
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for section, value in victim.items():
        if section == "defense":
            for layer in value:
                for key, setting in layer["params"].items():
                    found[section, f"{layer['name']} {key}="].append(_short(setting))
        elif isinstance(value, Mapping):
            for key, setting in value.items():
                found[section, f"{section} {key}="].append(_short(setting))
        elif value is not None and section != "model":
            found[section, f"{section.removesuffix('_sha256')} "].append(_short(value))
    return {key: "/".join(values) for key, values in found.items()}


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
    keys = dict.fromkeys(key for found in pieces.values() for key in found)
    having = {
        key: [name for name, victim in victims.items() if victim.get(key[0]) is not None]
        for key in keys
    }
    varying = [
        key
        for key in keys
        if key[0] not in HASHES and len({pieces[name].get(key) for name in having[key]}) > 1
    ]
    plain = {name: _text(found, varying) for name, found in pieces.items()}
    hashes = [
        key
        for key in keys
        if key[0] in HASHES and len({found.get(key) for found in pieces.values()}) > 1
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
