"""Entries: written out of a store, checked, and their victims loaded and attacked again."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.cli import medrobust
from support.records import changed, record
from support.stores import store_of

from robustbench_med import UserError, evaluate, load_data, load_model
from robustbench_med.errors import LeftOutWarning
from robustbench_med.reports import site, write
from robustbench_med.reports.submit import submit, without_folders
from robustbench_med.runs import entries
from robustbench_med.runs.job import Job
from robustbench_med.store import entry_files
from robustbench_med.store.entry import Entry
from robustbench_med.store.entry_checks import faults
from robustbench_med.store.schemas import json_schema

SETTINGS = {"eps": "8/255", "limit": 8, "challenge": False, "quiet": True}


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """A store of the zoo's `late` under two attacks, and its entry beside it in `results`."""
    out = tmp_path_factory.mktemp("entry")
    evaluate("late", ["fgsm", "bim"], out=out, attack_params={"bim.steps": 3}, **SETTINGS)
    submit(out, out / "results", about=noted(out))
    return out


def noted(folder: Path) -> Path:
    path = folder / "about.yaml"
    path.write_text(
        "all: {who: A. Author, note: weak on purpose}\n"
        "victims:\n  late:\n    reported: [{value: 0.5, setting: theirs, source: Table 1}]\n"
    )
    return path


def test_a_leaderboard_of_entries_is_that_of_their_store(measured, tmp_path) -> None:
    (path,) = (measured / "results").glob("*.json")
    write.leaderboard(measured)
    write.from_entries(measured / "results", tmp_path)
    mine, theirs = (pd.read_csv(f / "leaderboard.csv") for f in (measured, tmp_path))
    told = [name for name in mine if "reported" in name or name == "difference"]
    pd.testing.assert_frame_equal(mine.drop(columns=told), theirs.drop(columns=told))
    assert theirs.reported[0] == 0.5
    assert theirs.difference[0] == pytest.approx(theirs.worst[0] - 0.5, abs=1e-5)
    first = (
        (tmp_path / "leaderboard.csv").read_bytes(),
        (tmp_path / "leaderboard.html").read_bytes(),
    )
    write.from_entries(measured / "results", tmp_path)
    again = (
        (tmp_path / "leaderboard.csv").read_bytes(),
        (tmp_path / "leaderboard.html").read_bytes(),
    )
    assert first == again
    assert path.stat().st_size < 20_000


def test_a_site_is_a_folder_that_needs_nothing_else(measured, tmp_path) -> None:
    (path,) = (measured / "results").glob("*.json")
    public = tmp_path / "public"
    written = medrobust("site", "--from", measured / "results", "--out", public).stdout.split()
    names = ["index.html", "leaderboard.csv", "leaderboard.md", "leaderboard.tex"]
    assert [Path(each).relative_to(public).as_posix() for each in written] == [
        *names,
        f"entries/{path.name}",
    ]
    assert (public / "entries" / path.name).read_bytes() == path.read_bytes()
    assert "documentation/" not in (public / "index.html").read_text()
    (public / "entries" / "old.json").write_text("{}")
    small = tmp_path / "small"
    (small / "docs").mkdir(parents=True)
    (small / "docs" / "index.md").write_text("# Words\n")
    (small / "mkdocs.yml").write_text("site_name: small\nuse_directory_urls: false\n")
    found = site.write(measured / "results", public, small / "mkdocs.yml")
    assert found[-1] == public / "documentation" / "index.html"
    assert "Words" in found[-1].read_text()
    assert 'href="documentation/index.html"' in (public / "index.html").read_text()
    assert not (public / "entries" / "old.json").exists()
    (small / "mkdocs.yml").write_text("site_name: [")
    with pytest.raises(UserError, match="mkdocs cannot build it"):
        site.write(measured / "results", public, small / "mkdocs.yml")
    with pytest.raises(UserError, match="there is no such file"):
        site.write(measured / "results", public, small / "none.yml")


def test_an_entrys_victim_is_loaded_and_one_of_its_cells_computed_again(measured) -> None:
    (path,) = (measured / "results").glob("*.json")
    data = load_data("phantoms")
    x = data.splits["test"].batch(range(2))
    ours, zoo = load_model(str(path), data=data), load_model("late", data=data, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(ours(*x), zoo(*x), strict=True))
    entry = entry_files.read_one(path)
    said = entries.recompute(entry, Job())
    assert "fgsm at 8/255" in said
    plain = entry.plain()
    for attack in plain["threats"][0]["attacks"]:
        attack["robust"] = max(attack["robust"] - 0.2, 0.0) or 0.5
    with pytest.raises(UserError, match="more than 2 points apart"):
        entries.recompute(Entry.of(plain), Job())


def test_weights_that_are_nowhere_are_trained_by_the_command_that_is_named(measured) -> None:
    (path,) = (measured / "results").glob("*.json")
    plain = entry_files.read_one(path).plain()
    plain["victim"]["weights"][0]["sha256"] = "0" * 64
    entry = Entry.of(plain)
    assert not entries.weights_at_hand(entry)
    with pytest.raises(UserError, match="command that trains them: medrobust run --model late"):
        entries.recompute(entry, Job())
    plain["victim"]["architecture"] = "theirs"
    with pytest.raises(UserError, match="none of medrobust's"):
        entries.victim_options(Entry.of(plain))
    with pytest.raises(UserError, match="says what its victim is"):
        load_model(str(path), params={"width": 3})


