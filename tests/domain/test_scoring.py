from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from domain.errors import InputError
from domain.model import ActivityKind, ActivityTally, CountArray
from domain.scoring import (
    INTEREST,
    Rule,
    ScoringPolicy,
    faded,
    latest_marked,
    one_each,
    shows_interest,
)
from tests.tallies import tally_of

TABLE = [(impressions, redirects) for impressions in range(13) for redirects in range(13)]


def funnel_score(impressions: int, redirects: int) -> int:
    """Score one pair as the replaced service did, written down apart from the code under test."""
    i = min(impressions, 10)
    r = min(redirects, 10)
    penalty = max(0, i - r)
    score = 2 * r + i - penalty
    if redirects > 0:
        score = max(score, 2)
    if impressions > 0:
        score = max(score, 1)
    return score


def counts_of(*rows: tuple[int, int, int]) -> CountArray:
    """Count impressions, redirects and applications, and nothing else."""
    counts = np.zeros((len(rows), len(ActivityKind)), dtype=np.uint32)
    counts[:, :3] = np.array(rows).reshape(-1, 3)
    return counts


def test_the_funnel_gives_the_replaced_services_scores_over_its_whole_table() -> None:
    expected = {pair: funnel_score(*pair) for pair in TABLE}
    scores = ScoringPolicy.funnel().scores(counts_of(*((i, r, 0) for i, r in TABLE)))
    assert expected == dict(zip(TABLE, scores.tolist(), strict=True))


@pytest.mark.parametrize(
    ("impressions", "redirects", "score"),
    [
        pytest.param(0, 0, 0, id="nothing"),
        pytest.param(1, 0, 1, id="one ignored impression"),
        pytest.param(10, 0, 1, id="ten ignored impressions weigh no more"),
        pytest.param(0, 1, 2, id="a redirect without an impression"),
        pytest.param(1, 1, 3, id="an impression that was followed"),
        pytest.param(10, 3, 9, id="three of ten followed"),
        pytest.param(10, 10, 30, id="the most"),
        pytest.param(181, 31, 30, id="beyond the cap"),
        pytest.param(181, 0, 1, id="ignored beyond the cap"),
        pytest.param(0, 31, 20, id="redirects beyond the cap"),
    ],
)
def test_the_funnel_gives_scores_worked_by_hand(
    impressions: int, redirects: int, score: int
) -> None:
    assert ScoringPolicy.funnel().scores(counts_of((impressions, redirects, 0)))[0] == score


def test_floors_raise_what_the_weights_leave_below_them() -> None:
    policy = ScoringPolicy(
        impression_weight=0.1, redirect_weight=0.2, impression_floor=0.5, redirect_floor=0.7
    )
    counts = counts_of((1, 0, 0), (0, 1, 0), (1, 1, 0), (10, 10, 0), (0, 0, 0))
    assert policy.scores(counts).tolist() == pytest.approx([0.5, 0.7, 0.7, 3.0, 0.0])


@pytest.mark.parametrize("applications", [1, 3, 10, 11, 500])
def test_applications_add_to_the_score_up_to_the_cap(applications: int) -> None:
    policy = ScoringPolicy.funnel(apply_weight=2.5)
    scores = policy.scores(counts_of(*((i, r, applications) for i, r in TABLE)))
    expected = [funnel_score(i, r) + 2.5 * min(applications, 10) for i, r in TABLE]
    assert expected == scores.tolist()


def test_applications_can_count_for_nothing() -> None:
    policy = ScoringPolicy.funnel(apply_weight=0)
    assert policy.scores(counts_of((0, 0, 7), (2, 1, 7))).tolist() == [0, funnel_score(2, 1)]


@given(arrays(np.uint32, st.tuples(st.integers(0, 20), st.just(len(ActivityKind)))))
@settings(deadline=None)
def test_one_call_scores_like_a_call_for_each_pair(counts: CountArray) -> None:
    policy = ScoringPolicy(impression_weight=0.3, redirect_weight=1.7, penalty_weight=0.9)
    together = policy.scores(counts)
    assert [float(policy.scores(row[None])[0]) for row in counts] == together.tolist()
    assert together.dtype == np.float32


@given(
    arrays(np.uint32, st.tuples(st.integers(0, 20), st.just(len(ActivityKind)))),
    st.floats(0, 100),
    st.floats(0, 100),
)
@settings(deadline=None)
def test_scores_are_finite_and_never_negative(
    counts: CountArray, weight: float, penalty: float
) -> None:
    policy = ScoringPolicy(impression_weight=weight, penalty_weight=penalty, impression_floor=0)
    scores = policy.scores(counts)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


