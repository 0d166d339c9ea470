"""The four words of trust, on made-up rows of one victim: what earns each, and who is told of
what.
"""

import numpy as np
import pytest
from support.records import changed
from support.trust_rows import CHALLENGE, N, adaptive, diagnosed, read, right, row, sign

from robustbench_med.attacks import ENGINES
from robustbench_med.reports import tables
from robustbench_med.store import trust, words


def test_the_words_are_said_worst_first_and_their_families_are_attacks_there_are() -> None:
    assert words.WORDS == ("failed", "doubtful", "unchallenged", "challenged")
    names = {name for table in ENGINES.values() for name in table}
    assert names >= trust.BLACK_BOXES | {trust.CONTROL, "adaptive"}


# --- rows read together ---------------------------------------------------------------------------


def test_a_weak_row_beside_a_strong_one_has_failed_and_names_attack_and_samples() -> None:
    weak, strong = row("pgd", 0.5), row("autoattack", 0.46)
    weaker, stronger = read(weak, strong)
    assert (weaker.word, stronger.word) == ("failed", "unchallenged")
    assert weaker.reasons[0].broken == ("s46", "s47", "s48", "s49")
    assert weaker.because == (
        f"autoattack, record {strong.short[:8]}, broke 4 samples that it left, 4.0 points"
        " (s46, s47, s48 and 1 more)"
    )
    assert (weaker.worst_case, stronger.worst_case) == (pytest.approx(0.46), pytest.approx(0.46))


@pytest.mark.parametrize(("n", "broken", "word"), [(200, 2, False), (200, 3, True), (50, 1, False), (50, 2, True)])  # fmt: skip
def test_a_point_or_one_sample_of_few_is_no_failure(n, broken, word) -> None:
    weak = row("pgd", 0.5, n=n)
    strong = row("autoattack", 0.5 - broken / n, n=n)
    assert (read(weak, strong)[0].word == "failed") is word


def test_two_attacks_that_break_different_samples_have_both_failed_and_the_worst_case_is_both() -> (
    None
):
    first, last = np.arange(N) < 50, np.arange(N) >= 50
    one, other = read((row("pgd"), first), (row("apgd"), last))
    assert (one.word, other.word) == ("failed", "failed")
    assert one.worst_case == other.worst_case == 0
    assert one.together.word == "unchallenged"


def test_rows_of_other_samples_are_paired_by_their_ids() -> None:
    few, many = row("autoattack", 0.3, n=50), row("pgd", 0.5)  # of the first 50 samples 15 are left
    told, whole = read(many, few)[0], read(few, many)[0]
    assert len(told.reasons[0].broken) == 35
    assert told.worst_case == pytest.approx(0.15)
    assert whole.word == "unchallenged"


def test_a_search_at_another_radius_tells_what_it_found_below_this_one() -> None:
    """Samples 40 to 49 fall to perturbations half as large as the radius at which pgd left them."""
    near, far = row("pgd", 0.5, eps=0.1), row("cw", 0.7, eps=0.05)
    sizes = np.where(np.arange(N) < 40, 1.0, 0.06)
    judged = with_search([near], far, sizes)[near.hash]
    assert judged.word == "failed"
    assert judged.reasons[0].broken == tuple(f"s{i}" for i in range(40, 50))
    assert f"cw, record {far.short[:8]} at radius 0.05, with smaller" in judged.because
    assert judged.worst_case == pytest.approx(0.4)
    out_of_reach = with_search([near], far, np.full(N, 0.11))[near.hash]
    assert (out_of_reach.word, out_of_reach.worst_case) == ("unchallenged", pytest.approx(0.5))
    of_l2 = row("cw", 0.7, eps=0.05, norm="L2")
    assert with_search([near], of_l2, sizes)[near.hash].word == "unchallenged"
    shaken = row("cw", 0.7, eps=0.05, random=True)
    assert with_search([near], shaken, sizes)[near.hash].word == "unchallenged"


def test_radii_of_a_sweep_share_one_search_that_tells_nothing_twice() -> None:
    """The row of the search at this radius has said it; another seed's search has not."""
    here, there = searched("cw", 0.4, eps=0.1), row("cw", 0.7, eps=0.05)
    sizes = np.where(np.arange(N) < 40, 1.0, 0.06)
    weak = row("pgd", 0.5, eps=0.1)
    assert len(with_search([weak, here], there, sizes)[weak.hash].reasons) == 1
    again = row("cw", 0.7, eps=0.05, seed=1)
    assert len(with_search([weak, here], again, sizes)[weak.hash].reasons) == 2


MINIMAL = {"median": 0.5, "curve": [[0.0, 0.9]]}


def searched(attack, robust, **more):
    """A row of a search for the smallest perturbation."""
    return changed(row(attack, robust, **more), figures__minimal_norm=MINIMAL)


