"""What two texts ask of a validation file, by section, and where the card answers; no claim that an
answer is enough.
"""

from __future__ import annotations

FDA = "FDA draft guidance, January 2025 (AI-enabled device software functions)"
AI_ACT = "EU AI Act, Article 15 (Regulation (EU) 2024/1689)"
ELSEWHERE = "not here"
"""An answer that a robustness card cannot hold."""
ASKED: dict[str, tuple[tuple[str, str], ...]] = {
    FDA: (
        ("device description: inputs, outputs, users", "Intended use; Victim and data"),
        ("user interface and labeling: figures, limits", "Figures; Not tried"),
        ("risk assessment", "Threats tried, Not tried (harm to patients: not here)"),
        ("data management: sources, splits, sites", "Victim and data"),
        ("model description and development", "Victim and data; the model card"),
        ("validation: figures with intervals, subgroups", "Figures; clinical.csv, subgroups.csv"),
        ("device performance monitoring", ELSEWHERE),
        ("cybersecurity", "Threats tried (evasion alone); the rest not here"),
        ("public submission summary", ELSEWHERE),
    ),
    AI_ACT: (
        ("15(1) accuracy and robustness over the lifecycle", "Figures (at one time)"),
        ("15(2) benchmarks and ways to measure", "Made from; Make it again"),
        ("15(3) accuracy and its metrics declared", "Figures"),
        ("15(4) errors, faults, inconsistent inputs", "Corruptions; missing modalities"),
        ("15(4) feedback loops, redundancy", ELSEWHERE),
        ("15(5) adversarial examples, model evasion", "Threats tried; Trust"),
        ("15(5) data and model poisoning, confidentiality", ELSEWHERE),
    ),
}
NO_CLAIM = (
    "Asked, in our words, and where it is answered: an aid to reading, no claim of compliance. AAMI"
    " CR515 may ask more."
)
