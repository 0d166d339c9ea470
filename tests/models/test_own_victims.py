"""Victims of the user's own as they come: other precisions, changed inputs, probabilities for
logits, batches of one, code that leaves.
"""

import copy
import json
import pickle
import textwrap
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from support.cli import SMALL, medrobust, refused
from torch import Tensor, nn

from robustbench_med.attacks import Threat, complete
from robustbench_med.data import Samples, load
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method, Outcome, Setting
from robustbench_med.models import registry, trial
from robustbench_med.models.defenses import Defended
from robustbench_med.training.objectives import multitask_loss

CPU = torch.device("cpu")
NET = """
import sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, class_counts):
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()) for c in channels)
        self.heads = nn.ModuleList(nn.Linear(128 * len(channels), n) for n in class_counts)
        self.gain = nn.Parameter(torch.zeros(1))

    def logits(self, *m):
        f = torch.cat([e(x) for e, x in zip(self.encoders, m)], 1)
        return tuple(h(f) for h in self.heads)

    def forward(self, *m):
{forward}

def build(channels, class_counts):
{build}
"""
PLAIN = "return self.logits(*m)"


def written(
    folder: Path,
    forward: str = PLAIN,
    build: str = "return Net(channels, class_counts)",
    name: str = "model.py",
) -> str:
    """A file with a small network whose forward is these lines, as `--model` takes it."""
    indented = {
        "forward": textwrap.indent(forward, " " * 8),
        "build": textwrap.indent(build, " " * 4),
    }
    (folder / name).write_text(
        NET.replace("{forward}", indented["forward"]).replace("{build}", indented["build"])
    )
    return f"{folder / name}:build"


def built(model: str, channels: tuple[int, ...] = (1, 1)) -> nn.Module:
    return registry.build(model, channels, (4, 3), {}, image_size=32)


def run(model: str, out: Path, *more: object, check: int = 0, attack: str = "fgsm"):
    arguments = [
        "--attack",
        attack,
        "--no-control",
        "--limit",
        5,
        "--batch-size",
        4,
        *SMALL,
        "--out",
        out,
    ]
    return medrobust("run", "--model", model, *arguments, *more, check=check)


def images(n: int, channels: tuple[int, ...] = (1, 1)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(n, c, 32, 32, generator=generator) for c in channels]


PRECISIONS = {
    "float64": "return tuple(z.double() for z in self.logits(*m))",
    "float16": "return tuple(z.half() for z in self.logits(*m))",
    "bfloat16": "return tuple(z.bfloat16() for z in self.logits(*m))",
    "one task of two": "a, b = self.logits(*m)\nreturn a, b.double()",
    "autocast": "with torch.autocast('cpu', torch.bfloat16):\n    return self.logits(*m)",
    "a double network": "return tuple(z for z in self.double().logits(*(x.double() for x in m)))",
}
IN_PLACE = {
    "normalised in place": "for x in m: x.mul_(2).sub_(1)\n" + PLAIN,
    "one modality": "m[0].clamp_(0.1, 0.9)\n" + PLAIN,
    "by index": "for x in m: x[x > 0.9] = 0\n" + PLAIN,
    "only in a batch of one": "if len(m[0]) == 1: m[1].add_(1e-4)\n" + PLAIN,
    "only while training": "if self.training: m[0].neg_()\n" + PLAIN,
}
SHAPES = {
    "view": "return self.logits(*(x.view(len(x), -1).view(x.shape) for x in m))",
    "bytes of a strided tensor": "assert all(x.is_contiguous() for x in m)\n" + PLAIN,
}


@pytest.mark.parametrize("kind", [*PRECISIONS, *IN_PLACE, *SHAPES])
def test_a_victim_of_any_precision_that_changes_its_input_or_needs_it_in_one_piece_runs(
    kind: str, tmp_path
) -> None:
    done = run(
        written(tmp_path, {**PRECISIONS, **IN_PLACE, **SHAPES}[kind]),
        tmp_path / "o",
        "--attack-param",
        "queries=50",
        attack="pgd,square",
    )
    assert "random victim" not in done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "o" / "records").glob("*.json")]
    assert len(records) == 2
    assert not any(record["stochastic"] for record in records)


