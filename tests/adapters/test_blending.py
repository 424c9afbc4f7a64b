from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from adapters import neighbours
from adapters.als import AlsParameters, AlsTrainer
from adapters.blending import BlendTrainer
from adapters.factors import FactorRecommender, HalfStep
from adapters.neighbours import Neighbourhood, Neighbours, binary, nearest
from domain.errors import InputError, SnapshotCorrupt
from domain.model import BoolArray, FloatArray, History, IndexArray, Interactions
from domain.ports import nobody
from domain.scoring import DAY, one_each
from domain.trend import Trend
from tests.tallies import tally_of

NOW = 1_700_000_000.0
TREND = Trend(50.0)
PLAIN = AlsTrainer(AlsParameters(factors=4, iterations=3))
NOTHING: IndexArray = np.empty(0, np.int64)


def interactions() -> Interactions:
    """Thirty people at twelve jobs; job 12 is what everybody saw last."""
    tally = tally_of(
        [
            (user, job, NOW - DAY * (12 - job) * 10 - user)
            for user in range(30)
            for job in range(1, 13)
            if (user + job) % 3 or job == 12
        ]
    )
    return Interactions.from_tally(tally, one_each(tally))


def test_scores_are_the_models_own_and_the_lift() -> None:
    known = interactions()
    plain = PLAIN.fit(known, 1, nobody)
    lifted = BlendTrainer(PLAIN, Neighbours(), TREND).fit(known, 1, nobody)
    everything, people = np.ones(12, np.bool_), np.arange(30)

    lift = TREND.lift(known)

    assert lift.argmax() == 11
    for before, after in zip(
        plain.recommend(people, 12, everything, [NOTHING] * 30),
        lifted.recommend(people, 12, everything, [NOTHING] * 30),
        strict=True,
    ):
        expected = np.zeros(12, np.float32)
        expected[before.jobs] = before.scores
        expected += lift
        assert after.scores == pytest.approx(expected[after.jobs])
        assert after.jobs.tolist() == np.lexsort((np.arange(12), -expected)).tolist()
    assert lifted.lift(np.arange(12)) == pytest.approx(lift)


def test_similar_jobs_know_no_trend() -> None:
    known = interactions()
    everything = np.ones(12, np.bool_)
    plain = PLAIN.fit(known, 1, nobody).similar(2, 5, everything)
    lifted = (
        BlendTrainer(PLAIN, Neighbours(), TREND).fit(known, 1, nobody).similar(2, 5, everything)
    )
    assert plain.jobs.tolist() == lifted.jobs.tolist()
    assert plain.scores.tolist() == lifted.scores.tolist()


@pytest.mark.parametrize("neighbours", [Neighbours(), Neighbours(0.5, 4)])
def test_what_stands_beside_als_outlives_storing(neighbours: Neighbours) -> None:
    known, trainer = interactions(), BlendTrainer(PLAIN, neighbours, TREND)
    fitted = trainer.fit(known, 1, nobody)
    stored = FactorRecommender.from_arrays(
        {**known.arrays(), **fitted.arrays()}, trainer.parameters
    )
    people, everything = np.arange(30), np.ones(12, np.bool_)
    for before, after in zip(
        fitted.recommend(people, 12, everything, [NOTHING] * 30),
        stored.recommend(people, 12, everything, [NOTHING] * 30),
        strict=True,
    ):
        assert before.jobs.tolist() == after.jobs.tolist()
        assert before.scores.tolist() == after.scores.tolist()


def test_without_a_trend_nothing_more_is_stored() -> None:
    assert set(PLAIN.fit(interactions(), 1, nobody).arrays()) == {"user_factors", "job_factors"}


def test_parameters_tell_both() -> None:
    trainer = BlendTrainer(PLAIN, Neighbours(), TREND)
    assert trainer.parameters == {
        **PLAIN.parameters,
        "name": "blend",
        "trend": 50.0,
        "trend_half_life_days": 14.0,
    }
    assert trainer.brief(2).parameters["iterations"] == 2
    assert trainer.brief(2).parameters["trend"] == 50.0
    assert trainer.steps == PLAIN.steps


def recommender(lift: FloatArray) -> FactorRecommender:
    random = np.random.default_rng(3)
    return FactorRecommender(
        random.standard_normal((5, 4), np.float32),
        random.standard_normal((len(lift), 4), np.float32),
        HalfStep(),
        lift,
    )


