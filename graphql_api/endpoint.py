"""`/graphql` over HTTP and WebSocket: who asks, what is refused, and the form of an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException, StarletteRequestAdapter
from graphql import GraphQLError
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData, process_result
from strawberry.http.base import BaseRequestProtocol
from strawberry.http.exceptions import NonJsonMessageReceived, WebSocketDisconnected
from strawberry.http.streaming import HTTPStreamTransport
from strawberry.http.types import QueryParams
from strawberry.schema._graphql_core import ResultType
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult, SubscriptionExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UnsetType

from graphql_api import graphiql
from graphql_api.auth import Authenticator, Caller, Unauthenticated, anonymous
from graphql_api.bounds import BODY_SECONDS, MAX_BODY_BYTES, MAX_HEADER_BYTES
from graphql_api.claims import KeysUnavailable
from graphql_api.documents import UNREGISTERED, Documents
from graphql_api.memo import Answer, Grounds, Memo
from graphql_api.negotiation import (
    RESPONSE_JSON,
    EventStream,
    is_acceptable,
    media_type_and_charset,
    preferred,
)
from graphql_api.probes import count_refusal, count_remembered, observe
from graphql_api.rates import Rates, retry_after
from graphql_api.schema import Context, Schema, Services
from graphql_api.settings import Profile, Settings
from graphql_api.sockets import INIT_SECONDS, SocketHandler, SocketLimits, Sockets, TooMany


class _WebSocketAdapter(ASGIWebSocketAdapter):
    """Lets the protocol answer what is no message, and what comes after the end.

    Otherwise either would end in a traceback.
    """

    async def iter_json(
        self, *, ignore_parsing_errors: bool = False
    ) -> AsyncGenerator[object, None]:
        """Return the messages as they come."""
        try:
            async for message in super().iter_json(ignore_parsing_errors=ignore_parsing_errors):
                yield message
        except HTTPException as error:
            raise NonJsonMessageReceived from error

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send a message, unless either side has ended the connection in the meantime."""
        if self._is_open:
            # Who has left is heard of by whoever reads
            with suppress(WebSocketDisconnected):
                await super().send_json(message)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection, unless either side did that in the meantime."""
        if self._is_open:
            with suppress(WebSocketDisconnect):
                await super().close(code, reason)

    @property
    def _is_open(self) -> bool:
        ended = WebSocketState.DISCONNECTED
        return self.ws.application_state is not ended and self.ws.client_state is not ended


@dataclass(frozen=True)
class Guards:
    """What stands between a request and its execution.

    Attributes:
        methods: of HTTP, that are taken.
        origins: of other pages, that may call.
    """

    authenticator: Authenticator
    rates: Rates
    sockets: Sockets
    documents: Documents
    methods: Sequence[str]
    origins: Sequence[str]

    @classmethod
    def by(cls, settings: Settings, authenticator: Authenticator) -> Guards:
        """Return the guards that the owner set."""
        store = settings.rate_limit_store
        return cls(
            authenticator,
            Rates(
                settings.rate_limit_requests,
                settings.rate_limit_cost,
                "memory://" if store is None else store.get_secret_value(),
            ),
            Sockets(
                SocketLimits(
                    settings.ws_connections,
                    settings.ws_connections_per_address,
                    settings.ws_idle_seconds,
                )
            ),
            Documents.load(settings.trusted_documents, settings.documents),
            ("GET", "POST") if settings.profile is Profile.DEV else ("POST",),
            settings.origins,
        )

    async def spend(self, context: Context, price: int) -> GraphQLError | None:
        """Count what an operation costs its caller."""
        return await self.rates.spend(context.caller.key, price)


class Endpoint(GraphQL[Context, None]):
    """`/graphql`: pages for browsers, JSON for everybody else, a code on every error.

    Attributes:
        received: how many requests came over HTTP.
    """

    websocket_adapter_class = _WebSocketAdapter
    stream_transport_classes_by_protocol: Mapping[str, type[HTTPStreamTransport]] = {
        GRAPHQL_SSE_PROTOCOL: EventStream
    }
    graphql_transport_ws_handler_class = SocketHandler
    schema: Schema

    def __init__(
        self, services: Services, schema: Schema, guards: Guards, memo: Memo | None = None
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            allowed_origins=guards.origins,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            connection_init_wait_timeout=timedelta(seconds=INIT_SECONDS),
        )
        self.rates = guards.rates
        self.sockets = guards.sockets
        self.documents = guards.documents
        self.received = 0
        self._memo = memo
        self._services = services
        self._authenticator = guards.authenticator
        self._methods = guards.methods
        self._origins = guards.origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        self.received += 1
        request, head = Request(scope, _limited(receive)), Head(scope["headers"])
        with self._entered(request, head) as refusal:
            try:
                response = refusal or await self._respond(request, head)
                await response(scope, receive, send)
            except ClientDisconnect:
                count_refusal("CLIENT_DISCONNECTED")

    def _entered(self, request: Request, head: Head) -> AbstractContextManager[Response | None]:
        """Count an event stream until it ends; hand over the refusal of what may not enter."""
        if head.size > MAX_HEADER_BYTES:
            # Before anything is read of them: some take time that grows faster than they do
            reason = f"the headers have {head.size:,} bytes, at most {MAX_HEADER_BYTES:,} are read"
            return nullcontext(_refusal(431, reason))
        return self._streaming(request) if head.prefers_events else nullcontext(None)

    @contextmanager
    def _streaming(self, request: Request) -> Iterator[Response | None]:
        with self.sockets.entered(_address(request)) as too_many:
            yield None if too_many is None else _one_too_many(too_many)

    async def _respond(self, request: Request, head: Head) -> Response:
        """Answer or refuse a request."""
        try:
            self._check_method(request)
            _check_head(request.method, head)
            return await self._answer(request, head)
        except GraphQLError as error:
            return await self._refused(request, error)
        except HTTPException as error:
            return _refusal(error.status_code, error.reason)
        except _MethodNotAllowed as error:
            return _refusal(405, str(error), {"Allow": ", ".join(self._methods)})
        except _MutationByGet as error:
            count_refusal("BAD_REQUEST")
            return error_response(405, "BAD_REQUEST", str(error), {"Allow": "POST"})
        except Unauthenticated as error:
            return await self._unauthenticated(request, error)
        except KeysUnavailable as error:
            return _refusal(503, str(error), {"Retry-After": "5"})
        except _BodyTooLarge:
            return _refusal(413, f"the body exceeds {MAX_BODY_BYTES:,} bytes")
        except _BodyTooSlow:
            reason = f"the body did not come within {BODY_SECONDS} s"
            return _refusal(408, reason, {"Connection": "close"})

    def _check_method(self, request: Request) -> None:
        if request.method not in self._methods:
            raise _MethodNotAllowed(
                f"{request.method} is not allowed; use {' or '.join(self._methods)}"
            )

    async def _answer(self, request: Request, head: Head) -> Response:
        """Show the page to whoever wants to see one, without asking who they are."""
        is_post = request.method == "POST"
        if not is_post and self.should_render_graphql_ide(StarletteRequestAdapter(request)):
            return await graphiql.page(request)
        self._check_site(head)
        remote = _address(request)
        caller = await self._authenticator.identify(head.get(b"authorization"), remote)
        context = Context(self._services, caller, remote)
        if refusal := await self.rates.request(caller.key):
            return await self._refused(request, refusal)
        if head.prefers_events:
            return await self.run(Request(_plain(request.scope), request.receive), context)
        if is_post:
            asked = _asked(self.parse_json(await request.body()))
        else:
            asked = _asked(self.parse_query_params(StarletteRequestAdapter(request).query_params))
        return await self._remembered(request, asked, context)

    async def _remembered(
        self,
        request: Request,
        asked: GraphQLRequestData,
        context: Context,
    ) -> Response:
        """Give an answer again that would still be the same, or work it out."""
        begun = time.perf_counter()
        media_type = preferred(request.headers.get("accept"))
        key = None
        if self._memo is not None and asked.query is not None:
            key = self._memo.key(
                asked.query, asked.operation_name, asked.variables, media_type, context.caller
            )
        if self._memo is None or key is None:
            response, _ = await self._worked_out(request, asked, context, media_type)
            return response
        kept = self._memo.find(key)
        if kept is not None and await self.rates.spend(context.caller.key, kept.cost) is None:
            observe(kept.label, [], kept.cost, None, time.perf_counter() - begun)
            count_remembered()
            return Response(kept.body, media_type=media_type)
        context.grounds = Grounds()
        response, result = await self._worked_out(request, asked, context, media_type)
        known = self.schema.known.find(asked.query, asked.operation_name)
        if known is not None and response.status_code == 200 and _is_whole(result, context.grounds):
            cost = (result.extensions or {})["cost"]["requested"]
            told = tuple(context.grounds.told.values())
            self._memo.keep(key, Answer(bytes(response.body), known.label, cost, told))
        return response

    async def _worked_out(
        self,
        request: Request,
        asked: GraphQLRequestData,
        context: Context,
        media_type: str,
    ) -> tuple[Response, ExecutionResult]:
        known = self.schema.known.find(asked.query, asked.operation_name)
        if known is not None:
            # A query: all else that the library looks at before was in order once
            result = await self.schema.execute_known(known, asked.variables or {}, context)
            if not result.errors:
                answer = {"data": result.data, "extensions": result.extensions}
                return Response(orjson.dumps(answer), media_type=media_type), result
        sub_response = await self.get_sub_response(request)
        if known is not None:
            _tell_wait(sub_response, result.errors)
        else:
            adapter = StarletteRequestAdapter(request)
            executed = await self.execute_operation(
                request, adapter, asked, context, None, sub_response
            )
            assert isinstance(executed, ExecutionResult)  # noqa: S101 - no stream was asked for
            result = executed
        failed = await self.process_result(request, result)
        return self.create_response(failed, sub_response), result

    def _check_site(self, head: Head) -> None:
        """Refuse what a page of a foreign site asks for without a browser's question before."""
        is_foreign = head.get(b"sec-fetch-site") == "cross-site"
        if is_foreign and head.get(b"origin") not in self._origins:
            raise HTTPException(403, "pages of other origins may not call this service")

    async def _unauthenticated(self, request: Request, error: Unauthenticated) -> Response:
        """Count by the address whoever is not known, so that nobody tries tokens at will."""
        if refusal := await self.rates.request(anonymous(_address(request)).key):
            return await self._refused(request, refusal)
        return _refusal(401, str(error), {"WWW-Authenticate": error.challenge})

    async def _refused(self, request: Request, error: GraphQLError) -> Response:
        """Answer what may not become an operation: one too many, or no document that may run."""
        code = str((error.extensions or {}).get("code"))
        count_refusal(code)
        sub_response = await self.get_sub_response(request)
        if code not in UNREGISTERED:
            sub_response.status_code = 400
        _tell_wait(sub_response, [error])
        return self.create_response({"errors": [error.formatted]}, sub_response)

    def should_render_graphql_ide(self, request: BaseRequestProtocol) -> bool:
        """Tell whether a browser wants the page, and no document that it names by its hash."""
        names_document = {"documentId", "extensions"} & request.query_params.keys()
        return not names_document and super().should_render_graphql_ide(request)

    async def get_context(
        self,
        request: Request | WebSocket,
        response: Response | WebSocket,  # noqa: ARG002 - the library's signature
    ) -> Context:
        """Return the context of a web socket, whose first message tells who calls."""
        remote = _address(request)
        socket = request if isinstance(request, WebSocket) else None
        return Context(self._services, anonymous(remote), remote, socket=socket)

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Tell who calls before anything is asked."""
        try:
            await self.identify_socket(context)
        except (Unauthenticated, KeysUnavailable) as error:
            count_refusal("UNAUTHENTICATED")
            raise ConnectionRejectionError from error
        return await super().on_ws_connect(context)

    async def identify_socket(self, context: Context) -> None:
        """Tell who calls by the connection's parameters, too: browsers cannot send headers.

        Raises:
            Unauthenticated: by these credentials, nobody, or nobody any more.
            KeysUnavailable: they cannot be checked at present.
        """
        assert context.socket is not None  # noqa: S101 - made so by get_context
        given = [
            value
            for name, value in context.connection_params.items()
            if name.lower() == "authorization" and value is not None
        ]
        authorization = given[0] if given else context.socket.headers.get("authorization")
        context.caller = await self._identify(context.socket, authorization)

    async def _identify(self, connection: HTTPConnection, authorization: object) -> Caller:
        return await self._authenticator.identify(authorization, _address(connection))

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        """Carry the media type that the client prefers to where the answer is made."""
        response = await super().get_sub_response(request)
        response.media_type = preferred(request.headers.get("accept"))
        return response

    async def execute_operation(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        request_data: GraphQLRequestData | list[GraphQLRequestData],
        context: Context,
        root_value: None,
        sub_response: Response,
    ) -> ExecutionResult | list[ExecutionResult] | SubscriptionExecutionResult:
        """Execute an operation, and say in the status where it would cost too much by now."""
        try:
            result = await super().execute_operation(
                request, request_adapter, request_data, context, root_value, sub_response
            )
        except HTTPException as error:
            if _is_mutation_by_get(error):
                raise _MutationByGet(error.reason) from error
            raise
        _tell_wait(sub_response, getattr(result, "errors", None))
        return result

    async def process_result(
        self,
        request: Request,  # noqa: ARG002 - the library's signature
        result: ResultType,
    ) -> GraphQLHTTPResponse:
        """Leave `data` out where nothing was executed, as the GraphQL specification has it."""
        answer = process_result(result)
        errors = getattr(result, "errors", None)
        if errors and all(error.path is None for error in errors):
            answer.pop("data", None)
        return answer

    def create_response(
        self,
        response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse],
        sub_response: Response,
    ) -> Response:
        """Answer in the media type that the client prefers, with the status that goes with it."""
        is_refused = sub_response.media_type == RESPONSE_JSON and "data" not in response_data
        return Response(
            self.encode_json(response_data),
            sub_response.status_code or (400 if is_refused else 200),
            headers=sub_response.headers,
            media_type=sub_response.media_type,
        )

    def parse_json(self, data: str | bytes) -> dict[str, Any]:
        """Read a request's body, with the document that it names."""
        return self.documents.resolve(self.decode_json(data))

    def parse_query_params(self, params: QueryParams) -> dict[str, Any]:
        """Read a request from the address, with the document that it names."""
        given: dict[str, Any] = dict(params)
        for name in ("variables", "extensions"):
            if given.get(name):
                given[name] = self.decode_json(given[name])
        return self.documents.resolve(given)

    def decode_json(self, data: str | bytes) -> dict[str, Any]:
        """Read JSON; a request is an object."""
        try:
            decoded = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, f"the body is not JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise HTTPException(400, "the request is not a JSON object")
        return decoded

    def encode_json(self, data: object) -> str:
        """Write JSON, as text: web socket messages must not be binary."""
        return orjson.dumps(data).decode()


