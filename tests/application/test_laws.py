"""What holds of every answer, for random catalogues, tallies, later activities and requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.factors import FactorRecommender
from adapters.neighbours import Neighbours
from application.recommending import Models, RecommendationList, Recommending
from domain.explaining import Verdict
from domain.model import (
    Activity,
    ActivityKind,
    FloatArray,
    Interactions,
    Job,
    JobFilter,
    RecommendationSource,
)
from domain.ports import Arrays, ContentModel
from domain.ranking import RankingPolicy, Unlisted
from domain.scoring import INTEREST
from domain.variety import Variety
from tests.application.test_recommending import HOUR, factors_of, interactions_of, store
from tests.fakes import (
    NOON,
    Event,
    FakeCatalog,
    FakeRecentActivities,
    FakeSnapshotStore,
    ManualClock,
)
from tests.kernels import KERNELS, Made, small_indices

PEOPLE, NEWCOMER, STRANGER = (0, 1, 2, 2**40), 77, 78
JOBS = (0, 3, 4, 5, 6, 7, 8, 9, 2**33, 2**62)
NEW = RecommendationSource.NEW
SPANS = {
    "open": (NOON - HOUR, NOON + HOUR),
    "undated": (None, None),
    "over": (NOON - 2 * HOUR, NOON),
    "coming": (NOON + HOUR, None),
}


@pytest.fixture(autouse=True, scope="module")
def small_catalogues_have_an_index() -> Iterator[None]:
    with small_indices():
        yield


class Placing(ContentModel):
    """Gives each new job a place of its own."""

    def vectors(self, jobs: Sequence[Job]) -> FloatArray:
        rows = [np.random.default_rng(job.id).standard_normal(3, np.float32) for job in jobs]
        return np.array(rows, dtype=np.float32).reshape(len(jobs), 3)

    def arrays(self) -> Arrays:
        return {}


@dataclass(frozen=True)
class Request:
    """Everything that may be asked of a list."""

    first: int
    where: JobFilter | None
    exclude: frozenset[ActivityKind]
    exclude_jobs: frozenset[int]
    include_closed: bool
    variety: Variety

    def hides(self, kinds: set[ActivityKind]) -> bool:
        return bool(kinds & {*self.exclude, ActivityKind.DISMISS})


@dataclass(frozen=True)
class World:
    """All that answers follow from."""

    events: Sequence[Event]
    recent: Sequence[tuple[int, int, ActivityKind]]
    catalogue: Sequence[Job]
    factors: tuple[str, str]
    seed: int
    unlisted: Unlisted
    known: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        known = interactions_of(self.events).jobs.ids.tolist()
        object.__setattr__(self, "known", frozenset(known))

    def permuted(self, random: Random) -> World:
        """Return the same world, told in another order."""
        told = ([*self.events], [*self.recent], [*self.catalogue])
        for each in told:
            random.shuffle(each)
        return World(*told, self.factors, self.seed, self.unlisted)

    def service(
        self, made: Made, catalog: FakeCatalog | None = None, ahead_bytes: int = 0
    ) -> Recommending:
        """Return the real service over it, with a kernel."""
        interactions, random = interactions_of(self.events), np.random.default_rng(self.seed)
        snapshots, recent = FakeSnapshotStore(), FakeRecentActivities()
        arrays = {
            **interactions.arrays(),
            "user_factors": factors_of(self.factors[0], len(interactions.users), random),
            "job_factors": factors_of(self.factors[1], len(interactions.jobs), random),
        }
        store(snapshots, "1", arrays)
        models = Models(
            snapshots,
            lambda _, arrays: made(
                self.blended(FactorRecommender.from_arrays(arrays), interactions)
            ),
            lambda _: Placing(),
        )
        models.refresh()
        recent.append([Activity(user, job, kind, NOON) for user, job, kind in self.recent])
        return Recommending(
            models,
            FakeCatalog(self.catalogue) if catalog is None else catalog,
            RankingPolicy(self.unlisted),
            ManualClock(),
            recent,
            ahead_bytes=ahead_bytes,
        )

    def blended(self, model: FactorRecommender, interactions: Interactions) -> FactorRecommender:
        """Return a model of every other world with neighbours and trend beside its factors."""
        if self.seed % 2 or not len(interactions.jobs):
            return model
        random = np.random.default_rng(self.seed)
        lift = random.uniform(0, 1, len(interactions.jobs)).astype(np.float32)
        return model.beside(Neighbours(0.5, 3).learn(interactions)).lifted(lift)

    def may_stand(self, request: Request) -> set[int]:
        """Return the jobs that may be in anybody's list."""
        listed = {job.id: job for job in self.catalogue}
        chosen = set()
        for id_ in {*self.known, *listed}:
            job = listed.get(id_)
            if job is None:
                if self.unlisted is Unlisted.SERVE and request.where is None:
                    chosen.add(id_)
                continue
            is_over = job.closed or (job.closes_at is not None and job.closes_at <= NOON)
            is_open = not is_over and (job.posted_at is None or job.posted_at <= NOON)
            # What the model never learned and is over is not placed any more
            is_placed = id_ in self.known or not is_over
            is_asked = request.where is None or request.where.matches(job)
            if is_placed and is_asked and (is_open or request.include_closed):
                chosen.add(id_)
        return chosen - request.exclude_jobs

    def hidden(self, user: int, request: Request) -> set[int]:
        """Return the jobs that one person's list leaves out."""
        done: dict[int, set[ActivityKind]] = {}
        told = [(event.user_id, event.job_id, event.kind) for event in self.events]
        for who, job, kind in [*told, *self.recent]:
            if who == user:
                done.setdefault(job, set()).add(kind)
        return {job for job, kinds in done.items() if request.hides(kinds)}


