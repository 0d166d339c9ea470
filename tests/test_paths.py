"""Files are written whole or not at all."""

import errno
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
