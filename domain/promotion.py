"""May a new model take the live one's place?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.errors import InputError


@dataclass(frozen=True)
class Evidence:
    """What is known of a model when it is decided whether it goes live.

    Attributes:
        users: people it knows.
        jobs: jobs it knows.
        is_finite: whether all its numbers are.
        metrics: measured on the hold-out; empty where that was too small.
    """

    users: int
    jobs: int
    is_finite: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PromotionPolicy:
    """May a new model take the live one's place?

    Attributes:
        metric: what counts.
        margin: refuse where the metric is lower than the live model's by more than this share.
        max_shrink: refuse where it knows fewer people or jobs than the live model by more than
            this share.
        hold_out: share of the pairs to hold out for measuring; 0 measures nothing.
        min_people: with fewer people to measure on, a difference means nothing.
        max_people: so many are enough.
        max_steps: a recipe that is fitted only to be measured stops after so many steps.

    Raises:
        InputError: a value is out of bounds.
    """

    metric: str = "ndcg@10"
    margin: float = 0.1
    max_shrink: float = 0.3
    hold_out: float = 0.1
    min_people: int = 50
    max_people: int = 2_000
    max_steps: int = 3

    def __post_init__(self) -> None:
        for name in ("margin", "max_shrink"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)} is not in 0..1", name)
        if not 0 <= self.hold_out <= 0.5:
            raise InputError(f"hold_out {self.hold_out} is not in 0..0.5", "hold_out")
        for name, least in (
            ("min_people", 1),
            ("max_people", self.min_people),
            ("max_steps", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} {getattr(self, name)} is below {least}", name)

    def refusals(self, candidate: Evidence, live: Evidence | None) -> tuple[str, ...]:
        """Return why the candidate may not go live; nothing where it may."""
        reasons = []
        if not candidate.is_finite:
            reasons.append("its factors are not all finite numbers")
        if live is None:
            return tuple(reasons)
        for name in ("users", "jobs"):
            before, after = getattr(live, name), getattr(candidate, name)
            if after < before * (1 - self.max_shrink):
                reasons.append(
                    f"it knows {after:,} {name}, the live model {before:,}: "
                    f"{1 - after / before:.1%} fewer, at most {self.max_shrink:.1%} are accepted"
                )
        before = live.metrics.get(self.metric)
        after = candidate.metrics.get(self.metric)
        if before is not None and after is not None and after < before * (1 - self.margin):
            reasons.append(
                f"its {self.metric} is {after:.4f}, the live model's {before:.4f}: "
                f"{1 - after / before:.1%} lower, at most {self.margin:.1%} is accepted"
            )
        return tuple(reasons)
