"""Stores of older shapes."""

from support.files import ROOT

SHAPE_1 = ROOT / "tests" / "store" / "shape1"
"""A record of shape 1, as the version before digests wrote it."""
