"""What lists and explains: the tables of what there is, and `--help`."""

import json
import subprocess
import sys

import pytest
from support.cli import medrobust


@pytest.mark.parametrize(
    "command",
    [
        ["models"],
        ["attacks"],
        ["engines", "list"],
        ["benchmark", "list"],
        ["data", "list"],
        ["data", "show", "breastmnist"],
        ["cost", "--model", "late"],
    ],
)
def test_what_lists_things_lists_them(command, tmp_path) -> None:
    shown = medrobust(*command).stdout
    expected = {
        "models": "781,623",
        "attacks": "1706.06083",
        "engines": "medrobust engines install",
        "benchmark": "phantoms-v1",
        "data": "CC BY 4.0",
        "cost": "1,403,303",
    }[command[0]]
    assert expected in shown


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["models"], {"model": "late"}),
        (["attacks"], {"name": "pgd"}),
        (["defenses"], {"name": "pgd-at"}),
        (["engines", "list"], {"name": "torchattacks"}),
        (["data", "list"], {"id": "breastmnist"}),
        (["data", "suites"], {"suite": "all20"}),
        (["cost", "--model", "late"], {"model": "late"}),
    ],
)
def test_what_lists_things_lists_them_as_json(command, expected) -> None:
    rows = json.loads(medrobust(*command, "--json").stdout)
    assert any(expected.items() <= row.items() for row in rows)


def test_help_teaches_without_importing_torch() -> None:
    commands = [
        "",
        "run",
        "train",
        "cost",
        "leaderboard",
        "show",
        "models",
        "attacks",
        "engines",
        "data",
    ]
    code = f"""
import sys
from robustbench_med.cli.program import app
for command in {commands}:
    try:
        app([*command.split(), "--help"])
    except SystemExit as end:
        assert not end.code, command
    heavy = {{"torch", "pandas", "numpy", "matplotlib", "yaml"}} & set(sys.modules)
    assert not heavy, (command, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage") == len(commands)


def test_what_most_runs_do_not_need_is_imported_only_where_it_is_used() -> None:
    code = """
import sys
import robustbench_med.runs.executors.worker
import robustbench_med.reports.write
slow = {"monai", "sklearn", "scipy.stats", "torch.distributed._tools"}
assert not slow & set(sys.modules), slow & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
