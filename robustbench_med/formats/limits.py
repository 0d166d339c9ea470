"""How large what others wrote may be, in one place; `MEDROBUST_LIMITS` raises any by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from robustbench_med.errors import UserError

VARIABLE = "MEDROBUST_LIMITS"
"""Limits of one's own: `image_pixels=200M,text_bytes=1G`; K, M, G and T are powers of 1000."""
LIMITS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "text_bytes": (64 << 20, "bytes of a YAML or JSON file"),
        "entry_bytes": (2_000_000, "bytes of an entry of a leaderboard"),
        "memory_bytes": (1 << 30, "bytes of a file in which hashes are remembered"),
        "table_bytes": (2 << 30, "bytes of a CSV file"),
        "table_columns": (10_000, "columns of a CSV file"),
        "yaml_values": (1_000_000, "values of a YAML file, its aliases written out"),
        "depth": (100, "lists and mappings in each other, in YAML and JSON"),
        "weights_bytes": (16 << 30, "bytes of a file of weights"),
        "array_bytes": (4 << 30, "bytes of an array in an archive"),
        "packed_ratio": (1000, "times that an array may be larger than it is packed"),
        "archive_members": (250_000, "files in an archive"),
        "data_bytes": (1 << 40, "bytes of a file of a data set"),
        "download_bytes": (64 << 30, "bytes of a download that does not say its length"),
        "image_bytes": (1 << 30, "bytes of an image's file"),
        "image_pixels": (1 << 26, "pixels of an image, and of a DICOM frame"),
        "volume_voxels": (1 << 29, "voxels of a NIfTI volume"),
        "folds": (1000, "folds of a cross-validation"),
        "threads": (1024, "threads of a process"),
        "cells": (1_000_000, "cells of a grid"),
        "pattern_seconds": (5, "seconds that a card's expression may search one path"),
        "count": (1_000_000_000, "any number that is a count: draws, queries, steps"),
    }
)
"""By name: the limit, and of what it is."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def limit(name: str) -> int:
    """A limit as it holds now.

    Raises:
        UserError: MEDROBUST_LIMITS is not understood.
    """
    return own(os.environ.get(VARIABLE, "")).get(name, LIMITS[name][0])


def beyond(name: str, got: object) -> str:
    """What is said of a thing above its limit: "12 bytes, the limit ... is ..." and what raises
    it.
    """
    number = f"{got:,}" if isinstance(got, int) else str(got)
    what = LIMITS[name][1]
    return f"{number} {what}, at most {limit(name):,} ({VARIABLE}={name}=... raises that)"


@cache
def own(text: str) -> dict[str, int]:
    """Limits that `MEDROBUST_LIMITS` sets, by name; a UserError where it is not understood."""
    found: dict[str, int] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"([a-z_]+)=(\d{1,15})([KMGT]?)", part)
        if match is None or match[1] not in LIMITS:
            raise UserError(
                f"{VARIABLE}: expected NAME=NUMBER such as image_pixels=200M, with one of"
                f" {', '.join(LIMITS)}; got {part[:80]!r}"
            )
        found[match[1]] = int(match[2]) * UNITS[match[3]]
    return found
