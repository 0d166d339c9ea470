"""What one attack took of what another left: two records sample by sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_med.statistics import Floats, normal_quantile

if TYPE_CHECKING:
    from robustbench_med.store.record import Record

ALPHA = 0.01
"""Chance that one of all comparisons of a random victim's rows finds by luck what is not there."""


@dataclass(frozen=True)
class Taken:
    """Robust accuracy that one attack took of what another left.

    Attributes:
        taken: over all samples of the attack that left it.
        bound: its one-sided lower bound, corrected for all comparisons; `taken` itself of a
            deterministic victim.
        broken: ids of the samples that it broke; of a random victim, whose share right fell, those
            that fell most first.
    """

    taken: float
    bound: float
    broken: tuple[str, ...]


@dataclass(frozen=True)
class Left:
    """What an attack left of each sample.

    Attributes:
        ids: of the n samples.
        right: (n, attacked tasks) fraction of draws that are right.
        weights: (n, attacked tasks) what each adds to the robust accuracy; 0 where not labelled.
        draws: forward passes behind a prediction.
        chunk: samples that stayed together, where they shared their draws; else 1.
    """

    NEEDED: ClassVar[tuple[str, ...]] = ("ids", "labels", "robust_right")
    SEARCHED: ClassVar[tuple[str, ...]] = ("clean_right", "minimal_size")

    ids: tuple[str, ...]
    right: Floats
    weights: Floats
    draws: int
    chunk: int

    @classmethod
    def of(cls, record: Record, arrays: Mapping[str, NDArray[Any]]) -> Left:
        """That of a record.

        Args:
            arrays: `NEEDED` of its outcomes.
        """
        tasks = record.spec.threat.tasks
        known = arrays["labels"][:, tasks] >= 0
        return cls(
            tuple(map(str, arrays["ids"])),
            np.asarray(arrays["robust_right"][:, tasks], np.float64),
            known / np.maximum(known.sum(0), 1) / len(tasks),
            record.draws,
            record.spec.protocol.chunk or 1,
        )

    @classmethod
    def searched(
        cls, record: Record, arrays: Mapping[str, NDArray[Any]], radius: float
    ) -> Left | None:
        """What the search of a record for the smallest perturbations leaves at another radius, the
        largest of the modalities', of a deterministic victim; None where samples lack a label, so
        that it is not known of which tasks a size speaks.

        Args:
            arrays: `NEEDED` and `SEARCHED` of its outcomes.
        """
        found = cls.of(record, arrays)
        if not (found.weights > 0).all():
            return None
        clean = arrays["clean_right"][:, record.spec.threat.tasks].mean(1)
        stands = np.minimum(clean, (arrays["minimal_size"] > radius).mean(1))
        return replace(found, right=np.repeat(stands[:, None], found.right.shape[1], 1))

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.ids)

    @property
    def robust(self) -> float:
        """The robust accuracy."""
        return float((self.weights * self.right).sum())

    @property
    def shares(self) -> dict[str, float]:
        """Of every sample the share of its attacked, labelled tasks that is right."""
        known = self.weights > 0
        share = (self.right * known).sum(1) / np.maximum(known.sum(1), 1)
        return dict(zip(self.ids, share.tolist(), strict=True))

    def lost(self, left: Mapping[str, float]) -> Taken:
        """What something took of a deterministic victim that leaves these shares of the tasks of
        some samples: of those of which more stood.
        """
        stood = np.array(list(self.shares.values()))
        stands = np.array([left.get(name, np.inf) for name in self.ids])
        lower = stands < stood - 1e-9
        fell = np.where(lower, 1 - stands / np.maximum(stood, 1e-9), 0.0)
        taken = float(((self.weights * self.right).sum(1) * fell).sum())
        return Taken(taken, taken, tuple(np.array(self.ids)[lower].tolist()))

    def at(self, ids: Sequence[str]) -> Floats:
        """(len(ids), attacked tasks) fractions right of the named samples; NaN where it has not
        got one.
        """
        if tuple(ids) == self.ids:
            return self.right
        rows = {name: row for row, name in enumerate(self.ids)}
        found = np.full((len(ids), self.right.shape[1]), np.nan)
        for i, name in enumerate(ids):
            if name in rows:
                found[i] = self.right[rows[name]]
        return found

    def deviation(self) -> Floats:
        """(n,) standard deviation over draws of what each sample adds to the robust accuracy, as if
        its tasks moved together.
        """
        p, k = self.right, self.draws
        variance = p * (1 - p) / (k - 1) if k > 1 else np.full(p.shape, 0.25)
        return np.asarray((self.weights * np.sqrt(variance)).sum(1))


def taken(left: Left, other: Left, *, random: bool, comparisons: int) -> Taken:
    """What another attack took of what one left, over the samples that both have.

    Of a deterministic victim the samples that the other broke. Of a random one the difference of
    the means over fresh draws, which chose nothing, with its bound (Bonferroni): samples that share
    their draws in a chunk count as if they moved together.

    Args:
        random: whether the victim is random.
        comparisons: of rows and challengers, that the bound is corrected for.
    """
    theirs = other.at(left.ids)
    shared = ~np.isnan(theirs)
    gaps = np.where(shared, left.weights * (left.right - np.nan_to_num(theirs)), 0.0).sum(1)
    order = np.argsort(-gaps, kind="stable")
    broken = tuple(left.ids[i] for i in order if gaps[i] > 1e-9)
    if not random:
        total = float(gaps[gaps > 1e-9].sum())
        return Taken(total, total, broken)
    total, both = float(gaps.sum()), shared.any(1)
    ours, others = (
        left.deviation(),
        Left(left.ids, np.nan_to_num(theirs), left.weights, other.draws, other.chunk).deviation(),
    )
    variance = _variance(ours[both], left.chunk) + _variance(others[both], other.chunk)
    z = normal_quantile(1 - ALPHA / max(comparisons, 1))
    return Taken(total, total - z * math.sqrt(variance), broken)


def _variance(deviations: Floats, chunk: int) -> float:
    """Of the sum over samples; those of a chunk move together."""
    starts = np.arange(0, len(deviations), chunk)
    return float((np.add.reduceat(deviations, starts) ** 2).sum()) if len(starts) else 0.0


def lowest(left: Left, others: Sequence[Left], *, random: bool) -> float:
    """Robust accuracy on the samples of one attack when each meets the attack that harms it most;
    of a random victim under the one attack that leaves least of all of them.

    Args:
        others: of the same victim and threat, `left` among them; samples that one lacks it does not
            harm.
    """
    at = [other.at(left.ids) for other in others]
    if random:
        whole = [right for right in at if not np.isnan(right).any()]
        return min(float((left.weights * right).sum()) for right in whole)
    harm = [np.where(np.isnan(right), np.inf, right) for right in at]
    labelled = left.weights > 0
    sums = [np.where(labelled, left.weights, 0) * np.where(labelled, h, 0) for h in harm]
    return float(np.min([each.sum(1) for each in sums], 0).sum())
