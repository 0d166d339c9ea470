"""The panel: deliberately broken defences that must be flagged by the sign meant for them, and
honest victims that must not be.
"""

import numpy as np
import pytest
import torch
from support.evaluations import evaluate, setting, two_head_samples
from support.panel import BROKEN, HONEST, SETTING, Honest, Scaled, examined, signs_of
from support.victims import TwoHeads
from torch import Tensor, nn

from robustbench_med import statistics
from robustbench_med.attacks import Threat, complete
from robustbench_med.evaluation import cell_signs, convergence
from robustbench_med.evaluation import signs as diagnostics
from robustbench_med.evaluation.protocol import attack_pass
from robustbench_med.evaluation.types import Method

pytestmark = pytest.mark.challenged


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "pure noise" else n for n in BROKEN],
)
def test_a_broken_defence_is_flagged_by_the_sign_meant_for_it(name) -> None:
    victim, sign, eps = BROKEN[name]
    found = signs_of(victim, eps)
    assert found[sign].verdict == "failed", {key: (s.verdict, s.text) for key, s in found.items()}
    assert diagnostics.worst(list(found.values())) == "failed"


def test_large_logits_are_no_failure_where_the_margin_is_attacked_and_diagnose_says_what_they_hide() -> (
    None
):
    found = signs_of(Scaled())
    assert found["logit scale"].verdict == "doubtful"
    assert "the margin loss breaks" in found["logit scale"].text
    assert diagnostics.worst(list(found.values())) == "doubtful"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "gently random" else n for n in HONEST],
)
def test_an_honest_victim_is_not_flagged(name) -> None:
    found = signs_of(HONEST[name])
    assert not [(s.sign, s.text) for s in found.values() if s.verdict != "fine"]


def signs_of_cell(
    victim: nn.Module, attack: str = "pgd", **given: object
) -> dict[str, diagnostics.Sign]:
    """What is said of one evaluation."""
    samples, clean = examined(victim.eval())
    if clean.stochastic and "eot" in complete(attack, {}):
        given = {"eot": 4} | given
    method = Method(attack, complete(attack, given, random=clean.stochastic))
    threat = Threat("Linf", (0.08,), (0,))
    outcome = attack_pass(victim, samples, clean, threat, method, SETTING, lambda n: None)
    found = cell_signs.of_cell(victim, samples, clean, threat, method, outcome, SETTING, None)
    return {sign.sign: sign for sign in found}


@pytest.mark.parametrize("attack", ["bim", "pgd", "mim"])
@pytest.mark.parametrize("name", ["tanh", "relu", "linear"])
def test_a_loss_that_still_rises_is_a_warning_and_usual_steps_are_enough_for_honest_victims(
    name, attack
) -> None:
    usual, starved = (
        signs_of_cell(HONEST[name], attack)["not converged"],
        signs_of_cell(HONEST[name], attack, step_size=0.002)["not converged"],
    )
    assert usual.verdict == "fine", usual.text
    assert starved.verdict == "doubtful", starved.text


@pytest.mark.parametrize(
    ("attack", "given"),
    [
        ("pgd", {"steps": 7, "step_size": 0.01}),
        ("apgd", {"steps": 4}),
        ("fab", {"steps": 1}),
        ("cw", {"steps": 2, "search": 1}),
        ("square", {"queries": 20}),
        ("fgsm", {}),
    ],
)
def test_a_run_too_short_to_tell_says_so(attack, given) -> None:
    sign = signs_of_cell(HONEST["tanh"], attack, **given)["not converged"]
    assert sign.verdict == "doubtful"
    assert sign.figure is None
    assert "too short" in sign.text


@pytest.mark.parametrize(
    ("attack", "given"),
    [
        ("apgd", {"steps": 20}),
        ("fab", {"steps": 20}),
        ("cw", {"steps": 20}),
        ("square", {"queries": 400}),
        ("autoattack", {"steps": 20, "queries": 200}),
    ],
)
def test_every_attack_says_what_its_last_quarter_took(attack, given) -> None:
    sign = signs_of_cell(HONEST["tanh"], attack, **given)["not converged"]
    assert sign.figure is not None
    assert 0 <= sign.figure < 1.5 / 48, sign.text
    assert sign.verdict == "fine", sign.text


