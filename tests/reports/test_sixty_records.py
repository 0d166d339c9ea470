"""Board, page, CSV, LaTeX, Markdown and terminal say of sixty records what their outcomes hold."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.cli import medrobust
from support.records import changed, outcomes, record

from robustbench_med.reports import write
from robustbench_med.reports.floors import BELOW, CONSTANT
from robustbench_med.statistics import wilson
from robustbench_med.store.store import Store

MODELS = ("late", "gmu", "mail", "robust-mail", "late+pgd-at")
RESISTS = "late+pgd-at"
"""All attacks break the same samples of it; each breaks what others leave of the rest."""
DATA = {"phantoms": True, "breastmnist+pneumoniamnist": False}
ATTACKS, RADII, N, DISTINCT = ("fgsm", "pgd", "square"), (2, 4), 50, 40
Key = tuple[str, str, int]


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five victims under three attacks at two radii on two data sets, and its report."""
    out, rng = tmp_path_factory.mktemp("sixty"), np.random.default_rng(0)
    store = Store(out)
    for data, synthetic in DATA.items():
        for k, model in enumerate(MODELS):
            for radius in RADII:
                right = (rng.random((N, 2)) < 0.2 + 0.15 * k).astype(np.float32)
                for attack in ATTACKS:
                    if model != RESISTS:
                        right = (rng.random((N, 2)) < 0.2 + 0.15 * k).astype(np.float32)
                    made = record(model, attack=attack, eps=radius / 255, data=data, n=N,
                                  synthetic=synthetic, gflops=0.1 + k)  # fmt: skip
                    tasks = [
                        task.model_copy(update={"robust": float(right[:, t].mean())}).plain()
                        for t, task in enumerate(made.figures.tasks)
                    ]
                    made = changed(
                        made, stochastic=False, draws=1, spec__protocol__draws=1,
                        figures__tasks=tasks, figures__robust=float(right.mean()),
                    )  # fmt: skip
                    store.write(made, outcomes(made) | {"robust_right": right})
    assert len(store.records()) == 60
    write.everything(out, pictures=False)
    return out


def counted(folder: Path) -> dict[Key, dict[str, np.ndarray]]:
    """Who stays right under each attack, from the npz files and the names in the records alone."""
    found: dict[Key, dict[str, np.ndarray]] = {}
    for made in Store(folder).records():
        with np.load(folder / "records" / f"{made.hash[:16]}.npz") as arrays:
            right = arrays["robust_right"].astype(np.float64)
        key = made.spec.data.name, made.spec.victim.model, round(255 * made.spec.threat.radii[0])
        found.setdefault(key, {})[made.spec.attack.name] = right
    return found


def worst(attacks: dict[str, np.ndarray]) -> float:
    """Mean accuracy of the tasks where every sample meets the attack that harms it most."""
    return float(np.min([right.mean(1) for right in attacks.values()], axis=0).mean())


def test_the_tables_hold_what_the_outcomes_say(sixty: Path) -> None:
    truth = counted(sixty)
    board = pd.read_csv(sixty / "leaderboard.csv")
    board = board[board.model != CONSTANT]
    assert len(board) == len(truth) == 20
    for row in board.itertuples():
        attacks = truth[row.data, row.model, int(row.eps.partition("/")[0])]
        lowest = worst(attacks)
        assert row.worst == pytest.approx(lowest, abs=1e-6)
        assert (row.worst_low, row.worst_high) == pytest.approx(
            wilson(lowest, row.n_distinct), abs=0.02
        )
        alone = {name: right.mean() for name, right in attacks.items()}
        listed = dict(each.rsplit(" ", 1) for each in row.each_attack.split("; "))
        assert listed == {name: f"{alone[name]:.3f}" for name in ATTACKS}
        assert alone[row.decided_by] == min(alone.values())
        assert row.why == (
            "black box and gradient attacks at fixed budgets, which have not converged together;"
            " lifted by --attack adaptive"
        )
    cells = pd.read_csv(sixty / "cells.csv")
    cells = cells[cells.model != CONSTANT]
    assert len(cells) == 60
    for cell in cells.itertuples():
        attacks = truth[cell.data, cell.model, int(cell.eps.partition("/")[0])]
        right = attacks[cell.attack]
        assert cell.robust == pytest.approx(right.mean(), abs=1e-6)
        assert (cell.robust_0, cell.robust_1) == pytest.approx(right.mean(0), abs=1e-6)
        assert cell.worst_case == pytest.approx(worst(attacks), abs=1e-6)
    failed = cells.trust == "failed"
    assert set(cells.model[~failed]) == {RESISTS}
    assert (cells["rank"].isna() == (failed | cells.marks.str.contains(BELOW))).all()
    order = board.sort_values("rank").groupby(["data", "eps"]).worst
    assert all(group.is_monotonic_decreasing for _, group in order)


def test_pages_and_papers_and_the_terminal_hold_the_same(sixty: Path, monkeypatch) -> None:
    truth = {key: f"{worst(attacks):.3f}" for key, attacks in counted(sixty).items()}
    wanted = sorted((model, text) for (_, model, _), text in truth.items())
    paper = sixty / "paper"
    for file, row in (
        ("leaderboard.tex", r"^- & ([\w+-]+) & [\d.]+ & ([\d.]+) \["),
        ("leaderboard.md", r"^\| - \| ([\w+-]+) \| [\d.]+ \| ([\d.]+) \\\["),
    ):
        shown = re.findall(row, (paper / file).read_text().replace(r"\allowbreak{}", ""), re.M)
        assert sorted(shown) == wanted
    page = (sixty / "leaderboard.html").read_text()
    opened = r'aria-label="Open ([\w+-]+), Linf [^"]*">[^<]*</button></td>\s*<td class="number" data-order="[^"]*">([\d.]+) \['
    assert sorted(re.findall(opened, page)) == wanted
    for columns in (80, 120, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = medrobust("leaderboard", "--out", sixty).stdout
        rows = re.findall(r"│ ([\w+-]+) +│ worst ([\d.]+) \[", shown)
        assert sorted(row for row in rows if row[0] != "always") == wanted
