"""The ways to send an operation, each with the same outcome for the same caller."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

Transport = Callable[[str, str | None, str], dict[str, Any]]

_PATIENCE = 30

# A connection a request, so that several workers share them
_CLIENT = httpx.Client(timeout=_PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))


def _headers(authorization: str | None, accept: str = "application/json") -> dict[str, str]:
    given = {} if authorization is None else {"Authorization": authorization}
    return {"Accept": accept, **given}


def _checked(answer: httpx.Response) -> httpx.Response:
    """Check what goes with a refusal."""
    assert (answer.status_code == 401) == ("www-authenticate" in answer.headers)
    return answer


def post(url: str, authorization: str | None, query: str) -> dict[str, Any]:
    headers = _headers(authorization)
    answer = _CLIENT.post(f"{url}/graphql", json={"query": query}, headers=headers)
    body: dict[str, Any] = _checked(answer).json()
    return body


def get(url: str, authorization: str | None, query: str) -> dict[str, Any]:
    headers = _headers(authorization)
    answer = _CLIENT.get(f"{url}/graphql", params={"query": query}, headers=headers)
    body: dict[str, Any] = _checked(answer).json()
    return body


def sse(url: str, authorization: str | None, query: str) -> dict[str, Any]:
    """Return the first event."""
    headers = _headers(authorization, "text/event-stream")
    body = {"query": query}
    with _CLIENT.stream("POST", f"{url}/graphql", json=body, headers=headers) as answer:
        if _checked(answer).status_code != 200:
            refusal: dict[str, Any] = json.loads(answer.read())
            return refusal
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return event
    raise AssertionError("the stream held no event")


def socket_by_parameters(url: str, authorization: str | None, query: str) -> dict[str, Any]:
    parameters = {} if authorization is None else {"authorization": authorization}
    with connect(_socket_url(url), subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        return _first(socket, parameters, query)


def socket_by_header(url: str, authorization: str | None, query: str) -> dict[str, Any]:
    headers = {} if authorization is None else {"Authorization": authorization}
    with connect(
        _socket_url(url),
        subprotocols=[Subprotocol("graphql-transport-ws")],
        additional_headers=headers,
    ) as socket:
        return _first(socket, {}, query)


def _socket_url(url: str) -> str:
    return f"{url.replace('http', 'ws', 1)}/graphql"


def _first(socket: ClientConnection, parameters: dict[str, str], query: str) -> dict[str, Any]:
    """Return the first payload; a connection that was refused looks like any other refusal."""

    def send(**message: Any) -> None:
        socket.send(json.dumps(message))

    def receive() -> dict[str, Any]:
        message: dict[str, Any] = json.loads(socket.recv(_PATIENCE))
        return message

    send(type="connection_init", payload=parameters)
    try:
        assert receive() == {"type": "connection_ack"}
    except ConnectionClosed as error:
        closed = error.rcvd
    else:
        closed = None
    if closed is not None:
        assert (closed.code, closed.reason) == (4403, "Forbidden")
        return {"errors": [{"extensions": {"code": "UNAUTHENTICATED"}}]}
    send(type="subscribe", id="1", payload={"query": query})
    message = receive()
    if message["type"] == "error":
        return {"errors": message["payload"]}
    payload: dict[str, Any] = message["payload"]
    return payload


TRANSPORTS: dict[str, Transport] = {
    "POST": post,
    "GET": get,
    "SSE": sse,
    "WebSocket by parameters": socket_by_parameters,
    "WebSocket by header": socket_by_header,
}
