"""JSON Web Tokens of another issuer: by which keys they are checked, and what they claim."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from domain.errors import InputError
from graphql_api.claims import Claims, JwtRefused, KeysUnavailable
from graphql_api.settings import Settings

_SYMMETRIC = "HS256"
_ASYMMETRIC = ("RS256", "ES256", "EdDSA")
MIN_SECRET_BYTES = 32
MAX_LEEWAY = 300

REFRESH_SECONDS = 60.0
"""After a refresh, an unknown key waits this long for the next: callers choose the `kid`."""

_RETRY_SECONDS = 5.0
_LIFETIME_SECONDS = 600.0
_TIMEOUT_SECONDS = 5.0

_UNREADABLE = (OSError, ValueError, jwt.PyJWTError)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JwtPolicy:
    """Which tokens are accepted.

    Attributes:
        algorithms: of `HS256`, `RS256`, `ES256`, `EdDSA`; no other is ever accepted.
        leeway: seconds by which the clocks of issuer and service may differ.
    """

    algorithms: tuple[str, ...]
    audience: str
    issuer: str
    leeway: int

    def __post_init__(self) -> None:
        known = (_SYMMETRIC, *_ASYMMETRIC)
        unknown = [name for name in self.algorithms if name not in known]
        if unknown or not self.algorithms:
            given = ",".join(self.algorithms)
            raise InputError(f"JOBREC_JWT_ALGORITHMS is {given!r}, expected of {', '.join(known)}")
        if not 0 <= self.leeway <= MAX_LEEWAY:
            raise InputError(
                f"JOBREC_JWT_LEEWAY is {self.leeway}, expected 0 to {MAX_LEEWAY} seconds"
            )


class KeySet:
    """The issuer's public keys by `kid`, loaded when they are first needed and again when old.

    A key that is not there may be new, so asking for it loads the set again, at most once a
    minute. Where loading fails the keys that are there stay in use.

    Args:
        location: a JWKS, as a file, which must be there, or as an `http` or `https` address.
        seconds: tells how time passes.
    """

    def __init__(self, location: str, seconds: Callable[[], float] = time.monotonic) -> None:
        if not _is_address(location):
            try:
                _read_keys(location)
            except _UNREADABLE as error:
                raise InputError(f"JOBREC_JWT_JWKS is {location!r}: {error}") from error
        self._location = location
        self._seconds = seconds
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._loading = asyncio.Lock()
        self._has_failed = False
        self._next_load = 0.0
        self._old_at = 0.0

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Return the key of that id; without an id, the only key.

        Raises:
            JwtRefused: there is none.
            KeysUnavailable: the keys could not be loaded.
        """
        if self._must_load(kid):
            async with self._loading:
                # Whoever waited finds that it was done
                if self._must_load(kid):
                    await self._load()
        key = self._keys.get(kid)
        if key is not None:
            return key
        if self._has_failed:
            raise KeysUnavailable("the keys of the token's issuer are not available")
        raise JwtRefused("the token's key is unknown")

    def _must_load(self, kid: str | None) -> bool:
        now = self._seconds()
        return now >= self._next_load and (kid not in self._keys or now >= self._old_at)

    async def _load(self) -> None:
        try:
            # Not among the threads that answer: an address that hangs must not take them
            keys = await asyncio.to_thread(_read_keys, self._location)
        except _UNREADABLE as error:
            shown = self._location.partition("?")[0]  # what follows may be a secret
            _log.warning("cannot load the keys of %s: %s", shown, error)
            self._has_failed = True
            self._next_load = self._seconds() + _RETRY_SECONDS
            return
        by_kid: dict[str | None, jwt.PyJWK] = {key.key_id: key for key in keys if key.key_id}
        if len(keys) == 1:
            by_kid[None] = keys[0]
        self._keys, self._has_failed = by_kid, False
        now = self._seconds()
        self._next_load, self._old_at = now + REFRESH_SECONDS, now + _LIFETIME_SECONDS


