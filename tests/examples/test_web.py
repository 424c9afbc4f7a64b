"""The example page: built from its lock file, served under its policy, driven in a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests import node
from tests.browser import click, console, find_all, foreign_requests, wait, wait_for_text
from tests.conftest import CLIENT, Service, free_port

ROOT = Path(__file__).parents[2]
SDL = Path("graphql_api") / "schema.graphql"
PROJECT = Path("examples") / "web"

RECOMMENDED = "section[aria-labelledby=recommendations]"
SIMILAR = "section[aria-labelledby=similar]"
ADMIN = "section[aria-labelledby=admin]"
PHASES = [
    "Connecting",
    "Waiting",
    "Reading the activities",
    "Measuring on the hold-out",
    "Learning from everything",
    "Storing the model",
    "Deciding whether it goes live",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built page, beside a copy of the schema that it is typed by."""
    root = tmp_path_factory.mktemp("root")
    (root / SDL).parent.mkdir()
    shutil.copy(ROOT / SDL, root / SDL)
    node.install(ROOT / PROJECT, root / PROJECT)
    node.run([node.tool("npm"), "run", "build"], root / PROJECT)
    return root / PROJECT


@pytest.fixture(scope="module")
def page(built: Path, service: Service) -> Iterator[str]:
    """Return the address of the built page, which reaches the service on its own origin."""
    with _previewing(built, service.url) as address:
        yield address


