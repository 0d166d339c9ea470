"""The protocol: random victims, samples that are never right, batch sizes, intervals."""

import numpy as np
import pytest
import torch
from support.evaluations import CPU, evaluate, samples_of, setting, two_head_samples
from support.victims import CoinFlip, TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import Threat, View, complete, under
from robustbench_med.evaluation.figure_types import Figures, ParticularFigures, TaskFigures
from robustbench_med.evaluation.figures import mean_losses
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method, Setting
from robustbench_med.models.mail import MAIL
from robustbench_med.store import figures


@pytest.mark.parametrize(
    "name", [name for name in under("Linf") if name not in ("hopskipjump", "adaptive")]
)  # one goes sample by sample, the other is a search: see test_strength and test_search
def test_a_victim_that_is_right_with_probability_seven_tenths_is_seven_tenths_robust(
    name: str,
) -> None:
    rng = np.random.default_rng(0)
    n = 200
    labels = rng.integers(2, size=(n, 1))
    images = rng.integers(60, 200, (n, 1, 4, 4), dtype=np.uint8)
    images[:, 0, 0, 0] = 255 * labels[:, 0]
    given = {"steps": 5, "restarts": 3, "queries": 10, "search": 1, "evaluations": 2, "initial": 2}
    clean, outcome = evaluate(
        CoinFlip(),
        samples_of(images, labels=labels),
        Threat("Linf", (0.1,), (0,)),
        name,
        setting(64),
        **given,
    )
    assert clean.stochastic
    assert outcome.figures["robust"] == pytest.approx(
        0.7, abs=0.03
    )  # 3200 draws: standard error 0.008
    low, high = outcome.figures["robust_interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * 0.0081, rel=0.15)
    assert (
        outcome.figures["robust_vote"] > 0.85
    )  # the majority of 16 such draws is right more often than one


def test_samples_never_right_are_not_attacked_and_count_as_wrong() -> None:
    samples = two_head_samples()
    clean, outcome = evaluate(
        TwoHeads().eval(), samples, Threat("Linf", (0.1, 0.1), (0,)), "pgd", setting()
    )
    assert clean.right[:, 0].mean() == pytest.approx(0.8)
    assert outcome.cost["attacked_samples"] == 32
    wrong = clean.right[:, 0] == 0
    assert (outcome.arrays["robust_right"][wrong, 0] == 0).all()
    assert (outcome.arrays["linf"][wrong] == 0).all()
    assert outcome.figures["robust"] <= outcome.figures["clean"]
    assert outcome.figures["asr"] == pytest.approx(
        1 - outcome.figures["robust"] / outcome.figures["clean"]
    )


class Lucky(TwoHeads):
    """A random victim that is never right at task 0 in its first passes, and always afterwards."""

    stochastic = True

    def __init__(self, first: int) -> None:
        super().__init__()
        self.wrong_passes, self.passes = first, 0

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        self.passes += 1
        z, other = super().forward(a, b)
        return (-z if self.passes <= self.wrong_passes else z), other


@pytest.mark.challenged
def test_what_was_never_right_and_is_attacked_counts_as_wrong_whatever_the_fresh_draws_say() -> (
    None
):
    samples, how = two_head_samples(20), setting(batch_size=64, draws=4)
    samples.components[0].labels[::5, 0] = (
        1 - samples.components[0].labels[::5, 0]
    )  # the victim is right at every one, once it is
    victim = Lucky(first=32).eval()
    clean = clean_pass(victim, samples, how, lambda n: None, stochastic=True, drawing="batch")
    assert clean.draws == 32  # of one chunk: four would be too few
    assert (clean.right[:, 0] == 0).all()
    for tasks, expected in (
        ((0,), 0.0),
        ((1,), 1.0),
    ):  # of a task that is not attacked the draws count as they are
        method = Method("noise", complete("noise", {}))
        outcome = attack_pass(
            victim, samples, clean, Threat("Linf", (0.0, 0.0), tasks), method, how, lambda n: None
        )
        assert (outcome.arrays["robust_vote"][:, 0] == samples.labels[:, 0].numpy()).all()
        assert (outcome.arrays["robust_right"][:, 0] == expected).all()
        assert (
            outcome.figures["tasks"][0]["robust"]
            == outcome.figures["tasks"][0]["robust_vote"]
            == expected
        )
        assert outcome.figures["tasks"][1]["robust"] == 1


def test_an_attack_on_one_task_reports_the_other_too() -> None:
    clean, outcome = evaluate(
        TwoHeads().eval(), two_head_samples(), Threat("Linf", (0.3, 0.3), (1,)), "pgd", setting()
    )
    attacked, other = outcome.figures["tasks"][1], outcome.figures["tasks"][0]
    assert outcome.figures["robust"] == attacked["robust"] < 0.3
    assert other["robust"] > attacked["robust"]
    assert clean.right[:, 1].mean() == 1


def test_release_protocol_takes_one_draw_of_a_random_victim_and_attacks_all() -> None:
    samples = two_head_samples()
    victim = MAIL((1, 3), (2, 4), width=16).eval()
    clean, outcome = evaluate(
        victim, samples, Threat("Linf", (0.1, 0.1), (0, 1)), "fgsm", setting(protocol="release")
    )
    assert clean.draws == 1
    assert set(np.unique(clean.right)) <= {0.0, 1.0}
    assert outcome.cost["attacked_samples"] == len(samples)
    assert (
        outcome.cost["attack_forward_per_sample"] == outcome.cost["attack_backward_per_sample"] == 1
    )


class InDouble(TwoHeads):
    """Computes in float64, where what rounding by batch size changes is far below a pixel or a
    logit of float32.
    """

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(z.float() for z in super().forward(a.double(), b.double()))


@pytest.mark.parametrize("seed", range(3))
def test_outcomes_do_not_depend_on_the_batch_size(seed: int) -> None:
    """In float32 they may: kernels round by batch size, the sign of a gradient hands that on, and
    no margin bounds what comes of it.
    """
    victim, samples = InDouble(seed).double().eval(), two_head_samples(64)
    samples.components[0].labels[:] = torch.stack(
        [z.argmax(1) for z in victim(*samples.batch(range(64)))], 1
    ).numpy()
    threat = Threat("Linf", (0.03, 0.03), (0, 1))
    outcomes = {
        size: evaluate(victim, samples, threat, "pgd", setting(size), steps=3)[1].arrays
        for size in (1, 7, 64)
    }
    reference = outcomes[64]
    assert (
        0.1 < reference["robust_right"].mean() < 0.9
    )  # the radius is one at which outcomes could differ
    for size in (1, 7):
        assert np.array_equal(outcomes[size]["robust_right"], reference["robust_right"])
        assert np.allclose(outcomes[size]["linf"], reference["linf"], atol=1e-6)
        for t in (0, 1):
            assert np.allclose(
                outcomes[size][f"robust_probabilities_{t}"],
                reference[f"robust_probabilities_{t}"],
                atol=1e-5,
            )


def test_the_same_seed_gives_the_same_outcome_for_a_random_victim_and_another_seed_another() -> (
    None
):
    samples = two_head_samples(12)
    victim = MAIL((1, 3), (2, 4), width=16).eval().requires_grad_(False)
    runs = []
    for seed in (0, 0, 1):
        how = Setting("sound", 4, seed, CPU, 16)
        runs.append(
            evaluate(victim, samples, Threat("Linf", (0.1, 0.1), (0, 1)), "pgd", how, steps=2)[
                1
            ].arrays
        )
    assert all(np.array_equal(runs[0][key], runs[1][key]) for key in runs[0])
    assert not np.array_equal(runs[0]["robust_probabilities_0"], runs[2]["robust_probabilities_0"])


def test_evaluation_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    samples = samples_of(np.zeros((4, 1, 2, 2), np.uint8), labels=np.zeros((4, 1), np.int64))
    evaluate(CoinFlip(), samples, Threat("Linf", (0.1,), (0,)), "noise", setting())
    assert torch.equal(torch.rand(3), expected)


def test_passes_per_sample_are_what_the_attack_costs() -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    samples = two_head_samples()
    _, outcome = evaluate(
        view.victim, samples, Threat("Linf", (1e-6, 1e-6), (0, 1)), "pgd", setting(), steps=10
    )
    assert (
        outcome.cost["attack_backward_per_sample"] == 10
    )  # nothing falls at this radius, so nothing leaves the batch
    assert outcome.cost["attack_forward_per_sample"] == pytest.approx(11, abs=0.1)  # or it falls


@pytest.mark.parametrize(("name", "given"), [("fab", {"steps": 2, "targets": 1}), ("fgsm", {})])
def test_a_second_radius_asks_the_victim_for_nothing_but_its_fresh_draws_and_costs_what_the_first_did(
    name, given
) -> None:
    samples, victim, how = two_head_samples(), TwoHeads().eval(), setting(batch_size=16)
    clean = clean_pass(victim, samples, how, lambda n: None, stochastic=False)
    method, passed, costs = Method(name, complete(name, given), sweep={}), [], []
    victim.register_forward_hook(lambda module, given, logits: passed.append(len(given[0])))
    for eps in (0.1, 0.02):
        passed.clear()
        costs.append(
            attack_pass(
                victim,
                samples,
                clean,
                Threat("Linf", (eps, eps), (0, 1)),
                method,
                how,
                lambda n: None,
            ).cost
        )
    assert sum(passed) == len(samples)
    for key in (
        "attack_forward",
        "attack_backward",
        "attack_forward_per_sample",
        "evaluation_forward",
    ):
        assert costs[0][key] == costs[1][key] > 0


@pytest.mark.parametrize("name", ["fab", "cw"])
def test_the_curve_of_perturbation_sizes_starts_at_clean_accuracy_and_falls(name) -> None:
    samples = two_head_samples()  # a fifth is wrong at one of two tasks to begin with
    _, outcome = evaluate(
        TwoHeads().eval(),
        samples,
        Threat("Linf", (0.1, 0.1), (0, 1)),
        name,
        setting(),
        steps=10,
        targets=1,
        search=2,
    )
    radii, robust = zip(*outcome.figures["minimal_norm"]["curve"], strict=True)
    assert robust[0] == pytest.approx(outcome.figures["clean"])
    assert outcome.figures["clean"] < 1
    assert list(robust) == sorted(robust, reverse=True)
    assert robust[-1] < robust[0]
    assert radii[-1] > 0


@pytest.mark.parametrize(
    ("name", "length"),
    [("bim", 8), ("pgd", 8), ("mim", 8), ("apgd", 9), ("apgd-t", 9), ("autoattack", 9)],
)
def test_the_attack_loss_is_a_mean_over_samples_whatever_the_batch_and_rises(
    name: str, length: int
) -> None:
    samples, threat = two_head_samples(), Threat("Linf", (0.1, 0.1), (0, 1))
    losses = [
        evaluate(
            TwoHeads().eval(), samples, threat, name, setting(size), steps=8, restarts=3, queries=5
        )[1].figures["attack_loss"]
        for size in (1, 7, 64)
    ]
    assert len(losses[0]) == length
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)
    assert losses[0][-1] > losses[0][0] + 0.5


