"""Environments that are broken: variables, streams, folders and limits, each in an interpreter of
its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from support.hostile.case import DONE, Case, writes

LIST = ("data", "list", "--json")
MODELS = ("models",)
PLAN = ("plan", "--model", "robust-mail", "--attack", "fgsm", "--limit", "1")
VARIABLES: dict[str, tuple[str | None, ...]] = {
    "LANG": ("C", "POSIX", "xx_XX", "de_DE.ISO-8859-1", "", "tr_TR.UTF-8", "\x1b[2J"),
    "LC_ALL": ("C", "xx", "ja_JP.eucJP", "en_US.UTF-16"),
    "PYTHONIOENCODING": (
        "ascii",
        "cp1252",
        "latin-1",
        "utf-16",
        "utf-8:strict",
        "cp437",
        "ascii:strict",
    ),
    "PYTHONUTF8": ("0", "1"),
    "COLUMNS": ("", "0", "1", "-1", "5", "abc", "99999", "40"),
    "LINES": ("0", "-1", "abc"),
    "TERM": ("", "nothing", "xterm-256color", None),
    "NO_COLOR": ("", None),
    "FORCE_COLOR": ("1", "0", "x"),
    "TTY_COMPATIBLE": ("1", "x"),
    "TZ": ("", "nowhere", "UTC+99", "/etc/passwd"),
    "MPLBACKEND": ("nothing", "tkagg", ""),
    "MPLCONFIGDIR": ("/dev/null", "/nowhere", ""),
    "XDG_CACHE_HOME": ("", "relative", "/dev/null"),
    "OMP_NUM_THREADS": ("0", "-1", "x", ""),
    "CUDA_VISIBLE_DEVICES": ("", "-1", "99", "x"),
    "HTTPS_PROXY": ("nothing", "http://[", "socks9://x"),
    "PYTHONHASHSEED": ("0", "1"),
    "PYTHONWARNINGS": ("error", "always", "x"),
    "PYTHONOPTIMIZE": ("1", "2"),
    "PYTHONDONTWRITEBYTECODE": ("1",),
    "SOURCE_DATE_EPOCH": ("0", "-1"),
    "HOME": (None, "", "/nowhere", "/dev/null", "relative"),
    "TMPDIR": ("/nowhere", "/dev/null", ""),
    "USER": (None, ""),
    "PATH": ("", None),
    "PWD": ("/nowhere", ""),
    "TQDM_DISABLE": ("x",),
    "MEDROBUST_HOME": ("", "relative", "a b", "ä", "日本", "[/red]", "$x$", "a'b"),
}
"""None of them may keep a listing from being shown."""
BAD_HOMES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a file": ("home", writes("home", "x")),
    "below a file": ("home/x", writes("home", "x")),
    "a device": ("/dev/null", lambda folder: None),
    "of 5,000 letters": ("x" * 5000, lambda folder: None),
    "a link to itself": ("home", lambda folder: (folder / "home").symlink_to("home")),
    "proc": ("/proc/x", lambda folder: None),
    "an escape": ("/dev/null/\x1b[2J", lambda folder: None),
    "of a name of 300 letters": ("x" * 300, lambda folder: None),
}


def _shown() -> Iterator[Case]:
    for name, values in VARIABLES.items():
        for value in values:
            for command in (LIST, MODELS) if name in ("PYTHONIOENCODING", "COLUMNS") else (LIST,):
                says = ("phantoms",) if command is LIST else ("robust",)
                if name == "PYTHONIOENCODING" and value == "utf-16":
                    says = ()
                if name == "COLUMNS" and command is MODELS and value in ("1", "5", "-1", "0"):
                    says = ()
                yield Case(
                    f"{command[0]}: {name}={value!r}", command, code=DONE, says=says,
                    variables={name: value}, fresh=True,
                )  # fmt: skip


def _dates() -> Iterator[Case]:
    """NumPy and matplotlib take no other for a date."""
    for value in ("x", "", "1.5", "9" * 5000, "\x1b[2J", "[/red]"):
        yield Case(
            f"SOURCE_DATE_EPOCH={value[:24]!r}", LIST, says=("SOURCE_DATE_EPOCH",),
            variables={"SOURCE_DATE_EPOCH": value}, fresh=True,
        )  # fmt: skip


def _homes() -> Iterator[Case]:
    """Nothing can be kept there: what needs the cache is refused."""
    for name, (home, make) in BAD_HOMES.items():
        for command in (
            ("train", "--model", "late", "--size", "32", "--recipe", "steps=1"),
            ("data", "fetch", "breastmnist"),
        ):
            yield Case(
                f"{command[0]}: a home that is {name}",
                command,
                make,
                variables={"MEDROBUST_HOME": home},
            )


def _files() -> Iterator[Case]:
    names = (
        "\x1b[2J",
        "[red]",
        "$x$",
        "ä",
        "a b",
        "-x",
        "x" * 200,
        "日本",
        "a\nb",
        "=cmd()",
        ":lock:",
        "%s",
        "{0}",
    )
    for name in names:
        yield Case(
            f"a run file called {name[:20]!r}", ("plan", f"--config=./{name}.yaml"), writes(f"{name}.yaml", "model: [late"), says=(".yaml",),
        )  # fmt: skip
        yield Case(
            f"a store called {name[:20]!r}",
            ("leaderboard", f"--out=./{name}"),
            lambda f, n=name: (f / n).mkdir(),
        )
        yield Case(
            f"a card called {name[:20]!r}",
            ("data", "show", f"./{name}.yaml"),
            writes(f"{name}.yaml", "id: [x"),
            says=(".yaml",),
        )


def _limits() -> Iterator[Case]:
    run = ("leaderboard", "--out", "absent")
    for limit, value in (
        ("RLIMIT_NOFILE", 20),
        ("RLIMIT_NPROC", 1),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_STACK", 1 << 18),
    ):
        yield Case(f"{limit} {value}", run, limits={limit: value}, fresh=limit != "RLIMIT_FSIZE", variables={"PYTHONDONTWRITEBYTECODE": "1"}) if limit != "RLIMIT_FSIZE" else Case(
            f"{limit} {value}", ("data", "list", "--json"), code=DONE, says=(), limits={}, fresh=True,
        )  # fmt: skip


def cases() -> list[Case]:
    """Variables in their own interpreter, the rest in a child."""
    assert os.name == "posix"
    return [*_shown(), *_dates(), *_homes(), *_files(), *_limits()]
