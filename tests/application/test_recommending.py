from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.factors import FactorRecommender
from adapters.snapshots import DirectorySnapshotStore
from application.recommending import (
    MAX_BATCH,
    MAX_FIRST,
    Models,
    RecommendationList,
    Recommending,
    top_lists,
)
from domain.errors import InputError, ModelNotReady, SnapshotMissing
from domain.model import (
    MAX_ID,
    ActivityKind,
    ActivityTally,
    Interactions,
    Job,
    JobFilter,
    RecommendationSource,
    ShortfallReason,
)
from domain.ranking import RankingPolicy, Unlisted
from domain.runs import Manifest
from domain.scoring import INTEREST, ScoringPolicy
from domain.variety import Variety
from tests.fakes import NOON, Event, FakeCatalog, FakeSnapshotStore, ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from domain.model import FloatArray, IdArray
    from domain.ports import Arrays, SnapshotStore
    from domain.ranking import Standing

HOUR = timedelta(hours=1)
PERSONALISED, POPULAR = RecommendationSource.PERSONALISED, RecommendationSource.POPULAR


def interactions_of(events: Iterable[Event]) -> Interactions:
    events = list(events)
    tally = ActivityTally.from_events(
        [event.user_id for event in events],
        [event.job_id for event in events],
        [int(event.kind) for event in events],
        [event.timestamp for event in events],
    )
    return ScoringPolicy.funnel().interactions(tally)


def manifest(version: str) -> Manifest:
    return Manifest(
        version=version,
        trained_at=NOON,
        users=0,
        jobs=0,
        activities=0,
        since=None,
        until=None,
        seed=0,
        scoring={},
        trainer={},
    )


def store(snapshots: SnapshotStore, version: str, arrays: Arrays) -> None:
    snapshots.write(manifest(version), arrays)
    snapshots.promote(version)


def model_arrays(interactions: Interactions, seed: int = 0, width: int = 5) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        **interactions.arrays(),
        "user_factors": random.standard_normal((len(interactions.users), width), np.float32),
        "job_factors": random.standard_normal((len(interactions.jobs), width), np.float32),
    }


@dataclass
class Scene:
    """The real service over a model given by hand and a catalogue that can be changed."""

    recommending: Recommending
    models: Models
    catalog: FakeCatalog
    clock: ManualClock

    def ids(self, user_id: int, first: int = 100, where: JobFilter | None = None) -> list[int]:
        return ids_of(self.recommending.for_users([user_id], first, where)[0])


def scene_of(arrays: Arrays, jobs: Iterable[Job], unlisted: Unlisted = Unlisted.SERVE) -> Scene:
    snapshots, clock, catalog = FakeSnapshotStore(), ManualClock(), FakeCatalog(jobs)
    store(snapshots, "1", arrays)
    models = Models(snapshots, lambda _, arrays: FactorRecommender.from_arrays(arrays))
    models.refresh()
    return Scene(
        Recommending(models, catalog, RankingPolicy(unlisted), clock), models, catalog, clock
    )


def ids_of(answer: RecommendationList) -> list[int]:
    return [item.job_id for item in answer.items]


def ranking_scene(unlisted: Unlisted = Unlisted.SERVE) -> Scene:
    """Person 1 likes jobs 10, 20, 30, 40 in this order; they have applied to 20.

    Interest, from the most: 40, 30, 20, 10. Job 40 is not in the catalogue.
    """
    events = [Event(1, 20, ActivityKind.APPLY)]
    for job, people in {10: 1, 20: 2, 30: 9, 40: 12}.items():
        events += [Event(100 + person, job) for person in range(people)]
    interactions = interactions_of(events)
    user_factors = np.zeros((len(interactions.users), 2), np.float32)
    user_factors[0] = [1, 0]
    arrays = {
        **interactions.arrays(),
        "user_factors": user_factors,
        "job_factors": np.array([[4, 0], [3, 1], [2, 1], [1, 1]], np.float32),
    }
    return scene_of(arrays, [Job(10), Job(20), Job(30)], unlisted)


# What may stand in a list


