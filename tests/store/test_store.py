"""The store: what was altered, damaged or left over is never used in silence, never a traceback,
and never costs a good record.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.records import certificate, certify, fill, record
from support.store_faults import cut, edited, first, flipped, folder_instead
from support.stores import cells_csv

from robustbench_med import api, naming
from robustbench_med.errors import IncompleteError, LeftOutWarning
from robustbench_med.store import belief
from robustbench_med.store.store import CERTIFICATES, Store


def replaced(text: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def outcomes_of_another(path: Path) -> None:
    shutil.copy(
        path.parent.joinpath(sorted(path.parent.glob("*.npz"))[1]), path.with_suffix(".npz")
    )


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a figure": (edited(lambda r: r["figures"].update(robust=0.9)), "its content is not what was written"),
    "a figure of a task": (edited(lambda r: r["figures"]["tasks"][0].update(robust=0.9)), "its content is not what was written"),
    "a verdict": (edited(lambda r: r.update(diagnostics=[])), "its content is not what was written"),
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
    "a folder": (folder_instead, "it is a folder"),
    "a link to nothing": (dangling, "No such file"),
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
    board = cells_csv(out)
    assert spoilt not in set(board.model)
    assert len(board) == 2
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
    os.utime(folder / ".0123456789abcdef.json.77.tmp", (0, 0))  # nobody writes it any more
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
