"""Headers that every answer carries unless it brings its own, as files of the page do."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DEFAULTS = {b"cache-control": b"no-store", b"x-content-type-options": b"nosniff"}


class DefaultHeaders:
    """Keeps answers out of caches, and browsers from guessing what they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_defaults(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                missing = [each for each in _DEFAULTS.items() if each[0] not in given]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        await self._app(scope, receive, send_with_defaults)
