"""Published claims against the store: reproduced, not reproduced, or not testable here, with what
was measured beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from robustbench_med.errors import UserError
from robustbench_med.formats import yaml_file
from robustbench_med.formats.files import door, text_of
from robustbench_med.naming import nature
from robustbench_med.paths import write_text
from robustbench_med.reports.comparison.metrics import no_robustness
from robustbench_med.reports.floors import judged_metric
from robustbench_med.reports.paper import escaped
from robustbench_med.reports.tables import COMPARABLE, csv, each
from robustbench_med.store.record import CONTROL

Verdict = Literal["reproduced", "not reproduced", "not testable here"]
UNDER_ATTACK = ("robust", "balanced_accuracy", "auc")
"""Figures that an attack belongs to."""
BALANCED = {"clean": "clean_balanced_accuracy", "robust": "balanced_accuracy"}
"""What stands for an accuracy where classes are imbalanced."""
BELOW = ", at or below the constant answer"
SHOWN = 3
"""Lines of evidence a claim shows; one about costs shows every other model."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Needs(_Strict):
    """What evidence must be to decide a claim; other evidence is shown, but decides nothing."""

    synthetic: bool | None = None
    preset: str | None = None
    min_n: int = Field(1, ge=1)
    data: list[str] | None = None


class _Claim(_Strict):
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    claim: str
    source: str
    confirmed_by: str
    model: str
    against: list[str] | None = None
    """Models it is compared with; every other one when left out."""
    needs: Needs = Needs(min_n=1)


class Gain(_Claim):
    """`model` beats another by `reported` (a share: 0.0934 is 9.34 points) somewhere.

    Accuracies are balanced ones where classes are imbalanced; what is no better under attack than
    the constant answer beats nothing.
    """

    kind: Literal["gain"]
    figure: Literal[
        "clean", "clean_balanced_accuracy", "clean_auc", "robust", "balanced_accuracy", "auc"
    ]
    """The last three under attack."""
    reported: float = Field(gt=0, lt=1)
    protocol: str | None = None


class Reduction(_Claim):
    """`model` costs less than another by `reported` (a share of the other's cost) somewhere."""

    kind: Literal["reduction"]
    figure: Literal["parameters", "gflops", "gmacs", "latency_ms", "peak_memory_mib"]
    reported: float = Field(gt=0, lt=1)


class Stands(_Claim):
    """At one attack and radius `model` keeps at least `reported`, and more than the constant
    answer, and the best of the others less than `others_below`: of balanced accuracy where classes
    are imbalanced.
    """

    kind: Literal["stands"]
    reported: float = Field(ge=0, le=1)
    others_below: float = Field(ge=0, le=1)
    protocol: str | None = None


Claim = Annotated[Gain | Reduction | Stands, Field(discriminator="kind")]


class Evidence(_Strict):
    """One comparison: `measured` as the claim counts, `holds` whether it meets it, `counts` whether
    it may decide it.
    """

    text: str
    measured: float
    holds: bool
    counts: bool


class Finding(_Strict):
    """What became of a claim; `evidence` the strongest first."""

    claim: Gain | Reduction | Stands
    verdict: Verdict
    reason: str
    evidence: tuple[Evidence, ...]


def load(path: Path | None = None) -> list[Gain | Reduction | Stands]:
    """Claims of a YAML file; those that come with medrobust when `path` is None. A file that breaks
    the format is a UserError.
    """
    name = str(path or "mail.yaml")
    with door("the claims in", name):
        source = files("robustbench_med.reports").joinpath("claims/mail.yaml")
        text = text_of(path) if path else source.read_text(encoding="utf-8")
    loaded = yaml_file.loads(text, "the claims in", name)
    try:
        found = TypeAdapter(list[Claim]).validate_python(loaded)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{name}: {where or 'a list of claims is expected'}: {first['msg']}; docs/claims.md"
            " shows the format"
        ) from error
    ids = [claim.id for claim in found]
    if len(set(ids)) < len(ids):
        raise UserError(f"{name}: the id {next(i for i in ids if ids.count(i) > 1)!r} occurs twice")
    return found


