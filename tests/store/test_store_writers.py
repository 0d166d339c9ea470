"""Writers that are killed or at work together, and records of older shapes."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cli import medrobust, refused
from support.records import fill, outcomes, record
from support.shapes import SHAPE_1
from support.store_faults import cut, edited, first, flipped, folder_instead

from robustbench_med import naming
from robustbench_med.errors import UserError
from robustbench_med.store import belief
from robustbench_med.store.record import SHAPE
from robustbench_med.store.store import Store


class Killed(BaseException):
    """The process is gone."""


CALLS = [
    (Path, name) for name in ("mkdir", "open", "write_bytes", "write_text", "replace", "unlink")
] + [(os, "fsync")]


def killed_at(n: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> list[int]:
    """Makes the n-th file-system call of this thread the last one; returns the number of calls,
    counted on.
    """
    count = [0]
    for owner, name in CALLS:
        real = getattr(owner, name)

        def call(*arguments: Any, real: Callable[..., Any] = real, **options: Any) -> Any:
            count[0] += 1
            if count[0] < n or (after and count[0] == n):
                result = real(*arguments, **options)
            if count[0] >= n:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, call)
    return count


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_writer_killed_at_any_call_leaves_the_old_pair_or_the_new_one(
    there, after, tmp_path
) -> None:
    old, new, other = record("mail", 0.5), record("mail", 0.8), record("late")
    assert old.hash == new.hash
    seen = set()
    for n in range(1, 200):
        store = Store(tmp_path / str(n))
        if there:
            fill(store, old)
        with pytest.MonkeyPatch.context() as patch:
            count = killed_at(n, patch, after=after)
            try:
                fill(store, new)
            except Killed:
                pass
            else:
                break
        assert count[0] >= n
        found, misfits = Store(tmp_path / str(n)).look(fresh=True)
        assert misfits == []
        assert len(found) == 1 or (not found and not there)
        for each in found:
            robust = each.figures.robust
            seen.add(robust)
            assert store.arrays(each)["robust_right"][:, 0].sum() == robust * 50
        fill(store, other)  # sweeps
        assert [left.reason for left in store.leftovers()] in ([], ["outcomes without a record"])
        fill(store, new)
        assert store.leftovers() == store.look(fresh=True)[1] == []
        assert len(list(store.folder.iterdir())) == 4
    assert n > 10
    assert seen == ({0.5, 0.8} if there else {0.8})


def test_writers_of_one_cell_and_a_reader_at_the_same_time(tmp_path) -> None:
    fill(Store(tmp_path), record("mail", 0.5))
    ends = time.monotonic() + 2

    def write(robust: float) -> None:
        while time.monotonic() < ends:
            fill(Store(tmp_path), record("mail", robust))

    writers = [threading.Thread(target=write, args=(robust,)) for robust in (0.2, 0.8)]
    for writer in writers:
        writer.start()
    looks = 0
    while time.monotonic() < ends:
        assert Store(tmp_path).look()[1] == []
        looks += 1
    for writer in writers:
        writer.join()
    assert looks > 3
    assert medrobust("verify", "--out", tmp_path)


def test_a_folder_in_the_place_of_a_record_is_put_aside(out) -> None:
    path = first(out)
    made = Store(out).look()[0][0]
    folder_instead(path)
    said: list[str] = []
    assert Store(out).kept(made.hash, said.append) is None
    assert "its cell is computed again" in said[0]
    fill(Store(out), made)
    assert Store(out).look()[0][0].figures == made.figures
    assert medrobust("verify", "--out", out)


def test_an_altered_npz_is_not_read_even_by_who_holds_the_record(out) -> None:
    store = Store(out)
    made = store.records()[0]
    assert len(store.arrays(made)["labels"]) == 50
    flipped(first(out))
    with pytest.raises(
        UserError, match=r"not those it was written with\); compute its cell again with --force"
    ):
        store.arrays(made)


def test_a_merge_replaces_what_is_spoilt_and_names_what_no_source_can_mend(out, tmp_path) -> None:
    shutil.copytree(out, tmp_path / "copy")
    bad = tmp_path / "copy" / "records" / first(out).name
    cut(bad)
    other = fill(Store(tmp_path / "copy"), record("man")).path(record("man").hash)
    other.write_text("{")
    done = medrobust("merge", out, "--out", tmp_path / "copy", check=1)
    assert "1 records and certificates copied" in done.stdout
    assert other.name in done.stderr
    assert bad.name not in done.stderr
    found, misfits = Store(tmp_path / "copy").look(fresh=True)
    assert (len(found), [m.path for m in misfits]) == (3, [other])


def test_a_record_says_its_versions_and_the_digests_of_itself_and_its_outcomes(tmp_path) -> None:
    store = Store(tmp_path)
    kept = store.write(record(), outcomes(record()))
    npz = store.path(kept.hash).with_suffix(".npz")
    assert (kept.schema_, kept.shape) == (naming.SCHEMA, SHAPE)
    assert kept.digests.outcomes == hashlib.sha256(npz.read_bytes()).hexdigest()
    plain = json.dumps(
        {k: v for k, v in kept.plain().items() if k != "digests"},
        sort_keys=True,
        separators=(",", ":"),
    )
    assert kept.digests.record == hashlib.sha256(plain.encode()).hexdigest()
    assert store.records() == [kept] == [store.find(kept.hash)]


def test_a_record_of_an_older_shape_is_lifted(tmp_path, monkeypatch) -> None:
    assert set(belief.UPGRADES) == set(range(1, SHAPE))
    monkeypatch.setattr(naming, "SCHEMA", 1)
    old = json.loads((SHAPE_1 / "5c34fd685003000d.json").read_text())
    lifted = belief.lifted(old)
    assert (lifted["schema"], lifted["shape"]) == (1, SHAPE)
    kept = old.keys() - {"trust", "diagnostics"}
    assert {key: old[key] for key in kept}.items() <= lifted.items()
    assert {sign["verdict"] for sign in lifted["diagnostics"]} <= {"fine", "doubtful", "failed"}
    assert naming.canonical_hash(old["spec"]) == old["hash"]
    made = record()
    store = fill(Store(tmp_path), made)
    store.path(made.hash).write_text(json.dumps(made.plain()))  # as shape 1 was written
    (read,) = store.records()
    assert read.plain() == {**made.plain(), "schema": 1, "shape": SHAPE}
    assert len(store.arrays(read)["labels"]) == 50


def test_a_record_of_shape_3_loses_its_stored_trust_and_its_signs_are_renamed(tmp_path) -> None:
    made = record(trust="doubtful")
    store = fill(Store(tmp_path), made)
    path = store.path(made.hash)
    old = json.loads(path.read_text()) | {"shape": 3, "trust": "warn"}
    old["diagnostics"][0]["verdict"] = "warn"
    old["digests"]["record"] = belief.digest(old)
    path.write_text(json.dumps(old))
    (read,) = store.records()
    assert "trust" not in read.plain()
    assert (read.shape, read.trust.word) == (SHAPE, "doubtful")
    assert read.diagnostics == made.diagnostics


def test_a_record_of_an_older_identity_is_named_and_left_out(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(naming, "SCHEMA", max(2, naming.SCHEMA))
    shutil.copytree(SHAPE_1, tmp_path / "records")
    advice = (
        f"it is of an older identity (schema 1, now {naming.SCHEMA}); `medrobust rerun --stale"
        f" --out {tmp_path}` makes it again"
    )
    assert advice in medrobust("leaderboard", "--out", tmp_path, check=1).stderr
    assert advice in refused(medrobust("show", "5c34", "--out", tmp_path, check=2))
    assert advice in refused(medrobust("merge", tmp_path, "--out", tmp_path / "all", check=2))
    (listed,) = json.loads(medrobust("verify", "--json", "--out", tmp_path, check=1).stdout)
    assert listed["stale"]
    edited(lambda r: r["spec"]["attack"]["params"].update(loss="dlr"))(
        tmp_path / "records" / "5c34fd685003000d.json"
    )
    (listed,) = json.loads(medrobust("verify", "--json", "--out", tmp_path, check=1).stdout)
    assert not listed["stale"]  # altered, not only old


def test_a_record_of_today_that_lost_its_digests_is_not_believed(tmp_path) -> None:
    store = fill(Store(tmp_path), made := record())
    path = store.path(made.hash)
    plain = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: value for key, value in plain.items() if key not in ("digests", "shape")})
    )
    found, misfits = store.look()
    assert not found
    assert "digests" in str(misfits[0])
