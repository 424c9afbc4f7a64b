"""A tally in a file: whole or not there, and gone when somebody is erased.

tally/
  tally                    a header in JSON, and plain columns, each with its checksum
  writing                  what a writer is about, or a killed one has left behind
  lock                     held by whoever writes, or removes
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from domain.model import ActivityKind, ActivityTally, ReadReport

FORMAT = 1

_MAGIC = b"jobrec tally\n"
_LENGTH = 8


class FilePart(msgspec.Struct, frozen=True):
    """What of a file a tally covers.

    Attributes:
        bytes: so many from its beginning, whole lines.
        identity: changes where these are of another file.
        report: the account of their lines.
    """

    bytes: int
    identity: str
    report: ReadReport


class Kept(NamedTuple):
    """A tally and what it covers.

    Attributes:
        parts: by the name of their file.
        erasures: who was left out, as the catalogue names the state of its erasures.
    """

    tally: ActivityTally
    parts: Mapping[str, FilePart]
    erasures: str


class Unusable(Exception):
    """There is no tally that could be used; the message says why."""


class _Column(msgspec.Struct, frozen=True):
    name: str
    dtype: str
    crc: int


class _Header(msgspec.Struct, frozen=True):
    """What stands before the columns.

    Attributes:
        kinds: what the counts are of.
    """

    format: int
    kinds: list[str]
    pairs: int
    erasures: str
    parts: dict[str, FilePart]
    columns: list[_Column]


_as_header = msgspec.json.Decoder(_Header).decode
_KINDS = [kind.word for kind in ActivityKind]
_SHAPES: dict[str, tuple[int, ...]] = {
    "user_ids": (),
    "job_ids": (),
    "counts": (len(_KINDS),),
    "first_at": (),
    "last_at": (),
}
"""The columns, each with its shape behind the number of pairs."""


class KeptTally:
    """The tally in a folder, which several processes may use. Nothing of it is pickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "tally"
        self._fresh = folder / "writing"

    def read(self) -> Kept:
        """Return what is kept, checked to the last byte.

        Raises:
            Unusable: nothing is kept, or it is damaged, or of another release.
        """
        try:
            with self._path.open("rb") as file:
                return _read(file)
        except FileNotFoundError:
            raise Unusable("no tally is kept") from None
        except (OSError, ValueError, TypeError, LookupError, msgspec.MsgspecError) as error:
            raise Unusable(f"{self._path} cannot be used: {error}") from error

    def write(self, kept: Kept, may_stay: Callable[[], bool]) -> None:
        """Put a tally in place of the one that is kept; leave it where another process does.

        Args:
            may_stay: asked when it is written, with nobody able to `forget` until it is in place.

        Raises:
            OSError: the disk refuses.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
                try:
                    descriptor = os.open(
                        self._fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
                    )
                    with os.fdopen(descriptor, "wb") as file:
                        _write(file, kept)
                    if may_stay():
                        # Not synced: what the machine's end leaves of it is told by checksums
                        self._fresh.replace(self._path)
                finally:
                    self._fresh.unlink(missing_ok=True)
        except BlockingIOError:
            return

    def forget(self) -> None:
        """Remove what is kept, and wait for whoever is writing.

        Raises:
            OSError: it may still be there.
        """
        if not self._folder.is_dir():
            return
        with self._locked(fcntl.LOCK_EX):
            self._path.unlink(missing_ok=True)
            # Of a writer that was killed
            self._fresh.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


def _write(file: BinaryIO, kept: Kept) -> None:
    tally = kept.tally
    arrays = {name: _packed(getattr(tally, name)) for name in _SHAPES}
    header = _Header(
        format=FORMAT,
        kinds=_KINDS,
        pairs=len(tally),
        erasures=kept.erasures,
        parts=dict(kept.parts),
        columns=[
            _Column(name, array.dtype.str, zlib.crc32(array.data)) for name, array in arrays.items()
        ],
    )
    encoded = msgspec.json.encode(header)
    checked = zlib.crc32(encoded).to_bytes(_LENGTH, "little")
    file.write(b"".join([_MAGIC, len(encoded).to_bytes(_LENGTH, "little"), checked, encoded]))
    file.writelines(array.data for array in arrays.values())


def _packed(column: NDArray[Any]) -> NDArray[Any]:
    """Return ids in half the room, where they fit; other columns as they are."""
    if column.dtype == np.int64 and column.max(initial=0) <= np.iinfo(np.uint32).max:
        column = column.astype(np.uint32)
    return np.ascontiguousarray(column)


def _read(file: BinaryIO) -> Kept:
    """Return what a file holds.

    Raises:
        ValueError: it is damaged, or of another release.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is no tally")
    length, crc = (int.from_bytes(file.read(_LENGTH), "little") for _ in range(2))
    if length > os.fstat(file.fileno()).st_size:
        raise ValueError("its header is damaged")
    encoded = file.read(length)
    if zlib.crc32(encoded) != crc:
        raise ValueError("its header is damaged")
    header = _as_header(encoded)
    if header.format != FORMAT or header.kinds != _KINDS:
        raise ValueError("another release has written it")
    columns = {column.name: _column(file, column, header.pairs) for column in header.columns}
    if file.read(1):
        raise ValueError("it is longer than it should be")
    return Kept(ActivityTally(**columns), header.parts, header.erasures)


def _column(file: BinaryIO, column: _Column, pairs: int) -> NDArray[Any]:
    array = np.empty((pairs, *_SHAPES[column.name]), dtype=np.dtype(column.dtype))
    if file.readinto(array.data) != array.nbytes:  # type: ignore[attr-defined] # BinaryIO lacks it
        raise ValueError(f"it ends amid {column.name}")
    if zlib.crc32(array.data) != column.crc:
        raise ValueError(f"its {column.name} are damaged")
    return array.astype(np.int64) if column.name.endswith("_ids") else array
