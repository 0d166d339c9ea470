"""Bad input of `medrobust run` is one line and exit code 2."""

import os

import pytest
from support.cli import SMALL, medrobust, refused
from support.files import write_folder_set


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "robust-mial"], "did you mean robust-mail"),
        (["--model", "late", "--attack", "pdg"], "did you mean pgd"),
        (["--model", "late", "--data", "phantom"], "did you mean phantoms"),
        (["--model", "late", "--preset", "quik"], "did you mean quick"),
        (["--model", "late", "--eps", "4/0"], "eps must be a number or fraction"),
        (["--model", "late", "--eps=-1"], "eps must be a number or fraction"),
        (["--model", "late", "--eps", "ct=1/255"], "names the modality 'ct'"),
        (["--model", "late", "--target-task", "brain"], "unknown target task"),
        (
            ["--model", "late", "--data", "breastmnist", "--data-root", "/nonexistent"],
            "is not a folder",
        ),
        (["--model", "late", "--attack-param", "stepz=3"], "has a parameter 'stepz'"),
        (["--model", "late", "--attack-param", "steps=many"], "must be of type int"),
        (["--model", "late", "--model-param", "depth=3"], "has no parameter 'depth'"),
        (["--model", "late", "--batch-size", "0"], "--batch-size must be"),
        (["--model", "late", "--device", "gpu"], "is called cuda"),
        (["--model", "late", "--draws", "0"], "draws"),
        (["--model", "late", "--size", "3"], "size"),
        (["--model", "late", "--norm", "L3"], "norm"),
        (["--model", "late", "--attack", "adaptive", "--max-passes", "0"], "max_passes"),
        (
            [
                "--model",
                "late",
                "--attack",
                "adaptive",
                "--defense",
                "jpeg",
                "--defense-param",
                "attack=unaware",
            ],
            "leave out attack=unaware",
        ),
        (["--model", "late", "--seed", "a"], "seed"),
        (["--model", "late", "--checkpoint", "absent.safetensors"], "cannot read the checkpoint"),
        (["--config", "absent.yaml"], "cannot read the run file"),
        (["--model", "late", "--include", "/"], "cannot read the included file /: it is a folder"),
        ([], "model"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path) -> None:
    assert message in refused(medrobust("run", *arguments, "--out", tmp_path / "o", check=2))


def test_corrupt_data_is_one_line_and_exit_code_2(tmp_path) -> None:
    path = write_folder_set(tmp_path, "heads", "mri", per_class=12)
    (tmp_path / "heads" / "ring" / "image(1).png").write_bytes(b"not an image")
    done = medrobust(
        "run",
        "--model",
        "late",
        "--data",
        path,
        "--data-root",
        tmp_path,
        "--strict",
        *SMALL,
        "--out",
        tmp_path / "o",
        check=2,
    )
    assert "image(1).png" in refused(done)
    (tmp_path / "breastmnist.npz").write_bytes(b"PK\x03\x04truncated")
    done = medrobust(
        "run",
        "--model",
        "late",
        "--data",
        "breastmnist",
        "--data-root",
        tmp_path,
        "--accept-unverified",
        "--out",
        tmp_path / "o",
        check=2,
    )
    assert "cannot read the npz file" in refused(done)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs a POSIX system")
def test_an_unwritable_folder_and_a_file_in_its_place_are_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(
        medrobust("run", "--model", "late", "--out", tmp_path / "file", check=2)
    )
    assert "cannot write" in refused(
        medrobust("run", "--model", "late", "--out", "/proc/medrobust", check=2)
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--attack", "transfer"], "--source"),
        (["--attack", "pgd", "--source", "mail"], "--attack transfer"),
        (["--attack", "apgd-t", "--target", "random"], "cannot aim"),
        (["--attack", "pgd", "--target", "most"], "least-likely"),
        (["--attack", "pgd", "--cross-modal", "--target-task", "0"], "--cross-modal"),
        (["--attack", "mim", "--engine", "art"], "engine art"),
        (
            ["--attack", "apgd", "--engine", "torchattacks", "--attack-param", "loss=margin"],
            "loss must be one of ce, dlr, got",
        ),
        (
            ["--attack", "square", "--engine", "torchattacks", "--attack-param", "loss=dlr"],
            "loss must be one of margin, ce, got",
        ),
        (
            [
                "--attack",
                "autoattack",
                "--engine",
                "torchattacks",
                "--attack-param",
                "version=few-class",
            ],
            "one of standard, plus, rand, got",
        ),
        (
            [
                "--attack",
                "autoattack",
                "--engine",
                "torchattacks",
                "--attack-param",
                "version=auto",
            ],
            "one of standard, plus, rand, got",
        ),
        (
            ["--attack", "autoattack", "--attack-param", "version=plus"],
            "one of auto, standard, rand, few-class, got",
        ),
    ],
)
def test_attacks_that_cannot_be_are_one_line_and_exit_code_2(
    more, says, drawn_root, tmp_path
) -> None:
    done = medrobust("run", "--model", "late", "--limit", 2, "--out", tmp_path, *more, check=2)
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert says in line


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            [
                "--attack",
                "square",
                "--engine",
                "art",
                "--target-task",
                "0",
                "--attack-param",
                "p=2",
            ],
            "SquareAttack says",
        ),
        (["--attack", "square", "--engine", "torchattacks"], "--target-task"),
        (["--attack", "hopskipjump", "--attack-param", "evaluations=9"], "initial queries (100)"),
    ],
)
def test_an_attack_that_an_engine_refuses_is_named_and_the_rest_is_done(
    more, says, drawn_root, tmp_path
) -> None:
    done = medrobust("run", "--model", "late", "--limit", 2, "--out", tmp_path, *more, check=1)
    assert "1 of 2 cells failed" in done.stderr
    assert says in done.stderr.splitlines()[-2]
    assert len(list((tmp_path / "records").glob("*.json"))) == 1
