"""GraphiQL, served from files of this package: the page loads nothing from another host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    import os

    from starlette.requests import Request
    from starlette.types import Scope

_DIRECTORY = Path(__file__).parent / "static" / "graphiql"
_INDEX = (_DIRECTORY / "index.html").read_bytes()

# `connect-src 'self'` covers the web socket of the same host too.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; font-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, and revalidated by its ETag
}


async def page(_request: Request) -> Response:
    """Answer with the GraphiQL page, which posts to `/graphql` of the same origin."""
    return HTMLResponse(_INDEX, headers=_HEADERS)


def assets() -> Mount:
    """Return the route `/graphiql/*` to the scripts and styles of the page."""
    return Mount("/graphiql", _Assets(directory=_DIRECTORY), name="graphiql")


class _Assets(StaticFiles):
    """Static files under the headers of the page."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response
