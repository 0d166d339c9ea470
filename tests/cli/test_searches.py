"""How a search is shown in a terminal of 80 columns."""

import io
import itertools

import pytest
from rich.console import Console

from robustbench_med.attacks import adaptive
from robustbench_med.cli import searches
from robustbench_med.store.attacks import RoundRan, SearchRan


@pytest.mark.parametrize("random", [True, False])
def test_every_round_reads_well_at_80_columns(random) -> None:
    plan = list(itertools.islice(adaptive.rounds(adaptive.Facing(random, 9, True, 2)), 14))
    ran = [
        RoundRan(
            kind=each.kind,
            attack=each.attack,
            parameters=dict(each.parameters),
            why=each.why,
            passes=123456.4,
            queries=5000.0,
            changed=3,
            taken=-0.0123,
            error=0.004 if random else 0.0,
            left=0.5,
        )
        for each in plan
    ]
    search = SearchRan(
        effort="auto", outcome="capped", next_passes=400_000, tolerance=0.01, rounds=ran
    )
    out = io.StringIO()
    Console(width=80, file=out).print(searches.rounds(search))
    shown = out.getvalue()
    assert "…" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "123,456" in shown
    assert ("-0.012 (s.e. 0.004)" in shown) == random
    assert "capped" in shown
    assert "--max-passes 400000" in " ".join(shown.split())
    for each in plan:
        assert each.kind in shown
        assert all(f"{key}={value}" in shown for key, value in each.parameters.items())


def test_an_attack_without_parameters_has_no_brackets() -> None:
    assert searches.called("adaptive", {}) == "adaptive"
    assert searches.called("pgd", {"steps": 20}) == "pgd (steps=20)"
