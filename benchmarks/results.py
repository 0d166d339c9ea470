"""The comparisons of docs/results.md: runs them, and writes the page from what they stored.

    python benchmarks/results.py --data-root ../shared/data --out OUT

A study is one or more `medrobust` commands into one folder. Finished trainings and cells are read,
so an interrupted run goes on. Give the studies' names to run some of them: only their sections of
the page are written again. On two CPU cores all of it takes some hours.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossed import crossed
from evidence import evidence
from studies import Study, studies

from robustbench_med.reports import certified, paper
from robustbench_med.reports.comparison.pairs import SIGNIFICANT
from robustbench_med.store.store import CERTIFICATES, Certificate, Record, Store

DOCS = Path(__file__).parents[1] / "docs"
FINISHED = ("compare.md", "certified.png", "claims.md", "figures")
"""What a study's last command leaves."""
START, END = "<!-- study: {} -->", "<!-- end of study -->"


def run(study: Study, folder: Path, data_root: str) -> None:
    """Runs the commands of a study into a folder."""
    for command in study.commands:
        print(f"medrobust {command}", flush=True)
        data = (
            ["--data-root", data_root, "--accept-unverified"] if "--data" in command.split() else []
        )
        where = [*data, "--out", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "robustbench_med.cli", *command.split(), *where],
            check=True,
        )


# --- the page -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What a section shows of its study: records, lines, the caption of its figure, a verdict."""

    records: list[Record]
    lines: list[str]
    caption: str
    verdict: str = ""


def section(name: str, study: Study, folder: Path) -> list[str]:
    """One study: its commands, what they cost, its tables, verdict and figures."""
    commands = [f"medrobust {command}" for command in study.commands]
    lines = [f"## {study.title}", "", study.text, "", "```bash", *commands, "```", ""]
    if study.figures:
        return [*lines, cost(Store(folder).records()), "", *drawn(name, study, folder)]
    if name == "claims":
        return [*lines, claims(folder)]
    if name == "certified":
        shown = certificates(name, folder)
    elif name.startswith("cross-"):
        caption = "Worst-case robust accuracy of every model with every defence"
        shown = Shown(Store(folder).records(), crossed(folder, name), caption)
    else:
        shown = compared(name, folder)
    return [
        *lines,
        cost(shown.records),
        "",
        *shown.lines,
        "",
        f"![{shown.caption}](figures/results-{name}.png)",
        "",
        shown.verdict,
        "",
    ]


def claims(folder: Path) -> str:
    """What `medrobust claims` wrote, one heading lower."""
    text = (folder / "claims.md").read_text(encoding="utf-8")
    return text.partition("\n\n")[2].strip().replace("## ", "### ")


def certificates(name: str, folder: Path) -> Shown:
    """Certified accuracy."""
    shutil.copy(folder / "certified.png", DOCS / "figures" / f"results-{name}.png")
    store = Store(folder, CERTIFICATES)
    frames = certified.frames(store)
    tables = certified.tables(frames["certified"], frames["certified_tasks"])
    lines = [paper.markdown(table) for table in tables]
    return Shown(store.records(), lines, "Certified accuracy against radius")


def compared(name: str, folder: Path) -> Shown:
    """The tables and the verdict of `medrobust compare`, its headings as bold lines."""
    shutil.copy(folder / "pareto.png", DOCS / "figures" / f"results-{name}.png")
    text = (folder / "compare.md").read_text(encoding="utf-8").partition("\n## ")[2]
    tables, _, rest = text.partition("\n## Verdict")
    lines = [
        f"**{line.removeprefix('## ')}**" if "|" not in line and line else line
        for line in tables.strip().splitlines()
    ]
    verdict = rest.partition("\nWorst case:")[0].strip()
    return Shown(Store(folder).records(), lines, "Robust against clean accuracy", verdict)