@dataclass(frozen=True)
class Advert:
    """A job of a random catalogue: how it stands at NOON, in words."""

    standing: str
    employer: str

    def job(self, id_: int) -> Job | None:
        spans = {
            "open": (NOON - HOUR, NOON + HOUR),
            "undated": (None, None),
            "closed": (NOON - 2 * HOUR, NOON),
            "coming": (NOON + HOUR, None),
        }
        if self.standing == "unlisted":
            return None
        posted_at, closes_at = spans[self.standing]
        return Job(id_, employer=self.employer, posted_at=posted_at, closes_at=closes_at)


adverts = st.builds(
    Advert,
    st.sampled_from(["open", "undated", "closed", "coming", "unlisted"]),
    st.sampled_from(["Smith", "Jones"]),
)
person_ids = st.sampled_from([0, 1, 2, 2**40, MAX_ID])
job_ids = st.sampled_from([0, 3, 4, 5, 6, 7, 8, 2**33, MAX_ID - 1, MAX_ID])
factors = st.sampled_from(["whole", "real", "zero"])


def factors_of(kind: str, rows: int, random: np.random.Generator) -> FloatArray:
    if kind == "whole":  # with many equal scores
        return random.integers(-1, 3, (rows, 3)).astype(np.float32)
    if kind == "real":
        return random.standard_normal((rows, 3), np.float32)
    return np.zeros((rows, 3), np.float32)


@given(
    events=st.lists(
        # Other kinds leave no pair behind, so that the model does not know their jobs
        st.builds(Event, person_ids, job_ids, st.sampled_from(INTEREST)),
        min_size=1,
        max_size=40,
    ),
    catalogue=st.dictionaries(job_ids, adverts),
    kinds=st.tuples(factors, factors),
    seed=st.integers(0, 1000),
    unlisted=st.sampled_from(Unlisted),
    where=st.sampled_from([None, JobFilter(), JobFilter(employer="smith")]),
    exclude=st.sets(st.sampled_from(ActivityKind)),
    people=st.lists(person_ids | st.sampled_from([77, 78]), max_size=8),
    first=st.integers(1, 12),
)
@settings(deadline=None, max_examples=300)
def test_lists_hold_only_jobs_that_may_stand_there_each_once_and_as_many_as_asked_for(
    events: list[Event],
    catalogue: dict[int, Advert],
    kinds: tuple[str, str],
    seed: int,
    unlisted: Unlisted,
    where: JobFilter | None,
    exclude: set[ActivityKind],
    people: list[int],
    first: int,
) -> None:
    interactions, random = interactions_of(events), np.random.default_rng(seed)
    scene = scene_of(
        {
            **interactions.arrays(),
            "user_factors": factors_of(kinds[0], len(interactions.users), random),
            "job_factors": factors_of(kinds[1], len(interactions.jobs), random),
        },
        [job for id_, advert in catalogue.items() if (job := advert.job(id_)) is not None],
        unlisted,
    )
    is_filtered = where == JobFilter(employer="smith")
    may_stand = set()
    for id_ in interactions.jobs.ids.tolist():
        advert = catalogue.get(id_, Advert("unlisted", ""))
        if advert.standing == "unlisted":
            is_eligible = unlisted is Unlisted.SERVE and not is_filtered
        else:
            is_eligible = advert.standing in {"open", "undated"} and (
                not is_filtered or advert.employer == "Smith"
            )
        if is_eligible:
            may_stand.add(id_)

    answers = scene.recommending.for_users(people, first, where, tuple(exclude))

    assert people == [answer.user_id for answer in answers]
    known = set(interactions.users.ids.tolist())
    for answer in answers:
        hiding = {*exclude, ActivityKind.DISMISS}
        own = {e.job_id for e in events if e.user_id == answer.user_id and e.kind in hiding}
        ids = ids_of(answer)
        assert len(ids) == min(first, len(may_stand - own))
        assert set(ids) <= may_stand - own
        assert len(set(ids)) == len(ids)
        assert [item.rank for item in answer.items] == list(range(1, len(ids) + 1))
        assert all(math.isfinite(item.score) for item in answer.items)
        personal = [item for item in answer.items if item.source is PERSONALISED]
        popular = [item for item in answer.items if item.source is POPULAR]
        assert [*personal, *popular] == list(answer.items)
        for part in (personal, popular):
            assert part == sorted(part, key=lambda item: (-item.score, item.job_id))
        if answer.user_id not in known or kinds[0] == "zero":
            assert not personal
        if personal:  # whoever gets any job from the model gets all from it
            assert not popular
        expected_reason = None
        if len(ids) < first and len(may_stand) >= first:
            expected_reason = ShortfallReason.EXCLUDED
        elif len(ids) < first:
            expected_reason = ShortfallReason.FILTER if is_filtered else ShortfallReason.CATALOGUE
        assert answer.shortfall == expected_reason


