"""The studies of docs/results.md: which commands each of them runs."""

from __future__ import annotations

from dataclasses import dataclass

MODELS = "early,late,gmu,mmtm,lmf,cross-attention"
QUICK = "none,rpf,pni,smoothing,input-noise,resize-pad,jpeg,median,bit-depth"
PAIRINGS = {"breast-chest": "breastmnist+pneumoniamnist", "brain-breast": "sartaj-mri+breastmnist"}
LEARNT = "sartaj-mri+pneumoniamnist"
"""Tasks that MAIL and its defences learn, so that it shows what they add; of breast lesions they
tell little more than chance.
"""
FAMILY = ("mail", "mail+rpf", "mail+man", "robust-mail")
DRAWS = (1, 8, 32)
QUERIES = 300


@dataclass(frozen=True)
class Study:
    """Commands into one folder; the first is the comparison whose table, verdict and figure are
    shown.
    """

    title: str
    text: str
    commands: tuple[str, ...]
    figures: tuple[tuple[str, str], ...] = ()
    """Of a study that ends in `medrobust report`: a pattern of a figure's name, and what it shows.
    """


def studies() -> dict[str, Study]:
    """Name (folder) of every study, in the order of the page."""
    by_name = {}
    for place, data in PAIRINGS.items():
        by_name[f"models-{place}"] = fusion_models(data)
        by_name[f"cross-{place}"] = models_by_defences(data)
        by_name[f"defences-{place}"] = defences_of_late_fusion(data)
    return by_name | {
        "robust-mail": robust_mail(),
        "certified": certified_accuracy(),
        "radii": radii(),
        "claims": claims(),
    }


def fusion_models(data: str) -> Study:
    """Undefended models."""
    on = f"--limit 128 --data {data} --size 32"
    narrow = "--model-param width=8"
    return Study(
        f"Fusion models, undefended, on {data}",
        "Six ways of fusing, encoders of width 8, trained three times each, for 200 steps.",
        (
            (
                f"compare --model {MODELS} --defense none --attack pgd,autoattack"
                f" --attack-param queries=300 --train-seed 0,1,2 --recipe steps=200 {narrow}"
                f" {on}"
            ),
        ),
    )


def models_by_defences(data: str) -> Study:
    """Every model with every defence that needs no adversarial training."""
    narrow = "--model-param width=8"
    settings = (
        f"--attack pgd --attack-param steps=20 --recipe steps=200 {narrow} --data {data} --size 32"
    )
    return Study(
        f"Models with every quick defence on {data}",
        "Six models with the eight defences that cost no adversarial training, trained three"
        " times each, for 200 steps.",
        (f"compare --model {MODELS} --defense {QUICK} --train-seed 0,1,2 {settings}",),
    )


def defences_of_late_fusion(data: str) -> Study:
    """One model, adversarial trainings among its defences."""
    on = f"--limit 128 --data {data} --size 32"
    narrow = "--model-param width=8"
    return Study(
        f"Defences of late fusion on {data}",
        "Eight defences of one model, encoders of width 8, each attacked by the attack that"
        " fits it.",
        (
            (
                "compare --model late --defense"
                " none,pgd-at,trades,rpf,pni,smoothing,jpeg,median,bit-depth --attack"
                f" fgsm,pgd,apgd --attack-param steps=20 {narrow} {on}"
            ),
        ),
    )


def robust_mail() -> Study:
    """MAIL and its defences, release protocol and sound attacks."""
    on = f"--limit 64 --data {LEARNT} --folds 5 --fold 0 --size 64"
    return Study(
        f"Robust-MAIL, taken apart, on {LEARNT}",
        "MAIL, random projection filters alone, modulated attention noise alone, and both. On one"
        " fold of a cross-validation, because the published test images of the MRI set are unlike"
        " its training images.",
        (
            (
                "compare --model mail --defense none,rpf,man,robust-mail --attack fgsm,pgd,square "
                f"--attack-param queries={QUERIES} --attack-param steps=10 {on}"
            ),
            *(
                f"run --model {','.join(FAMILY)} --attack pgd --attack-param eot={n} --attack-param"
                f" steps=10 {on}"
                for n in DRAWS
            ),
            (
                f"run --model {FAMILY[0]},{FAMILY[-1]} --attack pgd --attack-param eot={DRAWS[-1]}"
                f" --attack-param steps=40 {on}"
            ),
            f"run --model {','.join(FAMILY[1:])} --attack transfer --source mail {on}",
        ),
    )


def certified_accuracy() -> Study:
    """Randomised smoothing."""
    on = f"--limit 64 --data {PAIRINGS['breast-chest']} --size 32"
    return Study(
        f"Certified accuracy of smoothed late fusion on {PAIRINGS['breast-chest']}",
        "What no attack, known or unknown, can break: randomised smoothing, over both modalities"
        " and over one alone.",
        (f"certify --model late --sigma 0.12,0.25 --n 500 {on}",),
    )


def radii() -> Study:
    """What `medrobust report` draws."""
    on = (
        f"--limit 128 --data {PAIRINGS['breast-chest']} --size 32 --model-param width=8 --recipe"
        " steps=200"
    )
    return Study(
        f"Radii, modalities, classes and smallest perturbations on {PAIRINGS['breast-chest']}",
        "Late fusion of width 8, undefended, smoothed with Gaussian noise, and with JPEG before it:"
        " what `medrobust report` draws.",
        (
            (
                "run --model late --defense none,smoothing,jpeg --attack fgsm,pgd --eps"
                f" 1/255,2/255,4/255,8/255 {on}"
            ),
            (
                "run --model late --defense none,smoothing --attack pgd --eps 2/255 --cross-modal"
                f" {on}"
            ),
            (
                "run --model early,late,gmu --attack cw,fab --norm L2 --eps 0.5,1 --attack-param"
                f" steps=20 {on}"
            ),
            "report",
        ),
        (
            ("robust-accuracy-*-Linf-*", "Robust accuracy against radius"),
            ("cross-modal-*", "Robust accuracy by attacked modality and task"),
            ("per-class-*-Linf-*", "Clean and robust accuracy of every class"),
            ("minimal-norm-*", "Robust accuracy against the size of the smallest perturbations"),
            ("convergence-*", "Attack loss by step"),
        ),
    )


def claims() -> Study:
    """The papers' claims, costs measured."""
    return Study(
        "The MAIL papers' claims",
        "Costs are measured exactly, networks of the published sizes at 128 pixels. Claims on"
        " accuracy need the authors' trainings.",
        (
            (
                "cost --preset release --size 128 --model"
                f" mail,robust-mail,drifa-net,{MODELS},unimodal"
            ),
            "claims",
        ),
    )
