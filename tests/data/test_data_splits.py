"""Splits as properties: whatever the groups, classes and file order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from robustbench_med.data import Card, card
from robustbench_med.data.listing import SPLITS
from robustbench_med.data.source import Source
from robustbench_med.data.splits import (
    MANIFESTS,
    Manifest,
    fold_manifest,
    make_manifest,
    shipped,
    shipped_notes,
    units,
)
from robustbench_med.errors import UserError

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
CARD: Card = card("br35h")


def source_of(
    labels: list[int],
    groups: list[str],
    published: list[str] | None = None,
    digests: list[str] | None = None,
) -> Source:
    n = len(labels)
    ids = tuple(f"br35h/{i:05d}" for i in range(n))
    return Source(
        CARD,
        ids,
        (),
        np.array(labels)[:, None],
        tuple(groups),
        tuple(published or [""] * n),
        "x",
        tuple(digests or ids),
    )


@st.composite
def sources(draw: st.DrawFn, largest: int = 6) -> Source:
    """12 to 60 groups of 1 to `largest` images of up to three classes (a group may hold several),
    some images copies of others.
    """
    sizes = draw(st.lists(st.integers(1, largest), min_size=12, max_size=60))
    groups = [f"patient {g}" for g, size in enumerate(sizes) for _ in range(size)]
    n = len(groups)
    labels = draw(st.lists(st.sampled_from([0, 0, 0, 1, 1, 2]), min_size=n, max_size=n))
    digests = [str(i) for i in range(n)]
    for a, b in draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=3)):
        digests[b] = digests[a]
    return source_of(labels, groups, digests=digests)


def dealt(source: Source, seed: int) -> Manifest:
    """The split; examples are passed over where groups are too few or so large that a split would
    be empty, which is refused.
    """
    assume(
        len(np.unique(units(source))) >= 10
        and np.unique(source.labels, return_counts=True)[1].max() >= 10
    )
    try:
        return make_manifest(source, seed)
    except UserError:
        return reject()


@settings(deadline=None, max_examples=30)
@given(sources(), st.integers(0, 3), st.randoms())
def test_every_id_is_in_one_split_no_group_or_copy_in_two_and_the_order_plays_no_part(
    source: Source, seed: int, random
) -> None:
    manifest = dealt(source, seed)
    part = {sample: split for split in SPLITS for sample in getattr(manifest, split)}
    assert sorted(part) == sorted(source.ids)
    assert sum(len(getattr(manifest, split)) for split in SPLITS) == len(source.ids)
    for keys in (source.groups, source.digests):
        assert len(
            {(key, part[sample]) for key, sample in zip(keys, source.ids, strict=True)}
        ) == len(set(keys))

    order = list(range(len(source.ids)))
    random.shuffle(order)
    shuffled = replace(
        source,
        labels=source.labels[order],
        **{
            f: tuple(getattr(source, f)[i] for i in order)
            for f in ("ids", "groups", "published", "digests")
        },
    )
    assert make_manifest(shuffled, seed).hash == manifest.hash


@settings(deadline=None, max_examples=30)
@given(sources(largest=4), st.integers(0, 3))
def test_classes_are_spread_as_evenly_as_the_group_sizes_allow(source: Source, seed: int) -> None:
    """A split may miss its share of a class by no more than one group's images a fold it is made
    of, plus one for rounding.
    """
    manifest = dealt(source, seed)
    label = dict(zip(source.ids, source.labels[:, 0].tolist(), strict=True))
    largest = np.bincount(units(source)).max()
    for c in set(label.values()):
        total = sum(y == c for y in label.values())
        for split, n_folds in (("train", 3), ("val", 1), ("test", 2)):
            found = sum(label[sample] == c for sample in getattr(manifest, split))
            assert abs(found - SHARES[split] * total) <= n_folds * (largest + 1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2), min_size=100, max_size=300), st.integers(0, 3))
def test_without_groups_the_shares_are_exact_to_rounding(labels: list[int], seed: int) -> None:
    manifest = make_manifest(
        source_of(labels, [f"br35h/{i:05d}" for i in range(len(labels))]), seed
    )
    for split, share in SHARES.items():
        members = [labels[int(sample[-5:])] for sample in getattr(manifest, split)]
        for c in range(3):
            assert abs(members.count(c) - share * labels.count(c)) <= 3


@settings(deadline=None, max_examples=8)
@given(sources(), st.integers(2, 4))
def test_every_id_is_tested_once_in_a_cross_validation_and_no_group_straddles(
    source: Source, n_folds: int
) -> None:
    dealt(source, 0)
    try:
        manifests = [fold_manifest(source, 0, fold=k, n_folds=n_folds) for k in range(n_folds)]
    except UserError:  # a fold leaves too few groups for a validation part
        assume(False)
    assert sorted(sample for m in manifests for sample in m.test) == sorted(source.ids)
    unit = dict(zip(source.ids, units(source).tolist(), strict=True))
    for m in manifests:
        found = [{unit[sample] for sample in getattr(m, split)} for split in SPLITS]
        assert sum(map(len, found)) == len(set(unit.values()))


def test_a_published_test_part_stays_and_validation_has_no_copy_in_training() -> None:
    labels, groups = [i % 2 for i in range(100)], [f"g{i}" for i in range(100)]
    published = ["train"] * 80 + ["test"] * 20
    digests = [
        f"d{i % 40}" if i < 80 else f"d{i}" for i in range(100)
    ]  # every training image is there twice
    source = source_of(labels, groups, published, digests)
    manifest = make_manifest(source, 0)
    assert manifest.test == source.ids[80:]
    copies = [
        {digests[int(sample[-5:])] for sample in part} for part in (manifest.train, manifest.val)
    ]
    assert copies[0].isdisjoint(copies[1])
    assert 6 <= len(manifest.val) <= 10


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(UserError, match="10 groups"):
        make_manifest(source_of([0, 1] * 30, [f"g{i % 5}" for i in range(60)]), 0)


def test_a_shipped_manifest_says_what_differs_and_nothing_where_nothing_does() -> None:
    names = [path.name.removesuffix(".json") for path in MANIFESTS.iterdir()]
    assert "sartaj-mri" in names
    for name in names:
        manifest = shipped(name)
        assert manifest is not None
        counts = card(name).counts
        parts = {split: getattr(manifest, split) for split in SPLITS}
        assert (
            len(set().union(*parts.values()))
            == sum(map(len, parts.values()))
            == sum(counts.values())
        )
        assert len(parts["test"]) == counts["test"]
        assert (manifest.data, manifest.seed) == (name, 0)
    assert shipped("br35h") is None
    theirs = shipped("sartaj-mri")
    assert theirs is not None
    assert shipped_notes(theirs) == []
    assert shipped_notes(replace(theirs, seed=1, val=())) == []  # one seed is shipped
    moved = replace(
        theirs, train=(*theirs.train[2:], "sartaj-mri/new.jpg"), val=(*theirs.val, theirs.train[0])
    )
    (note,) = shipped_notes(moved)
    assert (
        note == "sartaj-mri: not the split that comes with medrobust: 1 missing (such as"
        f" {theirs.train[1]}), 1 not in it (such as sartaj-mri/new.jpg), 1 in another part (such"
        f" as {theirs.train[0]})"
    )
