"""The web application: `/graphql`, GraphiQL's files and the life of what serves them."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from threadpoolctl import threadpool_limits

from application.training import Retraining
from graphql_api import graphiql
from graphql_api.container import Container
from graphql_api.endpoint import Endpoint, Guards, error_response
from graphql_api.following import Followers
from graphql_api.gathering import RememberedJobs
from graphql_api.headers import DefaultHeaders
from graphql_api.hosts import KnownHosts, hosts_by
from graphql_api.memo import Memo
from graphql_api.outages import Outages
from graphql_api.pricing import Toll
from graphql_api.probes import Observed, count_outage, observe, probes
from graphql_api.runtime import Runtime, TrainingLauncher, idly
from graphql_api.schema import Services, create_schema, micro_batches
from graphql_api.settings import Profile, Settings

_COLLECTED_OBJECTS = 20_000, 2, 2
"""How many more objects the collector looks at, and that it soon looks at all that came since."""


def create_app(settings: Settings) -> Starlette:
    """Wire everything and return the application; it starts its work when the server does."""
    # BLAS threads of many requests fight for the same processors: measured 10 times slower
    threadpool_limits(1, "blas")
    container = Container(settings=settings)
    models, catalog, runs = container.models(), container.catalog(), container.runs()
    outages = Outages(catalog, count_outage)
    follow_dataset = partial(container.follow_dataset(), False)
    recommending = container.recommending()
    runtime = Runtime(
        [models.refresh, follow_dataset, outages.look, runs.reap],
        [recommending.catch_up] if catalog.is_near else [],
    )
    launcher = TrainingLauncher(
        settings.environment(secrets=False), lambda run_id: runs.get(run_id).status.is_final
    )
    remembered = RememberedJobs(catalog, outages)
    services = Services(
        runtime=runtime,
        recommending=recommending,
        lists=micro_batches(
            *(runtime, recommending, catalog, remembered, container.clock(), outages)
        ),
        remembered=remembered,
        recording=container.recording(),
        models=models,
        catalog=catalog,
        snapshots=container.snapshots(),
        runs=runs,
        followers=Followers(runtime, runs),
        retraining=Retraining(runs, launcher, container.clock()),
        management=container.management(),
        clock=container.clock(),
        outages=outages,
        cataloguing=container.cataloguing(),
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        runtime.start()
        _spare_the_collector()
        looking = None
        if recommending.looks_ahead:
            # What is remembered pays no toll here, and a web socket's operations are no requests
            asked = idly(recommending.look_ahead, lambda: endpoint.received + toll.taken)
            looking = asyncio.create_task(asked, name="jobrec-ahead")
        yield
        if looking is not None:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
        runtime.stop()

    def jobs_known() -> int:
        return 0 if models.current is None else models.current.manifest.jobs

    guards = Guards.by(settings, container.authenticator())
    pages = [Route("/", graphiql.page), graphiql.assets()]
    toll = Toll(settings.max_cost, guards.spend, jobs_known)
    schema = create_schema(
        Observed,
        toll=toll,
        observe=observe,
        profile=settings.profile,
        withheld=settings.withheld,
    )
    memo = Memo(settings.memo_bytes, recommending.present_footing)
    is_remembering = settings.memo_bytes > 0 and catalog.is_near
    endpoint = Endpoint(services, schema, guards, memo if is_remembering else None)
    return Starlette(
        routes=[
            Route("/graphql", endpoint),
            WebSocketRoute("/graphql", endpoint),
            *(pages if settings.profile is Profile.DEV else []),
            *probes(services),
        ],
        middleware=[
            Middleware(DefaultHeaders),
            *_known_hosts(hosts_by(settings)),
            *_cross_origin(guards.origins, guards.methods),
            Middleware(_Shortcut, endpoint),
        ],
        exception_handlers={404: _not_found},
        lifespan=lifespan,
    )


class _Shortcut:
    """Leads to the endpoint that nearly every request is for, without looking along the routes."""

    def __init__(self, app: ASGIApp, endpoint: ASGIApp) -> None:
        self._app = app
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        is_ours = scope["type"] == "http" and scope["path"] == "/graphql"
        # Behind a proxy that strips a part of the path, the routes know which
        is_direct = is_ours and not scope.get("root_path")
        await (self._endpoint if is_direct else self._app)(scope, receive, send)


def _spare_the_collector() -> None:
    """Let the garbage collector pass over what is there for good, and look less often.

    An answer about a hundred people is made of thousands of objects that are gone with it, and each
    few hundred would have it look at some of what was imported, too. It is not asked to look once
    before, which would take a tenth of the start.
    """
    gc.freeze()
    gc.enable()  # the command line puts it off
    gc.set_threshold(*_COLLECTED_OBJECTS)


def _known_hosts(names: frozenset[str] | None) -> list[Middleware]:
    return [] if names is None else [Middleware(KnownHosts, names)]


def _cross_origin(origins: Sequence[str], methods: Sequence[str]) -> list[Middleware]:
    """Let pages of other origins call, with tokens but without cookies."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=methods,
            allow_headers=["Authorization"],
            expose_headers=["Retry-After", "WWW-Authenticate"],
        )
    ]


def from_environment() -> Starlette:
    """Return the application by the settings of the environment, as server workers need it."""
    settings = Settings()  # type: ignore[call-arg] # pydantic fills it from the environment
    configure_logging(settings)
    return create_app(settings)


def configure_logging(settings: Settings) -> None:
    """Send what is worth telling to the standard error stream."""
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # What the server tells beyond that holds headers and messages, tokens among them
    server = logging.getLogger("uvicorn.error")
    server.setLevel(max(server.getEffectiveLevel(), logging.INFO))


async def _not_found(request: Request, _: Exception) -> Response:
    return error_response(404, "NOT_FOUND", f"there is nothing at {request.url.path}")
