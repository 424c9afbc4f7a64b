"""By which names a service may be called.

A page of a foreign site can let its own name point to this machine (DNS rebinding) and then counts
as of the same origin. Where nobody needs credentials on loopback, only loopback's names are taken.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from graphql_api.auth import is_loopback, is_open
from graphql_api.endpoint import error_response
from graphql_api.settings import Settings


def hosts_by(settings: Settings) -> frozenset[str] | None:
    """Return the names beside loopback's own that are taken; None where any is."""
    if settings.hosts is not None:
        return frozenset(name.strip().lower() for name in settings.hosts.split(","))
    if is_loopback(settings.host) and is_open(settings):
        return frozenset()
    return None


class KnownHosts:
    """Refuses requests under other names, with 421, and web sockets with 403.

    Args:
        names: taken beside loopback's own.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, if it is for this service."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        hosts = (value for name, value in scope["headers"] if name == b"host")
        name = _name(next(hosts, b"").decode("latin-1"))
        if name in self._names or is_loopback(name):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            response = error_response(
                421,
                "UNKNOWN_HOST",
                f"this service is not called {name!r:.100}; its owner names others in JOBREC_HOSTS",
            )
            await response(scope, receive, send)


def _name(host: str) -> str:
    """Return the name of a `Host` header, without its port and an IPv6 address's brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
