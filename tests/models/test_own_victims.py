"""Victims of the user's own as they come: other precisions, changed inputs, probabilities for
logits, batches of one, code that leaves.
"""

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from support.cli import refused
from support.own_victims import PLAIN, built, images, run, written

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
    "sparse": (
        "return tuple(z.to_sparse() for z in self.logits(*m))",
        "its logits of task 0 are a sparse tensor: return z.to_dense()",
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
        == "failed"
    )


def test_running_a_file_is_said_once_in_one_line_even_when_quiet(tmp_path) -> None:
    model = written(tmp_path)
    done = run(model, tmp_path / "o", "--quiet")
    said = [line for line in done.stderr.splitlines() if "running the code in" in line]
    assert len(said) == 1
    assert str(tmp_path / "model.py") in said[0]
    assert "running the code" not in run(model, tmp_path / "o").stderr
