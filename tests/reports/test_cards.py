"""Model and robustness cards: what they say, where it comes from, and that odd names stay names."""

import json
import re

import pytest
import yaml
from support.cli import medrobust
from support.records import changed, fill, record

from robustbench_med.errors import UserError
from robustbench_med.models.registry import ZOO
from robustbench_med.reports import model_cards as cards
from robustbench_med.reports import write
from robustbench_med.reports.robustness_cards import robustness_card
from robustbench_med.store.store import Store
from robustbench_med.training import checkpoints

ODD = "<script>x</script> | `b` *ü*\n---\nlicense: gpl #1"


def front_matter(text: str) -> dict:
    head, closing, _ = text.removeprefix("---\n").partition("\n---\n")
    assert closing
    return yaml.safe_load(head)


def test_cards_hold_the_records_figures_threats_trust_and_commands() -> None:
    made = [
        record("mail", 0.5, trust="failed"),
        record("mail", 0.25, eps=8 / 255),
        record("mail", 0.875, attack="noise"),
    ]
    made[1] = changed(made[1], command="medrobust run --eps 8/255")
    victim = cards.VictimRecords(made, {}, "arXiv 2602.15346")
    card, robustness = cards.model_card(victim), robustness_card(victim)
    head = front_matter(card)
    (entry,) = head["model-index"]
    values = {
        m["name"]: m["value"]
        for result in entry["results"]
        for m in result["metrics"]
        if m["name"] != "clean accuracy"
    }
    assert values == {
        f"robust accuracy (pgd, Linf {eps}, target joint, sound protocol, n = 50)": robust
        for eps, robust in (("4/255", 0.5), ("8/255", 0.25))
    }
    assert (head["license"], "synthetic-data" in head["tags"]) == ("mit", True)
    assert "Synthetic data" in card
    assert "Synthetic data" in robustness
    assert "@inproceedings{dhar2026effective" in card
    assert "No sidecar of these weights was found" in card
    for text in ("0.250 \\[0.142, 0.402\\]", "Linf 8/255", "lesion 0.250, lung 0.250", "noise (control)", "Worst of all figures: **failed**",
                 f"pgd, Linf 4/255, record {made[0].short}: **failed**: zero gradient: half of the gradients are 0",
                 "**unchallenged**: gradient attacks alone, at a fixed budget; lifted by",
                 "Advice: take BPDA", "half of the gradients are 0", "medrobust run --eps 8/255", "16 draws"):  # fmt: skip
        assert text in robustness, text


def test_weights_of_the_user_claim_no_licence_and_real_data_no_mark() -> None:
    made = changed(record("late", synthetic=False), victim__origin="cache")
    card = cards.model_card(cards.VictimRecords([made], {}, "arXiv 1705.09406"))
    head = front_matter(card)
    assert (head["license"], "synthetic-data" in head["tags"]) == ("unknown", False)
    assert "ynthetic" not in card
    assert "inproceedings" not in card
    assert "arXiv 1705.09406" in card


def test_the_hub_is_told_no_figure_of_a_naive_attack() -> None:
    naive = record("mail", 0.9, naive=True, eot=1)
    (entry,) = front_matter(
        cards.model_card(cards.VictimRecords([naive, record("mail", 0.5)], {}))
    )["model-index"]
    assert [result["metrics"][1]["value"] for result in entry["results"]] == [0.5]
    card = cards.model_card(cards.VictimRecords([naive], {}))
    assert "model-index" not in front_matter(card)
    assert "naive attack on a random model" in card


def test_odd_names_stay_names(tmp_path) -> None:
    fill(Store(tmp_path), record(ODD, modality="m|1\r\n# h", data="<img src=x>"))
    paths = write.cards(tmp_path, checkpoints.find_sidecar, {})
    assert [p.name for p in paths] == [cards.MODEL_CARD, cards.ROBUSTNESS_CARD]
    assert paths[0].parent.parent == tmp_path / "cards"
    assert paths[0].parent.name.isascii()
    card, robustness = (p.read_text() for p in paths)
    head = front_matter(card)
    assert head["model-index"][0]["name"] == ODD
    assert head["license"] == "mit"
    body = re.sub(r"(?ms)^(`{3,})python$.*?^\1$", "", card.partition("\n---\n")[2]) + robustness
    assert "<script>" not in body.replace("\\<", "")
    assert "<img" not in body.replace("\\<", "")
    assert not [line for line in body.splitlines() if line.startswith(("# h", "license:"))]
    widths = {
        line.replace("\\|", "").count("|")
        for line in card.splitlines()
        if line.startswith("| ") and "m\\|1" in line
    }
    assert widths == {3}


def test_a_command_with_backticks_stays_in_its_block() -> None:
    made = changed(record(), command="medrobust run --data '```'")
    assert "````sh\nmedrobust run --data '```'\n````" in robustness_card(
        cards.VictimRecords([made], {})
    )


