"""The native CW finds a perturbation for as many samples as Foolbox's, and none the larger, in as
many steps: three small networks on real images.
"""

from dataclasses import dataclass

import pytest
import torch
from support.files import SHARED_DATA, needs_real_data
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robustbench_med import load_data
from robustbench_med.attacks import Streams, Threat, View, complete
from robustbench_med.attacks.cw import cw_minimal

foolbox = pytest.importorskip("foolbox", reason="needs the extra dev")

pytestmark = [needs_real_data, pytest.mark.slow]
N = 32
SIZE = 28
THREAT = Threat("L2", (1.0,), (0,))


class SmallNet(nn.Module):
    """Three convolutions and a head; the logits times `scale`."""

    n_modalities, stochastic = 1, False

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.class_counts = (classes,)
        self.scale = 1.0
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, classes),
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.scale * self.body(2 * x - 1),)


class FlatLogits(nn.Module):
    """The view as Foolbox wants a model: x (B, D) -> logits."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        return self.view.logits(x)[0]


@dataclass(frozen=True)
class Case:
    """A network: what it is trained on and how; `far` is the L2 radius of its adversarial
    training.
    """

    data: str
    width: int
    far: float = 0.0
    scale: float = 1.0


CASES = {
    "near": Case("sartaj-mri", 8),
    "far, logits x 10": Case("pneumoniamnist", 16, far=1.0, scale=10.0),
    "logits x 0.01": Case("breastmnist", 8, scale=0.01),
}


def batch(part, n: int) -> tuple[Tensor, Tensor]:
    """An even choice of n of its images, and their labels."""
    chosen = torch.linspace(0, len(part.labels) - 1, min(n, len(part.labels))).long()
    return part.batch(chosen.numpy())[0], part.labels[chosen]


def moved(net: SmallNet, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Five normalised steps of L2 PGD, inside the radius."""
    delta = torch.zeros_like(x)
    for _ in range(5):
        leaf = (x + delta).requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(net(leaf)[0], y), leaf)
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        delta = delta + radius / 3 * gradient / length[:, None, None, None]
        over = (delta.flatten(1).norm(dim=1) / radius).clamp_min(1)
        delta = (x + delta / over[:, None, None, None]).clamp(0, 1) - x
    return x + delta


def trained(case: Case, x: Tensor, y: Tensor, classes: int, steps: int = 300) -> SmallNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SmallNet(x.shape[1], classes, case.width)
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for step in range(1, steps + 1):
            rows = torch.randint(len(x), (64,))
            images, labels = x[rows], y[rows]
            if case.far:
                images = moved(net, images, labels, case.far * min(1, 2 * step / steps))
            optimizer.zero_grad()
            cross_entropy(net(images)[0], labels).backward()
            optimizer.step()
    net.scale = case.scale
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=CASES)
def victim(request, tmp_path_factory) -> tuple[View, Tensor, Tensor]:
    """A trained network and 32 test images that it is right on."""
    case = CASES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(tmp_path_factory.mktemp("home")))
        data = load_data(case.data, size=SIZE, data_root=SHARED_DATA, accept_unverified=True)
        images, labels = batch(data.splits["train"], 2000)
        x, y = batch(data.splits["test"], 150)
    classes = len(data.splits["train"].labels.unique())
    view = View(trained(case, images, labels[:, 0], classes), [tuple(x.shape[1:])])
    x = view.pack([x])
    right = (view.standing(x, y, THREAT) > 0).nonzero()[:N, 0]
    assert len(right) == N
    return view, x[right], y[right]


def of_foolbox(view: View, x: Tensor, y: Tensor, search: int, steps: int) -> Tensor:
    """Sizes (B,) of what Foolbox's CW finds; inf where it finds nothing."""
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=search, steps=steps)
    model = foolbox.PyTorchModel(FlatLogits(view).eval(), bounds=(0, 1), device="cpu")
    found = attack.run(model, x, foolbox.criteria.Misclassification(y[:, 0]))
    untouched = (found == 0).all(1)  # its answer where there is none
    broken = (view.standing(found, y, THREAT) == 0) & ~untouched
    return torch.where(broken, (found - x).norm(dim=1), torch.inf)


@pytest.mark.parametrize(("search", "steps"), [(6, 100), (9, 200)])
def test_cw_breaks_as_many_as_foolboxs_and_with_no_larger_perturbations(
    victim, search, steps
) -> None:
    view, x, y = victim
    theirs = of_foolbox(view, x, y, search, steps)
    streams = Streams.seeded(0, [str(i) for i in range(N)], "cw")
    given = complete("cw", {"steps": steps, "search": search})
    before = view.passes.backward
    ours = cw_minimal(view, x, y, THREAT, streams, **given).size[0]
    assert view.passes.backward - before <= N * search * steps
    for name, size in (("native", ours), ("foolbox", theirs)):  # the figures of docs/engines.md
        found = size[size.isfinite()]
        print(f"{name} {search} x {steps}: {len(found)} found, median L2 {found.median():.4g}")
    both = ours.isfinite() & theirs.isfinite()
    assert theirs.isfinite().any()
    assert ours.isfinite().sum() >= theirs.isfinite().sum()
    assert ours[both].median() <= theirs[both].median()
    assert (ours / theirs)[both].median() <= 1
