"""Decisions and calibration: agreement with scikit-learn, and the tables made of them."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from support.records import changed, fill, outcomes, record

from robustbench_med.naming import canonical_hash
from robustbench_med.reports import clinical, columns, decisions, write
from robustbench_med.reports.decisions import Decisions, Reliability
from robustbench_med.reports.looks import COLOURS
from robustbench_med.reports.probabilities import Probabilities
from robustbench_med.store.merge import merge
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store
from robustbench_med.store.validation import VALIDATIONS, Validation, validation_spec


def drawn(n: int = 300, classes: int = 2, seed: int = 0):
    """Probabilities in float32, with ties, and labels that they know something of."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    given = np.exp(logits.round(1))
    return (given / given.sum(1, keepdims=True)).astype(np.float32), labels


def test_thresholds_and_what_they_give_are_those_of_scikit_learn() -> None:
    given, labels = drawn()
    scores, positive = given[:, 1], labels == 1
    wrong, found, thresholds = metrics.roc_curve(positive, scores, drop_intermediate=False)
    threshold = decisions.youden(scores, positive)
    assert threshold == pytest.approx(thresholds[np.argmax((found - wrong).round(12))])
    fixed = decisions.at_sensitivity(scores, positive, 0.9)
    assert fixed == pytest.approx(thresholds[found >= 0.9 - 1e-12][0])
    for t in (threshold, fixed):
        called = decisions.calls(scores, t, positive)
        made = Decisions.of(called, positive, np.arange(len(labels)))
        assert made.sensitivity.value == pytest.approx(metrics.recall_score(positive, called))
        specificity = metrics.recall_score(positive, called, pos_label=False)
        assert made.specificity.value == pytest.approx(specificity)
        assert made.ppv.value == pytest.approx(metrics.precision_score(positive, called))
        npv = metrics.precision_score(positive, called, pos_label=False)
        assert made.npv.value == pytest.approx(npv)
        assert made.ppv.low <= made.ppv.value <= made.ppv.high
    area = metrics.roc_auc_score(positive, scores)
    assert decisions.auroc(scores, positive) == pytest.approx(area, abs=1e-12)
    area = metrics.average_precision_score(positive, scores)
    assert decisions.auprc(scores, positive) == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_brier_scores_are_those_of_scikit_learn(classes) -> None:
    given, labels = drawn(classes=classes)
    given = given.astype(np.float64) / given.sum(1, keepdims=True)
    mine = given[:, 1] if classes == 2 else given
    assert decisions.brier(given, labels) == pytest.approx(metrics.brier_score_loss(labels, mine))


def test_bins_hold_as_many_samples_and_their_gaps_are_counted_by_hand() -> None:
    from sklearn.calibration import calibration_curve

    given, labels = drawn(300, 3)
    bins = Reliability.of(given, labels, bins=10)
    assert set(bins.samples) == {30}
    confidence, right = given.max(1), given.argmax(1) == labels
    unequal = confidence + np.arange(300) * 1e-9  # ties apart, as quantiles would not part them
    true, mean = calibration_curve(right, unequal.clip(0, 1), n_bins=10, strategy="quantile")
    assert np.abs(bins.confidence - mean).max() < 0.01
    assert np.abs(bins.right - true).max() < 0.08
    assert bins.ece == pytest.approx(np.abs(bins.confidence - bins.right).mean())
    assert [decisions.bins_of(n) for n in (0, 9, 32, 149, 150, 9000)] == [1, 1, 3, 14, 15, 15]
    assert Reliability.of(given[:32], labels[:32]).samples.tolist() == [11, 11, 10]
    sure = np.tile(np.float32([1, 0]), (40, 1))
    half = np.arange(40) % 2
    assert Reliability.of(sure, half).ece == pytest.approx(0.5, abs=0.05)
    assert Reliability.of(sure, np.zeros(40, int)).ece == 0


def test_what_is_not_finite_is_wrong_and_what_does_not_occur_is_empty() -> None:
    scores, positive = np.float32([0.9, np.nan, np.nan, 0.1]), np.array([True, True, False, False])
    called = decisions.calls(scores, 0.5, positive)
    assert called.tolist() == [True, False, True, False]
    assert np.isnan(decisions.auroc(scores, positive))
    assert np.isnan(decisions.brier(np.stack((1 - scores, scores), 1), positive.astype(int)))
    assert decisions.youden(np.float32([0.1, 0.2]), np.array([True, True])) is None
    nobody = Decisions.of(np.zeros(4, bool), positive, np.arange(4))
    assert np.isnan(nobody.ppv.value)
    assert nobody.npv.value == 0.5


