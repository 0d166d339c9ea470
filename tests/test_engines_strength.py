"""On a victim trained on real images, native attacks are at least as strong as the same attacks of other libraries."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
import torch
from conftest import SHARED_DATA, needs_real_data

from robustbench_med import load_data, load_model
from robustbench_med.attacks import ENGINES, Streams, Threat, View, complete

pytest.importorskip("torchattacks", reason="needs the extra engines")
pytest.importorskip("art", reason="needs the extra engines")

N = 128
VICTIM = {"params": {"width": 8}, "recipe": {"steps": 300, "eval_every": 50}}
SIZE = 32
ITERATED = {"steps": 10, "step_size": 0.25}
CASES = {  # attack: norm, radius, parameters
    "fgsm": ("Linf", "2/255", {}),
    "bim": ("Linf", "1/255", ITERATED),
    "pgd": ("Linf", "1/255", ITERATED),
    "mim": ("Linf", "1/255", ITERATED),
    "apgd": ("Linf", "1/255", {"steps": 20}),
    "cw": ("L2", "0.1", {"steps": 50, "search": 4, "c": 10.0}),
    "fab": ("Linf", "1/255", {"steps": 30}),
    "square": ("Linf", "4/255", {"queries": 300}),
    "autoattack": ("Linf", "1/255", {"steps": 10, "queries": 500}),
}
MATCHED = {  # (engine, attack): about as many passes
    ("torchattacks", "cw"): {"steps": 200},  # in its one search
    ("torchattacks", "fab"): {"steps": 76},  # it goes no further with samples that it has broken inside the ball
}
LUCK = {"square": 6}
"""Samples that two runs of a random search may differ by: two standard deviations, of 2 samples a run over six seeds of each library."""
FIXED = {  # inside their AutoAttack, where no parameter reaches: one start and the queries of ours; ART needs its more steps
    ("torchattacks.attacks.autoattack", "Square"): {"n_queries": 500},  # of 5,000
    ("art.attacks.evasion.auto_attack", "SquareAttack"): {"max_iter": 500, "nb_restarts": 1},  # of 5 x 5,000
    ("art.attacks.evasion.auto_attack", "AutoProjectedGradientDescent"): {"max_iter": 30, "nb_random_init": 1},  # of 5 x 100
    ("art.attacks.evasion.auto_attack", "DeepFool"): {"max_iter": 30},  # of 100
}


@contextlib.contextmanager
def matched_ensembles() -> Iterator[None]:
    """The libraries' AutoAttack with the parameters in `FIXED`: with their own, the few samples that stand to the end take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), given in FIXED.items():
            where = importlib.import_module(module)
            patch.setattr(where, name, overridden(getattr(where, name), given))
        yield


def overridden(made: Callable[..., object], given: dict[str, int]) -> Callable[..., object]:
    """A class that is always built with the parameters `given`."""
    return lambda *arguments, **options: made(*arguments, **(options | given))


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """Four kinds of brain MRI, 32 px; the images it is right on among the first 128 of the test part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(tmp_path_factory.mktemp("home")))
        data = load_data("sartaj-mri", size=SIZE, data_root=SHARED_DATA)
        model = load_model("unimodal", data=data, device="cpu", quiet=True, **VICTIM)
    samples = data.splits["test"]
    images = samples.batch(range(N))
    view = View(model, [tuple(m.shape[1:]) for m in images])
    return view, view.pack(images), samples.labels[:N], samples.ids[:N]


def robust(victim, engine: str, name: str) -> float:
    """Robust accuracy over all 128; only those that are right from the start are attacked, as in a run."""
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
    assert 0 < native < clean - 0.05  # at a radius where there is something to win and something left to break
    for engine in ("torchattacks", "art"):
        if name in ENGINES[engine]:
            assert native <= robust(victim, engine, name) + (1 + LUCK.get(name, 0)) / N, engine
