"""All attacked images of a cell, kept where the job asks for them."""

from __future__ import annotations

from collections.abc import Callable

from robustbench_med.attacks import View
from robustbench_med.evaluation.types import Outcome
from robustbench_med.runs.identity import Inputs
from robustbench_med.runs.session import Session
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store import adversarials


def keep(inputs: Inputs, session: Session[RunSpec], outcome: Outcome) -> None:
    """Writes the images of every sample, those that were not attacked as they are."""
    how, samples = session.job.keep, inputs.samples
    if how == "examples":
        return
    view = View(inputs.victim.module, inputs.dataset.shapes)
    flat = view.pack(samples.batch(range(len(samples))))
    for row, moved in outcome.adversarials.items():
        flat[row] = moved
    images = [part.numpy() for part in view.unpack(flat)]
    by_name = dict(zip(inputs.dataset.modalities, images, strict=True))
    rows = sorted(outcome.adversarials)
    adversarials.keep(session.out, inputs.hash, by_name, samples.ids, rows, how)


def keep_anew(inputs: Inputs, session: Session[RunSpec], attacked: Callable[[], Outcome]) -> None:
    """The same of a record that is there, which is attacked again where its images are not."""
    how = session.job.keep
    if how != "examples" and not adversarials.is_kept(session.out, inputs.hash, how):
        keep(inputs, session, attacked())
