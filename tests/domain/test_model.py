from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InputError
from domain.model import (
    MAX_ID,
    MAX_TIMESTAMP,
    ActivityKind,
    ActivityTally,
    IdIndex,
    Interactions,
    Job,
    JobFilter,
    TimeWindow,
)
from tests.fakes import Event

if TYPE_CHECKING:
    from random import Random

ids = st.sampled_from([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32, 2**62, MAX_ID])
times = st.just(math.nan) | st.floats(0, MAX_TIMESTAMP)
events = st.lists(st.builds(Event, ids, ids, st.sampled_from(ActivityKind), times), max_size=40)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Counted(NamedTuple):
    """What a tally says of one pair."""

    counts: tuple[int, ...]
    first_at: float | None
    last_at: float | None


def tally_of(events: list[Event]) -> ActivityTally:
    return ActivityTally.from_events(
        [event.user_id for event in events],
        [event.job_id for event in events],
        [int(event.kind) for event in events],
        [event.timestamp for event in events],
    )


def rows_of(tally: ActivityTally) -> list[tuple[tuple[int, int], Counted]]:
    return [
        (
            (int(user), int(job)),
            Counted(
                tuple(counts.tolist()),
                None if math.isnan(first) else float(first),
                None if math.isnan(last) else float(last),
            ),
        )
        for user, job, counts, first, last in zip(
            tally.user_ids,
            tally.job_ids,
            tally.counts,
            tally.first_at,
            tally.last_at,
            strict=True,
        )
    ]


def counted_one_by_one(events: list[Event]) -> list[tuple[tuple[int, int], Counted]]:
    counts: dict[tuple[int, int], Counter[ActivityKind]] = defaultdict(Counter)
    known: dict[tuple[int, int], list[float]] = defaultdict(list)
    for event in events:
        pair = (event.user_id, event.job_id)
        counts[pair][event.kind] += 1
        if not math.isnan(event.timestamp):
            known[pair].append(event.timestamp)
    return [
        (
            pair,
            Counted(
                tuple(counts[pair][kind] for kind in ActivityKind),
                min(known[pair], default=None),
                max(known[pair], default=None),
            ),
        )
        for pair in sorted(counts)
    ]


@given(events)
@settings(deadline=None)
def test_a_tally_counts_like_a_dictionary(events: list[Event]) -> None:
    assert counted_one_by_one(events) == rows_of(tally_of(events))


@given(events, st.randoms())
@settings(deadline=None)
def test_the_order_of_events_does_not_matter(events: list[Event], random: Random) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)
    assert rows_of(tally_of(events)) == rows_of(tally_of(shuffled))


@given(st.lists(events, max_size=4))
@settings(deadline=None)
def test_merged_parts_are_the_tally_of_all_their_events(parts: list[list[Event]]) -> None:
    merged = ActivityTally.merged([tally_of(part) for part in parts])
    everything = [event for part in parts for event in part]
    assert rows_of(tally_of(everything)) == rows_of(merged)


def test_counts_beyond_one_byte_are_kept_when_parts_are_merged() -> None:
    part = tally_of([Event(1, 2, ActivityKind.REDIRECT)] * 300)
    merged = ActivityTally.merged([part] * 300)
    assert merged.total(ActivityKind.REDIRECT) == 90_000


def test_nothing_counted_is_a_tally_without_pairs_activities_and_times() -> None:
    empty = ActivityTally.empty()
    assert len(empty) == 0
    assert empty.total() == 0
    assert empty.time_range is None
    assert rows_of(tally_of([])) == []
    assert rows_of(ActivityTally.merged([])) == []
    assert rows_of(ActivityTally.merged([empty, empty])) == []
    full = tally_of([Event(1, 2), Event(MAX_ID, 2)])
    assert rows_of(ActivityTally.merged([empty, full, empty])) == rows_of(full)
    matrix = Interactions.from_tally(empty, np.empty(0, dtype=np.float32))
    assert matrix.shape == (0, 0)
    assert matrix.popularity().tolist() == []
    assert Interactions.from_arrays(matrix.arrays()).shape == (0, 0)


def test_nothing_left_after_choosing_is_a_matrix_without_people_and_jobs() -> None:
    tally = tally_of([Event(1, 2), Event(3, 4)])
    nothing = tally.select(np.zeros(2, dtype=np.bool_))
    assert len(nothing) == nothing.total() == 0
    assert nothing.time_range is None
    assert rows_of(ActivityTally.merged([nothing, nothing])) == []
    assert rows_of(ActivityTally.merged([nothing, tally, nothing])) == rows_of(tally)
    matrix = Interactions.from_tally(tally, np.zeros(2, dtype=np.float32))
    assert matrix.shape == (0, 0)
    assert matrix.popularity().tolist() == []


