"""The runner: expands a run to cells, obtains each victim, evaluates what the store does not hold yet."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from robustbench_med import cost, defense, diagnostics, probes, training
from robustbench_med.attacks import RefusedError, Threat, View, engines, radius_free, ran
from robustbench_med.batching import Setting
from robustbench_med.checkpoints import Checkpoint, export, model_parameters, open_checkpoint
from robustbench_med.data import Dataset, Samples
from robustbench_med.data.splits import Fold, fold_label
from robustbench_med.device import BatchSize, choose_device, peak_memory_mib
from robustbench_med.errors import UserError
from robustbench_med.evaluation import Clean, Method, Outcome, attack_pass, choose_goals, clean_pass, is_whole, single_draw
from robustbench_med.identity import Victim, resolve, sweep_key
from robustbench_med.job import Job, announce_limit, announce_whole_range, load_all, on_disk
from robustbench_med.models import own
from robustbench_med.naming import canonical_hash, radius_label
from robustbench_med.parameters import check_owners, of, owned
from robustbench_med.paths import writable_folder
from robustbench_med.plan import check_defense_owners, check_names, command_of, engine_of, make_threat, parameters_of, sample_limit
from robustbench_med.progress import Display, LazyBar
from robustbench_med.registration import include
from robustbench_med.spec import Cell, RunSpec, TrainOptions, TrainSpec, cells, cross_modal
from robustbench_med.store import Record, Store
from robustbench_med.versions import versions

T = TypeVar("T")
UNREPEATABLE = "not repeatable: the victim draws numbers that no seed repeats"
SYNTHETIC = "phantoms are synthetic drawings: these figures compare attacks and models, they say nothing about a clinic."


def run(spec: RunSpec, job: Job) -> list[Record]:
    """Runs a whole grid and returns its records; finished cells are read from the store unless `job.force`.

    Raises:
        UserError: unknown names, bad parameters, missing data, an unwritable folder; before any attack starts where possible.
    """
    include(spec.include, job.display.say)
    spec = spec.model_copy(update={"data": on_disk(spec.data, job)})
    check_names(spec)
    if job.out is None:
        raise ValueError("a run needs an output folder")
    store = Store(writable_folder(job.out))
    device = choose_device(job.device)
    batch = BatchSize(job.batch_size, job.display)
    datasets = load_all(spec, spec.data, job)
    grid = cells(spec)
    announce_limit(spec, datasets, job)
    announce_whole_range(spec, job)
    if spec.cross_modal:
        grid = cross_modal(grid, {name: (dataset.modalities, dataset.tasks) for (name, _), dataset in datasets.items()})
    for cell in grid:  # every radius and task is understood before the first training
        make_threat(cell, spec, datasets[cell.data, cell.fold])
    for cell in {(cell.data, cell.fold, cell.model, cell.defense): cell for cell in grid}.values():  # and every victim built
        planned(cell, spec, datasets[cell.data, cell.fold])
    victims = Victims(spec, device, job)
    return [
        evaluate_cell(cell, spec, datasets[cell.data, cell.fold], victims, store, device, batch, job, f"{number}/{len(grid)}")
        for number, cell in enumerate(grid, 1)
    ]


class Victims:
    """Victims of a run: the current one, kept while cells need it, and the sources of transfer attacks, each loaded once."""

    def __init__(self, spec: RunSpec, device: torch.device, job: Job) -> None:
        self.spec, self.device, self.job = spec, device, job
        self.current: tuple[tuple[str, Fold | None, str, str, int], Victim] | None = None
        self.loaded: dict[tuple[str, Fold | None, str], Victim] = {}

    def of(self, cell: Cell, dataset: Dataset) -> Victim:
        """The victim of a cell; the grid has its cells side by side."""
        key = (cell.data, cell.fold, cell.model, cell.defense, cell.train_seed)
        if self.current is None or self.current[0] != key:
            self.current = key, obtain_victim(cell, self.spec, dataset, self.device, self.job)
        return self.current[1]

    def sources(self, cell: Cell, dataset: Dataset) -> list[Victim]:
        """The undefended victims that `--source` names, on the data of a cell."""
        plain = self.spec.model_copy(update={"checkpoint": None, "model_params": owned(self.spec.model_params)})
        for model in self.spec.source:
            if (cell.data, cell.fold, model) not in self.loaded:
                source = cell.model_copy(update={"model": model, "defense": "none", "train_seed": 0})
                self.loaded[cell.data, cell.fold, model] = obtain_victim(source, plain, dataset, self.device, self.job)
        return [self.loaded[cell.data, cell.fold, model] for model in self.spec.source]


def planned(cell: Cell, spec: RunSpec, dataset: Dataset) -> tuple[defense.Plan, TrainSpec, Checkpoint | None]:
    """The victim of a cell, its training, and the weights that the user names; a network that cannot be built is a UserError."""
    checkpoint = open_checkpoint(spec.checkpoint) if spec.checkpoint is not None else None
    plan = defense.plan(cell.model, cell.defense, spec.defense_params, training.preset(spec.preset))
    name = own.label(cell.model)
    params = model_parameters(checkpoint, plan.model, {**plan.params, **of(spec.model_params, name)})
    train_spec = training.make_spec(
        plan.model, dataset, spec.preset, params=params, recipe=of(spec.recipe, name), seed=cell.train_seed, layers=plan.training
    )
    return plan, train_spec, checkpoint


def obtain_victim(cell: Cell, spec: RunSpec, dataset: Dataset, device: torch.device, job: Job) -> Victim:
    """Loads the victim of a cell, training it first when there is no checkpoint."""
    plan, train_spec, checkpoint = planned(cell, spec, dataset)
    test = dataset.splits["test"]
    if checkpoint is None:
        if own.is_own(plan.model):  # a fault is said before the training, not after it
            fresh = defense.wrap(training.build(train_spec).eval(), plan.inference)
            refuse_neighbours(plan.name, probes.examine(fresh, test, torch.device("cpu"), cell.seed), spec)
        checkpoint = obtain_checkpoint(train_spec, dataset, device, job)
    module = defense.wrap(training.load(train_spec, checkpoint, device), plan.inference).to(device)
    announce_trivial(checkpoint, train_spec, job.display)
    nature = probes.examine(module, test, device, cell.seed)
    refuse_neighbours(plan.name, nature, spec)
    announce_nature(plan.name, module, nature, spec, job)
    return Victim(train_spec, checkpoint, module, nature, plan)


def refuse_neighbours(name: str, nature: probes.Nature, spec: RunSpec) -> None:
    """Refuses (UserError) a victim whose predictions depend on their batch, unless that is allowed."""
    if nature.neighbours and not spec.allow_batch_dependent:
        raise UserError(
            f"{name} cannot be judged image by image: {nature.neighbours} (batch statistics at inference?); mend the model, or pass "
            f"--allow-batch-dependent to evaluate it in chunks of {spec.chunk}, marked and not to be trusted"
        )


def announce_nature(name: str, module: nn.Module, nature: probes.Nature, spec: RunSpec, job: Job) -> None:
    """Warns of what trying a victim found."""
    if nature.neighbours:
        job.display.warn(f"{name}: {nature.neighbours}; evaluated in chunks of {spec.chunk}, its figures hold for these chunks alone")
    if nature.stochastic and not getattr(module, "stochastic", False):
        job.display.warn(f"{name} says it is deterministic, but two passes on one input differ; it is evaluated as a random victim")
    if not nature.repeatable:
        job.display.warn(f"{name} draws numbers that no seed of PyTorch, NumPy or random repeats: another run gives other figures")
    if nature.drawing == "batch" and job.batch_size != "auto":
        job.display.say(f"{name} is evaluated in chunks of {spec.chunk} whatever --batch-size says: its predictions depend on the batch")


def announce_trivial(checkpoint: Checkpoint, spec: TrainSpec, display: Display) -> None:
    """Warns of a victim that is no better than chance on validation data."""
    for figures in checkpoint.sidecar.get("validation", []):
        if figures["trivial"]:
            display.warn(
                f"{spec.name} on {spec.data} is no better than chance at task {figures['task']}: {figures['trivial']} (validation); "
                "its robustness means nothing there"
            )


def obtain_checkpoint(spec: TrainSpec, dataset: Dataset, device: torch.device, job: Job, *, fresh: bool = False) -> Checkpoint:
    """The checkpoint of a training, with a progress bar when it has to be made; `fresh` trains even if it was done before."""
    with LazyBar(
        job.display, f"training {'+'.join((spec.name, *(layer.name for layer in spec.defense)))} on {spec.data}{fold_label(spec.fold)}"
    ) as bar:
        make = training.train if fresh else training.obtain
        return make(spec, dataset, device, tick=bar, say=job.display.say)


def evaluate_cell(
    cell: Cell,
    spec: RunSpec,
    dataset: Dataset,
    victims: Victims,
    store: Store,
    device: torch.device,
    batch: BatchSize,
    job: Job,
    position: str,
) -> Record:
    """The record of one cell, from the store or measured now."""
    victim = victims.of(cell, dataset)
    samples = dataset.splits["test"].head(sample_limit(spec))
    threat = make_threat(cell, spec, dataset)
    params = parameters_of(cell.attack, spec, stochastic=victim.nature.stochastic, unaware=victim.plan.unaware)
    teachers = victims.sources(cell, dataset) if cell.attack == "transfer" else []
    resolved = resolve(cell, spec, dataset, victim, threat, params, samples, teachers)
    spec_hash = canonical_hash(resolved)
    label = f"{victim.plan.name} {cell.attack} {radius_label(threat.radii, dataset.modalities)} on {dataset.label}"
    if not job.force and (kept := store.kept(spec_hash, job.display.warn)) is not None:
        job.display.say(f"[{position}] {label}: done before, record {spec_hash[:12]}")
        return kept

    def setting() -> Setting:
        return Setting(spec.protocol, spec.draws, cell.seed, device, batch.size, spec.batch_draws, spec.chunk)

    def fitted(work: Callable[[], T], *, whole: bool = victim.nature.drawing == "batch") -> T:
        """What `work` gives in batches that memory holds."""
        if not whole:
            return batch.fit(work)
        return batch.hold(work, spec.chunk, functools.partial(one_gradient, victim.module, samples, threat, device))

    engine = engine_of(cell.attack, spec)
    if engine != "native" and (reason := engines.refusal(engine, cell.attack, threat, stochastic=victim.nature.stochastic)):
        raise UserError(f"{label}: the engine {engine} refuses: {reason}")
    if spec.batch_draws > 1 and getattr(victim.module, "shares_noise", False):
        raise UserError(
            f"{cell.model} draws some of its noise once a batch: draws that share a batch would not be fresh; leave out --batch-draws"
        )
    if cell.seed not in victim.clean:
        with job.display.bar(f"[{position}] clean pass of {victim.plan.name} on {dataset.label}", len(samples)) as advance:
            victim.clean[cell.seed] = fitted(
                lambda: clean_pass(
                    victim.module,
                    samples,
                    setting(),
                    lambda n: advance(n, ""),
                    stochastic=victim.nature.stochastic,
                    drawing=victim.nature.drawing,
                )
            )
    clean = victim.clean[cell.seed]
    if not victim.facts:
        victim.facts.update(cost.measure(victim.module, dataset.shapes), training=training.cost_of(victim.spec, victim.checkpoint))
    swept = engine == "native" and len(spec.eps) > 1 and radius_free(cell.attack, threat.norm)
    method = Method(
        cell.attack,
        params,
        engine,
        [teacher.as_source for teacher in teachers],
        choose_goals(str(spec.target), clean, samples, cell.seed) if threat.targeted else None,
        victim.found.setdefault(sweep_key(resolved), {}) if swept else None,
    )
    noise = None if cell.attack == "noise" else fitted(lambda: noise_control(victim, samples, clean, threat, setting()))
    started = time.time()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def attacked() -> Outcome:
        with job.display.bar(f"[{position}] {label}", 2 * len(samples)) as advance:
            return attack_pass(victim.module, samples, clean, threat, method, setting(), lambda n: advance(n, ""))

    try:
        outcome = fitted(attacked, whole=is_whole(victim.nature.drawing, method))
    except RefusedError as error:
        raise UserError(f"{label}: {error}") from error
    if cell.attack == "noise":
        victim.noise[cell.seed, threat] = outcome.figures["robust"]
    signs = diagnostics.of_cell(victim.module, samples, clean, threat, method, outcome, setting(), noise)
    leaning = [each.nature.neighbours for each in (victim, *teachers) if each.nature.neighbours]
    signs += [diagnostics.depends_on_batch(leaning[0])] if leaning else []
    class_counts = {dataset.tasks[t]: len(dataset.classes[t]) for t in threat.tasks}
    made = ran(cell.attack, params, class_counts, stochastic=clean.draws > 1) if engine == "native" else {}
    record: Record = {
        "hash": spec_hash,
        "spec": resolved,
        "command": command_of(cell, spec, len(samples), dataset),
        "names": {"modalities": list(dataset.modalities), "tasks": list(dataset.tasks), "classes": [list(c) for c in dataset.classes]},
        "figures": outcome.figures,
        **({"attack_ran": made} if made else {}),
        "trust": diagnostics.trust(signs),
        "diagnostics": diagnostics.plain(signs),
        "stochastic": clean.stochastic,
        **({"batch_dependent": leaning[0]} if leaning else {}),
        "draws": clean.draws,
        "naive": single_draw(clean, method) or victim.plan.unaware,
        "synthetic": dataset.synthetic,
        "notes": [*dataset.notes, *([] if victim.nature.repeatable else [UNREPEATABLE])],
        "unverified": dataset.unverified,
        "repeatable": victim.nature.repeatable,
        "architecture": own.label(victim.plan.model),
        "on_gpu": device.type != "cpu",
        "distinct_images": dict(zip(dataset.modalities, samples.distinct, strict=True)),
        "victim": {**victim.facts, "checkpoint": str(victim.checkpoint.path.name), "origin": victim.checkpoint.origin},
        "cost": {**outcome.cost, "batch_size": batch.size, "peak_memory_mib": peak_memory_mib(device)},
        "environment": {"device": cost.device_name(device), "versions": versions(), "started": started},
    }
    return store.write(record, outcome.arrays)


def one_gradient(victim: nn.Module, samples: Samples, threat: Threat, device: torch.device, n: int) -> None:
    """The pass that needs most memory: forward and backward of the first n samples at once."""
    some = samples.head(n)
    x = some.batch(range(len(some)))
    view = View(victim, [tuple(m.shape[1:]) for m in x])  # type: ignore[misc]
    view.gradient(view.pack(x).to(device), some.labels.to(device), replace(threat, targeted=False))


def noise_control(victim: Victim, samples: Samples, clean: Clean, threat: Threat, setting: Setting) -> float:
    """Robust accuracy under noise of the same radius, measured once a victim and threat."""
    key = (setting.seed, replace(threat, targeted=False))
    if key not in victim.noise:
        outcome = attack_pass(victim.module, samples, clean, key[1], Method("noise", {}), setting, lambda n: None)
        victim.noise[key] = outcome.figures["robust"]
    return victim.noise[key]


def finished(records: list[Record], out: Path) -> Iterator[str]:
    """Sentences a run ends with: what the numbers mean, what weakens them, where the files are."""
    protocol = records[0]["spec"]["protocol"]["name"]
    draws = max(record["draws"] for record in records)
    judged = (
        "one pass each, as in the release" if protocol == "release" else "one pass" if draws == 1 else f"the mean of {draws} fresh passes"
    )
    yield (
        "robust accuracy: the share of test samples still predicted right after the attack (mean over the attacked tasks; "
        f"a random model is judged by {judged}); brackets are Wilson 95 % intervals over patients (images where the card names none)."
    )
    if any(record["synthetic"] for record in records):
        yield SYNTHETIC
    naive = sorted({record["spec"]["victim"]["model"] for record in records if record["naive"] and record["stochastic"]})
    if naive:
        yield (
            f"warning: {', '.join(naive)} is random and was attacked without EOT: this robust accuracy is an over-estimate; "
            "use --protocol sound"
        )
    trivial = sorted({r["spec"]["victim"]["model"] for r in records if any(task["trivial"] for task in r["figures"]["tasks"])})
    if trivial:
        yield f"warning: {', '.join(trivial)} is no better than chance on a task (column marks); robustness means nothing there"
    crossed = "".join(f"{path.name}, " for path in sorted(out.glob("cross_modal*")))
    yield f"tables, records and figures: {out}/leaderboard.csv, records.csv, cost.csv, {crossed}robust_accuracy.png, records/"


def train(models: list[str], data: list[str], options: TrainOptions, job: Job) -> list[Checkpoint]:
    """Trains every model on every data set, or finds that it was done before; copies the files to `job.out` when that is given."""
    include(options.include, job.display.say)
    device = choose_device(job.device)
    if job.out is not None:
        writable_folder(job.out)
    start = open_checkpoint(options.checkpoint) if options.checkpoint is not None else None
    if start is not None and len(models) > 1:
        raise UserError("--checkpoint belongs to one model; train them one by one")
    done = []
    for dataset in load_all(options, on_disk(data, job), job).values():
        chosen = training.preset(options.preset)
        for given in (options.params, options.recipe):
            check_owners(given, list(map(own.label, models)), "model")
        check_defense_owners(options.defense_params, [options.defense])
        plans = [defense.plan(model, options.defense, options.defense_params, chosen) for model in models]
        for plan in plans:
            defense.transforms(plan.inference)
            if not options.whole_range:
                defense.check_radii(plan)
        specs = [
            training.make_spec(
                plan.model,
                dataset,
                options.preset,
                params={**plan.params, **of(options.params, own.label(model))},
                recipe=of(options.recipe, own.label(model)),
                seed=options.seed,
                half=options.half,
                layers=plan.training,
                start=start,
            )
            for model, plan in zip(models, plans, strict=True)
        ]
        for spec in specs:
            checkpoint = obtain_checkpoint(spec, dataset, device, job, fresh=job.force)
            if job.out is not None:
                checkpoint = export(checkpoint, job.out)
            announce_trivial(checkpoint, spec, job.display)
            for figures in checkpoint.sidecar["validation"]:
                job.display.say(
                    f"{spec.name} on {dataset.label}, task {figures['task']}: validation accuracy {figures['accuracy']:.3f}, balanced "
                    f"{figures['balanced_accuracy']:.3f}, most predicted class {figures['most_predicted_share']:.0%}"
                )
            job.display.say(f"{spec.name}: {checkpoint.path}")
            done.append(checkpoint)
    return done
