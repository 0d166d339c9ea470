"""Every figure of the tables for validation files is that of scikit-learn on the probabilities that
the record keeps: one run of a victim that may abstain, on findings, parted by columns.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve
from support.cli import medrobust
from support.own_victims import PLAIN, written
from support.table_sets import TableSet, in_card

from robustbench_med.reports.probabilities import Probabilities
from robustbench_med.store.store import Store
from robustbench_med.store.validation import Validations

REJECTS = """
    def reject(self, *m):
        return torch.stack([0.56 - z.softmax(1).amax(1) for z in self(*m)], 1)
"""
N = 60
CLOSE = {"abs": 2e-6}
"""Tables are written with six digits."""


class Run:
    """What a run kept and reported, and the same of it by scikit-learn."""

    def __init__(self, root) -> None:
        self.out = root / "out"
        card, model = self.data(root), written(root, PLAIN)
        path = root / "model.py"
        path.write_text(path.read_text().replace("\ndef build", REJECTS + "\ndef build"))
        medrobust(
            *("run", "--model", model, "--data", card, "--data-root", root, "--out", self.out),
            *("--size", 16, "--recipe", "steps=60", "--limit", 0, "--no-challenge"),
            *("--attack", "fgsm", "--eps", "16/255"),
        )
        medrobust("report", "--out", self.out, "--no-html", "--no-figures")
        self.store = Store(self.out)
        self.records = {each.short: each for each in self.store.records()}
        (self.fgsm,) = [each for each in self.records.values() if not each.control]
        self.kept = {each.short: self.store.arrays(each) for each in self.records.values()}
        validations = Validations(self.out)
        validation = validations.find(self.fgsm)
        assert validation is not None
        self.validated = validations.store.arrays(validation)

    @staticmethod
    def data(root):
        """240 images, bright ones sick (side: chance), in published parts; findings of two classes."""
        made = TableSet(root)
        made.rows = [
            made.rows[i % 60]
            | {"image": f"i{i:03d}.png", "patient": f"p{i // 2}", "sex": ("F", "M", "")[i // 2 % 3]}
            | {"age": str(30 + i % 50), "part": ("train", "train", "val", "test")[i // N]}
            for i in range(4 * N)
        ]
        parts = {part: [part] for part in ("train", "val", "test")}
        made.card |= {"multilabel": True, "subgroups": {"sex": [], "age": [45, 65]}}
        in_card("reader", "parts", to={"column": "part", **parts})(made)
        in_card("counts", to={"total": 4 * N})(made)
        made.draw()
        made.write()
        return root / "lesions.yaml"

    def table(self, name: str) -> pd.DataFrame:
        found = pd.read_csv(self.out / f"{name}.csv", keep_default_na=False, na_values=[""])
        return found.rename(columns={"class": "label"})

    def outcome(self, row):
        """Of a row: number of its task, labels (n,), probabilities before and after, and what is
        right or rejected, (n,).
        """
        record = self.records[row.record]
        arrays, t = self.kept[row.record], record.names.tasks.index(row.task)
        when = "clean" if row.condition == "clean" else "robust"
        y = arrays["labels"][:, t]
        before, after = (arrays[f"{w}_probabilities_{t}"] for w in ("clean", when))
        answers = np.where(arrays[f"{when}_rejected"][:, t] > 0.5, y, after.argmax(1))
        return t, y, before, after, answers == y

    def threshold(self, t: int, c: int, rule: str) -> float:
        """By scikit-learn, on validation images."""
        arrays = self.validated
        y, scores = arrays["labels"][:, t] == c, arrays[f"probabilities_{t}"][:, c]
        wrong, right, thresholds = metrics.roc_curve(y, scores, drop_intermediate=False)
        if rule == "youden":
            return float(thresholds[np.argmax((right - wrong).round(12))])
        return float(thresholds[right >= 0.95 - 1e-12][0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("agreement")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(root / "home"))
        yield Run(root)


def test_decisions_and_areas(run) -> None:
    rows = run.table("clinical")
    assert set(rows.condition) == {"clean", "noise", "fgsm"}
    assert set(rows.rule) == {"youden", "sensitivity 0.95"}
    assert len(rows) == 3 * 2 * 2 * 2  # conditions, tasks, classes, rules
    for row in rows.itertuples():
        t, y, before, after, _ = run.outcome(row)
        c = run.fgsm.names.classes[t].index(row.label)
        mine, threshold = y == c, run.threshold(t, c, row.rule)
        assert row.threshold == pytest.approx(threshold, **CLOSE)
        called, first = after[:, c] >= threshold, before[:, c] >= threshold
        expected = {
            "sensitivity": metrics.recall_score(mine, called),
            "specificity": metrics.recall_score(mine, called, pos_label=False),
            "ppv": metrics.precision_score(mine, called, zero_division=np.nan),
            "npv": metrics.precision_score(mine, called, pos_label=False, zero_division=np.nan),
            "auroc": metrics.roc_auc_score(mine, after[:, c]),
            "auprc": metrics.average_precision_score(mine, after[:, c]),
        }
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value, nan_ok=True, **CLOSE), name
        (_, false_alarms), (missed, _) = metrics.confusion_matrix(
            mine, np.where(first == mine, called, mine), labels=[False, True]
        )  # of decisions that were right before
        assert (row.missed, row.false_alarms) == (missed, false_alarms)
    assert rows[rows.condition == "fgsm"].missed.sum() > 0


def test_calibration_and_its_diagram(run) -> None:
    rows, lines = run.table("calibration"), {}
    ((_, figure),) = Probabilities(run.store, run.store.records()).diagrams()
    for t, axis in enumerate(figure.axes):
        for line in axis.lines[1:]:
            lines[t, line.get_label().partition(" ")[0]] = line.get_xydata()
    for row in rows.itertuples():
        t, y, _, after, _ = run.outcome(row)
        right, confidence = after.argmax(1) == y, after.max(1)
        assert len(set(confidence)) == N  # where ties are apart, scikit-learn's bins are ours
        share, mean = calibration_curve(right, confidence, n_bins=6, strategy="quantile")
        assert row.bins == 6
        assert row.ece == pytest.approx(np.abs(share - mean).mean(), **CLOSE)
        assert lines[t, row.condition] == pytest.approx(np.stack((mean, share), 1), abs=1e-6)
        assert row.brier == pytest.approx(metrics.brier_score_loss(y, after[:, 1]), **CLOSE)
        assert row.accuracy == pytest.approx(metrics.accuracy_score(y, after.argmax(1)), **CLOSE)
        assert row.wrong == (~right).sum()
        assert row.confidence_right == pytest.approx(confidence[right].mean(), **CLOSE)
        assert row.confidence_wrong == pytest.approx(confidence[~right].mean(), **CLOSE)
    assert set(lines) == {(t, said) for t in (0, 1) for said in ("clean", "noise", "fgsm")}
    assert len(rows) == 6


def test_subgroups(run) -> None:
    rows, checked = run.table("subgroups"), 0
    assert set(rows.subgroup) == {"all", "sex", "age"}
    assert set(rows[rows.subgroup == "sex"].value) == {"F", "M", "unknown"}
    for row in rows.itertuples():
        t, y, _, after, harmless = run.outcome(row)
        cells = run.kept[row.record].get(f"subgroup_{row.subgroup}")
        value = "" if row.value == "unknown" else row.value
        mask = np.ones(N, bool) if row.subgroup == "all" else cells == value
        c = None if row.label == "all" else run.fgsm.names.classes[t].index(row.label)
        mine = mask if c is None else mask & (y == c)
        assert row.samples == mine.sum()
        accuracy = metrics.accuracy_score(np.ones(mine.sum()), harmless[mine])
        assert row.accuracy == pytest.approx(accuracy, **CLOSE)
        assert row.accuracy_low <= row.accuracy <= row.accuracy_high
        if c is not None and (y[mask] != c).any():
            called = after[mask][:, c] >= run.threshold(t, c, "youden")
            found = metrics.recall_score(y[mask] == c, called)
            assert row.sensitivity == pytest.approx(found, **CLOSE)
            found = metrics.recall_score(y[mask] == c, called, pos_label=False)
            assert row.specificity == pytest.approx(found, **CLOSE)
            checked += 1
    assert checked == 3 * 2 * 2 * (1 + 3 + 3)


def test_what_is_answered(run) -> None:
    rows = run.table("abstention")
    assert set(rows.attack) == {"noise", "fgsm"}
    assert (rows.clean_coverage < 1).any()
    for row in rows.itertuples():
        record = run.records[row.record]
        arrays, t = run.kept[row.record], record.names.tasks.index(row.task)
        y = arrays["labels"][:, t]
        for when in ("clean", "robust"):
            answered = arrays[f"{when}_rejected"][:, t] <= 0.5
            vote = arrays[f"{when}_probabilities_{t}"].argmax(1)
            some = answered.any()
            share = metrics.accuracy_score(y[answered], vote[answered]) if some else np.nan
            assert getattr(row, f"{when}_coverage") == pytest.approx(answered.mean(), **CLOSE)
            assert getattr(row, f"{when}_answered") == pytest.approx(share, nan_ok=True, **CLOSE)
            harmed = answered & (vote != y)
            assert getattr(row, f"{when}_wrong") == pytest.approx(harmed.mean(), **CLOSE)


def test_findings(run) -> None:
    rows = run.table("findings")
    arrays = run.kept[run.fgsm.short]
    harmed = []
    for t, row in enumerate(rows.iloc[:-1].itertuples()):
        y = arrays["labels"][:, t]
        assert (row.finding, row.present) == (run.fgsm.names.tasks[t], y.sum())
        for name, when in (("clean_auc", "clean"), ("worst_auc", "robust")):
            area = metrics.roc_auc_score(y, arrays[f"{when}_probabilities_{t}"][:, 1])
            assert getattr(row, name) == pytest.approx(area, **CLOSE)
        for name, when in (("clean", "clean"), ("worst", "robust")):
            rejected = arrays[f"{when}_rejected"][:, t] > 0.5
            held = np.where(rejected, y, arrays[f"{when}_probabilities_{t}"].argmax(1))
            assert getattr(row, name) == pytest.approx(metrics.accuracy_score(y, held), **CLOSE)
            harmed.append(held != y)
    fallen = (~harmed[0] & harmed[1]) | (~harmed[2] & harmed[3])
    there = ~(harmed[0] & harmed[2])
    assert rows.iloc[-1].worst == pytest.approx(1 - fallen[there].mean(), **CLOSE)
