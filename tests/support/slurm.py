"""A Slurm of one node: its own configuration, key, sockets and ports below a folder. It runs as root,
without cgroups.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
CONFIG = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
KillWait=2
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} State=UNKNOWN
PartitionName=one Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here; None: one can."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if lacking:
        return f"needs Slurm and munge ({', '.join(lacking)} not found)"
    if os.name != "posix" or os.geteuid() != 0:
        return "a Slurm of the test's own is started by root"
    if importlib.util.find_spec("submitit") is None:
        return "needs the extra slurm"
    return None


@contextlib.contextmanager
def one_node(folder: Path, processors: int = 2) -> Iterator[dict[str, str]]:
    """Inside, a Slurm runs; what its commands must find in the environment."""
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True, mode=0o700)
    ports = {"controller": _free_port(), "daemon": _free_port()}
    host = socket.gethostname().partition(".")[0]
    text = CONFIG.format(folder=folder, host=host, processors=processors, **ports)
    (folder / "slurm.conf").write_text(text)
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
    }

    def start(*command: str) -> None:
        log = (folder / f"{command[0]}.out").open("wb")
        started.append(
            subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        )

    def answers(*command: str) -> None:
        ends = time.monotonic() + 30
        while subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True
        ).returncode:
            assert time.monotonic() < ends, "".join(p.read_text() for p in folder.glob("*.out"))
            time.sleep(0.1)

    try:
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        start("munged", "--foreground", "--force", f"--key-file={key}",
              f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge/pid",
              f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed")  # fmt: skip
        answers("munge", "--no-input", f"--socket={folder}/munge.socket")
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-c", "-N", host)
        answers("bash", "-c", "sinfo --noheader --format %T | grep -q idle")
        yield environment
    finally:
        there = {**os.environ, **environment}
        subprocess.run(["scancel", "--partition=one"], env=there, check=False)
        ends = time.monotonic() + 20
        while subprocess.run(["squeue", "--noheader"], env=there, capture_output=True).stdout:
            if time.monotonic() > ends:
                break
            time.sleep(0.2)  # a daemon that ends before its tasks leaves them behind
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # slurmd may wait for a controller that is gone
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
