"""A session: a specification, where and how to run it, and what all commands do with the two first:
data on disk, checks, folder, device, batch size, data sets, victims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

import torch

from robustbench_med.attacks import CORRUPTIONS
from robustbench_med.data import GIVEN, Dataset, Files, Samples, load
from robustbench_med.data.readers.files import roots
from robustbench_med.data.splits import fold_label
from robustbench_med.data.suites import expand
from robustbench_med.dataspec import Fold, Preprocessing
from robustbench_med.errors import UserError
from robustbench_med.evaluation.types import Setting
from robustbench_med.owners.lock import Lock
from robustbench_med.parsing import whole_range
from robustbench_med.paths import nearest_there, sweep_below, sweep_home, writable_folder
from robustbench_med.progress import Display
from robustbench_med.runs import black_boxes, packages
from robustbench_med.runs.device import BatchSize, choose_device
from robustbench_med.runs.job import Job
from robustbench_med.runs.past import Past
from robustbench_med.runs.registration import include
from robustbench_med.runs.spec import RunSpec, ThreatsSpec, TrainedSpec, VictimPoint, VictimsSpec
from robustbench_med.runs.telling import Telling
from robustbench_med.runs.victim_plans import Datasets
from robustbench_med.runs.victims import LoadedVictim, Victims
from robustbench_med.training import presets

S = TypeVar("S", bound=VictimsSpec)
T = TypeVar("T")


@dataclass
class Session(Generic[S]):
    """What a command runs with.

    Attributes:
        spec: what is asked for, suites of data sets taken apart.
        job: where and how to run.
        out: the folder of all that is written.
        device: where victims are.
        batch: the batch size, which shrinks when memory runs out.
        datasets: by name and fold.
        past: how long earlier cells of the folder took.
        victims: each planned once, the current one loaded.

    Example:
        >>> session = Session.open(spec, job, check_attacks)
        >>> session.victims.plan(cells(session.spec))
        >>> [session.victim(cell).nature for cell in cells(session.spec)]
    """

    spec: S
    job: Job
    out: Path
    device: torch.device
    batch: BatchSize
    datasets: Datasets
    past: Past
    victims: Victims = field(init=False)

    def __post_init__(self) -> None:
        self.victims = Victims(self.spec, self.datasets, self.device, self.batch)

    @classmethod
    def open(cls, spec: S, job: Job, check: Callable[[S], object], *, writes: bool = True) -> Self:
        """Runs included files, checks the specification and loads its data sets.

        Args:
            spec: what is asked for.
            job: where and how to run.
            check: refuses (UserError) what makes no sense, once the user's files are included and
                suites taken apart.
            writes: whether something will be written into the folder, which is then made.

        Raises:
            UserError: a bad specification, missing data, an unwritable folder, an absent device.
        """
        job = replace(job, display=Telling(job.display))
        packages.load()
        include(spec.include, job.display.say)
        black_boxes.take(spec, job.display)
        spec = spec.model_copy(update={"data": on_disk(spec.data, job)})
        check(spec)
        device = choose_device(job.device)
        if isinstance(spec, RunSpec) and "graphs" in spec.accelerate and device.type != "cuda":
            raise UserError(f"--accelerate graphs: {device} captures none; CUDA devices do")
        if job.out is None:
            raise ValueError("a session needs an output folder")
        if not writes and not nearest_there(job.out).is_dir():
            raise UserError(f"--out {job.out} is no folder, and cannot become one")
        if writes:
            out = writable_folder(job.out)
            sweep_below(out)
        return cls(
            spec,
            job,
            job.out,
            device,
            BatchSize(job.batch_size, job.display),
            load_all(spec, spec.data, job),
            Past(job.out),
        )

    def of(self, spec: S) -> Session[S]:
        """The same data, folder and device for other victims or attacks."""
        return replace(self, spec=spec)

    def dataset(self, point: VictimPoint) -> Dataset:
        """The data set of a point of the grid."""
        return self.datasets[point.data, point.fold]

    def samples(self, point: VictimPoint) -> Samples:
        """The test samples that a point is evaluated on."""
        dataset = self.dataset(point)
        samples = dataset.splits["test"].head(self.limit)
        dataset.check_labelled("test", samples)
        return samples

    def victim(self, point: VictimPoint) -> LoadedVictim:
        """The victim of a point, trained first where it never was."""
        return self.victims.of(point)

    def sources(self, point: VictimPoint) -> list[LoadedVictim]:
        """The victims that a transfer attack on a point starts from."""
        return self.victims.sources(point)

    def told(self, claim: Lock) -> AbstractContextManager[None]:
        """Inside, a claim tells how far the work is."""
        assert isinstance(self.job.display, Telling)  # `open` sees to it
        return self.job.display.told(claim)

    @property
    def limit(self) -> int | None:
        """How many test samples are evaluated: the user's number, else the preset's; None = all."""
        if self.spec.limit is not None:
            return self.spec.limit or None
        return presets.preset(self.spec.preset).get("limit") or None

    def setting(self, seed: int) -> Setting:
        """How to evaluate under a seed, with the batch size that memory holds now."""
        spec: VictimsSpec = self.spec
        setting = Setting("sound", spec.draws, seed, self.device, self.batch.size, chunk=spec.chunk)
        if isinstance(spec, ThreatsSpec):
            setting = replace(setting, protocol=spec.protocol, batch_draws=spec.batch_draws)
        if isinstance(spec, RunSpec):
            setting = replace(
                setting, max_queries=spec.max_queries, accelerate=tuple(spec.accelerate)
            )
        return setting

    def fitted(self, work: Callable[[], T], heaviest: Callable[[int], object], *, whole: bool) -> T:
        """What `work` gives in batches that memory holds.

        Args:
            work: asks `setting` for the batch size whenever it is called.
            heaviest: makes the passes of n samples that need most memory.
            whole: samples stay together in chunks, whose size never changes.
        """
        if whole:
            return self.batch.hold(work, self.spec.chunk, heaviest)
        return self.batch.fit(work)

    def announce_limit(self) -> None:
        """Says of which data sets only the first test samples are taken."""
        for (name, fold), dataset in self.datasets.items():
            test = dataset.splits["test"]
            n, of = len(test.head(self.limit)), len(test)
            if n < of:
                self.job.display.say(
                    f"{name}{fold_label(fold)}: the first {n} of {of} test samples (--limit 0"
                    " takes all)"
                )


def announce_whole_range(spec: ThreatsSpec, display: Display) -> None:
    """Says which Linf radii are as large as the whole range of a pixel; corruptions and patches
    have none.
    """
    if isinstance(spec, RunSpec) and set(spec.attack) <= {*CORRUPTIONS, "patch"}:
        return
    for line in whole_range(spec.radii("Linf")) if "Linf" in spec.norm else ():
        display.warn(line)


def on_disk(data: list[str], job: Job) -> list[str]:
    """What `--data` names, suites taken apart, a warning for every pairing left out."""
    here = [name for name in data if name in GIVEN]
    if len(here) == len(data):
        return here
    names, skipped = expand([name for name in data if name not in GIVEN], job.data_root)
    for line in skipped:
        job.display.warn(line)
    return [*here, *names]


def load_all(
    spec: TrainedSpec, data: list[str], job: Job
) -> dict[tuple[str, Fold | None], Dataset]:
    """Every data set of a run by its name and fold, warnings shown once."""
    sweep_home()
    roots(job.data_root)  # refuses one that is no folder, for sets that are drawn too
    datasets: dict[tuple[str, Fold | None], Dataset] = {}
    for name in dict.fromkeys(data):
        for i, fold in enumerate(spec.partitions):
            datasets[name, fold] = load_one(
                name, spec.preset, spec.size, spec.preprocessing, job, fold=fold, warn=i == 0
            )
            check_names(datasets)
    return datasets


def check_names(datasets: Mapping[tuple[str, Fold | None], Dataset]) -> None:
    """Refuses (UserError) two data sets that tables would call the same."""
    given: dict[str, str] = {}
    for (name, _), dataset in datasets.items():
        if given.setdefault(dataset.name, name) != name:
            raise UserError(
                f"{given[dataset.name]} and {name} are both called {dataset.name}; give one of the"
                " cards another id"
            )


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
    if (given := GIVEN.get(name)) is not None:
        if fold is not None:
            raise UserError(
                f"{name} is there as an object and has no folds; give each fold's parts"
            )
        return given
    sizes = presets.preset(preset)
    dataset = load(
        name,
        size=size or sizes["size"],
        channels=None if sizes["channels"] == "native" else sizes["channels"],
        fold=fold,
        preprocessing=preprocessing,
        files=Files(
            job.data_root, job.accept_unverified, job.strict, job.display.say, job.display.lazy_bar
        ),
    )
    for note in dataset.notes if warn else ():
        job.display.warn(note)
    return dataset
