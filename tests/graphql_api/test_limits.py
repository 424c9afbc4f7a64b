"""What a document may ask is decided before anything of it is executed."""

from __future__ import annotations

import pytest
from graphql import get_introspection_query, parse

from graphql_api.limits import Limits, violations
from tests.conftest import CLIENT, Service

JSON = {"Content-Type": "application/json"}
LATIN = "application/json; charset=latin1"


def bomb(levels: int) -> str:
    """Return a document whose expansion doubles with every level."""
    fragments = " ".join(
        f"fragment f{level} on Model {{ ...f{level + 1} ...f{level + 1} }}"
        for level in range(levels)
    )
    return f"{{ model {{ ...f0 }} }} {fragments} fragment f{levels} on Model {{ version }}"


REFUSED = {
    "bomb of 18": (bomb(18), "SELECTION_LIMIT_EXCEEDED"),
    "bomb of 60": (bomb(60), "SELECTION_LIMIT_EXCEEDED"),
    "bomb of 150": (bomb(150), "SELECTION_LIMIT_EXCEEDED"),
    "2,001 tokens": ("{ model {" + " version" * 1_996 + " } }", "TOKEN_LIMIT_EXCEEDED"),
    "depth 16": ("{ model" + " { a" * 15 + " }" * 15 + " }", "DEPTH_LIMIT_EXCEEDED"),
    "depth 16 through fragments": (
        "{ model { ...x } } fragment x on Model" + " { a" * 15 + " }" * 15,
        "DEPTH_LIMIT_EXCEEDED",
    ),
    "31 aliases": (
        "{ model { " + " ".join(f"a{n}: version" for n in range(31)) + " } }",
        "ALIAS_LIMIT_EXCEEDED",
    ),
    "21 roots": ("{ " + "model { version } " * 21 + "}", "ROOT_FIELD_LIMIT_EXCEEDED"),
    "51 directives": (
        "{ model { version " + "@include(if: true) " * 51 + "} }",
        "DIRECTIVE_LIMIT_EXCEEDED",
    ),
    "circular introspection": (
        "{ __schema { types " + "{ fields { type " * 8 + "{ name }" + " } }" * 8 + " } }",
        "DEPTH_LIMIT_EXCEEDED",
    ),
    "two operations and no name": (
        "query A { model { version } } query B { model { version } }",
        "OPERATION_NAME_REQUIRED",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_document_beyond_a_limit_is_refused_with_its_code(service: Service, name: str) -> None:
    query, code = REFUSED[name]
    answer = service.post(query)
    assert "data" not in answer
    assert [error["extensions"]["code"] for error in answer["errors"]] == [code]


@pytest.mark.parametrize(
    "query",
    [
        "{ model" + " { a" * 14 + " }" * 14 + " }",
        "{ model { " + " ".join(f"a{n}: version" for n in range(30)) + " } }",
        "{ " + "model { version } " * 20 + "}",
        "{ model { version " + "@include(if: true) " * 50 + "} }",
        get_introspection_query(),
        "{ model { ...a } } fragment a on Model { ...a version }",
    ],
)
def test_document_within_the_limits_passes(query: str) -> None:
    assert violations(parse(query), Limits()) == []


def test_named_operation_of_several_is_the_one_that_runs(service: Service) -> None:
    query = "query A { model { version } } query B { model { users } }"
    answer = CLIENT.post(
        f"{service.url}/graphql", json={"query": query, "operationName": "B"}
    ).json()
    assert list(answer["data"]["model"]) == ["users"]


@pytest.mark.parametrize(
    ("method", "headers", "status", "code"),
    [
        ("PUT", {"Content-Type": "application/json"}, 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", {}, 405, "METHOD_NOT_ALLOWED"),
        ("POST", {}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", {"Content-Type": "application/jsonx"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (
            "POST",
            {"Content-Type": "application/json; charset=latin1"},
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "POST",
            {"Content-Type": "application/json", "Accept": "image/png"},
            406,
            "NOT_ACCEPTABLE",
        ),
        ("POST", {"Content-Type": "application/json", "Accept": "*/*;q=0"}, 406, "NOT_ACCEPTABLE"),
    ],
)
def test_request_that_cannot_be_answered_is_refused_as_json(
    service: Service, method: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = CLIENT.request(
        method, f"{service.url}/graphql", content=b'{"query": "{ __typename }"}', headers=headers
    )
    assert answer.status_code == status
    assert answer.json()["errors"][0]["extensions"]["code"] == code
    assert answer.headers.get("allow") == ("GET, POST" if status == 405 else None)


@pytest.mark.parametrize(
    ("accept", "media_type", "status"),
    [
        ("application/graphql-response+json", "application/graphql-response+json", 400),
        ("application/json", "application/json", 200),
        ("*/*", "application/json", 200),
        (
            "application/json;q=0.5, application/graphql-response+json",
            "application/graphql-response+json",
            400,
        ),
        (
            "application/graphql-response+json, application/json",
            "application/graphql-response+json",
            400,
        ),
    ],
)
def test_answer_comes_in_the_media_type_and_status_that_the_client_prefers(
    service: Service, accept: str, media_type: str, status: int
) -> None:
    answer = CLIENT.post(
        f"{service.url}/graphql", json={"query": "{ nope }"}, headers={"Accept": accept}
    )
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert answer.status_code == status
    assert "data" not in answer.json()


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        # What urql sends
        (
            (
                "application/graphql-response+json, application/graphql+json, application/json, "
                "text/event-stream, multipart/mixed"
            ),
            "application/graphql-response+json",
        ),
        ("application/json;q=0.9, text/event-stream;q=0.8", "application/json"),
        ("*/*", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/event-stream, multipart/mixed", "text/event-stream"),
        ("application/json;q=0.8, text/event-stream;q=0.9", "text/event-stream"),
    ],
)
def test_events_are_for_those_who_prefer_them(
    service: Service, accept: str, media_type: str
) -> None:
    answer = CLIENT.post(
        f"{service.url}/graphql",
        json={"query": "{ model { version } }"},
        headers={"Accept": accept},
    )
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert '"version"' in answer.text


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/graphql-response+json",
        "application/graphql-response+json, text/event-stream",
    ],
)
def test_subscription_is_refused_to_who_prefers_a_single_answer(
    service: Service, accept: str
) -> None:
    answer = CLIENT.post(
        f"{service.url}/graphql",
        json={"query": 'subscription { trainingRun(id: "x") { id } }'},
        headers={"Accept": accept},
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json" + ";a=b" * 5_000},
        {"Content-Type": "application/json", "Accept": "a/b," * 5_000 + "*/*"},
        {"Content-Type": "application/json", **{f"X-{n}": "y" * 100 for n in range(200)}},
    ],
)
def test_headers_too_large_are_refused_before_they_are_read(
    service: Service, headers: dict[str, str]
) -> None:
    answer = CLIENT.post(f"{service.url}/graphql", content=b"{}", headers=headers)
    assert answer.status_code == 431
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "HEADERS_TOO_LARGE"}
    assert "at most 16,384 are read" in error["message"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("Application/JSON", 200),
        ("application/json; Charset=UTF-8", 200),
        ('application/json;charset="utf-8"', 200),
        ("application/json; charset*=utf-8''utf-8", 415),
        ("application/json; charset=latin-1", 415),
        ("application/json; x=y; charset=utf-16", 415),
        ("text/plain; application/json", 415),
    ],
)
def test_content_type_is_taken_by_its_meaning(
    service: Service, content_type: str, status: int
) -> None:
    answer = CLIENT.post(
        f"{service.url}/graphql",
        content=b'{"query": "{ model { version } }"}',
        headers={"Content-Type": content_type},
    )
    assert answer.status_code == status
    assert ("errors" in answer.json()) == (status != 200)


def test_what_is_not_acceptable_is_echoed_in_short(service: Service) -> None:
    answer = CLIENT.post(
        f"{service.url}/graphql", json={}, headers={"Accept": "audio/" + "x" * 9_000}
    )
    assert answer.status_code == 406
    assert len(answer.content) < 500
