from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapters.job_index import JobIndex, JobRow
from domain.model import Job, JobFilter

START = datetime(2026, 6, 1, tzinfo=UTC)
WHERES = [
    JobFilter(),
    JobFilter(employer="ward"),
    JobFilter(title="night nurse"),
    JobFilter(location="Leeds"),
]

hours = st.none() | st.integers(0, 5)
jobs = st.builds(
    lambda id_, title, employer, location, posted, closes, closed: Job(
        id_,
        title,
        employer,
        location,
        "",
        None if posted is None else START + timedelta(hours=posted),
        None if closes is None else START + timedelta(hours=closes),
        closed,
    ),
    st.integers(0, 12),
    st.sampled_from([None, "Nurse", "night nurse", "Cook"]),
    st.sampled_from([None, " ", "Ward", "WARD", "Mill"]),
    st.sampled_from([None, "Leeds", "York"]),
    hours,
    hours,
    st.booleans(),
)


def told(index: JobIndex) -> object:
    """Return all that an index tells; numbers of employers compare within an answer only."""
    all_ids = np.arange(14)
    at = START + timedelta(hours=2)
    standings = [index.standing(all_ids, at, where) for where in WHERES]
    numbers = index.employers(all_ids, {})
    return (
        index.ids.tolist(),
        [index.page(where, None, None, 5) for where in WHERES],
        index.counts(WHERES),
        [(one.listed.tolist(), one.open.tolist(), one.valid_until) for one in standings],
        [None if one.matching is None else one.matching.tolist() for one in standings],
        (numbers < 0).tolist(),
        (numbers[:, None] == numbers).tolist(),
        index.absent(np.array([1, 5]), at, 4).tolist(),
    )


@given(
    first=st.lists(jobs),
    steps=st.lists(st.tuples(st.lists(jobs, max_size=3), st.sets(st.integers(0, 12), max_size=3))),
    is_used=st.booleans(),
)
def test_an_index_brought_up_to_date_tells_what_one_made_anew_tells(
    first: list[Job], steps: list[tuple[list[Job], set[int]]], is_used: bool
) -> None:
    held = {job.id: job for job in first}
    index = JobIndex(map(JobRow.of, first))
    for changed, removed in steps:
        if is_used:
            told(index)
        changed = [job for job in changed if job.id not in removed]
        index = index.updated(map(JobRow.of, changed), removed)
        held = {id_: job for id_, job in held.items() if id_ not in removed}
        held.update((job.id, job) for job in changed)

    assert told(JobIndex(map(JobRow.of, held.values()))) == told(index)


def test_an_index_that_many_updates_have_grown_is_made_anew() -> None:
    index = JobIndex([])
    for number in range(3_000):
        index = index.updated([JobRow.of(Job(1, f"title {number}"))])

    assert index.counts([JobFilter(title="2999"), JobFilter(title="2998")]) == [1, 0]