def with_search(rows, search, sizes):
    """The trust of rows, by their hashes, beside a search that found these sizes."""
    search = changed(search, figures__minimal_norm=MINIMAL)
    arrays = {made.hash: right(made) for made in (*rows, search)}
    arrays[search.hash]["minimal_size"] = sizes[:, None].astype(np.float32)
    return trust.judged([*rows, search], lambda made, names: arrays[made.hash])


def test_other_victims_threats_and_protocols_are_not_told() -> None:
    weak = row("pgd", 0.5)
    others = [
        row("autoattack", 0.1, model="late"),
        row("autoattack", 0.1, train_seed=1),
        row("autoattack", 0.1, eps=8 / 255),
        row("autoattack", 0.1, norm="L2"),
        row("autoattack", 0.1, tasks=(1,)),
        row("autoattack", 0.1, size=32),
        row("pgd", 0.1, protocol="release"),
    ]
    assert read(weak, *others)[0].word == "unchallenged"


def test_an_attack_unaware_of_a_defence_is_told_of_one_that_knows_it() -> None:
    weights = {"weights_sha256": "e" * 64}
    unaware = row("pgd", 0.9, model="late+jpeg (unaware attack)", victim=weights)
    aware = row("pgd", 0.4, model="late+jpeg", victim=weights)
    assert [found.word for found in read(unaware, aware)] == ["failed", "unchallenged"]


def test_noise_gets_no_word_and_tells_the_attack_that_does_less() -> None:
    attack, noise = read(row("pgd", 0.5), row("noise", 0.4))
    assert (noise.word, noise.because) == (None, "")
    assert attack.word == "failed"
    assert attack.reasons[0].by.startswith("noise")


def test_radius_0_is_no_attack_and_gets_no_word() -> None:
    assert read(row("pgd", eps=0.0))[0].word is None


def test_a_release_row_gets_no_word_and_no_worst_case() -> None:
    (released,) = read(row("pgd", 0.5, protocol="release"))
    assert (released.word, released.worst_case, released.because) == (None, None, "")
    board = tables.cells([row("pgd", protocol="release"), row("noise")])
    assert board.trust.tolist() == ["", ""]


# --- random victims -------------------------------------------------------------------------------


def drawn(share: np.ndarray, seed: int, draws: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).binomial(draws, share) / draws


def test_luck_on_a_random_victim_is_no_failure() -> None:
    """Seven rows of attacks that are all alike, 200 times: the corrected bound errs in a few of a
    thousand.
    """
    share, words = np.full(N, 0.5), []
    for repeat in range(200):
        rows = [
            (row("pgd", 0.5, random=True, seed=s), drawn(share, 7 * repeat + s)) for s in range(7)
        ]
        words += [found.word for found in read(*rows)]
    assert words.count("failed") == 0
    assert words.count("doubtful") <= 14 * 2


def test_a_random_victims_weak_row_fails_where_more_than_luck_lies_between() -> None:
    share = np.full(N, 0.5)
    weak = row("pgd", 0.5, random=True), drawn(share, 0)
    strong = row("apgd", 0.3, random=True), drawn(share - 0.2, 1)
    weaker, stronger = read(weak, strong)
    assert (weaker.word, stronger.word) == ("failed", "unchallenged")
    assert weaker.reasons[0].by.startswith("apgd")
    assert weaker.worst_case == pytest.approx(strong[1].mean())


def test_draws_that_a_chunk_shares_prove_less() -> None:
    """20 points between two attacks of a victim whose 100 samples share 4 draws are luck."""
    protocol = {"protocol": "sound"}
    share = np.full(N, 0.5)
    alone, chunked = [], []
    for chunk, found in ((None, alone), (100, chunked)):
        rows = []
        for attack, p, seed in (("pgd", share, 0), ("apgd", share - 0.2, 1)):
            made = changed(row(attack, 0.5, random=True, **protocol), draws=4)
            if chunk:
                made = changed(made, spec__protocol__chunk=chunk)
            rows.append((made, drawn(p, seed, 4)))
        found += [one.word for one in read(*rows)]
    assert alone[0] == "failed"
    assert chunked[0] == "unchallenged"


# --- signs, diagnoses, challengers ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "word"), [("fine", "challenged"), ("doubtful", "doubtful"), ("failed", "failed")]
)
def test_a_sign_is_as_bad_as_its_verdict(verdict, word) -> None:
    made = changed(adaptive(), diagnostics=[sign(verdict)])
    found = read(made)[0]
    assert found.word == word == made.trust.word
    assert found.because == ("" if word == "challenged" else "zero gradient: half are 0")


