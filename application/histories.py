"""Histories of people: what a model learned of them, and what they did since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from application.new_jobs import JobPool
from domain.model import (
    ActivityKind,
    ActivityTally,
    BoolArray,
    History,
    IdArray,
    IndexArray,
    Interactions,
    TimeArray,
    Unscored,
)
from domain.scoring import ScoringPolicy

ErasedAt = Callable[[IdArray], TimeArray]
"""Tells when people were erased, NaN for those who were not; see `CatalogStore.erased_at`."""

NOTHING_NEW = ActivityTally.empty()
"""Made once, since making it takes as long as a short list."""

HIDDEN = (ActivityKind.DISMISS,)
"""Jobs with which a person did any of these are hidden from that person whatever is asked."""


@dataclass(frozen=True)
class Person:
    """Somebody to recommend for.

    Attributes:
        user_id: None for a visitor.
        position: in the model, -1 where it does not know them.
        history: all that counts, where it is not what the model learned; else None.
        hidden: positions of jobs that must not appear.
    """

    user_id: int | None
    position: int
    history: History | None
    hidden: IndexArray


def people_of(
    interactions: Interactions,
    pool: JobPool,
    scoring: ScoringPolicy,
    user_ids: Sequence[int],
    positions: IndexArray,
    recent: ActivityTally,
    exclude: Sequence[ActivityKind],
    erased: BoolArray,
) -> list[Person]:
    """Return people with their histories, in the order of `user_ids`.

    A pair's recent activities are scored like those that the model learned from, as if all were
    new, and added to the score that it learned; caps apply to each part. A job that was dismissed
    counts for nothing any more: it is hidden, and says nothing against jobs that resemble it.

    Args:
        positions: shape (people,), where the model knows them, -1 where it does not or may not.
        recent: what these people did since the model was trained.
        exclude: jobs with which the person did any of these are hidden.
        erased: shape (people,), of whom nothing may be known but what is recent.
    """
    kinds = {*exclude, *HIDDEN}
    hidden = interactions.jobs_done(positions, kinds)
    people = [
        Person(user_id, position, None, own)
        for user_id, position, own in zip(user_ids, positions.tolist(), hidden, strict=True)
    ]
    if not (len(recent) or len(interactions.unscored)):
        return people
    lately = dict(_rows_by_person(recent))
    # No id is below 0: nothing is known of who was erased
    unscored = interactions.unscored.of(np.where(erased, -1, np.array(user_ids, dtype=np.int64)))
    for row, (user_id, further) in enumerate(zip(user_ids, unscored, strict=True)):
        if user_id in lately or len(further[0]):
            did = lately.get(user_id, NOTHING_NEW)
            people[row] = _changed(people[row], interactions, pool, scoring, further, did, kinds)
    return people


def visitor(
    pool: JobPool,
    scoring: ScoringPolicy,
    did: ActivityTally,
    exclude: Sequence[ActivityKind],
    liked: IndexArray,
) -> Person:
    """Return somebody of whom only this is known.

    Args:
        did: one person's pairs.
        liked: positions of jobs that they know already, and that are hidden.
    """
    nothing = Unscored.nothing()
    history, flags = _joined(None, (nothing.jobs, nothing.kinds), pool, scoring, did)
    hidden = _hidden(*flags, {*exclude, *HIDDEN})
    return Person(None, -1, history, np.concatenate([hidden, liked]))


def without_erased(recent: ActivityTally, erased_at: ErasedAt) -> ActivityTally:
    """Leave out pairs that began before their person was erased, and those without a time."""
    if not len(recent):
        return recent
    erased = erased_at(recent.user_ids)
    # Comparisons with NaN are false
    return recent.select(np.isnan(erased) | (recent.first_at > erased))


def _changed(
    person: Person,
    interactions: Interactions,
    pool: JobPool,
    scoring: ScoringPolicy,
    unscored: tuple[IdArray, NDArray[np.uint8]],
    recent: ActivityTally,
    kinds: set[ActivityKind],
) -> Person:
    """Return the same with what a model's history does not tell."""
    learned = interactions.history(person.position) if person.position >= 0 else None
    history, flags = _joined(learned, unscored, pool, scoring, recent)
    changed = (
        learned is None
        or len(learned) != len(history)
        or not np.array_equal(learned.scores, history.scores)
    )
    return replace(person, history=history if changed else None, hidden=_hidden(*flags, kinds))


def _joined(
    learned: History | None,
    unscored: tuple[IdArray, NDArray[np.uint8]],
    pool: JobPool,
    scoring: ScoringPolicy,
    recent: ActivityTally,
) -> tuple[History, tuple[IndexArray, NDArray[np.uint8]]]:
    """Add recent activities to what was learned.

    Args:
        unscored: further jobs and what was done with them.

    Returns:
        the history, and all jobs with the flags of what was done with them, whether it counts or
        not. Jobs that the pool does not hold are left out.
    """
    positions = pool.positions(np.concatenate([unscored[0], recent.job_ids]))
    flags = np.concatenate([unscored[1], recent.flags])
    scores = np.concatenate(
        [np.zeros(len(unscored[0]), dtype=np.float32), scoring.scores(recent.counts)]
    )
    inside = positions >= 0
    positions, flags, scores = positions[inside], flags[inside], scores[inside]
    if learned is not None:
        positions = np.concatenate([learned.jobs, positions])
        flags = np.concatenate([learned.kinds, flags])
        scores = np.concatenate([learned.scores, scores])
    jobs, inverse = np.unique(positions, return_inverse=True)
    total = np.bincount(inverse, weights=scores, minlength=len(jobs)).astype(np.float32)
    kinds = np.zeros(len(jobs), dtype=np.uint8)
    np.bitwise_or.at(kinds, inverse, flags)
    counts = (total > 0) & ((kinds & ActivityKind.DISMISS.flag) == 0)
    return History(jobs[counts], total[counts], kinds[counts]), (jobs, kinds)


def _hidden(jobs: IndexArray, flags: NDArray[np.uint8], kinds: set[ActivityKind]) -> IndexArray:
    mask = sum(kind.flag for kind in kinds)
    hidden: IndexArray = jobs[(flags & mask) != 0]
    return hidden


def _rows_by_person(tally: ActivityTally) -> Iterator[tuple[int, ActivityTally]]:
    """Yield each person's pairs; pairs are ordered by person."""
    for user_id in dict.fromkeys(tally.user_ids.tolist()):
        start = np.searchsorted(tally.user_ids, user_id, side="left")
        rows = slice(start, np.searchsorted(tally.user_ids, user_id, side="right"))
        yield (
            user_id,
            ActivityTally(
                tally.user_ids[rows],
                tally.job_ids[rows],
                tally.counts[rows],
                tally.first_at[rows],
                tally.last_at[rows],
            ),
        )
