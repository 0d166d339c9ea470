"""Files and texts of others, mutated by hypothesis, and the doors that must hold against them."""

from support.fuzzing.door import CrashError, Door, meets
from support.fuzzing.doors import DOORS, KINDS

__all__ = ["DOORS", "KINDS", "CrashError", "Door", "meets"]
