"""How jobs and people are written down where a catalogue keeps them as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
from numpy.typing import NDArray

from adapters.job_index import JobRow
from domain.model import IdArray, Job, User

_FEW = 1_000
"""So many people are hashed each time they are asked about."""

_HEAD_BYTES = 8
_NO_IDS = np.empty(0, np.int64)
_NO_HEADS = np.empty(0, np.uint64)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


class Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A job without its id and description; times in microseconds since 1970.

    `closed` stays last: where it is written is the last byte of the whole.
    """

    title: str | None
    employer: str | None
    location: str | None
    posted_at: int | None
    closes_at: int | None
    closed: bool

    @classmethod
    def of(cls, job: Job) -> Head:
        """Return a job's head."""
        return cls(
            job.title,
            job.employer,
            job.location,
            _ticks(job.posted_at),
            _ticks(job.closes_at),
            job.closed,
        )

    def job(self, id_: int, description: str | None) -> Job:
        """Return the job."""
        return Job(
            id_,
            self.title,
            self.employer,
            self.location,
            description,
            _moment(self.posted_at),
            _moment(self.closes_at),
            self.closed,
        )

    def row(self, id_: int) -> JobRow:
        """Return what an index knows of the job."""
        return JobRow(
            id_,
            self.title,
            self.employer,
            self.location,
            -np.inf if self.posted_at is None else self.posted_at / 1e6,
            np.inf if self.closes_at is None else self.closes_at / 1e6,
            self.closed,
        )


class Person(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Somebody without their id."""

    graduation_year: int | None
    school_type: str | None
    languages: tuple[str, ...]
    university: str | None
    degree_subject: str | None
    degree_subject_groups: tuple[str, ...]
    degree_subject_categories: tuple[str, ...]

    @classmethod
    def of(cls, user: User) -> Person:
        """Return what is kept of somebody."""
        return cls(*(getattr(user, name) for name in cls.__struct_fields__))

    def user(self, id_: int, withheld: frozenset[str]) -> User:
        """Return the person without what is withheld."""
        known = (name for name in self.__struct_fields__ if name not in withheld)
        return User(id_, **{name: getattr(self, name) for name in known})


encode = msgspec.msgpack.Encoder().encode
as_head = msgspec.msgpack.Decoder(Head).decode
as_person = msgspec.msgpack.Decoder(Person).decode
as_text = msgspec.msgpack.Decoder(str | None).decode


def digest_of(*values: bytes) -> bytes:
    """Return what tells whether a line of a file is another than it was."""
    return hashlib.blake2b(b"".join(values), digest_size=8).digest()


def hashed(user_id: int, key: bytes) -> bytes:
    """Return what stands for somebody who was erased; without the key, nobody can tell who."""
    return hashlib.blake2b(user_id.to_bytes(8), key=key, digest_size=16).digest()


class Hashes:
    """The hashes of those who were asked about last, since it takes long to make many."""

    def __init__(self) -> None:
        self._last: tuple[bytes, IdArray, NDArray[np.uint64]] = (b"", _NO_IDS, _NO_HEADS)

    def places(self, user_ids: IdArray, among: Iterable[bytes], key: bytes) -> Iterable[int]:
        """Return the places of those whose hash may be among some; few others are with them."""
        if len(user_ids) <= _FEW:
            return range(len(user_ids))
        known_key, known, heads = self._last
        if key != known_key or not np.array_equal(known, user_ids):
            hashes = b"".join(hashed(id_, key)[:_HEAD_BYTES] for id_ in user_ids.tolist())
            heads = np.frombuffer(hashes, np.uint64)
            self._last = key, user_ids.copy(), heads
        wanted = np.frombuffer(b"".join(hash_[:_HEAD_BYTES] for hash_ in among), np.uint64)
        places: list[int] = np.flatnonzero(np.isin(heads, wanted)).tolist()
        return places


def erasures_named(erased: Iterable[tuple[bytes, bytes]]) -> str:
    """Return a name for who was erased when, empty where nobody was; in order of their hashes."""
    digest = None
    for hash_, at in erased:
        digest = digest or hashlib.sha256()
        digest.update(b"%d %b %d %b" % (len(hash_), hash_, len(at), at))
    return "" if digest is None else digest.hexdigest()


def _ticks(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _TICK


def _moment(ticks: int | None) -> datetime | None:
    return None if ticks is None else _EPOCH + timedelta(microseconds=ticks)
