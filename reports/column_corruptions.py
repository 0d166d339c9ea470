"""Columns of the tables of corruptions, and of attacks of a threat of their own."""

from __future__ import annotations

from robustbench_med.reports.column_parts import CHECKPOINT, ROBUST, SAMPLE, TARGET, TRUST, VARIANT

_VICTIM: dict[str, str] = {
    "model": SAMPLE["model"],
    **VARIANT,
    **{key: SAMPLE[key] for key in ("data", "synthetic", "size")},
    "n": "test samples evaluated, of all folds together",
    "target": TARGET,
    "protocol": "how predictions are judged",
}
KINDS: dict[str, str] = {
    **_VICTIM,
    "kind": "the corruption",
    "modalities": "those that it changed",
    "severity": "1 to 5",
    "clean": "share right on clean images, mean over tasks and trainings",
    "accuracy": (
        "share right on corrupted images; a sample that was wrong and is right now counts, as"
        " nobody chose the corruption"
    ),
    "accuracy_low": "lower end of its Wilson 95 % interval",
    "accuracy_high": "upper end",
    "balanced_accuracy": "on corrupted images: mean over the classes of the share right",
    "clean_balanced_accuracy": "the same on clean images",
    "auc": "area under the ROC curve on corrupted images; empty where a task has none",
    "trainings": "trainings behind the row",
    "marks": "as in cells.csv",
    **CHECKPOINT,
}
ERRORS: dict[str, str] = {
    **_VICTIM,
    "kinds": "kinds of corruption that the victim has at all five severities: what means are over",
    "clean_error": "share wrong on clean images",
    "mean_error": "share wrong, mean over kinds and severities",
    "mce": (
        "mean corruption error: mean over kinds of the error summed over severities over that of"
        " the baseline (arXiv 1903.12261); 1 is as the baseline, less is better; empty without one"
    ),
    "relative_mce": "the same of errors less those on clean images: what corruptions add",
    "balanced_mce": "`mce` of balanced accuracies (arXiv 2406.17536)",
    "mce_kinds": "kinds that `mce` is over: those that both have and where the baseline errs",
    "relative_kinds": "kinds that `relative_mce` is over: where corruptions add errors to it",
    "baseline": "the undefended victim that errors are relative to, and its checkpoint",
    "worst_kind": "the kind with most errors, and the modalities that it changed",
    "worst_error": "its share wrong, mean over severities",
    **CHECKPOINT,
    "marks": "as in cells.csv",
}
OWN_THREATS: dict[str, str] = {
    **_VICTIM,
    "threat": "`patch`, with its share of the area and how its place was chosen, or `universal`",
    "modalities": "those that were attacked",
    "norm": "of a universal perturbation; empty for a patch, which [0, 1] alone bounds",
    "eps": "its radius; empty for a patch",
    "clean": "share right before the attack, mean over tasks and trainings",
    **ROBUST,
    "balanced_accuracy": "after the attack: mean over the classes of the share right",
    "clean_balanced_accuracy": "the same before it",
    "auc": "area under the ROC curve after the attack; empty where a task has none",
    "trainings": "trainings behind the row",
    **TRUST,
    "why": "what the word rests on; no other row speaks for this threat or against it",
    "marks": "as in cells.csv",
    **CHECKPOINT,
}
