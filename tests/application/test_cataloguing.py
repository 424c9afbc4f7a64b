from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.cataloguing import MAX_CHANGES, MAX_WORDS, Cataloguing, Refusal, check_user
from domain.errors import CatalogUnavailable, InputError
from domain.model import MAX_ID, Activity, ActivityKind, Job, User
from domain.ports import Change
from tests.fakes import FakeCatalog, FakeRecentActivities, ManualClock

UNREAD = Refusal("unread")
GOOD, BAD = st.builds(Job, st.integers(0, 5)), st.builds(Job, st.just(MAX_ID + 1))


def cataloguing(catalog: FakeCatalog | None = None) -> Cataloguing:
    return Cataloguing(catalog or FakeCatalog(), ManualClock(), FakeRecentActivities())


@given(st.lists(GOOD | BAD | st.just(UNREAD)))
def test_outcomes_align_with_items_and_refusals_keep_nothing_from_being_stored(
    items: list[Job | Refusal],
) -> None:
    catalog = FakeCatalog()
    outcomes = cataloguing(catalog).upsert_jobs(items)

    good = [item for item in items if isinstance(item, Job) and item.id <= MAX_ID]
    assert [isinstance(outcome, Change) for outcome in outcomes] == [item in good for item in items]
    assert set(catalog.jobs(range(6))) == {job.id for job in good}


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (Job(-1), "id is -1, expected 0"),
        (Job(1, employer="e" * 1_001), "employer has 1,001 characters"),
        (Job(1, posted_at=datetime(2026, 1, 1)), "has no time zone"),  # noqa: DTZ001 - what is refused
        (Job(1, closes_at=datetime(2300, 1, 1, tzinfo=UTC)), "expected 1970 to 2100"),
    ],
)
def test_a_job_out_of_bounds_is_refused_with_value_and_bound(job: Job, reason: str) -> None:
    (outcome,) = cataloguing().upsert_jobs([job])
    assert isinstance(outcome, Refusal)
    assert reason in outcome.reason


def test_a_profile_is_bounded() -> None:
    with pytest.raises(InputError, match="101 items, at most 100"):
        check_user(User(1, languages=("l",) * (MAX_WORDS + 1)))
    with pytest.raises(InputError, match="university has 1,001 characters"):
        check_user(User(1, university="u" * 1_001))
    check_user(User(1, 2026, "state", ("English",), "Leeds"))


def test_too_many_items_change_nothing() -> None:
    catalog = FakeCatalog()
    with pytest.raises(InputError, match="1,001 items are given, at most 1,000"):
        cataloguing(catalog).upsert_jobs([Job(1)] * (MAX_CHANGES + 1))
    assert dict(catalog.jobs([1])) == {}


def test_an_outage_is_told_as_such() -> None:
    catalog = FakeCatalog([Job(1)])
    catalog.is_down = True
    with pytest.raises(CatalogUnavailable):
        cataloguing(catalog).close_jobs([1])


def test_an_erasure_destroys_what_was_recorded_until_then() -> None:
    recent, clock = FakeRecentActivities(), ManualClock()
    earlier, later = clock() - timedelta(hours=1), clock() + timedelta(hours=1)
    kept = [
        Activity(2, 7, ActivityKind.APPLY, earlier),
        Activity(1, 7, ActivityKind.APPLY, later),
    ]
    recent.append([Activity(1, 7, ActivityKind.APPLY, earlier), *kept])

    Cataloguing(FakeCatalog(), clock, recent).erase_user(1, "admin")

    assert recent.activities == kept
