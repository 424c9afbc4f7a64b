"""How much one caller may ask for in a minute, counted in memory and in a real Redis."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from graphql_api.rates import Window, Windows
from graphql_api.settings import Settings
from tests.conftest import CLIENT, NewState, Service, free_port, jobrec, serving
from tests.redis_server import RedisServer

pytestmark = pytest.mark.slow

MODEL = "{ model { version } }"
LIST = "{ recommendations(userId: 1, first: 10) { userId } }"
PRICE_OF_LIST = 22


@contextmanager
def caller(service: Service, address: str = "127.0.0.1") -> Iterator[httpx.Client]:
    """Call from an address of its own: each test counts from nothing."""
    # A connection for each request, so that every worker gets some
    limits = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.HTTPTransport(local_address=address, limits=limits)
    with httpx.Client(base_url=service.url, transport=transport, timeout=30) as client:
        yield client


def ask(client: httpx.Client, query: str = MODEL) -> httpx.Response:
    return client.post("/graphql", json={"query": query})


def check_limited(answer: httpx.Response) -> int:
    """Check a refusal, and return after how many seconds to come back."""
    (error,) = answer.json()["errors"]
    wait: int = error["extensions"]["retryAfter"]
    assert error["extensions"] == {"code": "RATE_LIMITED", "retryAfter": wait}
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == str(wait)
    assert 1 <= wait <= 60
    assert "data" not in answer.json()
    return wait


@pytest.fixture(scope="module")
def state(new_state: NewState) -> Path:
    """Return a state folder with a model."""
    return new_state()


@pytest.fixture(scope="module")
def limited(demo_data: Path, state: Path) -> Iterator[Service]:
    """Run a service that lets a caller send 5 requests and spend 100 in a minute."""
    options = ("--rate-limit-requests", "5", "--rate-limit-cost", "100")
    with serving(demo_data, state, *options) as running:
        yield running


def test_requests_beyond_the_limit_are_refused_to_that_caller_only(limited: Service) -> None:
    with caller(limited, "127.0.0.2") as one, caller(limited, "127.0.0.3") as other:
        assert [ask(one).status_code for _ in range(5)] == [200] * 5
        check_limited(ask(one))
        assert ask(other).status_code == 200
        text = CLIENT.get(f"{limited.url}/metrics").text
    assert 'jobrec_requests_total{operation="none",outcome="RATE_LIMITED"}' in text


def test_cost_beyond_the_limit_is_refused_and_cheaper_requests_count_too(limited: Service) -> None:
    with caller(limited, "127.0.0.4") as client:
        answers = [ask(client, LIST) for _ in range(5)]
    assert answers[0].json()["extensions"]["cost"]["requested"] == PRICE_OF_LIST
    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    check_limited(answers[4])
    assert "a cost of 100 is allowed" in answers[4].json()["errors"][0]["message"]


def test_what_costs_more_than_a_minute_allows_runs_at_its_beginning(limited: Service) -> None:
    expensive = "{ batchRecommendations(userIds: [1, 2, 3, 4, 5, 6]) { userId } }"
    with caller(limited, "127.0.0.5") as client:
        first = ask(client, expensive)
        assert first.status_code == 200
        assert first.json()["extensions"]["cost"]["requested"] > 100
        check_limited(ask(client, expensive))


def test_limit_counts_operations_over_websocket(limited: Service) -> None:
    url = limited.url.replace("http", "ws") + "/graphql"
    with connect(
        url, subprotocols=[Subprotocol("graphql-transport-ws")], source_address=("127.0.0.6", 0)
    ) as socket:
        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv())["type"] == "connection_ack"
        answers: list[dict[str, Any]] = []
        for number in range(6):
            subscribe = {"type": "subscribe", "id": str(number), "payload": {"query": MODEL}}
            socket.send(json.dumps(subscribe))
            answers.append(json.loads(socket.recv()))
            if answers[-1]["type"] == "next":
                assert json.loads(socket.recv())["type"] == "complete"
    assert [answer["type"] for answer in answers] == ["next"] * 5 + ["error"]
    assert answers[5]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
    with caller(limited, "127.0.0.6") as client:
        check_limited(ask(client))


def test_limit_counts_operations_over_server_sent_events(limited: Service) -> None:
    with caller(limited, "127.0.0.7") as client:
        answers = [
            client.post("/graphql", json={"query": MODEL}, headers={"Accept": "text/event-stream"})
            for _ in range(6)
        ]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    check_limited(answers[5])


def test_what_is_no_operation_counts_too(limited: Service) -> None:
    with caller(limited, "127.0.0.8") as client:
        bodies = [b"{", b"null", b'{"documentId": "x"}', b"{}", b'{"query": "{"}', b"{"]
        json_type = {"Content-Type": "application/json"}
        answers = [client.post("/graphql", content=body, headers=json_type) for body in bodies]
    assert 429 not in {answer.status_code for answer in answers[:5]}
    check_limited(answers[5])


def test_no_limit_where_it_is_turned_off(demo_data: Path, state: Path) -> None:
    options = ("--rate-limit-requests", "0", "--rate-limit-cost", "0")
    with serving(demo_data, state, *options) as service, caller(service) as client:
        assert {ask(client).status_code for _ in range(50)} == {200}


def test_password_of_the_store_stays_with_serving() -> None:
    settings = Settings.model_validate({"rate_limit_store": "redis://:a-password@127.0.0.1/0"})
    assert "a-password" not in repr(settings)
    assert "a-password" not in str(settings.environment(secrets=False))
    assert "a-password" in settings.environment(secrets=True)["JOBREC_RATE_LIMIT_STORE"]


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("memcached://me:hunter2@127.0.0.1", "expected memory://, redis:// or rediss://"),
        ("hunter2", "expected memory://, redis:// or rediss://"),
        ("redis://me:hunter2@127.0.0.1:none", "Port could not be cast to integer"),
    ],
)
def test_store_that_is_none_is_refused_at_the_start_without_its_password(
    store: str, says: str, tmp_path: Path
) -> None:
    done = jobrec("serve", "--data", tmp_path, check=False, JOBREC_RATE_LIMIT_STORE=store)
    assert done.returncode == 2
    assert "JOBREC_RATE_LIMIT_STORE is a secret: " in done.stderr
    assert says in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_store_is_no_option_since_others_see_those(tmp_path: Path) -> None:
    done = jobrec("serve", "--data", tmp_path, "--rate-limit-store", "memory://", check=False)
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_callers_do_not_choose_where_they_call_from(demo_data: Path, state: Path) -> None:
    options = ("--rate-limit-requests", "3")
    with serving(demo_data, state, *options) as service, caller(service, "127.0.0.2") as client:
        statuses = [
            client.post(
                "/graphql", json={"query": MODEL}, headers={"X-Forwarded-For": f"10.0.0.{n}"}
            )
            for n in range(5)
        ]
    assert [answer.status_code for answer in statuses] == [200] * 3 + [429] * 2


def test_whoever_tries_tokens_is_counted_by_their_address(demo_data: Path, state: Path) -> None:
    options = ("--rate-limit-requests", "3")
    with serving(demo_data, state, *options) as service, caller(service, "127.0.0.2") as client:
        statuses = [
            client.post("/graphql", json={"query": MODEL}, headers={"Authorization": f"Bearer {n}"})
            for n in range(5)
        ]
    assert [answer.status_code for answer in statuses] == [401] * 3 + [429] * 2


def test_counts_in_memory_are_dropped_when_their_windows_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, windows = 100.0, Windows(60)
    monkeypatch.setattr("graphql_api.rates.time.monotonic", lambda: now)
    for number in range(1_000):
        assert windows.add(("requests", f"early {number}"), 2).count == 2
    now = 130.0
    assert windows.add(("requests", "early 0"), 3) == Window(160.0, 5)
    assert windows.add(("requests", "late"), 1) == Window(190.0, 1)
    assert windows.add(("cost", "late"), 7) == Window(190.0, 7)
    now = 160.0
    assert windows.add(("requests", "late"), 1) == Window(190.0, 2)
    assert len(windows._windows) == 2  # noqa: SLF001 - what is held is no one else's matter


# In Redis


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a redis-server."""
    running = RedisServer(tmp_path)
    yield running
    running.stop()