def test_the_attack_loss_begins_with_the_clean_loss_and_costs_no_pass() -> None:
    samples, threat = two_head_samples(), Threat("Linf", (0.1, 0.1), (0, 1))
    _, outcome = evaluate(TwoHeads().eval(), samples, threat, "bim", setting(7), steps=5)
    logits = TwoHeads().eval()(*samples.batch(range(len(samples))))
    clean = sum(nn.functional.cross_entropy(z, samples.labels[:, t]) for t, z in enumerate(logits))
    assert outcome.cost["attacked_samples"] == len(samples)
    assert outcome.figures["attack_loss"][0] == pytest.approx(float(clean), rel=1e-4)
    assert outcome.cost["attack_backward"] <= 5 * len(samples)
    assert (
        "attack_loss"
        not in evaluate(TwoHeads().eval(), samples, threat, "noise", setting())[1].figures
    )


def test_a_sample_that_fell_keeps_its_last_finite_loss() -> None:
    nan, inf = np.nan, np.inf
    assert mean_losses(np.array([[1.0, nan, 3.0], [2.0, nan, nan], [inf, 8.0, nan]])) == [
        2.0,
        2.5,
        pytest.approx(13 / 3, rel=1e-5),
    ]
    assert mean_losses(np.array([[nan, inf], [1.0, nan]])) == [None, 1.0]


