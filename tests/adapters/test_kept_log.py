"""Reading on from a tally that was kept gives what reading all gives."""

from __future__ import annotations

import gzip
import logging
import os
import signal
import subprocess
import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import kept_log
from adapters.jsonl import JsonlActivityLog, Tolerance
from adapters.kept_log import KeptActivityLog
from adapters.kept_tally import FilePart, Kept, KeptTally, Unusable
from adapters.live_log import JsonlRecentActivities
from domain.errors import ActivitiesUnavailable, CatalogUnavailable, LineRejected
from domain.model import Activity, ActivityKind, ActivityTally, ReadReport, TimeWindow
from domain.ports import nobody
from tests.fakes import NOON

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.model import IdArray, TimeArray

EVERYTHING = TimeWindow()
HOUR = timedelta(hours=1)
START = NOON.timestamp()
KNOWN = "lines of activities are known"


def line(user: int, job: int, hour: float | None = 0, kind: str = "redirect") -> bytes:
    time = "null" if hour is None else f"{START + 3600 * hour}"
    return b'{"user_id":%d,"job_id":%d,"type":"%b","timestamp":%b}\n' % (
        user,
        job,
        kind.encode(),
        time.encode(),
    )


class Bench:
    """A dataset, a tally kept beside it, and a record of who was erased when, in hours."""

    def __init__(self, folder: Path, *, strict: bool = False) -> None:
        self.folder = folder
        self.owners = folder / "activities.jsonl"
        self.erased: dict[int, float] = {}
        self.kept = KeptTally(folder / "state" / "tally")
        self.recent = JsonlRecentActivities(folder, self.kept)
        self.log = JsonlActivityLog(folder, Tolerance(strict=strict, max_rejected=1))
        self.reading = KeptActivityLog(self.log, self.kept, self.erasures, self.erased_at)

    def erasures(self) -> str:
        return str(sorted(self.erased.items()))

    def erased_at(self, user_ids: IdArray) -> TimeArray:
        hours = (self.erased.get(user_id, np.nan) for user_id in user_ids.tolist())
        return np.array([START + 3600 * hour for hour in hours], np.float64)

    def erase(self, user_id: int, hour: float) -> None:
        self.erased[user_id] = hour
        self.recent.forget(user_id, NOON + hour * HOUR)

    def add(self, *lines: bytes) -> None:
        with self.owners.open("ab") as file:
            file.writelines(lines)

    def assert_as_reading_all(self) -> ActivityTally:
        expected, expected_report = self.log.tally(EVERYTHING, nobody)
        tally, report = self.reading.tally(EVERYTHING, nobody)
        assert report == expected_report
        assert_equal(tally, expected.without_erased(self.erased_at))
        return tally


def assert_equal(tally: ActivityTally, expected: ActivityTally) -> None:
    for column in fields(ActivityTally):
        found, wanted = getattr(tally, column.name), getattr(expected, column.name)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype


@pytest.fixture
def bench(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Bench:
    caplog.set_level(logging.INFO)
    bench = Bench(tmp_path)
    bench.add(*(line(user, job, user) for user in range(20) for job in range(5)))
    return bench


USERS, JOBS = st.integers(0, 5), st.integers(0, 3)
HOURS = st.none() | st.integers(0, 9) | st.floats(0, 9, width=16)
GOOD = st.builds(line, USERS, JOBS, HOURS, st.sampled_from(["apply", "impression", "redirect"]))
BAD = st.sampled_from([b"\n", b"bad\n", b"{}\n", b'{"user_id":1,"job_id":1,"type":"view"}\n'])
LINES = st.lists(GOOD | GOOD | BAD, max_size=6).map(b"".join)
STEPS = st.one_of(
    st.tuples(st.just("add"), LINES),
    st.tuples(st.just("add"), LINES),
    st.tuples(st.just("add"), LINES.map(lambda lines: lines[:-3])),
    st.tuples(st.just("record"), st.lists(st.tuples(USERS, JOBS), min_size=1, max_size=3)),
    st.tuples(st.just("erase"), st.tuples(USERS, st.integers(0, 9))),
    st.tuples(st.just("return"), USERS),
    st.tuples(st.just("cut"), st.integers(0, 200)),
    st.tuples(st.just("exchange"), LINES),
    st.tuples(st.just("damage"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("train"), st.none()),
)


def carry_out(bench: Bench, step: str, what: Any) -> None:
    match step:
        case "add":
            bench.add(what)
        case "record":
            bench.recent.append(
                [Activity(user, job, ActivityKind.APPLY, NOON + HOUR) for user, job in what]
            )
        case "erase":
            bench.erase(*what)
        case "return":
            bench.erased.pop(what, None)
        case "cut":
            os.truncate(bench.owners, max(0, bench.owners.stat().st_size - what))
        case "exchange":
            other = bench.folder / "other"
            other.write_bytes(what)
            other.replace(bench.owners)
        case "damage":
            path = bench.folder / "state/tally/tally"
            if path.exists():
                content = bytearray(path.read_bytes())
                content[int(what * len(content))] ^= 1
                path.write_bytes(content)
        case "train":
            bench.assert_as_reading_all()


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=12), worth=st.sampled_from([8, 10**9]))
def test_whatever_happens_between_trainings_each_is_as_one_that_reads_all(
    steps: list[tuple[str, Any]], worth: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_log, "_WORTH_KEEPING", worth)
        bench = Bench(Path(folder))
        bench.add()  # makes the file
        for step in steps:
            carry_out(bench, *step)
        bench.assert_as_reading_all()
        bench.add(line(1, 1), b"bad\n", line(9, 9))
        bench.assert_as_reading_all()


