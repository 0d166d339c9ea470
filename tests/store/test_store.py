"""The store: what was altered, damaged or left over is never used in silence, never a traceback,
and never costs a good record.
"""

import copy
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.records import certificate, certify, fill, outcomes, record
from support.shapes import SHAPE_1

from robustbench_med import api, naming
from robustbench_med.errors import IncompleteError, LeftOutWarning, UserError
from robustbench_med.store import belief
from robustbench_med.store.record import SHAPE
from robustbench_med.store.store import CERTIFICATES, Store


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three records; the first by name is the one that tests spoil."""
    fill(Store(tmp_path / "out"), record("mail", 0.5), record("late", 0.7), record("gmu", 0.6))
    return tmp_path / "out"


def first(out: Path) -> Path:
    return Store(out).paths()[0]


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes the record by hand."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def replaced(text: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def outcomes_of_another(path: Path) -> None:
    shutil.copy(
        path.parent.joinpath(sorted(path.parent.glob("*.npz"))[1]), path.with_suffix(".npz")
    )


def cut(path: Path) -> None:
    npz = path.with_suffix(".npz")
    npz.write_bytes(npz.read_bytes()[:-40])


def flipped(path: Path) -> None:
    npz = path.with_suffix(".npz")
    content = bytearray(npz.read_bytes())
    content[len(content) // 2] ^= 4
    npz.write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a figure": (edited(lambda r: r["figures"].update(robust=0.9)), "its content is not what was written"),
    "a figure of a task": (edited(lambda r: r["figures"]["tasks"][0].update(robust=0.9)), "its content is not what was written"),
    "a verdict": (edited(lambda r: r.update(trust="pass")), "its content is not what was written"),
    "a cost": (edited(lambda r: r["cost"].update(seconds=0.1)), "its content is not what was written"),
    "a spec": (edited(lambda r: r["spec"]["attack"]["params"].update(steps=1)), "its hash is not that of its specification"),
    "spec and hash": (
        edited(lambda r: (r["spec"].update(seed=7), r.update(hash=naming.canonical_hash(r["spec"])))),
        "its name is not its hash",
    ),
    "a field gone": (edited(lambda r: r["figures"].pop("clean")), "figures.clean: Field required"),
    "a field of another type": (edited(lambda r: r["figures"].update(robust="0.5")), "figures.robust: Input should be a valid number"),
    "a share beyond 1": (edited(lambda r: r["figures"].update(robust=1.5)), "figures.robust"),
    "a task too few": (edited(lambda r: r["figures"]["tasks"].pop()), "figures.tasks has 1 entries for 2 tasks"),
    "digests gone": (edited(lambda r: r.pop("digests")), "it lacks its digests"),
    "digests of another type": (edited(lambda r: r.update(digests=[])), "digests"),
    "versions gone": (edited(lambda r: (r.pop("shape"), r.pop("schema"))), "altered"),
    "a newer schema": (edited(lambda r: r.update(schema=99)), "written by a newer medrobust"),
    "a newer shape": (edited(lambda r: r.update(shape=99)), "written by a newer medrobust"),
    "a schema that is no number": (edited(lambda r: r.update(schema=[])), "its schema is []"),
    "NaN": (lambda path: path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": NaN')), "NaN is no JSON number"),
    "infinity": (lambda path: path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 1e999')), "not a readable record"),
    "5,000 digits": (lambda p: p.write_text(p.read_text().replace('"seed": 0', f'"seed": {"9" * 5000}')), "not a readable record"),
    "deep nesting": (replaced("[" * 100_000), "not a readable record"),
    "deep nesting inside": (edited(lambda r: r.update(deep=json.loads("[" * 400 + "]" * 400))), "its content is not what was written"),
    "cut": (lambda path: path.write_text(path.read_text()[:1000]), "not a readable record"),
    "empty": (replaced(""), "not a readable record"),
    "a list": (replaced("[]"), "no JSON object"),
    "UTF-16": (lambda path: path.write_bytes(path.read_text().encode("utf-16")), "not a readable record"),
    "bytes": (replaced(b"\xff\x00\xfe"), "not a readable record"),
    "a folder": (folder_instead, "it is no file"),
    "a link to nothing": (dangling, "it is no file"),
    "outcomes of another": (outcomes_of_another, "are not those it was written with"),
    "outcomes cut": (cut, "are not those it was written with"),
    "outcomes with a bit flipped": (flipped, "are not those it was written with"),
    "outcomes gone": (lambda path: path.with_suffix(".npz").unlink(), "it lacks its outcomes"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named_left_out_and_ends_with_the_exit_code_of_its_case(
    fault, out, tmp_path
) -> None:
    bad, reason = first(out), FAULTS[fault][1]
    good = [path.stem for path in Store(out).paths()[1:]]
    FAULTS[fault][0](bad)
    line = next(
        line
        for line in medrobust("verify", "--out", out, check=1).stdout.splitlines()
        if line.startswith(str(bad))
    )
    assert reason in line
    with pytest.warns(LeftOutWarning, match=bad.name):
        assert [r.hash[:16] for r in Store(out).records()] == good
    shown = medrobust("show", good[0], "--out", out, check=1)
    assert reason in shown.stderr
    assert good[0] in shown.stdout
    assert reason in medrobust("claims", "--out", out, check=1).stderr
    assert reason in refused(medrobust("show", bad.stem, "--out", out, check=2))
    assert reason in refused(medrobust("merge", out, "--out", tmp_path / "all", check=2))
    assert not (tmp_path / "all").exists()


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where everything in a record lies."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from nodes(inner, (*path, key))


@pytest.mark.parametrize(
    "other", ["absent", None, "x", -1, 1.5, True, [], {}, [[]], 10**400, "\ud800"], ids=str
)
def test_no_change_of_any_value_passes_unnoticed(other, out) -> None:
    path, store = first(out), Store(out)
    content = json.loads(path.read_text())
    for where in nodes(content):
        changed = copy.deepcopy(content)
        parent = changed
        for key in where[:-1]:
            parent = parent[key]
        if parent[where[-1]] == other and type(parent[where[-1]]) is type(other):
            continue
        if other == "absent":
            del parent[where[-1]]
        else:
            parent[where[-1]] = other
        path.write_text(json.dumps(changed))
        assert [m.path for m in store.look()[1]] == [path], where
    text = json.dumps(content, indent=1)
    for i in range(50):
        path.write_text(text[: i * len(text) // 50])
        assert [m.path for m in store.look()[1]] == [path], i
    path.write_text(text)
    assert store.look()[1] == []


def test_tables_are_made_of_the_good_ones(out) -> None:
    FAULTS["a figure"][0](first(out))
    spoilt = json.loads(first(out).read_text())["spec"]["victim"]["model"]
    for command in (["leaderboard"], ["report", "--no-figures", "--no-html"], ["card"]):
        done = medrobust(*command, "--out", out, check=1)
        assert f"1 of 3 files in {out / 'records'} left out" in done.stderr
    board = (out / "leaderboard.csv").read_text()
    assert spoilt not in board
    assert len(board.splitlines()) == 3
    with pytest.warns(LeftOutWarning, match="its content is not what was written"):
        assert len(api.leaderboard(out)) == 2


def test_many_are_five_and_a_count_and_none_left_is_exit_code_1(tmp_path) -> None:
    store = fill(Store(tmp_path), *(record("mail", seed=seed) for seed in range(8)))
    for path in store.paths():
        path.write_text("{")
    for command in ("leaderboard", "report", "claims", "card"):
        done = medrobust(command, "--out", tmp_path, check=1)
        assert done.stderr.count("not a readable record") == 5, command
        assert "and 3 more" in done.stderr
        assert "can be believed, so nothing was made of it" in refused(done)
    with pytest.warns(LeftOutWarning), pytest.raises(IncompleteError):
        api.leaderboard(tmp_path)
    assert "holds no records" in refused(
        medrobust("leaderboard", "--out", tmp_path / "empty", check=2)
    )


def test_certificates_come_through_the_same_door(tmp_path) -> None:
    store = certify(Store(tmp_path, CERTIFICATES), certificate(), certificate(sigma=0.5))
    bad = store.paths()[0]
    edited(lambda made: made["figures"][0].update(certified_accuracy=1.0))(bad)
    done = medrobust("report", "--no-figures", "--no-html", "--out", tmp_path, check=1)
    assert "1 of 2 files" in done.stderr
    assert pd.read_csv(tmp_path / "certified_tasks.csv").sigma.nunique() == 1
    bad.write_text("{")
    store.paths()[1].write_text("{")
    assert (
        medrobust("report", "--out", tmp_path, check=1).stderr.count("not a readable certificate")
        == 2
    )
    assert "2 files do not" in medrobust("verify", "--out", tmp_path, check=1).stdout


def test_verify_lists_everything_and_changes_nothing(out) -> None:
    assert (
        medrobust("verify", "--out", out).stdout
        == "3 records and certificates fit, 0 files do not\n"
    )
    assert json.loads(medrobust("verify", "--json", "--out", out).stdout) == []
    folder = out / "records"
    (folder / "0123456789abcdef.npz").write_bytes(b"")
    (folder / ".0123456789abcdef.json.77.tmp").write_text("")
    (folder / "0123456789abcdef.01234567.npz").write_text("")
    (folder / "notes.json").write_text("{}")
    before = sorted(path.name for path in folder.iterdir())
    found = json.loads(medrobust("verify", "--json", "--out", out, check=1).stdout)
    assert {Path(each["path"]).name: each["reason"].split(";")[0] for each in found} == {
        "notes.json": "it is no record of this version: it lacks its hash or its spec",
        "0123456789abcdef.npz": "outcomes without a record",
        ".0123456789abcdef.json.77.tmp": "a writer that was killed left it",
        "0123456789abcdef.01234567.npz": "a writer that was killed left it",
    }
    assert sorted(path.name for path in folder.iterdir()) == before
    assert "holds no records or certificates" in refused(
        medrobust("verify", "--out", out / "empty", check=2)
    )


def test_outcomes_are_hashed_once_and_again_when_they_change(out, monkeypatch) -> None:
    hashed = []
    monkeypatch.setattr(belief, "SETTLED", -1.0)
    monkeypatch.setattr(
        hashlib,
        "file_digest",
        lambda file, name, real=hashlib.file_digest: hashed.append(file.name) or real(file, name),
    )
    for expected in (3, 3):
        assert len(Store(out).records()) == 3
        assert len(hashed) == expected
    medrobust("verify", "--out", out)
    assert len(hashed) == 6
    npz = first(out).with_suffix(".npz")
    times, content = npz.stat(), bytearray(npz.read_bytes())
    content[100] ^= 1
    npz.write_bytes(content)
    os.utime(npz, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [m.path for m in Store(out).look()[1]] == [first(out)]
    assert set(hashed[6:]) == {str(npz)}


@pytest.mark.parametrize("remembered", ["[", "[]", '{"x": 1}', "null", None], ids=str)
def test_what_is_remembered_may_be_lost_damaged_or_impossible(
    remembered, out, home, monkeypatch
) -> None:
    monkeypatch.setattr(belief, "SETTLED", -1.0)
    if remembered is None:
        monkeypatch.setenv("MEDROBUST_HOME", "/proc/medrobust")
    else:
        memory = Store(out).memory.path
        memory.parent.mkdir(parents=True)
        memory.write_text(remembered)
    assert len(Store(out).records()) == 3


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
    assert old.items() <= lifted.items()
    assert naming.canonical_hash(old["spec"]) == old["hash"]
    made = record()
    store = fill(Store(tmp_path), made)
    store.path(made.hash).write_text(json.dumps(made.plain()))  # as shape 1 was written
    (read,) = store.records()
    assert read.plain() == {**made.plain(), "schema": 1, "shape": SHAPE}
    assert len(store.arrays(read)["labels"]) == 50


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
