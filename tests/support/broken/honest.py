"""Honest victims: small networks that hide nothing, some robust, some overconfident, some random."""

from collections.abc import Sequence

from support.broken.networks import BASES, BREAST_CHEST, Net

BASE_OF = {
    "plain": "plain",
    "adversarial": "adversarial",
    "adversarial_batch_norm": "adversarial with BatchNorm",
    "dropout": "dropout",
    "gaussian_noise": "Gaussian noise",
    "max_pooling": "max-pooling",
    "overconfident": "plain",
    "cosine": "cosine",
}
"""The trained network whose weights each function's victim has."""
DATA = BREAST_CHEST


def plain(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    return Net(channels, class_counts)


def adversarial(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    return Net(channels, class_counts)


def adversarial_batch_norm(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    return BASES["adversarial with BatchNorm"].build(channels, class_counts)


def dropout(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    """Random at inference too, a draw a batch."""
    return BASES["dropout"].build(channels, class_counts)


def gaussian_noise(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    """Random at inference too, a draw a sample."""
    return BASES["Gaussian noise"].build(channels, class_counts)


def max_pooling(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    return BASES["max-pooling"].build(channels, class_counts)


def overconfident(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    """The plain one, its logits a hundred times as large."""
    return Net(channels, class_counts, scale=100.0)


def cosine(channels: Sequence[int], class_counts: Sequence[int]) -> Net:
    return BASES["cosine"].build(channels, class_counts)
