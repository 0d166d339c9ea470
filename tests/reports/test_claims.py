"""Claims against made-up stores whose verdict is known; merging of stores."""

import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.files import ROOT
from support.records import changed, fill, record

from robustbench_med.reports import claims, tables
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store

COSTS = pd.DataFrame({
    "model": ["mail", "drifa-net", "late"], "size": 128, "preset": "-", "origin": "model_cost.csv",
    "parameters": [11_372_540, 53_865_668, 22_361_991], "gflops": [1.313, 4.794, 2.369],
})  # fmt: skip
REAL = {"synthetic": False, "preset": "release", "n": 200, "data": "real"}


def verdicts(board: pd.DataFrame, costs: pd.DataFrame) -> dict[str, claims.Finding]:
    return {claim.id: claims.judge(claim, board, costs) for claim in claims.load()}


def test_the_published_costs_are_reproduced_in_parameters_and_not_in_operations() -> None:
    found = verdicts(pd.DataFrame(), COSTS)
    assert found["mail-cost-parameters"].verdict == "reproduced"
    assert found["mail-cost-parameters"].evidence[0].measured == pytest.approx(
        1 - 11_372_540 / 53_865_668
    )
    assert found["mail-cost-operations"].verdict == "not reproduced"
    assert found["mail-cost-operations"].evidence[0].measured == pytest.approx(0.726, abs=1e-3)
    assert found["mail-performance"].verdict == "not testable here"


def test_a_baseline_that_is_not_the_claims_is_shown_but_does_not_decide() -> None:
    finding = verdicts(pd.DataFrame(), COSTS[COSTS.model != "drifa-net"])["mail-cost-parameters"]
    assert finding.verdict == "not testable here"
    assert "drifa-net" in finding.reason
    assert finding.evidence[0].measured == pytest.approx(1 - 11_372_540 / 22_361_991)
    assert not finding.evidence[0].counts


@pytest.mark.parametrize(
    ("protocol", "robust", "other", "trust", "verdict"),
    [
        ("release", 0.7, 0.2, None, "reproduced"),
        ("release", 0.7, 0.3, None, "not reproduced"),
        ("release", 0.6, 0.2, None, "not reproduced"),
        ("release", 0.7, 0.2, "failed", "reproduced"),
        ("sound", 0.7, 0.2, None, "not testable here"),
    ],
)
def test_standing_needs_both_halves_and_the_protocol_whose_retracings_get_no_word(
    protocol, robust, other, trust, verdict
) -> None:
    made = [
        record("robust-mail", robust, protocol=protocol, trust=trust, **REAL),
        record("late", other, protocol=protocol, **REAL),
    ]
    finding = verdicts(tables.cells(made), COSTS)
    assert finding["robust-mail-as-released"].verdict == verdict
    assert (finding["robust-mail-sound"].verdict == "reproduced") == (protocol == "sound")


def test_what_failed_decides_nothing() -> None:
    made = [record("robust-mail", 0.7, trust="failed", **REAL), record("late", 0.2, **REAL)]
    found = verdicts(tables.cells(made), COSTS)["robust-mail-sound"]
    assert found.verdict == "not testable here"
    assert "trust failed" in found.evidence[0].text


def test_under_a_naive_attack_nothing_stands_soundly() -> None:
    made = [record("robust-mail", 0.7, naive=True, **REAL), record("late", 0.2, **REAL)]
    assert verdicts(tables.cells(made), COSTS)["robust-mail-sound"].verdict == "not testable here"


def test_synthetic_images_and_victims_no_better_than_chance_decide_nothing() -> None:
    for extra in ({"synthetic": True}, {"trivial": "constant"}, {"n": 50}, {"preset": "quick"}):
        made = [
            record("mail", clean=0.9, **(REAL | extra)),
            record("late", clean=0.6, **(REAL | extra)),
        ]
        finding = verdicts(tables.cells(made), COSTS)["mail-performance"]
        assert finding.verdict == "not testable here", extra
        assert finding.evidence[0].measured == pytest.approx(0.3)
    made = [record("mail", clean=0.9, **REAL), record("late", clean=0.6, **REAL)]
    assert verdicts(tables.cells(made), COSTS)["mail-performance"].verdict == "reproduced"


