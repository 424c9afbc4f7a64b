"""Answers that are given again as they were, as long as nothing has changed that they stand on.

An answer is kept where each of its root fields has told what it stands on, before it was worked
out: the model, the catalogue, and what the people asked about did lately. It is given to callers
who may see the same, for the same document and variables.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from application.recommending import Footing
from graphql_api.auth import Caller

_ENTRY_BYTES = 1_000
"""What an answer takes beside its bytes and its key, roughly."""

_PERSON_BYTES = 100
"""What it takes to know on what each person's list stands, roughly."""

Key = tuple[bytes, ...]


class Ground(NamedTuple):
    """What a root field's answer stands on."""

    user_ids: tuple[int, ...]
    footing: Footing


@dataclass
class Grounds:
    """What the root fields of an operation have told of their answers.

    Attributes:
        told: by the root fields' names in the answer.
        is_firm: whether all that was told holds until the footing changes.
    """

    told: dict[str, Ground] = field(default_factory=dict)
    is_firm: bool = True

    def add(self, name: str, user_ids: Sequence[int], footing: Footing | None) -> None:
        """Take note of a root field's ground; None where it has no firm one.

        Where the field is worked out anew, what it told first was the case before either time.
        """
        if footing is None:
            self.is_firm = False
        else:
            self.told.setdefault(name, Ground(tuple(user_ids), footing))


class Answer(NamedTuple):
    """An answer as it was sent.

    Attributes:
        label: of the operation; see `label_of`.
        cost: its price.
    """

    body: bytes
    label: str
    cost: int
    grounds: tuple[Ground, ...]


class Memo:
    """The answers that were given last, of one process.

    Args:
        most: bytes that are kept; 0 for none.
        present: tells on what answers about some people would stand now; None where that is not at
            hand.
    """

    def __init__(self, most: int, present: Callable[[Sequence[int]], Footing | None]) -> None:
        self._most = most
        self._present = present
        self._held = 0
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._state: tuple[str, int, float] | None = None

    @staticmethod
    def key(
        query: str,
        operation_name: str | None,
        variables: Mapping[str, Any] | None,
        media_type: str,
        caller: Caller,
    ) -> Key | None:
        """Return what equal requests of callers who may see the same have in common.

        None where variables are nested more deeply than can be written, though they were read.
        """
        try:
            given = orjson.dumps([operation_name, variables or {}], option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            return None
        return (
            query.encode(),
            given,
            media_type.encode(),
            f"{caller.kind}:{caller.subject}".encode(),
        )

    def find(self, key: Key) -> Answer | None:
        """Return the answer to a request if it would still be the same."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        if any(self._present(ground.user_ids) != ground.footing for ground in answer.grounds):
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return answer

    def keep(self, key: Key, answer: Answer) -> None:
        """Keep an answer, and drop what was not asked for longest where there is too much."""
        self._drop_all_of_another_state(answer)
        self._drop(key)
        self._answers[key] = answer
        self._held += _size(key, answer)
        while self._held > self._most:
            self._drop(next(iter(self._answers)))

    def _drop_all_of_another_state(self, answer: Answer) -> None:
        """Drop all where a model went live or the catalogue changed: none of it is ever given."""
        state = answer.grounds[0].footing[:3]
        if state != self._state:
            self._state = state
            self._answers.clear()
            self._held = 0

    def _drop(self, key: Key) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self._held -= _size(key, dropped)


def _size(key: Key, answer: Answer) -> int:
    people = sum(len(ground.user_ids) for ground in answer.grounds)
    return sum(map(len, key)) + len(answer.body) + people * _PERSON_BYTES + _ENTRY_BYTES
