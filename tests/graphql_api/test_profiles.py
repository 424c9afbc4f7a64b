"""What the two profiles show, on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import build_client_schema, get_introspection_query

from graphql_api.profiles import without_suggestion
from tests.conftest import CLIENT, NewState, Service, serving

# Processes of their own take their time
pytestmark = pytest.mark.slow

MISTAKES = [
    "{ modl { version } }",
    "{ model { versin } }",
    "{ recommendations(usrId: 1) { userId } }",
    "{ recommendations(userId: 1, exclude: [APPLI]) { userId } }",
    '{ recommendations(userId: 1, where: {emplyer: "x"}) { userId } }',
    "{ model { ... on Modl { version } } }",
]
QUESTIONS = [
    get_introspection_query(),
    '{ __type(name: "Model") { name } }',
    "{ ...a } fragment a on Query { ... { here: __schema { queryType { name } } } }",
    "mutation M { rollbackModel { __typename } } query Q { __schema { queryType { name } } }",
]


@pytest.fixture(scope="module")
def production(demo_data: Path, new_state: NewState) -> Iterator[Service]:
    with serving(demo_data, new_state(), "--profile", "production") as running:
        yield running


def codes(answer: dict[str, Any]) -> list[str]:
    return [error["extensions"]["code"] for error in answer["errors"]]


@pytest.mark.parametrize("path", ["/", "/graphiql/main.js", "/graphiql/", "/elsewhere"])
def test_production_shows_no_page(production: Service, path: str) -> None:
    answer = CLIENT.get(f"{production.url}{path}", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert codes(answer.json()) == ["NOT_FOUND"]


@pytest.mark.parametrize("accept", ["text/html", "application/json", "text/event-stream"])
def test_production_answers_graphql_by_post_only(production: Service, accept: str) -> None:
    answer = CLIENT.get(
        f"{production.url}/graphql",
        params={"query": "{ model { version } }"},
        headers={"Accept": accept},
    )
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert codes(answer.json()) == ["METHOD_NOT_ALLOWED"]
    assert production.data_of("{ model { __typename version } }")["model"]["version"]


def test_production_still_streams_by_post(production: Service) -> None:
    query = 'subscription { trainingRun(id: "none") { id } }'
    answer = CLIENT.post(
        f"{production.url}/graphql",
        json={"query": query},
        headers={"Accept": "text/event-stream"},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    data = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    assert codes(json.loads(data[0].removeprefix("data: "))) == ["BAD_USER_INPUT"]


@pytest.mark.parametrize("query", QUESTIONS)
def test_production_tells_the_schema_to_admins_only(production: Service, query: str) -> None:
    body = {"query": query, "operationName": "Q" if " Q " in query else None}
    refused = CLIENT.post(f"{production.url}/graphql", json=body).json()
    assert codes(refused) == ["INTROSPECTION_DISABLED"]
    assert "data" not in refused

    headers = {"Authorization": f"Bearer {production.admin_token}"}
    told = CLIENT.post(f"{production.url}/graphql", json=body, headers=headers).json()
    assert "errors" not in told
    # The cache of validated documents knows no callers
    assert codes(CLIENT.post(f"{production.url}/graphql", json=body).json()) == codes(refused)


def test_production_says_what_type_a_thing_is(production: Service) -> None:
    assert production.data_of("{ __typename model { __typename } }") == {
        "__typename": "Query",
        "model": {"__typename": "Model"},
    }


@pytest.mark.parametrize("query", MISTAKES)
def test_suggestions_are_made_in_dev_only(
    service: Service, production: Service, query: str
) -> None:
    told, kept = service.post(query)["errors"][0], production.post(query)["errors"][0]
    assert "Did you mean" in told["message"]
    assert "Did you mean" not in kept["message"]
    assert kept["message"]
    assert kept["extensions"] == told["extensions"]


def test_suggestion_about_a_variable_is_kept_too(production: Service) -> None:
    query = "query ($e: [ActivityKind!]!) { recommendations(userId: 1, exclude: $e) { userId } }"
    (error,) = production.post(query, e=["APPLI"])["errors"]
    assert "'APPLI' does not exist" in error["message"]
    assert "APPLY" not in error["message"]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Unknown 'x'. Did you mean 'y'?", "Unknown 'x'."),
        ("Unknown 'x'. Did you mean 'y' or 'z'? Found: {}.", "Unknown 'x'. Found: {}."),
        ("Unknown 'x Did you mean a?b'. Did you mean 'y'?", "Unknown 'xb'."),
        ("Unknown 'x'.", "Unknown 'x'."),
    ],
)
def test_suggestion_is_cut_out_of_a_message(message: str, shown: str) -> None:
    assert without_suggestion(message) == shown


def test_dev_shows_page_and_schema_and_takes_queries_by_get(service: Service) -> None:
    assert "<title>jobrec</title>" in CLIENT.get(f"{service.url}/").text
    page = CLIENT.get(f"{service.url}/graphql", headers={"Accept": "text/html"})
    assert "<title>jobrec</title>" in page.text
    assert build_client_schema(service.data_of(get_introspection_query())).query_type  # type: ignore[arg-type] # what introspection gives
    answer = CLIENT.get(f"{service.url}/graphql", params={"query": "{ model { version } }"})
    assert answer.json()["data"]["model"]["version"]
    missing = CLIENT.get(f"{service.url}/elsewhere")
    assert (missing.status_code, codes(missing.json())) == (404, ["NOT_FOUND"])
