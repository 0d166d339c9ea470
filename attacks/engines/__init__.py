"""Other libraries' attacks behind the same view, threat model and evaluation; what one cannot do is
refused with the reason.
"""

from __future__ import annotations

from robustbench_med.attacks.engines import art, torchattacks
from robustbench_med.attacks.threat import Threat

ENGINES = {"torchattacks": torchattacks, "art": art}


def refusal(engine: str, attack: str, threat: Threat, *, stochastic: bool) -> str | None:
    """Why an engine cannot run this cell, or None where it can. What depends on classes or shapes
    is refused when it runs.
    """
    library = ENGINES[engine]
    if threat.targeted:
        return "targeted attacks are native only"
    if threat.norm == "L2" and sum(r > 0 for r in threat.radii) > 1:
        return "it knows one L2 ball around everything, not one a modality"
    if threat.norm == "L2" and attack in library.LINF_ONLY:
        return f"its {attack} is Linf only"
    if threat.norm == "Linf" and attack in library.L2_ONLY:
        return f"its {attack} is L2 only"
    if attack in library.JUDGES_ITERATES:
        if stochastic:
            return (
                f"its {attack} keeps or drops candidates on a single draw, which is no robustness"
                " for a random victim"
            )
        if len(threat.tasks) > 1:
            return f"its {attack} stops at the first wrong task; name one with --target-task"
    return None
