"""The leaderboard: one row a victim and threat, from records or from entries."""

import re

import numpy as np
import pandas as pd
import pytest
from support.records import changed, outcomes, record
from support.stores import store_of

from robustbench_med.attacks.registry import SHIPPED
from robustbench_med.models.registry import MODELS
from robustbench_med.reports import board, board_tables, entries, floors, paper, tables
from robustbench_med.reports.comparison import pareto, worst
from robustbench_med.reports.comparison.metrics import METRICS
from robustbench_med.statistics import exact_rate, wilson
from robustbench_med.store.benchmark import Benchmark, benchmark
from robustbench_med.store.entry import Entry
from robustbench_med.store.record import Record
from robustbench_med.store.store import Store
from robustbench_med.training.defenses import describe


def rows(store: Store[Record]) -> pd.DataFrame:
    return board.leaderboard(floors.read(store), store)


def broke(made: Record, right: np.ndarray, clean: float = 0.9) -> tuple[Record, dict]:
    """A record of a deterministic victim with these outcomes (n, 2)."""
    arrays = outcomes(made) | {"robust_right": right.astype(np.float32)}
    tasks = [
        task.model_copy(update={"robust": float(right[:, t].astype(np.float32).mean())})
        for t, task in enumerate(made.figures.tasks)
    ]
    plain = [task.plain() for task in tasks]
    mean = float(np.mean([task.robust for task in tasks]))
    made = changed(
        made, stochastic=False, draws=1, spec__protocol__draws=1,
        figures__tasks=plain, figures__robust=mean,
    )  # fmt: skip
    return made, arrays


def test_the_worst_case_is_paired_sample_by_sample_and_stands_in_one_row(tmp_path) -> None:
    store, index = Store(tmp_path), np.arange(50)
    first, second = index >= 10, index < 35  # what pgd and square leave
    for made, right in (
        (record(attack="pgd", synthetic=False), np.stack([first, first], 1)),
        (record(attack="square", synthetic=False), np.stack([second, index < 50], 1)),
        (record(attack="noise", synthetic=False), np.ones((50, 2), bool)),
    ):
        store.write(*broke(made, right))
    (row,) = tables.each(rows(store))
    # square leaves (1, 1) or (0, 1) and pgd (0, 0) or (1, 1): the lower sum of tasks counts
    both = np.stack([first & (index < 35), first], 1)
    assert row.worst == pytest.approx(both.mean())
    groups = index % 40
    low, high = wilson(row.worst, 40.0)
    assert (row.worst_low, row.worst_high) == pytest.approx((low, high), abs=0.02)
    assert len(set(groups)) == row.n_distinct == 40
    assert (row.attacks, row.families) == (2, "black box, gradient")
    assert (row.decided_by, row.noise) == ("pgd", 1.0)
    assert row.each_attack == "pgd 0.800; square 0.850"
    assert row.trust == tables.cells(floors.read(store)).trust.iloc[-1] or row.trust
    assert row.unranked == board.NO_BENCHMARK
    assert pd.isna(row.rank)
    cells = tables.cells(floors.read(store)).set_index("attack")
    assert cells.worst_case["pgd"] == pytest.approx(row.worst)


def test_a_row_of_trainings_and_folds_is_their_mean_with_its_spread(tmp_path) -> None:
    made = [record("late", 0.5 + seed / 10, train_seed=seed) for seed in (0, 1)]
    folds = [
        changed(record("gmu", 0.2 + k / 5), spec__data__fold={"number": k, "of": 3, "content": "d" * 64})
        for k in (0, 1, 2)
    ]  # fmt: skip
    found = rows(store_of(tmp_path, *made, *folds)).set_index("model")
    assert found.worst.to_dict() == pytest.approx({"late": 0.55, "gmu": 0.4})
    assert found.worst_std["late"] == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert found.trainings.to_dict() == {"late": 2, "gmu": 3}
    assert (found.n["gmu"], found.folds["gmu"]) == (150, 3)
    assert found.data["gmu"] == "heads+chests (3-fold)"
    width = found.worst_high - found.worst_low
    assert width["gmu"] < width["late"]  # three times the samples


def test_an_attack_that_one_training_did_not_meet_is_named(tmp_path) -> None:
    made = [record(train_seed=seed) for seed in (0, 1)] + [record(attack="square", robust=0.4)]
    (row,) = tables.each(rows(store_of(tmp_path, *made)))
    assert "not on every training: square" in row.marks


