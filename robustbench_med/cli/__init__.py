"""The command line: one thin function a command."""

from robustbench_med.cli.program import app, main

__all__ = ["app", "main"]
