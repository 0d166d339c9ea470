"""What a victim of the user's own hands out: logits, probabilities, numbers that are none."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from support.cli import refused
from support.own_victims import PLAIN, built, images, run, written
from torch import Tensor, nn

from robustbench_med.attacks import Threat, complete
from robustbench_med.data import Samples, load
from robustbench_med.evaluation.protocol import attack_pass, clean_pass
from robustbench_med.evaluation.types import Method, Outcome, Setting
from robustbench_med.models import trial
from robustbench_med.models.defenses import Defended
from robustbench_med.training.objectives import multitask_loss

pytestmark = pytest.mark.challenged

CPU = torch.device("cpu")


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
    assert sign["verdict"] == ("failed" if clamped else "doubtful")
    assert ("no loss has a gradient" in sign["text"]) == clamped
    assert trial.hands_out_probabilities(Defended(built(model), [])) == clamped


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
        attack="pgd",
        limit=48,
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
        in (tmp_path / "o" / "cells.csv").read_text()
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
