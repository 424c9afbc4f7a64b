"""Bodies that do not come: a client cannot keep the service waiting."""

from __future__ import annotations

import json
import socket

import httpx

from tests.conftest import Service

HEAD = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HALF_A_BODY = f'{HEAD}Content-Length: 100\r\n\r\n{{"query'


def answer_to(service: Service, text: str) -> tuple[int, str]:
    """Send a request's beginning and nothing more; return the status and code of the answer."""
    url = httpx.URL(service.url)
    assert url.port is not None
    with socket.create_connection((url.host, url.port), timeout=40) as connection:
        connection.sendall(text.encode())
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            chunk = connection.recv(65_536)
            assert chunk, received
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    (error,) = json.loads(body)["errors"]
    return int(head.split()[1]), error["extensions"]["code"]


def test_body_that_is_declared_too_large_is_refused_before_any_of_it_comes(
    service: Service,
) -> None:
    text = f"{HEAD}Content-Length: {(1 << 20) + 1}\r\n\r\n"
    assert answer_to(service, text) == (413, "PAYLOAD_TOO_LARGE")
