"""The boundary attack: its geometry, its walk, and how it stands beside ART's."""

import numpy as np
import pytest
import torch
from support.attacking import IDS, attack
from support.victims import TwoHeads
from torch import Tensor, nn

from robustbench_med.attacks import Queries, Streams, Threat, View, complete, entry_of
from robustbench_med.attacks.boundary import LOW, TRIED, Lengths, on_sphere, shrunk

THREAT = Threat("L2", (1.0, 2.0), (0, 1))


def setting(n: int = 8) -> tuple[View, Tensor, Tensor]:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x = torch.rand(n, view.dim, generator=torch.Generator().manual_seed(1))
    return view, x, torch.stack([z.argmax(1) for z in view.logits(x)], 1)


def test_a_step_stays_on_the_sphere_and_the_next_comes_nearer_by_its_share() -> None:
    delta = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    far, length = delta.norm(dim=1, keepdim=True), torch.linspace(0.01, 1, 6)[:, None]
    moved = on_sphere(delta, noise, length, far)
    assert torch.allclose(moved.norm(dim=1, keepdim=True), far)
    angle = (moved * delta).sum(1, keepdim=True) / far.square()
    assert torch.allclose(angle, 1 / (1 + length.square()).sqrt())
    nearer = moved * shrunk(moved, far, 0.1 * length)
    assert torch.allclose(nearer.norm(dim=1, keepdim=True), (1 - 0.1 * length) * far)
    clipped = 0.5 * moved  # clipping has brought it nearer than the step would
    assert torch.equal(clipped * shrunk(clipped, far, 0.1 * length), clipped)


def test_steps_get_longer_where_all_is_broken_and_shorter_where_nothing_is() -> None:
    lengths = Lengths.of(torch.zeros(4, 3), 0.1)
    asked = torch.tensor([True, True, True, False])
    for i in range(TRIED):
        often = i < (LOW + 0.1) * TRIED
        lengths.heard(torch.tensor([True, False, often, True]), asked)
    longer, shorter, same, not_asked = lengths.length.squeeze(1).tolist()
    assert longer > same > shorter
    assert same == not_asked == pytest.approx(0.1)


def test_a_walk_never_moves_away_and_a_trusted_modality_not_at_all() -> None:
    view, x, y = setting()
    sizes = []
    for steps in (1, 10, 60):
        found = entry_of("boundary").minimal(
            view,
            x,
            y,
            THREAT,
            Streams.seeded(0, IDS[:8], "b"),
            **complete("boundary", {"steps": steps}),
        )
        assert view.standing(found.x[-1], y, THREAT).max() == 0
        sizes.append(found.size[-1])
    assert (sizes[2] < sizes[0]).all()
    trusted = Threat("L2", (0.0, 20.0), (0, 1))
    moved = attack("boundary", view, x, y, trusted, IDS[:8], steps=30)
    first = view.segments[0]
    assert torch.equal(moved[:, : first.stop], x[:, : first.stop])
    assert not torch.equal(moved, x)


@pytest.mark.parametrize("counted", [False, True])
def test_a_sample_by_itself_walks_as_among_others_counted_or_not(counted) -> None:
    view, x, y = setting()

    def walked(rows: list[int]) -> Tensor:
        part, labels = x[rows], y[rows]
        view.queries = Queries(part, labels, THREAT, most=None, afresh=False) if counted else None
        found = attack("boundary", view, part, labels, THREAT, [IDS[r] for r in rows], steps=40)
        view.queries = None
        return found

    among = walked(list(range(8)))
    for row in (0, 5):
        assert torch.allclose(walked([row])[0], among[row], atol=1e-5)


class Tiny(nn.Module):
    """A network of one image, whose boundary is curved."""

    n_modalities, stochastic, class_counts, shapes = 1, False, (3,), ((1, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 3))
        self.asked = 0

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.asked += len(x)
        return (self.net(4 * x.float() - 2),)


class Alone(Tiny):
    """Its logits alone, as ART wants them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


@pytest.mark.slow
def test_at_equal_queries_it_comes_nearer_to_the_image_than_arts() -> None:
    pytest.importorskip("art", reason="needs the extra engines")
    from art.attacks.evasion import BoundaryAttack
    from art.estimators.classification import PyTorchClassifier

    n, net = 12, Alone().eval()
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    classifier = PyTorchClassifier(net, None, (1, 8, 8), 3, clip_values=(0, 1), device_type="cpu")
    np.random.seed(0)
    theirs = BoundaryAttack(classifier, targeted=False, max_iter=40, verbose=False)
    net.asked = 0
    moved = torch.from_numpy(theirs.generate(x.numpy()))
    queries = net.asked // n
    far = (moved - x).flatten(1).norm(dim=1)

    view, threat = View(Tiny().eval(), Tiny.shapes), Threat("L2", (1.0,), (0,))
    flat = x.flatten(1)
    y = view.logits(flat)[0].argmax(1, keepdim=True)
    given = complete("boundary", {"steps": (queries - 150) // 2})
    view.queries = Queries(flat, y, threat, most=queries, afresh=False)
    streams = Streams.seeded(0, IDS[:n], "boundary")
    ours = entry_of("boundary").minimal(view, flat, y, threat, streams, **given).size[-1]
    assert max(view.queries.asked) <= queries
    assert ours.median() < 0.95 * far.median()
    assert (ours <= 1.02 * far).sum() >= n - 1  # each walks at random, and one may end elsewhere
