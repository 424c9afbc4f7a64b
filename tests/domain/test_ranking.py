from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.model import RecommendationSource, ShortfallReason
from domain.ranking import Ranked, RankingPolicy, Standing, Unlisted, best

PERSONALISED, POPULAR = RecommendationSource.PERSONALISED, RecommendationSource.POPULAR
JOBS = 12

positions = st.sets(st.integers(0, JOBS - 1))
orders = st.permutations(range(JOBS))


def ranked(*jobs: int) -> Ranked:
    """Return jobs in this order, with scores that descend."""
    scores = np.linspace(1, 0, len(jobs), dtype=np.float32)
    return Ranked(np.array(jobs, dtype=np.int64), scores)


def standing(
    listed: list[bool], is_open: list[bool], matching: list[bool] | None = None
) -> Standing:
    return Standing(
        np.array(listed),
        np.array(is_open),
        None if matching is None else np.array(matching),
        np.inf,
    )


@given(scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), max_size=30), k=st.integers(0, 40))
@settings(deadline=None)
def test_the_best_are_ordered_by_score_then_by_id_and_cut_at_k(scores: list[float], k: int) -> None:
    expected = sorted(enumerate(scores), key=lambda job: (-job[1], job[0]))[:k]
    found = best(np.arange(len(scores)), np.array(scores, dtype=np.float32), k)
    assert expected == list(zip(found.jobs.tolist(), found.scores.tolist(), strict=True))


@given(
    personal_order=orders, popular_order=orders, barred=positions, hidden=positions, data=st.data()
)
@settings(deadline=None)
def test_a_completed_list_is_personal_then_popular_without_duplicates_or_barred_jobs(
    personal_order: list[int],
    popular_order: list[int],
    barred: set[int],
    hidden: set[int],
    data: st.DataObject,
) -> None:
    k = data.draw(st.integers(0, JOBS + 3))
    allowed = [job for job in personal_order if job not in barred | hidden]
    personal = allowed[: data.draw(st.integers(0, len(allowed)))]
    popular = [job for job in popular_order if job not in barred]

    complete, sources = RankingPolicy().complete(
        ranked(*personal), ranked(*popular), np.array(sorted(hidden), dtype=np.int64), k
    )

    jobs = complete.jobs.tolist()
    assert len(jobs) == min(k, JOBS - len(barred | hidden))
    assert len(set(jobs)) == len(jobs)
    assert not set(jobs) & (barred | hidden)
    assert len(complete.scores) == len(sources) == len(jobs)
    count = min(k, len(personal))
    assert sources == [PERSONALISED] * count + [POPULAR] * (len(jobs) - count)
    assert jobs[:count] == personal[:count]
    backfill = [job for job in popular if job not in {*personal, *hidden}]
    assert jobs[count:] == backfill[: len(jobs) - count]


def test_backfill_carries_the_score_of_its_popularity() -> None:
    popular = Ranked(np.array([2, 0, 1]), np.array([0.5, 0.3, 0.2], dtype=np.float32))
    personal = Ranked(np.array([2]), np.array([9.0], dtype=np.float32))
    complete, sources = RankingPolicy().complete(personal, popular, np.array([0]), 3)
    assert complete.jobs.tolist() == [2, 1]
    assert complete.scores.tolist() == pytest.approx([9.0, 0.2])
    assert sources == [PERSONALISED, POPULAR]


def test_backfill_reaches_behind_any_number_of_popular_jobs_that_are_taken() -> None:
    excluded = np.arange(8)
    complete, sources = RankingPolicy().complete(ranked(8, 9), ranked(*range(12)), excluded, 4)
    assert complete.jobs.tolist() == [8, 9, 10, 11]
    assert sources == [PERSONALISED, PERSONALISED, POPULAR, POPULAR]


@pytest.mark.parametrize(
    ("length", "eligible", "filtered", "reason"),
    [
        (10, 10, False, None),
        (10, 500, True, None),
        (9, 9, False, ShortfallReason.CATALOGUE),
        (0, 0, False, ShortfallReason.CATALOGUE),
        (9, 9, True, ShortfallReason.FILTER),
        (0, 0, True, ShortfallReason.FILTER),
        (9, 10, False, ShortfallReason.EXCLUDED),
        (9, 10, True, ShortfallReason.EXCLUDED),
    ],
)
def test_a_short_list_says_why(
    length: int, eligible: int, filtered: bool, reason: ShortfallReason | None
) -> None:
    assert RankingPolicy().shortfall(length, 10, eligible, filtered=filtered) == reason


# Four jobs: listed and open, listed and closed, not listed (twice)
LISTED, OPEN = [True, True, False, False], [True, False, False, False]


@pytest.mark.parametrize(
    ("unlisted", "expected"),
    [(Unlisted.SERVE, [True, False, True, True]), (Unlisted.HIDE, [True, False, False, False])],
)
def test_unlisted_jobs_are_served_or_hidden_and_closed_jobs_never_served(
    unlisted: Unlisted, expected: list[bool]
) -> None:
    policy = RankingPolicy(unlisted)
    assert policy.eligible(standing(LISTED, OPEN)).tolist() == expected


@pytest.mark.parametrize("unlisted", Unlisted)
def test_unlisted_and_closed_jobs_never_satisfy_a_filter(unlisted: Unlisted) -> None:
    matching = [True, True, False, False]
    eligible = RankingPolicy(unlisted).eligible(standing(LISTED, OPEN, matching))
    assert eligible.tolist() == [True, False, False, False]
    nothing = RankingPolicy(unlisted).eligible(standing(LISTED, OPEN, [False] * 4))
    assert not nothing.any()


def test_jobs_that_nobody_could_read_are_hidden_unless_the_owner_decides_otherwise() -> None:
    assert RankingPolicy().eligible(standing(LISTED, OPEN)).tolist() == [True, False, False, False]
