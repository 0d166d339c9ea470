"""Units on a Ray cluster: two nodes on this machine, one of which is lost in the middle."""

import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from support.cli import medrobust, refused
from support.failing import grid
from support.own_victims import written

from robustbench_med.errors import UserError
from robustbench_med.runs import executors
from robustbench_med.runs.executors import ray_cluster
from robustbench_med.runs.job import Job
from robustbench_med.store.claim import claims
from robustbench_med.store.store import Store

SLOW = """
import time, traceback
from pathlib import Path
if any(frame.name == "attack_pass" for frame in traceback.extract_stack()):
    Path(__file__).with_suffix(".begun").touch()
    time.sleep(0.2)
return self.logits(*m)
"""


def test_a_missing_ray_is_one_line_that_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = medrobust(*grid("late", tmp_path / "o", "--executor", "ray"), check=2)
    assert "pip install 'medrobust[ray]'" in refused(done)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(executor="dask"), "unknown executor 'dask'"),
        (Job(executor="ray", jobs="2"), "--jobs is for the executor local"),
        (Job(address="auto"), "--address and --gpus are for --executor ray"),
        (Job(gpus=0.5), "--address and --gpus are for --executor ray"),
    ],
)
def test_options_of_another_executor_are_refused(job: Job, message: str) -> None:
    with pytest.raises(UserError, match=message):
        executors.executor_of(job, 2)


def test_a_task_takes_a_processor_a_thread_and_gpus_where_it_computes_on_them() -> None:
    def found(**options: object) -> tuple[int, float]:
        size = executors.executor_of(Job(executor="ray", **options), 3)
        assert isinstance(size, ray_cluster.RayCluster)
        return size.threads, size.gpus

    assert found() == (1, 0)
    assert found(threads=4, device="cuda") == (4, 1)
    assert found(device="cuda", gpus=0.25) == (1, 0.25)


@pytest.fixture
def cluster():
    """A head without processors, and two nodes with one each."""
    pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield made
    made.shutdown()


@pytest.mark.slow
def test_a_lost_node_loses_no_unit_and_the_tables_are_those_of_one_process(
    cluster, tmp_path: Path
) -> None:
    models = [written(tmp_path, SLOW, name=f"slow{i}.py") for i in range(2)]
    whole, out = tmp_path / "whole", tmp_path / "o"
    medrobust(*grid(",".join(models), whole))
    for path in tmp_path.glob("*.begun"):
        path.unlink()
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    lost: list[float] = []

    def lose() -> None:
        ends = time.monotonic() + 240
        while time.monotonic() < ends and len(list(tmp_path.glob("*.begun"))) < 2:
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)
        lost.append(time.monotonic())

    thread = Thread(target=lose)
    thread.start()
    where = ["--executor", "ray", "--address", cluster.address]
    done = medrobust(*grid(",".join(models), out, *where))
    thread.join()
    assert lost
    assert "failed" not in done.stderr
    for name in ("leaderboard.csv", "cells.csv", "records.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert len(Store(out).records()) == 8
    assert claims(out) == []
