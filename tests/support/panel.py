"""Victims whose robustness is and is not an artefact."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from robustbench_med.attacks import Threat
from robustbench_med.data import Samples
from robustbench_med.evaluation import diagnosis
from robustbench_med.evaluation import signs as diagnostics
from robustbench_med.evaluation.probes import examine
from robustbench_med.evaluation.protocol import clean_pass
from robustbench_med.evaluation.types import Clean, Setting
from support.evaluations import samples_of

SIDE, N = 12, 48


SETTING = Setting("sound", 8, 0, torch.device("cpu"), 64)


class Honest(nn.Module):
    """A small smooth network on one image of 12 x 12, two classes; variants break it."""

    n_modalities, class_counts, stochastic = 1, (3,), False

    def __init__(self, activation=torch.tanh, hidden: int = 32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(
            torch.randn(SIDE * SIDE, hidden, generator=generator) / 3, requires_grad=False
        )
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
    """k-winners-take-all (arXiv 1905.10510) in four layers: a gradient says little about what lies
    a step further.
    """

    def __init__(self, k: int = 12, hidden: int = 600) -> None:
        super().__init__(hidden=hidden)
        generator = torch.Generator().manual_seed(1)
        self.k = k
        self.middle = nn.ParameterList(
            nn.Parameter(
                torch.randn(hidden, hidden, generator=generator) / k**0.5, requires_grad=False
            )
            for _ in range(3)
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
        own = (
            torch.stack([victim(torch.from_numpy(images).float() / 255)[0] for _ in range(16)])
            .mean(0)
            .argmax(1)
            .numpy()
        )
    labels = labels if isinstance(victim, Constant) else own
    samples = samples_of(images[:N], labels=labels[:N, None])
    nature = examine(victim, samples, SETTING.device, SETTING.seed)
    return samples, clean_pass(
        victim,
        samples,
        SETTING,
        lambda n: None,
        stochastic=nature.stochastic,
        drawing=nature.drawing,
    )


def signs_of(victim: nn.Module, eps: float = 0.08) -> dict[str, diagnostics.Sign]:
    samples, clean = examined(victim.eval())
    found = diagnosis.diagnose(
        victim,
        samples,
        clean,
        Threat("Linf", (eps,), (0,)),
        SETTING,
        effort=diagnosis.Effort(queries=400),
    )
    return {sign.sign: sign for sign in found}


BROKEN = {  # the victim, the sign meant for it, and the radius
    "quantised input": (Quantised(), "zero gradient", 0.08),
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
