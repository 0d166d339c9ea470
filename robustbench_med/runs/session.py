"""The data sets of a job, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping

from robustbench_med.data import Dataset, Files, load
from robustbench_med.data.splits import fold_label
from robustbench_med.data.suites import expand
from robustbench_med.dataspec import Fold, Preprocessing
from robustbench_med.parsing import whole_range
from robustbench_med.runs.checks import sample_limit
from robustbench_med.runs.job import Job
from robustbench_med.runs.spec import RunSpec, TrainedSpec
from robustbench_med.training import presets


def announce_limit(
    spec: RunSpec, datasets: Mapping[tuple[str, Fold | None], Dataset], job: Job
) -> None:
    """Says of which data sets only the first test samples are taken."""
    for (name, fold), dataset in datasets.items():
        n, of = len(dataset.splits["test"].head(sample_limit(spec))), len(dataset.splits["test"])
        if n < of:
            job.display.say(
                f"{name}{fold_label(fold)}: the first {n} of {of} test samples (--limit 0 takes"
                " all)"
            )


def announce_whole_range(spec: RunSpec, job: Job) -> None:
    """Says which Linf radii are as large as the whole range of a pixel."""
    for line in whole_range(spec.eps) if "Linf" in spec.norm else ():
        job.display.warn(line)


def on_disk(data: list[str], job: Job) -> list[str]:
    """What `--data` names, suites taken apart, a warning for every pairing left out."""
    chosen, skipped = expand(data, job.data_root)
    for line in skipped:
        job.display.warn(line)
    return chosen


def load_all(
    spec: TrainedSpec, data: list[str], job: Job
) -> dict[tuple[str, Fold | None], Dataset]:
    """Every data set of a run by its name and fold, warnings shown once."""
    found = {}
    for name in dict.fromkeys(data):
        for i, fold in enumerate(spec.partitions):
            found[name, fold] = load_one(
                name, spec.preset, spec.size, spec.preprocessing, job, fold=fold, warn=i == 0
            )
    return found


def load_one(
    name: str,
    preset: str,
    size: int | None,
    preprocessing: Preprocessing,
    job: Job,
    *,
    fold: Fold | None = None,
    warn: bool = True,
) -> Dataset:
    """One data set or pairing at the preset's size and channels, its warnings shown if `warn`."""
    chosen = presets.preset(preset)
    dataset = load(
        name,
        size=size or chosen["size"],
        channels=None if chosen["channels"] == "native" else chosen["channels"],
        fold=fold,
        preprocessing=preprocessing,
        files=Files(
            job.data_root, job.accept_unverified, job.strict, job.display.say, job.display.lazy_bar
        ),
    )
    for note in dataset.notes if warn else ():
        job.display.warn(note)
    return dataset
