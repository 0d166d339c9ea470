"""Data: a registry of YAML cards, readers, splits by manifest, pairings, phantoms."""

from robustbench_med.data.cards import Card, Published, card, ids
from robustbench_med.data.catalogue import catalogue, facts, of_pairing
from robustbench_med.data.given import GIVEN, GivenData, data_of, is_data, make_data
from robustbench_med.data.listing import Files
from robustbench_med.data.pairing import Dataset, load
from robustbench_med.data.samples import Component, Samples
from robustbench_med.dataspec import Preprocessing

__all__ = [
    "GIVEN",
    "Card",
    "Component",
    "Dataset",
    "Files",
    "GivenData",
    "Preprocessing",
    "Published",
    "Samples",
    "card",
    "catalogue",
    "data_of",
    "facts",
    "ids",
    "is_data",
    "load",
    "make_data",
    "of_pairing",
]
