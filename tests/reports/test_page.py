"""The leaderboard page in a real browser, from disk, with the network off. Skips where there is no
Chromium.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import needs_browser
from support.records import changed, fill, record

from robustbench_med.reports import page, page_record
from robustbench_med.statistics import wilson
from robustbench_med.store.attacks import Sign
from robustbench_med.store.store import Store

PATIENCE = 120_000
"""Milliseconds a busy machine may take."""
EVIL = "<script>document.title='owned'</script>"
UNICODE = "Zürich-模型-&amp;"
FOOLED = "late+jpeg (unaware attack)"


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    made = [
        record(m, r, eps=e / 255, attack=a, trust=t, modality=EVIL, naive=m == FOOLED)
        for m, r, t in (
            (FOOLED, 0.8, "fine"),
            ("late", 0.3, "failed"),
            (EVIL, 0.7, None),
            (UNICODE, 0.6, "doubtful"),
        )
        for e in (1, 4)
        for a in ("pgd", "fgsm", "noise")
    ]
    store = fill(Store(folder), *made, images=True)
    path = folder / "leaderboard.html"
    path.write_text(page.render(store, store.records()), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, html) -> Iterator[object]:
    """The page after its scripts have run; no error, and no request but the file's own, until the
    test ends.
    """
    context = browser.new_context(
        offline=True, viewport={"width": 1400, "height": 1000}, color_scheme="light"
    )
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    problems, requests = [], []
    tab.on(
        "console",
        lambda message: (
            problems.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(html.as_uri())
    tab.wait_for_selector("html[data-ready=true]")
    yield tab
    assert problems == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [html.as_uri()]
    context.close()


def column(tab, number: int) -> list[str]:
    """Texts of a column as they are now; the table sorts and filters a moment after the event, so
    wait for its state first.
    """
    return tab.locator(f"#board tbody tr td:nth-child({number})").all_inner_texts()


def wait_for_rows(tab, n: int) -> None:
    from playwright.sync_api import expect

    expect(tab.locator("#board tbody tr")).to_have_count(n)


@needs_browser
def test_it_shows_every_row_and_sorts_by_number_from_the_keyboard(opened) -> None:
    from playwright.sync_api import expect

    wait_for_rows(opened, 24)
    header = opened.locator("#board thead th", has_text="robust").first
    header.locator("[role=button]").focus()
    opened.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "ascending")
    shown = [float(text) for text in column(opened, 10)]
    assert shown == sorted(shown)
    opened.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "descending")
    shown = [float(text) for text in column(opened, 10)]
    assert shown == sorted(shown, reverse=True)


@pytest.mark.slow
@needs_browser
def test_filters_and_search_narrow_the_table_and_reset_brings_it_back(opened) -> None:
    opened.locator("#filter-trust").select_option("failed")
    wait_for_rows(opened, 4)  # noise gets no word
    assert set(column(opened, 3)) == {"late"}
    opened.locator("#filter-attack").select_option("pgd")
    wait_for_rows(opened, 2)
    opened.get_by_role("button", name="Reset", exact=True).click()
    wait_for_rows(opened, 24)
    opened.locator("#filter-family").select_option("late")
    wait_for_rows(opened, 12)
    assert set(column(opened, 3)) == {"late", FOOLED}
    opened.locator("#filter-model").select_option(FOOLED)
    wait_for_rows(opened, 6)
    opened.get_by_role("button", name="Reset", exact=True).click()
    wait_for_rows(opened, 24)
    opened.get_by_label("Search all columns").fill("模型")
    wait_for_rows(opened, 6)
    assert set(column(opened, 3)) == {UNICODE}
    opened.wait_for_function(
        "document.getElementById('radius').data.length === 4"
    )  # follows the table: a line an attack, all noise's name


@pytest.mark.slow
@needs_browser
def test_a_row_opens_its_record_by_keyboard_and_escape_closes_it(opened) -> None:
    opened.locator("#filter-trust").select_option("failed")
    wait_for_rows(opened, 4)
    opened.locator("#board button.open").first.focus()
    opened.keyboard.press("Enter")
    dialog = opened.get_by_role("dialog")
    dialog.wait_for()
    text = dialog.inner_text()
    for part in (
        "late",
        "take BPDA",
        "half of the gradients are 0",
        "medrobust run",
        "0.300 [0.400, 0.600]",
        '"steps": 20',
    ):
        assert part in text
    low, high = wilson(0.3, 40)
    assert re.search(
        rf"robust accuracy\s+0\.300 \[{low:.3f}, {high:.3f}\]", text
    )  # of the row, over distinct images
    assert dialog.locator("img").count() == 4
    assert (
        dialog.locator("img").first.evaluate(
            "(image) => image.decode().then(() => image.naturalWidth)"
        )
        == 6 * 18
    )
    opened.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


@pytest.mark.slow
@needs_browser
def test_the_charts_are_drawn_and_their_legend_leaves_the_axis_title_alone(opened) -> None:
    opened.wait_for_selector("#radius .legend .traces")
    assert (
        opened.locator("#radius .scatterlayer .trace").count() == 4 * 2
    )  # models x attacks; noise waits for a click
    assert opened.locator("#pareto .scatterlayer .trace").count() == 4
    lines = opened.evaluate("document.getElementById('radius').data")
    noise = [line for line in lines if line.get("legendgroup") == "noise"]
    assert {(line["line"]["dash"], line["line"]["width"], line["visible"]) for line in noise} == {
        ("dash", 1, "legendonly")
    }
    assert [line["name"] for line in noise if line.get("showlegend") is not False] == [
        "noise control of each"
    ]
    assert "dash" not in {line["line"]["dash"] for line in lines if line not in noise}
    points = opened.evaluate("document.getElementById('pareto').data")
    symbols = {point["name"]: point["marker"]["symbol"][0] for point in points}
    assert len(set(symbols.values())) == 4  # a symbol a model, hollow where the attack is naive
    assert [name for name, symbol in symbols.items() if symbol.endswith("-open")] == [FOOLED]
    assert {line["marker"]["symbol"] for line in lines if "marker" in line} == set(symbols.values())
    for chart in ("radius", "pareto"):
        assert (
            opened.evaluate(f"document.getElementById('{chart}').layout.yaxis.range")[0] < 0
        )  # points at 0 are whole
    board, charts = (opened.locator(part).bounding_box() for part in ("#board", ".charts"))
    assert board["y"] < charts["y"]
    for chart in ("radius", "pareto"):
        title, legend = (
            opened.locator(f"#{chart} {part}").bounding_box() for part in (".xtitle", ".legend")
        )
        assert legend["height"] > 0
        assert title["y"] + title["height"] <= legend["y"], chart
        plot = opened.locator(f"#{chart} .nsewdrag").first.bounding_box()
        assert plot["height"] > 150
        assert UNICODE in opened.locator(f"#{chart} .legend").text_content(), (
            chart
        )  # its &amp; is text
    assert "needs scripts" not in opened.locator(".charts").inner_text()


@needs_browser
def test_rows_of_naive_attacks_and_failed_ones_have_no_rank_and_naive_ones_come_last(
    opened,
) -> None:
    opened.locator("#filter-attack").select_option("pgd")
    wait_for_rows(opened, 8)
    models, ranks = column(opened, 3), column(opened, 2)
    assert models[-2:] == [FOOLED, FOOLED]
    assert ranks == ["1", "1", "2", "2", "-", "-", "-", "-"]


@pytest.mark.slow
@needs_browser
def test_paper_shows_all_rows_in_light_colours_and_the_page_is_as_before_afterwards(opened) -> None:
    opened.get_by_label("entries per page").select_option("10")
    wait_for_rows(opened, 10)
    opened.get_by_role("button", name="Dark colours").click()
    opened.evaluate(
        """addEventListener("beforeprint", () => { window.printed = {
        rows: document.querySelectorAll("#board tbody tr").length, dark:
            document.documentElement.classList.contains("dark") } })"""
    )
    opened.pdf(prefer_css_page_size=True)
    assert opened.evaluate("window.printed") == {"rows": 24, "dark": False}
    wait_for_rows(opened, 10)
    assert opened.evaluate("document.documentElement.classList.contains('dark')")


@pytest.mark.slow
@needs_browser
def test_all_columns_fit_on_paper_and_an_open_record_stands_alone(opened) -> None:
    opened.set_viewport_size({"width": 1047, "height": 718})  # A4 on its side less its margins
    opened.get_by_role("button", name="Dark colours").click()
    opened.emulate_media(media="print")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 1047
    last = opened.locator("#board thead th").last.bounding_box()
    assert last["x"] + last["width"] <= 1047
    assert (
        opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    )
    assert (
        opened.locator("#board tbody td").last.evaluate("(cell) => getComputedStyle(cell).color")
        == "rgb(0, 0, 0)"
    )
    assert not opened.locator("#filter-trust").is_visible()
    assert not opened.locator("#radius .modebar").is_visible()
    opened.emulate_media(media="screen")
    opened.locator("#board button.open").first.click()
    opened.get_by_role("dialog").wait_for()
    opened.emulate_media(media="print")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not opened.locator("#board").is_visible()
    style = (
        "(record) => { const { position, overflow, maxHeight } = getComputedStyle(record); return"
        " [position, overflow, maxHeight]; }"
    )
    assert opened.locator("#record").evaluate(style) == ["static", "visible", "none"]
    assert opened.locator("#record").evaluate(
        "(record) => record.scrollHeight <= record.clientHeight"
    )
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    opened.emulate_media(media="screen")
    assert opened.locator("#record").evaluate("(record) => record.matches(':modal')")


@needs_browser
def test_names_with_markup_are_text_everywhere(opened) -> None:
    assert opened.title() == "medrobust leaderboard"
    assert EVIL in column(opened, 3)
    opened.locator("#filter-model").select_option(EVIL)
    wait_for_rows(opened, 6)
    assert set(column(opened, 3)) == {EVIL}
    opened.locator("#board button.open").first.click()
    opened.get_by_role("dialog").wait_for()
    assert EVIL in opened.locator("#record-title").inner_text()
    assert (
        opened.locator("script").count() == opened.locator("body > script, head > script").count()
    )
    assert opened.title() == "medrobust leaderboard"


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("state", ["light", "dark", "record"])
def test_axe_finds_nothing(opened, state: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    if state == "dark":
        opened.get_by_role("button", name="Dark colours").click()
        opened.wait_for_function(
            "getComputedStyle(document.body).backgroundColor === 'rgb(20, 24, 29)'"
        )
    if state == "record":
        opened.locator("#board button.open").first.click()
        opened.get_by_role("dialog").wait_for()
    found = Axe().run(opened).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []


@needs_browser
def test_without_scripts_the_table_is_complete(browser, html) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    tab.goto(html.as_uri())
    assert tab.locator("#board tbody tr").count() == 24
    assert tab.locator("#board").is_visible()
    context.close()


@pytest.mark.slow
@needs_browser
def test_the_constant_answer_stands_below_the_rows_of_its_samples_and_in_the_charts(
    browser, tmp_path
) -> None:
    from playwright.sync_api import expect

    made = [
        changed(
            record("late", robust, data=data),
            **{f"figures__tasks__{t}__class_samples": [share, 50 - share] for t in (0, 1)},
        )
        for data, robust, share in (("heads", 0.7, 30), ("chests", 0.5, 40))
    ]
    store = fill(Store(tmp_path), *made)
    path = tmp_path / "leaderboard.html"
    path.write_text(page.render(store, store.records()), encoding="utf-8")
    context = browser.new_context(offline=True)
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready=true]")
    shown = tab.locator("#board tfoot tr:visible")
    expect(shown).to_have_count(2)
    tab.locator("#filter-data").select_option("chests")
    expect(shown).to_have_count(1)
    assert "0.800" in shown.inner_text()
    tab.get_by_role("button", name="Reset", exact=True).click()
    expect(shown).to_have_count(2)
    for chart in ("radius", "pareto"):
        drawn = set()
        for setting in (0, 1):
            tab.get_by_label("setting", exact=True).select_option(index=setting)
            lines = tab.evaluate(f"document.getElementById('{chart}').data")
            drawn |= {line["y"][0] for line in lines if line["name"] == "most frequent class"}
        assert drawn == {0.6, 0.8}, chart
    context.close()


def test_advice_is_given_on_signs_of_failure_alone() -> None:
    sign = {"sign": "zero gradient", "figure": None, "text": "none", "advice": "take BPDA"}
    given = {
        verdict: page_record._sign(Sign.model_validate({**sign, "verdict": verdict}))["advice"]
        for verdict in ("fine", "doubtful", "failed")
    }
    assert given == {"fine": "", "doubtful": "take BPDA", "failed": "take BPDA"}


def test_nothing_in_it_points_to_another_file_or_site(html) -> None:
    text = html.read_text(encoding="utf-8")
    bare = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.S)
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", bare)
    assert "url(http" not in text
    assert text.count(EVIL) == 0
