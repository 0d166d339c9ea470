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

import numpy as np
import pandas as pd

from robustbench_med import statistics
from robustbench_med.reports import certified, curves, paper, plots, style
from robustbench_med.reports.comparison import entries
from robustbench_med.reports.comparison.pairs import SIGNIFICANT, frame
from robustbench_med.reports.comparison.rows import clusters
from robustbench_med.reports.comparison.write import judge
from robustbench_med.reports.tables import leaderboard, quotable, trivial_on
from robustbench_med.store.store import CERTIFICATES, Certificate, Record, Store

DOCS = Path(__file__).parents[1] / "docs"
FINISHED = ("compare.md", "certified.png", "claims.md", "figures")
"""What a study's last command leaves."""
START, END = "<!-- study: {} -->", "<!-- end of study -->"
MODELS = "early,late,gmu,mmtm,lmf,cross-attention"
QUICK = "none,rpf,pni,smoothing,input-noise,resize-pad,jpeg,median,bit-depth"
PAIRINGS = {"breast-chest": "breastmnist+pneumoniamnist", "brain-breast": "sartaj-mri+breastmnist"}
LEARNT = "sartaj-mri+pneumoniamnist"
"""Tasks that MAIL and its defences learn, so that it shows what they add; of breast lesions they
tell little more than chance.
"""
FAMILY = ("mail", "mail+rpf", "mail+man", "robust-mail")
DRAWS = (1, 8, 32)
QUERIES = 300


@dataclass(frozen=True)
class Study:
    """Commands into one folder; the first is the comparison whose table, verdict and figure are
    shown.
    """

    title: str
    text: str
    commands: tuple[str, ...]
    figures: tuple[tuple[str, str], ...] = ()
    """Of a study that ends in `medrobust report`: a pattern of a figure's name, and what it shows.
    """


def studies() -> dict[str, Study]:
    """Name (folder) of every study, in the order of the page."""
    found = {}
    for place, data in PAIRINGS.items():
        on = f"--limit 128 --data {data} --size 32"
        narrow = "--model-param width=8"
        found[f"models-{place}"] = Study(
            f"Fusion models, undefended, on {data}",
            "Six ways of fusing, encoders of width 8, trained three times each, for 200 steps.",
            (
                (
                    f"compare --model {MODELS} --defense none --attack pgd,autoattack"
                    f" --attack-param queries=300 --train-seed 0,1,2 --recipe steps=200 {narrow}"
                    f" {on}"
                ),
            ),
        )
        crossed = (
            f"--attack pgd --attack-param steps=20 --recipe steps=200 {narrow} --data {data}"
            " --size 32"
        )
        found[f"cross-{place}"] = Study(
            f"Models with every quick defence on {data}",
            "Six models with the eight defences that cost no adversarial training, trained three"
            " times each, for 200 steps.",
            (f"compare --model {MODELS} --defense {QUICK} --train-seed 0,1,2 {crossed}",),
        )
        found[f"defences-{place}"] = Study(
            f"Defences of late fusion on {data}",
            "Eight defences of one model, encoders of width 8, each attacked by the attack that"
            " fits it.",
            (
                (
                    "compare --model late --defense"
                    " none,pgd-at,trades,rpf,pni,smoothing,jpeg,median,bit-depth --attack"
                    f" fgsm,pgd,apgd --attack-param steps=20 {narrow} {on}"
                ),
            ),
        )
    on = f"--limit 64 --data {LEARNT} --folds 5 --fold 0 --size 64"
    found["robust-mail"] = Study(
        f"Robust-MAIL, taken apart, on {LEARNT}",
        "MAIL, random projection filters alone, modulated attention noise alone, and both. On one"
        " fold of a cross-validation, because the published test images of the MRI set are unlike"
        " its training images.",
        (
            (
                "compare --model mail --defense none,rpf,man,robust-mail --attack fgsm,pgd,square "
                f"--attack-param queries={QUERIES} --attack-param steps=10 {on}"
            ),
            *(
                f"run --model {','.join(FAMILY)} --attack pgd --attack-param eot={n} --attack-param"
                f" steps=10 {on}"
                for n in DRAWS
            ),
            (
                f"run --model {FAMILY[0]},{FAMILY[-1]} --attack pgd --attack-param eot={DRAWS[-1]}"
                f" --attack-param steps=40 {on}"
            ),
            f"run --model {','.join(FAMILY[1:])} --attack transfer --source mail {on}",
        ),
    )
    on = f"--limit 64 --data {PAIRINGS['breast-chest']} --size 32"
    found["certified"] = Study(
        f"Certified accuracy of smoothed late fusion on {PAIRINGS['breast-chest']}",
        "What no attack, known or unknown, can break: randomised smoothing, over both modalities"
        " and over one alone.",
        (f"certify --model late --sigma 0.12,0.25 --n 500 {on}",),
    )
    on = (
        f"--limit 128 --data {PAIRINGS['breast-chest']} --size 32 --model-param width=8 --recipe"
        " steps=200"
    )
    found["radii"] = Study(
        f"Radii, modalities, classes and smallest perturbations on {PAIRINGS['breast-chest']}",
        "Late fusion of width 8, undefended, smoothed with Gaussian noise, and with JPEG before it:"
        " what `medrobust report` draws.",
        (
            (
                "run --model late --defense none,smoothing,jpeg --attack fgsm,pgd --eps"
                f" 1/255,2/255,4/255,8/255 {on}"
            ),
            (
                "run --model late --defense none,smoothing --attack pgd --eps 2/255 --cross-modal"
                f" {on}"
            ),
            (
                "run --model early,late,gmu --attack cw,fab --norm L2 --eps 0.5,1 --attack-param"
                f" steps=20 {on}"
            ),
            "report",
        ),
        (
            ("robust-accuracy-*-Linf-*", "Robust accuracy against radius"),
            ("cross-modal-*", "Robust accuracy by attacked modality and task"),
            ("per-class-*-Linf-*", "Clean and robust accuracy of every class"),
            ("minimal-norm-*", "Robust accuracy against the size of the smallest perturbations"),
            ("convergence-*", "Attack loss by step"),
        ),
    )
    found["claims"] = Study(
        "The MAIL papers' claims",
        "Costs are measured exactly, networks of the published sizes at 128 pixels. Claims on"
        " accuracy need the authors' trainings.",
        (
            (
                "cost --preset release --size 128 --model"
                f" mail,robust-mail,drifa-net,{MODELS},unimodal"
            ),
            "claims",
        ),
    )
    return found


