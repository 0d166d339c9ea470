"""What a run would do, before it does anything: cells done and to do, trainings, passes, time,
memory and disk. Nothing is trained and nothing attacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from robustbench_med import naming
from robustbench_med.attacks import radius_free
from robustbench_med.errors import UserError
from robustbench_med.evaluation.batching import drawing_of
from robustbench_med.evaluation.pace import Pace
from robustbench_med.evaluation.probes import Nature
from robustbench_med.models.abstaining import aware
from robustbench_med.paths import home
from robustbench_med.runs.chains import before
from robustbench_med.runs.checks import box_of, check_attacks
from robustbench_med.runs.corrupting import baseline_of
from robustbench_med.runs.estimates import (
    estimate,
    timed_pace,
    trained_seconds,
    training_seconds,
    work_of,
)
from robustbench_med.runs.executors import jobs_of
from robustbench_med.runs.identity import Inputs, sweep_key
from robustbench_med.runs.inputs import chained, understand
from robustbench_med.runs.job import Job
from robustbench_med.runs.planned import PlannedCell, PlannedTraining, PlannedVictim, RunPlan
from robustbench_med.runs.requests import request_hash
from robustbench_med.runs.run import grid_of
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec, VictimPoint
from robustbench_med.runs.units import of_shard, units_of
from robustbench_med.runs.victim_plans import Plans, VictimPlan
from robustbench_med.runs.victims import LoadedVictim
from robustbench_med.store.belief import HASH_LENGTH
from robustbench_med.training import checkpoints, defenses, presets
from robustbench_med.training.checkpoints import Checkpoint

NATURES = (
    Nature(False, "none"),
    Nature(True, "sample"),
    Nature(True, "batch"),
    Nature(False, "batch", neighbours="its neighbours"),
)
"""What a victim may turn out to be: a record of it tells which."""
RECORD_BYTES, SAMPLE_BYTES = 16_000, 120
"""Of a record and its outcomes, about, where the folder holds none to measure: besides samples,
and each sample.
"""


def plan(spec: RunSpec, job: Job) -> RunPlan:
    """What `run` would do with the same arguments.

    Args:
        spec: of the run.
        job: where and how to run; its folder is read, and its workers share the victims.

    Raises:
        UserError: as `run`, before its first training.
    """
    jobs = jobs_of(job)
    session = Session.open(spec, job, check_plannable, writes=False)
    planned = Planner(session).plan(_grid(session), jobs)
    if (beside := baseline_of(session)) is None:
        return planned
    more = Planner(beside).plan(_grid(beside), jobs)
    return replace(planned, baseline=more.victims, jobs=max(planned.jobs, more.jobs))


def _grid(session: Session[RunSpec]) -> list[Cell]:
    """The cells that a session's shard would run, their victims planned."""
    grid = grid_of(session)
    understand(grid, session)
    units = of_shard(units_of(grid, session), session.job.shard)
    return [cell for unit in units for cell in unit.cells]


def check_plannable(spec: RunSpec) -> None:
    """Refuses (UserError) black boxes, and what `check_attacks` does."""
    boxes = [name for name in spec.model if box_of(name) is not None]
    if boxes:
        raise UserError(
            "a plan times a few passes of each victim, and nobody asks the black box"
            f" {naming.label(boxes[0])} but attacks; --max-queries bounds what these ask"
        )
    check_attacks(spec)


