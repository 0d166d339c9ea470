"""What a user's own code is made of: every change of it is another hash, and nothing else is."""

import functools
import importlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.hashing import hashed, run
from torch import nn

from robustbench_med.errors import UserError
from robustbench_med.provenance.code import declare


def project(folder: Path) -> Path:
    """A file with an attack that needs a module beside it, a package of two levels, and one
    imported where it is used.
    """
    (folder / "parts" / "deep").mkdir(parents=True)
    for package in ("parts", "parts/deep"):
        (folder / package / "__init__.py").write_text("")
    (folder / "mine.py").write_text(
        "import numpy\nimport helper\nfrom parts import first\nfrom parts.deep.second import"
        " SCALE\nSTEP = 0.5\ndef attack(view, x, y, threat, streams, *, steps: int = 3):\n   "
        " import late\n    return STEP * helper.move(x) * first.BY * SCALE * late.LAST\ndef"
        " other(view, x, y, threat, streams):\n    return x\n"
    )
    (folder / "helper.py").write_text("def move(x):\n    return x + 1\n")
    (folder / "parts" / "first.py").write_text("from .deep import third\nBY = third.BY\n")
    (folder / "parts" / "deep" / "second.py").write_text("SCALE = 2\n")
    (folder / "parts" / "deep" / "third.py").write_text("BY = 3\n")
    (folder / "late.py").write_text("LAST = 5\n")
    (folder / "unused.py").write_text("NOTHING = 1\n")
    return folder


EDITS = {  # file: what is replaced by what
    "mine.py": ("STEP = 0.5", "STEP = 0.6"),
    "helper.py": ("x + 1", "x + 2"),
    "parts/__init__.py": ("", "# a comment"),
    "parts/first.py": ("BY = third.BY", "BY = 3 * third.BY"),
    "parts/deep/second.py": ("SCALE = 2", "SCALE = 4"),
    "parts/deep/third.py": ("BY = 3", "BY = 4"),
    "late.py": ("LAST = 5", "LAST = 6"),
}


@pytest.mark.parametrize("file", EDITS)
def test_every_file_that_the_code_needs_is_in_its_hash_and_is_read_anew(
    file: str, tmp_path: Path
) -> None:
    """Within one second and of the same size, too: bytecode that Python keeps would not notice."""
    folder = project(tmp_path / "p")
    before = run(folder).attack
    first, value = hashed(before), before(None, 1, None, None, None)
    path = folder / file
    old, new = EDITS[file]
    path.write_text(path.read_text().replace(old, new, 1) if old else new)
    after = run(folder).attack
    assert hashed(after) != first
    if file != "parts/__init__.py":
        assert after(None, 1, None, None, None) != value  # what was hashed is what runs
    assert before(None, 1, None, None, None) == value
    assert hashed(before) == first


