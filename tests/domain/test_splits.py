"""What is held out, and what stays to learn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.errors import InputError
from domain.model import ActivityTally
from domain.splits import (
    Split,
    SplitKind,
    hold_given_out,
    hold_last_out,
    hold_out,
    hold_random_out,
    split,
)
from tests.tallies import Event, pairs_of, tally_of

NAN = math.nan


class TestSplit:
    def test_pairs_that_begin_after_the_cutoff_are_held_out(self) -> None:
        tally = tally_of([(1, job, float(job)) for job in range(1, 11)])

        parts = split(tally, 0.2, seed=0)

        # The 80 % quantile of 1..10 lies at 8.2
        assert parts.cutoff == datetime.fromtimestamp(8.2, UTC)
        assert pairs_of(parts.held_out) == [(1, 9), (1, 10)]
        assert pairs_of(parts.train) == [(1, job) for job in range(1, 9)]

    def test_a_pair_that_goes_on_after_the_cutoff_stays_in_training_whole(self) -> None:
        events = [(1, job, float(job)) for job in range(1, 11)]
        tally = tally_of([*events, (1, 1, 10.0), (1, 2, 9.5)])

        parts = split(tally, 0.2, seed=0)

        assert pairs_of(parts.held_out) == [(1, 9), (1, 10)]
        assert parts.train.counts[:2, 0].tolist() == [2, 2]

    def test_pairs_without_a_time_stay_in_training(self) -> None:
        tally = tally_of([(1, 1, NAN), (1, 2, 1.0), (1, 3, 2.0), (1, 4, NAN)])

        parts = split(tally, 0.5, seed=0)

        assert pairs_of(parts.held_out) == [(1, 3)]
        assert pairs_of(parts.train) == [(1, 1), (1, 2), (1, 4)]

    @pytest.mark.parametrize("time", [NAN, 5.0])
    def test_where_times_tell_nothing_the_seed_decides(self, time: float) -> None:
        tally = tally_of([(user, job, time) for user in range(50) for job in range(20)])

        one, same, other = (split(tally, 0.1, seed) for seed in (1, 1, 2))

        assert one.cutoff is None
        assert pairs_of(one.held_out) == pairs_of(same.held_out)
        assert pairs_of(one.held_out) != pairs_of(other.held_out)
        # 1000 draws at 0.1: five standard deviations are 47
        assert 53 <= len(one.held_out) <= 147

    @pytest.mark.parametrize("days", [1, 2, 5])
    def test_where_the_last_day_holds_the_share_the_seed_decides(self, days: int) -> None:
        tally = tally_of([(user, job, job % days) for user in range(50) for job in range(20)])

        parts = split(tally, 0.15, seed=0)

        assert parts.cutoff is None
        # 1000 draws at 0.15: five standard deviations are 56
        assert 94 <= len(parts.held_out) <= 206

    def test_of_nothing_is_nothing(self) -> None:
        parts = split(ActivityTally.empty(), 0.1, seed=0)
        assert (len(parts.train), len(parts.held_out), parts.cutoff) == (0, 0, None)

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, NAN])
    def test_share_out_of_bounds_is_named(self, share: float) -> None:
        with pytest.raises(InputError, match=rf"hold_out {share} is not between 0 and 1") as error:
            split(tally_of([(1, 1, 1.0)]), share, seed=0)
        assert error.value.argument == "hold_out"

    @given(
        events=st.lists(
            st.tuples(
                st.integers(0, 5),
                st.integers(0, 5),
                st.one_of(st.just(NAN), st.integers(0, 20).map(float)),
            ),
            max_size=60,
        ),
        share=st.floats(0.05, 0.95),
        seed=st.integers(0, 3),
    )
    def test_parts_are_the_whole_and_share_no_pair(
        self, events: list[Event], share: float, seed: int
    ) -> None:
        tally = tally_of(events)

        parts = split(tally, share, seed)

        train, held_out = pairs_of(parts.train), pairs_of(parts.held_out)
        assert not set(train) & set(held_out)
        assert sorted(train + held_out) == pairs_of(tally)
        assert parts.train.total() + parts.held_out.total() == len(events)
        if parts.cutoff is not None:
            known = np.isfinite(tally.first_at).sum()
            assert len(held_out) <= share * (known - 1) + 1
            # A microsecond is what a datetime cannot hold
            cutoff = parts.cutoff.timestamp()
            assert (parts.held_out.first_at > cutoff - 1e-6).all()
            assert not (parts.train.first_at > cutoff + 1e-6).any()


def tallies(max_size: int = 60) -> st.SearchStrategy[ActivityTally]:
    """Draw tallies of few people and jobs, some of them without times."""
    ids, times = st.integers(0, 5), st.one_of(st.just(NAN), st.integers(0, 20).map(float))
    return st.lists(st.tuples(ids, ids, times), max_size=max_size).map(tally_of)


class TestLastOut:
    def test_is_each_persons_newest_job_but_nobodys_only_one(self) -> None:
        tally = tally_of([(1, 5, 3.0), (1, 6, 1.0), (2, 5, 9.0), (3, 7, 1.0), (3, 8, 2.0)])

        parts = hold_last_out(tally)

        assert pairs_of(parts.held_out) == [(1, 5), (3, 8)]
        assert pairs_of(parts.train) == [(1, 6), (2, 5), (3, 7)]

    def test_a_job_returned_to_is_not_new(self) -> None:
        parts = hold_last_out(tally_of([(1, 5, 1.0), (1, 6, 2.0), (1, 5, 3.0)]))
        assert pairs_of(parts.held_out) == [(1, 6)]
        assert parts.train.total() == 2

    def test_of_jobs_at_one_time_it_is_the_one_of_the_highest_id(self) -> None:
        parts = hold_last_out(tally_of([(1, 5, 1.0), (1, 7, 2.0), (1, 6, 2.0)]))
        assert pairs_of(parts.held_out) == [(1, 7)]

    def test_without_a_time_nothing_of_a_person_is_last(self) -> None:
        tally = tally_of([(1, 5, NAN), (1, 6, NAN), (2, 5, NAN), (2, 6, 1.0)])
        assert pairs_of(hold_last_out(tally).held_out) == [(2, 6)]

    @pytest.mark.parametrize("time", [NAN, 5.0])
    def test_where_times_tell_nothing_it_is_refused(self, time: float) -> None:
        with pytest.raises(InputError, match="no times that tell which is last") as error:
            hold_last_out(tally_of([(1, 5, time), (1, 6, time)]))
        assert error.value.argument == "split"


class TestRandomOut:
    def test_holds_a_share_of_each_persons_jobs_out(self) -> None:
        tally = tally_of([(user, job, NAN) for user in (1, 2) for job in range(10 * user)])

        parts = hold_random_out(tally, 0.2, seed=0)

        users, counts = np.unique(parts.held_out.user_ids, return_counts=True)
        assert dict(zip(users.tolist(), counts.tolist(), strict=True)) == {1: 2, 2: 4}

    @pytest.mark.parametrize(("share", "held_out"), [(0.01, 1), (0.99, 2)])
    def test_holds_at_least_one_out_and_never_all(self, share: float, held_out: int) -> None:
        tally = tally_of([(1, job, NAN) for job in range(3)] + [(2, 1, NAN)])
        parts = hold_random_out(tally, share, seed=0)
        assert parts.held_out.user_ids.tolist() == [1] * held_out

    def test_the_seed_decides(self) -> None:
        tally = tally_of([(user, job, NAN) for user in range(20) for job in range(10)])
        one, same, other = (hold_random_out(tally, 0.2, seed) for seed in (1, 1, 2))
        assert pairs_of(one.held_out) == pairs_of(same.held_out) != pairs_of(other.held_out)

    @pytest.mark.parametrize("share", [0.0, 1.0, NAN])
    def test_share_out_of_bounds_is_named(self, share: float) -> None:
        with pytest.raises(InputError, match=rf"hold_out {share} is not between 0 and 1"):
            hold_random_out(tally_of([(1, 1, 1.0)]), share, seed=0)


class TestGivenOut:
    def test_given_pairs_leave_the_training_part(self) -> None:
        tally = tally_of([(1, 5, 1.0), (1, 6, 1.0), (2, 5, 1.0)])
        given_pairs = tally_of([(1, 6, NAN), (2, 7, NAN), (9, 9, NAN)])

        parts = hold_given_out(tally, given_pairs)

        assert pairs_of(parts.train) == [(1, 5), (2, 5)]
        assert parts.held_out is given_pairs

    def test_the_largest_ids_are_told_apart(self) -> None:
        most = 2**63 - 1
        tally = tally_of([(most, most, 1.0), (most - 1, most, 1.0)])
        parts = hold_given_out(tally, tally_of([(most, most, NAN)]))
        assert pairs_of(parts.train) == [(most - 1, most)]

    def test_nothing_given_holds_nothing_out(self) -> None:
        tally = tally_of([(1, 5, 1.0)])
        assert pairs_of(hold_given_out(tally, ActivityTally.empty()).train) == [(1, 5)]


WAYS: dict[str, Callable[[ActivityTally], Split]] = {
    "last": hold_last_out,
    "random": lambda tally: hold_random_out(tally, 0.3, seed=1),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@given(tally=tallies())
def test_parts_are_the_whole_share_no_pair_and_leave_everybody_something(
    way: Callable[[ActivityTally], Split], tally: ActivityTally
) -> None:
    assume(len(np.unique(tally.first_at[np.isfinite(tally.first_at)])) > 1)
    parts = way(tally)
    train, held_out = pairs_of(parts.train), pairs_of(parts.held_out)
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == pairs_of(tally)
    assert {user for user, _ in train} == set(tally.user_ids.tolist())


@pytest.mark.parametrize("kind", SplitKind)
def test_each_way_goes_by_its_name(kind: SplitKind) -> None:
    tally = tally_of([(user, job, float(user + job)) for user in range(9) for job in range(9)])
    named = hold_out(tally, kind, 0.2, seed=3)
    expected = {
        SplitKind.TEMPORAL: lambda: split(tally, 0.2, 3),
        SplitKind.LAST: lambda: hold_last_out(tally),
        SplitKind.RANDOM: lambda: hold_random_out(tally, 0.2, 3),
    }[kind]()
    assert pairs_of(named.held_out) == pairs_of(expected.held_out)
