"""The studies of docs/results.md: which commands each of them runs."""

from __future__ import annotations

from dataclasses import dataclass

PAIRINGS = ("sartaj-mri+breastmnist", "breastmnist+pneumoniamnist", "sartaj-mri+pneumoniamnist")


@dataclass(frozen=True)
class Study:
    """Commands into one folder; the first is the comparison whose table, verdict and figure are
    shown.
    """

    title: str
    text: str
    commands: tuple[str, ...]


def studies() -> dict[str, Study]:
    """Name (folder) of every study, in the order of the page."""
    return {
        "robust-mail": robust_mail(),
        "certified": certified_accuracy(),
    }


def robust_mail() -> Study:
    """MAIL and its defences, trained alike, under the strongest attack."""
    settings = "--preset real --limit 128 --eps 4/255 --train-seed 1,2,3 --max-passes 1000"
    return Study(
        "Robust-MAIL, taken apart",
        "MAIL, random projection filters alone, modulated attention noise alone, and both, each"
        " trained three times alike and attacked by `adaptive`; paired on the same samples.",
        (
            (
                "compare --model mail --defense none,rpf,man,robust-mail --attack adaptive"
                f" {settings} --data {','.join(PAIRINGS)}"
            ),
        ),
    )


def certified_accuracy() -> Study:
    """Randomised smoothing."""
    on = f"--limit 64 --data {PAIRINGS[1]} --size 32"
    return Study(
        f"Certified accuracy of smoothed late fusion on {PAIRINGS[1]}",
        "What no attack, known or unknown, can break: randomised smoothing of a victim of the short"
        " preset `quick`, over both modalities and over one alone.",
        (f"certify --model late --sigma 0.12,0.25 --n 500 {on}",),
    )
