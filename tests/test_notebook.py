"""A notebook keeps its plots: nothing of matplotlib that is global changes, whatever of the package
is used.
"""

import os
import subprocess
import sys

import pytest
from support.files import ROOT

USE = """
import sys, warnings
from pathlib import Path
import matplotlib

BACKEND = "module://matplotlib.backends.backend_template"  # draws nothing: who relied on it has no figure
matplotlib.use(BACKEND)
matplotlib.rcParams["font.size"] = 7.5
matplotlib.rcParams["axes.grid"] = False
before = dict(matplotlib.rcParams.copy())
out = Path(sys.argv[1])

def unchanged(after):
    assert matplotlib.get_backend() == BACKEND, after
    now = dict(matplotlib.rcParams.copy())
    assert now == before, (after, {key for key in now if now[key] != before[key]})
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums(), after

import robustbench_med as mr
from support.short import shorten, unsynced
shorten(), unsynced()
from robustbench_med.reports import write
from robustbench_med.reports import certified, claims, curves, figures, gallery, page, paper, plots, style, tables
from robustbench_med.reports import model_cards
from robustbench_med.reports.comparison.entries import Compared, Entry
from robustbench_med.reports.comparison import write as compare
unchanged("import")
tiny = dict(model="late", model_params={"width": 4}, recipe={"steps": 3}, size=32, limit=8, attack_params={"steps": 2}, attack="pgd")
mr.evaluate(**tiny, out=out, quiet=True).table
unchanged("evaluate")
write.leaderboard(out)
unchanged("leaderboard")
from support.records import certificate, certify
from robustbench_med.store import CERTIFICATES, Store
certify(Store(out, CERTIFICATES), certificate(), certificate(noised=(0,)))
entry = Entry("late", "none", tuple(Store(out).records()))
compare.write(Compared((entry,), command="compare", seconds=1.0), out)
unchanged("compare")
write.everything(out)
unchanged("report")
write.cards(out, lambda *what: {}, {})
unchanged("cards")
write.gallery(out, Store(out).records()[0], out / "gallery.png")
unchanged("gallery")
for png in ("robust_accuracy.png", "certified.png", "pareto.png", "gallery.png"):
    assert (out / png).stat().st_size > 5000, png
try:
    curves.robust_against_radius([], out / "none.png")
except Exception:
    unchanged("a figure that fails")
else:
    raise AssertionError("a figure of nothing")
"""


@pytest.mark.slow
def test_backend_and_settings_of_matplotlib_are_those_of_the_user(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
