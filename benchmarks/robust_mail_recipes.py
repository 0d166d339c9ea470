"""Which recipe trains the released Robust-MAIL formula? Trains each on the phantoms, writes their
curves and a figure.

    python benchmarks/robust_mail_recipes.py --out docs/figures

Every training is medrobust's own (`robustbench_med.training.loop`), those of the preset `quick` are
the zoo's; interrupted ones go on. The rest took 15 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from robustbench_med.data import load
from robustbench_med.training import loop, presets

FROM_THE_START = {
    "warm_up": None,
    "freeze_bn": None,
    "settle_bn": False,
    "schedule": "one-cycle",
    "steps": 300,
}
RECIPES = {
    "released formula from the start": ("robust-mail", {}, FROM_THE_START),
    "warmed up, BatchNorm frozen as it is": ("robust-mail", {}, {"settle_bn": False}),
    "warmed up, BatchNorm settled (quick)": ("robust-mail", {}, {}),
    "MAIL, for comparison (quick)": ("mail", {}, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="*", help="positions of the recipes to run (0, 1, ...); default all"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    dataset = load("phantoms", size=64)
    curves_path = arguments.out / "robust_mail_recipes.json"
    curves = json.loads(curves_path.read_text()) if curves_path.exists() else {}
    for i, (name, (model, params, recipe)) in enumerate(RECIPES.items()):
        if name in curves or (arguments.only and str(i) not in arguments.only):
            continue
        spec = presets.make_spec(model, dataset, "quick", params=params, recipe=recipe, seed=0)
        spec = spec.model_copy(update={"half": True})
        checkpoint = loop.obtain(
            spec,
            dataset,
            torch.device("cpu"),
            tick=lambda *_: None,
            say=print,
            command="medrobust train",
        )
        curve = {
            "history": checkpoint.sidecar["history"],
            "validation": checkpoint.sidecar["validation"],
        }
        print(name, [round(task["accuracy"], 3) for task in curve["validation"]], flush=True)
        curves = json.loads(curves_path.read_text()) if curves_path.exists() else {}
        curves[name] = curve
        arguments.out.mkdir(parents=True, exist_ok=True)
        curves_path.write_text(json.dumps(curves, indent=1))
    draw(curves, arguments.out / "robust_mail_recipes.png")


def draw(curves: dict[str, dict], path: Path) -> None:
    """Training and validation loss of each recipe."""
    plt.rcParams["font.size"] = 11
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for name in RECIPES:
        if name not in curves:
            continue
        history = curves[name]["history"]
        reached = " / ".join(f"{task['accuracy']:.2f}" for task in curves[name]["validation"])
        for axis, key in zip(axes, ("train_loss", "val_loss"), strict=True):
            axis.plot(
                [h["step"] for h in history],
                [min(h[key], 3) for h in history],
                label=f"{name} ({reached})",
            )
    for axis, title in zip(
        axes, ("training loss", "validation loss (evaluation mode)"), strict=True
    ):
        axis.set(title=title, xlabel="step", ylim=(0, 2.5))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mean cross-entropy of the two tasks")
    handles, labels = axes[0].get_legend_handles_labels()
    title = "phantoms (synthetic), width 16, 64 px, batch 32; validation accuracy lesion / lung"
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, title=title)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
