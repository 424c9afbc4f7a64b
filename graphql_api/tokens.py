"""API tokens: made, listed and revoked by the command line, accepted by every serving process.

A token is shown once, when it is made. Its file in the state folder holds a SHA-256 hash of it,
which is enough for a value that nobody can guess: 32 random bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

import msgspec

from domain.errors import InputError, JobrecError
from domain.ports import Clock

PREFIX = "jobrec_"
"""What every API token begins with, so that scanners recognise one that was published."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_log = logging.getLogger(__name__)


class Scope(StrEnum):
    """What a program may do."""

    READ = "read"
    ADMIN = "admin"


class ApiToken(msgspec.Struct, frozen=True):
    """What is known of an API token; not the token.

    Attributes:
        sha256: the token's hash, in hexadecimal digits.
    """

    name: str
    scope: Scope
    sha256: str
    made_at: datetime
    expires_at: datetime | None = None

    def has_expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


# Before there are threads, as in `adapters.runs`
_decode = msgspec.json.Decoder(list[ApiToken]).decode


class TokensUnreadable(JobrecError):
    """The file of API tokens cannot be read or written."""


class ApiTokens:
    """The API tokens of one state folder; every method sees what other processes wrote before.

    Args:
        folder: the state folder, made when the first token is.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path = folder / "api-tokens.json"
        self._clock = clock
        self._stamp: tuple[int, ...] | None = None
        self._by_hash: Mapping[str, ApiToken] = {}

    def create(self, name: str, scope: Scope, lifetime: timedelta | None = None) -> str:
        """Make a token and return it; it cannot be had again.

        Raises:
            InputError: the name is taken, or none.
            TokensUnreadable: the file cannot be read or written.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"the name is {name[:80]!r}, expected 1 to 64 letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit",
                "--name",
            )
        token = PREFIX + secrets.token_urlsafe(32)
        with self._changing() as tokens:
            if any(known.name == name for known in tokens):
                raise InputError(f"there is a token {name!r} already; revoke it first", "--name")
            now = self._clock()
            expires_at = None if lifetime is None else now + lifetime
            tokens.append(ApiToken(name, scope, _hash(token), now, expires_at))
        return token

    def revoke(self, name: str) -> None:
        """Forget a token, which is refused from now on.

        Raises:
            InputError: there is none of that name.
            TokensUnreadable: the file cannot be read or written.
        """
        with self._changing() as tokens:
            kept = [token for token in tokens if token.name != name]
            if len(kept) == len(tokens):
                raise InputError(f"there is no token {name[:80]!r}", "NAME")
            tokens[:] = kept

    def all(self) -> list[ApiToken]:
        """Return what is known of every token, in the order in which they were made.

        Raises:
            TokensUnreadable: the file cannot be read.
        """
        try:
            return _decode(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TokensUnreadable(f"{self._path} is not readable: {error}") from error

    def find(self, token: str) -> ApiToken | None:
        """Return what is known of a token, expired or not; None where it was revoked or never was.

        A file that cannot be read holds no token, and the log says so. Looking whether the file
        changed takes microseconds, so this needs no thread.
        """
        self._follow()
        return self._by_hash.get(_hash(token))

    def _follow(self) -> None:
        stamp = self._current_stamp()
        if stamp == self._stamp:
            return
        try:
            self._by_hash = {token.sha256: token for token in self.all()}
        except TokensUnreadable as error:
            self._by_hash = {}
            _log.error("no API token is accepted: %s", error)
        self._stamp = stamp

    def _current_stamp(self) -> tuple[int, ...] | None:
        """Return what differs whenever another file took the place of this one."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("cannot look at %s: %s", self._path, error)
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    @contextmanager
    def _changing(self) -> Iterator[list[ApiToken]]:
        """Hand out the tokens to change, and write them when the block ends well."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._path.with_suffix(".lock")):
                tokens = self.all()
                yield tokens
                _write(self._path, msgspec.json.encode(tokens))
        except OSError as error:
            raise TokensUnreadable(f"cannot write {self._path}: {error}") from error


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for other processes that change the tokens, and keep them out."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    """Put a whole new file, which its owner alone may read, in the place of the old one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    staged = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
