from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from domain.errors import JobrecError
from graphql_api.command_line import cli
from graphql_api.container import Container
from graphql_api.settings import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBREC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("JOBREC_STATE", str(tmp_path / "state"))
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "jobs.jsonl", *(job(id_) for id_ in range(1, 4)))
    write(tmp_path / "data" / "users.jsonl", {"user_id": 1}, {"user_id": 2})
    return tmp_path


def job(id_: int, title: str = "nurse") -> dict[str, object]:
    return {"job_id": id_, "title": title, "description": "text"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def run(*arguments: object, given: str = "") -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=given)
    if result.exception is not None:
        raise result.exception
    return result.output


def container_of() -> Container:
    return Container(settings=Settings())  # type: ignore[call-arg] # filled from the environment


def listed() -> set[int]:
    container = container_of()
    return set(container.catalog().jobs(range(10)))


def test_a_dataset_is_imported_and_again_changes_nothing() -> None:
    assert "5 items: the catalogue is changed" in run("import")
    assert "5 items: the catalogue is as it was" in run("import")
    assert listed() == {1, 2, 3}


def test_an_incremental_import_takes_nothing_out() -> None:
    run("import")

    told = run("import", "--incremental", "--jobs", "-", given=json.dumps(job(7)) + "\n")

    assert "1 items: the catalogue is changed" in told
    assert listed() == {1, 2, 3, 7}


def test_bad_lines_are_told_and_too_many_leave_all_as_it_was(folder: Path) -> None:
    run("import")
    bad = write(folder / "bad.jsonl", job(8), {"job_id": "x", "description": ""})

    with pytest.raises(JobrecError, match="1 of 2 lines are bad"):
        run("import", "--jobs", bad)
    assert listed() == {1, 2, 3}

    assert "bad.jsonl: read 2 = used 1 + rejected 1" in run(
        "import", "--jobs", bad, "--max-rejected", 0.5
    )
    assert listed() == {8}


def test_items_are_changed_from_the_command_line(folder: Path) -> None:
    run("import")
    jobs = write(folder / "more.jsonl", job(1), job(5))

    assert "1 unchanged, 1 created" in run("catalogue", "upsert-jobs", jobs)
    assert "1 updated, 1 missing" in run("catalogue", "close-jobs", 1, 9)
    assert "1 removed" in run("catalogue", "remove-jobs", 2)
    users = write(folder / "people.jsonl", {"user_id": 2, "university": "Leeds"})
    assert "1 updated" in run("catalogue", "upsert-users", users)
    assert "REMOVED at" in run("catalogue", "erase-user", 1)
    assert listed() == {1, 3, 5}


def test_an_erasure_destroys_what_was_recorded_beside_the_dataset(folder: Path) -> None:
    recorded = folder / "data" / "activities.live.jsonl"
    lines = [
        {"user_id": user, "job_id": 1, "type": "apply", "timestamp": 1_700_000_000.0}
        for user in (1, 12, 1)
    ]
    write(recorded, *lines)

    run("catalogue", "erase-user", 1)

    assert [json.loads(line) for line in recorded.read_text().split("\n") if line.strip()] == [
        lines[1]
    ]


def test_the_store_is_backed_up_and_compacted(folder: Path) -> None:
    run("import")

    assert "wrote" in run("catalogue", "backup", folder / "backup")
    assert "MB now" in run("catalogue", "compact")
    assert listed() == {1, 2, 3}


def test_a_catalogue_read_from_files_is_not_changed() -> None:
    with pytest.raises(JobrecError, match="read from the dataset"):
        run("import", "--catalog", "jsonl")


def test_following_imports_when_the_files_change(folder: Path) -> None:
    container = container_of()
    follow, catalog = container.follow_dataset(), container.catalog()
    follow(True)
    before = catalog.revision
    follow(False)
    assert before == catalog.revision

    write(folder / "data" / "jobs.jsonl", job(1, "cook"), job(9))
    follow(False)

    assert {id_: found.title for id_, found in catalog.jobs(range(10)).items()} == {
        1: "cook",
        9: "nurse",
    }
