"""Answers by what people did after the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.als import AlsParameters, AlsTrainer
from adapters.baselines import popular
from application.recommending import MAX_SESSION, Models, RecommendationList, Recommending
from domain.errors import InputError
from domain.explaining import Verdict
from domain.model import (
    Activity,
    ActivityKind,
    Interactions,
    Job,
    JobFilter,
    RecommendationSource,
    ShortfallReason,
)
from domain.ports import Recommender, Trainer, nobody
from domain.ranking import RankingPolicy, Unlisted
from tests.application.test_recommending import interactions_of, manifest
from tests.fakes import (
    NOON,
    Event,
    FakeCatalog,
    FakeRecentActivities,
    FakeSnapshotStore,
    ManualClock,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

IMPRESSION, REDIRECT, APPLY, DISMISS = (
    ActivityKind.IMPRESSION,
    ActivityKind.REDIRECT,
    ActivityKind.APPLY,
    ActivityKind.DISMISS,
)
FOLD_IN, POPULAR = RecommendationSource.FOLD_IN, RecommendationSource.POPULAR
PERSONALISED = RecommendationSource.PERSONALISED
JOBS, NEWCOMER = range(100, 112), 77


@dataclass
class Scene:
    recommending: Recommending
    recent: FakeRecentActivities
    catalog: FakeCatalog

    def did(self, user: int, job: int, kind: ActivityKind = REDIRECT) -> None:
        self.recent.append([Activity(user, job, kind, NOON)])

    def answer(self, user: int, first: int = 12, reasons: int = 0) -> RecommendationList:
        return self.recommending.for_users([user], first, reasons=reasons)[0]

    def ids(self, user: int) -> list[int]:
        return [item.job_id for item in self.answer(user).items]

    def sources(self, user: int) -> set[RecommendationSource]:
        return {item.source for item in self.answer(user).items}


def learned(trainer: Trainer | None = None) -> tuple[Interactions, Recommender]:
    """Two trades, a factor each: people 0 to 9 look at even jobs, people 10 to 19 at odd ones."""
    events = [
        Event(user, job, REDIRECT)
        for user in range(20)
        for job in JOBS
        if job % 2 == user // 10 and (user + job) % 5
    ]
    interactions = interactions_of(events)
    trainer = trainer or AlsTrainer(AlsParameters(factors=2, iterations=15))
    return interactions, trainer.fit(interactions, 1, nobody)


LEARNED = learned()


def scene_of(model: tuple[Interactions, Recommender] = LEARNED) -> Scene:
    interactions, recommender = model
    snapshots, recent, catalog = FakeSnapshotStore(), FakeRecentActivities(), FakeCatalog()
    catalog.put(*(Job(job, title="even" if job % 2 == 0 else "odd") for job in JOBS))
    snapshots.write(manifest("1"), interactions.arrays())
    snapshots.promote("1")
    models = Models(snapshots, lambda _, __: recommender)
    models.refresh()
    recommending = Recommending(
        models, catalog, RankingPolicy(Unlisted.HIDE), ManualClock(), recent
    )
    return Scene(recommending, recent, catalog)


def odd(ids: Sequence[int]) -> list[bool]:
    return [job % 2 == 1 for job in ids]


def test_a_newcomer_gets_jobs_by_what_they_did_a_moment_ago() -> None:
    scene = scene_of()
    assert scene.sources(NEWCOMER) == {POPULAR}

    scene.did(NEWCOMER, 101)

    assert scene.sources(NEWCOMER) == {FOLD_IN}
    assert all(odd(scene.ids(NEWCOMER)[:6]))


def test_a_known_person_who_changes_trade_is_followed() -> None:
    scene = scene_of()
    before = scene.answer(3)
    assert not any(odd([item.job_id for item in before.items][:6]))

    for job in (101, 103, 105, 107):
        for _ in range(5):
            scene.did(3, job, REDIRECT)
            scene.did(3, job, APPLY)

    # The four applications are left out
    assert odd(scene.ids(3)).count(True) == 2
    assert any(odd(scene.ids(3)[:3]))
    assert scene.sources(3) == {FOLD_IN}


def test_what_others_did_changes_nothing() -> None:
    scene = scene_of()
    before = scene.answer(3)

    scene.did(4, 101)

    assert before == scene.answer(3)


def test_activities_that_say_nothing_leave_a_list_as_it_was() -> None:
    scene = scene_of()
    before = scene.answer(3)

    scene.did(3, 101, ActivityKind.EMAIL_SENT)
    scene.did(3, 101, ActivityKind.EMAIL_OPEN)
    scene.did(3, 555, REDIRECT)

    assert before == scene.answer(3)


def test_an_application_leaves_the_list_at_once() -> None:
    scene = scene_of()
    top = scene.ids(3)[0]

    scene.did(3, top, APPLY)

    assert top not in scene.ids(3)
    assert top in [
        item.job_id for item in scene.recommending.for_users([3], 12, exclude=())[0].items
    ]


def test_a_dismissed_job_is_gone_whatever_is_asked_for() -> None:
    scene = scene_of()
    top = scene.ids(3)[0]

    scene.did(3, top, DISMISS)

    (answer,) = scene.recommending.for_users([3], 12, exclude=())
    assert top not in [item.job_id for item in answer.items]
    assert top not in {
        reason.job_id for item in scene.answer(3, reasons=12).items for reason in item.reasons
    }
    assert top in scene.ids(4)


def test_a_dismissal_does_not_push_jobs_down_that_were_never_looked_at() -> None:
    scene = scene_of()
    before = scene.ids(3)

    scene.did(3, before[-1], DISMISS)

    assert before[:-1] == scene.ids(3)


def test_who_dismissed_all_that_they_did_gets_popular_jobs() -> None:
    scene = scene_of()
    scene.did(NEWCOMER, 101)
    scene.did(NEWCOMER, 101, DISMISS)

    assert scene.sources(NEWCOMER) == {POPULAR}
    assert 101 not in scene.ids(NEWCOMER)


def test_a_model_that_cannot_fold_in_still_leaves_out_what_was_done() -> None:
    scene = scene_of(learned(popular()))
    top = scene.ids(3)[0]

    scene.did(3, top, DISMISS)

    assert top not in scene.ids(3)
    assert all(not item.reasons for item in scene.answer(3, reasons=3).items)


def test_what_an_erased_person_did_before_does_not_count() -> None:
    scene = scene_of()
    scene.did(NEWCOMER, 101)
    forgetful = Recommending(
        scene.recommending._models,  # noqa: SLF001 - the same model, asked by another
        scene.catalog,
        RankingPolicy(),
        ManualClock(),
        scene.recent,
    )
    assert forgetful.for_users([NEWCOMER], 1)[0].items[0].source is FOLD_IN

    scene.catalog.erase_users([NEWCOMER], NOON)

    assert forgetful.for_users([NEWCOMER], 1)[0].items[0].source is POPULAR


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0, 3, 12, NEWCOMER]),
        st.sampled_from([*JOBS, 999]),
        st.sampled_from([IMPRESSION, REDIRECT, APPLY, DISMISS]),
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None)
@given(EVENTS, st.sampled_from([(), (APPLY,), (REDIRECT, APPLY)]), st.booleans())
def test_laws_of_lists_reasons_and_why_not(
    events: list[tuple[int, int, ActivityKind]],
    exclude: tuple[ActivityKind, ...],
    is_filtered: bool,
) -> None:
    scene = scene_of()
    for event in events:
        scene.did(*event)
    where = JobFilter(title="odd") if is_filtered else None
    people = [0, 3, 12, NEWCOMER]
    alone = [
        scene.recommending.for_users([user], 12, where, exclude, reasons=12)[0] for user in people
    ]

    together = scene.recommending.for_users(people, 12, where, exclude, reasons=12)

    assert alone == together
    for answer in together:
        user = answer.user_id
        assert user is not None
        ids = [item.job_id for item in answer.items]
        assert len(set(ids)) == len(ids)
        dismissed = {job for who, job, kind in events if who == user and kind is DISMISS}
        assert not dismissed & set(ids)
        for item in answer.items:
            found = scene.recommending.why_not(user, item.job_id, where, exclude)
            assert (found.verdict, found.rank) == (Verdict.RANKED, item.rank)
            assert (found.score, found.source) == (item.score, item.source)
            if item.source is POPULAR:
                assert item.reasons == ()
            else:
                total = sum(reason.contribution for reason in item.reasons)
                assert total == pytest.approx(item.score, abs=1e-9)
                assert sum(reason.share for reason in item.reasons) == pytest.approx(1)
        for job in set(JOBS) - set(ids):
            verdict = scene.recommending.why_not(user, job, where, exclude).verdict
            if job in dismissed:
                assert verdict is Verdict.DISMISSED
            else:
                assert verdict in {Verdict.EXCLUDED, Verdict.FILTERED}


def test_why_not_names_what_keeps_a_job_from_everybody() -> None:
    scene = scene_of()
    scene.catalog.put(Job(100, closed=True), Job(500), Job(501, closed=True))
    scene.catalog.remove(102)

    verdicts = [
        scene.recommending.why_not(3, job).verdict for job in (100, 102, 104, 500, 501, 999)
    ]

    assert verdicts == [
        Verdict.CLOSED,
        Verdict.NOT_LISTED,
        Verdict.RANKED,
        Verdict.NOT_LEARNED,
        Verdict.CLOSED,
        Verdict.UNKNOWN,
    ]


def test_a_visitor_gets_what_a_newcomer_would_and_leaves_no_trace() -> None:
    scene = scene_of()
    visitor = scene.recommending.for_visitor([(101, REDIRECT), (103, REDIRECT)], 12, reasons=3)

    scene.did(NEWCOMER, 101)
    scene.did(NEWCOMER, 103)
    person = scene.answer(NEWCOMER, reasons=3)

    assert visitor.user_id is None
    assert visitor.items == person.items
    assert len(scene.recent.activities) == 2


def test_what_if_a_visitor_liked_and_disliked_jobs() -> None:
    scene = scene_of()

    answer = scene.recommending.for_visitor([(100, REDIRECT)], 12, liked=[101], disliked=[100])

    ids = [item.job_id for item in answer.items]
    assert not {100, 101} & set(ids)
    assert all(odd(ids[:5]))
    assert answer.shortfall is ShortfallReason.EXCLUDED


def test_a_visitor_of_whom_nothing_is_known_gets_popular_jobs() -> None:
    scene = scene_of()

    answer = scene.recommending.for_visitor([(999, REDIRECT)], 3)

    assert {item.source for item in answer.items} == {POPULAR}


@pytest.mark.parametrize("name", ["activities", "liked", "disliked"])
def test_a_session_is_bounded(name: str) -> None:
    many = {"liked": (), "disliked": (), "activities": ()} | {
        name: [(1, REDIRECT) if name == "activities" else 1] * (MAX_SESSION + 1)
    }

    with pytest.raises(InputError, match=f"{name} holds 201 items, at most 200"):
        scene_of().recommending.for_visitor(
            many["activities"],  # type: ignore[arg-type] # the kinds of lists are mixed above
            3,
            liked=many["liked"],  # type: ignore[arg-type] # as above
            disliked=many["disliked"],  # type: ignore[arg-type] # as above
        )


def test_old_and_new_activities_of_a_pair_add_up() -> None:
    scene = scene_of()
    job = 104
    assert (3 + job) % 5
    interactions = LEARNED[0]
    history = interactions.history(3)
    place = int(np.searchsorted(interactions.jobs.ids, job))
    stored = float(history.scores[history.jobs == place][0])

    scene.did(3, job, REDIRECT)
    visitor = scene.recommending.for_visitor([(job, REDIRECT)], 12, reasons=1)

    assert stored == 2
    kinds = {
        reason.kinds
        for item in scene.answer(3, reasons=12).items
        for reason in item.reasons
        if reason.job_id == job
    }
    assert kinds == {(REDIRECT,)}
    assert visitor.items[0].reasons[0].share == pytest.approx(1)


def test_a_dismissal_that_a_training_has_read_still_hides_the_job() -> None:
    events = [Event(user, job) for user in range(5) for job in (100, 101, 102)]
    events += [Event(NEWCOMER, 101, DISMISS), Event(2, 103, DISMISS)]
    interactions = interactions_of(events)
    restored = Interactions.from_arrays(interactions.arrays())
    trainer = AlsTrainer(AlsParameters(factors=2, iterations=2))
    scene = scene_of((restored, trainer.fit(restored, 1, nobody)))

    assert interactions.users.position(NEWCOMER) is None
    assert 101 not in scene.ids(NEWCOMER)
    assert {100, 102} == set(scene.ids(NEWCOMER))
    assert scene.sources(2) == {PERSONALISED}
    assert scene.recommending.why_not(NEWCOMER, 101).verdict is Verdict.DISMISSED