@pytest.mark.parametrize("kind", PRECISIONS)
def test_logits_of_any_precision_are_read_as_float32(kind: str, tmp_path) -> None:
    victim, plain = (
        built(written(tmp_path, PRECISIONS[kind])),
        built(written(tmp_path, name="plain.py")),
    )
    assert victim.state_dict().keys() == plain.state_dict().keys()
    for other in (victim, copy.deepcopy(victim), pickle.loads(pickle.dumps(victim))):
        for z, wanted in zip(other(*images(3)), plain(*images(3)), strict=True):
            assert z.dtype == torch.float32
            torch.testing.assert_close(z, wanted, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("kind", IN_PLACE)
@pytest.mark.parametrize("training", [False, True])
def test_a_victim_that_changes_its_input_changes_a_copy(
    kind: str, training: bool, tmp_path
) -> None:
    victim = built(written(tmp_path, IN_PLACE[kind])).train(training)
    for n in (1, 2):
        x = [m.requires_grad_() for m in images(n)]
        before = [m.detach().clone() for m in x]
        gradients = torch.autograd.grad(victim(*x)[0].sum(), x, allow_unused=True)
        assert all(torch.equal(a, b) for a, b in zip(x, before, strict=True))
        assert gradients[0].abs().max() > 0


def test_strided_inputs_arrive_in_one_piece(tmp_path) -> None:
    fold = "return self.logits(*(x.view(-1, 1, *x.shape[2:]).view(x.shape) for x in m))"
    victim = built(written(tmp_path, fold), (3, 2))
    flat = torch.cat([m.flatten(1) for m in images(4, (3, 2))], 1)
    strided = [flat[:, :3072].unflatten(1, (3, 32, 32)), flat[:, 3072:].unflatten(1, (2, 32, 32))]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(victim(*strided), victim(*images(4, (3, 2))))


def test_a_function_that_hands_out_one_module_twice_gets_its_steps_once(tmp_path) -> None:
    build = "global made\nmade = globals().get('made') or Net(channels, class_counts)\nreturn made"
    model = written(tmp_path, "return tuple(z.softmax(1) for z in self.logits(*m))", build)
    built(model)
    victim = built(model)
    assert (len(victim._forward_hooks), len(victim._forward_pre_hooks)) == (1, 1)
    torch.testing.assert_close(victim(*images(2))[0].exp().sum(1), torch.ones(2))


# --- refused when built ---------------------------------------------------------------------------

REFUSED = {
    "squeeze": (
        "return tuple(z.squeeze() for z in self.logits(*m))",
        "logits of shapes [(4,), (3,)] on 1 sample",
    ),
    "squeeze of the inputs": ("return self.logits(*(x.squeeze(0) for x in m))", "(1, 1, 32, 32)"),
    "unrolled for 8": (
        "assert len(m[0]) == 8, 'batches of 8'\n" + PLAIN,
        "its forward raised AssertionError: batches of 8 (line",
    ),
    "unrolled for 2": ("a, b = m[0]\n" + PLAIN, "on modalities (1, 1, 32, 32), (1, 1, 32, 32)"),
    "unrolled for 1": (
        "return self.logits(*(x.reshape(1, 1, 32, 32) for x in m))",
        "on modalities (2, 1, 32, 32), (2, 1, 32, 32)",
    ),
    "an even batch": (
        "[x.view(2, -1) for x in m] if len(m[0]) > 1 else 0\nassert len(m[0]) != 3\n" + PLAIN,
        "(3, 1, 32, 32)",
    ),
    "detached": (
        "return tuple(z.detach() for z in self.logits(*m))",
        "its logits of task 0 carry no gradient",
    ),
    "one task detached": (
        "a, b = self.logits(*m)\nreturn a, b.detach()",
        "its logits of task 1 carry no gradient",
    ),
    "no_grad": ("with torch.no_grad():\n    " + PLAIN, "its logits of task 0 carry no gradient"),
    "inference_mode": (
        "with torch.inference_mode():\n    " + PLAIN,
        "its logits of task 0 carry no gradient",
    ),
    "through numpy": (
        "return tuple(torch.from_numpy(z.detach().numpy()) for z in self.logits(*m))",
        "carry no gradient",
    ),
    "integers": (
        "return tuple((100 * z).long() for z in self.logits(*m))",
        "its logits of task 0 are int64",
    ),
    "booleans": ("a, b = self.logits(*m)\nreturn a, b > 0", "its logits of task 1 are bool"),
    "complex": (
        "return tuple(z.to(torch.complex64) for z in self.logits(*m))",
        "its logits of task 0 are complex64",
    ),
    "sys.exit(0)": ("sys.exit(0)", "its forward raised SystemExit: 0 (line"),
    "sys.exit()": ("sys.exit()", "its forward raised SystemExit (line"),
    "quit with a gradient": (
        "if m[0].requires_grad: raise SystemExit(1)\n" + PLAIN,
        "its forward raised SystemExit: 1 (line",
    ),
    "BaseException": (
        "raise BaseException('mine')",
        "its forward raised BaseException: mine (line",
    ),
    "no way back": (
        "x = m[0].exp()\nz = self.logits(x, m[1])\nx.zero_()\nreturn z",
        "its backward pass raised RuntimeError",
    ),
    "a word unknown": (
        "return self.logits(*m)",
        "its `outputs` is 'softmax'; it must be one of logits, probabilities, sigmoid",
    ),
    "a wrong word": (
        "return self.logits(*m)",
        "its `outputs` says probabilities, but those of task 0 leave [0, 1]",
    ),
}
BUILDS = {
    "a word unknown": "net = Net(channels, class_counts)\nnet.outputs = 'softmax'\nreturn net",
    "a wrong word": "net = Net(channels, class_counts)\nnet.outputs = 'probabilities'\nreturn net",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_victim_that_cannot_be_used_is_refused_in_one_line_when_it_is_built(
    kind: str, tmp_path
) -> None:
    forward, message = REFUSED[kind]
    model = written(tmp_path, forward, BUILDS.get(kind, "return Net(channels, class_counts)"))
    done = run(model, tmp_path / "o", check=2)
    assert message in refused(done)
    assert "training" not in done.stderr


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "cannot be imported: SystemExit: 0 (line 3)"),
        ("build", "it raised SystemExit: 0 (line"),
        ("class", "GeneratorExit"),
    ],
)
def test_code_that_leaves_is_one_line_and_exit_code_2(place: str, message: str, tmp_path) -> None:
    model = written(tmp_path, build="sys.exit(0)" if place == "build" else "raise GeneratorExit")
    file = Path(model.removesuffix(":build"))
    if place == "file":
        file.write_text("\nimport sys\nsys.exit(0)\n")
    assert message in refused(run(model, tmp_path / "o", check=2))


