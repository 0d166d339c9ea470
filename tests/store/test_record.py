"""Records and certificates as types: they keep the JSON they were made of, and mean what it says."""

import json
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from support.records import certificate, changed, record

from robustbench_med.data.cards import Published
from robustbench_med.naming import canonical_hash
from robustbench_med.runs import recording
from robustbench_med.store.record import Certificate, Kept, Record


@pytest.mark.parametrize(
    "made", [record(eps=[1, 0.0]), certificate()], ids=["record", "certificate"]
)
def test_what_is_read_is_written_again_number_by_number_and_field_by_field(made: Kept) -> None:
    content = made.plain()
    content["spec"]["victim"]["of_a_newer_version"] = {"whole": 1, "float": 1.0}
    content["of_a_newer_version"] = [None, "text"]
    again = type(made).of(content)
    assert json.dumps(again.plain(), sort_keys=True) == json.dumps(content, sort_keys=True)


def test_a_whole_number_stays_whole_in_the_hash() -> None:
    whole, float_ = record(eps=[1, 0]), record(eps=[1.0, 0.0])
    assert whole.spec.threat.radii == float_.spec.threat.radii
    assert canonical_hash(whole.spec.plain()) == whole.hash != float_.hash


def test_absent_fields_stay_absent_and_have_a_value() -> None:
    made = record()
    assert "engine" not in made.plain()["spec"]
    assert (made.spec.engine, made.spec.attack.sources, made.spec.data.fold) == ("native", [], None)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record().figures.robust = 1.0  # type: ignore[misc]


def test_what_a_reader_asks_of_a_record_is_read_off_its_fields() -> None:
    one = record("late+jpeg (unaware attack)", eps=[0.1, 0.0], tasks=(1,), trivial="constant")
    assert (one.trusted, one.targets, one.target) == (("xray",), ["lung"], "lung")
    assert (one.cross_modal, one.joint, one.unaware, one.control) == (True, False, True, False)
    assert one.trivial == ["lesion", "lung"]
    clean = record("mail", attack="noise", eps=0.0)
    assert (clean.trusted, clean.target, clean.control) == ((), "joint", True)
    assert not any((clean.cross_modal, clean.unaware, clean.trivial))
    aimed = changed(one, spec__threat__target="random")
    assert (one.attack_label, aimed.attack_label) == ("pgd", "pgd to random")


def test_one_modality_alone_is_known_by_its_number() -> None:
    assert (certificate().alone, certificate(noised=(1,)).alone) == ("", "xray")


@pytest.mark.parametrize(
    ("kind", "made"),
    [(Certificate, record()), (Record, certificate())],
    ids=["record", "certificate"],
)
def test_the_one_is_not_the_other(kind: type[Kept], made: Kept) -> None:
    with pytest.raises(ValidationError):
        kind.of(made.plain())


def test_published_figures_stand_by_task_as_the_card_has_them() -> None:
    figure = {"model": "ResNet-18", "size": 28, "accuracy": 0.8, "auc": 0.9, "source": "Table 3"}
    published = SimpleNamespace(references=(Published(**figure, task="lesion"), None))
    made = changed(record(), **recording._references(published))
    assert made.plain()["references"] == [figure, None]
    assert made.hash == record().hash
    assert recording._references(SimpleNamespace(references=(None, None))) == {}
    with pytest.raises(ValidationError, match="references"):
        changed(record(), references=[figure])
