"""The catalogue in Redis, which several hosts share.

Every step runs inside the server as one script (`redis_scripts`), so that nobody sees half of a
change. Each process keeps an index of the jobs and the erasures; a question asks first whether they
are up to date, and takes over what changed. While the server is away, what the index knows is
answered on: a closed job stays closed. What needs the server then fails at once, and one thread
looks from time to time whether it is back.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import LockError, RedisError, ResponseError
from redis.retry import Retry

from adapters import redis_scripts as scripts
from adapters.catalog_records import (
    Hashes,
    Head,
    Person,
    as_head,
    as_person,
    as_text,
    digest_of,
    encode,
    erasures_named,
    hashed,
)
from adapters.erasures import ErasureFile, Erasures
from adapters.job_index import IdPage, JobIndex, JobRow
from domain.errors import CatalogUnavailable
from domain.model import IdArray, IndexArray, Job, JobFilter, TimeArray, User
from domain.ports import (
    JOB_FIELDS,
    CatalogImport,
    CatalogStore,
    Change,
    Coverage,
    ItemKind,
    JobCursor,
    JobPage,
)
from domain.ranking import Standing

RETRY_SECONDS = 0.3
"""While the server is away, one question a time of this length is put to it."""

_SCANNED = 5_000
"""Items of one step of a walk through all."""

_CHECKED = 20_000
"""Ids of one look at who is there."""

_LEASE_SECONDS = 15.0
"""The right to import ends so long after its holder was last heard of."""

_WAIT_SECONDS = 0.1
"""Between two looks whether another import has ended."""

_WRITE_SECONDS = 10.0
"""A change is waited for so long; whether one that was given up took place is not known."""

_log = logging.getLogger(__name__)

_PAUSE = ExponentialBackoff(cap=0.1, base=0.02)
_NO_TEXT = frozenset({"id", "description"})
_LOST = (
    "the Redis server does not hold the catalogue any more; it started without its data, or these "
    "were removed. Import it anew"
)


@dataclass(frozen=True)
class RedisAddress:
    """Where the server is, and how long to wait for it.

    Attributes:
        url: redis://, or rediss:// for TLS; may hold a password, which no message shows.
        prefix: begins all keys, so that several catalogues may share a server.
        ca: a file of the authorities that may vouch for the server; None for the system's.
        connect_seconds: for a connection.
        answer_seconds: for an answer.
        connections: at most so many of a process at once.
    """

    url: str
    prefix: str = "jobrec"
    ca: Path | None = None
    connect_seconds: float = 0.5
    answer_seconds: float = 1.0
    connections: int = 16

    def __repr__(self) -> str:
        return f"RedisAddress({self.name})"

    @property
    def name(self) -> str:
        """How messages call the server."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


class _State(NamedTuple):
    """What this process knows.

    Attributes:
        sequence: how many changes led here, 0 where the server holds nothing.
        key: of the hashes of those who were erased.
        erased: when somebody was, by hash.
    """

    revision: int
    sequence: int
    jobs: JobIndex
    key: bytes
    erased: Mapping[bytes, float]


_NOTHING = _State(0, 0, JobIndex([]), b"", {})


class _Import(NamedTuple):
    """An import of this process: nobody else goes on with it while `claim` stands."""

    claim: str
    done: int


