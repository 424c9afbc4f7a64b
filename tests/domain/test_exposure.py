"""What lists show of the catalogue."""

from __future__ import annotations

import math
import multiprocessing
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from domain.exposure import Exposure, gini, lorenz
from domain.metrics import Targets, per_person
from domain.model import ActivityTally, IdArray, Interactions
from domain.significance import Bootstrap, Resampled
from domain.splits import hold_random_out


def known(*histories: Sequence[int]) -> Interactions:
    """Return the training part in which person n did the n-th list of jobs."""
    pairs = [(user, job) for user, jobs in enumerate(histories) for job in jobs]
    users, jobs = zip(*pairs, strict=True)
    tally = ActivityTally.from_events(users, jobs, [0] * len(pairs), [math.nan] * len(pairs))
    return Interactions.from_tally(tally, np.ones(len(tally), dtype=np.float32))


def matrix(*lists: Sequence[int]) -> IdArray:
    return np.array(lists, dtype=np.int64)


# Job 10 has 4 people of 4, job 20 has 2, jobs 30 and 40 have 1 each
PART = known([10, 20], [10, 20, 30], [10], [10, 40])
PEOPLE = np.array([0, 2])


class TestExposure:
    def test_values_worked_out_by_hand(self) -> None:
        found = Exposure(PART).measure(PEOPLE, matrix([30, 40], [20, 30]), [1, 2])

        assert found == pytest.approx(
            {
                # At length 1: jobs 30 and 20, whose shares are 1/4 and 1/2
                "coverage@1": 2,
                "never_shown@1": 2 / 4,
                # Shown 0, 0, 1, 1 times
                "gini@1": 0.5,
                "novelty@1": (2 + 1) / 2,
                # People 0 and 2 chose jobs 10, 20 and 10: shares 1, 1/2, 1
                "popularity_bias@1": (3 / 8) / (5 / 6),
                "diversity@1": 1.0,
                # At length 2: jobs 30, 40, 20, 30
                "coverage@2": 3,
                "never_shown@2": 1 / 4,
                # Shown 0, 1, 1, 2 times: 2 (1*0 + 2*1 + 3*1 + 4*2) / (4 * 4) - 5/4
                "gini@2": 26 / 16 - 5 / 4,
                "novelty@2": (2 + 2 + 1 + 2) / 4,
                "popularity_bias@2": (5 / 16) / (5 / 6),
                # 30 and 40 share nobody; 20 and 30 share one person of 2 and of 1
                "diversity@2": 1 - (0 + 1 / math.sqrt(2)) / 2,
            },
            abs=1e-12,
        )

    def test_a_job_that_is_not_known_is_novel_and_like_no_other(self) -> None:
        found = Exposure(PART).measure(PEOPLE[:1], matrix([99, 10]), [2])
        assert found["coverage@2"] == 2
        assert found["never_shown@2"] == 3 / 4
        assert found["novelty@2"] == pytest.approx((2 + 0) / 2)
        assert found["diversity@2"] == 1.0

    def test_short_and_empty_lists_count_for_what_they_hold(self) -> None:
        lists = matrix([10, 20, -1], [10, -1, -1], [-1, -1, -1])
        found = Exposure(PART).measure(np.arange(3), lists, [3])
        assert found["coverage@3"] == 2
        assert found["novelty@3"] == pytest.approx((0 + 1 + 0) / 3)
        # Only the first list holds a pair: 2 people in common of 4 and 2
        assert found["diversity@3"] == pytest.approx(1 - 2 / math.sqrt(8))

    def test_lists_of_nothing_show_nothing(self) -> None:
        found = Exposure(PART).measure(PEOPLE, np.full((2, 3), -1), [3])
        assert (found["coverage@3"], found["never_shown@3"], found["gini@3"]) == (0, 1, 0)

    def test_diversity_equals_its_definition_on_random_lists(self) -> None:
        chance = np.random.default_rng(0)
        histories = [
            chance.choice(50, chance.integers(1, 12), replace=False).tolist() for _ in range(80)
        ]
        lists = np.stack([chance.permutation(50)[:8] for _ in range(80)])

        found = Exposure(known(*histories)).measure(np.arange(80), lists, [3, 8])

        people = [{user for user, own in enumerate(histories) if job in own} for job in range(50)]
        for k in (3, 8):
            cosines = [
                len(people[a] & people[b]) / math.sqrt(len(people[a]) * len(people[b]))
                if people[a] and people[b]
                else 0.0
                for own in lists[:, :k].tolist()
                for a, b in combinations(own, 2)
            ]
            assert found[f"diversity@{k}"] == pytest.approx(1 - np.mean(cosines), abs=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell memory")
def test_all_metrics_of_43_000_people_and_36_000_jobs_take_less_than_a_gibibyte() -> None:
    # In a process of its own, for what others took before counts in a peak
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(peak_of_all_metrics).result() < 1 << 30


def peak_of_all_metrics() -> int:
    """Measure in a process that has done nothing else; return the most bytes that it held."""
    people, jobs, k = 43_000, 36_000, 20
    chance = np.random.default_rng(0)
    done = ActivityTally.from_events(
        chance.integers(0, people, 800_000),
        (jobs * chance.random(800_000) ** 3).astype(np.int64),
        np.zeros(800_000, dtype=np.int64),
        np.full(800_000, np.nan),
    )
    parts = hold_random_out(done, 0.2, seed=0)
    train = Interactions.from_tally(parts.train, np.ones(len(parts.train), dtype=np.float32))
    targets = Targets.of(parts.held_out, people, seed=0)
    # Distinct within each list
    firsts = chance.integers(0, jobs, (len(targets.user_ids), 1))
    lists = (firsts + 1_789 * np.arange(k)) % jobs

    values = per_person(targets, lists, [10, k])
    Exposure(train).measure(targets.user_ids, lists, [10, k])
    Resampled({"a": values, "b": values}, Bootstrap()).difference("a", "b", "ndcg@20")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5, 5, 5, 5], 0.0),
        ([0, 0, 0, 8], 0.75),
        ([1, 3], 0.25),
        ([3, 1], 0.25),
        ([0, 0], 0.0),
        ([7], 0.0),
    ],
)
def test_gini_coefficient(counts: list[int], expected: float) -> None:
    assert gini(np.array(counts)) == pytest.approx(expected)


def test_the_lorenz_curve_encloses_half_the_gini_coefficient() -> None:
    counts = np.random.default_rng(2).integers(0, 50, 300)
    curve = np.array(lorenz(counts, 3_001))
    assert curve[0] == 0
    assert curve[-1] == pytest.approx(1)
    area = float((curve[1:] + curve[:-1]).sum() / 2 / 3_000)
    # The polygon's coefficient; `gini` is that of the jobs as such, 1 / n apart
    assert 1 - 2 * area == pytest.approx(gini(counts), abs=1e-4)


def test_jobs_that_are_never_shown_are_shared_out_evenly() -> None:
    assert lorenz(np.zeros(7, dtype=np.int64), 3) == [0.0, 0.5, 1.0]
