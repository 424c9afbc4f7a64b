"""An activity log of which a training reads what is new since an earlier one."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from adapters.counting import Counting
from adapters.jsonl import Covered, JsonlActivityLog
from adapters.kept_tally import FilePart, Kept, KeptTally, Unusable
from domain.errors import CatalogUnavailable
from domain.model import ActivityTally, IdArray, ReadReport, TimeArray, TimeWindow
from domain.ports import ActivityLog, OnProgress

_SAMPLES = 64
_SAMPLE_BYTES = 1 << 12
_WORTH_KEEPING = 8
"""A tally is kept anew when more than one byte in so many is new."""

_log = logging.getLogger(__name__)


class KeptActivityLog(ActivityLog):
    """Files of activities, whose tally is kept between trainings.

    Where the files have only grown, new lines are read and put to what is kept, which gives what
    reading all gives. Anything else, and a window of time, has all lines read.

    Who was erased is left out of the tally, as `ActivityTally.without_erased` has it, and so of
    what is kept. Whenever somebody is erased, or comes back, all lines are read once: files of the
    owner's may still tell of them. The same holds where new lines tell of somebody erased, since
    old lines decide whether these count.

    Args:
        erasures: names the state of erasures; see `Catalog.erasures`.
        erased_at: tells when people were erased; see `Catalog.erased_at`.
        threads: count.
    """

    def __init__(
        self,
        log: JsonlActivityLog,
        kept: KeptTally,
        erasures: Callable[[], str],
        erased_at: Callable[[IdArray], TimeArray],
        threads: int = 1,
    ) -> None:
        self._activities = log
        self._kept = kept
        self._erasures = erasures
        self._erased_at = erased_at
        self._threads = threads

    def tally(
        self, window: TimeWindow, on_progress: OnProgress
    ) -> tuple[ActivityTally, ReadReport]:
        """Count the activities in a window; see the port."""
        if not window.is_unbounded:
            _log.info("all activities are read: what is kept is of all times")
            tally, report = self._activities.tally(window, on_progress)
            return tally.without_erased(self._erased_at), report
        erasures = self._erasures()
        beginnings = {path: _beginning(path) for path in self._activities.files()}
        try:
            known, tallies = self._usable(erasures)
            tally, read = self._read_on(known, tallies, on_progress)
        except Unusable as obstacle:
            _log.info("all activities are read: %s", obstacle)
            known = {}
            counting = Counting(self._threads)
            read = self._activities.count(counting, window, on_progress, {})
            tally = counting.tally().without_erased(self._erased_at)
        try:
            parts = _parts(read, beginnings)
            whole, before = (sum(part.bytes for part in of.values()) for of in (parts, known))
            if not known or whole - before > whole / _WORTH_KEEPING:
                self._kept.write(Kept(tally, parts, erasures), lambda: self._erasures() == erasures)
        except Unusable as obstacle:
            _log.info("no tally is kept: %s", obstacle)
        except (OSError, CatalogUnavailable) as error:
            _log.warning("no tally is kept: %s", error)
        return tally, ReadReport.joined([file.report for file in read])

    def _usable(self, erasures: str) -> tuple[Mapping[str, FilePart], list[ActivityTally]]:
        """Return what is kept, if it is of the beginnings of the files that are there.

        Raises:
            Unusable: it is not.
        """
        kept = self._kept.read()
        if kept.erasures != erasures:
            raise Unusable("somebody was erased, or came back, since a tally was kept")
        files = {path.name: path for path in self._activities.files()}
        for name, part in kept.parts.items():
            if name not in files or identity(files[name], part.bytes) != part.identity:
                raise Unusable(f"{name} was cut short or exchanged since a tally was kept")
            if self._activities.is_strict and part.report.rejected:
                raise Unusable(f"{name} holds bad lines, of which strict reading names the first")
        return kept.parts, [kept.tally]

    def _read_on(
        self,
        known: Mapping[str, FilePart],
        tallies: list[ActivityTally],
        on_progress: OnProgress,
    ) -> tuple[ActivityTally, list[Covered]]:
        """Read what is new, and put it to what is known, which is given up.

        Raises:
            Unusable: new lines tell of somebody erased.
        """
        counting = Counting(self._threads)
        covered = {
            path.name: Covered(path, known[path.name].bytes, known[path.name].report)
            for path in self._activities.files()
            if path.name in known
        }
        read = self._activities.count(counting, TimeWindow(), on_progress, covered)
        news = counting.tally()
        before = sum(part.report.read for part in known.values())
        lines = sum(file.report.read for file in read)
        _log.info("%d lines of activities are known, %d are new", before, lines - before)
        if not np.isnan(self._erased_at(np.unique(news.user_ids))).all():
            raise Unusable("new lines tell of somebody who was erased")
        tallies += [news] if len(news) else []
        return Counting(self._threads, tallies).tally(), read


def _parts(
    read: Sequence[Covered], beginnings: Mapping[Path, tuple[int, str]]
) -> dict[str, FilePart]:
    """Return what was read, for reading on from there.

    Args:
        beginnings: what files were like before they were read.

    Raises:
        Unusable: one cannot be read on from.
        OSError: one cannot be read any more.
    """
    parts = {}
    for path, end, report in read:
        size, was = beginnings.get(path, (0, identity(path, 0)))
        if identity(path, size) != was:
            raise Unusable(f"{path.name} changed while it was read")
        mark = report.read_to.get(path.name)
        if mark is None:
            raise Unusable(f"{path.name} is compressed")
        if mark["bytes"] != end:
            raise Unusable(f"the last line of {path.name} has no end")
        parts[path.name] = FilePart(end, identity(path, end), replace(report, read_to={}))
    return parts


def _beginning(path: Path) -> tuple[int, str]:
    size = path.stat().st_size
    return size, identity(path, size)


def identity(path: Path, end: int) -> str:
    """Return what changes where a file's bytes before a place are not what they were.

    It is known by its number (inode), and by 65 stretches of 4 KiB, the first and the last among
    them; a file that is shorter has none. What is overwritten in place between them goes unseen.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_size < end:
            return ""
        digest = hashlib.sha256(b"%d %d" % (status.st_ino, end))
        last = max(0, end - _SAMPLE_BYTES)
        for place in sorted({last * sample // _SAMPLES for sample in range(_SAMPLES + 1)}):
            digest.update(os.pread(descriptor, min(_SAMPLE_BYTES, end - place), place))
        return digest.hexdigest()
    finally:
        os.close(descriptor)
