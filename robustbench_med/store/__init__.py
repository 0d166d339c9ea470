"""The store: one immutable, content-addressed record a cell, believed only where it fits its
schema, hash and digests.
"""

from robustbench_med.store.store import (
    CERTIFICATES,
    RECORDS,
    Certificate,
    Record,
    Store,
    nothing_left,
)

__all__ = ["CERTIFICATES", "RECORDS", "Certificate", "Record", "Store", "nothing_left"]