def test_what_falls_late_is_seen_in_the_trace_of_every_kind_of_attack() -> None:
    """Steps so small that samples fall to the end."""
    late = signs_of_cell(HONEST["tanh"], "pgd", steps=16, step_size=0.03, random_start=False)
    assert late["not converged"].figure > 1.5 / 48
    assert late["not converged"].verdict == "doubtful"
    assert (
        convergence.last_quarter(
            np.ones(4), np.array([0, 0, 1, 1]), 4, stochastic=False, rise=None
        ).figure
        == 0.5
    )
    noise = np.random.default_rng(0).random((2, 48))
    lucky = convergence.last_quarter(noise[0] + 0.03, noise[1], 48, stochastic=True, rise=None)
    assert lucky.verdict == "fine"


@pytest.mark.parametrize("attack", ["pgd", "fgsm", "square"])
def test_no_sign_fails_an_honest_victim(attack) -> None:
    for victim in (*HONEST.values(), Scaled()):
        given = {"queries": 100} if attack == "square" else {}
        found = signs_of_cell(victim, attack, **given)
        assert not [(s.sign, s.text) for s in found.values() if s.verdict == "failed"]


def test_a_verdict_is_of_the_attack_that_ran() -> None:
    victim = Scaled()
    assert signs_of_cell(victim)["logit scale"].verdict == "doubtful"
    assert signs_of_cell(victim, loss="margin")["logit scale"].verdict == "fine"
    black_box = signs_of_cell(victim, "square", queries=100)
    assert not {"logit scale", "zero gradient", "gradient against differences"} & set(black_box)


class Rewired(Honest):
    """Hands another gradient on."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def prepare(self, x):
        x = x.clone() if x.requires_grad else x
        if x.requires_grad:
            before = x.detach()
            x.register_hook(lambda gradient: self.change(gradient, before))
        return x


def off_grid(x: Tensor) -> Tensor:
    return ((x * 255).round() / 255 - x).abs().amax((1, 2, 3), keepdim=True) > 1e-5


@pytest.mark.parametrize(
    ("change", "sign", "verdict"),
    [
        (lambda g, x: -g, "gradient against differences", "doubtful"),
        (lambda g, x: g.roll(5, 3), "gradient against differences", "doubtful"),
        (
            lambda g, x: g + 10 * g.std() * torch.randn_like(g),
            "draws disagree",
            "doubtful",
        ),
        (lambda g, x: torch.where(off_grid(x), 0.0, g), "zero gradient", "failed"),
        (lambda g, x: torch.where(off_grid(x), torch.nan, g), "non-finite gradients", "failed"),
        (lambda g, x: g if len(g) <= 16 else g.flip(3), "draws disagree", "doubtful"),
    ],
    ids=["negated", "shifted", "drowned", "zero on the way", "NaN on the way", "large batches"],
)
def test_a_gradient_that_says_nothing_is_seen(change, sign, verdict) -> None:
    assert signs_of_cell(Rewired(change))[sign].verdict == verdict


class OneHeadDead(TwoHeads):
    """The second modality has no gradient at the second task."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return super().forward(a, b)[0], super().forward(a, b.detach())[1]


def test_a_gradient_is_asked_for_by_task_and_modality() -> None:
    samples, threat = two_head_samples(), Threat("Linf", (0.08, 0.08), (0, 1))
    for victim, verdict in ((OneHeadDead(), "failed"), (TwoHeads(), "fine")):
        clean, outcome = evaluate(victim.eval(), samples, threat, "pgd", setting())
        method = Method("pgd", complete("pgd", {}))
        found = cell_signs.of_cell(victim, samples, clean, threat, method, outcome, setting(), None)
        (sign,) = [each for each in found if each.sign == "zero gradient"]
        assert sign.verdict == verdict, sign.text
        assert ("of task 1 in modality 1" in sign.text) == (verdict == "failed")