def _asked(data: Mapping[str, Any]) -> GraphQLRequestData:
    """Return a request as the library takes it.

    Raises:
        HTTPException: a part of it has another type.
    """
    query, variables = data.get("query"), data.get("variables")
    extensions = data.get("extensions")
    for name, value, types in (
        ("query", query, str),
        ("variables", variables, dict),
        ("extensions", extensions, dict),
    ):
        if value is not None and not isinstance(value, types):
            expected = "a string" if types is str else "an object"
            raise HTTPException(400, f"{name} is {str(value)!r:.60}, expected {expected} or null")
    return GraphQLRequestData(
        query=query,
        variables=variables,
        operation_name=data.get("operationName"),
        extensions=extensions,
    )


def _is_whole(result: ExecutionResult, grounds: Grounds) -> bool:
    """Tell whether an answer lacks nothing and is known to stay until its grounds change."""
    is_partial = "partial" in (result.extensions or {})
    fields = (result.data or {}).keys()
    is_told = bool(fields) and fields == grounds.told.keys()
    return not result.errors and not is_partial and grounds.is_firm and is_told


def _address(connection: HTTPConnection) -> str:
    return "unknown" if connection.client is None else connection.client.host


class Head:
    """The headers of a request, of which most are looked at: of equal names, the first counts."""

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._values = dict(reversed(headers))
        self.size = sum(len(name) + len(value) for name, value in headers)

    def get(self, name: bytes) -> str | None:
        """Return a header's value, None where it is not there."""
        value = self._values.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def prefers_events(self) -> bool:
        """Whether the answer is to be a stream of events."""
        return EventStream().accepts(self.get(b"accept") or "")


