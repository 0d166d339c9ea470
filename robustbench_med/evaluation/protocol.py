"""The evaluation protocol: clean pass, attack, fresh draws, per-sample outcomes.

`release` retraces the authors' notebook: one draw, whatever the victim. `sound` asks what a single
use in the clinic would see: whether a victim is stochastic is tried, a sample counts with the
fraction of K fresh draws that are right, samples that are never right are not attacked, and the
draws an attacker optimised on are never reported.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.attacks import (
    Accelerated,
    Minimal,
    PassCount,
    Streams,
    Threat,
    View,
    attack_code,
    entry_of,
    gives,
)
from robustbench_med.data import Samples
from robustbench_med.evaluation import carrying, parted, querying
from robustbench_med.evaluation.assembling import assemble
from robustbench_med.evaluation.batching import (
    drawing_of,
    drawn,
    judged_draws,
    shapes_of,
    together,
)
from robustbench_med.evaluation.budget import forward_passes
from robustbench_med.evaluation.figures import cell_figures
from robustbench_med.evaluation.meter import metered
from robustbench_med.evaluation.outcome import attack_cost, outcome_arrays
from robustbench_med.evaluation.predictions import join, predict
from robustbench_med.evaluation.returned import keep_targets
from robustbench_med.evaluation.search import search
from robustbench_med.evaluation.sweep import recall, remember
from robustbench_med.evaluation.types import (
    Attacked,
    AttackPass,
    Clean,
    Drawing,
    Judged,
    Method,
    Outcome,
    SearchRan,
    Setting,
)
from robustbench_med.naming import BLACK_BOX, CORRUPTION, NORMS, OWN_THREAT
from robustbench_med.progress import Advance


def clean_pass(
    victim: nn.Module,
    samples: Samples,
    setting: Setting,
    tick: Advance,
    *,
    stochastic: bool,
    drawing: Drawing | None = None,
) -> Clean:
    """Predictions on unperturbed samples.

    Args:
        victim: in evaluation mode, on the setting's device.
        tick: called with the number of samples of each batch that is done.
        stochastic: whether two passes may differ (`probes.examine`).
        drawing: what a prediction depends on beside its sample; None: as its signature says.

    Returns:
        Fractions right, votes and probabilities of every sample, for every attack under this
        setting.
    """
    start = time.perf_counter()
    drawing = drawing or drawing_of(victim, stochastic=stochastic)
    draws = 1
    if stochastic and setting.protocol == "sound":
        draws = judged_draws(setting.draws, len(samples), setting.chunk, drawing)
    view = View(victim, shapes_of(samples), draws=draws)
    parts, ids = [], samples.ids
    for rows in together(np.arange(len(samples)), len(samples), setting, whole=drawing == "batch"):
        x = view.pack(samples.batch(rows)).to(setting.device)
        with drawn(view, drawing, setting, ids, rows, "clean"):
            parts.append(predict(view, x, samples.labels[rows]))
        tick(len(rows))
    all_samples = join(parts)
    return Clean(
        all_samples.right,
        all_samples.vote,
        all_samples.probabilities,
        all_samples.draws_right,
        stochastic,
        drawing,
        draws,
        (view.passes.forward, 0),
        time.perf_counter() - start,
        rejected=all_samples.rejected,
    )


def attack_pass(
    victim: nn.Module,
    samples: Samples,
    clean: Clean,
    threat: Threat,
    method: Method,
    setting: Setting,
    tick: Advance,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Attacks every sample that is ever right and measures it on fresh draws.

    Args:
        victim: in evaluation mode, on the setting's device, parameters without gradients.
        clean: the clean pass on these samples under the same setting.
        threat: what the attacker may do: norm, a radius for each modality, the tasks aimed at.
        method: the attack with its parameters.
        tick: called with the number of samples that are done, in parts as passes are made, of the
            attack and of the fresh draws: twice the number of samples in all.
        note: called with a line as rounds of a search begin.

    Returns:
        Figures, outcomes by sample (arrays of n rows) and cost.

    Raises:
        RefusedError: the attack cannot do what it is asked.

    Example:
        clean = clean_pass(victim, samples, setting, tick, stochastic=False)
        threat = Threat("Linf", (4 / 255, 4 / 255), tasks=(0, 1))
        method = Method("pgd", complete("pgd", {"steps": 20}))
        outcome = attack_pass(victim, samples, clean, threat, method, setting, tick)
        outcome.figures["robust"]
    """
    start = time.perf_counter()
    view = attacked_view(victim, samples, clean, method, setting)
    case = AttackPass(view, samples, clean, threat, method, setting)
    eligible = choose_targets(case)
    begun = carrying.begin(case, eligible)
    tick(len(samples) - len(begun.targets))
    attacked = attack_targets(begun, tick, note)
    carried = begun.finish(attacked)
    fresh = judge(case, attacked.adversarials, tick)
    figures = cell_figures(
        samples,
        clean,
        fresh,
        threat,
        chunk=setting.chunk,
        smallest=attacked.smallest,
        losses=attacked.losses,
        goals=method.goals,
    )
    querying.add_figures(figures, case, attacked.queries)
    arrays = outcome_arrays(case, attacked, fresh)
    cost = attack_cost(case, attacked, n_targets=len(eligible), started=start)
    quarters = np.concatenate(attacked.quarters, 1) if attacked.quarters else None
    return Outcome(figures, arrays, cost, attacked.ran, attacked.adversarials, quarters, carried)