def test_an_interrupt_stays_an_interrupt(tmp_path) -> None:
    for forward, build in (
        ("raise KeyboardInterrupt", "return Net(channels, class_counts)"),
        (PLAIN, "raise KeyboardInterrupt"),
    ):
        assert (
            "raised" not in run(written(tmp_path, forward, build), tmp_path / "o", check=130).stderr
        )


@pytest.mark.parametrize(
    "late", ["sys.exit(0)", "raise ValueError('late')", "raise BaseException('late')"]
)
def test_code_that_fails_later_than_it_is_tried_is_one_line_too(late: str, tmp_path) -> None:
    model = written(tmp_path, f"if len(m[0]) > 3: {late}\n" + PLAIN)
    line = refused(run(model, tmp_path / "o", check=2))
    assert (
        f"{tmp_path / 'model.py'} raised"
        f" {'SystemExit: 0' if 'exit' in late else late.split()[1].split('(')[0] + ': late'} (line"
        in line
    )


def test_another_number_of_outputs_while_training_is_one_line(tmp_path) -> None:
    model = written(
        tmp_path, "a, b = self.logits(*m)\nreturn (a, b, a) if self.training else (a, b)"
    )
    assert "returned 3 outputs in training mode, one a task (2) is needed" in refused(
        run(model, tmp_path / "o", check=2)
    )


