"""What a host knows of the erasures in a store elsewhere, should that lose them.

Hashes and times, and the key of the hashes; nobody's id.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from domain.errors import InputError


class Erasures(msgspec.Struct, frozen=True):
    """Who was erased, in one state of a store.

    Attributes:
        key: of the hashes.
        at: when somebody was erased, epoch seconds, by hash.
    """

    key: bytes = b""
    at: dict[bytes, float] = msgspec.field(default_factory=dict)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Erasures).decode


class ErasureFile:
    """A file that all processes of a host keep; nobody but their user reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Erasures:
        """Return what was kept last; nothing at first.

        Raises:
            InputError: the file cannot be read, or is damaged.
        """
        try:
            return _decode(self._path.read_bytes())
        except FileNotFoundError:
            return Erasures()
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(f"the erasures in {self._path} cannot be read: {error}") from error

    def keep(self, erasures: Erasures) -> None:
        """Put erasures in place of those that were kept.

        Of processes that do so at once the last counts; each has seen the present state at its next
        question.

        Raises:
            OSError: the disk refuses.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(prefix=f"{self._path.name}-", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_encode(erasures))
                file.flush()
                os.fsync(file.fileno())
            Path(fresh).replace(self._path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