@pytest.mark.parametrize("narrow", [np.int32, np.uint32, np.int64])
def test_columns_of_any_width_are_counted_alike(narrow: type[np.integer]) -> None:
    events = [Event(7, 2**31 - 1), Event(2**31 - 1, 0), Event(7, 2**31 - 1), Event(7, 5)]
    tally = ActivityTally.from_events(
        np.array([event.user_id for event in events], dtype=narrow),
        np.array([event.job_id for event in events], dtype=narrow),
        np.array([int(event.kind) for event in events], dtype=np.uint8),
        np.full(4, np.nan),
    )
    assert rows_of(tally) == counted_one_by_one(events)
    assert tally.user_ids.dtype == tally.job_ids.dtype == np.int64


def test_totals_are_counted_for_each_kind_and_for_all() -> None:
    tally = tally_of(
        [Event(1, 1), Event(1, 1), Event(1, 2, ActivityKind.APPLY), Event(2, 1)],
    )
    assert tally.total() == 4
    assert tally.total(ActivityKind.IMPRESSION) == 3
    assert tally.total(ActivityKind.REDIRECT) == 0
    assert tally.total(ActivityKind.APPLY) == 1


def test_the_time_range_reaches_from_the_first_to_the_last_known_time() -> None:
    tally = tally_of(
        [
            Event(1, 1, timestamp=NOON.timestamp()),
            Event(1, 1, timestamp=(NOON + DAY).timestamp()),
            Event(2, 1, timestamp=(NOON - DAY).timestamp()),
            Event(3, 1),
        ]
    )
    assert tally.time_range == (NOON - DAY, NOON + DAY)


def test_activities_without_any_time_have_no_time_range() -> None:
    assert tally_of([Event(1, 1), Event(2, 2)]).time_range is None


def test_chosen_pairs_are_kept_with_all_their_columns() -> None:
    events = [Event(1, 1, timestamp=5.0), Event(1, 2, ActivityKind.APPLY, 6.0), Event(2, 1)]
    rows = rows_of(tally_of(events).select(np.array([False, True, True])))
    assert rows == counted_one_by_one(events)[1:]


def test_columns_of_different_lengths_are_refused() -> None:
    tally = tally_of([Event(1, 1), Event(2, 2)])
    with pytest.raises(InputError, match="job_ids has 1 rows, expected 2"):
        ActivityTally(
            tally.user_ids, tally.job_ids[:1], tally.counts, tally.first_at, tally.last_at
        )
    with pytest.raises(InputError, match=r"counts have shape \(2, 2\), expected \(2, 7\)"):
        ActivityTally(
            tally.user_ids, tally.job_ids, tally.counts[:, :2], tally.first_at, tally.last_at
        )


