"""What every implementation of a port must do: one suite a port, run on adapters and fakes.

A suite becomes tests by a subclass `Test...` that says how to make the thing under test.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest

from application.importing import Importing, Source
from domain.errors import (
    InputError,
    RunMissing,
    SnapshotError,
    SnapshotMissing,
    TrainingCancelled,
)
from domain.model import MAX_ID, Activity, ActivityKind, Job, JobFilter, TimeWindow, User
from domain.ports import (
    Begun,
    Busy,
    CatalogImport,
    CatalogStore,
    Change,
    ItemKind,
    JobCursor,
    KeyReused,
    Replayed,
    nobody,
)
from domain.runs import Manifest, RunRequest, RunStatus, TrainingPhase, TrainingRun
from tests.fakes import Event, ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from domain.model import IdArray
    from domain.ports import (
        ActivityLog,
        Arrays,
        Catalog,
        JobPage,
        Lease,
        RecentActivities,
        SnapshotStore,
        TrainingRuns,
    )

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NO_FILTER = JobFilter()


def at(hours: float) -> datetime:
    return START + hours * HOUR


class ActivityLogContract:
    """How activities are counted."""

    @abstractmethod
    def log_of(self, events: Sequence[Event]) -> ActivityLog:
        """Return a log that holds these events, in this order."""

    def test_activities_are_counted_by_person_job_and_kind(self) -> None:
        events = [
            Event(2, 7, ActivityKind.APPLY, 30.0),
            Event(1, 9, ActivityKind.IMPRESSION, 20.0),
            Event(2, 7, ActivityKind.IMPRESSION, 10.0),
            Event(2, 7, ActivityKind.IMPRESSION, 40.0),
            Event(1, 3, ActivityKind.REDIRECT, 50.0),
        ]

        tally, _ = self.log_of(events).tally(TimeWindow(), nobody)

        assert list(zip(tally.user_ids, tally.job_ids, strict=True)) == [(1, 3), (1, 9), (2, 7)]
        assert [dict(_counted(row)) for row in tally.counts.tolist()] == [
            {ActivityKind.REDIRECT: 1},
            {ActivityKind.IMPRESSION: 1},
            {ActivityKind.IMPRESSION: 2, ActivityKind.APPLY: 1},
        ]
        assert tally.first_at.tolist() == [50.0, 20.0, 10.0]
        assert tally.last_at.tolist() == [50.0, 20.0, 40.0]

    def test_every_kind_has_a_count_of_its_own(self) -> None:
        events = [Event(1, 1, kind) for kind in ActivityKind for _ in range(kind + 1)]

        tally, _ = self.log_of(events).tally(TimeWindow(), nobody)

        assert tally.counts.tolist() == [[kind + 1 for kind in ActivityKind]]

    def test_the_account_adds_up(self) -> None:
        events = [Event(1, 1, timestamp=at(hour).timestamp()) for hour in range(5)]

        tally, report = self.log_of(events).tally(TimeWindow(at(1), at(3)), nobody)

        assert report.read == report.used == 5
        assert report.rejected_total == 0
        assert report.outside == 3
        assert report.used - report.outside == tally.total()

    @pytest.mark.parametrize(
        ("window", "inside"),
        [
            (TimeWindow(), [1, 2, 3, 4, 5]),
            (TimeWindow(since=at(1)), [2, 3, 4]),
            (TimeWindow(until=at(2)), [1, 2]),
            (TimeWindow(at(1), at(2)), [2]),
            (TimeWindow(at(1), at(2) + timedelta(microseconds=1)), [2, 3]),
            (TimeWindow(since=at(9)), []),
        ],
    )
    def test_a_window_holds_since_but_not_until_and_nothing_without_a_time(
        self, window: TimeWindow, inside: list[int]
    ) -> None:
        events = [
            Event(1, 1, timestamp=at(0).timestamp()),
            Event(1, 2, timestamp=at(1).timestamp()),
            Event(1, 3, timestamp=at(2).timestamp()),
            Event(1, 4, timestamp=at(3).timestamp()),
            Event(1, 5),
        ]

        tally, report = self.log_of(events).tally(window, nobody)

        assert inside == tally.job_ids.tolist()
        assert len(events) - len(inside) == report.outside

    def test_an_activity_without_a_time_leaves_the_times_of_its_pair_alone(self) -> None:
        events = [Event(1, 1, timestamp=5.0), Event(1, 1), Event(1, 2)]

        tally, _ = self.log_of(events).tally(TimeWindow(), nobody)

        assert tally.counts.sum(axis=1).tolist() == [2, 1]
        assert tally.first_at[0] == tally.last_at[0] == 5.0
        assert math.isnan(tally.first_at[1])
        assert math.isnan(tally.last_at[1])

    def test_the_largest_ids_are_kept_exactly(self) -> None:
        largest = 2**63 - 1

        tally, _ = self.log_of([Event(largest, largest), Event(0, 0)]).tally(TimeWindow(), nobody)

        assert [0, largest] == tally.user_ids.tolist()
        assert [0, largest] == tally.job_ids.tolist()

    def test_an_empty_log_counts_nothing(self) -> None:
        tally, report = self.log_of([]).tally(TimeWindow(), nobody)

        assert len(tally) == 0
        assert report.read == report.used == report.outside == 0

    def test_progress_grows_to_the_whole(self) -> None:
        told: list[tuple[int, int]] = []

        self.log_of([Event(1, 1)] * 100).tally(TimeWindow(), lambda *step: told.append(step))

        assert sorted(told) == told
        done, total = told[-1]
        assert done == total > 0

    def test_what_watching_progress_raises_stops_the_reading(self) -> None:
        def stop(_done: int, _total: int) -> None:
            raise TrainingCancelled

        with pytest.raises(TrainingCancelled):
            self.log_of([Event(1, 1)]).tally(TimeWindow(), stop)


def _counted(row: Sequence[int]) -> Iterator[tuple[ActivityKind, int]]:
    return ((kind, count) for kind, count in zip(ActivityKind, row, strict=True) if count)


def job(id_: int, posted: float | None = None, closes: float | None = None, **more: Any) -> Job:
    """Return a job; times in hours from START."""
    return Job(
        id_,
        description="what to do",
        posted_at=None if posted is None else at(posted),
        closes_at=None if closes is None else at(closes),
        **more,
    )


# Ties in every place: at the top, in the middle, and among jobs without a date
JOBS = [
    job(11, 5),
    job(4, 5),
    job(9, 3),
    job(1, 2),
    job(8, 2),
    job(3, 2),
    job(20, -4),
    job(5),
    job(2),
]
NEWEST_FIRST = [4, 11, 9, 1, 3, 8, 20, 2, 5]


class EditableCatalog(Protocol):
    """A catalogue, and a way to change what it holds."""

    @property
    def catalog(self) -> Catalog: ...

    def replace(self, jobs: Iterable[Job]) -> None:
        """Hold these jobs instead."""


class CatalogContract:
    """How jobs and people are looked up."""

    @abstractmethod
    def editable(self, jobs: Sequence[Job], users: Sequence[User] = ()) -> EditableCatalog:
        """Return a catalogue of these jobs and people."""

    def catalog_of(self, *jobs: Job) -> Catalog:
        return self.editable(jobs).catalog

    def test_only_jobs_that_exist_are_returned(self) -> None:
        one, two = job(1, 0, 1, title="Nurse", employer="Ward", location="Leeds"), job(2)
        catalog = self.catalog_of(one, two, job(3))

        assert {2: two, 1: one} == dict(catalog.jobs([2, 1, 99, 1]))
        assert dict(catalog.jobs([])) == {}

    def test_only_people_that_exist_are_returned(self) -> None:
        ada = User(1, 2027, "state", ("English", "Welsh"), "Leeds", "Law", ("Law",), ("Arts",))
        bob = User(2)
        catalog = self.editable([], [ada, bob, User(3)]).catalog

        assert {1: ada, 2: bob} == dict(catalog.users([1, 2, 99, 2]))

    def test_coverage_tells_who_of_the_people_asked_for_is_listed(self) -> None:
        catalog = self.editable([], [User(2**63 - 1), User(3), User(1)]).catalog

        coverage = catalog.coverage(np.array([0, 1, 2, 3, 2**63 - 1]))

        assert coverage.listed.tolist() == [False, True, False, True, True]
        assert coverage.total == 3

    def test_coverage_of_nobody_and_by_nobody(self) -> None:
        nobody_listed = self.editable([]).catalog.coverage(np.array([1, 2]))
        nobody_asked = self.editable([], [User(1)]).catalog.coverage(np.empty(0, np.int64))

        assert nobody_listed.listed.tolist() == [False, False]
        assert nobody_listed.total == 0
        assert nobody_asked.listed.tolist() == []
        assert nobody_asked.total == 1

    def test_the_revision_changes_with_the_content_only(self) -> None:
        editable = self.editable([job(1)])
        before = editable.catalog.revision

        assert before == editable.catalog.revision
        editable.replace([job(1), job(2)])
        assert before != editable.catalog.revision

    def test_a_page_is_newest_first_then_by_id_and_jobs_without_a_date_come_last(self) -> None:
        page = self.catalog_of(*JOBS).page(NO_FILTER, None, None, 100)

        assert ids(page) == NEWEST_FIRST
        assert not page.has_next

    @pytest.mark.parametrize("size", range(1, len(JOBS) + 2))
    def test_walking_all_pages_meets_every_job_once(self, size: int) -> None:
        catalog = self.catalog_of(*JOBS)
        walked: list[int] = []
        cursor, pages = None, 0

        has_next = True
        while has_next and pages <= len(JOBS):
            page = catalog.page(NO_FILTER, None, cursor, size)
            walked += ids(page)
            pages += 1
            has_next = page.has_next
            assert len(page.jobs) == size or not has_next
            cursor = JobCursor.of(page.jobs[-1])

        assert walked == NEWEST_FIRST
        assert pages == math.ceil(len(JOBS) / size)

    @pytest.mark.parametrize("gone", NEWEST_FIRST)
    def test_a_cursor_stays_where_it_is_when_a_job_goes(self, gone: int) -> None:
        editable = self.editable(JOBS)
        first = editable.catalog.page(NO_FILTER, None, None, 4)
        editable.replace(job for job in JOBS if job.id != gone)

        rest = editable.catalog.page(NO_FILTER, None, JobCursor.of(first.jobs[-1]), 100)

        assert [id_ for id_ in NEWEST_FIRST[4:] if id_ != gone] == ids(rest)

    def test_a_cursor_stays_where_it_is_when_a_job_comes(self) -> None:
        editable = self.editable(JOBS)
        first = editable.catalog.page(NO_FILTER, None, None, 4)
        editable.replace([*JOBS, job(30, 9), job(0, 2), job(31, 1)])

        rest = editable.catalog.page(NO_FILTER, None, JobCursor.of(first.jobs[-1]), 100)

        assert ids(rest) == [3, 8, 31, 20, 2, 5]

    def test_a_page_can_be_narrowed_to_ids_and_to_a_filter(self) -> None:
        catalog = self.catalog_of(
            job(1, 3, title="Night Nurse"), job(2, 2, title="nurse"), job(3, 1, title="Nurses")
        )

        assert ids(catalog.page(JobFilter(title="NURSE"), None, None, 5)) == [1, 2]
        assert ids(catalog.page(JobFilter(title="nurse"), [3, 2, 77], None, 5)) == [2]
        assert ids(catalog.page(NO_FILTER, [], None, 5)) == []

    def test_there_is_no_next_page_when_nothing_further_fits(self) -> None:
        catalog = self.catalog_of(job(1, 3, title="a"), job(2, 2, title="b"), job(3, 1, title="a"))

        assert catalog.page(JobFilter(title="a"), None, None, 1).has_next
        assert not catalog.page(JobFilter(title="a"), None, None, 2).has_next
        assert not catalog.page(JobFilter(title="b"), None, None, 1).has_next

    def test_pages_and_counts_align_with_their_filters(self) -> None:
        catalog = self.catalog_of(
            job(1, 3, employer="Ward"), job(2, 2, employer="WARD"), job(3, 1, employer="Mill")
        )
        wheres = [JobFilter(employer=name) for name in ("mill", "nobody", "ward")]
        behind = JobCursor(at(3).timestamp(), 1)

        assert [ids(page) for page in catalog.pages(wheres, None, 1)] == [[3], [], [1]]
        assert [page.has_next for page in catalog.pages(wheres, None, 1)] == [False, False, True]
        assert [ids(page) for page in catalog.pages(wheres, behind, 5)] == [[3], [], [2]]
        assert catalog.counts(wheres) == [1, 0, 2]
        assert catalog.counts([]) == []

    def test_nobody_is_erased_at_first(self) -> None:
        catalog = self.editable([], [User(1)]).catalog

        assert np.isnan(catalog.erased_at(np.array([1, 2]))).tolist() == [True, True]
        assert catalog.erasures() == ""

    def test_standing_aligns_with_the_jobs_asked_for(self) -> None:
        catalog = self.catalog_of(
            job(2, -1, 1, title="open"),
            job(4, 1, 2, title="not yet"),
            job(6, -2, -1, title="closed"),
            job(8, title="without dates"),
            job(9, title="not asked for"),
        )

        standing = catalog.standing(np.array([1, 2, 4, 6, 7, 8]), START, None)

        assert standing.listed.tolist() == [False, True, True, True, False, True]
        assert standing.open.tolist() == [False, True, False, False, False, True]
        assert standing.matching is None

    def test_standing_tells_which_listed_jobs_match(self) -> None:
        catalog = self.catalog_of(job(2, title="a nurse"), job(3, title="a cook"), job(5))

        standing = catalog.standing(np.array([2, 3, 4, 5]), START, JobFilter(title="nurse"))

        assert standing.matching is not None
        assert standing.matching.tolist() == [True, False, False, False]

    def test_a_job_opens_at_its_first_moment_and_closes_at_its_last(self) -> None:
        catalog = self.catalog_of(job(1, 0, 1))
        moment = timedelta(microseconds=1)

        def is_open(when: datetime) -> bool:
            return bool(catalog.standing(np.array([1]), when, None).open[0])

        assert [is_open(when) for when in (at(0) - moment, at(0), at(1) - moment, at(1))] == [
            False,
            True,
            True,
            False,
        ]

    def test_a_job_marked_as_closed_is_not_open(self) -> None:
        catalog = self.catalog_of(job(1, -1, 9, closed=True), job(2, -1, 9))

        standing = catalog.standing(np.array([1, 2]), at(0), None)

        assert standing.listed.tolist() == [True, True]
        assert standing.open.tolist() == [False, True]
        assert catalog.jobs([1])[1].closed

    def test_standing_is_valid_until_the_next_opening_or_closing(self) -> None:
        catalog = self.catalog_of(job(1, 0, 2), job(2, 1, 4), job(3))

        def valid_until(hours: float) -> float:
            return catalog.standing(np.array([1]), at(hours), None).valid_until

        expected = [at(0), at(1), at(1), at(2), at(4)]
        assert [moment.timestamp() for moment in expected] == [
            valid_until(hours) for hours in (-1, 0, 0.5, 1, 3)
        ]
        assert valid_until(4) == math.inf

    def test_absent_are_the_other_jobs_that_are_not_closed_also_those_that_open_later(
        self,
    ) -> None:
        catalog = self.catalog_of(
            job(1), job(2, 9), job(3, 0, 5), job(4, 0, 6), job(7), job(8, closed=True), job(9)
        )

        absent = catalog.absent(np.array([1, 5, 9]), at(5), 10)

        assert absent.dtype == np.int64
        assert absent.tolist() == [2, 4, 7]
        assert catalog.absent(np.array([1, 2, 3, 4, 7, 9]), at(5), 10).tolist() == []
        assert catalog.absent(np.empty(0, np.int64), at(6), 10).tolist() == [1, 2, 7, 9]

    def test_of_too_many_absent_jobs_the_newest_are_told(self) -> None:
        catalog = self.catalog_of(job(1, 3), job(2, 9), job(3), job(4, 6), job(5, 6))

        nothing = np.empty(0, np.int64)

        assert catalog.absent(nothing, at(0), 2).tolist() == [2, 4]
        assert catalog.absent(nothing, at(0), 4).tolist() == [1, 2, 4, 5]
        assert catalog.absent(np.array([2]), at(0), 1).tolist() == [4]

    def test_jobs_of_one_employer_have_one_number_and_unknown_employers_none(self) -> None:
        catalog = self.catalog_of(
            job(1, employer="Ward & Sons"),
            job(2),
            job(3, employer="ward &  SONS"),
            job(5, employer="Mill"),
            job(6, employer=" "),
        )

        one, unknown, same, absent, other, blank = catalog.employers(np.arange(1, 7), {})

        assert one == same
        assert -1 not in {one, other}
        assert one != other
        assert {-1} == {unknown, absent, blank}
        assert catalog.employers(np.empty(0, dtype=np.int64), {}).tolist() == []

    def test_all_names_of_an_employer_have_one_number(self) -> None:
        names = ["Ward", "Mill", "Ward Ltd", "Old Ward", "Older Ward", None]
        catalog = self.catalog_of(*(job(id_, employer=name) for id_, name in enumerate(names, 1)))
        aliases = {"old ward": "ward", "older ward": "ward", "gone": "mill"}

        ward, mill, same, old, older, unknown = catalog.employers(np.arange(1, 7), aliases)

        assert ward == same == old == older
        assert len({ward, mill, unknown}) == 3
        assert unknown == -1
        # Of an employer that has no job by its own name, too
        nameless = {"old ward": "gone", "older ward": "gone"}
        ward, _, _, old, older, _ = catalog.employers(np.arange(1, 7), nameless)
        assert old == older != ward

    def test_an_employer_has_the_jobs_of_all_its_names(self) -> None:
        names = ["Ward", "Mill", "WARD Ltd.", "Old Ward", None]
        catalog = self.catalog_of(*(job(id_, employer=name) for id_, name in enumerate(names, 1)))
        own = JobFilter(employer="ward")
        every = JobFilter(employer="ward", aliases=frozenset({"old ward", "gone"}))

        assert catalog.counts([own, every]) == [2, 3]
        assert ids(catalog.page(every, None, None, 5)) == [1, 3, 4]
        standing = catalog.standing(np.arange(1, 6), at(5), every)
        assert standing.matching is not None
        assert standing.matching.tolist() == [True, False, True, True, False]

    def test_an_empty_catalogue_answers(self) -> None:
        catalog = self.catalog_of()

        standing = catalog.standing(np.array([1, 2]), START, NO_FILTER)

        assert not standing.listed.any()
        assert not standing.open.any()
        assert standing.valid_until == math.inf
        assert ids(catalog.page(NO_FILTER, None, None, 5)) == []


class CatalogStoreContract:
    """How a catalogue changes."""

    @pytest.fixture
    def store(self) -> CatalogStore:
        raise NotImplementedError

    def test_jobs_put_are_there_at_once_and_told_apart(self, store: CatalogStore) -> None:
        assert store.upsert_jobs([job(1, title="a"), job(2)]) == [Change.CREATED, Change.CREATED]
        changed = [job(1, title="b"), job(2), job(3)]
        assert store.upsert_jobs(changed) == [Change.UPDATED, Change.UNCHANGED, Change.CREATED]

        assert store.jobs([1, 2, 3]) == {item.id: item for item in changed}
        assert store.counts([JobFilter(title="a"), JobFilter(title="b")]) == [0, 1]

    def test_of_an_id_that_comes_twice_the_last_counts(self, store: CatalogStore) -> None:
        assert store.upsert_jobs([job(1, title="a"), job(1, title="b")]) == [Change.CREATED] * 2
        assert store.jobs([1])[1].title == "b"

    def test_a_closed_job_is_closed_in_every_answer(self, store: CatalogStore) -> None:
        store.upsert_jobs([job(1, 0, 9), job(2, 0, 9, closed=True)])
        assert store.standing(np.array([1]), at(1), None).open.tolist() == [True]

        assert store.close_jobs([1, 2, 3]) == [Change.UPDATED, Change.UNCHANGED, Change.MISSING]

        assert store.jobs([1])[1].closed
        assert store.standing(np.array([1]), at(1), None).open.tolist() == [False]

    def test_a_removed_job_is_gone_from_every_answer(self, store: CatalogStore) -> None:
        store.upsert_jobs([job(1), job(2)])

        assert store.remove_jobs([1, 3]) == [Change.REMOVED, Change.MISSING]

        assert set(store.jobs([1, 2])) == {2}
        assert ids(store.page(NO_FILTER, None, None, 5)) == [2]
        assert store.standing(np.array([1, 2]), START, None).listed.tolist() == [False, True]

    def test_an_erasure_is_kept_until_the_person_comes_back(self, store: CatalogStore) -> None:
        store.upsert_users([User(1, 2027), User(2)])
        before = store.revision

        assert store.erase_users([1, 7], at(3)) == [Change.REMOVED, Change.MISSING]

        assert store.revision != before
        assert set(store.users([1, 2])) == {2}
        erased = store.erased_at(np.array([1, 2, 7]))
        assert erased[[0, 2]].tolist() == [at(3).timestamp()] * 2
        assert np.isnan(erased[1])
        before = store.revision
        assert store.upsert_users([User(1)]) == [Change.CREATED]
        assert np.isnan(store.erased_at(np.array([1])))[0]
        assert store.revision != before

    def test_whoever_is_erased_or_comes_back_gives_the_erasures_another_name(
        self, store: CatalogStore
    ) -> None:
        names = [store.erasures()]
        for erased, hour in ((1, 1), (2, 1), (2, 2)):
            store.erase_users([erased], at(hour))
            names.append(store.erasures())
        store.upsert_users([User(1)])
        names.append(store.erasures())
        store.upsert_jobs([job(1)])
        assert store.erasures() == names[-1]
        assert len(set(names)) == 5
        store.upsert_users([User(2)])
        assert store.erasures() == ""

    def test_of_many_people_those_are_told_who_were_erased(self, store: CatalogStore) -> None:
        many = np.arange(1_500) * 3

        def told(people: IdArray) -> list[int]:
            ids: list[int] = people[~np.isnan(store.erased_at(people))].tolist()
            return ids

        assert told(many) == []
        store.erase_users([6, 7, 4_497], at(3))
        assert told(many) == [6, 4_497]
        store.erase_users([9], at(4))
        assert told(many) == [6, 9, 4_497]
        store.upsert_users([User(6)])
        assert told(many) == [9, 4_497]
        assert told(many[1:1_400]) == [9]

    def test_what_changed_since_a_revision_is_told_or_unknown_and_never_too_little(
        self, store: CatalogStore
    ) -> None:
        store.upsert_jobs([job(1), job(2), job(3)])
        before = store.revision
        store.close_jobs([1])
        store.upsert_users([User(7)])
        store.upsert_jobs([job(2, title="another"), job(3), job(4)])
        store.remove_jobs([4])

        assert store.changed_since(before) in ({1, 2, 4}, None)
        assert store.changed_since(store.revision) in (set(), None)
        assert store.changed_since(store.revision + 5) is None

    def test_what_changes_nothing_leaves_the_revision(self, store: CatalogStore) -> None:
        store.upsert_jobs([job(1, closed=True)])
        store.upsert_users([User(1)])
        before = store.revision

        store.upsert_jobs([job(1, closed=True)])
        store.upsert_users([User(1)])
        store.close_jobs([1, 5])
        store.remove_jobs([5])

        assert before == store.revision


class ImportedCatalog(CatalogStore, CatalogImport, Protocol):
    """A catalogue that takes files."""


class CatalogImportContract:
    """How files are taken into a catalogue."""

    @pytest.fixture
    def store(self) -> ImportedCatalog:
        raise NotImplementedError

    def test_a_full_import_takes_the_place_of_the_one_before(self, store: ImportedCatalog) -> None:
        assert imported(store, "a", Job(1, "one"), Job(2, "two"), User(1))
        assert imported(store, "b", Job(2, "two"), Job(3, "three"), User(2))

        assert titles(store) == {2: "two", 3: "three"}
        assert set(store.users([1, 2])) == {2}
        assert store.counts([JobFilter(title="one"), JobFilter(title="three")]) == [0, 1]
        assert store.imported() == "b"

    def test_the_same_again_changes_nothing(self, store: ImportedCatalog) -> None:
        imported(store, "a", Job(1, "first"), Job(1, "last"), User(1))
        before = store.revision

        assert not imported(store, "b", Job(1, "first"), Job(1, "last"), User(1))
        assert not imported(store, "c", Job(1, "last"), User(1), full=False)

        assert before == store.revision

    def test_what_was_changed_stays_until_its_line_changes(self, store: ImportedCatalog) -> None:
        imported(store, "a", *(Job(id_, f"line {id_}") for id_ in range(1, 6)), User(1), User(2))
        store.upsert_jobs([Job(1, "edited"), Job(2, "edited"), Job(9, "added")])
        store.remove_jobs([3, 4])
        store.upsert_users([User(1, 2027)])

        lines = [Job(1, "line 1"), Job(2, "new"), Job(3, "line 3"), Job(4, "new"), Job(5, "line 5")]
        imported(store, "b", *lines, User(1), User(2))

        assert titles(store) == {1: "edited", 2: "new", 4: "new", 5: "line 5", 9: "added"}
        assert store.users([1])[1].graduation_year == 2027

    @pytest.mark.parametrize("full", [True, False])
    def test_no_import_brings_back_who_was_erased(self, store: ImportedCatalog, full: bool) -> None:
        imported(store, "a", User(1), User(2))
        store.erase_users([1, 3], at(1))

        imported(store, "b", User(1, 2030), User(2), User(3), full=full)

        assert set(store.users([1, 2, 3])) == {2}

    def test_an_import_of_one_kind_leaves_the_other(self, store: ImportedCatalog) -> None:
        imported(store, "a", Job(1), User(1))
        jobs = Source("b", frozenset({ItemKind.JOBS}), lambda: iter([Job(2)]), list)

        Importing(store).run(jobs)

        assert set(store.jobs([1, 2])) == {2}
        assert set(store.users([1])) == {1}

    def test_an_import_that_fails_changes_nothing_and_goes_on_later(
        self, store: ImportedCatalog
    ) -> None:
        imported(store, "a", Job(1, "old"))

        def broken() -> Iterator[Job]:
            yield from (Job(id_, "new") for id_ in range(6_000))
            raise InputError("broken")

        with pytest.raises(InputError):
            Importing(store).run(Source("b", BOTH, broken, list))
        assert titles(store) == {1: "old"}

        whole = Source("b", BOTH, lambda: (Job(id_, "new") for id_ in range(6_001)), list)
        outcome = Importing(store).run(whole)
        assert (outcome.resumed, outcome.items) == (5_000, 6_001)
        assert store.counts([JobFilter(title="new")]) == [6_001]

    def test_what_changes_during_an_import_outlives_it(self, store: ImportedCatalog) -> None:
        imported(store, "a", Job(1, "one"), Job(2, "two"), User(1))
        store.begin("b", BOTH, full=True)
        store.extend([Job(1, "one"), User(1)])
        store.close_jobs([1, 2])
        store.upsert_jobs([Job(3, "added")])
        store.erase_users([1], at(0))
        store.extend([Job(2, "two")])
        store.finish()

        assert titles(store) == {1: "one", 2: "two", 3: "added"}
        assert store.jobs([1, 2])[1].closed
        assert store.jobs([1, 2])[2].closed
        assert not store.users([1])


BOTH = frozenset(ItemKind)


def imported(store: CatalogImport, stamp: str, *items: Job | User, full: bool = True) -> bool:
    """Import items, and tell whether that changed anything."""
    source = Source(stamp, BOTH, lambda: iter(items), list)
    return Importing(store).run(source, full=full).is_changed


def titles(store: Catalog) -> dict[int, str | None]:
    """Return the titles of those of the first ten jobs that exist."""
    return {id_: job.title for id_, job in store.jobs(range(10)).items()}


def ids(page: JobPage) -> list[int]:
    return [job.id for job in page.jobs]


ARRAYS: Arrays = {
    "factors": np.arange(12, dtype=np.float32).reshape(4, 3) / 7,
    "ids": np.array([0, 5, 2**63 - 1], dtype=np.int64),
    "kinds": np.array([1, 2, 4, 7], dtype=np.uint8),
    "indices": np.array([3, 1], dtype=np.int32),
    "empty": np.empty((0, 8), dtype=np.float32),
}


def manifest(version: str, **changes: object) -> Manifest:
    whole = Manifest(
        version=version,
        trained_at=START,
        users=3,
        jobs=4,
        activities=5,
        since=at(-2).astimezone(timezone(2 * HOUR)),
        until=at(-1) + timedelta(microseconds=1),
        seed=42,
        scoring={"weights": [1.0, 0.1, 4]},
        trainer={"name": "als", "alpha": 2.0, "iterations": 15, "nested": {"a": None}},
        metrics={"map": 0.1},
        libraries={"numpy": "2.4.6"},
    )
    return replace(whole, **changes)  # type: ignore[arg-type]  # each test knows the field


class SnapshotStoreContract:
    """How models are stored and go live."""

    @pytest.fixture
    def store(self) -> SnapshotStore:
        raise NotImplementedError

    def test_an_empty_store_has_nothing(self, store: SnapshotStore) -> None:
        assert store.manifests() == []
        assert store.live() is None
        assert store.previous() is None

    def test_what_is_opened_is_what_was_written(self, store: SnapshotStore) -> None:
        store.write(manifest("a"), ARRAYS)

        snapshot = store.open("a")

        assert manifest("a") == snapshot.manifest
        assert ARRAYS.keys() == snapshot.arrays.keys()
        for name, array in ARRAYS.items():
            assert array.dtype == snapshot.arrays[name].dtype
            assert array.shape == snapshot.arrays[name].shape
            assert array.tolist() == snapshot.arrays[name].tolist()

    def test_a_record_without_times_survives(self, store: SnapshotStore) -> None:
        record = manifest("a", since=None, until=None, metrics={}, libraries={})
        store.write(record, {})

        assert record == store.open("a").manifest

    def test_stored_arrays_cannot_be_changed(self, store: SnapshotStore) -> None:
        given = np.ones(3)
        store.write(manifest("a"), {"given": given})
        given[0] = 99

        stored = store.open("a").arrays["given"]

        assert stored.tolist() == [1.0, 1.0, 1.0]
        with pytest.raises(ValueError, match="read-only"):
            stored[0] = 2

    def test_a_version_is_written_once(self, store: SnapshotStore) -> None:
        store.write(manifest("a", seed=1), {"x": np.array([1])})

        with pytest.raises(SnapshotError, match="a exists already"):
            store.write(manifest("a", seed=2), {"x": np.array([2])})
        assert store.open("a").manifest.seed == 1
        assert store.open("a").arrays["x"].tolist() == [1]

    @pytest.mark.parametrize("version", ["none", "", "../a", "a/../a", "/a", "LIVE", "..", "a\0"])
    def test_a_version_that_is_not_there_is_missing(
        self, store: SnapshotStore, version: str
    ) -> None:
        store.write(manifest("a"), {})
        store.promote("a")

        with pytest.raises(SnapshotMissing):
            store.open(version)
        with pytest.raises(SnapshotMissing):
            store.promote(version)
        assert store.live() == "a"

    def test_manifests_come_newest_first(self, store: SnapshotStore) -> None:
        write_all(store, "20260102", "20260103", "20260101")

        assert versions(store) == ["20260103", "20260102", "20260101"]

    def test_going_back_leads_through_what_was_live_in_order(self, store: SnapshotStore) -> None:
        write_all(store, "a", "b", "c")

        seen = [(store.live(), store.previous())]
        for version in ("a", "b", "c", "b", "a"):
            store.promote(version)
            seen.append((store.live(), store.previous()))

        expected = [(None, None), ("a", None), ("b", "a"), ("c", "b"), ("b", "a"), ("a", None)]
        assert expected == seen

    def test_promoting_the_live_version_again_changes_nothing(self, store: SnapshotStore) -> None:
        write_all(store, "a", "b")
        for version in ("a", "b", "b"):
            store.promote(version)

        assert store.live() == "b"
        assert store.previous() == "a"

    def test_after_going_back_another_version_follows_the_one_gone_back_to(
        self, store: SnapshotStore
    ) -> None:
        write_all(store, "a", "b", "c")
        for version in ("a", "b", "a", "c"):
            store.promote(version)

        assert store.live() == "c"
        assert store.previous() == "a"

    def test_writing_does_not_promote(self, store: SnapshotStore) -> None:
        write_all(store, "a")
        store.promote("a")
        write_all(store, "b")

        assert store.live() == "a"

    def test_pruning_keeps_the_newest(self, store: SnapshotStore) -> None:
        write_all(store, "1", "2", "3", "4")
        store.promote("4")

        removed = store.prune(2)

        assert sorted(removed) == ["1", "2"]
        assert versions(store) == ["4", "3"]
        with pytest.raises(SnapshotMissing):
            store.open("1")

    @pytest.mark.parametrize("keep", [0, 1, 2])
    def test_pruning_never_removes_the_live_model_nor_the_one_before_it(
        self, store: SnapshotStore, keep: int
    ) -> None:
        write_all(store, "1", "2", "3", "4", "5")
        store.promote("2")
        store.promote("1")

        store.prune(keep)

        assert {"1", "2", *["5", "4"][:keep]} == set(versions(store))
        assert store.live() == "1"
        assert store.previous() == "2"

    def test_pruning_fewer_than_are_kept_removes_nothing(self, store: SnapshotStore) -> None:
        write_all(store, "1", "2")

        assert store.prune(5) == []
        assert versions(store) == ["2", "1"]

    def test_an_opened_model_outlives_its_pruning(self, store: SnapshotStore) -> None:
        write_all(store, "1", "2")
        opened = store.open("1").arrays["version"]
        store.promote("2")

        assert store.prune(1) == ["1"]

        assert opened.tolist() == [1]

    def test_a_version_whose_predecessor_was_pruned_has_an_older_one_before_it(
        self, store: SnapshotStore
    ) -> None:
        write_all(store, "3", "1", "2", "0")
        for version in ("3", "1", "2", "0"):
            store.promote(version)
        assert store.prune(1) == ["1"]
        store.promote("2")

        assert store.previous() == "3"


def write_all(store: SnapshotStore, *names: str) -> None:
    for position, version in enumerate(names, 1):
        store.write(manifest(version), {"version": np.array([position])})


def versions(store: SnapshotStore) -> list[str]:
    return [manifest.version for manifest in store.manifests()]


REQUEST = RunRequest(TimeWindow(at(-24), at(0)), note="monthly", force=True)


class TrainingRunsContract:
    """How runs are recorded, and that only one trains at a time."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(START)

    @pytest.fixture
    def runs(self, clock: ManualClock) -> TrainingRuns:
        raise NotImplementedError

    @abstractmethod
    def inherited(self, lease: Lease) -> Lease:
        """Return the hold that a child process would have that took the lease over."""

    def test_a_run_begins_queued_and_keeps_what_was_asked(self, runs: TrainingRuns) -> None:
        begun = runs.begin(REQUEST, "admin", "key")

        assert isinstance(begun, Begun)
        assert begun.run.request == REQUEST
        assert begun.run.requested_by == "admin"
        assert begun.run.idempotency_key == "key"
        assert begun.run.requested_at == START
        assert begun.run.status is RunStatus.QUEUED
        assert begun.run.phase is TrainingPhase.WAITING
        assert runs.get(begun.run.id) == begun.run
        assert begun.lease.fileno() >= 0
        begun.lease.close()

    def test_while_the_right_is_held_others_are_told_by_whom(self, runs: TrainingRuns) -> None:
        begun = begin(runs)

        answer = runs.begin(RunRequest(), "somebody", "another key")

        assert isinstance(answer, Busy)
        assert answer.run == begun.run
        assert [begun.run] == runs.recent(5)
        begun.lease.close()

    def test_after_a_run_has_ended_the_next_begins(self, runs: TrainingRuns) -> None:
        first = begin(runs)
        end(runs, first)

        second = begin(runs)

        assert second.run.id != first.run.id
        assert runs.get(first.run.id).status is RunStatus.SUCCEEDED
        second.lease.close()

    def test_an_ended_run_whose_right_is_still_held_keeps_others_out(
        self, runs: TrainingRuns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = begin(runs)
        runs.update(begun.run.id, status=RunStatus.SUCCEEDED)
        # Whoever waits for the holder to go must not wait in a test
        monkeypatch.setattr("time.sleep", lambda _seconds: None)

        answer = runs.begin(RunRequest(), "admin", None)

        assert answer == Busy(runs.get(begun.run.id))
        assert len(runs.recent(5)) == 1
        begun.lease.close()
        begin(runs).lease.close()

    def test_a_child_that_took_the_right_over_holds_it_after_its_parent_let_go(
        self, runs: TrainingRuns
    ) -> None:
        begun = begin(runs)
        child = self.inherited(begun.lease)
        begun.lease.close()

        assert isinstance(runs.begin(RunRequest(), "admin", None), Busy)
        assert runs.reap() == []
        child.close()
        assert [begun.run.id] == [run.id for run in runs.reap()]

    def test_letting_go_twice_is_harmless(self, runs: TrainingRuns) -> None:
        begun = begin(runs)
        begun.lease.close()
        again = begin(runs)
        begun.lease.close()

        assert isinstance(runs.begin(RunRequest(), "admin", None), Busy)
        again.lease.close()

    def test_the_same_request_under_the_same_key_is_the_same_run(self, runs: TrainingRuns) -> None:
        begun = begin(runs, REQUEST, "key")
        while_held = runs.begin(REQUEST, "admin", "key")
        ended = end(runs, begun)
        afterwards = runs.begin(REQUEST, "somebody else", "key")

        assert Replayed(begun.run) == while_held
        assert isinstance(afterwards, Replayed)
        assert afterwards.run.id == begun.run.id
        assert afterwards.run.status is RunStatus.SUCCEEDED
        assert afterwards.run == ended
        assert len(runs.recent(5)) == 1

    @pytest.mark.parametrize(
        "other",
        [
            replace(REQUEST, note="weekly"),
            replace(REQUEST, force=False),
            replace(REQUEST, window=TimeWindow(at(-24))),
        ],
    )
    def test_a_key_stands_for_one_request_only(self, runs: TrainingRuns, other: RunRequest) -> None:
        begun = begin(runs, REQUEST, "key")

        assert KeyReused(begun.run) == runs.begin(other, "admin", "key")
        end(runs, begun)
        assert isinstance(runs.begin(other, "admin", "key"), KeyReused)

    def test_a_key_of_the_same_times_in_another_zone_is_the_same_request(
        self, runs: TrainingRuns
    ) -> None:
        begun = begin(runs, REQUEST, "key")
        zone = timezone(2 * HOUR)
        window = TimeWindow(at(-24).astimezone(zone), at(0).astimezone(zone))

        answer = runs.begin(replace(REQUEST, window=window), "admin", "key")

        assert isinstance(answer, Replayed)
        begun.lease.close()

    def test_requests_without_a_key_are_never_taken_for_one_another(
        self, runs: TrainingRuns
    ) -> None:
        first = begin(runs)
        end(runs, first)

        second = runs.begin(RunRequest(), "admin", None)

        assert isinstance(second, Begun)
        second.lease.close()

    def test_an_unknown_run_is_missing(self, runs: TrainingRuns) -> None:
        begin(runs).lease.close()

        for ask in (runs.get, runs.update, lambda run_id: runs.changes(run_id, 0)):
            with pytest.raises(RunMissing, match="no-such-run"):
                ask("no-such-run")

    def test_runs_are_listed_newest_first(self, runs: TrainingRuns, clock: ManualClock) -> None:
        begun = []
        for _ in range(4):
            begun.append(begin(runs))
            end(runs, begun[-1])
        # A clock set back must not change the order
        clock.advance(hours=-5)
        begun.append(begin(runs))
        newest_first = [one.run.id for one in reversed(begun)]

        assert newest_first == [run.id for run in runs.recent(10)]
        assert newest_first[:2] == [run.id for run in runs.recent(2)]
        assert runs.recent(0) == []
        begun[-1].lease.close()

    def test_every_change_is_kept_in_order_without_gaps(self, runs: TrainingRuns) -> None:
        begun = begin(runs)
        states = [
            begun.run,
            *(
                runs.update(begun.run.id, phase=TrainingPhase.FITTING, step=step, total_steps=5)
                for step in range(1, 6)
            ),
            end(runs, begun),
        ]

        assert states == runs.changes(begun.run.id, 0)
        revisions = [state.revision for state in states]
        first = revisions[0]
        assert list(range(first, first + 7)) == revisions
        assert states[3:] == runs.changes(begun.run.id, revisions[2])
        assert runs.changes(begun.run.id, revisions[-1]) == []
        assert states[-1] == runs.get(begun.run.id)

    def test_the_changes_of_two_runs_are_kept_apart(self, runs: TrainingRuns) -> None:
        first = begin(runs)
        end(runs, first)
        second = begin(runs)

        assert [second.run] == runs.changes(second.run.id, 0)
        assert len(runs.changes(first.run.id, 0)) == 2
        second.lease.close()

    def test_everything_of_a_run_is_kept(self, runs: TrainingRuns) -> None:
        begun = begin(runs)
        changes = {
            "started_at": at(1),
            "finished_at": at(2) + timedelta(microseconds=1),
            "parameters": {"trainer": {"name": "als", "alpha": 2.0}, "seed": 42},
            "metrics": {"map": 0.125},
            "data_report": {"lines_read": 7, "rejected_by_cause": {"not JSON": 1}},
            "model_version": "a",
            "promoted": False,
            "refusals": ("coverage fell", "map fell"),
            "unmeasured": "nobody was left",
            "failure": "none, really",
        }

        runs.update(begun.run.id, **changes)

        kept = runs.get(begun.run.id)
        assert changes == {name: getattr(kept, name) for name in changes}
        begun.lease.close()

    @pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED])
    def test_an_ended_run_does_not_change_any_more(
        self, runs: TrainingRuns, status: RunStatus
    ) -> None:
        begun = begin(runs)
        ended = runs.update(begun.run.id, status=status)

        with pytest.raises(TrainingCancelled, match=status):
            runs.update(begun.run.id, status=RunStatus.RUNNING)
        assert ended == runs.get(begun.run.id)
        begun.lease.close()

    def test_a_run_is_cancelled_once(self, runs: TrainingRuns, clock: ManualClock) -> None:
        begun = begin(runs)
        clock.advance(hours=1)

        cancelled, by_this_call = runs.cancel(begun.run.id)

        assert by_this_call
        assert cancelled.status is RunStatus.CANCELLED
        assert cancelled.phase is TrainingPhase.ENDED
        assert cancelled.finished_at == at(1)
        assert runs.cancel(begun.run.id) == (cancelled, False)
        assert cancelled == runs.changes(begun.run.id, 1)[-1]
        begun.lease.close()

    def test_a_run_that_is_going_live_is_not_cancelled(self, runs: TrainingRuns) -> None:
        begun = begin(runs)
        going_live = runs.update(begun.run.id, phase=TrainingPhase.PROMOTING)

        assert runs.cancel(begun.run.id) == (going_live, False)
        assert end(runs, begun).status is RunStatus.SUCCEEDED

    def test_a_run_that_does_not_exist_is_not_cancelled(self, runs: TrainingRuns) -> None:
        with pytest.raises(RunMissing):
            runs.cancel("20260101T000000Z-abc")

    def test_a_run_whose_right_is_held_is_not_reaped(self, runs: TrainingRuns) -> None:
        begun = begin(runs)

        assert runs.reap() == []
        assert begun.run == runs.get(begun.run.id)
        begun.lease.close()

    def test_a_lost_run_is_reaped_once_with_a_reason(
        self, runs: TrainingRuns, clock: ManualClock
    ) -> None:
        begun = begin(runs)
        runs.update(begun.run.id, status=RunStatus.RUNNING, phase=TrainingPhase.FITTING)
        begun.lease.close()
        clock.advance(hours=1)

        (lost,) = runs.reap()

        assert lost.id == begun.run.id
        assert lost.status is RunStatus.FAILED
        assert lost.phase is TrainingPhase.ENDED
        assert lost.finished_at == at(1)
        assert lost.failure is not None
        assert "its process ended" in lost.failure
        assert lost == runs.get(begun.run.id)
        assert lost == runs.changes(begun.run.id, 2)[-1]
        assert runs.reap() == []

    def test_beginning_anew_marks_a_lost_run_as_failed(self, runs: TrainingRuns) -> None:
        lost = begin(runs)
        lost.lease.close()

        begun = begin(runs)

        assert runs.get(lost.run.id).status is RunStatus.FAILED
        assert runs.get(begun.run.id).status is RunStatus.QUEUED
        begun.lease.close()

    def test_a_lost_run_is_not_repeated_under_its_key(self, runs: TrainingRuns) -> None:
        lost = begin(runs, REQUEST, "key")
        lost.lease.close()
        runs.reap()

        answer = runs.begin(REQUEST, "admin", "key")

        assert isinstance(answer, Replayed)
        assert answer.run.status is RunStatus.FAILED
        assert len(runs.recent(5)) == 1

    def test_reaping_leaves_ended_runs_alone(self, runs: TrainingRuns) -> None:
        begun = begin(runs)
        ended = end(runs, begun)

        assert runs.reap() == []
        assert ended == runs.get(begun.run.id)