def _check_head(method: str, head: Head) -> None:
    """Refuse what cannot be answered before anything of the body is read.

    Raises:
        HTTPException: 406 or 415.
        _BodyTooLarge: the body says so of itself.
    """
    accept = head.get(b"accept")
    if not is_acceptable(accept):
        shown = f"{accept!r:.100}"
        raise HTTPException(406, f"nothing of {shown} can be answered; {RESPONSE_JSON} can")
    if method == "POST":
        given = head.get(b"content-type") or ""
        media_type, charset = media_type_and_charset(given)
        if media_type != "application/json":
            shown = f"{given!r:.100}"
            raise HTTPException(415, f"the content type is {shown}, expected application/json")
        if charset not in {"utf-8", "utf8"}:
            raise HTTPException(415, f"the charset is {charset!r:.100}, expected utf-8")
    declared = head.get(b"content-length") or ""
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        raise _BodyTooLarge


def _plain(scope: Scope) -> Scope:
    """Name the content type, once it was checked, as the library compares it."""
    headers = [
        (name, b"application/json" if name == b"content-type" else value)
        for name, value in scope["headers"]
    ]
    return {**scope, "headers": headers}


def _tell_wait(sub_response: Response, errors: Iterable[GraphQLError] | None) -> None:
    """Say in status and header that a caller has to wait, where the errors say so."""
    if wait := retry_after(errors):
        sub_response.status_code = 429
        sub_response.headers["Retry-After"] = str(wait)