IMBALANCED = [[160, 40], [160, 40]]


def measured(model: str, *, robust: float, balanced: float, counts=IMBALANCED, **fields) -> Record:
    """A record of so many samples of each class of both tasks; `clean` is its balanced accuracy
    too.
    """
    made = record(model, robust, **(REAL | fields))
    tasks = [
        task.plain() | {"balanced_accuracy": balanced, "class_samples": list(samples)}
        for task, samples in zip(made.figures.tasks, counts, strict=True)
    ]
    return changed(made, figures__tasks=tasks, figures__balanced_accuracy=balanced)


def gain(figure: str, reported: float, *made: Record, model: str = "mail") -> claims.Finding:
    claim = claims.Gain.model_validate(
        {"id": "mine", "claim": "it wins", "source": "me", "confirmed_by": "points", "kind": "gain",
         "model": model, "figure": figure, "reported": reported}
    )  # fmt: skip
    return claims.judge(claim, tables.cells(made), COSTS)


def test_where_classes_are_imbalanced_claims_are_judged_on_balanced_accuracy() -> None:
    """The victim that falls back on the frequent class has the higher accuracy."""
    honest = measured("mail", robust=0.82, balanced=0.75)
    constant = measured("late", robust=0.84, balanced=0.55)
    found = gain("robust", 0.1, honest, constant)
    assert found.verdict == "reproduced"
    assert found.evidence[0].measured == pytest.approx(0.2)
    assert found.evidence[0].text.startswith("balanced_accuracy: mail 0.750, late 0.550")
    even = [changed(one, figures__tasks=[task.plain() | {"class_samples": [100, 100]} for task in one.figures.tasks])
            for one in (honest, constant)]  # fmt: skip
    found = gain("robust", 0.1, *even)
    assert found.verdict == "not reproduced"
    assert found.evidence[0].text.startswith("robust: mail 0.820, late 0.840")
    clean = gain("clean", 0.1, *(measured(m, robust=0.9, balanced=0.9, clean=c) for m, c in (("mail", 0.95), ("late", 0.8))))  # fmt: skip
    assert clean.evidence[0].text.startswith("clean_balanced_accuracy: mail 0.950, late 0.800")


@pytest.mark.parametrize(("robust", "balanced"), [(0.79, 0.75), (0.9, 0.5)])
def test_what_is_no_better_than_the_constant_answer_neither_beats_nor_stands(
    robust, balanced
) -> None:
    made = [
        measured("robust-mail", robust=robust, balanced=balanced, protocol="sound"),
        measured("late", robust=0.1, balanced=0.2, protocol="sound"),
    ]
    found = gain("robust", 0.1, *made, model="robust-mail")
    assert found.verdict == "not reproduced"
    assert found.evidence[0].text.endswith(", at or below the constant answer")
    claim = {each.id: each for each in claims.load()}["robust-mail-sound"]
    easy = claim.model_copy(update={"reported": 0.5, "others_below": 0.3})
    finding = claims.judge(easy, tables.cells(made), COSTS)
    assert finding.verdict == "not reproduced"
    assert finding.evidence[0].text.endswith(", at or below the constant answer")
    fair = [measured("robust-mail", robust=0.85, balanced=0.75, protocol="sound"), made[1]]
    assert claims.judge(easy, tables.cells(fair), COSTS).verdict == "reproduced"


def test_figures_under_attack_are_compared_under_the_same_attack() -> None:
    even = {"robust": 0.6, "counts": [[100, 100]] * 2}
    made = [
        measured("mail", balanced=0.9, attack="fgsm", **even),
        measured("mail", balanced=0.6, attack="pgd", **even),
        measured("late", balanced=0.55, attack="pgd", **even),
    ]
    found = gain("balanced_accuracy", 0.04, *made)
    assert [each.measured for each in found.evidence] == [pytest.approx(0.05)]


