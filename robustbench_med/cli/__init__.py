"""The command line: one thin function a command."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C or SIGTERM ended."""
KEPT = (
    "interrupted; finished cells and training steps are kept, the same command goes on from there"
)
"""What it says last."""


def main() -> None:
    """The console script: `program.main`, and an end in one line even while it is imported."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        from robustbench_med.cli import program

        program.main()
    except KeyboardInterrupt:
        print(f"medrobust: {KEPT}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _terminated(*_: object) -> NoReturn:
    """SIGTERM ends a command as Ctrl-C does; a second one at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise KeyboardInterrupt
