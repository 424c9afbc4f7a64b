"""Who may do what: every caller, every operation, every transport, on real servers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from graphql import build_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from graphql_api.auth import PERMISSIONS, Authenticator, Unauthenticated
from graphql_api.jwts import JwtPolicy, JwtVerifier
from graphql_api.schema import create_schema
from graphql_api.tokens import PREFIX, ApiTokens, Scope
from tests.conftest import CLIENT, NewState, Service, jobrec, serving
from tests.graphql_api.issuer import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Issuer,
    altered,
    confused,
    publishing,
    unsigned,
)
from tests.graphql_api.transports import TRANSPORTS, post

pytestmark = pytest.mark.slow

ALGORITHMS = "HS256,RS256,ES256,EdDSA"
JWT = {
    "JOBREC_JWT_ALGORITHMS": ALGORITHMS,
    "JOBREC_JWT_SECRET": SECRET,
    "JOBREC_JWT_AUDIENCE": AUDIENCE,
    "JOBREC_JWT_ISSUER": ISSUER,
    "JOBREC_JWT_LEEWAY": "0",
}
QUERY = "{ model { version } }"

# What is asked, and who may

ANYBODYS = {
    "similarJobs": "{ similarJobs(jobId: 3, first: 1) { items { rank } } }",
    "job": "{ job(id: 3) { id } }",
    "jobs": "{ jobs(first: 1) { edges { cursor } } }",
    "employer": '{ employer(name: "nobody") { id } }',
    "employerTypes": "{ employerTypes { label } }",
    "employers": "{ employers(first: 1) { edges { cursor } } }",
    "model": QUERY,
    "trainingRun": '{ trainingRun(id: "none") { id } }',
    "trainingRuns": "{ trainingRuns(first: 1) { id } }",
    "batchRecommendations of nobody": "{ batchRecommendations(userIds: []) { userId } }",
}
OF_7 = {
    "recommendations of 7": "{ recommendations(userId: 7, first: 1) { userId } }",
    "recommendations of 7 as text": '{ recommendations(userId: "7", first: 1) { userId } }',
    "batchRecommendations of 7": "{ batchRecommendations(userIds: [7, 7], first: 1) { userId } }",
}
OF_8 = {
    "recommendations of 8": "{ a: recommendations(userId: 8, first: 1) { userId } }",
    "recommendations of 8 in a fragment": "{ ...f } fragment f on Query {"
    " recommendations(userId: 8) { userId } }",
    "recommendations of 8 by a variable": "query ($id: ID! = 8) {"
    " recommendations(userId: $id) { userId } }",
}
OF_BOTH = {
    "batchRecommendations of 7 and 8": "{ batchRecommendations(userIds: [7, 8]) { userId } }",
}
USER_7 = {
    "user 7": "{ user(id: 7) { id } }",
    "user of the list of 7": "{ recommendations(userId: 7, first: 1) { user { id } } }",
}
USER_8 = {
    "user 8": "{ user(id: 8) { id } }",
    "user of the list of 8": "{ batchRecommendations(userIds: [8], first: 1) { user { id } } }",
}
ADMINS = {
    "models": "{ models { version } }",
    "compareModels": '{ compareModels(a: "x", b: "y") { people } }',
}
MUTATIONS = {
    "retrain": 'mutation { retrain(input: {idempotencyKey: "once"}) { __typename } }',
    "cancelTrainingRun": 'mutation { cancelTrainingRun(input: {id: "x"}) { __typename } }',
    "promoteModel": 'mutation { promoteModel(input: {version: "x"}) { __typename } }',
    "rollbackModel": "mutation { rollbackModel { __typename } }",
    "upsertJobs": "mutation { upsertJobs(input: {jobs: []}) { __typename } }",
    "closeJobs": "mutation { closeJobs(input: {ids: []}) { __typename } }",
    "removeJobs": "mutation { removeJobs(input: {ids: []}) { __typename } }",
    "upsertUsers": "mutation { upsertUsers(input: {users: []}) { __typename } }",
    "eraseUser": "mutation { eraseUser(input: {id: 999999999}) { __typename } }",
}
SUBSCRIPTIONS = {
    "subscription trainingRun": 'subscription { trainingRun(id: "none") { id } }',
}
EVERYTHING = {
    **ANYBODYS, **OF_7, **OF_8, **OF_BOTH, **USER_7, **USER_8, **ADMINS, **MUTATIONS,
    **SUBSCRIPTIONS,
}  # fmt: skip

PUBLIC = {*ANYBODYS, *OF_7, *OF_8, *OF_BOTH, *SUBSCRIPTIONS}
KNOWN = {*PUBLIC, *USER_7, *USER_8}
MAY = {
    "anonymous": PUBLIC,
    "person 7": {*ANYBODYS, *OF_7, *USER_7, *SUBSCRIPTIONS},
    "person 8": {*ANYBODYS, *OF_8, *USER_8, *SUBSCRIPTIONS},
    "person 07": {*ANYBODYS, *SUBSCRIPTIONS},
    "service by JWT": KNOWN,
    "service by API token": KNOWN,
    "admin by JWT": {*EVERYTHING},
    "admin by API token": {*EVERYTHING},
    "admin by the admin token": {*EVERYTHING},
}


@dataclass(frozen=True)
class Guarded:
    """A service that knows callers by everything there is, at debug level."""

    service: Service
    issuer: Issuer
    credentials: dict[str, str]

    @property
    def url(self) -> str:
        return self.service.url


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def guarded(
    demo_data: Path, tmp_path_factory: pytest.TempPathFactory, issuer: Issuer
) -> Iterator[Guarded]:
    # Its log tells of a training, too
    state = tmp_path_factory.mktemp("guarded") / "state"
    options = ("--auth", "required", "--log-level", "debug")
    with (
        publishing(issuer.key_set()) as keys,
        serving(demo_data, state, *options, JOBREC_JWT_JWKS=keys.url, **JWT) as service,
    ):
        yield Guarded(service, issuer, credentials_of(service, issuer))


def credentials_of(service: Service, issuer: Issuer) -> dict[str, str]:
    """Return what callers show who are let in."""
    return {
        "person 7": issuer.token("RS256", sub="7"),
        "person 8": issuer.token("ES256", sub="8", scope="openid profile"),
        "person 07": issuer.token("EdDSA", sub="07"),
        "service by JWT": issuer.token("HS256", sub="front end", scope="read"),
        "service by API token": create_token(service, "read"),
        "admin by JWT": issuer.token("EdDSA", sub="alice", scope="read admin"),
        "admin by API token": create_token(service, "admin"),
        "admin by the admin token": service.admin_token,
    }


def create_token(service: Service, scope: str, name: str | None = None) -> str:
    created = jobrec(
        *("tokens", "create", "--state", service.state),
        *("--scope", scope, "--name", name or f"{scope}-token"),
    )
    return created.stdout.strip()


def outcome(answer: dict[str, Any]) -> str:
    """Tell how far an operation came: refused by its code, or carried out."""
    for error in answer.get("errors", []):
        code: str = error["extensions"]["code"]
        if code in {"FORBIDDEN", "UNAUTHENTICATED"}:
            return code
        # The caller was let in, and told that there is no such thing
        assert code == "BAD_USER_INPUT", answer
    return "answered"


def asked_over(transport: str) -> dict[str, str]:
    """Return the operations that a transport carries."""
    if transport == "GET":
        return {
            name: query
            for name, query in EVERYTHING.items()
            if name not in MUTATIONS and name not in SUBSCRIPTIONS
        }
    if transport == "POST":
        return {name: query for name, query in EVERYTHING.items() if name not in SUBSCRIPTIONS}
    return EVERYTHING


# The matrix


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("caller", [caller for caller in MAY if caller != "anonymous"])
def test_caller_may_do_what_is_theirs_over_every_transport(
    guarded: Guarded, caller: str, transport: str
) -> None:
    authorization = f"Bearer {guarded.credentials[caller]}"
    ask = TRANSPORTS[transport]
    operations = asked_over(transport)
    assert {
        name: outcome(ask(guarded.url, authorization, query)) for name, query in operations.items()
    } == {name: "answered" if name in MAY[caller] else "FORBIDDEN" for name in operations}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_anybody_may_ask_where_auth_is_open(service: Service, transport: str) -> None:
    ask = TRANSPORTS[transport]
    operations = asked_over(transport)
    assert {name: outcome(ask(service.url, None, query)) for name, query in operations.items()} == {
        name: "answered" if name in PUBLIC else "FORBIDDEN" for name in operations
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nobody_is_anonymous_where_credentials_are_required(
    guarded: Guarded, transport: str
) -> None:
    ask = TRANSPORTS[transport]
    operations = asked_over(transport)
    found = {name: outcome(ask(guarded.url, None, query)) for name, query in operations.items()}
    assert found == dict.fromkeys(operations, "UNAUTHENTICATED")


def test_what_is_forbidden_is_named_and_its_siblings_are_answered(guarded: Guarded) -> None:
    query = """{ mine: recommendations(userId: 7, first: 1) { userId }
                 theirs: recommendations(userId: 8, first: 1) { userId }
                 models { version } }"""
    answer = post(guarded.url, f"Bearer {guarded.credentials['person 7']}", query)
    assert answer["data"] == {"mine": {"userId": "7"}, "theirs": None, "models": None}
    theirs, models = answer["errors"]
    assert theirs["path"] == ["theirs"]
    assert "recommendations tells a person of themselves only" in theirs["message"]
    assert "models is for admins" in models["message"]


def test_every_operation_of_the_schema_has_its_permission() -> None:
    schema = build_schema(create_schema().as_str())
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    assert {name for root in roots if root is not None for name in root.fields} == set(PERMISSIONS)


def test_records_name_the_caller_and_not_the_token(guarded: Guarded) -> None:
    query = 'mutation { retrain(input: {note: "who"}) { __typename } }'
    admin = guarded.credentials["admin by API token"]
    begun = post(guarded.url, f"Bearer {admin}", query)
    assert begun["data"]["retrain"]["__typename"] in {"RetrainAccepted", "TrainingInProgress"}
    runs = post(guarded.url, f"Bearer {admin}", "{ trainingRuns { requestedBy } }")
    named = {run["requestedBy"] for run in runs["data"]["trainingRuns"]}
    assert named <= {"command line", "admin", "admin:alice", "token:admin-token"}
    assert len(named) > 1

    person = guarded.credentials["person 7"]
    runs = post(guarded.url, f"Bearer {person}", "{ trainingRuns { requestedBy } }")
    told = {run["requestedBy"] for run in runs["data"]["trainingRuns"]}
    assert told == {name.partition(":")[0] for name in named}


# Credentials that nobody may use

Forge = Callable[[Guarded], str]

FORGED: dict[str, Forge] = {
    "garbage": lambda _: "Bearer garbage",
    "three parts of garbage": lambda _: "Bearer a.b.c",
    "no scheme": lambda g: g.credentials["person 7"],
    "another scheme": lambda g: f"Basic {g.credentials['person 7']}",
    "a scheme and nothing": lambda _: "Bearer",
    "the admin token and more": lambda g: f"Bearer {g.service.admin_token}x",
    "half a JWT": lambda g: f"Bearer {g.credentials['person 7'][:-40]}",
    "expired": lambda g: f"Bearer {g.issuer.token(sub='7', exp=1_700_000_000)}",
    "not yet valid": lambda g: f"Bearer {g.issuer.token(sub='7', nbf=4_000_000_000)}",
    "issued in the future": lambda g: f"Bearer {g.issuer.token(sub='7', iat=4_000_000_000)}",
    "without an end": lambda g: f"Bearer {g.issuer.token(sub='7', without='exp')}",
    "wrong audience": lambda g: f"Bearer {g.issuer.token(sub='7', aud='another')}",
    "without an audience": lambda g: f"Bearer {g.issuer.token(sub='7', without='aud')}",
    "wrong issuer": lambda g: f"Bearer {g.issuer.token(sub='7', iss='https://evil.example')}",
    "without an issuer": lambda g: f"Bearer {g.issuer.token(sub='7', without='iss')}",
    "neither subject nor scope": lambda g: f"Bearer {g.issuer.token()}",
    "an empty subject": lambda g: f"Bearer {g.issuer.token(sub='')}",
    "a scope that is no text": lambda g: f"Bearer {g.issuer.token(sub='7', scope=['admin'])}",
    "alg none": lambda g: f"Bearer {unsigned(g.issuer.token(sub='7'), 'none')}",
    "alg NoNe": lambda g: f"Bearer {unsigned(g.issuer.token(sub='7'), 'NoNe')}",
    "RS/HS confusion": lambda g: (
        f"Bearer {confused(g.issuer.token(sub='7', scope='admin'), g.issuer.rsa, 'SPKI')}"
    ),
    "RS/HS confusion, PKCS 1": lambda g: (
        f"Bearer {confused(g.issuer.token(sub='7', scope='admin'), g.issuer.rsa, 'PKCS1')}"
    ),
    "an algorithm that is not pinned": lambda g: (
        f"Bearer {g.issuer.token('HS384', kid='HS256', key=SECRET, sub='7')}"
    ),
    "another size of an algorithm": lambda g: (
        f"Bearer {g.issuer.token('RS512', kid='RS256', key=g.issuer.rsa, sub='7')}"
    ),
    "the key of another algorithm": lambda g: f"Bearer {g.issuer.token(kid='ES256', sub='7')}",
    "an unknown kid": lambda g: f"Bearer {g.issuer.token(kid='unknown', sub='7')}",
    "a stranger's key": lambda g: f"Bearer {g.issuer.token(key=Issuer().rsa, sub='7')}",
    "a wrong secret": lambda g: f"Bearer {g.issuer.token('HS256', key=SECRET[::-1], sub='7')}",
    "altered claims": lambda g: f"Bearer {altered(g.credentials['person 7'], scope='admin')}",
    "an API token that never was": lambda _: f"Bearer {PREFIX}{'x' * 43}",
    "the hash of an API token": lambda g: (
        f"Bearer {hashlib.sha256(g.credentials['admin by API token'].encode()).hexdigest()}"
    ),
    "a revoked API token": lambda g: f"Bearer {revoked_token(g.service)}",
    "an expired API token": lambda g: f"Bearer {expired_token(g.service)}",
}


def revoked_token(service: Service) -> str:
    token = create_token(service, "admin", "revoked")
    assert outcome(post(service.url, f"Bearer {token}", "{ models { version } }")) == "answered"
    jobrec("tokens", "revoke", "revoked", "--state", service.state)
    return token


def expired_token(service: Service) -> str:
    tokens = ApiTokens(service.state, lambda: datetime.now(UTC) - timedelta(days=2))
    name = f"expired-{len(tokens.all())}"
    return tokens.create(name, Scope.READ, timedelta(days=1))


@pytest.mark.parametrize("forged", FORGED)
def test_credentials_that_are_not_valid_open_nothing_over_any_transport(
    guarded: Guarded, forged: str
) -> None:
    authorization = FORGED[forged](guarded)
    found = {
        name: outcome(ask(guarded.url, authorization, QUERY)) for name, ask in TRANSPORTS.items()
    }
    assert found == dict.fromkeys(TRANSPORTS, "UNAUTHENTICATED")


def test_credentials_that_are_not_valid_are_refused_where_auth_is_open_too(
    service: Service,
) -> None:
    for authorization in ("Bearer wrong", f"Bearer {Issuer().token(sub='7')}"):
        found = {outcome(ask(service.url, authorization, QUERY)) for ask in TRANSPORTS.values()}
        assert found == {"UNAUTHENTICATED"}


@pytest.mark.parametrize(
    ("forged", "says"),
    [
        ("expired", "the token has expired"),
        ("not yet valid", "the token is not valid yet"),
        ("wrong audience", "the token is for another audience"),
        ("wrong issuer", "the token is of another issuer"),
        ("without an end", "the token lacks one of the claims exp, aud and iss"),
        ("alg none", "the token's algorithm is not accepted"),
        ("an unknown kid", "the token's key is unknown"),
        ("an expired API token", "the token has expired"),
        ("an API token that never was", "the token is unknown or was revoked"),
        ("another scheme", "expected `Bearer <token>`"),
    ],
)
def test_refusal_says_why(guarded: Guarded, forged: str, says: str) -> None:
    answer = CLIENT.post(
        f"{guarded.url}/graphql",
        json={"query": QUERY},
        headers={"Authorization": FORGED[forged](guarded)},
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="jobrec", error="invalid_token", error_description="{says}"'
    )
    assert answer.json() == {
        "errors": [{"message": says, "extensions": {"code": "UNAUTHENTICATED"}}]
    }


def test_lack_of_credentials_is_told_before_the_body_is_read(guarded: Guarded) -> None:
    answer = CLIENT.post(
        f"{guarded.url}/graphql", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.headers["www-authenticate"]) == (
        401,
        'Bearer realm="jobrec"',
    )
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


def test_nothing_is_answered_on_a_web_socket_before_it_is_known_who_calls(
    guarded: Guarded,
) -> None:
    headers = {"Authorization": f"Bearer {guarded.service.admin_token}"}
    url = f"{guarded.url.replace('http', 'ws', 1)}/graphql"
    protocols = [Subprotocol("graphql-transport-ws")]
    with connect(url, subprotocols=protocols, additional_headers=headers) as socket:
        socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": QUERY}}))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


def test_web_socket_is_closed_at_the_first_operation_after_its_token_was_revoked(
    guarded: Guarded,
) -> None:
    token = create_token(guarded.service, "read", "short-lived")
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{guarded.url.replace('http', 'ws', 1)}/graphql"
    protocols = [Subprotocol("graphql-transport-ws")]
    with connect(url, subprotocols=protocols, additional_headers=headers) as socket:

        def ask(operation_id: str) -> None:
            message = {"type": "subscribe", "id": operation_id, "payload": {"query": QUERY}}
            socket.send(json.dumps(message))

        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv(30))["type"] == "connection_ack"
        ask("1")
        assert [json.loads(socket.recv(30))["type"] for _ in range(2)] == ["next", "complete"]
        jobrec("tokens", "revoke", "short-lived", "--state", guarded.service.state)
        ask("2")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403
    assert closed.value.rcvd.reason == "the token is unknown or was revoked"


def test_page_is_shown_to_those_without_credentials(guarded: Guarded) -> None:
    for path in ("/", "/graphql"):
        answer = CLIENT.get(f"{guarded.url}{path}", headers={"Accept": "text/html"})
        assert "<title>jobrec</title>" in answer.text


@pytest.mark.parametrize("transport", ["POST", "SSE", "WebSocket by parameters"])
def test_token_that_is_too_long_is_not_looked_at(guarded: Guarded, transport: str) -> None:
    token = guarded.issuer.token(sub="7", more="x" * 8_192)
    ask = TRANSPORTS[transport]
    assert outcome(ask(guarded.url, f"Bearer {token}", QUERY)) == "UNAUTHENTICATED"


def test_blank_credentials_are_none(service: Service) -> None:
    assert outcome(post(service.url, "", QUERY)) == "answered"


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
JWT_HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), JSON | st.sampled_from(["HS256", "none"])
)


@given(
    JSON.filter(lambda value: value is not None and value != "")
    | st.text().map("Bearer {}".format)
    | st.builds("Bearer {}.{}.{}".format, JWT_HEADERS.map(encoded), JSON.map(encoded), st.text())
)
@settings(deadline=None)
def test_whatever_is_given_is_somebody_or_unauthenticated(given_: Any) -> None:
    policy = JwtPolicy(("HS256",), AUDIENCE, ISSUER, leeway=0)
    known = Authenticator(
        "the admin token",
        ApiTokens(Path("absent"), lambda: datetime.now(UTC)),
        lambda: datetime.now(UTC),
        JwtVerifier(policy, SECRET, None),
        is_open=True,
    )
    with pytest.raises(Unauthenticated):
        asyncio.run(known.identify(given_, "192.0.2.1"))


# API tokens


@pytest.mark.slow
def test_token_is_known_and_forgotten_by_all_workers(demo_data: Path, new_state: NewState) -> None:
    options = ("--workers", "2", "--auth", "required")
    with serving(demo_data, new_state(), *options) as service:
        token = create_token(service, "read")
        for _ in range(20):  # connections, which the workers share among them
            assert outcome(post(service.url, f"Bearer {token}", QUERY)) == "answered"
        jobrec("tokens", "revoke", "read-token", "--state", service.state)
        for _ in range(20):
            assert outcome(post(service.url, f"Bearer {token}", QUERY)) == "UNAUTHENTICATED"


def test_file_of_tokens_that_is_damaged_lets_nobody_in(
    demo_data: Path, new_state: NewState
) -> None:
    with serving(demo_data, new_state()) as service:
        token = create_token(service, "admin")
        assert outcome(post(service.url, f"Bearer {token}", QUERY)) == "answered"
        path = service.state / "api-tokens.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert outcome(post(service.url, f"Bearer {token}", QUERY)) == "UNAUTHENTICATED"
        assert outcome(post(service.url, None, QUERY)) == "answered"
        path.write_bytes(whole)
        assert outcome(post(service.url, f"Bearer {token}", QUERY)) == "answered"
        assert service.log.read_text().count("no API token is accepted") == 1


# Keys of an issuer


def test_unknown_keys_are_asked_for_once_a_minute(
    demo_data: Path, issuer: Issuer, new_state: NewState
) -> None:
    with (
        publishing(issuer.key_set()) as keys,
        serving(demo_data, new_state(), JOBREC_JWT_JWKS=keys.url, **JWT) as service,
    ):
        assert keys.fetches == 0
        for number in range(20):
            known = issuer.token(sub="7")
            unknown = issuer.token(kid=f"unknown {number}", sub="7")
            assert outcome(post(service.url, f"Bearer {known}", QUERY)) == "answered"
            assert outcome(post(service.url, f"Bearer {unknown}", QUERY)) == "UNAUTHENTICATED"
        assert keys.fetches == 1


def test_others_are_answered_while_keys_are_fetched(
    demo_data: Path, issuer: Issuer, new_state: NewState
) -> None:
    with (
        publishing(issuer.key_set()) as keys,
        serving(demo_data, new_state(), JOBREC_JWT_JWKS=keys.url, **JWT) as service,
    ):
        keys.is_open.clear()
        found: list[str] = []
        authorization = f"Bearer {issuer.token(sub='7')}"
        waiting = [
            threading.Thread(
                target=lambda: found.append(outcome(post(service.url, authorization, QUERY)))
            )
            for _ in range(12)
        ]
        for thread in waiting:
            thread.start()
        assert outcome(post(service.url, None, QUERY)) == "answered"
        assert outcome(post(service.url, f"Bearer {service.admin_token}", QUERY)) == "answered"
        assert found == []
        keys.is_open.set()
        for thread in waiting:
            thread.join()
        assert found == ["answered"] * 12
        assert keys.fetches == 1


def test_keys_that_cannot_be_had_are_no_fault_of_the_caller(
    demo_data: Path, issuer: Issuer, new_state: NewState
) -> None:
    with (
        publishing(issuer.key_set()) as keys,
        serving(demo_data, new_state(), JOBREC_JWT_JWKS=keys.url, **JWT) as service,
    ):
        keys.content = None
        headers = {"Authorization": f"Bearer {issuer.token(sub='7')}"}
        answer = CLIENT.post(f"{service.url}/graphql", json={"query": QUERY}, headers=headers)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "AUTHENTICATION_UNAVAILABLE"
        assert "cannot load the keys" in service.log.read_text()


def test_only_key_of_a_file_needs_no_kid(
    demo_data: Path, tmp_path: Path, issuer: Issuer, new_state: NewState
) -> None:
    (key,) = [key for key in issuer.key_set()["keys"] if key["kid"] == "RS256"]
    del key["kid"]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [key]}))
    policy = {"JOBREC_JWT_AUDIENCE": AUDIENCE, "JOBREC_JWT_ISSUER": ISSUER}
    with serving(demo_data, new_state(), JOBREC_JWT_JWKS=str(path), **policy) as service:
        claims = jwt.decode(issuer.token(sub="7"), options={"verify_signature": False})
        token = jwt.encode(claims, issuer.rsa, "RS256")
        assert outcome(post(service.url, f"Bearer {token}", OF_7["recommendations of 7"])) == (
            "answered"
        )
        named = f"Bearer {issuer.token(kid='another', sub='7')}"
        assert outcome(post(service.url, named, QUERY)) == "UNAUTHENTICATED"
        # RS256 alone is pinned where nothing else was said
        by_secret = f"Bearer {issuer.token('HS256', sub='7')}"
        assert outcome(post(service.url, by_secret, QUERY)) == "UNAUTHENTICATED"


# Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "jobs.example", ""])  # noqa: S104 - refused
def test_listening_beyond_loopback_wants_to_know_who_may_ask(tmp_path: Path, host: str) -> None:
    ended = jobrec("serve", "--state", tmp_path, "--host", host, check=False)
    assert ended.returncode == 2
    assert "set --auth required (or JOBREC_AUTH=required), or --auth open" in ended.stderr
    assert ended.stdout == ""


def test_listening_beyond_loopback_is_open_where_it_is_told_to_be(
    demo_data: Path, new_state: NewState
) -> None:
    options = ("--host", "0.0.0.0", "--auth", "open")  # noqa: S104 - what is tested
    with serving(demo_data, new_state(), *options) as service:
        assert outcome(post(service.url, None, QUERY)) == "answered"


RSA = {"JOBREC_JWT_AUDIENCE": "a", "JOBREC_JWT_ISSUER": "b"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({**RSA, "JOBREC_JWT_SECRET": "short"}, "JOBREC_JWT_SECRET holds 5 bytes, expected at"),
        ({"JOBREC_JWT_SECRET": SECRET}, "JWT needs both JOBREC_JWT_AUDIENCE and"),
        ({"JOBREC_JWT_AUDIENCE": "a"}, "JOBREC_JWT_AUDIENCE needs a key"),
        ({**JWT, "JOBREC_JWT_ALGORITHMS": "none"}, "JOBREC_JWT_ALGORITHMS is 'none', expected of"),
        ({**JWT, "JOBREC_JWT_ALGORITHMS": "HS512"}, "is 'HS512', expected of HS256, RS256"),
        ({**JWT, "JOBREC_JWT_ALGORITHMS": "HS256,RS256"}, "go with JOBREC_JWT_JWKS"),
        ({**JWT, "JOBREC_JWT_ALGORITHMS": "RS256"}, "HS256 goes with JOBREC_JWT_SECRET"),
        (
            {**JWT, "JOBREC_JWT_ALGORITHMS": "HS256", "JOBREC_JWT_LEEWAY": "301"},
            "JOBREC_JWT_LEEWAY is 301, expected 0 to 300 seconds",
        ),
        ({**RSA, "JOBREC_JWT_JWKS": "absent.json"}, "JOBREC_JWT_JWKS is 'absent.json': "),
        ({"JOBREC_AUTH": "maybe"}, "JOBREC_AUTH is 'maybe'"),
        ({"JOBREC_PROFILE": "test"}, "JOBREC_PROFILE is 'test'"),
    ],
)
def test_settings_that_do_not_fit_end_the_start_and_show_no_secret(
    tmp_path: Path, settings: dict[str, str], says: str
) -> None:
    ended = jobrec("serve", "--state", tmp_path, check=False, **settings)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert settings.get("JOBREC_JWT_SECRET", "no secret") not in ended.stderr + ended.stdout


# What is kept of credentials


def test_no_credential_is_in_any_log_line_or_stored_record(guarded: Guarded) -> None:
    used = {name: f"Bearer {token}" for name, token in guarded.credentials.items()}
    used |= {name: forge(guarded) for name, forge in FORGED.items()}
    for authorization in used.values():
        for name, ask in TRANSPORTS.items():
            ask(guarded.url, authorization, QUERY)
            if name != "GET":
                ask(guarded.url, authorization, MUTATIONS["retrain"])

    secrets = {
        authorization.removeprefix("Bearer ").removeprefix("Basic ")
        for name, authorization in used.items()
        if name not in {"garbage", "three parts of garbage", "the hash of an API token"}
    }
    secrets |= {token.split(".")[-1] for token in secrets if token.startswith("eyJ")}
    written = {
        path: path.read_text(errors="replace")
        for path in (guarded.service.log, *guarded.service.state.rglob("*"))
        if path.is_file()
    }
    assert "DEBUG" in written[guarded.service.log]
    assert "api-tokens.json" in {path.name for path in written}
    assert [
        (path.name, secret)
        for path, text in written.items()
        for secret in {*secrets, SECRET} - {"", "Bearer"}
        if secret in text
    ] == []
