"""How much one caller may ask for in a minute: so many requests, and operations of such a price.

Counted in fixed windows, which begin with a caller's first request: one counter a caller whatever
an operation costs, and `retryAfter` is exact. What is refused counts, too, until the window ends.
At the edge of two windows a caller may do twice as much within a minute, which a limit that guards
against floods can bear.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from graphql import GraphQLError
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from graphql_api.probes import count_unlimited

_PATIENCE_SECONDS = 0.25
_PAUSE_SECONDS = 1.0

_log = logging.getLogger(__name__)


def retry_after(errors: Iterable[GraphQLError] | None) -> int | None:
    """Return for how many seconds a caller has to wait, by the errors that they get."""
    for error in errors or ():
        if error.extensions and error.extensions.get("code") == "RATE_LIMITED":
            return int(error.extensions["retryAfter"])
    return None


class Rates:
    """Counts what callers ask for, and refuses what is too much.

    Where the store cannot be reached everything is let through: the limit protects the service
    from few, its absence harms nobody as much as refusing everybody would. The log says so once,
    and a metric counts what went uncounted.

    Args:
        requests: how many a minute; 0 is no limit.
        cost: the price a minute; 0 is no limit. What costs more than this runs at the beginning
            of a window only.
        store: `memory://`, where each worker process counts for itself, or `redis://...`.
    """

    def __init__(self, requests: int, cost: int, store: str) -> None:
        self._requests = RateLimitItemPerMinute(requests, namespace="requests")
        self._cost = RateLimitItemPerMinute(cost, namespace="cost")
        self._is_near = urlsplit(store).scheme == "memory"
        self._windows = FixedWindowRateLimiter(_storage(store))
        self._is_reachable = True
        self._paused_until = 0.0

    async def request(self, caller: str) -> GraphQLError | None:
        """Count a request; return the error where it is one too many."""
        wait = await self._take(self._requests, caller, 1)
        return None if wait is None else _refusal(f"{self._requests.amount:,} requests", wait)

    async def spend(self, caller: str, price: int) -> GraphQLError | None:
        """Count the price of an operation; return the error where the caller has spent too much."""
        wait = await self._take(self._cost, caller, min(price, self._cost.amount))
        return None if wait is None else _refusal(f"a cost of {self._cost.amount:,}", wait)

    async def _take(self, limit: RateLimitItem, caller: str, amount: int) -> int | None:
        """Count, and return after how many seconds to come back where the limit is reached."""
        if not limit.amount:
            return None
        if time.monotonic() < self._paused_until:
            count_unlimited()
            return None
        if self._is_near:
            return await self._wait(limit, caller, amount)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                wait = await self._wait(limit, caller, amount)
        except (StorageError, TimeoutError) as error:
            self._let_through(error)
            return None
        if not self._is_reachable:
            self._is_reachable = True
            _log.warning("the store of the rate limits is back; they hold again")
        return wait

    async def _wait(self, limit: RateLimitItem, caller: str, amount: int) -> int | None:
        if await self._windows.hit(limit, caller, cost=amount):
            return None
        window = await self._windows.get_window_stats(limit, caller)
        return max(1, math.ceil(window.reset_time - time.time()))

    def _let_through(self, error: Exception) -> None:
        """Do without the store for a moment, so that it does not slow every request down."""
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
        count_unlimited()
        if self._is_reachable:
            self._is_reachable = False
            _log.warning(
                "the store of the rate limits does not answer: %s; nobody is limited until it does",
                str(error) or f"no word within {_PATIENCE_SECONDS} s",
            )


class MemoryCounters(MemoryStorage):
    """Counters that are dropped when their windows end.

    The library's own look through all callers at every count: with 10,000 callers in a minute that
    takes 2 ms of the event loop for each operation.
    """

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count; windows are equally long, so those that began first end first."""
        now = time.time()
        for oldest in list(itertools.takewhile(self._is_over(now), self.expirations)):
            await self.clear(oldest)
        self.storage[key] += amount
        self.expirations.setdefault(key, now + expiry)
        return self.storage[key]

    def _is_over(self, now: float) -> Callable[[str], bool]:
        return lambda key: self.expirations[key] <= now


def _storage(url: str) -> Storage:
    if urlsplit(url).scheme == "memory":
        return MemoryCounters(wrap_exceptions=True)
    return RedisStorage(
        f"async+{url}", wrap_exceptions=True, implementation="redispy", key_prefix="jobrec"
    )


def _refusal(allowed: str, wait: int) -> GraphQLError:
    return GraphQLError(
        f"too much within a minute: {allowed} is allowed; come back in {wait} s",
        extensions={"code": "RATE_LIMITED", "retryAfter": wait},
    )
