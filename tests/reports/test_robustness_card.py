"""The robustness card: one page, what it says, and that it is held against its store."""

import json
import re

import pytest
import yaml
from support.cli import medrobust, refused
from support.records import changed, fill, record

from robustbench_med import UserError, card
from robustbench_med.reports.robustness import html, pdf
from robustbench_med.reports.robustness.write import cards, verify
from robustbench_med.store.store import Store

ODD = "<script>x</script> (a) \\ | `b` *ü*"


@pytest.fixture
def folder(tmp_path):
    """A victim under an attack and a corruption, with images, and another victim."""
    attacked = record("mail", 0.25, trust="doubtful", tasks=(0, 1))
    jpeg = changed(attacked, spec__engine="corruption", spec__attack__name="jpeg",
                   spec__attack__params={"severity": 2})  # fmt: skip
    noise = record("mail", 0.875, attack="noise")
    fill(Store(tmp_path), attacked, jpeg, noise, record("late"), images=True)
    return tmp_path


def of_mail(folder):
    page, drawn = cards(folder, models=["mail"])
    return page, drawn


def test_the_page_holds_figures_threats_words_and_where_it_is_made_from(folder, tmp_path) -> None:
    said = tmp_path / "about.yaml"
    said.write_text(yaml.safe_dump({"intended_use": ODD, "users": "readers"}))
    page, drawn = card(folder, model="mail", robustness=True, about=said)[-2:]
    text = page.read_text()
    known = html.facts_of(text)
    assert known == pdf.facts_of(drawn.read_bytes())
    assert "<script>x" not in text
    assert known["about"] == {"intended_use": ODD, "users": "readers"}
    assert {one["kind"] for one in known["sources"]} == {"record"}
    assert len(known["sources"]) == 3
    shown = json.dumps(known["blocks"])
    for words in ("0.240 [0.134, 0.391]", "Linf 4/255, joint", "doubtful: it may be too high",
                  "adversaries in L2, L1, L0", "missing modalities", "lesion: a", "15(5)",
                  "zero gradient (1 of 1)", "medrobust run", "poisoned training data"):  # fmt: skip
        assert words in shown, words
    assert "corruptions;" not in shown
    assert known["synthetic"]
    assert "Synthetic data" in text
    assert text.count("<img") == 2


def test_what_a_victim_rejects_and_a_patch_are_no_good_word(tmp_path) -> None:
    mild = record("mail", 1.0, tasks=(0, 1))
    silent = changed(mild, spec__victim__abstains=1)
    patched = changed(silent, spec__engine="own-threat", spec__attack__name="patch",
                      spec__attack__params={"size": 0.05, "place": "optimised"})  # fmt: skip
    fill(Store(tmp_path), silent, patched, images=True)
    page, _ = cards(tmp_path)
    known = {block["title"]: block for block in html.facts_of(page.read_text())["blocks"]}
    for title in ("adversaries", "patches, universal perturbations"):
        assert "abstains (answers" in json.dumps(known[f"Threats tried: {title}"]["lines"])
    assert patched.within == ""
    assert mild.within == "Linf 4/255"


def test_a_card_is_held_against_the_store_file_by_file(folder) -> None:
    files = of_mail(folder)
    for file in files:
        assert verify(file, folder) == []
        assert "says what the store gives" in medrobust(
            "verify", "--card", file, "--out", folder
        ).stdout  # fmt: skip
    fill(Store(folder), record("mail", 0.1, attack="fgsm"), images=True)
    for file in files:
        found = verify(file, folder)
        assert any("the card does not know it" in line for line in found)
        assert any("'Threats tried: adversaries'" in line for line in found)
        medrobust("verify", "--card", file, "--out", folder, check=1)


def test_what_was_changed_on_either_page_is_found(folder) -> None:
    page, drawn = of_mail(folder)
    text = page.read_text()
    page.write_text(text.replace("0.240 [0.134", "0.940 [0.834", 1))
    assert verify(page, folder) == ["the page shows something else than the store gives"]
    known = html.facts_of(text)
    known["sources"][0]["sha256"] = "0" * 64
    page.write_text(html.DATA.sub(lambda m: m[0].replace(m[1], json.dumps(known)), text))
    assert [line for line in verify(page, folder) if "another sha256" in line]
    drawn.write_bytes(drawn.read_bytes().replace(b"endobj", b"endobJ", 1))
    assert verify(drawn, folder) == ["the PDF was changed since it was written"]
    other = record("gmu")
    fill(Store(folder / "other"), other)
    assert "holds no record of mail" in verify(page, folder / "other")[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"%PDF-1.4\n/Keywords (medrobust-card:AAAA)", b"\xff\xfe",
     b'<script type="application/json" id="medrobust-card">{"form": 1, "about": {}}</script>',
     b'<script type="application/json" id="medrobust-card">[[</script>'],
)  # fmt: skip
def test_files_that_are_no_cards_are_refused_in_a_line(folder, content) -> None:
    file = folder / "card.html"
    file.write_bytes(content)
    assert "robustness card" in refused(
        medrobust("verify", "--card", file, "--out", folder, check=2)
    )


def test_the_pdf_is_one_page_and_the_same_bytes_again(folder, monkeypatch) -> None:
    first = of_mail(folder)[1].read_bytes()
    assert first == of_mail(folder)[1].read_bytes()
    assert len(re.findall(rb"/Type /Page\b", first)) == 1
    monkeypatch.setattr(pdf, "HEIGHT", 2.0)
    with pytest.raises(UserError, match="does not fit on one page"):
        cards(folder, models=["mail"])


def test_odd_names_stay_names_and_fit_on_the_page(tmp_path, recwarn) -> None:
    made = changed(
        record("late", 0.25, data="x" * 120),
        names__classes=[["a " * 60 + "$x_1$", "b)"], [ODD, "日本"]],
        command="medrobust run " + "--option=/x/" * 60,
    )
    fill(Store(tmp_path), made, record(ODD, 0.5))
    for file in cards(tmp_path):
        assert verify(file, tmp_path) == []
        if file.suffix == ".html":
            assert "<script>x" not in file.read_text()
    assert not [each for each in recwarn if "Glyph" in str(each.message)]


def test_what_is_said_of_a_card_is_checked(folder, tmp_path) -> None:
    said = tmp_path / "about.yaml"
    for content, words in (
        ("intended_us: x", "did you mean intended_use"),
        ("version: 0.3", "quotation marks"),
        (f"notes: {'x' * 401}", "at most 400"),
        ("- a", "mapping"),
    ):
        said.write_text(content)
        told = refused(medrobust("card", "--robustness", "--about", said, "--out", folder, check=2))
        assert words in told, told
    assert "--robustness" in refused(medrobust("card", "--about", said, "--out", folder, check=2))
    assert not (folder / "cards").exists()
