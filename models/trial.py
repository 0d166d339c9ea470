"""A victim of the user's own is tried the way it will be used, and from then on read like any
other.

It is handed copies of its own, contiguous, so that `view()` works and a change in place reaches
nobody; its outputs are read as float32 logits, whatever their precision, and as the logarithm of
probabilities where they are such.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from robustbench_med.errors import Notice, UserError

REVISION = 1
"""Raised whenever what a victim of the user's hands out may be read as other logits."""

Kind = Literal["logits", "probabilities", "sigmoid"]
"""What a task's outputs are: rows of any numbers, rows in [0, 1] that sum to 1, or any numbers in
[0, 1].
"""
BATCHES = (2, 1, 3)
REDRAWS = 6
"""Weights drawn anew, under which a sigmoid stays in [0, 1] and logits do not."""
SLACK = 1e-3
SMALLEST = torch.finfo(torch.float32).tiny
SMALLEST_REST = 2.0**-25
"""Below the smallest 1 - p > 0 of float32 (2^-24), so that p = 1 stays the largest."""


class Inputs:
    """Forward pre-hook: the victim gets contiguous copies."""

    def __call__(self, victim: nn.Module, modalities: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(m.clone(memory_format=torch.contiguous_format) for m in modalities)


class Outputs:
    """Forward hook: a victim's outputs as float32 logits.

    Args:
        kinds: of each task in evaluation mode.
        training: of each task in training mode, in which some networks leave their softmax out.
    """

    def __init__(self, kinds: Sequence[Kind], training: Sequence[Kind]) -> None:
        self.kinds, self.training = tuple(kinds), tuple(training)

    def __call__(
        self, victim: nn.Module, modalities: Any, outputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        kinds = self.training if victim.training else self.kinds
        if len(outputs) != len(kinds):
            mode = "training" if victim.training else "evaluation"
            raise UserError(
                f"the model returned {len(outputs)} outputs in {mode} mode, one a task"
                f" ({len(kinds)}) is needed"
            )
        return tuple(logits_of(z.float(), kind) for z, kind in zip(outputs, kinds, strict=True))


def logits_of(z: Tensor, kind: Kind) -> Tensor:
    """log p, or log p - log(1 - p), of outputs (B, C); clamped where float32 ends: there the victim
    is saturated and has no gradient.
    """
    if kind == "logits":
        return z
    outside = z.detach()[(z < -SLACK) | (z > 1 + SLACK)]
    if len(outside):
        raise UserError(
            f"the model's outputs were taken for {kind}, but one is {float(outside[0]):.4g}; "
            "set `outputs = 'logits'` on the module if that is what they are"
        )
    log_p = z.clamp_min(SMALLEST).log()
    return log_p if kind == "probabilities" else log_p - (1 - z).clamp_min(SMALLEST_REST).log()


def hands_out_probabilities(victim: nn.Module) -> bool:
    """Whether the outputs of a task are read as probabilities, in evaluation mode, of a victim that
    may stand behind input transforms.
    """
    hooks = (hook for module in victim.modules() for hook in module._forward_hooks.values())
    return any(isinstance(hook, Outputs) and set(hook.kinds) != {"logits"} for hook in hooks)


def fit(
    victim: nn.Module,
    name: str,
    path: Path,
    shapes: Sequence[tuple[int, int, int]],
    class_counts: Sequence[int],
) -> None:
    """Tries a victim (evaluation mode) and attaches `Inputs` and `Outputs`; ValueError in one line
    where it breaks the contract.

    Batches of 2, 1 and 3 random samples, with and without gradient. Probabilities are found by
    their values, unless the module's `outputs` says what they are.
    """
    for hooks in (
        victim._forward_pre_hooks,
        victim._forward_hooks,
    ):  # a function may hand out the same module again
        for key in [key for key, hook in hooks.items() if isinstance(hook, (Inputs, Outputs))]:
            del hooks[key]
    victim.register_forward_pre_hook(Inputs())
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(max(BATCHES), *shape, generator=generator) for shape in shapes]
    with torch.random.fork_rng(devices=[]):
        for n in BATCHES:
            batch = [m[:n] for m in images]
            with torch.no_grad():
                pass_through(victim, batch, path, class_counts)
            check_gradient(victim, batch, path, class_counts, name)
        kinds = found_kinds(victim, images, len(class_counts))
        if declared := declared_kinds(victim, kinds):
            kinds = declared
        training = kinds
        if set(kinds) != {"logits"}:
            with training_mode(victim):
                training = found_kinds(victim, images, len(class_counts))
    victim.register_forward_hook(
        Outputs(kinds, [k if k == t else "logits" for k, t in zip(kinds, training, strict=True)])
    )
    for kind in () if declared else (kind for kind in SEEN if kind in kinds):
        tasks = ", ".join(str(t) for t, of in enumerate(kinds) if of == kind)
        tell(
            f"{name}: its outputs (task {tasks}) are no logits but {SEEN[kind]}: it is trained and"
            f" attacked on {READ[kind]}; set `outputs = 'logits'` on the module if that is wrong"
        )


SEEN: dict[str, str] = {
    "probabilities": "probabilities (rows in [0, 1] that sum to 1)",
    "sigmoid": "numbers in [0, 1], as a sigmoid's",
}
READ: dict[str, str] = {"probabilities": "log p", "sigmoid": "log p - log(1 - p)"}


def pass_through(
    victim: nn.Module, batch: Sequence[Tensor], path: Path, class_counts: Sequence[int]
) -> tuple[Tensor, ...]:
    """One forward pass; ValueError where it raises or does not give floating-point (B, classes),
    one a task.
    """
    shapes = ", ".join(str(tuple(m.shape)) for m in batch)
    with blamed("its forward", path, f" on modalities {shapes}"):
        logits = victim(*batch)
    if not isinstance(logits, tuple) or not all(isinstance(z, Tensor) for z in logits):
        raise ValueError(
            f"its forward must return a tuple of logits, one tensor a task ({len(class_counts)}),"
            f" got {type(logits).__name__}"
        )
    n = len(batch[0])
    got, wanted = [tuple(z.shape) for z in logits], [(n, classes) for classes in class_counts]
    if got != wanted:
        samples = "1 sample" if n == 1 else f"{n} samples"
        raise ValueError(
            f"its forward returned logits of shapes {got} on {samples}, this data's tasks need"
            f" {wanted}"
        )
    for t, z in enumerate(logits):
        if z.layout != torch.strided:
            raise ValueError(f"its logits of task {t} are a sparse tensor: return z.to_dense()")
        if not z.is_floating_point():
            raise ValueError(
                f"its logits of task {t} are {str(z.dtype).removeprefix('torch.')}; they must be"
                " floating-point numbers"
            )
    return logits


def check_gradient(
    victim: nn.Module, batch: Sequence[Tensor], path: Path, class_counts: Sequence[int], name: str
) -> None:
    """Refuses (ValueError) logits without a gradient, and tells of one that does not reach the
    inputs.
    """
    leaves = [m.clone().requires_grad_() for m in batch]
    with torch.enable_grad():
        logits = pass_through(victim, leaves, path, class_counts)
        for t, z in enumerate(logits):
            if not z.requires_grad:
                raise ValueError(
                    f"its logits of task {t} carry no gradient: they are detached, or computed"
                    " under torch.no_grad()"
                )
        with blamed("its backward pass", path, ""):
            gradients = torch.autograd.grad([z.sum() for z in logits], leaves, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        tell(
            f"{name}: no gradient of its logits reaches its inputs: attacks by gradient cannot move"
            " it, square and transfer can"
        )


def found_kinds(victim: nn.Module, images: Sequence[Tensor], tasks: int) -> tuple[Kind, ...]:
    """What the outputs of each task are by their values: rows that sum to 1 are no chance; numbers
    in [0, 1] must stay there whatever the weights, as those of a fresh network often lie there."""
    seen: list[Sequence[Tensor]] = []
    with (
        torch.no_grad(),
        contextlib.suppress(Exception),
    ):  # a mode or weights that do not work say nothing
        seen.append(victim(*images))
        if any(kind_of([seen[0][t]]) == "sigmoid" for t in range(tasks)):
            seen.extend(victim(*images) for _ in redrawn(victim))
    return tuple(
        (
            kind
            if (kind := kind_of([z[t] for z in seen[:1]])) != "sigmoid"
            else kind_of([z[t] for z in seen])
        )
        for t in range(tasks)
    )


def kind_of(outputs: Sequence[Tensor]) -> Kind:
    """What outputs (B, C) of one task are, rows with NaN left out; without any, logits."""
    rows = (
        torch.cat([z[~z.isnan().any(1)].float() for z in outputs]) if outputs else torch.empty(0, 0)
    )
    # the sum of C numbers of half precision is off by that many roundings
    off = max((torch.finfo(z.dtype).eps * z.shape[1] for z in outputs), default=0.0) + 1e-5
    if not len(rows) or rows.min() < 0 or rows.max() > 1 + off:
        return "logits"
    return "probabilities" if (rows.sum(1) - 1).abs().max() <= off else "sigmoid"


def declared_kinds(victim: nn.Module, found: Sequence[Kind]) -> tuple[Kind, ...] | None:
    """What the module's `outputs` says, a word for all tasks or one a task; None where it says
    nothing, ValueError where it is wrong.
    """
    said = getattr(victim, "outputs", None)
    words = (
        (said,) * len(found)
        if isinstance(said, str)
        else tuple(said)
        if isinstance(said, (tuple, list))
        else ()
    )
    if not words or not all(isinstance(word, str) for word in words):
        return None
    if len(words) != len(found) or not set(words) <= set(get_args(Kind)):
        raise ValueError(
            f"its `outputs` is {said!r}; it must be one of {', '.join(get_args(Kind))}, or a tuple"
            " of them, one a task"
        )
    for t, (word, seen) in enumerate(zip(words, found, strict=True)):
        if word != "logits" and seen == "logits":
            raise ValueError(f"its `outputs` says {word}, but those of task {t} leave [0, 1]")
    return cast(tuple[Kind, ...], words)


@contextlib.contextmanager
def training_mode(victim: nn.Module) -> Iterator[None]:
    """Training mode, and afterwards evaluation mode with the state of before."""
    tensors = list(itertools.chain(victim.parameters(), victim.buffers()))
    kept = [tensor.detach().clone() for tensor in tensors]
    victim.train()
    try:
        yield
    finally:
        victim.eval()
        with torch.no_grad():
            for tensor, before in zip(tensors, kept, strict=True):
                tensor.copy_(before)


def redrawn(victim: nn.Module) -> Iterator[None]:
    """Draws the victim's weights anew at every step (matrices as He et al. do, vectors far wider),
    and puts them back at the end.
    """
    weights = [p for p in victim.parameters() if p.dim() and p.is_floating_point()]
    kept = [p.detach().clone() for p in weights]
    try:
        for i in range(REDRAWS):
            for p in weights:
                p.normal_(
                    0, 10.0 ** (1 + i % 3) if p.dim() == 1 else (2 / max(p[0].numel(), 1)) ** 0.5
                )
            yield
    finally:
        for p, before in zip(weights, kept, strict=True):
            p.copy_(before)


@functools.cache
def tell(line: str) -> None:
    """A notice, once a process however often a victim is built."""
    warnings.warn(line, Notice, stacklevel=2)


@contextlib.contextmanager
def blamed(what: str, path: Path, when: str) -> Iterator[None]:
    """Whatever code of the user's raises, `sys.exit` among it, is a ValueError in one line; an
    interrupt stays one.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ValueError(f"{what} raised {in_one_line(error, path)}{when}") from error


def in_one_line(error: BaseException, path: Path) -> str:
    """An exception in one line, with the last line of the user's file that it came through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f" (line {line})" if line is not None else ""
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"
