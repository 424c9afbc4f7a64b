"""What a web socket may do: each bound closes it with its own code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.conftest import NewState, Service, serving

pytestmark = pytest.mark.slow

MODEL = {"query": "{ model { version } }"}
FOLLOW = "subscription ($id: ID!) { trainingRun(id: $id) { phase step } }"
IDLE_SECONDS = 1
MAX_BYTES = 1 << 20

Open = Callable[..., "Socket"]


class Socket:
    """A connection that speaks graphql-transport-ws."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=30))
        return message

    def begin(self) -> Socket:
        self.send(type="connection_init")
        assert self.receive()["type"] == "connection_ack"
        return self

    def ask(self) -> None:
        """Check that the connection still answers."""
        self.send(type="subscribe", id="asked", payload=MODEL)
        assert self.receive()["type"] == "next"
        assert self.receive()["type"] == "complete"

    def closed(self) -> tuple[int, str]:
        """Return the code and the reason with which the service closes the connection."""
        with pytest.raises(ConnectionClosed) as end:
            self._drain()
        assert end.value.rcvd is not None
        return end.value.rcvd.code, end.value.rcvd.reason

    def _drain(self) -> None:
        while True:
            self.connection.recv(timeout=30)


@pytest.fixture(scope="module")
def bounded(demo_data: Path, new_state: NewState) -> Iterator[Service]:
    """Run a service with narrow bounds, whose trainings end only when they are cancelled."""
    options = ["--ws-connections", "5", "--ws-connections-per-address", "3"]
    options += ["--ws-idle-seconds", str(IDLE_SECONDS), "--iterations", "10000"]
    with serving(demo_data, new_state(), *options, "--hold-out", "0") as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture
def open_socket(bounded: Service) -> Iterator[Open]:
    """Return what opens connections, from any loopback address; they close with the test."""
    url = bounded.url.replace("http", "ws") + "/graphql"
    with ExitStack() as opened:

        def new(address: str = "127.0.0.1") -> Socket:
            connection = connect(
                url,
                subprotocols=[Subprotocol("graphql-transport-ws")],
                source_address=(address, 0),
                open_timeout=30,
            )
            return Socket(opened.enter_context(connection))

        yield new


@pytest.fixture(scope="module")
def run_id(bounded: Service) -> Iterator[str]:
    """Return a training run that goes on until the tests have ended."""
    begun = bounded.data_of(
        "mutation { retrain(input: {}) { ... on RetrainAccepted { run { id } } } }", admin=True
    )
    begun_id: str = begun["retrain"]["run"]["id"]
    yield begun_id
    bounded.data_of(
        "mutation ($id: ID!) { cancelTrainingRun(input: {id: $id}) { __typename } }",
        admin=True,
        id=begun_id,
    )
    query = "query ($id: ID!) { trainingRun(id: $id) { status } }"
    status, deadline = "RUNNING", time.monotonic() + 30
    while status in {"QUEUED", "RUNNING"} and time.monotonic() < deadline:
        time.sleep(0.05)
        status = bounded.data_of(query, id=begun_id)["trainingRun"]["status"]
    assert status == "CANCELLED"


def test_message_of_the_largest_size_is_answered(open_socket: Open) -> None:
    socket = open_socket().begin()
    message = json.dumps({"type": "subscribe", "id": "1", "payload": MODEL})
    socket.connection.send(message + " " * (MAX_BYTES - len(message)))
    assert socket.receive()["type"] == "next"


def test_larger_message_closes_with_1009(open_socket: Open) -> None:
    socket = open_socket().begin()
    socket.connection.send(" " * (MAX_BYTES + 1))
    assert socket.closed()[0] == 1009


@pytest.mark.parametrize(
    "message",
    [
        "null",
        "[]",
        "{",
        "[" * 100_000,
        "{}",
        '{"type": "nonsense"}',
        '{"type": "subscribe"}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "1", "payload": null}',
        '{"type": "subscribe", "id": "1", "payload": []}',
        '{"type": "subscribe", "id": "1", "payload": {}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 1}}',
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ __typename }"}}',
        '{"type": "subscribe", "id": ["1"], "payload": {"query": "{ __typename }"}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "variables": []}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "operationName": 1}}',
        '{"type": "complete"}',
        '{"type": "complete", "id": {}}',
        b"\x00",
    ],
)
def test_what_is_no_message_closes_with_4400(open_socket: Open, message: str | bytes) -> None:
    socket = open_socket().begin()
    socket.connection.send(message)
    assert socket.closed()[0] == 4400