def judge(claim: Gain | Reduction | Stands, board: pd.DataFrame, costs: pd.DataFrame) -> Finding:
    """What the measured figures say about a claim.

    Args:
        board: the cells.
        costs: one row a model and size with `parameters`, `gflops`, ...: `victims` of the store and
            model_cost.csv together.
    """
    if isinstance(claim, Reduction):
        found = list(_reductions(claim, costs))
    else:
        found = list(_gains(claim, board) if isinstance(claim, Gain) else _stands(claim, board))
    found.sort(key=lambda e: (-e.counts, -e.holds, -e.measured, e.text))
    deciding = [evidence for evidence in found if evidence.counts]
    if any(evidence.holds for evidence in deciding):
        verdict, reason = (
            "reproduced",
            f"{sum(e.holds for e in deciding)} of {len(deciding)} comparisons meet it",
        )
    elif deciding:
        verdict, reason = "not reproduced", f"none of {len(deciding)} comparisons meets it"
    else:
        missing = (
            f"no comparison of {claim.model} with {' or '.join(claim.against or ['another model'])}"
            " was measured"
        )
        verdict, reason = (
            "not testable here",
            (
                missing
                if not found or isinstance(claim, Reduction)
                else f"{len(found)} comparisons, none of the kind it needs ({_needs(claim)})"
            ),
        )
    return Finding.model_validate(
        {
            "claim": claim,
            "verdict": verdict,
            "reason": reason,
            "evidence": tuple(found if isinstance(claim, Reduction) else found[:SHOWN]),
        }
    )


def _reductions(claim: Reduction, costs: pd.DataFrame) -> Iterator[Evidence]:
    if costs.empty or claim.figure not in costs:
        return
    for key, group in costs.dropna(subset=[claim.figure]).groupby(
        ["origin", "size", "preset"], dropna=False, sort=True
    ):
        decides = _others(claim, group.model)
        for ours in each(group[group.model == claim.model]):
            for theirs in each(group[group.model != claim.model]):
                a, b = getattr(ours, claim.figure), getattr(theirs, claim.figure)
                text = (
                    f"{claim.model} {a:.4g}, {theirs.model} {b:.4g} {claim.figure} at {key[1]} px"
                    f" ({key[0]})"
                )
                yield Evidence(
                    text=text,
                    measured=1 - a / b,
                    holds=1 - a / b >= claim.reported,
                    counts=decides[theirs.Index],
                )


def _gains(claim: Gain, board: pd.DataFrame) -> Iterator[Evidence]:
    rows = _of_protocol(claim, board)
    if rows.empty:
        return
    attacked = claim.figure in UNDER_ATTACK
    keys = COMPARABLE if attacked else ["data", "size", "n", "protocol"]
    for _, whole in rows.groupby(keys, sort=True):
        figure = _judged(claim.figure, whole)
        group = whole.dropna(subset=[figure]).drop_duplicates(["model", "checkpoint"])
        for _, ours in group[group.model == claim.model].iterrows():
            for _, theirs in group[_others(claim, group.model)].iterrows():
                gain = ours[figure] - theirs[figure]
                constant = attacked and _no_robustness(ours)
                text = (
                    f"{figure}: {_named(ours)} {ours[figure]:.3f}, {_named(theirs)}"
                    f" {theirs[figure]:.3f} on {_where(ours)}{BELOW if constant else ''}"
                )
                yield Evidence(
                    text=text,
                    measured=gain,
                    holds=bool(gain >= claim.reported) and not constant,
                    counts=_meets(claim.needs, ours, theirs),
                )


def _stands(claim: Stands, board: pd.DataFrame) -> Iterator[Evidence]:
    rows = _of_protocol(claim, board)
    if rows.empty:
        return
    for _, group in rows[rows.attack != CONTROL].groupby(COMPARABLE, sort=True):
        figure = _judged("robust", group)
        strongest = group.sort_values(figure, kind="stable")
        yield from _standing(claim, figure, strongest.drop_duplicates(["model", "checkpoint"]))


def _standing(claim: Stands, figure: str, group: pd.DataFrame) -> Iterator[Evidence]:
    """What stands under one attack and radius on the same samples."""
    others = group[_others(claim, group.model)]
    for _, ours in group[group.model == claim.model].iterrows():
        if others.empty:
            continue
        best: Any = others.sort_values(figure, kind="stable").iloc[-1]
        stands = ours[figure] >= claim.reported and best[figure] < claim.others_below
        constant = _no_robustness(ours)
        of = "" if figure == "robust" else f"{figure}: "
        text = (
            f"{of}{_named(ours)} {ours[figure]:.3f}, next {_named(best)} {best[figure]:.3f} under"
            f" {ours.attack} {ours.norm} {ours.eps} on {_where(ours)}, trust"
            f" {ours.trust or '-'}{BELOW if constant else ''}"
        )
        yield Evidence(
            text=text,
            measured=ours[figure],
            holds=bool(stands) and not constant,
            counts=_meets(claim.needs, ours, best) and ours.trust != "failed",
        )