@pytest.mark.parametrize(
    "field",
    [
        "impression_weight",
        "redirect_weight",
        "apply_weight",
        "penalty_weight",
        "impression_floor",
        "redirect_floor",
    ],
)
@pytest.mark.parametrize("value", [-0.5, float("inf"), float("nan")])
def test_a_bad_weight_is_refused_with_its_value_and_the_bound(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field} {value} is not a finite number of at least 0"):
        ScoringPolicy(**{field: value})  # type: ignore[arg-type] # every field named is a float


def test_a_cap_below_1_is_refused_with_its_value_and_the_bound() -> None:
    with pytest.raises(InputError, match="cap 0 is below 1"):
        ScoringPolicy(cap=0)


def test_a_tally_becomes_a_matrix_without_the_pairs_that_score_0() -> None:
    kinds = [ActivityKind.IMPRESSION, ActivityKind.APPLY, ActivityKind.REDIRECT]
    tally = ActivityTally.from_events([4, 4, 9], [1, 2, 3], kinds, [0.0] * 3)
    matrix = ScoringPolicy.funnel(apply_weight=0).interactions(tally)
    assert matrix.users.ids.tolist() == [4, 9]
    assert matrix.jobs.ids.tolist() == [1, 3]
    assert matrix.scores.tolist() == [1, 2]


def test_one_each_counts_a_pair_once() -> None:
    assert one_each(tally_of([(1, 1, 1.0), (1, 1, 2.0), (1, 2, 1.0)])).tolist() == [1, 1]


def test_faded_halves_with_every_half_life_since_the_newest() -> None:
    tally = tally_of([(1, 1, 100.0), (1, 2, 90.0), (1, 3, 80.0), (1, 4, math.nan)])
    assert faded(tally, 10.0).tolist() == [1, 1 / 2, 1 / 4, 1 / 4]


def test_faded_never_reaches_0() -> None:
    assert (faded(tally_of([(1, 1, 0.0), (1, 2, 4e9)]), 1.0) > 0).all()


@pytest.mark.parametrize("time", [math.nan, 7.0])
def test_faded_is_neutral_where_times_tell_nothing(time: float) -> None:
    assert faded(tally_of([(1, 1, time), (2, 1, time)]), 10.0).tolist() == [1, 1]


def test_each_persons_latest_pairs_are_marked() -> None:
    tally = tally_of([(1, 1, 5.0), (1, 2, 9.0), (1, 3, 9.0), (2, 1, 1.0), (2, 2, math.nan)])
    assert latest_marked(tally).tolist() == [1, 2, 2, 2, 1]


def test_where_a_person_has_no_times_all_pairs_are_the_latest() -> None:
    tally = tally_of([(1, 1, math.nan), (1, 2, math.nan), (2, 1, 1.0), (2, 2, 2.0)])
    assert latest_marked(tally).tolist() == [2, 2, 1, 2]


def test_scores_of_no_pairs_are_none() -> None:
    nothing = ActivityTally.empty()
    assert [len(scores) for scores in (faded(nothing, 1.0), latest_marked(nothing))] == [0, 0]


# More kinds, rules and time

HALF_LIFE, DAY = 7.0, 86_400.0
COUNTS = arrays(np.uint32, st.tuples(st.integers(1, 12), st.just(len(ActivityKind))))
WEIGHTS = st.floats(0, 100, width=16)
POLICIES = st.builds(
    ScoringPolicy,
    name=st.sampled_from([*map(str, Rule)]),
    cap=st.integers(1, 20),
    impression_weight=st.floats(1, 100, width=16),
    redirect_weight=WEIGHTS,
    apply_weight=WEIGHTS,
    email_click_weight=WEIGHTS,
    half_life_days=st.sampled_from([0.0, 0.5, 30.0]),
    window_days=st.sampled_from([0.0, 10.0]),
)


def timed(counts: CountArray, times: Sequence[float]) -> ActivityTally:
    """Give each row of counts to a person of its own."""
    people, ages = np.arange(len(counts)), np.resize(np.array(times, dtype=np.float64), len(counts))
    return ActivityTally(people, people, counts, ages, ages)


@given(POLICIES, COUNTS, st.sampled_from([0.0, 1.5e9, math.nan]))
def test_time_plays_no_part_where_it_is_constant_or_missing(
    policy: ScoringPolicy, counts: CountArray, time: float
) -> None:
    assert policy.score(timed(counts, [time])).tolist() == policy.scores(counts).tolist()


