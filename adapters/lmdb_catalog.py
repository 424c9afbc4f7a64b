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
from typing import Any, NamedTuple, TypeVar

import lmdb
import msgspec
import numpy as np

from adapters.catalog_records import (
    Head,
    Person,
    as_head,
    as_person,
    as_text,
    digest_of,
    encode,
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
        return {
            id_: as_head(heads[id_]).job(id_, as_text(texts[id_]) if texts else None)
            for id_ in wanted
            if id_ in heads
        }

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

    def employers(self, job_ids: IdArray) -> IndexArray:
        """Return a number for each job's employer; see the port."""
        return self._index().employers(job_ids)

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
            keys = [hashed(id_, view.meta.erasing_key) for id_ in user_ids.tolist()]
            for position, key in enumerate(keys):
                if (value := view.raw("erased", key)) is not None:
                    found[position] = np.frombuffer(value, np.float64)[0]
        return found

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
        """Go live; see the port."""

        def change(edit: _Edit) -> bool:
            staged, before = edit.staged(), edit.meta.generations
            if not staged.full:
                edit.set(staged=None)
                return staged.changed
            for kind, generation in staged.generations.items():
                edit.keep_own(ItemKind(kind), before[kind], generation)
            is_same = all(
                edit.is_same(ItemKind(kind), before[kind], generation)
                for kind, generation in staged.generations.items()
            )
            edit.set(imported=staged.source, staged=None)
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
        """Give free space back to the disk; return the bytes that it took and takes.

        Raises:
            InputError: another process uses the store, and would go on with the old file.
            CatalogUnavailable: the store or the disk does not answer.
        """
        with _translated():
            environment = self._environment()
            data = self._folder / "data.mdb"
            before = data.stat().st_size
            target = self._folder / "compact"
            shutil.rmtree(target, ignore_errors=True)  # left by a process that was killed
            target.mkdir()
            with environment.alone():
                with environment.shared() as opened:
                    opened.copy(str(target), compact=True)
                (target / "data.mdb").replace(data)
                # Whoever waited to open the store opens the new file
                environment.give_up()
            self._opened = None
            target.rmdir()
            return before, data.stat().st_size

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
        """Carry a change out in a transaction; all is done again after a full map has grown."""
        with _translated():
            environment = self._environment()
            while True:
                try:
                    with environment.writing() as transaction:
                        edit = _Edit(transaction, environment.tables)
                        outcome = change(edit)
                        edit.save()
                except lmdb.MapFullError:
                    environment.resize(grow=True)
                except lmdb.MapResizedError:
                    environment.resize(grow=False)
                else:
                    return outcome

    @contextmanager
    def _reading(self) -> Iterator[_View]:
        with _translated():
            environment = self._environment()
            with environment.reading() as transaction:
                yield _View(transaction, environment.tables)

    def _environment(self) -> _Environment:
        opened = self._opened
        if opened is None or not opened.is_open or opened.process != os.getpid():
            if opened is not None and opened.is_open:
                # A child of fork gives its copies up; the parent's locks are none of them
                opened.give_up()
            opened = self._opened = _Environment.of(self._folder, self._map_bytes)
        return opened


_TABLES = ("meta", "heads", "texts", "users", "lines", "log", "erased")
_META = b"meta"


class _Environment:
    """The store as this process has opened it, once for all who use it.

    Its map may only change its size while no transaction of this process is open.
    """

    def __init__(self, folder: Path, map_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.process = os.getpid()
        self.is_open = True
        in_use = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT)
        self._let_go = weakref.finalize(self, os.close, in_use)
        # Held by all who have the store open; whoever exchanges its file holds it alone
        fcntl.flock(in_use, fcntl.LOCK_SH)
        self._in_use = in_use
        data = folder / "data.mdb"
        held = data.stat().st_size if data.exists() else 0
        self._environment = lmdb.open(
            str(folder),
            map_size=max(map_bytes, held),
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
        key = os.getpid(), str(folder.resolve())
        with _OPENING:
            opened = _OPEN.get(key)
            if opened is None or not opened.is_open:
                opened = _OPEN[key] = cls(folder, map_bytes)
        return opened

    def give_up(self) -> None:
        """Close it, in this process; whoever asks next opens it anew."""
        self.is_open = False
        self._environment.close()
        self._let_go()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from opening the store.

        Raises:
            InputError: one has it open.
        """
        try:
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError("another process uses the catalogue; stop it first") from error
        try:
            yield
        finally:
            if self.is_open:
                fcntl.flock(self._in_use, fcntl.LOCK_SH)

    @contextmanager
    def shared(self) -> Iterator[lmdb.Environment]:
        """Hand the environment out; its map keeps its size meanwhile."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_resizing)
            self._users += 1
        try:
            yield self._environment
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Hand out a transaction that changes something, one at a time of all processes."""
        with self.shared() as opened, opened.begin(write=True) as transaction:
            yield transaction

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Hand out a transaction that sees one state, whatever happens meanwhile."""
        while True:
            with self.shared() as opened:
                try:
                    transaction = opened.begin()
                except lmdb.MapResizedError:
                    transaction = None
                if transaction is not None:
                    with transaction:
                        yield transaction
                    return
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

    def items(self, table: str, generation: int) -> Iterator[tuple[int, bytes]]:
        """Yield all of a generation, by id."""
        prefix = generation.to_bytes(4)
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(prefix):
                for key, value in cursor:
                    if not key.startswith(prefix):
                        return
                    yield int.from_bytes(key[4:]), value

    def ids(self, table: str, generation: int) -> Iterator[int]:
        """Yield the ids of a generation."""
        prefix = generation.to_bytes(4)
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if not key.startswith(prefix):
                        return
                    yield int.from_bytes(key[4:])

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

    def staged(self) -> _Staged:
        """Return the import under way.

        Raises:
            CatalogUnavailable: another has taken its place.
        """
        if self.meta.staged is None:
            raise CatalogUnavailable("the import was ended by another one")
        return self.meta.staged

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

    def keep_own(self, kind: ItemKind, live: int, staged: int) -> None:
        """Take over what is live and came by no import."""
        for id_ in list(self.ids(_FIRST_TABLE[kind], live)):
            if self.raw("lines", _line(kind, live, id_)) is not None:
                continue
            for table in _TABLES_OF[kind]:
                value = self.raw(table, _key(live, id_))
                if value is not None and self.raw(table, _key(staged, id_)) is None:
                    self._put(table, _key(staged, id_), value)

    def is_same(self, kind: ItemKind, one: int, other: int) -> bool:
        """Tell whether two generations hold the same, and by the same lines."""
        pairs = [(table, one, other) for table in _TABLES_OF[kind]]
        return all(
            held == theirs
            for table, *generations in pairs
            for held, theirs in zip_longest(
                *(self.items(table, generation) for generation in generations)
            )
        )

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
        raise CatalogUnavailable(f"the catalogue cannot be used: {error}") from error
