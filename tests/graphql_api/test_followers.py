"""Many who follow one run: the service reads it once for all, and each sees every change."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from adapters.runs import SqliteTrainingRuns
from domain.errors import RunMissing
from domain.ports import Begun
from domain.runs import RunRequest, RunStatus, TrainingPhase, TrainingRun
from graphql_api.following import KEPT_CHANGES, Followers
from graphql_api.runtime import Runtime
from tests.conftest import Service

MANY = 60
FOLLOW = "subscription ($id: ID!) { trainingRun(id: $id) { status step } }"


class CountedRuns(SqliteTrainingRuns):
    """The real store, which counts how often changes are read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda: datetime.now(UTC))
        self.reads = 0
        self._has_read = threading.Condition()

    def changes(self, run_id: str, after: int) -> list[TrainingRun]:
        found = super().changes(run_id, after)
        with self._has_read:
            self.reads += 1
            self._has_read.notify_all()
        return found

    async def next_read(self) -> None:
        """Wait until the run has been looked at once more."""
        before = self.reads

        def wait() -> None:
            with self._has_read:
                assert self._has_read.wait_for(lambda: self.reads > before, 30)

        await asyncio.to_thread(wait)


@pytest.fixture
def runs(tmp_path: Path) -> CountedRuns:
    return CountedRuns(tmp_path)


@pytest.fixture
def run(runs: CountedRuns) -> Iterator[TrainingRun]:
    """Return a run that is under way."""
    begun = runs.begin(RunRequest(), "tests", None)
    assert isinstance(begun, Begun)
    with closing(begun.lease):
        yield begun.run


def end(runs: SqliteTrainingRuns, run: TrainingRun) -> None:
    runs.update(run.id, status=RunStatus.SUCCEEDED, phase=TrainingPhase.ENDED)


@asynccontextmanager
async def following(runs: SqliteTrainingRuns) -> AsyncIterator[Followers]:
    runtime = Runtime([])
    runtime.start()
    try:
        yield Followers(runtime, runs)
    finally:
        runtime.stop()


async def revisions(followers: Followers, run: TrainingRun) -> list[int]:
    async with aclosing(followers.follow(run.id)) as states:
        return [state.revision async for state in states]


def test_many_see_every_change_by_the_reads_of_one(runs: CountedRuns, run: TrainingRun) -> None:
    async def follow() -> list[list[int]]:
        async with following(runs) as followers:
            tasks = [asyncio.create_task(revisions(followers, run)) for _ in range(MANY)]
            for step in range(5):
                await runs.next_read()
                runs.update(run.id, step=step)
            end(runs, run)
            return await asyncio.gather(*tasks)

    seen = asyncio.run(follow())
    assert seen == [list(range(run.revision, run.revision + 7))] * MANY
    assert runs.reads < MANY


def test_who_falls_behind_holds_nobody_up_and_misses_nothing(
    runs: CountedRuns, run: TrainingRun
) -> None:
    steps = 2 * KEPT_CHANGES

    async def follow() -> tuple[list[int], list[int]]:
        async with following(runs) as followers, aclosing(followers.follow(run.id)) as slow:
            seen = [(await anext(slow)).revision]
            runs.update(run.id, step=0)
            seen.append((await anext(slow)).revision)
            quick = asyncio.create_task(revisions(followers, run))
            for step in range(1, steps):
                runs.update(run.id, step=step)
            end(runs, run)
            whole = await quick
            return [*seen, *[state.revision async for state in slow]], whole

    seen, whole = asyncio.run(follow())
    assert seen == list(range(run.revision, run.revision + steps + 2))
    assert whole == seen[-len(whole) :]


def test_nothing_is_read_when_nobody_follows_any_more(runs: CountedRuns, run: TrainingRun) -> None:
    async def follow() -> set[asyncio.Task[Any]]:
        async with following(runs) as followers:
            tasks = [asyncio.create_task(revisions(followers, run)) for _ in range(3)]
            await runs.next_read()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # the reader's own end
            return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(follow()) == set()


