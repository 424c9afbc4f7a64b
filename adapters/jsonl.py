"""Datasets as JSON lines: `activities.jsonl`, `jobs.jsonl`, `users.jsonl`, plain, gzip or zstd.

Lines are decoded in blocks of 4 MiB against a schema, which is fast; a block with a bad line in
it is halved until the line stands alone, and then judged field by field. Every line is either
used or rejected with its cause, so that read = used + rejected.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import signal
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from multiprocessing.pool import AsyncResult, Pool
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from adapters import uniform_lines
from adapters.counting import SHARE_EVENTS, Columns, Counting
from adapters.job_index import JobIndex, JobRow
from domain.employers import Amendments, EmployerNotes, EmployerProfile
from domain.errors import DatasetMissing, LineRejected, TooManyRejected
from domain.model import (
    MAX_ID,
    MAX_TIMESTAMP,
    ActivityKind,
    ActivityTally,
    IdArray,
    IdIndex,
    IndexArray,
    Job,
    JobFilter,
    ReadReport,
    RejectedLine,
    TimeWindow,
    User,
)
from domain.ports import (
    JOB_FIELDS,
    ActivityLog,
    Catalog,
    Coverage,
    JobCursor,
    JobPage,
    OnProgress,
    nobody,
)
from domain.ranking import Standing
from domain.tastes import Taste

_log = logging.getLogger(__name__)

BLOCK_BYTES = 512 << 10
"""Lines are decoded in blocks whose objects fit the processor's cache."""

SPAN_BYTES = 32 << 20
"""A plain file of many such spans is read by as many processes as there are processors."""

_FEWEST_SPANS = 4
"""Of fewer, the lines are counted before other processes have started."""

LIVE_ACTIVITIES = "activities.live.jsonl"
"""What jobrec itself records, beside the owner's file, in the same form."""

ActivityColumns = tuple[NDArray[Any], ...]
"""User ids, job ids, kinds and epoch seconds (NaN where unknown), each of shape (activities,)."""

MAX_LINE_BYTES = 16 << 20
_LONGEST_PAUSE = 63
_FINGERPRINTED = 1 << 10
_FEW_LINES = 64
_LINE_FEED, _CARRIAGE_RETURN = 10, 13
_AHEAD = 2
"""Each process reads so many spans at most before they are counted."""


@dataclass(frozen=True)
class Tolerance:
    """How many bad lines a reader accepts.

    Attributes:
        strict: stop at the first.
        max_rejected: stop where more than this share of a file's lines is bad.
    """

    strict: bool = False
    max_rejected: float = 0.01


