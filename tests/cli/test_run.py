"""`medrobust run`: whole runs on small drawn data, killed and resumed ones, and the commands that
read what a run leaves.
"""

import json
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from support.cli import SMALL, medrobust, refused, small_run
from support.stores import cells_csv

from robustbench_med.store.record import Record


def test_a_run_leaves_tables_records_and_a_figure_and_a_second_one_computes_nothing(
    drawn_root, tmp_path
) -> None:
    out, run = tmp_path / "out", small_run(drawn_root, tmp_path / "out", "--no-challenge")
    first = medrobust(*run)
    for name in ("leaderboard.csv", "cells.csv", "records.csv", "cost.csv", "robust_accuracy.png"):
        assert (out / name).stat().st_size > 200
    board = cells_csv(out)
    assert len(board) == 2 * 3 * 2  # models x (noise, fgsm, pgd) x radii
    assert board.robust.is_monotonic_decreasing
    assert board.synthetic.all()
    assert (board.robust_low <= board.robust).all()
    assert (board.robust <= board.robust_high).all()
    assert set(board.n_distinct) == {12}  # the shorter set cycles; its repeats are no new evidence
    assert set(board[board.model == "mail"].draws) == {3}  # each sample has its own
    assert set(board[board.model == "late"].draws) == {1}
    records = pd.read_csv(out / "records.csv")
    assert set(records.metric) >= {
        "clean",
        "robust",
        "robust_low",
        "asr",
        "balanced_accuracy",
        "auc",
    }
    assert "wilson" in first.stderr.lower()
    assert "synthetic" in first.stdout

    before = {p: p.stat().st_mtime_ns for p in (out / "records").iterdir()}
    text = (out / "leaderboard.csv").read_bytes()
    again = medrobust(*run)
    assert again.stderr.count("done before") == 12
    assert {p: p.stat().st_mtime_ns for p in (out / "records").iterdir()} == before
    assert (out / "leaderboard.csv").read_bytes() == text

    (out / "leaderboard.csv").unlink()
    medrobust("leaderboard", "--out", out)
    assert (out / "leaderboard.csv").read_bytes() == text

    shown = medrobust("show", records.record[0], "--out", out)
    assert "weights" in shown.stdout
    record = json.loads(medrobust("show", records.record[0], "--out", out, "--json").stdout)
    assert record["hash"].startswith(records.record[0])
    arrays = np.load(next((out / "records").glob(f"{records.record[0]}*.npz")))
    assert arrays["robust_right"].shape == (16, 2)