class _MethodNotAllowed(Exception):
    """The request's method is none of those that are answered."""


class _MutationByGet(Exception):
    """The request would change something by GET."""


def _is_mutation_by_get(error: HTTPException) -> bool:
    """Tell whether a request was refused since it would change something by GET."""
    cause = error.__cause__
    return (
        isinstance(cause, InvalidOperationTypeError)
        and cause.operation_type is OperationType.MUTATION
    )


class _BodyTooLarge(Exception):
    """The request's body exceeds the limit."""


class _BodyTooSlow(Exception):
    """The request's body did not come in time."""


def _limited(receive: Receive) -> Receive:
    """Count and time a body while it comes, so that a large or slow one is not even held."""
    size, is_whole = 0, False
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def counted() -> Message:
        nonlocal size, is_whole
        if is_whole:  # what comes now is the client's leaving, for which no time is too long
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            raise _BodyTooSlow from error
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise _BodyTooLarge
        is_whole = not message.get("more_body", False)
        return message

    return counted


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    codes = {
        401: "UNAUTHENTICATED",
        403: "FORBIDDEN",
        405: "METHOD_NOT_ALLOWED",
        406: "NOT_ACCEPTABLE",
        408: "REQUEST_TIMEOUT",
        413: "PAYLOAD_TOO_LARGE",
        415: "UNSUPPORTED_MEDIA_TYPE",
        431: "HEADERS_TOO_LARGE",
        503: "AUTHENTICATION_UNAVAILABLE",
    }
    code = codes.get(status, "BAD_REQUEST")
    count_refusal(code)
    return error_response(status, code, reason, headers)


def _one_too_many(too_many: TooMany) -> Response:
    code = "CONNECTION_LIMIT_EXCEEDED"
    count_refusal(code)
    return error_response(too_many.status, code, too_many.reason, {"Retry-After": "5"})


def error_response(
    status: int, code: str, reason: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a single error as JSON, outside of any operation."""
    error: dict[str, Any] = {"message": reason, "extensions": {"code": code}}
    return Response(
        orjson.dumps({"errors": [error]}), status, headers, media_type="application/json"
    )
