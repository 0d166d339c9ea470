"""Victims that are asked alone: functions, ONNX files, HTTP endpoints; the same network gives the
same figures behind each of them, and no fault of a server changes one.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.asked import (
    ASKED,
    COMMON,
    SIZE,
    N,
    attacked,
    contract,
    figure,
    network,
    scores,
    served,
)
from support.cli import medrobust, refused
from support.endpoint import serving

from robustbench_med import black_box, evaluate, load_data
from robustbench_med.errors import UserError


@pytest.fixture(scope="module", name="network")
def the_network() -> torch.nn.Module:
    return network()


@pytest.fixture(scope="module")
def as_module(network, tmp_path_factory) -> dict[str, tuple[float, list[float]]]:
    found = {name: figure(attacked(network, tmp_path_factory.mktemp("m"), name)) for name in ASKED}
    assert all(0 < robust < 1 for robust, _ in found.values())
    return found


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home"))
    return tmp_path


# --- the same network -----------------------------------------------------------------------------


@pytest.mark.parametrize("attack", list(ASKED))
def test_a_server_that_gets_float32_gives_the_figures_of_the_module(
    attack, network, as_module, home
) -> None:
    with serving(served(network)) as server:
        results = attacked(server.url, home, attack, contract=contract(home))
        assert figure(results) == as_module[attack]
        (record,) = results.records
        assert record.spec.victim.model == "device"
        assert record.spec.victim.access == "scores"
        assert record.trust.word in ("unchallenged", "doubtful", "failed")
        asked = server.images
        again = attacked(server.url, home / "again", attack, contract=contract(home))
        assert figure(again) == figure(results)
        assert server.images == asked, "an image was asked about twice"
    queries = record.figures.queries
    assert queries.most > 0
    assert queries.curve[0] == [0.0, record.figures.clean]
    heights = [height for _, height in queries.curve]
    assert heights == sorted(heights, reverse=True)
    if attack == "square":
        assert queries.most <= ASKED["square"]["queries"]
        assert heights[-1] == pytest.approx(record.figures.robust)


@pytest.mark.parametrize("attack", list(ASKED))
def test_a_function_gives_the_figures_of_the_module(attack, network, as_module, tmp_path) -> None:
    box = black_box(lambda *images: scores(network, *images), name="mine", version="1")
    assert figure(attacked(box, tmp_path, attack)) == as_module[attack]


def test_decisions_are_enough_for_an_attack_that_asks_for_no_more(
    network, as_module, tmp_path
) -> None:
    def decide(*images: np.ndarray) -> list[np.ndarray]:
        return [z.argmax(1) for z in scores(network, *images)]

    box = black_box(decide, gives="decisions", name="mine", version="1")
    results = attacked(box, tmp_path, "hopskipjump")
    assert figure(results) == as_module["hopskipjump"]
    assert results.records[0].spec.victim.access == "decisions"
    with pytest.raises(
        UserError,
        match="square asks for scores, and mine gives decisions alone; what asks for no more: adaptive, transfer, hopskipjump, boundary",
    ):
        attacked(box, tmp_path, "square")


def test_an_onnx_file_gives_the_figures_of_the_module_within_a_sample(
    network, as_module, tmp_path
) -> None:
    pytest.importorskip("onnxruntime")
    names = load_data("phantoms", size=SIZE).tasks
    path = tmp_path / "net.onnx"
    some = (torch.rand(2, 1, SIZE, SIZE),) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.net,
            some,
            path,
            dynamo=False,
            input_names=["mri", "xray"],
            output_names=list(names),
            dynamic_axes={name: {0: "n"} for name in ("mri", "xray", *names)},
        )
    for attack in ASKED:
        robust, _ = figure(attacked(str(path), tmp_path / "o", attack))
        assert abs(robust - as_module[attack][0]) <= 1 / N + 1e-9
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"cannot read the ONNX file .*bad\.onnx"):
        attacked(str(tmp_path / "bad.onnx"), tmp_path / "o", "square")


@pytest.mark.slow
def test_images_as_8_bits_are_another_victim_and_said_to_be(network, home) -> None:
    with serving(served(network)) as server:
        hashes = set()
        for encoding in ("float32", "uint8", "png"):
            results = attacked(
                server.url, home, "square", contract=contract(home, encoding=encoding)
            )
            (record,) = results.records
            hashes.add(record.hash)
            assert any("as 8 bits" in note for note in record.notes) == (encoding != "float32")
    assert len(hashes) == 3


# --- a server with faults -------------------------------------------------------------------------


def flaky(number: int) -> str | None:
    """One answer in ten is wrong, one in fifty never comes in time."""
    if number % 50 == 7:
        return "stall"
    return ("500", "nan", "size", "text")[number // 10 % 4] if number % 10 == 3 else None


@pytest.mark.slow
def test_a_server_with_faults_loses_no_cell_and_changes_no_figure(
    network, as_module, home, monkeypatch
) -> None:
    monkeypatch.setattr("robustbench_med.models.black_box.WAIT", 0.01)
    with serving(served(network), flaky) as server:
        for attack in ASKED:
            results = attacked(server.url, home, attack, contract=contract(home, batch_size=4))
            assert figure(results) == as_module[attack]
    assert server.requests > 150


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", "answered 500"),
        ("nan", "no JSON"),
        ("size", "of the shape"),
        ("text", "no JSON"),
        ("stall", "no answer in time"),
    ],
)
def test_an_answer_that_stays_wrong_is_a_failed_cell(
    fault, said, network, home, monkeypatch
) -> None:
    monkeypatch.setattr("robustbench_med.models.black_box.WAIT", 0.01)
    with (
        serving(served(network), lambda number: fault) as server,
        pytest.raises(UserError, match=f"device: .*{said}.*2 of 2 tries"),
    ):
        attacked(server.url, home, "square", contract=contract(home, retries=1, timeout=0.3))
    assert server.requests == 2


@pytest.mark.slow
def test_a_run_that_was_cut_off_asks_nothing_twice(network, as_module, home) -> None:
    images: list[bytes] = []

    def watched(sent: dict[str, np.ndarray]) -> dict[str, list]:
        images.extend(
            m.tobytes() + x.tobytes() for m, x in zip(sent["mri"], sent["xray"], strict=True)
        )
        return served(network)(sent)

    with serving(watched, lambda number: "500" if number > 75 else None) as server:
        with pytest.raises(UserError, match="answered 500"):
            attacked(server.url, home, "square", contract=contract(home, retries=0))
        before = len(images)
        server.faults = lambda number: None
        results = attacked(server.url, home, "square", contract=contract(home, retries=0))
        assert figure(results) == as_module["square"]
        after_probe = images[before:]
        attack_of_first = set(images[before - 24 : before])
        assert not attack_of_first & set(after_probe)
        attacked(server.url, home, "square", contract=contract(home, retries=0), force=True)
        assert len(images) >= 2 * len(after_probe), "--force asks anew"


# --- what is random -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_random_server_is_found_out_and_its_draws_are_never_answered_from_memory(
    network, home
) -> None:
    rng = np.random.default_rng(0)

    def noisy(images: dict[str, np.ndarray]) -> dict[str, list]:
        return {
            name: (np.array(z) + rng.normal(0, 2, np.shape(z))).tolist()
            for name, z in served(network)(images).items()
        }

    with serving(noisy) as server:
        results = attacked(
            server.url, home, "square", contract=contract(home, batch_size=64), draws=4
        )
        (record,) = results.records
        assert record.stochastic
        assert not record.repeatable
        asked = server.images
        again = attacked(
            server.url, home / "again", "square", contract=contract(home, batch_size=64), draws=4
        )
        assert server.images == asked
        assert figure(again) == figure(results)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["pgd", "fgsm", "apgd", "autoattack"])
def test_attacks_along_gradients_are_refused_with_the_reason(attack, tmp_path) -> None:
    box = black_box(lambda *images: None, name="mine", version="1")
    with pytest.raises(
        UserError,
        match=f"{attack} follows the gradient of the victim, and nobody sees that of the black box mine",
    ):
        evaluate(box, attack=attack, out=tmp_path, **COMMON)


@pytest.mark.parametrize("aim", ["any", "k=1"])
def test_a_choice_of_tasks_is_refused_where_queries_are_counted_by_task(
    aim, network, tmp_path
) -> None:
    box = black_box(lambda *images: scores(network, *images), name="mine", version="1")
    said = "queries of the black box mine are counted by task; aim at all"
    with pytest.raises(UserError, match=said) as caught:
        evaluate(box, attack="square", target_task=aim, out=tmp_path / "out", **COMMON)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("records/*"))


def test_an_attack_of_the_users_that_wants_a_gradient_is_refused_when_it_asks(
    network, tmp_path
) -> None:
    def greedy(view, x, y, threat, streams):
        return view.gradient(x, y, threat)[0]

    box = black_box(lambda *images: scores(network, *images), name="mine", version="1")
    with pytest.raises(UserError, match="a black box has none that anybody sees"):
        evaluate(box, attack=greedy, out=tmp_path, **COMMON)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"name": "a b"}, "name"),
        ({"encodin": "png"}, "unknown field 'encodin'; did you mean encoding"),
        ({"timeout": 0}, "timeout"),
        ({"headers": {"key": "${NO_SUCH}"}}, r"\$\{NO_SUCH\}, which is not set"),
        ({"name": "late"}, "there is a model 'late' already"),
    ],
)
def test_a_bad_contract_is_one_line(content, said, tmp_path) -> None:
    with pytest.raises(UserError, match=said):
        attacked("http://127.0.0.1:9/x", tmp_path, "square", contract=contract(tmp_path, **content))


def test_an_address_needs_a_contract_and_a_contract_a_box(tmp_path) -> None:
    with pytest.raises(
        UserError,
        match=r"contract(: |=)? ?says what it takes",
    ):
        attacked("http://127.0.0.1:9/x", tmp_path, "square")
    with pytest.raises(UserError, match="is for one black box"):
        attacked("late", tmp_path, "square", contract=contract(tmp_path))
    with pytest.raises(UserError, match="caps what black boxes are asked"):
        attacked("late", tmp_path, "square", max_queries=5)


def test_a_cap_on_queries_is_kept_and_counts(network, tmp_path) -> None:
    calls: list[int] = []

    def counted(*images: np.ndarray) -> list[np.ndarray]:
        calls.append(len(images[0]))
        return scores(network, *images)

    found = []
    for cap in (5, 30):
        box = black_box(counted, name="mine", version="1")
        results = attacked(box, tmp_path, "hopskipjump", max_queries=cap)
        (record,) = results.records
        assert record.figures.queries.most <= cap
        assert record.figures.queries.cap == cap
        assert record.spec.protocol.max_queries == cap
        found.append(record.figures.robust)
    assert found[0] >= found[1]
    assert (
        len(
            {record.hash for record in results.records}
            | {r.hash for r in attacked(box, tmp_path, "hopskipjump", max_queries=5).records}
        )
        == 2
    )


def test_one_number_for_two_classes_is_the_probability_of_the_second(tmp_path) -> None:
    x = np.linspace(0, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1) * np.ones(
        (8, 1, 8, 8), np.float32
    )
    y = (x[:, 0, 0, 0] > 0.5).astype(int)
    box = black_box(lambda images: images.mean((1, 2, 3)), name="mean", version="1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = evaluate(
            box,
            data=(x, y),
            attack="square",
            attack_params={"queries": 60},
            eps=0.5,
            out=tmp_path,
            control=False,
            challenge=False,
            quiet=True,
        )
    (record,) = results.records
    assert record.figures.clean == 1
    assert record.figures.robust < 1


def test_headers_reach_the_server_and_no_record(network, home, monkeypatch) -> None:
    monkeypatch.setenv("DEVICE_TOKEN", "s3cret")
    with serving(served(network)) as server:
        path = contract(
            home, headers={"Authorization": "Bearer ${DEVICE_TOKEN}"}, also={"model": "v2"}
        )
        results = attacked(server.url, home, "square", contract=path)
        assert server.headers["Authorization"] == "Bearer s3cret"
        assert server.bodies[0]["model"] == "v2"
        (record,) = results.records
        assert "s3cret" not in record.model_dump_json()


def test_commands_that_need_to_look_inside_refuse_a_black_box(tmp_path) -> None:
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)),
        (torch.rand(2, 1, 2, 2),),
        path,
        dynamo=False,
    )
    box = ["--model", path, "--size", 32, "--limit", 4, "--out", tmp_path / "o"]
    assert "diagnose looks at gradients" in refused(medrobust("diagnose", *box, check=2))
    assert "a plan times a few passes" in refused(
        medrobust("plan", "--attack", "square", *box, check=2)
    )
    assert "has no weights to train" in refused(medrobust("train", "--model", path, check=2))
