"""Reading JSON lines: every line is used or rejected with its cause, and nothing is guessed."""

from __future__ import annotations

import gzip
import json
import logging
import math
import multiprocessing
import os
from collections import Counter
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters import counting, jsonl
from adapters.jsonl import (
    _ACTIVITY,
    _JOB,
    JsonlActivityLog,
    JsonlCatalog,
    Tolerance,
    _record,
    _user_shape,
    find_file,
    read_jobs,
    read_targets,
    read_users,
)
from domain.errors import (
    DataError,
    DatasetMissing,
    LineRejected,
    TooManyRejected,
    TrainingCancelled,
)
from domain.model import ActivityKind, JobFilter, ReadReport, TimeWindow, User
from domain.ports import nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from domain.model import ActivityTally, Job

LENIENT = Tolerance(max_rejected=1.0)
STRICT = Tolerance(strict=True)
EVERYTHING = TimeWindow()
GOOD = b'{"job_id":1,"user_id":2,"type":"apply","timestamp":1700000000}'
ID = "an integer, or its digits as a string"
RANGE = "0 to 9223372036854775807"
KINDS = "one of impression, redirect, apply, email_sent, email_open, email_click, dismiss"
SECONDS = "epoch seconds from 0 to 4102444800"


def activity(job_id: bytes = b"1", kind: bytes = b'"apply"', timestamp: bytes = b"5") -> bytes:
    return b'{"job_id":%b,"user_id":2,"type":%b,"timestamp":%b}' % (job_id, kind, timestamp)


def of_user(user_id: bytes) -> bytes:
    return b'{"job_id":1,"user_id":%b,"type":"apply"}' % user_id


# Each bad line with its cause and what would have been good
BAD_LINES: list[tuple[bytes, str, str]] = [
    (b"no JSON at all", "not JSON", "a JSON object"),
    (b'{"job_id":1,"user_id":2,"type":"app', "not JSON", "a JSON object"),
    (b"{'job_id':1}", "not JSON", "a JSON object"),
    (activity()[:-1] + b",}", "not JSON", "a JSON object"),
    (GOOD + GOOD, "not JSON", "a JSON object"),
    (GOOD + b" \t" + GOOD, "not JSON", "a JSON object"),
    (b"\x00", "not JSON", "a JSON object"),
    (b"[" * 20_000, "not JSON", "a JSON object"),
    (b"[%b]" % GOOD, "not an object", "a JSON object"),
    (b"[1,2]", "not an object", "a JSON object"),
    (b'"text"', "not an object", "a JSON object"),
    (b"null", "not an object", "a JSON object"),
    (b"7", "not an object", "a JSON object"),
    (b"", "blank line", "a JSON object"),
    (b" \t ", "blank line", "a JSON object"),
    (b"{}", "missing field", "a field job_id"),
    (b'{"user_id":2,"type":"apply"}', "missing field", "a field job_id"),
    (b'{"job_id":1,"type":"apply"}', "missing field", "a field user_id"),
    (b'{"job_id":1,"user_id":2}', "missing field", "a field type"),
    (b'{"JOB_ID":1,"user_id":2,"type":"apply"}', "missing field", "a field job_id"),
    *(
        (activity(job_id=value), "wrong type", f"job_id: {ID}")
        for value in (
            *(b"5.5", b"5.0", b"1e3", b"true", b"false", b"null", b"[1]", b"{}"),
            *(
                b'""',
                b'"5.0"',
                b'"-5"',
                b'"+5"',
                b'" 5"',
                b'"5x"',
                b'"1_0"',
                '"\N{ARABIC-INDIC DIGIT FIVE}"'.encode(),
            ),
        )
    ),
    (of_user(b"5.5"), "wrong type", f"user_id: {ID}"),
    (of_user(b"null"), "wrong type", f"user_id: {ID}"),
    *(
        (activity(job_id=value), "id out of range", f"job_id: {RANGE}")
        for value in (
            *(b"-1", b"9223372036854775808", b"18446744073709551621", b"9" * 40),
            *(b'"9223372036854775808"', b'"%b"' % (b"9" * 40)),
        )
    ),
    (of_user(b"-9223372036854775809"), "id out of range", f"user_id: {RANGE}"),
    *(
        (activity(kind=value), "unknown type", f"type: {KINDS}")
        for value in (b'"view"', b'"APPLY"', b'""', b'"apply "', b'"\\ud800"')
    ),
    *(
        (activity(kind=value), "wrong type", f"type: {KINDS}")
        for value in (b"null", b"2", b"true", b'["apply"]')
    ),
    *(
        (activity(timestamp=value), "timestamp out of range", f"timestamp: {SECONDS}")
        for value in (
            *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1", b"-0.001"),
            *(b"1.4e12", b"1400000000000", b"4102444801", b"9" * 400),
        )
    ),
    *(
        (activity(timestamp=value), "wrong type", "timestamp: epoch seconds as a number")
        for value in (b'"1700000000"', b'"2026-01-01T00:00:00Z"', b"true", b"[]", b"{}")
    ),
    (b'{"job_id":1,"user_id":2,"type":"app\xffly"}', "invalid UTF-8", "UTF-8, broken at byte 36"),
    (
        b'{"job_id":1,"user_id":2,"type":"\xed\xa0\x80"}',
        "invalid UTF-8",
        "UTF-8, broken at byte 33",
    ),
    (b"\xff\xfe{\x00}\x00", "invalid UTF-8", "UTF-8, broken at byte 1"),
]


def write(folder: Path, *lines: bytes, name: str = "activities.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read(
    folder: Path, window: TimeWindow = EVERYTHING, tolerance: Tolerance = LENIENT
) -> tuple[ActivityTally, ReadReport]:
    return JsonlActivityLog(folder, tolerance).tally(window, nobody)


def shown(line: bytes) -> str:
    """How a line looks in a report, where bytes that are no text are spelt out."""
    text = line[:200].decode(errors="backslashreplace").strip()
    return text if len(line) < 200 else f"{text}..."


