"""Taking a dataset's jobs and people into the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from domain.model import Job, ReadReport, User
from domain.ports import CatalogImport, ItemKind

BATCH_ITEMS = 5_000
"""Items of a transaction; what it holds is safe when it ends."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Files that hold jobs and people.

    Attributes:
        stamp: changes whenever the files do.
        kinds: what they hold.
        items: yields jobs and people, in the same order for the same stamp; raises DataError.
        reports: tells of the lines, when all items are read.
    """

    stamp: str
    kinds: frozenset[ItemKind]
    items: Callable[[], Iterator[Job | User]]
    reports: Callable[[], list[ReadReport]]


@dataclass(frozen=True)
class Imported:
    """What became of an import.

    Attributes:
        items: all that the source holds.
        resumed: how many of them had been taken before.
        is_changed: whether the catalogue is another now.
    """

    items: int
    resumed: int
    is_changed: bool
    reports: Sequence[ReadReport]


class Importing:
    """Imports, one at a time of all processes."""

    def __init__(self, store: CatalogImport) -> None:
        self._store = store
        self._refused: str | None = None

    def run(self, source: Source, *, full: bool = True) -> Imported:
        """Import a source: in place of what an import brought before, or on top of it.

        Raises:
            DataError: the source cannot be used; a full import then changes nothing.
            CatalogUnavailable: the store does not answer; the next import goes on from there.
        """
        with self._store.importing(wait=True):
            return self._run(source, full=full)

    def follow(self, source: Source, *, wait: bool) -> Imported | None:
        """Import a source unless it is what was imported last; None where there is nothing to do.

        A source that cannot be used is told once, not at every look; errors as for `run`.

        Args:
            wait: for another process that imports; else it is left to that one.
        """
        if source.stamp in {self._store.imported(), self._refused}:
            return None
        with self._store.importing(wait=wait) as is_ours:
            # Another process may have done it meanwhile
            if not is_ours or source.stamp == self._store.imported():
                return None
            self._refused = source.stamp
            outcome = self._run(source, full=True)
            self._refused = None
        for report in outcome.reports:
            level = logging.WARNING if report.rejected else logging.INFO
            for line in report.lines():
                _log.log(level, "%s", line)
        return outcome

    def _run(self, source: Source, *, full: bool) -> Imported:
        resumed = self._store.begin(source.stamp, source.kinds, full=full)
        items = source.items()
        count = sum(1 for _ in islice(items, resumed))
        while batch := list(islice(items, BATCH_ITEMS)):
            self._store.extend(batch)
            count += len(batch)
        return Imported(count, resumed, self._store.finish(), source.reports())
