"""Executors: who works on the units of a run. All of them give the same outcomes.

An executor takes units, a planned session and a function, which it calls with what became of each
cell as soon as that is known; it returns when every cell has come to something, or once a scheduler
has the work where that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from robustbench_med.errors import UserError, unknown
from robustbench_med.runs.device import check_threads
from robustbench_med.runs.executors import here, processes, ray_cluster, slurm
from robustbench_med.runs.job import Job
from robustbench_med.runs.outcomes import Outcomes
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Unit

EXECUTORS = ("local", "ray", "slurm")
MOST = 1024
"""Processes that may be asked for."""


class Executor(Protocol):
    """Works on all units, in any order."""

    def __call__(self, units: Sequence[Unit], session: Session[RunSpec], tell: Outcomes) -> None:
        """Calls `tell` with the outcome of every cell."""


def executor_of(job: Job, n_units: int) -> Executor:
    """Who works on so many units.

    Raises:
        UserError: a number of processes or threads that is none, a missing scheduler.
    """
    n = jobs_of(job)
    if job.executor == "slurm":
        return slurm.Slurm.of(job)
    if job.executor == "ray":
        gpus = job.gpus if job.gpus is not None else float(job.device == "cuda")
        return ray_cluster.RayCluster(job.address, job.threads or 1, gpus)
    if n == 1:
        return here.compute
    threads = job.threads or max(1, torch.get_num_threads() // n)
    return processes.Processes(min(n, n_units), threads)


def jobs_of(job: Job) -> int:
    """How many processes a job asks for."""
    if job.executor not in EXECUTORS:
        raise unknown("executor", job.executor, EXECUTORS)
    if job.executor != "local" and job.jobs != "1":
        raise UserError("--jobs is for the executor local; a cluster says how many tasks it runs")
    if job.executor != "ray" and (job.address is not None or job.gpus is not None):
        raise UserError("--address and --gpus are for --executor ray")
    if job.executor != "slurm" and (job.slurm or job.detach):
        raise UserError("--slurm and --detach are for --executor slurm")
    slurm.parameters_of(job)
    check_threads(job.threads)
    if job.jobs == "auto":
        if job.device in ("auto", "cuda") and torch.cuda.is_available():
            return torch.cuda.device_count()
        return max(1, torch.get_num_threads() // (job.threads or 1))
    if not (job.jobs.isdigit() and 1 <= int(job.jobs) <= MOST):
        raise UserError(
            f"--jobs must be 'auto' or a whole number from 1 to {MOST}, got {job.jobs!r}"
        )
    return int(job.jobs)
