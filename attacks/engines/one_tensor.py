"""What engines want to see: one image in, one row of logits out, and what of a threat model can be
said that way.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbench_med.attacks.threat import Threat
from robustbench_med.attacks.view import RefusedError, View

REVISION = 1
Run = Callable[["OneTensor", Tensor, Tensor], Tensor]
"""(model, image (B, C, H, W), label (B,)) -> adversarial image."""


class OneTensor(nn.Module):
    """A victim as a map from one image to one row of logits, for a scalar epsilon.

    The image holds the attacked modalities: their channels side by side where they share height and
    width, else (B, 1, 1, pixels). Trusted modalities come from the clean sample. Where radii
    differ, delta = (radius / largest radius) delta'. The logits are those of the attacked task; for
    several tasks the sum for every combination of classes: their softmax is the product of the
    tasks', so that its cross-entropy is exactly the sum of theirs.
    """

    def __init__(self, view: View, threat: Threat, x0: Tensor) -> None:
        super().__init__()
        self.view, self.threat, self.x0 = view, threat, x0
        self.victim = view.victim  # so that engines find a device
        self.attacked = [(s, r) for s, r in zip(view.segments, threat.radii, strict=True) if r > 0]
        self.same_plane = len({s.shape[1:] for s, _ in self.attacked}) == 1
        self.follows_x0 = len(set(threat.radii)) > 1
        self.classes = math.prod(view.class_counts[t] for t in threat.tasks)

    def pack(self, x: Tensor) -> Tensor:
        """(B, D) -> the image."""
        parts = [x[:, s.start : s.stop].unflatten(1, s.shape) for s, _ in self.attacked]
        return (
            torch.cat(parts, 1)
            if self.same_plane
            else torch.cat([part.flatten(1) for part in parts], 1)[:, None, None]
        )

    def unpack(self, image: Tensor) -> Tensor:
        """The image -> (B, D)."""
        largest, flat, parts, start = max(self.threat.radii), image.flatten(1), [], 0
        x0 = self.x0.expand(len(image), -1) if len(self.x0) == 1 else self.x0
        for s, r in zip(self.view.segments, self.threat.radii, strict=True):
            clean = x0[:, s.start : s.stop] if self.follows_x0 else None
            if r == 0:
                assert clean is not None
                parts.append(clean)
                continue
            part = flat[:, start : start + s.stop - s.start]
            parts.append(
                part if clean is None or r == largest else clean + (r / largest) * (part - clean)
            )
            start += s.stop - s.start
        return torch.cat(parts, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.view.logits(self.unpack(image.to(self.x0)))
        joint = logits[self.threat.tasks[0]]
        for t in self.threat.tasks[1:]:
            joint = (joint[:, :, None] + logits[t][:, None]).flatten(1)
        if joint.requires_grad:
            n = len(joint)
            joint.register_hook(lambda gradient: self._count(n))
        return joint

    def _count(self, n: int) -> None:
        self.view.passes.backward += n

    def label(self, y: Tensor) -> Tensor:
        """(B, T) -> the combination's number, (B,)."""
        joint = torch.zeros_like(y[:, 0])
        for t in self.threat.tasks:
            joint = joint * self.view.class_counts[t] + y[:, t]
        return joint


def through(
    run: Run, view: View, x: Tensor, y: Tensor, threat: Threat, *, needs_plane: bool = False
) -> Tensor:
    """Runs an engine's attack behind the view; its answer is projected into the ball (CW and FAB
    may end outside).

    Engines drop samples from their batch: where a sample's own clean image matters (a trusted
    modality, unequal radii), they get one sample at a time.
    """
    if max(threat.radii) == 0:
        return x.clone()
    if (y[:, list(threat.tasks)] < 0).any():
        raise RefusedError(
            "an engine cannot attack samples that lack a label of an attacked task; use --engine"
            " native"
        )
    model = OneTensor(view, threat, x).eval()
    if needs_plane and not model.same_plane:
        raise RefusedError(
            "the engine's square attack needs modalities of one height and width; use --engine"
            " native"
        )
    rows = [slice(i, i + 1) for i in range(len(x))] if model.follows_x0 else [slice(0, len(x))]
    parts = []
    for part in rows:
        model.x0 = x[part]
        image = run(model, model.pack(x[part]), model.label(y[part]))
        parts.append(model.unpack(image.detach().to(x)))
    return view.project(torch.cat(parts), x, threat)