class TestABadLine:
    @pytest.mark.parametrize(("line", "cause", "expected"), BAD_LINES)
    def test_is_counted_under_its_cause_and_shown(
        self, tmp_path: Path, line: bytes, cause: str, expected: str
    ) -> None:
        write(tmp_path, GOOD, GOOD, line, GOOD, line)

        tally, report = read(tmp_path)

        assert tally.total() == 3
        assert (report.read, report.used) == (5, 3)
        assert report.rejected == {cause: 2}
        first = report.first[cause]
        assert (first.file, first.line) == ("activities.jsonl", 3)
        assert first.value == shown(line)
        assert first.expected == expected
        message = f"activities.jsonl, line 3: {cause}: {shown(line)}; expected {expected}"
        assert report.lines() == [
            "activities.jsonl: read 5 = used 3 + rejected 2",
            f"  2 x {cause}; first: {message}",
        ]

    @pytest.mark.parametrize(("line", "cause", "expected"), BAD_LINES)
    def test_alone_in_its_file_is_judged_in_the_same_way(
        self, tmp_path: Path, line: bytes, cause: str, expected: str
    ) -> None:
        write(tmp_path, line)

        tally, report = read(tmp_path)

        assert len(tally) == 0
        assert (report.read, report.rejected) == (1, {cause: 1})
        assert report.first[cause].expected == expected

    @pytest.mark.parametrize(("line", "cause", "expected"), BAD_LINES)
    def test_stops_a_strict_reader_with_its_place_and_cause(
        self, tmp_path: Path, line: bytes, cause: str, expected: str
    ) -> None:
        write(tmp_path, GOOD, line, b"another bad line")

        with pytest.raises(LineRejected) as raised:
            read(tmp_path, tolerance=STRICT)
        message = f"activities.jsonl, line 2: {cause}: {shown(line)}; expected {expected}"
        assert str(raised.value) == message

    def test_of_each_cause_the_first_is_shown(self, tmp_path: Path) -> None:
        write(tmp_path, b"", b"x", GOOD, b"{}", b"y", b" ", b'{"job_id":1}')

        _, report = read(tmp_path)

        assert report.rejected == {"blank line": 2, "not JSON": 2, "missing field": 2}
        assert {cause: first.line for cause, first in report.first.items()} == {
            "blank line": 1,
            "not JSON": 2,
            "missing field": 4,
        }

    def test_of_great_length_is_shown_in_part(self, tmp_path: Path) -> None:
        write(tmp_path, b"x" * 100_000)

        _, report = read(tmp_path)

        assert report.first["not JSON"].value == "x" * 200 + "..."

    @pytest.mark.parametrize("end", [b"", b" ", b"\r"])
    def test_at_the_end_that_was_cut_short_is_called_truncated(
        self, tmp_path: Path, end: bytes
    ) -> None:
        path = write(tmp_path, GOOD)
        path.write_bytes(path.read_bytes() + GOOD[:30] + end)

        tally, report = read(tmp_path)

        assert tally.total() == 1
        assert report.rejected == {"truncated last line": 1}
        first = report.first["truncated last line"]
        assert (first.line, first.value) == (2, GOOD[:30].decode())
        assert first.expected == "a JSON object and a line feed"

    def test_at_the_end_without_a_line_feed_but_whole_has_its_own_cause(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "activities.jsonl").write_bytes(GOOD + b'\n{"job_id":1}')

        _, report = read(tmp_path)

        assert report.rejected == {"missing field": 1}

    @pytest.mark.parametrize("blank", [b"", b" ", b"\r"])
    def test_is_not_made_up_for_by_a_line_of_two_objects(
        self, tmp_path: Path, blank: bytes
    ) -> None:
        write(tmp_path, GOOD, blank, GOOD + GOOD)

        tally, report = read(tmp_path)

        assert report.rejected == {"blank line": 1, "not JSON": 1}
        assert tally.total() == 1

    def test_of_half_an_object_is_not_made_up_for_by_a_line_of_two_objects(
        self, tmp_path: Path
    ) -> None:
        write(tmp_path, b'{"job_id":1,', b'"user_id":2,"type":"apply"}', GOOD + GOOD)

        _, report = read(tmp_path)

        assert report.rejected == {"not JSON": 3}

    def test_of_half_an_object_does_not_borrow_the_next(self, tmp_path: Path) -> None:
        write(tmp_path, GOOD, b'{"job_id":1,', b'"user_id":2,"type":"apply"}', GOOD)

        tally, report = read(tmp_path)

        assert report.rejected == {"not JSON": 2}
        assert tally.total() == 2


class TestALineTooLong:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jsonl, "BLOCK_BYTES", 64)
        monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 256)

    @staticmethod
    def line(length: int) -> bytes:
        """Return an activity that takes so many bytes with its line feed."""
        start = GOOD[:-1] + b',"more":"'
        return start + b"x" * (length - len(start) - 3) + b'"}'

    @pytest.mark.parametrize("beyond", [70, 100, 1_000, 10_000])
    @pytest.mark.parametrize("before", range(4))
    def test_is_counted_once_and_the_lines_around_it_are_used(
        self, tmp_path: Path, before: int, beyond: int
    ) -> None:
        long = self.line(256 + beyond)
        write(tmp_path, *[GOOD] * before, long, GOOD, long, GOOD, GOOD)

        tally, report = read(tmp_path)

        assert report.rejected == {"line too long": 2}
        assert report.first["line too long"].line == before + 1
        assert report.first["line too long"].expected == "at most 256 bytes"
        assert tally.total() == report.used == before + 3
        assert report.read == before + 5

    def test_at_the_end_without_a_line_feed_is_counted_once(self, tmp_path: Path) -> None:
        (tmp_path / "activities.jsonl").write_bytes(GOOD + b"\n" + self.line(1_000))

        tally, report = read(tmp_path)

        assert report.rejected == {"line too long": 1}
        assert tally.total() == 1

    @pytest.mark.parametrize("before", range(4))
    def test_is_good_up_to_the_bound(self, tmp_path: Path, before: int) -> None:
        write(tmp_path, *[GOOD] * before, self.line(256), GOOD)

        _, report = read(tmp_path)

        assert (report.rejected, report.used) == ({}, before + 2)

    def test_is_rejected_wherever_blocks_end(self, tmp_path: Path) -> None:
        write(tmp_path, self.line(257), GOOD)

        _, report = read(tmp_path)

        assert report.rejected == {"line too long": 1}

    def test_is_rejected_even_if_it_begins_with_a_whole_object(self, tmp_path: Path) -> None:
        write(tmp_path, GOOD + b" " * 1_000 + b"and more", GOOD)

        tally, report = read(tmp_path)

        assert report.rejected == {"line too long": 1}
        assert tally.total() == 1


