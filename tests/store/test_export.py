"""Runs and trainings sent to MLflow and TensorBoard, and read back; each skips where its package is
not installed.
"""

from pathlib import Path

import pytest
from support.records import record

from robustbench_med.errors import UserError
from robustbench_med.store import loggers
from robustbench_med.store import tracking as export

SIDECAR = {
    "training": {"model": "mail", "data": "phantoms", "params": {"width": 8}, "seed": 0},
    "weights_sha256": "ab" * 32,
    "history": [
        {"step": 10, "train_loss": 0.9, "val_loss": 1.0},
        {"step": 20, "train_loss": 0.5, "val_loss": 0.75},
    ],
    "validation": [{"task": "lung", "accuracy": 0.8, "balanced_accuracy": 0.75}],
}


@pytest.fixture
def runs(tmp_path) -> list[export.Tracked]:
    """One sweep of two radii, one training, with their files."""
    from PIL import Image

    (tmp_path / "leaderboard.csv").write_text("model\nmail\n")
    Image.new("RGB", (8, 4)).save(tmp_path / "robust_accuracy.png")
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"w")
    weights.with_suffix(".json").write_text("{}")
    sweep = [record("mail", 0.5, eps=4 / 255), record("mail", 0.75, eps=1 / 255)]
    return [*export.of_run(sweep, tmp_path), export.of_training(SIDECAR, weights)]


def test_a_sweep_is_one_run_with_a_step_for_each_radius(runs) -> None:
    assert len(runs) == 2
    assert [p for p in runs[0].points if p[0] == "robust"] == [
        ("robust", 4000, 0.5),
        ("robust", 1000, 0.75),
    ]
    assert ("robust_low", 4000, 0.4) in runs[0].points
    assert runs[0].params["eps"] == "4/255 1/255"
    assert [p for p in runs[1].points if p[0] == "val_loss"] == [
        ("val_loss", 10, 1.0),
        ("val_loss", 20, 0.75),
    ]


def test_other_attacks_and_other_trusted_modalities_are_runs_of_their_own(tmp_path) -> None:
    apart = [
        record(attack="pgd"),
        record(attack="fgsm"),
        record(eps=[4 / 255, 0]),
        record(eps=[0, 4 / 255]),
    ]
    assert len(export.of_run(apart, tmp_path)) == 4


def test_names_tell_the_radii_and_runs_over_other_radii_have_names_of_their_own(tmp_path) -> None:
    four, one, eight = (record("mail", 0.5, eps=e / 255) for e in (4, 1, 8))
    (alone,) = export.of_run([four], tmp_path)
    assert alone.name == f"mail pgd Linf 4/255 heads+chests {four.hash[:8]}"
    runs = [
        export.of_run(sweep, tmp_path)[0].name
        for sweep in ([one, four], [one, eight], [one, four, eight], [one], [four])
    ]
    assert runs[0].startswith("mail pgd Linf 1/255 to 4/255 heads+chests ")
    assert len({loggers.folder_name(name) for name in runs}) == 5
    assert loggers.folder_name(alone.name) == f"mail-pgd-Linf-4-255-heads_chests-{four.hash[:8]}"
    (trusted,) = export.of_run([record(eps=[4 / 255, 0])], tmp_path)
    assert loggers.folder_name(trusted.name).startswith("mail-pgd-Linf-mri_4-255_xray_0-")


@pytest.mark.parametrize("extra", ["mlflow", "tensorboard", "wandb"])
def test_an_absent_package_is_one_line_with_the_pip_command(
    extra: str, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"pip install 'medrobust\[{extra}\]'"):
        loggers.check(loggers.loggers_of(**{extra: str(tmp_path)}))


def test_tensorboard_events_read_back(runs, tmp_path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loggers.write(runs, loggers.loggers_of(tensorboard=tmp_path / "events"))
    found = {
        folder.name.split("-")[0]: EventAccumulator(str(folder)).Reload()
        for folder in (tmp_path / "events").iterdir()
    }
    assert {e.step: e.value for e in found["mail"].Scalars("robust")} == {4000: 0.5, 1000: 0.75}
    assert [e.value for e in found["train"].Scalars("val_loss")] == [1.0, 0.75]
    assert found["mail"].Tags()["images"] == ["robust_accuracy"]


def test_an_mlflow_folder_reads_back(runs, tmp_path) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    uri = (tmp_path / "mlruns").as_uri()
    loggers.write(runs, loggers.loggers_of(mlflow=uri))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(loggers.EXPERIMENT)
    found = {
        run.info.run_name.split(" ")[0]: run
        for run in client.search_runs([experiment.experiment_id])
    }
    swept, trained = found["mail"], found["train"]
    assert swept.data.params["attack.params.steps"] == "20"
    assert {m.step: m.value for m in client.get_metric_history(swept.info.run_id, "robust")} == {
        4000: 0.5,
        1000: 0.75,
    }
    assert [m.value for m in client.get_metric_history(trained.info.run_id, "train_loss")] == [
        0.9,
        0.5,
    ]
    artefacts = Path(
        tmp_path / "mlruns" / experiment.experiment_id / swept.info.run_id / "artifacts"
    )
    assert sorted(p.name for p in artefacts.iterdir()) == ["leaderboard.csv", "robust_accuracy.png"]
    assert swept.info.status == "FINISHED"


@pytest.mark.slow
def test_weights_and_biases_reads_back_without_a_network(runs, tmp_path, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    loggers.write(runs, loggers.loggers_of(wandb="medrobust"))
    written = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(written) == len(runs)
    logged = b"".join(path.read_bytes() for path in written)
    assert b"val_loss" in logged
    assert b"robust" in logged
