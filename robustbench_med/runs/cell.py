"""One cell: its inputs gathered, looked up in the store, else measured, and its record written."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from robustbench_med.attacks import RefusedError, engines, gives, radius_free
from robustbench_med.errors import UserError
from robustbench_med.evaluation import carrying, cell_signs, signs
from robustbench_med.evaluation.goals import choose_goals
from robustbench_med.evaluation.protocol import attack_pass
from robustbench_med.evaluation.types import (
    Candidates,
    Challenge,
    Clean,
    Method,
    Outcome,
    TransferSource,
)
from robustbench_med.runs import chains, challenge, corrupting, handed_on, kept_images, parting
from robustbench_med.runs.device import one_gradient
from robustbench_med.runs.estimates import expected
from robustbench_med.runs.identity import Inputs, sweep_key
from robustbench_med.runs.inputs import inputs_of, label_of
from robustbench_med.runs.recording import Measurement, record_of
from robustbench_med.runs.rivals import rival_of, surrogate_source
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import Cell, RunSpec
from robustbench_med.runs.validating import validate
from robustbench_med.store.record import CONTROL, Record
from robustbench_med.store.store import Store

T = TypeVar("T")


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
        validate(inputs, session)
        return parting.parted_anew(inputs, kept, store)
    refuse(inputs, label)
    validate(inputs, session)
    measured = evaluation.measure()
    if inputs.victim.is_deterministic and chains.has_next(cell, session):
        evaluation.hand_on(measured.clean, measured.outcome)
    kept_images.keep(inputs, session, measured.outcome)
    arrays = measured.outcome.arrays | parting.subgroups_of(inputs)
    record = store.write(record_of(inputs, session, measured), arrays)
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
        return replace(
            method,
            goals=goals,
            sweep=smallest,
            candidates=self.candidates(),
            sources=[*method.sources, *self.surrogate()],
        )

    def surrogate(self) -> list[TransferSource]:
        """What the attack makes its adversarials on that the victim's answers train; empty where
        that is nothing.
        """
        inputs, n = self.inputs, self.inputs.surrogate
        if n is None:
            return []
        self.session.job.display.say(
            f"{inputs.victim.plan.name}: its answers about {n.images} {n.split} images train a"
            " surrogate"
        )
        return [surrogate_source(inputs, self.session.setting(inputs.cell.seed))]

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
            work = functools.partial(challenge.challenge, inputs, clean, outcome, setting, rival)
            challenges, fresh = self.fitted(lambda: work(advance))
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
