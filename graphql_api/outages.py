"""Whether the catalogue answers: told once when it stops and once when it answers again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from domain.errors import CatalogUnavailable
from domain.ports import Catalog

T = TypeVar("T")

RETRY_SECONDS = 2
"""After what time those who were refused may ask again."""

_log = logging.getLogger(__name__)


class Outages:
    """Watches what is asked of the catalogue.

    Args:
        on_begin: called when an outage begins, for a metric.
    """

    def __init__(self, catalog: Catalog, on_begin: Callable[[], object]) -> None:
        self._catalog = catalog
        self._on_begin = on_begin
        self._lock = threading.Lock()
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why the catalogue does not answer, None where it does."""
        return self._trouble

    def watch(self, ask: Callable[[], T]) -> T:
        """Ask the catalogue something.

        Raises:
            CatalogUnavailable: it does not answer.
        """
        try:
            answer = ask()
        except CatalogUnavailable as error:
            self.begin(str(error))
            raise
        if self._trouble is not None:
            self._end()
        return answer

    def begin(self, trouble: str) -> None:
        """Take note that the catalogue did not answer."""
        with self._lock:
            is_new = self._trouble is None
            self._trouble = trouble
        if is_new:
            self._on_begin()
            _log.error("the catalogue does not answer, lists go on without it: %s", trouble)

    def look(self) -> None:
        """Catch up with the catalogue without a caller.

        An outage is noticed, and finds what lists go on with fresh, though nobody asked for long.
        """
        with suppress(CatalogUnavailable):
            self.watch(lambda: (self._catalog.revision, self._catalog.jobs([0], frozenset({"id"}))))

    def _end(self) -> None:
        with self._lock:
            was_out, self._trouble = self._trouble is not None, None
        if was_out:
            _log.info("the catalogue answers again")
