"""Clients who leave in the middle: no trouble of the service's, and none in its log."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from adapters.runs import SqliteTrainingRuns
from domain.ports import Begun
from domain.runs import RunRequest
from tests.conftest import CLIENT, NewState, Service, serving

pytestmark = pytest.mark.slow

PATIENCE = 30
FOLLOW = "subscription ($id: ID!) { trainingRun(id: $id) { step } }"
SUBSCRIPTIONS = 100


@pytest.fixture(scope="module")
def left(demo_data: Path, new_state: NewState) -> Iterator[Service]:
    """Run a service that clients leave; its log must not tell of it."""
    with serving(demo_data, new_state()) as running:
        yield running
    log = running.log.read_text()
    for word in ("Traceback", "Exception", "ERROR"):
        assert word not in log, log


def address(service: Service) -> tuple[str, int]:
    url = httpx.URL(service.url)
    assert url.port is not None
    return url.host, url.port


def counted(service: Service, code: str) -> float:
    """Return how many requests ended with a code, by the service's own count."""
    text = CLIENT.get(f"{service.url}/metrics").text
    found = re.search(rf'jobrec_requests_total{{operation="none",outcome="{code}"}} (\S+)', text)
    return 0 if found is None else float(found[1])


def test_hanging_up_in_a_body_is_counted_and_not_logged(left: Service) -> None:
    with socket.create_connection(address(left)) as connection:
        head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f'{head}Content-Length: 100\r\n\r\n{{"query"'.encode())
    deadline = time.monotonic() + PATIENCE
    while counted(left, "CLIENT_DISCONNECTED") == 0:
        assert time.monotonic() < deadline
    assert left.data_of("{ model { version } }")["model"]


def test_leaving_a_web_socket_amid_changes_is_not_logged(left: Service) -> None:
    runs = SqliteTrainingRuns(left.state, lambda: datetime.now(UTC))
    begun = runs.begin(RunRequest(), "tests", None)
    assert isinstance(begun, Begun)
    with closing(begun.lease):
        for step in range(10):
            leave_amid(left, runs, begun.run.id, step)
        runs.cancel(begun.run.id)
    assert left.data_of("{ model { version } }")["model"]


def leave_amid(service: Service, runs: SqliteTrainingRuns, run_id: str, step: int) -> None:
    """Follow a run many times over one connection, and hang up as changes come."""
    url = service.url.replace("http", "ws", 1) + "/graphql"
    payload = {"query": FOLLOW, "variables": {"id": run_id}}
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        connection.send(json.dumps({"type": "connection_init"}))
        assert json.loads(connection.recv(PATIENCE)) == {"type": "connection_ack"}
        for number in range(SUBSCRIPTIONS):
            message = {"type": "subscribe", "id": str(number), "payload": payload}
            connection.send(json.dumps(message))
        connection.recv(PATIENCE)
        runs.update(run_id, step=step)
        connection.socket.shutdown(socket.SHUT_RDWR)
