"""Figures of a store with many victims: nothing is cut, nothing is squashed, no two victims look
alike, what is left out is said.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.records import certificate, certify, changed, fill, record

from robustbench_med.models.registry import MODELS
from robustbench_med.reports import (
    certified,
    curves,
    figures,
    floors,
    gallery,
    looks,
    paper,
    plots,
    style,
    tables,
    write,
)
from robustbench_med.store.store import CERTIFICATES, Certificate, Record, Store

CLASSES = [["malignant", "normal, benign"], ["normal", "pneumonia"]]
VICTIMS = ["early", "late", "cross-attention", "tensor-fusion"]
VICTIMS += [
    f"{model}+{defense}"
    for model in VICTIMS
    for defense in ("bit-depth", "smoothing", "adversarial-training")
][:10]
DATA = "breastmnist+pneumoniamnist+bloodmnist"
QUESTIONS = {
    "robust-accuracy",
    "heat-map",
    "clean-robust",
    "eot",
    "per-class",
    "cross-modal",
    "minimal-norm",
    "convergence",
}


def victims(names: list[str], *, eps: tuple[float, ...] = (4 / 255,)) -> list[Record]:
    """Records that answer every question of `figures.draw` for these victims, the first the most
    robust.
    """
    made, how = [], {"data": DATA, "modality": "ultrasound"}
    for i, name in enumerate(names):
        robust = max(0.8 - 0.05 * i, 0.0)
        made += [record(name, robust, eps=e, eot=draws, **how) for e in eps for draws in (1, 8)]
        made += [record(name, 0.85, eps=e, attack="noise", **how) for e in eps]
        made += [record(name, robust, eps=[0.1, 0.0], tasks=(t,), **how) for t in (0, 1)]
        minimal = {"median": 0.7, "curve": [[0.0, 0.9], [0.7, 0.45], [1.2, 0.0]]}
        searched = record(name, robust, attack="cw", eps=0.5, norm="L2", **how)
        made.append(changed(searched, figures__minimal_norm=minimal))
    losses = {"pgd": {"figures__attack_loss": list(np.linspace(0, 3, 20))}}
    return [
        changed(one, names__classes=CLASSES, **losses.get(one.spec.attack.name, {})) for one in made
    ]


def drawn(
    folder: Path, made: list[Record], *certificates: Certificate
) -> Iterator[tuple[str, Figure]]:
    store = fill(Store(folder), *made)
    proved = certified.frames(certify(Store(folder, CERTIFICATES), *certificates))
    with style.styled():
        yield from figures.draw(made, write.frames(store, made) | proved)


@pytest.mark.parametrize("count", [2, 14])
def test_every_text_is_inside_its_figure_and_axes_keep_their_height(
    count: int, tmp_path: Path, monkeypatch
) -> None:
    texts: list[Text] = []
    draw = Text.draw
    monkeypatch.setattr(
        Text, "draw", lambda self, renderer: (texts.append(self), draw(self, renderer))[1]
    )
    questions = set()
    proofs = [certificate(name, sigma) for name in VICTIMS[:count] for sigma in (0.25, 0.5)]
    for name, figure in drawn(tmp_path, victims(VICTIMS[:count]), *proofs):
        questions.add(next(q for q in (*QUESTIONS, "certified-accuracy") if name.startswith(q)))
        texts.clear()
        figure.draw_without_rendering()
        assert len(texts) > 5
        for text in texts:
            if text.get_text() and text.get_visible():
                box = text.get_window_extent()
                spill = max(-box.x0, -box.y0, box.x1 - figure.bbox.x1, box.y1 - figure.bbox.y1)
                assert spill < 2, (name, text.get_text())
        for axis in figure.axes:
            rows = axis.get_subplotspec().get_gridspec().nrows
            assert axis.get_position().height > 0.35 / rows, name
        assert figure.get_figwidth() <= 20, name
        assert count > 2 or figure.get_figheight() < 6, name  # few victims: no huge figure
    assert questions == {*QUESTIONS, "certified-accuracy"}


def test_figures_say_whom_they_leave_out_and_keep_the_undefended_victims(tmp_path: Path) -> None:
    defended = [f"mail+{letter}" for letter in "abcdefghijklmn"]
    unaware = ["mail+a (unaware attack)", "mail+b (unaware attack)"]
    made = victims([*unaware, *defended, "mail", "late"])
    shown = {"mail", "late", *defended[:10]}
    for name, figure in drawn(tmp_path, made):
        labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
        heading = " ".join(figure.get_suptitle().split())
        if name.startswith("heat-map"):  # shows all, however many
            rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
            assert set(rows) == {*unaware, *defended, "mail", "late"}
            assert "victims" not in heading
            continue
        assert "12 of 16 victims: the undefended and most robust" in heading, name
        assert "2 victims under an unaware attack left out" in heading, name
        found = {label.split(",")[0].split(" (0.1")[0] for label in labels} or {
            a.get_title().split(",")[0] for a in figure.axes[:12]
        }
        assert found - {"clean", "noise control of each"} == shown, name


def test_a_victim_told_apart_by_what_figures_leave_out_is_drawn(tmp_path: Path) -> None:
    losses = {"figures__attack_loss": list(np.linspace(0, 3, 20))}
    mine = changed(record("late"), spec__victim__params={"width": 8}, **losses)
    other = changed(record("late", train_seed=1), spec__victim__params={"width": 16})
    jpeg = changed(other, spec__engine="corruption", spec__attack__name="jpeg",
                   spec__attack__params={"severity": 2})  # fmt: skip
    fill(Store(tmp_path), mine, jpeg)
    written = write.everything(tmp_path, html=False)
    assert any(path.name.startswith("convergence") for path in written)
    called = [pd.read_csv(tmp_path / f"{name}.csv") for name in ("leaderboard", "cells")]
    variants = [set(table[table.model == "late"].variant.dropna()) for table in called]
    assert variants[0] == variants[1] != set()
    fill(Store(tmp_path / "apart"), jpeg)
    write.everything(tmp_path / "apart", pictures=False)
    assert (tmp_path / "apart" / write.PAGE).exists()


def test_what_is_left_out_of_a_figure() -> None:
    board = tables.cells([record("mail+jpeg (unaware attack)"), record("mail+pni", 0.1)])
    rows, sentence = plots.leading(board)
    assert (list(rows.model), sentence) == (
        ["mail+pni"],
        "1 victim under an unaware attack left out",
    )
    alone = board[board.is_unaware]
    assert plots.leading(alone)[1] == ""  # nothing else to show
    assert len(plots.leading(alone)[0]) == 1
    plain = [record(f"model{i}", i / 20) for i in range(14)]
    rows, sentence = plots.leading(tables.cells(plain))
    assert set(rows.model) == {f"model{i}" for i in range(2, 14)}
    assert sentence == "12 of 14 victims: the most robust undefended (mean over attacks and radii)"
    flattered = [record("mail+pni", 0.9, protocol="release"), record("mail+pni", 0.1)]
    others = [record(f"mail+{i}", 0.2) for i in range(12)]
    assert "mail+pni" not in set(plots.leading(tables.cells([*flattered, *others]))[0].model)


def test_our_models_keep_their_look_in_every_store() -> None:
    assert set(MODELS) <= set(looks.KEPT)
    assert len(looks.KEPT) == len(set(looks.KEPT)) <= looks.LOOKS
    many = looks.looks([*looks.KEPT, *map(str, range(20))])
    for name in looks.KEPT:
        assert looks.looks([name])[name] == looks.looks(["a", name, "z"])[name] == many[name]
    assert looks.looks(["late", "late+jpeg"])["late+jpeg"].colour != many["late"].colour
    assert len(looks.looks(map(str, range(60)))) == 60


def test_more_lines_than_three_have_bars_side_by_side() -> None:
    for n in (3, 4):
        board = tables.cells([record(f"model{i}", 0.5) for i in range(n)])
        (axis,) = curves.radius_figure(board, looks.looks(board.model)).axes
        bands = [each for each in axis.collections if isinstance(each, PolyCollection)]
        bars = [each for each in axis.containers if isinstance(each, ErrorbarContainer)]
        assert (len(bands), len(bars)) == ((3, 0) if n == 3 else (0, 4))
        if bars:
            axis.figure.draw_without_rendering()
            lines = [bar.lines[0] for bar in bars]
            ends = {line.get_transform().transform(line.get_xydata())[-1, 0] for line in lines}
            assert len(ends) == n


def test_what_is_naive_says_so_in_every_figure() -> None:
    made = [record("mail", 0.9, naive=True), record("late", 0.2)]
    board = tables.named(tables.cells(made))
    look = looks.looks(board.model)
    for figure in (curves.radius_figure(board, look), plots.pareto(board, look)):
        assert "naive of mail: an over-estimate" in figure.axes[0].get_title().replace("\n", " ")
    heat = plots.heat_map(board)
    assert "naive" in heat.get_suptitle()
    written = [text.get_text() for text in heat.axes[0].texts]
    assert written.count("0.90" + paper.NAIVE) == 1
    rows = [label.get_text() for label in heat.axes[0].get_yticklabels()]
    assert rows[:2] == ["mail", "late"]  # the most robust first


def test_ink_stands_out() -> None:
    assert (style.ink(0.0), style.ink(1.0)) == ("white", "black")


def test_no_two_victims_look_alike() -> None:
    look = looks.looks(map(str, range(49))).values()
    assert len({(each.colour, each.marker) for each in look}) == 49
    assert len({(each.colour, each.hatch) for each in look}) == 49
    assert style.CONTROL_DASH not in looks.DASHES
    losses = list(np.linspace(0, 3, 9))
    made = [
        changed(record(name, attack=attack), figures__attack_loss=losses)
        for name in VICTIMS[:12]
        for attack in ("pgd", "bim")
    ]
    ((_, figure),) = curves.convergence(made, looks.looks(VICTIMS))
    lines = figure.axes[0].lines
    assert (
        len({(line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in lines})
        == len(lines)
        == 24
    )
    figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())


def test_bars_of_a_class_are_told_apart_by_colour_and_hatch(tmp_path: Path) -> None:
    figure = next(
        figure for name, figure in drawn(tmp_path, victims(VICTIMS)) if name.startswith("per-class")
    )
    bars = {
        (bar.get_facecolor(), bar.get_hatch())
        for bar in figure.axes[0].patches
        if bar.get_facecolor()[3]
    }
    assert len(bars) == 12


def test_lines_are_broken_between_words_and_within_one_only_where_it_is_too_long() -> None:
    def fits(line: str) -> bool:
        return len(line) <= 10

    assert style.wrapped("one two three four\nfive", fits) == "one two\nthree four\nfive"
    assert style.wrapped("late+jpeg or early+bit-depth", fits) == "late+jpeg\nor early+\nbit-depth"
    assert style.wrapped("abcdefghijklm", fits) == "abcdefghij\nklm"
    assert style.wrapped("", fits) == ""
    long = style.wrap("a heading that says many things " * 5, 4.0, 11)
    assert all(style.inches(line, 11) <= 4 for line in long.split("\n"))
    assert style.inches("mm", 11) == pytest.approx(2 * style.inches("m", 11), rel=0.05)


def test_a_heat_map_grows_with_its_rows() -> None:
    heights = []
    for rows in (2, 10, 50):
        figure = plots.matrix(
            pd.DataFrame(
                0.5, index=[f"victim {i}" for i in range(rows)], columns=["clean", "pgd\n4/255"]
            ),
            "title",
        )
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height / rows)
        assert min(heights) > 30  # of 100 to an inch: room for a line of text in every row


def test_a_gallery_says_what_was_attacked_how_and_quotes_names_that_are_lists(
    tmp_path: Path,
) -> None:
    made = changed(
        record(data=DATA, tasks=(1,), attack="pgd", engine="torchattacks"),
        spec__attack__sources=[{"model": "late", "params": {}, "weights_sha256": "b" * 64}],
        names__classes=CLASSES,
    )
    assert (
        gallery.title(made) == f"mail, pgd from late (torchattacks) Linf 4/255, target lung\n"
        f"{DATA} (synthetic, paired by index), 64 px, protocol sound, n = 50, record {made.short}"
    )
    found = gallery.examples(fill(Store(tmp_path), made, images=True), made)
    assert any('true "normal, benign"; before ' in example.lines[0] for example in found)
    assert not any('"' in example.lines[1] for example in found)


def test_no_text_of_a_gallery_is_cut(tmp_path: Path) -> None:
    made = changed(
        record("cross-attention+adversarial-training", data=DATA, modality="ultrasound"),
        names__classes=[
            ["atypical and malignant, of any grade", "normal, benign, or not to be told from them"],
            ["c", "d"],
        ],
    )
    found = gallery.examples(fill(Store(tmp_path), made, images=True), made)
    short = gallery.draw(
        made, [dataclasses.replace(example, lines=["short", "short"]) for example in found]
    )
    long = gallery.draw(made, found)
    assert long.height > short.height
    assert np.asarray(long)[:, -gallery.GAP :].min() == 255  # the margin is white


def test_the_area_of_a_point_stands_for_flops() -> None:
    made = [record("large", 0.7, gflops=10.0), record("small", 0.6, gflops=0.1)]
    board = tables.cells(made)
    (axis,) = plots.pareto(board, looks.looks(board.model)).axes
    points = [drawn for drawn in axis.collections if isinstance(drawn, PathCollection)]
    small, large = sorted(float(drawn.get_sizes()[0]) for drawn in points)
    assert large == pytest.approx(100 * small)


def test_a_certified_line_has_one_entry_and_a_mark_where_it_means_nothing(tmp_path: Path) -> None:
    made = (certificate(sigma=0.25), certificate(sigma=0.5))
    found = certified.frames(certify(Store[Certificate](tmp_path, CERTIFICATES), *made))
    curves_of = found["certified"]
    trivial = (curves_of.sigma == 0.5) & (curves_of.task == "lung")
    figure = certified.figure(curves_of.assign(trivial=trivial))
    lines = [f"late+smoothing, sigma = {sigma}" for sigma in (0.25, 0.5)]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(entries) == sorted([*lines, floors.CONSTANT])
    titles = [" ".join(axis.get_title().split()) for axis in figure.axes]
    marked = [f"\u00a7 no better than a constant: {lines[1]}" in title for title in titles]
    assert marked == ["lung" in title for title in titles]
    assert sorted(marked) == [False, True]