def test_jobs_that_somebody_applied_to_are_left_out_unless_asked_for() -> None:
    scene = ranking_scene()
    assert scene.ids(1) == [10, 30, 40]
    (everything,) = scene.recommending.for_users([1], 4, exclude=())
    assert ids_of(everything) == [10, 20, 30, 40]


def test_jobs_named_are_left_out_too_whether_known_or_not() -> None:
    (answer,) = ranking_scene().recommending.for_users([1], 4, exclude_jobs=[10, 999])
    assert ids_of(answer) == [30, 40]


def test_more_jobs_to_leave_out_than_the_bound_are_refused() -> None:
    with pytest.raises(InputError, match="excludeJobIds holds 1,001 ids, at most 1,000"):
        ranking_scene().recommending.for_users([1], 4, exclude_jobs=range(1_001))


def test_closed_jobs_stand_in_a_list_where_they_are_included() -> None:
    scene = ranking_scene(Unlisted.HIDE)
    scene.catalog.put(Job(10, closed=True))
    assert scene.ids(1) == [30]
    (everything,) = scene.recommending.for_users([1], 4, include_closed=True)
    assert ids_of(everything) == [10, 30]
    assert scene.ids(1) == [30]


def test_a_bound_for_each_employer_is_filled_up_from_further_down_also_beyond_the_pool() -> None:
    jobs = 300
    interactions = interactions_of([Event(user, job) for user in (1, 2) for job in range(jobs)])
    factors = np.ones((jobs, 1), np.float32) * np.linspace(2, 1, jobs, dtype=np.float32)[:, None]
    arrays = {
        **interactions.arrays(),
        "user_factors": np.ones((2, 1), np.float32),
        "job_factors": factors,
    }
    scene = scene_of(arrays, [Job(id_, employer="Big" if id_ < 280 else "") for id_ in range(jobs)])
    (answer,) = scene.recommending.for_users([1], 5, variety=Variety(max_per_employer=2))
    assert ids_of(answer) == [0, 1, 280, 281, 282]
    (alone,) = scene.recommending.for_users([1, 2], 5, variety=Variety(max_per_employer=2))[:1]
    assert alone == answer


def test_spread_alone_shows_what_few_are_interested_in_first() -> None:
    (answer,) = ranking_scene().recommending.for_users(
        [1], 4, exclude=(), variety=Variety(spread=1)
    )
    assert ids_of(answer) == [10, 20, 30, 40]
    (popular,) = ranking_scene().recommending.for_users([5], 4, variety=Variety(spread=1))
    assert ids_of(popular) == [10, 20, 30, 40]


def test_what_somebody_left_off_is_what_they_went_on_to_and_may_still_apply_for() -> None:
    redirect, apply = ActivityKind.REDIRECT, ActivityKind.APPLY
    events = [
        Event(1, 10, redirect, 100.0),
        Event(1, 20, redirect, 300.0),
        Event(1, 30, redirect, 200.0),
        Event(1, 30, apply, 201.0),
        Event(1, 40, ActivityKind.IMPRESSION, 400.0),
        Event(1, 50, redirect, 250.0),
    ]
    scene = scene_of(
        model_arrays(interactions_of(events)), [Job(id_) for id_ in (10, 20, 30, 40, 50)]
    )
    assert scene.recommending.left_off(1, 10) == [20, 50, 10]
    assert scene.recommending.left_off(1, 1) == [20]
    scene.catalog.put(Job(20, closed=True))
    assert scene.recommending.left_off(1, 10) == [50, 10]
    assert scene.recommending.left_off(7, 10) == []


@pytest.mark.parametrize(
    ("unlisted", "expected"), [(Unlisted.SERVE, [10, 30, 40]), (Unlisted.HIDE, [10, 30])]
)
def test_a_job_that_only_the_model_knows_is_served_or_hidden_by_policy(
    unlisted: Unlisted, expected: list[int]
) -> None:
    assert ranking_scene(unlisted).ids(1) == expected


