"""The store: one immutable, content-addressed record a cell, believed only where it fits its
schema, hash and digests.
"""

from robustbench_med.store.belief import Record
from robustbench_med.store.store import CERTIFICATES, RECORDS, Store, nothing_left

__all__ = ["CERTIFICATES", "RECORDS", "Record", "Store", "nothing_left"]
