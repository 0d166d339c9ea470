"""What the columns of the leaderboard mean."""

from __future__ import annotations

from robustbench_med.reports.column_parts import COST, SAMPLE, SEEDS, TARGET, THREAT, VARIANT
from robustbench_med.reports.floors import BELOW, CONSTANT

WORST = {
    "worst": (
        "worst case: share right when every sample meets the attack that harms it most; for"
        " random victims chosen on half of the draws and measured on the other half, or one"
        " attack on every sample where that harms more: never above an attack's column"
    ),
    "worst_low": (
        "lower end of its Wilson 95 % interval for the population, on the effective number of"
        " samples: patients, not images, are independent, and draws that a batch shares are few"
    ),
    "worst_high": "upper end",
    "worst_std": (
        "standard deviation over trainings, of each the mean over its evaluation seeds; empty"
        " for one training"
    ),
    "worst_balanced_accuracy": (
        "as `worst`, of balanced accuracy: an attack harms by what a sample weighs in it, one"
        " over the samples of its class"
    ),
    "worst_balanced_accuracy_low": (
        "lower end of its Wilson 95 % interval, on the classes' effective numbers of samples"
    ),
    "worst_balanced_accuracy_high": "upper end",
    "worst_auc": "robust AUC under the attack that leaves least of it, mean as `clean_auc`",
}
BOARD = {
    "rank": (
        "place by the worst case (`judged_on`) among the rows of one benchmark, threat and"
        " protocol; rows that `unranked` speaks of have none"
    ),
    "model": (
        f"{SAMPLE['model']}; `{CONSTANT}`: what that reaches on these samples and tasks, a row a"
        " `data`, `size`, `n` and `target`, its other fields empty"
    ),
    "defense": "its defence, layers joined by `+`; `none`: undefended",
    **{key: SAMPLE[key] for key in ("data", "synthetic")},
    **THREAT,
    "target": f"{TARGET}; `to` a class where the attack is targeted",
    "protocol": "`sound` (fresh draws, EOT) or `release` (the authors' notebook)",
    "benchmark": (
        "benchmark that has these samples and this threat (`medrobust benchmark show NAME`); empty:"
        " none has"
    ),
    "unranked": (
        "why the row has no rank: attacks of the reference set that are missing, an unverified copy"
        f" of the data, naive attacks alone, a failed trust, `{BELOW}`; empty: it has one"
    ),
    "n": "test samples evaluated, of all folds together",
    "n_distinct": "distinct images behind them, the smallest over the tasks",
    "main_figure": (
        "the figure to read first: `auc` (`clean_auc`, `worst_auc`) where all attacked tasks are"
        " findings of a multi-label set, else as `judged_on`"
    ),
    "clean": "share right before the attack, mean over the attacked tasks and the trainings",
    "clean_low": "lower end of its Wilson 95 % interval, as `worst_low`",
    "clean_high": "upper end",
    "clean_balanced_accuracy": "before the attack: mean over the classes of the share right",
    "clean_auc": (
        "before the attack: area under the ROC curve, mean over the attacked tasks, of findings"
        " over those of which both classes occur (`marks` says how many); empty where a task has"
        " none"
    ),
    **WORST,
    "decided_by": "the attack that alone leaves least",
    "attacks": "attacks that the worst case is over, the noise control not among them",
    "each_attack": (
        "robust accuracy under each of them, lowest first; parameters stand where two differ by"
        " them alone"
    ),
    "families": (
        "kinds of these attacks, members of ensembles and rounds of searches counted: `gradient`,"
        " `minimal` (smallest perturbations), `black box`, `transfer`"
    ),
    "convergence": (
        "how the search for the strongest attack ended: `converged`, `spent` or `capped`, of"
        " several the one that says most; empty: no attack searched"
    ),
    "noise": "robust accuracy under random noise of the same radius; empty where it did not run",
    "trust": (
        "[how far the worst case can be believed](trust.md), all rows of the victim and threat read"
        " together: `failed`, `doubtful`, `unchallenged` or `challenged`"
    ),
    "sign": "the worst sign behind that word, or what would lift it, in a few words",
    "why": "the same in full",
    "marks": "as in cells.csv; `not on every training`: attacks that some trainings did not meet",
    **SEEDS,
    "folds": "folds of a cross-validation behind the row; 1: the usual split",
    "reported": "what the victim's paper reports in its place; empty: nothing is known",
    "reported_figure": "whether that is a `robust` or a `clean` accuracy",
    "difference": "measured minus reported",
    "reported_setting": "data, attack and whatever else differs in the paper",
    "reported_source": "where the paper says it",
    **COST,
    "preset": "sizes and training recipe",
    "size": SAMPLE["size"],
    "draws": "forward passes per prediction",
    "extra_data": "data besides these that it was trained with; `not known`: foreign weights",
    "paper": "paper of the model",
    "paper_link": "where it is",
    "paper_year": "its year",
    "defense_paper": "paper of the defence, of a chain that of its first layer that has one",
    "defense_paper_link": "where it is",
    "defense_paper_year": "its year",
    "checkpoint": "first 12 digits of the weights' sha256 (the first training's)",
    **VARIANT,
    "entry": "id of the entry that `medrobust submit` writes of it",
    "judged_on": (
        "`balanced_accuracy` where the largest class of an attacked task holds more than 60 % of"
        " its samples, else `robust` (accuracy): what the rank is by"
    ),
}
