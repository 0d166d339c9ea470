"""Slurm: array jobs of packed units, submitted by submitit. The folder of the run lies where all
nodes see it; what a task does is read there, by who waits for it and by `medrobust status`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from robustbench_med.errors import UserError
from robustbench_med.parsing import validate
from robustbench_med.runs.executors import here
from robustbench_med.runs.executors.shown import Board
from robustbench_med.runs.executors.slurm_task import Task
from robustbench_med.runs.executors.worker import error_of
from robustbench_med.runs.failing import failure_of
from robustbench_med.runs.inputs import inputs_of
from robustbench_med.runs.job import Job
from robustbench_med.runs.outcomes import Outcomes
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Outcome, Unit
from robustbench_med.store.claim import claims
from robustbench_med.store.failure import Failures
from robustbench_med.store.ledger import whole_lines
from robustbench_med.store.store import Store
from robustbench_med.training import checkpoints

TASKS = 256
"""Tasks of an array at most; Slurm's own limit is 1,000 where nobody changed it. More units than
that are packed, several a task.
"""
TIMEOUTS = 3
"""Times that a task whose time is up is requeued."""
DEATHS = 3
"""Tasks that may end at one cell without a word before it is taken for the reason."""
LOOK = 2.0
"""Seconds between two looks into the folder."""
ASK = 20.0
"""Seconds between two questions to Slurm whether a job still has tasks."""
FOLDER = "slurm"
ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}
"""States of tasks that will do nothing any more."""


class TaskDiedError(Exception):
    """Tasks that worked on a cell ended without a word, one after another."""


class Parameters(BaseModel):
    """Parameters of the job, by the names of submitit's executor; None: Slurm's default.

    Attributes:
        timeout_min: minutes after which a task is requeued, to go on from there.
        cpus_per_task: processors, and threads of PyTorch unless those are given.
        setup: a line of shell before the task, such as `module load cuda`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    account: str | None = None
    array_parallelism: int = Field(TASKS, gt=0)
    comment: str | None = None
    constraint: str | None = None
    cpus_per_gpu: int | None = Field(None, gt=0)
    cpus_per_task: int | None = Field(None, gt=0)
    dependency: str | None = None
    exclude: str | None = None
    exclusive: bool | None = None
    gpus_per_node: str | None = None
    gpus_per_task: str | None = None
    gres: str | None = None
    job_name: str = "medrobust"
    mail_type: str | None = None
    mail_user: str | None = None
    mem: str | None = None
    mem_per_cpu: str | None = None
    mem_per_gpu: str | None = None
    nodelist: str | None = None
    partition: str | None = None
    qos: str | None = None
    setup: str | None = None
    signal_delay_s: int = Field(90, ge=0)
    timeout_min: int = Field(240, gt=0)
    wckey: str | None = None


def parameters_of(job: Job) -> Parameters:
    """The parameters that a job gives.

    Raises:
        UserError: an unknown one, or a bad value.
    """
    return validate(Parameters, job.slurm or {}, "--slurm")


@dataclass(frozen=True)
class Slurm:
    """Works on units on the nodes of a Slurm cluster.

    Attributes:
        parameters: of its jobs.
        threads: of PyTorch in a task.
        detach: whether to end once Slurm has the work.
    """

    parameters: Parameters
    threads: int
    detach: bool

    @classmethod
    def of(cls, job: Job) -> Self:
        """As a job asks for it; a task has as many processors as threads, unless it says so.

        Raises:
            UserError: a bad parameter; submitit or Slurm is missing here.
        """
        check_there()
        parameters = parameters_of(job)
        threads = job.threads or parameters.cpus_per_task or 1
        if parameters.cpus_per_task is None:
            parameters = parameters.model_copy(update={"cpus_per_task": threads})
        return cls(parameters, threads, job.detach)

    def __call__(self, units: Sequence[Unit], session: Session[RunSpec], tell: Outcomes) -> None:
        """Works on all units; those whose records are all there are read in this process.

        Raises:
            UserError: Slurm refuses the job, or its nodes do not see the folder.
        """
        left: list[Unit] = []
        recorded: list[Unit] = []
        for unit in units:
            (recorded if is_recorded(unit, session) else left).append(unit)
        here.work(recorded, session, tell)
        if not left:
            return
        work = _Work(self, session, tell)
        if self.detach:
            work.submit(left)
            return
        with Board(session.job.display, left) as board:
            work.run(left, board)


