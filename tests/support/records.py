"""Made-up records with the shape of real ones, and per-sample outcomes that fit them."""

from typing import Any, TypeVar

import numpy as np

from robustbench_med.naming import canonical_hash
from robustbench_med.store.record import Certificate, Kept, Record
from robustbench_med.store.store import Store

K = TypeVar("K", bound=Kept)
N = 50
DISTINCT = 40


def record(
    model: str = "mail", robust: float = 0.5, *, attack: str = "pgd", eps: float | list[float] = 4 / 255, seed: int = 0,
    train_seed: int = 0,
    trivial: str | None = None, naive: bool = False, modality: str = "mri", tasks: tuple[int, ...] = (0, 1), trust: str | None = None,
    clean: float = 0.9, gflops: float = 0.1, parameters: int = 10, eot: int = 4, protocol: str = "sound", data: str = "heads+chests",
    synthetic: bool = True, preset: str = "quick", n: int = N, size: int = 64, norm: str = "Linf", victim: dict[str, Any] | None = None,
    **more: Any,
) -> Record:  # fmt: skip
    """A record with these figures; `victim` goes into its spec's victim, `more` into its spec."""
    task = {
        "n": n, "n_distinct": DISTINCT, "clean": clean, "clean_interval": [0.8, 0.95], "robust": robust, "robust_interval": [0.4, 0.6],
        "clean_vote": clean, "robust_vote": robust, "asr": 0.4, "balanced_accuracy": 0.5, "clean_balanced_accuracy": clean, "auc": None,
        "clean_auc": 0.9, "trivial": trivial, "most_predicted_share": 0.5,
    }  # fmt: skip
    keys = (
        "clean",
        "clean_interval",
        "robust",
        "robust_interval",
        "clean_vote",
        "robust_vote",
        "asr",
        "balanced_accuracy",
        "auc",
    )
    weights = canonical_hash({"weights": [model, train_seed, data, preset]})
    radii = eps if isinstance(eps, list) else [eps, eps]
    plain, unaware, _ = model.partition(" (unaware attack)")
    architecture, *layers = plain.split("+")
    spec = {
        "victim": (
            {
                "model": model,
                "params": {},
                "preset": preset,
                "recipe": {"steps": 100},
                "training": "b" * 64,
                "train_seed": train_seed,
                "weights_sha256": weights,
            }
            | (
                {
                    "defense": [
                        {"name": name, "params": {"attack": "unaware"} if unaware else {}}
                        for name in layers
                    ]
                }
                if layers
                else {}
            )
            | (victim or {})
        ),
        "data": {
            "name": data,
            "split": "test",
            "n": n,
            "samples": "c" * 64,
            "size": size,
            "channels": [1, 1],
            "manifest": "a" * 64,
        },
        "threat": {"norm": norm, "radii": radii, "tasks": list(tasks)},
        "attack": {
            "name": attack,
            "params": {"steps": 20, "eot": eot} if attack != "noise" else {},
        },
        "protocol": {"name": protocol, "draws": 16},
        "seed": seed,
        "randomness": 2,
    } | more
    return Record.of({
        "hash": canonical_hash(spec),
        "spec": spec,
        "command": "medrobust run",
        "names": {"modalities": [modality, "xray"], "tasks": ["lesion", "lung"], "classes": [["a", "b"], ["c", "d"]]},
        "figures": {"tasks": [task, task]} | {k: task[k] for k in keys},
        "stochastic": True, "draws": 16, "naive": naive, "synthetic": synthetic, "notes": [],
        "unverified": False, "repeatable": True, "architecture": architecture, "on_gpu": False,
        "distinct_images": {modality: DISTINCT, "xray": n},
        "victim": {
            "parameters": parameters, "gflops": gflops, "gmacs": gflops / 2, "latency_ms": 1.0, "peak_memory_mib": 1.0,
            "checkpoint": "x.safetensors", "origin": "zoo", "device": "cpu (1 threads)",
        },
        "cost": {"attack_forward_per_sample": 1, "attack_backward_per_sample": 1, "seconds": 1.0, "peak_memory_mib": 1.0, "batch_size": 8},
        "environment": {"device": "cpu", "versions": {"torch": "2"}, "started": 0},
    } | ({} if trust is None else {"trust": trust, "diagnostics": [
        {"sign": "zero gradient", "verdict": trust, "figure": 0.5, "text": "half of the gradients are 0", "advice": "take BPDA"}
    ]}))  # fmt: skip