def test_inputs_without_a_gradient_are_told_and_evaluated(tmp_path) -> None:
    done = run(
        written(tmp_path, "return self.logits(*((255 * x).round().detach() / 255 for x in m))"),
        tmp_path / "o",
        attack="pgd",
    )
    assert done.stderr.count("no gradient of its logits reaches its inputs") == 1
    (record,) = [
        json.loads(path.read_text()) for path in (tmp_path / "o" / "records").glob("*.json")
    ]
    assert (
        next(sign for sign in record["diagnostics"] if sign["sign"] == "zero gradient")["verdict"]
        == "fail"
    )


def test_running_a_file_is_said_once_in_one_line_even_when_quiet(tmp_path) -> None:
    model = written(tmp_path)
    done = run(model, tmp_path / "o", "--quiet")
    said = [line for line in done.stderr.splitlines() if "running the code in" in line]
    assert len(said) == 1
    assert str(tmp_path / "model.py") in said[0]
    assert "running the code" not in run(model, tmp_path / "o").stderr


# --- probabilities --------------------------------------------------------------------------------

SOFTMAX, SIGMOID = ("probabilities",) * 2, ("sigmoid",) * 2
OUTPUTS = {
    "softmax": ("return tuple(z.softmax(1) for z in self.logits(*m))", SOFTMAX),
    "softmax in half precision": (
        "return tuple(z.half().softmax(1) for z in self.logits(*m))",
        SOFTMAX,
    ),
    "softmax, saturated": ("return tuple((1000 * z).softmax(1) for z in self.logits(*m))", SOFTMAX),
    "mean of softmaxes": (
        "return tuple((z.softmax(1) + (3 * z).softmax(1)) / 2 for z in self.logits(*m))",
        SOFTMAX,
    ),
    "exp of log-softmax": (
        "return tuple(z.log_softmax(1).exp() for z in self.logits(*m))",
        SOFTMAX,
    ),
    "sigmoid": ("return tuple(z.sigmoid() for z in self.logits(*m))", SIGMOID),
    "one task of two": (
        "a, b = self.logits(*m)\nreturn a, b.softmax(1)",
        ("logits", "probabilities"),
    ),
    "softmax and sigmoid": (
        "a, b = self.logits(*m)\nreturn a.sigmoid(), b.softmax(1)",
        ("sigmoid", "probabilities"),
    ),
    "softmax for inference": (
        "z = self.logits(*m)\nreturn z if self.training else tuple(t.softmax(1) for t in z)",
        SOFTMAX,
    ),
    "logits": (PLAIN, ("logits",) * 2),
    "log-softmax": ("return tuple(z.log_softmax(1) for z in self.logits(*m))", ("logits",) * 2),
    "logits that begin in [0, 1]": (
        "return tuple(0.001 * z + 0.5 for z in self.logits(*m))",
        ("logits",) * 2,
    ),
    "logits that begin at 0": (
        "return tuple(z * self.gain for z in self.logits(*m))",
        ("logits",) * 2,
    ),
    "positive logits": ("return tuple(z.relu() for z in self.logits(*m))", ("logits",) * 2),
    "cosines": (
        "return tuple(nn.functional.normalize(z) for z in self.logits(*m))",
        ("logits",) * 2,
    ),
    "NaN": ("return tuple(z * torch.nan for z in self.logits(*m))", ("logits",) * 2),
}


