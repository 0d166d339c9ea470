"""`medrobust certify`: radii within which no attack, known or unknown, changes a smoothed
prediction.
"""

from __future__ import annotations

from pathlib import Path

from robustbench_med.cli.as_json import show_json
from robustbench_med.cli.options import MLflow, TensorBoard, Typed, WandB, takes
from robustbench_med.parsing import validate
from robustbench_med.runs.spec import CertifySpec

MOST_USED = (
    "model",
    "defense",
    "data",
    "sigma",
    "n0",
    "n",
    "alpha",
    "limit",
    "preset",
    "out",
)


@takes("certify", most_used=MOST_USED)
def certify(
    typed: Typed, mlflow: MLflow = None, tensorboard: TensorBoard = None, wandb: WandB = None
) -> None:
    """Certify smoothed victims (Cohen et al., arXiv 1902.02918): L2 radii no attack can beat,
    abstentions, certified accuracy curve.

    Noise on all modalities certifies their joint L2 size, and so any one of them; noise on one
    modality alone certifies that one while the others are trusted. Every --sigma trains a victim of
    its own (but --defense input-noise, which does not train with it). Writes certified.csv
    (curves), certified_tasks.csv, certified.png and certificates/, from which `medrobust report`
    makes all tables again.

    [bold]Example[/]

      medrobust certify --model late --defense smoothing --sigma 0.12,0.25,0.5 --data
      breastmnist+pneumoniamnist
    """
    from robustbench_med.cli import terminal
    from robustbench_med.reports import certified
    from robustbench_med.runs.certify import certify as certify_all
    from robustbench_med.runs.run import SYNTHETIC
    from robustbench_med.store import loggers, tracking

    log = loggers.loggers_of(mlflow=mlflow, tensorboard=tensorboard, wandb=wandb)
    loggers.check(log)
    spec = validate(CertifySpec, typed.values, "certify")
    out, display = typed.job.out or Path("reports"), typed.job.display
    records = certify_all(spec, typed.job)
    certified.write(out)
    rows = certified.by_task(records)
    if typed.as_json:
        show_json(rows)
    else:
        display.show(terminal.certificates(rows))
    loggers.write([tracking.of_certificate(record) for record in records], log)
    if any(record.synthetic for record in records):
        display.say(SYNTHETIC)
    display.say(
        f"each certificate holds with probability {1 - spec.alpha:g}; a radius is the L2 size of"
        " the change of all noised modalities together.\ntables and figure: "
        f"{out}/certified.csv, certified_tasks.csv, certified.png, certificates/"
    )
