"""On a victim trained on real images, native attacks are at least as strong as the same attacks of
other libraries.
"""

from fractions import Fraction

import pytest
import torch
from support.files import SHARED_DATA, needs_real_data
from support.strength import CASES, MATCHED, SIZE, VICTIM, N, matched_ensembles

from robustbench_med import load_data, load_model
from robustbench_med.attacks import ENGINES, Streams, Threat, View, complete

pytest.importorskip("torchattacks", reason="needs the extra engines")
pytest.importorskip("art", reason="needs the extra engines")

LUCK = {"square": 6}
"""Samples that two runs of a random search may differ by: two standard deviations, of 2 samples a
run over six seeds of each library.
"""


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """Four kinds of brain MRI, 32 px; the images it is right on among the first 128 of the test
    part.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(tmp_path_factory.mktemp("home")))
        data = load_data("sartaj-mri", size=SIZE, data_root=SHARED_DATA)
        model = load_model("unimodal", data=data, device="cpu", quiet=True, **VICTIM)
    samples = data.splits["test"]
    images = samples.batch(range(N))
    view = View(model, [tuple(m.shape[1:]) for m in images])
    return view, view.pack(images), samples.labels[:N], samples.ids[:N]


def robust(victim, engine: str, name: str) -> float:
    """Robust accuracy over all 128; only those that are right from the start are attacked, as in a
    run.
    """
    view, x, y, ids = victim
    norm, eps, given = CASES[name]
    threat = Threat(norm, (float(Fraction(eps)),), (0,))
    right = (view.standing(x, y, threat) > 0).nonzero().squeeze(1)
    given = given | MATCHED.get((engine, name), {})
    known = complete(name, {}, engine)
    given = complete(name, {k: v for k, v in given.items() if k in known}, engine)
    torch.manual_seed(0)
    streams = Streams.seeded(0, [ids[i] for i in right.tolist()], name)
    with matched_ensembles():
        moved = ENGINES[engine][name](view, x[right], y[right], threat, streams, **given)
    return float(view.standing(moved, y[right], threat).sum()) / len(x)


@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_engine_breaks_more_than_one_sample_more(victim, name) -> None:
    view, x, y, _ = victim
    clean = float(view.standing(x, y, Threat("Linf", (1.0,), (0,))).mean())
    native = robust(victim, "native", name)
    assert clean > 0.6
    assert (
        0 < native < clean - 0.05
    )  # at a radius where there is something to win and something left to break
    for engine in ("torchattacks", "art"):
        if name in ENGINES[engine]:
            assert native <= robust(victim, engine, name) + (1 + LUCK.get(name, 0)) / N, engine
