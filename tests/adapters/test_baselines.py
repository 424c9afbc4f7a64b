"""Baselines on data with a provable answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.baselines import baselines, item_knn
from domain.errors import InputError, NothingToLearn
from domain.model import IndexArray
from domain.ports import Recipe, Recommender, nobody
from domain.ranking import Ranked
from tests.tallies import Event, tally_of

NAMES = ["popular", "recent-popular", "item-knn", "last-seen", "random"]
DAY = 86_400.0

# Jobs 0 to 2 belong together, and so do 3 and 4; user and job ids are their positions
EVENTS: list[Event] = [
    (0, 0, 1 * DAY),
    (0, 1, 2 * DAY),
    (1, 0, 1 * DAY),
    (1, 1, 2 * DAY),
    (1, 2, 3 * DAY),
    (2, 0, 1 * DAY),
    (2, 3, 99 * DAY),
    (3, 3, 99 * DAY),
    (3, 4, 100 * DAY),
    (4, 0, 1 * DAY),
]


def recipe(name: str) -> Recipe:
    (found,) = (each for each in baselines() if each.name == name)
    return found


def learned(name: str, events: Sequence[Event] = EVENTS, seed: int = 1) -> Recommender:
    return recipe(name).learn(tally_of(events), seed, nobody)[1]


def lists(
    model: Recommender,
    users: Sequence[int],
    k: int = 5,
    jobs: int = 5,
    hidden: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    excluded = [np.array(own, dtype=np.int64) for own in hidden or [[]] * len(users)]
    eligible = np.ones(jobs, dtype=np.bool_)
    ranked = model.recommend(np.array(users, dtype=np.int64), k, eligible, excluded)
    return [each.jobs.tolist() for each in ranked]


def test_names_are_those_that_reports_show() -> None:
    assert [each.name for each in baselines()] == NAMES


def test_popular_counts_people_and_breaks_ties_by_id() -> None:
    assert lists(learned("popular"), [0, 3]) == [[0, 1, 3, 2, 4]] * 2


def test_recent_popular_prefers_what_people_came_to_lately() -> None:
    assert lists(learned("recent-popular"), [0]) == [[3, 4, 0, 1, 2]]


def test_without_times_recent_popular_is_popular() -> None:
    for time in (math.nan, 5.0):
        events = [(user, job, time) for user, job, _ in EVENTS]
        assert lists(learned("recent-popular", events), [0]) == [[0, 1, 3, 2, 4]]


def test_item_knn_adds_up_the_cosines_of_all_jobs_of_a_person() -> None:
    model = learned("item-knn")
    (ranked,) = model.recommend(
        np.array([2]), 5, np.ones(5, dtype=np.bool_), [np.array([0, 3], dtype=np.int64)]
    )
    # Person 2 did jobs 0 (4 people) and 3 (2 people): 1 shares 2 people with 0, of 2;
    # 4 shares 1 person with 3, of 1; 2 shares 1 person with 0, of 1
    expected = {4: 1 / math.sqrt(2 * 1), 1: 2 / math.sqrt(4 * 2), 2: 1 / math.sqrt(4 * 1)}
    assert ranked.jobs.tolist() == [1, 4, 2]
    assert dict(zip(ranked.jobs.tolist(), ranked.scores.tolist(), strict=True)) == pytest.approx(
        expected, abs=1e-6
    )


def test_last_seen_takes_the_neighbours_of_the_latest_job_only() -> None:
    assert lists(learned("last-seen"), [2], hidden=[[0, 3]]) == [[4]]


def test_without_times_last_seen_is_item_knn() -> None:
    events = [(user, job, math.nan) for user, job, _ in EVENTS]
    users = list(range(5))
    expected = lists(learned("item-knn"), users)
    assert lists(learned("last-seen", events), users) == expected


def test_only_the_nearest_neighbours_are_kept() -> None:
    known, _ = recipe("item-knn").learn(tally_of(EVENTS), 1, nobody)
    model = item_knn(neighbours=1).fit(known, 1, nobody)
    assert lists(model, [4]) == [[1]]


def test_similar_jobs_are_ranked_by_cosine_without_the_job_itself() -> None:
    ranked = learned("item-knn").similar(0, 5, np.ones(5, dtype=np.bool_))
    assert ranked.jobs.tolist() == [1, 2, 3]
    expected = [2 / math.sqrt(8), 1 / math.sqrt(4), 1 / math.sqrt(8)]
    assert ranked.scores.tolist() == pytest.approx(expected)


def test_chance_is_even_and_the_seed_decides() -> None:
    events = [(user, job, 1.0) for user in range(2_000) for job in (user % 5,)]
    users = list(range(2_000))
    one, same, other = (
        [own[0] for own in lists(learned("random", events, seed), users, k=1)] for seed in (1, 1, 2)
    )
    assert one == same != other
    # 2000 draws at 1/5: five standard deviations are 89
    assert all(311 <= one.count(job) <= 489 for job in range(5))


@pytest.mark.parametrize("name", NAMES)
def test_learning_leaves_the_interactions_as_they_were(name: str) -> None:
    known, _ = recipe(name).learn(tally_of(EVENTS), 1, nobody)
    before = {part: array.copy() for part, array in known.arrays().items()}
    recipe(name).trainer.fit(known, 1, nobody)
    for part, array in known.arrays().items():
        assert (array == before[part]).all(), part


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_learn_from_is_an_error(name: str) -> None:
    with pytest.raises(NothingToLearn):
        learned(name, [])


def test_a_number_of_neighbours_below_1_is_refused() -> None:
    with pytest.raises(InputError, match="neighbours 0 is below 1"):
        item_knn(neighbours=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_told_of_and_briefness_changes_nothing(name: str) -> None:
    trainer = recipe(name).trainer
    steps: list[tuple[int, int]] = []
    recipe(name).learn(tally_of(EVENTS), 1, lambda done, total: steps.append((done, total)))
    assert steps == [(0, 1), (1, 1)]
    assert trainer.brief(3).steps == 1
    with trainer.prepared() as ready:
        assert ready.parameters == trainer.parameters


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_lists_keep_the_rules_and_do_not_depend_on_company(name: str, data: st.DataObject) -> None:
    pairs = data.draw(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40)
    )
    known, model = recipe(name).learn(
        tally_of([(user, job, float(at)) for at, (user, job) in enumerate(pairs)]), 1, nobody
    )
    people, jobs = known.shape
    k = data.draw(st.integers(1, 12))
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=jobs, max_size=jobs)))
    hidden = [
        np.array(sorted(data.draw(st.sets(st.integers(0, jobs - 1)))), dtype=np.int64)
        for _ in range(people)
    ]

    together = model.recommend(np.arange(people), k, eligible, hidden)

    assert len(together) == people
    for user, ranked in enumerate(together):
        assert_in_order(ranked, k)
        assert eligible[ranked.jobs].all()
        assert not set(ranked.jobs.tolist()) & set(hidden[user].tolist())
        (alone,) = model.recommend(np.array([user]), k, eligible, [hidden[user]])
        assert alone.jobs.tolist() == ranked.jobs.tolist()
        assert alone.scores.tolist() == ranked.scores.tolist()
    for job in range(jobs):
        similar = model.similar(job, k, eligible)
        assert_in_order(similar, k)
        assert job not in similar.jobs.tolist()
        assert eligible[similar.jobs].all()


def assert_in_order(ranked: Ranked, k: int) -> None:
    jobs: IndexArray = ranked.jobs
    assert len(jobs) == len(ranked.scores) <= k
    assert len(set(jobs.tolist())) == len(jobs)
    assert (np.diff(ranked.scores) <= 0).all()
    assert np.isfinite(ranked.scores).all()
