# SPDX-License-Identifier: Apache-2.0
"""
What a person sees in Airflow's pages: the form of a DAG, its run, and the buttons of a task.

Needs Debian's ``chromium`` and ``chromium-driver``; every address but 127.0.0.1 is out of the browser's reach.
The pictures of the docs are made here. They go to a temporary folder unless told otherwise::

    DOCS_PICTURES=docs/images python -m pytest -m soak tests/system/test_browser.py
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from urllib.parse import unquote

import pytest
from local_airflow import PASSWORD, USER
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions as conditions
from selenium.webdriver.support.wait import WebDriverWait

from airflow_vertex_persistent.names import ResourceName, job_console_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.cloud.aiplatform_v1 import CustomJob
    from selenium.webdriver.remote.webelement import WebElement

    from tests.system.conftest import Installation

T = TypeVar("T")

# The first test also starts Airflow and waits for two runs.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

DAG_ID = "nightly_retraining"
DAG_PAGE = f"/dags/{DAG_ID}"
TASKS = ("create_resource", "tune", "delete_resource", "train", "evaluate", "promote_or_keep")
EPOCHS = "60"
# Seconds. A page may be slow while a task starts on the same two cores.
PAGE_TIMEOUT = 60.0
RUN_TIMEOUT = 400.0
# A picture is shown smaller than it is: this keeps its text sharp, and the file below 200 KB.
PICTURE_SCALE = 1.25
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

DIALOG = (By.CSS_SELECTOR, "[role=dialog][data-state=open]")
FORM_BUTTON = (By.CSS_SELECTOR, "[data-testid=trigger-dag-button]")
SUBMIT_BUTTON = (By.CSS_SELECTOR, "[data-testid=trigger-dag-submit]")
PAUSE_SWITCH = (By.CSS_SELECTOR, "[data-testid=toggle-pause]")
RUN_STATE = (By.CSS_SELECTOR, "h2 + [data-testid=state-badge]")
TASK_ROWS = (By.CSS_SELECTOR, "tbody tr")
SORT_BY_START = (By.XPATH, "//th//button[starts-with(., 'Start Date')]")
TOASTS = (By.CSS_SELECTOR, "[data-scope=toast][data-part=root]")


class Pages:
    """
    Airflow's pages in a browser, as somebody who is logged in sees them.

    :param driver: The browser.
    :param url: Address of the API server.
    :param pictures: Folder of the pictures of the docs.
    :param failures: Folder of the screenshots of pages on which something failed.
    """

    def __init__(self, driver: Chrome, url: str, pictures: Path, failures: Path) -> None:
        self.driver = driver
        self._url = url
        self._pictures = pictures
        self._failures = failures
        self.resize(1280, 800)

    def log_in(self) -> None:
        """Log in through the login page."""
        self.open("/")
        self.see(By.NAME, "username").send_keys(USER)
        self.see(By.NAME, "password").send_keys(PASSWORD)
        self.click(By.CSS_SELECTOR, "button[type=submit]")
        self.see(By.CSS_SELECTOR, "[data-testid=nav-dags-link]")

    def open(self, path: str) -> None:
        """Open a page by its path."""
        self.driver.get(f"{self._url}{path}")

    def resize(self, width: int, height: int) -> None:
        """Make the page that large, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": PICTURE_SCALE, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def see(self, by: str, value: str) -> WebElement:
        """Wait until something is on the page and return it."""
        return self.wait_for(conditions.visibility_of_element_located((by, value)), f"{value} to be seen")

    def click(self, by: str, value: str) -> None:
        """Click on something as soon as it is there and enabled."""
        self.wait_for(conditions.element_to_be_clickable((by, value)), f"{value} to be clickable").click()

    def wait_for(
        self, condition: Callable[[Chrome], T | Literal[False]], what: str, timeout: float = PAGE_TIMEOUT
    ) -> T:
        """
        Wait until the page is as it should be.

        :param condition: Asked again and again; what it returns is returned as soon as it is true.
        :param what: The condition in words, for the error.
        :param timeout: Seconds to wait at most.
        :raises TimeoutException: It has not come true.
        """
        # The pages are drawn anew all the time: what was found may be gone a moment later.
        passing = (NoSuchElementException, StaleElementReferenceException)
        waiting = WebDriverWait(self.driver, timeout, ignored_exceptions=passing)
        return waiting.until(condition, f"waited {timeout:.0f} s for {what}")

    @contextlib.contextmanager
    def failures_pictured(self) -> Iterator[None]:
        """Add a screenshot to whatever fails meanwhile."""
        try:
            yield
        except (AssertionError, WebDriverException) as error:
            screenshot = self._failures / f"{len(list(self._failures.iterdir()))}.png"
            self.driver.save_screenshot(str(screenshot))
            error.add_note(f"{self.driver.current_url} looked like this: {screenshot}")
            raise

    def take_picture(self, name: str, element: WebElement | None = None) -> None:
        """Take a picture of the page, or of a part of it, without messages that come and go."""
        self.driver.execute_script("document.activeElement.blur()")
        self.wait_for(lambda driver: not driver.find_elements(*TOASTS), "messages to go away")
        (element or self.driver.find_element(By.TAG_NAME, "html")).screenshot(
            str(self._pictures / f"{name}.png")
        )


