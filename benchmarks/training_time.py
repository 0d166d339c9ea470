"""How long trainings of a preset take on this machine: a few steps and validations of each are
measured, the rest is multiplied.

    python benchmarks/training_time.py [--model mail,late] [--defense none,pgd-at] [--preset quick]
    [--data phantoms]
    python benchmarks/training_time.py --steps

Prints a Markdown table of minutes, models down, defences across. The machine should have nothing
else to do. Left out: the passes that settle BatchNorm, and the validation figures at the end,
seconds each. `--steps` writes the block "training" of docs/performance.md: what a step of each
adversarial training costs, in passes and in processor time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from page import Table, headed, processor, timed, written

from robustbench_med.data import Dataset, load
from robustbench_med.models.registry import MODELS
from robustbench_med.training import defenses, loop, presets
from robustbench_med.training.batches import BalancedBatches
from robustbench_med.training.effort import cost_of

FEW, MORE = 2, 10
ADVERSARIAL = ("none", "fast-at", "free-at", "pgd-at", "trades", "mart")


def minutes(model: str, layers: str, preset: str, dataset: Dataset) -> float:
    """Projected length of a whole training."""
    plan = defenses.plan(model, layers, {}, presets.preset(preset))

    def seconds(steps: int, validations: int = 1) -> float:
        recipe = {
            "steps": steps,
            "eval_every": steps // validations,
            "freeze_bn": None,
            "settle_bn": False,
        }
        spec = presets.make_spec(
            plan.model, dataset, preset, params={}, recipe=recipe, seed=0, layers=plan.training
        )
        checkpoint = loop.train(
            spec,
            dataset,
            torch.device("cpu"),
            tick=lambda *_: None,
            say=lambda _: None,
            command="medrobust train",
        )
        return float(checkpoint.sidecar["seconds"])

    whole = presets.make_spec(
        plan.model, dataset, preset, params={}, recipe={}, seed=0, layers=plan.training
    ).recipe
    if whole.steps is None or whole.eval_every is None:
        raise SystemExit(
            f"{preset}: only recipes in steps, with validations every so many, are projected"
        )
    few, more, often = seconds(FEW), seconds(MORE), seconds(MORE, validations=MORE)
    step, validation = (more - few) / (MORE - FEW), (often - more) / (MORE - 1)
    return (whole.steps * step + whole.steps / whole.eval_every * validation) / 60


def trained(
    model: str, layers: str, preset: str, dataset: Dataset, steps: int
) -> Callable[[], tuple[float, float, float]]:
    """A training of so many steps without a validation before its end, anew at each call: passes a
    sample and step, forward, of the attack, and backward.
    """
    plan = defenses.plan(model, layers, {}, presets.preset(preset))

    def work() -> tuple[float, float, float]:
        recipe = {"steps": steps, "eval_every": steps, "freeze_bn": None, "settle_bn": False}
        spec = presets.make_spec(
            plan.model, dataset, preset, params={}, recipe=recipe, seed=0, layers=plan.training
        )
        with tempfile.TemporaryDirectory() as home:
            os.environ["MEDROBUST_HOME"] = home
            checkpoint = loop.train(
                spec, dataset, torch.device("cpu"), tick=lambda *_: None, say=lambda _: None,
                command="",
            )  # fmt: skip
        cost = cost_of(spec, checkpoint)
        assert cost is not None
        return cost["forward"], cost["inner"], cost["backward"]

    return work


def steps(model: str, preset: str, dataset: Dataset, repeats: int) -> Table:
    """What a step of each adversarial training costs against one of a plain training."""
    table = headed(
        f"{processor()}, {torch.get_num_threads()} thread, torch {torch.__version__}, `{model}`,"
        f" preset `{preset}`, {dataset.name}, medians of {repeats}.",
        "training",
        "passes a step: forward, of the attack, backward",
        "passes / plain",
        "seconds / plain",
    )
    few_validated = {**dataset.splits, "val": dataset.splits["val"].head(8)}
    dataset = replace(dataset, splits=few_validated)
    work = {}
    for layers in ADVERSARIAL:
        for n in (FEW, MORE):
            work[f"{layers} {n}"] = trained(model, layers, preset, dataset, n)
    found = timed(work, repeats)
    plain = 0.0
    for layers in ADVERSARIAL:
        few, more = found[f"{layers} {FEW}"][0], found[f"{layers} {MORE}"][0]
        seconds, passes = (more - few) / (MORE - FEW), found[f"{layers} {MORE}"][1]
        forward, inner, backward = passes
        plain = plain or seconds
        told = (forward + inner + backward) / 2  # a plain step is one of each
        table.ratios[f"training, {layers} / plain"] = seconds / plain
        table.row(
            f"`{layers}`" if layers != "none" else "plain",
            f"{forward:g}, {inner:g}, {backward:g}",
            f"{told:.1f}",
            f"{seconds / plain:.1f}",
        )
    batch = presets.choose_recipe(model, preset, (), {}).batch_size
    batches = BalancedBatches(dataset.splits["train"], batch, 0)
    for step in range(200):  # phantoms are drawn when they are first asked for
        batches(step)
    start = time.process_time()
    for step in range(20):
        batches(step)
    loading = (time.process_time() - start) / 20 / plain
    table.lines.append(f"\nMaking a batch takes {loading:.1%} of a plain step.")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=",".join(MODELS), help="comma-separated; default: all")
    parser.add_argument("--defense", default="none,pgd-at", help="comma-separated")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--data", default="phantoms", help="a set that needs no files")
    parser.add_argument("--steps", action="store_true", help="what steps cost, of `late`")
    options = parser.parse_args()
    dataset = load(options.data, size=presets.preset(options.preset)["size"])
    if options.steps:
        torch.set_num_threads(1)
        written("training", steps("late", options.preset, dataset, 3).lines)
        return
    defences = options.defense.split(",")
    with tempfile.TemporaryDirectory() as home:
        os.environ["MEDROBUST_HOME"] = home
        minutes("late", "none", options.preset, dataset)  # warms up
        print(
            f"minutes, {torch.get_num_threads()} threads\n\n| model | "
            + " | ".join(defences)
            + " |"
        )
        print("|---" * (len(defences) + 1) + "|", flush=True)
        for model in options.model.split(","):
            times = [minutes(model, layers, options.preset, dataset) for layers in defences]
            print(f"| {model} | " + " | ".join(f"{m:.1f}" for m in times) + " |", flush=True)


if __name__ == "__main__":
    main()