def test_a_diagnosis_that_is_worse_than_the_row_holds() -> None:
    made = row("pgd")
    doubtful, failing = (
        read(made, diagnoses=[diagnosed(made, sign(verdict))])[0]
        for verdict in ("doubtful", "failed")
    )
    assert (doubtful.word, failing.word) == ("doubtful", "failed")
    assert failing.because == "diagnose, zero gradient: half are 0"
    other = diagnosed(row("pgd", eps=8 / 255), sign("failed"))
    assert read(made, diagnoses=[other])[0].word == "unchallenged"
    few = diagnosed(row("pgd", n=20), sign("failed"))  # it looks at a few dozen
    assert read(made, diagnoses=[few])[0].word == "failed"


def test_a_black_box_is_not_blamed_for_gradients_and_a_converged_search_not_doubted_for_a_short_pgd() -> (
    None
):
    def under(made, *signs):
        return read(made, diagnoses=[diagnosed(made, *signs)])[0].word

    assert under(row("square"), sign("failed")) == "unchallenged"
    assert under(row("square"), sign("failed", "trivial victim")) == "failed"
    assert under(adaptive(), sign("doubtful", "not converged")) == "challenged"
    assert under(adaptive("capped"), sign("doubtful", "not converged")) == "doubtful"
    assert under(adaptive(), sign("failed")) == "failed"


def test_a_doubt_about_loss_or_draws_is_none_of_an_attack_that_was_given_better_ones() -> None:
    doubt = sign("doubtful", "logit scale")
    made = changed(row("pgd"), diagnostics=[sign("fine", "logit scale")])
    assert read(made, diagnoses=[diagnosed(made, doubt)])[0].word == "unchallenged"
    assert read(row("pgd"), diagnoses=[diagnosed(row("pgd"), doubt)])[0].word == "doubtful"
    worse = sign("failed", "logit scale")
    assert read(made, diagnoses=[diagnosed(made, worse)])[0].word == "failed"


def test_a_spent_search_did_not_stand_where_luck_gives_back_what_it_took_or_nobody_can_tell() -> (
    None
):
    def with_rounds(*rounds) -> str | None:
        made = adaptive("spent")
        ran = made.attack_ran.model_dump()
        for one, (taken, error) in zip(ran["search"]["rounds"], rounds, strict=True):
            one |= {"taken": taken, "error": error}
        return read(changed(made, attack_ran=ran))[0].word

    assert with_rounds((0.0, 0.0), (0.005, 0.003), (0.0, 0.0)) == "challenged"
    assert with_rounds((0.02, 0.0), (-0.015, 0.0), (0.0, 0.0)) == "unchallenged"
    assert with_rounds((0.0, 0.0), (0.005, 0.01), (0.0, 0.0)) == "unchallenged"


def test_a_search_through_soft_gradients_answers_doubts_about_the_victims_own() -> None:
    def with_doubt(verdict="doubtful", outcome="converged", soft=True) -> str | None:
        made = adaptive(outcome)
        ran = made.attack_ran.model_dump()
        ran["search"]["rounds"][0]["parameters"] = {"soft": soft}
        doubt = sign(verdict, "gradient against differences")
        made = changed(made, attack_ran=ran, diagnostics=[doubt], soft_gradients=True)
        return read(made)[0].word

    assert with_doubt() == "challenged"
    assert with_doubt(soft=False) == with_doubt(outcome="capped") == "doubtful"
    assert with_doubt("failed") == "failed"


def test_challengers_fail_what_they_break_and_luck_of_theirs_does_not() -> None:
    broke = CHALLENGE | {"broken": ["s3", "s7"], "taken": 0.02}
    found = [
        read(adaptive(challenges=[CHALLENGE | {"taken": t, "bound": b}]))[0].word
        for t, b in ((0.01, 0.01), (0.02, 0.02), (0.03, 0.005), (0.03, -0.01))
    ]
    assert found == ["challenged", "failed", "doubtful", "challenged"]
    (one,) = read(adaptive(challenges=[CHALLENGE, broke | {"bound": 0.02}]))
    assert one.because == "square broke 2 samples that it left, 2.0 points (s3, s7)"
    assert one.worst_case == pytest.approx(0.48)


def test_who_withstands_a_radius_of_1_is_in_doubt_and_what_falls_there_is_nothing() -> None:
    boundless = CHALLENGE | {"challenger": "task lung alone at radius 1", "radius": 1}
    fallen = [f"s{i}" for i in range(20)]
    for broken, word in ((20, "challenged"), (19, "challenged"), (18, "doubtful")):
        made = adaptive(challenges=[CHALLENGE, boundless | {"broken": fallen[:broken]}])
        found, other = read(made, row("pgd"))
        assert (found.word, other.word) == (word, "challenged"), broken  # they agree
    assert found.because == (
        "task lung alone at radius 1 leaves 2 of 20 samples: the attack is what stops it"
    )


