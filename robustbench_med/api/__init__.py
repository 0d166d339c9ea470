"""The public functions: what the command line does, from Python, with objects in place of names."""

from robustbench_med.api.calls import certify, compare, diagnose, evaluate, gate
from robustbench_med.api.folders import card, leaderboard, merge, plan, report, status
from robustbench_med.api.loading import load_data, load_model, train
from robustbench_med.api.results import Certified, Comparison, Diagnoses, Results

__all__ = [
    "Certified",
    "Comparison",
    "Diagnoses",
    "Results",
    "card",
    "certify",
    "compare",
    "diagnose",
    "evaluate",
    "gate",
    "leaderboard",
    "load_data",
    "load_model",
    "merge",
    "plan",
    "report",
    "status",
    "train",
]
