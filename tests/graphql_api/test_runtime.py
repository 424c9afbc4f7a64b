"""What goes on beside answering."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

import pytest

from domain.errors import RecordsUnavailable
from graphql_api import runtime
from graphql_api.runtime import Runtime, idly

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0


class Chore:
    """Fails with each of the errors in turn, and works from then on."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self._works = 0
        self.worked_twice = Event()

    def __call__(self) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self._works += 1
        if self._works == 2:
            self.worked_twice.set()


@contextmanager
def doing(*chores: Callable[[], object]) -> Iterator[None]:
    doer = Runtime(chores, interval=0.001)
    doer.start()
    try:
        yield
    finally:
        doer.stop()


def test_a_chore_that_fails_for_a_while_is_told_of_once_and_when_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    chore = Chore(*[RecordsUnavailable("the disk is full")] * 20)
    with doing(chore):
        assert chore.worked_twice.wait(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "the disk is full; it is tried again",
        "what failed in the background works again",
    ]


def test_each_new_trouble_of_a_chore_is_told(caplog: pytest.LogCaptureFixture) -> None:
    chore = Chore(
        RecordsUnavailable("one"), ZeroDivisionError("another"), RecordsUnavailable("one")
    )
    with doing(chore):
        assert chore.worked_twice.wait(PATIENCE)
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in told] == [
        "one; it is tried again",
        "another; it is tried again",
        "one; it is tried again",
    ]
    # What nobody foresaw comes with its traceback
    assert [record.exc_info is not None for record in told] == [False, True, False]


def test_a_chore_that_fails_keeps_no_other_from_its_turn() -> None:
    failing, working = Chore(*[ZeroDivisionError()] * 5), Chore()
    with doing(failing, working):
        assert failing.worked_twice.wait(PATIENCE)
        assert working.worked_twice.is_set()


class Idling:
    """A clock that moves by 2 s with each piece of work, and the pauses that are made between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *pieces: bool | Exception) -> None:
        self.pauses: list[float] = []
        self._pieces = pieces
        self._done = 0
        monkeypatch.setattr("graphql_api.runtime.time.perf_counter", lambda: 2.0 * self._done)
        monkeypatch.setattr("graphql_api.runtime.asyncio.sleep", self._pause)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self._done == len(self._pieces):
            raise asyncio.CancelledError

    def work(self) -> bool:
        piece = self._pieces[self._done]
        self._done += 1
        if isinstance(piece, Exception):
            raise piece
        return piece

    def run(self, asked: Callable[[], int]) -> None:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(idly(self.work, asked))


def test_what_is_done_idly_takes_half_of_the_time_and_little_while_somebody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idling, asked = Idling(monkeypatch, True, True, True, False), iter([5, 5, 7, 7, 7])
    idling.run(lambda: next(asked))
    assert idling.pauses == [2.0, 38.0, 2.0, runtime._IDLE_SECONDS]  # noqa: SLF001 - told nowhere else


def test_what_fails_idly_is_told_of_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failure = MemoryError("there is none")
    idling = Idling(monkeypatch, failure, failure, True, failure)
    idling.run(lambda: 0)
    assert [record.getMessage() for record in caplog.records] == [
        "nothing is prepared for answers: there is none"
    ] * 2
