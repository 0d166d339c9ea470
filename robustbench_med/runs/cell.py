"""One cell: its inputs gathered, looked up in the store, else measured, and its record written."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robustbench_med import naming
from robustbench_med.attacks import RefusedError, engines, gives, radius_free, ran
from robustbench_med.data import Dataset
from robustbench_med.data.subgroups import arrays_of
from robustbench_med.errors import UserError
from robustbench_med.evaluation import carrying, cell_signs, cost, signs
from robustbench_med.evaluation.goals import choose_goals
from robustbench_med.evaluation.protocol import attack_pass, single_draw
from robustbench_med.evaluation.signs import Sign
from robustbench_med.evaluation.types import Candidates, Challenge, Clean, Method, Outcome
from robustbench_med.runs import chains, challenge, corrupting, handed_on, kept_images
from robustbench_med.runs.commands import command_of
from robustbench_med.runs.device import one_gradient, peak_memory_mib
from robustbench_med.runs.estimates import Estimate, expected
from robustbench_med.runs.identity import Inputs, sweep_key
from robustbench_med.runs.inputs import inputs_of, label_of
from robustbench_med.runs.rivals import rival_of
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.validating import validate
from robustbench_med.store.record import CONTROL, Record
from robustbench_med.store.store import Store
from robustbench_med.version import versions

T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """What was measured in one cell.

    Attributes:
        clean: the clean pass, shared by all attacks on the victim.
        method: the attack as it ran.
        outcome: its figures, and the arrays of every sample.
        signs: that it may have failed.
        leaning: how predictions of the victim or a source depend on the batch; None: they do not.
        started: when the attack began, in seconds since 1970.
        challenges: what short attacks of other kinds took of what it left.
        expected: how long it was to take, where that was known.
    """

    clean: Clean
    method: Method
    outcome: Outcome
    signs: list[Sign]
    leaning: str | None
    started: float
    challenges: list[Challenge]
    expected: Estimate | None


def evaluate_cell(
    cell: Cell, session: Session[RunSpec], store: Store[Record], position: str
) -> Record:
    """The record of one cell, from the store or measured now.

    Args:
        cell: what to evaluate.
        session: its data and victims.
        store: where finished records are.
        position: which cell of the grid it is, for the display.

    Raises:
        UserError: an attack that cannot be run on this victim, or too little memory.
    """
    inputs = inputs_of(cell, session)
    display, label = session.job.display, label_of(inputs)
    evaluation = Evaluation(inputs, session, position)
    if not session.job.force and (kept := store.kept(inputs.hash, display.warn)) is not None:
        display.say(f"[{position}] {label}: done before, record {inputs.hash[:12]}")
        kept_images.keep_anew(inputs, session, evaluation.outcome_anew)
        return kept
    refuse(inputs, label)
    validate(inputs, session)
    measured = evaluation.measure()
    if inputs.victim.is_deterministic and chains.has_next(cell, session):
        evaluation.hand_on(measured.clean, measured.outcome)
    kept_images.keep(inputs, session, measured.outcome)
    parted = arrays_of(inputs.dataset.subgroups, inputs.dataset.columns, inputs.samples)
    record = store.write(record_of(inputs, session, measured), measured.outcome.arrays | parted)
    if inputs.before is not None:
        handed_on.forget(session.out, inputs.before.hash)
    session.past.add(record.plain())
    spent = record.cost.seconds + (record.cost.challenge_seconds or 0.0)
    display.say(f"[{position}] {label}: robust {record.figures.robust:.3f}, {spent:.1f} s")
    return record


def refuse(inputs: Inputs, label: str) -> None:
    """Refuses (UserError) what an engine cannot do, and draws that would not be fresh."""
    victim, method = inputs.victim, inputs.method
    if method.engine in engines.ENGINES:
        reason = engines.ENGINES[method.engine].refusal(
            method.name, inputs.threat, stochastic=victim.nature.stochastic
        )
        if reason:
            raise UserError(f"{label}: the engine {method.engine} refuses: {reason}")
    if inputs.run.batch_draws > 1 and getattr(victim.module, "shares_noise", False):
        raise UserError(
            f"{inputs.cell.model} draws some of its noise once a batch: draws that share a batch"
            " would not be fresh; leave out --batch-draws"
        )


class Evaluation:
    """One cell that is measured now."""

    def __init__(self, inputs: Inputs, session: Session[RunSpec], position: str) -> None:
        self.inputs, self.session, self.position = inputs, session, position

    def measure(self) -> Measurement:
        """Clean pass, noise control, attack, and the signs that it failed."""
        inputs, victim = self.inputs, self.inputs.victim
        clean = self.clean()
        victim.cost(inputs.dataset)  # before the attack takes its memory
        method = self.method(clean)
        awaited = expected(
            inputs, self.session.past, self.session.device, searched=bool(method.sweep)
        )
        noise = self.noise()
        started = time.time()
        outcome = self.attack(clean, method)
        if method.name == CONTROL:
            victim.noise[inputs.cell.seed, inputs.threat] = outcome.figures["robust"]
        challenges = self.challenges(clean, outcome)
        setting = self.session.setting(inputs.cell.seed)
        seen = cell_signs.of_cell(
            victim.module, inputs.samples, clean, inputs.threat, method, outcome, setting, noise
        )
        leaning = [
            each.nature.neighbours for each in (victim, *inputs.sources) if each.nature.neighbours
        ]
        if leaning:
            seen.append(signs.depends_on_batch(leaning[0]))
        reason = leaning[0] if leaning else None
        return Measurement(clean, method, outcome, seen, reason, started, challenges, awaited)

    def clean(self) -> Clean:
        """The clean pass of the victim under this seed, which its cells share."""
        inputs, seed = self.inputs, self.inputs.cell.seed
        if seed in inputs.victim.clean:
            return inputs.victim.clean[seed]
        what = f"clean pass of {inputs.victim.plan.name} on {inputs.dataset.label}"
        with self.bar(what, len(inputs.samples)) as advance:
            return self.fitted(
                lambda: inputs.victim.clean_pass(
                    inputs.samples, self.session.setting(seed), lambda n: advance(n, "")
                )
            )

    def method(self, clean: Clean) -> Method:
        """The attack with the classes it aims at, and what earlier radii of its sweep gave."""
        inputs, method = self.inputs, self.inputs.method
        goals = smallest = None
        if inputs.threat.targeted:
            goals = choose_goals(str(inputs.run.target), clean, inputs.samples, inputs.cell.seed)
        several_radii = method.engine == "native" and len(inputs.run.radii(inputs.cell.norm)) > 1
        if gives(inputs.victim.module) is not None:
            several_radii = False  # each counts its queries; what it asks again is known
        if several_radii and radius_free(method.name, inputs.threat.norm):
            smallest = inputs.victim.smallest.setdefault(sweep_key(inputs.spec), {})
        return replace(method, goals=goals, sweep=smallest, candidates=self.candidates())

    def candidates(self) -> Candidates | None:
        """What the record before in the chain hands on; None where there is none."""
        before = self.inputs.before
        if before is None:
            return None
        kept = handed_on.kept(self.session.out, before.hash)
        again = Evaluation(before, self.session, self.position).attack_again
        found = again() if kept is None else kept
        afresh = carrying.AFRESH if before.method.name == self.inputs.method.name else 0
        return Candidates(found, afresh)

    def attack_again(self) -> Mapping[int, Tensor]:
        """What a record hands on that is there without it."""
        inputs, session = self.inputs, self.session
        label, display = label_of(inputs), session.job.display
        if Store(session.out).kept(inputs.hash, display.warn) is None:
            raise UserError(f"the record that it starts from is not there: {label} failed")
        display.say(f"[{self.position}] {label}: attacked again, the next cell starts from it")
        found = self.hand_on(self.clean(), self.outcome_anew())
        if inputs.before is not None:
            handed_on.forget(session.out, inputs.before.hash)
        return found

    def outcome_anew(self) -> Outcome:
        """The attack, whatever is recorded of it."""
        clean = self.clean()
        return self.attack(clean, self.method(clean))

    def hand_on(self, clean: Clean, outcome: Outcome) -> Mapping[int, Tensor]:
        """Keeps for the next record of the chain what the attack broke."""
        found = carrying.broken(outcome, clean, self.inputs.threat.tasks)
        handed_on.keep(self.session.out, self.inputs.hash, found)
        return found

    def noise(self) -> float | None:
        """Robust accuracy under noise of this radius; None of noise, and where none bounds it."""
        inputs = self.inputs
        if inputs.method.name == CONTROL or inputs.method.name in corrupting.UNBOUNDED:
            return None
        return self.fitted(
            lambda: inputs.victim.under_noise(
                inputs.samples, inputs.threat, self.session.setting(inputs.cell.seed)
            )
        )

    def attack(self, clean: Clean, method: Method) -> Outcome:
        """The attack, and what it left of the victim's accuracy."""
        inputs, device, label = self.inputs, self.session.device, label_of(self.inputs)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

        def attacked() -> Outcome:
            with self.bar(label, 2 * len(inputs.samples)) as advance:
                return attack_pass(
                    inputs.victim.module,
                    inputs.samples,
                    clean,
                    inputs.threat,
                    method,
                    self.session.setting(inputs.cell.seed),
                    lambda n: advance(n, ""),
                    lambda text: advance(0, text),
                )

        try:
            return self.fitted(attacked, whole=inputs.whole)
        except RefusedError as error:
            raise UserError(f"{label}: {error}") from error

    def challenges(self, clean: Clean, outcome: Outcome) -> list[Challenge]:
        """What short attacks of other kinds took of what the attack left, where they are to run."""
        inputs = self.inputs
        if not (inputs.run.challenge and inputs.challengeable):
            return []
        started, setting = time.perf_counter(), self.session.setting(inputs.cell.seed)
        rival = rival_of(inputs, self.session, setting)
        with self.bar(label_of(inputs), 1) as advance:
            challenges, fresh = self.fitted(
                lambda: challenge.challenge(inputs, clean, outcome, setting, rival, advance)
            )
        outcome.cost["challenge_passes"] = fresh + sum(each.passes for each in challenges)
        outcome.cost["challenge_seconds"] = time.perf_counter() - started
        return challenges

    def fitted(self, work: Callable[[], T], *, whole: bool | None = None) -> T:
        """What `work` gives in batches that memory holds; chunks stay whole where the victim or
        `whole` says so.
        """
        inputs = self.inputs
        if whole is None:
            whole = inputs.victim.nature.drawing == "batch"
        heaviest = functools.partial(
            one_gradient, inputs.victim.module, inputs.samples, inputs.threat, self.session.device
        )
        return self.session.fitted(work, heaviest, whole=whole)

    def bar(self, what: str, total: int) -> AbstractContextManager[Callable[[float, str], None]]:
        """A progress bar that says which cell of the grid it is of."""
        return self.session.job.display.bar(f"[{self.position}] {what}", total)


