"""Patches and universal perturbations: closed forms, bounds, and what must do less than what."""

import math

import numpy as np
import pytest
import torch
from support.attacking import IDS
from support.evaluations import samples_of, setting, two_head_samples
from support.victims import TwoHeads
from torch import nn

from robustbench_med.attacks import (
    OWN_THREATS,
    RefusedError,
    Streams,
    Threat,
    View,
    complete,
)
from robustbench_med.attacks.budget import Against, most
from robustbench_med.attacks.patch import Spots, patch
from robustbench_med.attacks.pgd import pgd
from robustbench_med.attacks.universal import universal
from robustbench_med.data import Component, Samples
from robustbench_med.evaluation.parted import parts_of
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method
from robustbench_med.naming import OWN_THREAT

WHOLE = Threat("Linf", (1.0, 1.0), (0, 1))


class Linear(nn.Module):
    """Two classes apart by w x + b, a 1 x 8 x 8 image."""

    class_counts = (2,)
    stochastic = False
    shapes = ((1, 8, 8),)

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w = torch.randn(64, generator=generator, dtype=torch.float64)
        self.bias = bias

    def forward(self, x):
        z = x.flatten(1) @ self.w.to(x) + self.bias
        return (torch.stack((-z, z), 1),)


def view_of(victim=None, draws: int = 1) -> View:
    victim = victim or TwoHeads()
    return View(victim.double().eval(), victim.shapes, draws=draws)


def inputs(view: View, n: int = 12):
    x = torch.rand(n, view.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, torch.stack([z.argmax(1) for z in view.logits(x)], 1)


def patched(view, x, y, threat=WHOLE, ids=IDS, **given):
    streams = Streams.seeded(0, ids[: len(x)], "patch")
    known = {"steps": 20, "candidates": 4, **given}
    return patch(view, x, y, threat, streams, **complete("patch", known, OWN_THREAT))


@pytest.mark.parametrize("place", ["optimised", "random"])
def test_a_patch_is_one_rectangle_of_its_share_of_the_area_in_each_attacked_modality(place) -> None:
    view = view_of()
    x, y = inputs(view)
    moved = patched(view, x, y, size=0.1, place=place)
    assert 0 <= moved.min() <= moved.max() <= 1
    for part, before in zip(view.unpack(moved), view.unpack(x), strict=True):
        side = part.shape[2]
        for changed in (part != before).any(1):
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            most_side = round(math.sqrt(0.1) * side)
            assert rows.max() - rows.min() < most_side
            assert columns.max() - columns.min() < most_side
    trusted = patched(view, x, y, Threat("Linf", (0.0, 1.0), (0, 1)), place=place)
    assert torch.equal(view.unpack(trusted)[0], view.unpack(x)[0])
    assert not torch.equal(view.unpack(trusted)[1], view.unpack(x)[1])


@pytest.mark.parametrize("place", ["optimised", "random"])
def test_a_patch_does_not_depend_on_the_batch(place) -> None:
    view = view_of()
    x, y = inputs(view)
    whole = patched(view, x, y, place=place)
    turned = [7, 2, 5]
    parted = patched(view, x[turned], y[turned], ids=[IDS[i] for i in turned], place=place)
    assert torch.allclose(parted, whole[turned], atol=1e-9)


def test_on_a_linear_victim_the_patch_is_black_and_white_by_the_sign_of_its_weights() -> None:
    victim = Linear(bias=-100.0)  # never crossed, so that no patch stops early
    view = view_of(victim)
    x, y = inputs(view, 6)
    threat = Threat("Linf", (1.0,), (0,))
    moved = patched(view, x, y, threat, size=1.0, steps=60)
    assert torch.equal(moved, (victim.w > 0).double().expand_as(x))  # all of the area
    spots = Spots(view, threat, 0.1, x)
    gains = []  # of every place, with the best content there
    for row in range(6):
        for column in range(6):
            index = spots.index(torch.tensor([[row, column]]).expand(len(x), 2))
            best = (victim.w > 0).double()[index]
            gains.append(((best - x.gather(1, index)) * victim.w[index]).sum(1))
    found = (patched(view, x, y, threat, size=0.1, steps=60, candidates=64) - x) @ victim.w
    best = torch.stack(gains).max(0).values
    assert (found <= best + 1e-9).all()
    assert (found > 0.8 * best).all()


def test_a_larger_patch_harms_at_least_as_much_and_a_black_square_less_than_an_optimised_one() -> (
    None
):
    view = view_of()
    x, y = inputs(view)
    left = [
        float(view.standing(patched(view, x, y, size=size, steps=40), y, WHOLE).sum())
        for size in (0.02, 0.1, 0.3, 1.0)
    ]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]
    spots = Spots(view, WHOLE, 0.1, x)
    corners = spots.drawn(Streams.seeded(0, IDS[: len(x)], "black"))
    black = spots.paste(x, torch.zeros(len(x), spots.width, dtype=x.dtype), corners)
    assert float(view.standing(black, y, WHOLE).sum()) > left[1]


