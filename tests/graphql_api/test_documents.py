"""Documents that a request names by their hash, over every transport."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import GraphQLError
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from graphql_api.documents import (
    MAX_REGISTERED,
    MAX_REGISTERED_LENGTH,
    Documents,
)
from graphql_api.settings import TrustedDocuments
from tests.conftest import CLIENT, NewState, Service, jobrec, serving

pytestmark = pytest.mark.slow

TRUSTED = "query Trusted($id: ID!) { recommendations(userId: $id, first: 1) { userId } }"
MODEL = "query Model { model { version } }"
RETRAIN = "mutation { retrain(input: {}) { __typename } }"
OTHER = "{ model { version users } }"


def sha256(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()


def named(document: str) -> dict[str, Any]:
    return {"documentId": f"sha256:{sha256(document)}"}


def persisted(document: str, **more: Any) -> dict[str, Any]:
    query = {"version": 1, "sha256Hash": sha256(document), **more}
    return {"extensions": {"persistedQuery": query}}


def post(service: Service, body: dict[str, Any], **headers: str) -> httpx.Response:
    return CLIENT.post(f"{service.url}/graphql", json=body, headers=headers)


def get(service: Service, body: dict[str, Any]) -> httpx.Response:
    """Ask by address, as a cache in front of the service would like it."""
    parameters = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()
    }
    return CLIENT.get(f"{service.url}/graphql", params=parameters)


def over_websocket(service: Service, payload: dict[str, Any]) -> dict[str, Any]:
    """Return the first message that an operation gives."""
    url = service.url.replace("http", "ws") + "/graphql"
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv())["type"] == "connection_ack"
        socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        message: dict[str, Any] = json.loads(socket.recv(timeout=30))
        return message


def code_of(answer: httpx.Response) -> str:
    assert "data" not in answer.json()
    (error,) = answer.json()["errors"]
    code: str = error["extensions"]["code"]
    return code


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the manifests of two builds, as graphql-codegen writes them."""
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "web.json").write_text(json.dumps({sha256(TRUSTED): TRUSTED}))
    with_prefix = {f"sha256:{sha256(text)}": text for text in (MODEL, RETRAIN)}
    (folder / "app.json").write_text(json.dumps(with_prefix))
    return folder


@pytest.fixture(scope="module")
def strict(demo_data: Path, manifests: Path, new_state: NewState) -> Iterator[Service]:
    """Run a service on which only trusted documents run."""
    # The readiness check of `serving` asks for the model by a text that must be trusted, too
    asked = "{ model { version } }"
    (manifests / "check.json").write_text(json.dumps({sha256(asked): asked}))
    options = ("--trusted-documents", "required", "--documents", str(manifests))
    with serving(demo_data, new_state(), *options) as running:
        yield running


@pytest.fixture(scope="module")
def lenient(demo_data: Path, manifests: Path, new_state: NewState) -> Iterator[Service]:
    """Run a service that knows trusted documents and takes others, too."""
    options = ("--trusted-documents", "optional", "--documents", str(manifests))
    with serving(demo_data, new_state(), *options) as running:
        yield running


# Trusted documents


@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_trusted_document_runs_by_its_hash_over_every_transport(
    mode: str, request: pytest.FixtureRequest
) -> None:
    service: Service = request.getfixturevalue(mode)
    body = {**named(TRUSTED), "variables": {"id": "7"}}
    expected = {"recommendations": {"userId": "7"}}

    assert post(service, body).json()["data"] == expected
    assert get(service, body).json()["data"] == expected
    assert over_websocket(service, body)["payload"]["data"] == expected
    events = post(service, body, Accept="text/event-stream").text
    assert json.dumps(expected, separators=(",", ":")) in events
    # The text itself is as good as its hash
    assert post(service, {"query": TRUSTED, "variables": {"id": "7"}}).json()["data"] == expected


def test_only_trusted_documents_run_where_they_are_required(strict: Service) -> None:
    for answer in (post(strict, {"query": OTHER}), get(strict, {"query": OTHER})):
        assert (answer.status_code, code_of(answer)) == (400, "DOCUMENT_NOT_TRUSTED")
        assert sha256(OTHER) in answer.json()["errors"][0]["message"]
    message = over_websocket(strict, {"query": OTHER})
    assert message["type"] == "error"
    assert message["payload"][0]["extensions"]["code"] == "DOCUMENT_NOT_TRUSTED"
    events = post(strict, {"query": OTHER}, Accept="text/event-stream")
    assert code_of(events) == "DOCUMENT_NOT_TRUSTED"


def test_other_documents_run_where_trusted_ones_are_optional(lenient: Service) -> None:
    assert post(lenient, {"query": OTHER}).json()["data"]["model"]["users"] > 0


@pytest.mark.parametrize(
    "document_id",
    [f"sha256:{sha256(OTHER)}", sha256(TRUSTED), "nonsense", "", 1, [], {"sha256": "x"}],
)
def test_unknown_document_is_told(lenient: Service, document_id: Any) -> None:
    answer = post(lenient, {"documentId": document_id})
    assert (answer.status_code, code_of(answer)) == (400, "DOCUMENT_NOT_FOUND")
    message = over_websocket(lenient, {"documentId": document_id})
    assert message["payload"][0]["extensions"]["code"] == "DOCUMENT_NOT_FOUND"


