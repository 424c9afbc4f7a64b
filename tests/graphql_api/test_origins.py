"""Which pages may call: our own, and those of the origins that are listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.conftest import CLIENT, NewState, Service, jobrec, serving

# Processes of their own take their time
pytestmark = pytest.mark.slow

LISTED = "https://jobs.example"
OTHER = "https://elsewhere.example"
QUERY = {"query": "{ model { version } }"}


@pytest.fixture(scope="module")
def listing(demo_data: Path, new_state: NewState) -> Iterator[Service]:
    origins = f"{LISTED}, http://localhost:5173"
    with serving(demo_data, new_state(), JOBREC_CORS_ORIGINS=origins) as running:
        yield running


def preflight(service: Service, origin: str, method: str = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return CLIENT.options(f"{service.url}/graphql", headers=headers)


def post(service: Service, origin: str, **headers: str) -> httpx.Response:
    return CLIENT.post(f"{service.url}/graphql", json=QUERY, headers={"Origin": origin, **headers})


@pytest.mark.parametrize("origin", [LISTED, "http://localhost:5173"])
def test_listed_page_may_post_with_a_token_but_without_cookies(
    listing: Service, origin: str
) -> None:
    asked = preflight(listing, origin)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == origin
    assert asked.headers["access-control-allow-methods"] == "GET, POST"
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in asked.headers

    answer = post(listing, origin)
    assert answer.json()["data"]["model"]["version"]
    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in answer.headers


def test_listed_page_can_read_why_its_token_was_refused(listing: Service) -> None:
    answer = post(listing, LISTED, Authorization="Bearer wrong")
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", [OTHER, "https://jobs.example.elsewhere.example", "null"])
def test_page_that_is_not_listed_gets_no_leave(listing: Service, origin: str) -> None:
    asked = preflight(listing, origin)
    assert asked.status_code == 400
    assert "access-control-allow-origin" not in asked.headers
    assert "access-control-allow-origin" not in post(listing, origin).headers


def test_without_a_list_nobody_gets_leave(service: Service) -> None:
    asked = preflight(service, LISTED)
    assert asked.status_code == 405
    assert "access-control-allow-origin" not in asked.headers
    assert "access-control-allow-origin" not in post(service, LISTED).headers


@pytest.mark.parametrize("origin", [None, "same", LISTED, OTHER, "null"])
def test_web_socket_is_for_our_own_pages_listed_ones_and_what_is_no_browser(
    listing: Service, origin: str | None
) -> None:
    given = listing.url if origin == "same" else origin
    status = 101
    try:
        with connect(
            f"{listing.url.replace('http', 'ws', 1)}/graphql",
            origin=None if given is None else Origin(given),
            subprotocols=[Subprotocol("graphql-transport-ws")],
        ):
            pass
    except InvalidStatus as error:
        status = error.response.status_code
    assert status == (403 if origin in {OTHER, "null"} else 101)


@pytest.mark.parametrize(
    "origins",
    ["*", "jobs.example", "https://jobs.example/", "https://Jobs.example", "ftp://jobs.example"],
)
def test_what_is_no_origin_is_told_at_start(origins: str, tmp_path: Path) -> None:
    ended = jobrec("serve", "--state", tmp_path, "--cors-origins", origins, check=False)
    assert ended.returncode == 2
    assert "JOBREC_CORS_ORIGINS" in ended.stderr
    assert f"{origins!r} is no origin as browsers send it" in ended.stderr


@pytest.mark.parametrize(
    "query",
    [
        "mutation { rollbackModel { __typename } }",
        "mutation M { retrain(input: {}) { __typename } }",
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/event-stream"])
def test_link_cannot_change_anything(service: Service, query: str, accept: str) -> None:
    answer = CLIENT.get(
        f"{service.url}/graphql",
        params={"query": query},
        headers={"Authorization": f"Bearer {service.admin_token}", "Accept": accept},
    )
    assert "mutations are not allowed" in answer.text
    assert "BAD_REQUEST" in answer.text
    assert "__typename" not in answer.text


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_form_of_another_page_cannot_post(service: Service, content_type: str) -> None:
    answer = CLIENT.post(
        f"{service.url}/graphql",
        content='{"query": "{ model { version } }"}',
        headers={"Content-Type": content_type},
    )
    assert answer.status_code == 415


def test_page_of_a_foreign_site_does_not_even_make_a_query_run(service: Service) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Accept": "*/*"}
    for answer in (
        CLIENT.get(f"{service.url}/graphql", headers=headers, params=QUERY),
        CLIENT.post(f"{service.url}/graphql", headers=headers, json=QUERY),
    ):
        assert answer.status_code == 403
        (error,) = answer.json()["errors"]
        assert error["extensions"] == {"code": "FORBIDDEN"}


def test_link_of_a_foreign_site_shows_the_page(service: Service) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Accept": "text/html"}
    answer = CLIENT.get(f"{service.url}/graphql", headers=headers)
    assert "<title>jobrec</title>" in answer.text
