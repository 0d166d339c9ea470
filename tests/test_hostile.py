"""Hostile inputs, some of each category: one line, the right exit code, nothing over a gigabyte."""

import os

import pytest
from support.hostile import CATEGORIES, cases
from support.hostile.runner import meet, ready

from robustbench_med.formats import text

SOME = 2
"""Inputs of a category by default; benchmarks/hostile.py meets all."""
QUICK = tuple(category for category in CATEGORIES if category != "environment")
"""Those that take no interpreter of their own."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
@pytest.mark.parametrize("category", QUICK)
def test_a_hostile_input_ends_in_a_line(category: str) -> None:
    ready()
    every = cases(category)
    for case in every[:: len(every) // SOME]:
        result = meet(case)
        assert result.kind == "clean", f"{case.name}: {result.kind}: {result.why}"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
@pytest.mark.parametrize("category", ["archives", "keras", "npz"])
def test_every_hostile_file_ends_in_a_line(category: str) -> None:
    ready()
    results = {case.name: meet(case) for case in cases(category)}
    assert {name: r.why for name, r in results.items() if r.kind != "clean"} == {}


def test_text_of_others_is_shown_in_one_line_without_what_a_terminal_obeys() -> None:
    assert text.message("a\x1b[2J\nb\u202ec") == "a\\x1b[2J\\nb\\u202ec"
    assert len(text.message("x" * 100_000)) < 400
    assert text.cell("=cmd()") == "'=cmd()"
    assert text.cell("-0.5") == "-0.5"
    assert text.cell("a\rb") == "a\\rb"
    assert text.cell(3) == 3
