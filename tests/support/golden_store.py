"""Records of all kinds that tables tell apart; golden/cells.csv and golden/records.csv are
what was once made of them.
"""

from robustbench_med.store.store import Record
from support.records import changed, record


def records_of_all_kinds() -> list[Record]:
    """Defended and not, naive and unaware, trivial, failed, of several seeds and folds, with a
    radius or a task of their own.
    """
    made = [
        record(model, robust, eps=e, eot=eot)
        for model, robust in (("mail", 0.5), ("late", 0.4))
        for e in (4 / 255, 0.1)
        for eot in (1, 8)
    ]
    made += [
        record("late+jpeg", 0.6),
        record("late+jpeg (unaware attack)", 0.9, naive=True),
        record("mail", 0.8, naive=True, protocol="release"),
    ]
    made[-2] = changed(made[-2], stochastic=False)
    made += [
        record(attack="noise", robust=0.85),
        record("late", 0.3, attack="cw", eps=0.5, norm="L2"),
        record(engine="torchattacks"),
    ]
    made += [record(eps=[0.1, 0.0], tasks=(t,)) for t in (0, 1)] + [
        record("late", eps=[0.03, 0.01]),
        record("late", eps=0.0),
    ]
    made += [
        record("early", 0.9, trivial="constant", trust="failed"),
        record("early", 0.9, data="heads", synthetic=False, trust="doubtful"),
    ]
    made += [
        record("gmu", 0.2 + seed / 10, train_seed=seed, seed=other)
        for seed in (0, 1)
        for other in (0, 1)
    ]
    for fold in (0, 1):
        one = {"number": fold, "of": 3, "content": "d" * 64}
        made.append(changed(record("early", 0.7, data="folds"), spec__data__fold=one))
    unsure = changed(
        record("unsure", 0.5),
        notes=[
            "unverified: a.npz has another md5",
            "not repeatable: the victim draws numbers that no seed repeats",
        ],
        unverified=True,
        repeatable=False,
        batch_dependent="batch statistics",
        figures__not_finite=3,
    )
    return [*made, unsure]