class TestAGoodLine:
    @pytest.mark.parametrize("digits", [b"5", b"0", b"007", b"123456789012345678"])
    def test_may_spell_ids_as_digits(self, tmp_path: Path, digits: bytes) -> None:
        write(tmp_path, activity(job_id=b'"%b"' % digits), of_user(b'"%b"' % digits))

        tally, report = read(tmp_path)

        assert report.rejected == {}
        assert int(digits) in tally.job_ids
        assert int(digits) in tally.user_ids

    @pytest.mark.parametrize("id_", [b'"9223372036854775807"', b"9223372036854775807"])
    def test_may_have_the_largest_id(self, tmp_path: Path, id_: bytes) -> None:
        write(tmp_path, activity(job_id=id_), of_user(id_))

        tally, report = read(tmp_path)

        assert report.rejected == {}
        assert tally.job_ids.max() == tally.user_ids.max() == 2**63 - 1

    def test_may_have_a_digit_string_of_nineteen_beside_other_spellings(
        self, tmp_path: Path
    ) -> None:
        write(tmp_path, activity(b'"1234567890123456789"'), activity(b'"7"'), activity(b"7"))

        tally, _ = read(tmp_path)

        assert tally.job_ids.tolist() == [7, 1234567890123456789]
        assert tally.counts[:, ActivityKind.APPLY].tolist() == [2, 1]

    @pytest.mark.parametrize(
        "timestamp", [b"0", b"-0.0", b"1700000000.123456", b"17e8", b"4102444800", b"null"]
    )
    def test_may_have_any_time_within_bounds_or_none(
        self, tmp_path: Path, timestamp: bytes
    ) -> None:
        write(tmp_path, activity(timestamp=timestamp))

        tally, report = read(tmp_path)

        assert report.rejected == {}
        expected = math.nan if timestamp == b"null" else json.loads(timestamp)
        assert tally.last_at.tolist() == [pytest.approx(expected, rel=0, abs=0, nan_ok=True)]

    @pytest.mark.parametrize(
        "extra", [b"1", b'"text"', b"null", b'{"a":[1,{"job_id":9}]}', b'"}\\n{"', b"1e400"]
    )
    def test_may_have_unknown_fields(self, tmp_path: Path, extra: bytes) -> None:
        write(tmp_path, GOOD, GOOD[:-1] + b',"extra":%b}' % extra)

        tally, report = read(tmp_path)

        assert report.rejected == {}
        assert tally.total() == 2

    def test_may_be_the_last_without_a_line_feed(self, tmp_path: Path) -> None:
        (tmp_path / "activities.jsonl").write_bytes(GOOD + b"\n" + GOOD)

        tally, report = read(tmp_path)

        assert (report.read, report.used, tally.total()) == (2, 2, 2)

    def test_may_end_as_on_windows_and_follow_a_byte_order_mark(self, tmp_path: Path) -> None:
        (tmp_path / "activities.jsonl").write_bytes(b"\xef\xbb\xbf" + (GOOD + b"\r\n") * 3)

        tally, report = read(tmp_path)

        assert (report.read, report.used, tally.total()) == (3, 3, 3)

    def test_counts_the_last_of_a_field_that_comes_twice(self, tmp_path: Path) -> None:
        write(tmp_path, b'{"job_id":1,"user_id":2,"type":"view","type":"apply","job_id":9}')

        tally, report = read(tmp_path)

        assert report.rejected == {}
        assert tally.job_ids.tolist() == [9]

    def test_has_ids_of_digits_only(self, tmp_path: Path) -> None:
        write(tmp_path, activity(job_id=b'"5\\n"'))

        _, report = read(tmp_path)

        assert report.rejected == {"wrong type": 1}

    @pytest.mark.parametrize("extra", [b'"x":"\xff"', b'"\xff":1'])
    def test_is_utf8_throughout(self, tmp_path: Path, extra: bytes) -> None:
        write(tmp_path, GOOD[:-1] + b",%b}" % extra)

        _, report = read(tmp_path)

        assert report.rejected == {"invalid UTF-8": 1}


class TestTolerance:
    @pytest.mark.parametrize("bad", [0, 1, 3])
    def test_as_many_bad_lines_as_the_bound_are_accepted(self, tmp_path: Path, bad: int) -> None:
        write(tmp_path, *[b"x"] * bad, *[GOOD] * (100 - bad))

        tally, report = read(tmp_path, tolerance=Tolerance(max_rejected=0.03))

        assert report.rejected_total == bad
        assert tally.total() == 100 - bad

    def test_one_more_is_too_many_and_the_message_sums_up(self, tmp_path: Path) -> None:
        write(tmp_path, GOOD, b"x", *[GOOD] * 96, b"", b"y")
        first_blank = "activities.jsonl, line 99: blank line: ; expected a JSON object"

        with pytest.raises(TooManyRejected) as raised:
            read(tmp_path, tolerance=Tolerance(max_rejected=0.02))
        assert str(raised.value).splitlines() == [
            "3 of 100 lines are bad, more than 2.00% (--max-rejected)",
            "activities.jsonl: read 100 = used 97 + rejected 3",
            "  2 x not JSON; first: activities.jsonl, line 2: not JSON: x; expected a JSON object",
            f"  1 x blank line; first: {first_blank}",
        ]

    def test_none_is_accepted_where_none_may_be(self, tmp_path: Path) -> None:
        write(tmp_path, *[GOOD] * 10)
        assert read(tmp_path, tolerance=Tolerance(max_rejected=0))[1].used == 10

        write(tmp_path, *[GOOD] * 9, b"x")
        with pytest.raises(TooManyRejected):
            read(tmp_path, tolerance=Tolerance(max_rejected=0))

    def test_one_in_a_hundred_is_accepted_by_default(self, tmp_path: Path) -> None:
        write(tmp_path, *[GOOD] * 99, b"x")
        assert JsonlActivityLog(tmp_path).tally(EVERYTHING, nobody)[1].used == 99

        write(tmp_path, *[GOOD] * 98, b"x", b"x")
        with pytest.raises(TooManyRejected):
            JsonlActivityLog(tmp_path).tally(EVERYTHING, nobody)

    def test_the_bound_is_exact(self, tmp_path: Path) -> None:
        write(tmp_path, *[b"x"] * 29, *[GOOD] * 71)

        assert read(tmp_path, tolerance=Tolerance(max_rejected=0.29))[1].used == 71


def good_line(job: int | str, user: int | str, kind: str, **more: Any) -> bytes:
    return json.dumps({"job_id": job, "user_id": user, "type": kind, **more}).encode()


# What files are made of in the test below. A blank line and one of two objects may not meet in
# one file as long as they are taken for one another: TestABadLine says so
GOOD_LINES = [
    good_line(1, 1, "impression", timestamp=5),
    good_line(1, 1, "apply", timestamp=1_700_000_000),
    good_line(7, 1, "redirect", timestamp=1_700_000_000.25),
    good_line(1, 1, "redirect", timestamp=2.5),
    good_line(2, "1", "apply", extra=["ü", {"}{": 1}]),
    good_line("9223372036854775807", 3, "impression", timestamp=None),
    good_line(1, 3, "impression", timestamp=9, long="x" * 150),
]
SOME_BAD = [
    (line, cause) for line, cause, _ in BAD_LINES if len(line) < 500 and line != GOOD + GOOD
]
TWO_OBJECTS = (GOOD + GOOD, "not JSON")
Lines = list[tuple[bytes, str | None]]
good_lines = st.sampled_from([(line, None) for line in GOOD_LINES])


def files(bad: Sequence[tuple[bytes, str]]) -> st.SearchStrategy[Lines]:
    line = st.one_of(good_lines, good_lines, good_lines, st.sampled_from(bad))
    return st.lists(line, max_size=40)


WITHOUT_BLANKS = [
    (line, cause) for line, cause in [*SOME_BAD, TWO_OBJECTS] if cause != "blank line"
]
WITHOUT_PAIRS = [(line, cause) for line, cause in SOME_BAD if line != GOOD + b" \t" + GOOD]


