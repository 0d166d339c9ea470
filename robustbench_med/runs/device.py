"""The device a run computes on: choosing it, its memory, and a batch size that fits."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from robustbench_med.attacks import Threat, View
from robustbench_med.data import Samples
from robustbench_med.errors import UserError, unknown
from robustbench_med.formats.limits import limit
from robustbench_med.progress import Display

FIRST_BATCH_SIZE = 128
T = TypeVar("T")


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU; `cuda:1` is the second of several.

    A device that is absent is a UserError.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    kind, colon, number = name.partition(":")
    numbered = kind == "cuda" and number.isascii() and number.isdigit()
    if kind == "gpu":
        raise UserError(f"--device {name}: a GPU of NVIDIA's is called cuda, of Apple's mps")
    if kind not in present or (colon and not numbered):
        raise unknown("device", name, ["auto", *present, "cuda:1"])
    if not present[kind]:
        raise UserError(
            f"this machine has no {kind} device that PyTorch can use; take --device auto"
        )
    if numbered and int(number) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices, numbered"
            " from 0"
        )
    return torch.device(name)


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory since the cell began on CUDA, else of the whole process so far; None where the
    platform does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def check_threads(n: int | None) -> None:
    """Refuses (UserError) a number of threads that is none."""
    if n is not None and not 1 <= n <= limit("threads"):
        raise UserError(f"--threads must be a whole number from 1 to {limit('threads'):,}, got {n}")


@contextlib.contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Inside, PyTorch computes with so many threads; None: with as many as ever."""
    usual = torch.get_num_threads()
    torch.set_num_threads(n or usual)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


class BatchSize:
    """The batch size of a run; `auto` halves when memory runs out, and says so."""

    def __init__(self, text: str, display: Display) -> None:
        self.auto = text == "auto"
        if not self.auto and not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
            raise UserError(
                f"--batch-size must be 'auto' or a whole number from 1 to 999,999,999, got {text!r}"
            )
        self.size = FIRST_BATCH_SIZE if self.auto else int(text)
        self.display = display

    def hold(self, work: Callable[[], T], chunk: int, fits: Callable[[int], object]) -> T:
        """Calls `work`, which keeps `chunk` samples together whatever the batch size; too little
        memory is a UserError with what fits.

        `fits(n)` makes the passes of n samples that need most memory.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            size = largest(chunk // 2, fits)
            advice = (
                f"--chunk {size} fits, and gives another record"
                if size
                else "not even one sample fits"
            )
            raise UserError(
                f"out of memory with chunks of {chunk} samples, which stay together since"
                f" predictions depend on the batch; {advice}"
            ) from error

    def fit(self, work: Callable[[], T]) -> T:
        """Calls `work` until it fits into memory."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if not self.auto or self.size == 1:
                    raise UserError(
                        f"out of memory with {self.size} samples a batch; give a smaller"
                        " --batch-size or 'auto'"
                    ) from error
                self.size //= 2
                self.display.warn(f"out of memory; going on with {self.size} samples a batch")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()


def largest(size: int, fits: Callable[[int], object]) -> int:
    """The largest of size, size / 2, size / 4 ... for which `fits` does not run out of memory; 0
    where none is.
    """
    while size:
        try:
            fits(size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            size //= 2
        else:
            break
    return size


def one_gradient(
    victim: nn.Module, samples: Samples, threat: Threat, device: torch.device, n: int
) -> None:
    """The pass that needs most memory: forward and backward of the first n samples at once."""
    some = samples.head(n)
    x = some.batch(range(len(some)))
    view = View(victim, [tuple(m.shape[1:]) for m in x])  # type: ignore[misc]
    view.gradient(view.pack(x).to(device), some.labels.to(device), replace(threat, targeted=False))


def out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch or Python ran out of memory, on any device."""
    text = str(error)
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "out of memory" in text
        or "can't allocate memory" in text
    )
