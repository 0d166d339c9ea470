"""A model of the user's own that can be evaluated but not attacked while BROKEN is set, and small
grids of it.
"""

from pathlib import Path

from support.own_victims import written

GRADIENT = """
import os, traceback
if os.environ.get("BROKEN") and any(x.requires_grad for x in m):
    if any(frame.name == "attack_pass" for frame in traceback.extract_stack()):
        raise RuntimeError("no gradient today")
return self.logits(*m)
"""
TINY = ["--size", 16, "--recipe", "steps=2", "--limit", 4]


def breakable(folder: Path, name: str = "breakable.py") -> str:
    """The model, as `--model` takes it."""
    return written(folder, GRADIENT, name=name)


def grid(models: str, out: Path, *more: object) -> list[object]:
    """Arguments of a run of fgsm and its noise control at two radii."""
    small = ["--model-param", "late.width=4"] if "late" in models else []
    return ["run", "--model", models, "--attack", "fgsm", "--eps", "1/255,4/255", *TINY, *small,
            "--out", out, *more]  # fmt: skip