@pytest.mark.parametrize(
    ("unlisted", "expected"), [(Unlisted.SERVE, {10, 30, 40}), (Unlisted.HIDE, {10, 30})]
)
def test_a_similar_job_that_only_the_model_knows_is_served_or_hidden_by_policy(
    unlisted: Unlisted, expected: set[int]
) -> None:
    similar = ranking_scene(unlisted).recommending.similar(20, 10)
    assert similar is not None
    assert {item.job_id for item in similar.items} == expected


def test_a_person_unknown_to_the_model_gets_the_most_popular_jobs_marked_as_such() -> None:
    (answer,) = ranking_scene().recommending.for_users([5], 3)
    assert ids_of(answer) == [40, 30, 20]
    assert {item.source for item in answer.items} == {POPULAR}
    assert answer.shortfall is None


def test_somebody_unknown_gets_what_is_popular_lately_by_their_own_filter() -> None:
    day = 86_400.0
    events = [Event(user, 10, timestamp=1e9) for user in range(9)]
    events += [Event(user, 20, timestamp=1e9 + 100 * day) for user in range(3)]
    events += [Event(1, 30, timestamp=1e9 + 100 * day)]
    jobs = [Job(10, "nurse"), Job(20, "baker"), Job(30, "nurse")]
    scene = scene_of(model_arrays(interactions_of(events)), jobs)
    assert scene.ids(99) == [20, 30, 10]
    assert scene.ids(99, where=JobFilter(title="nurse")) == [30, 10]


def test_popular_jobs_carry_their_share_of_all_interest_as_score() -> None:
    (answer,) = ranking_scene().recommending.for_users([5], 4)
    # 24 impressions score 1 each, and the application 4
    assert [item.score for item in answer.items] == pytest.approx([12 / 28, 9 / 28, 6 / 28, 1 / 28])


def test_a_person_whose_factors_are_zero_gets_popular_jobs_without_those_excluded() -> None:
    scene = ranking_scene()
    (answer,) = scene.recommending.for_users(
        [100], 4, where=JobFilter(), exclude=(ActivityKind.IMPRESSION,)
    )
    assert ids_of(answer) == []
    assert answer.shortfall is ShortfallReason.EXCLUDED
    (answer,) = scene.recommending.for_users([110], 4, exclude=(ActivityKind.IMPRESSION,))
    assert ids_of(answer) == [30, 20, 10]
    assert {item.source for item in answer.items} == {POPULAR}


# One person, many people


def crowd() -> Scene:
    random = np.random.default_rng(11)
    kinds = list(ActivityKind)
    events = [
        Event(int(user), int(job), kinds[kind])
        for user, job, kind in random.integers((0, 0, 0), (400, 300, 3), (4_000, 3))
    ]
    jobs = [
        Job(id_, employer=f"Employer {id_ % 3}", closes_at=NOON + (id_ % 7 - 1) * HOUR)
        for id_ in range(0, 300, 2)
    ]
    return scene_of(model_arrays(interactions_of(events), width=33), jobs)


@pytest.mark.parametrize("where", [None, JobFilter(employer="employer 1")])
def test_a_batch_of_100_equals_100_single_queries_in_ids_and_scores(
    where: JobFilter | None,
) -> None:
    scene = crowd()
    people = [*range(0, 400, 5), *range(1_000, 1_020)]
    batch = scene.recommending.for_users(people, 25, where)
    singles = [scene.recommending.for_users([person], 25, where)[0] for person in people]
    assert len(batch) == 100
    assert singles == batch
    counts = Counter(item.source for answer in batch for item in answer.items)
    assert counts[PERSONALISED] > 0
    assert counts[POPULAR] > 0


def test_answers_align_with_the_ids_asked_for_also_where_they_repeat_or_are_unknown() -> None:
    scene = crowd()
    people = [7, 99_999, 3, 7, MAX_ID, 3, 0]
    answers = scene.recommending.for_users(people, 10)
    assert people == [answer.user_id for answer in answers]
    assert answers[0] == answers[3]
    assert answers[2] == answers[5]
    assert answers[0].items != answers[2].items
    assert answers[1].items == answers[4].items


def test_nobody_asked_for_is_no_answer() -> None:
    assert crowd().recommending.for_users([], 10) == []


def test_as_many_people_as_the_bound_allows_are_answered() -> None:
    assert len(crowd().recommending.for_users(list(range(MAX_BATCH)), MAX_FIRST)) == MAX_BATCH


