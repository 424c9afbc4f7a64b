"""Who calls, and what they may do: decided here for every transport."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import lru_cache
from typing import TYPE_CHECKING

from domain.errors import InputError
from domain.ports import Clock
from graphql_api.claims import Claims, JwtRefused
from graphql_api.settings import Access, Settings
from graphql_api.tokens import PREFIX, ApiTokens, Scope

if TYPE_CHECKING:
    from graphql import GraphQLError

    from graphql_api.jwts import JwtVerifier

MAX_TOKEN_CHARACTERS = 8_192


class Kind(StrEnum):
    """What a caller is."""

    ANONYMOUS = "anonymous"
    PERSON = "person"
    SERVICE = "service"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        key: what records call them, and what their requests are counted by; never a token.
        subject: a person's id.
    """

    kind: Kind
    key: str
    subject: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether they may do everything."""
        return self.kind is Kind.ADMIN

    def authorise_argument(self, name: str) -> None:
        """Let admins pass.

        Raises:
            GraphQLError: FORBIDDEN.
        """
        if not self.is_admin:
            raise _forbidden(
                f"{name} is for admins: send the header `Authorization: Bearer <admin token>`"
            )

    def authorise(self, operation: str, people: Iterable[str] = ()) -> None:
        """Let the caller pass, or not.

        Args:
            operation: a field of the schema's roots.
            people: the ids of those whom it would tell of.

        Raises:
            GraphQLError: FORBIDDEN.
        """
        right = PERMISSIONS[operation].get(self.kind)
        if right is None:
            kinds = " and ".join(f"{kind}s" for kind in PERMISSIONS[operation])
            raise _forbidden(
                f"{operation} is for {kinds}: send the header `Authorization: Bearer <token>`"
            )
        if right is Right.OWN and any(person != self.subject for person in people):
            raise _forbidden(f"{operation} tells a person of themselves only, by their token's sub")


def anonymous(address: str) -> Caller:
    """Return a caller of whom nothing is known but where they call from."""
    return Caller(Kind.ANONYMOUS, f"anonymous:{address}")


class Right(Enum):
    """How far a permission goes."""

    OWN = auto()
    ANY = auto()


_EVERYBODY = dict.fromkeys(Kind, Right.ANY)
_PEOPLE_THEIR_OWN = {**_EVERYBODY, Kind.PERSON: Right.OWN}
# What somebody studied is for nobody without credentials, not even on this machine
_KNOWN_THEIR_OWN = {Kind.PERSON: Right.OWN, Kind.SERVICE: Right.ANY, Kind.ADMIN: Right.ANY}
_ADMINS = {Kind.ADMIN: Right.ANY}

PERMISSIONS: Mapping[str, Mapping[Kind, Right]] = {
    "recommendations": _PEOPLE_THEIR_OWN,
    "batchRecommendations": _PEOPLE_THEIR_OWN,
    "sessionRecommendations": _EVERYBODY,
    "whyNot": _PEOPLE_THEIR_OWN,
    "similarJobs": _EVERYBODY,
    "job": _EVERYBODY,
    "jobs": _EVERYBODY,
    "employer": _EVERYBODY,
    "employerTypes": _EVERYBODY,
    "employers": _EVERYBODY,
    "user": _KNOWN_THEIR_OWN,
    "resume": _PEOPLE_THEIR_OWN,
    "model": _EVERYBODY,
    "trainingRun": _EVERYBODY,
    "trainingRuns": _EVERYBODY,
    "models": _ADMINS,
    "compareModels": _ADMINS,
    "recordActivities": {
        Kind.ADMIN: Right.ANY,
        Kind.SERVICE: Right.ANY,
        Kind.PERSON: Right.OWN,
    },
    "retrain": _ADMINS,
    "cancelTrainingRun": _ADMINS,
    "promoteModel": _ADMINS,
    "rollbackModel": _ADMINS,
    "upsertJobs": _ADMINS,
    "closeJobs": _ADMINS,
    "removeJobs": _ADMINS,
    "upsertUsers": _ADMINS,
    "eraseUser": _ADMINS,
}
"""Who may do what. Nobody is anonymous where credentials are required."""


class Unauthenticated(Exception):
    """Credentials are not valid, or lacking where they are required.

    Attributes:
        challenge: what the header `WWW-Authenticate` says.
    """

    def __init__(self, message: str, *, are_given: bool) -> None:
        super().__init__(message)
        error = f', error="invalid_token", error_description="{message}"' if are_given else ""
        self.challenge = f'Bearer realm="jobrec"{error}'


class Authenticator:
    """Tells by their credentials who calls.

    Args:
        admin_token: what an owner set, or what was made at start.
        jwts: checks tokens of another issuer, where one is trusted.
        is_open: whether those without credentials may ask, too.
    """

    def __init__(
        self,
        admin_token: str | None,
        tokens: ApiTokens,
        clock: Clock,
        jwts: JwtVerifier | None,
        *,
        is_open: bool,
    ) -> None:
        self._admin_token = admin_token
        self._tokens = tokens
        self._clock = clock
        self._jwts = jwts
        self._is_open = is_open

    async def identify(self, authorization: object, address: str) -> Caller:
        """Return who calls.

        Args:
            authorization: `Bearer <token>`; nothing, or blank, where no credentials are given.
            address: where the request comes from.

        Raises:
            Unauthenticated: by these credentials, nobody.
            KeysUnavailable: they cannot be checked at present.
        """
        if authorization is None or authorization == "":
            if self._is_open:
                return anonymous(address)
            raise Unauthenticated(
                "send the header `Authorization: Bearer <token>`, or `authorization` in the "
                "connection parameters",
                are_given=False,
            )
        token = _bearer_token(authorization)
        if self._is_admin_token(token):
            return Caller(Kind.ADMIN, "admin")
        if token.startswith(PREFIX):
            return self._of_api_token(token)
        if self._jwts is None:
            raise Unauthenticated("the token is unknown", are_given=True)
        try:
            return _of_claims(await self._jwts.verify(token))
        except JwtRefused as error:
            raise Unauthenticated(str(error), are_given=True) from error

    def _is_admin_token(self, token: str) -> bool:
        return self._admin_token is not None and secrets.compare_digest(
            token.encode(), self._admin_token.encode()
        )

    def _of_api_token(self, token: str) -> Caller:
        known = self._tokens.find(token)
        if known is None:
            raise Unauthenticated("the token is unknown or was revoked", are_given=True)
        if known.has_expired(self._clock()):
            raise Unauthenticated("the token has expired", are_given=True)
        kind = Kind.ADMIN if known.scope is Scope.ADMIN else Kind.SERVICE
        return Caller(kind, f"token:{known.name}")


def authenticator_by(settings: Settings, tokens: ApiTokens, clock: Clock) -> Authenticator:
    """Return what tells callers apart, as the owner has it.

    Raises:
        InputError: settings of JWT do not fit together, or it was not said who may ask.
    """
    token = settings.admin_token
    return Authenticator(
        None if token is None else token.get_secret_value(),
        tokens,
        clock,
        _verifier_by(settings),
        is_open=is_open(settings),
    )


def _verifier_by(settings: Settings) -> JwtVerifier | None:
    """Return what checks tokens of another issuer; None where none is trusted."""
    if settings.jwt_secret is None and settings.jwt_jwks is None:
        _refuse_idle(settings)
        return None
    # Cryptography takes its time to load, and most services trust no other issuer
    from graphql_api.jwts import verifier_by

    return verifier_by(settings)


def _refuse_idle(settings: Settings) -> None:
    """Refuse settings of JWT without a key: whoever set them expects tokens to be accepted."""
    for name in ("jwt_algorithms", "jwt_audience", "jwt_issuer"):
        if getattr(settings, name) is not None:
            raise InputError(
                f"JOBREC_{name.upper()} needs a key: set JOBREC_JWT_SECRET or JOBREC_JWT_JWKS"
            )


def is_open(settings: Settings) -> bool:
    """Tell whether those without credentials may ask.

    Raises:
        InputError: others could reach the service, and it was not said whether they may ask.
    """
    if settings.auth is not None:
        return settings.auth is Access.OPEN
    if is_loopback(settings.host):
        return True
    raise InputError(
        f"other machines can reach {settings.host!r}: set --auth required (or "
        "JOBREC_AUTH=required), or --auth open to let anybody ask who can reach it",
        "--auth",
    )


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is this machine's own, for itself only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name, or the empty one for all addresses
        return False


def _bearer_token(authorization: object) -> str:
    if not isinstance(authorization, str):
        raise Unauthenticated("authorization is no text", are_given=True)
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("expected `Bearer <token>`", are_given=True)
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise Unauthenticated(
            f"the token is longer than {MAX_TOKEN_CHARACTERS:,} characters", are_given=True
        )
    return token.strip()


def _of_claims(claims: Claims) -> Caller:
    kind = Kind.PERSON
    if Scope.READ in claims.scopes:
        kind = Kind.SERVICE
    if Scope.ADMIN in claims.scopes:
        kind = Kind.ADMIN
    if claims.subject is not None:
        return Caller(kind, f"{kind}:{claims.subject}", claims.subject)
    if kind is Kind.PERSON:
        raise Unauthenticated("the token has neither a subject nor a scope", are_given=True)
    return Caller(kind, str(kind))


def _forbidden(message: str) -> GraphQLError:
    # Loaded by whoever answers; what only starts them checks its settings without
    from graphql import GraphQLError

    return GraphQLError(message, extensions={"code": "FORBIDDEN"})