class Breaking(TwoHeads):
    """Logits that are not finite where the first modality is bright: of some samples from the
    start, of others within their ball.
    """

    value = torch.nan

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        bright = (a.mean((1, 2, 3)) > 0.5)[:, None]
        return tuple(
            torch.where(bright, self.value, z) if t == 0 else z
            for t, z in enumerate(super().forward(a, b))
        )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", under("Linf"))
def test_logits_that_are_not_finite_are_never_right_are_counted_and_are_no_randomness(
    name: str, value: float
) -> None:
    samples, victim = two_head_samples(20), Breaking().eval()
    samples.components[0].labels[:, 0] = 0  # class 0 is what a largest NaN would be taken for
    victim.value = value
    given = {"steps": 5, "restarts": 2, "queries": 10, "search": 1, "evaluations": 2, "initial": 2}
    threat = Threat("Linf", (0.01, 0.01), (0,))
    clean, outcome = evaluate(victim, samples, threat, name, setting(), **given)
    assert not clean.stochastic
    bright = samples.batch(range(20))[0].mean((1, 2, 3)).numpy() > 0.5
    assert 0 < bright.sum() < 20
    assert (clean.right[bright, 0] == 0).all()
    assert (clean.vote[bright, 0] == -1).all()
    assert (clean.vote[bright, 1] >= 0).all()  # the other task is judged as ever
    broken = np.isnan(outcome.arrays["robust_probabilities_0"]).all(1)
    assert broken[bright].all()
    assert (outcome.arrays["robust_right"][broken, 0] == 0).all()
    assert (
        outcome.figures["not_finite"]
        == outcome.figures["tasks"][0]["not_finite"]
        == (broken | bright).sum()
    )
    assert outcome.figures["tasks"][1]["not_finite"] == 0
    assert outcome.figures["auc"] is None
    first = clean.right[:, 0].mean()
    assert outcome.figures["robust"] <= outcome.figures["clean"] == pytest.approx(first)