# What changes between two answers


def test_a_job_taken_from_the_catalogue_or_closed_in_it_is_gone_from_the_next_answer() -> None:
    scene = ranking_scene(Unlisted.HIDE)
    assert scene.ids(1) == [10, 30]
    scene.catalog.put(Job(10, closes_at=NOON))
    assert scene.ids(1) == [30]
    scene.catalog.remove(30)
    assert scene.ids(1) == []
    scene.catalog.put(Job(10))
    assert scene.ids(1) == [10]


def test_a_job_that_closes_as_time_passes_is_gone_from_the_next_answer() -> None:
    scene = ranking_scene()
    scene.catalog.put(Job(10, closes_at=NOON + HOUR), Job(30, closes_at=NOON + 2 * HOUR))
    assert scene.ids(1) == [10, 30, 40]
    scene.clock.advance(minutes=59)
    assert scene.ids(1) == [10, 30, 40]
    scene.clock.advance(minutes=1)
    assert scene.ids(1) == [30, 40]
    assert scene.ids(5) == [40, 30, 20]
    similar = scene.recommending.similar(20, 10)
    assert similar is not None
    assert {item.job_id for item in similar.items} == {30, 40}
    scene.clock.advance(hours=1)
    assert scene.ids(1) == [40]


def test_a_job_that_opens_as_time_passes_stands_in_the_next_answer() -> None:
    scene = ranking_scene()
    scene.catalog.put(Job(10, posted_at=NOON + HOUR))
    assert scene.ids(1) == [30, 40]
    scene.clock.advance(hours=1)
    assert scene.ids(1) == [10, 30, 40]


def test_a_job_that_begins_to_satisfy_a_filter_stands_in_the_next_answer() -> None:
    scene, smith = ranking_scene(), JobFilter(employer="Smith")
    (answer,) = scene.recommending.for_users([1], 2, smith)
    assert (ids_of(answer), answer.shortfall) == ([], ShortfallReason.FILTER)
    scene.catalog.put(Job(30, employer="SMITH"))
    assert scene.ids(1, where=smith) == [30]


def test_many_filters_in_turn_are_each_answered_for_what_they_ask() -> None:
    scene = ranking_scene()
    scene.catalog.put(Job(10, title="baker"), Job(30, title="miller"))
    for turn in range(600):
        assert scene.ids(1, where=JobFilter(title="baker")) == [10]
        assert scene.ids(1, where=JobFilter(title=f"baker {turn}")) == []


# Bounds


def test_what_is_remembered_for_filters_is_bounded_by_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[JobFilter | None] = []
    scene = ranking_scene()
    standing = scene.catalog.standing

    def counted(job_ids: IdArray, at: datetime, where: JobFilter | None) -> Standing:
        asked.append(where)
        return standing(job_ids, at, where)

    monkeypatch.setattr(scene.catalog, "standing", counted)
    one, other = JobFilter(title="nurse"), JobFilter(title="a")
    for where in (one, other, one, other):
        scene.ids(1, where=where)
    assert asked == [one, other]
    monkeypatch.setattr("application.recommending._REMEMBERED_BYTES", 1)
    scene.ids(1)
    for where in (one, one, other, one):
        scene.ids(1, where=where)
    assert asked == [one, other, None, one, other, one]


@pytest.mark.parametrize("first", [0, -1, 101, 2**70])
def test_a_length_out_of_bounds_is_refused_with_its_value_and_the_bound(first: int) -> None:
    recommending = crowd().recommending
    for ask in (lambda: recommending.for_users([1], first), lambda: recommending.similar(1, first)):
        with pytest.raises(InputError, match=f"first is {first}, expected 1 to 100") as refused:
            ask()
        assert refused.value.argument == "first"


def test_more_people_than_the_bound_are_refused_with_their_number_and_the_bound() -> None:
    with pytest.raises(InputError, match="1,001 ids, at most 1,000") as refused:
        crowd().recommending.for_users([1] * 1_001, 10)
    assert refused.value.argument == "userIds"


@pytest.mark.parametrize("id_", [-1, -(2**63), 2**63, 2**64, 10**30])
def test_an_id_out_of_bounds_is_refused_with_its_value_and_the_bound(id_: int) -> None:
    recommending = crowd().recommending
    with pytest.raises(InputError, match=f"userId is {id_}, expected 0 to {2**63 - 1}"):
        recommending.for_users([1, id_], 10)
    with pytest.raises(InputError, match=f"jobId is {id_}, expected 0 to {2**63 - 1}"):
        recommending.similar(id_, 10)


