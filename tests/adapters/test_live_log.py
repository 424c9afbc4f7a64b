from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters import live_log
from adapters.jsonl import LIVE_ACTIVITIES, JsonlActivityLog, Tolerance
from adapters.live_log import JsonlRecentActivities
from domain.errors import ActivitiesUnavailable
from domain.model import Activity, ActivityKind, TimeWindow
from domain.ports import nobody
from tests.fakes import NOON

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def line(user: int, job: int, kind: str = "redirect") -> str:
    return json.dumps({"user_id": user, "job_id": job, "type": kind, "timestamp": 5}) + "\n"


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def activity(user: int, job: int) -> Activity:
    return Activity(user, job, ActivityKind.REDIRECT, NOON)


def learned(folder: Path) -> Mapping[str, Any]:
    """Return how far a training reads the log."""
    return JsonlActivityLog(folder).tally(TimeWindow(), nobody)[1].read_to


def jobs(recent: JsonlRecentActivities, read_to: Mapping[str, Any], user: int = 1) -> list[int]:
    found: list[int] = recent.since(read_to, np.array([user])).job_ids.tolist()
    return found


@pytest.fixture
def owners(tmp_path: Path) -> Path:
    path = tmp_path / "activities.jsonl"
    path.write_text(line(1, 10) + line(2, 20))
    return path


def test_only_what_stands_behind_what_was_learned_is_recent(owners: Path) -> None:
    read_to, recent = learned(owners.parent), JsonlRecentActivities(owners.parent)
    assert jobs(recent, read_to) == []

    add(owners, line(1, 11))
    recent.append([activity(1, 12)])

    assert jobs(recent, read_to) == [11, 12]
    assert jobs(recent, learned(owners.parent)) == []


def test_a_training_reads_both_files_as_one_log(owners: Path) -> None:
    JsonlRecentActivities(owners.parent).append([activity(1, 10), activity(3, 30)])
    add(owners.parent / LIVE_ACTIVITIES, "no activity\n")
    before = owners.read_bytes()

    tally, report = JsonlActivityLog(owners.parent).tally(TimeWindow(), nobody)

    assert tally.total() == 4
    assert tally.user_ids.tolist() == [1, 2, 3]
    assert (report.read, report.used, report.rejected_total) == (5, 4, 1)
    assert owners.read_bytes() == before


def test_a_line_counts_once_it_is_whole(owners: Path) -> None:
    read_to, recent = learned(owners.parent), JsonlRecentActivities(owners.parent)
    whole = line(1, 11)

    add(owners, whole[:20])
    assert jobs(recent, read_to) == []
    add(owners, whole[20:])

    assert jobs(recent, read_to) == [11]


def test_a_training_amid_a_line_leaves_it_to_those_who_follow(owners: Path) -> None:
    whole = line(1, 11)
    add(owners, whole[:20])
    _, report = JsonlActivityLog(owners.parent, Tolerance(max_rejected=1)).tally(
        TimeWindow(), nobody
    )
    add(owners, whole[20:])

    assert jobs(JsonlRecentActivities(owners.parent), report.read_to) == [11]


