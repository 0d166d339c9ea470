"""The command line: one thin function a command."""

from robustbench_med.cli.app import app, main

__all__ = ["app", "main"]
