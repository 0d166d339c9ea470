"""The site's generated page: the command line, as `typer utils docs` tells it."""

import html
import os
import re
import subprocess
import sys

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGE = "reference/cli.md"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the page of the command line."""
    files.append(File.generated(config, PAGE, content=command_line()))
    return files


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