def test_a_patch_at_a_random_place_does_less_than_one_that_chooses_it() -> None:
    view = view_of()
    x, y = inputs(view)
    chosen, anywhere = (
        float(view.standing(patched(view, x, y, size=0.2, place=place), y, WHOLE).sum())
        for place in ("optimised", "random")
    )
    control = patched(view, x, y, size=0.2, place="random", steps=1, step_size=1e-9)
    assert chosen < anywhere < float(view.standing(control, y, WHOLE).sum())


def test_a_patch_on_columns_of_a_table_is_refused() -> None:
    from robustbench_med.attacks import Columns

    view = view_of()
    x, y = inputs(view)
    columns = (None, Columns((("t.age", 1.0),), (0.1,) * 108))
    with pytest.raises(RefusedError, match="trust the columns"):
        patched(view, x, y, Threat("Linf", (1.0, 0.1), (0, 1), columns=columns))


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_on_a_linear_victim_and_one_class_a_universal_perturbation_is_that_of_each_sample(
    norm,
) -> None:
    victim, r = Linear(bias=-100.0), 0.05
    view = view_of(victim)
    x, y = inputs(view, 6)
    x = 0.2 + 0.6 * x  # the box holds nobody back
    threat = Threat(norm, (r,), (0,))
    params = complete("universal", {"steps": 30}, OWN_THREAT)
    delta = universal(view, x, y, threat, Streams.seeded(0, IDS[:6], "u"), **params) - x
    best = r * (victim.w.sign() if norm == "Linf" else victim.w / victim.w.norm())
    assert torch.allclose(delta, best.expand_as(x), atol=1e-6)


@pytest.mark.parametrize(("norm", "r"), [("Linf", 0.1), ("L2", 0.6)])
def test_a_universal_perturbation_leaves_at_least_what_one_for_each_sample_leaves(norm, r) -> None:
    view = view_of()
    x, y = inputs(view, 16)
    threat, streams = Threat(norm, (r, r), (0, 1)), Streams.seeded(0, IDS, "u")
    shared = universal(view, x, y, threat, streams, **complete("universal", {}, OWN_THREAT))
    view.check(shared, x, threat)
    each = view.standing(pgd(view, x, y, threat, streams), y, threat)
    left = view.standing(shared, y, threat)
    assert each.sum() < left.sum() < len(x)
    assert (each <= left).float().mean() > 0.9


def test_the_parts_of_a_universal_perturbation_share_no_patient_and_no_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    groups = tuple("aabbccdde")
    component = Component((images,), np.zeros((9, 1), np.int64), tuple("012345678"), groups)
    samples = Samples((component,), np.arange(9)[:, None], (1,))
    parts = parts_of(samples, 0)
    assert abs(int(parts.sum()) - 4.5) < 1.1
    for group in set(groups):
        assert len({int(p) for p, g in zip(parts, groups, strict=True) if g == group}) == 1
    others = [parts_of(samples, seed).tolist() for seed in range(8)]
    assert len({str(one) for one in others}) > 1
    again = Samples((component,), np.array([[0], [1], [0]]), (1,))  # one patient alone
    with pytest.raises(RefusedError, match="all 3 samples"):
        parts_of(again, 0)


