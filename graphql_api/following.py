"""Following training runs: one reader for each run and worker process, whoever follows it.

The reader hands changes to all followers at once and waits for none. A follower holds only the
revision that it saw last; one that falls behind what is kept reads the rest from the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from domain.ports import TrainingRuns
from domain.runs import TrainingRun
from graphql_api.runtime import Runtime

POLL_SECONDS = 0.1
"""How often a run that is followed is looked at."""

KEPT_CHANGES = 64
"""How many of a run's last changes are kept for those who follow it."""

_ReadChanges = Callable[[int], Awaitable[list[TrainingRun]]]


class Followers:
    """Those who follow training runs in this worker process."""

    def __init__(self, runtime: Runtime, runs: TrainingRuns) -> None:
        self._runtime = runtime
        self._runs = runs
        self._broadcasts: dict[str, _Broadcast] = {}

    async def follow(self, run_id: str) -> AsyncGenerator[TrainingRun, None]:
        """Yield a run as it is, then every change in order, until it has ended.

        Raises:
            RunMissing: there is none of that id.
        """
        run = await self._runtime.run(self._runs.get, run_id)
        yield run
        if run.status.is_final:
            return
        with self._joined(run) as broadcast:
            while not run.status.is_final:
                changes = await broadcast.after(run.revision)
                for run in changes:
                    yield run

    @contextmanager
    def _joined(self, run: TrainingRun) -> Iterator[_Broadcast]:
        """Hand over the run's broadcast: the first to come starts it, the last to go stops it."""

        async def read(revision: int) -> list[TrainingRun]:
            return await self._runtime.run(self._runs.changes, run.id, revision)

        broadcast = self._broadcasts.get(run.id)
        if broadcast is None or broadcast.is_over:
            broadcast = self._broadcasts[run.id] = _Broadcast(read, run.revision)
        broadcast.followers += 1
        try:
            yield broadcast
        finally:
            broadcast.followers -= 1
            if not broadcast.followers:
                broadcast.stop()
                if self._broadcasts.get(run.id) is broadcast:
                    del self._broadcasts[run.id]


class _Broadcast:
    """The changes of one run, read once for all who follow it.

    Attributes:
        followers: how many there are.
    """

    def __init__(self, read: _ReadChanges, revision: int) -> None:
        self.followers = 0
        self._read = read
        self._revision = revision
        self._kept: deque[TrainingRun] = deque(maxlen=KEPT_CHANGES)
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read_on())
        self._reader.add_done_callback(self._announce)

    @property
    def is_over(self) -> bool:
        """Whether nothing is read any more: the run has ended, or could not be read."""
        return self._reader.done()

    def stop(self) -> None:
        """Read no more."""
        self._reader.cancel()

    async def after(self, revision: int) -> list[TrainingRun]:
        """Wait for changes above a revision and return them, in order.

        Raises:
            JobrecError: the run cannot be read.
        """
        while self._revision <= revision:
            if self.is_over:
                self._reader.result()
            await self._news.wait()
        kept = [run for run in self._kept if run.revision > revision]
        is_whole = bool(kept) and kept[0].revision == revision + 1
        return kept if is_whole else await self._read(revision)

    async def _read_on(self) -> None:
        is_final = False
        while not is_final:
            await asyncio.sleep(POLL_SECONDS)
            if changes := await self._read(self._revision):
                self._kept.extend(changes)
                self._revision = changes[-1].revision
                is_final = changes[-1].status.is_final
                self._announce()

    def _announce(self, *_: object) -> None:
        """Wake whoever waits; who comes back waits for the next news."""
        news, self._news = self._news, asyncio.Event()
        news.set()