def attacked_view(
    victim: nn.Module, samples: Samples, clean: Clean, method: Method, setting: Setting
) -> View:
    """The victim as an attack sees it."""
    draws = min(clean.draws, setting.draws)
    view = View(victim, shapes_of(samples), draws=draws, batch_draws=setting.batch_draws)
    if setting.accelerate and method.is_ours:
        random = clean.stochastic or clean.drawing != "none"
        view.through = Accelerated(
            victim,
            setting.accelerate,
            most=min(setting.batch_size, len(samples)),
            random=random,
        )
    return view


def choose_targets(case: AttackPass) -> NDArray[np.int64]:
    """Numbers of the samples to attack, ascending: all, or, under `sound`, those that are ever
    right at an attacked task. Corruptions come to all: nobody chooses them.
    """
    if case.setting.protocol != "sound" or case.method.engine == CORRUPTION:
        return np.arange(len(case.samples))
    return np.flatnonzero(case.clean.right[:, list(case.threat.tasks)].max(1) > 0)


def attack_targets(
    begun: carrying.Carrying, tick: Advance, note: Callable[[str], None]
) -> Attacked:
    """Attacks the samples of a pass that are to be attacked, once or in the rounds of a search."""
    case, targets, effort = begun.open_case, begun.targets, begun.case.method.effort
    if parted.is_universal(case.method):
        with metered([case.view], len(targets), forward_passes(case), tick):
            return parted.attack_parts(case, targets)
    if effort is None:
        return attack_batches(case, targets, tick)
    boxed = gives(case.view.victim) is not None
    most = effort.max_queries if boxed else forward_passes(case)
    with metered([case.view], len(targets), most, tick):
        return (assemble if boxed else search)(case, targets, one_round, effort, note)


def one_round(case: AttackPass, targets: NDArray[np.int64], stage: tuple[object, ...]) -> Attacked:
    """Attacks the targets as one round of a search, whose random numbers are those of `stage`."""
    return attack_batches(case, targets, lambda n: None, *stage)


def attack_batches(
    case: AttackPass, targets: NDArray[np.int64], tick: Advance, *stage: object
) -> Attacked:
    """Attacks the targets, batch by batch, and measures how far they were moved.

    `stage` tells the random numbers of one round from another's.
    """
    view, samples, setting, method = case.view, case.samples, case.setting, case.method
    n, ids = len(samples), samples.ids
    shapes = [segment.shape for segment in view.segments]
    sources = [(source.view(shapes, setting), source.drawing) for source in method.sources]
    compute = computation(method, [source for source, _ in sources])
    aims = labels_of(case) if method.goals is None else method.goals
    minimal = entry_of(method.name, method.engine).minimal is not None
    attacked = Attacked(
        distances={norm: np.zeros((n, len(view.segments)), np.float32) for norm in NORMS},
        smallest=np.zeros((n, len(case.threat.tasks)), np.float32) if minimal else None,
    )
    spent = replace(view.passes)
    whole = is_whole(case.clean.drawing, method)
    drawing = case.clean.drawing
    if whole and drawing == "sample":
        drawing = "batch"  # engines pass no generators on
    seen, most = [view, *(source for source, _ in sources)], forward_passes(case)
    for alike, its, rows in of_like_radii(case, targets, whole=whole):
        x = view.pack(samples.batch(rows)).to(setting.device)
        y = aims[rows].to(setting.device)
        purpose = (method.name, *stage)
        streams = Streams.seeded(
            setting.seed,
            [ids[row] for row in rows],
            " ".join(map(str, purpose)),
            device=setting.device,
        )
        view.losses = view.quarters = None
        view.queries = attacked.counting = querying.counted(alike, x, y)
        aimed = np.isin(rows, its)
        with (
            metered(seen, int(aimed.sum()), most, tick) if not stage else nullcontext(),
            drawn(view, drawing, setting, ids, rows, *purpose, sources=sources),
        ):
            result, passes = recall(method, rows, x)
            attacked.reused += passes
            if result is None:
                before = replace(view.passes)
                result = compute(view, x, y, alike.threat, streams)
                if view.through is not None and isinstance(result, Minimal):
                    result = result.confirmed(view, y, alike.threat)
                remember(method, rows, result, view.passes, before)
        querying.note(attacked, rows[aimed], aimed, n)
        view.queries = None
        # of a chunk that stays together, those that are no targets are passengers
        keep_targets(alike, attacked, rows, aimed, x, result)
    attacked.searched = PassCount(
        view.passes.forward - spent.forward, view.passes.backward - spent.backward
    )
    return attacked


