"""A search for the strongest attack: which rounds there are, when it stops, and what it measures."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.evaluations import CPU, samples_of, setting, two_head_samples
from support.victims import CoinFlip, TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import Threat, View, complete
from robustbench_med.attacks import adaptive as adaptive_attack
from robustbench_med.attacks.adaptive import (
    BLACK_BOX,
    BOUNDARY,
    DRAWS,
    FIRST,
    LOSS,
    SOFT,
    Facing,
    required,
    rounds,
)
from robustbench_med.evaluation import search as searching
from robustbench_med.evaluation.batching import shapes_of
from robustbench_med.evaluation.cell_signs import of_cell
from robustbench_med.evaluation.probes import examine
from robustbench_med.evaluation.protocol import attack_pass, clean_pass, single_draw
from robustbench_med.evaluation.types import AttackPass, Effort, Method, Outcome, RoundRan

AUTO = Effort("auto", 4000)


def attacked(
    victim: nn.Module, samples, threat: Threat, effort: Effort | None, name="adaptive", **given
) -> Outcome:
    nature = examine(victim, samples, CPU, 0)
    clean = clean_pass(
        victim,
        samples,
        setting(),
        lambda n: None,
        stochastic=nature.stochastic,
        drawing=nature.drawing,
    )
    method = Method(name, complete(name, given, random=nature.stochastic), effort=effort)
    return attack_pass(victim, samples, clean, threat, method, setting(), lambda n: None)


@pytest.fixture
def short(monkeypatch) -> None:
    """The same rounds with a tenth of the steps and queries."""

    def shortened(against: Facing):
        for each in rounds(against):
            few = {
                key: max(value // 10, 2) if key in ("steps", "queries") else value
                for key, value in each.parameters.items()
            }
            yield replace(each, parameters=few)

    monkeypatch.setattr(searching, "rounds", shortened)


@pytest.mark.parametrize(
    "against",
    [
        Facing(random, classes, soft)
        for random in (True, False)
        for classes in (2, 4)
        for soft in (True, False)
    ],
)
def test_rounds_begin_cheap_and_every_required_kind_comes_early(against) -> None:
    first = list(itertools.islice(rounds(against), 12))
    assert first[0].kind == FIRST
    assert {FIRST, *required(against)} <= {each.kind for each in first[:5]}
    assert (SOFT in required(against)) == against.soft
    assert required(against) >= {BLACK_BOX, DRAWS if against.stochastic else LOSS}
    assert all(a.kind != b.kind for a, b in itertools.pairwise(first))
    for each in first:
        given = adaptive_attack.complete(each, against)
        assert given.items() >= each.parameters.items()
        runs = given.get("restarts", 1) * given.get("targets", 1)
        length = given["queries" if each.attack == "square" else "steps"]
        assert each.passes == length * given.get("eot", 1) * runs * each.times


def test_a_search_ends_when_two_rounds_take_nothing_and_says_so(short) -> None:
    samples = two_head_samples()
    threat = Threat("Linf", (0.02, 0.02), (0, 1))
    outcome = attacked(TwoHeads().eval(), samples, threat, AUTO)
    ran = outcome.search
    assert ran is not None
    assert ran.outcome == "converged"
    assert ran.next_passes is None
    assert ran.tolerance == 1 / 40
    kinds = [each.kind for each in ran.rounds]
    assert {FIRST, LOSS, BLACK_BOX} <= set(kinds)
    last = ran.rounds[-1]
    before, after = [i for i, each in enumerate(ran.rounds) if each.kind != BLACK_BOX][-2:]
    assert ran.rounds[before].kind != ran.rounds[after].kind
    assert sum(each.taken for each in ran.rounds[before:]) < ran.tolerance
    assert outcome.figures["robust"] == pytest.approx(last.left, abs=1e-6)
    assert [each.error for each in ran.rounds] == [0] * len(kinds)
    assert outcome.cost["attack_backward_per_sample"] <= last.passes + len(kinds)
    weakest = attacked(TwoHeads().eval(), samples, threat, None, "pgd", steps=5)
    assert outcome.figures["robust"] <= weakest.figures["robust"]


@pytest.mark.parametrize(
    ("taken", "ends"),
    [
        ([(FIRST, 0.5), (LOSS, 0.0)], False),  # together they took half
        ([(FIRST, 0.0), (LOSS, 0.0)], True),
        ([(FIRST, 0.5), (LOSS, 0.02), (BLACK_BOX, 0.0)], False),
        ([(FIRST, 0.5), (LOSS, 0.005), (BLACK_BOX, 0.0), (BOUNDARY, 0.004)], True),
        ([(FIRST, 0.5), (LOSS, 0.0), (BLACK_BOX, 0.2), (BOUNDARY, 0.0)], False),
        ([(FIRST, 0.5), (LOSS, 0.0), (LOSS, 0.0)], False),
        ([(BLACK_BOX, 0.0), (BLACK_BOX, 0.0)], False),
        # a round that seems to give something back does not pay for one that takes
        ([(FIRST, 0.5), (LOSS, 0.02), (BOUNDARY, -0.02)], False),
        ([(FIRST, 0.5), (LOSS, -0.02), (BOUNDARY, 0.004)], True),
    ],
)
def test_two_rounds_along_gradients_must_take_nothing(taken, ends) -> None:
    ran = [RoundRan(kind, "pgd", {}, "", 0, 0, 0, points, 0, 0) for kind, points in taken]
    assert searching.stands(ran, 0.01) is ends
    unknown = [*ran[:-1], replace(ran[-1], error=0.004)]
    assert not searching.stands(unknown, 0.01)


def test_a_budget_that_is_spent_says_what_to_try_next(short) -> None:
    threat = Threat("Linf", (0.02, 0.02), (0, 1))
    ran = attacked(TwoHeads().eval(), two_head_samples(), threat, Effort("auto", 12)).search
    assert ran is not None
    assert ran.outcome == "capped"
    assert ran.rounds[-1].passes <= 12
    assert ran.next_passes is not None
    # with it, the round that did not fit is made
    more = Effort("auto", ran.next_passes)
    again = attacked(TwoHeads().eval(), two_head_samples(), threat, more).search
    assert again is not None
    assert again.rounds[: len(ran.rounds)] == ran.rounds
    assert len(again.rounds) > len(ran.rounds)


def test_a_budget_below_the_first_round_still_attacks_once(short) -> None:
    threat = Threat("Linf", (0.02, 0.02), (0, 1))
    for name in ("adaptive", "pgd"):
        outcome = attacked(TwoHeads().eval(), two_head_samples(), threat, Effort("auto", 1), name)
        assert outcome.search is not None
        assert outcome.search.outcome == "capped"
        assert len(outcome.search.rounds) == 1
        assert outcome.figures["robust"] < outcome.figures["clean"] - 0.1


@pytest.mark.slow
def test_effort_max_goes_on_where_auto_stops_and_is_never_weaker(short) -> None:
    threat = Threat("Linf", (0.03, 0.03), (0, 1))
    auto, most = (
        attacked(TwoHeads().eval(), two_head_samples(16), threat, Effort(name, 1000))
        for name in ("auto", "max")
    )
    assert auto.search is not None
    assert most.search is not None
    n = len(auto.search.rounds)
    assert most.search.rounds[:n] == auto.search.rounds
    spent = [each.passes + each.queries for each in most.search.rounds]
    assert most.search.outcome == "spent"
    assert len(most.search.rounds) > n
    assert 7 * spent[n - 1] < spent[-1] - spent[n - 1] < 13 * spent[n - 1]
    assert most.figures["robust"] <= auto.figures["robust"] + 1e-9


def test_an_attack_of_choice_is_the_first_round(short) -> None:
    threat = Threat("Linf", (0.02, 0.02), (0, 1))
    ran = attacked(
        TwoHeads().eval(), two_head_samples(), threat, AUTO, "pgd", steps=3, step_size=0.5
    ).search
    assert ran is not None
    first, second = ran.rounds[:2]
    assert (first.attack, first.parameters["steps"]) == ("pgd", 3)
    assert (second.kind, second.attack) == ("another algorithm", "apgd")


def coin_flips(n: int = 60):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(n, 1))
    images = rng.integers(60, 200, (n, 1, 4, 4), dtype=np.uint8)
    images[:, 0, 0, 0] = 255 * labels[:, 0]
    return samples_of(images, labels=labels)


class Restless(CoinFlip):
    """Other images meet other luck, never better or worse."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        label = 2 * (x[:, 0, 0, 0] > 0.5).float() - 1
        luck = (torch.rand(len(x)) + 997 * x[:, 0, 1:].mean((1, 2))) % 1
        z = label * torch.where(luck < 0.7, 1.0, -1.0) + 0 * x.mean((1, 2, 3))
        return (torch.stack((-z, z), 1),)


