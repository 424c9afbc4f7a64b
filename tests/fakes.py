"""In-memory stand-ins for the ports, under the same contract suites as the adapters."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import numpy as np

from domain.errors import (
    CatalogUnavailable,
    RunMissing,
    SnapshotError,
    SnapshotMissing,
    TrainingCancelled,
)
from domain.model import (
    Activity,
    ActivityKind,
    ActivityTally,
    IdArray,
    IndexArray,
    Job,
    JobFilter,
    ReadReport,
    TimeArray,
    TimeWindow,
    User,
)
from domain.names import employer_key
from domain.ports import (
    JOB_FIELDS,
    ActivityLog,
    Arrays,
    Begun,
    Busy,
    CatalogStore,
    Change,
    Clock,
    Coverage,
    JobCursor,
    JobPage,
    KeyReused,
    Lease,
    OnProgress,
    RecentActivities,
    Replayed,
    Snapshot,
    SnapshotStore,
    TrainingRuns,
)
from domain.ranking import Standing
from domain.runs import Manifest, RunRequest, RunStatus, TrainingPhase, TrainingRun

T = TypeVar("T", Job, User)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
"""Where a clock starts."""


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


class Event(NamedTuple):
    """One activity; NaN where its time is unknown."""

    user_id: int
    job_id: int
    kind: ActivityKind = ActivityKind.IMPRESSION
    timestamp: float = math.nan


class FakeActivityLog(ActivityLog):
    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events = list(events)

    def tally(
        self, window: TimeWindow, on_progress: OnProgress
    ) -> tuple[ActivityTally, ReadReport]:
        times = np.array([event.timestamp for event in self.events], dtype=np.float64)
        inside = [
            event
            for event, is_inside in zip(self.events, window.contains(times), strict=True)
            if is_inside
        ]
        total = len(self.events)
        on_progress(0, total)
        on_progress(total, total)
        tally = ActivityTally.from_events(
            [event.user_id for event in inside],
            [event.job_id for event in inside],
            [int(event.kind) for event in inside],
            [event.timestamp for event in inside],
        )
        outside = total - len(inside)
        return tally, ReadReport(file="memory", read=total, used=total, outside=outside)


class FakeRecentActivities(RecentActivities):
    def __init__(self) -> None:
        self.activities: list[Activity] = []

    def append(self, activities: Sequence[Activity]) -> None:
        self.activities += activities

    def since(self, read_to: Mapping[str, Any], user_ids: IdArray) -> ActivityTally:  # noqa: ARG002 - no model has read it
        wanted = set(user_ids.tolist())
        found = [activity for activity in self.activities if activity.user_id in wanted]
        return ActivityTally.from_events(
            [activity.user_id for activity in found],
            [activity.job_id for activity in found],
            [int(activity.kind) for activity in found],
            [activity.at.timestamp() for activity in found],
        )

    def marks(
        self,
        read_to: Mapping[str, Any],  # noqa: ARG002 - as above
        user_ids: IdArray,
        *,
        reading: bool,  # noqa: ARG002 - nothing has to be read
    ) -> tuple[Hashable, ...]:
        return tuple(
            tuple(each for each in self.activities if each.user_id == user_id)
            for user_id in user_ids.tolist()
        )

    def forget(self, user_id: int, until: datetime) -> None:
        self.activities = [
            activity
            for activity in self.activities
            if activity.user_id != user_id or activity.at > until
        ]


class FakeCatalog(CatalogStore):
    """Holds what it is given; `put` and `remove` change it and its revision.

    Where `is_down` is set, nothing answers.
    """

    def __init__(self, jobs: Iterable[Job] = (), users: Iterable[User] = ()) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._users = {user.id: user for user in users}
        self._erased: dict[int, float] = {}
        self._revision = 0
        self.is_down = False

    @property
    def revision(self) -> int:
        self._answer()
        return self._revision

    def put(self, *jobs: Job) -> None:
        self._jobs.update((job.id, job) for job in jobs)
        self._revision += 1

    def remove(self, *ids: int) -> None:
        for id_ in ids:
            del self._jobs[id_]
        self._revision += 1

    def jobs(
        self,
        ids: Sequence[int],
        fields: frozenset[str] = JOB_FIELDS,  # noqa: ARG002 - all is at hand
    ) -> Mapping[int, Job]:
        self._answer()
        return {id_: self._jobs[id_] for id_ in ids if id_ in self._jobs}

    def users(self, ids: Sequence[int]) -> Mapping[int, User]:
        self._answer()
        return {id_: self._users[id_] for id_ in ids if id_ in self._users}

    def coverage(self, user_ids: IdArray) -> Coverage:
        self._answer()
        listed = [user_id in self._users for user_id in user_ids.tolist()]
        return Coverage(np.array(listed, dtype=np.bool_), len(self._users))

    def standing(self, job_ids: IdArray, at: datetime, where: JobFilter | None) -> Standing:
        self._answer()
        found = [self._jobs.get(id_) for id_ in job_ids.tolist()]
        changes = (
            moment.timestamp()
            for job in self._jobs.values()
            for moment in (job.posted_at, job.closes_at)
            if moment is not None and moment > at
        )
        return Standing(
            listed=np.array([job is not None for job in found], dtype=np.bool_),
            open=np.array([job is not None and job.is_open(at) for job in found], dtype=np.bool_),
            matching=None
            if where is None
            else np.array([job is not None and where.matches(job) for job in found], np.bool_),
            valid_until=min(changes, default=math.inf),
        )

    def absent(self, job_ids: IdArray, at: datetime, most: int) -> IdArray:
        asked = set(job_ids.tolist())
        others = [
            job
            for job in sorted(self._jobs.values(), key=_place)
            if job.id not in asked
            and not job.closed
            and (job.closes_at is None or at < job.closes_at)
        ]
        return np.array(sorted(job.id for job in others[:most]), dtype=np.int64)

    def employers(self, job_ids: IdArray, aliases: Mapping[str, str]) -> IndexArray:
        keys = [
            employer_key(self._jobs[id_].employer) if id_ in self._jobs else ""
            for id_ in job_ids.tolist()
        ]
        names = [aliases.get(key, key) for key in keys]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return np.array([numbers[name] if name else -1 for name in names], dtype=np.int64)

    def page(
        self, where: JobFilter, ids: Sequence[int] | None, after: JobCursor | None, first: int
    ) -> JobPage:
        self._answer()
        newest_first = sorted(self._jobs.values(), key=_place)
        start = 0
        if after is not None:
            start = bisect_right(newest_first, (-after.posted_at, after.job_id), key=_place)
        fitting = [
            job
            for job in newest_first[start:]
            if (ids is None or job.id in ids) and where.matches(job)
        ]
        return JobPage(fitting[:first], has_next=len(fitting) > first)

    def upsert_jobs(self, jobs: Sequence[Job]) -> list[Change]:
        return self._put(self._jobs, jobs)

    def close_jobs(self, ids: Sequence[int]) -> list[Change]:
        self._answer()
        return [
            self._put(self._jobs, [replace(self._jobs[id_], closed=True)])[0]
            if id_ in self._jobs
            else Change.MISSING
            for id_ in ids
        ]

    def remove_jobs(self, ids: Sequence[int]) -> list[Change]:
        return self._take(self._jobs, ids)

    def upsert_users(self, users: Sequence[User]) -> list[Change]:
        changes = self._put(self._users, users)
        for user in users:
            self._erased.pop(user.id, None)
        return changes

    def erase_users(self, ids: Sequence[int], at: datetime) -> list[Change]:
        changes = self._take(self._users, ids)
        self._erased.update((id_, at.timestamp()) for id_ in ids)
        self._revision += 1
        return changes

    def erased_at(self, user_ids: IdArray) -> TimeArray:
        self._answer()
        return np.array([self._erased.get(id_, math.nan) for id_ in user_ids.tolist()], np.float64)

    def erasures(self) -> str:
        self._answer()
        return str(sorted(self._erased.items())) if self._erased else ""

    def _put(self, held: dict[int, T], items: Sequence[T]) -> list[Change]:
        self._answer()
        before = dict(held)
        held.update((item.id, item) for item in items)
        self._revision += held != before
        return [
            Change.CREATED
            if item.id not in before
            else Change.UNCHANGED
            if before[item.id] == held[item.id]
            else Change.UPDATED
            for item in items
        ]

    def _take(self, held: dict[int, T], ids: Sequence[int]) -> list[Change]:
        self._answer()
        changes = [Change.MISSING if held.pop(id_, None) is None else Change.REMOVED for id_ in ids]
        self._revision += Change.REMOVED in changes
        return changes

    def _answer(self) -> None:
        if self.is_down:
            raise CatalogUnavailable("the catalogue is down")


def _place(job: Job) -> tuple[float, int]:
    return -JobCursor.of(job).posted_at, job.id


class FakeSnapshotStore(SnapshotStore):
    def __init__(self) -> None:
        self._stored: dict[str, Snapshot] = {}
        self._promoted: list[str] = []

    def write(self, manifest: Manifest, arrays: Arrays) -> None:
        if manifest.version in self._stored:
            raise SnapshotError(f"version {manifest.version} exists already")
        copies = {name: np.array(array) for name, array in arrays.items()}
        for array in copies.values():
            array.flags.writeable = False
        self._stored[manifest.version] = Snapshot(copy.deepcopy(manifest), copies)

    def open(self, version: str) -> Snapshot:
        self._check(version)
        return self._stored[version]

    def manifests(self) -> list[Manifest]:
        return [self._stored[version].manifest for version in self._newest_first()]

    def live(self) -> str | None:
        return self._promoted[-1] if self._promoted else None

    def promote(self, version: str) -> None:
        self._check(version)
        if version in self._promoted:
            del self._promoted[self._promoted.index(version) :]
        self._promoted.append(version)

    def previous(self) -> str | None:
        earlier = [version for version in self._promoted[:-1] if version in self._stored]
        return earlier[-1] if earlier else None

    def prune(self, keep: int) -> list[str]:
        kept = {self.live(), self.previous(), *self._newest_first()[:keep]}
        removed = [version for version in self._newest_first() if version not in kept]
        for version in removed:
            del self._stored[version]
        return removed

    def _newest_first(self) -> list[str]:
        return sorted(self._stored, reverse=True)

    def _check(self, version: str) -> None:
        if version not in self._stored:
            raise SnapshotMissing(f"there is no model version {version!r}")


class FakeLease(Lease):
    """One hold of a right to train, which ends with the last of its holds."""

    def __init__(self, holds: set[FakeLease]) -> None:
        self._holds = holds
        holds.add(self)

    def inherited(self) -> FakeLease:
        """Return the hold of a child process that took the lease over."""
        return FakeLease(self._holds)

    def close(self) -> None:
        self._holds.discard(self)

    def fileno(self) -> int:
        return 0


class FakeTrainingRuns(TrainingRuns):
    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or ManualClock()
        self._holds: set[FakeLease] = set()
        self._states: dict[str, list[TrainingRun]] = {}

    def begin(
        self, request: RunRequest, requested_by: str, idempotency_key: str | None
    ) -> Begun | Replayed | Busy | KeyReused:
        if idempotency_key is not None:
            for run in self._runs():
                if run.idempotency_key == idempotency_key:
                    return Replayed(run) if run.request == request else KeyReused(run)
        if self._holds:
            # A process may hold the right a moment longer than its run lasts
            return Busy((self._active() or self._runs()[::-1])[0])
        self._fail_lost()
        now = self._clock()
        run = TrainingRun(
            id=f"{now:%Y%m%dT%H%M%SZ}-{len(self._states):06x}",
            status=RunStatus.QUEUED,
            phase=TrainingPhase.WAITING,
            requested_at=now,
            requested_by=requested_by,
            request=request,
            idempotency_key=idempotency_key,
        )
        self._states[run.id] = []
        return Begun(self._store(run), FakeLease(self._holds))

    def get(self, run_id: str) -> TrainingRun:
        return self._history(run_id)[-1]

    def changes(self, run_id: str, after: int) -> list[TrainingRun]:
        return [run for run in self._history(run_id) if run.revision > after]

    def recent(self, count: int) -> list[TrainingRun]:
        return self._runs()[::-1][:count]

    def update(self, run_id: str, **changes: Any) -> TrainingRun:
        run = self.get(run_id)
        if run.status.is_final:
            raise TrainingCancelled(f"run {run_id} has ended: {run.status}")
        return self._store(replace(run, **copy.deepcopy(changes)))

    def cancel(self, run_id: str) -> tuple[TrainingRun, bool]:
        run = self.get(run_id)
        if not run.can_be_cancelled:
            return run, False
        return self.update(
            run_id,
            status=RunStatus.CANCELLED,
            phase=TrainingPhase.ENDED,
            finished_at=self._clock(),
        ), True

    def reap(self) -> list[TrainingRun]:
        return [] if self._holds else self._fail_lost()

    def _runs(self) -> list[TrainingRun]:
        return [states[-1] for states in self._states.values()]

    def _active(self) -> list[TrainingRun]:
        return [run for run in self._runs() if not run.status.is_final]

    def _history(self, run_id: str) -> list[TrainingRun]:
        if run_id not in self._states:
            raise RunMissing(f"there is no training run {run_id[:100]!r}")
        return self._states[run_id]

    def _fail_lost(self) -> list[TrainingRun]:
        return [
            self._store(
                replace(
                    run,
                    status=RunStatus.FAILED,
                    phase=TrainingPhase.ENDED,
                    finished_at=self._clock(),
                    failure="its process ended before the run did",
                )
            )
            for run in self._active()
        ]

    def _store(self, run: TrainingRun) -> TrainingRun:
        run = replace(run, revision=run.revision + 1)
        self._states[run.id].append(run)
        return run
