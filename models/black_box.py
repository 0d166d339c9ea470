"""Victims that nobody can look into: they are asked, and answer with scores or with decisions."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_med.errors import UserError
from robustbench_med.formats import text
from robustbench_med.models import trial
from robustbench_med.models.answers import Answers, path_of
from robustbench_med.naming import canonical_hash
from robustbench_med.provenance.networks import Identity

REVISION = 1
"""Raised whenever an answer may be read as other logits."""
Gives = Literal["scores", "decisions"]
Images = NDArray[Any]
LOGITS: trial.Kind = "logits"
WAIT = 0.5
"""Seconds before a faulty answer is asked for again; twice as many before each later try."""
SAME = 1e-3
"""By how much two answers of a deterministic device may differ, and of their size."""


class FaultyAnswerError(Exception):
    """An answer of the wrong size, with numbers that are none, or none at all."""


class Device(Protocol):
    """What is asked.

    Attributes:
        name: what tables call it.
        gives: a number for each class, or only which class it is.
        outputs: what the scores are; None: found by their values.
        batch_size: images of one question at most.
        retries: how often a faulty answer is asked for again.
        kept: whether answers are kept for later processes.
        note: what readers of its figures must know; empty: nothing.
    """

    name: str
    gives: Gives
    outputs: trial.Kind | None
    batch_size: int
    retries: int
    kept: bool
    note: str

    def encoded(self, modalities: Sequence[Images]) -> list[Images]:
        """The images as they are sent: (B, C, H, W) float32 in [0, 1] each, to arrays of B rows."""

    def ask(self, sent: Sequence[Images], names: Sequence[str], tasks: Sequence[str]) -> list[Any]:
        """What it answers, one array or list of B rows a task: scores, one number or as many as
        there are classes each; or classes. FaultyAnswerError, or whatever it raises.
        """

    def class_of(self, decision: Any, task: str) -> int:
        """The number of a class that it decided on; FaultyAnswerError where that is none."""

    def identity(self) -> dict[str, str]:
        """`weights_sha256` and `source_sha256`: which victim it is."""


class BlackBox(nn.Module):
    """A device as a victim, whose logits carry no gradient.

    An image is asked about once, and once more for each draw: `numbered` says which draw the passes
    inside belong to, `afresh` that every pass is one of its own.

    Args:
        device: what is asked.
        modalities, tasks: their names.
        class_counts: classes of each task; None: as many as it scores.
        few: images (n, C, H, W), one a modality, that show what it answers.

    Raises:
        UserError: it does not answer, or not so.
    """

    stochastic = False
    shares_noise = False

    def __init__(
        self,
        device: Device,
        modalities: Sequence[str],
        tasks: Sequence[str],
        class_counts: Sequence[int] | None,
        few: Sequence[Tensor],
    ) -> None:
        super().__init__()
        self.device: Device = device
        self.names, self.tasks = tuple(modalities), tuple(tasks)
        self.n_modalities = len(self.names)
        self.answers = Answers(path_of(hash_of(device)) if device.kept else None)
        self.draw, self.own_draws = 0, False
        self.sent = 0
        """Images that were sent, those of faulty answers among them."""
        self.class_counts = tuple(class_counts or ())
        self.few = device.encoded([m[: device.batch_size].numpy() for m in few])
        self.kept_before = self.answers.any()
        self.witness: NDArray[np.float32] | None = None
        """What it answered about the few in an earlier process, until it is asked again."""
        if class_counts is None:
            first = self._tried(self.few)
            self.class_counts = tuple(z.shape[1] for z in first)
        self.kinds = tuple(LOGITS for _ in self.class_counts)
        if device.gives == "scores":
            self.kinds = self._kinds(self.raw(few))
        self.eval()

    @property
    def gives(self) -> Gives:
        """What it answers with."""
        return self.device.gives

    @property
    def black_box(self) -> BlackBox:
        """Itself: what attacks and reports ask a victim for that may be one."""
        return self

    def forward(self, *modalities: Tensor) -> tuple[Tensor, ...]:
        """Logits of each task, (B, classes_t): of decisions 1 for the class, 0 for the others."""
        raw = self.raw(modalities)
        logits = [trial.logits_of(z, kind) for z, kind in zip(raw, self.kinds, strict=True)]
        return tuple(z.to(modalities[0].device) for z in logits)

    @torch.no_grad()
    def raw(self, modalities: Sequence[Tensor]) -> list[Tensor]:
        """Scores or decisions as they came, (B, classes_t) each, on the CPU."""
        sent = self.device.encoded([m.detach().float().cpu().numpy() for m in modalities])
        self.draw += self.own_draws
        keys = self._keys(sent)
        found = self.answers.known(list(dict.fromkeys(keys)))
        rows = {key: row for row, key in reversed(list(enumerate(keys))) if key not in found}
        open_rows = sorted(rows.values())
        if open_rows and self.witness is not None:
            self._check_witness(self.witness)
        for start in range(0, len(open_rows), self.device.batch_size):
            part = open_rows[start : start + self.device.batch_size]
            answer = np.concatenate(self._tried([m[part] for m in sent]), 1)
            new = dict(zip([keys[row] for row in part], answer, strict=True))
            self.answers.keep(new)
            found |= new
        together = torch.from_numpy(np.stack([found[key] for key in keys]))
        return list(together.split(list(self.class_counts), 1))

    def settle(self) -> None:
        """It is deterministic: from now on, before it is asked anything else, it must still answer
        as it did in the process whose answers are kept.
        """
        keys = self._keys(self.few)
        found = self.answers.known(keys) if self.kept_before else {}
        if found.keys() >= set(keys):
            self.witness = np.stack([found[key] for key in keys])

    def _check_witness(self, kept: NDArray[np.float32]) -> None:
        """Refuses (UserError) a device that has changed, so that no figure mixes two."""
        self.witness = None
        if not np.allclose(np.concatenate(self._tried(self.few), 1), kept, SAME, SAME):
            raise UserError(
                f"{self.device.name} answers otherwise than what is kept of it, so the device has"
                " changed: raise `version` in its contract, or ask for everything anew with --force"
            )

    @contextlib.contextmanager
    def numbered(self, draw: int) -> Iterator[None]:
        """Inside, passes are of this draw."""
        before, self.draw = self.draw, draw
        try:
            yield
        finally:
            self.draw = before

    @contextlib.contextmanager
    def afresh(self) -> Iterator[None]:
        """Inside, every pass is another draw, and asks about every image of its batch."""
        before, self.own_draws = (self.draw, self.own_draws), True
        try:
            yield
        finally:
            self.draw, self.own_draws = before

    def _keys(self, sent: Sequence[Images]) -> list[bytes]:
        seen: dict[bytes, int] = {}
        keys = []
        asked = f"draw {self.draw} {self.names} {self.tasks} {self.class_counts}".encode()
        for row in range(len(sent[0])):
            sha256 = hashlib.sha256(asked)
            for m in sent:
                sha256.update(f"{m.dtype} {m.shape[1:]}".encode() + m[row].tobytes())
            key = sha256.digest()
            if self.own_draws:  # copies in one batch are to be told apart
                seen[key] = seen.get(key, 0) + 1
                key = hashlib.sha256(key + str(seen[key]).encode()).digest()
            keys.append(key)
        return keys

    def _tried(self, sent: Sequence[Images]) -> list[NDArray[np.float32]]:
        """The answer to one question, (B, classes_t) a task, asked again where it is faulty."""
        wait = WAIT
        for tries in range(self.device.retries + 1):
            self.sent += len(sent[0])
            try:
                return self._read(self.device.ask(sent, self.names, self.tasks), len(sent[0]))
            except FaultyAnswerError as error:
                if tries == self.device.retries:
                    said = text.line(error)
                    raise UserError(
                        f"{self.device.name}: {said} ({tries + 1} of {tries + 1} tries)"
                    ) from error
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable")

    def _read(self, answer: Sequence[Any], n: int) -> list[NDArray[np.float32]]:
        """An answer as numbers; FaultyAnswerError."""
        if len(answer) != len(self.tasks):
            raise FaultyAnswerError(f"answers for {len(answer)} tasks, {len(self.tasks)} needed")
        if self.gives == "decisions":
            return [self._one_hot(rows, n, t) for t, rows in enumerate(answer)]
        return [self._scores(rows, n, t) for t, rows in enumerate(answer)]

    def _scores(self, rows: Any, n: int, t: int) -> NDArray[np.float32]:
        try:
            with np.errstate(over="ignore"):
                z = np.asarray(rows, np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise FaultyAnswerError(f"scores of {self.tasks[t]} that are no numbers") from error
        if z.ndim == 1 or z.shape[1:] == (1,):
            z = z.reshape(-1, 1)
            if z.size and not ((z >= 0) & (z <= 1)).all():
                raise FaultyAnswerError(
                    f"one number for {self.tasks[t]} that is no probability in [0, 1]"
                )
            z = np.concatenate([1 - z, z], 1)
        classes = self.class_counts[t] if self.class_counts else max([2, *z.shape[-1:]])
        if z.shape != (n, classes):
            raise FaultyAnswerError(
                f"scores of {self.tasks[t]} of the shape {z.shape}, needed {(n, classes)}"
            )
        if not np.isfinite(z).all():
            raise FaultyAnswerError(f"scores of {self.tasks[t]} that are NaN or infinite")
        return z

    def _one_hot(self, rows: Any, n: int, t: int) -> NDArray[np.float32]:
        try:
            decided = np.asarray(rows).reshape(-1).tolist()
        except ValueError as error:
            raise FaultyAnswerError(f"decisions for {self.tasks[t]} of several shapes") from error
        if len(decided) != n:
            raise FaultyAnswerError(f"{len(decided)} decisions for {self.tasks[t]}, needed {n}")
        z = np.zeros((n, self.class_counts[t]), np.float32)
        for row, decision in enumerate(decided):
            number = self.device.class_of(decision, self.tasks[t])
            if not 0 <= number < z.shape[1]:
                raise FaultyAnswerError(
                    f"the class {number} of {self.tasks[t]}, which has {z.shape[1]}"
                )
            z[row, number] = 1
        return z

    def _kinds(self, raw: Sequence[Tensor]) -> tuple[trial.Kind, ...]:
        """What the scores are: as its device says, else probabilities where they sum to 1."""
        if self.device.outputs is not None:
            return (self.device.outputs,) * len(raw)
        kinds: list[trial.Kind] = []
        for task, z in zip(self.tasks, raw, strict=True):
            kind = trial.kind_of([z])
            kinds.append("probabilities" if kind == "probabilities" else "logits")
            if kind == "probabilities":
                trial.tell(
                    f"{self.device.name}: the scores of {task} sum to 1, and are read as"
                    " probabilities (log p); `outputs: logits` says that they are none"
                )
        return tuple(kinds)


def hash_of(device: Device) -> str:
    """What the answers of a device are kept under."""
    return kept_under(device.identity())


def kept_under(identity: Mapping[str, str]) -> str:
    """The same by `weights_sha256` and `source_sha256`, as records have them."""
    return canonical_hash(dict(identity), REVISION)


class Unasked(nn.Module):
    """A device whose data are not known yet."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def on(
        self,
        modalities: Sequence[str],
        tasks: Sequence[str],
        class_counts: Sequence[int] | None,
        few: Sequence[Tensor],
    ) -> BlackBox:
        """The victim that it is on such data."""
        return BlackBox(self.device, modalities, tasks, class_counts, few)

    @property
    def device_hash(self) -> str:
        """What its answers are kept under."""
        return hash_of(self.device)

    def identity(self) -> Identity:
        """Which victim it is."""
        told = self.device.identity()
        revisions = {} if REVISION == 1 else {"black_box": REVISION}
        return Identity(told["weights_sha256"], told["source_sha256"], revisions)
