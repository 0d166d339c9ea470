"""JSON schemas of run files, for editors.

`python -m robustbench_med.cli.run_file_schema docs/run-files` writes them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from robustbench_med.cli.run_files import keys, type_beside
from robustbench_med.cli.values import ASSIGNMENTS, kind_of
from robustbench_med.runs.options import COMMANDS, fields_of, option_of


def json_schema(command: str) -> str:
    """The JSON schema of a command's run files."""
    shapes = COMMANDS[command].model_json_schema()
    properties = {}
    for key, (field, turned_off) in keys(command).items():
        shape = _shape(command, field, shapes)
        if turned_off:
            shape = {"type": "boolean", "description": f"true: the same as {field}: false"}
        for spelled in dict.fromkeys((key, key.replace("_", "-"))):
            properties[spelled] = shape
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"run file of medrobust {command}",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": shapes.get("$defs", {}),
    }
    return json.dumps(schema, indent=1) + "\n"


def _shape(command: str, field: str, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one key's values."""
    known = fields_of(command)
    if field not in known:
        return TypeAdapter(type_beside(command, field)).json_schema()
    option, annotation = option_of(command, field), known[field].type
    kind = kind_of(annotation, option)
    shape: dict[str, Any] = dict(
        shapes["properties"].get(field) or TypeAdapter(annotation).json_schema()
    )
    for taken in ("title", "default", "description"):
        shape.pop(taken, None)
    if kind == ASSIGNMENTS:
        lines = {"type": "array", "items": {"type": "string"}}
        shape = {"anyOf": [shape, {"type": "string"}, lines]}
    elif "items" in shape:
        one = shape["items"]
        several = [shape, one] if one.get("type") == "string" else [shape, one, {"type": "string"}]
        if field == "eps":  # a number, or a mapping from modalities to radii
            radius = {"anyOf": [one, {"type": "number"}, {"type": "object"}]}
            several = [{"type": "array", "items": radius, "minItems": 1}, *radius["anyOf"]]
        shape = {"anyOf": several}
    elif kind is str and "enum" not in shape:
        shape = {"anyOf": [shape, {"type": "number"}]}
    shape["description"] = option.help
    default = known[field].default
    if default is not None and isinstance(default, str | int | float | bool | list | dict):
        shape["default"] = default
    return shape


if __name__ == "__main__":
    for command in COMMANDS:
        Path(sys.argv[1], f"{command}.schema.json").write_text(
            json_schema(command), encoding="utf-8"
        )