def find_file(folder: Path, name: str) -> Path:
    """Return the one file `NAME.jsonl`, `NAME.jsonl.gz` or `NAME.jsonl.zst` of a dataset.

    Raises:
        DatasetMissing: there is none, or more than one.
    """
    candidates = [folder / f"{name}.jsonl{suffix}" for suffix in ("", ".gz", ".zst")]
    found = [path for path in candidates if path.is_file()]
    if not found:
        raise DatasetMissing(
            f"no {name}.jsonl (nor .gz, .zst) in {folder}; "
            f"name another folder with --data, or write one with `jobrec demo`"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DatasetMissing(f"{folder} holds {names}: keep one of them")
    return found[0]


class JsonlActivityLog(ActivityLog):
    """The activities of a dataset folder: its file, and what jobrec itself has recorded beside it.

    Args:
        folder: holds the files.
        tolerance: how many bad lines are accepted.
        processes: read a large plain file, and threads count it.
    """

    def __init__(
        self, folder: Path, tolerance: Tolerance | None = None, processes: int = 1
    ) -> None:
        self._folder = folder
        self._tolerance = tolerance or Tolerance()
        self._processes = processes

    def stamp(self) -> object:
        """Return what changes whenever the file does."""
        return _stamp(find_file(self._folder, "activities"))

    def tally(
        self, window: TimeWindow, on_progress: OnProgress
    ) -> tuple[ActivityTally, ReadReport]:
        """Count the activities in a window; see the port."""
        counting = Counting(self._processes)
        read = self.count(counting, window, on_progress, {})
        return counting.tally(), ReadReport.joined([file.report for file in read])

    @property
    def is_strict(self) -> bool:
        """Whether reading stops at the first bad line."""
        return self._tolerance.strict

    def files(self) -> list[Path]:
        """Return the files of the log, of which jobrec's own may be missing.

        Raises:
            DatasetMissing: the owner's is.
        """
        live = self._folder / LIVE_ACTIVITIES
        owners = find_file(self._folder, "activities")
        return [owners, live] if live.is_file() else [owners]

    def count(
        self,
        counting: Counting,
        window: TimeWindow,
        on_progress: OnProgress,
        covered: Mapping[str, Covered],
    ) -> list[Covered]:
        """Count the activities in a window, but for those that were counted before.

        Args:
            covered: what was counted before, by the name of its file; these are plain ones.

        Returns:
            what is covered now of each of the `files`.

        Raises:
            DataError: the log cannot be used.
        """
        read = []
        for path in self.files():
            tolerance = self._tolerance
            if path.name == LIVE_ACTIVITIES:
                # A few lines, of which a killed writer may have left one half, must not stop
                # trainings
                tolerance = replace(tolerance, max_rejected=1)
            before = covered.get(path.name, Covered(path, 0, ReadReport(path.name)))
            read.append(self._count(path, tolerance, window, counting, on_progress, before))
        return read

    def _count(
        self,
        path: Path,
        tolerance: Tolerance,
        window: TimeWindow,
        counting: Counting,
        on_progress: OnProgress,
        before: Covered,
    ) -> Covered:
        span = None if is_compressed(path) else _Span(path, before.bytes, path.stat().st_size)
        lines = _Lines(path, _ACTIVITY, tolerance, on_progress, span, before.report)
        outside = before.report.outside
        for columns in self._columns(lines, span):
            inside = columns.within(window)
            outside += len(columns) - len(inside)
            counting.add(inside)
        end, mark = (0, {}) if span is None else (span.end, read_mark(path, span.end))
        return Covered(path, end, replace(lines.report(outside=outside), read_to=mark))

    def _columns(self, lines: _Lines[_ActivityRow], span: _Span | None) -> Iterator[Columns]:
        spans = _spans(span) if span is not None and self._processes > 1 else []
        if len(spans) < _FEWEST_SPANS:
            yield from _gathered(_activities(lines))
            return
        # Spawned, not forked: other threads of this process may hold locks
        context = multiprocessing.get_context("spawn")
        with context.Pool(self._processes, _ignore_interrupts) as pool:
            for part, (columns, report) in zip(
                spans, _in_turn(pool, spans, _AHEAD * self._processes), strict=True
            ):
                lines.absorb(report, part.end)
                yield columns
        lines.check_share()


class Covered(NamedTuple):
    """What was read of a file.

    Attributes:
        path: of the file.
        bytes: from its beginning; 0 of a compressed one.
        report: the account of the lines.
    """

    path: Path
    bytes: int
    report: ReadReport


def is_compressed(path: Path) -> bool:
    """Tell whether a file is, by its first bytes.

    Raises:
        DatasetMissing: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(tuple(_MAGIC))
    except OSError as error:
        raise DatasetMissing(f"cannot read {path}: {error}") from error


def read_mark(path: Path, reached: int) -> dict[str, Any]:
    """Return what is kept of how far a plain file was read.

    Args:
        reached: bytes read; a last line without its end is not counted in.
    """
    with path.open("rb") as file:
        end = last_line_end(file, 0, reached)
        return {path.name: {"bytes": end, "before": fingerprint(file, end)}}


def last_line_end(file: BinaryIO, start: int, end: int) -> int:
    """Return where the last whole line of a stretch of a file ends; `start` without one."""
    while end > start:
        begin = max(start, end - BLOCK_BYTES)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return start


def fingerprint(file: BinaryIO, end: int) -> str:
    """Return a hash of what stands before a place of a file: it changes if the file is another."""
    begin = max(0, end - _FINGERPRINTED)
    file.seek(begin)
    return hashlib.sha256(file.read(end - begin)).hexdigest()


def is_blanked(file: BinaryIO, end: int) -> bool:
    """Tell whether a line was blanked within what `fingerprint` looks at, which so has changed."""
    begin = max(0, end - _FINGERPRINTED)
    file.seek(begin)
    return b" \n" in file.read(end - begin)


def read_activities(path: Path, start: int, end: int) -> Iterator[ActivityColumns | ReadReport]:
    """Yield the activities of whole lines of a plain file, block by block, and at last a report.

    Raises:
        DatasetMissing: the file cannot be read.
    """
    lines = _Lines(path, _ACTIVITY, Tolerance(max_rejected=1), nobody, _Span(path, start, end))
    for activities in _activities(lines):
        yield activities.columns
    yield lines.report()


def read_jobs(
    path: Path, tolerance: Tolerance, on_progress: OnProgress = nobody
) -> tuple[list[Job], ReadReport]:
    """Read jobs; where an id comes twice, both lines are returned in their order."""
    lines = _Lines(path, _JOB, tolerance, on_progress)
    return list(_jobs(lines)), lines.report()


def read_users(
    path: Path,
    tolerance: Tolerance,
    on_progress: OnProgress = nobody,
    withheld: frozenset[str] = frozenset(),
) -> tuple[list[User], ReadReport]:
    """Read people without their protected attributes, which are not even decoded.

    Args:
        withheld: fields that are not decoded either.
    """
    lines = _Lines(path, _user_shape(withheld), tolerance, on_progress)
    return list(_users(lines)), lines.report()


class JsonlItems:
    """The jobs and people of files, one after the other, and none held.

    Args:
        jobs: the file of jobs, if there is one.
        users: the file of people, if there is one.
        withheld: fields of people that are not decoded.
    """

    def __init__(
        self,
        jobs: Path | None,
        users: Path | None,
        tolerance: Tolerance,
        withheld: frozenset[str] = frozenset(),
    ) -> None:
        self._withheld = sorted(withheld) if users is not None else []
        self._paths = [path for path in (jobs, users) if path is not None]
        self._jobs = None if jobs is None else _Lines(jobs, _JOB, tolerance, nobody)
        shape = _user_shape(withheld)
        self._users = None if users is None else _Lines(users, shape, tolerance, nobody)

    def stamp(self) -> str:
        """Return what changes whenever the files do, or what is withheld.

        Raises:
            DatasetMissing: a file is not there.
        """
        try:
            stamps = [_stamp(path.resolve()) for path in self._paths]
        except OSError as error:
            raise DatasetMissing(f"cannot read {error.filename}: {error}") from error
        return json.dumps([*stamps, *([self._withheld] if self._withheld else [])])

    def __iter__(self) -> Iterator[Job | User]:
        """Yield jobs, then people; to be asked for once.

        Raises:
            DataError: a file cannot be read, or holds too many bad lines.
        """
        if self._jobs is not None:
            yield from _jobs(self._jobs)
        if self._users is not None:
            yield from _users(self._users)

    def reports(self) -> list[ReadReport]:
        """Return the account of the lines read so far."""
        return [lines.report() for lines in (self._jobs, self._users) if lines is not None]


def _jobs(lines: _Lines[_JobRow]) -> Iterator[Job]:
    for rows in lines:
        for row in rows:
            yield Job(
                id=int(row.job_id),
                title=row.title,
                employer=row.employer,
                location=row.location,
                description=row.description,
                posted_at=_moment(row.posted_at),
                closes_at=_moment(row.closes_at),
                closed=bool(row.closed),
            )


def _users(lines: _Lines[Any]) -> Iterator[User]:
    for rows in lines:
        for row in rows:
            profile = {name: getattr(row, name) for name in row.__struct_fields__[1:]}
            for name in _TEXT_LISTS & profile.keys():
                profile[name] = _texts(profile[name])
            if (year := profile.get("graduation_year")) is not None:
                profile["graduation_year"] = int(year)
            yield User(int(row.user_id), **profile)


def read_employers(path: Path, tolerance: Tolerance) -> tuple[list[EmployerProfile], ReadReport]:
    """Read what the owner tells of employers."""
    lines = _Lines(path, _EMPLOYER, tolerance, nobody)
    profiles = [
        EmployerProfile(row.employer, row.description, _texts(row.aliases))
        for rows in lines
        for row in rows
    ]
    return profiles, lines.report()


def read_employer_notes(folder: Path, tolerance: Tolerance) -> EmployerNotes:
    """Return what the owner knows of employers; both files may be absent.

    Raises:
        DataError: a file cannot be used.
        InputError: `expressions.txt` cannot be understood.
    """
    profiles: list[EmployerProfile] = []
    if any(folder.glob("employers.jsonl*")):
        profiles, report = read_employers(find_file(folder, "employers"), tolerance)
        _log_report(report)
    path = folder / "expressions.txt"
    if not path.is_file():
        return EmployerNotes(tuple(profiles))
    try:
        amendments = Amendments.parse(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetMissing(f"{path} cannot be read: {error}") from error
    return EmployerNotes(tuple(profiles), amendments)


def read_targets(
    path: Path, tolerance: Tolerance, on_progress: OnProgress = nobody
) -> tuple[ActivityTally, ReadReport]:
    """Read what people went on to do, a published split's `test.jsonl`, as pairs without a time.

    Raises:
        DataError: the file cannot be used.
    """
    lines = _Lines(path, _TARGETS, tolerance, on_progress)
    pairs = Columns.joined([_columns_of_targets(rows) for rows in lines])
    return ActivityTally.from_events(*pairs.columns), lines.report()


def read_tastes(
    path: Path, tolerance: Tolerance, on_progress: OnProgress = nobody
) -> tuple[list[Taste], ReadReport]:
    """Read tastes known from elsewhere, such as the demo's `truth.jsonl`, in order of their names.

    Raises:
        DataError: the file cannot be used.
    """
    lines = _Lines(path, _TASTE, tolerance, on_progress)
    people: dict[str, list[int]] = {}
    jobs: dict[str, list[int]] = {}
    for rows in lines:
        for row in rows:
            people.setdefault(row.taste, []).extend(map(int, row.user_ids))
            jobs.setdefault(row.taste, []).extend(map(int, row.job_ids))
    tastes = [Taste(name, _ascending(people[name]), _ascending(jobs[name])) for name in people]
    return sorted(tastes, key=attrgetter("name")), lines.report()


def _ascending(ids: Sequence[int]) -> IdArray:
    return np.unique(np.array(ids, dtype=np.int64))


# What a good line looks like, twice: as a schema that decodes a block at once, and as a check
# for each field that also knows the rarer good forms and names what is wrong.

_Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
# 19 digits may exceed MAX_ID, which the field's own check decides
_Digits = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}\Z")]
_Timestamp = Annotated[float, msgspec.Meta(ge=0, le=MAX_TIMESTAMP)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Texts = str | list[str] | None
_KINDS = {kind.word: int(kind) for kind in ActivityKind}


class _ActivityRow(msgspec.Struct, gc=False):
    job_id: _Id | _Digits
    user_id: _Id | _Digits
    type: Literal[
        "impression", "redirect", "apply", "email_sent", "email_open", "email_click", "dismiss"
    ]
    timestamp: _Timestamp | None = None


class _JobRow(msgspec.Struct, gc=False):
    job_id: _Id | _Digits
    description: str
    title: str | None = None
    employer: str | None = None
    location: str | None = None
    posted_at: _Moment | _Timestamp | None = None
    closes_at: _Moment | _Timestamp | None = None
    closed: bool | None = None


class _EmployerRow(msgspec.Struct, gc=False):
    employer: str
    description: str | None = None
    aliases: _Texts = None


class _TargetsRow(msgspec.Struct, gc=False):
    user_id: _Id | _Digits
    job_ids: list[_Id | _Digits]


class _TasteRow(msgspec.Struct, gc=False):
    taste: str
    user_ids: list[_Id | _Digits]
    job_ids: list[_Id | _Digits]


class _UserIdRow(msgspec.Struct, gc=False):
    user_id: _Id | _Digits


class _BadField(Exception):
    """A field's value cannot be used."""

    def __init__(self, cause: str, expected: str, value: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.expected = expected
        self.value = value


def _id(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) <= 20 else MAX_ID + 1
    if not isinstance(value, int) or isinstance(value, bool):
        raise _BadField("wrong type", "an integer, or its digits as a string")
    if not 0 <= value <= MAX_ID:
        raise _BadField("id out of range", f"0 to {MAX_ID}")
    return value


def _id_list(value: object) -> list[int]:
    if not isinstance(value, list):
        raise _BadField("wrong type", "a list of ids")
    return [_id(item) for item in value]


def _kind(value: object) -> str:
    if not isinstance(value, str):
        raise _BadField("wrong type", f"one of {', '.join(_KINDS)}")
    if value not in _KINDS:
        raise _BadField("unknown type", f"one of {', '.join(_KINDS)}")
    return value


def _timestamp(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _BadField("wrong type", "epoch seconds as a number")
    # NaN fails every comparison
    if not 0 <= value <= MAX_TIMESTAMP:
        raise _BadField("timestamp out of range", f"epoch seconds from 0 to {MAX_TIMESTAMP:.0f}")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _BadField("wrong type", "true or false")
    return value


def _date(value: object) -> datetime | float:
    if not isinstance(value, str):
        return _timestamp(value)
    try:
        return msgspec.convert(value, _Moment)
    except msgspec.ValidationError:
        pass  # not as RFC 3339 has it; a date alone, or a time without offset, will do
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _BadField("wrong type", "epoch seconds, or a date as in RFC 3339") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _BadField("wrong type", "a string")
    if not _is_unicode(value):
        raise _BadField("invalid UTF-8", "text without lone surrogates")
    return value


def _text_or_list(value: object) -> str | list[str]:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return _text(value)


Row = TypeVar("Row")


@dataclass(frozen=True)
class _Shape(Generic[Row]):
    """What a line of a file must look like."""

    row: type[Row]
    required: Mapping[str, Callable[[object], object]]
    optional: Mapping[str, Callable[[object], object]]
    is_personal: bool = False

    def parse(self, record: Mapping[str, object]) -> Row:
        """Check a record field by field.

        Raises:
            _BadField: with the field's name and value in its message.
        """
        values: dict[str, object] = {}
        for name, check in {**self.required, **self.optional}.items():
            value = record.get(name)
            if name in self.required and name not in record:
                raise _BadField("missing field", f"a field {name}")
            if value is None and name in self.optional:
                continue
            try:
                values[name] = check(value)
            except _BadField as bad:
                shown = f"{name} {value!r:.200}"
                raise _BadField(bad.cause, f"{name}: {bad.expected}", shown) from None
        return self.row(**values)


_ACTIVITY = _Shape(
    _ActivityRow, {"job_id": _id, "user_id": _id, "type": _kind}, {"timestamp": _timestamp}
)
_JOB = _Shape(
    _JobRow,
    {"job_id": _id, "description": _text},
    {
        "title": _text,
        "employer": _text,
        "location": _text,
        "posted_at": _date,
        "closes_at": _date,
        "closed": _flag,
    },
)
_EMPLOYER = _Shape(
    _EmployerRow, {"employer": _text}, {"description": _text, "aliases": _text_or_list}
)
_TARGETS = _Shape(_TargetsRow, {"user_id": _id, "job_ids": _id_list}, {})
_TASTE = _Shape(_TasteRow, {"taste": _text, "user_ids": _id_list, "job_ids": _id_list}, {})
_USER_ID = _Shape(_UserIdRow, {"user_id": _id}, {}, is_personal=True)
_PROFILE: Mapping[str, tuple[Any, Callable[[object], object]]] = {
    "graduation_year": (_Id | _Digits | None, _id),
    "school_type": (str | None, _text),
    "languages": (_Texts, _text_or_list),
    "university": (str | None, _text),
    "degree_subject": (str | None, _text),
    "degree_subject_groups": (_Texts, _text_or_list),
    "degree_subject_categories": (_Texts, _text_or_list),
}
_TEXT_LISTS = {name for name, (type_, _) in _PROFILE.items() if type_ == _Texts}


@cache
def _user_shape(withheld: frozenset[str]) -> _Shape[Any]:
    """Return what is read of people: what is withheld has no place to be decoded to."""
    told = {name: read for name, read in _PROFILE.items() if name not in withheld}
    row = msgspec.defstruct(
        "_UserRow",
        [("user_id", _Id | _Digits), *((name, type_, None) for name, (type_, _) in told.items())],
        gc=False,
    )
    checks = {name: check for name, (_, check) in told.items()}
    return _Shape(row, {"user_id": _id}, checks, is_personal=True)


class _Lines(Generic[Row]):
    """The rows of one file, block by block, and the account of its lines.

    Args:
        span: what to read of a plain file; None reads a file whole.
        before: the account of the lines before the span.
    """

    def __init__(
        self,
        path: Path,
        shape: _Shape[Row],
        tolerance: Tolerance,
        on_progress: OnProgress,
        span: _Span | None = None,
        before: ReadReport | None = None,
    ) -> None:
        self._path = path
        self._shape = shape
        self._tolerance = tolerance
        self._on_progress = on_progress
        self._span = span
        self._decoder = msgspec.json.Decoder(shape.row)
        self._read = before.read if before else 0
        self._rejected = Counter(before.rejected if before else {})
        self._first = dict(before.first if before else {})

    def __iter__(self) -> Iterator[list[Row]]:
        """Yield lists of rows.

        Raises:
            DatasetMissing: the file cannot be read or is cut short.
            LineRejected: a line is bad and the tolerance is strict.
            TooManyRejected: more lines are bad than the tolerance accepts.
        """
        for block in self.blocks():
            yield self.rows(block)
        self.check_share()

    def blocks(self) -> Iterator[bytes]:
        """Yield blocks of whole lines, for whoever counts them by `rows` or `pass_over`.

        Raises:
            DatasetMissing: the file cannot be read or is cut short.
        """
        return _line_blocks(self._path, self._on_progress, self._span)

    def pass_over(self, lines: int) -> None:
        """Count good lines that were read elsewhere."""
        self._read += lines

    def absorb(self, report: ReadReport, end: int) -> None:
        """Add the account of a span that follows what was read so far, and ends there.

        Raises:
            LineRejected: a line is bad and the tolerance is strict.
        """
        first = {
            cause: replace(line, line=line.line + self._read)
            for cause, line in report.first.items()
        }
        if first and self._tolerance.strict:
            raise LineRejected(str(min(first.values(), key=attrgetter("line"))))
        self._read += report.read
        self._rejected.update(report.rejected)
        self._first = {**first, **self._first}
        self._on_progress(end, end if self._span is None else self._span.end)

    def check_share(self) -> None:
        """Stop where too many lines were bad.

        Raises:
            TooManyRejected: more than the tolerance accepts.
        """
        bad = self._rejected.total()
        if self._read and bad / self._read > self._tolerance.max_rejected:
            summary = "\n".join(self.report().lines())
            raise TooManyRejected(
                f"{bad:,} of {self._read:,} lines are bad, more than "
                f"{self._tolerance.max_rejected:.2%} (--max-rejected)\n{summary}"
            )

    def report(self, outside: int = 0) -> ReadReport:
        """Return the account of the lines read so far."""
        return ReadReport(
            file=self._path.name,
            read=self._read,
            used=self._read - self._rejected.total(),
            outside=outside,
            rejected=dict(self._rejected),
            first=dict(self._first),
        )

    def rows(self, block: bytes) -> list[Row]:
        """Return a block's rows, and count its lines.

        Raises:
            LineRejected: a line is bad and the tolerance is strict.
        """
        rows = self._decoded(block)
        if rows is not None:
            self._read += len(rows)
            return rows
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if len(lines) == 1:
            self._read += 1
            return self._judged(block)
        if len(lines) <= _FEW_LINES:
            ends_whole = block.endswith(b"\n")
            found = []
            for number, line in enumerate(lines, 1):
                found += self.rows(line + b"\n" if ends_whole or number < len(lines) else line)
            return found
        middle = block.find(b"\n", len(block) // 2) + 1
        if not 0 < middle < len(block):
            middle = block.rfind(b"\n", 0, len(block) - 1) + 1
        return self.rows(block[:middle]) + self.rows(block[middle:])

    def _decoded(self, block: bytes) -> list[Row] | None:
        """Return a row for each line, or None where a line needs a closer look."""
        try:
            if not block.isascii():
                block.decode()
            rows = self._decoder.decode_lines(block)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return rows if _holds_an_object_a_line(block, len(rows)) else None

    def _judged(self, line: bytes) -> list[Row]:
        """Return a single line's row, or reject the line."""
        try:
            return [self._shape.parse(_record(line))]
        except _BadField as bad:
            rejected = RejectedLine(
                bad.cause, self._path.name, self._read, self._shown(line, bad), bad.expected
            )
        if self._tolerance.strict:
            raise LineRejected(str(rejected))
        self._rejected[rejected.cause] += 1
        self._first.setdefault(rejected.cause, rejected)
        return []

    def _shown(self, line: bytes, bad: _BadField) -> str:
        """Return what a report may show: of people only the value at fault, never the line."""
        if not self._shape.is_personal:
            return _excerpt(line)
        return bad.value or f"a line of {len(line):,} bytes, not shown since it may be personal"


def _holds_an_object_a_line(block: bytes, rows: int) -> bool:
    """Tell whether each line is one object, as decoding the block alone does not.

    The decoder passes over blank lines, and over line feeds within and none between objects.
    """
    if len(block) > MAX_LINE_BYTES and rows <= 1:
        return False
    characters = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(characters == _LINE_FEED)
    if rows != len(ends) + (not block.endswith(b"\n")):
        return False
    before = characters[ends - 1]
    if (before == _CARRIAGE_RETURN).any():
        before = np.where(before == _CARRIAGE_RETURN, characters[ends - 2], before)
    after = characters[ends[ends < len(block) - 1] + 1]
    return bool((before == ord("}")).all() and (after == ord("{")).all())


def _record(line: bytes) -> dict[str, object]:
    if len(line) > MAX_LINE_BYTES:
        raise _BadField("line too long", f"at most {MAX_LINE_BYTES:,} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise _BadField("invalid UTF-8", f"UTF-8, broken at byte {error.start + 1}") from None
    if not text.strip():
        raise _BadField("blank line", "a JSON object")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        if not line.endswith(b"\n"):
            raise _BadField("truncated last line", "a JSON object and a line feed") from None
        raise _BadField("not JSON", "a JSON object") from None
    if not isinstance(record, dict):
        raise _BadField("not an object", "a JSON object")
    return record


def _excerpt(line: bytes) -> str:
    text = line[:200].decode(errors="backslashreplace").strip()
    return text if len(line) <= 200 else f"{text}..."


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _columns_of(rows: Sequence[_ActivityRow]) -> Columns:
    """Return decoded rows; digit strings become numbers, and None becomes NaN."""
    return Columns(
        np.array([row.user_id for row in rows], dtype=np.int64),
        np.array([row.job_id for row in rows], dtype=np.int64),
        np.frombuffer(bytes([_KINDS[row.type] for row in rows]), dtype=np.uint8),
        np.array([row.timestamp for row in rows], dtype=np.float64),
    )


def _columns_of_targets(rows: Sequence[_TargetsRow]) -> Columns:
    """Return an activity for each job that a person went on to; its kind does not matter."""
    users = np.array([row.user_id for row in rows], dtype=np.int64)
    jobs = np.array([job_id for row in rows for job_id in row.job_ids], dtype=np.int64)
    kinds = np.full(len(jobs), ActivityKind.IMPRESSION, dtype=np.uint8)
    times = np.full(len(jobs), np.nan)
    return Columns(np.repeat(users, [len(row.job_ids) for row in rows]), jobs, kinds, times)


def _activities(lines: _Lines[_ActivityRow]) -> Iterator[Columns]:
    """Yield activities, block by block; where lines are not all alike, each is looked at.

    Raises as iterating over lines does.
    """
    pause = left = 0
    for block in lines.blocks():
        uniform = None if left else uniform_lines.decoded(block)
        if uniform is not None:
            pause = 0
            lines.pass_over(len(uniform.kinds))
            yield Columns(*uniform).narrowed()
            continue
        if left:
            left -= 1
        else:
            # Where many lines are odd, to try in vain shall cost little
            pause = left = min(2 * pause + 1, _LONGEST_PAUSE)
        yield _columns_of(lines.rows(block)).narrowed()
    lines.check_share()


class _Span(NamedTuple):
    """A stretch of whole lines of a plain file."""

    path: Path
    start: int
    end: int


def _spans(whole: _Span) -> list[_Span]:
    """Cut a span at line ends."""
    cuts = [whole.start]
    with whole.path.open("rb") as file:
        while cuts[-1] < whole.end:
            file.seek(min(whole.end, cuts[-1] + SPAN_BYTES) - 1)
            while (piece := file.read(BLOCK_BYTES)) and b"\n" not in piece:
                pass
            behind = len(piece) - piece.find(b"\n") - 1
            cuts.append(min(whole.end, file.tell() - behind) if piece else whole.end)
    return [_Span(whole.path, *cut) for cut in pairwise(cuts)]


def _read_span(span: _Span) -> tuple[Columns, ReadReport]:
    """Read a span in a process of its own; its line numbers begin at 1."""
    lines = _Lines(span.path, _ACTIVITY, Tolerance(max_rejected=1), nobody, span)
    return Columns.joined(list(_activities(lines))), lines.report()


def _in_turn(pool: Pool, spans: Sequence[_Span], most: int) -> Iterator[tuple[Columns, ReadReport]]:
    """Yield what processes read, in order, of so many spans at most that nobody waited for."""
    pending: deque[AsyncResult[tuple[Columns, ReadReport]]] = deque()
    for span in spans:
        pending.append(pool.apply_async(_read_span, (span,)))
        if len(pending) == most:
            yield pending.popleft().get()
    while pending:
        yield pending.popleft().get()


def _gathered(activities: Iterable[Columns]) -> Iterator[Columns]:
    """Join blocks to pieces that are worth counting."""
    blocks: list[Columns] = []
    for columns in activities:
        blocks.append(columns)
        if sum(map(len, blocks)) >= SHARE_EVENTS:
            yield Columns.joined(blocks)
            blocks = []
    yield Columns.joined(blocks)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _moment(value: datetime | float | None) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromtimestamp(value, UTC)


def _texts(value: _Texts) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


class _Decompressor(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


_MAGIC: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"\x28\xb5\x2f\xfd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
_COMPRESSED_CHUNK = 256 << 10


def _line_blocks(path: Path, on_progress: OnProgress, span: _Span | None) -> Iterator[bytes]:
    """Yield blocks of whole lines; only the last may lack its line feed.

    A line of more than MAX_LINE_BYTES comes as a block of its own, cut short.
    """
    carry = b""
    is_skipping = False
    is_start = span is None or span.start == 0
    for chunk in _chunks(path, on_progress) if span is None else _span_chunks(span, on_progress):
        data = carry + chunk
        if is_start:
            data = data.removeprefix(b"\xef\xbb\xbf")
            is_start = False
        if is_skipping:
            end = data.find(b"\n")
            data, is_skipping = (b"", True) if end < 0 else (data[end + 1 :], False)
        if len(carry) + len(chunk) > MAX_LINE_BYTES:
            # A long line stands alone, so that it is judged by its length
            end = data.find(b"\n") + 1
            if end > MAX_LINE_BYTES:
                yield data[:end]
                data = data[end:]
        cut = data.rfind(b"\n") + 1
        if cut:
            yield data[:cut]
        carry = data[cut:]
        if len(carry) > MAX_LINE_BYTES:
            yield carry
            carry, is_skipping = b"", True
    if carry:
        yield carry


def _chunks(path: Path, on_progress: OnProgress) -> Iterator[bytes]:
    """Yield a file's content, decompressed where it is compressed, as its first bytes tell."""
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(0)
            start = next((make for magic, make in _MAGIC.items() if head.startswith(magic)), None)
            source = _plain(file) if start is None else _decompressed(file, start, path)
            for chunk in source:
                on_progress(file.tell(), total)
                yield chunk
    except (OSError, zlib.error, zstandard.ZstdError) as error:
        raise DatasetMissing(f"cannot read {path}: {error}") from error


def _span_chunks(span: _Span, on_progress: OnProgress) -> Iterator[bytes]:
    try:
        with span.path.open("rb") as file:
            file.seek(span.start)
            if span.start:
                # There may be nothing new
                on_progress(span.start, span.end)
            while chunk := file.read(min(BLOCK_BYTES, span.end - file.tell())):
                on_progress(file.tell(), span.end)
                yield chunk
    except OSError as error:
        raise DatasetMissing(f"cannot read {span.path}: {error}") from error


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(BLOCK_BYTES):
        yield chunk


def _decompressed(
    file: BinaryIO, start: Callable[[], _Decompressor], path: Path
) -> Iterator[bytes]:
    """Yield the content of all frames that a compressed file holds one after the other."""
    stream: _Decompressor | None = None
    while data := file.read(_COMPRESSED_CHUNK):
        while data:
            stream = stream or start()
            if chunk := stream.decompress(data):
                yield chunk
            data = b""
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None:
        raise DatasetMissing(f"{path} is cut short: its compressed data does not end")


class JsonlCatalog(Catalog):
    """The jobs and people of a dataset folder, held in memory.

    `refresh` reads files again that have changed. Where an id comes twice, its last line counts.

    Args:
        withheld: fields of people that are not decoded.
    """

    # A file that has changed is read first
    is_near = False

    def __init__(
        self,
        folder: Path,
        tolerance: Tolerance | None = None,
        withheld: frozenset[str] = frozenset(),
    ) -> None:
        self._withheld = withheld
        self._folder = folder
        self._tolerance = tolerance or Tolerance()
        self._lock = threading.Lock()
        self._jobs: _JobTable | None = None
        self._users: tuple[_Stamp, Mapping[int, User]] | None = None
        self._refused: _Stamp | None = None
        self._refused_users: _Stamp | None = None

    @property
    def revision(self) -> int:
        """A number that changes whenever the content does; see the port."""
        return hash(self._job_table().stamp)

    def jobs(
        self,
        ids: Sequence[int],
        fields: frozenset[str] = JOB_FIELDS,  # noqa: ARG002 - all is in memory
    ) -> Mapping[int, Job]:
        """Return those of the jobs that exist; see the port."""
        by_id = self._job_table().by_id
        return {id_: by_id[id_] for id_ in ids if id_ in by_id}

    def users(self, ids: Sequence[int]) -> Mapping[int, User]:
        """Return those of the people that exist; the first call reads the file."""
        with self._lock:
            if self._users is None:
                self._users = self._read_users()
            by_id = self._users[1]
        return {id_: by_id[id_] for id_ in ids if id_ in by_id}

    def coverage(self, user_ids: IdArray) -> Coverage:
        """Tell which of the people are listed; see the port. Only ids are read."""
        lines = _Lines(self._user_file(), _USER_ID, self._tolerance, nobody)
        ids = [np.fromiter((int(row.user_id) for row in rows), np.int64) for rows in lines]
        index = IdIndex(np.unique(np.concatenate([np.empty(0, dtype=np.int64), *ids])))
        return Coverage(index.positions(user_ids) >= 0, len(index))

    def standing(self, job_ids: IdArray, at: datetime, where: JobFilter | None) -> Standing:
        """Tell which of the jobs are listed, open and matching; see the port."""
        return self._job_table().index.standing(job_ids, at, where)

    def employers(self, job_ids: IdArray, aliases: Mapping[str, str]) -> IndexArray:
        """Return a number for each job's employer; see the port."""
        return self._job_table().index.employers(job_ids, aliases)

    def absent(self, job_ids: IdArray, at: datetime, most: int) -> IdArray:
        """Return the ids of the other jobs that are not closed; see the port."""
        return self._job_table().index.absent(job_ids, at, most)

    def page(
        self, where: JobFilter, ids: Sequence[int] | None, after: JobCursor | None, first: int
    ) -> JobPage:
        """Return a stretch of the catalogue, newest first; see the port."""
        table = self._job_table()
        found = table.index.page(where, ids, after, first)
        return JobPage([table.by_id[id_] for id_ in found.ids], found.has_next)

    def counts(self, wheres: Sequence[JobFilter]) -> list[int]:
        """Return how many jobs satisfy each filter; see the port."""
        return self._job_table().index.counts(wheres)

    def refresh(self) -> None:
        """Read the jobs, and the files again that have changed since they were read.

        Raises:
            DataError: a changed file cannot be used; what was read before stays.
        """
        with self._lock:
            stamp = _stamp(self._job_file())
            if self._jobs is None or stamp not in {self._jobs.stamp, self._refused}:
                # Told once, not at every look
                self._refused = stamp
                self._jobs = self._read_jobs()
            if self._users is not None:
                stamp = _stamp(self._user_file())
                if stamp not in {self._users[0], self._refused_users}:
                    self._refused_users = stamp
                    self._users = self._read_users()

    def _job_table(self) -> _JobTable:
        if self._jobs is None:
            with self._lock:
                if self._jobs is None:
                    self._jobs = self._read_jobs()
        return self._jobs

    def _job_file(self) -> Path:
        return find_file(self._folder, "jobs")

    def _user_file(self) -> Path:
        return find_file(self._folder, "users")

    def _read_jobs(self) -> _JobTable:
        path = self._job_file()
        stamp = _stamp(path)
        jobs, report = read_jobs(path, self._tolerance)
        _log_report(report)
        return _JobTable(stamp, jobs)

    def _read_users(self) -> tuple[_Stamp, Mapping[int, User]]:
        path = self._user_file()
        stamp = _stamp(path)
        users, report = read_users(path, self._tolerance, withheld=self._withheld)
        _log_report(report)
        return stamp, {user.id: user for user in users}


_Stamp = tuple[str, int, int]
"""A file's name, size and time of change."""


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


class _JobTable:
    """The jobs of one reading of the file, with what is asked of them often."""

    def __init__(self, stamp: _Stamp, jobs: Sequence[Job]) -> None:
        self.stamp = stamp
        self.by_id = {job.id: job for job in jobs}
        if len(self.by_id) < len(jobs):
            _log.warning(
                "%s: %d lines repeat a job id; the last line of each counts",
                stamp[0],
                len(jobs) - len(self.by_id),
            )
        self.index = JobIndex(map(JobRow.of, self.by_id.values()))


def _log_report(report: ReadReport) -> None:
    level = logging.WARNING if report.rejected else logging.INFO
    for line in report.lines():
        _log.log(level, "%s", line)
