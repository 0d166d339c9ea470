"""The examples of the documentation: `python -m support.examples FOLDER` writes them as the modules
of a package, for mypy.
"""

import inspect
import re
import sys
from pathlib import Path

import robustbench_med
from support.files import ROOT

HOW_TO = ("own-attack", "own-data", "own-defence", "own-loss", "own-report")
PAGES = ("python.md", *(f"how-to/{name}.md" for name in HOW_TO))
GIVEN = """from typing import Any

import torch
from torch import nn

from robustbench_med import *

torch.manual_seed(0)
model: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 2
x, y, patients = images, labels, list("aabbccdd")


def predict(image: Any) -> Any:
    with torch.no_grad():
        return model(torch.as_tensor(image)).argmax(1).numpy()


"""
"""What the examples of docstrings take for granted."""


def of_page(page: str) -> str:
    """The Python of a page of docs/, as one file."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    assert blocks, page
    return "\n".join(blocks)


def of_docstrings() -> dict[str, str]:
    """The examples of the public functions and classes, by name."""
    found = {}
    for name in robustbench_med.__all__:
        thing = getattr(robustbench_med, name)
        said = (inspect.getdoc(thing) or "") if callable(thing) else ""
        lines = re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", said, re.M)
        if lines:
            found[name] = "\n".join(lines)
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    for page in PAGES:
        (folder / f"{Path(page).stem.replace('-', '_')}.py").write_text(of_page(page))
    for name, text in of_docstrings().items():
        (folder / f"of_{name.lower()}.py").write_text(f"{GIVEN}{text}\n")
