"""Following a training run: real clients over web sockets and over server-sent events."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests import node
from tests.conftest import Service, serving

# Processes of their own take their time
pytestmark = pytest.mark.slow

PATIENCE = 60
STATUSES = ["QUEUED", "RUNNING", "SUCCEEDED"]
PHASES = ["WAITING", "READING", "EVALUATING", "FITTING", "WRITING", "PROMOTING", "ENDED"]

STATE = "id status phase step totalSteps promoted failure"
FOLLOW = f"subscription ($id: ID!) {{ trainingRun(id: $id) {{ {STATE} }} }}"
RETRAIN = """mutation { retrain(input: {}) { __typename
    ... on RetrainAccepted { run { id } } ... on TrainingInProgress { run { id } } } }"""

slow = pytest.mark.slow

State = dict[str, Any]


def begin(service: Service) -> str:
    """Begin a run, after waiting for one that is under way."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = service.data_of(RETRAIN, admin=True)["retrain"]
        run_id: str = answer["run"]["id"]
        if answer["__typename"] == "RetrainAccepted":
            return run_id
        assert time.monotonic() < deadline, f"run {run_id} did not end"
        time.sleep(0.1)


def place(state: State) -> tuple[int, int, int]:
    """Return where in a run's life a state belongs."""
    return STATUSES.index(state["status"]), PHASES.index(state["phase"]), state["step"]


def check_whole(states: list[State], run_id: str) -> None:
    """Check what somebody saw who followed a run from its beginning."""
    assert {state["id"] for state in states} == {run_id}
    assert states[0]["status"] in {"QUEUED", "RUNNING"}
    assert states[0]["phase"] in {"WAITING", "READING"}
    assert [place(state) for state in states] == sorted(place(state) for state in states)
    # A recipe is measured in brief; texts are learned in two steps after the iterations
    for phase, steps in (("EVALUATING", 3), ("FITTING", 17)):
        of_phase = [state for state in states if state["phase"] == phase]
        assert [state["step"] for state in of_phase] == list(range(steps + 1)), phase
        assert {state["totalSteps"] for state in of_phase} == {steps}
    assert [state["promoted"] for state in states] == [None] * (len(states) - 1) + [True]
    check_end(states)


def check_end(states: list[State]) -> None:
    last = states[-1]
    assert (last["status"], last["phase"], last["failure"]) == ("SUCCEEDED", "ENDED", None)
    assert [state["status"] for state in states].count("SUCCEEDED") == 1