def test_real_data_come_first_and_the_best_first_within_a_setting(tmp_path) -> None:
    made = [record("drawn", 0.99), record("low", 0.2, synthetic=False, data="heads")]
    made += [record("high", 0.6, synthetic=False, data="heads")]
    made += [record("high", 0.9, synthetic=False, data="heads", eps=1 / 255)]
    found = rows(store_of(tmp_path, *made))
    assert list(zip(found.model, found.eps, strict=True)) == [
        ("high", "1/255"), ("high", "4/255"), ("low", "4/255"), ("drawn", "4/255"),
    ]  # fmt: skip
    first, *_, last = board_tables.boards(found)
    assert "†" in last.caption
    assert "†" not in first.caption


def test_attacks_that_differ_by_parameters_alone_show_them(tmp_path) -> None:
    made = [record(robust=0.5, eot=1), record(robust=0.4, eot=16)]
    (row,) = tables.each(rows(store := store_of(tmp_path, *made)))
    assert row.each_attack == "pgd eot=16 0.400; pgd eot=1 0.500"
    assert set(tables.cells(floors.read(store)).apart) == {"eot=1", "eot=16"}


def test_equal_counts_are_equal_whatever_float32_made_of_them(tmp_path) -> None:
    rounded = float(np.float32(0.802083333))
    assert rounded != 77 / 96
    assert exact_rate(rounded, 96, 1) == 77 / 96
    assert exact_rate(0.123456, 96, 1) == 0.123456  # no count gives it
    front = pd.DataFrame(
        {"clean": [0.9, 0.9], "worst": [0.1 + 0.2, 0.3], "model": ["first", "dominated"]}
    )
    assert len(pareto.on_front(front, METRICS["robust"])) == 1
    made = []
    for model, value in (("a", rounded), ("b", 77 / 96)):
        task = [t.plain() | {"robust": value, "n": 96} for t in record().figures.tasks]
        one = record(model, 0.5, n=96)
        made.append(
            changed(one, stochastic=False, draws=1, figures__tasks=task, figures__robust=value)
        )
    assert tables.cells(made)["rank"].tolist() == [1, 1]
    halves = worst.on_samples([record()], store_of(tmp_path, record())).plain
    assert halves[0][0].dtype == np.float64


def of_benchmark(name: str, **more) -> list[Record]:
    """Records of every attack of a benchmark's reference set, at its first radius."""
    found = benchmark(name)
    made = []
    for wanted in found.reference:
        one = record("late", 0.7, attack=wanted.attack, data=found.data.name, n=found.data.n,
                     size=found.data.size, eps=1 / 255, synthetic=found.synthetic)  # fmt: skip
        effort = {"name": "auto", "max_passes": wanted.max_passes, "max_queries": 5000}
        fields = {
            "spec__data__manifest": found.data.manifest or "e" * 64,
            "spec__attack__params": dict(wanted.params),
            "spec__attack__revision": dict(wanted.revision),
            **({"spec__attack__effort": effort} if wanted.max_passes else {}),
            **more,
        }
        made.append(changed(one, **fields))
    return made


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({}, ""),
        ({"spec__data__manifest": "f" * 64}, "unverified copy of the data"),
        ({"unverified": True}, "unverified copy of the data"),
        ({"spec__seed": 3}, "lacks adaptive with --seed 0, autoattack with --seed 0"),
        ({"draws": 4, "spec__protocol__draws": 4}, "lacks 4 of 16 draws"),
        ({"naive": True}, "naive attacks alone"),
        ({"spec__data__n": 63}, board.NO_BENCHMARK),
    ],
)
def test_a_row_is_ranked_on_a_benchmark_with_its_whole_reference_set_alone(
    fields, lacks, tmp_path
) -> None:
    made = of_benchmark("phantoms-v1", **fields)
    store = Store(tmp_path)
    for each in made:
        store.write(each, outcomes(each))
    (row,) = tables.each(rows(store))
    assert row.unranked == lacks
    assert (row.rank == 1) if not lacks else pd.isna(row.rank)
    assert row.benchmark == ("" if lacks == board.NO_BENCHMARK else "phantoms-v1")


def test_what_the_reference_set_lacks_is_said(tmp_path) -> None:
    adaptive, autoattack = of_benchmark("phantoms-v1")
    store = store_of(tmp_path / "a", adaptive)
    (row,) = tables.each(rows(store))
    assert row.unranked == "lacks autoattack"
    small = changed(adaptive, spec__attack__effort={"name": "auto", "max_passes": 9, "max_queries": 1})  # fmt: skip
    weak = changed(autoattack, spec__attack__params={"version": "auto", "steps": 3})
    old = changed(autoattack, spec__attack__revision={"autoattack": 0})
    (row,) = tables.each(rows(store_of(tmp_path / "b", small, weak)))
    assert row.unranked == (
        "lacks adaptive with --max-passes 1000, autoattack with steps=100 targets=9 queries=5000"
    )
    (row,) = tables.each(rows(store_of(tmp_path / "c", adaptive, old)))
    assert row.unranked == "lacks autoattack of the benchmark's revision"
    faster = {"how": ["bf16"], "revision": 1}
    fast = changed(autoattack, spec__protocol__accelerate=faster)
    (row,) = tables.each(rows(store_of(tmp_path / "d", adaptive, fast)))
    assert row.unranked == "lacks autoattack without --accelerate"


