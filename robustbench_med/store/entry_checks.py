"""What keeps an entry off a leaderboard, as far as it shows by itself."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med.store.benchmark import benchmarks
from robustbench_med.store.entry import Entry, ThreatResult

LINKS = ("https://", "http://")


def faults(entry: Entry) -> list[str]:
    """Sentences, one a fault; empty where an entry is whole."""
    found = [*_victim(entry), *_data(entry)]
    for threat in entry.threats:
        where = f"{threat.norm_label} {threat.eps}, {threat.target}"
        found += [f"{where}: {fault}" for fault in _threat(threat, noted=bool(entry.about.note))]
    return found


def _victim(entry: Entry) -> Iterator[str]:
    for weights in entry.victim.weights:
        url = weights.url or entry.about.urls.get(weights.sha256[:12])
        if weights.train_seed is None and url is None:
            yield (
                f"weights {weights.sha256[:12]} were trained elsewhere: say where they are"
                f" (`urls: {{{weights.sha256[:12]}: https://...}}` of --about)"
            )
        if url is not None and not url.startswith("https://"):
            yield f"the weights' address {url!r} should begin with https://"
    papers = [("paper", entry.about.paper), ("defense_paper", entry.about.defense_paper)]
    for name, paper in papers:
        if paper is not None and not paper.link.startswith(LINKS):
            yield f"{name}: the link {paper.link!r} should begin with https://"


def _data(entry: Entry) -> Iterator[str]:
    data = entry.data
    for benchmark in benchmarks().values():
        known = benchmark.data.manifest
        if known is not None and (data.name, data.folds_of) == (benchmark.data.name, None):
            if data.synthetic != benchmark.synthetic:
                yield f"{data.name} is {'' if benchmark.synthetic else 'not '}synthetic"
            if data.manifests != [known]:
                yield f"its manifest is not that of {data.name}: {known[:12]} is"
    if len(data.manifests) != data.folds or len(data.samples) != data.folds:
        yield "every fold has a manifest and samples"


def _threat(threat: ThreatResult, *, noted: bool) -> Iterator[str]:
    worst, attacks = threat.worst, {attack.label: attack for attack in threat.attacks}
    if threat.naive:
        yield (
            "its attacks ignore the defence or the victim's randomness; run it again with"
            " --protocol sound"
        )
    if threat.protocol != "sound":
        yield f"the protocol {threat.protocol} gives no rank; run it with --protocol sound"
    if threat.trust == "failed" and not noted:
        yield f"its trust failed ({threat.why}); explain it in `note` of --about"
    lowest = min(attack.robust for attack in threat.attacks)
    if worst.worst > lowest + 1e-9:
        yield f"the worst case {worst.worst:.4f} lies above an attack's {lowest:.4f}"
    if threat.decided_by not in attacks or attacks[threat.decided_by].robust > lowest:
        yield f"{threat.decided_by} did not decide it"
    intervals = [
        (worst.worst, [worst.worst_low, worst.worst_high]),
        (threat.clean, threat.clean_interval),
        *((attack.robust, attack.robust_interval) for attack in threat.attacks),
    ]
    if any(not low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in intervals):
        yield "a figure lies outside its interval"
    if any(task >= len(threat.by_task) or task < 0 for task in threat.tasks):
        yield "it aims at a task that it does not have"
