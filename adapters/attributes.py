"""What people say of themselves, from a file of its own that only an audit reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from domain.auditing import Attributes
from domain.errors import DatasetMissing, LineRejected
from domain.model import MAX_ID

MAX_TEXT = 100
"""The longest value, in characters."""


def read_attributes(path: Path) -> Attributes:
    """Read lines of a `user_id` and attributes, whose values are texts, numbers, booleans or null.

    A bad line ends the reading. Messages name its place, never what it holds.

    Raises:
        DataError: the file cannot be read, a line is bad, or a person has two.
    """
    people: dict[int, dict[str, str | None]] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                user_id, values = _parsed(line, f"{path.name}, line {number}")
                if user_id in people:
                    raise LineRejected(f"{path.name}, line {number}: the person has a line already")
                people[user_id] = values
    except OSError as error:
        raise DatasetMissing(f"cannot read {path}: {error.strerror}") from error
    names = sorted({name for values in people.values() for name in values})
    if not names:
        raise LineRejected(f"{path.name}: expected lines of a user_id and at least one attribute")
    ordered = sorted(people)
    return Attributes(
        np.array(ordered, dtype=np.int64),
        {name: [people[user].get(name) for user in ordered] for name in names},
    )


def _parsed(line: bytes, place: str) -> tuple[int, dict[str, str | None]]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise LineRejected(f"{place}: expected a JSON object") from None
    if not isinstance(record, dict):
        raise LineRejected(f"{place}: expected a JSON object")
    user_id = record.pop("user_id", None)
    if isinstance(user_id, str) and user_id.isascii() and user_id.isdigit():
        user_id = int(user_id[:20])
    if not isinstance(user_id, int) or isinstance(user_id, bool) or not 0 <= user_id <= MAX_ID:
        raise LineRejected(f"{place}: user_id: expected an integer from 0 to {MAX_ID}")
    return user_id, {name: _text(value, f"{place}: {name}") for name, value in record.items()}


def _text(value: Any, place: str) -> str | None:  # noqa: ANN401 - whatever JSON holds
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        raise LineRejected(f"{place}: expected a text, a number, a boolean or null")
    text = str(value)
    if len(text) > MAX_TEXT:
        raise LineRejected(f"{place}: longer than {MAX_TEXT} characters")
    return text
