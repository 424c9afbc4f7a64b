"""What tuning tries: the settings of learning, their ranges, and what became of each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from domain.errors import InputError
from domain.model import ActivityTally
from domain.scoring import INTEREST, Rule

Value = int | float | str
Values = Mapping[str, Value]
"""A value for each dimension, by name."""


@dataclass(frozen=True)
class Numbers:
    """A range of numbers, both ends included; whole ones where both ends are.

    Attributes:
        is_log: whether a step is a factor and not a sum.
        or_off: whether 0 is held too, as what lies beyond the high end: a time without a bound.

    Raises:
        InputError: the low end is not below the high one, not above 0 where steps are factors or 0
            is off, or the numbers are whole and have an off.
    """

    low: int | float
    high: int | float
    is_log: bool = True
    or_off: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"low {self.low} is not below high {self.high}", "low")
        if (self.is_log or self.or_off) and self.low <= 0:
            raise InputError(f"low {self.low} is not above 0, as factors and off need it", "low")
        if self.or_off and self.is_whole:
            raise InputError("a range of whole numbers has no off", "or_off")

    @property
    def is_whole(self) -> bool:
        """Whether the range is of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Value) -> bool:
        """Tell whether a value lies in the range."""
        if isinstance(value, str):
            return False
        return self.low <= value <= self.high or (self.or_off and value == 0)


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    options: tuple[str, ...]

    def holds(self, value: Value) -> bool:
        """Tell whether a value is among the options."""
        return value in self.options


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions to search, by the name of the setting.

    Attributes:
        points: to try first; what one of them does not name stays as it is in force.

    Raises:
        InputError: a point does not lie in the space.
    """

    dimensions: Mapping[str, Numbers | Choice]
    points: tuple[Values, ...] = ()

    def __post_init__(self) -> None:
        for point in self.points:
            for name, value in point.items():
                if name not in self.dimensions or not self.dimensions[name].holds(value):
                    raise InputError(f"{name} {value} of a point to try is not in the space", name)

    def holds(self, values: Values) -> bool:
        """Tell whether every value lies in its dimension."""
        return all(
            name in values and dimension.holds(values[name])
            for name, dimension in self.dimensions.items()
        )

    def without(self, *names: str) -> SearchSpace:
        """Return the space without dimensions that can change nothing."""
        points = [
            {name: value for name, value in point.items() if name not in names}
            for point in self.points
        ]
        distinct = [point for place, point in enumerate(points) if point not in points[:place]]
        return SearchSpace(
            {name: own for name, own in self.dimensions.items() if name not in names},
            tuple(point for point in distinct if point),
        )

    def suited(self, tally: ActivityTally) -> SearchSpace:
        """Return the space without the dimensions that change nothing of what is learned here.

        They are weights of kinds that do not occur, the weight of the only kind, which alpha
        stands for, and half-life, window and trend where the times tell nothing.
        """
        present = [kind for kind in INTEREST if tally.total(kind)]
        weighed = present if len(present) > 1 else []
        idle = [f"{kind.word}_weight" for kind in INTEREST if kind not in weighed]
        times = tally.last_at[np.isfinite(tally.last_at)]
        if len(np.unique(times)) < 2:
            idle += ["half_life_days", "window_days", "trend", "trend_half_life_days"]
        return self.without(*idle)


_STRONG: Values = {"scoring": Rule.PRESENCE.value, "alpha": 20.0, "regularization": 20.0}

NEIGHBOURHOOD = SearchSpace(
    {
        "factors": Numbers(16, 256),
        "regularization": Numbers(0.001, 1_000.0),
        "alpha": Numbers(1.0, 100.0),
        "iterations": Numbers(4, 32),
        "neighbour_weight": Numbers(0.05, 5.0, or_off=True),
        "trend": Numbers(1.0, 500.0, or_off=True),
        "trend_half_life_days": Numbers(2.0, 90.0),
        "scoring": Choice(tuple(rule.value for rule in Rule)),
        "impression_weight": Numbers(0.1, 8.0),
        "redirect_weight": Numbers(0.5, 32.0),
        "apply_weight": Numbers(0.5, 32.0),
        "email_click_weight": Numbers(0.5, 32.0),
        "half_life_days": Numbers(2.0, 365.0, or_off=True),
        "window_days": Numbers(14.0, 730.0, or_off=True),
    },
    points=(
        {**_STRONG, "factors": 64, "half_life_days": 90.0},
        {**_STRONG, "factors": 64, "half_life_days": 0.0},
        {**_STRONG, "factors": 64, "half_life_days": 30.0},
        {**_STRONG, "factors": 64, "half_life_days": 7.0},
        {**_STRONG, "factors": 32, "half_life_days": 90.0, "regularization": 100.0},
        {**_STRONG, "factors": 64, "half_life_days": 90.0, "scoring": Rule.LOGARITHMIC.value},
        {"neighbour_weight": 0.0, "trend": 0.0},
        {"neighbour_weight": 1.0},
        {**_STRONG, "factors": 256, "half_life_days": 0.0, "alpha": 60.0, "neighbour_weight": 0.8},
    ),
)
"""Where good models lie.

Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation
Benchmarks (2021): search the weight of regularization and that of what is not observed (here
1 / alpha) by powers over wide ranges, since defaults miss the best by far; 16 iterations or fewer
do; larger vectors help, at a cost. An alpha below 1 would weigh a pair less than one never seen.

The points to try first are far more alpha and regularization than the settings by default have,
with each kind of activity counted once, and a quarter of a year, a month, a week or no time at all
for a half-life: chance finds the right one of those late, since each has other companions.
"""


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    Attributes:
        number: 0 for the settings in force.
        score: the mean over people; None where nothing usable was learned, or not in time.
        seconds: how long it took.
        failure: why there is no score.
    """

    number: int
    values: Values
    score: float | None
    seconds: float
    failure: str | None = None
