"""The page in a browser: sorting, filtering, switching, dark mode, a phone. Needs Chromium."""

import importlib.util
from pathlib import Path

import pytest
from pages import made

from nfbench.report.page import render

SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots.py"


@pytest.fixture(scope="module")
def screenshots():
    found = importlib.util.spec_from_file_location("screenshots", SCREENSHOTS)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def opened(screenshots, tmp_path_factory):
    pytest.importorskip("selenium", reason="pip install 'nfbench[browser]'")
    browser = screenshots.browser()
    if browser is None:
        pytest.skip("no Chromium and chromedriver on the path")
    run = made(threats=("blackbox", "partial-whitebox", "adaptive-whitebox"))
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(render(run), encoding="utf-8")
    with browser:
        screenshots.resize(browser, 1280, 900)
        browser.address = file.as_uri()
        yield browser


@pytest.fixture
def browser(opened, screenshots):
    screenshots.resize(opened, 1280, 900)
    opened.get(opened.address)
    opened.execute_script("localStorage.clear()")
    opened.get(opened.address)
    yield opened
    worst = [line for line in opened.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
    assert not worst


def column(browser, table, number):
    """What sorting goes by, row by row."""
    return browser.execute_script(
        "return [...document.querySelector(arguments[0]).tBodies[0].rows]"
        ".map(row => row.cells[arguments[1]].dataset.value ?? row.cells[arguments[1]].textContent)",
        table,
        number,
    )


def sort_states(browser, table):
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0] + ' thead th')].map(h => h.ariaSort)", table
    )


def shown(browser, selector):
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".filter(part => part.getClientRects().length).length",
        selector,
    )


def test_a_click_on_a_head_sorts_by_it_and_a_second_one_turns_it(browser):
    heads = browser.find_elements("css selector", "table.cells thead button")
    heads[5].click()
    rates = [float(value) for value in column(browser, "table.cells", 5)]
    assert rates == sorted(rates)
    assert sort_states(browser, "table.cells")[5] == "ascending"
    heads[5].click()
    assert [float(v) for v in column(browser, "table.cells", 5)] == sorted(rates, reverse=True)
    heads[1].click()
    assert column(browser, "table.cells", 1) == sorted(column(browser, "table.cells", 1))
    states = sort_states(browser, "table.cells")
    assert [i for i, state in enumerate(states) if state] == [1]


@pytest.mark.parametrize("key", ["\ue007", " "])
def test_heads_sort_by_keyboard(browser, key):
    head = browser.find_elements("css selector", "table.board thead button")[1]
    browser.execute_script("arguments[0].focus()", head)
    head.send_keys(key)
    assert sort_states(browser, "table.board")[1] == "ascending"
    rates = [float(value) for value in column(browser, "table.board", 1)]
    assert rates == sorted(rates)


def test_cells_without_a_number_stay_last_however_it_is_sorted(browser):
    browser.execute_script(
        "const cell = document.querySelector('table.cells tbody tr').cells[5];"
        "delete cell.dataset.value; cell.textContent = '–'"
    )
    head = browser.find_elements("css selector", "table.cells thead button")[5]
    for _ in range(2):
        head.click()
        assert column(browser, "table.cells", 5)[-1] == "–"


def test_filters_narrow_tables_and_figures_and_reset(browser):
    rows, figures = shown(browser, "table.cells tbody tr"), shown(browser, "#roc figure")
    browser.find_element("css selector", "#filter-defense option[value=kd]").click()
    assert shown(browser, "table.cells tbody tr") == rows / 2
    assert shown(browser, "[data-defense=lid]") == 0
    browser.find_element("css selector", "#filter-threat option[value=blackbox]").click()
    assert shown(browser, "table.cells tbody tr") == rows / 6
    assert shown(browser, "#roc figure") == figures / 3
    browser.find_element("css selector", "#filter-attack option[value=pgd]").click()
    assert shown(browser, "table.board [data-attack=fgsm]") == 0
    assert browser.find_element("id", "filter-status").text == f"{rows // 12} of {rows} cells"
    browser.find_element("css selector", "#filters [type=reset]").click()
    browser.execute_async_script("setTimeout(arguments[0], 0)")
    assert shown(browser, "table.cells tbody tr") == rows


def test_text_filters_rows(browser):
    rows = shown(browser, "table.cells tbody tr")
    browser.find_element("id", "filter-text").send_keys("LID")
    assert shown(browser, "table.cells tbody tr") == rows / 2


def test_a_switch_shows_one_budget_at_a_time_and_follows_the_filter(browser):
    assert shown(browser, "#roc figure") == 3
    assert shown(browser, "#roc figure[data-budget='linf ≤ 0.25']") == 3
    label = browser.find_element("css selector", "#roc .switches label")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", label)
    label.click()
    assert shown(browser, "#roc figure[data-budget='linf ≤ 0.1']") == 3
    assert shown(browser, "#roc figure") == 3
    browser.find_element("css selector", "#filter-budget option[value='linf ≤ 0.25']").click()
    assert shown(browser, "#roc figure[data-budget='linf ≤ 0.25']") == 3


def test_dark_is_toggled_and_remembered(browser):
    background = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(background)
    button = browser.find_element("id", "theme")
    pressed = button.get_attribute("aria-pressed")
    button.click()
    after = browser.execute_script(background)
    assert after != before
    assert button.get_attribute("aria-pressed") != pressed
    browser.get(browser.address)
    assert browser.execute_script(background) == after


def test_a_phone_scrolls_tables_and_not_the_page(browser, screenshots):
    screenshots.resize(browser, 375, 812)
    browser.get(browser.address)
    assert browser.execute_script("return innerWidth") == 375
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 375
    wide = (
        "return [...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)"
    )
    assert browser.execute_script(wide)


def test_paper_has_what_is_folded_away_and_tables_as_wide_as_a_page(browser):
    wide = (
        "return Math.max(...[...document.querySelectorAll('.scroll > table')].map(t => t.clientWidth))"
    )
    folded = "return document.querySelectorAll('details:not([open])').length"
    assert browser.execute_script(wide) > 1040
    before = browser.execute_script(folded)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    zoomed = "return document.querySelector('table.cells').getBoundingClientRect().width"
    assert browser.execute_script(zoomed) <= 1041
    assert browser.execute_script(folded) == 0
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(folded) == before
    assert browser.execute_script(zoomed) > 1041


def test_without_javascript_everything_is_shown(browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(browser.address)
        figures = browser.find_elements("css selector", "#roc figure")
        assert len(figures) == 6
        assert all(figure.is_displayed() for figure in figures)
        assert not browser.find_element("id", "filters").is_displayed()
        assert not browser.find_elements("css selector", "thead button")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_way_past_the_navigation_is_the_first_thing_a_keyboard_reaches(browser):
    browser.switch_to.active_element.send_keys("\ue004")
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    assert browser.switch_to.active_element.get_attribute("href").endswith("#main")
