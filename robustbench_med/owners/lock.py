"""Locks that say who holds them, on shared folders too.

A lock is a file that was not there before, with its owner in it; its time of writing is the owner's
heartbeat.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustbench_med import owners
from robustbench_med.errors import UserError
from robustbench_med.formats import json_file
from robustbench_med.formats.files import UnreadableError
from robustbench_med.owners import Owner, age, me
from robustbench_med.owners.temporary import temporary

BEAT = 5.0
"""Seconds between two heartbeats of a lock's owner."""
POLL = 0.5
"""Seconds between two looks at a lock that somebody else holds."""


@dataclass(frozen=True)
class Held:
    """What a lock's file says: whose it is, and what the owner does.

    Attributes:
        owner: None where the file is not whole yet.
        token: tells one holding from another of the same process.
        about: what the owner says of its work.
    """

    owner: Owner | None
    token: str
    about: dict[str, Any]

    def is_dead(self, path: Path) -> bool:
        """Whether the owner of the lock at `path` has ended, or gives no sign of life."""
        gone = None if self.owner is None else self.owner.is_gone
        return age(path) > owners.GONE if gone is None else gone


def read(path: Path) -> Held | None:
    """Who holds a lock; None: nobody."""
    try:
        content = json_file.load_object(path, "the lock")
        owner = Owner(**content["owner"])
        return Held(owner, content["token"], content["about"])
    except (UnreadableError, KeyError, TypeError):
        return Held(None, "", {}) if path.exists() else None


class Lock:
    """A lock that one process at a time holds, found by all who see its folder; who has died loses
    it.

    Args:
        path: its file, there while it is held.
        about: what the file says of the work.

    Example:
        >>> with Lock(folder / "late.lock").waited(display.say, "the training of late"):
        ...     train()
    """

    def __init__(self, path: Path, about: Mapping[str, Any] | None = None) -> None:
        self.path, self.about = path, dict(about or {})
        self.token = secrets.token_hex(8)
        self._ended = threading.Event()
        self._writing = threading.Lock()

    def take(self) -> bool:
        """Takes it if nobody living holds it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._create() or (self._depose() and self._create())
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror or error}; choose another folder or"
                " free some space"
            ) from error

    def release(self) -> None:
        """Gives it back."""
        self._ended.set()
        with self._writing:
            if self._is_ours():
                self.path.unlink(missing_ok=True)

    def tell(self, **about: Any) -> None:
        """Says in the file what the owner does now; the next heartbeat writes it."""
        self.about = {**self.about, **about}

    @contextlib.contextmanager
    def waited(self, say: Callable[[str], None], what: str) -> Iterator[None]:
        """Holds it inside, once nobody else does; says who is waited for."""
        said = False
        while not self.take():
            held = read(self.path)
            if held is not None and held.owner is not None and not said:
                say(f"waiting for {what}: {held.owner} is at it")
                said = True
            time.sleep(POLL)
        try:
            yield
        finally:
            self.release()

    def _create(self) -> bool:
        text = self._text()
        try:
            file = self.path.open("x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(text)
        except OSError:  # a full disk: half a lock would be waited for until it is old
            self.path.unlink(missing_ok=True)
            raise
        self._ended.clear()
        threading.Thread(target=self._beat, args=(text,), daemon=True).start()
        return True

    def _text(self) -> str:
        content = {"owner": asdict(me()), "token": self.token, "about": self.about}
        return json.dumps(content, indent=1)

    def _depose(self) -> bool:
        """Takes a dead owner's lock away; one that another took meanwhile is put back."""
        held = read(self.path)
        if held is None:
            return True
        if not held.is_dead(self.path):
            return False
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.aside")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return True
        now = read(aside)
        if now is not None and now.token != held.token:
            with contextlib.suppress(FileExistsError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)
        return True

    def _beat(self, told: str) -> None:
        """Gives signs of life, until the lock is released or another's."""
        while not self._ended.wait(BEAT):
            with self._writing, contextlib.suppress(OSError):  # a beat may fail; many may not
                if self._ended.is_set() or not self._is_ours():
                    return
                if (text := self._text()) != told:
                    with temporary(self.path) as written:
                        written.write_text(text, encoding="utf-8")
                        written.replace(self.path)
                    told = text
                os.utime(self.path)

    def _is_ours(self) -> bool:
        held = read(self.path)
        return held is not None and held.token == self.token
