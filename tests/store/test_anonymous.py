"""Anonymous copies: nothing of them names a patient, a file, a user or a machine, and they are read
like any store.
"""

import json
import os
import re
import stat
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.records import certificate, certify, changed, outcomes, record

from robustbench_med import card, merge, report
from robustbench_med.errors import UserError
from robustbench_med.naming import canonical_hash
from robustbench_med.paths import config_folder
from robustbench_med.store import anonymous
from robustbench_med.store.anonymous import KEY, Anonymous
from robustbench_med.store.merge import KINDS
from robustbench_med.store.store import CERTIFICATES, Store

PATIENTS = [f"Doe_Jane_{i:04d}/scan.png" for i in range(50)]
SECRETS = ("Doe_Jane", "scan.png", "/home/jane", "jane", "ward7", "scans", "classifier_dir")


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return config_folder()


@pytest.fixture
def source(tmp_path) -> Path:
    """A store with names, paths and images everywhere that records may hold them."""
    folder = tmp_path / "source"
    store = Store(folder)
    challenge = {"challenger": "square", "family": "black box", "n": 2, "broken": PATIENTS[3:5],
                 "taken": 0.04, "bound": 0.02, "passes": 10}  # fmt: skip
    first = changed(
        record("late", 0.5, trust="doubtful"),
        command="medrobust run --model /home/jane/classifier_dir/net.py:build --data-root /ward7",
        notes=[f"unreadable: /ward7/{PATIENTS[2]}"],
        challenges=[challenge],
        victim__checkpoint="jane-2026.safetensors",
        victim__origin="file",
        spec__victim__params={"backbone": "C:\\scans\\net.pt", "width": 4},
    )
    sign = dict(first.plain()["diagnostics"][0], text=f"{PATIENTS[1]} has no gradient")
    first = changed(first, diagnostics=[sign])
    second = changed(
        record("late", 0.25, eps=8 / 255),
        spec__victim__params={"backbone": "C:\\scans\\net.pt", "width": 4},
        spec__carried={"record": first.hash, "revision": 1},
        carried={"n": 3, "afresh": 0, "withstood": 0},
    )
    for made in (first, second):
        arrays = outcomes(made, images=True) | {"ids": np.array(PATIENTS)}
        store.write(made, arrays | {"age": np.arange(50), "group_0": np.arange(50)[::-1] + 900})
    certify(Store(folder, CERTIFICATES), certificate())
    (folder / "runs").mkdir()
    (folder / "runs" / "1.json").write_text(json.dumps({"owner": {"host": "ward7"}}))
    (folder / "failures").mkdir()
    (folder / "failures" / "x.json").write_text("/home/jane")
    return folder


def everything_in(folder: Path) -> bytes:
    """All bytes of a folder and of the archives in it, names of files too."""
    found = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path.relative_to(folder)).encode())
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    array = np.load(archive.open(name), allow_pickle=False)
                    found.append(name.encode())
                    texts = array.dtype.kind == "U"
                    found.append("\n".join(array.tolist()).encode() if texts else array.tobytes())
        elif path.is_file():
            found.append(path.read_bytes())
    return b"\n".join(found)


def test_nothing_of_a_copy_names_patients_files_users_or_machines(source, tmp_path) -> None:
    shared = tmp_path / "shared"
    assert merge(source, shared, anonymous=True).copied == 3
    bare = everything_in(shared)
    for secret in SECRETS:
        assert secret.encode() not in bare, secret
        assert secret.encode() in everything_in(source), secret  # else nothing is asked
    assert str(tmp_path).encode() not in bare
    assert {path.name for path in shared.iterdir() if path.is_dir()} == {"records", "certificates"}
    for path in shared.rglob("*.npz"):
        with np.load(path) as arrays:
            assert not [name for name in arrays if name.startswith(("examples", "age"))]
            assert not [name for name in arrays if arrays[name].ndim > 2]


