"""Proposals of the real optimiser."""

from __future__ import annotations

import pytest

from adapters.optimizer import TpeOptimizer
from domain.tuning import Choice, Numbers, SearchSpace, Trial

SPACE = SearchSpace(
    {
        "factors": Numbers(4, 64),
        "half_life_days": Numbers(2.0, 365.0, or_off=True),
        "share": Numbers(0.5, 1.0, is_log=False, or_off=True),
        "scoring": Choice(("funnel", "presence")),
    }
)


def proposed(trials: list[Trial], seeds: int = 40) -> list[dict[str, object]]:
    return [dict(TpeOptimizer().propose(SPACE, trials, 1_000 * seed)) for seed in range(seeds)]


def test_proposals_lie_in_the_space_and_some_switch_off() -> None:
    points = [TpeOptimizer().propose(SPACE, [], seed) for seed in range(200)]
    assert all(SPACE.holds(point) for point in points)
    for name in ("half_life_days", "share"):
        assert 20 < sum(point[name] == 0 for point in points) < 80
    assert TpeOptimizer().propose(SPACE, [], 7) == points[7]


@pytest.mark.parametrize("is_off_better", [True, False])
def test_what_off_was_worth_is_learned(*, is_off_better: bool) -> None:
    trials = []
    for number, point in enumerate(proposed([])):
        is_off = point["half_life_days"] == 0
        trials.append(Trial(number, point, float(is_off == is_off_better), 1.0))  # type: ignore[arg-type] # the space is of values
    off = sum(point["half_life_days"] == 0 for point in proposed(trials))
    assert off > 30 if is_off_better else off < 5
