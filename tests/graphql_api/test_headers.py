"""Headers of every answer: nothing of it belongs into a cache."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import CLIENT, Service

# Processes of their own take their time
pytestmark = pytest.mark.slow

MODEL = {"query": "{ model { version } }"}
FOLLOW = {"query": 'subscription { trainingRun(id: "nobody") { id } }'}


@pytest.mark.parametrize(
    ("method", "path", "status", "given"),
    [
        ("POST", "/graphql", 200, {"json": MODEL}),
        ("GET", "/graphql", 200, {"params": MODEL, "headers": {"Accept": "application/json"}}),
        ("POST", "/graphql", 200, {"json": FOLLOW, "headers": {"Accept": "text/event-stream"}}),
        ("POST", "/graphql", 400, {"json": {}}),
        ("POST", "/graphql", 401, {"json": MODEL, "headers": {"Authorization": "Bearer wrong"}}),
        ("PUT", "/graphql", 405, {}),
        ("POST", "/graphql", 413, {"content": b" " * ((1 << 20) + 1)}),
        ("GET", "/healthz", 200, {}),
        ("GET", "/readyz", 200, {}),
        ("GET", "/metrics", 200, {}),
        ("GET", "/nowhere", 404, {}),
        ("DELETE", "/healthz", 405, {}),
    ],
)
def test_answer_is_not_for_caches_nor_for_guessing(
    service: Service, method: str, path: str, status: int, given: dict[str, Any]
) -> None:
    headers = {"Content-Type": "application/json", **given.get("headers", {})}
    request = {**given, "headers": headers, "timeout": 30}
    answer = CLIENT.request(method, service.url + path, **request)
    assert answer.status_code == status
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


def test_files_of_the_page_keep_their_own_word_on_caches(service: Service) -> None:
    page = CLIENT.get(service.url, headers={"Accept": "text/html"})
    assert page.headers.get_list("cache-control") == ["no-cache"]
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]