def check_there() -> None:
    """Refuses (UserError) to go on without submitit or Slurm."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--executor slurm needs submitit: pip install 'medrobust[slurm]'"
        ) from error
    missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"--executor slurm: {', '.join(missing)} not found; start it where jobs are submitted,"
            " on a login node of the cluster"
        )


def is_recorded(unit: Unit, session: Session[RunSpec]) -> bool:
    """Whether nothing of a unit is left to do; no victim is trained to tell."""
    planned, store = session.of(unit.spec), Store(session.out)
    if session.job.force or not _is_trained(unit, planned):
        return False
    for cell in unit.cells:
        try:
            wanted = inputs_of(cell, planned).hash
        except Exception:  # it is raised again, and kept as a failure, where the unit is worked on
            return False
        if store.kept(wanted, session.job.display.warn) is None:
            return False
    return True


def _is_trained(unit: Unit, session: Session[RunSpec]) -> bool:
    cell, victims = unit.cells[0], session.victims
    plans = [victims.plans.of(cell)]
    if any(each.attack == "transfer" for each in unit.cells):
        plans += [victims.source_plans.of(source) for source in victims.source_points(cell)]
    return all(plan.checkpoint or checkpoints.known(plan.spec) for plan in plans)


class _Work:
    """Units that wait for Slurm, and what its tasks noted."""

    def __init__(self, size: Slurm, session: Session[RunSpec], tell: Outcomes) -> None:
        self.size, self.session, self.tell = size, session, tell
        self.packs: list[Sequence[Unit]] = []
        """Units of each task of the last job."""
        self.notes: dict[Path, int] = {}
        """Files of tasks, and how many lines of them were read."""
        self.deaths: Counter[int] = Counter()
        """Tasks that ended at a cell without a word, by its number."""

    def run(self, units: Sequence[Unit], board: Board) -> None:
        """Until every unit is done; what a task left is submitted again."""
        left = list(units)
        while left:
            job = self.submit(left)
            try:
                self._wait(job, left, board)
            except BaseException:
                subprocess.run(["scancel", job], check=False, capture_output=True)
                raise
            left = [unit for pack in self.packs for unit in self._left(pack, job, board)]

    def submit(self, units: Sequence[Unit]) -> str:
        """Gives units to Slurm, packed into the tasks of one array; its number there."""
        import submitit

        out = self.session.out.resolve()
        self.packs = [units[i::TASKS] for i in range(min(len(units), TASKS))]
        job = json.dumps(replace(self.session.job, shard=None).plain())
        tasks = []
        for pack in self.packs:
            notes = self.tell.ledger.part(len(self.notes)).resolve()
            self.notes[notes] = 0
            written = tuple(unit.written() for unit in pack)
            tasks.append(Task(written, job, str(notes), self.size.threads))
        executor = submitit.SlurmExecutor(folder=out / FOLDER, max_num_timeout=TIMEOUTS)
        executor.update_parameters(**self._parameters())
        try:
            with executor.batch():
                submitted = [executor.submit(task) for task in tasks]
        except (submitit.core.utils.FailedJobError, RuntimeError) as error:
            line = " ".join(str(error).split())
            raise UserError(f"Slurm refuses the job ({line})") from error
        number = str(submitted[0].job_id).partition("_")[0]
        self.tell.ledger.hand_to(f"Slurm job {number}")
        cells = sum(len(unit.cells) for unit in units)
        self.session.job.display.say(
            f"Slurm job {number}: {cells} cells of {len(units)} victims in {len(tasks)} tasks,"
            f" whose output is in {self.session.out / FOLDER}"
        )
        return number

    def _parameters(self) -> dict[str, Any]:
        """As submitit takes them."""
        given = self.size.parameters.model_dump(exclude_none=True)
        setup = [given.pop("setup")] if "setup" in given else []
        return {
            "time": given.pop("timeout_min"),
            **given,
            "setup": [*setup, f"export OMP_NUM_THREADS={self.size.threads}"],
            # srun does not take over what sbatch was given
            "srun_args": [f"--cpus-per-task={given['cpus_per_task']}"],
            "additional_parameters": {"requeue": True},
        }

    def _wait(self, job: str, units: Sequence[Unit], board: Board) -> None:
        """Until every cell has come to something, or the job has no task any more."""
        numbers = {number for unit in units for number in unit.numbers}
        asked, states = time.monotonic(), None
        while True:
            for path in self.notes:
                self._read(path, board)
            board.show(claims(self.session.out))
            if numbers <= set(self.tell.known):
                return
            if states is not None and states <= ENDED:
                self._check_end(job, states)
                return
            time.sleep(LOOK)
            if time.monotonic() - asked >= ASK:
                asked = time.monotonic()
                with contextlib.suppress(OSError):  # it may be busy: the next question tells
                    states = states_of(job)

    def _read(self, path: Path, board: Board) -> None:
        """What a task has noted since the last look."""
        lines = whole_lines(path)
        for line in lines[self.notes[path] :]:
            message = json.loads(line)
            kind = message.pop("kind")
            if kind == "outcome":
                message.pop("at")
                self.tell(Outcome(**message))
                board.finished()
            elif kind == "raised":
                raise error_of(message)
            else:
                board.receive(0, kind, message)
        self.notes[path] = len(lines)

    def _left(self, pack: Sequence[Unit], job: str, board: Board) -> list[Unit]:
        """What a task that has ended left to do, without a cell that too many ended at."""
        left = [rest for unit in pack if (rest := unit.without(set(self.tell.known)))]
        if not left:
            return []
        first, *others = left
        number, cell = next(first.numbered())
        self.deaths[number] += 1
        if self.deaths[number] < DEATHS:
            self.session.job.display.warn(
                f"a task of Slurm job {job} ended at {first.label}; what it left is submitted again"
            )
            return left
        died = TaskDiedError(
            f"{DEATHS} Slurm tasks ended at it, the last of job {job}: out of memory, or longer"
            " than timeout_min?"
        )
        failure = failure_of(cell, self.session.of(first.spec), died, "cell")
        Failures(self.session.out).write(failure)
        self.tell(Outcome(number=number, failure=failure.hash))
        board.finished()
        rest = first.without({number})
        return [rest, *others] if rest else others

    def _check_end(self, job: str, states: Collection[str]) -> None:
        """Refuses (UserError) to submit again what was cancelled, or cannot run."""
        if "CANCELLED" in states:
            raise UserError(
                f"Slurm job {job} was cancelled; finished cells and training steps are kept, the"
                " same command goes on from there"
            )
        if not any(path.exists() for path in self.notes):
            raise UserError(
                f"Slurm job {job} has ended and left nothing in {self.session.out}: that folder and"
                f" this Python must be there on every node; see {self.session.out / FOLDER}, or"
                f" `sacct --jobs {job}`"
            )


def states_of(job: str) -> set[str]:
    """States of a job's tasks; none once Slurm has forgotten it.

    Raises:
        OSError: Slurm does not answer.
    """
    asked = subprocess.run(
        ["squeue", "--noheader", "--states", "all", "--array", "--jobs", job, "--format", "%T"],
        check=False,
        capture_output=True,
        text=True,
    )
    if asked.returncode and re.search("invalid job id", asked.stderr, re.IGNORECASE) is None:
        raise OSError(asked.stderr)
    return set(asked.stdout.split())
