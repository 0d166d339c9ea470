"""Adversarial images in one call on tensors."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.evaluations import evaluate, setting, two_head_samples
from support.victims import TwoHeads
from torch import Tensor, nn

from robustbench_med import UserError, attack
from robustbench_med.attacks import Threat
from robustbench_med.errors import Notice

WEIGHTS = torch.linspace(-1, 1, 12) + 0.01


class Linear(nn.Module):
    """z_1 - z_0 = w (x - 1/2), on images 3 x 2 x 2; nothing of medrobust's contract."""

    def __init__(self, wrap=lambda z: z, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.w = nn.Parameter(WEIGHTS.to(dtype))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.dropout = nn.Dropout(0.9)
        self.wrap = wrap

    def forward(self, x: Tensor) -> object:
        z = (self.dropout(x).flatten(1) - 0.5) @ self.w
        return self.wrap(torch.stack((-z / 2, z / 2), 1))


class Noisy(Linear):
    def forward(self, x: Tensor) -> object:
        return super().forward(x * (1 + 2 * torch.randn_like(x)))


def batch() -> tuple[Tensor, Tensor]:
    x = 0.3 + 0.4 * torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return x, ((x.flatten(1) - 0.5) @ WEIGHTS > 0).long()


def corner(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Where the loss of `Linear` is largest in the ball of Linf."""
    away = -(2 * y - 1)[:, None] * WEIGHTS.sign()
    return x + eps * away.view_as(x)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_a_linear_network_is_attacked_to_the_corner_of_the_ball(name) -> None:
    x, y = batch()
    x_adv = attack(Linear(), x, y, name, eps=0.001, stochastic=False)
    assert torch.allclose(x_adv, corner(x, y, 0.001), atol=1e-7)


def test_in_l2_the_step_goes_along_the_weights() -> None:
    x, y = batch()
    x_adv = attack(Linear(), x, y, "fgsm", eps=0.01, norm="L2", stochastic=False)
    expected = -(2 * y - 1)[:, None] * 0.01 * WEIGHTS / WEIGHTS.norm()
    assert torch.allclose((x_adv - x).flatten(1), expected, atol=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        Linear(lambda z: (z,)),
        Linear(lambda z: {"lesion": z}),
        Linear(lambda z: {"loss": None, "logits": z}),
        Linear(lambda z: SimpleNamespace(logits=z)),
        Linear(lambda z: z.softmax(1)),
    ],
    ids=["tuple", "mapping", "mapping with logits", "object with logits", "probabilities"],
)
def test_what_networks_return_is_read_as_logits(network) -> None:
    x, y = batch()
    x_adv = attack(network, x, y, "fgsm", eps=0.001, stochastic=False)
    assert torch.allclose(x_adv, corner(x, y, 0.001), atol=1e-7)


def test_images_of_double_precision_come_back_as_such() -> None:
    x, y = batch()
    network = Linear(dtype=torch.float64)
    x_adv = attack(network, x.double(), y[:, None], "fgsm", eps=0.001, stochastic=False)
    assert x_adv.dtype == torch.float64
    assert torch.allclose(x_adv, corner(x.double(), y, 0.001), atol=1e-6)


def test_the_images_are_those_of_an_evaluation() -> None:
    samples, victim = two_head_samples(), TwoHeads().eval()
    threat = Threat("Linf", (8 / 255, 0.0), (0, 1))
    _, outcome = evaluate(victim, samples, threat, "pgd", setting(128))
    x = tuple(samples.batch(range(40)))
    options = {"ids": samples.ids, "eps": {"0": "8/255"}}
    first, second = attack(victim, x, samples.labels, "pgd", **options)
    assert torch.equal(second, x[1])
    expected = x[0].clone()
    for row, flat in outcome.adversarials.items():
        expected[row] = flat[:64].view(1, 8, 8)
    assert torch.equal(first, expected)
    assert not torch.equal(first, x[0])


def test_a_mapping_goes_by_keyword_and_one_task_can_be_aimed_at() -> None:
    samples, victim = two_head_samples(12), TwoHeads().eval()
    a, b = samples.batch(range(12))
    options = {"eps": "16/255", "target_task": "1", "stochastic": False}
    found = attack(victim, {"b": b, "a": a}, samples.labels, "fgsm", **options)
    assert list(found) == ["b", "a"]
    y = samples.labels
    before, after = victim(a, b), victim(found["a"], found["b"])
    lost = [
        nn.functional.cross_entropy(z, y[:, t]) - nn.functional.cross_entropy(w, y[:, t])
        for t, (z, w) in enumerate(zip(after, before, strict=True))
    ]
    assert lost[1] > 0.1
    assert lost[1] > lost[0]
    ordered = attack(victim, [a, b], samples.labels, "fgsm", **options)
    assert isinstance(ordered, list)
    moved = [(found["a"] - a).sign(), (ordered[0] - a).sign()]
    assert torch.equal(*moved)


def test_a_random_network_is_found_out_and_a_seed_repeats_what_is_done() -> None:
    x, y = batch()
    options = {"eps": 0.05, "draws": 2, "attack_params": {"steps": 3}}
    found = [attack(Noisy(), x, y, "pgd", seed=seed, **options) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    told = attack(Noisy(), x, y, "pgd", stochastic=True, **options)
    assert torch.equal(told, found[0])


def test_the_callers_things_stay_as_they_were() -> None:
    x, y = batch()
    x.requires_grad_()
    before, network = x.detach().clone(), Noisy().train()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with torch.inference_mode():
        x_adv = attack(network, x, y, "fgsm", eps=0.01, draws=2)
    with pytest.raises(UserError, match="whose classes are 0 to 1"):
        attack(network, x, y + 9, "fgsm")
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()
    assert network.training
    assert network.dropout.training
    assert network.w.requires_grad
    assert network.w.grad is None
    assert not network.frozen.requires_grad
    assert x.requires_grad
    assert torch.equal(x, before)
    assert not x_adv.requires_grad


def test_samples_that_are_wrong_to_begin_with_come_back_as_they_are() -> None:
    x, y = batch()
    x_adv = attack(Linear(), x, torch.cat((1 - y[:3], y[3:])), "fgsm", stochastic=False)
    assert torch.equal(x_adv[:3], x[:3])
    assert not torch.equal(x_adv[3:], x[3:])


def test_logits_that_are_not_finite_are_named() -> None:
    x, y = batch()
    network = Linear(lambda z: torch.where(torch.arange(len(z))[:, None] < 2, torch.nan, z))
    with pytest.warns(Notice, match="not finite for 2 of 6 samples"):
        x_adv = attack(network, x, y, "fgsm", stochastic=False)
    assert torch.equal(x_adv[:2], x[:2])


X, Y = batch()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": lambda x: x}, "the model must be a torch.nn.Module, got function"),
        ({"model": nn.Conv2d(1, 2, 1)}, "forward raised RuntimeError"),
        ({"model": nn.Flatten(0)}, "must return logits .2, classes."),
        ({"model": Linear(lambda z: None)}, "must return logits .*; got NoneType"),
        ({"x": X.numpy()}, "torch.Tensor .B, C, H, W., got ndarray"),
        ({"x": X[0]}, r"of shape \(B, C, H, W\), got \(3, 2, 2\)"),
        ({"x": (X * 255).byte()}, "divided by 255"),
        ({"x": X * 2}, r"lie in \[0, 1\]"),
        ({"x": X.log() * 0 + torch.nan}, "holds NaN"),
        ({"x": []}, "x holds no images"),
        ({"x": [X, X[:2]]}, "one batch on one device, got 6 on cpu, 2 on cpu"),
        ({"x": {"mri": X}}, "does not take mri by name"),
        ({"y": Y[:2]}, r"y must be of shape \(6,\).* got \(2,\)"),
        ({"y": Y.float()}, "y must hold whole numbers"),
        ({"y": Y + 1}, "label 2 of task 0, whose classes are 0 to 1"),
        ({"attack": "pdg"}, "unknown attack 'pdg'; did you mean pgd"),
        ({"attack": "transfer"}, "use evaluate"),
        ({"norm": "linf"}, "unknown norm 'linf'; did you mean Linf"),
        ({"attack": "cw", "norm": "L1"}, "cw does not exist under the norm L1"),
        ({"eps": "4"}, "did you mean 4/255"),
        ({"eps": ["1/255", "2/255"]}, "one attack, radius and seed a call, got 2"),
        ({"eps": {"mri": "4/255"}}, "names the modality 'mri'; this data has: image"),
        ({"step": 3}, "unknown option 'step'"),
        ({"attack_params": {"step": 3}}, "no parameter|parameter 'step'"),
        ({"target_task": "2"}, "unknown target task '2'"),
        ({"ids": ["a"]}, "ids must be 6 different names"),
    ],
)
def test_bad_input_is_one_line(given, said) -> None:
    asked = {"model": Linear(), "x": X, "y": Y, "stochastic": False} | given
    with pytest.raises(UserError, match=said) as caught:
        attack(**asked)
    assert "\n" not in str(caught.value)


def test_a_network_whose_samples_look_at_each_other_is_refused() -> None:
    network = Linear()
    network.register_forward_pre_hook(lambda _, x: (x[0] - x[0].mean(0),))
    with pytest.raises(UserError, match="cannot be judged image by image"):
        attack(network, X, Y, "fgsm")