def test_contributions_and_lift_add_up_to_a_folded_score() -> None:
    lifted = recommender(np.linspace(0, 3, 9, dtype=np.float32))
    history = History(np.array([1, 4]), np.ones(2, np.float32), np.ones(2, np.uint8))

    (ranked,) = lifted.fold_in([history], 9, np.ones(9, np.bool_), [NOTHING])

    sums = lifted.contributions(history, ranked.jobs).sum(axis=1) + lifted.lift(ranked.jobs)
    assert sums == pytest.approx(ranked.scores, rel=1e-5, abs=1e-5)


def test_further_jobs_are_lifted_as_learned_ones_usually_are() -> None:
    lifted = recommender(np.array([0, 1, 2, 5], np.float32))
    more = lifted.with_jobs(np.ones((2, 4), np.float32)).with_jobs(np.ones((1, 4), np.float32))
    assert more.lift(np.arange(7)).tolist() == [0, 1, 2, 5, 2, 2, 2]


@pytest.mark.parametrize("lift", [np.zeros(3, np.float32), np.zeros(4, np.float64)])
def test_a_lift_that_does_not_fit_is_refused(lift: FloatArray) -> None:
    factors = np.zeros((4, 2), np.float32)
    with pytest.raises(SnapshotCorrupt, match="lift is float"):
        FactorRecommender(factors, factors, lift=lift)


NEIGHBOURS = Neighbours(0.5, 4)


def test_scores_are_the_models_own_and_half_the_cosines_by_the_root_of_jobs() -> None:
    known = interactions()
    plain = PLAIN.fit(known, 1, nobody)
    blended = BlendTrainer(PLAIN, NEIGHBOURS, Trend()).fit(known, 1, nobody)
    everything, people = np.ones(12, np.bool_), np.arange(30)
    done = binary(known.indices, known.indptr, known.shape).toarray()
    cosines = nearest(known, 4).toarray()

    assert (np.count_nonzero(cosines, axis=1) == 4).all()
    for person, before, after in zip(
        people,
        plain.recommend(people, 12, everything, [NOTHING] * 30),
        blended.recommend(people, 12, everything, [NOTHING] * 30),
        strict=True,
    ):
        expected = np.zeros(12, np.float32)
        expected[before.jobs] = before.scores
        expected += 0.5 * done[person] @ cosines / np.sqrt(done[person].sum())
        assert after.scores == pytest.approx(expected[after.jobs], rel=1e-5, abs=1e-6)
        assert sorted(after.scores.tolist(), reverse=True) == after.scores.tolist()


def test_where_nobody_did_anything_there_are_no_neighbours() -> None:
    nothing = tally_of([])
    known = Interactions.from_tally(nothing, one_each(nothing))
    assert nearest(known, 4).shape == (0, 0)


def test_a_batch_gives_each_person_the_list_that_they_get_alone() -> None:
    blended = BlendTrainer(PLAIN, NEIGHBOURS, TREND).fit(interactions(), 1, nobody)
    everything, people = np.ones(12, np.bool_), np.arange(30)
    together = blended.recommend(people, 5, everything, [NOTHING] * 30)
    for person, ranked in zip(people, together, strict=True):
        (alone,) = blended.recommend(np.array([person]), 5, everything, [NOTHING])
        assert alone.jobs.tolist() == ranked.jobs.tolist()
        assert alone.scores.tolist() == ranked.scores.tolist()