def test_bad_lines_are_counted_and_the_good_ones_around_them_used(
    owners: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_to, recent = learned(owners.parent), JsonlRecentActivities(owners.parent)

    add(owners, line(1, 11) + '{"user_id": -4}\n\n' + line(1, 12))

    assert jobs(recent, read_to) == [11, 12]
    assert recent.rejected(read_to) == 2
    assert "rejected 2" in caplog.text


@pytest.mark.parametrize("content", ["", line(1, 99), line(8, 9) * 50], ids=len)
def test_another_file_in_the_owners_place_waits_for_the_next_training(
    owners: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    read_to, recent = learned(owners.parent), JsonlRecentActivities(owners.parent)
    add(owners, line(1, 11))
    assert jobs(recent, read_to) == [11]

    owners.write_text(content)

    assert jobs(recent, read_to) == [11]
    assert jobs(recent, read_to) == [11]
    assert caplog.text.count("cut short or exchanged") == 1


def test_another_file_in_place_of_ours_is_followed_from_its_beginning(owners: Path) -> None:
    folder = owners.parent
    JsonlRecentActivities(folder).append([activity(1, 10), activity(1, 13)])
    read_to, recent = learned(folder), JsonlRecentActivities(folder)
    recent.append([activity(1, 11)])
    assert jobs(recent, read_to) == [11]

    (folder / LIVE_ACTIVITIES).unlink()
    recent.append([activity(1, 12)])

    assert jobs(recent, read_to) == [12]


def test_a_compressed_file_is_not_followed(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "activities.jsonl.gz"
    path.write_bytes(gzip.compress(line(1, 10).encode()))
    read_to, recent = learned(tmp_path), JsonlRecentActivities(tmp_path)

    with path.open("ab") as file:
        file.write(gzip.compress(line(1, 11).encode()))
    recent.append([activity(1, 12)])

    assert jobs(recent, read_to) == [12]


def test_the_newest_are_held_where_they_are_too_many(
    owners: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_log, "MAX_HELD", 3)
    read_to, recent = learned(owners.parent), JsonlRecentActivities(owners.parent)

    for job in range(30, 36):
        recent.append([activity(1, job)])

    assert jobs(recent, read_to) == [33, 34, 35]
    assert "the oldest wait" in caplog.text


def test_a_line_that_a_killed_writer_left_half_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / LIVE_ACTIVITIES).write_text(line(1, 10)[:30])
    recent = JsonlRecentActivities(tmp_path)

    recent.append([activity(1, 11)])

    assert jobs(recent, {}) == [11]
    assert recent.rejected({}) == 1


def test_several_writers_keep_their_lines_whole(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    writers = [JsonlRecentActivities(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            pool.submit(writers[number % 4].append, [activity(1, number)] * 5)

    recent = JsonlRecentActivities(tmp_path)
    assert recent.since({}, np.array([1])).total() == 100
    assert recent.rejected({}) == 0


def test_none_is_recorded_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recent = JsonlRecentActivities(tmp_path)
    recent.append([activity(1, 10)])

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ActivitiesUnavailable, match="No space left"):
            recent.append([activity(1, 11)] * 3)

    assert jobs(recent, {}) == [10]
    recent.append([activity(1, 12)])
    assert jobs(recent, {}) == [10, 12]


def test_what_cannot_be_read_is_told_and_answers_go_on(
    owners: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    read_to, recent = learned(owners.parent), JsonlRecentActivities(owners.parent)
    (owners.parent / LIVE_ACTIVITIES).mkdir()
    add(owners, line(1, 11))

    assert jobs(recent, read_to) == [11]
    assert "recent activities are not read" in caplog.text


def test_no_byte_of_who_is_forgotten_stays_and_what_was_learned_is_not_counted_again(
    owners: Path,
) -> None:
    folder = owners.parent
    recent = JsonlRecentActivities(folder)
    recent.append([activity(1, 5), activity(2, 6), activity(1, 7)])
    read_to = learned(folder)
    recent.append([activity(2, 8)])
    assert jobs(recent, read_to, user=2) == [8]
    size = (folder / LIVE_ACTIVITIES).stat().st_size

    recent.forget(1, NOON)

    content = (folder / LIVE_ACTIVITIES).read_bytes()
    assert len(content) == size
    assert b'"user_id": 1,' not in content
    recent.append([activity(2, 9)])
    for following in (recent, JsonlRecentActivities(folder)):
        assert jobs(following, read_to, user=2) == [8, 9]
    assert jobs(recent, learned(folder), user=2) == []


def test_what_cannot_be_destroyed_is_told(tmp_path: Path) -> None:
    (tmp_path / LIVE_ACTIVITIES).mkdir()

    with pytest.raises(ActivitiesUnavailable, match="cannot be changed"):
        JsonlRecentActivities(tmp_path).forget(1, NOON)
