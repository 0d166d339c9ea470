"""medrobust: the adversarial-robustness benchmark for multimodal medical imaging.

`load_model`, `load_data`, `evaluate`, `compare`, `leaderboard` are the command line from Python; `UserError` is what bad input raises.
They are imported on first use, so that `import robustbench_med` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustbench_med.errors import UserError

if TYPE_CHECKING:
    from robustbench_med.api import Comparison, Results, compare, evaluate, leaderboard, load_data, load_model

__version__ = "0.1.0"
__all__ = ["Comparison", "Results", "UserError", "__version__", "compare", "evaluate", "leaderboard", "load_data", "load_model"]


def __getattr__(name: str) -> Any:
    if name in ("Comparison", "Results", "compare", "evaluate", "leaderboard", "load_data", "load_model"):
        from robustbench_med import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
