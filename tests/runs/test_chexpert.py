"""CheXpert's published layout in miniature, attacked from the shell: any finding, one, three."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from support.cli import medrobust
from support.paired_miniatures import chexpert

from robustbench_med.reports.findings import NONE_FLIPPED
from robustbench_med.store.store import Store

AIMS = ("any", "pneumonia", "k=3")


@pytest.mark.slow
def test_findings_of_chexpert_agree_with_scikit_learn(tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    (root / "chexpert").mkdir(parents=True)
    chexpert(root / "chexpert")
    small = ["--model-param", "width=4", "--recipe", "steps=6", "--recipe", "eval_every=6"]
    small += ["--recipe", "batch_size=8", "--attack-param", "steps=4"]
    small += ["--size", 16, "--limit", 0, "--eps", "8/255", "--no-control", "--no-challenge"]
    for aim in AIMS:
        done = medrobust("run", "--model", "late", "--data", "chexpert", "--data-root", root,
                         "--attack", "pgd", "--target-task", aim, "--out", out, *small)  # fmt: skip
        assert NONE_FLIPPED in done.stdout
    store = Store(out)
    records = {record.target: record for record in store.records()}
    assert set(records) == set(AIMS)
    arrays = {aim: store.arrays(record) for aim, record in records.items()}
    labels, tasks = arrays["any"]["labels"], records["any"].names.tasks
    assert records["any"].names.findings == tasks
    known = labels >= 0
    assert 0.4 < known.mean() < 0.6  # uncertain ones and blanks are masked
    clean = np.stack([arrays["any"][f"clean_probabilities_{t}"][:, 1] for t in range(14)], 1)
    table = pd.read_csv(out / "findings.csv").set_index("finding")
    right = known & (arrays["any"]["clean_vote"] == labels)
    flipped = np.zeros(len(labels), bool)
    robust_aucs: dict[str, list[float]] = {aim: [] for aim in AIMS}
    for t, name in enumerate(tasks):
        y, row = labels[known[:, t], t], table.loc[name]
        assert (row.labelled, row.present) == (len(y), y.sum())
        assert row.clean_auc == pytest.approx(roc_auc_score(y, clean[known[:, t], t]), abs=1e-5)
        assert row.clean == pytest.approx((right[:, t]).sum() / len(y), abs=1e-5)
        for aim in AIMS:
            scores = arrays[aim][f"robust_probabilities_{t}"][known[:, t], 1]
            robust_aucs[aim].append(roc_auc_score(y, scores))
        aim, lowest = min(((a, robust_aucs[a][t]) for a in AIMS), key=lambda each: each[1])
        assert row.worst_auc == pytest.approx(lowest, abs=1e-5)
        if sorted(areas[t] for areas in robust_aucs.values())[1] > lowest:
            assert row.by == f"pgd, aim {aim}"
        stands = np.min([arrays[a]["robust_right"][known[:, t], t] for a in AIMS], 0)
        assert row.worst == pytest.approx(stands.mean(), abs=1e-5)
    for aim in AIMS:
        flipped |= (right & (arrays[aim]["robust_vote"] != labels)).any(1)
    some = right.any(1)
    assert table.loc[NONE_FLIPPED].worst == pytest.approx(1 - flipped[some].mean(), abs=1e-5)
    board = pd.read_csv(out / "leaderboard.csv").set_index("target")
    means = {aim: float(np.mean(areas)) for aim, areas in robust_aucs.items()}
    means["pneumonia"] = robust_aucs["pneumonia"][tasks.index("pneumonia")]  # it alone is aimed at
    for aim in AIMS:
        row = board[board.model == "late"].loc[aim]
        assert row.main_figure == "auc"
        assert row.worst_auc == pytest.approx(means[aim], abs=1e-5)