def test_rounds_that_change_nothing_take_nothing_from_a_random_victim(short) -> None:
    ran = attacked(Restless(), coin_flips(), Threat("Linf", (0.1,), (0,)), AUTO).search
    assert ran is not None
    assert ran.outcome == "converged"
    # keeping the lower of two shares of 16 draws seems to win 6 points a round
    assert sum(each.changed for each in ran.rounds) > 30
    for each in ran.rounds:
        assert each.error < ran.tolerance / 3 + 1e-9
        assert abs(each.taken) < 4 * each.error + 1e-9
    assert ran.rounds[-1].left == pytest.approx(0.7, abs=0.04)


def test_the_result_does_not_depend_on_the_batch_size(short) -> None:
    samples, threat = two_head_samples(), Threat("Linf", (0.02, 0.02), (0, 1))
    victim = TwoHeads().eval()
    clean = clean_pass(victim, samples, setting(), lambda n: None, stochastic=False)
    method = Method("adaptive", {}, effort=AUTO)
    small, large = (
        attack_pass(victim, samples, clean, threat, method, setting(size), lambda n: None)
        for size in (7, 40)
    )
    assert small.search == large.search
    assert np.array_equal(small.arrays["robust_right"], large.arrays["robust_right"])


class Masked(TwoHeads):
    """A victim whose input gradient is zero: only a black box sees that it falls."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return super().forward((a * 64).round() / 64, (b * 64).round() / 64)


def test_a_black_box_round_comes_before_any_search_converges() -> None:
    threat = Threat("Linf", (0.15, 0.15), (0, 1))
    samples = two_head_samples(24)
    gradients = attacked(Masked().eval(), samples, threat, None, "apgd", steps=20)
    found = attacked(Masked().eval(), samples, threat, AUTO)
    assert found.search is not None
    square = [each for each in found.search.rounds if each.kind == BLACK_BOX]
    assert square
    assert found.figures["robust"] < gradients.figures["robust"] - 0.1
    assert square[0].taken > 0.1


def test_rounds_draw_other_random_numbers(monkeypatch) -> None:
    seen: list[Tensor] = []

    def noise(view, x, y, threat, streams, **given) -> Tensor:
        point = view.random_point(x, threat, streams)
        seen.append(point.clone())
        return x

    monkeypatch.setattr("robustbench_med.evaluation.protocol.entry_of", lambda *_: _Noise(noise))
    attacked(
        TwoHeads().eval(), two_head_samples(8), Threat("Linf", (0.01, 0.01), (0,)), AUTO, "pgd"
    )
    assert len(seen) >= 3
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


class _Noise:
    minimal, before_radius = None, None

    def __init__(self, function) -> None:
        self.function = function


def prepared(victim: nn.Module, samples, name="adaptive", draws: int = 16) -> searching.Search:
    """A search that has not begun."""
    nature, how = examine(victim, samples, CPU, 0), setting(draws=draws)
    clean = clean_pass(victim, samples, how, lambda n: None, stochastic=nature.stochastic)
    threat = Threat("Linf", (0.02,) * len(shapes_of(samples)), tuple(range(len(clean.right[0]))))
    method = Method(name, complete(name, {}, random=nature.stochastic), effort=AUTO)
    view = View(victim, shapes_of(samples), draws=clean.draws)
    case = AttackPass(view, samples, clean, threat, method, how)
    targets = np.flatnonzero(clean.right.max(1) > 0)
    return searching.Search(case, targets, lambda *_: None, AUTO, lambda text: None)


def test_what_is_left_is_the_figure_where_labels_are_missing(short) -> None:
    samples = two_head_samples(16)
    (component,) = samples.components
    labels = component.labels.copy()
    labels[1::3, 0] = -1
    labels[4::5, 1] = -1
    partly = replace(samples, components=(replace(component, labels=labels),))
    outcome = attacked(TwoHeads().eval(), partly, Threat("Linf", (0.01, 0.01), (0, 1)), AUTO)
    assert outcome.search is not None
    before = outcome.search.rounds[0]
    assert before.left + before.taken == pytest.approx(outcome.figures["clean"], abs=1e-6)
    assert outcome.search.rounds[-1].left == pytest.approx(outcome.figures["robust"], abs=1e-6)
    assert 0 < outcome.figures["robust"] < outcome.figures["clean"]


def test_a_random_victim_judged_by_one_draw_is_searched_as_random() -> None:
    search = prepared(CoinFlip(), coin_flips(8), draws=1)
    assert search.case.view.draws == 1
    assert search.view.draws == searching.FIRST_DRAWS
    assert search.facing.stochastic
    assert next(searching.planned(search.case.method, search.facing)).parameters["eot"] > 1
    assert search.view.passes is search.case.view.passes


def test_samples_that_stand_keep_what_the_first_round_tried(short) -> None:
    samples, threat = two_head_samples(12), Threat("Linf", (0.001, 0.001), (0, 1))
    outcome = attacked(TwoHeads().eval(), samples, threat, AUTO)
    stands = outcome.arrays["robust_right"].mean(1) == 1
    assert stands.any()
    assert (outcome.arrays["linf"][stands].max(1) > 0).all()


@pytest.mark.parametrize(("victim", "name"), [(CoinFlip, "pgd"), (TwoHeads, "apgd")])
def test_what_was_asked_for_is_not_tried_a_second_time(victim, name) -> None:
    samples = coin_flips(8) if victim is CoinFlip else two_head_samples(8)
    search = prepared(victim().eval(), samples, name)
    plan = list(itertools.islice(searching.planned(search.case.method, search.facing), 9))
    assert plan[0].attack == name
    assert [searching.same(each, plan[0], search.facing) for each in plan] == [True] + 8 * [False]


def test_fab_costs_what_it_costs_against_several_tasks() -> None:
    alone, both = (
        next(each for each in rounds(Facing(False, 4, False, n)) if each.attack == "fab")
        for n in (1, 2)
    )
    assert (alone.passes, both.passes) == (300, 900)
    outcome = attacked(
        TwoHeads().eval(),
        two_head_samples(6),
        Threat("Linf", (1e-6, 1e-6), (0, 1)),
        None,
        "fab",
        **both.parameters,
    )
    assert outcome.cost["attack_backward_per_sample"] == both.passes


def test_passes_that_choose_are_the_attacks(short) -> None:
    samples, threat = coin_flips(6), Threat("Linf", (0.1,), (0,))
    outcome = attacked(CoinFlip(), samples, threat, Effort("auto", 1), "pgd")
    assert outcome.search is not None
    (only,) = outcome.search.rounds
    asked = only.passes * 6
    assert outcome.cost["attack_forward"] >= asked + 2 * searching.CHOOSING_DRAWS * 6
    draws = prepared(CoinFlip(), samples).case.clean.draws
    assert outcome.cost["evaluation_forward"] == 2 * draws * 6


@pytest.mark.parametrize(
    ("name", "effort", "given", "naive"),
    [
        ("adaptive", AUTO, {}, False),
        ("adaptive", Effort("auto", 1), {}, False),
        ("adaptive", None, {}, False),
        ("pgd", None, {"eot": 4}, False),
        ("pgd", None, {"eot": 1}, True),
        ("pgd", Effort("auto", 1), {"eot": 1}, True),  # capped before the first round of its own
        ("pgd", AUTO, {"eot": 1}, False),
        ("noise", None, {}, False),
    ],
)
def test_a_search_is_no_attack_of_one_draw_unless_all_its_rounds_are(
    short, name, effort, given, naive
) -> None:
    samples, threat = coin_flips(8), Threat("Linf", (0.1,), (0,))
    outcome = attacked(CoinFlip(), samples, threat, effort, name, **given)
    clean = prepared(CoinFlip(), samples).case.clean
    method = Method(name, complete(name, given, random=True), effort=effort)
    assert single_draw(clean, method, outcome.search) is naive
    seen = of_cell(CoinFlip(), samples, clean, threat, method, outcome, setting(), None)
    masked = [sign.verdict for sign in seen if sign.sign == "randomness masks"]
    assert masked == (["failed"] if naive else [])
