"""What is known of tokens of another issuer, apart from the libraries that check them."""

from __future__ import annotations

from dataclasses import dataclass


class JwtRefused(Exception):
    """A token is not valid here; the message says why, and nothing of the token."""


class KeysUnavailable(Exception):
    """The issuer's keys could not be had, so nothing can be said of a token."""


@dataclass(frozen=True)
class Claims:
    """What a token claims that was checked.

    Attributes:
        subject: whom it speaks of, where it names somebody.
    """

    subject: str | None
    scopes: frozenset[str]
