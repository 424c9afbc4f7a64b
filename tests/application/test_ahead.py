"""Lists that are made before anybody asks: which are kept, of whom, and for how long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from adapters.factors import FactorRecommender
from application import ahead
from application.ahead import ListsAhead
from application.histories import Person
from domain.model import ActivityKind, BoolArray, IndexArray, Interactions
from domain.ranking import Ranked
from tests.application.test_recommending import interactions_of, model_arrays
from tests.fakes import Event

JOBS, PEOPLE = 60, 40
TWO_LISTS = 2 * 2 * ahead.LENGTH * 8


class Counting(FactorRecommender):
    """Counts the people whose lists it makes."""

    made = 0
    is_exact = True

    def recommend(
        self, users: IndexArray, k: int, eligible: BoolArray, excluded: Sequence[IndexArray]
    ) -> list[Ranked]:
        self.made += len(users)
        return super().recommend(users, k, eligible, excluded)


def learned() -> Interactions:
    """Return what people did, each later than those of lower ids, and in no order of theirs."""
    whose = np.random.default_rng(1).permutation(PEOPLE).tolist()
    return interactions_of(
        Event(user, job, ActivityKind.APPLY, 100.0 + at)
        for at, user in enumerate(whose)
        for job in range(at % 7, JOBS, 7)
    )


INTERACTIONS = learned()


def model() -> Counting:
    arrays = model_arrays(INTERACTIONS)
    return Counting(arrays["user_factors"], arrays["job_factors"])


def eligible(*but: int) -> BoolArray:
    jobs = np.ones(len(INTERACTIONS.jobs), dtype=np.bool_)
    jobs[[*but]] = False
    jobs.flags.writeable = False
    return jobs


def person(position: int, *hidden: int) -> Person:
    return Person(position, position, None, np.array(hidden, dtype=np.int64))


def advance(lists: ListsAhead, model: Counting, jobs: BoolArray) -> None:
    lists.prepare("1", INTERACTIONS)
    while lists.advance("1", model, jobs):
        pass


def last(position: int) -> int:
    """Return when somebody did something last."""
    own = slice(INTERACTIONS.indptr[position], INTERACTIONS.indptr[position + 1])
    return int(INTERACTIONS.last_at[own].max())


def everybody() -> list[Person]:
    return [person(position) for position in range(PEOPLE)]


def test_who_is_kept_needs_no_model_any_more() -> None:
    lists, made, jobs = ListsAhead(1 << 20), model(), eligible()
    advance(lists, made, jobs)
    assert made.made == PEOPLE
    found = lists.of(made, everybody(), 10, jobs)
    assert made.made == PEOPLE
    expected = model().recommend(
        np.arange(PEOPLE), 10, jobs, [np.empty(0, dtype=np.int64)] * PEOPLE
    )
    for ranked, own in zip(found, expected, strict=True):
        assert ranked is not None
        assert ranked.jobs.tolist() == own.jobs.tolist()
        assert ranked.scores.tolist() == own.scores.tolist()


def test_what_is_hidden_or_closed_moves_the_rest_up_while_enough_is_left() -> None:
    lists, made, jobs = ListsAhead(1 << 20), model(), eligible()
    advance(lists, made, jobs)
    (whole,) = lists.of(made, [person(3)], ahead.LENGTH, jobs)
    assert whole is not None
    first, second, third, *others = whole.jobs.tolist()
    (ranked,) = lists.of(made, [person(3, first)], 2, eligible(second))
    assert ranked is not None
    assert ranked.jobs.tolist() == [third, others[0]]
    assert lists.of(made, [person(3, first)], ahead.LENGTH, jobs) == [None]


def test_lists_into_which_a_job_has_come_are_made_anew_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists, made = ListsAhead(1 << 20), model()
    before, jobs = eligible(5), eligible()
    advance(lists, made, before)
    assert lists.of(made, [person(3)], 10, jobs) == [None]
    advance(lists, made, jobs)
    assert lists.of(made, [person(3)], 10, jobs) == [None]
    assert made.made == PEOPLE
    monkeypatch.setattr(ahead, "LASTS_SECONDS", 0.0)
    assert lists.advance("1", made, jobs)
    monkeypatch.undo()
    # Until others are there, those before go on where nothing came
    assert None not in lists.of(made, everybody(), 10, before)
    advance(lists, made, jobs)
    assert None not in lists.of(made, everybody(), 10, jobs)


def test_another_model_has_its_own_lists_at_once() -> None:
    lists, made, other, jobs = ListsAhead(1 << 20), model(), model(), eligible()
    advance(lists, made, jobs)
    assert not lists.advance("2", other, jobs)  # not prepared
    lists.prepare("2", INTERACTIONS)
    while lists.advance("2", other, jobs):
        pass
    assert None not in lists.of(other, everybody(), 10, jobs)


def test_where_there_is_no_room_for_all_the_latest_are_kept() -> None:
    lists, made, jobs = ListsAhead(TWO_LISTS), model(), eligible()
    advance(lists, made, jobs)
    found = lists.of(made, everybody(), 10, jobs)
    kept = [position for position, ranked in enumerate(found) if ranked is not None]
    assert sorted(map(last, kept)) == sorted(map(last, range(PEOPLE)))[-2:]


def test_none_are_kept_where_lists_are_not_exact_or_no_memory_is_given() -> None:
    for most, is_exact in ((1 << 20, False), (0, True)):
        lists, made, jobs = ListsAhead(most), model(), eligible()
        made.is_exact = is_exact
        advance(lists, made, jobs)
        assert made.made == 0
        assert lists.of(made, everybody(), 10, jobs) == [None] * PEOPLE


def test_a_few_are_made_at_a_time() -> None:
    lists, made, jobs = ListsAhead(1 << 20), model(), eligible()
    lists.prepare("1", INTERACTIONS)
    # The first time, nothing but the room for them
    for count in (0, 16, 32):
        assert lists.advance("1", made, jobs)
        assert made.made == count
    assert not lists.advance("1", made, jobs)
    assert made.made == PEOPLE


def test_nothing_is_held_of_a_model_that_has_been_followed_by_one_whose_lists_are_not_kept() -> (
    None
):
    lists, made, jobs = ListsAhead(1 << 20), model(), eligible()
    advance(lists, made, jobs)
    held = weakref.ref(made)
    del made
    later = model()
    later.is_exact = False
    lists.prepare("2", INTERACTIONS)
    assert not lists.advance("2", later, jobs)
    gc.collect()
    assert held() is None


def test_who_was_active_last_is_the_first_to_have_a_list() -> None:
    lists, made, jobs = ListsAhead(1 << 20), model(), eligible()
    lists.prepare("1", INTERACTIONS)
    for _ in range(2):
        lists.advance("1", made, jobs)
    found = lists.of(made, everybody(), 10, jobs)
    latest = np.argsort([-last(position) for position in range(PEOPLE)])[:16]
    assert {at for at, ranked in enumerate(found) if ranked is not None} == {*latest.tolist()}
