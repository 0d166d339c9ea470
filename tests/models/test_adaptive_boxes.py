"""Black boxes attacked through a surrogate of their own answers, and by all that asks for no
gradient together.
"""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.asked import COMMON, SIZE, network, scores

from robustbench_med import black_box, evaluate, load_data
from robustbench_med.attacks import Threat, complete
from robustbench_med.attacks.asking import KINDS, QUERIES, Asked, members
from robustbench_med.attacks.budget import Against, most
from robustbench_med.errors import UserError
from robustbench_med.evaluation.assembling import assemble
from robustbench_med.evaluation.search import search
from robustbench_med.provenance import code
from robustbench_med.store.record import Record

ANY = Asked("scores", Threat("L2", (1.0,), (0,)), draws=1, eot=1, queries=QUERIES)


@pytest.fixture(scope="module", autouse=True)
def the_network() -> None:
    """Trained before anybody asks it, who computes no gradients."""
    network()


class Counted:
    """A function of the small network that notes the images it is asked about."""

    def __init__(self, *, decides: bool = False) -> None:
        self.decides, self.seen = decides, set[bytes]()

    def __call__(self, *images: np.ndarray) -> list[np.ndarray]:
        self.seen |= {image.tobytes() for image in images[0]}
        found = scores(network().net, *images)
        return [z.argmax(1) for z in found] if self.decides else found


def attacked(device: Counted, out: Path, attack: str, **more: object) -> Record:
    gives = "decisions" if device.decides else "scores"
    box = black_box(device, gives=gives, name="mine", version="1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = COMMON | {"limit": 8} | more
        (record,) = evaluate(box, attack=attack, out=out, **given).records
    return record


# --- a surrogate of its answers -------------------------------------------------------------------


def test_a_transfer_without_a_source_learns_from_answers_that_are_counted_and_capped(
    tmp_path,
) -> None:
    images = load_data("phantoms", size=SIZE).splits["train"]
    train = {image.numpy().tobytes() for image in images.batch(range(len(images)))[0]}
    for cap in (30, 90):
        device = Counted()
        record = attacked(device, tmp_path, "transfer", max_queries=cap)
        surrogate, queries = record.spec.attack.surrogate, record.figures.queries
        assert surrogate.images == queries.surrogate == cap
        assert surrogate.split == "train"
        assert queries.most <= 2
        assert record.attack_label == "transfer from a surrogate"
        assert record.spec.attack.sources == []
        assert record.figures.robust < record.figures.clean
        assert len(device.seen & train) == cap


def test_a_transfer_needs_a_source_where_a_victim_is_no_black_box(tmp_path) -> None:
    with pytest.raises(UserError, match=r"name them with .*source.* \(a black box needs none"):
        evaluate("late", attack="transfer", out=tmp_path, **COMMON)


# --- all together ---------------------------------------------------------------------------------


def test_adaptive_asks_all_that_need_no_gradient_and_says_what_it_cannot_know(tmp_path) -> None:
    record = attacked(Counted(), tmp_path, "adaptive", max_queries=90)
    search, queries = record.attack_ran.search, record.figures.queries
    names = [one.attack for one in search.rounds]
    assert names == ["transfer", "square", "hopskipjump"][: len(names)]
    assert len(names) > 1
    assert all(one.why for one in search.rounds)
    assert search.left_out == {
        "sparse-rs": "it exists under L0, not under Linf",
        "boundary": "it exists under L2, not under Linf",
    }
    assert any("90 queries" in line for line in search.cannot_know)
    assert queries.most <= queries.cap == 90
    assert queries.curve[-1][1] == pytest.approx(record.figures.robust)
    assert record.figures.robust == pytest.approx(
        record.figures.clean - sum(one.taken for one in search.rounds)
    )
    assert record.trust.word == "unchallenged"
    assert not record.naive
    alone = attacked(Counted(), tmp_path, "transfer", max_queries=90)
    assert record.figures.robust <= alone.figures.robust


@pytest.mark.slow
def test_adaptive_on_decisions_leaves_out_what_asks_for_scores(tmp_path) -> None:
    record = attacked(
        Counted(decides=True), tmp_path, "adaptive", max_queries=150, norm="L2", eps="5"
    )
    search = record.attack_ran.search
    assert search.left_out["square"] == "the device gives decisions alone"
    assert {one.attack for one in search.rounds} <= {"transfer", "hopskipjump", "boundary"}
    assert record.figures.queries.most <= 150


@pytest.mark.parametrize("given", [{"effort": "max"}, {"effort": "quick"}, {"max_passes": 9}])
def test_a_black_box_is_given_queries_not_passes(given, tmp_path) -> None:
    with pytest.raises(UserError, match="of a black box adaptive asks"):
        attacked(Counted(), tmp_path, "adaptive", **given)


def test_the_record_is_of_every_file_that_made_it_and_others_of_none_of_them() -> None:
    made_of = code.revisions(assemble, "the search").keys()
    assert made_of >= {"asking", "assembling", "boundary", "hopskipjump", "square", "transfer"}
    assert not made_of & {"cw", "ddn"}
    assert not code.revisions(search, "the search").keys() & {"asking", "assembling", "boundary"}


# --- who is a member ------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [1, 2, 7, 100, 1000, QUERIES])
@pytest.mark.parametrize("gives", ["scores", "decisions"])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1", "L0"])
def test_members_share_the_queries_and_every_other_attack_has_a_reason(
    norm, gives, queries
) -> None:
    asked = replace(ANY, gives=gives, threat=Threat(norm, (1.0,), (0,)), queries=queries)
    found, left_out = members(asked)
    assert {one.attack for one in found} | left_out.keys() == {k.entry.name for k in KINDS}
    assert not {one.attack for one in found} & left_out.keys()
    assert sum(one.queries for one in found) <= queries
    assert all(one.queries > 0 for one in found)
    assert found[0].attack == "transfer"
    for one in found:
        complete(one.attack, one.parameters)


def test_members_spend_their_share() -> None:
    for one in members(replace(ANY, queries=QUERIES))[0][1:]:
        budget = most(one.attack, complete(one.attack, one.parameters), Against(norm="L2"))
        assert one.queries <= budget.queries + 50, "a member that cannot use its share"
        assert budget.queries <= 1.6 * one.queries, "one that asks far beyond it"


def test_random_victims_are_asked_several_times_a_question() -> None:
    found, _ = members(replace(ANY, draws=16, eot=4))
    assert found[0].queries == 32
    assert "eot" not in found[0].parameters
    assert all(one.parameters["eot"] == 4 for one in found[1:])


def test_what_cannot_leave_a_missing_image_alone_is_left_out() -> None:
    threat = Threat("L2", (1.0, 1.0), (0,), optional=(1,))
    found, left_out = members(replace(ANY, threat=threat))
    assert [one.attack for one in found] == ["transfer", "square"]
    assert left_out["boundary"] == "it cannot leave alone what a sample misses"
