"""What a web socket may do: the rules of HTTP, and bounds that only a lasting connection needs.

A connection that breaks one is closed with a code that says which:

1009  a message exceeds `MAX_BODY_BYTES`; the server itself closes
4400  a message is none of graphql-transport-ws
4403  the credentials are not valid, or not any more when an operation is asked for
4408  no `connection_init` within `INIT_SECONDS`
4450  this worker process holds as many connections as it may
4451  the address holds as many connections as it may
4452  a connection has more than `MAX_OPERATIONS` operations under way
4453  no operation was under way for too long

Codes from 4450 are this service's own; clients take them as a reason to try again later. Event
streams over HTTP count as connections; one too many is refused with 503 or 429. Messages of no
operation, pings above all, are read `MESSAGES_PER_SECOND` after a burst of as many.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    Message,
    SubscribeMessage,
    SubscribeMessagePayload,
)

from graphql_api.auth import Unauthenticated
from graphql_api.claims import KeysUnavailable
from graphql_api.documents import Documents
from graphql_api.probes import count_refusal
from graphql_api.rates import Rates
from graphql_api.schema import Context

INIT_SECONDS = 10
MAX_OPERATIONS = 100
MESSAGES_PER_SECOND = 100


class _Close(NamedTuple):
    code: int
    reason: str


class TooMany(NamedTuple):
    """Why a connection is one too many, for a web socket and for an event stream."""

    close_code: int
    status: int
    reason: str


_TOO_MANY_OPERATIONS = _Close(4452, f"more than {MAX_OPERATIONS} operations at once")


@dataclass(frozen=True)
class SocketLimits:
    """What the connections of one worker process may do.

    Attributes:
        connections: how many at once.
        connections_per_address: how many at once from one address.
        idle_seconds: for how long a connection may be without an operation.
    """

    connections: int
    connections_per_address: int
    idle_seconds: float


class Sockets:
    """The lasting connections of this worker process: web sockets, and event streams over HTTP."""

    def __init__(self, limits: SocketLimits) -> None:
        self.limits = limits
        self._open: Counter[str] = Counter()

    @contextmanager
    def entered(self, address: str) -> Iterator[TooMany | None]:
        """Count a connection until the block ends; hand over why it is one too many, if it is."""
        refusal = self._refusal(address)
        self._open[address] += 1
        try:
            yield refusal
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def _refusal(self, address: str) -> TooMany | None:
        if self._open.total() >= self.limits.connections:
            return TooMany(4450, 503, f"{self.limits.connections:,} connections are open here")
        if self._open[address] >= self.limits.connections_per_address:
            most = self.limits.connections_per_address
            return TooMany(4451, 429, f"{most:,} connections are open from this address")
        return None


class _Pace:
    """Lets so many messages through in a second, after a burst of as many."""

    def __init__(self, per_second: int) -> None:
        self._interval = 1 / per_second
        self._due = 0.0

    async def keep(self) -> None:
        """Wait until the next message is due."""
        now = time.monotonic()
        self._due = max(self._due, now - 1) + self._interval
        await asyncio.sleep(max(0.0, self._due - now))


class _Guarded(Protocol):
    """What the handler needs of the view."""

    rates: Rates
    sockets: Sockets
    documents: Documents

    async def identify_socket(self, context: Context) -> None:
        """Tell who calls."""


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """graphql-transport-ws within bounds."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - whatever the library's own takes
        super().__init__(**given)
        view = cast("_Guarded", self.view)
        self._rates, self._sockets, self._documents = view.rates, view.sockets, view.documents
        self._identify = view.identify_socket
        self._idle_since = time.monotonic()
        self._pace = _Pace(MESSAGES_PER_SECOND)

    async def handle(self) -> None:
        """Serve the connection until it ends, if it is not one too many."""
        with self._sockets.entered(self.context.remote) as refusal:
            if refusal is not None:
                await self._close(_Close(refusal.close_code, refusal.reason))
                return
            watch = asyncio.create_task(self._close_when_idle())
            try:
                await super().handle()
            finally:
                watch.cancel()

    async def handle_message(self, message: Message) -> None:
        """Answer a message of the right shape; the library would fail on any other."""
        if _is_message(message):
            if not self._belongs_to_operation(message):
                await self._pace.keep()
            await super().handle_message(message)
        else:
            await self.handle_invalid_message("not a message of graphql-transport-ws")

    def _belongs_to_operation(self, message: Message) -> bool:
        return message.get("type") == "subscribe" or message.get("id") in self.operations

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Begin an operation, if the caller may."""
        if self.connection_acknowledged and not await self._is_admitted(message):
            return
        await super().handle_subscribe(message)
        operation = self.operations.get(message["id"])
        if operation is not None and operation.task is not None:
            operation.task.add_done_callback(self._note_end)

    async def _is_admitted(self, message: SubscribeMessage) -> bool:
        """Tell whether an operation may begin, after saying why if not; put its document in."""
        if len(self.operations) >= MAX_OPERATIONS:
            await self._close(_TOO_MANY_OPERATIONS)
            return False
        try:
            await self._identify(self.context)
        except (Unauthenticated, KeysUnavailable) as error:
            await self._close(_Close(4403, str(error)))
            return False
        if refusal := await self._rates.request(self.context.caller.key):
            await self._refuse(message["id"], refusal)
            return False
        try:
            resolved = self._documents.resolve(message["payload"])
        except GraphQLError as error:
            await self._refuse(message["id"], error)
            return False
        if resolved["query"] is None:
            await self.handle_invalid_message("the payload has neither query nor documentId")
            return False
        message["payload"] = cast("SubscribeMessagePayload", resolved)
        return True

    async def _refuse(self, operation_id: str, refusal: GraphQLError) -> None:
        count_refusal(str((refusal.extensions or {}).get("code")))
        await self.send_message(
            {"id": operation_id, "type": "error", "payload": [refusal.formatted]}
        )

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:
        """Tell why to close the connection; an unknown operation's name is its own error only."""
        return error.message if isinstance(error, GraphQLSyntaxError) else None

    def _note_end(self, _task: asyncio.Task[None]) -> None:
        self._idle_since = time.monotonic()

    async def _close_when_idle(self) -> None:
        seconds = self._sockets.limits.idle_seconds
        rest = seconds
        while rest > 0:
            await asyncio.sleep(rest)
            idle = 0.0 if self.operations else time.monotonic() - self._idle_since
            rest = seconds - idle
        await self._close(_Close(4453, f"no operation for {seconds:g} s"))

    async def _close(self, close: _Close) -> None:
        count_refusal(f"WEBSOCKET_{close.code}")
        await self.websocket.close(*close)


def _is_message(message: Message) -> bool:
    """Tell whether a message has the shape of the protocol; `decode_json` made it an object."""
    given: dict[str, Any] = cast("dict[str, Any]", message)
    if not isinstance(given.get("id", ""), str):
        return False
    if given.get("type") != "subscribe":
        return True
    payload = given.get("payload")
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str | None)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
