"""All victims by name, each with its weights and the attack that knows it."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from robustbench_med.attacks import Threat
from robustbench_med.data import Dataset, Samples
from support.broken import batches, gradients, honest, own, randomised, saturated, useless
from support.broken.knowing import left
from support.broken.training import trained
from support.broken.victims import Broken

FOLDER = Path(__file__).parent
ABSTRACT = {"Broken", "Members"}
EPS = 8 / 255


@dataclass(frozen=True)
class Listed:
    """A victim of the panel.

    Attributes:
        name: of its class or function.
        file: that holds it, without suffix.
        row: of the table of causes; 0: none of them.
        defect: in words; empty: it is honest.
        data: its pairing.
        bases: attribute -> trained network; the attribute "" is the victim itself.
        batch_dependent: needs `--allow-batch-dependent`.
    """

    name: str
    file: str
    row: int
    defect: str
    data: str
    bases: dict[str, str]
    batch_dependent: bool = False

    @property
    def honest(self) -> bool:
        return not self.defect

    @property
    def model(self) -> str:
        """What `--model` takes."""
        return f"{FOLDER / self.file}.py:{self.name}"

    def load(self, data: Dataset) -> nn.Module:
        """The trained victim, in evaluation mode."""
        build = getattr(importlib.import_module(f"support.broken.{self.file}"), self.name)
        victim: nn.Module = build(data.channels, data.class_counts)
        for attribute, base in self.bases.items():
            victim.get_submodule(attribute).load_state_dict(trained(base, data))
        return victim.eval().requires_grad_(False)

    def checkpoint(self, data: Dataset, folder: Path) -> Path:
        """Its weights in a file, for `--checkpoint`."""
        path = folder / f"{self.name}.safetensors"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.load(data).state_dict(), path)
        return path

    def truth(self, data: Dataset, samples: Samples, eps: float = EPS) -> float:
        """Robust accuracy under the attack that knows the victim."""
        victim = self.load(data)
        repaired = victim.repaired() if isinstance(victim, Broken) else [victim]
        return left(victim, samples, threat_of(data, eps), repaired)


def threat_of(data: Dataset, eps: float = EPS) -> Threat:
    """All modalities move, all tasks are attacked."""
    return Threat("Linf", (eps,) * len(data.channels), tuple(range(len(data.class_counts))))


def _listed() -> Iterator[Listed]:
    for file in (gradients, useless, randomised, batches, saturated, own):
        stem = file.__name__.rpartition(".")[2]
        for kind in vars(file).values():
            defined = isinstance(kind, type) and kind.__module__ == file.__name__
            if defined and issubclass(kind, Broken) and kind.__name__ not in ABSTRACT:
                yield Listed(
                    kind.__name__,
                    stem,
                    kind.row,
                    kind.defect,
                    kind.data,
                    dict(kind.bases),
                    kind.batch_dependent,
                )
    for name, base in honest.BASE_OF.items():
        yield Listed(name, "honest", 0, "", honest.DATA, {"": base})


VICTIMS = {each.name: each for each in _listed()}
BROKEN = {name: each for name, each in VICTIMS.items() if not each.honest}
HONEST = {name: each for name, each in VICTIMS.items() if each.honest}


@torch.no_grad()
def clean_accuracy(victim: nn.Module, samples: Samples) -> list[float]:
    """Balanced accuracy of each task, one pass."""
    logits = victim(*samples.batch(range(len(samples))))
    found = []
    for t, z in enumerate(logits):
        right, y = z.argmax(1) == samples.labels[:, t], samples.labels[:, t]
        classes = [right[y == c].float().mean() for c in y.unique()]
        found.append(float(torch.stack(classes).mean()))
    return found