@settings(max_examples=300, deadline=None)
@given(
    lines=st.one_of(files(WITHOUT_BLANKS), files(WITHOUT_PAIRS)),
    block_bytes=st.integers(min_value=3, max_value=300),
    portion_events=st.integers(min_value=1, max_value=20),
    has_last_line_feed=st.booleans(),
)
@example(lines=[], block_bytes=3, portion_events=1, has_last_line_feed=True)
@example(
    lines=[(GOOD_LINES[0], None)] * 9, block_bytes=64, portion_events=2, has_last_line_feed=True
)
def test_wherever_blocks_end_every_line_is_used_or_rejected_at_its_number(
    tmp_path_factory: pytest.TempPathFactory,
    lines: Lines,
    block_bytes: int,
    portion_events: int,
    has_last_line_feed: bool,
) -> None:
    content = b"".join(line + b"\n" for line, _ in lines)
    if not has_last_line_feed and lines and lines[-1][1] is None:
        content = content[:-1]
    folder = tmp_path_factory.getbasetemp() / "mixed"
    folder.mkdir(exist_ok=True)
    (folder / "activities.jsonl").write_bytes(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BLOCK_BYTES", block_bytes)
        patch.setattr(counting, "PORTION_EVENTS", portion_events)
        tally, report = read(folder)

    used = [json.loads(line) for line, cause in lines if cause is None]
    causes = [cause for _, cause in lines]
    assert report.read == len(lines)
    assert report.used == len(used)
    assert report.rejected == Counter(filter(None, causes))
    assert {cause: first.line for cause, first in report.first.items()} == {
        cause: causes.index(cause) + 1 for cause in causes if cause is not None
    }
    assert counted(tally) == Counter(
        (int(record["user_id"]), int(record["job_id"]), record["type"]) for record in used
    )
    bounds: dict[tuple[int, int], list[float]] = {}
    for record in used:
        if record.get("timestamp") is not None:
            pair = int(record["user_id"]), int(record["job_id"])
            bounds.setdefault(pair, []).append(record["timestamp"])
    for row, pair in enumerate(zip(tally.user_ids.tolist(), tally.job_ids.tolist(), strict=True)):
        if pair in bounds:
            assert tally.first_at[row] == min(bounds[pair])
            assert tally.last_at[row] == max(bounds[pair])


class InThisProcess:
    """Stands in for `multiprocessing`: what its processes would do is done here."""

    def __init__(self, _processes: int, _prepare: object) -> None:
        pass

    def apply_async(self, function: Callable[..., Any], arguments: tuple[Any]) -> SimpleNamespace:
        found = function(*arguments)
        return SimpleNamespace(get=lambda: found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @classmethod
    def get_context(cls, _method: str) -> SimpleNamespace:
        return SimpleNamespace(Pool=cls)


class TestManyProcesses:
    """A file read in spans by many processes is as the same file read by one."""

    @settings(max_examples=300, deadline=None)
    @given(
        lines=files(WITHOUT_BLANKS),
        block_bytes=st.integers(min_value=3, max_value=300),
        span_bytes=st.integers(min_value=3, max_value=700),
        has_byte_order_mark=st.booleans(),
        has_last_line_feed=st.booleans(),
    )
    @example(
        lines=[(b"x" * 90, "not JSON")] * 2,
        block_bytes=9,
        span_bytes=91,
        has_byte_order_mark=False,
        has_last_line_feed=True,
    )
    def test_account_and_tally_are_the_same_wherever_spans_end(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        lines: Lines,
        block_bytes: int,
        span_bytes: int,
        has_byte_order_mark: bool,
        has_last_line_feed: bool,
    ) -> None:
        folder = tmp_path_factory.getbasetemp() / "spans"
        folder.mkdir(exist_ok=True)
        content = b"".join(line + b"\n" for line, _ in lines)
        if not has_last_line_feed:
            content = content.removesuffix(b"\n")
        (folder / "activities.jsonl").write_bytes(b"\xef\xbb\xbf" * has_byte_order_mark + content)
        expected, report = read(folder)
        first_bad = min((first.line for first in report.first.values()), default=None)
        told: list[tuple[int, int]] = []

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jsonl, "BLOCK_BYTES", block_bytes)
            patch.setattr(jsonl, "SPAN_BYTES", span_bytes)
            patch.setattr(jsonl, "multiprocessing", InThisProcess)
            tally, report_of_many = JsonlActivityLog(folder, LENIENT, 2).tally(
                EVERYTHING, lambda *step: told.append(step)
            )
            if first_bad is not None:
                with pytest.raises(LineRejected, match=f"^activities.jsonl, line {first_bad}: "):
                    JsonlActivityLog(folder, STRICT, 2).tally(EVERYTHING, nobody)

        assert report_of_many == report
        assert counted(tally) == counted(expected)
        assert tally.last_at.tolist() == pytest.approx(expected.last_at.tolist(), nan_ok=True)
        assert told == sorted(told)
        size = (folder / "activities.jsonl").stat().st_size
        assert told[-1:] == [(size, size)] * bool(size)

    LINES: ClassVar[list[bytes]] = [
        *(activity(job_id=b"%d" % (number % 7)) for number in range(200)),
        b"bad",
        *(activity(job_id=b"%d" % (number % 5)) for number in range(200)),
        b"worse",
    ]

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(jsonl, "SPAN_BYTES", 5_000)
        write(tmp_path, *self.LINES)
        return tmp_path

    def test_in_earnest_count_the_same(self, folder: Path) -> None:
        expected, report = read(folder)

        tally, report_of_many = JsonlActivityLog(folder, LENIENT, 2).tally(EVERYTHING, nobody)

        assert report_of_many == report
        assert report_of_many.first["not JSON"].line == 201
        assert counted(tally) == counted(expected)

    def test_in_earnest_stop_when_progress_is_refused(self, folder: Path) -> None:
        def stop(_done: int, _total: int) -> None:
            raise TrainingCancelled

        with pytest.raises(TrainingCancelled):
            JsonlActivityLog(folder, LENIENT, 2).tally(EVERYTHING, stop)
        assert multiprocessing.active_children() == []

    def test_accept_no_more_bad_lines_than_one(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jsonl, "multiprocessing", InThisProcess)
        bound = 2 / len(self.LINES)
        log = JsonlActivityLog(folder, Tolerance(max_rejected=bound), 2)
        assert log.tally(EVERYTHING, nobody)[1].rejected_total == 2

        write(folder, *self.LINES, b"worst")
        with pytest.raises(TooManyRejected, match="3 of 403 lines are bad"):
            log.tally(EVERYTHING, nobody)

    def test_leave_compressed_files_to_one(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = folder / "activities.jsonl"
        path.write_bytes(gzip.compress(path.read_bytes()))
        monkeypatch.setattr(jsonl, "SPAN_BYTES", 10)
        monkeypatch.setattr(jsonl, "multiprocessing", None)

        _, report = JsonlActivityLog(folder, LENIENT, 2).tally(EVERYTHING, nobody)

        assert report.read == len(self.LINES)


def counted(tally: ActivityTally) -> Counter[tuple[int, int, str]]:
    counts: Counter[tuple[int, int, str]] = Counter()
    rows = zip(tally.user_ids.tolist(), tally.job_ids.tolist(), tally.counts.tolist(), strict=True)
    for user, job, of_kinds in rows:
        for kind in ActivityKind:
            if of_kinds[kind]:
                counts[user, job, kind.word] = of_kinds[kind]
    return counts


@settings(deadline=None)
@given(lines=files(WITHOUT_BLANKS), block_bytes=st.integers(min_value=3, max_value=300))
def test_a_strict_reader_stops_at_the_first_bad_line_wherever_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, lines: Lines, block_bytes: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "strict"
    folder.mkdir(exist_ok=True)
    write(folder, *(line for line, _ in lines))
    bad = next(((number, cause) for number, (_, cause) in enumerate(lines, 1) if cause), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BLOCK_BYTES", block_bytes)
        if bad is None:
            assert read(folder, tolerance=STRICT)[1].used == len(lines)
        else:
            with pytest.raises(LineRejected, match=f"^activities.jsonl, line {bad[0]}: {bad[1]}: "):
                read(folder, tolerance=STRICT)


class TestTheTwoChecks:
    """A line that the fast schema accepts is one that the check by field accepts, as the same row.

    The private names are the two checks themselves; from outside one cannot tell which decided.
    """

    _plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    _ids = st.one_of(
        st.integers(-2, 3),
        st.integers(2**63 - 2, 2**64 + 1),
        st.integers(0, 10**20).map(str),
        st.from_regex(r"[0-9]{17,20}", fullmatch=True),
        _plain,
    )
    _times = st.one_of(
        st.floats(-10, 5e9),
        st.integers(-1, 4_102_444_801),
        st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        # Half hours, as zones have them: of seconds RFC 3339 knows nothing
        st.builds(
            lambda moment, hours: moment.replace(
                tzinfo=timezone(timedelta(hours=hours))
            ).isoformat(),
            st.datetimes(),
            st.sampled_from([-12, -3.5, 0, 5.5, 14]),
        ),
        st.datetimes().map(datetime.isoformat),
        st.dates().map(str),
        _plain,
    )
    _texts = st.text(max_size=4) | st.lists(st.text(max_size=3) | _plain, max_size=2) | _plain
    _SHAPES = (_ACTIVITY, _JOB, _user_shape(frozenset()))
    _kinds = st.sampled_from(["impression", "redirect", "apply", "view"]) | _plain
    _OPTIONAL: ClassVar[dict[str, st.SearchStrategy[Any]]] = {
        "timestamp": _times,
        "title": _texts,
        "posted_at": _times,
        "closes_at": _times,
        "graduation_year": _ids,
        "languages": _texts,
        "ethnicity": _texts,
        "other": _texts,
    }

    @settings(max_examples=500, deadline=None)
    @given(
        shape=st.sampled_from(_SHAPES),
        record=st.fixed_dictionaries(
            {"type": _kinds, "job_id": _ids, "user_id": _ids, "description": _texts},
            optional=_OPTIONAL,
        ),
        is_ascii=st.booleans(),
    )
    def test_agree_on_what_is_good(
        self, shape: Any, record: dict[str, Any], is_ascii: bool
    ) -> None:
        text = json.dumps(record, ensure_ascii=is_ascii)
        line = text.encode(errors="surrogatepass")
        self.assert_agreement(shape, line)

    @settings(deadline=None)
    @given(
        line=st.text(alphabet='{}[],:" 0123456789.-eEtruefalsn\\job_id"typeapluser', max_size=60)
    )
    @example(line='{"job_id":1,"user_id":1,"type":"apply","type":"view"}')
    @example(line='{"job_id":1,"user_id":1,"type":"apply","x":1e400}')
    def test_agree_on_what_is_json(self, line: str) -> None:
        self.assert_agreement(_ACTIVITY, line.encode())

    @pytest.mark.parametrize("text", ["2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00z"])
    def test_agree_on_rare_spellings_of_times(self, text: str) -> None:
        line = json.dumps({"job_id": 1, "description": "d", "posted_at": text}).encode()
        self.assert_agreement(_JOB, line)

    @staticmethod
    def assert_agreement(shape: Any, line: bytes) -> None:
        try:
            rows = msgspec.json.Decoder(shape.row).decode_lines(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        if len(rows) != 1:
            return
        fast, careful = rows[0], shape.parse(_record(line))
        for name in fast.__struct_fields__:
            expected, actual = getattr(fast, name), getattr(careful, name)
            if name.endswith("_id") or (name == "graduation_year" and expected is not None):
                expected = int(expected)
            assert actual == expected, name


class TestCompression:
    LINES = b"".join(activity(job_id=b"%d" % number) + b"\n" for number in range(50))
    CUT = 1_001  # within a line

    def assert_whole(self, folder: Path) -> None:
        tally, report = read(folder)
        assert (report.read, report.used) == (50, 50)
        assert tally.job_ids.tolist() == list(range(50))

    @pytest.mark.parametrize(
        ("suffix", "compress"),
        [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)],
        ids=["gzip", "zstd"],
    )
    def test_frames_one_after_the_other_are_one_file(
        self, tmp_path: Path, suffix: str, compress: Any
    ) -> None:
        path = tmp_path / f"activities.jsonl{suffix}"
        frames = compress(self.LINES[: self.CUT]), compress(b""), compress(self.LINES[self.CUT :])
        path.write_bytes(b"".join(frames))

        self.assert_whole(tmp_path)

    @pytest.mark.parametrize("chunk", [1, 7, 100])
    @pytest.mark.parametrize(
        "compress", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"]
    )
    def test_frames_may_end_anywhere_in_what_is_read_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Any, chunk: int
    ) -> None:
        monkeypatch.setattr(jsonl, "_COMPRESSED_CHUNK", chunk)
        frames = compress(self.LINES[: self.CUT]), compress(self.LINES[self.CUT :])
        (tmp_path / "activities.jsonl").write_bytes(b"".join(frames))

        self.assert_whole(tmp_path)

    @pytest.mark.parametrize("name", ["activities.jsonl", "activities.jsonl.gz"])
    @pytest.mark.parametrize(
        "content",
        [LINES, gzip.compress(LINES), zstandard.ZstdCompressor().compress(LINES)],
        ids=["plain", "gzip", "zstd"],
    )
    def test_the_first_bytes_tell_not_the_name(
        self, tmp_path: Path, content: bytes, name: str
    ) -> None:
        (tmp_path / name).write_bytes(content)

        self.assert_whole(tmp_path)

    @pytest.mark.parametrize("missing", [1, 5, 40])
    @pytest.mark.parametrize(
        "compress", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"]
    )
    @pytest.mark.parametrize("first", [b"", b"whole\n"], ids=["one frame", "second frame"])
    def test_a_file_cut_short_is_refused_and_called_so(
        self, tmp_path: Path, compress: Any, missing: int, first: bytes
    ) -> None:
        whole = compress(first) if first else b""
        path = tmp_path / "activities.jsonl.gz"
        path.write_bytes(whole + compress(self.LINES)[:-missing])

        with pytest.raises(DatasetMissing, match=r"activities\.jsonl\.gz is cut short"):
            read(tmp_path)

    @pytest.mark.parametrize(
        "compress",
        [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress],
        ids=["gzip", "zstd"],
    )
    def test_a_damaged_file_is_refused(self, tmp_path: Path, compress: Any) -> None:
        damaged = bytearray(compress(self.LINES))
        damaged[len(damaged) // 2] ^= 0xFF
        (tmp_path / "activities.jsonl").write_bytes(damaged)

        with pytest.raises(DatasetMissing, match=r"cannot read .*activities\.jsonl"):
            read(tmp_path)

    def test_progress_counts_the_bytes_of_the_compressed_file(self, tmp_path: Path) -> None:
        path = tmp_path / "activities.jsonl"
        path.write_bytes(gzip.compress(self.LINES))
        told: list[tuple[int, int]] = []

        JsonlActivityLog(tmp_path).tally(EVERYTHING, lambda *step: told.append(step))

        size = path.stat().st_size
        assert told[-1] == (size, size)


class TestFindingFiles:
    @pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.jsonl.gz", "jobs.jsonl.zst"])
    def test_the_one_file_is_found(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()

        assert find_file(tmp_path, "jobs") == tmp_path / name

    def test_two_candidates_are_named(self, tmp_path: Path) -> None:
        for name in ("activities.jsonl", "activities.jsonl.zst"):
            write(tmp_path, GOOD, name=name)

        with pytest.raises(
            DatasetMissing, match=r"activities\.jsonl, activities\.jsonl\.zst: keep"
        ):
            read(tmp_path)

    @pytest.mark.parametrize("folder", ["", "not/there"])
    def test_a_missing_file_is_named_with_what_to_do(self, tmp_path: Path, folder: str) -> None:
        with pytest.raises(DatasetMissing) as raised:
            read(tmp_path / folder)
        message = str(raised.value)
        assert "no activities.jsonl" in message
        assert str(tmp_path / folder) in message
        assert "--data" in message
        assert "jobrec demo" in message

    def test_a_folder_of_that_name_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "activities.jsonl").mkdir()

        with pytest.raises(DatasetMissing):
            read(tmp_path)

    def test_an_empty_file_holds_no_lines(self, tmp_path: Path) -> None:
        write(tmp_path)

        tally, report = read(tmp_path, tolerance=STRICT)

        assert (len(tally), report.read) == (0, 0)


def test_lines_outside_the_window_are_used_and_said_to_be_outside(tmp_path: Path) -> None:
    def seconds(epoch: float) -> datetime:
        return datetime.fromtimestamp(epoch, UTC)

    lines = [activity(b"%d" % time, timestamp=b"%d" % time) for time in (99, 100, 199, 200)]
    write(tmp_path, *lines, b'{"job_id":0,"user_id":2,"type":"apply"}', b"bad")

    for window, jobs in [
        (TimeWindow(), [0, 99, 100, 199, 200]),
        (TimeWindow(seconds(100), seconds(200)), [100, 199]),
        (TimeWindow(since=seconds(100)), [100, 199, 200]),
        (TimeWindow(until=seconds(200)), [99, 100, 199]),
        (TimeWindow(since=seconds(201)), []),
    ]:
        tally, report = read(tmp_path, window)
        assert tally.job_ids.tolist() == jobs
        assert (report.read, report.used, report.outside) == (6, 5, 5 - len(jobs))


def write_jobs(folder: Path, *records: dict[str, Any]) -> Path:
    filled = ({"description": "d", **record} for record in records)
    lines = (json.dumps(record).encode() for record in filled)
    return write(folder, *lines, name="jobs.jsonl")


def jobs_of(path: Path) -> tuple[list[Job], ReadReport]:
    return read_jobs(path, LENIENT)


class TestJobs:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (1_767_225_600, datetime(2026, 1, 1, tzinfo=UTC)),
            (1_767_225_600.25, datetime(2026, 1, 1, microsecond=250_000, tzinfo=UTC)),
            (0, datetime(1970, 1, 1, tzinfo=UTC)),
            ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
            ("2026-01-01T02:00:00.5+02:00", datetime(2026, 1, 1, microsecond=500_000, tzinfo=UTC)),
            ("2025-12-31T18:30:00-05:30", datetime(2026, 1, 1, tzinfo=UTC)),
            ("2026-01-01 00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
            ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
            ("2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
            (None, None),
        ],
    )
    def test_dates_are_understood(
        self, tmp_path: Path, written: object, expected: datetime | None
    ) -> None:
        path = write_jobs(tmp_path, {"job_id": 1, "posted_at": written, "closes_at": written})

        (job,), report = jobs_of(path)

        assert report.rejected == {}
        assert job.posted_at == job.closes_at == expected
        assert expected is None or (job.posted_at is not None and job.posted_at.tzinfo is not None)

    @pytest.mark.parametrize("name", ["posted_at", "closes_at"])
    @pytest.mark.parametrize(
        ("written", "cause"),
        [
            ("tomorrow", "wrong type"),
            ("", "wrong type"),
            ("2026-13-01", "wrong type"),
            ("2026-02-30T00:00:00Z", "wrong type"),
            ("1767225600", "wrong type"),
            (True, "wrong type"),
            ([2026], "wrong type"),
            (-1, "timestamp out of range"),
            (1_767_225_600_000, "timestamp out of range"),
            (float("nan"), "timestamp out of range"),
            (float("inf"), "timestamp out of range"),
        ],
    )
    def test_other_dates_are_rejected_by_name(
        self, tmp_path: Path, name: str, written: object, cause: str
    ) -> None:
        path = write_jobs(tmp_path, {"job_id": 1}, {"job_id": 2, name: written})

        jobs, report = jobs_of(path)

        assert [job.id for job in jobs] == [1]
        assert report.rejected == {cause: 1}
        assert report.first[cause].line == 2
        assert report.first[cause].expected.startswith(f"{name}: ")

    def test_everything_of_a_job_is_read(self, tmp_path: Path) -> None:
        record = {
            "job_id": "17",
            "title": "Ärztin",
            "employer": "Ward & Co",
            "location": "Leeds",
            "description": "line\nline",
            "salary": 5,
        }
        (job,), _ = jobs_of(write_jobs(tmp_path, record))

        assert (job.id, job.title, job.employer) == (17, "Ärztin", "Ward & Co")
        assert (job.location, job.description) == ("Leeds", "line\nline")

    def test_only_id_and_description_must_be_there(self, tmp_path: Path) -> None:
        path = write(
            tmp_path,
            b'{"job_id":1,"description":""}',
            b'{"job_id":2}',
            b'{"job_id":3,"description":null}',
            b'{"description":"d"}',
            name="jobs.jsonl",
        )

        jobs, report = jobs_of(path)

        assert [job.id for job in jobs] == [1]
        assert report.rejected == {"missing field": 2, "wrong type": 1}
        assert report.first["missing field"].line == 2
        assert report.first["missing field"].expected == "a field description"
        assert report.first["wrong type"].expected == "description: a string"

    @pytest.mark.parametrize("name", ["title", "employer", "location", "description"])
    def test_text_that_is_no_text_is_rejected(self, tmp_path: Path, name: str) -> None:
        good = {"job_id": 1, name: "\U0001f600"}
        path = write_jobs(tmp_path, good, {"job_id": 2, name: "a\ud800b"}, {"job_id": 3, name: 5})

        jobs, report = jobs_of(path)

        assert [job.id for job in jobs] == [1]
        assert getattr(jobs[0], name) == "\U0001f600"
        assert report.rejected == {"invalid UTF-8": 1, "wrong type": 1}
        assert report.first["invalid UTF-8"].expected == f"{name}: text without lone surrogates"

    def test_all_lines_of_an_id_are_returned_in_order(self, tmp_path: Path) -> None:
        path = write_jobs(tmp_path, *({"job_id": 1, "title": title} for title in "abc"))

        jobs, report = jobs_of(path)

        assert [job.title for job in jobs] == ["a", "b", "c"]
        assert report.used == 3


class TestPeople:
    PROTECTED = ("ethnicity", "gender")
    MARK = "violet"

    def test_everything_but_protected_attributes_is_read(self, tmp_path: Path) -> None:
        record = {
            "user_id": 5,
            "ethnicity": self.MARK,
            "gender": self.MARK,
            "graduation_year": "2027",
            "school_type": "state",
            "languages": ["English", "Welsh"],
            "university": "Leeds",
            "degree_subject": "Law",
            "degree_subject_groups": ["Law", "Society"],
            "degree_subject_categories": "Arts",
        }
        path = write(tmp_path, json.dumps(record).encode(), name="users.jsonl")

        users, _ = read_users(path, STRICT)

        law = ("Law", "Society")
        assert users == [
            User(5, 2027, "state", ("English", "Welsh"), "Leeds", "Law", law, ("Arts",))
        ]

    @pytest.mark.parametrize("value", ["violet", 5, ["x"], {"a": 1}, None])
    def test_what_is_withheld_is_not_decoded_whatever_it_holds(
        self, tmp_path: Path, value: object
    ) -> None:
        withheld = frozenset({"languages", "graduation_year"})
        record = {"user_id": 5, "university": "Leeds", **dict.fromkeys(withheld, value)}
        path = write(tmp_path, json.dumps(record).encode(), name="users.jsonl")

        users, _ = read_users(path, STRICT, withheld=withheld)

        assert users == [User(5, university="Leeds")]
        assert JsonlCatalog(tmp_path, STRICT, withheld).users([5]) == {5: users[0]}

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("English", ("English",)),
            (["English", "Welsh"], ("English", "Welsh")),
            ([], ()),
            (None, ()),
        ],
    )
    def test_languages_are_a_text_or_a_list(
        self, tmp_path: Path, written: object, expected: tuple[str, ...]
    ) -> None:
        line = json.dumps({"user_id": 1, "languages": written}).encode()

        (user,), _ = read_users(write(tmp_path, line, name="users.jsonl"), STRICT)

        assert user.languages == expected

    @pytest.mark.parametrize("written", [[5], [None], [["English"]], 5, {"a": 1}, ["\ud800"]])
    def test_other_languages_are_rejected(self, tmp_path: Path, written: object) -> None:
        line = json.dumps({"user_id": 1, "languages": written}).encode()

        users, report = read_users(write(tmp_path, line, name="users.jsonl"), LENIENT)

        assert users == []
        (first,) = report.first.values()
        assert first.expected.startswith("languages: ")

    @pytest.mark.parametrize(
        "value",
        [MARK, [MARK], {"a": MARK, "languages": MARK}, 5, 5.5, True, None, [[]], ""],
    )
    def test_protected_attributes_are_nowhere_in_what_is_read_whatever_they_hold(
        self, tmp_path: Path, value: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        record = {"user_id": 1, "school_type": "state", **dict.fromkeys(self.PROTECTED, value)}
        write(tmp_path, json.dumps(record).encode(), name="users.jsonl")

        users = JsonlCatalog(tmp_path, STRICT).users([1])

        assert asdict(users[1]) == asdict(User(1, school_type="state"))
        assert not {field.name for field in fields(User)} & set(self.PROTECTED)
        assert not any(hasattr(users[1], name) for name in self.PROTECTED)
        assert self.MARK not in caplog.text

    @pytest.mark.parametrize(
        "line",
        [
            f'{{"user_id":"x","ethnicity":"{MARK}"}}',
            f'{{"user_id":1,"gender":"{MARK}","languages":5}}',
            f'{{"ethnicity":"{MARK}"}}',
            f'{{"ethnicity":"{MARK}","user_id":1',
        ],
        ids=["wrong id", "wrong languages", "no id", "not JSON"],
    )
    def test_protected_attributes_of_a_bad_line_are_not_shown(
        self, tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        path = write(tmp_path, line.encode(), name="users.jsonl")

        _, report = read_users(path, LENIENT)
        JsonlCatalog(tmp_path, LENIENT).users([1])
        with pytest.raises(LineRejected) as raised:
            read_users(path, STRICT)

        assert report.rejected_total == 1
        assert self.MARK not in "\n".join([*report.lines(), caplog.text, str(raised.value)])


class TestTargets:
    def read(self, folder: Path, *lines: bytes, tolerance: Tolerance = LENIENT) -> Any:
        path = folder / "test.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return read_targets(path, tolerance)

    def test_each_job_of_a_line_is_a_pair_without_a_time(self, tmp_path: Path) -> None:
        tally, report = self.read(
            tmp_path,
            b'{"user_id":2,"job_ids":[9,"7"],"more":1}',
            b'{"user_id":"1","job_ids":[9223372036854775807]}',
            b'{"user_id":2,"job_ids":[8,9]}',
            b'{"user_id":3,"job_ids":[]}',
        )
        assert tally.user_ids.tolist() == [1, 2, 2, 2]
        assert tally.job_ids.tolist() == [2**63 - 1, 7, 8, 9]
        assert not np.isfinite(tally.first_at).any()
        assert (report.read, report.used, report.rejected_total) == (4, 4, 0)

    @pytest.mark.parametrize(
        ("line", "cause", "expected"),
        [
            (b'{"user_id":1}', "missing field", "a field job_ids"),
            (b'{"job_ids":[1]}', "missing field", "a field user_id"),
            (b'{"user_id":1,"job_ids":7}', "wrong type", "job_ids: a list of ids"),
            (b'{"user_id":1,"job_ids":[1.5]}', "wrong type", f"job_ids: {ID}"),
            (b'{"user_id":1,"job_ids":[true]}', "wrong type", f"job_ids: {ID}"),
            (b'{"user_id":1,"job_ids":[null]}', "wrong type", f"job_ids: {ID}"),
            (b'{"user_id":1,"job_ids":[-1]}', "id out of range", f"job_ids: {RANGE}"),
            (b'{"user_id":-1,"job_ids":[1]}', "id out of range", f"user_id: {RANGE}"),
            (b"7", "not an object", "a JSON object"),
            (b"", "blank line", "a JSON object"),
        ],
    )
    def test_a_bad_line_is_accounted_for(
        self, tmp_path: Path, line: bytes, cause: str, expected: str
    ) -> None:
        good = b'{"user_id":1,"job_ids":[1]}'
        tally, report = self.read(tmp_path, good, line, good)
        assert len(tally) == 1
        assert (report.read, report.used, dict(report.rejected)) == (3, 2, {cause: 1})
        first = report.first[cause]
        assert (first.file, first.line, first.expected) == ("test.jsonl", 2, expected)

    def test_too_many_bad_lines_and_strictness_stop_it(self, tmp_path: Path) -> None:
        with pytest.raises(TooManyRejected, match="1 of 1 lines are bad"):
            self.read(tmp_path, b"{}", tolerance=Tolerance())
        with pytest.raises(LineRejected, match=r"test\.jsonl, line 1: missing field"):
            self.read(tmp_path, b"{}", tolerance=STRICT)

    def test_an_empty_file_holds_nothing_and_a_missing_one_is_told(self, tmp_path: Path) -> None:
        tally, report = self.read(tmp_path)
        assert (len(tally), report.read) == (0, 0)
        with pytest.raises(DatasetMissing):
            read_targets(tmp_path / "none.jsonl", LENIENT)


class TestStamp:
    def test_of_a_log_changes_with_its_file_only(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD)
        log = JsonlActivityLog(tmp_path)
        before = log.stamp()

        assert log.stamp() == before
        os.utime(path, ns=(0, 0))
        assert log.stamp() != before

    def test_of_a_log_without_a_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetMissing):
            JsonlActivityLog(tmp_path).stamp()


class TestCoverage:
    def test_counts_a_person_once_and_not_those_of_bad_lines(self, tmp_path: Path) -> None:
        lines = [b'{"user_id":%b}' % id_ for id_ in (b"5", b'"5"', b"-1", b"7", b"x")]
        write(tmp_path, *lines, name="users.jsonl")

        coverage = JsonlCatalog(tmp_path, LENIENT).coverage(np.array([4, 5, 7]))

        assert coverage.listed.tolist() == [False, True, True]
        assert coverage.total == 2


class TestCatalog:
    def test_the_last_line_of_an_id_counts_and_a_warning_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = [(1, "old"), (2, "only"), (1, "older"), (1, "new")]
        write_jobs(tmp_path, *({"job_id": id_, "title": title} for id_, title in rows))

        catalog = JsonlCatalog(tmp_path)

        titles = {id_: job.title for id_, job in catalog.jobs([1, 2]).items()}
        assert titles == {1: "new", 2: "only"}
        assert len(catalog.page(JobFilter(), None, None, 10).jobs) == 2
        (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "2 lines repeat a job id; the last line of each counts" in warning.getMessage()

    def test_bad_lines_are_logged_with_their_place(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = write_jobs(tmp_path, {"job_id": 1})
        path.write_bytes(path.read_bytes() + b"x\n")

        JsonlCatalog(tmp_path, LENIENT).jobs([1])

        assert "jobs.jsonl, line 2: not JSON: x" in caplog.text

    def test_a_changed_file_is_read_again(self, tmp_path: Path) -> None:
        catalog = self.opened(tmp_path)
        before = catalog.revision
        self.write_both(tmp_path, [2, 3])
        assert self.ids(catalog) == ([1, 2], [1, 2])

        catalog.refresh()

        assert self.ids(catalog) == ([2, 3], [2, 3])
        assert catalog.revision != before

    def test_an_unchanged_file_is_not_read_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        catalog = self.opened(tmp_path)
        before = catalog.jobs([1])[1]
        monkeypatch.setattr(jsonl, "read_jobs", None)
        monkeypatch.setattr(jsonl, "read_users", None)

        catalog.refresh()

        assert catalog.jobs([1])[1] is before

    def test_refreshing_reads_nothing_that_was_not_asked_for(self, tmp_path: Path) -> None:
        write_jobs(tmp_path, {"job_id": 1})
        catalog = JsonlCatalog(tmp_path)
        assert list(catalog.jobs([1])) == [1]

        catalog.refresh()  # there is no users.jsonl

        assert list(catalog.jobs([1])) == [1]

    @pytest.mark.parametrize("name", ["jobs.jsonl", "users.jsonl"])
    @pytest.mark.parametrize("broken", [b"x\n" * 10, b"\x1f\x8bcut", None], ids=str)
    def test_a_broken_new_file_leaves_the_old_content(
        self, tmp_path: Path, name: str, broken: bytes | None
    ) -> None:
        catalog = self.opened(tmp_path)
        before = catalog.revision
        (tmp_path / name).unlink()
        if broken is not None:
            (tmp_path / name).write_bytes(broken)

        with pytest.raises(DataError):
            catalog.refresh()

        assert self.ids(catalog) == ([1, 2], [1, 2])
        assert catalog.revision == before

    def test_a_mended_file_is_read(self, tmp_path: Path) -> None:
        catalog = self.opened(tmp_path)
        (tmp_path / "jobs.jsonl").write_bytes(b"x\n")
        with pytest.raises(DataError):
            catalog.refresh()
        self.write_both(tmp_path, [3])

        catalog.refresh()

        assert self.ids(catalog) == ([3], [3])

    def test_another_kind_of_file_may_take_the_place(self, tmp_path: Path) -> None:
        catalog = self.opened(tmp_path)
        (tmp_path / "jobs.jsonl").unlink()
        write_jobs(tmp_path, {"job_id": 2}).rename(tmp_path / "jobs.jsonl.gz")

        catalog.refresh()

        assert self.ids(catalog)[0] == [2]

    def test_a_missing_file_is_said_at_the_first_question(self, tmp_path: Path) -> None:
        catalog = JsonlCatalog(tmp_path)

        with pytest.raises(DatasetMissing, match=r"no jobs\.jsonl"):
            catalog.jobs([1])
        with pytest.raises(DatasetMissing, match=r"no users\.jsonl"):
            catalog.users([1])

    def opened(self, folder: Path) -> JsonlCatalog:
        """Return a catalogue that has read jobs and people 1 and 2."""
        self.write_both(folder, [1, 2])
        catalog = JsonlCatalog(folder)
        assert self.ids(catalog) == ([1, 2], [1, 2])
        return catalog

    @staticmethod
    def ids(catalog: JsonlCatalog) -> tuple[list[int], list[int]]:
        return list(catalog.jobs([1, 2, 3])), list(catalog.users([1, 2, 3]))

    @staticmethod
    def write_both(folder: Path, ids: Sequence[int]) -> None:
        paths = (
            write_jobs(folder, *({"job_id": id_} for id_ in ids)),
            write(folder, *(b'{"user_id":%d}' % id_ for id_ in ids), name="users.jsonl"),
        )
        for path in paths:
            # Of the same size, and perhaps within one tick of the file system's clock
            os.utime(path, ns=(0, sum(ids) * 1_000_000_000))


class TestCountingInShares:
    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("share_events", [1, 100, 1_000])
    @pytest.mark.parametrize("users", [1, 2, 3, 500])
    def test_gives_the_tally_of_all_at_once(
        self,
        users: int,
        share_events: int,
        threads: int,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        random = np.random.default_rng(users)
        kinds = ("impression", "redirect", "apply")
        (tmp_path / "activities.jsonl").write_text(
            "".join(
                f'{{"user_id":{random.integers(users) * 2**40},"job_id":{random.integers(20)},'
                f'"type":"{kinds[random.integers(3)]}","timestamp":{random.integers(10**9)}}}\n'
                for _ in range(3_000)
            )
        )
        at_once, _ = JsonlActivityLog(tmp_path).tally(TimeWindow(), nobody)
        monkeypatch.setattr("adapters.counting.SHARE_EVENTS", share_events)
        in_shares, _ = JsonlActivityLog(tmp_path, processes=threads).tally(TimeWindow(), nobody)
        for column in fields(at_once):
            np.testing.assert_array_equal(
                getattr(in_shares, column.name), getattr(at_once, column.name)
            )


TEXTS = st.sampled_from(["Nurse", "nurse  trainee", "NURSE, trainee", "Bristol", "straße", "", "!"])
DAYS = st.integers(0, 4).map(lambda day: datetime(2026, 1, 1 + day, tzinfo=UTC))


@given(
    adverts=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "title": TEXTS,
                "employer": TEXTS,
                "location": TEXTS,
                "posted_at": DAYS.map(datetime.isoformat),
                "closes_at": DAYS.map(datetime.isoformat),
            },
        ),
        max_size=12,
    ),
    where=st.builds(
        JobFilter,
        employer=st.none() | TEXTS,
        location=st.none() | TEXTS,
        title=st.none() | TEXTS,
        posted_after=st.none() | DAYS,
        closing_before=st.none() | DAYS,
    ),
)
def test_filters_choose_what_their_definition_says(
    adverts: list[dict[str, str]], where: JobFilter
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_jobs(folder, *({"job_id": id_, **advert} for id_, advert in enumerate(adverts)))
        jobs, _ = read_jobs(folder / "jobs.jsonl", Tolerance())
        page = JsonlCatalog(folder).page(where, None, None, 100)
        standing = JsonlCatalog(folder).standing(np.arange(len(jobs)), datetime.now(UTC), where)
    expected = {job.id for job in jobs if where.matches(job)}
    assert {job.id for job in page.jobs} == expected
    assert standing.matching is not None
    assert set(np.flatnonzero(standing.matching).tolist()) == expected
