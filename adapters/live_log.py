"""What people did since a model was trained: the log's files, followed by their bytes."""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
import re
import threading
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.jsonl import (
    LIVE_ACTIVITIES,
    fingerprint,
    is_blanked,
    last_line_end,
    read_activities,
)
from adapters.kept_tally import KeptTally
from domain.errors import ActivitiesUnavailable, DataError
from domain.model import Activity, ActivityTally, IdArray, ReadReport
from domain.ports import RecentActivities

MAX_HELD = 200_000
"""So many recent activities of a file are kept in memory, the newest: some 40 MB."""

_FOLLOWED_MODELS = 2
"""The live model, and one that requests under way still answer from."""

_OWNERS = "activities.jsonl"
_NOTHING = ActivityTally.empty()

_CHANGES = itertools.count()
"""Numbers that no two changes of this process share."""

_log = logging.getLogger(__name__)


class JsonlRecentActivities(RecentActivities):
    """Follows the activity files of a dataset folder, and appends to the one that is jobrec's own.

    The files are the truth, and each process follows them by itself: a question costs a look at
    their sizes, and reading what is new. Where a file was cut short or exchanged, what it holds
    now cannot be told from what the model knows. The owner's file is then left alone until the
    next training; jobrec's own is followed from its beginning.

    Args:
        folder: of the dataset.
        kept: a tally of these files, which tells of whoever is to be forgotten.
    """

    def __init__(self, folder: Path, kept: KeptTally | None = None) -> None:
        self._folder = folder
        self._kept = kept
        self._lock = threading.Lock()
        self._followed: list[tuple[Mapping[str, Any], tuple[_FollowedFile, ...]]] = []

    def append(self, activities: Sequence[Activity]) -> None:
        """Record activities for good; see the port. The owner's file is never written to."""
        path = self._folder / LIVE_ACTIVITIES
        content = b"".join(_line(activity) for activity in activities)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # Held by one process at a time, and given up with the descriptor
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append_whole(descriptor, content)
            finally:
                os.close(descriptor)
            _sync_folder(self._folder)
        except OSError as error:
            raise ActivitiesUnavailable(f"{path} cannot be written: {error.strerror}") from error

    def since(self, read_to: Mapping[str, Any], user_ids: IdArray) -> ActivityTally:
        """Count what some people did lately; see the port."""
        with self._lock:
            files = self._files(read_to)
            for file in files:
                file.catch_up()
            wanted = dict.fromkeys(user_ids.tolist())
            events = [
                (user_id, *event)
                for file in files
                for user_id in wanted
                for event in file.events_of(user_id)
            ]
        if not events:
            return _NOTHING
        return ActivityTally.from_events(*zip(*events, strict=True))

    def marks(
        self, read_to: Mapping[str, Any], user_ids: IdArray, *, reading: bool
    ) -> tuple[Hashable, ...] | None:
        """Return what changes with what is told of people; see the port."""
        # Whoever holds it may be reading
        if not self._lock.acquire(blocking=reading):
            return None
        try:
            files = self._files(read_to)
            for file in files:
                if reading:
                    file.catch_up()
                elif not file.is_read():
                    return None
            return tuple(
                tuple([file.changed(user_id) for file in files]) for user_id in user_ids.tolist()
            )
        finally:
            self._lock.release()

    def forget(self, user_id: int, until: datetime) -> None:
        """Overwrite a person's lines with blanks; see the port. All others stay where they are."""
        try:
            if self._kept is not None:
                self._kept.forget()
        except OSError as error:
            raise ActivitiesUnavailable(f"the tally cannot be removed: {error}") from error
        path = self._folder / LIVE_ACTIVITIES
        begins = re.compile(rb'^\{"user_id": %d,.*$' % user_id, re.MULTILINE)
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                for start, line in [
                    (found.start(), found[0]) for found in begins.finditer(file.read())
                ]:
                    if json.loads(line)["timestamp"] <= until.timestamp():
                        os.pwrite(file.fileno(), b" " * len(line), start)
                os.fsync(file.fileno())
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError) as error:
            raise ActivitiesUnavailable(f"{path} cannot be changed: {error}") from error

    def rejected(self, read_to: Mapping[str, Any]) -> int:
        """Return how many lines behind a model could not be used."""
        with self._lock:
            return sum(file.rejected for file in self._files(read_to))

    def _files(self, read_to: Mapping[str, Any]) -> tuple[_FollowedFile, ...]:
        """Return the files that are followed for a model; those asked for last are kept."""
        for place, (known, files) in enumerate(self._followed):
            if known == read_to:
                self._followed.insert(0, self._followed.pop(place))
                return files
        own = _FollowedFile(self._folder / LIVE_ACTIVITIES, read_to, is_own=True)
        files = (own,)
        if _OWNERS in read_to:
            files = (_FollowedFile(self._folder / _OWNERS, read_to, is_own=False), own)
        self._followed = [(dict(read_to), files), *self._followed[: _FOLLOWED_MODELS - 1]]
        return files


