"""What every column of every CSV means."""

from __future__ import annotations

from robustbench_med.reports import column_clinical, column_corruptions
from robustbench_med.reports.column_board import BOARD, WORST
from robustbench_med.reports.column_parts import (
    ATTACK,
    CERTIFICATE,
    CHECKPOINT,
    COST,
    ROBUST,
    SAMPLE,
    SEEDS,
    TARGET,
    THREAT,
    TRUST,
    VARIANT,
)
from robustbench_med.reports.floors import BELOW, CONSTANT

COLUMNS: dict[str, dict[str, str]] = {
    "leaderboard": BOARD,
    "cells": {
        "rank": (
            "place by `robust` (by `balanced_accuracy` where the largest class of an attacked task"
            " holds more than 60 % of the samples) among rows of the same data, size, n, threat,"
            " attack, engine and protocol; naive attacks, failed rows and those below the constant"
            " answer have none"
        ),
        "model": (
            f"{SAMPLE['model']}; `{CONSTANT}`: what that reaches on these samples and tasks, a row"
            " a `data`, `size`, `n` and `target`, its other fields empty"
        ),
        **{key: SAMPLE[key] for key in ("data", "synthetic")},
        **THREAT,
        "target": TARGET,
        **ATTACK,
        "n": "test samples evaluated, of all folds together",
        "n_distinct": (
            "distinct images behind them, the smallest over the attacked tasks: a shorter set of a"
            " pairing cycles"
        ),
        "clean": "share right before the attack, mean over the attacked tasks",
        "clean_low": "lower end of its Wilson 95 % interval, as `robust_low`",
        "clean_high": "upper end",
        "clean_balanced_accuracy": (
            "before the attack: mean over the classes of the share right, mean over the attacked"
            " tasks"
        ),
        "clean_auc": (
            "before the attack: area under the ROC curve, mean over attacked tasks (of findings:"
            " over those of which both classes occur); empty where a task has none"
        ),
        **ROBUST,
        "worst_case": (
            "robust accuracy when every sample meets the attack that harms it most of all rows of"
            " the victim and threat in the folder (of a random victim, the lowest row); mean over"
            " trainings; empty for the `release` protocol"
        ),
        "robust_std": (
            "standard deviation of `robust` over trainings, of each the mean over its evaluation"
            " seeds; empty for one training"
        ),
        **SEEDS,
        "folds": "folds of a cross-validation behind the row; 1: the usual split",
        "n_effective": (
            "independent samples that `robust` is worth, on which its interval stands: `n` over the"
            " design effect of the patients (or what else the card groups by), never more than"
            " `n_distinct`; more for a random victim whose samples draw for themselves, fewer where"
            " a batch shares draws; the number of groups where all samples are right, or none is"
        ),
        "asr": (
            "attack success rate: chance that a prediction that was right is wrong after the attack"
        ),
        "balanced_accuracy": "after the attack: mean over the classes of the share right",
        "auc": "the same after the attack, macro one-vs-rest above two classes",
        "clean_vote": "as `clean`, by majority vote of the draws",
        "robust_vote": "as `robust`, by majority vote of the draws",
        "minimal_norm_median": (
            "median size of the smallest perturbations that `cw`, `ddn`, `fmn`, `ead`,"
            " `sigma-zero`, `fab`, `hopskipjump` or `boundary` found (pixels in 0..1, under L0"
            " places; the largest of the modalities' sizes); empty for other attacks and where half"
            " of the samples were not broken at all"
        ),
        "draws": "forward passes per prediction",
        "eot": "draws per gradient of the attack; empty for attacks without gradients",
        "combine": (
            "whether a gradient over several draws is the `mean` of theirs or of `normalised` ones"
        ),
        "loss": "what the attack ascends; empty for attacks that have no choice",
        "effort": (
            "of an attack that others follow: `converged` (two rounds along gradients took less"
            " than a point), `capped` (by its budget; the next to try) or `spent` (--effort max, or"
            " all queries of a black box), with gradient passes and black-box queries an attacked"
            " sample"
        ),
        **TRUST,
        "why": "what the word in `trust` rests on, and what would lift an unchallenged figure",
        "marks": (
            "synthetic data, victims no better than chance, samples whose logits are not finite"
            " (never right), naive attacks on random models, predictions that depend on their batch"
            " or that no seed repeats, unverified files, weights that share their training seed"
            f" with others, `{BELOW}`: `robust` is no higher than that of `{CONSTANT}`"
            f" (`{BELOW} on TASK`: at that task alone; of findings `auc` is not above 0.5),"
            " `AUC over K of N findings`: of the others these samples have one class,"
            " `carried`: samples that a smaller radius broke were [not attacked again](sweeps.md),"
            " `under-trained on TASK (AUC a, NAME"
            " b)`: [Trust](trust.md#under-trained-victims)"
        ),
        **COST,
        "preset": "sizes and training recipe",
        "size": SAMPLE["size"],
        "attack_params": "the attack's parameters, and `accelerate` where its passes were faster",
        **CHECKPOINT,
        **VARIANT,
        "task_T": "name of task T (a group of three columns per task, T from 0)",
        "clean_T": "clean accuracy at task T, attacked or not",
        "robust_T": "robust accuracy at task T, attacked or not",
    },
    "records": {
        "record": "first 12 digits of the record's hash, for `medrobust show`",
        **{key: SAMPLE[key] for key in ("model", "data")},
        "fold": "fold of a cross-validation, from 0; empty: the usual split",
        "synthetic": SAMPLE["synthetic"],
        **THREAT,
        **ATTACK,
        **TRUST,
        "seed": "seed of the evaluation",
        "train_seed": "seed of the training; empty for weights of your own",
        "task": "task the figure belongs to",
        "attacked": "True where the attacker aimed at this task",
        "metric": "name of the figure; `_low` and `_high` are the ends of Wilson 95 % intervals",
        "value": "the figure",
    },
    "cost": {
        "record": "first 12 digits of the record's hash",
        **{key: SAMPLE[key] for key in ("model", "data")},
        "attack": ATTACK["attack"],
        "eps": THREAT["eps"],
        **COST,
        "latency_ms": "median milliseconds of one forward pass of one sample",
        "model_memory_mib": (
            "most MiB that tensors hold at once in one forward pass, weights included"
        ),
        "attack_forward_per_sample": "forward passes of the attack per attacked sample",
        "attack_backward_per_sample": "backward passes of the attack per attacked sample",
        "seconds": "wall clock of attack and fresh draws",
        "peak_memory_mib": "most memory of the process (of the GPU where there is one)",
        "batch_size": "samples a batch",
        "device": "what it ran on",
    },
    "victims": {
        **SAMPLE,
        "preset": "sizes and training recipe",
        "checkpoint": "first 12 digits of the weights' sha256",
        **VARIANT,
        **COST,
        "latency_cpu_ms": (
            "median milliseconds of one forward pass of one sample on a CPU; empty where no record"
            " ran there"
        ),
        "latency_gpu_ms": "the same on a GPU",
        "peak_memory_mib": (
            "most MiB that tensors hold at once in one forward pass, weights included"
        ),
        "training_seconds": "wall clock of the training; empty where its records do not say",
        "records": "records of this victim",
    },
    "per_class": {
        **SAMPLE,
        **THREAT,
        "target": TARGET,
        **ATTACK,
        **TRUST,
        "samples": "test samples evaluated, of all classes",
        **CHECKPOINT,
        "task": "task the class belongs to (attacked tasks only)",
        "class": "class",
        "n": "its test samples",
        "n_distinct": "its distinct images; empty in records that do not say which repeat",
        "clean": "share right before the attack (recall)",
        **ROBUST,
        "lost": "`clean` - `robust`; within a task the class that lost most comes first",
        **SEEDS,
        **VARIANT,
    },
    "findings": {
        "model": "name of the victim, its defences behind a +",
        **VARIANT,
        "data": "data set or pairing",
        "synthetic": "whether the data are drawings",
        "size": "pixels of a side",
        "n": "test samples evaluated",
        "norm": THREAT["norm"],
        "eps": THREAT["eps"],
        "protocol": ATTACK["protocol"],
        "finding": "the task; `no finding flipped`: the patients, whose share `worst` is",
        "labelled": "samples labelled for it; patients with a right prediction before any attack",
        "present": "those of them that have it",
        "clean_auc": "area under the ROC curve before the attack",
        "worst_auc": "the lowest after one attack, whatever it was aimed at",
        "by": "that attack, and its aim",
        "clean": "share right before the attack",
        "worst": "share right where each sample meets the attack that takes it; of patients the"
        " share of whom no attack flipped a right prediction",
        "trivial": "why the victim is no better than chance at it: an AUC not above 0.5",
    },
    "missing": {
        "model": "name of the victim, its defences behind a +",
        "train_seed": "of its weights",
        "seed": "which other patient's modality each sample gets",
        "data": "data set or pairing",
        "size": "pixels of a side",
        "synthetic": "whether the data are drawings",
        "modality": "the one that was replaced in every sample; `all there`: none was",
        "replaced_by": "nothing (`missing`: zeros, which victims with stand-ins see as missing),"
        " the mean of the test samples that have it, or another patient's",
        "task": "the task",
        "n": "its labelled samples",
        "accuracy": "share of them that is right, or rejected by a victim that may abstain",
        "low": "lower end of its 95 % interval",
        "high": "upper end of it",
        "change": "accuracy minus that with all modalities",
        "balanced_accuracy": "mean over the classes of the share right",
        "auc": "area under the ROC curve; empty where there is none",
        "coverage": "share of them that a victim that may abstain answers; empty of others",
        "answered": "share of these that is right",
        "absence": "hash, the name of the file below absences/",
    },
    "cross_modal": {
        **SAMPLE,
        "norm": THREAT["norm"],
        **ATTACK,
        "n": "test samples evaluated",
        "n_distinct": "distinct images behind the task",
        "modality": "the one modality that was perturbed; all others are trusted",
        "eps": "its radius for pixels in 0..1",
        "task": "the one task the attacker aimed at",
        "clean": "share of this task right before the attack",
        **ROBUST,
        "balanced_accuracy": "after the attack: mean over the classes of the share right",
        "auc": "after the attack: area under the ROC curve; empty where there is none",
        "asr": "attack success rate",
        **TRUST,
        **CHECKPOINT,
        "lost": "`clean` - `robust`",
        **VARIANT,
    },
    "queries": {
        "model": SAMPLE["model"],
        "data": SAMPLE["data"],
        "n": "test samples evaluated",
        "attack": ATTACK["attack"],
        "norm": THREAT["norm"],
        "eps": "radius for pixels in 0..1, or one a modality",
        "target": "the attacked tasks",
        "seed": "of the evaluation",
        "cap": "queries of a sample after which nothing more was asked; empty: none",
        "surrogate": "training images asked about besides, once, for a surrogate; empty: none",
        "queries": "asked about each sample so far; about the same image none again",
        "robust": "robust accuracy then, as the attack saw it",
        "record": "the record's short hash",
    },
    "clinical": column_clinical.CLINICAL,
    "calibration": column_clinical.CALIBRATION,
    "corruptions": column_corruptions.KINDS,
    "corruption_errors": column_corruptions.ERRORS,
    "subgroups": column_clinical.SUBGROUPS,
    "abstention": column_clinical.ABSTENTION,
    "own_threats": column_corruptions.OWN_THREATS,
    "compare": {
        "model": (
            f"name of the model; `{CONSTANT}`: what that reaches on the same samples, a row a data"
            " set and threat, its other fields empty"
        ),
        "defense": "its defence, `none` where undefended",
        "victim": "name of the victim in the other tables",
        **{key: SAMPLE[key] for key in ("data", "synthetic", "size")},
        **THREAT,
        "protocol": ATTACK["protocol"],
        "n": "test samples evaluated",
        "n_distinct": "distinct images behind them, the smallest over the attacked tasks",
        **SEEDS,
        "clean": "share right before the attack, mean over the attacked tasks",
        "ATTACK": "robust accuracy under each attack, a column an attack; `noise` is the control",
        **WORST,
        "clean_balanced_accuracy": "balanced accuracy before the attack",
        "ATTACK_balanced_accuracy": "balanced accuracy under each attack, a column an attack",
        "ATTACK_auc": "AUC under each attack, a column an attack",
        "judged_on": (
            "`balanced_accuracy` where the largest class of an attacked task holds more than 60 %"
            " of its samples, else `robust` (accuracy): what sentences, pairs and the figure are of"
        ),
        "floor_accuracy": f"accuracy of `{CONSTANT}`",
        "floor_balanced_accuracy": "its balanced accuracy",
        "naive": (
            "robust accuracy that an attack which ignores the defence would have reported; empty"
            " where there is no such attack"
        ),
        "naive_balanced_accuracy": "balanced accuracy under the same",
        "naive_attack": "that attack",
        "naive_how": (
            "`release`: no EOT and one draw on a random victim; `unaware`: of the input transform"
        ),
        "draws": "forward passes per prediction",
        "eot": "draws per gradient of the attack",
        "gflops": COST["gflops"],
        "latency_ms": "median milliseconds of one forward pass of one sample",
        "parameters": COST["parameters"],
        "training_gflops": (
            "10^9 operations of the training: a backward pass counts as two forward ones, to the"
            " input alone as one"
        ),
        "training_seconds": "wall clock of the training",
        "trust": (
            "how far the worst case can be believed: as in the leaderboard, of all rows of the"
            " victim and threat read together"
        ),
        "why": "what that rests on",
        "marks": (
            f"victims no better than chance, under-trained, or in the worst case `{BELOW}`;"
            " unverified files"
        ),
        "training_x": "`training_gflops` over that of the undefended model",
        "inference_x": "`gflops` over that of the undefended model",
        "latency_x": "`latency_ms` over that of the undefended model",
    },
    "compare_pairs": {
        "data": SAMPLE["data"],
        **THREAT,
        "model_a": "model of the first victim",
        "defense_a": "its defence",
        "model_b": "model of the second victim",
        "defense_b": "its defence",
        "difference": (
            "worst-case robust accuracy of a minus that of b over the same labelled tasks of the"
            " same samples; robust balanced accuracy where `judged_on` says so"
        ),
        "low": (
            "lower end of its 95 % interval over patients (images where the data name none): a"
            " bootstrap, for balanced accuracy the classes' variances"
        ),
        "high": "upper end",
        "p": (
            "exact McNemar test of the first seed over patients or images, right meaning more than"
            " half of the draws; for balanced accuracy weighted by class, of all seeds"
        ),
        "n": "pairs: labelled attacked tasks of the samples",
        "p_holm": "`p` corrected for all pairs of the table (Holm)",
        "judged_on": "as in compare.csv: what `difference` is of",
        "accuracy_difference": "worst-case robust accuracy of a minus that of b",
        "balanced_accuracy_difference": "worst-case robust balanced accuracy of a minus that of b",
        "auc_difference": "lowest robust AUC of a minus that of b",
    },
    "compare_left_out": {
        "model": "name of a model that was asked for",
        "defense": "its defence; empty: the model is missing with every defence",
        "reason": "why it is in no table",
        "unsuited": (
            "whether the defence has no place in this model; else the shared parameters do not fit,"
            " and the exit code is 1"
        ),
    },
    "certified_tasks": {
        **CERTIFICATE,
        "n": "labelled test samples",
        "n_distinct": "distinct images behind them",
        "n_groups": "patients, or what else the card groups by; empty in older certificates",
        "n_effective": (
            "independent samples that `certified_accuracy` is worth: its interval stands on these;"
            " empty in older certificates"
        ),
        "abstained": (
            "share without a certificate: no class is proved to have more than half of the"
            " probability"
        ),
        "certified_accuracy": "share certified right, at whatever radius",
        "average_radius": "mean L2 radius, pixels in 0..1; 0 where wrong or abstained",
        "largest_radius": "largest L2 radius of a sample, right or wrong",
        "trivial": (
            "why the smoothed victim is no better than a constant, abstentions counted as wrong;"
            " empty where it is better"
        ),
        "certified_low": "lower end of the Wilson 95 % interval of `certified_accuracy`",
        "certified_high": "upper end",
    },
    "certified": {
        **CERTIFICATE,
        "n": "labelled test samples",
        "radius": "L2 radius, pixels in 0..1",
        "certified": (
            "share certified right at a larger radius than this: no attack of this size can take it"
        ),
        "certified_low": "lower end of its Wilson 95 % interval on the effective number of samples",
        "certified_high": "upper end",
        "constant": "share that always answering the most frequent class has right, at any radius",
        "trivial": "whether the smoothed victim is no better than a constant at the task",
    },
}
