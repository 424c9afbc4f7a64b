"""Groups in which a model may do better or worse than on average."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import numpy as np

from domain.model import ActivityTally, BoolArray, IdArray, IdIndex, IndexArray

HISTORY_LENGTHS = (1, 2, 5, 10, 20)
"""Where the groups of people by the number of their jobs begin."""

NEW_JOB = timedelta(days=30)
"""A job is new where its first activity lies in so much of the end of the training part."""


def by_history(lengths: IndexArray) -> Iterator[tuple[str, BoolArray]]:
    """Group people by how many jobs they have in the training part; yield names and masks.

    Args:
        lengths: shape (people,), at least 1.
    """
    for low, high in pairwise(HISTORY_LENGTHS):
        span = f"{low}-{high - 1}" if high - low > 1 else f"{low}"
        yield f"history {span}", (low <= lengths) & (lengths < high)
    most = HISTORY_LENGTHS[-1]
    yield f"history {most}+", lengths >= most


def by_job(train: ActivityTally, job_ids: IdArray) -> Iterator[tuple[str, BoolArray]]:
    """Group targets by how long the training part has known their job; yield names and masks.

    Unseen jobs are not in it. Where all of it happened within the time that makes a job new, or
    no time is known, the jobs that it holds count as old.

    Args:
        job_ids: shape (targets,).
    """
    known, owners = np.unique(train.job_ids, return_inverse=True)
    begun = np.full(len(known), np.inf)
    np.fmin.at(begun, owners, train.first_at)
    positions = IdIndex(known).positions(job_ids)
    is_known = positions >= 0
    is_new = np.zeros(len(job_ids), dtype=np.bool_)
    if (times := train.time_range) is not None and times[1] - times[0] > NEW_JOB:
        since = (times[1] - NEW_JOB).timestamp()
        is_new = is_known & (since <= begun[positions]) & np.isfinite(begun[positions])
    yield "old jobs", is_known & ~is_new
    yield "new jobs", is_new
    yield "unseen jobs", ~is_known