def run(study: Study, folder: Path, data_root: str) -> None:
    for command in study.commands:
        print(f"medrobust {command}", flush=True)
        data = (
            ["--data-root", data_root, "--accept-unverified"] if "--data" in command.split() else []
        )
        where = [*data, "--out", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "robustbench_med.cli.app", *command.split(), *where], check=True
        )


# --- the page -------------------------------------------------------------------------------------


def section(name: str, study: Study, folder: Path) -> list[str]:
    """One study: its commands, what they cost, its tables, verdict and figures."""
    lines = [
        f"## {study.title}",
        "",
        study.text,
        "",
        "```bash",
        *(f"medrobust {command}" for command in study.commands),
        "```",
        "",
    ]
    if study.figures:
        return [*lines, cost(Store(folder).records()), "", *drawn(name, study, folder)]
    if name == "claims":
        return [
            *lines,
            (folder / "claims.md")
            .read_text(encoding="utf-8")
            .partition("\n\n")[2]
            .strip()
            .replace("## ", "### "),
        ]
    certificates, cross = name == "certified", name.startswith("cross-")
    if not cross:
        shutil.copy(
            folder / ("certified.png" if certificates else "pareto.png"),
            DOCS / "figures" / f"results-{name}.png",
        )
    if certificates:
        found = certified.frames(Store(folder, CERTIFICATES))
        shown = [
            paper.markdown(table)
            for table in certified.tables(found["certified"], found["certified_tasks"])
        ]
        caption, verdict = "Certified accuracy against radius", ""
    elif cross:
        shown = crossed(folder, name)
        caption, verdict = "Worst-case robust accuracy of every model with every defence", ""
    else:
        tables, _, rest = (
            (folder / "compare.md")
            .read_text(encoding="utf-8")
            .partition("\n## ")[2]
            .partition("\n## Verdict")
        )
        shown = [
            f"**{line.removeprefix('## ')}**" if "|" not in line and line else line
            for line in tables.strip().splitlines()
        ]
        caption, verdict = (
            "Robust against clean accuracy",
            rest.partition("\nWorst case:")[0].strip(),
        )
    measured: Sequence[Record | Certificate] = Store(folder).records()
    if certificates:
        measured = Store(folder, CERTIFICATES).records()
    lines += [
        cost(measured),
        "",
        *shown,
        "",
        f"![{caption}](figures/results-{name}.png)",
        "",
        verdict,
        "",
    ]
    return lines


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