def test_failure_to_read_reaches_every_follower_and_not_the_next(
    runs: CountedRuns, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_run_id: str, _after: int) -> list[TrainingRun]:
        raise RunMissing("the record is gone")

    async def follow() -> tuple[list[Any], list[int]]:
        async with following(runs) as followers:
            with monkeypatch.context() as broken:
                broken.setattr(runs, "changes", fail)
                tasks = [revisions(followers, run) for _ in range(3)]
                failed = await asyncio.gather(*tasks, return_exceptions=True)
            later = asyncio.create_task(revisions(followers, run))
            await runs.next_read()
            end(runs, run)
            return failed, await later

    failed, later = asyncio.run(follow())
    assert [str(error) for error in failed] == ["the record is gone"] * 3
    assert later == [run.revision, run.revision + 1]


# The same on a real service


@pytest.fixture
def held_run(service: Service) -> Iterator[tuple[SqliteTrainingRuns, TrainingRun]]:
    """Return a run of the service that stands still unless the test moves it."""
    store = SqliteTrainingRuns(service.state, lambda: datetime.now(UTC))
    begun = store.begin(RunRequest(), "tests", None)
    assert isinstance(begun, Begun)
    with closing(begun.lease):
        yield store, begun.run
        store.cancel(begun.run.id)


@pytest.fixture
def open_socket(service: Service) -> Iterator[Callable[[], ClientConnection]]:
    url = service.url.replace("http", "ws", 1) + "/graphql"
    with ExitStack() as opened:

        def new() -> ClientConnection:
            socket = opened.enter_context(
                connect(url, subprotocols=[Subprotocol("graphql-transport-ws")])
            )
            socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(socket.recv(30)) == {"type": "connection_ack"}
            return socket

        yield new


def subscribe(socket: ClientConnection, run: TrainingRun, count: int) -> None:
    for number in range(count):
        payload = {"query": FOLLOW, "variables": {"id": run.id}}
        socket.send(json.dumps({"type": "subscribe", "id": str(number), "payload": payload}))


def steps_seen(socket: ClientConnection, count: int) -> dict[str, list[int]]:
    """Return the steps that each operation of a connection saw until all of them ended."""
    seen: dict[str, list[int]] = {str(number): [] for number in range(count)}
    ended = 0
    while ended < count:
        message = json.loads(socket.recv(30))
        if message["type"] == "complete":
            ended += 1
        else:
            seen[message["id"]].append(message["payload"]["data"]["trainingRun"]["step"])
    return seen


def read_calls(service: Service) -> int:
    """Return how often the service's process has read anything, as Linux counts it."""
    lines = Path(f"/proc/{service.process.pid}/io").read_text().splitlines()
    (calls,) = [int(line.split()[1]) for line in lines if line.startswith("syscr:")]
    return calls


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux to count reads")
def test_service_reads_a_run_no_oftener_for_many_who_follow_it(
    service: Service,
    held_run: tuple[SqliteTrainingRuns, TrainingRun],
    open_socket: Callable[[], ClientConnection],
) -> None:
    store, run = held_run

    def reads_in(seconds: float) -> int:
        before = read_calls(service)
        threading.Event().wait(seconds)
        return read_calls(service) - before

    one = open_socket()
    subscribe(one, run, 1)
    one.recv(30)
    by_one = reads_in(2)
    sockets = [open_socket() for _ in range(2)]
    for socket in sockets:
        subscribe(socket, run, 100)
        for _ in range(100):
            assert json.loads(socket.recv(30))["type"] == "next"
    by_many = reads_in(2)

    for step in (1, 2, 3):
        store.update(run.id, step=step)
    store.cancel(run.id)
    for socket in sockets:
        seen = steps_seen(socket, 100)
        assert list(seen.values()) == [[1, 2, 3, 3]] * 100
    assert by_many < 3 * by_one
