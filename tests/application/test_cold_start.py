"""Ranking unseen jobs among themselves."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.als import AlsParameters, AlsTrainer
from adapters.content import TextTrainer
from application.cold_start import ColdPart, ColdStart
from application.new_jobs import ContentLearning
from domain.model import ActivityTally, Job
from domain.ports import nobody
from domain.scoring import ScoringPolicy
from tests.application.test_new_jobs import JOBS, PEOPLE, advert, known_jobs
from tests.fakes import NOON, FakeCatalog

K = 5
UNSEEN = range(600, 630)
THEN = NOON.timestamp()


def tally_of(pairs: list[tuple[int, int]]) -> ActivityTally:
    users, jobs = zip(*pairs, strict=True)
    return ActivityTally.from_events(users, jobs, [0] * len(pairs), [THEN] * len(pairs))


def measured(unseen: list[Job], held_out: list[tuple[int, int]]) -> ColdPart | None:
    """Measure where people like the jobs of the trade of their id modulo 3."""
    chance = np.random.default_rng(5)
    train = [
        (person, int(job) * 3 + person % 3)
        for person in range(PEOPLE)
        for job in chance.choice(JOBS // 3, 8, replace=False)
    ]
    interactions = ScoringPolicy.funnel().interactions(tally_of(train))
    recommender = AlsTrainer(AlsParameters(factors=6, iterations=5)).fit(interactions, 1, nobody)
    catalog = FakeCatalog([*known_jobs(), *unseen])
    cold_start = ColdStart(catalog, ContentLearning(catalog, TextTrainer()))
    return cold_start.measure(tally_of(held_out), interactions, recommender, K, 1)


def test_texts_tell_tastes_that_popularity_and_chance_do_not() -> None:
    unseen = [advert(id_, id_ % 3) for id_ in UNSEEN]
    cold = measured(unseen, [(person, 600 + person % 30) for person in range(PEOPLE)])
    assert cold is not None
    assert (cold.people, cold.targets, cold.jobs) == (PEOPLE, PEOPLE, 30)
    assert cold.recall["random"] == pytest.approx(K / 30)
    assert cold.recall["content"] > 2 * cold.recall["popular employers"]


def test_candidates_were_open_at_some_time_of_the_held_out_part_and_have_a_text() -> None:
    shut = NOON.replace(hour=11)
    later = NOON.replace(hour=13)
    unseen = [advert(600, 0), advert(601, 0, closes_at=shut), advert(602, 0, posted_at=later)]
    cold = measured([*unseen, Job(603)], [(0, 600), (0, 601), (3, 603)])
    assert cold is not None
    assert (cold.jobs, cold.targets, cold.people) == (1, 1, 1)
    assert cold.recall["content"] == 1


def test_without_a_target_among_unseen_jobs_nothing_is_measured() -> None:
    assert measured([advert(600, 0)], [(0, 3)]) is None
    assert measured([], [(0, 600)]) is None
