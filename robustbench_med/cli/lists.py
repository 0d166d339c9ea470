"""Commands that list what can be named."""

from __future__ import annotations

from robustbench_med.cli.as_json import AsJson, show_json
from robustbench_med.cli.options import Preset, make_display


def models(preset: Preset = "quick", as_json: AsJson = False) -> None:
    """The models that can be named, with parameters, FLOPs, whether they are random, and their
    papers.
    """
    from robustbench_med.cli import listings
    from robustbench_med.runs.costs import list_models
    from robustbench_med.training import presets

    description = presets.preset(preset)["description"]
    rows = [vars(row) for row in list_models(preset)]
    if as_json:
        show_json(rows)
    else:
        make_display(False).show(listings.models(rows, preset, description))


def attacks(as_json: AsJson = False) -> None:
    """The attacks that can be named, with their parameters, defaults and papers."""
    from robustbench_med.attacks import corruptions, describe, described_apart
    from robustbench_med.cli import listings

    kinds = list(corruptions.described())
    if as_json:
        show_json([*describe(), *described_apart(), *kinds])
    else:
        make_display(False).show(listings.attacks(describe()))
        make_display(False).show(listings.own_threats(described_apart()))
        make_display(False).show(listings.corruptions(kinds))


def defenses(as_json: AsJson = False) -> None:
    """The defences that can be named with --defense, alone or joined by +, with their parameters,
    defaults and papers.
    """
    from robustbench_med.cli import listings
    from robustbench_med.training.defenses import describe

    if as_json:
        show_json(describe())
    else:
        make_display(False).show(listings.defenses(describe()))