def record_of(inputs: Inputs, session: Session[RunSpec], measured: Measurement) -> Record:
    """What is written about a cell."""
    dataset, victim = inputs.dataset, inputs.victim
    clean, method, outcome = measured.clean, measured.method, measured.outcome
    attack_ran = _attack_ran(inputs, measured)
    content = {
        "hash": inputs.hash,
        "spec": inputs.spec,
        "command": command_of(inputs.cells, inputs.run, len(inputs.samples), dataset),
        "names": {
            "modalities": list(dataset.modalities),
            "tasks": list(dataset.tasks),
            "classes": [list(c) for c in dataset.classes],
            **({"subgroups": [g.name for g in dataset.subgroups]} if dataset.subgroups else {}),
        },
        **_references(dataset),
        "figures": outcome.figures,
        **({"attack_ran": attack_ran} if attack_ran else {}),
        "diagnostics": signs.plain(measured.signs),
        "soft_gradients": callable(getattr(victim.module, "soft", None)),
        **_challenges(measured.challenges),
        **({"carried": asdict(outcome.carried)} if outcome.carried else {}),
        "stochastic": clean.stochastic,
        **({"batch_dependent": measured.leaning} if measured.leaning else {}),
        "draws": clean.draws,
        "naive": single_draw(clean, method, outcome.search) or victim.plan.unaware,
        "synthetic": dataset.synthetic,
        "notes": [
            *dataset.notes,
            *victim.nature.notes,
            *_of_box(victim.module),
            *_of_random(clean, inputs),
        ],
        "unverified": dataset.unverified,
        "repeatable": victim.nature.repeatable,
        "architecture": naming.label(victim.plan.model),
        "on_gpu": session.device.type != "cpu",
        "distinct_images": dict(zip(dataset.modalities, inputs.samples.distinct, strict=True)),
        "victim": {
            **victim.cost(dataset),
            "checkpoint": str(victim.checkpoint.path.name),
            "origin": victim.checkpoint.origin,
        },
        "cost": {
            **outcome.cost,
            **_expected(measured.expected),
            "batch_size": session.batch.size,
            "peak_memory_mib": peak_memory_mib(session.device),
        },
        "environment": {
            "device": cost.device_name(session.device),
            "versions": versions(),
            "started": measured.started,
            "threads": torch.get_num_threads(),
        },
    }
    return Record.of(content)


