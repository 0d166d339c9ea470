"""Which of the four words each record gets, and why.

A record keeps what its own cell showed. Its word is computed on reading, over all rows of its
victim and threat: what one attack breaks, every weaker row is told of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from robustbench_med.naming import BLACK_BOX, CONTROL
from robustbench_med.statistics import tolerance_of
from robustbench_med.store.attacks import stands
from robustbench_med.store.paired import Left, Taken, lowest, taken
from robustbench_med.store.rows import search_made, victim_and_threat
from robustbench_med.store.words import NONE, WORDS, Reason, Trust, Word, with_reasons

if TYPE_CHECKING:
    from robustbench_med.store.attacks import Challenge, SearchRan, Sign
    from robustbench_med.store.diagnosis import Diagnosis
    from robustbench_med.store.record import Record

Arrays = Callable[["Record", Sequence[str]], Mapping[str, NDArray[Any]]]
"""Reads the named per-sample arrays of a record, those it has: `Store.arrays`."""
BLACK_BOXES = frozenset({"square", "sparse-rs", "hopskipjump", "boundary", "transfer"})
"""Attacks that ask for no gradient of the victim; all others but the control take it."""
ADAPTIVE = "--attack adaptive"
WITHOUT = "a run without --no-challenge"
OF_VICTIM = frozenset(
    {"trivial victim", "depends on its batch", "not of the image alone", "jumps", "success undone"}
)
"""Signs that speak of the victim, whatever attacks it; the others speak of gradients."""
OF_ATTACK = frozenset({"logit scale", "draws disagree"})
"""Signs of the loss and the draws that an attack was given: what they say of the attacks of
`diagnose` is none of one that was given others.
"""
ASKED_ALONE = "a black box: nobody followed its gradients, so that a stronger attack may be hidden"
"""Why a black box is never challenged."""
ALONE = "attacks alone, at a fixed budget"
NOT_YET = "attacks at fixed budgets, which have not converged together"
"""What `challenged` asks for beyond one family of attacks, and beyond both."""
UNBOUNDED = 0.05
"""Share of samples that may withstand a short attack at radius 1, where any image can be made any
other.
"""


def alone(record: Record) -> Trust:
    """What a record says by itself, where no other row was read."""
    return _own(record, [], stood=_search_stood(record)) if _gets_a_word(record) else NONE


def judged(
    records: Sequence[Record], arrays: Arrays, diagnoses: Sequence[Diagnosis] = ()
) -> dict[str, Trust]:
    """How far each record can be believed, by its hash.

    Args:
        records: all of a store.
        arrays: reads what became of their samples.
        diagnoses: all of the store.
    """
    rows: dict[str, list[Record]] = defaultdict(list)
    searches: dict[str, list[Record]] = defaultdict(list)
    findings: dict[str, list[Sign]] = defaultdict(list)
    for record in records:
        if record.spec.protocol.name == "sound" and not record.apart:
            rows[victim_and_threat(record.spec)].append(record)
            if record.figures.minimal_norm is not None and not record.stochastic:
                searches[victim_and_threat(record.spec, any_size=True)].append(record)
    for diagnosis in diagnoses:
        findings[victim_and_threat(diagnosis.spec)] += diagnosis.signs
    found = {record.hash: alone(record) if record.own_threat else NONE for record in records}
    for key, group in rows.items():
        elsewhere = searches[victim_and_threat(group[0].spec, any_size=True)]
        found |= Together(group, arrays, findings[key], others(elsewhere, group)).judged()
    return found


def others(searches: Sequence[Record], group: Sequence[Record]) -> list[Record]:
    """Those of the searches for the smallest perturbation that were made at another radius alone:
    all radii of a sweep share one.
    """
    made = {search_made(record) for record in group if record.figures.minimal_norm is not None}
    apart = {search_made(record): record for record in searches}
    return [record for key, record in apart.items() if key not in made]


class Together:
    """All rows of one victim under one threat.

    Args:
        records: at least one; rows whose outcomes lack what pairs them stand alone.
        diagnosed: signs of `diagnose` on the same victim under the same threat.
        searches: rows of the same deterministic victim at another radius whose attack sought the
            smallest perturbation, and found out about this radius too.
    """

    def __init__(
        self,
        records: Sequence[Record],
        arrays: Arrays,
        diagnosed: Sequence[Sign],
        searches: Sequence[Record] = (),
    ) -> None:
        self.records, self.diagnosed = records, diagnosed
        self.random = any(record.stochastic for record in records)
        self.comparisons = len(records) - 1 + sum(len(r.challenges) for r in records)
        self.left: dict[str, Left] = {}
        if len(records) > 1 or searches:
            outcomes = {record.hash: arrays(record, Left.NEEDED) for record in records}
            self.left = {
                record.hash: Left.of(record, outcomes[record.hash])
                for record in records
                if outcomes[record.hash].keys() >= set(Left.NEEDED)
            }
        self.searched = self.found_elsewhere(searches, arrays)
        self.lowest = {record.hash: self.worst_case(record) for record in records}

    def judged(self) -> dict[str, Trust]:
        """How far each can be believed, by its hash."""
        stood = self.stand()
        own = {
            record.hash: with_reasons(
                self.goes_on(_own(record, self.diagnosed, stood=record.hash in stood)),
                list(self.challenged_elsewhere(record)),
            )
            for record in self.records
            if _gets_a_word(record)
        }
        best = max(own.values(), key=lambda one: WORDS.index(one.word or "failed"), default=NONE)
        held = set[str]().union(*map(families, self.records))
        if len(held) > 1 and best.missing.endswith(ALONE):
            best = replace(best, missing=f"{' and '.join(sorted(held))} {NOT_YET}")
        found = {}
        for record in self.records:
            mine = own.get(record.hash, NONE)
            if mine.word is not None:
                mine = with_reasons(mine, list(self.beaten(record)))
            found[record.hash] = replace(mine, worst_case=self.lowest[record.hash], together=best)
        return found

    def goes_on(self, trust: Trust) -> Trust:
        """What would lift a figure where a search among these rows has been capped: going on."""
        further = max((s.next_passes or 0 for s in map(_search, self.records) if s), default=0)
        capped = further and trust.lift == ADAPTIVE
        return replace(trust, lift=f"{ADAPTIVE} --max-passes {further}") if capped else trust

    def found_elsewhere(
        self, searches: Sequence[Record], arrays: Arrays
    ) -> list[tuple[Record, Left]]:
        """What the searches leave at the radius of these rows."""
        found, needed = [], (*Left.NEEDED, *Left.SEARCHED)
        for record in () if self.random else searches:
            outcomes = arrays(record, needed)
            if outcomes.keys() >= set(needed):
                left = Left.searched(record, outcomes, max(self.records[0].spec.threat.radii))
                if left is not None:
                    found.append((record, left))
        return found

    def beaten(self, record: Record) -> Iterator[Reason]:
        """What other rows broke of what an attack left."""
        if record.hash not in self.left:
            return
        mine, comparisons = self.left[record.hash], self.comparisons
        for other in self.records:
            if other.hash != record.hash and other.hash in self.left:
                theirs = self.left[other.hash]
                lost = taken(mine, theirs, random=self.random, comparisons=comparisons)
                yield from _broke(other.attack_label, lost, mine.n, f", record {other.short[:8]},")
        for other, theirs in self.searched:
            lost = taken(mine, theirs, random=False, comparisons=comparisons)
            radius = f"{max(other.spec.threat.radii):.4g}"
            where = f", record {other.short[:8]} at radius {radius}, with smaller perturbations"
            yield from _broke(other.attack_label, lost, mine.n, where)

    def challenged_elsewhere(self, record: Record) -> Iterator[Reason]:
        """What challengers of other rows broke of what an attack left of a deterministic victim."""
        if self.random or record.hash not in self.left:
            return
        mine = self.left[record.hash]
        for other in self.records:
            for challenge in other.challenges if other.hash != record.hash else ():
                if challenge.radius is not None:
                    continue
                by = f"{challenge.challenger} (behind {other.attack_label})"
                yield from _broke(by, mine.lost(self.left_by(challenge, other)), mine.n)

    def left_by(self, challenge: Challenge, behind: Record) -> dict[str, float]:
        """The shares of tasks of the samples that a challenger broke which it left at most: of
        older records, which do not say, one task less than the attack that it challenged.
        """
        if challenge.left is not None:
            return dict(zip(challenge.broken, challenge.left, strict=True))
        if behind.hash not in self.left:
            return {}
        before, one = self.left[behind.hash].shares, 1 / len(behind.spec.threat.tasks)
        return {name: max(before[name] - one, 0.0) for name in challenge.broken if name in before}

    def stand(self) -> set[str]:
        """Hashes of the rows whose budget converged with gradients in every variant of the victim
        and a black box: by a search of their own, or as of two gradient attacks neither left more
        than the tolerance above the worst case of all rows, a black box among them.
        """
        stood = {record.hash for record in self.records if _search_stood(record)}
        fixed = [
            record
            for record in self.records
            if (record.hash in stood or not _search(record)) and not record.spec.attack.after
        ]  # what others left is near the worst case whatever an attack does to it
        near = [record for record in fixed if _gets_a_word(record) and self.is_near(record)]
        gradient = [record for record in near if "gradient" in families(record)]
        black = any(BLACK_BOX in families(record) for record in self.records)
        several = len({record.attack_label for record in gradient}) > 1
        if several and black and any(map(_softened, gradient)):
            stood |= {record.hash for record in near}
        return stood

    def is_near(self, record: Record) -> bool:
        """Whether no sign fails it, and all other rows together take no more than the tolerance of
        what it left.
        """
        fails = any(sign.verdict == "failed" for sign in record.diagnostics)
        above = record.figures.robust - self.lowest[record.hash]
        return not fails and above <= tolerance_of(record.spec.data.n) + 1e-9

    def worst_case(self, record: Record) -> float:
        """Robust accuracy on a record's samples under the worst of all rows, challengers of its own
        among them where the victim is deterministic.
        """
        found = record.figures.robust
        if record.hash in self.left:
            rows = [*self.left.values(), *(left for _, left in self.searched)]
            found = lowest(self.left[record.hash], rows, random=self.random)
        if not self.random:
            found = min([found, *(record.figures.robust - c.taken for c in record.challenges)])
        return max(found, 0.0)


def families(record: Record) -> set[str]:
    """Families of the attacks that a record holds: "gradient", "black box"."""
    return {BLACK_BOX if name in BLACK_BOXES else "gradient" for name in attack_names(record)}


def attack_names(record: Record) -> set[str]:
    """The attacks that a record holds: those of its search, the members of an ensemble, or it."""
    ran = record.attack_ran
    if ran is not None and ran.search is not None:
        names = [one.attack for one in ran.search.rounds]
    elif ran is not None and ran.members is not None:
        names = [member.attack for member in ran.members]
    else:
        names = [record.spec.attack.name]
    return set(names) - {CONTROL}


# --- one row --------------------------------------------------------------------------------------


def _own(record: Record, diagnosed: Sequence[Sign], *, stood: bool) -> Trust:
    """A record by what its cell and the diagnoses of its victim showed; `stood`: its budget
    converged, with gradients and a black box.
    """
    reasons = [
        *_of_signs([sign for sign in record.diagnostics if not _answered(sign, record)]),
        *_of_signs([sign for sign in diagnosed if _concerns(sign, record)], "diagnose, "),
        *(reason for challenge in record.challenges for reason in _challenged(challenge, record)),
    ]
    if reasons:
        return with_reasons(Trust("challenged"), reasons)
    if record.spec.victim.access is not None:
        return Trust("unchallenged", (), ASKED_ALONE, "")
    if record.figures.robust == 0:
        return Trust("challenged", missing="nothing is left that another attack could break")
    missing, lifts = _missing(record, stood=stood)
    return Trust("unchallenged" if missing else "challenged", (), missing, lifts)


def _missing(record: Record, *, stood: bool) -> tuple[str, str]:
    """What `challenged` asks for and a record lacks, and what would lift it; both empty where it
    lacks nothing.
    """
    search = _search(record)
    if record.own_threat:
        return "a threat of its own, which nothing challenges", ""
    if record.spec.threat.target is not None:
        return "a targeted attack, which nothing challenges", ""
    if not stood and search is not None and search.next_passes is not None:
        return "its search was capped", f"--max-passes {search.next_passes}"
    if not stood and len(families(record)) < 2:
        return f"{' and '.join(families(record))} {ALONE}", ADAPTIVE
    if not stood:
        return "its budget has not converged", ADAPTIVE
    if not record.challenges:
        left_out = record.spec.protocol.challenge is False
        return "no challenger tried what it left", WITHOUT if left_out else "--force"
    return "", ""


def _concerns(sign: Sign, record: Record) -> bool:
    """Whether what `diagnose` found out with attacks along gradients says something of a record.

    A black box follows no gradient. An attack whose own look at the same thing found it fine does
    not meet it (the logits' scale is no matter to a margin). A search that converged with a black
    box in it did what such doubts advise; not even that answers a diagnosis that fails.
    """
    if sign.sign in OF_VICTIM:
        return True
    if "gradient" not in families(record):
        return False
    fine = {own.sign for own in record.diagnostics if own.verdict == "fine"}
    if sign.verdict == "doubtful" and sign.sign in fine & OF_ATTACK:
        return False
    return sign.verdict == "failed" or not _search_stood(record)


def _answered(sign: Sign, record: Record) -> bool:
    """Whether a search that stood did what a doubt about gradients advises: where the victim offers
    softer ones, through the step that its own leave out, and with a black box.
    """
    doubt = sign.verdict == "doubtful" and sign.sign == "gradient against differences"
    return doubt and bool(record.soft_gradients) and _softened(record) and _search_stood(record)


def _of_signs(signs: Sequence[Sign], where: str = "") -> Iterator[Reason]:
    """What signs say against a figure; those that are fine say nothing."""
    for sign in signs:
        if sign.verdict != "fine":
            name = f"{where}{sign.sign}"
            yield Reason(sign.verdict, name, f"{name}: {sign.text}")


def _challenged(challenge: Challenge, record: Record) -> Iterator[Reason]:
    if challenge.radius is not None:
        left = challenge.n - len(challenge.broken)
        if left > max(1.0, UNBOUNDED * challenge.n):
            text = f"{challenge.challenger} leaves {left} of {challenge.n} samples"
            yield Reason("doubtful", challenge.challenger, f"{text}: the attack is what stops it")
        return
    lost = Taken(challenge.taken, challenge.bound, tuple(challenge.broken))
    yield from _broke(challenge.challenger, lost, record.spec.data.n)


def _broke(by: str, lost: Taken, n: int, where: str = "") -> Iterator[Reason]:
    """A reason where more than the tolerance was taken, and more than luck explains."""
    if lost.taken <= tolerance_of(n) + 1e-9 or lost.bound <= 0:
        return
    word: Word = "failed" if lost.bound > tolerance_of(n) + 1e-9 else "doubtful"
    samples = f"{len(lost.broken)} sample{'s' if len(lost.broken) != 1 else ''}"
    text = f"{by}{where} broke {samples} that it left, {100 * lost.taken:.1f} points"
    yield Reason(word, by, text, lost.broken)


def _gets_a_word(record: Record) -> bool:
    """Whether an attack was run, by a protocol that makes the most of it."""
    spec = record.spec
    attacked = spec.attack.name != CONTROL and max(spec.threat.radii) > 0
    if record.corruption:
        return False
    return attacked and spec.protocol.name == "sound"


def _softened(record: Record) -> bool:
    """Whether gradients were taken in every variant that the victim offers, by the attack or by a
    round of its search.
    """
    if record.soft_gradients is False:
        return True
    search = _search(record)
    given = [one.parameters for one in search.rounds] if search else [record.spec.attack.params]
    softened = any(one.get("soft") or one.get("restarts", 1) > 1 for one in given)
    return bool(record.soft_gradients) and softened


def _search(record: Record) -> SearchRan | None:
    return record.attack_ran.search if record.attack_ran else None


def _search_stood(record: Record) -> bool:
    """Whether a record's search went on until the answer stood, with a black box among its rounds
    (kinds that the victim calls for are a search's own concern).
    """
    search = _search(record)
    if search is None or families(record) != {"gradient", BLACK_BOX}:
        return False
    return search.outcome == "converged" or (
        search.outcome == "spent" and stands(search.rounds, search.tolerance)
    )
