"""The catalogue in LMDB: one file that all processes of a host read without a server.

Items stand under their generation and id. A full import fills the next generation and makes it
the live one in the same transaction that ends the import. Heads and descriptions stand apart, so
that a list of titles reads no advert's text. Every change raises the revision, in its own
transaction; each question compares it, and first brings the index of this process up to date.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import lmdb
import msgspec
import numpy as np

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
from adapters.job_index import JobIndex
from domain.errors import CatalogUnavailable, InputError
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

MAP_BYTES = 64 << 20
"""Address space of a new store; it doubles whenever it is full."""

_LOGGED = 1_000
"""Of so many changes is known which jobs they touched; behind them an index is made anew."""

_STEP = 5_000
"""A generation that is not needed any more is removed in transactions of so many items."""

_REMEMBERED_JOBS = 10_000
"""So many jobs are kept as they were made of their bytes, which takes longer than reading them."""

_MAX_READERS = 1_024
_NO_TEXT = frozenset({"id", "description"})

T = TypeVar("T")


class _Staged(msgspec.Struct, frozen=True):
    """An import under way.

    Attributes:
        generations: where a full import gathers, by kind; empty for an incremental one.
        done: how many items were taken.
        changed: whether an incremental one has changed anything so far.
    """

    source: str
    full: bool
    generations: dict[str, int]
    done: int = 0
    changed: bool = False


class _Meta(msgspec.Struct, frozen=True):
    """What is true of the whole store, in one value.

    Attributes:
        generations: the live ones, by kind.
        newest: the highest generation that was ever begun.
        erasing_key: the key of the hashes of those who were erased.
    """

    erasing_key: bytes
    revision: int = 0
    generations: dict[str, int] = msgspec.field(default_factory=lambda: {"jobs": 1, "users": 1})
    newest: int = 1
    imported: str | None = None
    staged: _Staged | None = None

    def targets(self, kind: ItemKind) -> list[int]:
        """Return the generations that a change goes into, the live one first."""
        staged = {} if self.staged is None else self.staged.generations
        return [self.generations[kind], *([staged[kind]] if kind in staged else [])]


_as_meta = msgspec.msgpack.Decoder(_Meta).decode
_as_ids = msgspec.msgpack.Decoder(list[int]).decode


class _State(NamedTuple):
    revision: int
    generation: int
    jobs: JobIndex


class LmdbCatalog(CatalogStore, CatalogImport):
    """Jobs and people in a folder of this host.

    Args:
        folder: holds the store, which is made when first asked for.
        map_bytes: address space of a new store.
        withheld: fields of people that are not told, whatever the store holds.
    """

    def __init__(
        self, folder: Path, map_bytes: int = MAP_BYTES, withheld: frozenset[str] = frozenset()
    ) -> None:
        self._withheld = withheld
        self._folder = folder
        self._map_bytes = map_bytes
        self._lock = threading.Lock()
        self._opened: _Environment | None = None
        self._state: _State | None = None
        self._hashes = Hashes()
        self._jobs: dict[int, tuple[bytes, Job]] = {}

    # Reading

    @property
    def revision(self) -> int:
        """A number that grows with every change; see the port."""
        with self._reading() as view:
            return view.meta.revision

    def jobs(self, ids: Sequence[int], fields: frozenset[str] = JOB_FIELDS) -> Mapping[int, Job]:
        """Return those of the jobs that exist, and of them what is wanted; see the port."""
        with self._reading() as view:
            generation = view.meta.generations[ItemKind.JOBS]
            wanted = dict.fromkeys(ids)
            texts: dict[int, bytes] = {}
            if "description" in fields:
                texts = view.get("texts", generation, wanted)
            heads = view.get("heads", generation, wanted)
        if fields <= _NO_TEXT:
            return {
                id_: Job(id_, description=as_text(texts[id_]) if texts else None)
                for id_ in wanted
                if id_ in heads
            }
        if texts:
            return {id_: as_head(head).job(id_, as_text(texts[id_])) for id_, head in heads.items()}
        return {id_: self._job(id_, head) for id_, head in heads.items()}

    def changed_since(self, revision: int) -> set[int] | None:
        """Return the jobs that changed since a revision; see the port."""
        with self._reading() as view:
            return view.changed_jobs(revision)

    def users(self, ids: Sequence[int]) -> Mapping[int, User]:
        """Return those of the people that exist; see the port."""
        with self._reading() as view:
            found = view.get("users", view.meta.generations[ItemKind.USERS], dict.fromkeys(ids))
        return {id_: as_person(value).user(id_, self._withheld) for id_, value in found.items()}

    def coverage(self, user_ids: IdArray) -> Coverage:
        """Tell which of the people are listed; see the port. Only ids are read."""
        with self._reading() as view:
            generation = view.meta.generations[ItemKind.USERS]
            listed = view.get("users", generation, dict.fromkeys(user_ids.tolist()))
            total = sum(1 for _ in view.ids("users", generation))
        return Coverage(
            np.fromiter((id_ in listed for id_ in user_ids.tolist()), np.bool_, len(user_ids)),
            total,
        )

    def standing(self, job_ids: IdArray, at: datetime, where: JobFilter | None) -> Standing:
        """Tell which of the jobs are listed, open and matching; see the port."""
        return self._index().standing(job_ids, at, where)

    def employers(self, job_ids: IdArray, aliases: Mapping[str, str]) -> IndexArray:
        """Return a number for each job's employer; see the port."""
        return self._index().employers(job_ids, aliases)

    def absent(self, job_ids: IdArray, at: datetime, most: int) -> IdArray:
        """Return the ids of the other jobs that are not closed; see the port."""
        return self._index().absent(job_ids, at, most)

    def page(
        self, where: JobFilter, ids: Sequence[int] | None, after: JobCursor | None, first: int
    ) -> JobPage:
        """Return a stretch of the catalogue, newest first; see the port."""
        while True:
            with self._reading() as view:
                state = self._current(view)
                if state.revision != view.meta.revision:
                    # Another thread has seen a later state meanwhile; this one looks again
                    continue
                found = state.jobs.page(where, ids, after, first)
                heads = view.get("heads", state.generation, found.ids)
                texts = view.get("texts", state.generation, found.ids)
            jobs = [as_head(heads[id_]).job(id_, as_text(texts[id_])) for id_ in found.ids]
            return JobPage(jobs, found.has_next)

    def counts(self, wheres: Sequence[JobFilter]) -> list[int]:
        """Return how many jobs satisfy each filter; see the port."""
        return self._index().counts(wheres)

    def erased_at(self, user_ids: IdArray) -> TimeArray:
        """Tell when people were erased; see the port."""
        found = np.full(len(user_ids), np.nan)
        with self._reading() as view:
            if not view.holds_any("erased"):
                return found
            key = view.meta.erasing_key
            for place in self._hashes.places(user_ids, view.keys("erased"), key):
                value = view.raw("erased", hashed(int(user_ids[place]), key))
                if value is not None:
                    found[place] = np.frombuffer(value, np.float64)[0]
        return found

    def erasures(self) -> str:
        """Name the state of erasures; see the port."""
        with self._reading() as view:
            return erasures_named(
                (key, view.raw("erased", key) or b"") for key in view.keys("erased")
            )

    # Changing

    def upsert_jobs(self, jobs: Sequence[Job]) -> list[Change]:
        """Put jobs in place of those of the same ids, whole; see the port."""
        last = {job.id: (encode(Head.of(job)), encode(job.description)) for job in jobs}

        def change(edit: _Edit) -> list[Change]:
            found = {id_: edit.put_job(id_, *values) for id_, values in last.items()}
            return [found[job.id] for job in jobs]

        return self._changed(change)

    def close_jobs(self, ids: Sequence[int]) -> list[Change]:
        """Mark jobs as closed; see the port."""
        return self._changed(lambda edit: [edit.close_job(id_) for id_ in ids])

    def remove_jobs(self, ids: Sequence[int]) -> list[Change]:
        """Take jobs out; see the port."""
        return self._changed(lambda edit: [edit.remove_job(id_) for id_ in ids])

    def upsert_users(self, users: Sequence[User]) -> list[Change]:
        """Put people in place of those of the same ids; see the port."""
        last = {user.id: encode(Person.of(user)) for user in users}

        def change(edit: _Edit) -> list[Change]:
            found = {id_: edit.put_user(id_, value) for id_, value in last.items()}
            return [found[user.id] for user in users]

        return self._changed(change)

    def erase_users(self, ids: Sequence[int], at: datetime) -> list[Change]:
        """Take people out and keep when that was; see the port."""
        stamp = np.float64(at.timestamp()).tobytes()
        return self._changed(lambda edit: [edit.erase_user(id_, stamp) for id_ in ids])

    # Importing

    def imported(self) -> str | None:
        """Return the source of the last full import; see the port."""
        with self._reading() as view:
            return view.meta.imported

    def begin(self, source: str, kinds: frozenset[ItemKind], *, full: bool) -> int:
        """Begin, or go on; see the port."""

        def change(edit: _Edit) -> int:
            staged = edit.meta.staged
            if staged is not None and (staged.source, staged.full) == (source, full):
                return staged.done
            newest = edit.meta.newest + 1
            generations = {str(kind): newest for kind in kinds} if full else {}
            edit.set(newest=newest, staged=_Staged(source, full, generations))
            return 0

        done = self._written(change)
        self._sweep()
        return done

    def extend(self, items: Sequence[Job | User]) -> None:
        """Take the next items; see the port."""

        def change(edit: _Edit) -> None:
            staged = edit.staged()
            for item in items:
                if isinstance(item, Job):
                    edit.import_job(item, staged)
                else:
                    edit.import_user(item, staged)
            done, changed = staged.done + len(items), staged.changed or edit.is_touched
            edit.set(staged=msgspec.structs.replace(staged, done=done, changed=changed))

        self._changed(change)

    def finish(self) -> bool:
        """Go live; see the port.

        What takes long of it is only read: whoever changes something meanwhile does not wait, and
        changes what is gathered, too.
        """
        with self._reading() as view:
            staged, before = view.staged(), view.meta.generations
            pairs = [
                (ItemKind(kind), before[kind], new) for kind, new in staged.generations.items()
            ]
            own = [view.own(kind, live) for kind, live, _ in pairs]
            # The same lines make the same of what was changed since: what holds of one generation
            # is done to the other
            is_same = all(
                one == other
                for kind, live, new in pairs
                for one, other in zip_longest(view.lines(kind, live), view.lines(kind, new))
            )
        for (kind, live, new), ids in zip(pairs, own, strict=True):
            for start in range(0, len(ids), _STEP):
                part = ids[start : start + _STEP]
                self._written(lambda edit: edit.keep_own(kind, live, new, part))  # noqa: B023 - called at once

        def change(edit: _Edit) -> bool:
            if edit.staged() != staged:
                raise CatalogUnavailable("the import was ended by another one")
            edit.set(staged=None)
            if not staged.full:
                return staged.changed
            edit.set(imported=staged.source)
            if is_same:
                return False
            edit.set(generations={**before, **staged.generations})
            edit.revise(None)
            return True

        is_changed = self._written(change)
        self._sweep()
        return is_changed

    # Looking after the store

    @contextmanager
    def importing(self, *, wait: bool) -> Iterator[bool]:
        """Hold the right to import, which ends with its holder; False where another holds it."""
        with _translated():
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "import.lock").open("ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    yield False
                else:
                    yield True

    def backup(self, target: Path) -> None:
        """Write a compact copy into a new folder while all goes on.

        Raises:
            InputError: the folder holds something.
            CatalogUnavailable: the store or the disk does not answer.
        """
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{target} is not an empty folder", "TARGET")
        with _translated():
            target.mkdir(parents=True, exist_ok=True)
            with self._environment().shared() as environment:
                environment.copy(str(target), compact=True)

    def compact(self) -> tuple[int, int]:
        """Give free space back to the disk; return the bytes that the store took and takes.

        Others read on meanwhile, and changes wait. Killed at any moment, the old store or the new
        one is there, whole.

        Raises:
            CatalogUnavailable: the store or the disk does not answer.
        """
        return self._locked(lambda environment, _: environment.move())

    def _job(self, id_: int, head: bytes) -> Job:
        """Return a job without its text, the same as before where its bytes are."""
        known = self._jobs.get(id_)
        if known is not None and known[0] == head:
            return known[1]
        job = as_head(head).job(id_, None)
        if len(self._jobs) >= _REMEMBERED_JOBS:
            self._jobs = {}
        self._jobs[id_] = head, job
        return job

    def _index(self) -> JobIndex:
        with self._reading() as view:
            return self._current(view).jobs

    def _current(self, view: _View) -> _State:
        """Return the jobs that a transaction sees, or a later state that is known already."""
        meta = view.meta
        generation = meta.generations[ItemKind.JOBS]
        state = self._state
        if state is not None and state.revision >= meta.revision:
            return state
        with self._lock:
            state = self._state
            if state is not None and state.revision >= meta.revision:
                return state
            changed = None
            if state is not None and state.generation == generation:
                changed = view.changed_jobs(state.revision)
            if state is None or changed is None:
                rows = (as_head(value).row(id_) for id_, value in view.items("heads", generation))
                jobs = JobIndex(rows)
            elif changed:
                heads = view.get("heads", generation, changed)
                jobs = state.jobs.updated(
                    (as_head(value).row(id_) for id_, value in heads.items()),
                    changed - heads.keys(),
                )
            else:
                jobs = state.jobs
            self._state = _State(meta.revision, generation, jobs)
            return self._state

    def _sweep(self) -> None:
        """Remove generations that are neither live nor gathered."""
        while self._written(lambda edit: edit.sweep(_STEP)):
            pass

    def _changed(self, change: Callable[[_Edit], T]) -> T:
        def revised(edit: _Edit) -> T:
            outcome = change(edit)
            edit.revise_if_touched()
            return outcome

        return self._written(revised)

    def _written(self, change: Callable[[_Edit], T]) -> T:
        """Carry a change out in a transaction."""

        def act(environment: _Environment, transaction: lmdb.Transaction[bytes]) -> T:
            edit = _Edit(transaction, environment.tables)
            outcome = change(edit)
            edit.save()
            return outcome

        return self._locked(act)

    def _locked(self, act: Callable[[_Environment, lmdb.Transaction[bytes]], T]) -> T:
        """Act while nobody else writes; all is done again after a full map has grown."""
        with _translated():
            while True:
                environment = self._environment()
                try:
                    with environment.writing() as transaction:
                        # Who had the lock before may have moved the store
                        if environment.is_current():
                            return act(environment, transaction)
                except lmdb.MapFullError:
                    environment.resize(grow=True)
                except lmdb.MapResizedError:
                    environment.resize(grow=False)

    def _reading(self) -> _Reading:
        return _Reading(self._environment)

    def _environment(self) -> _Environment:
        opened = self._opened
        if opened is None or opened.process != os.getpid() or not opened.is_current():
            if opened is not None and opened.process != os.getpid():
                # A child of fork gives its copies up; the parent's locks are none of them
                opened.give_up()
            opened = self._opened = _Environment.of(self._folder, self._map_bytes)
        return opened


_TABLES = ("meta", "heads", "texts", "users", "lines", "log", "erased")
_META = b"meta"
_DATA = "data.mdb"
_CURRENT = "current"
_FIRST = "."
_MOVED = "moved-"


class _Environment:
    """The store as this process has opened it, once for all who use it.

    It stands in the folder itself, or in that one of its folders to which the link `current` leads:
    compacting writes a new one and turns the link, and whoever has the old one open sees that at
    their next transaction. The map may only change its size while no transaction of this process
    is open.
    """

    def __init__(self, folder: Path, place: str, map_bytes: int) -> None:
        self.process = os.getpid()
        self._folder = folder
        self._place = place
        held = folder / place
        if place == _FIRST:
            held.mkdir(parents=True, exist_ok=True)
        data = held / _DATA
        self._environment = lmdb.open(
            str(held),
            map_size=max(map_bytes, data.stat().st_size if data.exists() else 0),
            create=place == _FIRST,
            max_dbs=len(_TABLES),
            max_readers=_MAX_READERS,
        )
        self._environment.reader_check()
        self.tables = {name: self._environment.open_db(name.encode()) for name in _TABLES}
        self._condition = threading.Condition()
        self._users = 0
        self._is_resizing = False
        with self.writing() as transaction:
            if transaction.get(_META, db=self.tables["meta"]) is None:
                meta = _Meta(secrets.token_bytes(32))
                transaction.put(_META, encode(meta), db=self.tables["meta"])

    @classmethod
    def of(cls, folder: Path, map_bytes: int) -> _Environment:
        """Return the open store; to open one twice in a process would break its locks."""
        with _OPENING:
            while True:
                place = _place(folder)
                key = os.getpid(), str(folder.resolve() / place)
                opened = _OPEN.get(key)
                try:
                    if opened is None:
                        opened = _OPEN[key] = cls(folder, place, map_bytes)
                except (lmdb.Error, OSError):
                    if _place(folder) == place:
                        raise
                    continue  # it was moved before it was open
                if opened.is_current():
                    return opened

    def is_current(self) -> bool:
        """Tell whether the store still stands where this one was opened."""
        return _place(self._folder) == self._place

    def give_up(self) -> None:
        """Close it, in this process; whoever asks next opens it anew."""
        self._environment.close()

    def move(self) -> tuple[int, int]:
        """Move the store into a new folder, compact; return the bytes before and after.

        Call it while holding the right to write.
        """
        number = 1 if self._place == _FIRST else int(self._place.removeprefix(_MOVED)) + 1
        place = f"{_MOVED}{number}"
        target = self._folder / place
        # What others left who were killed
        self._sweep(self._place)
        target.mkdir()
        try:
            self._environment.copy(str(target), compact=True)
            for path in (target / _DATA, target):
                _sync(path)
        except BaseException:
            shutil.rmtree(target)
            raise
        before, after = ((self._folder / at / _DATA).stat().st_size for at in (self._place, place))
        link = self._folder / f"{_CURRENT}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(place)
        link.replace(self._folder / _CURRENT)
        _sync(self._folder)
        # Whoever has it open keeps it until their next transaction
        self._sweep(place)
        return before, after

    def _sweep(self, kept: str) -> None:
        for path in self._folder.glob(f"{_MOVED}*"):
            if path.name != kept:
                shutil.rmtree(path, ignore_errors=True)
        if kept != _FIRST:
            for name in (_DATA, "lock.mdb"):
                (self._folder / name).unlink(missing_ok=True)

    def enter(self) -> lmdb.Environment:
        """Hand the environment out; its map keeps its size until `leave`."""
        with self._condition:
            if self._is_resizing:
                self._condition.wait_for(lambda: not self._is_resizing)
            self._users += 1
        return self._environment

    def leave(self) -> None:
        """Give the environment back."""
        with self._condition:
            self._users -= 1
            if self._is_resizing:
                self._condition.notify_all()

    @contextmanager
    def shared(self) -> Iterator[lmdb.Environment]:
        """Hand the environment out; its map keeps its size meanwhile."""
        environment = self.enter()
        try:
            yield environment
        finally:
            self.leave()

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Hand out a transaction that changes something, one at a time of all processes."""
        with self.shared() as opened, opened.begin(write=True) as transaction:
            yield transaction

    def begin(self) -> lmdb.Transaction[bytes]:
        """Begin a transaction that sees one state, whatever happens meanwhile.

        Call `leave` when it has ended.
        """
        while True:
            environment = self.enter()
            try:
                return environment.begin()
            except lmdb.MapResizedError:
                self.leave()
            except BaseException:
                self.leave()
                raise
            self.resize(grow=False)

    def resize(self, *, grow: bool) -> None:
        """Double the map, or take over the size that another process gave it."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_resizing)
            self._is_resizing = True
            try:
                self._condition.wait_for(lambda: not self._users)
                size = self._environment.info()["map_size"]
                self._environment.set_mapsize(2 * size if grow else 0)
            finally:
                self._is_resizing = False
                self._condition.notify_all()


_OPENING = threading.Lock()
_OPEN: weakref.WeakValueDictionary[tuple[int, str], _Environment] = weakref.WeakValueDictionary()


def _place(folder: Path) -> str:
    """Return where in its folder the store stands."""
    try:
        return os.readlink(f"{folder}/{_CURRENT}")  # noqa: PTH115 - asked at each transaction
    except FileNotFoundError:
        return _FIRST


def _sync(path: Path) -> None:
    """Bring a file or the entries of a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Reading:
    """Hands out what a transaction sees, and ends it.

    Several times faster than generators as context managers, one within the other, which took
    longer than reading.
    """

    __slots__ = ("_environment", "_opened", "_transaction")

    def __init__(self, environment: Callable[[], _Environment]) -> None:
        self._environment = environment

    def __enter__(self) -> _View:
        try:
            self._opened = self._environment()
            self._transaction = self._opened.begin()
        except (lmdb.Error, OSError) as error:
            raise _unavailable(error) from error
        try:
            return _View(self._transaction, self._opened.tables)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        try:
            self._transaction.abort()
        finally:
            self._opened.leave()
        if isinstance(error, (lmdb.Error, OSError)):
            raise _unavailable(error) from error


class _View:
    """What a transaction sees."""

    def __init__(self, transaction: lmdb.Transaction[bytes], tables: Mapping[str, Any]) -> None:
        self._transaction = transaction
        self._tables = tables
        self.meta = _as_meta(self.raw("meta", _META) or b"")

    def raw(self, table: str, key: bytes) -> bytes | None:
        """Return a value, None where there is none."""
        return self._transaction.get(key, db=self._tables[table])

    def get(self, table: str, generation: int, ids: Iterable[int]) -> dict[int, bytes]:
        """Return the values of those of the ids that exist, in the order of the ids."""
        get, table_ = self._transaction.get, self._tables[table]
        found = ((id_, get(_key(generation, id_), db=table_)) for id_ in ids)
        return {id_: value for id_, value in found if value is not None}

    def staged(self) -> _Staged:
        """Return the import under way.

        Raises:
            CatalogUnavailable: another has taken its place.
        """
        if self.meta.staged is None:
            raise CatalogUnavailable("the import was ended by another one")
        return self.meta.staged

    def items(self, table: str, generation: int) -> Iterator[tuple[int, bytes]]:
        """Yield all of a generation, by id."""
        return self._behind(table, generation.to_bytes(4))

    def lines(self, kind: ItemKind, generation: int) -> Iterator[tuple[int, bytes]]:
        """Yield the digests of the lines of which a generation was made, by id."""
        return self._behind("lines", _KIND_BYTES[kind] + generation.to_bytes(4))

    def _behind(self, table: str, prefix: bytes) -> Iterator[tuple[int, bytes]]:
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        return
                    yield int.from_bytes(key[len(prefix) :]), value

    def ids(self, table: str, generation: int) -> Iterator[int]:
        """Yield the ids of a generation."""
        prefix = generation.to_bytes(4)
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if not key.startswith(prefix):
                        return
                    yield int.from_bytes(key[4:])

    def own(self, kind: ItemKind, generation: int) -> list[int]:
        """Return the ids of what came by no import."""
        return [
            id_
            for id_ in self.ids(_FIRST_TABLE[kind], generation)
            if self.raw("lines", _line(kind, generation, id_)) is None
        ]

    def keys(self, table: str) -> Iterator[bytes]:
        """Yield all keys of a table."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            yield from cursor.iternext(values=False)

    def holds_any(self, table: str) -> bool:
        """Tell whether a table holds anything."""
        return bool(self._transaction.stat(self._tables[table])["entries"])

    def changed_jobs(self, revision: int) -> set[int] | None:
        """Return the jobs that changed since a revision; None where that is not known any more."""
        if revision > self.meta.revision:
            return None  # of another store, which a backup has replaced
        changed: set[int] = set()
        for number in range(revision + 1, self.meta.revision + 1):
            value = self.raw("log", number.to_bytes(8))
            if value is None:
                return None
            changed.update(_as_ids(value))
        return changed


class _Edit(_View):
    """A transaction that changes the store; what is done to live items is done to gathered ones.

    Outcomes are those of the live ones.
    """

    def __init__(self, transaction: lmdb.Transaction[bytes], tables: Mapping[str, Any]) -> None:
        super().__init__(transaction, tables)
        self._before = self.meta
        self._jobs: set[int] = set()
        self.is_touched = False

    def set(self, **changes: object) -> None:
        """Change what is true of the whole store."""
        self.meta = msgspec.structs.replace(self.meta, **changes)

    def save(self) -> None:
        """Write what is true of the whole store."""
        if self.meta != self._before:
            self._put("meta", _META, encode(self.meta))

    def revise(self, jobs: Iterable[int] | None) -> None:
        """Raise the revision, and note which jobs changed; None where all may have."""
        revision = self.meta.revision + 1
        self.set(revision=revision)
        if jobs is not None:
            self._put("log", revision.to_bytes(8), encode(sorted(jobs)))
        self._delete("log", max(0, revision - _LOGGED).to_bytes(8))

    def revise_if_touched(self) -> None:
        """Raise the revision where something changed."""
        if self.is_touched:
            self.revise(self._jobs)

    def put_job(self, id_: int, head: bytes, text: bytes) -> Change:
        """Put a job."""
        changes = []
        for generation in self.meta.targets(ItemKind.JOBS):
            key = _key(generation, id_)
            before = self.raw("heads", key), self.raw("texts", key)
            if before == (head, text):
                changes.append(Change.UNCHANGED)
                continue
            self._put("heads", key, head)
            self._put("texts", key, text)
            changes.append(Change.CREATED if before[0] is None else Change.UPDATED)
        return self._noted(changes[0], id_)

    def close_job(self, id_: int) -> Change:
        """Mark a job as closed."""
        changes = []
        for generation in self.meta.targets(ItemKind.JOBS):
            key = _key(generation, id_)
            value = self.raw("heads", key)
            if value is None:
                changes.append(Change.MISSING)
                continue
            closed = encode(msgspec.structs.replace(as_head(value), closed=True))
            self._put("heads", key, closed)
            changes.append(Change.UNCHANGED if closed == value else Change.UPDATED)
        return self._noted(changes[0], id_)

    def remove_job(self, id_: int) -> Change:
        """Take a job out."""
        changes = []
        for generation in self.meta.targets(ItemKind.JOBS):
            key = _key(generation, id_)
            self._delete("texts", key)
            is_removed = self._delete("heads", key)
            changes.append(Change.REMOVED if is_removed else Change.MISSING)
        return self._noted(changes[0], id_)

    def put_user(self, id_: int, value: bytes) -> Change:
        """Put a person, who is not erased any more."""
        changes = []
        for generation in self.meta.targets(ItemKind.USERS):
            key = _key(generation, id_)
            before = self.raw("users", key)
            self._put("users", key, value)
            changes.append(
                Change.CREATED
                if before is None
                else Change.UNCHANGED
                if before == value
                else Change.UPDATED
            )
        self.is_touched |= self._delete("erased", hashed(id_, self.meta.erasing_key))
        self.is_touched |= changes[0] is not Change.UNCHANGED
        return changes[0]

    def erase_user(self, id_: int, stamp: bytes) -> Change:
        """Take a person out, and all that an import noted of them."""
        changes = []
        for generation in self.meta.targets(ItemKind.USERS):
            is_removed = self._delete("users", _key(generation, id_))
            self._delete("lines", _line(ItemKind.USERS, generation, id_))
            changes.append(Change.REMOVED if is_removed else Change.MISSING)
        self._put("erased", hashed(id_, self.meta.erasing_key), stamp)
        self.is_touched = True
        return changes[0]

    def import_job(self, job: Job, staged: _Staged) -> None:
        """Take a job of a file."""
        values = {"heads": encode(Head.of(job)), "texts": encode(job.description)}
        self._import(ItemKind.JOBS, job.id, values, staged)

    def import_user(self, user: User, staged: _Staged) -> None:
        """Take a person of a file, unless they were erased."""
        if self.raw("erased", hashed(user.id, self.meta.erasing_key)) is None:
            values = {"users": encode(Person.of(user))}
            self._import(ItemKind.USERS, user.id, values, staged)

    def keep_own(self, kind: ItemKind, live: int, new: int, ids: Iterable[int]) -> None:
        """Take over what is live and came by no import, unless it was removed meanwhile."""
        for id_ in ids:
            for table in _TABLES_OF[kind]:
                value = self.raw(table, _key(live, id_))
                if value is not None and self.raw(table, _key(new, id_)) is None:
                    self._put(table, _key(new, id_), value)

    def sweep(self, most: int) -> bool:
        """Remove some items that no generation in use holds; tell whether there may be more."""
        for table in ("heads", "texts", "users", "lines"):
            with self._transaction.cursor(db=self._tables[table]) as cursor:
                is_there = cursor.first()
                while is_there:
                    key = cursor.key()
                    prefix, kind = key[:-8], _kind_of(table, key)
                    if int.from_bytes(prefix[-4:]) in self.meta.targets(kind):
                        is_there = cursor.set_range(
                            (int.from_bytes(prefix) + 1).to_bytes(len(prefix))
                        )
                        continue
                    for _ in range(most):
                        if not cursor.delete() or not cursor.key().startswith(prefix):
                            break
                    return True
        return False

    def _import(
        self, kind: ItemKind, id_: int, values: Mapping[str, bytes], staged: _Staged
    ) -> None:
        digest = digest_of(*values.values())
        live = self.meta.generations[kind]
        target = staged.generations.get(kind, live)
        if target != live and self.raw("lines", _line(kind, live, id_)) == digest:
            # As it was imported before: what became of it since counts
            for table in values:
                value = self.raw(table, _key(live, id_))
                if value is None:
                    self._delete(table, _key(target, id_))
                else:
                    self._put(table, _key(target, id_), value)
        else:
            for table, value in values.items():
                key = _key(target, id_)
                if target == live and self.raw(table, key) != value:
                    self.is_touched = True
                    if kind is ItemKind.JOBS:
                        self._jobs.add(id_)
                self._put(table, key, value)
        self._put("lines", _line(kind, target, id_), digest)

    def _noted(self, change: Change, job_id: int) -> Change:
        if change not in {Change.UNCHANGED, Change.MISSING}:
            self.is_touched = True
            self._jobs.add(job_id)
        return change

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._tables[table])

    def _delete(self, table: str, key: bytes) -> bool:
        return self._transaction.delete(key, db=self._tables[table])


_FIRST_TABLE = {ItemKind.JOBS: "heads", ItemKind.USERS: "users"}
_TABLES_OF = {ItemKind.JOBS: ("heads", "texts"), ItemKind.USERS: ("users",)}
_KIND_BYTES = {ItemKind.JOBS: b"j", ItemKind.USERS: b"u"}


def _key(generation: int, id_: int) -> bytes:
    return (generation << 64 | id_).to_bytes(12)


def _line(kind: ItemKind, generation: int, id_: int) -> bytes:
    return _KIND_BYTES[kind] + _key(generation, id_)


def _kind_of(table: str, key: bytes) -> ItemKind:
    is_of_users = table == "users" or (table == "lines" and key.startswith(b"u"))
    return ItemKind.USERS if is_of_users else ItemKind.JOBS


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> CatalogUnavailable:
    return CatalogUnavailable(f"the catalogue cannot be used: {error}")
