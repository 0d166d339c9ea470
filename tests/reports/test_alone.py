"""Two processes that write the tables of one folder."""

import threading

import pandas as pd
from support.records import record
from support.stores import fill

from robustbench_med.owners.lock import Lock
from robustbench_med.reports import write
from robustbench_med.store.alone import LOCK
from robustbench_med.store.store import Store


def test_a_slow_writer_loses_no_row_of_a_record_that_came_meanwhile(tmp_path, monkeypatch) -> None:
    store, frames = Store(tmp_path), write.frames
    fill(store, record())
    has_read, may_write = threading.Event(), threading.Event()

    def slow(*given: object) -> object:
        made = frames(*given)
        if not has_read.is_set():  # the first one alone
            has_read.set()
            assert may_write.wait(60)
        return made

    monkeypatch.setattr(write, "frames", slow)
    writers = [threading.Thread(target=write.leaderboard, args=(tmp_path,)) for _ in range(2)]
    writers[0].start()
    assert has_read.wait(60)
    fill(store, record(seed=1))
    writers[1].start()
    writers[1].join(1)
    may_write.set()
    for writer in writers:
        writer.join(60)
    assert len(pd.read_csv(tmp_path / "records.csv").record.unique()) == 2
    assert not (tmp_path / LOCK).exists()


def test_who_waits_for_the_tables_of_a_folder_says_so(tmp_path, capsys) -> None:
    fill(Store(tmp_path), record())
    lock = Lock(tmp_path / LOCK)
    assert lock.take()
    waiting = threading.Thread(target=write.leaderboard, args=(tmp_path,))
    waiting.start()
    waiting.join(2)
    assert waiting.is_alive()
    lock.release()
    waiting.join(60)
    assert f"waiting for the tables of {tmp_path}" in capsys.readouterr().err.replace("\n", "")
    assert (tmp_path / "leaderboard.csv").is_file()