class RedisCatalog(CatalogStore, CatalogImport):
    """Jobs and people on a server, of which this process knows the last state it saw.

    Args:
        kept: where this host keeps the erasures, for a server that loses them; None for nowhere.
        withheld: fields of people that are not told, whatever the store holds.
    """

    is_near = False

    def __init__(
        self,
        address: RedisAddress,
        kept: Path | None = None,
        withheld: frozenset[str] = frozenset(),
    ) -> None:
        self._withheld = withheld
        self._server = _Server(address)
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._import = _Import("", 0)
        self._hashes = Hashes()
        self._file = None if kept is None else ErasureFile(kept)
        self._kept = Erasures() if self._file is None else self._file.read()
        # A guess; the store says which it is
        self._key = secrets.token_bytes(32)

    # Reading

    @property
    def revision(self) -> int:
        """A number that no other state has; while the server is away, that of the last known."""
        return self._known().revision

    def jobs(self, ids: Sequence[int], fields: frozenset[str] = JOB_FIELDS) -> Mapping[int, Job]:
        """Return those of the jobs that exist, and of them what is wanted; see the port."""
        wanted = list(dict.fromkeys(ids))
        if fields <= {"id"}:
            listed, _ = self._exist("heads", wanted)
            return {id_: Job(id_) for id_, is_there in zip(wanted, listed, strict=True) if is_there}
        has_head, has_text = not fields <= _NO_TEXT, "description" in fields
        tables = ["heads"] * has_head + ["texts"] * has_text
        columns = self._get(tables, wanted)
        heads = columns[0] if has_head else [None] * len(wanted)
        texts = columns[-1] if has_text else [None] * len(wanted)
        return {
            id_: _job(id_, head, text)
            for id_, head, text in zip(wanted, heads, texts, strict=True)
            if head is not None or text is not None
        }

    def users(self, ids: Sequence[int]) -> Mapping[int, User]:
        """Return those of the people that exist; see the port."""
        wanted = list(dict.fromkeys(ids))
        (found,) = self._get(["users"], wanted)
        return {
            id_: as_person(value).user(id_, self._withheld)
            for id_, value in zip(wanted, found, strict=True)
            if value is not None
        }

    def coverage(self, user_ids: IdArray) -> Coverage:
        """Tell which of the people are listed; see the port. Only ids are read."""
        return Coverage(*self._exist("users", user_ids.tolist()))

    def standing(self, job_ids: IdArray, at: datetime, where: JobFilter | None) -> Standing:
        """Tell which of the jobs are listed, open and matching; see the port."""
        return self._known().jobs.standing(job_ids, at, where)

    def employers(self, job_ids: IdArray, aliases: Mapping[str, str]) -> IndexArray:
        """Return a number for each job's employer; see the port."""
        return self._known().jobs.employers(job_ids, aliases)

    def absent(self, job_ids: IdArray, at: datetime, most: int) -> IdArray:
        """Return the ids of the other jobs that are not closed; see the port."""
        return self._known().jobs.absent(job_ids, at, most)

    def page(
        self, where: JobFilter, ids: Sequence[int] | None, after: JobCursor | None, first: int
    ) -> JobPage:
        """Return a stretch of the catalogue, newest first; see the port."""
        (page,) = self._pages([where], ids, after, first)
        return page

    def pages(
        self, wheres: Sequence[JobFilter], after: JobCursor | None, first: int
    ) -> list[JobPage]:
        """Return a page for each filter, all in one round trip; see the port."""
        return self._pages(wheres, None, after, first)

    def counts(self, wheres: Sequence[JobFilter]) -> list[int]:
        """Return how many jobs satisfy each filter; see the port."""
        return self._known().jobs.counts(wheres)

    def erased_at(self, user_ids: IdArray) -> TimeArray:
        """Tell when people were erased; see the port."""
        state = self._known()
        found = np.full(len(user_ids), np.nan)
        if state.erased:
            for place in self._hashes.places(user_ids, state.erased, state.key):
                found[place] = state.erased.get(hashed(int(user_ids[place]), state.key), np.nan)
        return found

    def erasures(self) -> str:
        """Name the state of erasures; see the port."""
        erased = self._known().erased
        return erasures_named((hash_, repr(at).encode()) for hash_, at in sorted(erased.items()))

    # Changing

    def upsert_jobs(self, jobs: Sequence[Job]) -> list[Change]:
        """Put jobs in place of those of the same ids, whole; see the port."""
        last = {job.id: (encode(Head.of(job)), encode(job.description)) for job in jobs}
        items = ((id_, *values) for id_, values in last.items())
        outcomes = self._change(scripts.PUT_JOBS, chain.from_iterable(items))
        found = dict(zip(last, outcomes, strict=True))
        return [found[job.id] for job in jobs]

    def close_jobs(self, ids: Sequence[int]) -> list[Change]:
        """Mark jobs as closed; see the port."""
        return self._change(scripts.CLOSE_JOBS, ids)

    def remove_jobs(self, ids: Sequence[int]) -> list[Change]:
        """Take jobs out; see the port."""
        return self._change(scripts.REMOVE_JOBS, ids)

    def upsert_users(self, users: Sequence[User]) -> list[Change]:
        """Put people in place of those of the same ids; see the port."""
        last = {user.id: encode(Person.of(user)) for user in users}
        outcomes = self._keyed(
            scripts.PUT_USERS,
            lambda key: ((id_, value, _erased_field(id_, key)) for id_, value in last.items()),
        )
        found = dict(zip(last, map(_outcome, outcomes), strict=True))
        return [found[user.id] for user in users]

    def erase_users(self, ids: Sequence[int], at: datetime) -> list[Change]:
        """Take people out and keep when that was; see the port."""
        outcomes = self._keyed(
            scripts.ERASE_USERS,
            lambda key: ((id_, _erased_field(id_, key)) for id_ in ids),
            repr(at.timestamp()),
        )
        # So that this host knows of it, too
        with suppress(CatalogUnavailable):
            self._present()
        return [_outcome(outcome) for outcome in outcomes]

    # Importing

    def imported(self) -> str | None:
        """Return the source of the last full import; see the port."""
        source: bytes | None = self._server.ask(scripts.IMPORTED, [])[1]
        return None if source is None else source.decode()

    @contextmanager
    def importing(self, *, wait: bool) -> Iterator[bool]:
        """Hold the right to import, of all hosts; False where another holds it.

        It ends with its holder, some seconds later.
        """
        with self._server.leased("import", wait=wait) as is_ours:
            yield is_ours

    def begin(self, source: str, kinds: frozenset[ItemKind], *, full: bool) -> int:
        """Begin, or go on; see the port.

        Where the server has lost everything, the erasures that this process or its host knows are
        kept.
        """
        claim = secrets.token_hex(8)
        state = self._state
        key, erased = (state.key, state.erased) if state else (self._kept.key, self._kept.at)
        known = chain.from_iterable((_field(hash_), repr(at)) for hash_, at in erased.items())
        arguments = [claim, source, "1" if full else "0", " ".join(kinds), *known]
        _, done, owned, *generations = self._write(scripts.BEGIN, arguments, key or None)
        if owned is None:
            live = dict(zip((ItemKind.JOBS, ItemKind.USERS), generations, strict=True))
            for kind in sorted(kinds):
                for ids in self._server.members(f"own:{kind}:{live[kind].decode()}"):
                    self._write(scripts.TAKE_OVER, [claim, kind, *ids])
            self._write(scripts.TAKEN_OVER, [claim])
        self._import = _Import(claim, int(done))
        return self._import.done

    def extend(self, items: Sequence[Job | User]) -> None:
        """Take the next items; see the port."""
        claim, done = self._import
        self._keyed(
            scripts.EXTEND,
            lambda key: (_imported(item, key) for item in items),
            *(claim, done, len(items)),
        )
        self._import = _Import(claim, done + len(items))

    def finish(self) -> bool:
        """Go live; see the port."""
        _, is_changed = self._write(scripts.FINISH, [self._import.claim])
        return bool(is_changed)

    # What this process knows

    def _known(self) -> _State:
        """Return the present state, or the last known while the server does not answer."""
        try:
            return self._present()
        except CatalogUnavailable:
            if self._state is None:
                raise
            return self._state

    def _present(self) -> _State:
        state = self._state
        if state is not None and self._look(state)[0] == b"SAME":
            return state
        with self._lock:
            # Another thread may have caught up meanwhile; from here on nobody else does
            state = self._state or _NOTHING
            while True:
                news = self._look(state)
                if news[0] in {b"SAME", b"EMPTY"}:
                    break
                state = self._anew(news) if news[0] == b"ANEW" else _updated(state, news)
            self._state = state
            self._keep(state)
            return state

    def _keep(self, state: _State) -> None:
        """Keep the erasures on this host, too, where they are others than before."""
        if self._file is None or (state.key, state.erased) == (self._kept.key, self._kept.at):
            return
        if self._kept.at and state.key != self._kept.key:
            _log.warning(
                "the catalogue in Redis was made anew without the %d erasures known here",
                len(self._kept.at),
            )
        self._kept = Erasures(state.key, dict(state.erased))
        try:
            self._file.keep(self._kept)
        except OSError as error:
            _log.warning("erasures cannot be kept on this host: %s", error)

    def _look(self, state: _State) -> list[Any]:
        """Ask what is new since a state.

        Raises:
            CatalogUnavailable: the server has lost what it held.
        """
        news = self._server.ask(scripts.LOOK, [state.revision, state.sequence])
        self._check_not_lost(news)
        return news

    def _check_not_lost(self, answer: list[Any]) -> None:
        if answer[0] == b"LOST" or (answer[0] == b"EMPTY" and self._has_seen):
            raise CatalogUnavailable(_LOST)

    @property
    def _has_seen(self) -> bool:
        """Whether the server held something before, which it does not lose by itself."""
        return bool(self._state.revision if self._state else self._kept.at)

    def _anew(self, news: list[Any]) -> _State:
        """Read all heads; what changes meanwhile is in the log and is taken over after that."""
        _, revision, sequence, generation, key = news
        heads = self._server.pairs(f"heads:{generation.decode()}")
        rows = (_row(id_, head) for id_, head in heads)
        erased = {_hash(field): float(at) for field, at in self._server.pairs("erased")}
        return _State(int(revision), int(sequence), JobIndex(rows), key, erased)

    def _pages(
        self,
        wheres: Sequence[JobFilter],
        ids: Sequence[int] | None,
        after: JobCursor | None,
        first: int,
    ) -> list[JobPage]:
        state = self._state or self._present()
        while True:
            found = [state.jobs.page(where, ids, after, first) for where in wheres]
            wanted = list(dict.fromkeys(chain.from_iterable(page.ids for page in found)))
            answer = self._server.ask(scripts.GET, [state.revision, "heads texts", *wanted])
            self._check_not_lost(answer)
            if answer[0] == b"OK":
                jobs = map(_job, wanted, *answer[1:])
                return _filled(found, {job.id: job for job in jobs})
            if answer[0] == b"EMPTY":
                return _filled(found, {})
            # What the index knows is not the present any more
            state = self._present()

    def _get(self, tables: list[str], ids: Sequence[int]) -> list[list[bytes | None]]:
        """Return a column of values for each table, None where there is none."""
        answer = self._server.ask(scripts.GET, ["", " ".join(tables), *ids])
        self._check_not_lost(answer)
        return answer[1:] if answer[0] == b"OK" else [[None] * len(ids)] * len(tables)

    def _exist(self, table: str, ids: Sequence[int]) -> tuple[Any, int]:
        """Tell which ids a table holds, and how many it holds in all."""
        found, total = b"", 0
        for start in range(0, max(1, len(ids)), _CHECKED):
            part = ids[start : start + _CHECKED]
            answer = self._server.ask(scripts.EXIST, [table, *part])
            self._check_not_lost(answer)
            if answer[0] == b"EMPTY":
                return np.zeros(len(ids), dtype=np.bool_), 0
            found, total = found + answer[1], answer[2]
        return np.frombuffer(found, np.uint8) == ord("1"), total

    def _change(self, script: str, arguments: Iterable[Any]) -> list[Change]:
        """Change items, all or none, and tell what became of each."""
        return [_outcome(outcome) for outcome in self._write(script, arguments)[1:]]

    def _keyed(
        self, script: str, items: Callable[[bytes], Iterable[Iterable[Any]]], *first: object
    ) -> list[Any]:
        """Run a script on items that hold hashes, with the key that the store has."""
        key = self._key
        while True:
            answer = self._write(script, [*first, *chain.from_iterable(items(key))], key)
            if answer[0] != b"KEY":
                return answer[1:]
            self._key = key = answer[1]

    def _write(self, script: str, arguments: Iterable[Any], key: bytes | None = None) -> list[Any]:
        """Run a script that changes something; `key` becomes that of a new store."""
        head = [secrets.randbits(62) | 1, key or self._key, int(self._has_seen)]
        answer = self._server.write(script, [*head, *arguments])
        self._check_not_lost(answer)
        if answer[0] == b"ENDED":
            raise CatalogUnavailable("the import was ended by another one")
        return answer


