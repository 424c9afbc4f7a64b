"""What follows from an array, kept while the array lives."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

T = TypeVar("T")


class Remembered(Generic[T]):
    """What was made of the arrays that were met last, and more than once.

    Only arrays that cannot be written to are remembered: they are the same for as long as they
    live. What is made pays only where it is used again, so an array that is met once is passed by.

    Args:
        most: so many arrays are remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._met: OrderedDict[int, tuple[weakref.ref[NDArray[Any]], T | None]] = OrderedDict()

    def of(self, array: NDArray[Any], make: Callable[[], T]) -> T | None:
        """Return what is made of an array, None where it is not worth making it yet."""
        if array.flags.writeable:
            return None
        key = id(array)
        with self._lock:
            owner, made = self._met.get(key, (None, None))
            is_met = owner is not None and owner() is array
            if is_met:
                self._met.move_to_end(key)
        if is_met and made is not None:
            return made
        made = make() if is_met else None
        # Held by this, it must not hold this: what is made may be large, and has to go at once
        own = weakref.ref(self)

        def forget(_: weakref.ref[NDArray[Any]]) -> None:
            remembered = own()
            if remembered is not None:
                remembered._met.pop(key, None)  # noqa: SLF001 - its own

        with self._lock:
            self._met[key] = weakref.ref(array, forget), made
            self._met.move_to_end(key)
            if len(self._met) > self._most:
                self._met.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._met)
