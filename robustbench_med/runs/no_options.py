"""Fields of specifications and of jobs that are no option of a command, and why."""

from __future__ import annotations

EXCEPT: dict[tuple[str, str], str] = {
    ("", "display"): "what a job shows and where; --quiet makes it",
    ("compare", "protocol"): (
        "a comparison is sound; the release protocol's figures stand beside it as the naive ones"
    ),
    ("compare", "engine"): (
        "a comparison attacks adaptively (EOT, BPDA), with the parameters of medrobust's own"
        " attacks; other libraries' attacks are compared by `run --engine`"
    ),
    ("compare", "cross_modal"): (
        "a comparison puts defences under one threat; the matrix of modalities and tasks is a"
        " table of `run`"
    ),
    ("gate", "shard"): "a gate answers for all of its victims",
    ("gate", "detach"): "a gate waits for its answer",
    ("compare", "baseline"): "corruptions are of `run`; a comparison is of defences under attack",
    ("certify", "draws"): "a certificate rests on draws of its own, --n0 and --n, one pass each",
    ("diagnose", "protocol"): "signs are looked for under the sound protocol alone",
    ("diagnose", "force"): "diagnoses are not kept: each one is computed",
    **{
        (command, "keep"): "it makes no adversarials that are looked at one by one"
        for command in ("certify", "diagnose", "train", "plan")
    },
    ("compare", "shard"): "a comparison pairs all victims; shards are of `run`, and merged",
    ("compare", "detach"): "a comparison waits for its victims",
    **{
        (command, name): reason
        for command in ("certify", "diagnose", "train")
        for name, reason in {
            "fail_fast": "it ends with the first error anyway",
            "skip_failed": "it keeps no failures",
            "jobs": "one process; locks keep several apart that work on one folder",
            **dict.fromkeys(("executor", "address", "gpus", "slurm", "detach"), "as --jobs"),
            "shard": "its parts are few: start it for each",
        }.items()
    },
    ("train", "batch_size"): "it is a setting of the training, --recipe batch_size=16",
}
"""Fields that are no option of a command (of none: under the empty name), and why."""