def _judged(figure: str, rows: pd.DataFrame) -> str:
    """The figure that rows of the same samples are judged on instead of an accuracy."""
    imbalanced = "balanced_accuracy" in set(rows.floor.map(judged_metric))
    return BALANCED.get(figure, figure) if imbalanced else figure


def _no_robustness(row: Any) -> bool:
    return no_robustness(row.robust, row.balanced_accuracy, row.floor, row.auc)


def _named(row: Any) -> str:
    """A victim, with the mark of one that classifies worse than it could."""
    return str(row.model) + (" (under-trained)" if row.is_under_trained else "")


def _of_protocol(claim: Gain | Stands, board: pd.DataFrame) -> pd.DataFrame:
    return (
        board if claim.protocol is None or board.empty else board[board.protocol == claim.protocol]
    )


def _others(claim: _Claim, models: pd.Series) -> pd.Series:
    return models != claim.model if claim.against is None else models.isin(claim.against)


def _meets(needs: Needs, *rows: Any) -> bool:
    return all(
        (needs.synthetic is None or bool(row.synthetic) == needs.synthetic)
        and (needs.preset is None or row.preset == needs.preset)
        and row.n >= needs.min_n
        and (needs.data is None or row.data in needs.data)
        and not row.is_trivial
        and not (
            row.protocol == "sound" and row.is_naive
        )  # the release protocol's claims are about naive attacks
        for row in rows
    )


def _needs(claim: _Claim) -> str:
    needs = claim.needs
    parts = [
        (
            None
            if needs.synthetic is None
            else "synthetic images"
            if needs.synthetic
            else "patients' images"
        ),
        needs.preset and f"preset {needs.preset}",
        f"n >= {needs.min_n}" if needs.min_n > 1 else None,
        needs.data and f"data {' or '.join(needs.data)}",
        "victims better than chance",
    ]
    return ", ".join(part for part in parts if part)


def _where(row: Any) -> str:
    return (
        f"{row.data}{nature(row.data, synthetic=row.synthetic)}, {row['size']} px, protocol"
        f" {row.protocol}, n = {row.n}"
    )


def measured_costs(victims: pd.DataFrame, model_cost: Path) -> pd.DataFrame:
    """What models cost, out of the store's victims and, where it lies beside them, the file
    `medrobust cost --out` wrote.
    """
    parts = []
    if not victims.empty:
        parts.append(
            victims.rename(columns={"latency_cpu_ms": "latency_ms"}).assign(
                origin="records on " + victims.data
            )
        )
    if model_cost.is_file():
        parts.append(pd.read_csv(model_cost).assign(origin=model_cost.name, preset="-"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def save(findings: Sequence[Finding], out: Path) -> None:
    """Writes claims.csv and claims.md into a folder."""
    write_text(out / "claims.csv", csv(table(findings)))
    write_text(out / "claims.md", markdown(findings))


def table(findings: Sequence[Finding]) -> pd.DataFrame:
    """claims.csv: one row a claim."""
    return pd.DataFrame(
        [
            {
                "id": f.claim.id,
                "claim": f.claim.claim,
                "source": f.claim.source,
                "reported": f.claim.reported,
                "measured": f.evidence[0].measured if f.evidence else None,
                "verdict": f.verdict,
                "reason": f.reason,
                "evidence": " | ".join(e.text for e in f.evidence),
                "confirmed_by": f.claim.confirmed_by,
            }
            for f in findings
        ]
    )


def markdown(findings: Sequence[Finding]) -> str:
    """claims.md: what was claimed, what was measured, and the verdict."""
    lines = ["# Published claims, measured", ""]
    for f in findings:
        lines += [
            f"## {f.claim.id}: {f.verdict}",
            "",
            f"> {escaped(f'{f.claim.claim} ({f.claim.source})')}",
            "",
        ]
        by, reason = escaped(f.claim.confirmed_by), escaped(f.reason)
        lines += [f"Would be confirmed by {by}.", "", f"Found: {reason}.", ""]
        lines += [
            f"- {e.measured:.1%} against {f.claim.reported:.1%} reported:"
            f" {escaped(e.text)}{'' if e.counts else ' (decides nothing)'}"
            for e in f.evidence
        ]
        lines.append("")
    return "\n".join(lines)
