"""Processes that can be asked whether they live, what they leave behind, and locks."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from robustbench_med import owners
from robustbench_med.owners import lock as locks
from robustbench_med.owners import me
from robustbench_med.owners.lock import Lock, read
from robustbench_med.owners.temporary import TAG
from robustbench_med.paths import sweep, write_atomically, write_text

HOLD = """
import sys, time
from pathlib import Path
from robustbench_med.owners.lock import Lock
from robustbench_med.owners.temporary import temporary
path = Path(sys.argv[1])
assert Lock(path, {"what": "training"}).take()
with temporary(path) as written:
    written.write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds `late.lock`, with a temporary file beside it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "late.lock")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def elsewhere(path: Path, seconds: float) -> None:
    """Makes a lock one of another machine, whose last heartbeat was so long ago."""
    content = json.loads(path.read_text())
    content["owner"] |= {"host": "node7", "space": "0" * 8}
    path.write_text(json.dumps(content))
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_process_is_known_by_its_number_and_its_birth() -> None:
    here = me()
    assert here == me()
    assert not here.is_gone
    assert replace(here, born=here.born + 1).is_gone  # its number was given to another one
    assert replace(here, space="0" * 8).is_gone is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    born = owners.born_at(ended.pid)
    ended.wait()
    assert replace(here, pid=ended.pid, born=born).is_gone


def test_who_ended_and_was_not_waited_for_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    owner = replace(me(), pid=ended.pid, born=owners.born_at(ended.pid))
    while owners.born_at(ended.pid) > 0:
        time.sleep(0.01)
    assert owner.is_gone
    ended.wait()


def test_a_lock_of_the_living_is_theirs_and_that_of_a_killed_one_is_taken_over(
    other, tmp_path
) -> None:
    path = tmp_path / "late.lock"
    lock = Lock(path)
    assert not lock.take()
    held = read(path)
    assert held is not None
    assert held.owner is not None
    assert (held.owner.pid, held.about) == (other.pid, {"what": "training"})
    sweep(tmp_path)
    assert len(list(tmp_path.glob(".late.lock.*.tmp"))) == 1
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert lock.take()
    assert not Lock(path).take()
    sweep(tmp_path)
    assert not list(tmp_path.glob(".*"))
    lock.release()
    assert not path.exists()


def test_an_owner_on_another_machine_lives_as_long_as_its_heartbeat(tmp_path, monkeypatch) -> None:
    path = tmp_path / "late.lock"
    assert Lock(path).take()
    elsewhere(path, owners.GONE - 30)
    assert not Lock(path).take()
    elsewhere(path, owners.GONE + 30)
    assert Lock(path).take()


def test_a_lock_that_was_half_written_is_waited_for_and_then_taken_over(tmp_path) -> None:
    path = tmp_path / "late.lock"
    path.write_text("{")
    assert not Lock(path).take()
    os.utime(path, (time.time() - owners.GONE - 30,) * 2)
    assert Lock(path).take()


def test_the_owner_gives_signs_of_life_and_tells_what_it_does(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)
    lock = Lock(tmp_path / "late.lock", {"cells": 3})
    assert lock.take()
    os.utime(lock.path, (0, 0))
    lock.tell(finished=1)
    ends = time.monotonic() + 5
    while time.monotonic() < ends and read(lock.path).about != {"cells": 3, "finished": 1}:
        time.sleep(0.01)
    assert read(lock.path).about == {"cells": 3, "finished": 1}
    assert owners.age(lock.path) < 5
    lock.release()
    time.sleep(0.1)
    assert list(tmp_path.glob("*.lock")) == []


def test_a_heartbeat_leaves_a_lock_alone_that_another_took_over(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)
    lock = Lock(tmp_path / "late.lock")
    assert lock.take()
    theirs = json.dumps({"owner": asdict(me()), "token": "theirs", "about": {}})
    lock.path.write_text(theirs)
    lock.tell(finished=1)
    time.sleep(0.1)
    lock.release()
    assert lock.path.read_text() == theirs


def test_one_of_many_holds_it_at_a_time(tmp_path) -> None:
    path, inside, most, said = tmp_path / "late.lock", [0], [0], list[str]()

    def work() -> None:
        for _ in range(3):
            with Lock(path).waited(said.append, "the training of late"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.01)
                inside[0] -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "POLL", 0.01)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1]
    assert any("waiting for the training of late: process" in line for line in said)
    assert list(tmp_path.glob("*.lock")) == []


def test_what_nobody_can_be_asked_about_is_swept_once_it_is_old(tmp_path) -> None:
    names = [".a.json.123.tmp", ".b.json.00000000-7-9-0123abcd.tmp"]
    for name in names:
        (tmp_path / name).write_text("half")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.glob(".*")} == set(names)
    for name in names:
        os.utime(tmp_path / name, (time.time() - owners.GONE - 30,) * 2)
    sweep(tmp_path)
    assert list(tmp_path.glob(".*")) == []


def test_two_writers_of_one_file_in_one_process_do_not_meet(tmp_path) -> None:
    names = []

    def outer(written: Path) -> None:
        names.append(written.name)
        written.write_text("outer")
        write_text(tmp_path / "a.json", "inner")

    write_atomically(tmp_path / "a.json", outer)
    assert (tmp_path / "a.json").read_text() == "outer"
    assert [path.name for path in tmp_path.glob("*") if path.is_file()] == ["a.json"]
    assert TAG.search(names[0])[2] == str(os.getpid())


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_says_who_may_read_what_was_written(umask: int, tmp_path) -> None:
    def private(written: Path) -> None:
        written.unlink()
        os.close(os.open(written, os.O_CREAT | os.O_WRONLY, 0o600))

    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "w.safetensors", private)
    finally:
        os.umask(before)
    mode = stat.S_IMODE((tmp_path / "w.safetensors").stat().st_mode)
    assert mode == 0o666 & ~umask
