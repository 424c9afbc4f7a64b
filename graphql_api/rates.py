"""How much one caller may ask for in a minute: so many requests, and operations of such a price.

Counted in fixed windows, which begin with a caller's first request: one counter a caller whatever
an operation costs, and `retryAfter` is exact. What is refused counts, too, until the window ends.
At the edge of two windows a caller may do twice as much within a minute, which a limit that guards
against floods can bear.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from graphql import GraphQLError
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from graphql_api.probes import count_unlimited

_MINUTE = 60.0
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
        is_near = urlsplit(store).scheme == "memory"
        self._own = Windows(_MINUTE) if is_near else None
        self._shared = None if is_near else FixedWindowRateLimiter(_in_redis(store))
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
        if self._own is not None:
            window = self._own.add((limit.namespace, caller), amount)
            return None if window.count <= limit.amount else _whole(window.ends - time.monotonic())
        if time.monotonic() < self._paused_until:
            count_unlimited()
            return None
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
        assert self._shared is not None  # noqa: S101 - asked only where counts are shared
        if await self._shared.hit(limit, caller, cost=amount):
            return None
        window = await self._shared.get_window_stats(limit, caller)
        return _whole(window.reset_time - time.time())

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


@dataclass(slots=True)
class Window:
    """What was counted of somebody.

    Attributes:
        ends: seconds of the monotonic clock.
    """

    ends: float
    count: int = 0


class Windows:
    """Counts in the memory of this process, which are dropped when their windows end.

    The library's look through all callers at every count: with 10,000 callers in a minute that
    takes 2 ms of the event loop for each operation.

    Args:
        seconds: length of a window.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Not a plain one: looking for its first key passes over all that was dropped before
        self._windows: OrderedDict[tuple[str, str], Window] = OrderedDict()

    def add(self, key: tuple[str, str], amount: int) -> Window:
        """Count, and return the window in which that was."""
        now = time.monotonic()
        # Equally long, those that began first end first
        while self._windows and next(iter(self._windows.values())).ends <= now:
            self._windows.popitem(last=False)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(now + self._seconds)
        window.count += amount
        return window


def _in_redis(url: str) -> Storage:
    return RedisStorage(
        f"async+{url}", wrap_exceptions=True, implementation="redispy", key_prefix="jobrec"
    )


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _refusal(allowed: str, wait: int) -> GraphQLError:
    return GraphQLError(
        f"too much within a minute: {allowed} is allowed; come back in {wait} s",
        extensions={"code": "RATE_LIMITED", "retryAfter": wait},
    )
