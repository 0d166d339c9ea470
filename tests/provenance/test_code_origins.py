"""Code without a file, code of medrobust and of installed packages."""

import functools
import linecache
import sys
import threading
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from support.hashing import hashed, run
from torch import nn

from robustbench_med.attacks import ATTACKS, ENGINES
from robustbench_med.errors import UserError
from robustbench_med.models.defenses import INFERENCE, NETWORK
from robustbench_med.models.registry import MODELS
from robustbench_med.provenance import source_files
from robustbench_med.provenance.code import revisions
from robustbench_med.training.objectives import SCHEMES


def cell(text: str, name: str = "<ipython-input-1-abc>", **names: object) -> dict[str, Any]:
    """What a notebook does with a cell: its text is known by a name that is no file."""
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(text, name, "exec"), scope)
    return scope


CELL = """
def inner(x):
    return x + FIXED

def attack(x):
    return inner(x) * STEP
"""


def test_a_cell_of_a_notebook_is_hashed_by_its_text_and_every_global_that_it_names() -> None:
    def of(text: str, **names: object) -> str | None:
        return hashed(
            cell(text, **{"STEP": 1, "FIXED": np.ones(2), "unrelated": threading.Lock(), **names})[
                "attack"
            ]
        )

    first = of(CELL)
    assert first == of(CELL, unrelated=3)
    changed = [
        of(CELL.replace("x + FIXED", "x - FIXED")),
        of(CELL.replace("* STEP", "/ STEP")),
        of(CELL, STEP=2),
        of(CELL, FIXED=np.zeros(2)),
    ]
    assert len({first, *changed}) == 5
    with pytest.raises(UserError, match="holds a lock"):
        of(CELL, FIXED=threading.Lock())


def test_a_class_of_a_notebook_is_hashed_by_its_methods_and_attributes() -> None:
    text = (
        "class Mine(Base):\n    strength = 1\n    def forward(self, x):\n        return x *"
        " self.strength * STEP\n"
    )

    def of(text: str, step: int = 1) -> str | None:
        return hashed(cell(text, Base=nn.Module, STEP=step)["Mine"])

    assert of(text) == of(text)
    changed = [
        of(text.replace("strength = 1", "strength = 2")),
        of(text.replace("x *", "x +")),
        of(text, 2),
    ]
    assert len({of(text), *changed}) == 4


@pytest.mark.parametrize("name", ["<string>", "<stdin>", "own-attack"])
def test_code_without_a_source_is_refused_in_one_line(name: str) -> None:
    scope: dict[str, Any] = {"__name__": "somewhere"}
    exec(compile("def attack(x):\n    return x\nother = lambda x: x", name, "exec"), scope)
    for thing in (scope["attack"], scope["other"], functools.partial(scope["attack"], 1)):
        with pytest.raises(UserError, match=r"has no source that can be read .*version='1'"):
            hashed(thing)


def test_what_comes_with_medrobust_has_revisions_and_no_hash() -> None:
    for table in (*ENGINES.values(), INFERENCE, NETWORK, SCHEMES):
        for name, thing in table.items():
            assert hashed(thing) is None, name
            assert revisions(thing, name), name
    for name, entry in MODELS.items():
        assert revisions(entry.build, name), name


def test_own_code_made_of_parts_of_medrobust_has_their_revisions(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from robustbench_med.attacks.pgd import ascend\ndef attack(*a):\n    return ascend(*a)\n"
    )
    attack = run(tmp_path).attack
    assert hashed(attack) is not None
    assert revisions(attack, "") == {"losses": 1, "pgd": 1, "view": 1}
    assert hashed(functools.partial(ATTACKS["pgd"], steps=2)) not in (
        None,
        hashed(functools.partial(ATTACKS["pgd"], steps=3)),
    )
    monkeypatch.setattr(sys.modules["robustbench_med.attacks.pgd"], "REVISION", 2)
    assert revisions(attack, "")["pgd"] == 2
    assert revisions(functools.partial(ATTACKS["bim"], steps=2), "") == {
        "bim": 1,
        "losses": 1,
        "pgd": 2,
        "view": 1,
    }


def test_a_function_that_only_looks_like_one_of_medrobust_is_the_users() -> None:
    @functools.wraps(ATTACKS["pgd"])
    def attack(*args: object) -> object:
        return ATTACKS["pgd"](*args)

    assert hashed(attack) is not None
    assert isinstance(ATTACKS["pgd"], FunctionType)


def test_installed_packages_are_not_hashed(tmp_path: Path) -> None:
    (tmp_path / "vendored" / "lib-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "vendored" / "lib.py").write_text("X = 1\n")
    assert not source_files.is_own(tmp_path / "vendored" / "lib.py")
    assert not source_files.is_own(Path(torch.__file__))
    assert not source_files.is_own(Path(functools.__file__))
    assert not source_files.is_own(Path(source_files.__file__))
    assert source_files.is_own(tmp_path / "mine.py")