def begin(runs: TrainingRuns, request: RunRequest = RunRequest(), key: str | None = None) -> Begun:  # noqa: B008 - frozen
    begun = runs.begin(request, "admin", key)
    assert isinstance(begun, Begun), begun
    return begun


def end(runs: TrainingRuns, begun: Begun) -> TrainingRun:
    ended = runs.update(begun.run.id, status=RunStatus.SUCCEEDED, phase=TrainingPhase.ENDED)
    begun.lease.close()
    return ended


class RecentActivitiesContract:
    """What is told of the time since a model was trained."""

    @abstractmethod
    def recent(self) -> RecentActivities:
        """Return what holds nothing yet."""

    def test_what_was_recorded_is_told_of_those_asked_about(self) -> None:
        recent = self.recent()

        recent.append(
            [
                Activity(1, 7, ActivityKind.IMPRESSION, at(1)),
                Activity(2, 7, ActivityKind.APPLY, at(2)),
                Activity(1, 7, ActivityKind.DISMISS, at(3)),
            ]
        )
        tally = recent.since({}, np.array([3, 1, 1]))

        assert (tally.user_ids.tolist(), tally.job_ids.tolist()) == ([1], [7])
        assert tally.counts[0, ActivityKind.IMPRESSION] == 1
        assert tally.counts[0, ActivityKind.DISMISS] == 1
        assert tally.total() == 2
        assert tally.first_at.tolist() == [at(1).timestamp()]
        assert tally.last_at.tolist() == [at(3).timestamp()]

    def test_each_question_tells_of_all_that_came_before_it(self) -> None:
        recent = self.recent()

        for count in range(1, 4):
            recent.append([Activity(MAX_ID, 5, ActivityKind.REDIRECT, at(count))])
            assert recent.since({}, np.array([MAX_ID])).total() == count

    def test_who_is_forgotten_did_nothing_up_to_then_and_others_did_what_they_did(self) -> None:
        recent = self.recent()
        recent.forget(1, at(1))
        for user, job, day in ((1, 7, 1), (12, 8, 1), (2, 9, 2), (1, 10, 3)):
            recent.append([Activity(user, job, ActivityKind.REDIRECT, at(day))])
        everybody = np.array([1, 2, 12])
        assert recent.since({}, everybody).total() == 4

        recent.forget(1, at(2))

        recent.append([Activity(2, 11, ActivityKind.REDIRECT, at(4))])
        told = self.again(recent).since({}, everybody)
        pairs = zip(told.user_ids.tolist(), told.job_ids.tolist(), strict=True)
        assert sorted(pairs) == [(1, 10), (2, 9), (2, 11), (12, 8)]

    def again(self, recent: RecentActivities) -> RecentActivities:
        """Return what a process that starts later is told by."""
        return recent

    def test_marks_are_others_once_something_else_is_told_of_these_people(self) -> None:
        recent = self.recent()
        ours, theirs = np.array([1, 2]), np.array([3])
        marks = [recent.marks({}, ours, reading=True)]
        for user in (1, 3, 2, 1):
            other = recent.marks({}, theirs, reading=True)
            recent.append([Activity(user, 7, ActivityKind.REDIRECT, at(1))])
            assert recent.marks({}, ours, reading=False) != marks[-1] or user == 3
            marks.append(recent.marks({}, ours, reading=True))
            assert (recent.marks({}, theirs, reading=False) == other) == (user != 3)
        assert [mark == before for before, mark in pairwise(marks)] == [False, True, False, False]

    def test_nothing_is_told_where_nothing_was_recorded(self) -> None:
        assert len(self.recent().since({}, np.array([1, 2]))) == 0
