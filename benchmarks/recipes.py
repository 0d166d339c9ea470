"""Which recipe makes a classifier of a victim? Trains each recipe on real images, and writes what
came of it: AUC and balanced accuracy of every task on the validation and on the whole test part.

    python benchmarks/recipes.py --data breastmnist+pneumoniamnist --data-root DATA --out OUT
    python benchmarks/recipes.py --out OUT --table          # the tables and curves of what is there
    python benchmarks/recipes.py --out OUT --write          # those of `real` in docs/training.md

Every training is medrobust's own (`robustbench_med.training.loop`); a recipe is the preset `real`
with the changes named. Recipes are chosen by the validation part; the test part is shown beside it.
One JSON file a training lies in OUT, and one that is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics as summary
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from page import replaced

from robustbench_med import statistics
from robustbench_med.data import Dataset, Files, load
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.evaluation.types import Setting
from robustbench_med.training import loop, presets

CPU = torch.device("cpu")
PAGE = Path(__file__).parents[1] / "docs" / "training.md"
DRAWS = 8


@dataclass(frozen=True)
class Trial:
    """A recipe of one model: what it changes of the preset `real`."""

    name: str
    model: str
    recipe: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


FIXED = {"steps": 1500, "early_stop": None}
PLAIN = FIXED | {"schedule": "one-cycle", "lr": 2e-3, "ema": None}
TRIALS = (
    *(
        Trial("real", model)
        for model in (
            "late",
            "gmu",
            "cross-attention",
            "mail",
            "robust-mail",
            "mail+rpf",
            "mail+man",
        )
    ),
    Trial("one-cycle-light", "late", PLAIN | {"augmentation": "light"}),
    Trial("one-cycle-strong", "late", PLAIN),
    Trial("averaged", "late", FIXED),
    Trial("averaged-label-smoothing", "late", FIXED | {"label_smoothing": 0.1}),
    Trial("averaged-mixup", "late", FIXED | {"mixup": 0.2}),
    Trial("averaged", "mail", FIXED | {"steps": 2500}),
    Trial("one-cycle-averaged", "mail", FIXED | {"steps": 2500, "schedule": "one-cycle"}),
    Trial(
        "averaged-light-label-smoothing",
        "mail",
        FIXED | {"steps": 2500, "augmentation": "light", "label_smoothing": 0.1},
    ),
    Trial(
        "strong-averaged",
        "robust-mail",
        {"augmentation": "strong", "ema": 0.99, "warm_up": [0.05, 0.5], "freeze_bn": 0.65},
    ),
)
"""What was tried."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="breastmnist+pneumoniamnist", help="data set or pairing")
    parser.add_argument("--data-root", type=Path, help="folder of the files")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--model", nargs="*", help="models whose recipes to run; default all")
    parser.add_argument("--only", nargs="*", help="names of the recipes to run; default all")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0], help="training seeds")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--table", action="store_true", help="train nothing, write the tables")
    parser.add_argument("--write", action="store_true", help="the same, and docs/training.md")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not (arguments.table or arguments.write):
        search(arguments)
    results = [json.loads(path.read_text()) for path in sorted(arguments.out.glob("*.json"))]
    if not results:
        parser.error(f"no results in {arguments.out}")
    print("\n".join(table(results)))
    draw(results, arguments.out / "recipes.png")
    if arguments.write:
        real = [result for result in results if result["recipe"] == "real"]
        text = replaced(PAGE.read_text(encoding="utf-8"), "seeds", table(real)[1:])
        PAGE.write_text(text, encoding="utf-8")


def search(arguments: argparse.Namespace) -> None:
    """Trains what is not there yet."""
    files = Files(data_root=arguments.data_root, accept_unverified=True)
    dataset = load(arguments.data, size=arguments.size, files=files)
    for seed in arguments.seeds:
        for trial in TRIALS:
            if arguments.model and trial.model not in arguments.model:
                continue
            if arguments.only and trial.name not in arguments.only:
                continue
            path = arguments.out / f"{dataset.name}-{trial.model}-{trial.name}-s{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(run(trial, dataset, seed), indent=1))


