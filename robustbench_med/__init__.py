"""medrobust: the adversarial-robustness benchmark for multimodal medical imaging.

`load_model`, `load_data`, `evaluate`, `compare`, `leaderboard` are the command line from Python;
`attack` makes adversarial images of tensors;
`register_attack`, `register_defense` and `register_loss` add the user's own; `UserError` is what
bad input raises. They are imported on first use, so that `import robustbench_med` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from robustbench_med.errors import UserError

if TYPE_CHECKING:
    from robustbench_med.api import (
        Comparison,
        Results,
        compare,
        evaluate,
        leaderboard,
        load_data,
        load_model,
    )
    from robustbench_med.runs.attack import attack
    from robustbench_med.runs.registration import register_attack, register_defense, register_loss

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "Results",
    "UserError",
    "__version__",
    "attack",
    "compare",
    "evaluate",
    "leaderboard",
    "load_data",
    "load_model",
    "register_attack",
    "register_defense",
    "register_loss",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        rooms = {"attack": "runs.attack", "register": "runs.registration"}
        module = rooms.get(name.partition("_")[0], "api")
        return getattr(import_module(f"robustbench_med.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
