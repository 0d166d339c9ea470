"""What columns mean that several tables have."""

from __future__ import annotations

SAMPLE = {
    "model": "name of the victim's model, as `--model` takes it",
    "data": (
        "data set, or pairing `a+b`; `(k-fold)` behind it: cross-validation over all its samples"
    ),
    "synthetic": "True where any of the images are drawn, not taken from patients",
    "size": "pixels of an image's side",
}
THREAT = {
    "norm": (
        "`Linf`, `L2`, `L1` (sum of changes), `L0` (number of changed pixels) or `L0 coordinates`;"
        " but for Linf one ball per modality; several joined by `+` (in comparisons): right only"
        " under every one of them"
    ),
    "eps": (
        "radius for pixels in 0..1 (L0: a whole number of pixels), `mri=4/255,xray=0` where"
        " modalities differ (0 = trusted), `20HU` in the unit of the files"
    ),
}
ATTACK = {
    "attack": (
        "attack, as `--attack` takes it, `from` other victims (transfer), `to` classes (targeted);"
        " `noise` is the control"
    ),
    "engine": "who computed it: `native`, `torchattacks`, `art` or `foolbox`",
    "protocol": "`sound` (fresh draws, EOT) or `release` (the authors' notebook)",
}
ROBUST = {
    "robust": "share right after the attack; for a random victim the mean over fresh draws",
    "robust_low": (
        "lower end of its Wilson 95 % interval for the population, on the effective number of"
        " samples: patients, not images, are independent, and draws that a batch shares are few"
    ),
    "robust_high": "upper end",
}
TRUST = {
    "trust": (
        "[how far the figure can be believed](trust.md): `failed`, `doubtful`, `unchallenged` or"
        " `challenged`, the worst of the row's records; empty for the noise control and the"
        " `release` protocol"
    )
}
CHECKPOINT = {"checkpoint": "first 12 digits of the weights' sha256 (the first training's)"}
SEEDS = {
    "trainings": (
        "trained victims behind the row: training seeds, of all folds together; 1 for weights of"
        " your own"
    ),
    "evaluation_seeds": "evaluation seeds pooled within each training, the fewest",
}
VARIANT = {
    "variant": (
        "what tells the victim from others of its name on the same data, as `recipe steps=20`; else"
        " empty"
    )
}
COST = {
    "parameters": "weights a training would change",
    "gflops": (
        "10^9 floating-point operations of one sample by PyTorch's counter, 2 a multiply-accumulate"
    ),
    "gmacs": "10^9 multiply-accumulates of one sample: half of `gflops`",
}
TARGET = "attacked task, or `joint`: all of them at once"

CERTIFICATE = {
    **SAMPLE,
    "noised": (
        "what the radius bounds: `all modalities` jointly, or one modality `alone`, the others"
        " trusted"
    ),
    "sigma": "standard deviation of the noise, pixels in 0..1",
    "n0": "draws that choose the class",
    "draws": "draws that bound its probability",
    "alpha": "chance that a certificate is wrong, each for itself",
    "train_seed": "seed of the training; empty for weights of your own",
    "seed": "seed of the draws",
    "checkpoint": "first 12 digits of the weights' sha256",
    **VARIANT,
    "task": "task the figures belong to",
}