def test_a_sample_that_an_attack_makes_not_finite_is_broken() -> None:
    samples, victim = two_head_samples(20), Breaking().eval()
    x = View(victim, TwoHeads.shapes).pack(samples.batch(range(20)))
    y, threat = samples.labels, Threat("Linf", (0.1, 0.1), (0,))
    bright = samples.batch(range(20))[0].mean((1, 2, 3)) > 0.5
    assert (View(victim, TwoHeads.shapes).standing(x, y, threat)[bright] == 0).all()


def test_the_share_of_draws_that_are_finite_counts() -> None:
    class Flickers(TwoHeads):
        stochastic = True

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            lost = torch.rand(len(a), 1) < 0.5
            return tuple(torch.where(lost, torch.nan, z) for z in super().forward(a, b))

    samples = two_head_samples(60)
    clean, outcome = evaluate(
        Flickers().eval(), samples, Threat("Linf", (0.0, 0.0), (1,)), "noise", setting(draws=32)
    )
    assert clean.right[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    assert (
        clean.vote[:, 1] == samples.labels[:, 1].numpy()
    ).all()  # of the draws that predict anything
    assert outcome.figures["not_finite"] == 60


def test_figures_are_the_fields_that_a_record_has() -> None:
    """What a pass sums up is written into a record under the names that readers check."""
    assert TaskFigures.__annotations__.keys() == figures.TaskFigures.model_fields.keys()
    required = {name for name, field in figures.Figures.model_fields.items() if field.is_required()}
    assert required <= Figures.__annotations__.keys() | ParticularFigures.__annotations__.keys()
