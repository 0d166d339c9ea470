"""Carried sweeps and cascades of whole runs: what they compute, what they keep, what they refuse."""

import itertools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli import asked, medrobust, refused
from support.own_victims import written

from robustbench_med.attacks import ATTACKS
from robustbench_med.errors import LeftOutWarning, UserError
from robustbench_med.reports import tables
from robustbench_med.runs import cell as cells
from robustbench_med.runs import chains, handed_on
from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.commands import command_of
from robustbench_med.runs.job import Job
from robustbench_med.runs.plan import plan
from robustbench_med.runs.run import grid_of, run
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store.failure import Failures
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

TINY: dict[str, Any] = {
    "attack": ["pgd"],
    "attack_params": {"pgd.steps": 3},
    "eps": ["32/255", "8/255", "16/255"],
    "size": 16,
    "limit": 24,
    "recipe": {"steps": 200, "lr": 0.01, "batch_size": 16},
    "challenge": False,
    "control": False,
}
RADII = {"eps": ["8/255", "16/255", "32/255"]}


def spec_of(folder: Path, **given: Any) -> RunSpec:
    """A sweep of a small network, whose file is in the folder."""
    return RunSpec(**{"model": [written(folder)], **TINY, **given})


def ran(out: Path, **given: Any) -> list[Record]:
    return run(spec_of(out.parent, **given), Job(out=out, device="cpu"))


def session_of(out: Path, **given: Any) -> Session[RunSpec]:
    return Session.open(spec_of(out.parent, **given), Job(out=out, device="cpu"), check_attacks)


def handed(out: Path) -> list[Path]:
    return list((out / handed_on.FOLDER).glob("*"))