kinds = st.sampled_from(ActivityKind)
job_ids = st.sampled_from(JOBS)
shares = st.sampled_from([0.0, 0.4, 1.0])


@st.composite
def catalogues(draw: st.DrawFn) -> list[Job]:
    ids = draw(st.lists(job_ids, unique=True))
    return [
        Job(
            id_,
            draw(st.sampled_from([None, "Night nurse", "Nurse", "Baker"])),
            draw(st.sampled_from([None, "Smith", "SMITH", "Jones"])),
            *(draw(st.sampled_from([None, "Leeds", "York"])), None),
            *SPANS[draw(st.sampled_from(sorted(SPANS)))],
            closed=draw(st.booleans()) and draw(st.booleans()),
        )
        for id_ in ids
    ]


worlds = st.builds(
    World,
    # At least one that counts, or there is no model
    st.builds(
        lambda one, others: [one, *others],
        st.builds(Event, st.sampled_from(PEOPLE), job_ids, st.sampled_from(INTEREST)),
        st.lists(st.builds(Event, st.sampled_from(PEOPLE), job_ids, kinds), max_size=30),
    ),
    st.lists(st.tuples(st.sampled_from([*PEOPLE[:2], NEWCOMER]), job_ids, kinds), max_size=8),
    catalogues(),
    st.tuples(*[st.sampled_from(["whole", "real", "zero"])] * 2),
    st.integers(0, 1_000),
    st.sampled_from(Unlisted),
)
filters = st.builds(
    JobFilter,
    employer=st.sampled_from([None, "smith"]),
    location=st.sampled_from([None, "LEEDS"]),
    title=st.sampled_from([None, "nurse", "nurse night"]),
    posted_after=st.sampled_from([None, NOON - HOUR]),
    closing_before=st.sampled_from([None, NOON + 2 * HOUR]),
).filter(lambda where: where != JobFilter())
requests = st.builds(
    Request,
    st.integers(1, 12),
    st.none() | filters,
    st.frozensets(kinds),
    st.frozensets(job_ids | st.just(999), max_size=2),
    st.booleans(),
    st.just(Variety()) | st.builds(Variety, st.none() | st.integers(1, 2), shares, shares),
)
people = st.lists(st.sampled_from([*PEOPLE, NEWCOMER, STRANGER]), max_size=5)


def answers(
    service: Recommending, users: Sequence[int], request: Request
) -> list[RecommendationList]:
    return service.for_users(
        users,
        request.first,
        request.where,
        tuple(request.exclude),
        reasons=len(JOBS),
        exclude_jobs=tuple(request.exclude_jobs),
        include_closed=request.include_closed,
        variety=request.variety,
    )


def ids_of(answer: Any) -> list[int]:
    return [item.job_id for item in answer.items]


@KERNELS
@given(worlds, requests, people, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=120)
def test_laws_of_lists(
    made: Made, world: World, request: Request, users: list[int], random: Random
) -> None:
    service = world.service(made)
    may_stand = world.may_stand(request)
    employers = {job.id: job.employer and job.employer.lower() for job in world.catalogue}
    most = request.variety.max_per_employer

    found = answers(service, users, request)

    assert [answer.user_id for answer in found] == users
    assert found == [answers(service, [user], request)[0] for user in users]
    shuffled = random.sample(range(len(users)), len(users))
    others = answers(
        world.permuted(random).service(made), [users[row] for row in shuffled], request
    )
    assert others == [found[row] for row in shuffled]
    for user, answer in zip(users, found, strict=True):
        ids, own = ids_of(answer), may_stand - world.hidden(user, request)
        assert len(set(ids)) == len(ids) <= request.first
        assert set(ids) <= own
        taken = Counter(employer for id_ in ids if (employer := employers.get(id_)))
        if most is not None:
            assert max(taken.values(), default=0) <= most
        if len(ids) < request.first:
            # Nothing is left out that could have stood there
            left = own - set(ids)
            assert all(most is not None and taken[employers[id_] or ""] == most for id_ in left)
            assert answer.shortfall is not None
        else:
            assert answer.shortfall is None
        assert [item.rank for item in answer.items] == list(range(1, len(ids) + 1))
        for item in answer.items:
            assert math.isfinite(item.score)
            assert (item.source is NEW) == (item.job_id not in world.known)
            if item.reasons:
                total = sum(reason.contribution for reason in item.reasons)
                assert total + item.trend == pytest.approx(item.score, abs=1e-9)
                if item.score:
                    shares = sum(reason.share for reason in item.reasons)
                    assert shares * item.score == pytest.approx(total, abs=1e-9)


