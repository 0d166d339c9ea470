"""What a comparison says: trust, verdict, pairs, page and figure."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from support.cli import medrobust
from support.comparisons import FAILED, RECIPE, TRIVIAL, USUAL, row_of
from support.records import record

from robustbench_med.cli import terminal
from robustbench_med.errors import UserError
from robustbench_med.reports.comparison import entries
from robustbench_med.reports.comparison.entries import Compared, Entry, LeftOut
from robustbench_med.reports.comparison.page import Page, markdown
from robustbench_med.reports.comparison.pairs import Pair, pairs
from robustbench_med.reports.comparison.pareto import pareto, span
from robustbench_med.reports.comparison.rows import Naive, Row
from robustbench_med.reports.comparison.table import display, frame, latex
from robustbench_med.reports.comparison.verdict import verdict
from robustbench_med.reports.comparison.write import rebuild
from robustbench_med.reports.floors import CONSTANT
from robustbench_med.store.store import Store


def page_of(rows: list[Row], paired: list[Pair] | None = None) -> Page:
    found = pairs(rows) if paired is None else paired
    return markdown(frame(rows), found, [], command="medrobust compare", seconds=1.0)


def test_the_trust_column_says_why() -> None:
    one = np.array([1.0, 0.0, 0.0, 0.0])
    rows = [row_of("none", one), row_of("jpeg", one, trust=FAILED)]
    text = str(page_of(rows))
    assert "| failed: zero gradient |" in text
    assert "| challenged |" in text
    first, best = verdict(frame(rows), pairs(rows))
    assert "+0.0 points [+0.0, +0.0]" in first
    assert first.endswith("Do not quote it (jpeg: zero gradient).")
    assert "Do not quote" not in best  # that is none


def test_where_every_sample_falls_nobody_is_called_the_best_and_trainings_have_a_spread() -> None:
    rows = [row_of("none", np.zeros(4)), row_of("jpeg", np.zeros(4))]
    table = frame(rows).assign(trainings=3, worst_std=[0.0, 0.0123])
    assert verdict(table, pairs(rows))[-1].startswith("On d (Linf, 4/255) nothing withstands")
    assert list(display(table)["sd over trainings"]) == ["0.000", "0.012", "-"]
    assert "sd over trainings" not in display(table.assign(trainings=1))


def test_a_transfer_attack_is_compared_with_its_source_named(drawn_root, tmp_path) -> None:
    arguments = ["compare", "--model", "early", "--defense", "bit-depth", "--attack", "pgd,transfer", "--source", "unimodal", "--limit", 4,
                 "--data", drawn_root / "heads.yaml", "--data-root", drawn_root, "--attack-param", "steps=2", *RECIPE,
                 "--out", tmp_path]  # fmt: skip
    medrobust(*arguments)
    table = pd.read_csv(tmp_path / "compare.csv")
    assert table["transfer from unimodal"].notna().all()
    assert list(table.naive_attack.dropna()) == ["pgd"]


def sentence_of(*rows: Row) -> str:
    return verdict(frame(rows), pairs(rows))[0]


def test_a_comparison_on_one_fold_says_which(drawn_root, tmp_path) -> None:
    medrobust("compare", "--model", "early", "--defense", "jpeg", "--attack", "fgsm", "--limit", 4, *RECIPE, "--data",
              drawn_root / "heads.yaml", "--folds", 3, "--fold", 1, "--data-root", drawn_root, "--out", tmp_path)  # fmt: skip
    assert set(pd.read_csv(tmp_path / "compare.csv").data) == {"heads (fold 1 of 3)"}
    assert {record.spec.data.fold.number for record in Store(tmp_path).records()} == {1}


def test_a_clear_gain_is_said_with_its_interval_and_its_cost() -> None:
    plain = np.zeros(200)
    better = np.repeat([1.0, 0.0], 100)
    dear = replace(USUAL, training_gflops=71.0, gflops=3.0, latency_ms=9.0)
    said = sentence_of(row_of("none", plain), row_of("trades", better, clean=0.85, costs=dear))
    assert "trades beats none by +50.0 points [+43" in said
    assert (
        "-5.0 points of clean accuracy, 7.1 x training, 3.0 x inference FLOPs." in said
    )  # counted: a clock says 1.8


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [(0.01, 0.30, 1.0, "cannot be told from none"), (0.01, 0.30, 0.05, "cannot be told from none"), (0.01, 0.30, 0.049, "beats none by"),
     (-0.01, 0.30, 0.001, "cannot be told from none"), (0.0, 0.30, 0.001, "cannot be told from none"),
     (-0.30, -0.01, 1.0, "cannot be told from none"), (-0.30, -0.01, 0.01, "is worse than none by")],
)  # fmt: skip
def test_a_victim_beats_another_only_where_the_interval_and_the_corrected_p_both_say_so(
    low, high, p, said
) -> None:
    plain, defended = (
        row_of("none", np.full(8, 0.25)),
        row_of("jpeg", np.full(8, 0.375 if high > 0.1 else 0.125)),
    )
    (pair,) = pairs([plain, defended])
    middle = -(low + high) / 2
    paired = [replace(pair, difference=middle, low=-high, high=-low, p=p, p_holm=p)]
    sentence, best = verdict(frame([plain, defended]), paired)
    assert said in sentence
    decided = "beats" in said or "worse" in said
    assert ("no difference shown: " in sentence) != decided
    assert ("No difference is shown from late with " in best) != decided
    assert (f"{p:.2g} *" in str(page_of([plain, defended], paired))) == decided


def test_a_gain_on_eight_images_is_not_called_one() -> None:
    fewer, more = np.repeat([1.0, 0.0], [3, 5]), np.repeat([1.0, 0.0], [4, 4])
    rows = [row_of("none", fewer), row_of("man", more)]
    said, best = verdict(frame(rows), pairs(rows))
    assert "beats" not in said
    assert "+12.5 points [" in said
    assert "p = 1" in said
    assert "late with man has the highest" in best
    assert "No difference is shown from late with none (+12.5 points [" in best


def test_the_best_tells_which_it_was_not_paired_with() -> None:
    zero, one = np.zeros(40), np.ones(40)
    rows = [
        row_of("none", zero),
        row_of("jpeg", one),
        row_of("none", zero, model="early"),
        row_of("man", zero, model="early"),
    ]
    best = verdict(frame(rows), pairs(rows))[-1]
    assert best.endswith("Not paired with it: 2 of another model and another defence.")
    assert "No difference" not in best


def test_every_printed_row_says_its_data_and_radius() -> None:
    rows = [
        row_of(name, np.zeros(4), data=data, eps=eps)
        for data in ("d", "e")
        for eps in ("4/255", "8/255")
        for name in ("none", "jpeg")
    ]
    shown = display(frame(rows))
    victims = shown[shown.model != CONSTANT]
    assert list(zip(victims["data"], victims["threat"], strict=True)) == [
        (row.setting.data, f"Linf {row.setting.eps}") for row in rows
    ]
    page = page_of(rows)
    assert [
        line.split(" | ")[2:4] for line in str(page).splitlines() if line.startswith("| late | ")
    ] == [[row.setting.data, f"Linf {row.setting.eps}"] for row in rows]
    console = Console(width=80, file=io.StringIO())
    console.print(terminal.comparison(frame(rows), page))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    rows_shown = text.partition("Verdict")[0]
    assert rows_shown.count("Linf 4/255") == rows_shown.count("Linf 8/255") == 6
    assert rows_shown.count("0.900") == len(rows)  # no figure is cut


def test_an_advantage_that_only_a_naive_attack_shows_is_called_so() -> None:
    plain = np.repeat([1.0, 0.0], 100)
    unaware = Naive(0.62, 0.62, "pgd", "unaware")
    said = sentence_of(row_of("none", plain), row_of("jpeg", plain[::-1], naive=unaware))
    assert "cannot be told from none" in said
    assert (
        "Its advantage under an attack unaware of the transform, 12.0 points, vanishes under BPDA."
        in said
    )
    said = sentence_of(
        row_of("none", plain, naive=Naive(0.55, 0.55, "pgd", "release")),
        row_of("man", plain[::-1], naive=Naive(0.67, 0.67, "pgd", "release")),
    )
    assert (
        "Its advantage under the release protocol, 12.0 points, vanishes under EOT." in said
    )  # against none under the same protocol
    other = Naive(0.62, 0.62, "fgsm", "unaware")  # an attack that the undefended victim never met
    said = sentence_of(row_of("none", plain), row_of("jpeg", plain[::-1], naive=other))
    assert "Its advantage" not in said
    few = np.array([1.0, 1.0, 0.0, 0.0])
    said = sentence_of(
        row_of("none", few, naive=Naive(0.5, 0.5, "pgd", "release")),
        row_of("man", np.array([1.0, 1.0, 1.0, 0.0]), naive=Naive(0.75, 0.75, "pgd", "release")),
    )
    assert (
        "25.0 points, is uncertain under EOT." in said
    )  # +25 points on four samples: neither gone nor proved
    said = sentence_of(
        row_of("none", plain, naive=Naive(0.4, 0.4, "pgd", "release")),
        row_of("man", plain, naive=Naive(0.4, 0.4, "pgd", "release")),
    )
    assert said.endswith(
        "The naive attack did more harm than those of the comparison: give them more steps before"
        " you conclude."
    )
    worse = sentence_of(row_of("none", plain), row_of("man", np.zeros(200)))
    assert "man is worse than none by -50.0 points" in worse


def test_a_trivial_victim_is_not_the_best_and_not_to_be_quoted() -> None:
    plain, constant = np.repeat([1.0, 0.0], 100), row_of("trades", np.ones(200), trust=TRIVIAL)
    rows = [row_of("none", plain), constant]
    table = frame(rows)
    said, best = verdict(table, pairs(rows))
    assert said.endswith("Do not quote it (trades: no better than chance on a task).")
    assert best.startswith("On d (Linf, 4/255) late with none has the highest")
    assert (
        "no victim can be called the best" in verdict(table.assign(trust="failed"), pairs(rows))[-1]
    )


def test_pairs_refuse_different_samples_and_skip_pairs_that_share_neither_model_nor_defence() -> (
    None
):
    a = row_of("none", np.zeros(4))
    elsewhere = replace(a.outcomes, units=("x",) * 4)
    with pytest.raises(AssertionError, match="different samples"):
        pairs([a, replace(a, defense="trades", outcomes=elsewhere)])
    assert pairs([a, replace(a, model="early", defense="trades")]) == []


def test_the_figure_takes_figures_at_the_very_ends(tmp_path) -> None:
    rows = [row_of("none", np.zeros(8)), row_of("trades", np.ones(8))]
    table = frame(rows).assign(worst_low=[1e-17, 0.9], worst_high=[0.1, 1 - 1e-16])
    pareto(table, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.svg").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([0.87, 0.872], (0.771, 0.971)), ([0.998, 1.0], (0.83, 1.03)), ([0.0, 0.0], (-0.03, 0.17)),
     ([0.2, 0.7], (0.17, 0.73)), ([0.0, 1.0], (-0.03, 1.03))],
)  # fmt: skip
def test_axes_of_accuracies_span_a_fifth_and_leave_room_at_zero_and_one(shares, expected) -> None:
    assert span(pd.Series(shares)) == pytest.approx(expected)


def test_in_print_what_failed_or_is_trivial_is_never_the_best() -> None:
    rows = [
        row_of("none", np.full(8, 0.1)),
        row_of("pgd-at", np.full(8, 0.4)),
        row_of("jpeg", np.full(8, 0.8), trust=FAILED),
        row_of("man", np.full(8, 0.9), trust=TRIVIAL),
    ]
    tex = latex(frame(rows))
    assert r"\textbf{0.400} [" in tex
    assert r"\underline{0.100} [" in tex
    for best in (r"\textbf{0.800}", r"\textbf{0.900}", r"\underline{0.800}"):
        assert best not in tex
    assert r"0.800\textdaggerdbl{}" in tex
    assert r"man" in tex
    assert r"late\S{}" in tex


def test_a_comparison_whose_records_are_gone_is_not_rebuilt(tmp_path) -> None:
    assert rebuild(tmp_path, []) == []
    entry = {"model": "m", "defense": "d", "records": ["abc"], "naive": []}
    (tmp_path / "compare.json").write_text(
        json.dumps({"command": "c", "seconds": 1, "entries": [entry]})
    )
    with pytest.raises(UserError, match=r"KeyError\('abc'\) is missing or wrong"):
        rebuild(tmp_path, [])


def test_compare_json_gives_back_the_comparison_that_was_saved(tmp_path) -> None:
    plain, naive = record(), record("mail+jpeg", naive=True)
    absent = LeftOut("early", "man", "this model has none", unsuited=True)
    compared = Compared(
        (Entry("mail", "none", (plain,)), Entry("mail", "jpeg", (plain,), (naive,))),
        "medrobust compare",
        1.5,
        (absent,),
    )
    entries.save(compared, tmp_path)
    assert entries.read(tmp_path, [naive, plain]) == compared
    noted = json.loads((tmp_path / entries.NOTED).read_text())
    del noted["left_out"]  # as older versions wrote it
    (tmp_path / entries.NOTED).write_text(json.dumps(noted))
    assert entries.read(tmp_path, [naive, plain]) == replace(compared, left_out=())


@pytest.mark.parametrize("noted", [[], {"left_out": [{}]}, {"entries": [1]}, {"seconds": "x"}])
def test_a_compare_json_of_another_shape_is_one_line(noted, tmp_path) -> None:
    usual = {"command": "c", "seconds": 1.0, "entries": [], "left_out": []}
    content = usual | noted if isinstance(noted, dict) else noted
    (tmp_path / entries.NOTED).write_text(json.dumps(content))
    with pytest.raises(UserError, match="cannot be rebuilt"):
        entries.read(tmp_path, [])


def test_a_mirrored_pair_says_the_same_of_b_minus_a() -> None:
    (pair,) = pairs([row_of("none", np.repeat([1.0, 0.0], [10, 30])), row_of("jpeg", np.ones(40))])
    back = pair.mirrored()
    assert (pair.defense_a, back.defense_a, back.defense_b) == ("none", "jpeg", "none")
    assert (back.difference, back.low, back.high) == (0.75, -pair.high, -pair.low)
    assert pair.low <= -0.75 <= pair.high
    assert pair.is_decided
    assert back.is_decided
    assert back.mirrored() == pair
