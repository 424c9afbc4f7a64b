from __future__ import annotations

import numpy as np
import pytest

from adapters.als import AlsParameters, AlsTrainer
from adapters.baselines import popular
from adapters.factors import FactorRecommender, HalfStep
from adapters.trending import TrendTrainer
from domain.errors import SnapshotCorrupt
from domain.model import FloatArray, History, IndexArray, Interactions
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
    lifted = TrendTrainer(PLAIN, TREND).fit(known, 1, nobody)
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
    lifted = TrendTrainer(PLAIN, TREND).fit(known, 1, nobody).similar(2, 5, everything)
    assert plain.jobs.tolist() == lifted.jobs.tolist()
    assert plain.scores.tolist() == lifted.scores.tolist()


def test_a_trend_outlives_storing() -> None:
    known, trainer = interactions(), TrendTrainer(PLAIN, TREND)
    fitted = trainer.fit(known, 1, nobody)
    stored = FactorRecommender.from_arrays(fitted.arrays(), trainer.parameters)
    people, everything = np.arange(30), np.ones(12, np.bool_)
    for before, after in zip(
        fitted.recommend(people, 12, everything, [NOTHING] * 30),
        stored.recommend(people, 12, everything, [NOTHING] * 30),
        strict=True,
    ):
        assert before.scores.tolist() == after.scores.tolist()


def test_without_a_trend_nothing_more_is_stored() -> None:
    assert set(PLAIN.fit(interactions(), 1, nobody).arrays()) == {"user_factors", "job_factors"}


def test_parameters_tell_both() -> None:
    trainer = TrendTrainer(PLAIN, TREND)
    assert trainer.parameters == {
        **PLAIN.parameters,
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


def test_a_model_that_cannot_lift_says_so() -> None:
    with pytest.raises(TypeError, match="PopularRecommender cannot lift jobs"):
        TrendTrainer(popular(), TREND).fit(interactions(), 1, nobody)