class JwtVerifier:
    """Checks signature, algorithm, audience, issuer and times of tokens.

    Args:
        secret: shared with the issuer, for HS256.
        keys: the issuer's public keys, for all other algorithms.
    """

    def __init__(self, policy: JwtPolicy, secret: str | None, keys: KeySet | None) -> None:
        needs_keys = any(name in _ASYMMETRIC for name in policy.algorithms)
        if (_SYMMETRIC in policy.algorithms) != (secret is not None):
            raise InputError(f"{_SYMMETRIC} goes with JOBREC_JWT_SECRET: set both or neither")
        if needs_keys != (keys is not None):
            names = ", ".join(_ASYMMETRIC)
            raise InputError(f"{names} go with JOBREC_JWT_JWKS: set both or neither")
        self._policy = policy
        self._secret = None if secret is None else _symmetric_key(secret)
        self._keys = keys

    async def verify(self, token: str) -> Claims:
        """Return what a token claims.

        Raises:
            JwtRefused: it is not valid here.
            KeysUnavailable: it cannot be checked at present.
        """
        try:
            claims = self._decoded(token, await self._key(jwt.get_unverified_header(token)))
        except jwt.PyJWTError as error:
            raise JwtRefused(_reason(error)) from error
        scope = claims.get("scope", "")
        if not isinstance(scope, str):
            raise JwtRefused("the token's claim scope is no text")
        return Claims(claims.get("sub") or None, frozenset(scope.split()))

    async def _key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        """Choose the key by our own configuration, so that no token picks how it is checked."""
        algorithm = header.get("alg")
        if algorithm in self._policy.algorithms:
            if algorithm == _SYMMETRIC and self._secret is not None:
                return self._secret
            if algorithm in _ASYMMETRIC and self._keys is not None:
                return await self._keys.key(header.get("kid"))
        raise jwt.InvalidAlgorithmError

    def _decoded(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=self._policy.algorithms,
            audience=self._policy.audience,
            issuer=self._policy.issuer,
            leeway=self._policy.leeway,
            options={"require": ["exp", "aud", "iss"], "enforce_minimum_key_length": True},
        )


def verifier_by(settings: Settings) -> JwtVerifier:
    """Return what checks tokens, as the owner has it who gave a secret, keys, or both.

    Raises:
        InputError: settings do not fit together.
    """
    secret, location = settings.jwt_secret, settings.jwt_jwks
    if not settings.jwt_audience or not settings.jwt_issuer:
        raise InputError("JWT needs both JOBREC_JWT_AUDIENCE and JOBREC_JWT_ISSUER")
    policy = JwtPolicy(
        _algorithms(settings), settings.jwt_audience, settings.jwt_issuer, settings.jwt_leeway
    )
    return JwtVerifier(
        policy,
        None if secret is None else secret.get_secret_value(),
        None if location is None else KeySet(location),
    )


def _algorithms(settings: Settings) -> tuple[str, ...]:
    """Return the algorithms that were pinned; by default one for each key."""
    if settings.jwt_algorithms is not None:
        return tuple(name.strip() for name in settings.jwt_algorithms.split(","))
    by_secret = () if settings.jwt_secret is None else (_SYMMETRIC,)
    by_keys = () if settings.jwt_jwks is None else _ASYMMETRIC[:1]
    return by_secret + by_keys


def _symmetric_key(secret: str) -> jwt.PyJWK:
    encoded = secret.encode()
    if len(encoded) < MIN_SECRET_BYTES:
        raise InputError(
            f"JOBREC_JWT_SECRET holds {len(encoded)} bytes, expected at least {MIN_SECRET_BYTES}"
        )
    value = base64.urlsafe_b64encode(encoded).decode().rstrip("=")
    return jwt.PyJWK({"kty": "oct", "k": value, "alg": _SYMMETRIC})


def _read_keys(location: str) -> list[jwt.PyJWK]:
    """Read the keys for signatures, from a file or over HTTP."""
    if _is_address(location):
        client = jwt.PyJWKClient(location, cache_jwk_set=False, timeout=_TIMEOUT_SECONDS)
        key_set = client.get_jwk_set()
    else:
        decoded = json.loads(Path(location).read_text(encoding="utf-8"))
        if not isinstance(decoded, dict):
            raise ValueError("expected a JSON object with the list keys")
        key_set = jwt.PyJWKSet.from_dict(decoded)
    return [key for key in key_set.keys if key.public_key_use in {"sig", None}]


def _is_address(location: str) -> bool:
    return location.startswith(("http://", "https://"))


_REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is of another issuer"),
    (jwt.InvalidAlgorithmError, "the token's algorithm is not accepted"),
    (jwt.MissingRequiredClaimError, "the token lacks one of the claims exp, aud and iss"),
)


def _reason(error: jwt.PyJWTError) -> str:
    """Say what is wrong in words of our own: the library's may quote the token."""
    return next(
        (text for kind, text in _REASONS if isinstance(error, kind)), "it is no valid token"
    )
