"""YAML that PyYAML chokes on, at every place where a user's YAML is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from support.hostile.case import Case, writes

LAUGHS = "\n".join(
    ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
)
VALUES: dict[str, str] = {
    "a day that is none": "2020-13-45",
    "a day of February": "2021-02-30",
    "a time that is none": "2020-01-01T25:61:61Z",
    "a zone out of range": "2001-12-14 21:59:43.1 -99:99",
    "the year 0": "0000-01-01",
    "no hexadecimal digits": "0x_",
    "no binary digits": "0b_",
    "no digits": "!!int ''",
    "a word as int": "!!int forty",
    "5,000 digits": "9" * 5000,
    "a word as float": "!!float many",
    "a word as bool": "!!bool maybe",
    "a word as time": "!!timestamp soon",
    "bytes that are none": "!!binary '@'",
    "bytes of umlauts": "!!binary 'äöü'",
    "a list as int": "!!int [1]",
    "a mapping as text": "!!str {a: b}",
    "a list as set": "!!set [1]",
    "a word as omap": "!!omap word",
    "an omap of words": "!!omap [word]",
    "pairs of threes": "!!pairs [{a: 1, b: 2}]",
    "pairs of words": "!!pairs [word]",
    "a Python object": "!!python/object/apply:os.system ['touch owned']",
    "a Python name": "!!python/name:os.system",
    "a Python module": "!!python/module:os",
    "an unknown tag": "!unknown x",
    "a tag without an end": "!<tag x",
    "an unknown anchor": "*nobody",
    "a list in itself": "&a [*a]",
    "a mapping in itself": "&a {b: *a}",
    "a merge of a number": "{<<: 3}",
    "a merge of a list": "{<<: [1]}",
    "a merge in itself": "&a {<<: *a}",
    "a list as key": "{[1]: 2}",
    "a mapping as key": "{{a: b}: 2}",
    "a long key": "{? " + "k" * 2000 + " : 2}",
    "2,000 brackets": "[" * 2000,
    "2,000 closed brackets": "[" * 2000 + "]" * 2000,
    "100,000 brackets": "[" * 100_000,
    "3,000 mappings": "{a: " * 3000 + "1" + "}" * 3000,
    "sixties without end": ":".join(["1", *["59"] * 2000]),
    "an open quote": '"never ends',
    "an open single quote": "'never ends",
    "an escape that is none": '"\\q"',
    "a code point that is none": '"\\UFFFFFFFF"',
    "half a surrogate pair": '"\\ud800"',
    "an escape character": '"\\e[2Jgone"',
    "a bell": '"\\a"',
    "a right-to-left override": '"\\u202eevil"',
    "100,000 letters": "x" * 100_000,
    "a reserved sign": "@x",
    "a grave": "`x`",
    "a percent sign": "%x",
    "two colons": "a: b: c",
    "an equals sign": "=",
    "infinity": ".inf",
    "no number": ".nan",
    "a null": "~",
    "a date": "2020-01-01",
    "a nested list": "[[[[]]]]",
    "bytes": "!!binary aGFsbG8=",
    "a set": "!!set {a, b}",
}
WHOLE: dict[str, str | bytes] = {
    "nothing": "",
    "a comment": "# nothing",
    "a word": "word",
    "a list": "- 1\n- 2",
    "two documents": "---\na: 1\n---\nb: 2\n",
    "a directive of YAML 9": "%YAML 9.9\n---\na: 1",
    "a wrong directive": "%TAG ! x\n---\na: 1",
    "tabs": "a:\n\t- b",
    "a NUL": b"a: \x00",
    "an escape character": b"a: \x1b[2J",
    "C1": "a: \x9b2J".encode(),
    "Latin-1": b"a: \xe4",
    "UTF-16": "a: b".encode("utf-16"),
    "half of UTF-16": b"\xff\xfea",
    "UTF-32": "a: b".encode("utf-32"),
    "a surrogate": b"a: \xed\xa0\x80",
    "indents": "a:\n  b: 1\n c: 2",
    "laughs": LAUGHS,
    "binary": bytes(range(256)),
    "10,000 lines of brackets": "\n".join("[" for _ in range(10_000)),
    "random": os.urandom(0) + bytes((i * 97 + 31) % 256 for i in range(4000)),
}
SITES: dict[str, tuple[tuple[str, ...], str]] = {
    "run file": (("plan", "--config", "input.yaml"), "model: {}"),
    "suite": (("plan", "--model", "late", "--data", "input.yaml"), "suite: x\npairings: [{}]"),
    "card": (("data", "show", "input.yaml"), "id: {}"),
    "claims": (("claims", "--file", "input.yaml", "--out", "."), "- id: {}"),
    "mapping": (
        ("import-keras", "input.npz", "--model", "mail", "--out", "o.safetensors", "--mapping", "input.yaml"),
        "weights:\n  a: {}",
    ),
}  # fmt: skip


def _device(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "input.yaml").symlink_to(path)


PLACES: dict[str, Callable[[Path], object]] = {
    "absent": lambda folder: None,
    "a folder": lambda folder: (folder / "input.yaml").mkdir(),
    "a pipe": lambda folder: os.mkfifo(folder / "input.yaml"),
    "zeros without end": _device("/dev/zero"),
    "a link to itself": _device("input.yaml"),
    "a terminal": _device("/dev/tty"),
    "nothing there": _device("/dev/null"),
    "100 MB": writes("input.yaml", b"a: 1\n" * 20_000_000),
}


def _with_weights(make: Callable[[Path], object]) -> Callable[[Path], object]:
    import numpy as np

    def made(folder: Path) -> None:
        np.savez(folder / "input.npz", **{"conv2d:0": np.zeros((3, 3, 3, 16), np.float32)})
        make(folder)

    return made


def _cases() -> Iterator[Case]:
    for site, (command, frame) in SITES.items():
        texts: dict[str, str | bytes] = {k: frame.replace("{}", v) for k, v in VALUES.items()}
        texts |= {f"{name} alone": text for name, text in WHOLE.items()}
        for name, text in texts.items():
            yield Case(
                f"{site}: {name}",
                command,
                _with_weights(writes("input.yaml", text)),
                says=() if site in ("run file", "suite") else ("input.yaml",),  # read, then refused
            )
        for name, make in PLACES.items():
            yield Case(f"{site}: {name}", command, _with_weights(make), says=("input.yaml",))
    for name, value in VALUES.items():
        if name not in ("a null", "an equals sign"):
            yield Case(
                f"typed: {name}",
                ("plan", "--model", "late", "--attack", "fgsm", "--model-param", f"width={value[:90_000]}"),
            )  # fmt: skip


def cases() -> list[Case]:
    """What must be refused with the file's name."""
    return list(_cases())
