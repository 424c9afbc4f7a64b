"""What tuning tries: the settings of learning, their ranges, and what became of each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.errors import InputError

Value = int | float | str
Values = Mapping[str, Value]
"""A value for each dimension, by name."""


@dataclass(frozen=True)
class Numbers:
    """A range of numbers, both ends included; whole ones where both ends are.

    Attributes:
        is_log: whether a step is a factor and not a sum.

    Raises:
        InputError: the low end is not below the high one, or not above 0 where steps are factors.
    """

    low: int | float
    high: int | float
    is_log: bool = True

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"low {self.low} is not below high {self.high}", "low")
        if self.is_log and self.low <= 0:
            raise InputError(f"low {self.low} is not above 0, as factors need it", "low")

    @property
    def is_whole(self) -> bool:
        """Whether the range is of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Value) -> bool:
        """Tell whether a value lies in the range."""
        return not isinstance(value, str) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    options: tuple[str, ...]

    def holds(self, value: Value) -> bool:
        """Tell whether a value is among the options."""
        return value in self.options


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions to search, by the name of the setting."""

    dimensions: Mapping[str, Numbers | Choice]

    def holds(self, values: Values) -> bool:
        """Tell whether every value lies in its dimension."""
        return all(
            name in values and dimension.holds(values[name])
            for name, dimension in self.dimensions.items()
        )

    def without(self, name: str) -> SearchSpace:
        """Return the space without a dimension that can change nothing."""
        rest = {own: dimension for own, dimension in self.dimensions.items() if own != name}
        return SearchSpace(rest)


NEIGHBOURHOOD = SearchSpace(
    {
        "factors": Numbers(16, 256),
        "regularization": Numbers(0.001, 100.0),
        "alpha": Numbers(1.0, 100.0),
        "iterations": Numbers(4, 32),
        "apply_weight": Numbers(0.5, 32.0),
    }
)
"""Where good models lie.

Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation
Benchmarks (2021): search the weight of regularization and that of what is not observed (here
1 / alpha) by powers over wide ranges, since defaults miss the best by far; 16 iterations or fewer
do; larger vectors help, at a cost. An alpha below 1 would weigh a pair less than one never seen.
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
