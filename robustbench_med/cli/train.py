"""`medrobust train`: victims and their checkpoints."""

from __future__ import annotations

from robustbench_med.cli.as_json import show_json
from robustbench_med.cli.options import MLflow, TensorBoard, Typed, WandB, takes
from robustbench_med.parsing import validate
from robustbench_med.runs.spec import TrainingsSpec

MOST_USED = ("model", "defense", "data", "preset", "train_seed", "recipe", "out")


@takes("train", most_used=MOST_USED)
def train(
    typed: Typed, mlflow: MLflow = None, tensorboard: TensorBoard = None, wandb: WandB = None
) -> None:
    """Train victims and keep their checkpoints; an interrupted training goes on where it stopped.

    Every combination of the lists is one training. `run` does the same on first use. Weights are
    safetensors; a JSON sidecar tells how they came about.

    [bold]Examples[/]

      medrobust train --model late --data breastmnist+pneumoniamnist

      medrobust train --model mail --defense none,pgd-at --train-seed 0,1,2 --recipe epochs=30
    """
    from robustbench_med.runs.train import train as train_all
    from robustbench_med.store import loggers, tracking

    log = loggers.loggers_of(mlflow=mlflow, tensorboard=tensorboard, wandb=wandb)
    loggers.check(log)
    done = train_all(validate(TrainingsSpec, typed.values, "train"), typed.job)
    runs = [tracking.of_training(checkpoint.sidecar, checkpoint.path) for checkpoint in done]
    loggers.write(runs, log)
    if typed.as_json:
        facts = ("training_hash", "weights_sha256", "best_step", "validation", "command")
        show_json(
            [
                {"path": checkpoint.path, **{key: checkpoint.sidecar[key] for key in facts}}
                for checkpoint in done
            ]
        )
