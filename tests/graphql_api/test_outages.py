"""A catalogue that does not answer: lists go on without it and say so."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette

from domain.model import User
from graphql_api.probes import probes
from tests.fakes import FakeCatalog
from tests.graphql_api.graph import Graph, adverts, graph_over

LISTS = """{ recommendations(userId: 1) { partial user { id }
    items { rank score job { id title isOpen employer { name jobCount } } } }
  similarJobs(jobId: 2) { partial job { id title } items { score job { id title } } } }"""
UNAVAILABLE = "CATALOGUE_UNAVAILABLE"


@pytest.fixture
def graph() -> Graph:
    return graph_over(FakeCatalog(adverts(12), [User(id_) for id_ in range(6)]))


def test_lists_go_on_with_ids_and_scores_say_so_and_recover(
    graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "graphql_api.outages")
    whole = graph.post(LISTS)
    assert "partial" not in whole["extensions"]
    graph.catalog.is_down = True
    for _ in range(2):
        degraded = graph.post(LISTS)
        assert "errors" not in degraded
        assert degraded["extensions"]["partial"] == UNAVAILABLE
        for name in ("recommendations", "similarJobs"):
            full, partial = whole["data"][name], degraded["data"][name]
            assert (full["partial"], partial["partial"]) == (None, UNAVAILABLE)
            assert [
                (item["score"], item["job"]["id"], item["job"]["title"])
                for item in partial["items"]
            ] == [(item["score"], item["job"]["id"], None) for item in full["items"]]
    graph.catalog.is_down = False
    assert graph.post(LISTS) == whole
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert len(graph.began) == 1


def test_ids_alone_are_marked_where_changes_may_not_be_heeded(graph: Graph) -> None:
    query = "{ recommendations(userId: 1) { partial items { job { id } } } }"
    graph.data(query)
    graph.catalog.put(*adverts(1))
    graph.catalog.is_down = True
    assert graph.data(query)["recommendations"]["partial"] == UNAVAILABLE


def test_what_was_last_known_counts_in_an_outage(graph: Graph) -> None:
    query = "{ recommendations(userId: 1, first: 12) { items { job { id } } } }"
    graph.data('mutation { closeJobs(input: {ids: ["3"]}) { __typename } }')
    graph.data('mutation { eraseUser(input: {id: "1"}) { __typename } }')
    before = graph.data(query)
    graph.catalog.put(*adverts(1))
    graph.catalog.is_down = True
    assert graph.data(query) == before
    assert "3" not in {item["job"]["id"] for item in before["recommendations"]["items"]}


def test_where_nothing_is_known_nobody_is_and_filters_admit_nothing(graph: Graph) -> None:
    graph.catalog.is_down = True
    data = graph.data(
        """{ all: recommendations(userId: 1) { partial items { source } }
        some: recommendations(userId: 1, where: {employer: "Employer 1"}) { partial items { rank } }
        }"""
    )
    assert {item["source"] for item in data["all"]["items"]} == {"POPULAR"}
    assert data["some"] == {"partial": UNAVAILABLE, "items": []}


@pytest.mark.parametrize(
    "query",
    [
        "{ job(id: 1) { id } }",
        "{ jobs { edges { cursor } } }",
        "{ user(id: 1) { id } }",
        '{ employer(name: "Employer 1") { name } }',
        'mutation { closeJobs(input: {ids: ["1"]}) { __typename } }',
        'mutation { eraseUser(input: {id: "1"}) { __typename } }',
    ],
)
def test_what_is_nothing_but_catalogue_asks_to_come_again(graph: Graph, query: str) -> None:
    graph.catalog.is_down = True
    (error,) = graph.post(query)["errors"]
    assert error["extensions"] == {"code": UNAVAILABLE, "retryAfter": 2}


def test_an_outage_is_seen_and_its_end_too_where_nobody_asks(graph: Graph) -> None:
    outages, seen = graph.services.outages, []
    for is_down in (False, True, False):
        graph.catalog.is_down = is_down
        outages.look()
        seen.append(outages.trouble)
    assert seen == [None, "the catalogue is down", None]


def test_readiness_tells_of_an_outage_and_does_not_fail(graph: Graph) -> None:
    graph.catalog.is_down = True
    graph.services.outages.look()
    app = Starlette(routes=probes(graph.services))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get("http://service/readyz")

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert answer.json()["reasons"] == ["the catalogue does not answer: the catalogue is down"]