def lists(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"naive": True}, "ignore the defence or the victim's randomness"),
        ({"unverified": True}, "not the published files; --accept-unverified"),
        ({"spec__victim__train_seed": None}, "were trained elsewhere: say where they are"),
    ],
)
def test_what_is_not_whole_is_not_submitted(fields, said, tmp_path) -> None:
    whole, other = record("late", 0.7), changed(record("mail", 0.7), **fields)
    store_of(tmp_path, whole, other)
    found = submit(tmp_path, tmp_path / "results")
    assert [path.name.split("-")[0] for path in found.written] == ["late"]
    (reason,) = found.refused
    assert reason.startswith("mail-")
    assert said in reason
    done = medrobust("submit", "--out", tmp_path, "--to", tmp_path / "r", check=1)
    assert said in " ".join(done.stderr.split())
    assert lists(tmp_path / "r") == [found.written[0].name]


@pytest.mark.parametrize(
    ("command", "published"),
    [
        ("--data-root '/home/an author/x' --eps 4/255", "--data-root DATA --eps 4/255"),
        ("--data /home/a/sets/heads.yaml+breastmnist", "--data heads.yaml+breastmnist"),
        ("--model /home/a/net.py:build,late", "--model net.py:build,late"),
        ("--recipe file=/home/a/recipe.yaml", "--recipe file=recipe.yaml"),
        ("--eps 2/255,4/255 --target joint", "--eps 2/255,4/255 --target joint"),
        ("--eps mri=4/255,xray=0", "--eps mri=4/255,xray=0"),
    ],
)
def test_an_entry_says_nothing_of_its_authors_folders(command, published, tmp_path) -> None:
    made = changed(record("late", 0.5), command=f"medrobust run {command}")
    store_of(tmp_path, made)
    (path,) = submit(tmp_path, tmp_path / "results").written
    (threat,) = json.loads(path.read_text())["threats"]
    assert threat["attacks"][0]["command"] == f"medrobust run {published}"


def test_a_published_call_says_nothing_of_its_authors_folders() -> None:
    call = "robustbench_med.evaluate(net, 'pgd', data='/home/a/heads.yaml', eps='4/255')"
    published = call.replace("/home/a/", "")
    assert without_folders(call) == published


def test_a_failed_trust_needs_a_note(tmp_path) -> None:
    store_of(tmp_path, record("late", 0.7, trust="failed"))
    found = submit(tmp_path, tmp_path / "results")
    assert "its trust failed (zero gradient: half of the gradients are 0)" in found.refused[0]
    assert not (tmp_path / "results").exists()
    assert submit(tmp_path, tmp_path / "results", about=noted(tmp_path)).refused == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["worst", "worst"], 0.99, "lies above an attack's"),
        (["worst", "worst_high"], 0.0, "outside its interval"),
        (["decided_by"], "pgdd", "did not decide it"),
        (["protocol"], "release", "gives no rank"),
    ],
)
def test_figures_that_do_not_fit_each_other_are_found(path, value, said, tmp_path) -> None:
    store_of(tmp_path, record("late", 0.7))
    (file,) = submit(tmp_path, tmp_path / "results").written
    plain = json.loads(file.read_text())
    place = plain["threats"][0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert any(said in fault for fault in faults(Entry.of(plain)))
    file.write_text(json.dumps(plain))
    assert said in " ".join(medrobust("check-entry", file, check=2).stderr.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot read the entry .*bad.json: Expecting property name"),
        ("[]", "it is no JSON object"),
        ('{"id": "../x"}', "id: String should match"),
        ("{}", "Field required"),
        ("NaN", "is no JSON number"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_hostile_entries_are_one_line_and_the_others_stay(text, said, tmp_path) -> None:
    store_of(tmp_path, record("late", 0.7))
    submit(tmp_path, tmp_path / "results")
    bad = tmp_path / "results" / "bad.json"
    bad.write_text(text)
    with pytest.raises(UserError, match=said):
        entry_files.read_one(bad)
    with pytest.warns(LeftOutWarning, match=said):
        assert len(entry_files.read(tmp_path / "results")) == 1
    with pytest.raises(UserError, match="holds no entries"):
        entry_files.read(tmp_path / "nothing")


def test_an_entry_has_its_ids_name_and_the_published_schema(measured, tmp_path) -> None:
    (path,) = (measured / "results").glob("*.json")
    other = tmp_path / "other.json"
    other.write_text(path.read_text())
    with pytest.raises(UserError, match="call it late-phantoms"):
        entry_files.read_one(other)
    properties = json.loads(json_schema("entry"))["properties"]
    assert json.loads(path.read_text()).keys() <= properties.keys()
    assert not np.any([len(str(v)) > 50_000 for v in json.loads(path.read_text()).values()])


def test_about_says_what_it_does_not_know(tmp_path) -> None:
    store_of(tmp_path, record("late", 0.7))
    for text, said in (
        ("all: {whoo: x}", "did you mean who"),
        ("victims: {mial: {who: x}}", "unknown victim 'mial'"),
        ("nothing: 1", "nothing: Extra inputs"),
        ("- 1", "mapping is expected"),
        ("a: [", "cannot read"),
    ):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(UserError, match=said):
            submit(tmp_path, tmp_path / "results", about=tmp_path / "a.yaml")