def test_an_under_trained_victim_is_named_so_in_the_evidence() -> None:
    board = tables.cells([measured("mail", robust=0.9, balanced=0.9), measured("late", robust=0.9, balanced=0.7)])  # fmt: skip
    board = board.assign(is_under_trained=board.model == "late")
    claim = claims.Gain(id="mine", claim="c", source="s", confirmed_by="b", kind="gain", model="mail", figure="robust", reported=0.1)  # fmt: skip
    assert "late (under-trained) 0.700" in claims.judge(claim, board, COSTS).evidence[0].text


def test_the_command_writes_both_files_and_takes_claims_of_ones_own(tmp_path) -> None:
    fill(Store(tmp_path / "out"), record("mail", clean=0.9), record("late", clean=0.85))
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "- {id: mine, claim: 'MAIL <b>wins</b>', source: me, confirmed_by: 5 points, "
        "kind: gain, model: mail, figure: clean, reported: 0.04}"
    )
    shown = medrobust("claims", "--out", tmp_path / "out", "--file", mine).stdout
    assert "MAIL <b>wins</b>" in shown
    frame = pd.read_csv(tmp_path / "out" / "claims.csv").set_index("id")
    assert frame.verdict["mine"] == "reproduced"
    assert frame.measured["mine"] == pytest.approx(0.05)
    assert "## mine: reproduced" in (tmp_path / "out" / "claims.md").read_text()
    mine.write_text("- {id: mine, kind: gain, figur: clean}")
    assert "docs/claims.md" in refused(
        medrobust("claims", "--out", tmp_path / "out", "--file", mine, check=2)
    )
    assert "neither records" in refused(medrobust("claims", "--out", tmp_path / "empty", check=2))


def test_the_documented_example_is_read(tmp_path) -> None:
    text = (ROOT / "docs" / "claims.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(text)
    (claim,) = claims.load(tmp_path / "mine.yaml")
    assert (claim.kind, claim.against, claim.needs.min_n) == ("stands", ["mail", "late"], 100)


def test_merging_copies_what_is_missing_keeps_what_is_there_and_reports_what_differs(
    tmp_path,
) -> None:
    fill(Store(tmp_path / "a"), record("mail", 0.5), record("late", 0.7))
    fill(
        Store(tmp_path / "b"),
        record("mail", 0.5 + 0.4 / 50),
        record("late", 0.7 - 2 / 50),
        record("gmu", 0.6),
    )
    done = medrobust("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "all", check=1)
    assert "3 records and certificates copied" in done.stdout
    assert "1 were there with the same figures, 1 conflicts" in done.stdout
    assert "0.7000" in done.stdout
    assert "0.6600" in done.stdout
    store = Store(tmp_path / "all")
    assert {r.spec.victim.model: r.figures.robust for r in store.records()} == {
        "mail": 0.5,
        "late": 0.7,
        "gmu": 0.6,
    }
    assert all(len(store.arrays(r)["labels"]) == 50 for r in store.records())


def test_merging_refuses_altered_records_before_it_copies_anything(tmp_path) -> None:
    fill(Store(tmp_path / "a"), record("mail"))
    late = record("late")
    altered = changed(late, spec__attack__params__steps=1, hash=late.hash)
    fill(Store(tmp_path / "b"), altered)
    assert "altered" in refused(
        medrobust("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "all", check=2)
    )
    assert not (tmp_path / "all").exists()
    lone = fill(Store(tmp_path / "c"), record("gmu"))
    lone.path(record("gmu").hash).with_suffix(".npz").unlink()
    assert "lacks its outcomes" in refused(
        medrobust("merge", tmp_path / "c", "--out", tmp_path / "all", check=2)
    )
