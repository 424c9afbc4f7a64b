"""Jobs that came after the training, over a model and texts with planted tastes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.als import AlsParameters, AlsTrainer
from adapters.content import TextModel, TextTrainer
from adapters.factors import FactorRecommender
from adapters.lmdb_catalog import LmdbCatalog
from application.new_jobs import ContentLearning
from application.recommending import Models, RecommendationList, Recommending
from domain.model import Job, JobFilter, RecommendationSource
from domain.ports import JOB_FIELDS, Arrays, nobody
from domain.ranking import RankingPolicy
from tests.application.test_recommending import interactions_of, store
from tests.fakes import NOON, Event, FakeCatalog, FakeSnapshotStore, ManualClock

TRADES = ("nurse ward patients care", "software python servers code", "bricks mortar walls crane")
JOBS, PEOPLE = 60, 90
NEW = RecommendationSource.NEW
HOUR = timedelta(hours=1)


def advert(id_: int, trade: int, **more: Any) -> Job:
    words = TRADES[trade].split()
    return replace(
        Job(id_, words[0].title(), f"Firm {id_ % 7}", description=f"<p>{' '.join(words[1:])}</p>"),
        **more,
    )


def known_jobs() -> list[Job]:
    return [advert(id_, id_ % 3) for id_ in range(JOBS)]


@cache
def learned() -> Arrays:
    """Return a model of people, each of whom likes the jobs of the trade of their id modulo 3."""
    chance = np.random.default_rng(5)
    interactions = interactions_of(
        Event(person, int(job) * 3 + person % 3)
        for person in range(PEOPLE)
        for job in chance.choice(JOBS // 3, 8, replace=False)
    )
    trainer = AlsTrainer(AlsParameters(factors=6, iterations=5))
    recommender = trainer.fit(interactions, 1, nobody)
    learning = ContentLearning(FakeCatalog(known_jobs()), TextTrainer())
    content = learning.learn(learning.begin(interactions, 1), interactions, recommender, nobody)
    assert content is not None
    return {**interactions.arrays(), **recommender.arrays(), **content.arrays()}


class Scene:
    """The real service over the learned model and a catalogue that changes."""

    def __init__(self, *new: Job, catalog: LmdbCatalog | None = None) -> None:
        snapshots, self.clock = FakeSnapshotStore(), ManualClock()
        self.catalog = FakeCatalog([*known_jobs(), *new])
        if catalog is not None:
            catalog.upsert_jobs([*known_jobs(), *new])
        store(snapshots, "1", learned())
        models = Models(
            snapshots,
            lambda _, arrays: FactorRecommender.from_arrays(arrays),
            TextModel.from_arrays,
        )
        models.refresh()
        self.recommending = Recommending(
            models, catalog or self.catalog, RankingPolicy(), self.clock
        )

    def answer(
        self, person: int, first: int = 100, where: JobFilter | None = None
    ) -> RecommendationList:
        return self.recommending.for_users([person], first, where)[0]

    def similar(self, job: int, first: int = 10) -> list[int]:
        answer = self.recommending.similar(job, first)
        assert answer is not None
        return [item.job_id for item in answer.items]


def new_in(answer: RecommendationList) -> list[int]:
    return [item.job_id for item in answer.items if item.source is NEW]


def test_a_new_job_is_in_the_next_answers_of_those_whose_trade_it_is() -> None:
    scene = Scene()
    assert new_in(scene.answer(0)) == []
    scene.catalog.put(advert(500, 0))
    for person in range(12):
        assert (500 in new_in(scene.answer(person, 20))) == (person % 3 == 0)


def test_a_new_job_is_labelled_whatever_the_list_and_comes_last_for_those_unknown() -> None:
    scene = Scene(advert(500, 0, posted_at=NOON - HOUR), advert(501, 1, posted_at=NOON))
    assert set(new_in(scene.answer(0))) == {500, 501}
    popular = scene.answer(9_999).items
    assert [item.job_id for item in popular][-2:] == [501, 500]
    assert [(item.source, item.score) for item in popular[-2:]] == [(NEW, 0.0)] * 2


def test_new_jobs_resemble_those_of_their_trade_and_are_found_from_them() -> None:
    scene = Scene(advert(500, 1), advert(502, 1), advert(501, 2))
    found = scene.similar(500)
    assert len(found) == 10
    assert 502 in found
    assert {job % 3 for job in found if job < JOBS} <= {1}
    assert {500, 502} <= set(scene.similar(1, 25))
    listed = scene.recommending.similar(1, 25)
    assert listed is not None
    assert all(
        item.source is (NEW if item.job_id >= JOBS else RecommendationSource.SIMILAR)
        for item in listed.items
    )
    assert 501 not in scene.similar(1, 20)


def test_closed_removed_and_filtered_new_jobs_never_appear() -> None:
    scene = Scene(
        advert(500, 0, closes_at=NOON),
        advert(501, 0, closes_at=NOON + HOUR),
        advert(502, 0, posted_at=NOON + HOUR),
        advert(503, 0, employer="Other"),
    )
    assert set(new_in(scene.answer(0))) == {501, 503}
    assert new_in(scene.answer(0, where=JobFilter(employer="other"))) == [503]
    assert new_in(scene.answer(9_999, where=JobFilter(employer="other"))) == [503]
    assert scene.recommending.similar(500, 5) is None
    scene.clock.advance(hours=1)
    assert set(new_in(scene.answer(0))) == {502, 503}
    scene.catalog.remove(503)
    assert set(new_in(scene.answer(0))) == {502}
    assert 503 not in scene.similar(0, 100)


def test_a_text_that_changed_places_its_job_anew() -> None:
    scene = Scene(advert(500, 0))
    assert 500 in new_in(scene.answer(0, 20))
    scene.catalog.put(advert(500, 1))
    assert 500 not in new_in(scene.answer(0, 20))
    assert 500 in new_in(scene.answer(1, 20))


@pytest.mark.parametrize("text", ["", "zzyzx qwxyz", "<br>&nbsp;"])
def test_a_new_job_whose_text_tells_nothing_waits_for_the_next_training(text: str) -> None:
    scene = Scene(Job(500, text))
    assert new_in(scene.answer(0)) == []
    assert scene.recommending.similar(500, 5) is None


def test_only_new_texts_are_read_when_a_job_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = TextModel.vectors

    def watched(self: TextModel, jobs: list[Job]) -> object:
        read.extend(job.id for job in jobs)
        return real(self, jobs)

    monkeypatch.setattr(TextModel, "vectors", watched)
    scene = Scene(advert(500, 0), advert(501, 1))
    scene.answer(0)
    scene.catalog.put(advert(502, 2))
    scene.answer(0)
    scene.answer(1)
    assert read == [500, 501, 502]


def test_only_jobs_that_changed_are_read_where_the_catalogue_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = LmdbCatalog(tmp_path)
    scene = Scene(advert(500, 0), advert(501, 1), catalog=catalog)
    read: list[list[int]] = []
    real = LmdbCatalog.jobs

    def watched(self: LmdbCatalog, ids: list[int], fields: frozenset[str] = JOB_FIELDS) -> Any:
        read.append(sorted(ids))
        return real(self, ids, fields)

    monkeypatch.setattr(LmdbCatalog, "jobs", watched)

    def new(person: int) -> set[int]:
        return set(new_in(scene.answer(person)))

    assert new(0) == {500, 501}
    catalog.upsert_jobs([advert(502, 2)])
    assert new(0) == {500, 501, 502}
    catalog.close_jobs([5])
    assert new(0) == {500, 501, 502}
    catalog.remove_jobs([501])
    assert new(0) == {500, 502}
    catalog.upsert_jobs([advert(500, 1)])
    assert 500 in new_in(scene.answer(1, 20))
    assert 500 not in new_in(scene.answer(0, 20))
    assert read == [[500, 501], [502], [], [], [500]]


@given(
    trades=st.lists(st.integers(0, 2), max_size=8),
    people=st.lists(st.integers(0, PEOPLE + 5), min_size=1, max_size=6),
    first=st.integers(1, 80),
)
@settings(deadline=None, max_examples=40)
def test_lists_with_new_jobs_hold_no_job_twice_and_no_more_than_asked_and_batch_is_single(
    trades: list[int], people: list[int], first: int
) -> None:
    scene = Scene(*(advert(500 + row, trade) for row, trade in enumerate(trades)))
    batch = scene.recommending.for_users(people, first)
    assert batch == [scene.answer(person, first) for person in people]
    for answer in batch:
        ids = [item.job_id for item in answer.items]
        assert len(set(ids)) == len(ids) <= first
        assert all((item.source is NEW) == (item.job_id >= 500) for item in answer.items)
