"""`medrobust train`: every model on every data set."""

from __future__ import annotations

from robustbench_med import naming
from robustbench_med.errors import UserError
from robustbench_med.parameters import check_owners, of
from robustbench_med.paths import writable_folder
from robustbench_med.runs.checks import (
    check_defense_owners,
)
from robustbench_med.runs.device import choose_device
from robustbench_med.runs.registration import include
from robustbench_med.runs.session import Job, load_all, on_disk
from robustbench_med.runs.spec import TrainOptions
from robustbench_med.runs.victims import announce_trivial, obtain_checkpoint
from robustbench_med.training import defenses as defense
from robustbench_med.training import presets
from robustbench_med.training.checkpoints import Checkpoint, export, open_checkpoint


def train(models: list[str], data: list[str], options: TrainOptions, job: Job) -> list[Checkpoint]:
    """Trains every model on every data set, or finds that it was done before; copies the files to
    `job.out` when that is given.
    """
    include(options.include, job.display.say)
    device = choose_device(job.device)
    if job.out is not None:
        writable_folder(job.out)
    start = open_checkpoint(options.checkpoint) if options.checkpoint is not None else None
    if start is not None and len(models) > 1:
        raise UserError("--checkpoint belongs to one model; train them one by one")
    done = []
    for dataset in load_all(options, on_disk(data, job), job).values():
        chosen = presets.preset(options.preset)
        for given in (options.params, options.recipe):
            check_owners(given, list(map(naming.label, models)), "model")
        check_defense_owners(options.defense_params, [options.defense])
        plans = [
            defense.plan(model, options.defense, options.defense_params, chosen) for model in models
        ]
        for plan in plans:
            defense.transforms(plan.inference)
            if not options.whole_range:
                defense.check_radii(plan)
        specs = [
            presets.make_spec(
                plan.model,
                dataset,
                options.preset,
                params={**plan.params, **of(options.params, naming.label(model))},
                recipe=of(options.recipe, naming.label(model)),
                seed=options.seed,
                layers=plan.training,
                start=start,
            ).model_copy(update={"half": options.half})
            for model, plan in zip(models, plans, strict=True)
        ]
        for spec in specs:
            checkpoint = obtain_checkpoint(spec, dataset, device, job, fresh=job.force)
            if job.out is not None:
                checkpoint = export(checkpoint, job.out)
            announce_trivial(checkpoint, spec, job.display)
            for figures in checkpoint.sidecar["validation"]:
                job.display.say(
                    f"{spec.name} on {dataset.label}, task {figures['task']}: validation accuracy"
                    f" {figures['accuracy']:.3f}, balanced {figures['balanced_accuracy']:.3f}, most"
                    f" predicted class {figures['most_predicted_share']:.0%}"
                )
            job.display.say(f"{spec.name}: {checkpoint.path}")
            done.append(checkpoint)
    return done
