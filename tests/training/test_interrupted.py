"""Interrupted trainings, and reading weights."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.trainings import CPU, KilledError, kill_at, spec_of, train

from robustbench_med.errors import UserError
from robustbench_med.training import checkpoints, loop

pytestmark = pytest.mark.fresh


def interrupted(spec, dataset) -> Path:
    with pytest.raises(KilledError):
        train(spec, dataset, kill_at(5))
    (partial,) = checkpoints.cached_path(spec).parent.glob(
        f"{checkpoints.cached_path(spec).stem}.partial*"
    )
    return partial


def goes_on(spec, dataset) -> tuple[list[str], str]:
    said: list[str] = []
    return (
        said,
        loop.train(
            spec, dataset, CPU, tick=lambda *_: None, say=said.append, command="medrobust train"
        ).sha256,
    )


@pytest.fixture(scope="module")
def whole(pair, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the weights that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(tmp_path_factory.mktemp("whole")))
        return train(spec_of(pair), pair).sha256


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_flipped_bit_in_an_interrupted_training_is_said_and_not_gone_on_from(
    share: float, pair, whole
) -> None:
    partial = interrupted(spec_of(pair), pair)
    data = bytearray(partial.read_bytes())
    data[int(share * len(data))] ^= 1
    partial.write_bytes(bytes(data))
    said, weights = goes_on(spec_of(pair), pair)
    assert len(said) == 1
    assert "starting again" in said[0]
    assert weights == whole


@pytest.mark.parametrize("kind", ["facts", "cut", "another's"])
def test_a_changed_or_anothers_interrupted_training_is_not_gone_on_from(
    kind: str, pair, whole
) -> None:
    partial = interrupted(spec_of(pair), pair)
    if kind == "facts":
        data = partial.read_bytes()
        assert data.count(b'\\"step\\": 4') == 2
        partial.write_bytes(data.replace(b'\\"step\\": 4', b'\\"step\\": 5'))
    elif kind == "cut":
        partial.write_bytes(partial.read_bytes()[:-8])
    else:
        shutil.copy(interrupted(spec_of(pair, seed=1), pair), partial)
    said, weights = goes_on(spec_of(pair), pair)
    assert ["starting again" in line for line in said] == [True]
    assert weights == whole


def test_a_file_that_nothing_was_done_to_is_gone_on_from(pair) -> None:
    interrupted(spec_of(pair), pair)
    said, _ = goes_on(spec_of(pair), pair)
    assert said == ["continuing the interrupted training of late at step 4 of 6"]


def test_reading_weights_needs_no_network_and_no_class_of_the_users(tmp_path) -> None:
    """A file that names a class which only its author has is refused, not imported."""
    (tmp_path / "theirs.py").write_text("import torch\nclass Mine(torch.nn.Linear): pass\n")
    code = "import torch, theirs; torch.save(theirs.Mine(2, 2), 'mine.pt')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    with pytest.raises(UserError, match="holds more than tensors"):
        checkpoints.read_weights(checkpoints.open_checkpoint(tmp_path / "mine.pt"))
    assert "theirs" not in sys.modules


@pytest.mark.parametrize(
    "odd",
    [
        lambda w: w.to_sparse(),
        lambda w: w.to("meta"),
        lambda w: torch.quantize_per_tensor(w.detach(), 0.1, 0, torch.qint8),
        lambda w: w.to(torch.complex64),
    ],
    ids=["sparse", "meta", "quantised", "complex"],
)
def test_weights_that_are_no_plain_numbers_are_refused_by_name(odd, tmp_path) -> None:
    net = torch.nn.Linear(2, 2)
    torch.save(
        {
            "model": {
                name: odd(w.detach()) if name == "weight" else w
                for name, w in net.state_dict().items()
            }
        },
        tmp_path / "w.pt",
    )
    with pytest.raises(UserError, match="weight: sparse, quantised, complex"):
        checkpoints.load_weights(net, checkpoints.open_checkpoint(tmp_path / "w.pt"))
