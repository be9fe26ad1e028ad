"""Pages in a real browser: no errors, no requests, tables that sort and filter, any width, dark and print."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cliplab.reporting.comparison import write_comparison
from cliplab.reporting.html import write_report
from cliplab.runs.sweep import summarise

from ..conftest import browser_programs
from .toys import NAMES, fill_run, fill_sweep

pytestmark = pytest.mark.browser
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    programs = browser_programs()
    assert programs is not None
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report, a comparison of two runs, and the page of a sweep."""
    folders = [fill_run(tmp_path_factory.mktemp("runs") / name) for name in ("one", "two")]
    out = tmp_path_factory.mktemp("comparison")
    sweep = fill_sweep(tmp_path_factory.mktemp("sweep"))
    return {
        "report": write_report(folders[0]),
        "comparison": write_comparison(out, folders),
        "summary": summarise(sweep),
    }


def show(driver: Any, page: Path, *, width: int = 1280, scheme: str = "light", media: str = "") -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    driver.get(page.as_uri())


def column(driver: Any, index: int) -> list[str]:
    script = "return [...document.querySelectorAll('#classes-1 tbody tr')].filter(r => !r.hidden)"
    return driver.execute_script(f"{script}.map(r => r.cells[{index}].textContent.trim())")


def click_head(driver: Any, index: int) -> None:
    driver.execute_script(f"document.querySelectorAll('#classes-1 thead button')[{index}].click()")


@pytest.mark.parametrize("name", ["report", "comparison", "summary"])
def test_page_loads_without_errors_or_requests(driver: Any, pages: dict[str, Path], name: str) -> None:
    driver.get_log("browser"), driver.get_log("performance")
    show(driver, pages[name])
    assert driver.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]


@pytest.mark.parametrize("name", ["report", "comparison", "summary"])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_width_scrolls_sideways(driver: Any, pages: dict[str, Path], name: str, width: int) -> None:
    show(driver, pages[name], width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_table_sorts_both_ways_numbers_as_numbers(driver: Any, pages: dict[str, Path]) -> None:
    show(driver, pages["report"])
    click_head(driver, 4)  # mean rank
    ranks = [float(text) for text in column(driver, 4)]
    assert ranks == sorted(ranks) == [1, 1, 1, 2, 3, 6]
    click_head(driver, 4)
    assert [float(text) for text in column(driver, 4)] == ranks[::-1]
    assert driver.execute_script("return document.querySelector('#classes-1 th[aria-sort]').ariaSort") == "descending"
    click_head(driver, 0)
    assert column(driver, 0) == ["<script>alert(1)</script>", "bee", "cat", "dog & co", "fox", "owl"]


def test_search_filters_classes(driver: Any, pages: dict[str, Path]) -> None:
    show(driver, pages["report"])
    search = driver.find_element("css selector", "input[data-filter=classes-1]")
    search.send_keys("DOG")
    assert column(driver, 0) == ["dog & co"]
    search.send_keys("zzz")
    assert column(driver, 0) == []
    search.clear()
    search.send_keys(" ")
    assert len(column(driver, 0)) == len(NAMES)


def test_dark_and_print_have_their_own_colours(driver: Any, pages: dict[str, Path]) -> None:
    def background() -> str:
        return driver.execute_script("return getComputedStyle(document.body).backgroundColor")

    def shown(selector: str) -> bool:
        return driver.execute_script(f"return document.querySelector('{selector}').checkVisibility()")

    show(driver, pages["report"])
    assert background() == "rgb(255, 255, 255)"
    assert shown("nav")
    show(driver, pages["report"], scheme="dark")
    assert background() == "rgb(17, 21, 27)"
    show(driver, pages["report"], scheme="dark", media="print")
    assert background() == "rgb(255, 255, 255)"
    assert not shown("nav")
