"""Event streams: as many as web sockets, and counted with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from adapters.runs import SqliteTrainingRuns
from domain.ports import Begun
from domain.runs import RunRequest
from tests.conftest import NewState, Service, serving

pytestmark = pytest.mark.slow

FOLLOW = "subscription ($id: ID!) { trainingRun(id: $id) { status } }"
EVENTS = {"Accept": "text/event-stream"}


class Stream:
    """An answer that goes on until it is closed."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def follows(self) -> bool:
        """Tell whether the stream brings the run's state."""
        return any(line.startswith("data: {") for line in self._lines)

    def refusal(self) -> tuple[int, str, str]:
        """Return why there is no stream."""
        assert self.response.status_code != 200
        (error,) = json.loads(self.response.read())["errors"]
        assert int(self.response.headers["retry-after"]) > 0
        return self.response.status_code, error["extensions"]["code"], error["message"]


Open = Callable[[str], Stream]


@pytest.fixture(scope="module")
def bounded(demo_data: Path, new_state: NewState) -> Iterator[Service]:
    """Run a service that holds few connections."""
    options = ["--ws-connections", "4", "--ws-connections-per-address", "2"]
    with serving(demo_data, new_state(), *options) as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def run_id(bounded: Service) -> Iterator[str]:
    """Return a run that stands still until the tests have ended."""
    runs = SqliteTrainingRuns(bounded.state, lambda: datetime.now(UTC))
    begun = runs.begin(RunRequest(), "tests", None)
    assert isinstance(begun, Begun)
    with closing(begun.lease):
        yield begun.run.id
        runs.cancel(begun.run.id)


@pytest.fixture
def open_stream(bounded: Service, run_id: str) -> Iterator[Open]:
    """Return what follows the run from a loopback address; streams close with the test."""
    with ExitStack() as opened:

        def new(address: str) -> Stream:
            transport = httpx.HTTPTransport(local_address=address)
            client = opened.enter_context(httpx.Client(transport=transport, timeout=30))
            body = {"query": FOLLOW, "variables": {"id": run_id}}
            url = f"{bounded.url}/graphql"
            stream = client.stream("POST", url, json=body, headers=EVENTS)
            return Stream(opened.enter_context(stream))

        yield new


def test_third_stream_of_an_address_is_refused_with_429_until_one_of_two_goes(
    open_stream: Open,
) -> None:
    first, second = (open_stream("127.0.0.2") for _ in range(2))
    assert open_stream("127.0.0.2").refusal() == (
        429,
        "CONNECTION_LIMIT_EXCEEDED",
        "2 connections are open from this address",
    )
    assert open_stream("127.0.0.3").follows()
    assert second.follows()

    first.response.close()
    # The service learns of it a moment later
    while (stream := open_stream("127.0.0.2")).response.status_code == 429:
        stream.refusal()
    assert stream.follows()


def test_fifth_stream_of_a_worker_is_refused_with_503_and_queries_are_answered(
    bounded: Service, open_stream: Open
) -> None:
    held = []
    for number in range(1, 5):
        # Of the end of another test's streams the service learns a moment later
        while (stream := open_stream(f"127.0.1.{number}")).response.status_code == 503:
            stream.refusal()
        held.append(stream)
    assert all(stream.follows() for stream in held)
    assert open_stream("127.0.1.9").refusal() == (
        503,
        "CONNECTION_LIMIT_EXCEEDED",
        "4 connections are open here",
    )
    assert bounded.data_of("{ model { version } }")["model"]


def hold_socket(service: Service, address: str, held: ExitStack) -> None:
    """Open a web socket and hold it."""
    url = service.url.replace("http", "ws", 1) + "/graphql"
    protocols = [Subprotocol("graphql-transport-ws")]
    while True:
        socket = held.enter_context(
            connect(url, subprotocols=protocols, source_address=(address, 0))
        )
        try:
            socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(socket.recv(30)) == {"type": "connection_ack"}
        except ConnectionClosed as error:
            # Of the end of another test's streams the service learns a moment later
            if error.rcvd is None or error.rcvd.code != 4450:
                raise
        else:
            return


def test_streams_and_web_sockets_count_together(bounded: Service, open_stream: Open) -> None:
    with ExitStack() as held:
        for _ in range(2):
            hold_socket(bounded, "127.0.2.1", held)
        assert open_stream("127.0.2.1").refusal()[0] == 429