def test_copies_have_hashes_of_their_own_name_their_source_and_keep_every_figure(
    source, tmp_path
) -> None:
    shared = tmp_path / "shared"
    merge(source, shared, anonymous=True)
    store, plain = Store(shared), Store(source)
    by_source = {copy.source: copy for copy in store.records()}
    assert by_source.keys() == {each.hash for each in plain.records()}
    for each in plain.records():
        copy = by_source[each.hash]
        assert copy.hash == canonical_hash(copy.spec.plain()) != each.hash
        assert copy.figures == each.figures
        assert copy.spec.data.samples != each.spec.data.samples
        assert copy.spec.data.manifest == each.spec.data.manifest
        before, after = plain.arrays(each), store.arrays(copy)
        assert (before["robust_probabilities_0"] == after["robust_probabilities_0"]).all()
        assert after["group_0"].tolist() == list(range(50))  # which are the same, not whose
        if each.challenges:
            assert copy.challenges[0].broken == after["ids"][3:5].tolist()
        if each.spec.carried:
            first = by_source[each.spec.carried.record]
            assert copy.spec.carried.record == first.hash
    medrobust("verify", "--out", shared)
    assert merge(source, shared, anonymous=True).same == 3
    assert merge(shared, tmp_path / "again", anonymous=True).copied == 3  # as they are
    assert {r.hash for r in Store(tmp_path / "again").records()} == {
        r.hash for r in store.records()
    }


def test_copies_are_marked_as_not_to_be_run_again(source, tmp_path) -> None:
    shared = tmp_path / "shared"
    merge(source, shared, anonymous=True)
    copy = Store(shared).records()[0]
    assert copy.command.startswith("anonymous copy of record ")
    told = refused(medrobust("rerun", "--hash", copy.short, "--out", shared, check=2))
    assert "made again where its source lies" in told


def test_reports_cards_and_the_leaderboard_read_a_copy_like_any_store(source, tmp_path) -> None:
    shared, kept = tmp_path / "shared", {}
    merge(source, shared, anonymous=True)
    for folder in (source, shared):
        report(folder, html=False, figures=False)
        kept[folder] = pd.read_csv(folder / "leaderboard.csv")
    same = ["model", "norm", "eps", "n", "clean", "worst", "worst_low", "trust"]
    pd.testing.assert_frame_equal(kept[source][same], kept[shared][same])
    page = next(path for path in card(shared, robustness=True) if path.suffix == ".html")
    assert "the store holds no images" in page.read_text()
    bare = everything_in(shared)
    assert not [secret for secret in SECRETS if secret.encode() in bare]


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_the_key_is_the_users_alone(source, tmp_path, config) -> None:
    merge(source, tmp_path / "a", anonymous=True)
    path = config / KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == anonymous.key()
    path.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        merge(source, tmp_path / "b", anonymous=True)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(UserError, match="is no key"):
        merge(source, tmp_path / "b", anonymous=True)
    path.unlink()
    merge(source, tmp_path / "b", anonymous=True)
    names = [Store(tmp_path / f).arrays(Store(tmp_path / f).records()[0])["ids"] for f in "ab"]
    assert not set(names[0]) & set(names[1])
    assert all(re.fullmatch("p-[0-9a-f]{16}", name) for name in names[0])


def test_a_folder_of_other_records_takes_no_copies(source, tmp_path) -> None:
    with pytest.raises(UserError, match="not anonymous"):
        merge(source, source, anonymous=True)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "gallery").mkdir()
    with pytest.raises(UserError, match="other files"):
        merge(source, tmp_path / "used", anonymous=True)
    assert not list((tmp_path / "used").glob("*/*"))


def test_short_names_are_no_words_and_classes_keep_theirs(tmp_path) -> None:
    made = changed(record("late"), names__classes=[["0", "1"], ["0", "1"]])
    sign = dict(record("late", trust="failed").plain()["diagnostics"][0], text="5 of 16 samples")
    made = changed(made, diagnostics=[sign])
    store = Store(tmp_path)
    store.write(made, outcomes(made) | {"ids": np.arange(50).astype(str)})
    copy, arrays = Anonymous(b"k" * 32).copy(store, store.records()[0])
    assert copy.names.classes == [["0", "1"], ["0", "1"]]
    assert copy.diagnostics[0].text == "5 of 16 samples"
    assert not set(arrays["ids"]) & set(map(str, range(50)))
    assert {kind.folder for kind in KINDS} >= {"records", "validations"}


def test_what_parts_samples_by_age_or_sex_stays_behind(tmp_path) -> None:
    source = Store(tmp_path / "source")
    made = changed(record("late", 0.7), names__subgroups=["clinic.sex"])
    arrays = outcomes(made)
    cells = {"subgroup_clinic.sex": np.array(["female"] * len(arrays["labels"]))}
    source.write(made, arrays | cells)
    merge(tmp_path / "source", tmp_path / "shared", anonymous=True)
    copies = Store(tmp_path / "shared")
    (copy,) = copies.records()
    assert not copy.names.subgroups
    assert not [name for name in copies.arrays(copy) if name.startswith("subgroup")]
