"""What a gate leaves for pipelines: JUnit XML and SARIF 2.1.0."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

from robustbench_med import __version__
from robustbench_med.formats.text import escaped
from robustbench_med.paths import write_text
from robustbench_med.reports.gate import FIGURES, Row, Verdict

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def junit(verdict: Verdict) -> str:
    """A test case a bound: one that fails is a failure, one without an answer an error."""
    answers = [row.answer for row in verdict.rows]
    counts = {
        "tests": str(len(answers)),
        "failures": str(answers.count("fails")),
        "errors": str(answers.count("no answer")),
    }
    root = ElementTree.Element("testsuites", {"name": "medrobust gate", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "medrobust gate", **counts})
    for row in verdict.rows:
        name = " ".join(filter(None, [row.bound, row.threat and f"under {row.threat}"]))
        where = " on ".join(filter(None, [row.victim, row.data])) or "medrobust"
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": escaped(where), "name": escaped(name)}
        )
        if row.answer != "holds":
            kind = "failure" if row.answer == "fails" else "error"
            found = ElementTree.SubElement(case, kind, {"message": escaped(said(row))})
            found.text = escaped(said(row))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def sarif(verdict: Verdict, records: Path) -> str:
    """A result a bound that does not hold; its place is the record that decided it.

    Args:
        records: the folder of records, as the paths of places begin.
    """
    results = [
        {
            "ruleId": row.bound.split()[0].partition("@")[0],
            "level": "error" if row.answer == "fails" else "warning",
            "message": {"text": said(row)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _place(row, records)},
                        "region": {"startLine": 1},
                    }
                }
            ],
        }
        for row in verdict.rows
        if row.answer != "holds"
    ]
    rules = [{"id": name, "shortDescription": {"text": name}} for name in FIGURES]
    rules.append({"id": "every", "shortDescription": {"text": "every cell was evaluated"}})
    driver = {"name": "medrobust", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def write(verdict: Verdict, out: Path, junit_at: Path | None, sarif_at: Path | None) -> list[Path]:
    """Writes both, beside the records where no other place is named; returns the paths."""
    paths = [junit_at or out / "gate.xml", sarif_at or out / "gate.sarif"]
    for path, text in zip(paths, (junit(verdict), sarif(verdict, out / "records")), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return paths


def said(row: Row) -> str:
    """A row in one sentence."""
    ends = "" if math.isnan(row.low) else f" [{row.low:.3f}, {row.high:.3f}]"
    value = "" if math.isnan(row.value) else f"{row.value:.3f}{ends}"
    where = " ".join(filter(None, [row.victim, row.data and f"on {row.data}", row.threat]))
    parts = [where, value, row.why]
    return f"{row.bound} {row.answer}: " + "; ".join(filter(None, parts))


def _place(row: Row, records: Path) -> str:
    folder = records.as_posix()
    return f"{folder}/{row.record[:16]}.json" if row.record else folder
