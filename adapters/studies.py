"""Trials of a search in a file: a line that says of which search, then a line a trial."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from domain.errors import InputError
from domain.ports import Study
from domain.tuning import Trial

_SHOWN = 4
"""What is different is told up to so many."""


class JsonlStudy(Study):
    """A study in a file of JSON lines; a last line cut off by a crash is dropped.

    Args:
        path: the file, made where it does not exist.
        search: what the trials were measured on; only the same search may go on.

    Raises:
        InputError: the file is of another search, no study, or cannot be read or written.
    """

    def __init__(self, path: Path, search: Mapping[str, Any]) -> None:
        self._path = path
        try:
            if path.exists() and path.stat().st_size:
                self._trials = self._resumed(search)
            else:
                self._trials = []
                path.parent.mkdir(parents=True, exist_ok=True)
                self._append(search)
        except OSError as error:
            raise InputError(f"cannot use the study {path}: {error}", "study") from error

    def trials(self) -> list[Trial]:
        """Return the trials; see the port."""
        return list(self._trials)

    def add(self, trial: Trial) -> None:
        """Record a trial; see the port.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            self._append(asdict(trial))
        except OSError as error:
            raise InputError(f"cannot write the study {self._path}: {error}", "study") from error
        self._trials.append(trial)

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())

    def _resumed(self, search: Mapping[str, Any]) -> list[Trial]:
        content = self._path.read_bytes()
        whole, newline, cut_off = content.rpartition(b"\n")
        try:
            head, *rows = [orjson.loads(line) for line in (whole + newline).splitlines()]
            trials = [Trial(**row) for row in rows]
            differing = list(_differing(head, _plain(search)))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._path} is no study; name another file, or remove it", "study"
            ) from error
        if differing:
            raise InputError(
                f"the study {self._path} is of another search: {_few(differing)}; "
                f"name another file, or remove it to begin anew",
                "study",
            )
        if cut_off:
            os.truncate(self._path, len(whole) + len(newline))
        return trials


def _differing(head: Mapping[str, Any], search: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """Yield what is different, each with both values; within a mapping, only what differs."""
    for name in {**search, **head}:
        theirs, ours = head.get(name), search.get(name)
        if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
            yield from _differing(theirs, ours, f"{of}{name}.")
        elif theirs != ours:
            yield f"{of}{name} {_short(theirs)} and not {_short(ours)}"


def _few(described: Sequence[str]) -> str:
    more = len(described) - _SHOWN
    return ", ".join(described[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _plain(value: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON is
    return orjson.loads(orjson.dumps(value))


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = orjson.dumps(value).decode()
    return text if len(text) <= 100 else f"{text[:100]}..."
