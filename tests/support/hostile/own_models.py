"""Models of a user's own that raise, lie, or return what is no answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from support.hostile.case import DONE, REFUSED, Case

COST = ("cost", "--model", "own.py:build", "--size", "32")
HEAD = """import torch
from torch import nn
class V(nn.Module):
    n_modalities, stochastic = 2, False
    def __init__(self, channels, class_counts):
        super().__init__()
        self.class_counts = tuple(class_counts)
        self.heads = nn.ModuleList(nn.Linear(channels[0] * 4, c) for c in class_counts)
    def flat(self, xs):
        return nn.functional.adaptive_avg_pool2d(xs[0], 2).flatten(1)
"""
COUNTED = ("answers no numbers",)
"""Samples whose logits are not finite count as wrong, and are told of; it costs what it costs."""
FORWARDS: dict[str, str] = {
    "None": "None", "a tensor": "self.heads[0](self.flat(xs))", "a list of None": "[None, None]", "text": "'logits'", "too many": "tuple(h(self.flat(xs)) for h in self.heads) * 2",
    "too few": "(self.heads[0](self.flat(xs)),)", "one number": "tuple(h(self.flat(xs)).sum() for h in self.heads)", "three dimensions": "tuple(h(self.flat(xs))[..., None] for h in self.heads)",
    "another batch": "tuple(h(self.flat(xs))[:1] for h in self.heads)", "other classes": "tuple(h(self.flat(xs))[:, :1] for h in self.heads)", "no numbers": "tuple(h(self.flat(xs)) * float('nan') for h in self.heads)",
    "whole numbers": "tuple(h(self.flat(xs)).long() for h in self.heads)", "bool": "tuple(h(self.flat(xs)) > 0 for h in self.heads)", "complex numbers": "tuple(h(self.flat(xs)).to(torch.complex64) for h in self.heads)",
    "numpy": "tuple(h(self.flat(xs)).detach().numpy() for h in self.heads)", "a dict": "{'a': 1}", "a generator": "(h(self.flat(xs)) for h in self.heads)", "itself": "self", "a parameter": "self.heads[0].weight",
    "sparse": "tuple(h(self.flat(xs)).to_sparse() for h in self.heads)", "on meta": "tuple(h(self.flat(xs)).to('meta') for h in self.heads)",
}  # fmt: skip
RAISES: dict[str, str] = {
    "ValueError": "raise ValueError('no')", "KeyError": "{}['x']", "ZeroDivisionError": "1 / 0", "RecursionError": "f = lambda: f()\n        f()", "MemoryError": "raise MemoryError",
    "SystemExit": "raise SystemExit(0)", "exit": "import sys; sys.exit(3)", "GeneratorExit": "raise GeneratorExit", "StopIteration": "raise StopIteration", "OSError": "open('/nowhere')",
    "UnicodeError": "b'\\xff'.decode()", "AssertionError": "assert False", "an escape": "raise ValueError('\\x1b[2Jgone')", "100,000 letters": "raise ValueError('x' * 100_000)", "lines": "raise ValueError('a\\nb\\nc' * 50)",
    "no text": "raise ValueError", "shapes": "torch.zeros(2, 3) @ torch.zeros(2, 3)", "an error of its own": "raise type('Odd', (Exception,), {'__str__': lambda s: 1 / 0})()", "a group": "raise ExceptionGroup('x', [ValueError('y')])",
    "huge memory": "torch.zeros(1 << 45)", "a surrogate": "raise ValueError('\\ud800')", "right to left": "raise ValueError('\\u202eevil')", "markup": "raise ValueError('[/red] $x$')",
}  # fmt: skip
FILES: dict[str, str | bytes] = {
    "nothing": "", "no function": "x = 1", "a syntax error": "def build(:", "an open bracket": "(" * 300, "tabs": "if 1:\n\tx=1\n        y=2", "a NUL": b"x = 1\0", "Latin-1": b"x = '\xe4'", "binary": bytes(range(256)),
    "UTF-16": "x = 1".encode("utf-16"), "an unknown coding": b"# -*- coding: none -*-\nx = 1", "build is a number": "build = 3", "build is None": "build = None", "a missing import": "import nothing_of_the_kind",
    "imports itself": "import own\nx = own.y", "exits": "import sys; sys.exit(0)", "exits hard": "raise SystemExit", "raises": "raise RuntimeError('at import')", "recurses": "f = lambda: f()\nf()",
    "an escape in an error": "raise ValueError('\\x1b[2J')", "deep nesting": "x = " + "[" * 150 + "]" * 150, "build without arguments": "def build(): pass", "build with one": "def build(channels): pass",
    "build with needed ones": "def build(channels, class_counts, needed): pass", "returns None": "def build(channels, class_counts): pass", "returns text": "def build(channels, class_counts): return 'x'",
    "returns a class": "from torch import nn\ndef build(channels, class_counts): return nn.Linear", "returns a tensor": "import torch\ndef build(channels, class_counts): return torch.zeros(3)",
    "returns a module without parameters": "from torch import nn\ndef build(channels, class_counts): return nn.Identity()", "a generator": "def build(channels, class_counts): yield 1",
    "a coroutine": "async def build(channels, class_counts): pass", "yields no classes": HEAD + "def build(channels, class_counts): return V(channels, ())", "other classes": HEAD + "def build(channels, class_counts): return V(channels, (2, 2))",
    "a billion parameters": "from torch import nn\ndef build(channels, class_counts): return nn.Linear(1 << 24, 1 << 24)",
    "class_counts that is text": HEAD + "def build(channels, class_counts):\n    v = V(channels, class_counts); v.class_counts = 'x'; return v",
    "n_modalities of 9": HEAD + "def build(channels, class_counts):\n    v = V(channels, class_counts); v.n_modalities = 9; return v",
    "stochastic that is text": HEAD + "def build(channels, class_counts):\n    v = V(channels, class_counts); v.stochastic = 'x'; return v",
    "weights of no numbers": HEAD + "def build(channels, class_counts):\n    v = V(channels, class_counts); v.heads[0].weight.data.fill_(float('nan')); return v",
    "eval that fails": HEAD + "def build(channels, class_counts):\n    v = V(channels, class_counts); v.eval = lambda: 1 / 0; return v",
    "parameters that fail": HEAD + "def build(channels, class_counts):\n    v = V(channels, class_counts); v.parameters = lambda: 1 / 0; return v",
    "state_dict that fails": HEAD + "class W(V):\n    def state_dict(self, *a, **k): raise ValueError('no state')\n    def forward(self, *xs): 1 / 0\ndef build(channels, class_counts): return W(channels, class_counts)",
}  # fmt: skip


def _sources() -> Iterator[tuple[str, str | bytes]]:
    yield from FILES.items()
    build = "def build(channels, class_counts): return W(channels, class_counts)\n"
    for name, answer in FORWARDS.items():
        yield (
            f"answers {name}",
            f"{HEAD}class W(V):\n    def forward(self, *xs):\n        return {answer}\n{build}",
        )
    for name, line in RAISES.items():
        yield (
            f"forward: {name}",
            f"{HEAD}class W(V):\n    def forward(self, *xs):\n        {line}\n{build}",
        )
        yield (
            f"build: {name}",
            f"import torch\ndef build(channels, class_counts):\n    if True:\n        {line}\n",
        )
    for name, line in {
        "one argument": "def forward(self, x):",
        "three": "def forward(self, a, b, c):",
        "keywords": "def forward(self, *, a, b):",
    }.items():
        yield (
            f"forward takes {name}",
            f"{HEAD}class W(V):\n    {line}\n        return None\n{build}",
        )


def cases() -> list[Case]:
    """All are refused with the file's name."""
    found = []
    for name, source in _sources():
        data = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        found.append(
            Case(
                name,
                COST,
                lambda folder, d=data: (folder / "own.py").write_bytes(d),
                code=DONE if name in COUNTED else REFUSED,
                says=("own.py",),
            )
        )

    def absent(folder: Path) -> None:
        (folder / "own.py").mkdir()

    found += [
        Case("a folder", COST, absent, says=("own.py",)),
        Case("absent", COST, says=("own.py",)),
        Case(
            "a link to itself",
            COST,
            lambda f: (f / "own.py").symlink_to("own.py"),
            says=("own.py",),
        ),
        Case(
            "zeros without end",
            COST,
            lambda f: (f / "own.py").symlink_to("/dev/zero"),
            says=("own.py",),
        ),
        Case("a name of two colons", ("cost", "--model", "own.py:a:b"), says=("own.py",)),
        Case("a function of markup", ("cost", "--model", "own.py:[/red]"), says=("own.py",)),
        Case("a long name", ("cost", "--model", "x" * 5000 + ".py:build"), says=(".py",)),
        Case("an escape", ("cost", "--model", "\x1b[2J.py:build"), says=(".py",)),
    ]
    return found
