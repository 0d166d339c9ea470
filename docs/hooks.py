"""The site's generated pages: the command line, as `typer utils docs` tells it, and the
tutorials, which are notebooks.
"""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGE = "reference/cli.md"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the page of the command line, and a page a notebook."""
    files.append(File.generated(config, PAGE, content=command_line()))
    for path in sorted(Path(config.docs_dir, "tutorials").glob("*.ipynb")):
        page = f"tutorials/{path.stem}.md"
        files.append(File.generated(config, page, content=notebook(path)))
    return files


def notebook(path: Path) -> str:
    """A notebook in Markdown, with the outputs that it was kept with."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [shown for output in cell["outputs"] if (shown := _shown(output))]
    return "\n\n".join(parts) + "\n"


def _shown(output: Mapping[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:
        return "".join(data["text/html"])
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


def command_line() -> str:
    """Every command with its options, in Markdown."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "robustbench_med.cli.program",
        "utils",
        "docs",
        "--name",
        "medrobust",
        "--title",
        "Command line",
    ]
    environment = {**os.environ, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "400"}
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    text = re.sub(
        r"^  (medrobust .+)$",
        lambda example: f"```sh\n{html.unescape(example[1])}\n```",
        text,
        flags=re.M,
    )
    sections = dict(re.findall(r"^#+ `(medrobust .+)`\n\n(.+)$", text, re.M))
    group = "medrobust"

    def listed(line: re.Match[str]) -> str:
        nonlocal group
        if line["heading"]:
            group = line["heading"]
            return line[0]
        name = f"{group} {line['command']}"
        return (
            f"* [`{line['command']}`](#{name.replace(' ', '-')}): {sections[name]}"
            if name in sections
            else line[0]
        )

    return re.sub(
        r"^#+ `(?P<heading>medrobust .+)`$|^\* `(?P<command>[a-z][a-z-]*)`: .*$",
        listed,
        text,
        flags=re.M,
    )
