"""The whole service on a catalogue in Redis, which is killed and comes back under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import pytest

from adapters.redis_catalog import RedisAddress, RedisCatalog
from domain.errors import InputError
from domain.model import Job
from graphql_api.container import Container
from graphql_api.outages import Outages
from graphql_api.settings import Settings
from tests.conftest import CLIENT, TOKEN, Service, jobrec, serving
from tests.redis_server import RedisServer

LISTS = """{ batchRecommendations(userIds: [0, 1, 2, 3], first: 5) {
  partial items { score job { id title } } } }"""
CLOSE = """mutation ($ids: [ID!]!) { closeJobs(input: {ids: $ids}) {
  ... on CatalogueChanged { outcomes { change } } } }"""
PASSWORD = "a-password-of-the-tests"  # noqa: S105 - not a secret
CLIENTS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a redis-server that keeps what it acknowledged."""
    folder = tmp_path_factory.mktemp("redis")
    running = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def trained(server: RedisServer, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder with a model that was learned beside the catalogue in Redis."""
    state = tmp_path_factory.mktemp("outage") / "state"
    options = ("--data", demo_data, "--state", state, "--catalog", "redis")
    jobrec("train", *options, JOBREC_CATALOG_URL=server.url)
    assert not (state / "catalogue").exists()
    return state


class Load:
    """Clients who ask on and on; each answer must be one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[dict[str, Any]] = []
        self.failures: list[object] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                # A connection each, so that both workers get some
                answer = CLIENT.post(f"{self.url}/graphql", json={"query": LISTS}, timeout=20)
            except httpx.TransportError as error:
                self.failures.append(error)
                continue
            body = answer.json()
            if answer.status_code == 200 and "errors" not in body:
                self.answers.append(body)
            else:
                self.failures.append(body)

    def wait_for(
        self, wanted: Callable[[dict[str, Any]], bool], seconds: float, *, lasting: float = 0
    ) -> None:
        """Wait until so many answers in a row are as wanted that all workers gave some.

        Args:
            lasting: seconds that answers must have been given for, at least.
        """
        begun = time.monotonic()
        while True:
            latest = self.answers[-20:]
            is_reached = len(latest) == 20 and all(map(wanted, latest))
            if is_reached and time.monotonic() > begun + lasting:
                return
            assert time.monotonic() < begun + seconds, "waited in vain"
            time.sleep(0.01)


def is_whole(answer: dict[str, Any]) -> bool:
    items = [item for list_ in answer["data"]["batchRecommendations"] for item in list_["items"]]
    is_marked = answer["extensions"].get("partial") == "CATALOGUE_UNAVAILABLE"
    assert len(items) == 20
    (has_titles,) = {item["job"]["title"] is not None for item in items}
    # They never lack unsaid; a store that comes back amid an answer may give them to a marked one
    assert has_titles or is_marked
    return not is_marked


def is_degraded(answer: dict[str, Any]) -> bool:
    return not is_whole(answer)


def shown(answer: dict[str, Any]) -> set[str]:
    lists = answer["data"]["batchRecommendations"]
    return {item["job"]["id"] for list_ in lists for item in list_["items"]}


@pytest.mark.slow
def test_no_request_fails_while_redis_is_killed_and_restarted(
    server: RedisServer, demo_data: Path, trained: Path
) -> None:
    options = ("--workers", "2", "--catalog", "redis", "--rate-limit-requests", "0")
    with serving(
        *(demo_data, trained, *options, "--rate-limit-cost", "0"), JOBREC_CATALOG_URL=server.url
    ) as service:
        closed = close_what_is_shown_first(service)
        with Load(service.url) as load:
            # A worker that nobody asks learns of the closing by itself, four times a second
            load.wait_for(is_whole, 20, lasting=1)
            server.stop()
            load.wait_for(is_degraded, 20)
            server.start()
            load.wait_for(is_whole, 2)
        log = service.log.read_text()

    assert load.failures == []
    assert {is_whole(answer) for answer in load.answers} == {True, False}
    # Closed stays closed, on each worker and whether the server answers or not
    assert not any(closed & shown(answer) for answer in load.answers)
    assert "the catalogue does not answer" in log
    assert "the catalogue answers again" in log
    assert "Traceback" not in log


def close_what_is_shown_first(service: Service) -> set[str]:
    first = service.data_of(LISTS)["batchRecommendations"][0]["items"][0]["job"]["id"]
    changed = service.data_of(CLOSE, admin=True, ids=[first])
    assert changed["closeJobs"]["outcomes"] == [{"change": "UPDATED"}]
    return {first}


@pytest.mark.slow
def test_it_starts_while_redis_is_away_and_is_whole_when_it_comes(
    server: RedisServer, demo_data: Path, trained: Path
) -> None:
    server.stop()
    # Who needs no password may give any
    url = server.url.replace("redis://", f"redis://default:{PASSWORD}@")
    with serving(demo_data, trained, "--catalog", "redis", JOBREC_CATALOG_URL=url) as service:
        with Load(service.url) as load:
            load.wait_for(is_degraded, 20)
            server.start()
            load.wait_for(is_whole, 2)
        log = service.log.read_text()

    assert load.failures == []
    assert "does not answer" in log
    assert PASSWORD not in log


def test_an_outage_finds_a_worker_caught_up_that_nobody_asked(server: RedisServer) -> None:
    address = RedisAddress(server.url, prefix="idle")
    other, idle = RedisCatalog(address), RedisCatalog(address)
    other.upsert_jobs([Job(1), Job(2)])
    outages = Outages(idle, lambda: None)
    outages.look()
    other.close_jobs([1])
    outages.look()
    server.stop()
    try:
        standing = idle.standing(np.array([1, 2]), datetime.now(UTC), None)
    finally:
        server.start()
    assert standing.open.tolist() == [False, True]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "needs the variable JOBREC_CATALOG_URL"),
        ({"catalog_url": "redis://me:hunter2@localhost", "catalog_ca": "ca.pem"}, "not rediss://"),
    ],
)
def test_settings_that_do_not_fit_are_told(settings: dict[str, str], reason: str) -> None:
    given = Settings.model_validate({"catalog": "redis", **settings})

    with pytest.raises(InputError, match=reason) as caught:
        Container(settings=given).catalog()

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:hunter2@localhost", "redis://me:hunter2@localhost:x"])
def test_a_url_is_never_shown(url: str) -> None:
    message = jobrec("recommend", "1", check=False, JOBREC_CATALOG_URL=url).stderr

    assert "JOBREC_CATALOG_URL is a secret: " in message
    assert "hunter2" not in message


def test_a_url_reaches_who_learns_but_no_other_secret_does() -> None:
    url = "redis://me:hunter2@localhost"
    settings = Settings.model_validate({"catalog_url": url, "admin_token": TOKEN})

    variables = settings.environment(secrets=False)

    assert url == variables["JOBREC_CATALOG_URL"]
    assert TOKEN not in variables.values()
    assert "hunter2" not in repr(settings)
