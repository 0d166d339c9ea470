"""Cards that break their schema, and cards that keep it and mean harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from support.hostile import sets
from support.hostile.case import DONE, Case, writes

SHOW = ("data", "show", "small.yaml", "--data-root", ".")
ODD: dict[str, Any] = {
    "null": None, "a list": [1], "a mapping": {"a": 1}, "nested": [[[]]], "a number": 3, "-1": -1, "nan": float("nan"),
    "an escape": "\x1b[2J", "a slash": "a/b", "dots": "../x", "capitals": "ABC", "nothing": "", "a space": "a b", "umlaut": "ä", "dollar": "$x$",
}  # fmt: skip
TEMPLATES = (
    "{file!s:>99999999}", "{file!r}", "{file:>10}", "{file!s:*^9999999999}", "{file:99999999}", "{file.__class__}", "{file.__class__.__mro__}",
    "{file.__init__.__globals__}", "{file.parent.__class__}", "{0}", "{}", "{file[0]}", "{file[__class__]}", "{nothing}", "{file.nothing}", "{file", "file}", "{{file}",
    "{file.parts[99]}", "{file.parts[-1]}", "{file.parts[x]}", "{file.parent.parent.name.upper}", "{file.resolve}", "{file.with_suffix}", "{file.open}",
    "{file.parts}", "{file.suffixes}", "{file:{file}}", "{file!z}", "{label.parents[9]}", "{file.parents[0]}", "{file.as_uri}", "{file.anchor.join}",
    "{" * 1000, "{file}" + "}" * 1000, "{file.root.__add__}", "{file.name.format}", "{file.name.__doc__}", "{.}", "{!s}", "{:}", "{file.}", "{.name}",
)  # fmt: skip
NESTED_REGEX = (
    "(a+)+$",
    "((a|a)*)*b",
    "([a-z0-9/.]+)+!",
    "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)!!",
    "(x+x+)+y",
    "((.+)+)+#",
    "(([a-z])+.)+[A-Z]([a-z])+!",
)
BAD_REGEX = (
    "(",
    ")",
    "[",
    "*",
    "(?P<x",
    "a{99999999999}",
    "(?<=a+)b()",
    "x",
    "",
    "(?i",
    "\\",
    "(?P<1>a)",
    "(((((" * 500,
    "(a){1,65536}{1,65536}()",
)


def _schema() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("id", "modalities", "tasks", "counts", "reader"):
        for what, value in ODD.items():
            if name == "id" and what in ("null", "a number", "nan"):
                continue  # a card is read as text: these are names
            yield f"{name}: {what}", sets.card(**{name: value})
    for name in ("title", "url", "licence", "access", "citation", "provenance"):
        for what in ("a list", "a mapping", "nested"):
            yield f"{name}: {what}", sets.card(**{name: ODD[what]})
    for name in ("id", "modalities", "tasks", "reader"):
        yield f"without {name}", {k: v for k, v in sets.CARD.items() if k != name}
    for what, value in {"no class": [], "one class": ["a"], "a class twice": ["a", "a"], "a class of nothing": ["a", ""], "a class that is a list": [["a"], "b"],
                        "100,001 classes": [f"c{i}" for i in range(100_001)], "a class of 10,000 letters": ["x" * 10_000, "b"]}.items():  # fmt: skip
        yield f"classes: {what}", sets.card(tasks=[{"name": "t", "classes": value}])
    for what, tasks in {"two tasks": [{"name": n, "classes": ["a", "b"]} for n in "tu"], "a task twice": [{"name": "t", "classes": ["a", "b"]}] * 2,
                        "a task without a name": [{"classes": ["a", "b"]}], "a task of nothing": [{"name": "", "classes": ["a", "b"]}]}.items():  # fmt: skip
        yield f"tasks: {what}", sets.card(tasks=tasks)
    for what, channels in {
        "2": 2,
        "0": 0,
        "-1": -1,
        "huge": 10**30,
        "text": "x",
        "rgb": "rgb",
    }.items():
        yield f"channels: {what}", sets.card(modalities=[{"name": "xray", "channels": channels}])
    yield "a modality twice", sets.card(modalities=[{"name": "xray", "channels": 1}] * 2)
    for what, counts in {
        "5,000 digits": "9" * 5000,
        "-1": -1,
        "text": "many",
        "1.5": "1.5",
    }.items():
        yield f"count of {what}", sets.card(counts={"total": counts})
    for what, reader in {
        "unknown": {"kind": "magic"}, "none": {}, "roots up": {"kind": "folders", "roots": ["../.."]}, "roots absolute": {"kind": "folders", "roots": ["/etc"]},
        "splits up": {"kind": "folders", "splits": {"train": "../x"}}, "splits absolute": {"kind": "folders", "splits": {"test": "/etc"}},
        "folders of other classes": {"kind": "folders", "folders": {"x": "y"}}, "flag": {"kind": "medmnist", "flag": "../x"}, "extra": {"kind": "folders", "x": 1},
        "a split that is none": {"kind": "folders", "splits": {"x": "y"}},
        "files": {"kind": "medmnist", "flag": "x", "files": {28: {"url": "file:///etc/passwd", "md5": "0" * 32}}},
    }.items():  # fmt: skip
        yield f"reader: {what}", sets.card(reader=reader)
    for regex in BAD_REGEX:
        yield f"group: {regex[:20]!r}", sets.card(reader={"kind": "folders", "group": regex or "x"})


def _readings() -> Iterator[Case]:
    """What keeps the schema and cannot be read."""
    for i, template in enumerate(TEMPLATES):
        for field, reader in {
            "image": {"images": {"xray": [template]}},
            "id": {"id": template},
        }.items():
            if field == "id" and template.startswith("{file}}"):
                continue  # two braces are one: a long name, and no fault
            described = sets.table_card(**reader)
            yield Case(
                f"template {i} of {field}: {template[:20]!r}", sets.VERIFY, lambda f, d=described: sets.write_table(f, d),
                says=("small",), never=("<class", "<bound", "built-in"),
            )  # fmt: skip
    for regex in NESTED_REGEX:
        described = sets.card(reader={"kind": "folders", "group": regex})

        def make(folder: Path, d: Any = described) -> None:
            target = sets.write(folder, d)
            for i in range(3):
                (target / f"{'a' * 60}x{i}{'xx' * 40}.png").write_bytes(sets.png(900 + i))

        yield Case(f"regex {regex}", sets.VERIFY, make, says=("small",))
    stars = sets.card(
        reader={"kind": "folders", "names": {"benign": "*a" * 30 + "b.png", "malignant": "*"}}
    )

    def long_names(folder: Path) -> None:
        (sets.write(folder, stars).parent / "benign" / ("a" * 200 + ".png")).write_bytes(
            sets.png(1)
        )

    yield Case("a pattern of thirty stars", sets.VERIFY, long_names, says=("small",))


def _tables() -> Iterator[Case]:
    texts: dict[str, str | bytes] = {
        "empty": "", "a header alone": "file,label\n", "no header": "\n\n\n", "another column": "a,b\n1,2\n", "too few cells": "file,label\nx\n",
        "an open quote": 'file,label\n"x,benign\n', "a NUL": b"file,label\n\0,benign\n", "Latin-1": b"file,label\n\xe4,benign\n", "UTF-16": "file,label\n".encode("utf-16"),
        "a cell of 1 MB": "file,label\n" + "x" * 1_000_000 + ",benign\n", "10,000 columns": ",".join(f"c{i}" for i in range(10_000)) + "\n",
        "another class": "file,label\nbenign/0.png,purple\n", "an escape as class": "file,label\nbenign/0.png,\x1b[2J\n", "up and out": "file,label\n../../x.png,benign\n",
        "absolute": "file,label\n/etc/passwd,benign\n", "binary": bytes(range(256)) * 10, "stars": "file,label\n*,benign\n", "one row twice": "file,label\nbenign/0.png,benign\nbenign/0.png,benign\n",
        "a CR": b"file,label\rbenign/0.png,benign\r", "a million commas": "," * 1_000_000, "a name of 300 letters": f"file,label\n{'x' * 300}.png,benign\n",
    }  # fmt: skip
    for name, text in texts.items():
        yield Case(
            f"table: {name}",
            sets.VERIFY,
            lambda f, t=text: sets.write_table(f, sets.table_card(), t),
            says=("small",),
        )


def _names() -> Iterator[Case]:
    """Names that are odd and right: shown as they are."""
    for text in (
        "$x$",
        "[/red]",
        "[bold]b[/]",
        ":lock:",
        "=cmd()",
        "a|b",
        "a*b*",
        "<b>",
        "a\\b",
        "{x}",
        "%s",
        "日本",
        "a&b",
        "#1",
        "`x`",
    ):
        described = sets.card(
            title=text, description=f"of {text} .", citation=text, licence=text,
            tasks=[{"name": "t", "classes": [text, "other"]}],
        )  # fmt: skip
        yield Case(
            f"a title {text!r}",
            SHOW,
            writes("small.yaml", yaml.safe_dump(described)),
            DONE,
            says=(text, f"of {text} ."),
        )


def cases() -> list[Case]:
    """Cards, tables and templates."""
    found = [
        Case(f"schema {name}", SHOW, writes("small.yaml", yaml.safe_dump(described)), says=("small.yaml",))
        for name, described in _schema()
    ]  # fmt: skip
    assert os.sep == "/"
    return [*found, *_readings(), *_tables(), *_names()]
