"""Victims that may abstain: what counts, what attacks aim at, and that others stay as they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from support.attacking import IDS, attack
from support.evaluations import setting, two_head_samples
from support.victims import TwoHeads

from robustbench_med import attack as attack_tensors
from robustbench_med.attacks import Threat, View, complete
from robustbench_med.attacks.losses import margin, standing
from robustbench_med.attacks.view import unwanted
from robustbench_med.errors import UserError
from robustbench_med.evaluation import absence
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method
from robustbench_med.models.abstaining import Abstaining, aware
from robustbench_med.models.defenses import INFERENCE, Defended
from robustbench_med.models.tables import fill_missing
from robustbench_med.reports import findings

THREAT = Threat("Linf", (0.1, 0.1), (0, 1))


class Careful(TwoHeads):
    """Rejects where no class leads by `lead`; `blind`: a score without a gradient."""

    def __init__(self, lead: float = 0.5, *, blind: bool = False) -> None:
        super().__init__()
        self.lead, self.blind = lead, blind

    def reject(self, a, b):
        tops = [z.topk(2, 1).values for z in self(a, b)]
        scores = torch.stack([self.lead - (top[:, 0] - top[:, 1]) for top in tops], 1)
        return scores.detach() if self.blind else scores


def both(victim, x):
    """Logits and scores of (B, D)."""
    parts = View(victim, TwoHeads.shapes).unpack(x)
    return victim(*parts), victim.reject(*parts)


def evaluated(victim, name: str, samples, threat=THREAT, **given):
    victim = aware(victim.eval())
    how = setting()
    clean = clean_pass(victim, samples, how, lambda n: None, stochastic=False)
    method = Method(name, complete(name, given))
    return clean, attack_pass(victim, samples, clean, threat, method, how, lambda n: None)


def test_the_largest_of_the_logits_says_wrong_and_answered() -> None:
    logits = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    logits = logits - logits.amax(1, keepdim=True)
    scores = torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
    y = torch.randint(4, (500, 1), generator=torch.Generator().manual_seed(2))
    right = logits.argmax(1) == y[:, 0]
    (merged,) = unwanted([torch.cat((logits, scores), 1)], y)
    harmed = (logits.argmax(1) != y[:, 0]) & (scores[:, 0] <= 0)
    assert torch.equal(merged.argmax(1) != y[:, 0], harmed)
    assert torch.equal(margin(merged, y[:, 0]) > 0, harmed & (scores[:, 0] < 0))
    m, s = margin(logits, y[:, 0]), scores[:, 0]
    expected = torch.where(s <= 0, torch.minimum(m, -s), -s / (1 + s.abs()))
    expected = torch.where(right, m - 1, expected)
    assert torch.allclose(margin(merged, y[:, 0]), expected)


@pytest.mark.parametrize(
    "name", ["pgd", "apgd", "apgd-t", "fab", "square", "adaptive", "cw", "mim"]
)
def test_attacks_aim_at_wrong_and_answered(name, batch) -> None:
    careful = Careful().double().eval()
    view = View(aware(careful), TwoHeads.shapes)
    x = view.pack(batch[0]).double()
    y = torch.stack([z.argmax(1) for z in careful(*view.unpack(x))], 1)
    norm = "L2" if name == "cw" else "Linf"
    threat = Threat(norm, (1.5, 1.5) if norm == "L2" else (0.25, 0.25), (0, 1))
    moved = attack(name, view, x, y, threat, IDS, **({"steps": 40} if name == "cw" else {}))
    logits, scores = both(careful, moved)
    wrong = torch.stack([z.argmax(1) != y[:, t] for t, z in enumerate(logits)], 1)
    harmed = wrong & (scores <= 0)
    assert torch.allclose(view.standing(moved, y, threat), 1 - harmed.double().mean(1))
    assert harmed.double().mean() > 0.3  # clean images: none


def test_an_attack_that_knows_of_the_rejection_does_more_than_one_that_does_not(batch) -> None:
    careful = Careful(lead=1.0).double().eval()
    knows, blind = View(aware(careful), TwoHeads.shapes), View(TwoHeads().double(), TwoHeads.shapes)
    x = knows.pack(batch[0]).double()
    y = torch.stack([z.argmax(1) for z in careful(*knows.unpack(x))], 1)
    left = [
        float(knows.standing(attack("pgd", view, x, y, THREAT), y, THREAT).mean())
        for view in (knows, blind)
    ]
    assert left[0] < left[1] - 0.1


class Steep(torch.nn.Module):
    """Of one pixel p the logits (p, -p) * 4 / 2, and a demand for a lead of c, k times: m is -4 p
    where the label is 0.
    """

    n_modalities, class_counts, stochastic = 1, (2,), False

    def __init__(self, c: float, k: float, *, blind: bool) -> None:
        super().__init__()
        self.c, self.k, self.blind = c, k, blind

    def forward(self, x):
        p = x[:, 0, 0, :1] - 0.5
        return (torch.cat((2 * p, -2 * p), 1),)

    def reject(self, x):
        (z,) = self(x)
        score = self.k * (self.c - (z[:, :1] - z[:, 1:]).abs())
        return score.detach() if self.blind else score


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("k", [0.2, 1, 5])
@pytest.mark.parametrize("blind", [False, True])
def test_pgd_crosses_the_band_of_the_rejected_in_closed_form(k, loss, blind) -> None:
    """The lead is 0.8 at p = 0.7, and -1.2 at the ball's edge: reached in steps that are far
    smaller than the band |lead| < 1, wherever in it they begin; out of reach where c is 1.3.
    """
    x, y = torch.tensor([[0.7], [0.62], [0.9]]).double(), torch.zeros(3, 1, dtype=torch.long)
    threat = Threat("Linf", (0.5,), (0,))
    for c, left in ((1.0, [0, 0, 1]), (1.3, [1, 0, 1])):
        view = View(aware(Steep(c, k, blind=blind)), [(1, 1, 1)])
        moved = attack(
            "pgd",
            view,
            x,
            y,
            threat,
            IDS[:3],
            steps=60,
            step_size=0.04,
            random_start=False,
            loss=loss,
        )
        assert view.standing(moved, y, threat).tolist() == left


def test_what_attacks_ascend_rises_from_right_over_rejected_to_wrong_and_answered() -> None:
    """In one line over m, with s = k (c - |m|): each state is worth more than those before it."""
    m = torch.linspace(-6, 6, 2001).double()
    y = torch.zeros(len(m), 1, dtype=torch.long)
    for c, k in ((1.0, 1.0), (3.0, 0.1), (2.0, 20.0)):
        z = torch.stack((-m, torch.zeros_like(m)), 1)
        z = z - z.amax(1, keepdim=True)
        (merged,) = unwanted([torch.cat((z, k * (c - m.abs())[:, None]), 1)], y)
        risen = margin(merged, y[:, 0]).diff()
        first = margin(merged, y[:, 0])[m.abs() <= c]
        assert (risen > 0).all(), (c, k)
        assert (first <= 1e-9).all()


def test_figures_are_those_of_the_outcomes() -> None:
    samples, victim = two_head_samples(30), Careful()
    clean, outcome = evaluated(victim, "pgd", samples, steps=10)
    x = View(victim, TwoHeads.shapes).pack(samples.batch(np.arange(30)))
    moved = torch.stack([outcome.adversarials.get(i, x[i]) for i in range(30)])
    for when, images in (("clean", x), ("robust", moved)):
        logits, scores = both(victim, images)
        for t, task in enumerate(outcome.figures["tasks"]):
            never = torch.from_numpy(clean.right[:, t] == 0)  # stays wrong and answered
            right = (logits[t].argmax(1) == samples.labels[:, t]) & ~never
            answered = (scores[:, t] <= 0) | never
            found = task["abstention"]
            assert found[f"{when}_coverage"] == pytest.approx(float(answered.float().mean()))
            share = float((right & answered).sum() / answered.sum())
            assert found[f"{when}_answered"] == pytest.approx(share, abs=1e-6)
            low, high = found[f"{when}_answered_interval"]
            assert low <= share <= high
            assert task[when] == pytest.approx(1 - float((~right & answered).float().mean()))
    assert 0 < outcome.figures["tasks"][0]["abstention"]["clean_coverage"] < 1
    assert clean.rejected is not None
    assert np.array_equal(outcome.arrays["clean_rejected"], clean.rejected)


def test_one_that_never_rejects_has_the_figures_of_one_that_cannot_and_one_that_always_does_none() -> (
    None
):
    samples = two_head_samples(16)
    _, plain = evaluated(TwoHeads(), "pgd", samples, steps=5)
    _, never = evaluated(Careful(lead=-1e9), "pgd", samples, steps=5)
    assert never.figures["robust"] == plain.figures["robust"]
    assert "abstention" not in plain.figures["tasks"][0]
    assert "clean_rejected" not in plain.arrays
    _, always = evaluated(Careful(lead=float("inf")), "pgd", samples, steps=5)
    assert always.figures["robust"] == 1
    found = always.figures["tasks"][0]["abstention"]
    assert (found["robust_coverage"], found["robust_answered"]) == (0, None)


def test_a_score_without_a_gradient_and_one_that_is_not_finite() -> None:
    samples = two_head_samples(16)
    _, outcome = evaluated(Careful(blind=True), "pgd", samples, steps=10)
    assert outcome.figures["robust"] < outcome.figures["clean"]
    _, broken = evaluated(Careful(lead=float("nan")), "pgd", samples, steps=2)
    assert 0 <= broken.figures["robust"] <= 1
    assert broken.figures["clean"] == 0  # no good word for one that does not say whether it answers
    assert broken.figures["not_finite"] > 0


def test_a_rejection_that_became_a_wrong_answer_is_a_flip() -> None:
    samples, careful = two_head_samples(30), Careful(lead=1.0)
    _, outcome = evaluated(careful, "pgd", samples, replace(THREAT, least=1), steps=10)
    labels, arrays = samples.labels.numpy(), outcome.arrays
    held = {
        when: (arrays[f"{when}_vote"] == labels) | (arrays[f"{when}_rejected"] > 0.5)
        for when in ("clean", "robust")
    }
    flipped = held["clean"] & ~held["robust"]
    silent = held["clean"] & (arrays["clean_vote"] != labels)
    assert (flipped & silent).any()
    there = held["clean"].any(1)
    found = outcome.figures["unflipped"]
    assert (found["n"], found["share"]) == (there.sum(), (~flipped.any(1))[there].mean())
    assert np.array_equal(findings._held({**arrays, "labels": labels}, "robust"), held["robust"])
    left = findings._none_flipped([{**arrays, "labels": labels}])
    assert left == pytest.approx(found["share"])


def test_scores_of_another_shape_and_transforms_in_front_are_refused() -> None:
    class Flat(TwoHeads):
        def reject(self, a, b):
            return torch.zeros(len(a))

    x = [torch.rand(3, *shape) for shape in TwoHeads.shapes]
    with pytest.raises(UserError, match=r"a tensor \(3, 2\)"):
        Abstaining(Flat())(*x)
    with pytest.raises(UserError, match="input transform"):
        aware(Defended(Careful(), [INFERENCE["bit-depth"]()]))
    assert isinstance(aware(TwoHeads()), TwoHeads)
    asked = Careful()
    asked.black_box = object()
    with pytest.raises(UserError, match="a black box cannot abstain"):
        aware(asked)


@pytest.mark.parametrize("by_itself", [True, False])
def test_reject_sees_the_stand_ins_that_forward_sees(by_itself) -> None:
    class Seen(Careful):
        """Asks its own forward, which is told what is there, or what forward is made of."""

        def forward(self, a, b, present=None):
            return tuple(z + present.sum(1)[:, None] * z for z in TwoHeads.forward(self, a, b))

        def reject(self, a, b):
            self.seen = a.clone()
            return super().reject(a, b) if by_itself else torch.zeros(len(a), 2)

    victim = Seen(lead=1.0).eval()
    fill_missing(victim, TwoHeads.shapes, (0,))
    victim.stand_ins.mean(0).fill_(0.25)
    x = [torch.rand(6, *shape) for shape in TwoHeads.shapes]
    x[0][::2] = 0
    logits = victim(*x)
    found = aware(victim)(*x)
    filled = x[0].clone()
    filled[::2] = 0.25
    assert torch.equal(victim.seen, filled)
    if by_itself:  # the lead of what forward gives: of the stand-in, told that it is one
        for z, each in zip(logits, found, strict=True):
            top = z.topk(2, 1).values
            assert torch.allclose(each[:, -1], 1.0 - (top[:, 0] - top[:, 1]))
    assert torch.equal(victim(*x)[0], logits[0])  # nothing of it is left behind


def test_missing_modalities_of_a_victim_that_may_abstain_count_what_it_answers() -> None:
    samples, victim = two_head_samples(30), Careful(lead=1.0).eval()
    without = absence.replaced(samples, 0, "mean", 0)
    clean = clean_pass(aware(victim), without, setting(), lambda n: None, stochastic=False)
    logits, scores = both(victim, View(victim, TwoHeads.shapes).pack(without.batch(np.arange(30))))
    rows = absence.figures(samples, clean, ("a", "b"))
    for t, row in enumerate(rows):
        answered = (scores[:, t] <= 0).numpy()
        y, vote = samples.labels[:, t].numpy(), logits[t].argmax(1).numpy()
        assert row["coverage"] == pytest.approx(answered.mean())
        assert row["answered"] == pytest.approx(accuracy_score(y[answered], vote[answered]))
        assert row["accuracy"] == pytest.approx(((y == vote) | ~answered).mean())
    assert 0 < rows[0]["coverage"] < 1
    plain = clean_pass(TwoHeads().eval(), without, setting(), lambda n: None, stochastic=False)
    assert "coverage" not in absence.figures(samples, plain, ("a", "b"))[0]


def test_on_tensors_from_python() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = torch.nn.Linear(64, 3)

        def forward(self, x):
            return 8 * self.head(x.flatten(1))

        def reject(self, x):
            return 0.45 - self(x).softmax(1).amax(1)

    model = Own().eval()
    x = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    moved = attack_tensors(model, x, y, "pgd", eps=0.2, stochastic=False)
    harmed = (model(moved).argmax(1) != y) & (model.reject(moved) <= 0)
    assert harmed.any()
    with pytest.raises(UserError, match="may abstain"):
        attack_tensors(model, x, y, "pgd", eps=0.2, stochastic=False, target="random")
    logits = torch.cat((model(moved), model.reject(moved)[:, None]), 1)
    assert standing([logits[:, :3]], y[:, None], Threat("Linf", (0.2,), (0,))).mean() < 1