def outcomes(made: Record, *, images: bool = False) -> dict[str, Any]:
    """Outcomes of a record: of each task the first `robust` share of the samples stays right;
    classes alternate; ten images repeat.
    """
    n = made.spec.data.n
    labels = np.stack([np.arange(n) % 2, np.arange(n) % 2], 1)
    robust = np.stack([np.arange(n) < round(task.robust * n) for task in made.figures.tasks], 1)
    clean = np.stack([np.arange(n) < round(task.clean * n) for task in made.figures.tasks], 1)
    arrays: dict[str, Any] = {
        "ids": np.array([f"s{i}" for i in range(n)]), "labels": labels,
        "clean_right": clean.astype(np.float32), "robust_right": robust.astype(np.float32),
    } | {f"image_{t}": np.arange(n) % DISTINCT for t in (0, 1)}  # fmt: skip
    if images:
        rng = np.random.default_rng(0)
        for t in (0, 1):
            for when in ("clean", "robust"):
                arrays[f"{when}_probabilities_{t}"] = rng.dirichlet((1, 1), n).astype(np.float32)
        arrays |= {
            "examples": np.array([0, 1, 7, 9]),
            "examples_rule": np.array(["first", "first", "worst", "worst"]),
        }
        for m in (0, 1):
            before = rng.integers(0, 256, (4, 1, 16, 16), dtype=np.uint8)
            arrays[f"examples_clean_{m}"] = before
            arrays[f"examples_adversarial_{m}"] = np.clip(before / 255 + 4 / 255, 0, 1).astype(
                np.float16
            )
    return arrays


def changed(made: K, **fields: Any) -> K:
    """A record that says something else: `spec__data__fold={...}` sets a field of a part; a spec
    that changed has another hash.
    """
    content = made.plain()
    for path, value in fields.items():
        *parts, key = path.split("__")
        place = content
        for part in parts:
            place = place[int(part) if isinstance(place, list) else part]
        place[key] = value
    if "hash" not in fields:
        content["hash"] = canonical_hash(content["spec"])
    return type(made).of(content)


def fill(store: Store[Record], *records: Record, images: bool = False) -> Store[Record]:
    """Writes records with their outcomes."""
    for each in records:
        store.write(each, outcomes(each, images=images))
    return store


def certificate(
    model: str = "late+smoothing", sigma: float = 0.25, *, noised: tuple[int, ...] = (0, 1), certified: float = 0.6, abstained: float = 0.2,
    train_seed: int = 0, n: int = N, trivial: str | None = None,
) -> Certificate:  # fmt: skip
    """A certificate record with these figures for both tasks."""
    made = record(model, train_seed=train_seed, n=n)
    spec = {
        "victim": {
            **made.spec.victim.plain(),
            "weights_sha256": canonical_hash({"weights": [model, sigma, train_seed]}),
        },
        "data": made.spec.data.plain(),
        "certificate": {"sigma": sigma, "noised": list(noised), "n0": 10, "n": 100, "alpha": 0.001},
        "seed": 0,
    }
    radius = round(1.2 * sigma, 6)
    figures = {"n": n, "n_distinct": DISTINCT, "abstained": abstained, "certified_accuracy": certified,
               "average_radius": certified * radius, "largest_radius": radius, "trivial": trivial}  # fmt: skip
    modalities = made.names.modalities
    return Certificate.of({
        "hash": canonical_hash(spec),
        "spec": spec,
        "defense": "smoothing",
        "names": {"modalities": modalities, "tasks": made.names.tasks},
        "synthetic": True, "notes": [],
        "figures": [{"task": task, **figures} for task in made.names.tasks],
        "noised": "all modalities" if len(noised) == 2 else f"{modalities[noised[0]]} alone",
        "environment": {**made.environment.plain(), "seconds": 1.0},
    })  # fmt: skip


def certify(store: Store[Certificate], *made: Certificate) -> Store[Certificate]:
    """Writes certificates with radii that fit them: the first samples right, the last abstained,
    one radius for all others.
    """
    for each in made:
        n, figures = each.spec.data.n, each.figures[0]
        labels = np.stack([np.arange(n) % 2, np.arange(n) % 2], 1)
        predicted = np.where(
            np.arange(n)[:, None] < round(figures.certified_accuracy * n), labels, 1 - labels
        )
        predicted[n - round(figures.abstained * n) :] = -1
        radius = np.where(predicted >= 0, figures.largest_radius, 0.0)
        store.write(
            each,
            {
                "ids": np.arange(n).astype(str),
                "labels": labels,
                "predicted": predicted,
                "radius": radius,
            },
        )
    return store
