"""What a web socket may do: the rules of HTTP, and bounds that only a lasting connection needs."""

from __future__ import annotations

from typing import Protocol, cast

from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.types import SubscribeMessage

from graphql_api.probes import count_refusal
from graphql_api.rates import Rates, caller_key
from graphql_api.schema import Context


class _Guarded(Protocol):
    """What the handler needs of the view."""

    rates: Rates


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """graphql-transport-ws within bounds."""

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Begin an operation, if the caller may."""
        rates = cast("_Guarded", self.view).rates
        if self.connection_acknowledged and (
            refusal := await rates.request(caller_key(self.context))
        ):
            count_refusal("RATE_LIMITED")
            await self.send_message(
                {"id": message["id"], "type": "error", "payload": [refusal.formatted]}
            )
            return
        await super().handle_subscribe(message)