@pytest.mark.slow
@pytest.mark.challenged  # as in the process that is killed
def test_a_run_killed_in_the_middle_and_resumed_gives_the_leaderboard_of_an_uninterrupted_one(
    drawn_root, tmp_path, home
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    medrobust(*small_run(drawn_root, whole, "--limit", 6, model="late"))
    command = [
        sys.executable,
        "-m",
        "robustbench_med.cli",
        *map(str, small_run(drawn_root, killed, "--limit", 6, model="late")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while len(list((killed / "records").glob("*.json"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    done = len(list((killed / "records").glob("*.json")))
    assert 3 <= done < 6
    resumed = medrobust(*small_run(drawn_root, killed, "--limit", 6, model="late"))
    assert done <= resumed.stderr.count("done before") <= done + 1
    assert (killed / "leaderboard.csv").read_bytes() == (whole / "leaderboard.csv").read_bytes()
    assert (killed / "records.csv").read_bytes() == (whole / "records.csv").read_bytes()


def test_a_run_file_and_options_make_the_same_records(drawn_root, tmp_path) -> None:
    medrobust(*small_run(drawn_root, tmp_path / "a", model="late", attack="fgsm"))
    (tmp_path / "run.yaml").write_text(
        "model: late\nattack: fgsm\neps: [1/255, 8/255]\ndata:"
        f" {drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}\ndraws: 3\nsize: 32\nrecipe:"
        " {steps: 4, eval_every: 2, batch_size: 8}\nmodel_param: {late.width: 8}\n"
    )
    medrobust(
        "run", "--config", tmp_path / "run.yaml", "--data-root", drawn_root, "--out", tmp_path / "b"
    )
    assert (tmp_path / "a" / "leaderboard.csv").read_bytes() == (
        tmp_path / "b" / "leaderboard.csv"
    ).read_bytes()


@pytest.mark.slow
def test_the_command_in_a_record_makes_the_record_again(drawn_root, tmp_path) -> None:
    out = tmp_path / "a"
    medrobust(
        *small_run(
            drawn_root, out, "--target-task", "xray-task", "--limit", 6, model="mail", attack="pgd"
        )
    )
    paths = sorted((out / "records").glob("*.json"))
    record = next(
        r
        for r in (json.loads(p.read_text()) for p in paths)
        if r["spec"]["attack"]["name"] == "pgd"
    )
    command = shlex.split(record["command"])[1:]
    data = command.index("--data") + 1
    assert command[data] == f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    medrobust(*command, "--out", tmp_path / "b")
    again = json.loads((tmp_path / "b" / "records" / f"{record['hash'][:16]}.json").read_text())
    assert again["figures"] == record["figures"]


def test_a_radius_per_modality_and_a_target_task(drawn_root, tmp_path) -> None:
    medrobust(
        *small_run(
            drawn_root,
            tmp_path,
            "--eps",
            "mri=8/255,xray=0",
            "--target-task",
            "1",
            model="late",
            attack="fgsm",
        )
    )
    board = cells_csv(tmp_path)
    assert "mri=8/255,xray=0" in set(board.eps)
    assert set(board.target) == {"xray-task"}
    for path in (tmp_path / "records").glob("*.json"):
        radii = json.loads(path.read_text())["spec"]["threat"]["radii"]
        if radii[1] == 0:
            assert (np.load(path.with_suffix(".npz"))["linf"][:, 1] == 0).all()


def test_a_naive_attack_on_a_random_model_is_announced_and_marked(drawn_root, tmp_path) -> None:
    done = medrobust(
        *small_run(drawn_root, tmp_path, "--protocol", "release", model="mail", attack="fgsm")
    )
    assert "over-estimate" in done.stderr
    board = cells_csv(tmp_path)
    assert board[board.attack == "fgsm"].marks.str.contains("naive").all()
    assert set(board.draws) == {1}


def test_evaluation_seeds_are_pooled_and_the_spread_is_over_trainings(drawn_root, tmp_path) -> None:
    medrobust(
        *small_run(
            drawn_root,
            tmp_path,
            "--seed",
            "0,1",
            "--train-seed",
            "0,1",
            model="late",
            attack="fgsm",
        )
    )
    board = cells_csv(tmp_path)
    assert set(zip(board.trainings, board.evaluation_seeds, strict=True)) == {(2, 2)}
    assert board.robust_std.notna().all()


@pytest.mark.slow
def test_folds_train_a_victim_each_and_test_every_sample_once(drawn_root, tmp_path) -> None:
    run = small_run(drawn_root, tmp_path, "--folds", 2, model="late", attack="fgsm")
    medrobust(*run, "--limit", 0)
    board = cells_csv(tmp_path)
    assert set(zip(board.folds, board.trainings, board.n, strict=True)) == {(2, 2, 80)}
    assert set(pd.read_csv(tmp_path / "per_class.csv").samples) == {80}
    paths = sorted((tmp_path / "records").glob("*.json"))
    found = {
        json.loads(p.read_text())["spec"]["data"]["fold"]["number"]: (
            json.loads(p.read_text()),
            np.load(p.with_suffix(".npz")),
        )
        for p in paths
    }
    tested = [sample.split("+")[0] for _, outcomes in found.values() for sample in outcomes["ids"]]
    assert len(tested) == len(set(tested)) == 80
    assert len({record["spec"]["victim"]["weights_sha256"] for record, _ in found.values()}) == 2
    assert "--folds 2 --fold 1" in found[1][0]["command"]
    assert (
        "done before"
        in medrobust(*shlex.split(found[1][0]["command"])[1:], "--out", tmp_path).stderr
    )
    assert "not trained on it" in refused(medrobust(*run, "--checkpoint", tmp_path / "x", check=2))


def test_trained_weights_can_be_exported_and_run_as_a_checkpoint(drawn_root, tmp_path) -> None:
    data = f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    common = ["--data", data, "--data-root", drawn_root, "--size", 32]
    medrobust(
        "train",
        "--model",
        "late",
        *common,
        "--recipe",
        "steps=2",
        "--model-param",
        "width=8",
        "--out",
        tmp_path / "w",
    )
    (weights,) = (tmp_path / "w").glob("*.safetensors")
    run = ["run", "--attack", "fgsm", *common, "--out", tmp_path / "o"]
    medrobust(*run, "--model", "late", "--checkpoint", weights)  # the width is in the sidecar
    assert cells_csv(tmp_path / "o").gflops.gt(0).all()
    assert (
        "was trained as 'late', not 'mail'"
        in medrobust(*run, "--model", "mail", "--checkpoint", weights, check=2).stderr
    )
    weights.with_suffix(".json").unlink()
    assert (
        "does not fit"
        in medrobust(*run, "--model", "late", "--checkpoint", weights, check=2).stderr
    )


def test_a_record_that_is_missing_is_refused_and_a_damaged_one_left_out(
    drawn_root, tmp_path
) -> None:
    medrobust(*small_run(drawn_root, tmp_path, model="late", attack="fgsm"))
    assert "no record" in refused(medrobust("show", "ffffffff0000", "--out", tmp_path, check=2))
    path = next((tmp_path / "records").glob("*.json"))
    path.write_text("{")
    done = medrobust("leaderboard", "--out", tmp_path, check=1)
    assert f"1 of 4 files in {tmp_path / 'records'} left out" in done.stderr
    assert f"{path}: it is not a readable record" in done.stderr
    assert len(cells_csv(tmp_path)) == 3
    assert "holds no records" in refused(
        medrobust("leaderboard", "--out", tmp_path / "empty", check=2)
    )


@pytest.mark.slow
def test_a_cross_modal_run_attacks_every_modality_and_task_alone_and_every_record_says_how_far_to_trust_it(
    drawn_root, tmp_path
) -> None:
    out = tmp_path / "out"
    done = medrobust(*small_run(drawn_root, out, "--cross-modal", model="late", attack="fgsm"))
    said = " ".join(done.stderr.split())
    assert "cross_modal.csv, cross_modal.png, robust_accuracy.png" in said
    assert (out / "cross_modal.png").stat().st_size > 5_000
    assert (
        len(pd.read_csv(out / "cross_modal.csv").query("attack == 'fgsm'")) == 2 * 2 * 2
    )  # modalities x tasks x radii
    shown = " ".join(medrobust("report", "--out", out, "--no-html", "--no-figures").stdout.split())
    for part in ("Cost of one sample on", "Robust accuracy by class", "attacked modality"):
        assert part in shown
    assert medrobust("report", "--out", out, "--no-html", "--no-figures", "--quiet").stdout == ""
    records = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    seen = {
        (
            tuple(r > 0 for r in record["spec"]["threat"]["radii"]),
            tuple(record["spec"]["threat"]["tasks"]),
        )
        for record in records
    }
    assert seen == {((m == 0, m == 1), (t,)) for m in (0, 1) for t in (0, 1)}
    for record in records:
        worst = max(
            (sign["verdict"] for sign in record["diagnostics"]),
            key=["fine", "doubtful", "failed"].index,
        )
        assert worst == record["diagnostics"][0]["verdict"]
        assert "trust" not in record  # it is computed on reading
        assert ("no better than noise" in {sign["sign"] for sign in record["diagnostics"]}) == (
            record["spec"]["attack"]["name"] == "fgsm"
        )


@pytest.mark.parametrize(
    ("attack", "given"),
    [
        ("fab", ["--attack-param", "steps=3", "--attack-param", "targets=1"]),
        ("fgsm", ["--attack-param", "eot=2"]),
    ],
)
def test_one_search_serves_all_radii_and_gives_what_each_radius_alone_gives(
    attack, given, drawn_root, tmp_path
) -> None:
    data = f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    base = ["run", "--model", "late", "--model-param", "width=8", "--attack", attack, "--data", data, "--data-root", drawn_root, *SMALL, *given, "--limit", 6,
            "--no-control"]  # fmt: skip
    medrobust(*base, "--eps", "1/255,32/255", "--out", tmp_path / "sweep")
    medrobust(*base, "--eps", "32/255", "--out", tmp_path / "alone")
    path = next((tmp_path / "alone" / "records").glob("*.json"))
    swept, alone = (
        json.loads(file.read_text()) for file in (tmp_path / "sweep" / "records" / path.name, path)
    )
    assert swept["figures"] == alone["figures"]
    assert ("minimal_norm" in swept["figures"]) == (attack == "fab")
    for key in ("attack_forward", "attack_backward", "evaluation_forward"):
        assert swept["cost"][key] == alone["cost"][key] > 0


def test_a_record_says_which_autoattack_ran_and_which_loss_a_task_got(drawn_root, tmp_path) -> None:
    data = f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    base = ["run", "--model", "late,mail", "--model-param", "width=16", "--data", data, "--data-root", drawn_root, *SMALL, "--limit", 2, "--draws", 2, "--no-control",
            "--attack", "autoattack", "--attack-param", "steps=1", "--attack-param", "targets=1", "--attack-param", "queries=1",
            "--attack-param", "eot=1"]  # fmt: skip
    medrobust(*base, "--out", tmp_path)
    found = {}
    for path in (tmp_path / "records").glob("*.json"):
        record = json.loads(path.read_text())
        Record.model_validate(record)
        found[record["spec"]["victim"]["model"]] = record
    late, mail = found["late"], found["mail"]
    assert (
        late["spec"]["attack"]["params"]["version"]
        == mail["spec"]["attack"]["params"]["version"]
        == "auto"
    )  # the hash is over this
    assert late["attack_ran"]["version"] == "standard"
    assert late["attack_ran"]["members"][1] == {
        "attack": "apgd-t",
        "losses": {"mri-task": "dlr-targeted", "xray-task": "margin"},
    }
    assert mail["attack_ran"]["version"] == "rand"  # a random victim
    shown = " ".join(medrobust("show", late["hash"][:12], "--out", tmp_path).stdout.split())
    assert (
        "standard: apgd ce on mri-task, ce on xray-task; apgd-t dlr-targeted on mri-task, margin on"
        " xray-task; fab; square" in shown
    )