@given(POLICIES, COUNTS, st.integers(1, 2**31))
def test_emails_sent_and_opened_never_change_a_score(
    policy: ScoringPolicy, counts: CountArray, many: int
) -> None:
    flooded = counts.copy()
    flooded[:, [ActivityKind.EMAIL_SENT, ActivityKind.EMAIL_OPEN]] = many
    assert policy.scores(flooded).tolist() == policy.scores(counts).tolist()


@given(POLICIES, COUNTS, st.sampled_from(INTEREST))
def test_doing_more_out_of_interest_never_lowers_a_score(
    policy: ScoringPolicy, counts: CountArray, kind: ActivityKind
) -> None:
    more = np.minimum(counts, 1_000)
    before = policy.scores(more)
    more[:, kind] += 1
    assert (policy.scores(more) >= before * (1 - 1e-6)).all()


@given(POLICIES, COUNTS)
def test_what_was_dismissed_scores_0(policy: ScoringPolicy, counts: CountArray) -> None:
    counts[:, ActivityKind.DISMISS] = 1
    assert not policy.scores(counts).any()
    assert not shows_interest(counts).any()


@given(POLICIES, COUNTS, st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(
    policy: ScoringPolicy, counts: CountArray, random: Random
) -> None:
    times = [random.choice([0.0, 5 * DAY, 20 * DAY, math.nan]) for _ in counts]
    order = list(range(len(counts)))
    random.shuffle(order)
    tally = timed(counts, times)
    shuffled = timed(counts[order], [times[row] for row in order])
    assert policy.score(tally)[order].tolist() == policy.score(shuffled).tolist()


@given(POLICIES, st.floats(0, 1e9), st.floats(0, 1e9))
def test_the_later_of_two_pairs_scores_no_less(
    policy: ScoringPolicy, earlier: float, later: float
) -> None:
    earlier, later = sorted((earlier, later))
    counts = counts_of((1, 1, 0), (1, 1, 0))
    first, second = policy.score(timed(counts, [earlier, later]))
    assert first <= second


@given(POLICIES, COUNTS)
def test_narrow_counts_score_like_wide_ones(policy: ScoringPolicy, counts: CountArray) -> None:
    few = np.minimum(counts, 255)
    assert policy.scores(few.astype(np.uint8)).tolist() == policy.scores(few).tolist()


def test_a_score_halves_with_every_half_life_since_the_newest_activity() -> None:
    policy = ScoringPolicy(half_life_days=HALF_LIFE)
    tally = timed(counts_of((1, 0, 0)).repeat(4, axis=0), [0, 7 * DAY, 14 * DAY, math.nan])
    assert policy.score(tally).tolist() == [1 / 4, 1 / 2, 1, 1]


def test_a_window_counts_back_from_the_newest_activity_and_keeps_what_has_no_time() -> None:
    policy = ScoringPolicy(window_days=7)
    tally = timed(counts_of((1, 0, 0)).repeat(4, axis=0), [0, 1 + 7 * DAY, 14 * DAY, math.nan])
    assert policy.score(tally).tolist() == [0, 1, 1, 1]


def test_even_the_oldest_activity_says_something() -> None:
    policy = ScoringPolicy(half_life_days=0.001)
    assert (policy.score(timed(counts_of((1, 0, 0), (1, 0, 0)), [0, 4e9])) > 0).all()


@pytest.mark.parametrize(
    ("rule", "score"), [("logarithmic", 3 * 2 + 1 + 5 * 3), ("presence", 3 + 1 + 5)]
)
def test_rules_add_kinds_up(rule: str, score: float) -> None:
    policy = ScoringPolicy(
        name=rule, impression_weight=3, redirect_weight=1, apply_weight=9, email_click_weight=5
    )
    counts = counts_of((3, 1, 0))
    counts[0, ActivityKind.EMAIL_CLICK] = 7
    assert policy.scores(counts).tolist() == [score]


def test_the_funnel_adds_clicks_in_emails_like_applications() -> None:
    counts = counts_of((2, 1, 0))
    counts[0, ActivityKind.EMAIL_CLICK] = 99
    assert ScoringPolicy(email_click_weight=1.5).scores(counts).tolist() == [3 + 15]


def test_an_unknown_rule_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="'best' is not one of funnel, logarithmic, presence"):
        ScoringPolicy(name="best")
