"""Records as tables read them: all of a store together, so that each knows how far it can be
believed.
"""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_med.store import trust
from robustbench_med.store.diagnosis import DIAGNOSES
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store


def read(store: Store[Record]) -> list[Record]:
    """All records of a store that fit, each with its trust among them (`Record.trust`)."""
    return judged(store.records(), store)


def together(records: Sequence[Record], store: Store[Record]) -> list[Record]:
    """These records of a store, each with its trust among all that fit there; what does not fit is
    left to who reads all.
    """
    others = store.look()[0]
    mine = {record.hash: record for record in records}
    every = [*mine.values(), *(other for other in others if other.hash not in mine)]
    read_together = {record.hash: record for record in judged(every, store)}
    return [read_together[record.hash] for record in records]


def judged(records: Sequence[Record], store: Store[Record]) -> list[Record]:
    """All records of a store, each with its trust among them."""
    diagnoses = Store(store.folder.parent, DIAGNOSES).records()
    found = trust.judged(records, store.arrays, diagnoses)
    return [record.with_trust(found[record.hash]) for record in records]