class TriggeredRun(NamedTuple):
    """A run that was started through the form: the path of its page, and the jobs it led to."""

    page: str
    tuning_job: str
    training_job: CustomJob


@pytest.fixture(scope="module")
def pages(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A browser of its own, logged in to an Airflow that knows the DAG."""
    api, wait_for = installation.airflow.api, installation.airflow.processes.wait_for
    wait_for(lambda: DAG_ID in api.dags(), "the DAG has been read", 60)
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.add_experimental_option("prefs", {"intl.accept_languages": "en"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    pictures = os.environ.get("DOCS_PICTURES") or tmp_path_factory.mktemp("pictures")
    failures = tmp_path_factory.mktemp("failures")
    # With a path, Selenium looks for no driver and downloads none.
    driver = Chrome(options, Service("/usr/bin/chromedriver"))
    try:
        pages = Pages(driver, installation.airflow.url, Path(pictures), failures)
        with pages.failures_pictured():
            pages.log_in()
        yield pages
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def triggered_run(installation: Installation, pages: Pages) -> TriggeredRun:
    """After the scheduled run, a run that somebody starts through the form with more epochs."""
    airflow = installation.airflow
    with pages.failures_pictured():
        pages.open(DAG_PAGE)
        pages.click(*PAUSE_SWITCH)
        airflow.processes.wait_for(
            lambda: bool(airflow.api.dag_runs(DAG_ID)), "the scheduler has started a run", PAGE_TIMEOUT
        )
        installation.wait_for_run(DAG_ID, airflow.api.dag_runs(DAG_ID)[0]["dag_run_id"])

        form = open_form(pages)
        enter_epochs(pages)
        # High enough for the whole form.
        pages.resize(1280, 1300)
        pages.take_picture("trigger_form", form)
        pages.resize(1280, 800)
        pages.click(*SUBMIT_BUTTON)

        pages.wait_for(lambda driver: "/runs/manual" in driver.current_url, "the page of the new run")
        address = pages.driver.current_url
        pages.wait_for(
            lambda driver: driver.find_element(*RUN_STATE).text in {"Success", "Failed"},
            "the page to show the end of the run",
            RUN_TIMEOUT,
        )
        assert pages.see(*RUN_STATE).text == "Success"
    run_id = unquote(address.rpartition("/runs/")[2])
    tuning_job, training_job = (airflow.api.xcom(DAG_ID, run_id, task)["job"] for task in ("tune", "train"))
    return TriggeredRun(
        address.removeprefix(airflow.url),
        tuning_job,
        installation.cloud._jobs.get_custom_job(name=training_job),
    )


def open_form(pages: Pages) -> WebElement:
    """Open the form that starts a run, on the page of the DAG."""
    pages.open(DAG_PAGE)
    pages.click(*FORM_BUTTON)
    pages.see(*SUBMIT_BUTTON)
    return pages.see(*DIALOG)


def enter_epochs(pages: Pages) -> None:
    """Overwrite the default of the field as a person does."""
    field = pages.see(By.NAME, "element_max_iter")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(EPOCHS)
    pages.wait_for(lambda _: field.get_attribute("aria-valuenow") == EPOCHS, f"the form to take {EPOCHS}")


def test_the_form_asks_for_every_parameter(pages: Pages) -> None:
    """Each parameter of the DAG has a field with a title in words and its default in it."""
    with pages.failures_pictured():
        form = open_form(pages)
        for title, name, default in (
            ("Region", "region", "europe-west4"),
            ("Machine type", "machine_type", "n1-standard-4"),
            ("Trials", "max_trial_count", "8"),
            ("Least learning rate", "least_learning_rate", "0.001"),
            ("Epochs", "max_iter", "40"),
            ("Night", "data_date", ""),
        ):
            assert title in form.text.splitlines()
            assert form.find_element(By.NAME, f"element_{name}").get_attribute("value") == default


def test_a_value_of_the_form_reaches_the_job(triggered_run: TriggeredRun) -> None:
    """What was changed in the form is among the arguments of the training, before those of the best trial."""
    arguments = triggered_run.training_job.job_spec.worker_pool_specs[0].container_spec.args
    flags = [argument.partition("=")[0] for argument in arguments]
    assert flags == ["--data-date", "--max-iter", "--learning_rate", "--hidden_units", "--alpha"]
    assert arguments[1] == f"--max-iter={EPOCHS}"


def test_the_finished_run_is_green(pages: Pages, triggered_run: TriggeredRun) -> None:
    """The page of the run shows that each of its tasks has succeeded."""

    def tasks_and_states(driver: Chrome) -> list[list[str]]:
        return sorted(row.text.splitlines()[:2] for row in driver.find_elements(*TASK_ROWS))

    with pages.failures_pictured():
        # Wide enough for the names of the operators, and no wider.
        pages.resize(1355, 790)
        pages.open(triggered_run.page)
        pages.click(*SORT_BY_START)
        expected = [[task, "Success"] for task in sorted(TASKS)]
        pages.wait_for(lambda driver: tasks_and_states(driver) == expected, "six tasks that have succeeded")
        pages.take_picture("finished_run")


def test_the_button_of_a_task_opens_its_job(pages: Pages, triggered_run: TriggeredRun) -> None:
    """Among the details of a task is a button that opens the console's page of its job in a new tab."""
    address = job_console_url(ResourceName.parse(triggered_run.tuning_job))
    with pages.failures_pictured():
        # High enough for the handle between grid and details to be below the tasks.
        pages.resize(1280, 720)
        pages.open(f"{triggered_run.page}/tasks/tune")
        pages.click(By.LINK_TEXT, "Details")
        assert pages.see(By.LINK_TEXT, "Vertex AI job").get_attribute("href") == address
        pages.take_picture("task_links")

        airflow_tab = pages.driver.current_window_handle
        pages.click(By.LINK_TEXT, "Vertex AI job")
        pages.wait_for(lambda driver: len(driver.window_handles) > 1, "a new tab")
        pages.driver.switch_to.window(pages.driver.window_handles[-1])
        # Nothing is loaded: the browser reaches no such host, and still tells where it was sent.
        pages.wait_for(lambda driver: driver.current_url == address, f"the new tab to go to {address}")
        pages.driver.close()
        pages.driver.switch_to.window(airflow_tab)
