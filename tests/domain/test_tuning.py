"""What tuning searches."""

from __future__ import annotations

import re

import numpy as np
import pytest

from domain.errors import InputError
from domain.model import ActivityKind, ActivityTally
from domain.scoring import Rule
from domain.tuning import NEIGHBOURHOOD, Choice, Numbers, SearchSpace

TIMES = {"half_life_days", "window_days", "trend", "trend_half_life_days"}
WEIGHTS = {"impression_weight", "redirect_weight", "apply_weight", "email_click_weight"}


def tally_of(kinds: list[ActivityKind], times: list[float]) -> ActivityTally:
    return ActivityTally.from_events(range(len(kinds)), range(len(kinds)), kinds, times)


def test_a_range_may_hold_0_as_off() -> None:
    days = Numbers(2.0, 365.0, or_off=True)
    assert [days.holds(value) for value in (0.0, 0, 2.0, 365.0)] == [True] * 4
    assert [days.holds(value) for value in (1.0, 366.0, -1.0, "7")] == [False] * 4
    assert not Numbers(2.0, 365.0).holds(0)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0.0, 9.0, "low 0.0 is not above 0"),
        (9.0, 9.0, "low 9.0 is not below high 9.0"),
        (1, 9, "a range of whole numbers has no off"),
    ],
)
def test_ranges_that_cannot_be_are_refused(low: float, high: float, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Numbers(low, high, or_off=True)


def test_every_setting_that_may_matter_is_searched() -> None:
    kinds = [*ActivityKind]
    space = NEIGHBOURHOOD.suited(tally_of(kinds, [*range(len(kinds))]))
    assert space == NEIGHBOURHOOD
    assert set(space.dimensions) == WEIGHTS | TIMES | {
        "factors",
        "regularization",
        "alpha",
        "iterations",
        "neighbour_weight",
        "scoring",
    }
    assert [space.dimensions["scoring"].holds(rule.value) for rule in Rule] == [True] * 3


def test_weights_of_kinds_that_do_not_occur_are_not_searched() -> None:
    kinds = [ActivityKind.IMPRESSION, ActivityKind.EMAIL_CLICK, ActivityKind.EMAIL_OPEN]
    space = NEIGHBOURHOOD.suited(tally_of(kinds, [1, 2, 3]))
    assert WEIGHTS.intersection(space.dimensions) == {"impression_weight", "email_click_weight"}


def test_the_weight_of_the_only_kind_is_left_to_alpha() -> None:
    space = NEIGHBOURHOOD.suited(tally_of([ActivityKind.APPLY] * 2, [1, 2]))
    assert not WEIGHTS.intersection(space.dimensions)
    assert "alpha" in space.dimensions


@pytest.mark.parametrize("times", [[np.nan, np.nan], [5, 5], [5, np.nan]])
def test_where_times_tell_nothing_half_life_and_window_are_not_searched(times: list[float]) -> None:
    space = NEIGHBOURHOOD.suited(tally_of([ActivityKind.APPLY] * 2, times))
    assert not TIMES.intersection(space.dimensions)
    points = space.points
    assert 0 < len(points) < len(NEIGHBOURHOOD.points)
    assert all(points.count(point) == 1 and not TIMES.intersection(point) for point in points)


def test_a_point_outside_the_space_is_refused() -> None:
    dimensions: dict[str, Numbers | Choice] = {"a": Numbers(1, 9), "b": Choice(("x", "y"))}
    assert SearchSpace(dimensions, ({"a": 9}, {"b": "x"})).without("a").points == ({"b": "x"},)
    for point, message in (({"a": 10}, "a 10"), ({"b": "z"}, "b z"), ({"c": 1}, "c 1")):
        with pytest.raises(InputError, match=f"{message} of a point to try is not in the space"):
            SearchSpace(dimensions, (point,))