def reading(victim: nn.Module) -> trial.Outputs:
    return next(hook for hook in victim._forward_hooks.values() if isinstance(hook, trial.Outputs))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_outputs_are_is_found_and_said(kind: str, tmp_path) -> None:
    forward, kinds = OUTPUTS[kind]
    model = written(tmp_path, forward, name=f"{kind}.py")
    with pytest.warns(trial.Notice) as notices:
        victim = built(model)
    assert reading(victim).kinds == kinds
    assert reading(victim).training == (
        ("logits",) * 2 if kind == "softmax for inference" else kinds
    )
    said = [str(notice.message) for notice in notices if "are no logits" in str(notice.message)]
    assert len(said) == len(set(kinds) - {"logits"})
    assert all("`outputs = 'logits'`" in line for line in said)
    with torch.no_grad():
        x, plain = images(7), built(written(tmp_path, name="plain.py"))
        logits = victim(*x)
        assert torch.isfinite(torch.cat(logits, 1)).all() != (kind == "NaN")
        if (
            kinds == SOFTMAX
            and "half" not in kind
            and "mean" not in kind
            and "saturated" not in kind
        ):
            torch.testing.assert_close(logits, tuple(z.log_softmax(1) for z in plain(*x)))
        if kinds == SIGMOID:
            torch.testing.assert_close(logits, plain(*x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("word", ["logits", "sigmoid", "('logits', 'sigmoid')"])
def test_the_module_has_the_last_word(word: str, tmp_path) -> None:
    said = word if word.startswith("(") else repr(word)
    build = f"net = Net(channels, class_counts)\nnet.outputs = {said}\nreturn net"
    victim = built(written(tmp_path, "return tuple(z.softmax(1) for z in self.logits(*m))", build))
    assert reading(victim).kinds == (("logits", "sigmoid") if word.startswith("(") else (word,) * 2)


def test_a_layer_that_is_called_outputs_says_nothing(tmp_path) -> None:
    build = (
        "net = Net(channels, class_counts)\nnet.outputs = nn.ModuleList([nn.Linear(1,"
        " 1)])\nreturn net"
    )
    assert reading(built(written(tmp_path, build=build))).kinds == ("logits",) * 2


def test_outputs_that_leave_the_unit_interval_later_are_one_line(tmp_path) -> None:
    forward = "return tuple(z.softmax(1) + (len(m[0]) > 3) for z in self.logits(*m))"
    assert "set `outputs = 'logits'`" in refused(
        run(written(tmp_path, forward), tmp_path / "o", check=2)
    )


def test_the_trial_leaves_weights_statistics_and_random_numbers_alone(tmp_path) -> None:
    build = (
        "net = Net(channels, class_counts)\nnet.norm = nn.BatchNorm2d(channels[0])\nnet.drop ="
        " nn.Dropout(0.5)\nnet.before = {k: v.clone() for k, v in"
        " net.state_dict().items()}\nnet.state = torch.get_rng_state()\nreturn net"
    )
    model = written(
        tmp_path,
        "return tuple(z.sigmoid() for z in self.logits(self.drop(self.norm(m[0])), m[1]))",
        build,
    )
    victim = built(model)
    assert reading(victim).kinds == SIGMOID
    assert torch.equal(torch.get_rng_state(), victim.state)
    assert victim.state_dict().keys() == victim.before.keys()
    assert all(
        torch.equal(tensor, victim.before[name]) for name, tensor in victim.state_dict().items()
    )
    assert not victim.training


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Samples]:
    """Weights of the network after 60 steps on phantoms, and 64 test samples."""
    dataset = load("phantoms", size=32)
    victim = built(written(tmp_path_factory.mktemp("plain"))).train()
    optimizer, samples = torch.optim.Adam(victim.parameters(), 1e-2), dataset.splits["train"]
    for step in range(60):
        rows = np.random.default_rng(step).integers(len(samples), size=32)
        optimizer.zero_grad()
        multitask_loss(victim(*samples.batch(rows)), samples.labels[rows]).backward()
        optimizer.step()
    return victim.state_dict(), dataset.splits["test"].head(64)


def attacked(
    model: str, learned: tuple[dict[str, Tensor], Samples], name: str, **given: object
) -> Outcome:
    weights, samples = learned
    victim = built(model)
    victim.load_state_dict(weights)
    victim.eval().requires_grad_(False)
    setting = Setting("sound", 1, 0, CPU, 32)
    clean = clean_pass(victim, samples, setting, lambda n: None, stochastic=False)
    threat = Threat("Linf", (4 / 255, 4 / 255), (0, 1))
    return attack_pass(
        victim, samples, clean, threat, Method(name, complete(name, given)), setting, lambda n: None
    )


@pytest.mark.parametrize("scale", [1, 30, 100])
@pytest.mark.parametrize("outputs", ["softmax(1)", "sigmoid()", "log_softmax(1)"])
def test_pgd_is_as_strong_on_probabilities_as_on_the_logits_behind_them(
    outputs: str, scale: int, learned, tmp_path
) -> None:
    logits = written(
        tmp_path, f"return tuple({scale} * z for z in self.logits(*m))", name="logits.py"
    )
    other = written(
        tmp_path, f"return tuple(({scale} * z).{outputs} for z in self.logits(*m))", name="other.py"
    )
    wanted, got = (attacked(model, learned, "pgd").figures for model in (logits, other))
    assert got["clean"] == wanted["clean"] > wanted["robust"] + 0.1
    # a sigmoid at 100 times the scale is 1 in float32 above a logit of 17: it has no gradient there
    assert (
        got["robust"]
        <= wanted["robust"] + (1 if (outputs, scale) != ("sigmoid()", 100) else 3) / 64
    )


@pytest.mark.parametrize(("outputs", "clamped"), [("softmax(1)", True), ("log_softmax(1)", False)])
def test_saturation_of_probabilities_is_told(outputs: str, clamped: bool, tmp_path) -> None:
    model = written(tmp_path, f"return tuple((1000 * z).{outputs} for z in self.logits(*m))")
    run(model, tmp_path / "o", attack="pgd")
    (record,) = [
        json.loads(path.read_text()) for path in (tmp_path / "o" / "records").glob("*.json")
    ]
    sign = next(sign for sign in record["diagnostics"] if sign["sign"] == "logit scale")
    assert sign["verdict"] == "fail"
    assert ("no loss has a gradient" in sign["text"]) == clamped
    assert trial.hands_out_probabilities(Defended(built(model), [])) == clamped


# --- not finite -----------------------------------------------------------------------------------

NAN = (
    "bad = (m[0].mean((1, 2, 3)) > 0.169)[:, None]\nreturn tuple(torch.where(bad, torch.nan, z) for"
    " z in self.logits(*m))"
)


def test_a_victim_with_nan_logits_is_counted_and_marked(tmp_path) -> None:
    model = written(tmp_path, NAN)
    safetensors.torch.save_file(built(model).state_dict(), tmp_path / "w.safetensors")
    done = run(
        model,
        tmp_path / "o",
        "--checkpoint",
        tmp_path / "w.safetensors",
        "--limit",
        48,
        attack="pgd",
    )
    (record,) = [
        json.loads(path.read_text()) for path in (tmp_path / "o" / "records").glob("*.json")
    ]
    samples = load("phantoms", size=32).splits["test"].head(48)
    plain = built(written(tmp_path, name="plain.py"))
    x = samples.batch(range(48))
    bright = x[0].mean((1, 2, 3)) > 0.169
    right = (
        torch.stack(
            [(z.argmax(1) == samples.labels[:, t]) & ~bright for t, z in enumerate(plain(*x))]
        )
        .double()
        .mean()
    )
    assert record["figures"]["clean"] == pytest.approx(float(right))
    assert not record["stochastic"]
    assert record["figures"]["not_finite"] >= int(bright.sum()) > 0
    assert (
        f"not finite for {record['figures']['not_finite']} samples"
        in (tmp_path / "o" / "leaderboard.csv").read_text()
    )
    assert "random victim" not in done.stderr


DIVERGES = {
    "NaN logits": (NAN, "its loss is nan at step 0"),
    "a logarithm of zero": (
        "return tuple((z * 0).log() for z in self.logits(*m))",
        "its loss is nan at step 0",
    ),
    "infinite weights": (
        "if self.training: self.heads[0].weight.data.fill_(torch.inf)\n" + PLAIN,
        "weights are not finite: heads.0.weight",
    ),
    "NaN for inference alone": (
        "return tuple(z if self.training else z * torch.nan for z in self.logits(*m))",
        "its val loss is nan at step 2",
    ),
}


@pytest.mark.parametrize("kind", DIVERGES)
def test_a_training_that_diverges_is_one_line_and_leaves_nothing(kind: str, tmp_path, home) -> None:
    forward, message = DIVERGES[kind]
    line = refused(run(written(tmp_path, forward), tmp_path / "o", check=2))
    assert "has diverged" in line
    assert message in line
    assert not list((home / "checkpoints").glob("*"))
