"""What the calls return: figures, tables and short texts; and in whose words they speak."""

import matplotlib
import pytest
from matplotlib.figure import Figure
from support.objects import CELL, Plain, Two, darker, images, labels

from robustbench_med import (
    Results,
    UserError,
    certify,
    compare,
    evaluate,
    load_data,
    make_data,
    plan,
    status,
    train,
)
from robustbench_med.errors import LeftOutWarning, left_out
from robustbench_med.progress import Notebook
from robustbench_med.runs.wording import in_python, worded

DATA = (images(), labels())
BOTH = make_data({"xray": images(), "photo": images(3)}, {"a": labels(), "b": labels()})
QUIET = {key: value for key, value in CELL.items() if key != "eps"}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    out = tmp_path_factory.mktemp("results")
    radii = [{"xray": "8/255", "photo": 0}, "16/255"]
    return evaluate(Two(), ("fgsm", "pgd"), data=BOTH, eps=radii, out=out, **QUIET)


def test_radii_are_numbers_beside_their_label(results) -> None:
    table = results.cells.dropna(subset="radius").set_index("eps").drop_duplicates("attack")
    found = results.cells.groupby("eps")[["radius", "radius_xray", "radius_photo"]].first()
    assert found.loc["16/255"].tolist() == [16 / 255] * 3
    (mixed,) = [eps for eps in found.index if eps != "16/255"]
    assert found.loc[mixed].tolist() == [8 / 255, 8 / 255, 0]
    assert table.radius.dtype == float


def test_figures_are_new_or_drawn_on_axes_of_the_users(results) -> None:
    backend = matplotlib.get_backend()
    figure = results.plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    n = sum(axis.get_visible() for axis in figure.axes)
    own = Figure()
    axes = own.subplots(1, n, squeeze=False)
    assert results.plot(ax=axes) is own
    assert all(axis.lines for axis in axes.flat)
    with pytest.raises(UserError, match=f"{n} panels, one a pair of axes; got 1"):
        results.plot(ax=axes[0, 0])
    assert matplotlib.get_backend() == backend


def test_tables_are_those_of_papers(results) -> None:
    assert results.to_latex().count(r"\begin{table}") > results.to_latex("robust").count("AUC")
    assert "| --" not in results.to_markdown()
    assert results.to_markdown("auc").startswith("**Robust AUC")


def test_comparisons_and_certificates_plot_and_print_too(tmp_path) -> None:
    found = compare(Plain(), darker, "fgsm", data=DATA, out=tmp_path, **CELL)
    proved = certify(Plain(), data=DATA, sigma=0.25, n0=2, n=8, out=tmp_path, quiet=True)
    for each in (found, proved):
        own = Figure()
        assert each.plot(ax=own.add_subplot()) is own
        assert r"\toprule" in each.to_latex()
        assert each.to_markdown().startswith("**")
        assert each._repr_html_()


def test_reprs_are_short(results, tmp_path) -> None:
    assert repr(BOTH) == (
        "<data set data: xray 1x6x6, photo 3x6x6; a (3 classes), b (3 classes); test 6>"
    )
    for thing in (load_data("phantoms"), BOTH.splits["test"], status(results.folder)):
        assert len(repr(thing)) < 200
    planned = plan(Plain(), "fgsm", data=DATA, out=tmp_path, **CELL)
    assert repr(planned).startswith("<plan: 1 of 1 cells to do, 0 trainings, about ")


def test_a_training_on_arrays_gives_weights_and_curves(tmp_path) -> None:
    parts = {"train": (images(), labels()), "val": DATA, "test": DATA}
    linear = tmp_path / "linear.py"
    linear.write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(36, n)\n"
        "    def forward(self, x):\n"
        "        return (self.layer(x.flatten(1)),)\n"
        "def build(channels, class_counts):\n"
        "    return Net(class_counts[0])\n"
    )
    recipe = {"steps": 2, "batch_size": 4}
    (done,) = train(f"{linear}:build", data={"mine": parts}, recipe=recipe, quiet=True)
    assert done.path.exists()
    assert done.sidecar["history"][-1]["step"] == 2
    assert done.sidecar["command"].startswith("robustbench_med.train(")
    assert len(repr(done)) < 200


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("the first 4 of 9 (--limit 0 takes all)", "the first 4 of 9 (limit=0 takes all)"),
        ("add --effort auto, or --attack adaptive", "add effort auto, or attack adaptive"),
        ("--no-challenge leaves them out", "challenge=False leaves them out"),
        ("`medrobust verify --out x` lists", "`medrobust verify --out x` lists"),
        ("--nothing-such stays", "--nothing-such stays"),
    ],
)
def test_texts_name_arguments_not_options(said, heard) -> None:
    assert worded(said) == heard


def test_warnings_and_errors_are_in_the_words_of_python() -> None:
    with pytest.warns(LeftOutWarning, match="without skip_failed"), in_python():
        left_out("the same without --skip-failed")
    with pytest.raises(UserError, match=r"^attack_params is bad$"), in_python():
        raise UserError("--attack-param is bad")


class Shown:
    """What IPython's display gives."""

    def __init__(self, first, **_) -> None:
        self.texts = [first["text/plain"]]
        SHOWN.append(self)

    def update(self, data, **_) -> None:
        self.texts.append(data["text/plain"])


SHOWN: list[Shown] = []


def test_a_notebook_shows_one_bar_that_ends_and_nothing_where_it_is_quiet() -> None:
    SHOWN.clear()
    for quiet in (True, False):
        display = Notebook(Shown, quiet=quiet)
        with display.overall("all", 2) as grid, display.bar("part", 4) as advance:
            display.say("a line")
            advance(4, "note")
            grid.finished(1)
        display.ended()
    (shown,) = SHOWN
    assert shown.texts[-1].endswith("done")
    assert all("\n" not in text for text in shown.texts)
