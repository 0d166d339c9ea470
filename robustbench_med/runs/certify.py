"""Certified robustness of smoothed victims: the grid of `medrobust certify`, one immutable
certificate record a case.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from robustbench_med import statistics
from robustbench_med.attacks import SCHEME, Threat
from robustbench_med.data import Dataset, Samples
from robustbench_med.errors import UserError
from robustbench_med.evaluation import cost, probes, smoothing
from robustbench_med.evaluation.smoothing import Certificates
from robustbench_med.evaluation.types import Drawing
from robustbench_med.models.defenses import Defended
from robustbench_med.models.defenses.randomised import InputNoise
from robustbench_med.naming import canonical_hash
from robustbench_med.runs.checks import check_victims
from robustbench_med.runs.device import check_threads, one_gradient, threads
from robustbench_med.runs.identity import identity
from robustbench_med.runs.job import Job
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import CertifySpec, VictimPoint, victim_points
from robustbench_med.runs.victims import LoadedVictim
from robustbench_med.store.store import CERTIFICATES, Certificate, Store
from robustbench_med.training import defenses
from robustbench_med.training.defenses import Plan
from robustbench_med.version import versions

JOINT = "all modalities"


@dataclass(frozen=True)
class Smoothed:
    """A victim that is certified with noise on some of its modalities.

    Attributes:
        point: which victim, and the seed of the draws.
        victim: with the noise in front of it.
        base: the network behind the noise.
        sigma: standard deviation of the noise.
        drawing: what a prediction of the base network depends on besides its sample.
        noised: numbers of the modalities that carry noise and may be perturbed.
    """

    point: VictimPoint
    victim: LoadedVictim
    base: nn.Module
    sigma: float
    drawing: Drawing
    noised: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether samples stay together in chunks."""
        return self.drawing == "batch"


def certify(spec: CertifySpec, job: Job) -> list[Certificate]:
    """Certificates of every noise, model, defence, data set and seed; finished ones are read from
    `<out>/certificates` unless `job.force`.

    Raises:
        UserError: as `run`; a defence without Gaussian noise directly on the input; before any
            training.
    """
    check_threads(job.threads)
    session = Session.open(spec, job, check_certificates)
    session.announce_limit()
    store = Store(session.out, CERTIFICATES)
    records = []
    with threads(job.threads):
        for level in levels(session.spec):
            noisy = session.of(level)
            points = victim_points(level)
            noisy.victims.plan(points)
            for point in points:
                dataset = noisy.dataset(point)
                for noised in noised_modalities(dataset, per_modality=level.per_modality):
                    records.append(certificate(point, noised, noisy, store))
    return records


def levels(spec: CertifySpec) -> list[CertifySpec]:
    """The specification once for every noise."""
    if not spec.sigma:
        return [spec]
    return [
        spec.model_copy(update={"defense_params": {**spec.defense_params, "sigma": sigma}})
        for sigma in dict.fromkeys(spec.sigma)
    ]


def check_certificates(spec: CertifySpec) -> None:
    """Refuses (UserError) victims without Gaussian noise on their input, and what `check_victims`
    refuses.
    """
    for level in levels(spec):
        for plan in check_victims(level):
            check_noise(plan)


def noised_modalities(dataset: Dataset, *, per_modality: bool) -> list[tuple[int, ...]]:
    """Which modalities carry noise: all of them; and each alone where there are several."""
    every = tuple(range(len(dataset.modalities)))
    alone = [(m,) for m in every] if per_modality and len(every) > 1 else []
    return [every, *alone]


def certificate(
    point: VictimPoint,
    noised: tuple[int, ...],
    session: Session[CertifySpec],
    store: Store[Certificate],
) -> Certificate:
    """The record of one victim with noise on these modalities, from the store or certified now."""
    smoothed = smooth(point, noised, session)
    resolved = resolve(smoothed, session)
    spec_hash = canonical_hash(resolved)
    dataset, display = session.dataset(point), session.job.display
    label = (
        f"certificates of {smoothed.victim.plan.name} on {dataset.name}, sigma"
        f" {smoothed.sigma:g}, noise on {noise_label(noised, dataset)}"
    )
    if not session.job.force and (kept := store.kept(spec_hash, display.warn)) is not None:
        display.say(f"{label}: done before, {spec_hash[:12]}")
        return kept
    started = time.time()
    certificates = certified(smoothed, session, label)
    content = {
        "hash": spec_hash,
        "spec": resolved,
        **described(smoothed, session, certificates),
        "environment": {
            "device": cost.device_name(session.device),
            "versions": versions(),
            "started": started,
            "seconds": time.time() - started,
        },
    }
    arrays = arrays_of(session.samples(point), certificates)
    return store.write(Certificate.of(content), arrays)


def smooth(point: VictimPoint, noised: tuple[int, ...], session: Session[CertifySpec]) -> Smoothed:
    """The victim of a point, parted into network and noise."""
    victim = session.victim(point)
    base, sigma = unsmoothed(victim.module)
    drawing = probes.examine(base, session.samples(point), session.device, point.seed).drawing
    return Smoothed(point, victim, base, sigma, drawing, noised)