def test_all_workers_count_together_in_redis(
    store: RedisServer, demo_data: Path, state: Path
) -> None:
    options = ("--workers", "2", "--rate-limit-requests", "20")
    statuses: list[int] = []
    with (
        serving(demo_data, state, *options, JOBREC_RATE_LIMIT_STORE=store.url) as service,
        caller(service, "127.0.0.2") as client,
    ):
        for _ in range(60):
            answer = ask(client)
            statuses.append(answer.status_code)
    assert (statuses.count(200), statuses.count(429)) == (20, 40)
    assert statuses == sorted(statuses)
    with redis.Redis(port=store.port, decode_responses=True) as counts:
        keys = counts.keys("*")
        assert isinstance(keys, list)
        assert all(0 < int(str(counts.ttl(key))) <= 60 for key in keys)
    assert check_limited(answer) <= 60


@pytest.mark.parametrize("fate", ["killed", "hanging"])
def test_without_redis_everybody_is_let_through_and_the_log_says_so_once(
    fate: str, store: RedisServer, demo_data: Path, state: Path
) -> None:
    with (
        serving(
            *(demo_data, state, "--rate-limit-requests", "3"), JOBREC_RATE_LIMIT_STORE=store.url
        ) as service,
        caller(service, "127.0.0.2") as client,
    ):
        assert [ask(client).status_code for _ in range(4)] == [200] * 3 + [429]
        if fate == "killed":
            store.stop()
        else:
            store.process.send_signal(signal.SIGSTOP)
        assert [ask(client).status_code for _ in range(20)] == [200] * 20
        text = CLIENT.get(f"{service.url}/metrics").text
        uncounted = re.search(r"^jobrec_rate_limit_unavailable_total (\S+)$", text, re.MULTILINE)
        assert uncounted is not None
        assert float(uncounted[1]) >= 20

        if fate == "killed":
            store.start()
        else:
            store.process.send_signal(signal.SIGCONT)
        assert any(ask(client).status_code == 429 for _ in range(10_000))
        log = service.log.read_text()
    assert log.count("the store of the rate limits does not answer") == 1
    assert log.count("the store of the rate limits is back") == 1
    assert "Traceback" not in log


def test_a_store_that_is_away_at_the_start_keeps_nobody_from_serving(
    demo_data: Path, state: Path
) -> None:
    store = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with serving(demo_data, state, JOBREC_RATE_LIMIT_STORE=store) as service:
        assert service.data_of(MODEL)["model"]["version"]
        log = service.log.read_text()
    assert "the store of the rate limits does not answer" in log
    assert "secret" not in log