class _FollowedFile:
    """What stands in a file behind the place to which a model read it.

    Args:
        is_own: follow it from its beginning where it is another than it was.
    """

    def __init__(self, path: Path, read_to: Mapping[str, Any], *, is_own: bool) -> None:
        mark = read_to.get(path.name, {})
        self.rejected = 0
        self._path = path
        self._name = str(path)
        self._is_own = is_own
        self._offset: int = mark.get("bytes", 0)
        self._before: str = mark.get("before", "")
        self._size = self._offset
        self._is_lost = False
        self._held: deque[int] = deque()
        self._by_user: defaultdict[int, deque[tuple[int, int, float]]] = defaultdict(deque)
        self._is_full = False
        self._begun = next(_CHANGES)
        self._changed: dict[int, int] = {}

    def changed(self, user_id: int) -> int:
        """Return a number that is another once something else is held of a person."""
        return self._changed.get(user_id, self._begun)

    def events_of(self, user_id: int) -> Iterable[tuple[int, int, float]]:
        """Return what is held of a person: job, kind and epoch seconds."""
        return self._by_user.get(user_id, ())

    def is_read(self) -> bool:
        """Tell whether there is nothing to read; what cannot be looked at is not."""
        try:
            return self._is_lost or self._size_now() == self._size
        except OSError:
            return False

    def catch_up(self) -> None:
        """Read the whole lines that are new."""
        size = self._size_now()
        if self._is_lost or size == self._size:
            return
        try:
            self._read(size)
        except (OSError, DataError) as error:
            # Answering goes on by what is known; the next question tries again
            _log.warning("recent activities are not read: %s", error)

    def _size_now(self) -> int:
        try:
            return os.stat(self._name).st_size  # noqa: PTH116 - asked with each answer
        except FileNotFoundError:
            return 0

    def _read(self, size: int) -> None:
        if size and size >= self._offset:
            with self._path.open("rb") as file:
                is_same = (
                    not self._offset
                    or fingerprint(file, self._offset) == self._before
                    or (self._is_own and is_blanked(file, self._offset))
                )
        else:
            is_same = not self._offset
        if not is_same and not self._is_own:
            self._is_lost = True
            _log.warning(
                "%s was cut short or exchanged: what it holds now waits for the next training",
                self._path,
            )
            return
        if not is_same:
            _log.warning("%s was cut short or exchanged: it is followed anew", self._path)
            self._offset = 0
            self._held.clear()
            self._by_user.clear()
            self._changed.clear()
            self._begun = next(_CHANGES)
        if size:
            with self._path.open("rb") as file:
                end = last_line_end(file, self._offset, size)
                before = fingerprint(file, end)
            if end > self._offset:
                self._take_in(end)
            self._offset, self._before = end, before
        self._size = size

    def _take_in(self, end: int) -> None:
        for part in read_activities(self._path, self._offset, end):
            if isinstance(part, ReadReport):
                self.rejected += part.rejected_total
                for line in part.lines() if part.rejected else ():
                    _log.warning("behind byte %d: %s", self._offset, line)
                continue
            change = next(_CHANGES)
            users, *columns = (column.tolist() for column in part)
            for user_id, event in zip(users, zip(*columns, strict=True), strict=True):
                self._held.append(user_id)
                self._by_user[user_id].append(event)
                self._changed[user_id] = change
            while len(self._held) > MAX_HELD:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        if not self._is_full:
            self._is_full = True
            _log.warning(
                "%s holds more than %d activities that the model has not learned from: "
                "the oldest wait for the next training",
                self._path,
                MAX_HELD,
            )
        oldest = self._held.popleft()
        self._by_user[oldest].popleft()
        self._changed[oldest] = next(_CHANGES)
        if not self._by_user[oldest]:
            del self._by_user[oldest]


def _line(activity: Activity) -> bytes:
    row = {
        "user_id": activity.user_id,
        "job_id": activity.job_id,
        "type": activity.kind.word,
        "timestamp": activity.at.timestamp(),
    }
    return json.dumps(row).encode() + b"\n"


def _append_whole(descriptor: int, content: bytes) -> None:
    """Append lines, all or none, behind the end of the last line."""
    start = os.fstat(descriptor).st_size
    if start and os.pread(descriptor, 1, start - 1) != b"\n":
        # A writer was killed amid its line, which counts as a bad one
        content = b"\n" + content
    try:
        written = 0
        while written < len(content):
            written += os.write(descriptor, content[written:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, start)
        raise


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
