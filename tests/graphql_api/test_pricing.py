"""What an operation costs is known, told and bounded before it is executed."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from graphql import get_introspection_query, parse
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from graphql_api.pricing import price
from graphql_api.schema import create_schema
from tests.conftest import CLIENT, Service

SCHEMA = create_schema()._schema  # noqa: SLF001 - strawberry shows the schema it made nowhere else
BUDGET = 250_000
JOB_FIELDS = "rank score source job { id title employer { name } isOpen postedAt }"
BATCH = f"""query ($users: [ID!]!, $first: Int! = 10) {{
    batchRecommendations(userIds: $users, first: $first) {{ userId items {{ {JOB_FIELDS} }} }} }}"""
TOO_EXPENSIVE: dict[str, Any] = {"users": list(range(1_000)), "first": 100}


def price_of(query: str, **variables: Any) -> int:
    return price(SCHEMA, parse(query), None, variables)


@pytest.mark.parametrize(
    ("query", "variables", "expected"),
    [
        ("{ model { version } }", {}, 2),
        # A ranked list: 10 and 1 per job; `items` and then its fields once per job
        ("{ recommendations(userId: 1) { userId } }", {}, 1 + 20 + 1),
        ("{ recommendations(userId: 1, first: 3) { items { rank score } } }", {}, 1 + 13 + 1 + 6),
        ("{ similarJobs(jobId: 1, first: 3) { job { id } } }", {}, 1 + 13 + 2),
        # Choosing from a pool: 40 and 13 per job
        (
            "{ recommendations(userId: 1, first: 3, variety: {spread: 0.1}) { userId } }",
            {},
            1 + 13 + 40 + 3 * 13 + 1,
        ),
        ("{ batchRecommendations(userIds: [1, 2]) { userId } }", {}, 1 + 2 * (20 + 1)),
        ("{ batchRecommendations(userIds: 1) { userId } }", {}, 1 + 20 + 1),
        (BATCH, {"users": [1] * 1_000}, 1 + 1_000 * (20 + 2 + 10 * 10)),
        (BATCH, {"users": [1] * 3, "first": 2}, 1 + 3 * (12 + 2 + 2 * 10)),
        ("query ($n: Int! = 7) { jobs(first: $n) { edges { cursor } } }", {}, 2 + 7),
        ("{ jobs { edges { cursor } pageInfo { hasNextPage } } }", {}, 2 + 20 + 2),
        ("{ jobs(ids: [1, 2], first: 50) { edges { cursor } } }", {}, 2 + 2),
        ("{ jobs(ids: null, first: 50) { edges { cursor } } }", {}, 2 + 50),
        ("{ trainingRuns(first: 5) { id metrics { name } } }", {}, 1 + 5 * (2 + 20)),
        # Lists within lists multiply; an employer's jobs are looked for, as by a filter
        ("{ job(id: 1) { similar(first: 3) { items { rank } } } }", {}, 1 + 1 + 13 + 1 + 3),
        (
            (
                "{ similarJobs(jobId: 1, first: 2) { items { job { similar(first: 3) {"
                " items { rank } } } } } }"
            ),
            {},
            1 + 12 + 1 + 2 * (1 + 1 + 13 + 1 + 3),
        ),
        ("{ job(id: 1) { employer { name jobCount } } }", {}, 1 + 1 + 1 + 2),
        ("{ job(id: 1) { employer { jobs(first: 3) { edges { cursor } } } } }", {}, 2 + 2 + 1 + 3),
        # A change: 10 an item, and its outcome
        (
            (
                "mutation { closeJobs(input: {ids: [1, 2]}) {"
                " ... on CatalogueChanged { outcomes { id change } } } }"
            ),
            {},
            1 + 2 * 10 + 1 + 2 * 2,
        ),
        ("mutation { eraseUser(input: {id: 1}) { __typename } }", {}, 1 + 10 + 1),
        # What is out of bounds is refused later, and counts as the most until then
        ("{ jobs(first: 1000) { edges { cursor } } }", {}, 2 + 100),
        ("query ($n: Int!) { jobs(first: $n) { edges { cursor } } }", {"n": "x"}, 2 + 100),
    ],
)
def test_price_is_fields_times_the_lists_they_stand_in(
    query: str, variables: dict[str, Any], expected: int
) -> None:
    assert price_of(query, **variables) == expected


@pytest.mark.parametrize(
    ("query", "without"),
    [
        ('{ jobs(first: 1, where: {title: "x"}) { edges { cursor } } }', 3),
        ('{ similarJobs(jobId: 1, first: 1, where: {title: "x"}) { job { id } } }', 14),
        ("{ recommendations(userId: 1, first: 1, where: {}) { userId } }", 13),
    ],
)
@pytest.mark.parametrize(("jobs", "filtering"), [(0, 1), (7_000, 100), (1_000_000, 14_285)])
def test_a_filter_costs_what_a_look_at_the_whole_catalogue_does(
    query: str, without: int, jobs: int, filtering: int
) -> None:
    assert price(SCHEMA, parse(query), None, {}, jobs) == without + filtering


def test_a_list_far_too_long_is_refused_before_it_is_read(service: Service) -> None:
    ids = list(range(10_001))
    answer = service.post(
        "query ($i: [ID!]) { a: jobs(ids: $i) { edges { cursor } } model { version } }", i=ids
    )
    assert "data" not in answer
    (error,) = answer["errors"]
    assert error["message"] == "$i holds 10,001 items, at most 10,000"
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "i"}


def test_fragments_cost_what_their_fields_cost_where_they_are_spread() -> None:
    spread = """{ a: recommendations(userId: 1, first: 3) { ...list }
                  b: recommendations(userId: 1, first: 50) { ... { ...list } } }
                fragment list on RecommendationList { items { ...item } }
                fragment item on Recommendation { rank ... on Recommendation { score } }"""
    inline = """{ a: recommendations(userId: 1, first: 3) { items { rank score } }
                  b: recommendations(userId: 1, first: 50) { items { rank score } } }"""
    assert price_of(spread) == price_of(inline) == (1 + 13 + 1 + 6) + (1 + 60 + 1 + 100)


def test_fragment_is_priced_once_however_often_it_is_spread() -> None:
    fragments = " ".join(
        f"fragment f{level} on Model {{ ...f{level + 1} ...f{level + 1} }}" for level in range(60)
    )
    bomb = f"{{ model {{ ...f0 }} }} {fragments} fragment f60 on Model {{ version }}"
    assert price_of(bomb) == 1 + 2**60


def test_only_the_operation_that_runs_is_priced() -> None:
    document = parse("query A { model { version } } query B { model { version users jobs } }")
    assert price(SCHEMA, document, "A", None) == 2
    assert price(SCHEMA, document, "B", None) == 4
    assert price(SCHEMA, document, "C", None) == 0


def test_introspection_is_affordable() -> None:
    assert price_of(get_introspection_query()) < BUDGET / 5


def test_every_answer_tells_its_price(service: Service) -> None:
    answer = service.post("{ recommendations(userId: 1, first: 3) { items { rank score } } }")
    assert answer["extensions"] == {"cost": {"requested": 21, "budget": BUDGET}}
    text = CLIENT.get(f"{service.url}/metrics").text
    assert 'jobrec_cost_total{operation="recommendations"}' in text


def test_thousand_people_with_ten_jobs_are_answered(service: Service) -> None:
    answer = service.post(BATCH, users=list(range(1_000)))
    assert len(answer["data"]["batchRecommendations"]) == 1_000
    assert answer["extensions"]["cost"]["requested"] == 122_001


def refused(error: dict[str, Any]) -> bool:
    assert error["extensions"] == {
        "code": "COST_LIMIT_EXCEEDED",
        "requested": 1_112_001,
        "budget": BUDGET,
    }
    assert "costs 1,112,001, at most 250,000" in error["message"]
    return True


def test_what_exceeds_the_budget_is_refused_before_it_is_executed(service: Service) -> None:
    answer = service.post(BATCH, **TOO_EXPENSIVE)
    (error,) = answer["errors"]
    assert refused(error)
    assert "data" not in answer


def test_the_budget_holds_over_websocket(service: Service) -> None:
    url = service.url.replace("http", "ws") + "/graphql"
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv())["type"] == "connection_ack"
        payload = {"query": BATCH, "variables": TOO_EXPENSIVE}
        socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        answer = json.loads(socket.recv())
        assert answer["type"] == "error"
        assert refused(answer["payload"][0])

        payload = {"query": "{ model { version } }"}
        socket.send(json.dumps({"type": "subscribe", "id": "2", "payload": payload}))
        answer = json.loads(socket.recv())
        assert answer["payload"]["extensions"]["cost"]["requested"] == 2


def test_the_budget_holds_over_server_sent_events(service: Service) -> None:
    with httpx.stream(
        "POST",
        f"{service.url}/graphql",
        json={"query": BATCH, "variables": TOO_EXPENSIVE},
        headers={"Accept": "text/event-stream"},
    ) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
    (error,) = json.loads(lines[0].removeprefix("data: "))["errors"]
    assert refused(error)
