"""Processes that fit together come to what one comes to alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.als import AlsParameters, AlsTrainer
from adapters.als_team import Team, shares
from domain.errors import TrainingError
from domain.model import ActivityTally, Interactions
from domain.ports import nobody
from domain.scoring import ScoringPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from domain.ports import Arrays

PATIENCE = 30.0
asks_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="asks Linux for processes"
)
ALONE = AlsParameters(factors=8, iterations=6, threads=1)
TOGETHER = AlsParameters(factors=8, iterations=6, threads=3)


def interactions(users: int, jobs: int, events: int, seed: int = 0) -> Interactions:
    random = np.random.default_rng(seed)
    tally = ActivityTally.from_events(
        random.integers(users, size=events) * 3,
        random.integers(jobs, size=events) * 7,
        random.integers(3, size=events),
        np.full(events, np.nan),
    )
    return ScoringPolicy.funnel().interactions(tally)


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    with Team(2) as started:
        assert started.is_ready(PATIENCE)
        yield started


def fitted(trainer: AlsTrainer, known: Interactions, seed: int = 1) -> dict[str, bytes]:
    learned: Arrays = trainer.fit(known, seed, nobody).arrays()
    return {name: array.tobytes() for name, array in learned.items()}


@pytest.mark.parametrize(
    ("users", "jobs", "events"),
    [
        (300, 80, 2_000),
        (80, 300, 2_000),
        (50, 50, 400),
        (1, 40, 90),
        (40, 1, 90),
        (2, 1, 2),
        (1, 1, 1),
    ],
)
def test_a_team_learns_the_bytes_that_one_process_learns(
    team: Team, users: int, jobs: int, events: int
) -> None:
    known = interactions(users, jobs, events)
    assert fitted(AlsTrainer(TOGETHER, team), known) == fitted(AlsTrainer(ALONE), known)


def test_a_team_still_starting_learns_the_same_bytes() -> None:
    known = interactions(200, 60, 1_500)
    with AlsTrainer(TOGETHER).prepared() as trainer:
        first, second = (fitted(trainer, known) for _ in range(2))
    assert first == second == fitted(AlsTrainer(ALONE), known)


def test_one_fit_after_another_leaves_what_was_learned_before_as_it_was(team: Team) -> None:
    small, large = interactions(20, 10, 100), interactions(300, 90, 3_000, seed=2)
    trainer = AlsTrainer(TOGETHER, team)
    recommender = trainer.fit(small, 1, nobody)
    before = {name: array.copy() for name, array in recommender.arrays().items()}
    assert fitted(trainer, large) == fitted(AlsTrainer(ALONE), large)
    for name, array in recommender.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_brief_fit_of_a_team_is_that_of_one_process(team: Team) -> None:
    known = interactions(200, 60, 1_500)
    assert fitted(AlsTrainer(TOGETHER, team).brief(2), known) == fitted(
        AlsTrainer(ALONE).brief(2), known
    )


@asks_linux
def test_helpers_end_with_the_context() -> None:
    with AlsTrainer(TOGETHER).prepared() as trainer:
        fitted(trainer, interactions(20, 10, 100))
        team = trainer.team
        assert team is not None
        pids = team.pids
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)


def test_one_thread_needs_no_helpers() -> None:
    with AlsTrainer(ALONE).prepared() as trainer:
        assert trainer.team is None


@pytest.mark.parametrize("started", [False, True])
def test_a_helper_that_is_killed_ends_the_training_with_the_reason(started: bool) -> None:
    with Team(2) as team:
        if started:
            assert team.is_ready(PATIENCE)
        os.kill(team.pids[1], signal.SIGKILL)
        endless = AlsParameters(factors=8, iterations=10_000, threads=3)
        with pytest.raises(TrainingError, match="a helper of the training ended with -9: it was"):
            AlsTrainer(endless, team).fit(interactions(300, 80, 2_000), 1, nobody)


@asks_linux
def test_helpers_of_a_trainer_that_is_killed_end_by_themselves() -> None:
    script = textwrap.dedent(
        """
        from adapters.als_team import Team
        with Team(2) as team:
            assert team.is_ready(30)
            print(*team.pids, flush=True)
            input()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as trainer:
        assert trainer.stdout is not None
        pids = [int(pid) for pid in trainer.stdout.readline().split()]
        assert len(pids) == 2
        trainer.kill()
    deadline = time.monotonic() + PATIENCE
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"{alive} outlive their trainer"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@given(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=40), count=st.integers(1, 6))
def test_shares_are_stretches_that_hold_each_row_once(lengths: list[int], count: int) -> None:
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    bounds = shares(indptr, count)
    assert len(bounds) == count + 1
    assert (bounds[0], bounds[-1]) == (0, len(lengths))
    assert bounds == sorted(bounds)


def test_shares_of_equal_rows_are_equal() -> None:
    assert shares(np.arange(0, 1_001, 10), 4) == [0, 25, 50, 75, 100]