def labels_of(case: AttackPass) -> Tensor:
    """(n, T) labels as the attacker sees them: where he chooses tasks, those that the victim never
    gets right are none to choose.
    """
    labels = case.samples.labels
    if case.threat.least is None:
        return labels
    return labels.masked_fill(torch.from_numpy(case.clean.right == 0), -1)


def of_like_radii(
    case: AttackPass, targets: NDArray[np.int64], *, whole: bool
) -> Iterator[tuple[AttackPass, NDArray[np.int64], NDArray[np.int64]]]:
    """The batches of a pass (`batching.together`), each of samples with the same radii: the pass
    with these radii, the targets that have them, and the samples of the batch.
    """
    for threat, places in case.threat.by_radii(targets.tolist()):
        its = targets[places]
        for rows in together(its, len(case.samples), case.setting, whole=whole):
            yield replace(case, threat=threat), its, rows


def judge(case: AttackPass, adversarials: Mapping[int, Tensor], tick: Advance) -> Judged:
    """Predictions for all samples on fresh draws, attacked where there are adversarials.

    Under `sound`, a sample that was never right is wrong, whatever a lucky draw says now; not so
    under a corruption, which may help it.
    """
    samples, setting, drawing = case.samples, case.setting, case.clean.drawing
    n, ids = len(samples), samples.ids
    view = View(case.view.victim, shapes_of(samples), draws=case.clean.draws)
    parts = []
    for rows in together(np.arange(n), n, setting, whole=drawing == "batch"):
        x = view.pack(samples.batch(rows))
        moved = [adversarials.get(int(row), x[i]) for i, row in enumerate(rows)]
        x = torch.stack(moved).to(setting.device)
        with (
            metered([view], len(rows), view.draws, tick),
            drawn(view, drawing, setting, ids, rows, case.method.name, "fresh"),
        ):
            parts.append(predict(view, x, samples.labels[rows]))
    case.view.passes.forward += view.passes.forward
    fresh = join(parts)
    draws_right = fresh.draws_right
    right, vote_right = fresh.right, fresh.vote == samples.labels.numpy()
    if fresh.rejected is not None:
        vote_right |= fresh.rejected > 0.5
    if setting.protocol == "sound" and case.method.engine != CORRUPTION:
        for t in case.threat.tasks:
            never = case.clean.right[:, t] == 0
            right[never, t] = 0
            vote_right[never, t] = False
            draws_right[:, never, t] = False
            if fresh.rejected is not None:
                fresh.rejected[never, t] = 0
    silent = fresh.rejected
    return Judged(right, fresh.vote, fresh.probabilities, draws_right, vote_right, rejected=silent)


def is_whole(drawing: Drawing, method: Method) -> bool:
    """Whether an attack sees fixed chunks: predictions depend on the batch, or somebody else may
    draw for it as a whole.

    That is a source, another library, or an attack of the user's, which may ask global generators.
    """
    if method.engine == CORRUPTION:
        return drawing == "batch"
    ours = method.engine in ("native", OWN_THREAT)
    own = attack_code(method.name, method.parameters, method.engine) if ours else None
    foreign = not ours or own is not None
    return (
        drawing == "batch" or foreign or any(source.drawing == "batch" for source in method.sources)
    )


def computation(method: Method, sources: Sequence[View]) -> Callable[..., Any]:
    """The attack with its arguments bound: `(view, x, y, threat, streams)` -> adversarials, or what
    attacks find before their radius (`Attack.before_radius`).
    """
    bound = dict(method.parameters) | ({"sources": sources} if sources else {})
    entry = entry_of(method.name, method.engine)
    return functools.partial(entry.before_radius or entry.function, **bound)


def single_draw(clean: Clean, method: Method, ran: SearchRan | None) -> bool:
    """Whether a random victim is attacked with gradients of one draw alone, which overstates its
    robustness.

    Args:
        ran: the rounds of the search that the attack began; each has draws of its own.
    """
    if not clean.stochastic or method.name == "noise" or method.engine == CORRUPTION:
        return False
    if ran is not None:
        along = [each for each in ran.rounds if each.kind != BLACK_BOX] or ran.rounds
        return bool(along) and all(each.parameters.get("eot", 1) == 1 for each in along)
    if method.name == "adaptive":  # its rounds are those against what it sees
        return clean.draws == 1
    return method.parameters.get("eot", 1) == 1