def test_no_document_has_a_name_where_trusted_ones_are_off(service: Service) -> None:
    assert code_of(post(service, named(MODEL))) == "DOCUMENT_NOT_FOUND"


def test_document_and_its_name_do_not_go_together(lenient: Service) -> None:
    answer = post(lenient, {"query": MODEL, **named(MODEL)})
    assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")


def test_named_mutation_does_not_run_by_an_address(strict: Service) -> None:
    answer = get(strict, named(RETRAIN))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert post(strict, named(RETRAIN)).json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


def test_metrics_tell_of_what_was_refused(strict: Service) -> None:
    post(strict, {"query": OTHER})
    text = CLIENT.get(f"{strict.url}/metrics").text
    assert 'jobrec_requests_total{operation="none",outcome="DOCUMENT_NOT_TRUSTED"}' in text


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (None, "holds no *.json"),
        ("{", "web.json is no manifest of documents"),
        ("[]", "web.json is no manifest of documents"),
        ('{"x": 1}', "web.json is no manifest of documents"),
        (json.dumps({sha256(OTHER): MODEL}), f"whose hash is sha256:{sha256(MODEL)}"),
        (json.dumps({hashlib.sha1(MODEL.encode()).hexdigest(): MODEL}), "whose hash is sha256:"),  # noqa: S324 - what graphql-codegen writes unless told otherwise
    ],
)
def test_manifest_that_is_none_is_told_at_the_start(
    manifest: str | None, says: str, tmp_path: Path
) -> None:
    if manifest is not None:
        (tmp_path / "web.json").write_text(manifest)
    options = ("--trusted-documents", "required", "--documents", tmp_path)
    done = jobrec("serve", "--data", tmp_path, *options, check=False)
    assert done.returncode == 2
    assert says in done.stderr


def test_folder_of_manifests_must_be_named() -> None:
    done = jobrec("serve", "--trusted-documents", "optional", check=False)
    assert done.returncode == 2
    assert "trusted documents are optional: name the folder" in done.stderr


# Registered documents


def test_document_is_registered_once_and_then_runs_by_its_hash(service: Service) -> None:
    document = "query Registered { model { version jobs } }"
    first = post(service, persisted(document))
    assert (first.status_code, code_of(first)) == (200, "PERSISTED_QUERY_NOT_FOUND")
    assert first.json()["errors"][0]["message"] == "PersistedQueryNotFound"

    registered = post(service, {"query": document, **persisted(document)}).json()["data"]
    assert registered["model"]["jobs"] > 0
    assert post(service, persisted(document)).json()["data"] == registered
    assert get(service, persisted(document)).json()["data"] == registered
    # Clients over web sockets send an empty text
    message = over_websocket(service, {"query": "", **persisted(document)})
    assert message["payload"]["data"] == registered


def test_hash_of_another_document_registers_nothing(service: Service) -> None:
    answer = post(service, {"query": OTHER, **persisted(RETRAIN)})
    assert (answer.status_code, code_of(answer)) == (400, "PERSISTED_QUERY_HASH_MISMATCH")
    assert code_of(post(service, persisted(RETRAIN))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    "persisted_query",
    [1, "x", [], {}, {"version": 1}, {"version": 2, "sha256Hash": sha256(MODEL)}]
    + [{"version": 1, "sha256Hash": given} for given in (1, "", "x" * 64, sha256(MODEL) + "0")],
)
def test_persisted_query_of_another_shape_is_refused(
    service: Service, persisted_query: Any
) -> None:
    answer = post(service, {"extensions": {"persistedQuery": persisted_query}})
    assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")


def test_nothing_is_registered_where_trusted_documents_are_required(strict: Service) -> None:
    assert code_of(post(strict, persisted(OTHER))) == "PERSISTED_QUERY_NOT_SUPPORTED"
    answer = post(strict, {"query": OTHER, **persisted(OTHER)})
    assert code_of(answer) == "DOCUMENT_NOT_TRUSTED"
    assert code_of(post(strict, persisted(OTHER))) == "PERSISTED_QUERY_NOT_SUPPORTED"
    # A trusted document may be asked for in this shape, too
    assert post(strict, persisted(MODEL)).json()["data"]["model"]["version"]


def test_registered_documents_that_were_not_used_for_longest_make_room() -> None:
    documents = Documents(TrustedDocuments.OFF, {})
    texts = [f"query Q{number} {{ model {{ version }} }}" for number in range(MAX_REGISTERED + 1)]
    for text in texts[:-1]:
        documents.resolve({"query": text, **persisted(text)})
    assert documents.resolve(persisted(texts[0]))["query"] == texts[0]
    documents.resolve({"query": texts[-1], **persisted(texts[-1])})

    assert documents.resolve(persisted(texts[0]))["query"] == texts[0]
    with pytest.raises(GraphQLError, match="PersistedQueryNotFound"):
        documents.resolve(persisted(texts[1]))


def test_very_long_document_runs_and_is_not_kept() -> None:
    documents = Documents(TrustedDocuments.OFF, {})
    text = MODEL.ljust(MAX_REGISTERED_LENGTH + 1)
    assert documents.resolve({"query": text, **persisted(text)})["query"] == text
    with pytest.raises(GraphQLError, match="PersistedQueryNotFound"):
        documents.resolve(persisted(text))
