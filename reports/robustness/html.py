"""The robustness card as one HTML file, which holds its facts as data too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from typing import Any

import jinja2
from markupsafe import Markup

from robustbench_med.reports.robustness.pictures import Picture, encoded

DATA = re.compile(r'<script type="application/json" id="medrobust-card">(.*?)</script>', re.S)


def title(facts: Mapping[str, Any]) -> str:
    """What the page is called."""
    return f"Robustness card: {facts['victim']}, weights {facts['weights_sha256'][:12]}"


def groups(blocks: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Blocks that stand side by side, and by themselves."""
    found: list[list[Mapping[str, Any]]] = []
    for half, group in groupby(blocks, key=lambda block: bool(block.get("half"))):
        members = list(group)
        found += [members] if half else [[block] for block in members]
    return found


def render(facts: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """The page: the same text for the same facts and pictures."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("robustbench_med.reports") / "templates" / "robustness_card.html.j2"
    template = environment.from_string(source.read_text(encoding="utf-8"))
    packed = json.dumps(facts, sort_keys=True, allow_nan=False).replace("<", "\\u003c")
    return template.render(
        title=title(facts),
        facts=facts,
        groups=groups(facts["blocks"]),
        pictures=[{"png": encoded(one), "caption": one.caption} for one in pictures],
        packed=Markup(packed),
    )


def facts_of(text: str) -> Any:
    """The facts that a page holds; None where it holds none."""
    found = DATA.search(text)
    return None if found is None else json.loads(found[1])
