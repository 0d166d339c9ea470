"""Values that options do not take, for every option of every command that a table makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustbench_med.cli.values import ASSIGNMENTS, LISTED, kind_of
from robustbench_med.runs.options import fields_of, flags_of, option_of
from support.hostile.case import Case, writes

BASE: dict[str, tuple[str, ...]] = {
    "plan": ("--model=late", "--attack=fgsm"),
    "run": ("--model=late", "--attack=fgsm", "--dry-run"),
    "train": ("--model=late",),
    "diagnose": ("--model=late",),
    "compare": ("--model=late",),
    "certify": ("--model=late",),
}
NUMBERS = (
    "-1",
    "nan",
    "inf",
    "1e400",
    "x",
    "",
    "0x10",
    "1.5",
    "9" * 30,
    "9" * 5000,
    "\x1b[2J",
    "1;2",
    "\u0661.\u0665",
    "--",
)
LISTS = (
    "\x1b[31mx",
    "[/red]",
    "$x$",
    "=cmd()",
    "x" * 5000,
    "../../etc/passwd",
    "\u202ex",
    ",",
    "late;rm",
    "a+b+c",
    "%s%n",
    "{0}",
    "🔒:lock:",
)
FREE = {
    "eps",
    "out",
    "data_root",
    "gpus",
    "slurm",
    "address",
    "include",
    "checkpoint",
    "target_task",
    "shard",
    "device",
}
"""Looked at one by one below, or in categories of their own."""
WHOLE = {
    "jobs": ("0", "-3", "1000000", "many"),
    "threads": ("0", "-1", "100000000"),
    "batch_size": ("0", "-1", "x", "9" * 30),
    "folds": ("1", "0", "-1", "999999999", "1000000"),
    "size": ("0", "15", "1025", "999999999"),
    "train_seed": ("-1", "9" * 30, "1.5", "x"),
    "seed": ("-1", "9" * 30, "1.5", "x"),
    "limit": ("-1", "x"),
    "draws": ("0", "-1", "999999999999"),
    "chunk": ("0", "-1"),
    "batch_draws": ("0", "-1", "999999999999"),
    "accelerate": ("fast", "graphs,", "[/red]"),
    "max_passes": ("0", "-1"),
    "max_queries": ("0", "-1", "x", "9" * 30),
    "n0": ("0", "999999999999"),
    "n": ("0", "999999999999"),
    "alpha": ("0", "1", "-1", "nan"),
    "steps": ("0", "1", "-1", "999999999999"),
    "queries": ("0", "1", "-1", "999999999999"),
    "eot": ("0", "-1", "999999999999"),
    "shard": ("0/2", "3/2", "1", "x/y", "-1/2", "1/0"),
    "device": ("gpu", "cuda:99", "cuda:-1", "meta", "\x1b[2J", "cuda:x", "[/red]"),
    "gpus": ("-1", "nan", "x"),
    "fold": ("0", "-1", "x"),
    "target_task": ("nose", "9", "-1", "[/red]", "\x1b[2J"),
    "checkpoint": ("absent.safetensors", "/dev/null", "/", "x" * 300 + ".safetensors", "a\x1b[2J.safetensors", "absent.keras", "[/red].pt"),
    "checkpoint_map": ("absent.yaml", "/dev/null", "/", "x" * 300 + ".yaml", "a\x1b[2J.yaml", "[/red].yaml"),
    "contract": ("absent.yaml", "/dev/null", "/", "x" * 300 + ".yaml", "a\x1b[2J.yaml", "[/red].yaml"),
    "data_root": ("absent", "/dev/null", "x" * 300, "a\x1b[2J", "[/red]"),
    "include": ("absent.py", "/", "/dev/null/x.py", "x" * 300 + ".py", "a\x1b[2J.py", "[/red].py"),
    "out": ("/dev/null/x", "file", "file/x", "x" * 300),
    "slurm": ("x", "=", "a=", "=b", "partition"),
    "executor": ("pbs", "", "LOCAL"),
    "address": (),
}  # fmt: skip
PARAMETERS = (
    "", "=", "=1", "x", "width", "nose=1", "width=", "late.=1", ".width=1", "..=1", "late.nose=1", "width=[", "width={", "a b=1", "width=\x1b[2J",
    "steps=-1", "steps=0", "steps=nan", "steps=x", "steps=1e400", "steps=[1]", "steps={a: 1}", "steps=2020-13-45", "steps=0x_", "steps=" + "9" * 5000,
    "steps=999999999999", "width=-1", "width=0", "width=x", "width=999999999999", "width=[1]", "width=1e30", "width=" + "9" * 5000, "__class__=1", "$x$=1", "[/red]=1",
)  # fmt: skip
OTHERS: tuple[tuple[str, ...], ...] = (
    ("nothing",), ("",), ("\x1b[2J",), ("run", "--nothing"), ("run", "--model"), ("run", "--model=late", "--model=mail"), ("run", "extra"),
    ("plan", "--size=32", "--size=64", "--model=late"), ("plan", "--model=late", "--limit=1", "--limit=2"),
    ("plan", "--model=late", "--data=phantoms", "--data=breastmnist"), ("plan", "--model=late", "--engine=art", "--engine=native"),
    ("run", "--config", "a", "--config", "b"), ("show",), ("show", "zzz"), ("show", "\x1b[2J"), ("show", ""), ("show", "../x"), ("show", "0" * 5000),
    ("card",), ("merge",), ("merge", "a"), ("merge", "a", "b", "--out", "c"), ("merge", "/dev/null", "--out", "c"), ("verify", "--out", "absent"),
    ("leaderboard", "--out", "absent"), ("report", "--out", "/dev/null"), ("status", "--out", "absent"), ("rerun", "--out", "absent"),
    ("rerun", "--hash", "zz"), ("cache", "prune", "--max-size", "x"), ("cache", "prune", "--max-size", "-1"), ("cache", "prune", "--max-size", "9" * 5000 + "G"),
    ("cache", "prune", "--max-size", "nan"), ("cost", "--model", "late", "--classes", "0"), ("cost", "--model", "late", "--classes", "-1,x"),
    ("cost", "--model", "late", "--classes", "999999999999"), ("cost", "--model", "late", "--modalities", "0"), ("cost", "--model", "late", "--modalities", "99"),
    ("cost", "--model", "late", "--size", "999999"), ("cost", "--model", "late", "--size", "1"), ("data", "show", "nothing"), ("data", "show", "\x1b[2J"),
    ("data", "show", "[/red].yaml"), ("data", "show", ""), ("data", "fetch", "nothing"), ("data", "fetch", "phantoms", "--size", "-1"),
    ("data", "fetch", "busi"), ("data", "verify", "nothing"), ("data", "verify", "phantoms", "--seed", "-1"), ("data", "verify", "phantoms", "--seed", "x"),
    ("data", "verify", "phantoms", "--seed", "9" * 30), ("data", "import", "phantoms", "x.zip"), ("data", "import", "busi", "absent.zip"), ("data", "import", "busi", "/dev/zero"),
    ("import-keras",), ("import-keras", "absent.keras", "--model", "mail", "--out", "o.safetensors"), ("import-keras", "file", "--model", "late", "--out", "o.safetensors"),
    ("import-keras", "file", "--model", "mail"), ("import-keras", "file", "--model", "mail", "--out", "o.bin"), ("models", "extra"), ("attacks", "--nothing"),
    ("claims", "--file", "absent.yaml"), ("card", "--model", "x", "--out", "absent"), ("engines", "install", "nothing"), ("engines", "nothing"),
    ("plan", "--model", "late", "--data", "phantoms+phantoms"), ("plan", "--model", "late", "--data", "+"), ("plan", "--model", "late", "--data", "phantoms+"),
    ("plan", "--model", "late", "--data", "+" * 5000), ("plan", "--model", "late,late:x"), ("plan", "--model", "x.py"), ("plan", "--model", "x.py:"),
    ("plan", "--model", ":y"), ("plan", "--model", "x.py:y"), ("plan", "--model", "late", "--defense", "+"), ("plan", "--model", "late", "--defense", "jpeg+"),
    ("plan", "--model", "late", "--defense", "jpeg+jpeg"), ("plan", "--model", "late", "--attack", ""), ("plan", "--model", "late", "--attack", "pgd,"*2000 + "x"),
    ("plan", "--model", "late", "--attack", "hopskipjump", "--engine", "art", "--norm", "L1"), ("plan", "--model", "late", "--target", "99"),
    ("plan", "--model", "late", "--target", "-1"), ("plan", "--model", "late", "--target", "x"), ("plan", "--model", "late", "--norm", "L3"),
    ("plan", "--model", "late", "--norm", ""), ("plan", "--model", "late", "--preset", "../quick"), ("plan", "--model", "late", "--preset", "\x1b[2J"),
    ("plan", "--model", "late", "--preprocess", "fit=x"), ("plan", "--model", "late", "--preprocess", "x=fit"), ("plan", "--model", "late", "--protocol", "x"),
)  # fmt: skip


def _values(name: str, kind: Any) -> tuple[str, ...]:
    if name in WHOLE:
        return WHOLE[name]
    if name in FREE or kind in (bool, ASSIGNMENTS):
        return ()
    return LISTS if kind in (str, LISTED) else NUMBERS


def _cases() -> Iterator[Case]:
    for command, base in BASE.items():
        for name, field in fields_of(command).items():
            kind = kind_of(field.type, option_of(command, name))
            flag = flags_of(command, name)[0]
            if command == "train" and name in ("limit",):
                continue
            values = (
                PARAMETERS if kind == ASSIGNMENTS and command == "plan" else _values(name, kind)
            )
            if command in ("run", "compare", "certify") and name not in WHOLE:
                continue  # as plan has them
            for value in values:
                if "\0" not in value:
                    yield Case(
                        f"{command} {flag} {value[:24]!r}",
                        (command, *(b for b in base if not _said(b, flag)), f"{flag}={value}"),
                        writes("file", "x"),
                    )
    for i, command_line in enumerate(OTHERS):
        yield Case(f"{i} {' '.join(command_line)[:40]!r}", command_line, writes("file", "x"))


def _said(base: str, flag: str) -> bool:
    return base.split("=")[0] == flag


def cases() -> list[Case]:
    """What must be refused before anything is done."""
    return list(_cases())
