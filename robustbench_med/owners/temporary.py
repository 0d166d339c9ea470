"""Temporary names, random and with their owner in them: what the dead left can be told from what
the living write.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from robustbench_med import owners
from robustbench_med.owners import Owner, age, me

TAG = re.compile(r"\.([0-9a-f]{8})-(\d+)-(\d+)-([0-9a-f]{8})\.tmp$")
"""How such a name ends: the space of the owner, its process and birth, something random."""

_OPEN: set[str] = set()
"""Temporary names that this process is writing now."""


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` for what will replace it, free again afterwards. It says who its owner
    is.
    """
    owner = me()
    tag = f"{owner.space}-{owner.pid}-{owner.born}-{secrets.token_hex(4)}"
    name = f".{path.name}.{tag}.tmp"
    _OPEN.add(name)
    try:
        yield path.with_name(name)
    finally:
        _OPEN.discard(name)


def is_abandoned(path: Path) -> bool:
    """Whether nobody writes a temporary file or folder (any hidden `*.tmp`) any more: its owner has
    ended, or cannot be asked and has not touched it for long.
    """
    if path.name in _OPEN:
        return False
    named = TAG.search(path.name)
    if named is not None:
        space, pid, born, _ = named.groups()
        here = me()
        if (space, int(pid), int(born)) == (here.space, here.pid, here.born):
            return True
        gone = Owner("", space, int(pid), int(born)).is_gone
        if gone is not None:
            return gone
    return age(path) > owners.GONE
