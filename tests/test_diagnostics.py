"""The panel: deliberately broken defences that must be flagged by the sign meant for them, and honest victims that must not be."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_evaluation import samples_of
from torch import Tensor, nn

from robustbench_med import diagnostics
from robustbench_med.attacks import Threat, complete
from robustbench_med.batching import Setting
from robustbench_med.data import Samples
from robustbench_med.evaluation import Clean, Method, attack_pass, clean_pass
from robustbench_med.probes import examine

SIDE, N = 12, 48
SETTING = Setting("sound", 8, 0, torch.device("cpu"), 64)


class Honest(nn.Module):
    """A small smooth network on one image of 12 x 12, two classes; variants break it."""

    n_modalities, class_counts, stochastic = 1, (3,), False

    def __init__(self, activation=torch.tanh, hidden: int = 32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(SIDE * SIDE, hidden, generator=generator) / 3, requires_grad=False)
        self.last = nn.Parameter(torch.randn(hidden, 3, generator=generator), requires_grad=False)
        self.activation = activation

    def prepare(self, x: Tensor) -> Tensor:
        return x

    def logits(self, x: Tensor) -> Tensor:
        return self.activation((x.flatten(1) - 0.5) @ self.first) @ self.last

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.logits(self.prepare(x)),)


class Quantised(Honest):
    def prepare(self, x: Tensor) -> Tensor:
        return (x * 16).round() / 16


class Scaled(Honest):
    def logits(self, x: Tensor) -> Tensor:
        return 1e4 * super().logits(x)


class PureNoise(Honest):
    """Logits drowned in noise: what an attack does to them no longer shows."""

    stochastic = True

    def logits(self, x: Tensor) -> Tensor:
        clean = super().logits(x)
        return clean + 5 * clean.std() * torch.randn_like(clean)


class Constant(Honest):
    def logits(self, x: Tensor) -> Tensor:
        return 0 * super().logits(x) + torch.tensor([1.0, 0.0, 0.0])


class Jpeg(Honest):
    def prepare(self, x: Tensor) -> Tensor:
        images = []
        for image in x.detach():
            buffer = io.BytesIO()
            Image.fromarray((image[0] * 255).byte().numpy()).save(buffer, "JPEG", quality=90)
            images.append(torch.from_numpy(np.array(Image.open(buffer))).float()[None] / 255)
        return torch.stack(images)


class Detached(Honest):
    def logits(self, x: Tensor) -> Tensor:
        return super().logits(x.detach())


class GentlyRandom(Honest):
    stochastic = True

    def prepare(self, x: Tensor) -> Tensor:
        return x + 0.02 * torch.randn_like(x)


class WinnersTakeAll(Honest):
    """k-winners-take-all (arXiv 1905.10510) in four layers: a gradient says little about what lies a step further."""

    def __init__(self, k: int = 12, hidden: int = 600) -> None:
        super().__init__(hidden=hidden)
        generator = torch.Generator().manual_seed(1)
        self.k = k
        self.middle = nn.ParameterList(
            nn.Parameter(torch.randn(hidden, hidden, generator=generator) / k**0.5, requires_grad=False) for _ in range(3)
        )

    def winners(self, h: Tensor) -> Tensor:
        return torch.where(h >= h.topk(self.k, 1).values[:, -1:], h, 0.0)

    def logits(self, x: Tensor) -> Tensor:
        h = self.winners((x.flatten(1) - 0.5) @ self.first)
        for weight in self.middle:
            h = self.winners(h @ weight)
        return h @ self.last / 10


def examined(victim: nn.Module) -> tuple[Samples, Clean]:
    """Samples of a panel's victim, and its predictions."""
    images = np.random.default_rng(0).integers(0, 256, (4 * N, 1, SIDE, SIDE), dtype=np.uint8)
    with torch.no_grad():  # labels of the honest network, balanced
        labels = Honest().logits(torch.from_numpy(images).float() / 255).argmax(1).numpy()
        own = torch.stack([victim(torch.from_numpy(images).float() / 255)[0] for _ in range(16)]).mean(0).argmax(1).numpy()
    labels = labels if isinstance(victim, Constant) else own
    samples = samples_of(images[:N], labels=labels[:N, None])
    nature = examine(victim, samples, SETTING.device, SETTING.seed)
    return samples, clean_pass(victim, samples, SETTING, lambda n: None, stochastic=nature.stochastic, drawing=nature.drawing)


def signs_of(victim: nn.Module, eps: float = 0.08) -> dict[str, diagnostics.Sign]:
    samples, clean = examined(victim.eval())
    found = diagnostics.diagnose(victim, samples, clean, Threat("Linf", (eps,), (0,)), SETTING, queries=400)
    return {sign.sign: sign for sign in found}


