"""What stands in one row: seeds of one victim, never two victims; what tells rows apart; what
spread and intervals count.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from support.cli import medrobust
from support.folds import of_fold
from support.records import certificate, certify, changed, fill, record
from support.stores import cells_csv

from robustbench_med.cli import terminal
from robustbench_med.naming import canonical_hash
from robustbench_med.reports import (
    breakdowns,
    certified,
    curves,
    families,
    floors,
    looks,
    page,
    paper,
    paper_tables,
    records,
    tables,
    write,
)
from robustbench_med.store.store import CERTIFICATES, Store

A, B = "a" * 64, "b" * 64


def victim(**parts: Any) -> dict[str, Any]:
    """Parts of a victim, with weights of their own as any training has."""
    return {"weights_sha256": canonical_hash(parts), **parts}


def foreign(weights: str) -> dict[str, Any]:
    return {"train_seed": None, "training": None, "recipe": None, "weights_sha256": weights}


def jpeg(quality: int) -> list[dict[str, Any]]:
    return [{"name": "jpeg", "params": {"quality": quality}}]


def layered(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "params": {}} for name in names]


OTHER_VICTIMS = {
    "recipe": (victim(recipe={"steps": 20, "lr": 0.1}), victim(recipe={"steps": 150, "lr": 0.1}), ["recipe steps=150", "recipe steps=20"]),
    "usual recipe": (
        victim(recipe={}, training=A), victim(recipe={"steps": 20}, training=B), ["recipe steps=20", f"training {A[:12]}"],
    ),
    "size": (victim(params={"width": 4}), victim(params={"width": 8}), ["params width=4", "params width=8"]),
    "preset": (victim(preset="quick"), victim(preset="paper"), ["preset paper", "preset quick"]),
    "training data": (victim(training=A), victim(training=B), [f"training {A[:12]}", f"training {B[:12]}"]),
    "foreign weights": (foreign(A), foreign(B), [f"weights {A[:12]}", f"weights {B[:12]}"]),
    "foreign and trained": (foreign(A), victim(training=B), [f"training {B[:12]}", f"weights {A[:12]}"]),
    "defence": ({"defense": jpeg(50)}, {"defense": jpeg(75)}, ["jpeg quality=50", "jpeg quality=75"]),
    "own code": (victim(code={"net.py": A}), victim(code={"net.py": B}), [f"code net.py={A[:12]}", f"code net.py={B[:12]}"]),
    "same seed": ({"weights_sha256": A}, {"weights_sha256": B}, [f"weights {A[:12]}", f"weights {B[:12]}"]),
}  # fmt: skip
each_difference = pytest.mark.parametrize(
    ("first", "second", "variants"), OTHER_VICTIMS.values(), ids=OTHER_VICTIMS
)


def text_of(shown: Any) -> str:
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    return console.export_text()


@each_difference
@pytest.mark.parametrize("seed", [0, 1])
def test_two_victims_are_two_rows_and_every_table_tells_them_apart(
    first, second, variants, seed, tmp_path
) -> None:
    """`seed`: whether the second was also evaluated with another seed, so that nothing stands
    twice.
    """
    made = [
        record(robust=0.25, clean=0.5, victim=first),
        record(robust=0.75, clean=1.0, victim=second, seed=seed),
    ]
    board = tables.cells(made)
    assert sorted(zip(board.clean, board.robust, board.trainings, strict=True)) == [
        (0.5, 0.25, 1),
        (1.0, 0.75, 1),
    ]
    assert sorted(board.variant) == variants
    assert tables.cells(made[::-1]).equals(board)
    names = [f"mail ({variant})" for variant in variants]
    printed, *_ = paper_tables.cells(board)
    assert sorted(row[0].value for row in printed.rows) == names
    shown = {paper.markdown: paper.escaped, paper.latex: paper._tex}
    for printed_as, escape in shown.items():
        assert all(escape(name) in printed_as(printed) for name in names)
    assert all(name in text_of(terminal.cells(board)) for name in names)
    store = fill(Store(tmp_path), *made)
    ordered, members = tables.ranked(made)
    assert sorted(row["model"] for row in page._rows(tables.named(ordered), members)) == names
    assert sorted(breakdowns.per_class(made, store.arrays).variant.unique()) == variants
    assert sorted(records.victims(made).variant) == variants
    (costs,) = paper_tables.victims(records.victims(made))
    assert sorted(row[0].value for row in costs.rows) == names


@each_difference
def test_curves_of_two_victims_are_not_joined(first, second, variants) -> None:
    made = [
        record(robust=r, eps=e / 255, attack=attack, victim=parts)
        for parts, r in ((first, 0.25), (second, 0.75))
        for e in (1, 4)
        for attack in ("pgd", "cw")
    ]
    minimal = {"median": 0.7, "curve": [[0.0, 0.9], [0.7, 0.45]]}
    made = [
        changed(one, figures__minimal_norm=minimal, figures__attack_loss=[0.1, 2.5]) for one in made
    ]
    names = [f"mail ({variant})" for variant in variants]
    board = tables.named(tables.cells(made))
    look = looks.looks(board.model)
    axis = curves.radius_figure(board, look).axes[0]
    assert sorted(line.get_label() for line in axis.lines) == names
    assert all(len(set(line.get_ydata()[1:])) == 1 for line in axis.lines)
    for drawn in (curves.minimal_norms, curves.convergence):
        ((_, figure),) = drawn(made, look)
        labels = [line.get_label() for line in figure.axes[0].lines]
        assert sorted({label.rpartition("), ")[0] + ")" for label in labels}) == names
        assert len(labels) == 4


@each_difference
def test_certificates_of_two_victims_are_two_curves_and_two_rows(
    first, second, variants, tmp_path
) -> None:
    store = Store(tmp_path, CERTIFICATES)
    for parts, share in ((first, 0.2), (second, 0.6)):
        parts = {f"spec__victim__{key}": value for key, value in parts.items()}
        certify(store, changed(certificate(certified=share), **parts))
    found = certified.frames(store)
    assert sorted(found["certified_tasks"].variant.unique()) == variants
    names = [f"late+smoothing ({variant})" for variant in variants]
    for table in certified.tables(found["certified"], found["certified_tasks"]):
        *rows, floor = table.rows
        assert sorted(row[0].value for row in rows) == names
        assert sorted(row[4].value for row in rows) == [0.2, 0.6]
        assert floor[0].value == floors.CONSTANT
        assert floor[4].value == floor[-2].value == found["certified"].constant.iloc[0]
    labels = [
        text.get_text() for text in certified.figure(found["certified"]).legends[0].get_texts()
    ]
    drawn = [f"{name}, sigma = 0.25" for name in names]
    assert sorted(labels) == sorted([*drawn, floors.CONSTANT])
    assert all(
        name in text_of(terminal.certificates(certified.by_task(store.records()))) for name in names
    )


def test_a_name_that_tells_enough_has_nothing_behind_it() -> None:
    made = [
        record("mail", victim={"recipe": {"steps": 20}}),
        record("late", victim={"recipe": {"steps": 150}}),
    ]
    made += [
        record("mail", victim={"recipe": {"steps": 20}}, seed=s, train_seed=t)
        for s, t in ((1, 0), (0, 1))
    ]
    assert set(tables.cells(made).variant) == {""}
    assert set(
        tables.cells([record(eps=1 / 255), record(attack="fgsm"), record(data="other")]).variant
    ) == {""}


def test_two_machines_weights_of_one_seed_are_rows_of_their_own_with_a_warning_and_the_other_seeds_stay_together() -> (
    None
):
    made = [record(robust=0.1 * (t + 1), train_seed=t) for t in range(3)]
    merged = [*made, record(robust=0.9, train_seed=1, victim={"weights_sha256": B})]
    board = tables.cells(merged)
    assert sorted(zip(board.robust.round(3), board.trainings, strict=True)) == [
        (0.2, 1),
        (0.2, 2),
        (0.9, 1),
    ]
    ours = made[1].spec.victim.checkpoint
    assert sorted(board.marks) == [
        "synthetic data; paired by index",
        *sorted(f"synthetic data; paired by index; other weights: {w}" for w in (ours, B[:12])),
    ]
    (warning,) = families.warnings(merged)
    assert "mail on heads+chests: training seed 1 has 2 different weights" in warning
    assert B[:12] in warning
    assert ours in warning
    assert families.warnings(made) == []


def test_another_evaluation_seed_does_not_hide_other_weights() -> None:
    board = tables.cells(
        [record(robust=0.2), record(robust=0.8, seed=1, victim={"weights_sha256": B})]
    )
    assert sorted(board.robust) == [0.2, 0.8]
    assert board.marks.str.contains("other weights: ").all()


def test_a_merged_store_warns_in_every_command_that_shows_it(tmp_path) -> None:
    fill(Store(tmp_path), record(robust=0.2), record(robust=0.8, victim={"weights_sha256": B}))
    for command in ("leaderboard", "report"):
        options = ["--no-html", "--no-figures"] if command == "report" else []
        done = medrobust(command, "--out", tmp_path, *options)
        assert "training seed 0 has 2 different weights" in " ".join(
            (done.stdout + done.stderr).split()
        )
    assert sorted(cells_csv(tmp_path).robust) == [0.2, 0.8]


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "train_seeds", "trainings", "evaluations"),
    [([0, 1, 2], [0], 1, 3), ([0], [0, 1, 2], 3, 1), ([0, 1], [0, 1], 2, 2)],
)
def test_the_spread_is_over_trainings_and_says_of_how_many(
    seeds, train_seeds, trainings, evaluations
) -> None:
    made = [
        record(robust=0.4 + 0.1 * t + 0.02 * s, seed=s, train_seed=t)
        for s in seeds
        for t in train_seeds
    ]
    (row,) = tables.each(tables.cells(made))
    assert (row.trainings, row.evaluation_seeds) == (trainings, evaluations)
    assert row.robust == pytest.approx(np.mean([r.figures.robust for r in made]))
    shown = text_of(terminal.cells(tables.cells(made)))
    overall = dict(page._overall(tables.cells(made).iloc[0]))
    assert (
        f"{trainings} training(s), {evaluations} evaluation seed(s) each" in overall["means over"]
    )
    if trainings == 1:
        assert pd.isna(row.robust_std)
        assert "±" not in shown
        assert "deviation" not in overall["robust accuracy"]
    else:
        assert row.robust_std == pytest.approx(np.std(train_seeds, ddof=1) * 0.1)
        assert f"± {row.robust_std:.3f} ({trainings} trainings)" in shown
        assert f"over {trainings} trainings" in overall["robust accuracy"]


def test_every_training_weighs_the_same_however_often_it_was_evaluated() -> None:
    made = [
        record(robust=r, seed=s, train_seed=t)
        for r, s, t in ((0.2, 0, 0), (0.4, 1, 0), (0.9, 0, 1))
    ]
    (row,) = tables.each(tables.cells(made))
    assert row.robust == pytest.approx((0.3 + 0.9) / 2)
    assert row.robust_std == pytest.approx(np.std([0.3, 0.9], ddof=1))
    assert (row.trainings, row.evaluation_seeds) == (2, 1)


def test_foreign_weights_are_one_training_whatever_the_seeds() -> None:
    (row,) = tables.each(
        tables.cells([record(robust=0.4 + 0.1 * s, seed=s, victim=foreign(A)) for s in range(3)])
    )
    assert (row.trainings, row.evaluation_seeds) == (1, 3)
    assert pd.isna(row.robust_std)


def test_folds_are_one_row_though_each_has_a_training_of_its_own_and_sources_trained_on_it() -> (
    None
):
    made = [
        of_fold(
            k,
            0.4 + 0.1 * k,
            victim=victim(training=f"{k}" * 64, recipe={"steps": 20}),
            sources=f"{k + 6}" * 64,
        )
        for k in range(3)
    ]
    (row,) = tables.each(tables.cells(made))
    assert (row.folds, row.trainings, row.robust, row.robust_std) == (
        3,
        3,
        pytest.approx(0.5),
        pytest.approx(0.1),
    )
    (row,) = tables.each(
        tables.cells([of_fold(k, 0.4 + 0.1 * k, victim=foreign(A)) for k in range(3)])
    )
    assert (row.folds, row.trainings) == (3, 1)
    assert pd.isna(row.robust_std)  # one victim on other samples: no spread of trainings
    assert (
        len(tables.cells([of_fold(k, 0.5, victim=foreign(w)) for k in range(3) for w in (A, B)]))
        == 2
    )


@pytest.mark.parametrize("what", ["samples", "recipe", "sources"])
def test_what_stands_twice_in_a_fold_is_not_averaged(what: str) -> None:
    first, second = {
        "samples": ({"n": 8}, {"n": 50}),
        "recipe": (
            {"victim": victim(recipe={"steps": 20})},
            {"victim": victim(recipe={"steps": 150})},
        ),
        "sources": ({"sources": A}, {"sources": B}),
    }[what]
    made = [of_fold(0, r, **more) for r, more in ((0.2, first), (0.8, second))]
    assert sorted(tables.cells(made).robust) == [0.2, 0.8]
    together = [of_fold(k, r, **first) for k, r in enumerate((0.2, 0.8))]
    assert tables.cells(together).robust.tolist() == [pytest.approx(0.5)]


# --- from the shell -------------------------------------------------------------------------------


def trained(root: Path, out: Path, *more: object) -> list[object]:
    return ["run", "--model", "late", "--model-param", "width=4", "--size", 32, "--limit", 8, "--attack", "fgsm", "--eps", "8/255",
            "--no-control", "--data", root / "heads.yaml", "--data-root", root, "--out", out, *more]  # fmt: skip


def foreign_weights(root: Path, out: Path, steps: int) -> Path:
    medrobust("train", "--model", "late", "--model-param", "width=4", "--size", 32, "--recipe", f"steps={steps}",
              "--data", root / "heads.yaml", "--data-root", root, "--out", out / f"trained-{steps}")  # fmt: skip
    (weights,) = (out / f"trained-{steps}").glob("*.safetensors")
    return weights


@pytest.mark.parametrize("how", ["--recipe", "--checkpoint"])
def test_two_recipes_or_checkpoints_in_one_folder_are_two_rows(
    how: str, drawn_root, tmp_path
) -> None:
    say: Callable[[int], object] = (
        (lambda steps: f"steps={steps}")
        if how == "--recipe"
        else lambda steps: foreign_weights(drawn_root, tmp_path, steps)
    )
    out = tmp_path / "out"
    for steps in (2, 5):
        medrobust(*trained(drawn_root, out, how, say(steps)))
    board = cells_csv(out)
    found = {r.spec.victim.checkpoint: r.figures for r in Store(out).records()}
    assert len(found) == 2
    assert {row.checkpoint: (row.clean, row.robust) for row in board.itertuples()} == {
        weights: (pytest.approx(f.clean, rel=1e-5), pytest.approx(f.robust, rel=1e-5))
        for weights, f in found.items()
    }
    assert (board.trainings == 1).all()
    assert board.robust_std.isna().all()
    assert board.variant.nunique() == 2
    assert (board.variant != "").all()
    again = medrobust("leaderboard", "--out", out)
    shown = "".join(again.stdout.replace("│", " ").split())
    assert all(f"late ({variant})".replace(" ", "") in shown for variant in board.variant)


def test_evaluation_seeds_alone_have_no_spread(drawn_root, tmp_path) -> None:
    done = medrobust(*trained(drawn_root, tmp_path, "--recipe", "steps=2", "--seed", "0,1,2"))
    (row,) = cells_csv(tmp_path).itertuples()
    assert (row.trainings, row.evaluation_seeds) == (1, 3)
    assert np.isnan(row.robust_std)
    assert "±" not in done.stdout
    assert write.warnings(tmp_path) == []