def test_somebody_folded_in_by_what_was_learned_of_them_is_ranked_as_a_known_person() -> None:
    known = interactions()
    trainer = BlendTrainer(AlsTrainer(AlsParameters(factors=4, iterations=60)), NEIGHBOURS, TREND)
    blended, everything = trainer.fit(known, 1, nobody), np.ones(12, np.bool_)
    (learned,) = blended.recommend(np.array([7]), 12, everything, [NOTHING])

    (folded,) = blended.fold_in([known.history(7)], 12, everything, [NOTHING])

    assert folded.jobs[:3].tolist() == learned.jobs[:3].tolist()
    sums = blended.contributions(known.history(7), folded.jobs).sum(axis=1)
    assert sums + blended.lift(folded.jobs) == pytest.approx(folded.scores, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("missing", ["nearest_data", "nearest_indptr", "job_ids"])
def test_a_blend_without_one_of_its_arrays_is_refused(missing: str) -> None:
    known, trainer = interactions(), BlendTrainer(PLAIN, NEIGHBOURS, TREND)
    arrays = {**known.arrays(), **trainer.fit(known, 1, nobody).arrays()}
    del arrays[missing]
    with pytest.raises(SnapshotCorrupt, match=missing):
        FactorRecommender.from_arrays(arrays, trainer.parameters)


def test_further_jobs_are_nobodys_neighbours() -> None:
    blended = BlendTrainer(PLAIN, NEIGHBOURS, Trend()).fit(interactions(), 1, nobody)
    more = blended.with_jobs(np.ones((2, 4), np.float32))
    people, everything = np.arange(30), np.ones(14, np.bool_)
    known = everything.copy()
    known[12:] = False

    for before, after in zip(
        blended.recommend(people, 12, np.ones(12, np.bool_), [NOTHING] * 30),
        more.recommend(people, 12, known, [NOTHING] * 30),
        strict=True,
    ):
        assert before.scores == pytest.approx(after.scores)
    history = History(np.array([1, 13]), np.ones(2, np.float32), np.ones(2, np.uint8))
    (ranked,) = more.fold_in([history], 14, everything, [NOTHING])
    sums = more.contributions(history, ranked.jobs).sum(axis=1)
    assert sums == pytest.approx(ranked.scores, rel=1e-5, abs=1e-5)


def test_parameters_name_a_blend_and_give_it_back() -> None:
    parameters = BlendTrainer(PLAIN, NEIGHBOURS, Trend()).parameters
    assert parameters == {
        **PLAIN.parameters,
        "name": "blend",
        "neighbour_weight": 0.5,
        "neighbours": 4,
    }
    assert Neighbours.of(parameters) == NEIGHBOURS
    assert Neighbours.of(PLAIN.parameters).weight == 0


@pytest.mark.parametrize(
    ("weight", "count", "name"),
    [
        (-0.1, 100, "neighbour_weight"),
        (float("nan"), 100, "neighbour_weight"),
        (float("inf"), 100, "neighbour_weight"),
        (0.1, 0, "neighbours 0"),
        (0.1, 10_001, "neighbours 10001"),
    ],
)
def test_values_out_of_bounds_are_refused(weight: float, count: int, name: str) -> None:
    with pytest.raises(InputError, match=name):
        Neighbours(weight, count)


def test_neighbours_of_nobody_add_nothing() -> None:
    empty = Neighbourhood(np.zeros(2, np.int64), NOTHING, nearest_of_none(3), 1.0)
    assert empty.of_users(np.array([0])).tolist() == [[0, 0, 0]]
    assert empty.of_jobs([]).shape == (0, 3)


def nearest_of_none(jobs: int) -> csr_matrix:
    return csr_matrix((jobs, jobs), dtype=np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.05, 0.5, 0.85, 1.0]),
    k=st.integers(1, 15),
    cells=st.sampled_from([0, 100, 1 << 21]),
)
@settings(deadline=None, max_examples=30)
def test_lists_are_the_same_where_the_jobs_that_may_appear_are_set_apart(
    seed: int, share: float, k: int, cells: int
) -> None:
    random = np.random.default_rng(seed)
    known = interactions()
    people, count = known.shape
    users, jobs = (random.integers(-2, 3, (n, 4)).astype(np.float32) for n in known.shape)
    lift = random.integers(0, 3, count).astype(np.float32)
    eligible = random.random(count) < share
    excluded = [np.flatnonzero(random.random(count) < 0.2) for _ in range(people)]
    histories = [known.history(user) for user in range(people)]

    def lists(eligible: BoolArray) -> list[list[tuple[list[int], list[float]]]]:
        model = FactorRecommender(users, jobs).beside(NEIGHBOURS.learn(known)).lifted(lift)
        return [
            [
                (ranked.jobs.tolist(), ranked.scores.tolist())
                for ranked in (
                    *model.recommend(np.arange(people), k, eligible, excluded),
                    *model.fold_in(histories, k, eligible, excluded),
                )
            ]
            for _ in range(3)
        ]

    expected = lists(eligible)[0]
    fixed = eligible.copy()
    fixed.flags.writeable = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_CELLS", cells)
        assert lists(fixed) == [expected] * 3
    assert all(set(own) <= set(np.flatnonzero(eligible)) for own, _ in expected)


def test_of_each_job_the_nearest_are_kept_whoever_works_on_it() -> None:
    jobs = 600
    # Few people, so that many cosines are equal
    done = np.random.default_rng(5).random((40, jobs)) < 0.1
    done[0] = True
    tally = tally_of([(user, job, NOW) for user, job in zip(*np.nonzero(done), strict=True)])
    known = Interactions.from_tally(tally, one_each(tally))
    ones = done.astype(np.float32)
    lengths = np.sqrt(ones.sum(axis=0))
    cosines = (ones.T @ ones) / (lengths[:, None] * lengths)
    np.fill_diagonal(cosines, 0)
    for row in cosines:
        row[np.lexsort((np.arange(jobs), -row))[7:]] = 0
    for threads in (1, 3):
        assert (nearest(known, 7, threads).toarray() == cosines).all()
