"""What engines are compared on."""

import contextlib
import importlib
from collections.abc import Callable, Iterator

import pytest

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
    "cw": ("L2", "0.1", {"steps": 20, "search": 3, "c": 10.0}),
    "fab": ("Linf", "1/255", {"steps": 30}),
    "square": ("Linf", "4/255", {"queries": 300}),
    "autoattack": ("Linf", "1/255", {"steps": 10, "queries": 500}),
}


MATCHED = {  # (engine, attack): about as many passes
    ("torchattacks", "cw"): {"steps": 60},  # in its one search
    ("torchattacks", "fab"): {
        "steps": 76
    },  # it goes no further with samples that it has broken inside the ball
}


# inside their AutoAttack, where no parameter reaches: one start and the queries of ours; ART needs
# its more steps
FIXED = {
    ("torchattacks.attacks.autoattack", "Square"): {"n_queries": 500},  # of 5,000
    ("art.attacks.evasion.auto_attack", "SquareAttack"): {
        "max_iter": 500,
        "nb_restarts": 1,
    },  # of 5 x 5,000
    ("art.attacks.evasion.auto_attack", "AutoProjectedGradientDescent"): {
        "max_iter": 30,
        "nb_random_init": 1,
    },  # of 5 x 100
    ("art.attacks.evasion.auto_attack", "DeepFool"): {"max_iter": 30},  # of 100
}


@contextlib.contextmanager
def matched_ensembles() -> Iterator[None]:
    """The libraries' AutoAttack with the parameters in `FIXED`: with their own, the few samples
    that stand to the end take minutes.
    """
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), given in FIXED.items():
            where = importlib.import_module(module)
            patch.setattr(where, name, overridden(getattr(where, name), given))
        yield


def overridden(made: Callable[..., object], given: dict[str, int]) -> Callable[..., object]:
    """A class that is always built with the parameters `given`."""
    return lambda *arguments, **options: made(*arguments, **(options | given))
