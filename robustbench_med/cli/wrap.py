"""`medrobust wrap`: the first draft of a wrapper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_med.runs.options import WHAT, WHERE

What = Annotated[
    str,
    typer.Argument(
        help="their_net.py:function_or_class (it runs), net.ts (TorchScript), program.pt2"
        " (torch.export), a folder of Hugging Face, net.onnx.",
        rich_help_panel=WHAT,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write it there, else show it.", rich_help_panel=WHERE),
]


def wrap(what: What, out: Out = None) -> None:
    """Looks at a network of yours and writes a wrapper for --model: where normalisation goes, which
    head is which task, the size that it wants; TODO stands where nothing shows. Of an ONNX file a
    contract.

    [bold]Example[/]: medrobust wrap their_net.py:create_model --out wrapper.py
    """
    from robustbench_med.paths import write_text
    from robustbench_med.runs.wrapping import wrapper_of

    text = wrapper_of(what)
    if out is None:
        typer.echo(text)
        return
    write_text(out, text + "\n")
    typer.echo(f"{out}: medrobust run --model {out}:build --no-train --attack pgd")