def validated(store: Store[Record], made: Record, n: int = 40) -> None:
    """Keeps a validation of a record's victim."""
    data = made.spec.data.plain() | {"split": "val", "n": n, "samples": "d" * 64}
    spec = validation_spec(made.spec.plain(), data, None)
    names = {"modalities": made.names.modalities, "tasks": made.names.tasks}
    environment = {"device": "cpu", "versions": {}, "started": 0}
    kept = {"hash": canonical_hash(spec), "spec": spec, "names": names, "environment": environment}
    given, labels = drawn(n, 2, seed=3)
    arrays = {f"probabilities_{t}": given for t in (0, 1)}
    Store(store.folder.parent, VALIDATIONS).write(
        Validation.of(kept), {"labels": np.stack((labels, labels), 1), **arrays}
    )


def test_tables_hold_thresholds_of_validation_images_alone(tmp_path) -> None:
    store = Store(tmp_path)
    attacked, older = record(train_seed=0), record("late", train_seed=1)
    noise = record(attack="noise", train_seed=0)
    jpeg = changed(noise, spec__engine="corruption", spec__attack__name="jpeg",
                   spec__attack__params={"severity": 2})  # fmt: skip
    fill(store, attacked, older, noise, jpeg, images=True)
    validated(store, attacked)
    made = clinical.frames(store, store.records())
    for name, frame in made.items():
        assert list(frame.columns) == list(columns.COLUMNS[name]), name
    rows = made["clinical"]
    assert set(rows[rows.model == "late"].note) == {clinical.NO_VALIDATION}
    mine = rows[rows.model == "mail"]
    assert set(mine.condition) == {"clean", "noise", "pgd", "jpeg"}
    assert len(mine[mine.condition == "clean"]) == 2 * 2 * 2  # tasks x classes x rules, once
    given, labels = drawn(40, 2, seed=3)
    row = mine[(mine.condition == "pgd") & (mine["class"] == "b") & (mine.rule == "youden")].iloc[0]
    assert row.threshold == decisions.youden(given[:, 1], labels == 1)
    arrays = outcomes(attacked, images=True)
    before, after = (arrays[f"{w}_probabilities_0"][:, 1] for w in ("clean", "robust"))
    y = arrays["labels"][:, 0] == 1
    assert row.sensitivity == pytest.approx(metrics.recall_score(y, after >= row.threshold))
    hidden = (before >= row.threshold) & (after < row.threshold) & y
    raised = (before < row.threshold) & (after >= row.threshold) & ~y
    assert (row.missed, row.false_alarms) == (hidden.sum(), raised.sum())
    clean = mine[mine.condition == "clean"]
    assert (clean[["missed", "false_alarms"]] == 0).all().all()
    calibration = made["calibration"]
    wrong = arrays["robust_probabilities_0"].argmax(1) != arrays["labels"][:, 0]
    told = calibration[(calibration.condition == "pgd") & (calibration.model == "mail")].iloc[0]
    assert told.wrong == wrong.sum()
    confidence = arrays["robust_probabilities_0"].max(1)[wrong].mean()
    assert told.confidence_wrong == pytest.approx(confidence, abs=1e-6)


def test_a_diagram_shows_the_attack_on_most_tasks_and_modalities_in_every_panel(tmp_path) -> None:
    joint = record(robust=0.4, data="heads+chests")
    crossed = [record(robust=0.0, eps=[4 / 255, 0.0], tasks=(t,)) for t in (0, 1)]
    store = fill(Store(tmp_path), joint, *crossed, record(robust=0.1, eps=[4 / 255, 0.0]),
                 record(robust=0.2, seed=1), images=True)  # fmt: skip
    ((_, figure),) = Probabilities(store, store.records()).diagrams()  # one of the first seed
    for axis in figure.axes:
        labels = axis.get_legend_handles_labels()[1]
        assert labels == ["clean", "pgd 4/255"]
        assert axis.lines[2].get_color() == COLOURS[1]
        assert axis.get_title().endswith("bins of equal mass: 5")
    assert "(synthetic, paired by index)" in figure.get_suptitle()


def test_a_report_has_them_and_merging_takes_validations_along(tmp_path) -> None:
    store = fill(Store(tmp_path / "a"), record(), images=True)
    validated(store, store.records()[0])
    joined = merge([tmp_path / "a"], tmp_path / "b")
    assert (joined.copied, joined.conflicts) == (2, ())
    assert merge([tmp_path / "a"], tmp_path / "b").same == 2
    written = write.everything(tmp_path / "b", html=False)
    assert [p.name for p in written if p.name.startswith("reliability-")]
    rows = pd.read_csv(tmp_path / "b" / "clinical.csv")
    assert set(rows.rule) == {"youden", "sensitivity 0.95"}
    assert len(pd.read_csv(tmp_path / "b" / "calibration.csv")) == 4
