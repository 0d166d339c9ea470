"""Threats that no record of a victim tries: what a card must not be silent about."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_med.naming import NORMS
from robustbench_med.reports.entries import kinds
from robustbench_med.store.absence import Absence
from robustbench_med.store.record import Record

OUTSIDE = (
    "outside of medrobust: poisoned training data, models stolen or inverted, attacks on the"
    " network around the device, drift after deployment"
)


def not_tried(mine: Sequence[Record], lost: Sequence[Absence]) -> list[str]:
    """The threats in a line, and what medrobust never tries in another."""
    attacks = [record for record in mine if not record.control and not record.apart]
    names = mine[0].names
    several, tasks = len(names.modalities) > 1, len(names.tasks) > 1
    families = {kind for record in attacks for kind in kinds(record)}
    called = {record.spec.attack.name for record in mine if record.own_threat}
    alone = {
        record.trusted for record in attacks if len(record.trusted) == len(names.modalities) - 1
    }
    tables = any(shape[1:] == [1, 1] for record in mine for shape in record.spec.data.shapes or ())
    norms = [n for n in NORMS if all(record.spec.threat.norm != n for record in attacks)]
    left = {
        f"adversaries in {', '.join(norms)}": bool(norms),
        "each modality by itself": several and len(alone) < len(names.modalities),
        "each task by itself": tasks and all(record.joint for record in attacks),
        "classes aimed at": all(record.spec.threat.target is None for record in attacks),
        "attacks along gradients": "gradient" not in families,
        "attacks that ask for no gradient": "black box" not in families,
        "transfer from other victims": not any(r.spec.attack.sources for r in attacks),
        "columns of clinical tables": tables and not any(r.spec.threat.columns for r in attacks),
        "one perturbation for all patients": "universal" not in called,
        "patches": "patch" not in called,
        "corruptions": not any(record.corruption for record in mine),
        "missing modalities": several and not lost,
    }
    named = "; ".join(name for name, is_left in left.items() if is_left)
    return [*([named] if named else []), OUTSIDE]