def test_other_files_the_folder_and_the_way_it_was_loaded_are_not_in_the_hash(
    tmp_path: Path, monkeypatch
) -> None:
    folder = project(tmp_path / "p")
    first = hashed(run(folder).attack)
    (folder / "unused.py").write_text("NOTHING = 2\n")
    (folder / "data.csv").write_text("1")
    assert hashed(run(folder).attack) == first
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert hashed(run(tmp_path / "elsewhere").attack) == first
    monkeypatch.syspath_prepend(str(folder))
    assert hashed(importlib.import_module("mine").attack) == first
    for name in (
        "mine",
        "helper",
        "late",
        *(name for name in sys.modules if name.partition(".")[0] == "parts"),
    ):
        monkeypatch.delitem(sys.modules, name, raising=False)
    script = (
        "from mine import attack\nfrom robustbench_med.provenance.code import code_of\nprint(code_of(attack,"
        " ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == first
    (folder / "mine.py").write_text((folder / "mine.py").read_text() + "if __name__ == '__main__':\n    from robustbench_med.provenance.code import "
                                    "code_of\n    print(code_of(attack, ''))\n")  # fmt: skip
    done = subprocess.run(
        [sys.executable, folder / "mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashed(run(folder).attack)


def test_two_functions_of_a_file_differ_and_two_folders_with_a_helper_of_one_name_do_not_mix(
    tmp_path: Path,
) -> None:
    one, two = project(tmp_path / "one"), project(tmp_path / "two")
    (two / "helper.py").write_text("def move(x):\n    return x + 100\n")
    first, second = run(one), run(two)
    assert first.attack(None, 1, None, None, None) == 0.5 * 2 * 3 * 2 * 5
    assert second.attack(None, 1, None, None, None) == 0.5 * 101 * 3 * 2 * 5
    assert len({hashed(each) for each in (first.attack, first.other, second.attack)}) == 3


def test_a_helper_called_as_an_installed_package_is_the_users(tmp_path: Path) -> None:
    """As in a script: what lies beside comes first."""
    import yaml

    (tmp_path / "yaml.py").write_text("def move(x):\n    return x + 1\n")
    (tmp_path / "mine.py").write_text(
        "import yaml\nfrom yaml import move\ndef attack(x):\n    return yaml.move(x)\n"
    )
    mine = run(tmp_path)
    assert (mine.attack(1), sys.modules["yaml"]) == (2, yaml)
    first, moved = hashed(mine.attack), hashed(mine.move)
    (tmp_path / "yaml.py").write_text("def move(x):\n    return x + 2\n")
    assert {hashed(run(tmp_path).attack), hashed(run(tmp_path).move)} & {first, moved} == set()


def test_a_module_that_python_imported_is_what_it_was_when_it_was_read(
    tmp_path: Path, monkeypatch
) -> None:
    """An edited file without a reload runs the old code, and keeps the old hash; a reload takes the
    new one.
    """
    (tmp_path / "kept.py").write_text("def attack(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kept = importlib.import_module("kept")
    first = hashed(kept.attack)
    (tmp_path / "kept.py").write_text("def attack(x):\n    return x + 100\n")
    assert hashed(kept.attack) == first
    importlib.reload(kept)
    assert kept.attack(1) == 101
    assert hashed(kept.attack) != first
    monkeypatch.delitem(sys.modules, "kept")


MAKERS = """
import functools, dataclasses
import torch
from torch import nn

def closure(k):
    def attack(x):
        return x * k
    return attack

def default(k):
    def attack(x, by=k):
        return x * by
    return attack

def keyword(k):
    def attack(x, *, by=k):
        return x * by
    return attack

def plain(x, k):
    return x * k

def partial(k):
    return functools.partial(plain, k=k)

class Callable_:
    def __init__(self, k):
        self.k = k
    def __call__(self, x):
        return x * self.k
    def method(self, x):
        return x * self.k

def instance(k):
    return Callable_(k)

def method(k):
    return Callable_(k).method

def decorated(k):
    @functools.wraps(plain)
    def attack(x):
        return plain(x, k)
    return attack

def decorated_by_torch(k):
    return torch.no_grad()(closure(k))

def cached(k):
    return functools.cache(closure(k))

def class_attribute(k):
    return type("Mine", (nn.Module,), {"k": k, "forward": lambda self, x: x * self.k})

def class_in_a_function(k):
    class Mine(nn.Module):
        def forward(self, x):
            return x * k
    return Mine

def data_class(k):
    @dataclasses.dataclass
    class Mine:
        k: object = dataclasses.field(default_factory=lambda: k)
    return Mine

def function_in_a_closure(k):
    inner = closure(k)
    return lambda x: inner(x)

def module(k):
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(k)
    return lambda x: net(x)
"""


@pytest.mark.parametrize("make", re.findall(r"^def (\w+)\(k\)", MAKERS, re.M))
def test_what_code_holds_is_in_its_hash(make: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MAKERS)
    made = getattr(run(tmp_path), make)
    assert hashed(made(1)) == hashed(made(1))
    assert hashed(made(1)) != hashed(made(2))
    assert hashed(made(1)) == hashed(getattr(run(tmp_path), make)(1))


def values() -> list[tuple[object, object]]:
    """Pairs that differ."""
    return [
        (1, 2), (1, 1.0), (1, True), ("a", b"a"), (None, 0), (0.1, 0.1000001), ((1, 2), [1, 2]), ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 2}), ({"a": 1}, {"b": 1}), ({1, 2}, {1, 3}), (frozenset({1}), frozenset({2})), (1j, 2j),
        (np.arange(3), np.arange(4)), (np.zeros(2), np.zeros(2, np.float32)), (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.array(["a", None], object), np.array(["b", None], object)), (np.float64(1), np.float64(2)),
        (torch.zeros(3), torch.ones(3)), (torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)), (torch.tensor(1), torch.tensor(2)),
        (torch.zeros(4), torch.zeros(2, 2)), (torch.float32, torch.float64), (Path("a"), Path("b")), (range(3), range(4)),
        (slice(1), slice(2)), (np.random.default_rng(0), np.random.default_rng(1)), (len, max), (torch.sin, torch.cos),
        (np.sin, np.cos), (nn.ReLU(), nn.ELU()), (nn.ReLU, nn.ELU), (nn.Dropout(0.1), nn.Dropout(0.2)), ("abc".join, "abd".join),
        (torch.device("cpu"), torch.device("meta")), (__import__("re").compile("a"), __import__("re").compile("b")),
        (functools.partial(max, 1), functools.partial(max, 2)), (np, torch),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(values())))
