"""Files are written whole or not at all."""

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from robustbench_med.errors import Notice, UserError
from robustbench_med.paths import remember, write_text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch) -> None:
    target = tmp_path / "leaderboard.csv"
    write_text(target, "old")

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        with open("/dev/full", "w") as device:  # every write to it fails as on a full disk
            device.write("x" * 100_000)
        raise AssertionError(errno.ENOSPC)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(
        UserError, match="No space left on device; choose another folder or free some space"
    ):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == ["leaderboard.csv"]


def test_what_a_killed_writer_left_goes_with_the_next_write_and_nothing_of_others(tmp_path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from robustbench_med.paths import"
        " write_atomically; write_atomically(Path(sys.argv[1]), lambda path: os._exit(9))"
    )
    target, other = tmp_path / "mine" / "weights.safetensors", tmp_path / "mine" / ".other.tmp"
    target.parent.mkdir()
    other.touch()
    os.utime(other, (0, 0))
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == 9
    assert len(list(target.parent.iterdir())) == 2
    write_text(target.with_name("card.html"), "new")
    assert sorted(path.name for path in target.parent.iterdir()) == [".other.tmp", "card.html"]


@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_a_user_whom_the_system_does_not_know_has_a_name_for_libraries_and_a_home(tmp_path) -> None:
    code = """
import pwd
def nobody(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
import robustbench_med, getpass
from robustbench_med.paths import config_folder, home, own_folder
print(getpass.getuser(), home().is_absolute(), config_folder().is_absolute(), own_folder())
"""
    environment = {name: os.environ[name] for name in ("PATH", "VIRTUAL_ENV") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("unnamed True True None\n", "")


def test_a_home_that_may_only_be_read_is_said_once_and_a_full_one_refused(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path))
    fault = [errno.EROFS]

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(fault[0], os.strerror(fault[0]), str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.warns(Notice, match="may only be read"):
        remember(tmp_path / "manifests" / "a.json", "{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remember(tmp_path / "manifests" / "b.json", "{}")
    fault[0] = errno.ENOSPC
    with pytest.raises(UserError, match="No space left"):
        remember(tmp_path / "manifests" / "a.json", "{}")
