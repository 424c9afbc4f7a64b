"""Groups of people by what they say of themselves, told of only where nobody can be singled out.

Nothing that learns, ranks, filters or answers knows this module; the tests see to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from domain.errors import InputError
from domain.model import IdArray, IdIndex

LEAST_GROUP = 5
"""No bound on the size of groups may be lower."""

NOT_STATED = "not stated"
"""The group of those who say nothing; it is a group like any other."""


@dataclass(frozen=True)
class Attributes:
    """What people say of themselves.

    Attributes:
        user_ids: shape (people,), strictly ascending.
        values: by attribute, as many texts, None where somebody says nothing.
    """

    user_ids: IdArray
    values: Mapping[str, Sequence[str | None]]

    def groups(self, attribute: str, user_ids: IdArray) -> dict[str, IdArray]:
        """Return positions in `user_ids` by value of an attribute, in order of the values."""
        places = IdIndex(self.user_ids).positions(user_ids).tolist()
        texts = self.values[attribute]
        stated = [None if place < 0 else texts[place] for place in places]
        named = np.array([NOT_STATED if text is None else text for text in stated], dtype=object)
        return {name: np.flatnonzero(named == name) for name in sorted(set(named.tolist()))}


@dataclass(frozen=True)
class DisclosurePolicy:
    """How many people a figure must be of.

    Attributes:
        min_group: the least.

    Raises:
        InputError: it is below `LEAST_GROUP`.
    """

    min_group: int = 20

    def __post_init__(self) -> None:
        if self.min_group < LEAST_GROUP:
            raise InputError(
                f"min_group {self.min_group} is below {LEAST_GROUP}, where figures would tell of "
                f"single people",
                "min_group",
            )

    def shown(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the groups that may be told of, in the order given.

        Groups below the least are hidden. What is hidden can be had as the whole without what is
        shown, so at least two groups are hidden if any is, and together they hold the least or
        more: the smallest of the others are hidden too until that holds.

        Args:
            sizes: people of every group; together they are the whole that is told of.
        """
        ordered = sorted(sizes, key=lambda name: (sizes[name], name))
        hidden = [name for name in ordered if sizes[name] < self.min_group]
        for name in ordered[len(hidden) :]:
            together = sum(sizes[other] for other in hidden)
            if not hidden or (len(hidden) > 1 and together >= self.min_group):
                break
            hidden.append(name)
        return [name for name in sizes if name not in hidden]