def _attack_ran(inputs: Inputs, measured: Measurement) -> dict[str, Any]:
    """What an attack's parameters left open, and the rounds of its search."""
    dataset, threat, method = inputs.dataset, inputs.threat, measured.method
    class_counts = {dataset.tasks[t]: len(dataset.classes[t]) for t in threat.tasks}
    told, random = dict(method.parameters), measured.clean.draws > 1
    known = (
        ran(method.name, told, class_counts, threat.norm, stochastic=random)
        if method.engine == "native"
        else {}
    )
    if (parts := measured.outcome.arrays.get("part")) is not None:
        known = known | {"parts": [int((parts == part).sum()) for part in (0, 1)]}
    search = measured.outcome.search
    return known if search is None else known | {"search": asdict(search)}


def _of_box(victim: nn.Module) -> list[str]:
    """The note on how images reach a black box, where that changes them."""
    box = getattr(victim, "black_box", None)
    return [box.device.note] if box is not None and box.device.note else []


def _of_random(clean: Clean, inputs: Inputs) -> list[str]:
    """The notes on a random victim that is in no chain, or that one draw judges; empty where more
    do, or the protocol asks for one.
    """
    run, notes = inputs.run, list[str]()
    if (run.carry or run.cascade) and not inputs.victim.is_deterministic:
        notes.append(
            f"{'--carry' if run.carry else '--cascade'} is for deterministic victims: this one was"
            " attacked by itself"
        )
    if clean.stochastic and clean.draws == 1 and run.protocol == "sound":
        notes.append(
            "one draw: the victim is random, and was attacked and judged as if one pass were its"
            " answer (--draws 1); its interval knows nothing of how other draws would differ"
        )
    return notes


def _expected(known: Estimate | None) -> dict[str, object]:
    """What the cell was to take, beside what it took; empty where that was not known."""
    return {"estimated_seconds": known.seconds, "estimate_basis": known.basis} if known else {}


def _challenges(challenges: list[Challenge]) -> dict[str, object]:
    """The part `challenges` of a record; empty where none ran."""
    usual = [{k: v for k, v in asdict(each).items() if v is not None} for each in challenges]
    return {"challenges": usual} if usual else {}


def _references(dataset: Dataset) -> dict[str, list[dict[str, object] | None]]:
    """The part `references` of a record; empty where nothing was published."""
    if not any(dataset.references):
        return {}
    wanted = {"model", "size", "accuracy", "auc", "source"}
    return {
        "references": [
            None if figure is None else figure.model_dump(include=wanted)
            for figure in dataset.references
        ]
    }