def test_only_new_lines_are_read(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.assert_as_reading_all()
    assert "all activities are read: no tally is kept" in caplog.text
    bench.add(line(3, 3, 50), b"bad\n")
    bench.recent.append([Activity(1, 1, ActivityKind.APPLY, NOON)])
    told: list[tuple[int, int]] = []

    tally, report = bench.reading.tally(EVERYTHING, lambda *step: told.append(step))

    assert "100 lines of activities are known, 3 are new" in caplog.text
    assert report.first["not JSON"].line == 102
    assert tally.total() == 102
    before = bench.owners.stat().st_size - len(line(3, 3, 50) + b"bad\n")
    assert told[0] == (before, bench.owners.stat().st_size)
    bench.assert_as_reading_all()


def test_a_training_without_new_lines_reads_none(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.assert_as_reading_all()

    bench.assert_as_reading_all()

    assert f"100 {KNOWN}, 0 are new" in caplog.text


def test_few_new_lines_are_read_again_rather_than_all_written_anew(bench: Bench) -> None:
    bench.assert_as_reading_all()
    path = bench.folder / "state/tally/tally"
    written = path.stat().st_mtime_ns
    bench.add(line(3, 3))
    bench.assert_as_reading_all()
    assert path.stat().st_mtime_ns == written

    bench.add(*[line(3, 3)] * 30)
    bench.assert_as_reading_all()

    assert path.stat().st_mtime_ns != written
    assert bench.kept.read().parts["activities.jsonl"].report.read == 131


class TestAllLinesAreRead:
    """And the log says why."""

    def assert_all_read(self, bench: Bench, caplog: pytest.LogCaptureFixture, why: str) -> None:
        caplog.clear()
        bench.assert_as_reading_all()
        assert f"all activities are read: {why}" in caplog.text

    def test_where_a_file_was_cut_short(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.assert_as_reading_all()
        os.truncate(bench.owners, bench.owners.stat().st_size - len(line(19, 4, 19)))
        self.assert_all_read(bench, caplog, "activities.jsonl was cut short or exchanged")

    def test_where_a_file_of_the_same_content_took_its_place(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.assert_as_reading_all()
        other = bench.folder / "other"
        other.write_bytes(bench.owners.read_bytes())
        other.replace(bench.owners)
        self.assert_all_read(bench, caplog, "activities.jsonl was cut short or exchanged")

    def test_where_its_first_line_was_overwritten(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.assert_as_reading_all()
        with bench.owners.open("r+b") as file:
            file.write(line(7, 0, 0))
        self.assert_all_read(bench, caplog, "activities.jsonl was cut short or exchanged")

    def test_where_what_is_kept_is_damaged_anywhere(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.assert_as_reading_all()
        path = bench.folder / "state/tally/tally"
        content = path.read_bytes()
        for place in [*range(40), *range(40, len(content), 97), len(content) - 1]:
            path.write_bytes(
                content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
            )
            with pytest.raises(Unusable, match="cannot be used"):
                bench.kept.read()
            path.write_bytes(content[:place])
            with pytest.raises(Unusable, match="cannot be used"):
                bench.kept.read()
        path.write_bytes(content + b"\0")
        self.assert_all_read(bench, caplog, f"{path} cannot be used: it is longer")
        assert path.read_bytes() == content

    def test_where_a_window_is_asked_for(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.assert_as_reading_all()
        window = TimeWindow(since=NOON + 5 * HOUR)
        tally, report = bench.reading.tally(window, nobody)
        expected, expected_report = bench.log.tally(window, nobody)
        assert_equal(tally, expected)
        assert report == expected_report
        assert "all activities are read: what is kept is of all times" in caplog.text

    def test_where_reading_is_strict_and_would_have_stopped(self, bench: Bench) -> None:
        bench.add(b"bad\n", line(1, 1))
        bench.assert_as_reading_all()
        with pytest.raises(LineRejected, match="line 101"):
            Bench(bench.folder, strict=True).reading.tally(EVERYTHING, nobody)


class TestSomebodyErased:
    def test_is_in_no_file_of_the_state_from_that_moment_on(self, bench: Bench) -> None:
        bench.assert_as_reading_all()
        assert 7 in bench.kept.read().tally.user_ids

        bench.erase(7, 50)

        assert [path.name for path in bench.folder.glob("state/**/*") if path.is_file()] == ["lock"]
        bench.assert_as_reading_all()
        assert 7 not in bench.kept.read().tally.user_ids
        assert 6 in bench.kept.read().tally.user_ids

    def test_while_a_training_reads_is_not_kept(self, bench: Bench) -> None:
        bench.reading.tally(EVERYTHING, lambda *_: bench.erase(7, 50))

        with pytest.raises(Unusable, match="no tally is kept"):
            bench.kept.read()

    def test_elsewhere_is_left_out_of_what_is_kept_by_the_next_training(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.assert_as_reading_all()
        bench.erased[7] = 50

        bench.assert_as_reading_all()

        assert "somebody was erased, or came back, since a tally was kept" in caplog.text
        assert 7 not in bench.kept.read().tally.user_ids

    def test_who_does_something_again_has_all_lines_read(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.erase(7, 50)
        bench.assert_as_reading_all()
        # A pair that reaches over the erasure, and one that is new
        bench.add(line(7, 0, 60), line(7, 9, 60))

        tally = bench.assert_as_reading_all()

        assert "new lines tell of somebody who was erased" in caplog.text
        assert tally.job_ids[tally.user_ids == 7].tolist() == [9]

    def test_stays_erased_where_what_is_kept_cannot_be_removed(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_path: Path, **_: bool) -> None:
            raise OSError("read-only")

        bench.assert_as_reading_all()
        monkeypatch.setattr(Path, "unlink", refuse)
        with pytest.raises(ActivitiesUnavailable, match="the tally cannot be removed: read-only"):
            bench.erase(7, 50)


class TestNoTallyIsKept:
    def test_of_a_compressed_file(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        bench.owners.with_suffix(".jsonl.gz").write_bytes(gzip.compress(bench.owners.read_bytes()))
        bench.owners.unlink()
        for _ in range(2):
            caplog.clear()
            bench.assert_as_reading_all()
            assert "no tally is kept: activities.jsonl.gz is compressed" in caplog.text

    def test_where_the_last_line_has_no_end_yet(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.add(line(1, 1)[:-1])
        bench.assert_as_reading_all()
        assert "no tally is kept: the last line of activities.jsonl has no end" in caplog.text

    def test_of_a_file_that_is_exchanged_while_it_is_read(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        def exchange(_done: int, _total: int) -> None:
            other = bench.folder / "other"
            other.write_bytes(line(1, 1) * 100)
            other.replace(bench.owners)

        bench.reading.tally(EVERYTHING, exchange)

        assert "no tally is kept: activities.jsonl changed while it was read" in caplog.text
        bench.assert_as_reading_all()

    def test_where_the_disk_refuses(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        (bench.folder / "state").write_text("a file in its place")
        bench.assert_as_reading_all()
        assert "no tally is kept: " in caplog.text

    def test_where_nobody_can_tell_who_was_erased_meanwhile(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def unavailable() -> str:
            raise CatalogUnavailable("away")

        answers: list[Callable[[], str]] = [unavailable, str]
        monkeypatch.setattr(bench.reading, "_erasures", lambda: answers.pop()())
        bench.reading.tally(EVERYTHING, nobody)
        assert "no tally is kept: away" in caplog.text


def test_a_writer_that_is_killed_leaves_what_was_kept(bench: Bench) -> None:
    bench.assert_as_reading_all()
    content = (bench.folder / "state/tally/tally").read_bytes()
    program = (
        "import os, sys; from pathlib import Path; from adapters.kept_tally import KeptTally\n"
        "kept = KeptTally(Path(sys.argv[1]))\n"
        "kept.write(kept.read(), lambda: os.kill(os.getpid(), 9))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(bench.folder / "state/tally")], check=False
    )

    assert killed.returncode == -signal.SIGKILL
    assert (bench.folder / "state/tally/writing").exists()
    assert (bench.folder / "state/tally/tally").read_bytes() == content
    bench.add(*[line(1, 1)] * 50)
    bench.assert_as_reading_all()
    assert (bench.folder / "state/tally/tally").read_bytes() != content
    assert not (bench.folder / "state/tally/writing").exists()


def test_a_second_writer_leaves_the_first_alone(bench: Bench) -> None:
    bench.assert_as_reading_all()
    kept = bench.kept.read()
    other = Kept(ActivityTally.empty(), {}, "of the other")

    def write_meanwhile() -> bool:
        KeptTally(bench.folder / "state/tally").write(other, lambda: True)
        return True

    bench.kept.write(kept, write_meanwhile)

    assert len(bench.kept.read().tally) == len(kept.tally)


def test_the_largest_ids_and_counts_are_kept(tmp_path: Path) -> None:
    largest = 2**63 - 1
    tally = ActivityTally.from_events(
        [largest, 0, *[5] * 300], [0, largest, *[7] * 300], [0] * 302, [np.nan] * 302
    )
    part = FilePart(3, "abc", ReadReport("activities.jsonl", 302, 302))
    kept = KeptTally(tmp_path / "tally")

    kept.write(Kept(tally, {"activities.jsonl": part}, "none"), lambda: True)

    found = kept.read()
    assert_equal(found.tally, tally)
    assert found[1:] == ({"activities.jsonl": part}, "none")
