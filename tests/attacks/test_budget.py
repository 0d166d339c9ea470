"""What attacks take at most: no attack takes more on a victim that never falls, or on one that
does.
"""

import sys

import pytest
import torch
from torch import Tensor, nn

from robustbench_med.attacks import ENGINES, Streams, Threat, View, complete
from robustbench_med.attacks.budget import BUDGETS, Against, most
from robustbench_med.attacks.registry import SHIPPED, entry_of

SHAPES = [(1, 4, 4), (1, 4, 4)]
CLASSES = (4, 3)


class Firm(nn.Module):
    """Two tasks whose classes 0 no perturbation takes away, with gradients that never repeat."""

    n_modalities, class_counts = 2, CLASSES

    def __init__(self, lead: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.maps = nn.ParameterList(
            nn.Parameter(torch.randn(32, n, generator=generator), requires_grad=False)
            for n in CLASSES
        )
        self.lead = lead

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        x = torch.cat((a, b), 1).flatten(1)
        wave = torch.sin(7 * x)
        return tuple(wave @ m + self.lead * torch.eye(m.shape[1])[0] for m in self.maps)


SMALL = {
    "steps": 4,
    "restarts": 2,
    "queries": 20,
    "targets": 2,
    "search": 3,
    "evaluations": 20,
    "initial": 10,
    "eot": 2,
}


RADII = {"Linf": 0.02, "L2": 0.1, "L1": 0.2, "L0": 1}


def test_every_attack_of_medrobusts_has_a_budget() -> None:
    assert set(BUDGETS) == {entry.name for entry in SHIPPED}


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("name", [name for name in BUDGETS if name != "adaptive"])
def test_no_attack_takes_more_and_on_a_firm_victim_hardly_less(
    name: str, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = sys.modules["robustbench_med.attacks.random_search"]
    monkeypatch.setattr(search, "AHEAD", 1)  # what it asks ahead is not counted
    monkeypatch.setattr(search, "SMALL", 1)
    parameters = {key: SMALL[key] for key in complete(name, {}) if key in SMALL}
    given = complete(name, parameters)
    norm = entry_of(name).norms[0]
    radius = RADII[norm]
    threat = Threat(norm, (radius, radius), (0, 1))
    n = 20
    for lead, least in ((60.0, 0.5), (0.1, 0.0)):
        view, sources = View(Firm(lead), SHAPES, draws=draws), {}
        if name == "transfer":
            sources = {"sources": [View(Firm(1.0), SHAPES)]}
        x = torch.rand(n, 32, generator=torch.Generator().manual_seed(1))
        y = torch.zeros(n, 2, dtype=torch.long)
        streams = Streams.seeded(0, [str(i) for i in range(n)], name)
        ENGINES["native"][name](view, x, y, threat, streams, **given, **sources)
        against = Against(draws, max(CLASSES), 2, sources=len(sources), norm=norm)
        budget = most(name, given, against)
        assert view.passes.backward <= n * budget.backward
        assert view.passes.forward <= n * budget.forward
        if name not in ("hopskipjump", "boundary"):  # none of their tries breaks the firm victim
            assert view.passes.backward >= least * n * budget.backward
            assert view.passes.forward >= least * n * budget.forward


def test_an_attack_of_the_users_has_none(monkeypatch) -> None:
    monkeypatch.setitem(ENGINES["native"], "mine", lambda view, x, y, threat, streams: x)
    assert most("mine", {}, Against()) is None
