"""The panel of broken defences and honest victims against every sign, as the figure of
docs/trust.md.

    python benchmarks/trust_panel.py

The victims are those of tests/support/panel.py; a verdict is what `medrobust diagnose` would say of
each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.panel import BROKEN, HONEST, signs_of  # noqa: E402

from robustbench_med.evaluation.signs import ORDER  # noqa: E402
from robustbench_med.reports.style import new, save, styled  # noqa: E402

COLOURS = {"fine": "#DDEBF5", "doubtful": "#E69F00", "failed": "#B2182B"}
MARKS = {"fine": "", "doubtful": "doubtful", "failed": "failed"}


def main() -> None:
    signs_by_victim = {name: signs_of(victim, eps) for name, (victim, _, eps) in BROKEN.items()} | {
        name: signs_of(v) for name, v in HONEST.items()
    }
    signs = list(dict.fromkeys(sign for row in signs_by_victim.values() for sign in row))
    worst = np.full((len(signs_by_victim), len(signs)), np.nan)
    with styled():
        figure = new(11, 7.2)
        axis = figure.subplots()
        axis.grid(visible=False)
        for i, (name, row) in enumerate(signs_by_victim.items()):
            meant = BROKEN[name][1] if name in BROKEN else None
            for sign, one in row.items():
                j = signs.index(sign)
                worst[i, j] = ORDER.index(one.verdict)
                ink = "white" if one.verdict == "failed" else "black"
                axis.text(
                    j,
                    i,
                    MARKS[one.verdict],
                    ha="center",
                    va="center",
                    color=ink,
                    weight="bold" if sign == meant else "normal",
                )
                if sign == meant:
                    axis.add_patch(
                        Rectangle(
                            (j - 0.46, i - 0.46),
                            0.92,
                            0.92,
                            fill=False,
                            edgecolor="black",
                            linewidth=2.5,
                        )
                    )
        axis.imshow(
            worst, cmap=ListedColormap(list(COLOURS.values())), vmin=0, vmax=2, aspect="auto"
        )
        axis.set_xticks(range(len(signs)), signs, rotation=35, ha="right")
        axis.set_yticks(range(len(signs_by_victim)), signs_by_victim)
        axis.axhline(len(BROKEN) - 0.5, color="black")
        axis.set_title(
            "Verdict of every sign: broken defences above the line, honest victims below\nframed:"
            " the sign meant for it"
        )
        axis.spines[:].set_visible(False)
        save(figure, ROOT / "docs" / "figures" / "trust_panel.png")


if __name__ == "__main__":
    main()