def evidence(folder: Path) -> list[str]:
    """How much of Robust-MAIL's robustness is real: the release protocol's figure beside those of
    sound attacks, and what remains.
    """
    store = Store(folder)
    records = store.records()
    columns: dict[str, tuple[str, str, dict[str, int]]] = {
        "release protocol": ("pgd", "release", {})
    }
    columns |= {f"pgd, 10 steps, EOT {n}": ("pgd", "sound", {"eot": n, "steps": 10}) for n in DRAWS}
    columns |= {
        f"pgd, 40 steps, EOT {DRAWS[-1]}": ("pgd", "sound", {"eot": DRAWS[-1], "steps": 40})
    }
    columns |= {
        "transfer from mail": ("transfer", "sound", {}),
        f"square, {QUERIES} queries": ("square", "sound", {}),
    }
    cells: dict[tuple[str, str], Record] = {}
    for record in records:
        attack, protocol = record.spec.attack, record.spec.protocol.name
        for name, (wanted, under, params) in columns.items():
            if (attack.name, protocol) == (wanted, under) and (
                params.items() <= attack.params.items()
            ):
                cells[record.spec.victim.model, name] = record
    lines = ["| victim | clean | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for model in FAMILY:
        clean = np.mean([cell.figures.clean for (of, _), cell in cells.items() if of == model])
        shown = [interval(cells.get((model, name))) for name in columns]
        lines.append(f"| {model} | {clean:.3f} | " + " | ".join(shown) + " |")
    lines.append("")

    def strongest(model: str, beside: str) -> Record:
        """Of the attacks that both were put to, and of transfer, which the source itself
        cannot be.
        """
        both = [
            c
            for c in columns
            if (model, c) in cells and ((beside, c) in cells or c == "transfer from mail")
        ]
        return min((cells[model, c] for c in both), key=lambda r: float(r.figures.robust))

    for model in FAMILY[1:]:
        apparent = advantage(
            store, cells[model, "release protocol"], cells["mail", "release protocol"]
        )
        worst, plain = strongest(model, "mail"), strongest("mail", model)
        real = advantage(store, worst, plain)
        share = 100 * max(real[0], 0) / apparent[0] if apparent[0] > 0 else None
        left = (
            "there was none to lose"
            if share is None
            else "all of it is left"
            if share > 100
            else f"{share:.0f} % of it is left"
        )
        sure = "" if real[1] > 0 else ", which may be chance"
        few, many = (cells[model, f"pgd, 10 steps, EOT {n}"].figures.robust for n in DRAWS[-2:])
        lines.append(
            f"- **{model}**: {points(apparent)} over mail under the release protocol;"
            f" {points(real)} under the strongest attack on each ({how(worst)} against it,"
            f" {how(plain)} against mail): {left}{sure}."
            + (
                f" It still falls from {DRAWS[-2]} to {DRAWS[-1]} draws: more may take more."
                if many < few - 0.01
                else ""
            )
            + "".join(f" Mind: it is {mark}." for mark in trivial_on([worst]))
        )
    attacks = leaderboard(
        [
            record
            for (_, name), record in cells.items()
            if name in {f"pgd, 10 steps, EOT {n}" for n in DRAWS}
        ]
    )
    with style.styled():
        figure = curves.eot(attacks, style.looks(FAMILY))
        assert figure is not None
        style.save(figure, DOCS / "figures" / "results-eot.png")
    return [*lines, "", "![Robust accuracy against EOT draws](figures/results-eot.png)", ""]


def how(record: Record) -> str:
    params = record.spec.attack.params
    if record.spec.protocol.name == "release":
        return "the release protocol's"
    return (
        f"{record.attack_label}, EOT {params['eot']}, {params['steps']} steps"
        if {"eot", "steps"} <= params.keys()
        else record.attack_label
    )


def advantage(store: Store[Record], a: Record, b: Record) -> tuple[float, float, float]:
    """Difference of two victims' robust accuracy on the same samples, in points, with a bootstrap
    interval over patients or images.
    """
    first, second = store.arrays(a), store.arrays(b)
    if not np.array_equal(first["ids"], second["ids"]):
        raise AssertionError("paired victims were measured on different samples")
    known = first["labels"] >= 0
    together = clusters(first)
    difference = (first["robust_right"] - second["robust_right"])[known]
    low, high = statistics.bootstrap_difference(difference, together[np.nonzero(known)[0]].tolist())
    return 100 * float(difference.mean()), 100 * low, 100 * high


def points(found: tuple[float, float, float]) -> str:
    return "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*found)


def interval(record: Record | None) -> str:
    if record is None:
        return "-"
    low, high = record.figures.robust_interval
    return f"{record.figures.robust:.3f} [{low:.3f}, {high:.3f}]"


def crossed(folder: Path, name: str) -> list[str]:
    """Models down, defences across: worst-case robust and clean accuracy; how often a defence beats
    none; draws the heat map.
    """
    compared = judge(entries.read(folder, Store(folder).records()).entries, folder)
    table, pairs = compared.table, frame(compared.pairs)
    models, defences = list(dict.fromkeys(table.model)), list(dict.fromkeys(table.defense))
    robust, clean = (
        table.pivot(index="model", columns="defense", values=v).loc[models, defences]
        for v in ("worst", "clean")
    )
    cells = {(row.model, row.defense): row for row in table.itertuples()}
    judged = {key: quotable(cell) for key, cell in cells.items()}
    first = table.iloc[0]
    setting = f"{first.data}, {first['size']} px, {first.norm} {first.eps}, n = {first.n}"
    shown_there = pd.DataFrame([[judged[m, d] for d in defences] for m in models], models, defences)
    with style.styled():
        title = f"worst-case robust accuracy (-: trivial, or the attack failed)\n{setting}"
        style.save(
            plots.matrix(robust.where(shown_there), title), DOCS / "figures" / f"results-{name}.png"
        )
    spread = (
        "" if first.trainings == 1 else f", ± standard deviation over {first.trainings} trainings"
    )
    lines = [f"**Worst-case robust accuracy (clean accuracy){spread}; {setting}**", ""]
    lines += ["| model | " + " | ".join(defences) + " |", "|---" * (len(defences) + 1) + "|"]
    for model in models:
        shown = []
        for defense in defences:
            cell = cells[model, defense]
            deviation = "" if pd.isna(cell.worst_std) else f" ± {cell.worst_std:.3f}"
            doubt = (
                " trivial"
                if cell.is_trivial
                else f" trust: {cell.trust}"
                if cell.trust != "pass"
                else ""
            )
            shown.append(f"{cell.worst:.3f}{deviation} ({cell.clean:.3f}){doubt}")
        lines.append(f"| {model} | " + " | ".join(shown) + " |")
    lines.append("")
    for defense in defences[1:]:
        beaten = pairs[
            (pairs.defense_a == "none")
            & (pairs.defense_b == defense)
            & (pairs.model_a == pairs.model_b)
        ]
        both = [judged[model, "none"] and judged[model, defense] for model in beaten.model_a]
        left = (
            f" ({len(both) - sum(both)} not judged: trivial, or their attack failed)"
            if not all(both)
            else ""
        )
        if not any(both):
            lines.append(
                f"- **{defense}**: trivial on every model, or attacks on it failed: not judged."
            )
            continue
        beaten, kept = beaten[both], list(beaten.model_a[both])
        there = table[(table.defense == defense) & table.model.isin(kept) & table.naive.notna()]
        ignored = (
            ""
            if there.empty
            else (
                f" Attacks that ignore it report {there.naive.min():.3f} to {there.naive.max():.3f}"
                f" robust, those that fit it {there.worst.min():.3f} to {there.worst.max():.3f}."
            )
        )
        gains, sure = -100 * beaten.difference, (beaten.p_holm < SIGNIFICANT) & (beaten.high < 0)
        cost, training = (
            100 * (clean[defense] - clean["none"])[kept],
            table[table.defense == defense].training_x.median(),
        )
        lines.append(
            f"- **{defense}** beats none beyond doubt on {sure.sum()} of {len(beaten)}"
            f" models{left}: {gains.min():+.1f} to {gains.max():+.1f} points robust,"
            f" {cost.min():+.1f} to {cost.max():+.1f} points clean, {training:.1f} x"
            f" training.{ignored}"
        )
    return lines


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
"""  # noqa: E501


def page(found: dict[str, Study], out: Path, written: str) -> tuple[str, list[str]]:
    """The page: sections of the studies in `out`, as `written` before where a study is not there;
    and the studies in neither.
    """
    parts, missing = [HEAD], []
    for name, study in found.items():
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
    found = studies()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument(
        "study", nargs="*", help=f"Studies to run, of {', '.join(found)}; all by default."
    )
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in options.study or found:
        run(found[name], options.out / name, options.data_root)
    file = DOCS / "results.md"
    text, missing = page(
        found, options.out, file.read_text(encoding="utf-8") if file.exists() else ""
    )
    file.write_text(text, encoding="utf-8")
    print(f"written: {file}" + (f"; no results yet of {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
