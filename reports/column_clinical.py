"""Columns of the tables of decisions and of calibration."""

from __future__ import annotations

from robustbench_med.reports.column_parts import CHECKPOINT, SAMPLE, THREAT, TRUST, VARIANT
from robustbench_med.reports.decisions import BINS, SAMPLES_A_BIN

_WHERE: dict[str, str] = {
    "model": SAMPLE["model"],
    **VARIANT,
    "data": SAMPLE["data"],
    "fold": "which fold of a cross-validation; empty: the usual split",
    **{key: SAMPLE[key] for key in ("synthetic", "size")},
    "n": "test samples evaluated",
    "protocol": "how predictions are judged",
    "train_seed": "seed of the training; empty: foreign weights",
    "seed": "seed of the evaluation",
    **CHECKPOINT,
    "condition": "`clean`, `noise`, a corruption or an attack",
    "norm": "of the attack; empty otherwise",
    "eps": "radius of the attack; empty otherwise",
    "severity": "of the corruption; empty otherwise",
    "record": "first digits of the record's hash; of clean rows a record of the same victim",
    "task": "the task",
}


def _with_ends(name: str, text: str) -> dict[str, str]:
    return {
        name: text,
        f"{name}_low": "lower end of its Wilson 95 % interval, patients counted once",
        f"{name}_high": "upper end",
    }


CLINICAL: dict[str, str] = {
    **_WHERE,
    "class": "taken as positive, all other classes of the task as negative",
    "positives": "labelled samples of the class",
    "negatives": "labelled samples of other classes",
    "auroc": "area under the ROC curve of the class's probability",
    "auprc": "area under the precision-recall curve (average precision)",
    "rule": (
        "how the threshold was chosen on validation images: `youden` (largest sensitivity +"
        " specificity) or `sensitivity 0.95` (the highest that finds so many of the positives)"
    ),
    "threshold": "samples whose probability reaches it are called positive",
    "n_validation": "labelled validation images behind it",
    **_with_ends("sensitivity", "share of the positives that are called so"),
    **_with_ends("specificity", "share of the negatives that are called so"),
    **_with_ends("ppv", "share of those called positive that are; empty where none is called so"),
    **_with_ends("npv", "share of those called negative that are; empty where none is called so"),
    "missed": "positives found on clean images and missed now: disease that the perturbation hides",
    "false_alarms": "negatives called so on clean images and positive now",
    "note": "why there is no threshold",
}
CALIBRATION: dict[str, str] = {
    **_WHERE,
    "samples": "labelled samples of the task",
    "accuracy": "share whose likeliest class is right",
    "ece": "expected calibration error of the predicted class, bins of equal mass",
    "bins": f"of `ece`: {BINS}, or fewer, so that each holds {SAMPLES_A_BIN} samples or more",
    "brier": (
        "Brier score: of two classes the mean squared error of a probability, of more the mean of"
        " the squared errors' sum over classes; empty where a prediction is not finite"
    ),
    "confidence_right": "mean probability of the predicted class where it is right",
    "confidence_wrong": "the same where it is wrong",
    "wrong": "samples that are wrong",
    "not_finite": "samples whose logits are NaN or infinite; they count as wrong",
}
_ANSWERS = {
    "coverage": "share of predictions that the victim answers{}, mean over draws",
    "answered": "accuracy on what it answers{}; empty where it answers nothing",
    "wrong": "share of predictions that are wrong and answered{}: 1 - `{}`",
}
ABSTENTION: dict[str, str] = {
    "model": SAMPLE["model"],
    **VARIANT,
    **{key: SAMPLE[key] for key in ("data", "synthetic", "size")},
    "n": "labelled test samples of the task",
    "attack": "the attack, a corruption, or `noise`",
    **THREAT,
    "task": "the task",
    **{
        column: text
        for when, where in (("clean", " on clean images"), ("robust", " under the attack"))
        for name, said in _ANSWERS.items()
        for column, text in _with_ends(f"{when}_{name}", said.format(where, when)).items()
    },
    **TRUST,
    "record": "first digits of the record's hash",
    **CHECKPOINT,
}
SUBGROUPS: dict[str, str] = {
    **_WHERE,
    "subgroup": "the column, as `sex` of a CSV file or `clinic.sex` of a table; `all`: all samples",
    "value": "its value or band, `unknown` where the table or cell is missing",
    "class": "of the labels; `all`: all classes of the task",
    "samples": "labelled samples of this class and subgroup",
    "patients": "patients behind them (images where the card names none)",
    **_with_ends(
        "accuracy", "share of them that is right; of an attack its robust accuracy, as in cells.csv"
    ),
    "rule": "how the threshold was chosen, on all validation images; empty: there were none",
    "threshold": "of the class's probability",
    **_with_ends("sensitivity", "share of the class in the subgroup that reaches the threshold"),
    **_with_ends("specificity", "share of other classes in the subgroup that does not"),
}
