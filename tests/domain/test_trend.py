from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InputError
from domain.model import FloatArray, Interactions
from domain.scoring import DAY, one_each
from domain.trend import PRIOR, Trend
from tests.tallies import Event, tally_of

NOW = 1_700_000_000.0


def lift_of(trend: Trend, events: list[Event]) -> FloatArray:
    tally = tally_of(events)
    return trend.lift(Interactions.from_tally(tally, one_each(tally)))


def test_a_job_gains_by_its_share_of_late_interest_diluted() -> None:
    events = [(1, 7, NOW), (2, 7, NOW), (1, 8, NOW - 14 * DAY), (2, 9, NOW - 28 * DAY)]

    lift = lift_of(Trend(10.0, 14.0), events)

    total = 2 + 0.5 + 0.25
    assert lift == pytest.approx([10 * part / (total + PRIOR) for part in (2, 0.5, 0.25)])


@pytest.mark.parametrize(
    "times",
    [pytest.param([NOW] * 3, id="one time"), pytest.param([float("nan")] * 3, id="no times")],
)
def test_without_times_that_differ_there_is_no_trend(times: list[float]) -> None:
    events = [(1, 7, times[0]), (2, 7, times[1]), (2, 8, times[2])]
    assert not lift_of(Trend(10.0), events).any()


def test_a_pair_without_a_time_counts_nothing() -> None:
    events = [(1, 7, NOW), (2, 8, NOW - DAY), (3, 9, float("nan"))]
    lift = lift_of(Trend(10.0), events)
    assert lift[0] > lift[1] > lift[2] == 0


def test_no_weight_is_no_trend() -> None:
    assert not lift_of(Trend(0.0), [(1, 7, NOW), (2, 8, NOW - DAY)]).any()


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 10**9).map(float)),
        min_size=2,
        max_size=30,
        unique_by=lambda event: event[:2],
    ),
    st.integers(1, 10**8),
)
def test_only_distances_in_time_matter(events: list[Event], shift: int) -> None:
    trend = Trend(3.0, 2.0)
    later = [(user, job, time + shift) for user, job, time in events]
    assert lift_of(trend, later) == pytest.approx(lift_of(trend, events))


def test_lifts_stay_below_the_weight() -> None:
    lift = lift_of(Trend(2.0), [(user, 1, NOW - user) for user in range(1, 2000)])
    assert 0 < lift.max() < 2


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((-0.1, 14.0), "trend"),
        ((float("inf"), 14.0), "trend"),
        ((float("nan"), 14.0), "trend"),
        ((1.0, 0.0), "trend_half_life_days"),
        ((1.0, float("nan")), "trend_half_life_days"),
    ],
)
def test_values_out_of_bounds_are_refused(values: tuple[float, float], name: str) -> None:
    with pytest.raises(InputError, match=name):
        Trend(*values)


@pytest.mark.parametrize("trend", [Trend(), Trend(2.5, 7.0)])
def test_a_record_gives_the_trend_back(trend: Trend) -> None:
    assert Trend.of({"name": "als", **trend.parameters}) == trend


def test_a_record_from_before_there_was_a_trend_names_none() -> None:
    assert Trend.of({"name": "als", "factors": 64}).weight == 0
