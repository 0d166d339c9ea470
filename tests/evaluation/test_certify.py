"""Randomised smoothing: certificates against known distances, Clopper-Pearson's bound, and
`medrobust certify` from the shell.
"""

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy.stats import binomtest, norm
from support.cli import medrobust
from support.records import certificate, certify, changed, fill, record
from torch import Tensor, nn

from robustbench_med.cli import terminal
from robustbench_med.errors import UserError
from robustbench_med.evaluation import smoothing
from robustbench_med.evaluation.smoothing import ABSTAIN, Smoothing
from robustbench_med.evaluation.types import Setting
from robustbench_med.reports import certified, floors, paper, write
from robustbench_med.store.merge import merge
from robustbench_med.store.record import Certificate
from robustbench_med.store.store import CERTIFICATES, Store

CPU = torch.device("cpu")
USUAL = Smoothing(sigma=0.25, noised=(0, 1), n0=50, n=400, alpha=0.001)
SETTING = Setting("sound", 1, 0, CPU, 64)


@dataclass
class Points:
    """Samples of two modalities, (1, 4, 4) and (2, 3, 3)."""

    n: int

    @cached_property
    def x(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [torch.rand(self.n, *shape, generator=generator) for shape in ((1, 4, 4), (2, 3, 3))]

    @property
    def ids(self) -> list[str]:
        return [str(i) for i in range(self.n)]

    def batch(self, rows: Sequence[int]) -> list[Tensor]:
        return [m[list(rows)] for m in self.x]

    def __len__(self) -> int:
        return self.n


class Linear(nn.Module):
    """Two tasks of two classes, each a half space; the smoothed classifier of a half space is the
    half space itself.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = [
            torch.randn(2, size, generator=generator) * scale
            for size, scale in ((16, 1.0), (18, 0.4))
        ]

    def margin(self, x: Sequence[Tensor]) -> Tensor:
        return sum(
            ((m.flatten(1) - 0.5) @ w.T for m, w in zip(x, self.w, strict=True)), torch.zeros(1)
        )

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        z = self.margin(x)
        return tuple(torch.stack((-z[:, t], z[:, t]), 1) for t in range(2))


class Constant(nn.Module):
    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        return (torch.tensor([0.0, 0.0, 1.0]).expand(len(x[0]), 3),)


class Coin(nn.Module):
    """A random network: class 1 half of the time, one coin for the whole batch."""

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        return (torch.stack((torch.zeros(len(x[0])), torch.randn(()).expand(len(x[0]))), 1),)


@pytest.mark.parametrize("noised", [(0, 1), (0,), (1,)])
def test_a_half_spaces_radius_is_below_the_true_distance_and_close_to_it(noised) -> None:
    samples, base = Points(200), Linear()
    found = smoothing.certify(base, samples, replace(USUAL, noised=noised), SETTING)
    z = base.margin(samples.x)
    norms = torch.cat([base.w[m] for m in noised], 1).norm(
        dim=1
    )  # an attacker of these modalities alone
    distance = (z.abs() / norms).numpy()
    assert (
        found.radius > distance + 1e-6
    ).sum() <= 3  # each is wrong with a chance of 0.001; more than 3 of 400 in 0.1 % of runs
    certified = found.predicted != ABSTAIN
    assert certified.mean() > 0.5
    assert (found.predicted == (z > 0).numpy())[certified].all()
    near = certified & (distance < 0.25)  # Phi(1) = 0.84: far from where 400 draws saturate
    assert near.sum() > 10
    assert (found.radius / distance)[near & (distance > 0.15)].mean() > 0.6


def test_noise_on_one_modality_certifies_more_of_it_than_the_joint_radius() -> None:
    samples, base = Points(200), Linear()
    joint, weak = (
        smoothing.certify(base, samples, replace(USUAL, noised=noised), SETTING).radius
        for noised in ((0, 1), (1,))
    )
    assert (
        weak.mean() > 1.5 * joint.mean()
    )  # the second modality's weights are small, so its noise seldom changes the class


def test_a_constant_classifier_reaches_the_largest_radius_that_n_draws_allow() -> None:
    found = smoothing.certify(Constant(), Points(8), USUAL, SETTING)
    assert (found.predicted == 2).all()
    assert found.radius == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 400)))


def test_a_coin_is_not_certified() -> None:
    found = smoothing.certify(
        Coin(), Points(20), USUAL, Setting("sound", 1, 0, CPU, 1)
    )  # at most alpha of them would be
    assert (found.predicted == ABSTAIN).all()
    assert (found.radius == 0).all()
    assert (found.p_lower < 0.5).all()
    assert (smoothing.radii(np.array([0.5, np.nextafter(0.5, 1)]), 0.25) > 0).tolist() == [
        False,
        True,
    ]


def test_the_bound_is_clopper_and_pearsons() -> None:
    for hits in (0, 1, 50, 99, 100):
        expected = (
            binomtest(hits, 100, alternative="greater").proportion_ci(0.999, method="exact").low
        )
        assert smoothing.lower_bound(np.array(hits), 100, 0.001) == pytest.approx(
            expected, abs=1e-12
        )


def test_the_same_seed_gives_the_same_certificates_and_leaves_the_global_state_alone() -> None:
    samples, base = Points(30), Linear()
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, again, other = (
        smoothing.certify(base, samples, USUAL, Setting("sound", 1, seed, CPU, 64))
        for seed in (0, 0, 1)
    )
    smaller = smoothing.certify(base, samples, USUAL, Setting("sound", 1, 0, CPU, 3))
    assert np.array_equal(first.p_lower, smaller.p_lower)
    assert torch.equal(torch.rand(2), expected)
    assert np.array_equal(first.p_lower, again.p_lower)
    assert not np.array_equal(first.p_lower, other.p_lower)


def test_certify_from_the_shell_writes_curves_that_fall_and_keeps_its_certificates(
    drawn_root, tmp_path
) -> None:
    out = tmp_path / "out"
    data = f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    arguments = ["certify", "--model", "early", "--n0", 5, "--n", 20, "--alpha", 0.01, "--limit", 8, "--data", data,
                 "--data-root", drawn_root, "--size", 32, "--model-param", "width=4", "--recipe", "steps=4", "--recipe", "eval_every=2",
                 "--recipe", "batch_size=8", "--out", out]  # fmt: skip
    medrobust(*arguments, "--sigma", 0.25)
    before = {path: path.read_bytes() for path in (out / "certificates").iterdir()}
    assert len(before) == 6
    again = medrobust(*arguments, "--sigma", "0.25,0.1")
    assert again.stderr.replace("\n", " ").count("done before") == 3
    assert {path: path.read_bytes() for path in before} == before
    tasks, curves = pd.read_csv(out / "certified_tasks.csv"), pd.read_csv(out / "certified.csv")
    assert set(zip(tasks.noised, tasks.sigma, strict=True)) == {
        (noised, sigma)
        for noised in ("all modalities", "mri alone", "xray alone")
        for sigma in (0.1, 0.25)
    }
    assert len(tasks) == 2 * 3 * 2
    assert tasks.groupby("sigma").checkpoint.unique().map(len).tolist() == [1, 1]
    assert tasks.checkpoint.nunique() == 2  # each trained with its own noise
    assert tasks.trivial.isna().all()  # so few samples cannot tell
    assert (tasks.abstained + tasks.certified_accuracy <= 1 + 1e-9).all()
    assert (tasks.largest_radius <= tasks.sigma * norm.ppf(0.01 ** (1 / 20)) + 1e-6).all()
    for _, line in curves.groupby(["sigma", "noised", "task"]):
        assert (line.sort_values("radius").certified.diff().dropna() <= 0).all()
        assert line.certified.iloc[-1] == 0  # beyond what 20 draws can certify
    keys = ["sigma", "noised", "task"]
    at_zero = curves[curves.radius == 0].set_index(keys).certified
    assert at_zero.to_dict() == pytest.approx(
        tasks.set_index(keys).certified_accuracy.to_dict(), abs=1e-5
    )
    for made in Store(out, CERTIFICATES).records():
        assert Certificate.of(made.plain()) == made
    written = {
        name: (out / name).read_bytes()
        for name in ("certified.csv", "certified_tasks.csv", "certified.png")
    }
    assert len(written["certified.png"]) > 20_000
    for name in written:
        (out / name).unlink()
    medrobust("report", "--out", out)  # a store without records
    assert {name: (out / name).read_bytes() for name in written} == written
    assert not (out / "leaderboard.csv").exists()


def test_the_report_of_a_store_with_records_has_the_certified_tables_and_figure_too(
    tmp_path,
) -> None:
    fill(Store(tmp_path), record("late"))
    certify(
        Store(tmp_path, CERTIFICATES),
        certificate(),
        certificate(sigma=0.5, certified=0.5),
        certificate(noised=(1,)),
    )
    found = {
        path.relative_to(tmp_path).as_posix() for path in write.everything(tmp_path, html=False)
    }
    assert {
        "paper/leaderboard.md",
        "paper/certified.md",
        "paper/certified.tex",
        "figures/certified-accuracy-heads+chests-64.png",
    } <= found
    assert (tmp_path / "certified.csv").exists()
    assert "toprule" in (tmp_path / "paper" / "certified.tex").read_text()
    shutil.rmtree(tmp_path / "certificates")
    write.everything(tmp_path, html=False, pictures=False)
    assert not (tmp_path / "certified.csv").exists()  # no certificates, no stale table of them
    with pytest.raises(UserError, match="no records"):
        write.everything(tmp_path / "none")


def test_the_printed_table_holds_every_noise_at_round_radii_and_means_over_seeds(tmp_path) -> None:
    frames = certified.frames(
        certify(
            Store(tmp_path, CERTIFICATES),
            certificate(certified=0.6),
            certificate(certified=0.7, train_seed=1),
            certificate(sigma=0.5, certified=0.5),
            certificate(noised=(1,), certified=0.8, abstained=0.0),
        )
    )
    first, second = certified.tables(frames["certified"], frames["certified_tasks"])
    assert "task lesion" in first.caption
    assert "task lung" in second.caption
    assert [c.heading for c in first.columns][4:-1] == [
        "radius 0",
        "radius 0.2",
        "radius 0.4",
        "radius 0.6",
    ]
    *rows, floor = [[cell.value for cell in row] for row in first.rows]
    assert floor == [floors.CONSTANT, "-", "-", 0.0, *[0.5] * 4, None]
    expected = [
        [
            "late+smoothing",
            "0.25",
            "all modalities",
            0.2,
            0.65,
            0.65,
            0.0,
            0.0,
            0.65 * 0.3,
        ],  # radius 0.3
        [
            "late+smoothing",
            "0.5",
            "all modalities",
            0.2,
            0.5,
            0.5,
            0.5,
            0.0,
            0.3,
        ],  # radius 0.6, and none is above it
        ["late+smoothing", "0.25", "xray alone", 0.0, 0.8, 0.8, 0.0, 0.0, 0.24],
    ]
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    for row, right in zip(rows, expected, strict=True):
        assert row[3:] == pytest.approx(right[3:])
    assert (
        "**" not in paper.markdown(first).split("\n", 1)[1]
    )  # rows bound different changes: no best one


def test_certificates_of_a_trivial_victim_are_marked(tmp_path) -> None:
    why = "one class takes 100% of the predictions"
    made = (certificate(sigma=0.25), certificate(sigma=0.5, trivial=why))
    found = certified.frames(certify(Store(tmp_path, CERTIFICATES), *made))
    for table in certified.tables(found["certified"], found["certified_tasks"]):
        text = paper.markdown(table)
        assert "| late+smoothing | 0.25 |" in text
        assert "| late+smoothing§ | 0.5 |" in text
        assert "its certificates mean nothing" in text
        assert r"late+smoothing\S{}" in paper.latex(table)
    rows = certified.by_task(made)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal.certificates(rows))
    assert console.export_text().count(why) == 2  # both tasks


def test_a_victim_without_a_single_certificate_has_a_table_and_a_figure(tmp_path) -> None:
    found = certified.frames(
        certify(Store(tmp_path, CERTIFICATES), certificate(certified=0.0, abstained=1.0))
    )
    row, _ = next(iter(certified.tables(found["certified"], found["certified_tasks"]))).rows
    assert [cell.value for cell in row][3:] == [1.0, 0.0, 0.0]
    certified.draw(found["certified"], tmp_path / "nothing.png")


def test_models_of_one_name_with_other_weights_are_not_averaged(tmp_path) -> None:
    twin = changed(certificate(certified=0.2), spec__victim__weights_sha256="b" * 64)
    found = certified.frames(certify(Store(tmp_path, CERTIFICATES), certificate(), twin))
    table = next(iter(certified.tables(found["certified"], found["certified_tasks"])))
    *rows, _ = table.rows  # the constant answer last
    assert sorted(row[4].value for row in rows) == pytest.approx([0.2, 0.6])


def test_merging_carries_certificates_over_and_reports_those_that_differ(tmp_path) -> None:
    a, b, out = (tmp_path / name for name in ("a", "b", "all"))
    certify(Store(a, CERTIFICATES), certificate(), certificate(sigma=0.5))
    certify(
        Store(b, CERTIFICATES),
        certificate(certified=0.62),
        certificate(sigma=0.5),
        certificate(noised=(0,)),
    )
    fill(Store(b), record("mail"))
    result = merge([a, b], out)
    assert (result.copied, result.same) == (4, 1)
    (conflict,) = result.conflicts
    assert (conflict.what, conflict.ours, conflict.theirs) == (
        "certified_accuracy at lesion",
        0.6,
        0.62,
    )
    merged = Store(out, CERTIFICATES)
    assert sorted((r.spec.certificate.sigma, r.noised, r.figures[0].certified_accuracy) for r in merged.records()) == [
        (0.25, "all modalities", 0.6), (0.25, "mri alone", 0.6), (0.5, "all modalities", 0.6)
    ]  # fmt: skip
    assert all(len(merged.arrays(r)["radius"]) == 50 for r in merged.records())
    assert len(Store(out).records()) == 1
    (path,) = certify(Store(tmp_path / "c", CERTIFICATES), certificate(sigma=1.0)).paths()
    broken = json.loads(path.read_text())
    broken["figures"][0]["abstained"] = 2.0
    path.write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"no certificate of this version: figures\.0\.abstained"):
        merge([tmp_path / "c"], out)
    with pytest.raises(UserError, match="no records or certificates"):
        merge([tmp_path / "d"], out)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--defense", "none"],
            "cannot be certified: the first input transform must be Gaussian noise",
        ),
        (["--defense", "jpeg+input-noise"], "cannot be certified"),
        (["--alpha", 0], "--alpha must lie in (0, 1)"),
        (["--sigma", 0], "--sigma takes positive numbers"),
        (["--sigma", "0.1,nan"], "--sigma takes positive numbers"),
        (["--sigma", "0.1,"], "--sigma takes positive numbers"),
        (["--defense-param", "sigma=0"], "sigma must be positive"),
        (["--defense-param", "sigma=1", "--sigma", 1], "give one of them"),
    ],
)
def test_what_cannot_be_certified_is_one_line(more, message, tmp_path) -> None:
    done = medrobust("certify", "--model", "late", "--limit", 2, "--out", tmp_path, *more, check=2)
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_draws_that_are_not_finite_certify_no_class(value: float) -> None:
    class Breaks(Constant):
        """Class 0 on most draws, no number on the others."""

        def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
            lost = torch.rand(len(x[0]), 1) < 0.7
            return (torch.where(lost, value, torch.tensor([1.0, 0.0, 0.0])),)

    found = smoothing.certify(Breaks(), Points(8), USUAL, SETTING)
    assert (found.predicted == ABSTAIN).all()
    assert (found.p_lower < 0.35).all()
