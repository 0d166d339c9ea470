"""The leaderboard page in a real browser, from disk, with the network off. Skips where there is no Chromium."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from records import fill, record

from robustbench_med.reports import page
from robustbench_med.store import Store

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
PATIENCE = 120_000
"""Milliseconds a busy machine may take."""
EVIL = "<script>document.title='owned'</script>"
UNICODE = "Zürich-模型-&amp;"


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    made = [
        record(m, r, eps=e / 255, attack=a, trust=t, modality=EVIL)
        for m, r, t in (("mail", 0.5, "pass"), ("late", 0.3, "fail"), (EVIL, 0.7, None), (UNICODE, 0.6, "warn"))
        for e in (1, 4)
        for a in ("pgd", "fgsm", "noise")
    ]
    store = fill(Store(folder), *made, images=True)
    path = folder / "leaderboard.html"
    path.write_text(page.render(store, store.records()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, html) -> Iterator[object]:
    """The page after its scripts have run; no error, and no request but the file's own, until the test ends."""
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 1000}, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    problems, requests = [], []
    tab.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(html.as_uri())
    tab.wait_for_selector("html[data-ready=true]")
    yield tab
    assert problems == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [html.as_uri()]
    context.close()


def column(tab, number: int) -> list[str]:
    """Texts of a column as they are now; the table sorts and filters a moment after the event, so wait for its state first."""
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


@needs_browser
def test_filters_and_search_narrow_the_table_and_reset_brings_it_back(opened) -> None:
    opened.get_by_label("trust", exact=True).select_option("fail")
    wait_for_rows(opened, 6)
    assert set(column(opened, 3)) == {"late"}
    opened.get_by_label("attack", exact=True).select_option("pgd")
    wait_for_rows(opened, 2)
    opened.get_by_role("button", name="Reset", exact=True).click()
    wait_for_rows(opened, 24)
    opened.get_by_label("Search all columns").fill("模型")
    wait_for_rows(opened, 6)
    assert set(column(opened, 3)) == {UNICODE}
    opened.wait_for_function("document.getElementById('radius').data.length === 3")  # the chart follows the table: a line an attack


@needs_browser
def test_a_row_opens_its_record_by_keyboard_and_escape_closes_it(opened) -> None:
    opened.get_by_label("trust", exact=True).select_option("fail")
    wait_for_rows(opened, 6)
    opened.locator("button.open").first.focus()
    opened.keyboard.press("Enter")
    dialog = opened.get_by_role("dialog")
    dialog.wait_for()
    text = dialog.inner_text()
    for part in ("late", "take BPDA", "half of the gradients are 0", "medrobust run", "0.300 [0.400, 0.600]", '"steps": 20'):
        assert part in text
    assert dialog.locator("img").count() == 4
    assert dialog.locator("img").first.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 6 * 18
    opened.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


@needs_browser
def test_the_charts_are_drawn_and_their_legend_leaves_the_axis_title_alone(opened) -> None:
    opened.wait_for_selector("#radius .legend .traces")
    assert opened.locator("#radius .scatterlayer .trace").count() == 4 * 3  # models x attacks
    assert opened.locator("#pareto .scatterlayer .trace").count() == 4
    for chart in ("radius", "pareto"):
        title, legend = (opened.locator(f"#{chart} {part}").bounding_box() for part in (".xtitle", ".legend"))
        assert legend["height"] > 0
        assert title["y"] + title["height"] <= legend["y"], chart
        plot = opened.locator(f"#{chart} .nsewdrag").first.bounding_box()
        assert plot["height"] > 150
        assert UNICODE in opened.locator(f"#{chart} .legend").text_content(), chart  # its &amp; is text
    assert "needs scripts" not in opened.locator(".charts").inner_text()


@needs_browser
def test_names_with_markup_are_text_everywhere(opened) -> None:
    assert opened.title() == "medrobust leaderboard"
    assert EVIL in column(opened, 3)
    opened.get_by_label("model", exact=True).select_option(EVIL)
    wait_for_rows(opened, 6)
    assert set(column(opened, 3)) == {EVIL}
    opened.locator("button.open").first.click()
    opened.get_by_role("dialog").wait_for()
    assert EVIL in opened.locator("#record-title").inner_text()
    assert opened.locator("script").count() == opened.locator("body > script, head > script").count()
    assert opened.title() == "medrobust leaderboard"


@needs_browser
@pytest.mark.parametrize("state", ["light", "dark", "record"])
def test_axe_finds_nothing(opened, state: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    if state == "dark":
        opened.get_by_role("button", name="Dark colours").click()
        opened.wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(20, 24, 29)'")
    if state == "record":
        opened.locator("button.open").first.click()
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


def test_nothing_in_it_points_to_another_file_or_site(html) -> None:
    text = html.read_text(encoding="utf-8")
    bare = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.S)
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", bare)
    assert "url(http" not in text
    assert text.count(EVIL) == 0


def test_the_same_store_gives_the_same_page(tmp_path) -> None:
    store = fill(Store(tmp_path), record("mail", 0.5), record("late", 0.5), images=True)
    assert page.render(store, store.records()) == page.render(store, store.records()[::-1])


def test_five_hundred_rows_with_examples_stay_below_eight_megabytes(tmp_path) -> None:
    made = [
        record(f"model-{i}", (i % 100) / 100, attack=a, eps=(1 + i % 8) / 255, trust="warn") for i in range(250) for a in ("pgd", "fgsm")
    ]
    store = fill(Store(tmp_path), *made, images=True)
    text = page.render(store, store.records())
    assert len(text.encode()) < 8e6
    assert text.count('<tr data-row="') == 500


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory of a process is read from Linux's /proc")
def test_two_thousand_records_are_reported_in_a_gigabyte(tmp_path) -> None:
    """In a process of its own: the peak of this one is that of all tests before."""
    made = [
        record(f"model-{i}", (i % 100) / 100, attack=a, eps=e / 255, seed=s)
        for i in range(50)
        for a in ("pgd", "fgsm", "bim", "noise")
        for e in (1, 2, 4, 8, 16)
        for s in (0, 1)
    ]
    fill(Store(tmp_path), *made, images=True)
    code = (
        "import sys; from pathlib import Path; from robustbench_med import reports; reports.write_all(Path(sys.argv[1])); "
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 1024**2  # KiB
    assert (tmp_path / "leaderboard.csv").stat().st_size > 1e5
    assert json.loads(next((tmp_path / "records").glob("*.json")).read_text())