def test_values_of_every_kind_are_told_apart_and_equal_ones_are_equal(number: int) -> None:
    def holding(value: object) -> Callable[[], object]:
        return lambda: value

    (one, other), (again, _) = values()[number], values()[number]
    assert hashed(holding(one)) == hashed(holding(again))
    assert hashed(holding(one)) != hashed(holding(other))


def test_sets_and_dictionaries_hash_the_same_whatever_the_order_and_cycles_end() -> None:
    def holding(value: object) -> Callable[[], object]:
        return lambda: value

    words = [f"word{i}" for i in range(50)]
    assert hashed(holding({*words})) == hashed(holding({*reversed(words)}))
    assert hashed(holding(dict.fromkeys(words))) == hashed(holding(dict.fromkeys(reversed(words))))
    around: list[object] = [1]
    around.append(around)
    assert hashed(holding(around)) == hashed(holding(around))


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        open(__file__),  # noqa: SIM115
        (i for i in range(3)),
        torch.zeros(2).to_sparse(),
    ],
)
def test_what_cannot_be_hashed_is_refused_in_one_line_with_the_way_out(value: object) -> None:
    def attack() -> object:
        return value

    with pytest.raises(UserError, match=r"attack 'mine' holds a .* version='1'") as refused:
        hashed(attack)
    assert "\n" not in str(refused.value)
    declare(attack, "1")
    first = hashed(attack)
    declare(attack, "2")
    assert hashed(attack) not in (first, None)
    declare(attack, None)
    with pytest.raises(UserError):
        hashed(attack)


def test_a_constant_set_from_outside_is_another_attack_and_a_counter_is_not(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text(
        "STRENGTH = 1\nCALLS = 0\ndef count():\n    global CALLS\n    CALLS += 1\n"
    )
    (tmp_path / "mine.py").write_text(
        "import part\nSTEP = 1\nDONE = 0\nCACHE = {}\ndef attack(x):\n    global DONE\n    DONE +="
        " 1\n    part.count()\n    CACHE[DONE] = x\n    return x * STEP * part.STRENGTH + 0 *"
        " part.CALLS\n"
    )
    mine = run(tmp_path)
    first = hashed(mine.attack)
    mine.attack(1)
    assert hashed(mine.attack) == first
    mine.STEP = 2
    second = hashed(mine.attack)
    mine.part.STRENGTH = 3
    assert len({first, second, hashed(mine.attack)}) == 3
