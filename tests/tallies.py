"""Tallies written down as (user, job, time) triples."""

from __future__ import annotations

from collections.abc import Sequence

from domain.model import ActivityTally

Event = tuple[int, int, float]
"""A person was shown a job at a time, NaN where unknown."""


def tally_of(events: Sequence[Event]) -> ActivityTally:
    """Count impressions."""
    users, jobs, times = zip(*events, strict=True) if events else ((), (), ())
    return ActivityTally.from_events(users, jobs, [0] * len(events), times)


def pairs_of(tally: ActivityTally) -> list[tuple[int, int]]:
    return list(zip(tally.user_ids.tolist(), tally.job_ids.tolist(), strict=True))