BROKEN = {  # the victim, the sign meant for it, and the radius
    "quantised input": (Quantised(), "zero gradient", 0.08),
    "logits x 1e4": (Scaled(), "logit scale", 0.08),
    "sign non-linearity": (Honest(torch.sign), "zero gradient", 0.08),
    "pure noise": (PureNoise(), "not monotone", 0.08),
    "constant": (Constant(), "trivial victim", 0.08),
    "jpeg": (Jpeg(), "black box beats white box", 0.08),
    "k winners take all": (WinnersTakeAll(), "black box beats white box", 0.01),
    "detached": (Detached(), "zero gradient", 0.08),
}
HONEST = {
    "tanh": Honest(),
    "relu": Honest(F.relu),
    "linear": Honest(lambda h: h),
    "gently random": GentlyRandom(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_defence_is_flagged_by_the_sign_meant_for_it(name) -> None:
    victim, sign, eps = BROKEN[name]
    found = signs_of(victim, eps)
    assert found[sign].verdict == "fail", {key: (s.verdict, s.text) for key, s in found.items()}
    assert diagnostics.trust(list(found.values())) == "fail"


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_victim_is_not_flagged(name) -> None:
    found = signs_of(HONEST[name])
    assert not [(s.sign, s.text) for s in found.values() if s.verdict == "fail"]


def sign_of_cell(victim: nn.Module, attack: str = "pgd", **given: object) -> diagnostics.Sign | None:
    """What is said of the convergence of one evaluation, if anything."""
    samples, clean = examined(victim.eval())
    method, threat = Method(attack, complete(attack, given)), Threat("Linf", (0.08,), (0,))
    outcome = attack_pass(victim, samples, clean, threat, method, SETTING, lambda n: None)
    signs = diagnostics.of_cell(victim, samples, clean, threat, method, outcome, SETTING, None)
    return next((sign for sign in signs if sign.sign == "not converged"), None)


@pytest.mark.parametrize("attack", ["bim", "pgd", "mim"])
@pytest.mark.parametrize("name", ["tanh", "relu", "linear"])
def test_a_loss_that_still_rises_is_a_warning_and_usual_steps_are_enough_for_honest_victims(name, attack) -> None:
    usual, starved = sign_of_cell(HONEST[name], attack), sign_of_cell(HONEST[name], attack, step_size=0.002)
    assert usual is not None
    assert usual.verdict == "pass", usual.text
    assert starved is not None
    assert starved.verdict == "warn", starved.text


def test_of_a_loss_that_rises_for_other_reasons_nothing_is_said() -> None:
    assert sign_of_cell(HONEST["gently random"]) is None  # its fallen samples stay
    assert sign_of_cell(HONEST["tanh"], keep="last") is None
    assert sign_of_cell(HONEST["tanh"], "apgd", steps=20) is None  # steps shrink by schedule
    assert sign_of_cell(HONEST["tanh"], steps=4) is None


def test_the_worst_sign_comes_first_and_makes_the_trust() -> None:
    good, bad = diagnostics.silent_success(0.0, 0.02), diagnostics.converged(0.5, 0.2, 0.02)
    assert diagnostics.trust([good, bad]) == "fail"
    assert [s["verdict"] for s in diagnostics.plain([good, bad])] == ["fail", "pass"]
    assert diagnostics.trust([]) == "pass"


def test_verdicts_turn_where_the_thresholds_say() -> None:
    assert diagnostics.converged(0.50, 0.49, 0.02).verdict == "pass"
    assert diagnostics.converged(0.50, 0.47, 0.02).verdict == "warn"
    assert diagnostics.still_rising([0.0, 1.0, 1.6, 1.8, 1.9, 1.95, 1.95, 2.0]).verdict == "pass"  # 0.05 of 2
    assert diagnostics.still_rising([float(i) for i in range(8)]).verdict == "warn"
    assert diagnostics.still_rising([5.0] * 4 + [1.0] * 3 + [4.0]).verdict == "pass"  # that fell
    curve = [(1.0, 0.5), (2.0, 0.6)]
    assert diagnostics.monotone(curve, None, 0.02, everything_moves=True).verdict == "fail"
    falling = [(1.0, 0.5), (2.0, 0.3)]
    assert diagnostics.monotone(falling, 0.0, 0.02, everything_moves=True).verdict == "pass"
    assert diagnostics.monotone(falling, 0.3, 0.02, everything_moves=True).verdict == "fail"
    assert diagnostics.monotone(falling, 0.3, 0.02, everything_moves=False).verdict == "warn"  # a trusted modality may hold it
    assert diagnostics.bounds(1.01, 0, 1).verdict == "fail"
    assert diagnostics.beats_noise(0.80, 0.79, 0.02).verdict == "warn"