@given(events, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_sparse_matrix_holds_exactly_the_pairs_that_score_above_0(
    events: list[Event], random: Random
) -> None:
    tally = tally_of(events)
    scores = [random.choice([0.0, 0.5, 3.0]) for _ in range(len(tally))]
    matrix = Interactions.from_tally(tally, np.array(scores, dtype=np.float32))

    expected = {
        pair: (score, {kind for kind in ActivityKind if counted.counts[kind]})
        for (pair, counted), score in zip(counted_one_by_one(events), scores, strict=True)
        if score > 0
    }
    found = {}
    for row, user in enumerate(matrix.users.ids.tolist()):
        for entry in range(int(matrix.indptr[row]), int(matrix.indptr[row + 1])):
            job = int(matrix.jobs.ids[matrix.indices[entry]])
            kinds = {kind for kind in ActivityKind if matrix.kinds[entry] & kind.flag}
            assert (user, job) not in found
            found[user, job] = (float(matrix.scores[entry]), kinds)
    assert expected == found
    assert matrix.shape == (
        len({user for user, _ in expected}),
        len({job for _, job in expected}),
    )


@given(events)
@settings(deadline=None)
def test_rows_of_the_sparse_matrix_are_ordered_by_job(events: list[Event]) -> None:
    tally = tally_of(events)
    matrix = Interactions.from_tally(tally, np.ones(len(tally), dtype=np.float32))
    for start, end in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        assert (np.diff(matrix.indices[start:end]) > 0).all()


@given(events, st.sets(st.sampled_from(ActivityKind)))
@settings(deadline=None)
def test_jobs_done_are_those_with_any_of_the_kinds(
    events: list[Event], kinds: set[ActivityKind]
) -> None:
    tally = tally_of(events)
    matrix = Interactions.from_tally(tally, np.ones(len(tally), dtype=np.float32))
    users = [-1, *range(len(matrix.users)), *range(len(matrix.users))]
    for position, done in zip(users, matrix.jobs_done(np.array(users), kinds), strict=True):
        user = matrix.users.ids[position] if position >= 0 else None
        expected = {e.job_id for e in events if e.user_id == user and e.kind in kinds}
        assert sorted(expected) == matrix.jobs.ids[done].tolist()


def test_a_kind_named_twice_counts_once() -> None:
    tally = tally_of([Event(1, 5, ActivityKind.IMPRESSION), Event(1, 6, ActivityKind.REDIRECT)])
    matrix = Interactions.from_tally(tally, np.ones(2, dtype=np.float32))
    twice = [ActivityKind.IMPRESSION, ActivityKind.IMPRESSION]
    assert [done.tolist() for done in matrix.jobs_done(np.array([0]), twice)] == [[0]]


def test_popularity_is_each_jobs_share_of_all_scores() -> None:
    tally = tally_of([Event(1, 5), Event(1, 6), Event(2, 5)])
    matrix = Interactions.from_tally(tally, np.array([1, 3, 4], dtype=np.float32))
    assert matrix.popularity().tolist() == [0.625, 0.375]


@given(events)
@settings(deadline=None)
def test_popularity_sums_to_1(events: list[Event]) -> None:
    tally = tally_of(events)
    matrix = Interactions.from_tally(tally, np.arange(1, len(tally) + 1, dtype=np.float32))
    assert matrix.popularity().sum() == pytest.approx(1 if events else 0)


@given(events, st.sampled_from([math.nan, 0.0, 5.0, 1.7e9]), st.floats(0.01, 1e4))
@settings(deadline=None)
def test_time_plays_no_part_in_interest_where_it_is_constant_or_missing(
    events: list[Event], time: float, half_life: float
) -> None:
    tally = tally_of([event._replace(timestamp=time) for event in events])
    matrix = Interactions.from_tally(tally, np.arange(1, len(tally) + 1, dtype=np.float32))
    assert matrix.current_interest(half_life).tolist() == matrix.popularity().tolist()


def test_interest_is_halved_with_every_half_life_and_what_has_no_time_is_new() -> None:
    day = 86_400.0
    times = {1: 200 * day, 2: 170 * day, 3: 140 * day, 4: math.nan}
    tally = tally_of([Event(1, job, timestamp=time) for job, time in times.items()])
    matrix = Interactions.from_tally(tally, np.ones(4, dtype=np.float32))
    weights = np.array([1, 0.5, 0.25, 1])
    assert matrix.current_interest() == pytest.approx(weights / weights.sum())


def test_however_old_it_is_more_interest_is_more() -> None:
    events = [Event(user, 5, timestamp=1.0) for user in range(3)]
    events += [Event(9, 6, timestamp=1.0), Event(9, 7, timestamp=3e9)]
    tally = tally_of(events)
    interest = Interactions.from_tally(tally, np.ones(5, np.float32)).current_interest()
    assert interest[2] > interest[0] > interest[1] > 0


@given(events)
@settings(deadline=None)
def test_a_matrix_returns_whole_from_its_arrays(events: list[Event]) -> None:
    tally = tally_of(events)
    matrix = Interactions.from_tally(tally, np.arange(len(tally), dtype=np.float32))
    restored = Interactions.from_arrays(matrix.arrays()).arrays()
    assert restored.keys() == matrix.arrays().keys()
    for name, array in matrix.arrays().items():
        assert restored[name].dtype == array.dtype
        assert restored[name].tolist() == array.tolist()
    assert Interactions.from_arrays(matrix.arrays()).shape == matrix.shape


@given(st.sets(ids), st.lists(ids | st.integers(-(2**63), MAX_ID)))
@settings(deadline=None)
def test_positions_are_those_of_a_list_and_minus_1_where_an_id_is_unknown(
    known: set[int], wanted: list[int]
) -> None:
    ordered = sorted(known)
    index = IdIndex(np.array(ordered, dtype=np.int64))
    expected = [ordered.index(id_) if id_ in known else -1 for id_ in wanted]
    assert expected == index.positions(wanted).tolist()
    assert [None if at < 0 else at for at in expected] == [index.position(id_) for id_ in wanted]


@pytest.mark.parametrize("unknown", [-1, -(2**63), 0, 8, 11, MAX_ID])
def test_an_unknown_id_is_never_taken_for_the_last_or_the_first(unknown: int) -> None:
    index = IdIndex(np.array([7, 9, 10], dtype=np.int64))
    assert index.positions([10, unknown, 7]).tolist() == [2, -1, 0]
    assert index.position(unknown) is None


@pytest.mark.parametrize("disordered", [[2, 1], [1, 1]])
def test_an_index_refuses_ids_that_do_not_ascend(disordered: list[int]) -> None:
    with pytest.raises(InputError, match="strictly ascending"):
        IdIndex(np.array(disordered, dtype=np.int64))


def test_a_window_holds_its_begin_and_not_its_end() -> None:
    window = TimeWindow(NOON, NOON + DAY)
    at = [NOON - DAY, NOON, NOON + DAY / 2, NOON + DAY]
    inside = window.contains(np.array([*(moment.timestamp() for moment in at), math.nan]))
    assert inside.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (TimeWindow(since=NOON), [False, True, False]),
        (TimeWindow(until=NOON), [True, False, False]),
        (TimeWindow(), [True, True, True]),
    ],
)
def test_an_activity_without_a_time_belongs_only_to_the_window_without_ends(
    window: TimeWindow, expected: list[bool]
) -> None:
    timestamps = np.array([(NOON - DAY).timestamp(), NOON.timestamp(), math.nan])
    assert window.contains(timestamps).tolist() == expected


