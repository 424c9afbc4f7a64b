"""What recent activities, fold-in and reasons cost, at a given size: `python -m bench.live`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adapters.factors import FactorRecommender
from adapters.live_log import JsonlRecentActivities
from domain.model import Activity, ActivityKind, History
from tests.fakes import NOON

PEOPLE, JOBS, FACTORS, HISTORY = 17_000, 7_500, 64, 15
"""The size of the service that jobrec replaces."""


def main() -> None:
    """Print medians in microseconds, of one thread."""
    random = np.random.default_rng(1)
    recommender = FactorRecommender(
        random.standard_normal((PEOPLE, FACTORS), np.float32) / np.float32(8),
        random.standard_normal((JOBS, FACTORS), np.float32) / np.float32(8),
    )
    jobs = np.sort(random.choice(JOBS, HISTORY, replace=False))
    history = History(jobs, np.full(HISTORY, 3, np.float32), np.ones(HISTORY, np.uint8))
    everything, nothing = np.ones(JOBS, np.bool_), np.empty(0, np.int64)
    top = np.arange(10)
    with tempfile.TemporaryDirectory() as folder:
        recent, user = JsonlRecentActivities(Path(folder)), np.array([1])
        one = [Activity(1, 2, ActivityKind.REDIRECT, NOON)]
        recent.append(one * 5)
        for name, call in {
            "look for recent activities, of nobody": lambda: recent.since({}, user + 1),
            "look for recent activities, five": lambda: recent.since({}, user),
            "record one activity": lambda: recent.append(one),
            "list by stored factors": lambda: recommender.recommend(
                user, 10, everything, [nothing]
            ),
            "list by fold-in": lambda: recommender.fold_in([history], 10, everything, [nothing]),
            "whole list, as whyNot needs it": lambda: recommender.recommend(
                user, JOBS, everything, [nothing]
            ),
            "reasons of 10 jobs": lambda: recommender.contributions(history, top),
        }.items():
            print(f"{name:40} {_median(call):8.0f} us")


def _median(call: Callable[[], object], times: int = 200) -> float:
    call()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return float(np.median(spent)) * 1e6


if __name__ == "__main__":
    main()