def run_universal(samples, batch_size: int = 16):
    victim = TwoHeads().eval()
    how = setting(batch_size)
    clean = clean_pass(victim, samples, how, lambda n: None, stochastic=False)
    method = Method("universal", complete("universal", {"steps": 8}, OWN_THREAT), OWN_THREAT)
    threat = Threat("Linf", (0.1, 0.1), (0, 1))
    told = []
    outcome = attack_pass(victim, samples, clean, threat, method, how, told.append)
    return clean, outcome, sum(told)


def deltas(samples, outcome):
    x = View(TwoHeads(), TwoHeads.shapes).pack(samples.batch(np.arange(len(samples))))
    return {row: moved - x[row] for row, moved in outcome.adversarials.items()}


def test_nothing_of_the_judged_part_is_used_in_making_whatever_the_batches() -> None:
    samples = two_head_samples(16)
    _, outcome, told = run_universal(samples)
    parts = outcome.arrays["part"]
    assert told == pytest.approx(2 * len(samples))
    of_part = {int(p): [r for r in outcome.adversarials if parts[r] == p] for p in (0, 1)}
    images = [np.array(i) for i in samples.components[0].images]
    other = of_part[0][0]
    for each in images:
        each[other] = 255 - each[other]  # a sample of part 0 changes: what part 0 gets does not
    changed = samples_of(*images, labels=samples.labels.numpy())
    assert parts_of(changed, 0).tolist() == parts.tolist()
    _, after, _ = run_universal(changed)
    before_deltas, after_deltas = deltas(samples, outcome), deltas(changed, after)
    for row in of_part[0][1:]:
        assert torch.equal(before_deltas[row], after_deltas[row])
    assert any(
        not torch.equal(before_deltas[row], after_deltas[row])
        for row in of_part[1]
        if row in after_deltas
    )
    _, small, _ = run_universal(samples, batch_size=3)
    assert small.figures["robust"] == outcome.figures["robust"]


def test_a_half_that_is_wrong_from_the_start_leaves_nothing_to_make_a_perturbation_on() -> None:
    samples = two_head_samples(16)
    right = clean_pass(TwoHeads().eval(), samples, setting(), lambda n: None, stochastic=False)
    parts, labels = parts_of(samples, 0), right.vote.copy()
    wrong = parts == 1
    labels[wrong] = (labels[wrong] + 1) % np.array(TwoHeads.class_counts)
    images = [np.array(i) for i in samples.components[0].images]
    with pytest.raises(RefusedError, match=f"all {wrong.sum()} samples are wrong before"):
        run_universal(samples_of(*images, labels=labels))
    labels = (right.vote + 1) % np.array(TwoHeads.class_counts)  # nothing to attack in either
    assert not run_universal(samples_of(*images, labels=labels))[1].adversarials


@pytest.mark.parametrize("name", OWN_THREATS)
@pytest.mark.parametrize("given", [{}, {"place": "random"}])
def test_no_attack_of_its_own_threat_takes_more_passes_than_its_budget(name, given) -> None:
    if name == "universal" and given:
        return
    view = view_of()
    x, y = inputs(view, 8)
    params = complete(name, {"steps": 11, **given}, OWN_THREAT)
    view.passes.forward = view.passes.backward = 0
    OWN_THREATS[name].function(view, x, y, WHOLE, Streams.seeded(0, IDS[:8], name), **params)
    budget = most(name, params, Against(classes=4, tasks=2))
    assert view.passes.backward <= 8 * budget.backward
    assert view.passes.forward <= 8 * budget.forward