def run(trial: Trial, dataset: Dataset, seed: int) -> dict[str, Any]:
    """One training, and what the kept weights do."""
    spec = presets.make_spec(
        trial.model, dataset, "real", params=trial.params, recipe=trial.recipe, seed=seed
    )
    begun = time.process_time()
    checkpoint = loop.obtain(
        spec, dataset, CPU, tick=lambda *_: None, say=print, command="medrobust train"
    )
    result = {
        "data": dataset.name,
        "model": trial.model,
        "recipe": trial.name,
        "settings": spec.recipe.model_dump(),
        "params": spec.params,
        "seed": seed,
        "best_step": checkpoint.sidecar["best_step"],
        "steps": checkpoint.sidecar["history"][-1]["step"],
        "cpu_seconds": time.process_time() - begun,
        "seconds": checkpoint.sidecar["seconds"],
        "history": checkpoint.sidecar["history"],
    }
    victim = presets.load(spec, checkpoint, CPU)[0]
    for split in ("val", "test"):
        result[split] = list(judge(victim, dataset, split))
    print(trial.model, trial.name, seed, [task["auc"] for task in result["test"]], flush=True)
    return result


def judge(victim: torch.nn.Module, dataset: Dataset, split: str) -> Iterator[dict[str, Any]]:
    """Figures of every task on a whole split."""
    samples = dataset.splits[split]
    clean = clean_pass(
        victim,
        samples,
        Setting("sound", DRAWS, 0, CPU, 128),
        lambda _: None,
        stochastic=bool(getattr(victim, "stochastic", False)),
    )
    for t, (name, classes) in enumerate(zip(dataset.tasks, dataset.classes, strict=True)):
        y = samples.labels[:, t].numpy()
        known = y >= 0
        right = clean.right[known, t]
        yield {
            "task": name,
            "n": int(known.sum()),
            "accuracy": float(right.mean()),
            "balanced_accuracy": statistics.balanced_accuracy(right, y[known], len(classes)),
            "auc": statistics.auc(clean.probabilities[t][known], y[known]),
        }


def table(results: list[dict[str, Any]]) -> list[str]:
    """A Markdown table a data set: one row a model and recipe, means over its seeds."""
    groups: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for result in results:
        groups[result["data"]][result["model"], result["recipe"]].append(result)
    lines = []
    for data, rows in groups.items():
        tasks = [task["task"] for task in next(iter(rows.values()))[0]["test"]]
        heads = [f"{task}: validation AUC | test AUC | test balanced" for task in tasks]
        lines += ["", f"`{data}`", "", f"| model | recipe | seeds | steps | {' | '.join(heads)} |"]
        lines.append("|" + "---|" * (4 + 3 * len(tasks)))
        for (model, recipe), group in rows.items():
            cells = [
                mean_of(group, split, t, figure)
                for t in range(len(tasks))
                for split, figure in (
                    ("val", "auc"),
                    ("test", "auc"),
                    ("test", "balanced_accuracy"),
                )
            ]
            steps = summary.mean(result["steps"] for result in group)
            lines.append(
                f"| `{model}` | {recipe} | {len(group)} | {steps:.0f} | {' | '.join(cells)} |"
            )
    return lines


def mean_of(group: list[dict[str, Any]], split: str, task: int, figure: str) -> str:
    """Mean over seeds, with their spread where there are several."""
    values = [result[split][task][figure] for result in group]
    spread = f" ± {summary.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{summary.mean(values):.3f}{spread}"


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Validation AUC over the steps, a panel a model and data set, a line a training."""
    panels = sorted({(result["data"], result["model"]) for result in results})
    plt.rcParams["font.size"] = 11
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 3.2 * len(panels)), squeeze=False, layout="constrained"
    )
    for (data, model), axis in zip(panels, axes[:, 0], strict=True):
        for result in results:
            if (result["data"], result["model"]) == (data, model):
                history = [point for point in result["history"] if "val_auc" in point]
                axis.plot(
                    [point["step"] for point in history],
                    [point["val_auc"] for point in history],
                    label=f"{result['recipe']}, seed {result['seed']}",
                    linewidth=1.2,
                )
        axis.set(title=f"{model} on {data}", xlabel="step", ylabel="validation AUC")
        axis.legend(fontsize=8, loc="lower right")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
