"""Changing the catalogue: what is wrong with an item is told beside what became of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import NamedTuple, TypeVar

from domain.errors import ActivitiesUnavailable, CatalogUnavailable, InputError
from domain.model import MAX_ID, MAX_TIMESTAMP, Job, User
from domain.ports import CatalogStore, Change, Clock, RecentActivities

MAX_CHANGES = 1_000
"""How many items one call may change."""

MAX_TEXT = 1_000
"""Characters of a name, a title and the like."""

MAX_DESCRIPTION = 100_000
"""Characters of an advert's text."""

MAX_WORDS = 100
"""Items of a list that a person's profile holds."""

_MAX_YEAR = 2_100

_log = logging.getLogger(__name__)

T = TypeVar("T", Job, User, int)


class Refusal(NamedTuple):
    """Why an item was not taken; for whoever sent it."""

    reason: str


@dataclass(frozen=True)
class Erasure:
    """What became of a request to forget a person.

    Attributes:
        change: REMOVED, or MISSING where there was no profile; both leave the record.
    """

    change: Change
    at: datetime


class Cataloguing:
    """The write side of the catalogue. Outcomes align with the items.

    An item that its caller could not even read comes in as its refusal, and keeps its place.
    """

    def __init__(self, store: CatalogStore, clock: Clock, recent: RecentActivities) -> None:
        self._store = store
        self._clock = clock
        self._recent = recent

    def upsert_jobs(self, jobs: Sequence[Job | Refusal]) -> list[Change | Refusal]:
        """Put jobs in place of those of the same ids, whole.

        Raises:
            InputError: there are too many.
            CatalogUnavailable: the store does not answer; nothing was changed.
        """
        return _each(jobs, check_job, self._store.upsert_jobs)

    def close_jobs(self, ids: Sequence[int | Refusal]) -> list[Change | Refusal]:
        """Mark jobs as closed; errors as for `upsert_jobs`."""
        return _each(ids, _check_id, self._store.close_jobs)

    def remove_jobs(self, ids: Sequence[int | Refusal]) -> list[Change | Refusal]:
        """Take jobs out; errors as for `upsert_jobs`."""
        return _each(ids, _check_id, self._store.remove_jobs)

    def upsert_users(self, users: Sequence[User | Refusal]) -> list[Change | Refusal]:
        """Put people in place of those of the same ids, whole; it ends their erasure.

        Errors as for `upsert_jobs`.
        """
        return _each(users, check_user, self._store.upsert_users)

    def erase_user(self, user_id: int, requested_by: str) -> Erasure:
        """Forget a person, from the next request on, and keep that this was done, not to whom.

        Args:
            requested_by: the key of who asked, for the record.

        Raises:
            InputError: the id is out of bounds.
            CatalogUnavailable: the store does not answer, and nothing was changed; or what was
                recorded of the person cannot be destroyed, and no answer heeds it any more.
        """
        _check_id(user_id)
        at = self._clock()
        (change,) = self._store.erase_users([user_id], at)
        try:
            self._recent.forget(user_id, at)
        except ActivitiesUnavailable as error:
            raise CatalogUnavailable(
                f"no answer heeds this person any more; ask again to destroy the records: {error}"
            ) from error
        _log.info("a person was erased at %s by %s", at.isoformat(), requested_by)
        return Erasure(change, at)


def check_job(job: Job) -> None:
    """Accept a job that fits a catalogue.

    Raises:
        InputError: it does not; the message names value and bound.
    """
    _check_id(job.id)
    for name, most in (
        ("title", MAX_TEXT),
        ("employer", MAX_TEXT),
        ("location", MAX_TEXT),
        ("description", MAX_DESCRIPTION),
    ):
        _check_text(name, getattr(job, name), most)
    for name, moment in (("postedAt", job.posted_at), ("closesAt", job.closes_at)):
        if moment is None:
            continue
        if moment.tzinfo is None:
            raise InputError(f"{name} {moment.isoformat()} has no time zone", name)
        if not 0 <= moment.timestamp() <= MAX_TIMESTAMP:
            raise InputError(f"{name} is {moment.isoformat()}, expected 1970 to 2100", name)
    if job.posted_at and job.closes_at and job.closes_at < job.posted_at:
        raise InputError(
            f"closesAt {job.closes_at.isoformat()} is before postedAt {job.posted_at.isoformat()}",
            "closesAt",
        )


def check_user(user: User) -> None:
    """Accept a person who fits a catalogue; messages name bounds, never what a profile holds.

    Raises:
        InputError: the person does not fit.
    """
    _check_id(user.id)
    if user.graduation_year is not None and not 1_900 <= user.graduation_year <= _MAX_YEAR:
        raise InputError(f"graduationYear lies outside of 1900 to {_MAX_YEAR}", "graduationYear")
    for field in fields(user):
        value = getattr(user, field.name)
        texts = value if isinstance(value, tuple) else (value,)
        if len(texts) > MAX_WORDS:
            raise InputError(f"{field.name} holds {len(texts):,} items, at most {MAX_WORDS}")
        for text in texts:
            if isinstance(text, str):
                _check_text(field.name, text, MAX_TEXT)


def _each(
    items: Sequence[T | Refusal],
    check: Callable[[T], None],
    change: Callable[[Sequence[T]], list[Change]],
) -> list[Change | Refusal]:
    """Change what can be changed; refusals stay at the places of their items."""
    if len(items) > MAX_CHANGES:
        raise InputError(f"{len(items):,} items are given, at most {MAX_CHANGES:,}", "input")
    outcomes: list[Change | Refusal | None] = []
    accepted: list[T] = []
    for item in items:
        refusal = item if isinstance(item, Refusal) else _refusal(item, check)
        outcomes.append(refusal)
        if refusal is None and not isinstance(item, Refusal):
            accepted.append(item)
    changes = iter(change(accepted) if accepted else ())
    return [next(changes) if outcome is None else outcome for outcome in outcomes]


def _refusal(item: T, check: Callable[[T], None]) -> Refusal | None:
    try:
        check(item)
    except InputError as error:
        return Refusal(str(error))
    return None


def _check_id(id_: int) -> None:
    if not 0 <= id_ <= MAX_ID:
        raise InputError(f"id is {id_}, expected 0 to {MAX_ID}", "id")


def _check_text(name: str, text: str | None, most: int) -> None:
    if text is not None and len(text) > most:
        raise InputError(f"{name} has {len(text):,} characters, at most {most:,}", name)