@pytest.fixture(scope="module")
def workers(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the service on two workers, with trainings long enough to come late to them."""
    state = tmp_path_factory.mktemp("workers") / "state"
    with serving(demo_data, state, "--workers", "2", "--factors", "192") as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log, log


# The client from npm


Follow = Callable[..., "Followed"]


class Followed:
    """What the npm client printed."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.code = process.returncode
        self.errors = process.stderr
        self.payloads: list[dict[str, Any]] = [
            json.loads(line) for line in process.stdout.splitlines()
        ]

    @property
    def states(self) -> list[State]:
        """The run's states; every payload must be one."""
        assert all("errors" not in payload for payload in self.payloads), self.payloads
        return [payload["data"]["trainingRun"] for payload in self.payloads]


@pytest.fixture(scope="session")
def follow(clients: Path) -> Follow:
    """Return the npm client as a function: it follows a run to the end, in a process."""

    def run(
        service: Service, run_id: str, params: dict[str, str] | None = None, stop_after: int = 0
    ) -> Followed:
        arguments = [socket_url(service), run_id, json.dumps(params or {}), str(stop_after)]
        return Followed(
            subprocess.run(
                [node.tool("node"), str(clients / "follow.mjs"), *arguments],
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        )

    return run


def socket_url(service: Service) -> str:
    return f"{service.url.replace('http', 'ws', 1)}/graphql"


@pytest.fixture(scope="module")
def followed(workers: Service, follow: Follow) -> tuple[str, Followed]:
    """Return a run and what the client saw that followed it from its beginning."""
    run_id = begin(workers)
    return run_id, follow(workers, run_id)


@slow
def test_npm_client_follows_a_run_to_its_end(followed: tuple[str, Followed]) -> None:
    run_id, client = followed
    assert (client.code, client.errors) == (0, "")
    check_whole(client.states, run_id)
    assert client.states[-1]["model"] == {"version": run_id}


@slow
def test_npm_client_that_comes_after_the_end_gets_the_final_state_once(
    workers: Service, follow: Follow, followed: tuple[str, Followed]
) -> None:
    run_id, client = followed
    late = follow(workers, run_id)
    assert (late.code, late.errors) == (0, "")
    assert late.states == client.states[-1:]


@slow
def test_npm_client_that_comes_back_sees_the_current_state_and_then_the_rest(
    workers: Service, follow: Follow
) -> None:
    run_id = begin(workers)
    whole: list[Followed] = []
    beside = threading.Thread(target=lambda: whole.append(follow(workers, run_id)))
    beside.start()

    left = follow(workers, run_id, stop_after=4)
    back = follow(workers, run_id)
    beside.join(PATIENCE)

    states = whole[0].states
    check_whole(states, run_id)
    assert left.code == 3
    assert left.states == states[states.index(left.states[0]) :][:4]
    assert back.code == 0
    assert place(back.states[0]) >= place(left.states[-1])
    assert 1 < len(back.states) < len(states)
    assert back.states == states[-len(back.states) :]


@slow
@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_npm_client_with_the_token_in_its_connection_parameters_is_an_admin(
    workers: Service, follow: Follow, followed: tuple[str, Followed], name: str
) -> None:
    run_id, _ = followed
    (state,) = follow(workers, run_id, {name: f"bearer {workers.admin_token}"}).states
    lines = (workers.data / "activities.jsonl").read_bytes().count(b"\n")
    assert state["dataReport"] == {"linesRead": lines}


@slow
@pytest.mark.parametrize("params", [{}, {"token": "x"}])
def test_npm_client_without_the_token_is_no_admin(
    workers: Service, follow: Follow, followed: tuple[str, Followed], params: dict[str, str]
) -> None:
    run_id, _ = followed
    client = follow(workers, run_id, params)
    assert client.code == 0
    assert [state["dataReport"] for state in client.states] == [None]


@slow
def test_npm_client_with_a_wrong_token_is_told_so(
    workers: Service, follow: Follow, followed: tuple[str, Followed]
) -> None:
    run_id, _ = followed
    client = follow(workers, run_id, {"Authorization": "Bearer wrong"})
    assert (client.code, client.states) == (1, [])
    assert json.loads(client.errors) == {"closed": 4403, "reason": "Forbidden"}


@slow
def test_npm_client_is_told_of_an_unknown_run(workers: Service, follow: Follow) -> None:
    (payload,) = follow(workers, "nobody's").payloads
    (error,) = payload["errors"]
    assert 'there is no training run "nobody\'s"' in error["message"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "id"}


# Web sockets, message by message


class Socket:
    """A connection that speaks graphql-transport-ws."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.port: int = connection.local_address[1]

    def send(self, kind: str, **fields: Any) -> None:
        self._connection.send(json.dumps({"type": kind, **fields}))

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(PATIENCE))
        return message

    def begin(self, **params: str) -> None:
        self.send("connection_init", payload=params)
        assert self.receive() == {"type": "connection_ack"}

    def ask(self, query: str) -> dict[str, Any]:
        """Send an operation that has one answer."""
        self.send("subscribe", id="once", payload={"query": query})
        answer = self.receive()
        assert (answer["type"], answer["id"]) == ("next", "once")
        assert self.receive() == {"type": "complete", "id": "once"}
        payload: dict[str, Any] = answer["payload"]
        return payload

    def follow(self, run_id: str) -> None:
        self.send("subscribe", id="run", payload={"query": FOLLOW, "variables": {"id": run_id}})

    def state(self) -> State | None:
        """Return the next state, None where there is none."""
        message = self.receive()
        if message["type"] == "complete":
            return None
        state: State = message["payload"]["data"]["trainingRun"]
        return state

    def rest(self) -> list[State]:
        return list(iter(self.state, None))


@pytest.fixture
def sockets() -> Iterator[Callable[[Service], Socket]]:
    """Return what opens web sockets; they are closed with the test."""
    with ExitStack() as opened:

        def socket(service: Service) -> Socket:
            protocol = Subprotocol("graphql-transport-ws")
            return Socket(
                opened.enter_context(connect(socket_url(service), subprotocols=[protocol]))
            )

        yield socket


def worker_of(service: Service, socket: Socket) -> int:
    """Return the process that holds the other end of a connection, as Linux tells it."""
    port = httpx.URL(service.url).port
    (inode,) = [
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if (int(fields[1][-4:], 16), int(fields[2][-4:], 16)) == (port, socket.port)
    ]
    main = service.process.pid
    for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
        for file in Path(f"/proc/{child}/fd").iterdir():
            if file.is_symlink() and str(file.readlink()) == f"socket:[{inode}]":
                return int(child)
    pytest.fail(f"no worker holds the connection from port {socket.port}")


@slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux to tell workers apart")
def test_subscribers_on_two_workers_see_the_same(
    workers: Service, sockets: Callable[[Service], Socket]
) -> None:
    by_worker: dict[int, Socket] = {}
    for _ in range(200):
        socket = sockets(workers)
        socket.begin()
        by_worker.setdefault(worker_of(workers, socket), socket)
        if len(by_worker) == 2:
            break
    early, late = by_worker.values()

    run_id = begin(workers)
    early.follow(run_id)
    seen_before = [early.state() for _ in range(8)]
    late.follow(run_id)
    seen_late = late.rest()
    seen = [state for state in (*seen_before, *early.rest()) if state is not None]

    check_whole(seen, run_id)
    assert len(seen_late) > 1
    # Revisions are not shown, so two states may look alike: the last of them is meant
    assert seen_late == seen[-len(seen_late) :]


def test_token_in_the_connection_parameters_opens_what_is_for_admins(
    service: Service, sockets: Callable[[Service], Socket]
) -> None:
    for params, is_admin in (
        ({"Authorization": f"Bearer {service.admin_token}"}, True),
        ({"aUTHORIZATION": f"bEARER {service.admin_token}"}, True),
        ({}, False),
    ):
        socket = sockets(service)
        socket.send("connection_init", payload=params)
        assert socket.receive() == {"type": "connection_ack"}
        answer = socket.ask("{ models { version } }")
        assert ("errors" not in answer) == is_admin, params


def test_wrong_token_in_the_connection_parameters_closes_the_connection(
    service: Service, sockets: Callable[[Service], Socket]
) -> None:
    for given in (service.admin_token, "Bearer wrong", ["Bearer", service.admin_token]):
        socket = sockets(service)
        socket.send("connection_init", payload={"Authorization": given})
        with pytest.raises(ConnectionClosed) as closed:
            socket.receive()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "Forbidden")


def test_operation_on_an_old_connection_is_answered_by_the_model_that_is_live_now(
    service: Service, sockets: Callable[[Service], Socket]
) -> None:
    socket = sockets(service)
    socket.begin()
    before = socket.ask("{ model { version } }")
    run_id = begin(service)
    socket.follow(run_id)
    check_end(socket.rest())
    deadline = time.monotonic() + 5
    while service.data_of("{ model { version } }")["model"]["version"] != run_id:
        assert time.monotonic() < deadline, f"model {run_id} did not go live"
        time.sleep(0.05)

    assert before["data"]["model"]["version"] != run_id
    assert socket.ask("{ model { version } }")["data"]["model"]["version"] == run_id


@pytest.mark.parametrize("message", ["{", "[1]", "1", '"x"', "\x00"])
def test_what_is_no_message_closes_the_connection_with_a_reason(
    service: Service, message: str
) -> None:
    with connect(
        socket_url(service), subprotocols=[Subprotocol("graphql-transport-ws")]
    ) as connection:
        connection.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        4400,
        "WebSocket message must be valid JSON",
    )


def test_document_that_cannot_be_parsed_is_told(
    service: Service, sockets: Callable[[Service], Socket]
) -> None:
    socket = sockets(service)
    socket.begin()
    socket.send("subscribe", id="x", payload={"query": "subscription {"})
    with pytest.raises(ConnectionClosed) as closed:
        socket.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert "Syntax Error: Expected Name, found <EOF>" in closed.value.rcvd.reason

    ((kind, payload), *end) = Events(service, "subscription {").all()
    assert kind == "next"
    assert payload is not None
    assert payload["errors"][0]["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"
    assert end == [("complete", None)]


def test_document_that_is_not_valid_is_told(
    service: Service, sockets: Callable[[Service], Socket]
) -> None:
    socket = sockets(service)
    socket.begin()
    socket.send("subscribe", id="x", payload={"query": "subscription { nope }"})
    answer = socket.receive()
    assert (answer["type"], answer["id"]) == ("error", "x")
    assert answer["payload"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


def test_pages_of_other_origins_are_refused(service: Service) -> None:
    for origin, is_refused in (("http://elsewhere.example", True), (service.url, False)):
        refused = None
        try:
            with connect(
                socket_url(service),
                origin=Origin(origin),
                subprotocols=[Subprotocol("graphql-transport-ws")],
            ):
                pass
        except InvalidStatus as error:
            refused = error.response.status_code
        assert refused == (403 if is_refused else None), origin


# Server-sent events


class Events:
    """Server-sent events, received by curl."""

    def __init__(self, service: Service, query: str, **variables: str) -> None:
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("install curl")
        body = json.dumps({"query": query, "variables": variables})
        command = [curl, "-sS", "-N", "-i", "-X", "POST", "--max-time", str(PATIENCE)]
        command += ["-H", "Accept: text/event-stream", "-H", "Content-Type: application/json"]
        self._process = subprocess.Popen(
            [*command, "--data", body, f"{service.url}/graphql"], stdout=subprocess.PIPE, text=True
        )

    def all(self) -> list[tuple[str, dict[str, Any] | None]]:
        """Return the kind and the data of every event, after the connection ended well."""
        text, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0
        head, _, body = text.partition("\n\n")
        assert head.startswith("HTTP/1.1 200")
        assert "content-type: text/event-stream" in head.lower()
        events = []
        for block in body.strip().split("\n\n"):
            fields = dict(line.split(":", 1) for line in block.splitlines())
            if "event" in fields:  # what is none keeps the connection alive
                data = fields["data"].strip()
                events.append((fields["event"].strip(), json.loads(data) if data else None))
        return events


@slow
def test_curl_follows_a_run_to_its_end(workers: Service) -> None:
    run_id = begin(workers)

    *followed, end = Events(workers, FOLLOW, id=run_id).all()
    *late, late_end = Events(workers, FOLLOW, id=run_id).all()

    assert {kind for kind, _ in followed} == {"next"}
    assert end == late_end == ("complete", None)
    states = [payload["data"]["trainingRun"] for _, payload in followed if payload]
    check_whole(states, run_id)
    assert late == followed[-1:]


def test_curl_is_told_of_an_unknown_run(service: Service) -> None:
    (kind, payload), end = Events(service, FOLLOW, id="nobody's").all()
    assert kind == "next"
    assert payload is not None
    assert payload["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "id"}
    assert end == ("complete", None)
