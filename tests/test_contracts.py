"""Every port's contract, on its adapter and on its fake."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from adapters.jsonl import JsonlActivityLog, JsonlCatalog
from adapters.live_log import JsonlRecentActivities
from adapters.lmdb_catalog import LmdbCatalog
from adapters.runs import FileLease, SqliteTrainingRuns
from adapters.snapshots import DirectorySnapshotStore
from tests.contracts import (
    ActivityLogContract,
    CatalogContract,
    CatalogStoreContract,
    RecentActivitiesContract,
    SnapshotStoreContract,
    TrainingRunsContract,
)
from tests.fakes import (
    Event,
    FakeActivityLog,
    FakeCatalog,
    FakeLease,
    FakeRecentActivities,
    FakeSnapshotStore,
    FakeTrainingRuns,
    ManualClock,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from domain.model import Job, User
    from domain.ports import (
        ActivityLog,
        CatalogStore,
        Lease,
        RecentActivities,
        SnapshotStore,
        TrainingRuns,
    )
    from tests.contracts import EditableCatalog


class TestFakeActivityLog(ActivityLogContract):
    def log_of(self, events: Sequence[Event]) -> ActivityLog:
        return FakeActivityLog(events)


class TestJsonlActivityLog(ActivityLogContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def log_of(self, events: Sequence[Event]) -> ActivityLog:
        lines = [
            json.dumps(
                {"job_id": event.job_id, "user_id": event.user_id, "type": event.kind.word}
                # Only NaN differs from itself
                | ({"timestamp": event.timestamp} if event.timestamp == event.timestamp else {})
            )
            for event in events
        ]
        (self.folder / "activities.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return JsonlActivityLog(self.folder)


class TestFakeRecentActivities(RecentActivitiesContract):
    def recent(self) -> RecentActivities:
        return FakeRecentActivities()


class TestJsonlRecentActivities(RecentActivitiesContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def recent(self) -> RecentActivities:
        return JsonlRecentActivities(self.folder)

    def again(self, recent: RecentActivities) -> RecentActivities:  # noqa: ARG002 - it shares the file
        return JsonlRecentActivities(self.folder)


class _EditableFake:
    def __init__(self, jobs: Iterable[Job], users: Iterable[User]) -> None:
        self.catalog = FakeCatalog(jobs, users)
        self._ids = {job.id for job in jobs}

    def replace(self, jobs: Iterable[Job]) -> None:
        jobs = list(jobs)
        self.catalog.remove(*self._ids)
        self.catalog.put(*jobs)
        self._ids = {job.id for job in jobs}


class TestFakeCatalog(CatalogContract):
    def editable(self, jobs: Sequence[Job], users: Sequence[User] = ()) -> EditableCatalog:
        return _EditableFake(jobs, users)


class _EditableJsonl:
    def __init__(self, folder: Path, jobs: Iterable[Job], users: Iterable[User]) -> None:
        self._path = folder / "jobs.jsonl"
        self._age = 1_000_000_000
        self._write(jobs)
        records = [{"user_id": user.id, **asdict(user)} for user in users]
        (folder / "users.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in records))
        self.catalog = JsonlCatalog(folder)

    def replace(self, jobs: Iterable[Job]) -> None:
        self._write(jobs)
        self.catalog.refresh()

    def _write(self, jobs: Iterable[Job]) -> None:
        rows = [{"job_id": job.id, **asdict(job)} for job in jobs]
        lines = [f"{json.dumps(row, default=lambda moment: moment.isoformat())}\n" for row in rows]
        self._path.write_text("".join(lines))
        # Two writings within one tick of the file system's clock must differ, too
        self._age += 1_000_000_000
        os.utime(self._path, ns=(self._age, self._age))


class TestJsonlCatalog(CatalogContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def editable(self, jobs: Sequence[Job], users: Sequence[User] = ()) -> EditableCatalog:
        return _EditableJsonl(self.folder, jobs, users)


class _EditableLmdb:
    def __init__(self, folder: Path, jobs: Iterable[Job], users: Iterable[User]) -> None:
        self.catalog = LmdbCatalog(folder)
        self.catalog.upsert_users(list(users))
        self._ids: list[int] = []
        self.replace(jobs)

    def replace(self, jobs: Iterable[Job]) -> None:
        jobs = list(jobs)
        self.catalog.remove_jobs(self._ids)
        self.catalog.upsert_jobs(jobs)
        self._ids = [job.id for job in jobs]


class TestLmdbCatalog(CatalogContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def editable(self, jobs: Sequence[Job], users: Sequence[User] = ()) -> EditableCatalog:
        return _EditableLmdb(self.folder / str(len(list(self.folder.iterdir()))), jobs, users)


class TestFakeCatalogStore(CatalogStoreContract):
    @pytest.fixture
    def store(self) -> CatalogStore:
        return FakeCatalog()


class TestLmdbCatalogStore(CatalogStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> CatalogStore:
        return LmdbCatalog(tmp_path)


class TestFakeSnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self) -> SnapshotStore:
        return FakeSnapshotStore()


class TestDirectorySnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SnapshotStore:
        return DirectorySnapshotStore(tmp_path / "state" / "models")


class TestFakeTrainingRuns(TrainingRunsContract):
    @pytest.fixture
    def runs(self, clock: ManualClock) -> TrainingRuns:
        return FakeTrainingRuns(clock)

    def inherited(self, lease: Lease) -> Lease:
        assert isinstance(lease, FakeLease)
        return lease.inherited()


class TestSqliteTrainingRuns(TrainingRunsContract):
    @pytest.fixture
    def runs(self, tmp_path: Path, clock: ManualClock) -> TrainingRuns:
        return SqliteTrainingRuns(tmp_path / "state", clock)

    def inherited(self, lease: Lease) -> Lease:
        # A duplicate shares the open file, as a child's inherited descriptor does
        return FileLease(os.dup(lease.fileno()))