def test_a_targeted_attack_is_unchallenged_and_nothing_lifts_it() -> None:
    (found,) = read(changed(row("pgd"), spec__threat__target="next"))
    assert (found.word, found.lift) == ("unchallenged", "")
    assert found.because == "a targeted attack, which nothing challenges"


def test_what_a_challenger_of_one_row_broke_tells_every_row_that_left_it() -> None:
    broke = CHALLENGE | {"broken": ["s3", "s7"], "taken": 0.02, "bound": 0.02}
    own, other, fallen = read(
        row("pgd", challenges=[broke]),
        row("apgd"),
        (row("fab"), (np.arange(N) < 50) & ~np.isin(np.arange(N), (3, 7))),
    )
    assert (own.word, other.word) == ("failed", "failed")
    assert "square (behind pgd) broke 2 samples" in other.because + own.because
    assert fallen.word == "unchallenged"


# --- earning the best word ------------------------------------------------------------------------


def test_one_gradient_attack_is_unchallenged_and_says_what_lifts_it() -> None:
    (found,) = read(row("pgd"))
    assert found.word == "unchallenged"
    assert found.because == (
        "gradient attacks alone, at a fixed budget; lifted by --attack adaptive"
    )
    assert "\n" not in found.because


def test_a_search_is_challenged_once_it_converged_with_a_black_box_and_challengers() -> None:
    assert read(adaptive())[0].word == "challenged"
    (capped,) = read(adaptive("capped"))
    assert capped.word == "unchallenged"
    assert capped.because == "its search was capped; lifted by --max-passes 4000"
    assert read(adaptive(kinds=("first", "another loss")))[0].word == "unchallenged"
    (bare,) = read(adaptive(challenges=()))
    assert bare.word == "unchallenged"
    assert bare.because == "no challenger tried what it left; lifted by --force"
    left_out = changed(adaptive(challenges=()), spec__protocol__challenge=False)
    assert read(left_out)[0].lift == "a run without --no-challenge"


def test_effort_max_counts_as_converged_where_its_last_rounds_of_two_kinds_took_nothing() -> None:
    assert read(adaptive("spent"))[0].word == "challenged"
    assert read(adaptive("spent", taken=0.02))[0].word == "unchallenged"
    alike = ("black box", "another loss", "another loss")
    assert read(adaptive("spent", kinds=alike))[0].word == "unchallenged"


def test_two_gradient_attacks_and_a_black_box_that_agree_count_as_converged() -> None:
    rows = [row("pgd", 0.5), row("apgd", 0.495, n=N), row("square", 0.7)]
    pgd, apgd, square = read(*rows)
    assert (pgd.word, apgd.word, square.word) == ("challenged", "challenged", "failed")
    for missing in (0, 1, 2):
        words = {found.word for found in read(*rows[:missing], *rows[missing + 1 :])}
        assert "challenged" not in words
    weak = [row("pgd", 0.5), row("fgsm", 0.6), row("square", 0.7)]  # fgsm says nothing of pgd
    assert read(*weak)[0].word == "unchallenged"


def test_a_capped_search_agrees_with_nobody() -> None:
    assert [found.word for found in read(adaptive("capped"), row("pgd"))] == ["unchallenged"] * 2
    *_, pgd = read(adaptive("capped"), row("pgd"))
    assert pgd.because.endswith("lifted by --attack adaptive --max-passes 4000")
    assert [found.word for found in read(adaptive(), row("pgd"))] == ["challenged"] * 2


def test_ensembles_hold_both_families() -> None:
    members = [{"attack": name} for name in ("apgd", "fab", "square")]
    ran = {"version": "standard", "members": members}
    ensemble = changed(row("autoattack"), attack_ran=ran)
    assert trust.families(ensemble) == {"gradient", "black box"}
    assert [found.word for found in read(ensemble, row("pgd"))] == ["challenged"] * 2
    assert read(ensemble)[0].word == "unchallenged"


def test_a_victim_with_soft_gradients_must_have_been_attacked_through_them() -> None:
    def soft(made, value=True):
        return changed(made, soft_gradients=value)

    rows = [soft(row("pgd")), soft(row("apgd")), soft(row("square"))]
    assert read(*rows)[0].word == "unchallenged"
    through = changed(rows[0], spec__attack__params={"steps": 20, "soft": True})
    assert read(through, *rows[1:])[0].word == "challenged"
    unknown = [soft(each, None) for each in rows]  # as older records
    assert read(*unknown)[0].word == "unchallenged"


def test_where_nothing_is_left_no_challenger_could_try() -> None:
    (found,) = read(row("pgd", 0.0, challenges=()))
    assert found.word == "challenged"
