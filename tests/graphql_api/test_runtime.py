"""What goes on beside answering."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

import pytest

from domain.errors import RecordsUnavailable
from graphql_api.runtime import Runtime

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
    runtime = Runtime(chores, interval=0.001)
    runtime.start()
    try:
        yield
    finally:
        runtime.stop()


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
