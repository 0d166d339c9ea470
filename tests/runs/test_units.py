"""Units of a grid: every cell in one, the same for every process that asks, plain data."""

import json
from pathlib import Path

import pytest
from support.failing import breakable

from robustbench_med.errors import UserError
from robustbench_med.progress import Display
from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.job import Job
from robustbench_med.runs.requests import request_hash
from robustbench_med.runs.run import grid_of
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.runs.units import Unit, of_shard, shard_of, units_of

SPEC = {
    "model": ["late", "gmu"],
    "defense": ["none", "pgd-at", "jpeg"],
    "attack": ["fgsm", "pgd"],
    "eps": ["1/255", "4/255"],
    "seed": [0, 1],
    "train_seed": [0, 5],
    "size": 16,
    "limit": 4,
    "model_params": {"late.width": 4},
}


def planned(out: Path, **changes: object) -> tuple[list[Unit], Session[RunSpec]]:
    """The units of a grid, and its session."""
    session = Session.open(
        RunSpec.model_validate(SPEC | changes), Job(out=out, device="cpu"), check_attacks
    )
    grid = grid_of(session)
    session.victims.plan(grid)
    return units_of(grid, session), session


def test_a_unit_holds_all_cells_of_one_victim_and_every_cell_is_in_one(tmp_path) -> None:
    units, session = planned(tmp_path)
    assert len(units) == len({unit.key for unit in units}) == 2 * 3 * 2
    assert [number for unit in units for number in unit.numbers] == list(range(1, 145))
    assert [cell for unit in units for cell in unit.cells] == grid_of(session)
    for unit in units:
        victims = {(cell.model, cell.defense, cell.train_seed) for cell in unit.cells}
        assert len(victims) == 1
        assert len(unit.cells) == 2 * 2 * 3


def test_the_key_is_the_victims_whatever_it_is_attacked_with(tmp_path) -> None:
    keys = [unit.key for unit in planned(tmp_path)[0]]
    other = {"attack": ["bim"], "eps": ["2/255"], "seed": [3], "draws": 2}
    assert [unit.key for unit in planned(tmp_path / "other", **other)[0]] == keys
    assert not set(keys) & {unit.key for unit in planned(tmp_path, size=20)[0]}
    trained = {unit.key for unit in planned(tmp_path, recipe={"steps": 7})[0]}
    assert not set(keys) & trained


def test_a_unit_is_plain_data_and_can_lose_cells(tmp_path) -> None:
    unit = planned(tmp_path)[0][3]
    assert Unit.model_validate(json.loads(unit.written())) == unit
    rest = unit.without({unit.numbers[0], unit.numbers[2]})
    assert rest is not None
    assert (rest.numbers, len(rest.cells)) == ([unit.numbers[1], *unit.numbers[3:]], 10)
    assert rest.cells[0] == unit.cells[1]
    assert unit.without(set(unit.numbers)) is None


def test_a_parameter_that_is_no_plain_value_stays_in_this_process(tmp_path) -> None:
    unit = planned(tmp_path)[0][0]
    odd = unit.spec.model_copy(update={"attack_params": {"loss": object()}})
    with pytest.raises(UserError, match="cannot be given to another process"):
        unit.model_copy(update={"spec": odd}).written()


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_every_unit_falls_to_one_shard(n: int, tmp_path) -> None:
    units, _ = planned(tmp_path)
    shards = [of_shard(units, f"{i}/{n}") for i in range(1, n + 1)]
    assert sorted(unit.key for shard in shards for unit in shard) == sorted(u.key for u in units)
    assert sum(len(shard) for shard in shards) == len(units)
    if n == 2:
        assert all(shards)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--shard takes i/n"):
        shard_of(text)


def test_a_request_is_known_before_the_training_and_outlives_a_mended_source(tmp_path) -> None:
    def asked() -> list[str]:
        units, session = planned(tmp_path, model=[breakable(tmp_path)], defense=["none"],
                                 model_params={})  # fmt: skip
        return [request_hash(cell, session) for unit in units for cell in unit.cells]

    hashes = asked()
    assert len(set(hashes)) == len(hashes) == 24
    file = tmp_path / "breakable.py"
    file.write_text(file.read_text().replace("no gradient today", "mended"))
    assert asked() == hashes
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_job_is_given_to_another_process_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job(out=Path("o"), device="cpu", data_root=Path("d"), force=True, threads=2, jobs="3")
    display = Display(quiet=True)
    there = Job.of(json.loads(json.dumps(job.plain())), display)
    assert there == Job(
        out=tmp_path / "o",
        device="cpu",
        data_root=tmp_path / "d",
        force=True,
        threads=2,
        jobs="3",
        display=display,
    )