class Counting(Honest):
    """Answers otherwise from its tenth gradient on."""

    calls = 0

    def logits(self, x: Tensor) -> Tensor:
        self.calls += x.requires_grad
        z = super().logits(x)
        return z if self.calls <= 10 else z.roll(1, 1)


class Hashed(Honest):
    """Noise that hangs on the image's bits."""

    def logits(self, x: Tensor) -> Tensor:
        z = super().logits(x)
        bits = (x.detach().flatten(1).double() * 1e9).round().long()
        seeds = (bits.sum(1) % 1009)[:, None]
        return z + 2 * torch.sin(seeds * (1.0 + torch.arange(3)))


def test_a_prediction_that_hangs_on_more_than_the_image_is_seen() -> None:
    found = signs_of_cell(Counting())
    assert found["not of the image alone"].verdict == "failed"
    assert "after the attack" in found["not of the image alone"].text
    assert signs_of_cell(Hashed())["jumps"].verdict == "failed"


def test_too_few_samples_are_no_sign_of_a_trivial_victim() -> None:
    labels = np.arange(16) % 2
    right = np.ones(16)
    right[:5] = 0  # 11 of 16
    assert statistics.trivial(right, labels, labels, 2) is None
    sign = diagnostics.trivial([None], [statistics.cannot_tell(right, labels, 2)])
    assert (sign.verdict, sign.figure) == ("fine", None)
    assert "too few samples to tell" in sign.text
    many = np.tile(right, 20)
    assert statistics.cannot_tell(many, np.tile(labels, 20), 2) is None
    constant = (labels == 0).astype(float)
    assert "chance" in str(statistics.trivial(constant, 0 * labels, labels, 2))


def test_the_worst_sign_comes_first_and_makes_the_trust() -> None:
    good, bad = diagnostics.not_finite(0, 9), diagnostics.converged(0.5, 0.2, 0.02)
    assert diagnostics.worst([good, bad]) == "failed"
    assert [s["verdict"] for s in diagnostics.plain([good, bad])] == ["failed", "fine"]
    assert diagnostics.worst([]) == "fine"


def test_verdicts_turn_where_the_thresholds_say() -> None:
    assert diagnostics.converged(0.50, 0.49, 0.02).verdict == "fine"
    assert diagnostics.converged(0.50, 0.47, 0.02).verdict == "doubtful"
    assert convergence.rise_of([0.0, 1.0, 1.6, 1.8, 1.9, 1.95, 1.95, 2.0]) == pytest.approx(0.025)
    assert convergence.rise_of([float(i) for i in range(8)]) == pytest.approx(2 / 7)
    assert convergence.rise_of([5.0] * 4 + [1.0] * 3 + [4.0]) == 0  # that fell
    assert diagnostics.not_finite(1, 100).verdict == "doubtful"
    assert diagnostics.draws_disagree(0.05, 4).verdict == "doubtful"
    assert diagnostics.draws_disagree(0.05, 16).verdict == "fine"
    curve = [(1.0, 0.5), (2.0, 0.6)]
    assert diagnostics.monotone(curve, None, 0.02, everything_moves=True).verdict == "failed"
    falling = [(1.0, 0.5), (2.0, 0.3)]
    assert diagnostics.monotone(falling, 0.0, 0.02, everything_moves=True).verdict == "fine"
    assert diagnostics.monotone(falling, 0.3, 0.02, everything_moves=True).verdict == "failed"
    assert (
        diagnostics.monotone(falling, 0.3, 0.02, everything_moves=False).verdict == "doubtful"
    )  # a trusted modality may hold it
    assert diagnostics.bounds(1.01, 0, 1).verdict == "failed"
    assert diagnostics.beats_noise(0.80, 0.79, 0.02).verdict == "doubtful"
