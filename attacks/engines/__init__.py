"""Other libraries' attacks behind the same view, threat model and evaluation; what one cannot do is
refused with the reason.
"""

from __future__ import annotations

from robustbench_med.attacks.engines import art, foolbox, torchattacks

ENGINES = {
    library.name: library for library in (torchattacks.LIBRARY, art.LIBRARY, foolbox.LIBRARY)
}
"""The libraries by name."""