def drawn(name: str, study: Study, folder: Path) -> list[str]:
    """Figures of `medrobust report`, the first that fits each pattern, and one victim's
    examples.
    """
    lines = []
    for pattern, caption in study.figures:
        kept = f"results-{name}-{pattern.partition('-*')[0]}.png"
        shutil.copy(min((folder / "figures").glob(f"{pattern}.png")), DOCS / "figures" / kept)
        lines += [f"![{caption}](figures/{kept})", ""]
    shutil.copy(
        min((folder / "gallery").glob("*.png")), DOCS / "figures" / f"results-{name}-examples.png"
    )
    return [
        *lines,
        f"![Images before and after the attack](figures/results-{name}-examples.png)",
        "",
    ]


def cost(records: Sequence[Record | Certificate]) -> str:
    """What was measured and how long it took, from the records."""
    trained = {
        r.spec.victim.weights_sha256: r.victim.training for r in records if isinstance(r, Record)
    }
    training = sum(facts.seconds or 0 for facts in trained.values() if facts)
    work = sum(
        (r.cost.seconds if isinstance(r, Record) else r.environment.seconds) or 0 for r in records
    )
    seeds = ", ".join(map(str, sorted({r.spec.victim.train_seed for r in records})))
    took = [f"{training / 60:.0f} minutes of training {len(trained)} victims"] if trained else []
    took.append(f"{work / 60:.0f} minutes of {'attacks' if trained else 'certifying'}")
    devices = " and ".join(sorted({r.environment.device for r in records}))
    return f"{len(records)} cells, training seeds {seeds}: {' and '.join(took)}, on {devices}."


HEAD = f"""# Results

Real images, small networks, small images: these tables show what the attacks and defences do, and are no claim about full-size networks.
Everything here is written by

```bash
python benchmarks/results.py --data-root DATA --out OUT
```

out of the records of the commands shown, to which it adds `--data-root DATA --accept-unverified --out OUT/STUDY`. Images of 32 pixels (64
for Robust-MAIL), preset `quick`, radius 4/255 in both modalities, both tasks attacked at once; a figure is the mean accuracy of the two
tasks. `worst case` takes for every sample the attack that hurts most. Beyond doubt: McNemar's p after Holm's correction below
{SIGNIFICANT}, and a bootstrap interval clear of zero. [Columns](columns.md), [trust](trust.md).

**Read these with care.** Every study here, "how much of Robust-MAIL is real" among them, rests on victims of the short recipes of `quick` (200
to 1,500 steps), of which some hardly classify, and is judged on accuracy: a victim that falls back on the most frequent class looks robust by
that. [Training](training.md#recipes-that-make-classifiers) has the recipes that make classifiers of them; the studies are to be made anew
with those, and judged on balanced accuracy.
They also attacked random victims with the plain mean of their gradients, which had not converged and which `pgd` no longer uses
([stochastic victims](concepts/stochastic-victims.md#how-draws-are-combined)): the robust accuracy of random victims here is too high, and no
difference between a random victim and another may be quoted from this page until it is measured anew.
"""  # noqa: E501


def page(by_name: dict[str, Study], out: Path, written: str) -> tuple[str, list[str]]:
    """The page: sections of the studies in `out`, as `written` before where a study is not there;
    and the studies in neither.
    """
    parts, missing = [HEAD], []
    for name, study in by_name.items():
        start, folder = START.format(name), out / name
        if any((folder / file).exists() for file in FINISHED):
            lines = section(name, study, folder)
            if name == "robust-mail":
                lines += ["### How much of it is real?", "", *evidence(folder)]
            parts.append("\n".join([start, "", *lines]).rstrip() + f"\n\n{END}\n")
        elif start in written:
            parts.append(start + written.partition(start)[2].partition(END)[0] + END + "\n")
        else:
            missing.append(name)
    return "\n".join(parts), missing


def main() -> None:
    by_name = studies()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument(
        "study", nargs="*", help=f"Studies to run, of {', '.join(by_name)}; all by default."
    )
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in options.study or by_name:
        run(by_name[name], options.out / name, options.data_root)
    file = DOCS / "results.md"
    written = file.read_text(encoding="utf-8") if file.exists() else ""
    text, missing = page(by_name, options.out, written)
    file.write_text(text, encoding="utf-8")
    print(f"written: {file}" + (f"; no results yet of {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
