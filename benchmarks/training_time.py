"""How long trainings of a preset take on this machine: a few steps and validations of each are
measured, the rest is multiplied.

    python benchmarks/training_time.py [--model mail,late] [--defense none,pgd-at] [--preset quick]
    [--data phantoms]

Prints a Markdown table of minutes, models down, defences across. The machine should have nothing
else to do. Left out: the passes that settle BatchNorm, and the validation figures at the end,
seconds each.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import torch

from robustbench_med.data import Dataset, load
from robustbench_med.models.registry import MODELS
from robustbench_med.training import defenses, loop, presets

FEW, MORE = 2, 10


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=",".join(MODELS), help="comma-separated; default: all")
    parser.add_argument("--defense", default="none,pgd-at", help="comma-separated")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--data", default="phantoms", help="a set that needs no files")
    options = parser.parse_args()
    defences = options.defense.split(",")
    dataset = load(options.data, size=presets.preset(options.preset)["size"])
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