def _updated(state: _State, news: list[Any]) -> _State:
    """Take changes over."""
    _, revision, sequence, ids, heads, fields, times = news
    jobs = state.jobs
    if ids:
        there = [_row(id_, head) for id_, head in zip(ids, heads, strict=True) if head]
        jobs = jobs.updated(
            there, [int(id_) for id_, head in zip(ids, heads, strict=True) if not head]
        )
    erased = state.erased
    if fields:
        touched = dict(zip(map(_hash, fields), times, strict=True))
        kept = {hash_: at for hash_, at in erased.items() if hash_ not in touched}
        erased = kept | {hash_: float(at) for hash_, at in touched.items() if at is not None}
    return _State(int(revision), int(sequence), jobs, state.key, erased)


def _filled(found: Sequence[IdPage], jobs: Mapping[int, Job]) -> list[JobPage]:
    return [JobPage([jobs[id_] for id_ in page.ids], page.has_next) for page in found]


def _job(id_: int, head: bytes | None, text: bytes | None) -> Job:
    description = None if text is None else as_text(text)
    return (
        Job(id_, description=description) if head is None else as_head(head).job(id_, description)
    )


def _outcome(word: bytes) -> Change:
    return Change(word.decode())


def _row(id_: bytes, head: bytes) -> JobRow:
    return as_head(head).row(int(id_))