def resolve(smoothed: Smoothed, session: Session[CertifySpec]) -> dict[str, Any]:
    """The full spec of a certificate: what its hash is taken over."""
    spec, point = session.spec, smoothed.point
    return {
        **identity(smoothed.victim, session.dataset(point), session.samples(point)),
        "certificate": {
            "sigma": smoothed.sigma,
            "noised": list(smoothed.noised),
            "n0": spec.n0,
            "n": spec.n,
            "alpha": spec.alpha,
            **({"chunk": spec.chunk} if smoothed.whole else {}),
        },
        "seed": point.seed,
        "randomness": SCHEME,
    }


def certified(smoothed: Smoothed, session: Session[CertifySpec], label: str) -> Certificates:
    """The certificates of every sample."""
    spec, point = session.spec, smoothed.point
    dataset, samples = session.dataset(point), session.samples(point)

    def work() -> Certificates:
        with session.job.display.bar(label, len(samples)) as advance:
            return smoothing.certify(
                smoothed.base,
                samples,
                smoothing.Smoothing(smoothed.sigma, smoothed.noised, spec.n0, spec.n, spec.alpha),
                session.setting(point.seed),
                drawing=smoothed.drawing,
                tick=lambda done: advance(done, ""),
            )

    threat = Threat("L2", (1.0,) * len(dataset.modalities), tuple(range(len(dataset.tasks))))
    heaviest = functools.partial(one_gradient, smoothed.base, samples, threat, session.device)
    return session.fitted(work, heaviest, whole=smoothed.whole)


def noise_label(noised: tuple[int, ...], dataset: Dataset) -> str:
    """Which modalities carry noise, in words."""
    everything = len(noised) == len(dataset.modalities)
    return JOINT if everything else f"{dataset.modalities[noised[0]]} alone"


def arrays_of(samples: Samples, certificates: Certificates) -> dict[str, NDArray[Any]]:
    """What lies beside a certificate record: every sample with its radius."""
    arrays = {
        "ids": np.array(samples.ids),
        "labels": samples.labels.numpy(),
        "predicted": certificates.predicted,
    }
    for t in range(samples.labels.shape[1]):
        arrays[f"image_{t}"] = samples.label_rows[:, t]
        arrays[f"group_{t}"] = samples.label_groups[:, t]
    return {**arrays, "radius": certificates.radius, "p_lower": certificates.p_lower}


def check_noise(plan: Plan) -> None:
    """Refuses (UserError) a victim whose first input transform is not Gaussian noise."""
    transforms = defenses.transforms(plan.inference)
    if not transforms or not isinstance(transforms[0], InputNoise):
        raise UserError(
            f"{plan.name} cannot be certified: the first input transform must be Gaussian noise, as"
            " in --defense smoothing (trained with it), input-noise or pgd-at+input-noise"
        )


def unsmoothed(module: nn.Module) -> tuple[nn.Module, float]:
    """The network behind the noise of a victim that `check_noise` lets pass, and the noise's
    standard deviation.
    """
    assert isinstance(module, Defended)
    first, *rest = module.transforms
    assert isinstance(first, InputNoise)
    return (Defended(module.network, rest).eval() if rest else module.network), first.sigma


def described(
    smoothed: Smoothed, session: Session[CertifySpec], certificates: Certificates
) -> dict[str, Any]:
    """What a certificate record says besides its spec and environment."""
    point, nature = smoothed.point, smoothed.victim.nature
    dataset, samples = session.dataset(point), session.samples(point)
    return {
        "defense": point.defense,
        "names": {"modalities": list(dataset.modalities), "tasks": list(dataset.tasks)},
        "synthetic": dataset.synthetic,
        "figures": [
            task_figures(t, dataset, samples, certificates) for t in range(len(dataset.tasks))
        ],
        "noised": noise_label(smoothed.noised, dataset),
        "notes": [*dataset.notes, *nature.notes],
        **({"batch_dependent": nature.neighbours} if nature.neighbours else {}),
    }


def task_figures(
    t: int, dataset: Dataset, samples: Samples, certificates: Certificates
) -> dict[str, Any]:
    """Figures of task number t over its labelled samples."""
    labels = samples.labels.numpy()[:, t]
    labelled = labels >= 0
    labels = labels[labelled]
    predicted, radius = certificates.predicted[labelled, t], certificates.radius[labelled, t]
    right, abstained = predicted == labels, predicted == smoothing.ABSTAIN
    groups, distinct = samples.label_groups[labelled, t], samples.distinct_labels[t]
    trivial = (
        "abstains on every sample"
        if abstained.all()
        else statistics.trivial(
            right.astype(float), predicted[~abstained], labels, len(dataset.classes[t])
        )
    )
    return {
        "task": dataset.tasks[t],
        "n": int(labelled.sum()),
        "n_distinct": distinct,
        "n_groups": len(np.unique(groups)),
        "n_effective": min(statistics.effective_n(right.astype(float), groups), distinct),
        "abstained": float(abstained.mean()),
        "certified_accuracy": float(right.mean()),
        "average_radius": float((radius * right).mean()),
        "largest_radius": float(radius.max()),
        "trivial": trivial,
    }
