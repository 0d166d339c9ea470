"""The device: names, and a batch size that shrinks when memory runs out. CUDA where there is one."""

import pytest
import torch

from robustbench_med.attacks import ATTACKS, Streams, Threat, View, complete
from robustbench_med.device import BatchSize, choose_device
from robustbench_med.errors import UserError
from robustbench_med.models.mail import MAIL
from robustbench_med.progress import Display


def test_out_of_memory_halves_an_automatic_batch_size_and_says_so(capsys) -> None:
    batch = BatchSize("auto", Display())

    def work() -> int:
        if batch.size > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")
        return batch.size

    assert batch.fit(work) == 16
    assert capsys.readouterr().err.count("out of memory; going on with") == 3


def test_a_fixed_batch_size_that_does_not_fit_is_refused_and_other_errors_are_not_swallowed() -> None:
    def out_of_memory() -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="smaller --batch-size"):
        BatchSize("64", Display(quiet=True)).fit(out_of_memory)
    with pytest.raises(ZeroDivisionError):
        BatchSize("auto", Display(quiet=True)).fit(lambda: 1 / 0)


def test_an_absent_device_is_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no cuda device"):
            choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ATTACKS)
def test_a_gpu_finds_the_adversarials_of_the_cpu(name: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    victim = MAIL((1, 1), (4, 3), width=16, mc_dropout=False).double().eval().requires_grad_(False)
    x, y = torch.rand(8, 2 * 32 * 32, dtype=torch.float64), torch.randint(3, (8, 2))
    found = []
    for device in ("cpu", "cuda"):
        view = View(victim.to(device), [(1, 32, 32)] * 2)
        streams = Streams.seeded(0, [str(i) for i in range(8)], name)
        threat = Threat("Linf", (4 / 255, 4 / 255), (0, 1))
        found.append(ATTACKS[name](view, x.to(device), y.to(device), threat, streams, **complete(name, {})).cpu())
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_a_warning_is_shown_once(capsys) -> None:
    display = Display(quiet=True)
    for line in ("odd [data]", "odd [data]", "worse"):
        display.warn(line)
    assert capsys.readouterr().err.splitlines() == ["warning: odd [data]", "warning: worse"]
