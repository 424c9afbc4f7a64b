"""The GraphiQL page: its files, its headers, and how a real browser gets on with it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from graphql import build_client_schema, get_introspection_query, parse, validate
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from starlette.applications import Starlette
from starlette.routing import Route

from graphql_api.graphiql import assets, page
from tests.browser import click, console, foreign_requests, network, wait, wait_for_text
from tests.conftest import CLIENT

if TYPE_CHECKING:
    from tests.conftest import Service

STATIC = Path(__file__).parents[2] / "graphql_api" / "static" / "graphiql"
VERSIONS = json.loads((STATIC / "VERSIONS.json").read_text(encoding="utf-8"))
VENDORED = {entry["file"]: entry for entry in VERSIONS["files"]}

PAGE = "/"  # where the service shows the page
TABS = [
    "Recommendations",
    "Batch",
    "SimilarJobs",
    "JobAndCatalogue",
    "ModelAndRuns",
    "Why",
    "Retrain",
    "UpsertJobs",
]
RETRAIN = TABS.index("Retrain")

RUN = ".graphiql-execute-button"
QUERY = ".graphiql-query-editor .CodeMirror"
VARIABLES = ".graphiql-editor-tool .graphiql-editor:nth-child(1) .CodeMirror"
HEADERS = ".graphiql-editor-tool .graphiql-editor:nth-child(2) .CodeMirror"
RESPONSE = ".result-window .CodeMirror"


# The files and their headers: no browser, no server


def test_page_and_its_files_forbid_everything_from_elsewhere() -> None:
    for path in [
        "/",
        "/graphiql/main.js",
        "/graphiql/index.html",
        "/graphiql/vendor/react.production.min.js",
    ]:
        response = get(path)

        assert response.status_code == 200, path
        policy = dict(
            directive.strip().split(" ", 1)
            for directive in response.headers["content-security-policy"].split(";")
        )
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self' data:",
            "font-src": "'self' data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-cache"


def test_page_is_html_called_jobrec() -> None:
    response = get("/")

    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>jobrec</title>" in response.text


def test_page_names_only_files_that_are_served() -> None:
    html = get("/").text
    paths = re.findall(r'(?:src|href)="(/[^"]*)"', html)

    assert len(paths) == len(re.findall("<script|stylesheet", html))
    for path in paths:
        kind = "javascript" if path.endswith(".js") else "text/css"
        response = get(path)
        assert response.status_code == 200, path
        assert kind in response.headers["content-type"], path


def test_file_that_the_browser_has_is_not_sent_again() -> None:
    path = "/graphiql/vendor/graphiql.min.js"
    first = get(path)
    again = get(path, {"if-none-match": first.headers["etag"]})

    assert again.status_code == 304
    assert again.content == b""


def test_files_outside_the_folder_are_not_served() -> None:
    assert get("/graphiql/%2e%2e/%2e%2e/graphiql.py").status_code == 404
    assert get("/graphiql/missing.js").status_code == 404


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_file_is_the_one_that_was_recorded(name: str) -> None:
    content = (STATIC / name).read_bytes()

    assert hashlib.sha256(content).hexdigest() == VENDORED[name]["sha256"]
    assert b"sourceMappingURL" not in content


def test_every_vendored_file_is_recorded_with_its_licence() -> None:
    licences = (STATIC / "LICENSES.md").read_text(encoding="utf-8")

    assert sorted(VENDORED) == sorted(
        f"vendor/{path.name}" for path in (STATIC / "vendor").iterdir()
    )
    for entry in VENDORED.values():
        assert f"{entry['package']} (MIT)" in licences


@pytest.mark.parametrize("name", ["index.html", "main.js", "style.css"])
def test_own_file_names_no_other_host(name: str) -> None:
    text = (STATIC / name).read_text(encoding="utf-8")

    # A W3C namespace is a name, not an address that is loaded.
    assert re.findall(r"(?:https?:|wss?:)?//(?!www\.w3\.org/)[\w.-]+\.\w+", text) == []
    assert re.findall(r"https?://(?!www\.w3\.org/)", text) == []


# The page in a browser, on the real service


@pytest.mark.slow
def test_first_query_answers_and_the_browser_stays_silent_and_on_this_origin(
    service: Service, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    open_page(browser, service)
    assert browser.title == "jobrec"
    assert tab_titles(browser) == TABS

    click(browser, RUN)
    wait_for_text(browser, RESPONSE, '"recommendations"')
    wait_for_text(browser, RESPONSE, '"items"')
    assert browser.save_screenshot(str(tmp_path / "graphiql.png"))

    click(browser, "[aria-label='Open settings dialog']")
    wait(browser).until(
        expected_conditions.visibility_of_element_located((By.CSS_SELECTOR, ".graphiql-dialog"))
    )

    assert console(browser) == []
    assert foreign_requests(browser, service.url) == []


@pytest.mark.slow
def test_queries_of_the_tabs_fit_the_schema_and_answer(
    service: Service, browser: webdriver.Chrome
) -> None:
    open_page(browser, service)
    introspection = post(service, {"query": get_introspection_query()})
    schema = build_client_schema(introspection["data"])

    tabs = stored(browser)["tabs"]

    for title, tab in zip(TABS, tabs, strict=True):
        assert validate(schema, parse(tab["query"])) == [], title
        assert tab["query"].startswith("# "), title
    for title, tab in zip(TABS[:RETRAIN], tabs[:RETRAIN], strict=True):
        answer = post(service, {"query": tab["query"], "variables": json.loads(tab["variables"])})
        assert "errors" not in answer, title
        assert None not in answer["data"].values(), title


@pytest.mark.slow
def test_edited_tab_outlives_a_reload_and_headers_do_not(
    service: Service, browser: webdriver.Chrome
) -> None:
    open_page(browser, service)
    query, variables = "query Mine { model { version } }", '{"runId": "mine"}'
    set_editor(browser, QUERY, query)
    wait_for_text(browser, "#graphiql-session-tab-0", "Mine")
    open_tab(browser, RETRAIN)
    click(browser, "[data-name='headers']")
    wait_for_text(browser, HEADERS, "Bearer")
    set_editor(browser, HEADERS, '{"Authorization": "Bearer hush"}')
    set_editor(browser, VARIABLES, variables)
    wait(browser).until(lambda _: stored(browser)["tabs"][RETRAIN]["variables"] == variables)

    open_page(browser, service)

    assert tab_titles(browser) == ["Mine", *TABS[1:]]
    assert stored(browser)["tabs"][0]["query"] == query
    assert "hush" not in browser.execute_script("return JSON.stringify(localStorage)")
    click(browser, "[data-name='headers']")
    assert "Bearer" not in browser.find_element(By.CSS_SELECTOR, HEADERS).text
    assert console(browser) == []


@pytest.mark.slow
def test_history_keeps_what_was_asked_without_the_headers(
    service: Service, browser: webdriver.Chrome
) -> None:
    open_page(browser, service)
    batch = TABS.index("Batch")
    open_tab(browser, batch)
    set_editor(browser, HEADERS, '{"X-Note": "hush"}')
    # It notices a little late that the operation is another one.
    wait(browser).until(lambda _: stored(browser)["tabs"][batch]["operationName"] == "Batch")
    click(browser, RUN)
    wait_for_text(browser, RESPONSE, '"batchRecommendations"')

    kept = browser.execute_script("return JSON.stringify(localStorage)")
    assert "query Batch" in browser.execute_script("return localStorage['jobrec:graphiql:queries']")
    assert "hush" not in kept


@pytest.mark.slow
def test_subscription_takes_the_headers_along_on_its_web_socket(
    service: Service, browser: webdriver.Chrome
) -> None:
    open_page(browser, service)
    open_tab(browser, RETRAIN)
    headers = {"Authorization": f"Bearer {service.admin_token}"}
    set_editor(browser, HEADERS, json.dumps(headers))

    run_operation(browser, "FollowRun")

    frames: list[dict[str, Any]] = []

    def acknowledged(_: webdriver.Chrome) -> bool:
        frames.extend(sent_frames(browser))
        return any(frame["type"] == "subscribe" for frame in frames)

    wait(browser).until(acknowledged)
    assert frames[0] == {"type": "connection_init", "payload": headers}
    assert frames[1]["payload"]["operationName"] == "FollowRun"


@pytest.mark.slow
def test_query_mutation_and_subscription_are_answered_and_the_browser_stays_silent(
    service: Service, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    open_page(browser, service)
    click(browser, RUN)
    wait_for_text(browser, RESPONSE, '"items"')

    open_tab(browser, RETRAIN)
    set_editor(browser, HEADERS, json.dumps({"Authorization": f"Bearer {service.admin_token}"}))
    run_operation(browser, "Retrain")
    wait_for_text(browser, RESPONSE, '"run"')
    run_id = json.loads(editor(browser, RESPONSE))["data"]["retrain"]["run"]["id"]

    set_editor(browser, VARIABLES, json.dumps({"runId": run_id}))
    run_operation(browser, "FollowRun")
    wait_for_text(browser, RESPONSE, '"ENDED"')

    last = json.loads(editor(browser, RESPONSE))["data"]["trainingRun"]
    assert (last["id"], last["status"], last["promoted"]) == (run_id, "SUCCEEDED", True)
    assert browser.save_screenshot(str(tmp_path / "followed.png"))
    assert console(browser) == []
    assert foreign_requests(browser, service.url) == []


@pytest.mark.slow
def test_policy_lets_the_page_open_a_web_socket_to_its_own_host_only(
    service: Service, browser: webdriver.Chrome
) -> None:
    open_page(browser, service)
    connect = """
        const [url, done] = arguments;
        document.addEventListener("securitypolicyviolation", () => done("forbidden"));
        const socket = new WebSocket(url, "graphql-transport-ws");
        socket.onopen = () => { socket.close(); done("open"); };
    """
    own = service.url.replace("http", "ws", 1) + "/graphql"

    assert browser.execute_async_script(connect, own) == "open"
    assert browser.execute_async_script(connect, "ws://foreign.invalid/graphql") == "forbidden"


# Helpers


def get(path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Ask an application that has the page and nothing else."""
    app = Starlette(routes=[Route("/", page), assets()])

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def post(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = CLIENT.post(f"{service.url}/graphql", json=body, timeout=30).json()
    return answer


def open_page(browser: webdriver.Chrome, service: Service) -> None:
    """Load the page and wait for what it fetches: the Explorer needs the schema."""
    browser.get(service.url + PAGE)
    wait_for_text(browser, ".graphiql-explorer-root", "Add new")


def open_tab(browser: webdriver.Chrome, index: int) -> None:
    click(browser, f"#graphiql-session-tab-{index}")


def set_editor(browser: webdriver.Chrome, css: str, text: str) -> None:
    script = "document.querySelector(arguments[0]).CodeMirror.setValue(arguments[1])"
    browser.execute_script(script, css, text)


def editor(browser: webdriver.Chrome, css: str) -> str:
    """Return an editor's whole text; only a part of it is on the screen."""
    script = "return document.querySelector(arguments[0]).CodeMirror.getValue()"
    text: str = browser.execute_script(script, css)
    return text


def run_operation(browser: webdriver.Chrome, name: str) -> None:
    """Run one operation of several: GraphiQL asks which."""
    click(browser, f"{RUN}[aria-haspopup='menu']")
    item = (By.XPATH, f"//*[@role='menuitem'][.='{name}']")
    wait(browser).until(expected_conditions.element_to_be_clickable(item)).click()


def tab_titles(browser: webdriver.Chrome) -> list[str]:
    return [tab.text for tab in browser.find_elements(By.CSS_SELECTOR, ".graphiql-tab-button")]


def stored(browser: webdriver.Chrome) -> dict[str, Any]:
    """Return what GraphiQL keeps of its tabs for the next visit; it writes half a second late."""
    script = "return localStorage.getItem('jobrec:graphiql:tabState')"
    state: dict[str, Any] = json.loads(
        wait(browser).until(lambda _: browser.execute_script(script))
    )
    return state


def sent_frames(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    """Return the messages that the page has sent over web sockets since the last call."""
    events = network(browser, "webSocketFrameSent")
    return [json.loads(event["response"]["payloadData"]) for event in events]
