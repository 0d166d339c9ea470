"""The device: names, and a batch size that shrinks when memory runs out. What attacks find on one:
test_trajectories.
"""

import pytest
import torch

from robustbench_med.errors import UserError
from robustbench_med.progress import Display
from robustbench_med.runs.device import BatchSize, choose_device


def test_out_of_memory_halves_an_automatic_batch_size_and_says_so(capsys) -> None:
    batch = BatchSize("auto", Display())

    def work() -> int:
        if batch.size > 20:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"
            )
        return batch.size

    assert batch.fit(work) == 16
    assert capsys.readouterr().err.count("out of memory; going on with") == 3


def test_a_fixed_batch_size_that_does_not_fit_is_refused_and_other_errors_are_not_swallowed() -> (
    None
):
    def out_of_memory() -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="smaller --batch-size"):
        BatchSize("64", Display(quiet=True)).fit(out_of_memory)
    with pytest.raises(ZeroDivisionError):
        BatchSize("auto", Display(quiet=True)).fit(lambda: 1 / 0)


def test_an_absent_device_is_refused(monkeypatch) -> None:
    assert choose_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no cuda device"):
        choose_device("cuda")


def test_a_warning_is_shown_once(capsys) -> None:
    display = Display(quiet=True)
    for line in ("odd [data]", "odd [data]", "worse"):
        display.warn(line)
    assert capsys.readouterr().err.splitlines() == ["warning: odd [data]", "warning: worse"]