@pytest.fixture
def attacks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Every attack of a cell as it begins, by name and largest radius."""
    seen: list[tuple[str, float]] = []
    real: Callable[..., Any] = cells.attack_pass

    def noted(victim, samples, clean, threat, method, *more):
        seen.append((method.name, round(255 * max(threat.radii))))
        return real(victim, samples, clean, threat, method, *more)

    monkeypatch.setattr(cells, "attack_pass", noted)
    return seen


def test_a_sweep_is_carried_from_the_smallest_radius(tmp_path, attacks) -> None:
    carried = ran(tmp_path / "chain", carry=True, control=True)
    assert attacks == [(name, radius) for radius in (8, 16, 32) for name in ("noise", "pgd")]
    alone = ran(tmp_path / "alone", control=True, eps=["8/255", "32/255"])
    noise, pgd = carried[::2], carried[1::2]
    assert [noise[0].hash, noise[2].hash] == [record.hash for record in alone[::2]]
    assert pgd[0].hash == alone[1].hash
    assert not any(record.carried or record.spec.carried for record in (*noise, pgd[0]))
    assert pgd[2].hash != alone[3].hash
    assert pgd[2].cost.attack_backward < alone[3].cost.attack_backward
    for before, after in itertools.pairwise(pgd):
        assert after.spec.carried.record == before.hash
        assert after.carried.n > 0
        assert after.figures.robust <= before.figures.robust
        assert any(sign.sign == "not monotone" for sign in after.diagnostics)
    assert handed(tmp_path / "chain") == []
    marks = tables.cells(carried).set_index(["attack", "eps"]).marks.str.contains("carried")
    assert {key for key, marked in marks.items() if marked} == {
        ("pgd", "16/255"),
        ("pgd", "32/255"),
    }


def test_the_command_of_a_record_is_its_sweep(tmp_path) -> None:
    first, second, last = ran(tmp_path / "chain", carry=True)
    words = {record.hash: shlex.split(record.command)[2:] for record in (first, second, last)}
    assert "--carry" not in words[first.hash]
    assert [word for word in words[second.hash] if "/255" in word] == ["8/255", "16/255"]
    spec, _ = asked("run", *words[last.hash])
    assert isinstance(spec, RunSpec)
    again = run(spec, Job(out=tmp_path / "again", device="cpu"))
    assert [record.hash for record in again] == list(words)
    kept = {path.name for path in Store(tmp_path / "chain").paths()}
    medrobust("rerun", "--hash", second.hash[:12], "--out", tmp_path / "chain")
    assert {path.name for path in Store(tmp_path / "chain").paths()} == kept


def test_a_sweep_that_was_interrupted_goes_on_from_what_was_handed_on(
    tmp_path, attacks, monkeypatch
) -> None:
    whole = ran(tmp_path / "whole", carry=True)
    out, noted = tmp_path / "parts", cells.attack_pass

    def interrupted(victim, samples, clean, threat, *more):
        if round(255 * max(threat.radii)) == 32:
            raise KeyboardInterrupt
        return noted(victim, samples, clean, threat, *more)

    monkeypatch.setattr(cells, "attack_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ran(out, carry=True)
    assert len(handed(out)) == 1
    found = handed_on.kept(out, whole[1].hash)
    monkeypatch.setattr(cells, "attack_pass", noted)
    attacks.clear()
    assert [record.hash for record in ran(out, carry=True)] == [record.hash for record in whole]
    assert attacks == [("pgd", 32)]
    assert handed(out) == []
    arrays = Store(out).arrays(whole[1])
    broken = np.flatnonzero((arrays["clean_right"] > arrays["robust_right"]).any(1))
    assert sorted(found or ()) == broken.tolist()


def test_what_is_no_more_handed_on_is_attacked_again(tmp_path, attacks) -> None:
    whole = ran(tmp_path / "whole", carry=True)
    out = tmp_path / "longer"
    ran(out, carry=True, eps=["8/255", "16/255"])
    attacks.clear()
    made = ran(out, carry=True)
    assert attacks == [("pgd", 8), ("pgd", 16), ("pgd", 32)]
    for one, other in zip(whole, made, strict=True):
        assert (one.hash, one.digests.outcomes) == (other.hash, other.digests.outcomes)
    assert handed(out) == []


def test_what_is_handed_on_comes_back_bit_by_bit_or_not_at_all(tmp_path) -> None:
    given = {7: torch.rand(9), 2: torch.rand(9)}
    handed_on.keep(tmp_path, "0a" * 32, given)
    found = handed_on.kept(tmp_path, "0a" * 32)
    assert found is not None
    assert found.keys() == given.keys()
    assert all(torch.equal(found[row], given[row]) for row in given)
    (path,) = handed(tmp_path)
    whole = path.read_bytes()
    for content in (whole[:50], whole[:-30], b"", b"no archive"):
        path.write_bytes(content)
        assert handed_on.kept(tmp_path, "0a" * 32) is None
    handed_on.forget(tmp_path, "0a" * 32)
    assert handed_on.kept(tmp_path, "0a" * 32) is None
    handed_on.keep(tmp_path, "0b" * 32, {})
    assert handed_on.kept(tmp_path, "0b" * 32) == {}


@pytest.mark.parametrize(
    ("switch", "attacks", "eps"),
    [("carry", ["fgsm"], ["1/255", "4/255"]), ("cascade", ["fgsm", "bim"], ["4/255"])],
)
def test_a_random_victim_is_attacked_by_itself_and_says_so(switch, attacks, eps, tmp_path) -> None:
    given = {"defense": ["input-noise"], "attack": attacks, "eps": eps, "draws": 2, "limit": 4}
    given["attack_params"] = {}
    alone = ran(tmp_path / "alone", **given)
    by_itself = ran(tmp_path / switch, **given, **{switch: True})
    assert [record.hash for record in by_itself] == [record.hash for record in alone]
    assert all(f"--{switch} is for deterministic" in record.notes[-1] for record in by_itself)
    assert not any("deterministic" in note for record in alone for note in record.notes)
    assert not any(f"--{switch}" in record.command for record in by_itself)


def test_cells_behind_one_that_fails_fail_too_and_are_mended_with_it(tmp_path, monkeypatch) -> None:
    flag, out = tmp_path / "broken", tmp_path / "o"
    flag.touch()

    def fragile(view, x, y, threat, streams):
        if round(255 * max(threat.radii)) == 16 and flag.exists():
            raise RuntimeError("no")
        return (x + threat.radii[0] / 2).clamp(0, 1)

    monkeypatch.setitem(ATTACKS, "fragile", fragile)
    given = {"attack": ["fragile"], "attack_params": {}, "carry": True}
    with pytest.warns(LeftOutWarning, match="2 of 3 cells failed"):
        (made,) = ran(out, **given)
    failures = Failures(out).all()
    texts = sorted(failure.error for failure in failures)
    assert texts[0] == "RuntimeError: no"
    assert "the record that it starts from is not there: model.py:build fragile 16/255" in texts[1]
    assert all("carry=True" in failure.command for failure in failures)
    flag.unlink()
    assert ran(out, **given)[0].hash == made.hash
    assert Failures(out).all() == []


def test_a_cascade_shows_the_worst_case_of_all(tmp_path, attacks) -> None:
    given = {"attack": ["fgsm", "bim", "pgd"], "eps": ["16/255"], "control": True}
    given["attack_params"] = {"pgd.steps": 3, "bim.steps": 2}
    records = ran(tmp_path / "cascade", cascade=True, **given)
    alone = ran(tmp_path / "alone", **given)
    assert [r.hash for r in records[:2]] == [r.hash for r in alone[:2]]
    _, fgsm, bim, pgd = records
    assert (bim.spec.attack.after, pgd.spec.attack.after) == (["fgsm"], ["fgsm", "bim"])
    assert pgd.spec.carried.record == bim.hash
    assert pgd.figures.robust <= bim.figures.robust <= fgsm.figures.robust
    assert pgd.carried.n > 0 == pgd.carried.afresh
    assert pgd.cost.attack_backward < alone[3].cost.attack_backward
    assert not any(sign.sign == "not monotone" for sign in pgd.diagnostics)
    assert sorted(tables.cells(records).attack) == ["cascade fgsm+bim+pgd", "fgsm", "noise"]
    spec, _ = asked("run", *shlex.split(pgd.command)[2:])
    assert (spec.attack, spec.cascade) == (given["attack"], True)  # type: ignore[attr-defined]
    assert spec.attack_params == given["attack_params"]  # type: ignore[attr-defined]
    _, *made = run(spec, Job(out=tmp_path / "again", device="cpu"))  # type: ignore[arg-type]
    assert made[-1].hash == pgd.hash


def chains_in(session: Session[RunSpec]) -> set[tuple[tuple[str, str], ...]]:
    """The chains of a grid, as attacks and radii."""
    grid = grid_of(session)
    found = (chains.chain_of(cell, session) for cell in grid)
    for chain in (chains.chain_of(cell, session) for cell in grid):
        places = [grid.index(cell) for cell in chain]
        assert places == sorted(places)
    return {tuple((cell.attack, cell.eps) for cell in chain) for chain in found}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"eps": ["mri=4/255,xray=0", "mri=1/255", "xray=2/255", "4/255"]},
            {
                ("mri=1/255", "mri=4/255,xray=0", "4/255"),
                ("xray=2/255",),
            },
        ),
        ({"eps": ["8/255", "1/255"], "norm": ["Linf"]}, {("1/255", "8/255")}),
        (
            {"eps": ["Linf:4/255,1/255", "L2:0.5,0.1"], "norm": ["Linf", "L2"]},
            {("1/255", "4/255"), ("0.1", "0.5")},
        ),
        (
            {"eps": ["4/255", "1/255"], "cross_modal": True},
            {("mri=1/255", "mri=4/255"), ("xray=1/255", "xray=4/255")},
        ),
        (
            {"eps": ["4/255", "1/255"], "attack": ["fmn"], "attack_params": {}},
            {("4/255",), ("1/255",)},
        ),
    ],
)
def test_balls_that_hold_each_other_are_chains(given, expected, tmp_path) -> None:
    found = chains_in(session_of(tmp_path / "o", carry=True, **given))
    assert {tuple(eps for _, eps in chain) for chain in found} == expected


def test_every_attack_has_its_chain_and_the_noise_none(tmp_path) -> None:
    given = {"attack": ["fgsm", "pgd"], "eps": ["1/255", "4/255"], "control": True}
    carried = chains_in(session_of(tmp_path / "o", carry=True, **given))
    single = {(("noise", eps),) for eps in given["eps"]}
    assert carried == single | {tuple((a, e) for e in given["eps"]) for a in given["attack"]}
    cascaded = chains_in(session_of(tmp_path / "o", cascade=True, **given))
    assert cascaded == single | {tuple((a, e) for a in given["attack"]) for e in given["eps"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--carry --cascade", "take one of them"),
        ("--carry --protocol release", "--carry is for the protocol sound"),
        ("--cascade --target random", "leave out --target"),
        ("--cascade --attack pgd,fmn", "fmn measures the smallest perturbation"),
    ],
)
def test_what_cannot_be_a_chain_is_one_line(words: str, message: str, tmp_path) -> None:
    done = medrobust("run", "--model", "late", *words.split(), "--out", tmp_path / "o", check=2)
    assert message in refused(done)
    assert not (tmp_path / "o").exists()
    RunSpec(model=["late"], cascade=True, attack=["fmn", "pgd"])


def test_a_plan_of_a_sweep_is_an_upper_bound_and_knows_what_is_done(tmp_path) -> None:
    spec, out = spec_of(tmp_path, carry=True), tmp_path / "o"
    planned = plan(spec, Job(out=out, device="cpu"))
    assert len(planned.to_do) == 3
    for cell, record in zip(planned.cells, ran(out, carry=True), strict=True):
        most, cost = cell.passes, record.cost
        assert cell.cell.eps == record.eps
        assert most is not None
        spent = cost.attack_forward + cost.attack_backward
        assert spent < most.forward + most.backward
    assert not plan(spec, Job(out=out, device="cpu")).to_do
    other = plan(spec_of(tmp_path, **RADII), Job(out=out, device="cpu"))
    assert [cell.state for cell in other.cells] == ["done", "to do", "to do"]


def test_commands_of_cells_alone_are_as_before(tmp_path) -> None:
    session = session_of(tmp_path / "o")
    cell = grid_of(session)[0]
    command = command_of([cell], session.spec, 24, session.dataset(cell))
    carried = session.spec.model_copy(update={"carry": True})
    assert command == command_of([cell], carried, 24, session.dataset(cell))
    with pytest.raises(UserError, match="take one of them"):
        check_attacks(carried.model_copy(update={"cascade": True}))


@pytest.mark.slow
@pytest.mark.challenged  # signs tried as in processes of their own
@pytest.mark.parametrize("switch", ["carry", "cascade"])
def test_the_tables_of_chains_are_the_same_with_two_processes(switch: str, tmp_path) -> None:
    words = ["run", "--model", "late,early", "--model-param", "width=4", "--size", 16]
    words += ["--limit", 8, "--recipe", "steps=8", "--attack", "fgsm,bim", "--no-challenge"]
    words += ["--eps", "4/255,1/255", "--threads", 1, f"--{switch}"]
    tables = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        medrobust(*words, "--jobs", jobs, "--out", out)
        tables.append(
            [(out / f"{name}.csv").read_bytes() for name in ("leaderboard", "cells", "records")]
        )
        assert handed(out) == []
    assert tables[0] == tables[1]