class Planner:
    """Plans the cells of a session, victim by victim."""

    def __init__(self, session: Session[RunSpec]) -> None:
        self.session = session
        self.folder = session.out / "records"
        self.kept = {path.stem for path in self.folder.glob("[0-9a-f]*.json")}
        self.sidecars = list(checkpoints.sidecars())
        self.failed = {path.stem for path in (session.out / "failures").glob("[0-9a-f]*.json")}
        self.paces: dict[str, Pace] = {}
        self.swept: set[str] = set()
        self.trained: set[str] = set()
        """Trainings that a victim before needs already."""

    def plan(self, grid: Sequence[Cell], jobs: int) -> RunPlan:
        """The plan of a grid."""
        victims: dict[tuple[object, ...], PlannedVictim] = {}
        prospects: dict[tuple[object, ...], Prospect] = {}
        for cell in grid:
            key = (cell.data, cell.fold, cell.model, cell.defense, cell.train_seed)
            if key not in victims:
                prospects = {key: self.prospect(cell, self.session.victims.plans)}
                victims[key] = self.victim(cell, prospects[key])
            victims[key].cells.append(self.cell(cell, prospects[key]))
        return RunPlan(
            tuple(victims.values()),
            max(1, min(jobs, len(victims))),
            self.session.batch.size,
            str(self.session.device),
            self.record_bytes(grid),
            ("done", "failed") if self.session.job.skip_failed else ("done",),
        )

    def prospect(self, point: VictimPoint, plans: Plans) -> Prospect:
        """A victim as it is known before it is trained or loaded."""
        plan = plans.of(point)
        module = defenses.wrap(presets.build(plan.spec).eval(), plan.defended.inference)
        module = aware(module.requires_grad_(False).to(self.session.device))
        checkpoint = plan.checkpoint or checkpoints.known(plan.spec)
        stochastic = bool(getattr(module, "stochastic", False))
        likely = Nature(stochastic, drawing_of(module, stochastic=stochastic))
        return Prospect(plan, module, checkpoint, likely)

    def victim(self, point: VictimPoint, prospect: Prospect) -> PlannedVictim:
        """A victim, and the training that it needs."""
        plan, paced = prospect.plan, self.pace(point, prospect)
        training, name = None, checkpoints.name_of(plan.spec)
        if prospect.checkpoint is None and name not in self.trained:
            self.trained.add(name)
            dataset = self.session.dataset(point)
            learned = trained_seconds(plan.spec, dataset, self.sidecars, self.session.device)
            seconds = learned or training_seconds(plan.spec, dataset, paced)
            size = paced.weights // (2 if plan.spec.half else 1)
            training = PlannedTraining(name, seconds, "training" if learned else "passes", size)
        n = min(self.session.batch.size, len(self.session.samples(point)))
        return PlannedVictim(point, plan.defended.name, training, paced.memory(n))

    def pace(self, point: VictimPoint, prospect: Prospect) -> Pace:
        """How fast its passes are; timed once a shape."""
        plan = prospect.plan
        key = f"{plan.defended.name} {plan.spec.params} {self.session.dataset(point).shapes}"
        key += f" {plan.spec.class_counts} {plan.defended.layers}"
        if key not in self.paces:
            self.paces[key] = timed_pace(
                plan.spec,
                plan.defended,
                prospect.module,
                self.session.dataset(point),
                self.session.device,
            )
        return self.paces[key]

    def cell(self, cell: Cell, prospect: Prospect) -> PlannedCell:
        """One cell: whether it is done, and else what it takes."""
        sources = []
        if any(each.attack == "transfer" for each in (*before(cell, self.session), cell)):
            points = self.session.victims.source_points(cell)
            plans = self.session.victims.source_plans
            sources = [self.prospect(point, plans) for point in points]
        label = prospect.plan.defended.name
        if not self.session.job.force and self.is_done(cell, prospect, sources):
            return PlannedCell(cell, label, "done", None, None, None)
        inputs = self.inputs(cell, prospect, sources, prospect.likely)
        work = work_of(inputs, searched=self.was_swept(inputs))
        paced = self.pace(cell, prospect)
        expected = estimate(inputs, work, self.session.past, paced, self.session.device)
        total = work.total
        flops = None
        if total is not None:
            flops = total.queries * paced.forward_flops + total.gradients * paced.gradient_flops
        failed = request_hash(cell, self.session)[:HASH_LENGTH] in self.failed
        return PlannedCell(cell, label, "failed" if failed else "to do", total, flops, expected)

    def inputs(
        self, cell: Cell, prospect: Prospect, sources: Iterable[Prospect], nature: Nature
    ) -> Inputs:
        """The inputs of a cell, had its victim this nature."""
        beside = [source.of(source.likely) for source in sources]
        return chained(cell, prospect.of(nature), lambda each: beside, self.session)

    def is_done(self, cell: Cell, prospect: Prospect, sources: Sequence[Prospect]) -> bool:
        """Whether there is a record of a cell; what its victim is has been tried when it was made,
        so that no victim has to be loaded now.
        """
        victims = (prospect, *sources)
        if not self.kept or any(victim.checkpoint is None for victim in victims):
            return False
        natures = (prospect.likely, *(each for each in NATURES if each != prospect.likely))
        return any(
            self.inputs(cell, prospect, sources, nature).hash[:HASH_LENGTH] in self.kept
            for nature in natures
        )

    def was_swept(self, inputs: Inputs) -> bool:
        """Whether an earlier radius of the grid did the search of this one."""
        method, spec = inputs.method, self.session.spec
        native = method.engine == "native" and len(spec.eps) > 1
        if not native or not radius_free(method.name, inputs.threat.norm):
            return False
        key = f"{inputs.cell.data} {inputs.cell.fold} {sweep_key(inputs.spec)}"
        seen = key in self.swept
        self.swept.add(key)
        return seen

    def record_bytes(self, grid: Sequence[Cell]) -> int:
        """Of a record and its outcomes, about."""
        if self.kept:
            files = (path for path in self.folder.iterdir() if path.suffix in (".json", ".npz"))
            return sum(path.stat().st_size for path in files) // len(self.kept)
        return RECORD_BYTES + SAMPLE_BYTES * max(
            (len(self.session.samples(cell)) for cell in grid), default=0
        )


@dataclass(frozen=True)
class Prospect:
    """A victim before it is trained or loaded.

    Attributes:
        plan: which one.
        module: with weights as drawn, on the device.
        checkpoint: its weights, where they exist.
        likely: what it says of itself.
    """

    plan: VictimPlan
    module: nn.Module
    checkpoint: Checkpoint | None
    likely: Nature

    def of(self, nature: Nature) -> LoadedVictim:
        """As a cell sees it."""
        weights = self.checkpoint or Checkpoint(home(), "", {})
        return LoadedVictim(self.plan.spec, weights, self.module, nature, self.plan.defended)
