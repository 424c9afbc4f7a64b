"""Training runs in SQLite, and the right to train as a file lock.

The lock is held by the open file that a training process inherits. It ends when that process
does, however it ends; so a run that has not ended while nobody holds the lock has lost its
process. Every decision about it is taken inside a write transaction, one process at a time.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from domain.errors import (
    RecordsUnavailable,
    RunMissing,
    SnapshotError,
    TrainingCancelled,
    TrainingError,
)
from domain.ports import Begun, Busy, Clock, KeyReused, Lease, Replayed, TrainingRuns
from domain.runs import FailureKind, RunRequest, RunStatus, TrainingPhase, TrainingRun

# Made before there are threads: msgspec shows what it knows of a type to others before it is whole,
# and the first two that decoded at once crashed the process
_decode = msgspec.json.Decoder(TrainingRun).decode

_PATIENCE = 30.0
"""Seconds to wait for other processes that use the database."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    idempotency_key TEXT UNIQUE,
    is_final INTEGER NOT NULL,
    record BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS changes (
    run_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run_id, revision)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS active_runs ON runs (is_final) WHERE is_final = 0;
"""


_STEPS_KEPT = 100
"""Of so many of the newest runs every step is kept, of older ones how they ended."""

_FORGET_STEPS = """
DELETE FROM changes WHERE run_id IN (
    SELECT id FROM runs ORDER BY sequence DESC LIMIT -1 OFFSET ?
) AND EXISTS (
    SELECT 1 FROM changes AS later
    WHERE later.run_id = changes.run_id AND later.revision > changes.revision
)
"""


class FileLease(Lease):
    """The right to train, as a locked open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> FileLease | None:
        """Lock the file, or return None where another process holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def fileno(self) -> int:
        """Return the descriptor that a child process may inherit."""
        return self._descriptor

    def close(self) -> None:
        """Give this process's hold up; a child that inherited the file keeps its own."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SqliteTrainingRuns(TrainingRuns):
    """The runs of one state directory, which all processes of a machine may use.

    Args:
        folder: holds the database and the lock.
        clock: tells the time of what is recorded.
        live: returns the live version, which tells how a run ended that could not say so.
    """

    def __init__(
        self, folder: Path, clock: Clock, live: Callable[[], str | None] = lambda: None
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._live = live
        self._is_prepared = False

    def begin(
        self, request: RunRequest, requested_by: str, idempotency_key: str | None
    ) -> Begun | Replayed | Busy | KeyReused:
        """Take a request; see the port."""
        with self._writing() as database:
            if idempotency_key is not None:
                known = _select(database, "idempotency_key = ?", idempotency_key)
                if known:
                    same = known[0].request == request
                    return Replayed(known[0]) if same else KeyReused(known[0])
            lease = self._lease(database)
            if isinstance(lease, TrainingRun):
                return Busy(lease)
            try:
                self._fail_lost(database)
                return Begun(self._insert(database, request, requested_by, idempotency_key), lease)
            except BaseException:
                lease.close()
                raise

    def _insert(
        self,
        database: sqlite3.Connection,
        request: RunRequest,
        requested_by: str,
        idempotency_key: str | None,
    ) -> TrainingRun:
        now = self._clock()
        run = TrainingRun(
            id=f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}",
            status=RunStatus.QUEUED,
            phase=TrainingPhase.WAITING,
            requested_at=now,
            requested_by=requested_by,
            request=request,
            idempotency_key=idempotency_key,
        )
        database.execute(
            "INSERT INTO runs (id, idempotency_key, is_final, record) VALUES (?, ?, 0, ?)",
            (run.id, idempotency_key, msgspec.json.encode(run)),
        )
        return _store(database, run)

    def get(self, run_id: str) -> TrainingRun:
        """Return a run; see the port."""
        with self._open() as database:
            return _one(database, run_id)

    def changes(self, run_id: str, after: int) -> list[TrainingRun]:
        """Return every state of a run of a revision above `after`; see the port."""
        with self._open() as database:
            _one(database, run_id)
            rows = database.execute(
                "SELECT record FROM changes WHERE run_id = ? AND revision > ? ORDER BY revision",
                (run_id, after),
            )
            return [_decode(record) for (record,) in rows]

    def recent(self, count: int) -> list[TrainingRun]:
        """Return the newest runs, newest first."""
        with self._open() as database:
            return _select(database, "1 ORDER BY sequence DESC LIMIT ?", count)

    def update(self, run_id: str, **changes: Any) -> TrainingRun:  # noqa: ANN401 - a run's fields differ in type
        """Change fields of a run that has not ended; see the port."""
        with self._writing() as database:
            run = _one(database, run_id)
            if run.status.is_final:
                raise TrainingCancelled(f"run {run_id} has ended: {run.status}")
            return _store(database, replace(run, **changes))

    def cancel(self, run_id: str) -> tuple[TrainingRun, bool]:
        """End a run as cancelled; see the port."""
        with self._writing() as database:
            run = _one(database, run_id)
            if not run.can_be_cancelled:
                return run, False
            ended = replace(
                run,
                status=RunStatus.CANCELLED,
                phase=TrainingPhase.ENDED,
                finished_at=self._clock(),
            )
            return _store(database, ended), True

    def reap(self) -> list[TrainingRun]:
        """Mark runs whose process is gone as failed; see the port."""
        with self._open() as database:
            if not _select(database, "is_final = 0"):
                return []
        with self._writing() as database:
            lease = FileLease.take(self._lock_path)
            if lease is None:
                return []
            with closing(lease):
                return self._fail_lost(database)

    def _lease(self, database: sqlite3.Connection) -> FileLease | TrainingRun:
        """Take the right to train, or return the run that holds it.

        A process holds the right a moment longer than its run lasts, and longer still where its
        run was cancelled while it was busy: a process that does not stop is killed after ten
        seconds. Nearly so long it is waited for.
        """
        for _ in range(990):
            lease = FileLease.take(self._lock_path)
            if lease is not None:
                return lease
            active = _select(database, "is_final = 0")
            if active:
                return active[0]
            time.sleep(0.01)
        latest = _select(database, "1 ORDER BY sequence DESC LIMIT 1")
        if not latest:
            raise TrainingError(f"{self._lock_path} is locked, but by no training run")
        return latest[0]

    def _fail_lost(self, database: sqlite3.Connection) -> list[TrainingRun]:
        """End all active runs; the caller holds the right to train, so nobody else does."""
        return [_store(database, self._lost(run)) for run in _select(database, "is_final = 0")]

    def _lost(self, run: TrainingRun) -> TrainingRun:
        """Return how a run ended whose process is gone: it succeeded if its model is live."""
        ended = replace(run, phase=TrainingPhase.ENDED, finished_at=self._clock())
        try:
            is_live = run.model_version is not None and run.model_version == self._live()
        except SnapshotError:
            is_live = False
        if is_live:
            return replace(ended, status=RunStatus.SUCCEEDED, promoted=True)
        return replace(
            ended,
            status=RunStatus.FAILED,
            failure_kind=FailureKind.PROCESS,
            failure="its process ended before the run did: "
            "it was killed, ran out of memory, or the machine restarted",
        )

    @property
    def _lock_path(self) -> Path:
        return self._folder / "training.lock"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self._folder / "runs.sqlite3"
        try:
            # Notes and names of callers are nobody else's business
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsUnavailable(f"{path} cannot be used: {error}") from error
        try:
            # No implicit transactions: they are begun by name, where they are needed
            with closing(
                sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            ) as database:
                if not self._is_prepared:
                    self._prepare(database)
                # Steps of a run come often; losing the last of them to a power cut tells no lie
                database.execute("PRAGMA synchronous = NORMAL")
                yield database
        except sqlite3.Error as error:
            raise RecordsUnavailable(f"{path} cannot be used: {error}") from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Make the tables; the change to WAL does not wait for other processes by itself."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(_SCHEMA)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                self._is_prepared = True
                return

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                # What a full disk interrupts is rolled back already
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise


def _select(database: sqlite3.Connection, condition: str, *values: object) -> list[TrainingRun]:
    rows = database.execute(f"SELECT record FROM runs WHERE {condition}", values)  # noqa: S608 - conditions are constants of this module
    return [_decode(record) for (record,) in rows]


def _one(database: sqlite3.Connection, run_id: str) -> TrainingRun:
    found = _select(database, "id = ?", run_id)
    if not found:
        raise RunMissing(f"there is no training run {run_id[:100]!r}")
    return found[0]


def _store(database: sqlite3.Connection, run: TrainingRun) -> TrainingRun:
    run = replace(run, revision=run.revision + 1)
    record = msgspec.json.encode(run)
    database.execute(
        "UPDATE runs SET record = ?, is_final = ? WHERE id = ?",
        (record, run.status.is_final, run.id),
    )
    database.execute("INSERT INTO changes VALUES (?, ?, ?)", (run.id, run.revision, record))
    if run.status.is_final:
        database.execute(_FORGET_STEPS, (_STEPS_KEPT,))
    return run