def _erased_field(user_id: int, key: bytes) -> bytes:
    return _field(hashed(user_id, key))


def _field(hash_: bytes) -> bytes:
    return hash_.hex().encode()


def _hash(field: bytes) -> bytes:
    return bytes.fromhex(field.decode())


def _imported(item: Job | User, key: bytes) -> tuple[str, int, bytes, bytes, bytes, bytes]:
    """Return the arguments of a line of a file."""
    if isinstance(item, Job):
        head, text = encode(Head.of(item)), encode(item.description)
        return ItemKind.JOBS, item.id, digest_of(head, text), b"", head, text
    person = encode(Person.of(item))
    return ItemKind.USERS, item.id, digest_of(person), _erased_field(item.id, key), person, b""


class _Server:
    """The server, which may be away: then nobody waits for it but one thread at a time."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._prefix = f"{address.prefix}:"
        # What only reads may be asked again; a change may have happened although no answer came
        retry = Retry(_PAUSE, 2, (NotConnected,))
        self._reader = _client(address, retry, address.answer_seconds)
        self._writer = _client(address, Retry(_PAUSE, 0, (NotConnected,)), _WRITE_SECONDS)
        self._scripts: dict[str, Any] = {}
        self._probing = threading.Lock()
        self._trouble: str | None = None
        self._retry_at = 0.0

    def ask(self, script: str, arguments: Sequence[Any]) -> list[Any]:
        """Run a script that changes nothing."""
        return self._run(self._reader, script, arguments)

    def write(self, script: str, arguments: Sequence[Any]) -> list[Any]:
        """Run a script that changes something."""
        return self._run(self._writer, script, arguments)

    def pairs(self, key: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield all of a hash, many at a time; what changes meanwhile may be missed or old."""
        cursor = -1
        while cursor:
            with self._answering():
                answer: Any = self._reader.hscan(self._prefix + key, max(cursor, 0), count=_SCANNED)
            cursor, found = answer
            yield from found.items()

    def members(self, key: str) -> Iterator[list[bytes]]:
        """Yield all of a set, many at a time."""
        cursor = -1
        while cursor:
            with self._answering():
                answer: Any = self._reader.sscan(self._prefix + key, max(cursor, 0), count=_SCANNED)
            cursor, found = answer
            yield list(found)

    @contextmanager
    def leased(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Hold a right that ends when its holder is gone for some seconds."""
        lease = self._reader.lock(self._prefix + name, _LEASE_SECONDS, thread_local=False)
        ended = threading.Event()
        while True:
            with self._answering():
                is_ours = lease.acquire(blocking=False)
            if is_ours:
                break
            if not wait:
                yield False
                return
            ended.wait(_WAIT_SECONDS)

        def renew() -> None:
            while not ended.wait(_LEASE_SECONDS / 5):
                # Once it is lost, the store lets nobody go on with an import that another began
                with suppress(RedisError, LockError, OSError):
                    lease.reacquire()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield True
        finally:
            ended.set()
            thread.join()
            # Where the server is away, the right ends by itself
            with suppress(RedisError, LockError, OSError):
                lease.release()

    def _run(self, client: redis.Redis, script: str, arguments: Sequence[Any]) -> list[Any]:
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = client.register_script(script)
        with self._answering():
            answer: list[Any] = known([self._prefix], arguments, client)
        return answer

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell an outage, and keep it in mind for a moment.

        Raises:
            CatalogUnavailable: the server does not answer, or did not a moment ago.
        """
        is_probing = False
        if (trouble := self._trouble) is not None:
            is_probing = time.monotonic() >= self._retry_at and self._probing.acquire(
                blocking=False
            )
            if not is_probing:
                raise CatalogUnavailable(trouble)
        try:
            yield
            self._trouble = None
        except ResponseError as error:
            # It answers, and refuses: too little memory, a right that is lacking
            self._trouble = None
            raise CatalogUnavailable(self._told("refuses", error)) from error
        except (RedisError, OSError) as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._trouble = self._told("does not answer", error)
            raise CatalogUnavailable(self._trouble) from error
        finally:
            if is_probing:
                self._probing.release()

    def _told(self, what: str, error: Exception) -> str:
        """Return a message without the URL's name and password."""
        text = str(error) or type(error).__name__
        parts = urlsplit(self._address.url)
        for secret in filter(None, (parts.password, parts.username)):
            text = text.replace(secret, "***").replace(unquote(secret), "***")
        return f"Redis at {self._address.name} {what}: {text}"


def _client(address: RedisAddress, retry: Retry, answer_seconds: float) -> redis.Redis:
    tls: dict[str, Any] = {}
    if address.ca is not None:
        tls = {"ssl_ca_certs": str(address.ca)}
    pool = redis.BlockingConnectionPool.from_url(
        address.url,
        max_connections=address.connections,
        timeout=address.answer_seconds,
        socket_connect_timeout=address.connect_seconds,
        socket_timeout=answer_seconds,
        retry=retry,
        protocol=2,
        **tls,
    )
    return redis.Redis(connection_pool=pool)