# Similar jobs


@given(kind=factors, seed=st.integers(0, 1000), first=st.integers(1, 30), job=st.integers(0, 19))
@settings(deadline=None)
def test_similar_jobs_are_others_each_once_with_a_cosine_and_a_rank(
    kind: str, seed: int, first: int, job: int
) -> None:
    interactions = interactions_of(Event(1, id_) for id_ in range(20))
    random = np.random.default_rng(seed)
    half = factors_of(kind, 10, random)
    scene = scene_of(
        {
            **interactions.arrays(),
            "user_factors": factors_of(kind, 1, random),
            # Every job has a twin of another length
            "job_factors": np.concatenate([half, 3 * half]),
        },
        [Job(id_, closes_at=NOON if id_ == 5 else None) for id_ in range(20)],
    )
    similar = scene.recommending.similar(job, first)
    assert similar is not None
    assert similar.job_id == job
    ids = [item.job_id for item in similar.items]
    assert len(ids) <= first
    assert len(set(ids)) == len(ids)
    assert not {job, 5} & set(ids)
    assert all(-1 <= item.score <= 1 for item in similar.items)
    assert [item.rank for item in similar.items] == list(range(1, len(ids) + 1))
    if kind == "real":
        assert len(ids) == min(first, 18 if job != 5 else 19)


def test_a_job_unknown_to_the_model_has_no_list_even_where_the_catalogue_knows_it() -> None:
    scene = ranking_scene()
    scene.catalog.put(Job(55))
    assert scene.recommending.similar(55, 10) is None
    assert scene.recommending.similar(MAX_ID, 10) is None


def test_similar_jobs_satisfy_the_filter() -> None:
    scene = ranking_scene()
    scene.catalog.put(Job(30, employer="Smith"), Job(20, employer="Smith"))
    similar = scene.recommending.similar(20, 10, JobFilter(employer="smith"))
    assert similar is not None
    assert [item.job_id for item in similar.items] == [30]


# The live model


@pytest.fixture
def snapshots(tmp_path: Path) -> DirectorySnapshotStore:
    return DirectorySnapshotStore(tmp_path)


def models_of(snapshots: SnapshotStore) -> Models:
    return Models(snapshots, lambda _, arrays: FactorRecommender.from_arrays(arrays))


def arrays_of_version(seed: int) -> Arrays:
    return model_arrays(interactions_of([Event(1, 10), Event(1, 20), Event(2, 20)]), seed)


def flip_a_byte(tmp_path: Path, version: str) -> None:
    path = tmp_path / version / "job_factors.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def live_version(models: Models) -> str:
    return models.live.manifest.version


def test_before_the_first_model_every_question_is_told_to_come_again(
    snapshots: DirectorySnapshotStore,
) -> None:
    models = models_of(snapshots)
    assert not models.refresh()
    assert models.current is None
    recommending = Recommending(models, FakeCatalog(), RankingPolicy(Unlisted.SERVE), ManualClock())
    asks = (lambda: recommending.for_users([1], 1), lambda: recommending.similar(1, 1))
    for ask in asks:
        with pytest.raises(ModelNotReady) as refused:
            ask()
        assert refused.value.retry_after > 0


def test_the_live_model_follows_the_promoted_version(snapshots: DirectorySnapshotStore) -> None:
    models = models_of(snapshots)
    store(snapshots, "1", arrays_of_version(1))
    assert models.refresh()
    assert live_version(models) == "1"
    assert not models.refresh()
    store(snapshots, "2", arrays_of_version(2))
    assert live_version(models) == "1"
    assert models.refresh()
    assert live_version(models) == "2"
    snapshots.promote("1")
    assert models.refresh()
    assert live_version(models) == "1"


def test_answers_change_with_the_model_and_name_it(snapshots: DirectorySnapshotStore) -> None:
    models = models_of(snapshots)
    recommending = Recommending(models, FakeCatalog(), RankingPolicy(Unlisted.SERVE), ManualClock())
    lists = {}
    for version in ("1", "2"):
        store(snapshots, version, arrays_of_version(int(version)))
        models.refresh()
        (lists[version],) = recommending.for_users([1], 2)
        assert lists[version].model.version == version
    assert lists["1"].items != lists["2"].items