@KERNELS
@given(worlds, requests, people, catalogues())
@settings(deadline=None, max_examples=120)
def test_lists_made_ahead_are_those_that_would_be_made(
    made: Made, world: World, request: Request, users: list[int], changed: list[Job]
) -> None:
    catalog = FakeCatalog(world.catalogue)
    # Lists shorter than the catalogue is large, so that some do not do
    with patch("application.ahead.LENGTH", 4):
        ahead = world.service(made, catalog, ahead_bytes=10_000)
        ahead.catch_up()
        while ahead.look_ahead():
            pass
        assert answers(ahead, users, request) == answers(world.service(made), users, request)
        for job in changed:
            catalog.put(job)
        as_made = answers(world.service(made, catalog), users, request)
        assert answers(ahead, users, request) == as_made
        ahead.catch_up()
        ahead.look_ahead()
        assert answers(ahead, users, request) == as_made


@KERNELS
@given(worlds, requests, st.sampled_from([*PEOPLE, NEWCOMER, STRANGER]))
@settings(deadline=None, max_examples=50)
def test_why_not_agrees_with_the_whole_list(
    made: Made, world: World, request: Request, user: int
) -> None:
    service = world.service(made)
    whole = Request(100, request.where, request.exclude, frozenset(), False, Variety())
    (answer,) = answers(service, [user], whole)
    ranks = {item.job_id: item for item in answer.items}
    for id_ in (*JOBS, 999):
        told = service.why_not(user, id_, request.where, tuple(request.exclude))
        assert (told.verdict is Verdict.RANKED) == (id_ in ranks)
        if id_ in ranks:
            item = ranks[id_]
            assert (told.rank, told.score, told.source) == (item.rank, item.score, item.source)


@KERNELS
@given(worlds, requests, job_ids, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_laws_of_similar_jobs(
    made: Made, world: World, request: Request, job: int, random: Random
) -> None:
    whole = Request(100, request.where, frozenset(), frozenset(), False, Variety())
    may_stand = world.may_stand(whole) - {job}

    found = world.service(made).similar(job, request.first, request.where)

    assert found == world.permuted(random).service(made).similar(job, request.first, request.where)
    if found is not None:
        ids = ids_of(found)
        assert len(set(ids)) == len(ids) <= request.first
        assert set(ids) <= may_stand
        assert [item.score for item in found.items] == sorted(
            (item.score for item in found.items), reverse=True
        )


@KERNELS
@given(worlds, requests, st.lists(st.tuples(job_ids, kinds), max_size=8), st.data())
@settings(deadline=None, max_examples=50)
def test_laws_of_sessions(
    made: Made,
    world: World,
    request: Request,
    did: list[tuple[int, ActivityKind]],
    data: st.DataObject,
) -> None:
    liked, disliked = (data.draw(st.lists(job_ids, max_size=2)) for _ in range(2))
    asked = Request(request.first, request.where, request.exclude, frozenset(), False, Variety())

    def answer(did: Sequence[tuple[int, ActivityKind]]) -> RecommendationList:
        exclude = tuple(request.exclude)
        service = world.service(made)
        return service.for_visitor(
            did, request.first, request.where, exclude, liked, disliked, reasons=len(JOBS)
        )

    found = answer(did)

    assert found == answer(data.draw(st.permutations(did)))
    kinds_of: dict[int, set[ActivityKind]] = {}
    for job, kind in did:
        kinds_of.setdefault(job, set()).add(kind)
    hidden = {job for job, own in kinds_of.items() if asked.hides(own)}
    left = world.may_stand(asked) - hidden - {*liked, *disliked}
    ids = ids_of(found)
    assert len(set(ids)) == len(ids) == min(request.first, len(left))
    assert set(ids) <= left
    for item in found.items:
        if item.reasons:
            total = sum(reason.contribution for reason in item.reasons)
            assert total + item.trend == pytest.approx(item.score, abs=1e-9)
