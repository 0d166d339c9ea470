"""Files are written whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_med.errors import UserError
from robustbench_med.paths import write_text


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