def test_real_benchmarks_rank_published_files_alone(tmp_path) -> None:
    for unverified in (False, True):
        made = of_benchmark("mri-breast-v1", unverified=unverified)
        (row,) = tables.each(rows(store_of(tmp_path / str(unverified), *made)))
        assert pd.notna(row.rank) is not unverified


def test_rows_without_a_rank_count_for_none_and_ties_share_it(tmp_path) -> None:
    def of(model: str, robust: float, names: list[str]) -> list[Record]:
        made = [one for one in of_benchmark("phantoms-v1") if one.spec.attack.name in names]
        return [
            changed(one, spec__victim__model=model, figures__robust=robust,
                    figures__tasks=[t.plain() | {"robust": robust} for t in one.figures.tasks])
            for one in made
        ]  # fmt: skip

    both = ["adaptive", "autoattack"]
    made = [*of("a", 0.75, both), *of("b", 0.75, both), *of("c", 0.625, both)]
    made += of("d", 0.875, both[:1])
    found = rows(store_of(tmp_path, *made)).set_index("model")
    assert found["rank"].dropna().to_dict() == {"a": 1, "b": 1, "c": 3}
    (table,) = board_tables.boards(found.reset_index())
    assert "Without a rank: d (lacks autoattack)" in table.caption
    text = paper.markdown(table)
    assert text.count("**0.750**") == 2
    assert "**0.875**" not in text


def test_entries_hold_all_that_the_leaderboard_says(tmp_path) -> None:
    made = [record("late", 0.5, train_seed=s) for s in (0, 1)] + [record("mail", attack="cw")]
    made += [record("late", 0.6, attack="noise"), record("late", 0.3, eps=8 / 255)]
    store = store_of(tmp_path, *made)
    found = entries.entries(floors.read(store), store)
    assert [entry.victim.model for entry in found] == ["late", "mail"]
    again = [Entry.of(entry.plain()) for entry in found]
    assert again == found
    assert tables.csv(board.frame(again)) == tables.csv(rows(store))
    late = found[0]
    assert [weights.train_seed for weights in late.victim.weights] == [0, 1]
    assert [threat.eps for threat in late.threats] == ["4/255", "8/255"]
    assert late.threats[0].noise == 0.6
    assert late.threats[0].attacks[0].records == sorted(
        (r.hash for r in made[:2]), key=[r.hash for r in made[:2]].index
    )


def test_what_papers_report_stands_beside_what_was_measured(tmp_path) -> None:
    store = store_of(tmp_path, record("late", 0.5), record("late", 0.3, eps=8 / 255))
    (entry,) = entries.entries(floors.read(store), store)
    told = {"value": 0.7, "norm": "Linf", "eps": "4/255", "setting": "s", "source": "Table 2"}
    about = {"reported": [told], "extra_data": "ImageNet"}
    found = board.frame([Entry.of(entry.plain() | {"about": about})]).set_index("eps")
    assert found.difference["4/255"] == pytest.approx(-0.2)
    assert pd.isna(found.reported["8/255"])
    assert set(found.extra_data) == {"ImageNet"}


def test_papers_are_those_that_the_registries_name() -> None:
    known = board.known_papers()
    assert known["models"].keys() == MODELS.keys()
    for name, entry in MODELS.items():
        assert known["models"][name].link == entry.paper.replace("arXiv ", "https://arxiv.org/abs/")
    defenses = {one["name"]: one["summary"] for one in describe()}
    assert known["defenses"].keys() == defenses.keys()
    for name, summary in defenses.items():
        named = re.findall(r"arXiv (\d{4}\.\d{5})", summary)
        link = known["defenses"][name].link
        assert not named or any(link.endswith(number) for number in named), name


def test_attacks_of_smallest_perturbations_are_known_as_such() -> None:
    minimal = {entry.name for entry in SHIPPED if entry.minimal is not None}
    assert minimal - {"hopskipjump", "boundary"} <= entries.MINIMAL
    assert {entries._kind(name) for name in ("square", "pgd", "transfer", "fab")} == {
        "black box", "gradient", "transfer", "minimal",
    }  # fmt: skip


def test_a_benchmark_is_what_its_file_says() -> None:
    found = benchmark("phantoms-v1")
    assert isinstance(found, Benchmark)
    assert found.run_options()["eps"] == ["1/255", "2/255", "4/255"]
