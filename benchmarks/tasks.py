"""What an attack and a whole cell cost by the number of tasks: time and memory are linear in it.

    python benchmarks/tasks.py [--tasks 1,2,4,7,14] [--batch 32] [--steps 5]

Writes a table of docs/performance.md: seconds of processor time and added peak memory, and both a
task relative to one task, of `pgd` on findings of two classes (all of them; any of them), and of a
cell of `medrobust run` on as many samples. The network is untrained and the radius so small that
every sample stands to the last step: each number of tasks has the same passes. Each number of tasks
and each of the three is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from page import Table, headed, high_water, in_a_process, processor, written

from robustbench_med import attack, evaluate
from robustbench_med.data.given import make_data
from robustbench_med.models.fusion import LateFusion

SIDE, EPS = 32, 1e-6


def victim(tasks: int) -> LateFusion:
    """Untrained; of many findings and of one the same encoder."""
    torch.manual_seed(0)
    return LateFusion((1,), (2,) * tasks, width=8, image_size=SIDE).eval()


def right(model: LateFusion, images: torch.Tensor) -> torch.Tensor:
    """(B, T), what the network predicts: every sample is right, and attacked."""
    with torch.no_grad():
        return torch.stack([logits.argmax(1) for logits in model(images)], 1)


def attacked(tasks: int, aim: str, batch: int, steps: int) -> Callable[[], object]:
    """An attack on a batch."""
    model, images = victim(tasks), torch.rand(batch, 1, SIDE, SIDE)
    labels, params = right(model, images), {"steps": steps}
    return lambda: attack(
        model, images, labels, "pgd", eps=EPS, target_task=aim, attack_params=params
    )


def cell(tasks: int, aim: str, batch: int, steps: int) -> Callable[[], object]:
    """A whole cell: clean pass, attack, fresh passes, signs, challengers, figures, record."""
    model, images = victim(tasks), torch.rand(batch, 1, SIDE, SIDE)
    data = make_data(images, right(model, images), classes=[["absent", "present"]] * tasks)
    out = tempfile.mkdtemp()
    given: dict[str, Any] = {"attack_params": {"steps": steps}, "control": False, "quiet": True}
    return lambda: evaluate(model, "pgd", data=data, eps=EPS, target_task=aim, out=out, **given)


WHAT = {
    "pgd, all tasks": (attacked, "joint"),
    "pgd, any task": (attacked, "any"),
    "cell, all tasks": (cell, "joint"),
}


def measured(name: str, tasks: int, batch: int, steps: int, answer: Any) -> None:
    """Seconds of processor time, and MiB that they add to the peak of a fresh process."""
    torch.set_num_threads(1)
    make, aim = WHAT[name]
    make(1, "joint", 2, 1)()  # what the libraries load on first use
    job = make(tasks, aim, batch, steps)
    before, started = high_water(), time.process_time()
    job()
    answer.put((time.process_time() - started, high_water() - before))


def tasks(options: argparse.Namespace) -> Table:
    """Each number of tasks, relative to one."""
    table = headed(
        f"{processor()}, 1 thread, torch {torch.__version__}, late fusion of width 8, {SIDE} px.",
        "",
        "tasks",
        "seconds",
        "seconds a task / one task",
        "MiB",
        "MiB a task / one task",
    )
    for name in WHAT:
        first = in_a_process(measured, name, 1, options.batch, options.steps)
        for n in sorted({1, *map(int, options.tasks.split(","))}):
            found = (
                first if n == 1 else in_a_process(measured, name, n, options.batch, options.steps)
            )
            seconds, mib = found
            times, room = (value / n / one for value, one in zip(found, first, strict=True))
            if n > 1:
                table.ratios[f"{name}: a task of {n} / one task, seconds"] = times
            table.row(name, n, f"{seconds:.2f}", f"{times:.2f}", f"{mib:.0f}", f"{room:.2f}")
    return table


PARTS = {"tasks": tasks}


def main() -> None:
    """Prints the table, and writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default="1,2,4,7,14", help="comma-separated, 1 among them")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    written("tasks", tasks(parser.parse_args()).lines)


if __name__ == "__main__":
    main()
