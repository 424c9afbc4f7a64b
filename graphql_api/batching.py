"""Micro-batches: lists that are asked for at the same moment are made in one go.

Ranking for a hundred people takes ten times as long as for one. Nobody waits for others to come:
whatever is asked for by the time the event loop gets round to it makes up a batch, and while as
many batches as there are processors are made in threads, the next one grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from graphql_api.runtime import Runtime

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_Asked = list[tuple[int, "asyncio.Future[V]"]]


class MicroBatches(Generic[K, V]):
    """Gathers what is asked for on the same terms.

    Args:
        make: returns the lists of some people on the same terms, one for each.
        make_briefly: returns the same where that takes less time than a thread switch is worth;
            else None, at once.
        most: people of a batch.
        lanes: batches that are made in threads at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        make: Callable[[K, Sequence[int]], Sequence[V]],
        make_briefly: Callable[[K, Sequence[int]], Sequence[V] | None],
        most: int,
        lanes: int,
    ) -> None:
        self._runtime = runtime
        self._make = make
        self._make_briefly = make_briefly
        self._most = most
        self._free = lanes
        self._waiting: dict[K, _Asked[V]] = {}
        self._is_due = False
        self._running: set[asyncio.Task[None]] = set()

    async def one(self, terms: K, user_id: int) -> V:
        """Return the list of one person."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(terms, []).append((user_id, answer))
        self._schedule()
        return await answer

    async def all(self, terms: K, user_ids: Sequence[int]) -> Sequence[V]:
        """Return the lists of many people."""
        lists = self._make_briefly(terms, user_ids)
        if lists is not None:
            return lists
        return await self._runtime.run(self._make, terms, user_ids)

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._make_next)

    def _make_next(self) -> None:
        self._is_due = False
        while self._waiting and self._free:
            terms = next(iter(self._waiting))
            waiting = self._waiting.pop(terms)
            batch, rest = waiting[: self._most], waiting[self._most :]
            if rest:
                self._waiting[terms] = rest
            ids = [user_id for user_id, _ in batch]
            lists = _attempt(self._make_briefly, terms, ids)
            if lists is not None:
                _settle(batch, lists)
                if self._waiting:
                    # Once those who were answered have gone on
                    self._schedule()
                return
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._in_thread(terms, ids, batch))
            self._running.add(task)
            task.add_done_callback(self._done)

    async def _in_thread(self, terms: K, ids: Sequence[int], batch: _Asked[V]) -> None:
        try:
            lists = await self._runtime.run(self._make, terms, ids)
        except Exception as error:  # noqa: BLE001 - it goes to all who asked
            _settle(batch, error)
        else:
            _settle(batch, lists)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free += 1
        self._make_next()


def _attempt(
    make: Callable[[K, Sequence[int]], V | None], terms: K, ids: Sequence[int]
) -> V | Exception | None:
    try:
        return make(terms, ids)
    except Exception as error:  # noqa: BLE001 - as above
        return error


def _settle(batch: _Asked[V], lists: Sequence[V] | Exception) -> None:
    """Answer those who still wait."""
    for place, (_, answer) in enumerate(batch):
        if answer.done():
            continue
        if isinstance(lists, Exception):
            answer.set_exception(lists)
        else:
            answer.set_result(lists[place])
