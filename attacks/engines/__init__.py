"""Other libraries' attacks behind the same view, threat model and evaluation; what one cannot do is
refused with the reason.
"""

from __future__ import annotations

from robustbench_med.attacks.engines import art, torchattacks

ENGINES = {library.name: library for library in (torchattacks.LIBRARY, art.LIBRARY)}
"""The libraries by name."""
