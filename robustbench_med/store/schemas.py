"""JSON schemas of what a store keeps: records, certificates, diagnoses, entries.

`python -m robustbench_med.store.schemas docs` writes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from robustbench_med.store.diagnosis import DIAGNOSES
from robustbench_med.store.entry import Entry
from robustbench_med.store.record import CERTIFICATES, RECORDS

SCHEMAS: dict[str, type[BaseModel]] = {
    **{kind.noun: kind.model for kind in (RECORDS, CERTIFICATES, DIAGNOSES)},
    "entry": Entry,
}


def json_schema(name: str = "record") -> str:
    """The JSON schema of a record, a certificate, a diagnosis or an entry."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SCHEMAS[name].model_json_schema(),
    }
    return json.dumps(schema | {"title": f"medrobust {name}"}, indent=1) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        Path(sys.argv[1], f"{name}.schema.json").write_text(json_schema(name), encoding="utf-8")
