"""medrobust: the adversarial-robustness benchmark for multimodal medical imaging.

`load_model`, `load_data`, `train`, `evaluate`, `compare`, `diagnose`, `certify`, `leaderboard`,
`report` and so on are the command line from Python, with objects in place of names; `attack` makes
adversarial images of tensors, `make_data` a data set of arrays, `black_box` a victim of a function;
`register` adds the user's own parts; `UserError` is what bad input raises. They are imported on
first use, so that `import robustbench_med` costs nothing.
"""

from __future__ import annotations

import getpass
import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from robustbench_med.errors import UserError

if TYPE_CHECKING:
    from robustbench_med.api import (
        Certified,
        Comparison,
        Diagnoses,
        Results,
        card,
        certify,
        compare,
        diagnose,
        evaluate,
        gate,
        leaderboard,
        load_data,
        load_model,
        merge,
        plan,
        report,
        status,
        train,
    )
    from robustbench_med.data.given import make_data
    from robustbench_med.models.function_box import black_box
    from robustbench_med.runs.attack import attack
    from robustbench_med.runs.registration import (
        register,
        register_attack,
        register_defense,
        register_loss,
    )

try:
    getpass.getuser()
except (KeyError, OSError, ImportError):  # a container's user without an entry
    os.environ["LOGNAME"] = "unnamed"  # MONAI and PyTorch ask for it as they are imported

__version__ = "0.1.0"
__all__ = [
    "Certified",
    "Comparison",
    "Diagnoses",
    "Results",
    "UserError",
    "__version__",
    "attack",
    "black_box",
    "card",
    "certify",
    "compare",
    "diagnose",
    "evaluate",
    "gate",
    "leaderboard",
    "load_data",
    "load_model",
    "make_data",
    "merge",
    "plan",
    "register",
    "register_attack",
    "register_defense",
    "register_loss",
    "report",
    "status",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        rooms = {
            "attack": "runs.attack",
            "black_box": "models.function_box",
            "make_data": "data.given",
        }
        of_user = name.startswith("register")
        module = "runs.registration" if of_user else rooms.get(name, "api")
        # of tqdm, in notebooks, of whoever imports it, now or where it is first used
        warnings.filterwarnings("ignore", message="IProgress not found")
        return getattr(import_module(f"robustbench_med.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
