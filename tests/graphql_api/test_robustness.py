"""Attacks on a real server: each is refused with its own code, soon, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.conftest import CLIENT, Service
from tests.graphql_api.test_slow_bodies import HALF_A_BODY, answer_to

REFUSED_WITHIN_SECONDS = 0.1
TRIES = 5

ALIASES, ROOTS = "ALIAS_LIMIT_EXCEEDED", "ROOT_FIELD_LIMIT_EXCEEDED"
LENGTH = "LENGTH_LIMIT_EXCEEDED"
TOKENS, DEPTH = "TOKEN_LIMIT_EXCEEDED", "DEPTH_LIMIT_EXCEEDED"
SELECTIONS, DIRECTIVES = "SELECTION_LIMIT_EXCEEDED", "DIRECTIVE_LIMIT_EXCEEDED"
INTROSPECTION, COST = "INTROSPECTION_LIMIT_EXCEEDED", "COST_LIMIT_EXCEEDED"


@dataclass(frozen=True)
class Attack:
    """A document, its variables, and the code with which it is refused."""

    query: str
    code: str
    variables: dict[str, Any] = field(default_factory=dict)


def bomb(levels: int, *, spread: str = "...f{0} ...f{0}", root: str = "{ model") -> str:
    """Return a document whose expansion doubles with every level."""
    fragments = " ".join(
        f"fragment f{level} on Model {{ {spread.format(level + 1)} }}" for level in range(levels)
    )
    return f"{root} {{ ...f0 }} }} {fragments} fragment f{levels} on Model {{ version }}"


def nested(levels: int) -> str:
    """Return fields within fields, bogus ones: limits come before validation."""
    return "{ a " * (levels - 1) + "{ a" + " }" * levels


def in_chain(levels: int) -> str:
    """Return the same, each level in a fragment of its own."""
    fragments = " ".join(
        f"fragment f{level} on Model {{ a {{ ...f{level + 1} }} }}" for level in range(levels - 2)
    )
    return f"{{ model {{ ...f0 }} }} {fragments} fragment f{levels - 2} on Model {{ a }}"


def repeated(text: str, times: int) -> str:
    return " ".join(text.format(number) for number in range(times))


HALF = "fragment half on Model {{ {0} }}"
USERS = list(range(400))
JOB = "rank score source job { id title employer { name } location isOpen postedAt closesAt }"

ATTACKS = {
    "bomb of 18": Attack(bomb(18), SELECTIONS),
    "bomb of 60": Attack(bomb(60), SELECTIONS),
    "bomb of 150": Attack(bomb(150), SELECTIONS),
    "bomb of 18, variables": Attack(
        bomb(18, root="query ($yes: Boolean!) { model @include(if: $yes)"),
        SELECTIONS,
        {"yes": True},
    ),
    "bomb of 60, inline fragments": Attack(
        bomb(60, spread="... {{ ...f{0} }} ... {{ ...f{0} }}"), SELECTIONS
    ),
    "bomb of 150, inline fragments": Attack(
        bomb(150, spread="... {{ ...f{0} }} ...f{0}"), SELECTIONS
    ),
    "tokens": Attack("{ model {" + " version" * 1_996 + " } }", TOKENS),
    "tokens, variables": Attack(
        "query (" + repeated("$v{0}: Int", 500) + ") { model { version } }", TOKENS
    ),
    "tokens, fragments": Attack(
        "{ model { ...a } } fragment a on Model {" + " version" * 1_990 + " }", TOKENS
    ),
    "length": Attack("{ model { version } } #".ljust(65_537), LENGTH),
    "length, variables": Attack(
        "query ($x: ID!) { job(id: $x) { id } } #".ljust(65_537), LENGTH, {"x": "1"}
    ),
    "length, fragments": Attack(
        "{ model { ...a } } fragment a on Model { version" + " " * 65_536 + "}", LENGTH
    ),
    "depth": Attack(nested(16), DEPTH),
    "depth, variables": Attack(
        "query ($x: ID!) { recommendations(userId: $x) " + nested(15) + " }", DEPTH, {"x": "1"}
    ),
    "depth, fragments": Attack(in_chain(16), DEPTH),
    "depth beyond what can be parsed": Attack(nested(900), DEPTH),
    "aliases": Attack("{ model { " + repeated("a{0}: version", 31) + " } }", ALIASES),
    "aliases, variables": Attack(
        "query ($x: ID!) { model { " + repeated("a{0}: job(id: $x) {{ id }}", 31) + " } }",
        ALIASES,
        {"x": "1"},
    ),
    "aliases, fragments": Attack(
        "{ model { ...half ... on Model { ...half } } } "
        + HALF.format(repeated("a{0}: version", 16)),
        ALIASES,
    ),
    "roots": Attack("{ " + "model { version } " * 21 + "}", ROOTS),
    "roots, variables": Attack(
        "query ($x: ID!) { " + "job(id: $x) { id } " * 21 + "}", ROOTS, {"x": "1"}
    ),
    "roots, fragments": Attack(
        "{ ...r ...r ...r } fragment r on Query { " + "model { version } " * 7 + "}", ROOTS
    ),
    "directives": Attack("{ model { version " + "@include(if: true) " * 51 + "} }", DIRECTIVES),
    "directives, variables": Attack(
        "query ($no: Boolean!) { model { version " + "@skip(if: $no) " * 51 + "} }",
        DIRECTIVES,
        {"no": False},
    ),
    "directives, fragments": Attack(
        "{ model { ...half ...half } } " + HALF.format("version " + "@include(if: true) " * 26),
        DIRECTIVES,
    ),
    "circular introspection": Attack(
        "{ __schema { types " + "{ fields { type " * 4 + "{ name }" + " } }" * 4 + " } }",
        INTROSPECTION,
    ),
    "circular introspection, variables": Attack(
        "query ($name: String!) { __type(name: $name) "
        + "{ fields { type " * 4
        + "{ name }"
        + " } }" * 4
        + " }",
        INTROSPECTION,
        {"name": "Job"},
    ),
    "circular introspection, fragments": Attack(
        "{ __schema { types { ...a } } } fragment a on __Type { fields { type { ...b } } } "
        "fragment b on __Type { fields { type { ...c } } } "
        "fragment c on __Type { fields { type { name } } }",
        INTROSPECTION,
    ),
    "cost": Attack(
        f"{{ batchRecommendations(userIds: {USERS}, first: 100) {{ items {{ {JOB} }} }} }}",
        COST,
    ),
    "cost, variables": Attack(
        "query ($x: [ID!]!, $n: Int!) { batchRecommendations(userIds: $x, first: $n) "
        f"{{ items {{ {JOB} }} }} }}",
        COST,
        {"x": list(range(1_000)), "n": 100},
    ),
    "cost, fragments": Attack(
        "query ($x: [ID!]!) { a: batchRecommendations(userIds: $x, first: 20) { ...l } "
        "b: batchRecommendations(userIds: $x, first: 20) { ...l } } "
        f"fragment l on RecommendationList {{ items {{ ...i }} }} "
        f"fragment i on Recommendation {{ {JOB} }}",
        COST,
        {"x": list(range(1_000))},
    ),
    "fragments in a circle": Attack(
        "{ model { ...a } } fragment a on Model { ...b } fragment b on Model { ...a }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as opened:
        yield opened


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_with_its_code_within_a_tenth_of_a_second(
    client: httpx.Client, name: str
) -> None:
    attack, took = ATTACKS[name], []
    for number in range(TRIES):
        # Another document each time, so that no cache helps
        body = {"query": f"{attack.query} # {number}", "variables": attack.variables}
        begun = time.perf_counter()
        answer = client.post("/graphql", json=body)
        took.append(time.perf_counter() - begun)
        codes = {error["extensions"]["code"] for error in answer.json()["errors"]}
        assert codes == {attack.code}
        assert "data" not in answer.json()
    assert min(took) < REFUSED_WITHIN_SECONDS


@pytest.mark.parametrize(
    "name", ["bomb of 150", "depth, fragments", "directives", "cost, variables"]
)
def test_attack_is_refused_over_streams_too(service: Service, name: str) -> None:
    attack = ATTACKS[name]
    payload = {"query": attack.query, "variables": attack.variables}

    events = CLIENT.post(
        f"{service.url}/graphql", json=payload, headers={"Accept": "text/event-stream"}
    )
    assert f'"code":"{attack.code}"' in events.text
    assert '"data":{' not in events.text

    url = service.url.replace("http", "ws") + "/graphql"
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv())["type"] == "connection_ack"
        socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        message = json.loads(socket.recv(timeout=30))
    assert message["type"] == "error"
    assert message["payload"][0]["extensions"]["code"] == attack.code


# Requests


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": None},
        {"query": ""},
        {"query": 1},
        {"query": ["{ model { version } }"]},
        {"query": "{ model { version } }", "variables": []},
        {"query": "{ model { version } }", "variables": "{}"},
        {"query": "{ model { version } }", "extensions": 1},
        {"query": "{ model { version } }", "operationName": "Nope"},
        {"query": "{ model { version } }", "operationName": []},
        {"query": "fragment alone on Model { version }"},
        {"query": 'subscription { trainingRun(id: "1") { id } }'},
    ],
)
def test_request_of_another_shape_is_refused_as_json(
    client: httpx.Client, body: dict[str, Any]
) -> None:
    answer = client.post("/graphql", json=body)
    assert answer.status_code == 400
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["BAD_REQUEST"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"query": "{ model { version } }", "x": "\xff"}',
        b'{"query": "{ model { version } }", "x": "\\ud800"}',
        b'{"query": "{ model { version } }", "x": 1e400}',
        b'{"query": "{ model { version } }", "x": NaN}',
        b'{"query": "{ model { version } }", "variables": {"x": %s}}'
        % (b"[" * 100_000 + b"]" * 100_000),
        b'{"query": "{ model { version } }"} {}',
        b"",
    ],
)
def test_body_that_is_no_json_is_refused_as_json(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/graphql", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["BAD_REQUEST"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json5",
        "application/json-patch+json",
        "application/graphql",
        "application/graphql+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "text/json",
        "text/plain; application/json",
        "xapplication/json",
        "json",
        ";",
    ],
)
def test_content_type_that_only_looks_like_json_is_refused(
    client: httpx.Client, content_type: str
) -> None:
    answer = client.post(
        "/graphql",
        content=b'{"query": "{ model { version } }"}',
        headers={"Content-Type": content_type},
    )
    assert answer.status_code == 415
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "UNSUPPORTED_MEDIA_TYPE"


def test_declared_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/graphql", json={"query": "{ model { version } }", "x": "x" * (1 << 20)})
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["extensions"]["code"] == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({}, 400, "BAD_REQUEST"),
        ({"query": ""}, 400, "BAD_REQUEST"),
        ({"query": "{ model { version } }", "variables": "{"}, 400, "BAD_REQUEST"),
        ({"query": "{ model { version } }", "variables": "[]"}, 400, "BAD_REQUEST"),
        ({"query": "{ model { version } }", "extensions": "1"}, 400, "BAD_REQUEST"),
        ({"query": "mutation { rollbackModel { __typename } }"}, 405, "BAD_REQUEST"),
    ],
)
def test_address_that_is_no_request_is_refused_as_json(
    client: httpx.Client, parameters: dict[str, str], status: int, code: str
) -> None:
    answer = client.get("/graphql", params=parameters, headers={"Accept": "application/json"})
    assert answer.status_code == status
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == [code]


# Memory


def resident_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def distinct_bodies() -> Iterator[dict[str, Any]]:
    """Return requests without end, no two alike, of all that the service keeps something of."""
    for number in itertools.count():
        valid = f"query Q{number} {{ m{number}: model {{ v{number}: version users jobs }} }}"
        sha256 = hashlib.sha256(valid.encode()).hexdigest()
        yield {"query": valid}
        yield {"query": f"query Q{number} {{ nope{number} }}"}
        yield {"query": f"query Q{number} {{"}
        yield {
            "query": valid,
            "extensions": {"persistedQuery": {"version": 1, "sha256Hash": sha256}},
        }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell memory")
def test_ten_thousand_distinct_queries_leave_nothing_behind_while_half_a_body_waits_for_its_408(
    service: Service,
) -> None:
    bodies = distinct_bodies()
    connection = http.client.HTTPConnection("127.0.0.1", httpx.URL(service.url).port, timeout=30)
    headers = {"Content-Type": "application/json"}

    def ask(times: int) -> int:
        for body in itertools.islice(bodies, times):
            connection.request("POST", "/graphql", json.dumps(body), headers)
            answer = connection.getresponse()
            assert json.loads(answer.read()).keys() & {"data", "errors"}
        return resident_bytes(service)

    # Both take half a minute, the one to compute and the other to wait
    with ThreadPoolExecutor(1) as pool, closing(connection):
        refused = pool.submit(answer_to, service, HALF_A_BODY)
        # By then the caches are full, but for the 1,000 documents registered: 0.1 kB each
        early = ask(2_000)
        late = ask(8_000)
        # A syntax tree of such a query takes 5 kB and more: kept, 8,000 would be 40 MB
        assert late - early < 8_000_000
        assert refused.result() == (408, "REQUEST_TIMEOUT")