def test_the_training_is_told_from_the_sidecar_of_these_very_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path / "home"))
    name = next(
        p.name
        for p in ZOO.iterdir()
        if p.name.startswith("robust-mail-") and p.name.endswith(".safetensors")
    )
    known = json.loads((ZOO / name.replace(".safetensors", ".json")).read_text())
    made = changed(
        record("robust-mail"),
        spec__victim__weights_sha256=known["weights_sha256"],
        victim__checkpoint=name,
    )
    card = cards.model_card(
        cards.VictimRecords([made], checkpoints.find_sidecar(name, known["weights_sha256"]))
    )
    for text in (
        f"phantoms, training split (manifest {known['training']['manifest'][:12]})",
        "steps=1250",
        "validation, lesion",
        known["command"],
        "**synthetic**",
    ):
        assert text in card, text
    assert checkpoints.find_sidecar(name, "0" * 64) == {}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "x.json").write_text(json.dumps({**known, "weights_sha256": "1" * 64, "seconds": 61.0}))
    found = checkpoints.find_sidecar("x.safetensors", "1" * 64, [mine])
    assert "61 s" in cards.model_card(cards.VictimRecords([made], found))


def test_cards_from_the_shell_and_their_faults(tmp_path) -> None:
    fill(Store(tmp_path), record("mail"), record("late", 0.7))
    done = medrobust("card", "--out", tmp_path, "--model", "late")
    readme, robustness = done.stdout.split()
    assert readme.endswith("README.md")
    assert "late-" in robustness
    assert len(list((tmp_path / "cards").iterdir())) == 1
    assert (
        "did you mean late"
        in medrobust("card", "--out", tmp_path, "--model", "lat", check=2).stderr
    )
    assert (
        "is no folder"
        in medrobust("card", "--out", tmp_path, "--checkpoints", tmp_path / "none", check=2).stderr
    )
    with pytest.raises(UserError, match="holds no records"):
        write.cards(tmp_path / "empty", checkpoints.find_sidecar, {})


def test_the_robustness_card_names_the_signs_that_were_looked_for_and_in_how_many_records() -> None:
    made = [record("mail", 0.5, trust="fine"), record("mail", 0.25, eps=8 / 255, trust="fine")]
    sign = {"sign": "not converged", "verdict": "fine", "figure": 0.0, "text": "flat"}
    signs = [kept.plain() for kept in made[1].diagnostics] + [{**sign, "advice": "more steps"}]
    made[1] = changed(made[1], diagnostics=signs)
    card = robustness_card(cards.VictimRecords(made, {}))
    assert (
        "Signs looked for: zero gradient (in 2 of 2 records), not converged (in 1 of 2 records)."
        in card
    )
    assert "every sign" not in card
    assert (
        "Worst of all figures: **unchallenged**: nothing speaks against the figures, and too little"
        " stands behind one." in card
    )
    assert "Signs looked for: none." in robustness_card(cards.VictimRecords([record("mail")], {}))


def test_a_card_loads_the_victim_and_says_the_worst_case_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDROBUST_HOME", str(tmp_path))
    (file,) = ZOO.glob("late-phantoms-quick-s0-*.json")
    known = json.loads(file.read_text())
    trained = {"params": known["training"]["params"], "preset": "quick", "train_seed": 0}
    made = [
        changed(
            record("late", robust, attack=attack),
            **{f"spec__victim__{key}": value for key, value in trained.items()},
            spec__victim__weights_sha256=known["weights_sha256"],
            spec__data__name="phantoms",
            spec__data__size=64,
            victim__origin="zoo",
        )
        for attack, robust in (("fgsm", 0.75), ("pgd", 0.25), ("noise", 0.875))
    ]
    card = cards.model_card(cards.VictimRecords(made, known))
    assert front_matter(card)["datasets"] == ["phantoms"]
    evaluation = card.split("## Evaluation")[1]
    assert "**0.250** of 0.900 clean, 2 attacks, pgd the strongest" in evaluation
    assert evaluation.index("| pgd |") < evaluation.index("| fgsm |") < evaluation.index("| noise")
    assert "load_data('phantoms', preset='quick', size=64)\n" in card
    real = changed(made[1], synthetic=False, unverified=True)
    told = cards.model_card(cards.VictimRecords([real], known))
    assert "size=64, accept_unverified=True)  # data_root=FOLDER: where its files lie" in told
    steps = [str(row["step"]) for row in known["history"]]
    curve = [line.split(" | ")[0].strip("| ") for line in card.splitlines()]
    assert [step for step in curve if step in steps] == steps
    (code,) = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    names: dict = {}
    exec(code, names)
    assert [tuple(each.shape) for each in names["logits"]] == [(1, 4), (1, 3)]
