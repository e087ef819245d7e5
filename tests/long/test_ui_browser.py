"""`mtpareto ui` in a browser: a study's page, its run and trials, the frontier alone, its chart and what a point says.

Needs Selenium, Chromium and its driver (Debian: `apt-get install chromium chromium-driver`). The screenshots stay in
pytest's folder of the test; `pytest -s` prints where.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.finish.run_folder import report_again
from orchestrator.ledger.records import read_ledger
from tests.support.paths import ROOT
from tests.support.recorded_run import Made, write_data, write_run
from tests.support.signals import heed_signals

webdriver = pytest.importorskip("selenium.webdriver", reason="needs Selenium (the extra `test`)")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

PROGRAMS = ("chromium", "chromedriver")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"needs {' and '.join(MISSING)}: apt-get install chromium chromium-driver"
)

WAIT_SECONDS = 40
BLUE, ORANGE = "rgb(0, 114, 178)", "rgb(213, 94, 0)"
TRIALS = [
    Made(8_000_000, bits=None),
    Made(4_000_000, cut=0.02, bits=8),
    Made(2_500_000, cut=0.15, bits=4),
    Made(1_500_000, cut=0.3, bits=3),
    Made(1_000_000, cut=0.6, bits=2, sanity={"empty": 0.5}),
]
NAMES = ["000 baseline", "001 rtn 8-bit g64", "002 rtn 4-bit g64", "003 rtn 3-bit g64", "004 rtn 2-bit g64"]
FRONTIER = NAMES[:4]
# What an experiment's navigation leads to, as pages of model training and as pages for agents.
TRAINING_PAGES = {"runs", "models", "traces"}
AGENT_PAGES = {"chat-sessions", "evaluation-runs", "judges"}


class Browser:
    """A page in Chromium, and its screenshots."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self._folder = folder
        folder.mkdir()

    def open(self, address: str) -> None:
        # An address that differs after its # only would not load the page anew.
        self.driver.get("about:blank")
        self.driver.get(address)

    def shoot(self, name: str) -> None:
        self.driver.save_screenshot(str(self._folder / f"{name}.png"))

    def all(self, css: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, css))

    def until(self, true: Any, what: str) -> Any:
        """What `true` returns as soon as it is no longer empty."""
        return WebDriverWait(self.driver, WAIT_SECONDS, poll_frequency=0.2).until(lambda _: true(), what)

    def click(self, css: str) -> None:
        found = self.until(lambda: self.all(css), f"there is no {css}")[0]
        # MLflow's radio buttons lie under their labels.
        self.driver.execute_script("arguments[0].click()", found)

    def text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def navigation(self) -> set[str]:
        """The pages of the experiment to which the navigation at the left leads."""
        links = "[...document.querySelectorAll('nav a')].map(one => one.getAttribute('href'))"
        found = (
            re.match(r"#/experiments/\d+/([a-z-]+)", link) for link in self.driver.execute_script(f"return {links}")
        )
        return {one[1] for one in found if one is not None}

    def until_navigation_has(self, pages: set[str]) -> None:
        self.until(lambda: self.navigation() >= pages, f"the navigation does not lead to {pages}")

    def runs(self) -> list[str]:
        """The names of the table's runs, from the top."""
        script = """return [...document.querySelectorAll('a[href*="/runs/"]')].filter(one => one.closest('.ag-row'))
            .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map(one => one.innerText)"""
        return [str(name) for name in self.driver.execute_script(script)]

    def until_runs_are(self, names: list[str]) -> None:
        self.until(lambda: self.runs() == names, f"the table's runs are not {names}")

    def search(self, query: str) -> None:
        box = self.all("[data-testid=search-box]")[0]
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(query, Keys.ENTER)