def test_a_new_model_brings_the_jobs_that_it_knows(snapshots: DirectorySnapshotStore) -> None:
    models = models_of(snapshots)
    recommending = Recommending(models, FakeCatalog(), RankingPolicy(Unlisted.SERVE), ManualClock())
    for version, jobs in {"1": [10, 20], "2": [5, 6, 7, 8], "3": [9]}.items():
        store(snapshots, version, model_arrays(interactions_of(Event(1, job) for job in jobs)))
        models.refresh()
        for person in (1, 2):
            (answer,) = recommending.for_users([person], 10)
            assert sorted(ids_of(answer)) == jobs


def test_a_corrupt_promoted_model_is_reported_once_and_the_one_before_it_stays(
    snapshots: DirectorySnapshotStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = models_of(snapshots)
    store(snapshots, "1", arrays_of_version(1))
    models.refresh()
    store(snapshots, "2", arrays_of_version(2))
    flip_a_byte(tmp_path, "2")
    with caplog.at_level(logging.ERROR):
        assert [models.refresh() for _ in range(3)] == [False] * 3
    assert live_version(models) == "1"
    assert len(caplog.records) == 1
    assert "job_factors.npy was altered" in caplog.text
    assert "job_factors.npy was altered" in str(models.trouble)


def test_a_sound_model_after_a_corrupt_one_goes_live(
    snapshots: DirectorySnapshotStore, tmp_path: Path
) -> None:
    models = models_of(snapshots)
    store(snapshots, "1", arrays_of_version(1))
    flip_a_byte(tmp_path, "1")
    assert not models.refresh()
    with pytest.raises(ModelNotReady):
        _ = models.live
    store(snapshots, "2", arrays_of_version(2))
    assert models.refresh()
    assert live_version(models) == "2"
    assert models.trouble is None


def test_rolling_back_from_a_corrupt_model_to_the_one_that_stayed_ends_the_trouble(
    snapshots: DirectorySnapshotStore, tmp_path: Path
) -> None:
    models = models_of(snapshots)
    store(snapshots, "1", arrays_of_version(1))
    models.refresh()
    store(snapshots, "2", arrays_of_version(2))
    flip_a_byte(tmp_path, "2")
    models.refresh()
    snapshots.promote("1")
    models.refresh()
    assert live_version(models) == "1"
    assert models.trouble is None


def test_a_process_that_starts_with_a_corrupt_promoted_model_takes_the_newest_sound_one(
    snapshots: DirectorySnapshotStore, tmp_path: Path
) -> None:
    for version in ("1", "2", "3", "4"):
        store(snapshots, version, arrays_of_version(int(version)))
    flip_a_byte(tmp_path, "4")
    flip_a_byte(tmp_path, "3")
    models = models_of(snapshots)
    assert models.refresh()
    assert live_version(models) == "2"
    assert "4/job_factors.npy was altered" in str(models.trouble)
    assert not models.refresh()


def test_any_stored_model_can_be_opened_beside_the_live_one(
    snapshots: DirectorySnapshotStore,
) -> None:
    models = models_of(snapshots)
    store(snapshots, "1", arrays_of_version(1))
    store(snapshots, "2", arrays_of_version(2))
    models.refresh()
    recommending = Recommending(models, FakeCatalog(), RankingPolicy(Unlisted.SERVE), ManualClock())
    (answer,) = recommending.for_users([1], 2, model=models.open("1"))
    assert answer.model.version == "1"
    assert live_version(models) == "2"
    with pytest.raises(SnapshotMissing):
        models.open("3")


@pytest.mark.parametrize("exclude", [(), tuple(ActivityKind)])
def test_lists_for_measuring_are_the_lists_that_people_see(exclude: Sequence[ActivityKind]) -> None:
    events = [Event(user, job) for user in range(9) for job in range(20) if (user * job) % 5 == 1]
    interactions = interactions_of(events)
    scene = scene_of(model_arrays(interactions), [])
    people = [3, 500, 1, 8]
    served = scene.recommending.for_users(people, 14, exclude=exclude)
    measured = top_lists(interactions, scene.models.live.recommender, np.array(people), 14, exclude)
    expected = [(ids_of(answer) + [-1] * 14)[:14] for answer in served]
    assert expected == measured.tolist()
