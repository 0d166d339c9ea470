"""Tables and figures: pure functions of records."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.records import changed, fill, outcomes, record

from robustbench_med.cli import terminal
from robustbench_med.errors import UserError
from robustbench_med.reports import curves, looks, marks, style, tables, write
from robustbench_med.reports.records import cost, long_form
from robustbench_med.statistics import wilson
from robustbench_med.store.store import Record, Store


def test_the_leaderboard_is_sorted_and_ranks_within_comparable_rows() -> None:
    records = [
        record("mail", 0.5),
        record("late", 0.7),
        record("mail", 0.9, eps=1 / 255),
        record("late", 0.8, eps=1 / 255),
    ]
    board = tables.cells(records)
    assert board.robust.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert list(zip(board.model, board.eps, board["rank"], strict=True)) == [
        ("mail", "1/255", 1), ("late", "1/255", 2), ("late", "4/255", 1), ("mail", "4/255", 2),
    ]  # fmt: skip
    assert tables.cells(records[::-1]).equals(board)


def test_training_seeds_are_one_row_with_mean_spread_and_an_interval_over_distinct_images() -> None:
    robust = [0.4, 0.5, 0.6]
    board = tables.cells([record(robust=r, seed=i, train_seed=i) for i, r in enumerate(robust)])
    assert len(board) == 1
    row = board.iloc[0]
    assert (row.trainings, row.evaluation_seeds, row.robust) == (3, 1, pytest.approx(0.5))
    assert row.robust_std == pytest.approx(np.std(robust, ddof=1))
    assert (row.robust_low, row.robust_high) == pytest.approx(wilson(0.5, 40))


def of_fold(k: int, robust: float, *, n: int = 50, seed: int = 0) -> Record:
    return changed(
        record(robust=robust, n=n, data="heads", seed=seed),
        spec__data__manifest=f"{k}" * 64,
        spec__data__fold={"number": k, "of": 3, "content": "c" * 64},
    )


def test_folds_are_one_row_over_all_test_samples() -> None:
    folds = [of_fold(k, r, n=50 + k) for k, r in enumerate([0.4, 0.5, 0.6])]
    board = tables.cells([*folds[::-1], record(data="heads")])
    found = sorted(zip(board.data, board.folds, board.trainings, board.n, strict=True))
    assert found == [("heads", 1, 1, 50), ("heads (3-fold)", 3, 3, 153)]
    row = board[board.folds == 3].iloc[0]
    assert (row.robust, row.robust_std) == (pytest.approx(0.5), pytest.approx(0.1))
    assert (row.robust_low, row.robust_high) == pytest.approx(wilson(0.5, 3 * 40))
    assert list(board["rank"]) == [1, 1]  # other samples: not ranked against each other
    again = [of_fold(k, 0.5, seed=1) for k in range(3)]
    assert tables.cells([*folds, *again])[
        ["trainings", "evaluation_seeds", "folds"]
    ].values.tolist() == [[3, 2, 3]]
    assert "1 of 3 folds missing" in tables.cells(folds[:2]).marks[0]
    assert sorted(set(long_form(folds).fold)) == [0, 1, 2]


def test_marks_say_what_weakens_a_row() -> None:
    assert marks.marks([record()]) == ["synthetic data", "paired by index"]
    assert "trivial on lesion" in marks.marks([record(), record(trivial="constant")])
    assert "naive attack on a random model" in marks.marks([record(naive=True)])


def test_nothing_a_clock_measured_is_in_the_leaderboard() -> None:
    columns = set(tables.cells([record()]).columns)
    assert not columns & {"seconds", "latency_ms", "started", "peak_memory_mib"}
    assert {"seconds", "latency_ms"} <= set(cost([record()]).columns)


def test_files_are_rebuilt_from_the_store_byte_for_byte(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for r in (record("mail", 0.5), record("late", 0.7), record("mail", 0.85, attack="noise")):
        store.write(r, outcomes(r))
    write.leaderboard(tmp_path)
    names = (
        "leaderboard.csv",
        "cells.csv",
        "records.csv",
        "cost.csv",
        "victims.csv",
        "per_class.csv",
        write.FIGURE,
    )
    first = {name: (tmp_path / name).read_bytes() for name in names}
    for name in names:
        (tmp_path / name).unlink()
    write.leaderboard(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names} == first
    assert (
        pd.read_csv(tmp_path / "records.csv").query("metric == 'robust'").value.tolist().count(0.7)
        == 2
    )
    with pytest.raises(UserError, match="3 records"):
        store.find("")


def test_the_figure_has_a_line_a_model_the_noise_control_and_a_title_that_tells(
    tmp_path: Path, monkeypatch
) -> None:
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, *paths: figures.append(figure))
    records = [
        record(m, 0.9 - 20 * e, eps=e, attack=a)
        for m in ("mail", "late")
        for e in (1 / 255, 8 / 255)
        for a in ("pgd", "noise")
    ]
    curves.robust_against_radius(records, tmp_path / "f.png")
    (axis,) = figures[0].axes
    assert len(axis.lines) == 4
    assert axis.lines[0].get_xdata().tolist() == [0, 1, 8]
    assert axis.lines[0].get_ydata()[0] == 0.9  # clean accuracy at radius 0
    for word in ("pgd", "heads+chests", "synthetic", "Linf", "sound", "n = 50"):
        assert word in axis.get_title()


def test_every_figure_is_drawn_at_the_ends_of_the_scale_and_says_what_it_shows(
    tmp_path: Path,
) -> None:
    made = [
        record(m, r, clean=1.0, eps=e / 255, eot=n)
        for m, r in (("mail", 0.0), ("late", 1.0))
        for e in (1, 4)
        for n in (1, 8)
    ]
    made += [
        record(robust=r, eps=e, tasks=(t,))
        for r, e in ((0.0, [0.1, 0.0]), (1.0, [0.0, 0.1]))
        for t in (0, 1)
    ]
    sweep = [record("late", 0.3, attack="cw", eps=e, norm="L2") for e in (0.5, 1.0)]
    made = [changed(one, figures__attack_loss=[0.1, None, 2.5]) for one in made]
    smallest = {"median": 0.7, "curve": [[0.0, 0.9], [0.7, 0.45], [1.2, 0.0]]}
    sweep = [changed(one, figures__minimal_norm=smallest) for one in sweep]
    store = fill(Store(tmp_path), *made, *sweep, images=True)
    written = write.everything(tmp_path, html=False)
    questions = {
        "robust-accuracy",
        "heat-map",
        "clean-robust",
        "eot",
        "per-class",
        "cross-modal",
        "minimal-norm",
        "convergence",
        "reliability",
    }
    pictures = [path for path in written if path.parent.name == "figures"]
    assert {next(q for q in questions if path.name.startswith(q)) for path in pictures} == questions
    for path in pictures:
        text = path.with_suffix(".svg").read_text()  # text stays text
        for word in ("heads+chests", "synthetic", "protocol sound", "n = 50"):
            assert word in text, path.name
    minimal = (
        next(path for path in pictures if path.name.startswith("minimal"))
        .with_suffix(".svg")
        .read_text()
    )
    assert minimal.count("median 0.7") == 1  # radii share one search, so one curve
    assert len([path for path in written if path.parent.name == "gallery"]) == len(
        {r.spec.victim.model for r in store.records()}
    )


def crossed(robust: dict[tuple[int, int], float], **more: Any) -> list[Record]:
    """Records of one modality and one task each, by their numbers."""
    return [
        record(robust=r, eps=[0.1 * (m == 0), 0.1 * (m == 1)], tasks=(t,), **more)
        for (m, t), r in robust.items()
    ]


def test_a_cross_modal_run_leaves_its_heat_map_beside_its_table_and_no_stale_one(
    tmp_path: Path, monkeypatch
) -> None:
    pictures = lambda: sorted(path.name for path in tmp_path.glob("cross_modal*"))  # noqa: E731
    measured = crossed({(0, 0): 0.1, (0, 1): 0.8, (1, 0): 0.7, (1, 1): 0.2})
    store = fill(Store(tmp_path), record(), *measured)
    shown = {}
    monkeypatch.setattr(
        style,
        "save",
        lambda figure, path, save=style.save: (
            shown.update({path.name: figure}),
            save(figure, path),
        ),
    )
    write.leaderboard(tmp_path)
    assert pictures() == ["cross_modal.csv", "cross_modal.png"]
    (axis,) = shown["cross_modal.png"].axes
    behind = ["0.90", "0.90", "0.50", "0.50"]
    assert [text.get_text() for text in axis.texts] == ["0.10", "0.80", "0.70", "0.20", *behind]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows == ["mri", "xray", "none (clean)", "most frequent class"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["lesion", "lung"]
    first = (tmp_path / "cross_modal.png").read_bytes()

    fill(
        store,
        *crossed({(0, 0): 0.9}, data="skin+heads"),
        *crossed({(0, 0): 0.05}, draws=64),
        *crossed({(0, 0): 0.0}, attack="noise"),
    )
    write.leaderboard(tmp_path)
    assert pictures() == [
        "cross_modal-heads+chests-64-50-Linf-sound.png", "cross_modal-skin+heads-64-50-Linf-sound.png", "cross_modal.csv",
    ]  # fmt: skip
    strongest = shown["cross_modal-heads+chests-64-50-Linf-sound.png"].axes[0].texts[0]
    assert strongest.get_text() == "0.05"  # of two settings of one attack

    for path in (tmp_path / "records").iterdir():
        path.unlink()
    fill(store, *measured)
    write.everything(tmp_path, html=False, pictures=False)
    assert pictures() == ["cross_modal.csv", "cross_modal.png"]
    assert (tmp_path / "cross_modal.png").read_bytes() == first
    for path in (tmp_path / "records").iterdir():
        path.unlink()
    fill(store, record(), *crossed({(0, 0): 0.0}, attack="noise"))
    write.leaderboard(tmp_path)
    assert pictures() == ["cross_modal.csv"]  # a control is no matrix


def test_convergence_is_one_panel_an_objective_and_radius_with_the_mean_over_seeds() -> None:
    made = [
        record(eps=e / 255, seed=s, attack=a)
        for e in (1, 4)
        for s in (0, 1)
        for a in ("pgd", "bim", "noise")
    ]
    made = [
        one if one.control else changed(one, figures__attack_loss=[0.0, 1.0 + 2 * one.spec.seed])
        for one in made
    ]
    targeted = record(attack="apgd-t", eps=1 / 255)
    targeted = changed(targeted, figures__attack_loss=[-1.0, 0.5, 0.75])
    ((name, figure),) = curves.convergence([*made, targeted], looks.looks(["mail"]))
    assert name == "heads+chests-64-50-Linf-joint-sound"
    titles = ["ce, 1/255", "ce, 4/255", "dlr towards the likeliest wrong class, 1/255"]
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == titles
    assert [len(axis.lines) for axis in panels] == [2, 2, 1]
    assert panels[0].lines[0].get_ydata().tolist() == [0.0, 2.0]
    assert list(curves.convergence([record()], {})) == []  # records made before the loss was kept


def test_names_with_markup_are_shown_as_they_are() -> None:
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal.cells(tables.cells([record("[bold]x[/]")])))
    assert "[bold]x[/]" in console.export_text()
