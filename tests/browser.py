"""A real browser: what it is told to do, and what it says of a page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE_SECONDS = 30


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Run a headless Chromium that keeps its console and its requests."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        if "CI" in os.environ:
            pytest.fail("chromium and chromium-driver are missing")
        pytest.skip("install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "--headless=new",
        "--no-sandbox",  # Chromium refuses to run as root with its sandbox, as in a container
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1440,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def wait(browser: webdriver.Chrome) -> WebDriverWait[webdriver.Chrome]:
    """Return what waits for a condition."""
    return WebDriverWait(browser, PATIENCE_SECONDS, poll_frequency=0.1)


def click(browser: webdriver.Chrome, css: str) -> None:
    """Click on something as soon as it can be clicked."""
    wait(browser).until(expected_conditions.element_to_be_clickable((By.CSS_SELECTOR, css))).click()


def find_all(browser: webdriver.Chrome, css: str) -> list[WebElement]:
    """Return what a selector selects now."""
    return browser.find_elements(By.CSS_SELECTOR, css)


def wait_for_text(browser: webdriver.Chrome, css: str, text: str) -> None:
    """Wait until something shows a text."""
    wait(browser).until(
        expected_conditions.text_to_be_present_in_element((By.CSS_SELECTOR, css), text)
    )


def console(browser: webdriver.Chrome) -> list[str]:
    """Return what the browser complained of: script errors, missing files, policy violations."""
    return [entry["message"] for entry in _log(browser, "browser")]


def foreign_requests(browser: webdriver.Chrome, home: str) -> list[str]:
    """Return where requests and web sockets went that did not go to the page's own origin."""
    network_log = network(browser, "requestWillBeSent", "webSocketCreated")
    urls = [event.get("url") or event["request"]["url"] for event in network_log]
    assert f"{home}/graphql" in urls

    def is_at_home(url: str) -> bool:
        parts = urlsplit(url)
        # "chrome": the new tab, before the page is opened
        return parts.scheme in {"data", "blob", "chrome"} or parts.netloc == urlsplit(home).netloc

    return [url for url in urls if not is_at_home(url)]


def network(browser: webdriver.Chrome, *names: str) -> list[dict[str, Any]]:
    """Return what happened on the network under these names since the last look at the log."""
    messages = [json.loads(entry["message"])["message"] for entry in _log(browser, "performance")]
    methods = {f"Network.{name}" for name in names}
    return [message["params"] for message in messages if message["method"] in methods]


def _log(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return entries