def test_a_window_refuses_ends_without_a_zone_and_in_the_wrong_order() -> None:
    with pytest.raises(InputError, match="since 2026-06-01T12:00:00 has no time zone"):
        TimeWindow(since=NOON.replace(tzinfo=None))
    with pytest.raises(InputError, match="until 2026-06-01T12:00:00 has no time zone"):
        TimeWindow(until=NOON.replace(tzinfo=None))
    with pytest.raises(InputError, match="is not before until"):
        TimeWindow(NOON, NOON)


@pytest.mark.parametrize(
    ("posted_at", "closes_at", "is_open"),
    [
        (None, None, True),
        (NOON, None, True),
        (NOON + DAY, None, False),
        (None, NOON + DAY, True),
        (None, NOON, False),
        (NOON - DAY, NOON + DAY, True),
    ],
)
def test_a_job_is_open_from_its_posting_until_it_closes(
    posted_at: datetime | None, closes_at: datetime | None, is_open: bool
) -> None:
    assert Job(1, posted_at=posted_at, closes_at=closes_at).is_open(NOON) is is_open


ENGINEER = Job(
    1,
    title="Graduate Software Engineer (C++)",
    employer="Smith  & Sons",
    location="Łódź",
    posted_at=NOON,
    closes_at=NOON + DAY,
)


@pytest.mark.parametrize(
    "where",
    [
        JobFilter(),
        JobFilter(employer="smith & sons"),
        JobFilter(employer="  SMITH &\tSONS "),
        JobFilter(location="łódź"),
        JobFilter(title="engineer"),
        JobFilter(title="ENGINEER, graduate"),
        JobFilter(title=""),
        JobFilter(posted_after=NOON),
        JobFilter(posted_after=NOON.astimezone(timezone(timedelta(hours=5)))),
        JobFilter(closing_before=NOON + DAY + timedelta(seconds=1)),
        JobFilter(employer="Smith & Sons", title="software", posted_after=NOON - DAY),
    ],
)
def test_a_filter_matches_whatever_the_case_the_white_space_and_the_order_of_words(
    where: JobFilter,
) -> None:
    assert where.matches(ENGINEER)


@pytest.mark.parametrize(
    "where",
    [
        JobFilter(employer="Smith"),
        JobFilter(location="Lodz"),
        JobFilter(title="engine"),
        JobFilter(title="software tester"),
        JobFilter(posted_after=NOON + timedelta(seconds=1)),
        JobFilter(closing_before=NOON + DAY),
        JobFilter(employer="Smith & Sons", title="tester"),
    ],
)
def test_a_filter_refuses_a_job_that_misses_any_part(where: JobFilter) -> None:
    assert not where.matches(ENGINEER)


@pytest.mark.parametrize(
    "where",
    [
        JobFilter(employer="Smith"),
        JobFilter(location="York"),
        JobFilter(title="engineer"),
        JobFilter(posted_after=NOON),
        JobFilter(closing_before=NOON),
    ],
)
def test_a_job_of_which_nothing_is_known_satisfies_no_filter(where: JobFilter) -> None:
    assert not where.matches(Job(1))
    assert JobFilter().matches(Job(1))


def test_a_filter_refuses_dates_without_a_zone() -> None:
    with pytest.raises(InputError, match="posted_after 2026-06-01T12:00:00 has no time zone"):
        JobFilter(posted_after=NOON.replace(tzinfo=None))
    with pytest.raises(InputError, match="closing_before 2026-06-01T12:00:00 has no time zone"):
        JobFilter(closing_before=NOON.replace(tzinfo=None))


@pytest.mark.parametrize("part", ["employer", "location", "title"])
def test_a_filter_by_a_text_too_long_is_refused_with_length_and_bound(part: str) -> None:
    replace(JobFilter(), **{part: "x" * 200})  # type: ignore[arg-type] # the parts are texts
    with pytest.raises(InputError, match=f"{part} has 201 characters, at most 200") as refused:
        replace(JobFilter(), **{part: "x" * 201})  # type: ignore[arg-type] # the parts are texts
    assert refused.value.argument == part
