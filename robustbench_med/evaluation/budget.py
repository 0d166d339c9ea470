"""What one evaluation takes at most, in passes of the victim: the attack, a search that it begins,
and the draws that judge.
"""

from __future__ import annotations

from dataclasses import replace

from robustbench_med.attacks.budget import Against, Budget, most, of_round
from robustbench_med.evaluation.search import (
    CHOOSING_DRAWS,
    FIRST_DRAWS,
    MOST_DRAWS,
    OVER,
    planned,
)
from robustbench_med.evaluation.types import AttackPass, Effort, Method
from robustbench_med.naming import BLACK_BOX, CORRUPTION, OWN_THREAT


def of_method(method: Method, against: Against) -> Budget | None:
    """Passes a sample of an attack, or of the search that it begins; None where they are not known:
    of the user's attacks, and those of other libraries.
    """
    if method.engine == CORRUPTION:
        return Budget()
    if method.engine not in ("native", OWN_THREAT):
        return None
    if method.effort is None:
        return most(method.name, method.parameters, against)
    return of_search(method, method.effort, against)


def of_search(method: Method, effort: Effort, against: Against) -> Budget:
    """Passes a sample of a search that never converges and whose samples all stand to the end."""
    attacker = (
        replace(against, draws=max(against.draws, FIRST_DRAWS)) if against.random else against
    )
    measured = 2 * max(attacker.draws, CHOOSING_DRAWS) + 2 * MOST_DRAWS if against.random else 4
    total, passes, queries, basis = Budget(), 0, 0, 0
    for each in planned(method, against.facing):
        black_box = each.kind == BLACK_BOX
        if black_box and queries + each.passes > effort.max_queries:
            continue
        over = total != Budget() and not black_box and passes + each.passes > effort.max_passes
        if over and not basis:
            if effort.name != "max":
                break
            basis = passes + queries
        if basis and passes + queries + each.passes / 2 >= (1 + OVER) * basis:
            break
        total += of_round(each, attacker) + Budget(measured)
        passes += 0 if black_box else each.passes
        queries += each.passes if black_box else 0
    return total


def forward_passes(case: AttackPass) -> int | None:
    """Forward passes that an attack takes of a sample at most; None where that is not known."""
    view, threat, method = case.view, case.threat, case.method
    against = Against(
        view.draws,
        max(view.class_counts[t] for t in threat.tasks),
        len(threat.tasks),
        view.has_soft,
        threat.targeted,
        len(method.sources),
        threat.norm,
    )
    most = of_method(method, against)
    return None if most is None else most.forward