@contextmanager
def _previewing(project: Path, service_url: str) -> Iterator[str]:
    port = free_port()
    vite = ["node_modules/vite/bin/vite.js", "preview", "--strictPort"]
    with subprocess.Popen(
        [node.tool("node"), *vite, "--host", "127.0.0.1", "--port", str(port)],
        cwd=project,
        env={**os.environ, "JOBREC_URL": service_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            # It tells its address when it listens, and ends its output where it cannot
            said = next((line for line in process.stdout if str(port) in line), None)
            assert said is not None, f"vite preview ended with {process.wait()}"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_it_is_served_under_the_strict_policy(page: str) -> None:
    policy = CLIENT.get(page).headers["content-security-policy"]

    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; font-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def test_a_person_sees_recommendations_and_similar_jobs(
    page: str, service: Service, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    expected = service.data_of(
        """{ recommendations(userId: 2) { items { score
          job { id title employer { name } location } } } }"""
    )["recommendations"]["items"]
    browser.get(page)
    wait_for_text(browser, f"{RECOMMENDED} .cards", "For you")

    _choose_person(browser, "2")
    wait_for_text(browser, f"{RECOMMENDED} .cards", expected[0]["job"]["title"])

    cards = [card.text for card in find_all(browser, f"{RECOMMENDED} .card")]
    for card, item in zip(cards, expected, strict=True):
        job = item["job"]
        for shown in (
            job["title"],
            job["employer"]["name"],
            job["location"],
            f"{item['score']:.3f}",
        ):
            assert shown in card
    similar = service.data_of(
        "query ($id: ID!) { similarJobs(jobId: $id, first: 5) { items { job { title } } } }",
        id=expected[0]["job"]["id"],
    )["similarJobs"]["items"]

    click(browser, f"{RECOMMENDED} .card .title")
    wait_for_text(browser, SIMILAR, f"Like “{expected[0]['job']['title']}”")

    titles = [title.text for title in find_all(browser, f"{SIMILAR} .title")]
    assert titles == [item["job"]["title"] for item in similar]
    assert browser.save_screenshot(str(tmp_path / "page.png"))
    assert console(browser) == []
    assert foreign_requests(browser, page) == []


def test_a_newcomer_gets_popular_jobs(page: str, browser: webdriver.Chrome) -> None:
    browser.get(page)
    wait_for_text(browser, ".suggestions", "999999 (newcomer)")

    click(browser, ".suggestions li:last-child button")

    wait_for_text(browser, f"{RECOMMENDED} h2", "999999")
    wait_for_text(browser, f"{RECOMMENDED} .cards", "Popular")


def test_what_is_no_person_is_said_in_the_words_of_the_service(
    page: str, browser: webdriver.Chrome
) -> None:
    browser.get(page)

    _choose_person(browser, "me")

    wait_for_text(browser, f"{RECOMMENDED} [role=alert]", "'me'")
    wait_for_text(browser, f"{RECOMMENDED} [role=alert]", "BAD_USER_INPUT")


def test_an_admin_retrains_and_follows_the_run_to_its_end(
    page: str, service: Service, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    browser.get(page)
    wait_for_text(browser, f"{RECOMMENDED} .cards", "For you")
    browser.find_element(By.ID, "token").send_keys(service.admin_token)

    _listen(browser)

    click(browser, f"{ADMIN} [type=submit]")
    wait_for_text(browser, ".run", "is live")

    *phases, outcome = browser.execute_script("return window.said")
    assert phases == [phase for phase in PHASES if phase in phases]
    assert "Learning from everything" in phases
    (version,) = re.findall(r"Model (\S+) is live", outcome)
    run = service.data_of(
        "query ($id: ID!) { trainingRun(id: $id) { promoted note } }", id=version
    )["trainingRun"]
    assert run == {"promoted": True, "note": "asked for on the page"}
    assert browser.save_screenshot(str(tmp_path / "admin.png"))

    wait(browser).until(
        lambda _: service.data_of("{ model { version } }")["model"]["version"] == version
    )
    click(browser, ".run button")
    wait_for_text(browser, f"{RECOMMENDED} .note", version)
    assert service.admin_token not in browser.execute_script(
        "return JSON.stringify([localStorage, sessionStorage, document.cookie])"
    )
    assert console(browser) == []
    assert foreign_requests(browser, page) == []


def test_who_is_no_admin_is_told_so(page: str, browser: webdriver.Chrome) -> None:
    browser.get(page)
    browser.find_element(By.ID, "token").send_keys("a guess", Keys.ENTER)

    code = wait(browser).until(lambda _: find_all(browser, f"{ADMIN} [role=alert] code"))[0]
    assert code.text in {"FORBIDDEN", "UNAUTHENTICATED"}
    assert find_all(browser, ".run") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_shuts_people_out(
    page: str, clients: Path, browser: webdriver.Chrome, scheme: str
) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page)
    click(browser, f"{RECOMMENDED} .card .title")
    wait_for_text(browser, SIMILAR, "Like")
    browser.find_element(By.ID, "token").send_keys("a guess", Keys.ENTER)
    wait(browser).until(lambda _: find_all(browser, f"{ADMIN} [role=alert] code"))

    browser.execute_script((clients / "node_modules" / "axe-core" / "axe.min.js").read_text())
    report = browser.execute_async_script("axe.run().then(arguments[0])")

    assert [(rule["id"], rule["nodes"]) for rule in report["violations"]] == []
    assert "color-contrast" in {rule["id"] for rule in report["passes"]}


def test_what_the_schema_adds_must_be_handled_before_it_compiles(
    built: Path, tmp_path: Path
) -> None:
    schema = (ROOT / SDL).read_text()
    for now, then in (
        ("union RetrainResult = ", "union RetrainResult = ModelNotUsable | "),
        ("enum RecommendationSource {", "enum RecommendationSource {\n  SPONSORED"),
    ):
        assert now in schema
        schema = schema.replace(now, then)
    project = tmp_path / PROJECT
    node.copy(ROOT / PROJECT, project)
    (project / "node_modules").symlink_to(built / "node_modules")
    (tmp_path / SDL).parent.mkdir()
    (tmp_path / SDL).write_text(schema)

    node.run([node.tool("npm"), "run", "codegen"], project)
    compiled = subprocess.run(
        [node.tool("node"), "node_modules/typescript/bin/tsc"],
        cwd=project,
        check=False,
        capture_output=True,
        text=True,
    )

    assert compiled.returncode != 0
    (union,) = (line for line in compiled.stdout.splitlines() if "ModelNotUsable" in line)
    (source,) = (line for line in compiled.stdout.splitlines() if "SPONSORED" in line)
    assert union.startswith("src/AdminPanel.tsx")
    assert source.startswith("src/Recommendations.tsx")


def _choose_person(browser: webdriver.Chrome, user_id: str) -> None:
    field = browser.find_element(By.ID, "person")
    field.clear()
    field.send_keys(user_id, Keys.ENTER)


def _listen(browser: webdriver.Chrome) -> None:
    """Keep what the page's live region says from now on."""
    browser.execute_script(
        """
        window.said = [];
        new MutationObserver(() => {
          const text = document.querySelector(".run [aria-live=polite]")?.textContent;
          if (text && text !== window.said.at(-1)) window.said.push(text);
        }).observe(document.body, { subtree: true, childList: true, characterData: true });
        """
    )