@pytest.fixture(name="run", scope="module")
def mirrored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of five trials in an MLflow store of its own."""
    folder = tmp_path_factory.mktemp("ui")
    run = write_run(folder / "demo", {"dev": write_data(folder / "dev.jsonl", 40)}, TRIALS, tracking_uri=None)
    assert report_again(run, Console(quiet=True)).mirrored
    return run


@pytest.fixture(name="page", scope="module")
def served_page(run: Path) -> Iterator[str]:
    """The address that `mtpareto ui` says."""
    command = [sys.executable, "-m", "orchestrator.cli", "ui", str(run), "--port", "0", "--no-open"]
    server = subprocess.Popen(
        command, cwd=run.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True, preexec_fn=heed_signals,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        said = server.stdout.readline() + server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/#/\S+", said)
        assert found is not None, said
        yield found[0]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@pytest.fixture(name="browser")
def chromium(tmp_path: Path) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # Root, and containers without user namespaces, have no sandbox; it opens nothing but this server.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1100"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver, tmp_path / "screenshots")
    finally:
        driver.quit()
        print(f"\nscreenshots: {tmp_path / 'screenshots'}")


def test_a_stranger_finds_the_study_its_frontier_and_the_numbers_of_the_ledger(
    run: Path, page: str, browser: Browser
) -> None:
    # The study's view: trials by number and steps, as pages of model training.
    browser.open(page)
    browser.until_runs_are(NAMES)
    browser.shoot("1-view")
    assert "Compressed translation models: how to read them" in browser.text()
    assert "Evaluation runs" not in browser.text(), "these are pages for agents"
    heads = [head.text for head in sorted(browser.all(".ag-header-cell"), key=lambda one: one.rect["x"]) if head.text]
    assert heads[:5] == ["Run Name", "Created", "on_frontier", "rank", "bytes_mb"]

    # The frontier alone.
    browser.search("tags.study = 'demo' and metrics.on_frontier = 1")
    browser.until_runs_are(FRONTIER)
    browser.shoot("2-frontier")

    # The chart: where each point lies, by its label.
    browser.open(page)
    browser.until_runs_are(NAMES)
    browser.click("input[value=CHART]")
    points = browser.until(lambda: points_of(browser, len(NAMES)), "the scatter chart has not all points")
    assert points[0].size["width"] > 0
    browser.shoot("3-chart")
    # The chart's tool bar covers the top right, where the uncompressed model is.
    order = sorted(points, key=lambda point: point.rect["x"])
    said = dict(read_point(browser, point) for point in order[:-1])
    browser.shoot("4-point")
    trials = [one.measurement for one in read_ledger(run).on("dev")]
    assert said == {
        name: (one.footprint.bytes / 1e6, one.overall("chrf"))
        for name, one in zip(NAMES[1:], trials[1:], strict=True)
        if one is not None
    }
    colours = [point.value_of_css_property("fill") for point in points]
    assert (colours.count(BLUE), colours.count(ORANGE)) == (4, 1)

    # The experiment without a view: the study is a run, and its trials are below it.
    browser.open(re.sub("&viewStateShareKey=.*", "", page))
    browser.until_runs_are(["demo"])
    browser.shoot("5-study")
    assert "Evaluation runs" not in browser.text(), "these are pages for agents"
    browser.click(".ag-row [col-id*='Run Name'] button")
    browser.until(lambda: set(browser.runs()) == {"demo", *NAMES}, "the trials are not below the study")
    browser.shoot("6-trials")

    # A trial says where it stands, and leads to its study.
    browser.driver.find_element(By.LINK_TEXT, NAMES[4]).click()
    browser.until(lambda: "Parent run" in browser.text(), "the trial's page names no study")
    browser.until(
        lambda: "Standing: kept off the frontier: 50 % of hypotheses are empty" in browser.text(), "it is silent"
    )
    browser.shoot("7-trial")
    browser.driver.find_element(By.LINK_TEXT, "demo").click()
    browser.until(lambda: "Child runs" in browser.text() and "Description" in browser.text(), "the study is not found")
    browser.shoot("8-study-page")


def test_a_runs_page_is_one_of_model_training_unless_its_reader_chose_otherwise(page: str, browser: Browser) -> None:
    # MLflow's own link, which says nothing of the set of pages.
    browser.open(re.sub(r"\?.*", "", page))
    browser.until_runs_are(["demo"])
    link = str(browser.driver.find_element(By.LINK_TEXT, "demo").get_attribute("href"))
    assert "workflowType" not in link
    browser.open(link)
    browser.until(lambda: "Description" in browser.text(), "the run's page is not shown")
    browser.until_navigation_has(TRAINING_PAGES)
    browser.shoot("run")
    assert not browser.navigation() & AGENT_PAGES
    assert "Ask a question" not in browser.text(), "the assistant takes a quarter of the page"
    # The reader's choice at the top left.
    browser.driver.find_element(By.XPATH, "//*[text()='GenAI']").click()
    browser.until_navigation_has(AGENT_PAGES)
    browser.open(link)
    browser.until_navigation_has(AGENT_PAGES)
    browser.shoot("run-genai")


def points_of(browser: Browser, count: int) -> list[Any]:
    """The points of the first chart, once they are all drawn."""
    found = browser.all(".scatterlayer .point")
    return found if len(found) == count else []


def read_point(browser: Browser, point: Any) -> tuple[str, tuple[float, float]]:
    """A point's label and where it lies (MB, chrF), as the chart says under the mouse."""
    form = re.compile(r"^(\d{3} .+)\nStanding: .+\nX \(bytes_mb\): ([\d.]+)\nY \(chrf\): ([\d.]+)")
    ActionChains(browser.driver).move_to_element_with_offset(browser.all("h1, h2, body")[0], 0, 0).perform()

    def said() -> Any:
        return next((found for one in browser.all("[data-testid*=tooltip]") if (found := form.search(one.text))), None)

    browser.until(lambda: said() is None, "an earlier point's label stays")
    ActionChains(browser.driver).move_to_element(point).perform()
    found = browser.until(said, "a point has no label")
    return found[1].strip(), (float(found[2]), float(found[3]))
