"""Settings of small comparisons, and made-up rows of them."""

from dataclasses import replace

import numpy as np

from robustbench_med.reports.comparison.believed import Trust
from robustbench_med.reports.comparison.rows import (
    Costs,
    Naive,
    OfAttack,
    Outcomes,
    Row,
    Setting,
)
from robustbench_med.reports.comparison.worst import WorstCase
from robustbench_med.reports.floors import Floor

RECIPE = [
    "--size",
    32,
    "--model-param",
    "width=4",
    "--recipe",
    "steps=4",
    "--recipe",
    "eval_every=2",
    "--recipe",
    "batch_size=8",
]

PASSED = Trust("challenged", why="", marks="", is_trivial=False, is_under_trained=False)

FAILED = replace(PASSED, trust="failed", why="zero gradient")

TRIVIAL = replace(PASSED, is_trivial=True)

LOW = Floor.of_counts([[5] * 20])
"""Below every figure of a victim that is right at times: twenty classes."""

USUAL = Costs(gflops=1.0, latency_ms=5.0, parameters=10, training_gflops=10.0, training_seconds=1.0)


def row_of(
    defense: str,
    worst: np.ndarray,
    *,
    model: str = "late",
    data: str = "d",
    eps: str = "4/255",
    trust: Trust = PASSED,
    naive: Naive = Naive(),  # noqa: B008 (frozen)
    costs: Costs = USUAL,
    clean: float = 0.9,
    labels: np.ndarray | None = None,
    floor: Floor = LOW,
) -> Row:
    """A row whose every unit is a patient of its own and this right under pgd, the only attack; all
    of one class where there are no `labels`.
    """
    n, mean = len(worst), float(worst.mean())
    labels = np.zeros(n, int) if labels is None else labels
    balanced = float(np.mean([worst[labels == c].mean() for c in np.unique(labels)]))
    return Row(
        model=model,
        defense=defense,
        victim=f"{model}+{defense}",
        setting=Setting(data, False, 64, "Linf", eps, "sound", n),
        n_distinct=n,
        trainings=1,
        evaluation_seeds=1,
        clean=clean,
        clean_balanced_accuracy=clean - 0.01,
        robust={"pgd": OfAttack(mean, balanced, 0.6)},
        worst=WorstCase(mean, 0.0, 1.0, None, balanced, 0.1, 0.8, worst_auc=0.6),
        floor=floor,
        naive=naive,
        draws=1,
        eot=None,
        costs=costs,
        trust=trust,
        outcomes=Outcomes(
            worst,
            worst,
            worst,
            tuple(map(str, range(n))),
            tuple(range(n)),
            (0,) * n,
            tuple(labels.tolist()),
            (0.0,) * n,
        ),
    )