def test_operation_that_a_document_does_not_hold_is_an_error_of_its_own(open_socket: Open) -> None:
    socket = open_socket().begin()
    payload = {"query": "query a { model { version } }", "operationName": "b"}
    socket.send(type="subscribe", id="x", payload=payload)
    answer = socket.receive()
    assert (answer["type"], answer["id"]) == ("error", "x")
    assert answer["payload"][0]["extensions"]["code"] == "BAD_REQUEST"
    socket.ask()


def test_fourth_connection_of_an_address_closes_with_4451_until_one_of_three_goes(
    open_socket: Open,
) -> None:
    held = [open_socket("127.0.0.2").begin() for _ in range(3)]
    assert open_socket("127.0.0.2").closed() == (4451, "3 connections are open from this address")
    open_socket("127.0.0.3").begin().ask()

    held[0].connection.close()
    held[1].ask()
    open_socket("127.0.0.2").begin().ask()


def test_sixth_connection_of_a_worker_closes_with_4450(open_socket: Open) -> None:
    held = [open_socket(f"127.0.1.{number}").begin() for number in range(1, 6)]
    assert open_socket("127.0.1.6").closed() == (4450, "5 connections are open here")
    held[0].ask()


def test_operation_101_of_a_connection_closes_with_4452(open_socket: Open, run_id: str) -> None:
    socket = open_socket().begin()
    payload = {"query": FOLLOW, "variables": {"id": run_id}}
    for number in range(100):
        socket.send(type="subscribe", id=str(number), payload=payload)
    heard: set[str] = set()
    while len(heard) < 100:
        message = socket.receive()
        assert message["type"] == "next"
        heard.add(message["id"])
    socket.send(type="subscribe", id="100", payload=payload)
    assert socket.closed() == (4452, "more than 100 operations at once")


def test_connection_is_kept_during_an_operation_and_closes_with_4453_after_it(
    open_socket: Open, run_id: str
) -> None:
    socket = open_socket().begin()
    socket.send(type="subscribe", id="1", payload={"query": FOLLOW, "variables": {"id": run_id}})
    until = time.monotonic() + 3 * IDLE_SECONDS
    while time.monotonic() < until:
        assert socket.receive()["type"] == "next"
    socket.send(type="complete", id="1")
    assert socket.closed() == (4453, "no operation for 1 s")


def test_ping_does_not_keep_an_idle_connection(open_socket: Open) -> None:
    socket = open_socket().begin()
    until = time.monotonic() + 30 * IDLE_SECONDS
    with suppress(ConnectionClosed):
        while time.monotonic() < until:
            socket.send(type="ping")
            assert socket.receive()["type"] == "pong"
    assert socket.closed()[0] == 4453


@pytest.mark.parametrize("message", [{"type": "ping"}, {"type": "complete", "id": "none"}])
def test_flood_of_messages_outside_of_operations_has_to_wait(
    service: Service, message: dict[str, str]
) -> None:
    url = service.url.replace("http", "ws") + "/graphql"
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        socket = Socket(connection).begin()
        begun = time.monotonic()
        for _ in range(250):
            socket.send(**message)
        socket.send(type="subscribe", id="asked", payload=MODEL)
        answers = [socket.receive()["type"]]
        while answers[-1] != "complete":
            answers.append(socket.receive()["type"])
        # 100 at once and 100 in each second after that
        assert time.monotonic() - begun > 1.4
    assert answers == ["pong"] * (250 if message["type"] == "ping" else 0) + ["next", "complete"]


@pytest.mark.slow
def test_connection_that_does_not_begin_closes_with_4408(service: Service) -> None:
    url = service.url.replace("http", "ws") + "/graphql"
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        assert Socket(connection).closed()[0] == 4408
