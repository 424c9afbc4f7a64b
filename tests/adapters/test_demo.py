from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from adapters.demo import (
    FIELDS,
    MAX_SCALE,
    MIN_SCALE,
    SPAN,
    DemoSize,
    DemoSummary,
    field_of_title,
    write_demo,
)
from adapters.jsonl import Tolerance, read_tastes

# Datasets of full size take their time
pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path

UNTIL = datetime(2025, 11, 1, 9, 30, tzinfo=UTC)
FILES = ["activities.jsonl", "jobs.jsonl", "truth.jsonl", "users.jsonl"]

Row = dict[str, Any]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Written:
    summary: DemoSummary
    activities: list[Row]
    jobs: dict[str, Row]
    users: dict[str, Row]

    def count(self, kind: str, *columns: str) -> Counter[Any]:
        rows = (row for row in self.activities if row["type"] == kind)
        if len(columns) == 1:
            return Counter(row[columns[0]] for row in rows)
        return Counter(tuple(row[column] for column in columns) for row in rows)


def read(folder: Path, name: str) -> list[Row]:
    with (folder / name).open("rb") as lines:
        return [json.loads(line) for line in lines]


def write_and_read(
    folder: Path, *, scale: float, seed: int = 42, until: datetime = UNTIL, applies: int = 0
) -> Written:
    summary = write_demo(folder, scale=scale, seed=seed, until=until, applies=applies)
    jobs = read(folder, "jobs.jsonl")
    users = read(folder, "users.jsonl")
    written = Written(
        summary,
        read(folder, "activities.jsonl"),
        {job["job_id"]: job for job in jobs},
        {user["user_id"]: user for user in users},
    )
    assert len(written.jobs) == len(jobs)
    assert len(written.users) == len(users)
    return written


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def share_in_own_field(written: Written, kind: str) -> tuple[float, float]:
    """Share of a person's activities in the first field, and what indifference would give."""
    own = total = 0
    fields_of_people: Counter[str] = Counter()
    fields_of_jobs: Counter[str | None] = Counter()
    for (user, job), count in written.count(kind, "user_id", "job_id").items():
        if job in written.jobs:
            taste = written.users[user]["degree_subject_groups"][0]
            field = field_of_title(written.jobs[job]["title"])
            own += count * (field == taste)
            total += count
            fields_of_people[taste] += count
            fields_of_jobs[field] += count
    chance = sum(fields_of_people[field] * fields_of_jobs[field] for field in FIELDS) / total**2
    return own / total, chance


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_and_read(tmp_path_factory.mktemp("reference"), scale=1.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_and_read(tmp_path_factory.mktemp("small"), scale=0.05, applies=700)


def test_the_reference_has_the_published_totals(reference: Written) -> None:
    kinds = Counter(row["type"] for row in reference.activities)
    assert kinds == {"impression": 301_517, "redirect": 81_298}
    assert len(reference.activities) == 382_815
    assert len(reference.users) == 95_600
    assert len(reference.jobs) == 7_184


def test_the_reference_has_the_published_users(reference: Written) -> None:
    impressions = reference.count("impression", "user_id")
    redirects = reference.count("redirect", "user_id")
    assert len(impressions.keys() | redirects.keys()) == 17_229
    assert len(impressions) == 16_416
    assert len(redirects) == 11_562
    assert len(redirects.keys() - impressions.keys()) == 813
    assert [count for _, count in impressions.most_common(2)] == [3_038, 773]
    assert min(impressions.values()) == 1
    assert impressions.keys() | redirects.keys() <= reference.users.keys()


def test_the_reference_has_the_published_jobs(reference: Written) -> None:
    impressions = reference.count("impression", "job_id")
    redirects = reference.count("redirect", "job_id")
    active = impressions.keys() | redirects.keys()
    assert len(active) == 7_473
    assert len(active & reference.jobs.keys()) == 7_184
    assert len(redirects.keys() - impressions.keys()) == 22
    assert (min(impressions.values()), max(impressions.values())) == (1, 1_842)
    assert (min(redirects.values()), max(redirects.values())) == (1, 819)


def test_the_reference_has_the_published_pairs(reference: Written) -> None:
    impressions = reference.count("impression", "user_id", "job_id")
    redirects = reference.count("redirect", "user_id", "job_id")
    assert max(impressions.values()) == 181
    assert max(redirects.values()) == 31
    assert len(impressions.keys() | redirects.keys()) == pytest.approx(228_000, rel=0.03)


def test_the_summary_says_what_was_written(reference: Written, small: Written) -> None:
    for written in (reference, small):
        kinds = Counter(row["type"] for row in written.activities)
        expected = DemoSummary(
            users=len(written.users),
            jobs=len(written.jobs),
            impressions=kinds["impression"],
            redirects=kinds["redirect"],
            applies=kinds["apply"],
            active_users=len({row["user_id"] for row in written.activities}),
            active_jobs=len({row["job_id"] for row in written.activities}),
        )
        assert expected == written.summary


def test_people_keep_to_the_field_of_their_degree(reference: Written) -> None:
    redirects, chance = share_in_own_field(reference, "redirect")
    impressions, _ = share_in_own_field(reference, "impression")
    assert 0.75 < redirects < 0.9
    assert 0.6 < impressions < redirects
    assert chance < 0.15


def test_tastes_survive_in_a_small_set(small: Written) -> None:
    redirects, chance = share_in_own_field(small, "redirect")
    assert redirects > 4 * chance


def test_few_jobs_draw_most_of_the_attention(reference: Written) -> None:
    counts = sorted(reference.count("impression", "job_id").values(), reverse=True)
    assert sum(counts[: len(counts) // 10]) > 0.35 * sum(counts)


def test_ethnicity_and_gender_say_nothing_about_the_field(reference: Written) -> None:
    for attribute in ("ethnicity", "gender"):
        by_value: dict[str, Counter[str]] = defaultdict(Counter)
        for user in reference.users.values():
            by_value[user[attribute]][user["degree_subject_groups"][0]] += 1
        assert "prefer not to say" in by_value
        overall = sum(by_value.values(), Counter[str]())
        for fields in by_value.values():
            for name in FIELDS:
                expected = overall[name] / overall.total()
                assert fields[name] / fields.total() == pytest.approx(expected, abs=0.025)


def test_lines_are_in_the_order_of_time_and_before_the_end(
    reference: Written, small: Written
) -> None:
    for written in (reference, small):
        times = [row["timestamp"] for row in written.activities]
        assert all(isinstance(time, float) for time in times)
        assert sorted(times) == times
        assert (UNTIL - SPAN).timestamp() <= times[0]
        assert times[-1] < UNTIL.timestamp()


def test_activities_lie_within_the_time_a_job_is_open(reference: Written, small: Written) -> None:
    for written in (reference, small):
        spans = {
            job_id: (seconds(job["posted_at"]), seconds(job["closes_at"]))
            for job_id, job in written.jobs.items()
        }
        for row in written.activities:
            if row["job_id"] in spans:
                posted, closes = spans[row["job_id"]]
                assert posted <= row["timestamp"] <= closes


def test_a_third_of_the_jobs_has_closed_and_none_is_posted_later(reference: Written) -> None:
    end = UNTIL.timestamp()
    closes = [seconds(job["closes_at"]) for job in reference.jobs.values()]
    assert sum(at < end for at in closes) / len(closes) == pytest.approx(1 / 3, abs=0.03)
    assert max(closes) <= (UNTIL + SPAN).timestamp()
    assert all(seconds(job["posted_at"]) < end for job in reference.jobs.values())
    assert all(job["closes_at"].endswith("Z") for job in reference.jobs.values())


def test_a_redirect_follows_the_first_impression_of_its_pair(
    reference: Written, small: Written
) -> None:
    for written in (reference, small):
        seen = written.count("impression", "user_id", "job_id").keys()
        met: set[Pair] = set()
        for row in written.activities:
            pair = row["user_id"], row["job_id"]
            if row["type"] == "impression":
                met.add(pair)
            elif row["type"] == "redirect":
                assert pair in met or pair not in seen


def test_a_person_comes_on_few_days(reference: Written) -> None:
    days: dict[str, set[int]] = defaultdict(set)
    for row in reference.activities:
        days[row["user_id"]].add(int(row["timestamp"] // 86_400))
    busy = [user for user, count in reference.count("impression", "user_id").items() if count > 20]
    assert sum(len(days[user]) for user in busy) / len(busy) < 20


def test_applies_come_on_top_and_after_a_redirect_of_their_pair(small: Written) -> None:
    assert len(small.count("apply", "user_id", "job_id")) > 500
    redirected: set[Pair] = set()
    for row in small.activities:
        pair = row["user_id"], row["job_id"]
        if row["type"] == "redirect":
            redirected.add(pair)
        elif row["type"] == "apply":
            assert pair in redirected


def test_applies_leave_the_other_lines_alone(tmp_path: Path, small: Written) -> None:
    without = write_and_read(tmp_path, scale=0.05)
    assert [row for row in small.activities if row["type"] != "apply"] == without.activities
    assert (small.jobs, small.users) == (without.jobs, without.users)


def test_jobs_are_worded_in_their_field(reference: Written) -> None:
    for job in reference.jobs.values():
        field = field_of_title(job["title"])
        assert field is not None
        assert sum(duty in job["description"] for duty in FIELDS[field].duties) >= 3
        assert job["employer"] in job["description"]
        assert job["location"] in job["description"]
        assert 40 <= len(job["description"].split()) <= 90
    assert len({job["description"] for job in reference.jobs.values()}) > 7_000


def test_an_employer_has_one_field_mostly_and_sizes_differ(reference: Written) -> None:
    fields: dict[str, Counter[str | None]] = defaultdict(Counter)
    for job in reference.jobs.values():
        fields[job["employer"]][field_of_title(job["title"])] += 1
    mostly = sum(max(counts.values()) for counts in fields.values())
    assert mostly > 0.85 * len(reference.jobs)
    sizes = sorted(counts.total() for counts in fields.values())
    assert sizes[-1] > 10 * sizes[len(sizes) // 2]


def test_users_carry_every_field_in_its_type(reference: Written) -> None:
    expected = {
        "user_id": int,
        "ethnicity": str,
        "gender": str,
        "graduation_year": int,
        "school_type": str,
        "languages": list,
        "university": str,
        "degree_subject": str,
        "degree_subject_groups": list,
        "degree_subject_categories": list,
    }
    for user in reference.users.values():
        assert expected == {name: type(value) for name, value in user.items()}
        first = FIELDS[user["degree_subject_groups"][0]]
        assert user["degree_subject"] in first.subjects
        assert user["degree_subject_categories"][0] == first.category


def test_titles_tell_their_field_and_others_tell_none() -> None:
    for name, field in FIELDS.items():
        for title in field.titles:
            assert name == field_of_title(title)
            assert name == field_of_title(f"{title} - Leeds")
    assert field_of_title("Astronaut") is None
    assert field_of_title("") is None


def test_no_title_belongs_to_two_fields() -> None:
    titles = Counter(title for field in FIELDS.values() for title in field.titles)
    assert max(titles.values()) == 1


@pytest.mark.parametrize("scale", [MIN_SCALE, 0.002, 0.005, 0.01, 0.1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_tiny_set_is_consistent(tmp_path: Path, scale: float, seed: int) -> None:
    size = DemoSize.scaled(scale)
    written = write_and_read(tmp_path, scale=scale, seed=seed, applies=size.redirects)
    impressions = written.count("impression", "user_id")
    redirects = written.count("redirect", "user_id")
    seen_jobs = written.count("impression", "job_id")
    expected = (
        (size.impressions, size.redirects, size.redirects),
        (size.users, size.active_users, size.impression_users, size.redirect_users),
        (size.active_jobs, size.listed_jobs, size.redirect_only_jobs),
    )
    assert expected == (
        (impressions.total(), redirects.total(), written.count("apply", "job_id").total()),
        (
            len(written.users),
            len(impressions.keys() | redirects.keys()),
            len(impressions),
            len(redirects),
        ),
        (
            len({row["job_id"] for row in written.activities}),
            len(written.jobs),
            len(written.count("redirect", "job_id").keys() - seen_jobs.keys()),
        ),
    )


@pytest.mark.parametrize("scale", [0.05, 0.3])
def test_extremes_are_met_in_other_sizes(tmp_path: Path, scale: float) -> None:
    size = DemoSize.scaled(scale)
    written = write_and_read(tmp_path, scale=scale)
    people = [count for _, count in written.count("impression", "user_id").most_common(2)]
    assert [size.top_user_impressions, size.second_user_impressions] == people
    for top, kind, columns in [
        (size.top_job_impressions, "impression", ["job_id"]),
        (size.top_job_redirects, "redirect", ["job_id"]),
        (size.top_pair_impressions, "impression", ["user_id", "job_id"]),
        (size.top_pair_redirects, "redirect", ["user_id", "job_id"]),
    ]:
        assert top == max(written.count(kind, *columns).values())


def test_scale_one_is_the_reference() -> None:
    assert DemoSize.reference() == DemoSize.scaled(1.0)


def test_totals_grow_with_the_scale() -> None:
    full, large = DemoSize.reference(), DemoSize.scaled(26)
    assert large.impressions + large.redirects == 26 * 382_815 == 9_953_190
    assert large.users == 26 * full.users
    for name, value in asdict(full).items():
        assert value < getattr(large, name)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_demo(tmp_path / name, scale=0.05, seed=7, until=UNTIL)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_the_time_zone_of_the_end_does_not_matter(tmp_path: Path) -> None:
    elsewhere = UNTIL.astimezone(timezone(timedelta(hours=-9)))
    write_demo(tmp_path / "first", scale=0.01, until=UNTIL)
    write_demo(tmp_path / "second", scale=0.01, until=elsewhere)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_another_seed_gives_other_files(tmp_path: Path) -> None:
    for seed in (7, 8):
        write_demo(tmp_path / str(seed), scale=0.05, seed=seed, until=UNTIL)
    first, second = contents(tmp_path / "7"), contents(tmp_path / "8")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_progress_ends_at_the_number_of_lines(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    summary = write_demo(
        tmp_path,
        scale=0.3,
        until=UNTIL,
        on_progress=lambda done, total: reports.append((done, total)),
    )
    total = summary.impressions + summary.redirects + summary.jobs + summary.users
    assert reports[-1] == (total, total)
    assert sorted(reports) == reports
    assert len(reports) > 3


def test_the_folder_is_made_and_holds_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "where"
    write_demo(folder, scale=MIN_SCALE, until=UNTIL)
    assert sorted(path.name for path in folder.iterdir()) == FILES


@pytest.mark.parametrize("after", [1, 2, 3])
def test_interrupted_writing_leaves_no_file(tmp_path: Path, after: int) -> None:
    calls = 0

    def interrupt(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path, scale=0.01, until=UNTIL, on_progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_interrupted_writing_keeps_the_files_of_an_earlier_run(tmp_path: Path) -> None:
    write_demo(tmp_path, scale=0.01, until=UNTIL)
    before = contents(tmp_path)

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path, scale=0.02, until=UNTIL, on_progress=interrupt)
    assert before == contents(tmp_path)


@pytest.mark.parametrize("scale", [0.0, -1.0, MIN_SCALE / 2, MAX_SCALE * 2, float("nan")])
def test_a_scale_out_of_bounds_is_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(ValueError, match=rf"scale must be between .* got {scale}"):
        write_demo(tmp_path / "new", scale=scale, until=UNTIL)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("applies", [-1, 814])
def test_applies_beyond_the_redirects_are_refused(tmp_path: Path, applies: int) -> None:
    with pytest.raises(ValueError, match=rf"between 0 and the 813 redirects, got {applies}"):
        write_demo(tmp_path, scale=0.01, until=UNTIL, applies=applies)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        write_demo(tmp_path, scale=0.01, seed=-1, until=UNTIL)


@pytest.mark.parametrize(
    ("until", "complaint"),
    [
        (UNTIL.replace(tzinfo=None), "time zone"),
        (UNTIL.replace(year=1970), "the years"),
        (UNTIL.replace(year=9999), "the years"),
    ],
)
def test_an_unusable_end_is_refused(tmp_path: Path, until: datetime, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        write_demo(tmp_path, scale=0.01, until=until)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(ValueError, match="must be a directory"):
        write_demo(place, scale=0.01, until=UNTIL)
    assert place.read_text() == "mine"


def test_the_truth_names_the_fields_of_people_and_jobs(tmp_path: Path) -> None:
    write_demo(tmp_path, scale=0.01, until=UNTIL)
    tastes, report = read_tastes(tmp_path / "truth.jsonl", Tolerance(strict=True))
    assert report.read == len(tastes) == len(FIELDS)
    suits = {
        taste.name: (set(taste.user_ids.tolist()), set(taste.job_ids.tolist())) for taste in tastes
    }
    for row in map(json.loads, (tmp_path / "users.jsonl").read_bytes().splitlines()):
        own = {name for name, (people, _) in suits.items() if row["user_id"] in people}
        assert own == set(row["degree_subject_groups"])
    for row in map(json.loads, (tmp_path / "jobs.jsonl").read_bytes().splitlines()):
        fields = [name for name, (_, jobs) in suits.items() if row["job_id"] in jobs]
        assert fields == [field_of_title(row["title"])]
