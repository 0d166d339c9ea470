"""Starts a worker (`executors.worker`), which reads units from standard input and ends when who
started it is no more: from the first moment on, so nothing that takes long is imported before.

`python -m robustbench_med.runs.start_worker`
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading


def listen(units: queue.Queue[str]) -> None:
    """Reads units; ends this process, whatever it does, once nobody writes them any more."""
    for line in sys.stdin:
        units.put(line)
    os._exit(1)


def main() -> None:
    """Serves until the pipe closes. Ctrl-C is for who started this process to deal with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    units: queue.Queue[str] = queue.Queue()
    threading.Thread(target=listen, args=(units,), daemon=True).start()
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what code of the user's prints is no message
    sys.stdout = sys.stderr
    worker = importlib.import_module("robustbench_med.runs.executors.worker")
    worker.serve(units, worker.answers(messages), int(os.environ["OMP_NUM_THREADS"]))


if __name__ == "__main__":
    main()
