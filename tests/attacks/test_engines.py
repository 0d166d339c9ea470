"""Engines: the same attack through another library, and what they refuse."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from support.attacking import IDS
from support.victims import TwoHeads

from robustbench_med.attacks import ENGINES, RefusedError, Streams, Threat, View, complete, engines
from robustbench_med.attacks.engines.torchattacks import LIBRARY

pytest.importorskip("torchattacks", reason="needs the extra engines")
pytest.importorskip("art", reason="needs the extra engines")
pytest.importorskip("foolbox", reason="needs the extra engines")
SHORT = {"steps": 8, "queries": 60, "evaluations": 50, "initial": 10, "search": 3}
PAIRS = [(engine, name) for engine in engines.ENGINES for name in ENGINES[engine]]
TRIPLES = [
    (engine, name, norm)
    for engine, name in PAIRS
    for norm in engines.ENGINES[engine].norms_of(name)
]
RADIUS = {"Linf": 0.1, "L2": 2.0, "L1": 8.0, "L0": 6}


class SameSize(TwoHeads):
    """Two modalities of one size, 2 and 4 classes."""

    shapes = ((1, 8, 8), (1, 8, 8))

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(
            torch.randn(128, 12, generator=torch.Generator().manual_seed(0)) / 4,
            requires_grad=False,
        )


def setup(n: int = 8):
    view = View(SameSize().eval(), SameSize.shapes)
    x = torch.rand(n, 128, generator=torch.Generator().manual_seed(1))
    x[:, :16] = 0
    return view, x, torch.stack([z.argmax(1) for z in view.logits(x)], 1)


def run(engine: str, name: str, view: View, x, y, threat: Threat, **given):
    known = complete(name, {}, engine)
    given = complete(name, {**{k: v for k, v in SHORT.items() if k in known}, **given}, engine)
    torch.manual_seed(0)
    return ENGINES[engine][name](
        view, x, y, threat, Streams.seeded(0, IDS[: len(x)], name), **given
    )


@pytest.mark.parametrize(
    ("engine", "name", "norm", "shares"),
    [
        (*each, shares)
        for each in TRIPLES  # but for Linf one ball around everything: one modality
        for shares in ([(1, 1), (1, 0.5), (0, 1)] if each[-1] == "Linf" else [(0, 1)])
    ],
)
def test_an_engine_attacks_inside_the_ball_whatever_the_radii(engine, name, norm, shares) -> None:
    view, x, y = setup(4)
    threat = Threat(norm, tuple(RADIUS[norm] * share for share in shares), (1,))
    assert engines.ENGINES[engine].refusal(name, threat, stochastic=False) is None
    broken = run(engine, name, view, x, y, threat)
    view.check(broken, x, threat)
    assert view.passes.forward > 0
    if name not in ("cw", "ddn", "ead", "fmn", "boundary"):  # their few steps may not arrive
        assert (broken != x).any()


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize("radii", [(0.05, 0.05), (0.08, 0.02)])
@pytest.mark.parametrize("tasks", [(1,), (0, 1)])
def test_pgd_through_an_engine_gives_the_native_adversarials_on_joint_tasks_too(
    engine, radii, tasks
) -> None:
    view, x, _ = setup()
    x = (
        0.2 + 0.6 * x
        # at unequal radii the engine's box is narrower than ours where a pixel is nearly black or white
    )
    y = torch.stack([z.argmax(1) for z in view.logits(x)], 1)
    threat = Threat("Linf", radii, tasks)
    given = {"steps": 5, "step_size": 0.25, "random_start": False}
    native = run("native", "pgd", view, x, y, threat, keep="last", **given)
    assert (run(engine, "pgd", view, x, y, threat, **given) - native).abs().max() <= 1e-6
    assert (native - x).abs().max() > 0.04


def test_mim_through_torchattacks_gives_the_native_adversarials() -> None:
    view, x, y = setup()
    threat = Threat("Linf", (0.05, 0.05), (0, 1))
    assert (
        run("torchattacks", "mim", view, x, y, threat)
        - run("native", "mim", view, x, y, threat, keep="last")
    ).abs().max() <= 1e-6


def test_what_an_engine_cannot_do_is_refused_with_the_reason() -> None:
    both = Threat("Linf", (0.1, 0.1), (0, 1))
    for engine, library in engines.ENGINES.items():
        judge = "fmn" if engine == "foolbox" else "square"
        assert "single draw" in str(
            library.refusal(judge, Threat("Linf", (0.1, 0.1), (1,)), stochastic=True)
        )
        assert "--target-task" in str(library.refusal(judge, both, stochastic=False))
        assert "L2 ball" in str(
            library.refusal("pgd", Threat("L2", (1.0, 1.0), (1,)), stochastic=False)
        )
        assert "targeted" in str(
            library.refusal(
                "pgd", Threat("Linf", (0.1, 0.1), (1,), targeted=True), stochastic=False
            )
        )
        assert library.refusal("cw", both, stochastic=False) == "its cw knows L2, not Linf"
        assert library.refusal("pgd", both, stochastic=False) is None
        view, x, y = setup()
        if engine != "foolbox":
            with pytest.raises(RefusedError, match="classes; this task has 2"):
                run(engine, "autoattack", view, x, y, Threat("Linf", (0.1, 0.1), (0,)))
        y[0, 0] = -1
        with pytest.raises(RefusedError, match="lack a label"):
            run(engine, "pgd", view, x, y, both)
    different = View(TwoHeads().eval(), TwoHeads.shapes)
    x = torch.rand(2, different.dim)
    with pytest.raises(RefusedError, match="one height and width"):
        run(
            "art",
            "square",
            different,
            x,
            torch.zeros(2, 2, dtype=torch.long),
            Threat("Linf", (0.1, 0.1), (1,)),
        )


@pytest.mark.parametrize(("engine", "name"), PAIRS)
def test_an_engine_has_its_own_choices_runs_each_and_refuses_all_others(engine, name) -> None:
    complete(name, {}, engine)  # its default is one of them
    view, x, y = setup(2)
    for key, allowed in engines.ENGINES[engine].choices.get(name, {}).items():
        for value in allowed:
            run(engine, name, view, x, y, Threat("Linf", (0.3, 0.3), (1,)), **{key: value})
        for value in {"ce", "margin", "dlr", "auto", "few-class", "standard", "plus"} - set(
            allowed
        ):
            with pytest.raises(
                ValueError,
                match=f"engine {engine}: {key} must be one of {', '.join(allowed)}, got '{value}'",
            ):
                complete(name, {key: value}, engine)


def test_a_default_that_an_engine_does_not_know_is_refused_as_well(monkeypatch) -> None:
    monkeypatch.setitem(
        engines.ENGINES, "torchattacks", replace(LIBRARY, choices={"apgd": {"loss": ("dlr",)}})
    )
    with pytest.raises(ValueError, match="loss must be one of dlr, got 'ce'"):
        complete("apgd", {}, "torchattacks")


def test_what_art_finds_wrong_with_its_parameters_is_a_refusal() -> None:
    view, x, y = setup(2)
    for name, wrong in (
        ("square", {"p": 1.5}),
        ("hopskipjump", {"initial": 60, "evaluations": 50}),
    ):
        with pytest.raises(RefusedError, match="ART's"):
            run("art", name, view, x, y, Threat("Linf", (0.1, 0.1), (1,)), **wrong)


def test_foolbox_is_refused_an_l0_of_pixels_where_a_pixel_has_several_channels() -> None:
    view = View(TwoHeads().eval(), TwoHeads.shapes)
    x, y = torch.rand(2, view.dim), torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(RefusedError, match="l0-counts coordinates"):
        run("foolbox", "fmn", view, x, y, Threat("L0", (0, 5), (1,)))
    threat = Threat("L0", (0, 5), (1,), counts="coordinates")
    view.check(run("foolbox", "fmn", view, x, y, threat), x, threat)


@pytest.mark.parametrize("name", ["cw", "ead", "boundary", "hopskipjump"])
def test_foolbox_leaves_a_sample_alone_that_it_breaks_nowhere(name) -> None:
    """By itself it hands back a black image (cw, ead), or raises for the whole batch."""

    class Certain(SameSize):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(0 * z + 100 * torch.eye(z.shape[1])[0] for z in super().forward(a, b))

    view, x = View(Certain().eval(), SameSize.shapes), setup(3)[1]
    norm = engines.ENGINES["foolbox"].norms_of(name)[-1]
    y = torch.zeros(3, 2, dtype=torch.long)
    threat = Threat(norm, (0.0, RADIUS[norm]), (1,))
    assert torch.equal(run("foolbox", name, view, x, y, threat), x)


def test_foolbox_is_imported_where_there_is_no_git(tmp_path) -> None:
    code = (
        "import sys; from robustbench_med.attacks.engines import foolbox;"
        "foolbox.load(); print('torchvision' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "False", done.stderr
