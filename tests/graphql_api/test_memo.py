"""Answers are given again as they were, to whoever may see them, until something changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from adapters.factors import FactorRecommender
from application.recommending import Footing, Models, Recommending
from domain.errors import CatalogUnavailable
from domain.model import Activity, ActivityKind, Job, User
from domain.ranking import RankingPolicy
from graphql_api import endpoint as endpoint_module
from graphql_api.auth import Authenticator, Caller
from graphql_api.documents import Documents
from graphql_api.endpoint import Endpoint, Guards
from graphql_api.memo import Grounds, Memo
from graphql_api.negotiation import RESPONSE_JSON
from graphql_api.pricing import Toll
from graphql_api.rates import Rates
from graphql_api.schema import create_schema, micro_batches
from graphql_api.settings import TrustedDocuments
from graphql_api.sockets import SocketLimits, Sockets
from tests.fakes import FakeCatalog, FakeRecentActivities, FakeSnapshotStore, ManualClock
from tests.graphql_api.graph import (
    ADMIN,
    ANONYMOUS,
    SERVICE,
    Graph,
    adverts,
    graph_over,
    person,
    store_model,
)

ONE = "query ($id: ID!) { recommendations(userId: $id, first: 5) { items { job { id title } } } }"


class Site:
    """The endpoint over fakes, which counts what is given again."""

    def __init__(self, graph: Graph, most: int, rates: Rates) -> None:
        self.catalog, self.clock = graph.catalog, graph.clock
        self.recent, self.snapshots = FakeRecentActivities(), FakeSnapshotStore()
        store_model(self.snapshots)
        self.models = Models(self.snapshots, lambda _, held: FactorRecommender.from_arrays(held))
        self.models.refresh()
        self.caller = ANONYMOUS
        self.remembered = 0
        services = graph.services
        vars(services)["models"] = self.models
        vars(services)["recommending"] = recommending = Recommending(
            self.models, self.catalog, RankingPolicy(), self.clock, self.recent
        )
        vars(services)["lists"] = micro_batches(
            *(services.runtime, recommending, self.catalog, services.remembered),
            *(self.clock, services.outages),
        )
        guards = Guards(
            cast("Authenticator", self),
            rates,
            Sockets(SocketLimits(1, 1, 1)),
            Documents(TrustedDocuments.OFF, {}),
            ("GET", "POST"),
            (),
        )
        schema = create_schema(toll=Toll(20_000, guards.spend, lambda: 12))
        endpoint = Endpoint(services, schema, guards, Memo(most, recommending.present_footing))
        self._app = Starlette(routes=[Route("/graphql", endpoint)])

    async def identify(self, _authorization: object, _address: str) -> Caller:
        """Take everybody for whom the test says."""
        return self.caller

    def ask(
        self, query: str = ONE, *, accept: str = "application/json", **variables: Any
    ) -> httpx.Response:
        return self.ask_all([{"query": query, "variables": variables or {"id": "1"}}], accept)[0]

    def ask_all(self, bodies: list[dict[str, Any]], accept: str = "*/*") -> list[httpx.Response]:
        async def run() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                return [
                    await client.post("/graphql", json=body, headers={"Accept": accept})
                    for body in bodies
                ]

        return asyncio.run(run())

    def ask_bytes(self, body: bytes) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                headers = {"Content-Type": "application/json"}
                return await client.post("/graphql", content=body, headers=headers)

        return asyncio.run(run())

    def is_remembered(self, query: str = ONE, **variables: Any) -> bool:
        """Ask, and tell whether the answer was one that was given before."""
        before = self.remembered
        answer = self.ask(query, **variables)
        assert answer.status_code == 200
        return self.remembered > before


NewSite = Callable[..., Site]


@pytest.fixture
def new_site(monkeypatch: pytest.MonkeyPatch) -> NewSite:
    def made(most: int = 1 << 20, requests: int = 0, cost: int = 0) -> Site:
        jobs = adverts(12)
        jobs[4] = Job(4, "Closing", "Employer 1", closes_at=ManualClock().now + timedelta(hours=1))
        users = [User(id_, 2027, "state") for id_ in range(6)]
        site = Site(graph_over(FakeCatalog(jobs, users)), most, Rates(requests, cost, "memory://"))

        def count() -> None:
            site.remembered += 1

        monkeypatch.setattr(endpoint_module, "count_remembered", count)
        return site

    return made


@pytest.fixture
def site(new_site: NewSite) -> Site:
    return new_site()


BATCH = "query ($id: ID!) { batchRecommendations(userIds: [$id, 2]) { items { rank } } }"
SIMILAR = "query ($id: ID!) { similarJobs(jobId: $id) { items { job { id isOpen } } } }"


@pytest.mark.parametrize("query", [ONE, BATCH, SIMILAR])
def test_an_equal_question_gets_the_same_bytes(site: Site, query: str) -> None:
    first, second = site.ask(query), site.ask(query)
    assert site.remembered == 1
    assert (first.content, first.headers) == (second.content, second.headers)


def test_variables_are_equal_in_any_order_and_others_are_not(site: Site) -> None:
    query = (
        "query ($id: ID!, $n: Int!) { recommendations(userId: $id, first: $n) { items { rank } } }"
    )
    assert not site.is_remembered(query, id="1", n=3)
    assert site.is_remembered(query, n=3, id="1")
    assert not site.is_remembered(query, id="1", n=4)
    assert not site.is_remembered(query, id="2", n=3)


@pytest.mark.parametrize(
    "query",
    [
        "{ model { version } }",
        "{ jobs { edges { node { id } } } }",
        "{ recommendations(userId: 1) { items { rank } } model { version } }",
        "{ similarJobs(jobId: 1) { job { employer { jobs { edges { cursor } } } } } }",
        "{ __typename }",
        "{ recommendations(userId: 1) @skip(if: true) { items { rank } } }",
        "mutation { closeJobs(input: {ids: []}) { __typename } }",
    ],
)
def test_what_does_not_tell_on_what_it_stands_is_worked_out_each_time(
    site: Site, query: str
) -> None:
    site.caller = ADMIN
    assert not any(site.is_remembered(query) for _ in range(3))


def test_an_error_is_worked_out_each_time(site: Site) -> None:
    for _ in range(2):
        answer = site.ask("query ($id: ID!) { recommendations(userId: $id, first: 0) { partial } }")
        assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert site.remembered == 0


def test_who_may_see_less_gets_nothing_of_what_others_were_given(site: Site) -> None:
    site.caller = person(1)
    assert not site.is_remembered()
    assert site.is_remembered()
    for caller in (person(2), ANONYMOUS, SERVICE, ADMIN):
        site.caller = caller
        refused = "errors" in site.ask().json()
        assert refused == (caller.subject == "2")
        assert site.remembered == 1


def test_each_media_type_is_answered_in_its_own(site: Site) -> None:
    for accept in ("application/json", RESPONSE_JSON) * 2:
        assert site.ask(accept=accept).headers["content-type"] == accept
    assert site.remembered == 2


def test_what_a_person_does_counts_in_the_next_answer_and_others_keep_theirs(site: Site) -> None:
    first = site.ask().json()["data"]["recommendations"]["items"][0]["job"]["id"]
    assert not site.is_remembered(id="2")
    site.recent.append([Activity(1, int(first), ActivityKind.APPLY, site.clock.now)])
    shown = site.ask().json()["data"]["recommendations"]["items"]
    assert first not in {item["job"]["id"] for item in shown}
    assert site.remembered == 0
    assert site.is_remembered(id="2")


def test_a_change_of_the_catalogue_counts_in_the_next_answer(site: Site) -> None:
    site.ask()
    title = "Another title"
    site.catalog.put(*(Job(id_, title) for id_ in range(12)))
    assert title in site.ask().text
    assert site.remembered == 0


def test_a_job_that_closes_by_itself_is_gone_from_the_next_answer(site: Site) -> None:
    everything = (
        "query ($id: ID!) { recommendations(userId: $id, first: 12) { items { job { id } } } }"
    )
    shown = site.ask(everything, id="1").json()["data"]["recommendations"]["items"]
    assert {"job": {"id": "4"}} in shown
    assert site.is_remembered(everything, id="1")
    site.clock.advance(hours=1)
    assert {"job": {"id": "4"}} not in site.ask(everything, id="1").json()["data"][
        "recommendations"
    ]["items"]
    assert site.remembered == 1


def test_another_model_answers_anew(site: Site) -> None:
    query = "query ($id: ID!) { recommendations(userId: $id) { model { version } } }"
    site.ask(query)
    store_model(site.snapshots, version="2")
    site.models.refresh()
    assert site.ask(query).json()["data"]["recommendations"]["model"] == {"version": "2"}
    assert site.remembered == 0


def test_what_lacks_something_is_not_kept(site: Site) -> None:
    site.catalog.is_down = True
    assert "partial" in site.ask().json()["extensions"]
    site.catalog.is_down = False
    assert "partial" not in site.ask().json()["extensions"]
    assert site.remembered == 0


def test_what_is_given_again_costs_the_same(new_site: NewSite) -> None:
    site = new_site(cost=100)
    answers = site.ask_all([{"query": ONE, "variables": {"id": "1"}}] * 4)
    paid = [answer.json()["extensions"].get("cost", {}).get("requested") for answer in answers]
    assert len(set(paid)) == 1
    assert [answer.status_code for answer in answers] == [200] * (100 // paid[0]) + [429] * (
        4 - 100 // paid[0]
    )
    assert site.remembered == 100 // paid[0] - 1


def test_no_more_is_kept_than_there_is_room_for(new_site: NewSite) -> None:
    site = new_site(most=6_000)
    for id_ in range(5):
        site.ask(id=str(id_))
    assert site.is_remembered(id="4")
    assert not site.is_remembered(id="0")
    assert not new_site(most=10).is_remembered()


def test_where_the_catalogue_does_not_even_tell_its_revision_lists_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_catalog: FakeCatalog) -> int:
        raise CatalogUnavailable("it does not answer")

    site.ask()
    monkeypatch.setattr(FakeCatalog, "revision", property(fail))
    site.catalog.is_down = True
    for id_ in ("1", "2"):
        answer = site.ask(id=id_)
        assert answer.status_code == 200
        assert answer.json()["extensions"]["partial"] == "CATALOGUE_UNAVAILABLE"
        assert answer.json()["data"]["recommendations"]["items"]
    assert site.remembered == 0


def test_variables_nested_deeply_are_no_reason_to_fail(site: Site) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    body = json.dumps({"query": ONE, "variables": {"id": "1", "unused": deep}}).encode()
    for _ in range(2):
        answer = site.ask_bytes(body)
        assert answer.status_code == 200
        assert "errors" not in answer.json()
    assert site.remembered == 0


def test_a_field_that_is_worked_out_anew_stands_for_no_other() -> None:
    grounds = Grounds()
    for revision in (1, 2):
        grounds.add("recommendations", [1], Footing("1", revision, 0.0, (None,)))
    assert [told.footing.revision for told in grounds.told.values()] == [1]
