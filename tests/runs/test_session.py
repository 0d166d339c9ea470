"""What a session gives to the commands: victims planned once, settings, samples, batches that fit."""

from pathlib import Path

import pytest
import torch

from robustbench_med.errors import UserError
from robustbench_med.runs.checks import check_attacks, check_threats, check_victims
from robustbench_med.runs.job import Job
from robustbench_med.runs.run import run
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import (
    CertifySpec,
    DiagnoseSpec,
    RunSpec,
    VictimsSpec,
    cells,
    victim_points,
)
from robustbench_med.training import checkpoints, presets

TINY = {"size": 16, "limit": 8, "model_params": {"width": 4}, "recipe": {"steps": 2}}


def opened(spec: VictimsSpec, folder: Path, check=check_victims) -> Session[VictimsSpec]:
    return Session.open(spec, Job(out=folder, device="cpu"), check)


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[object]:
    """The first argument of every call of a function from now on."""
    calls, function = [], getattr(module, name)

    def counting(first, *more, **named):
        calls.append(first)
        return function(first, *more, **named)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_each_network_of_a_grid_is_built_once_to_be_planned(tmp_path, monkeypatch) -> None:
    spec = RunSpec(
        model=["late", "gmu"],
        defense=["none", "pni"],
        attack=["fgsm", "transfer"],
        source=["early", "late"],
        eps=["1/255", "4/255"],
        seed=[0, 1],
        train_seed=[0, 5],
        **TINY,
    )
    session = opened(spec, tmp_path, check_attacks)
    built = counted(monkeypatch, presets, "build")
    session.victims.plan(cells(spec))
    session.victims.plan(cells(spec))
    assert len(built) == 2 * 2 + 2  # of the sources too: theirs may have parameters of their own
    plans = [session.victims.plans.of(point) for point in victim_points(spec)]
    assert {(plan.spec.model, len(plan.spec.defense), plan.spec.seed) for plan in plans} == {
        (model, layers, seed) for model in ("late", "gmu") for layers in (0, 1) for seed in (0, 5)
    }
    assert len(built) == 6


def test_weights_of_a_file_are_opened_once_for_all_cells(tmp_path, monkeypatch) -> None:
    job = Job(out=tmp_path, device="cpu")
    usual = RunSpec(model="late", attack="fgsm", control=False, **TINY)
    (first,) = run(usual, job)
    (weights,) = (tmp_path / "home" / "checkpoints").glob("late-*.safetensors")
    read = counted(monkeypatch, checkpoints, "read_sidecar")
    named = usual.model_copy(update={"checkpoint": weights, "eps": ["2/255", "4/255"]})
    records = run(named, job)
    assert first.hash in [record.hash for record in records]
    assert len(records) == 2
    assert len(read) == 1


def test_a_source_that_cannot_be_built_is_refused_before_the_first_training(tmp_path, home) -> None:
    spec = RunSpec(
        model="late",
        attack=["fgsm", "transfer"],
        source="early",
        size=16,
        model_params={"late.width": 4, "early.width": -4},
    )
    with pytest.raises(UserError, match="model 'early'"):
        run(spec, Job(out=tmp_path / "out", device="cpu"))
    assert not (home / "checkpoints").exists()


def test_settings_and_samples_follow_the_specification(tmp_path) -> None:
    threats = DiagnoseSpec(
        model="late", protocol="release", batch_draws=2, draws=3, chunk=5, size=16, limit=7
    )
    session = opened(threats, tmp_path, check_threats)
    (point,) = victim_points(threats)
    setting = session.setting(4)
    assert (setting.protocol, setting.batch_draws, setting.draws) == ("release", 2, 3)
    assert (setting.seed, setting.chunk, setting.device) == (4, 5, torch.device("cpu"))
    assert len(session.samples(point)) == 7
    certified = opened(CertifySpec(model="late", size=16, limit=0), tmp_path)
    assert (certified.setting(0).protocol, certified.setting(0).batch_draws) == ("sound", 1)
    assert len(certified.samples(point)) == len(certified.dataset(point).splits["test"]) > 64
    preset = opened(VictimsSpec(model=["late"], size=16), tmp_path)
    assert len(preset.samples(point)) == presets.preset("quick")["limit"]


def test_work_is_repeated_in_smaller_batches_and_chunks_stay_whole(tmp_path, capsys) -> None:
    session = opened(VictimsSpec(model=["late"], size=16, chunk=8), tmp_path)

    def work() -> int:
        if session.setting(0).batch_size > 40:
            raise torch.OutOfMemoryError
        return session.setting(0).batch_size

    def heaviest(n: int) -> None:
        if n > 2:
            raise torch.OutOfMemoryError

    assert session.fitted(work, heaviest, whole=False) == 32
    with pytest.raises(UserError, match="--chunk 2 fits"):
        session.fitted(lambda: heaviest(8), heaviest, whole=True)


def test_other_victims_of_a_session_share_its_data(tmp_path) -> None:
    session = opened(VictimsSpec(model=["late"], size=16), tmp_path)
    other = session.of(session.spec.model_copy(update={"model": ["early"]}))
    assert other.datasets is session.datasets
    assert other.batch is session.batch
    (point,) = victim_points(other.spec)
    assert other.victims.plans.of(point).spec.model == "early"
    assert not session.victims.plans.plans
