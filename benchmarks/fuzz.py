"""Mutates what others may write, and shows it to the doors it comes in by, for a while.

    PYTHONPATH=tests python benchmarks/fuzz.py [--minutes 10] [--only NAME,...] [--seed 0]

The minutes are those of each kind (specifications, radii, cards, ...); its doors share them. A door
must return or raise one line (`UserError`), within ten seconds and a gigabyte. What crashed it is
written to tests/corpus/DOOR, once for each place in medrobust where it did; tests/test_fuzz.py
shows it that again.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from support.fuzzing import DOORS, KINDS, CrashError, meets

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
MOST = 20_000
"""Random bytes that choose one input."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="of each kind")
    parser.add_argument(
        "--only", default=",".join(KINDS), help=f"kinds, or doors ({', '.join(DOORS)})"
    )
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    names = given_.only.split(",")
    if unknown := [name for name in names if name not in KINDS and name not in DOORS]:
        parser.error(f"no kind and no door: {', '.join(unknown)}")
    rows = []
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", home)
        for name in names:
            doors = KINDS.get(name, (name,))
            for door in doors:
                found = fuzzed(door, 60 * given_.minutes / len(doors), given_.seed)
                rows.append((name, door, *found))
                print(f"{name}: {door}: {found[1]:,} inputs, {found[2]} crashes", flush=True)
    print(table(rows))


def table(rows: list[tuple[str, str, float, int, int]]) -> str:
    """What each door was shown, as Markdown."""
    lines = [
        "",
        "| kind | door | seconds of processor | inputs | places that crashed |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    together = (sum(row[i] for row in rows) for i in (2, 3, 4))
    for kind, door, seconds, inputs, places in [*rows, ("all", "", *together)]:
        lines.append(f"| {kind} | {door} | {seconds:,.0f} | {inputs:,} | {places} |")
    return "\n".join(lines)


def fuzzed(name: str, seconds: float, seed: int) -> tuple[float, int, int]:
    """Seconds of processor time, inputs that the door was shown, and places where it crashed."""
    shown, places, begun = 0, set[str](), time.process_time()

    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(DOORS[name].inputs)
    def each(data: bytes) -> None:
        nonlocal shown
        shown += 1
        try:
            meets(DOORS[name], data)
        except CrashError as crash:
            if (place := place_of(crash)) not in places:
                places.add(place)
                print(f"{name}: {place}: {crash}", flush=True)
                path = CORPUS / name / hashlib.sha256(data).hexdigest()[:12]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    draws, until = random.Random(f"{name} {seed}"), time.monotonic() + seconds
    while time.monotonic() < until:
        each.hypothesis.fuzz_one_input(draws.randbytes(draws.randrange(1, MOST)))
    return time.process_time() - begun, shown, len(places)


def place_of(crash: CrashError) -> str:
    """Where in medrobust it crashed, and with what."""
    cause = crash.__cause__
    frames = traceback.extract_tb(cause.__traceback__ if cause else None)
    ours = [
        frame
        for frame in frames
        if not any(part in frame.filename for part in ("/tests/", "site-packages", "/lib/python"))
    ]
    at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "-"
    return f"{at} {type(cause).__name__}"


if __name__ == "__main__":
    main()
