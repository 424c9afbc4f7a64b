from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adapters.lmdb_catalog import LmdbCatalog
from application.importing import Importing, Source
from domain.errors import CatalogUnavailable, InputError
from domain.model import Job, JobFilter, User
from domain.ports import Change, ItemKind
from tests.contracts import at

BOTH = frozenset(ItemKind)


@pytest.fixture
def store(tmp_path: Path) -> LmdbCatalog:
    return LmdbCatalog(tmp_path / "catalogue")


def imported(store: LmdbCatalog, stamp: str, *items: Job | User, full: bool = True) -> bool:
    source = Source(stamp, BOTH, lambda: iter(items), list)
    return Importing(store).run(source, full=full).is_changed


def titles(store: LmdbCatalog) -> dict[int, str | None]:
    return {id_: job.title for id_, job in store.jobs(range(10)).items()}


def test_a_full_import_takes_the_place_of_the_one_before(store: LmdbCatalog) -> None:
    assert imported(store, "a", Job(1, "one"), Job(2, "two"), User(1))
    assert imported(store, "b", Job(2, "two"), Job(3, "three"), User(2))

    assert titles(store) == {2: "two", 3: "three"}
    assert set(store.users([1, 2])) == {2}
    assert store.counts([JobFilter(title="one"), JobFilter(title="three")]) == [0, 1]
    assert store.imported() == "b"


def test_the_same_again_changes_nothing(store: LmdbCatalog) -> None:
    imported(store, "a", Job(1, "first"), Job(1, "last"), User(1))
    before = store.revision

    assert not imported(store, "b", Job(1, "first"), Job(1, "last"), User(1))
    assert not imported(store, "c", Job(1, "last"), User(1), full=False)

    assert before == store.revision


def test_what_was_changed_stays_until_its_line_changes(store: LmdbCatalog) -> None:
    imported(store, "a", *(Job(id_, f"line {id_}") for id_ in range(1, 6)), User(1), User(2))
    store.upsert_jobs([Job(1, "edited"), Job(2, "edited"), Job(9, "added")])
    store.remove_jobs([3, 4])
    store.upsert_users([User(1, 2027)])

    lines = [Job(1, "line 1"), Job(2, "new"), Job(3, "line 3"), Job(4, "new"), Job(5, "line 5")]
    imported(store, "b", *lines, User(1), User(2))

    assert titles(store) == {1: "edited", 2: "new", 4: "new", 5: "line 5", 9: "added"}
    assert store.users([1])[1].graduation_year == 2027


@pytest.mark.parametrize("full", [True, False])
def test_no_import_brings_back_who_was_erased(store: LmdbCatalog, full: bool) -> None:
    imported(store, "a", User(1), User(2))
    store.erase_users([1, 3], at(1))

    imported(store, "b", User(1, 2030), User(2), User(3), full=full)

    assert set(store.users([1, 2, 3])) == {2}


def test_an_import_of_one_kind_leaves_the_other(store: LmdbCatalog) -> None:
    imported(store, "a", Job(1), User(1))
    jobs = Source("b", frozenset({ItemKind.JOBS}), lambda: iter([Job(2)]), list)

    Importing(store).run(jobs)

    assert set(store.jobs([1, 2])) == {2}
    assert set(store.users([1])) == {1}


def test_an_import_that_fails_changes_nothing_and_goes_on_later(store: LmdbCatalog) -> None:
    imported(store, "a", Job(1, "old"))

    def broken() -> Iterator[Job]:
        yield from (Job(id_, "new") for id_ in range(6_000))
        raise InputError("broken")

    with pytest.raises(InputError):
        Importing(store).run(Source("b", BOTH, broken, list))
    assert titles(store) == {1: "old"}

    whole = Source("b", BOTH, lambda: (Job(id_, "new") for id_ in range(6_001)), list)
    outcome = Importing(store).run(whole)
    assert (outcome.resumed, outcome.items) == (5_000, 6_001)
    assert store.counts([JobFilter(title="new")]) == [6_001]


def test_what_changes_during_an_import_outlives_it(store: LmdbCatalog) -> None:
    imported(store, "a", Job(1, "one"), Job(2, "two"), User(1))
    store.begin("b", BOTH, full=True)
    store.extend([Job(1, "one"), User(1)])
    store.close_jobs([1, 2])
    store.upsert_jobs([Job(3, "added")])
    store.erase_users([1], at(0))
    store.extend([Job(2, "two")])
    store.finish()

    assert titles(store) == {1: "one", 2: "two", 3: "added"}
    assert store.jobs([1, 2])[1].closed
    assert store.jobs([1, 2])[2].closed
    assert not store.users([1])


def test_the_map_grows_by_itself(tmp_path: Path) -> None:
    store = LmdbCatalog(tmp_path, map_bytes=1 << 18)

    changes = store.upsert_jobs([Job(id_, description="x" * 9_000) for id_ in range(200)])

    assert set(changes) == {Change.CREATED}
    assert len(store.jobs(range(200))) == 200


def test_a_backup_is_a_store_and_takes_no_one_elses_place(
    store: LmdbCatalog, tmp_path: Path
) -> None:
    store.upsert_jobs([Job(1, "one", description="text")])
    store.erase_users([5], at(2))
    store.backup(tmp_path / "backup")
    store.remove_jobs([1])

    restored = LmdbCatalog(tmp_path / "backup")

    assert restored.jobs([1])[1].description == "text"
    assert restored.erased_at(np.array([5])).tolist() == [at(2).timestamp()]
    with pytest.raises(InputError, match="not an empty folder"):
        store.backup(tmp_path / "backup")


def test_compacting_gives_space_back_and_keeps_what_is_there(store: LmdbCatalog) -> None:
    store.upsert_jobs([Job(id_, description="x" * 9_000) for id_ in range(100)])
    store.remove_jobs(range(1, 100))

    before, after = store.compact()

    assert after < before / 5
    assert set(store.jobs(range(100))) == {0}
    assert store.close_jobs([0]) == [Change.UPDATED]


def test_only_what_is_asked_for_is_returned(store: LmdbCatalog) -> None:
    store.upsert_jobs([Job(1, "one", description="text")])

    assert store.jobs([1, 2], frozenset({"id"})) == {1: Job(1)}
    assert store.jobs([1], frozenset({"title"})) == {1: Job(1, "one")}
    assert store.jobs([1], frozenset({"description"})) == {1: Job(1, description="text")}


def test_a_folder_that_cannot_be_made_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CatalogUnavailable):
        _ = LmdbCatalog(tmp_path / "file" / "catalogue").revision


def test_a_forked_process_opens_the_store_anew(store: LmdbCatalog) -> None:
    store.upsert_jobs([Job(1)])
    assert store.counts([JobFilter()]) == [1]
    child = multiprocessing.get_context("fork").Process(
        target=lambda: store.upsert_jobs([Job(2)]) and os._exit(len(store.jobs([1, 2])))
    )
    child.start()
    child.join()

    assert child.exitcode == 2
    assert store.counts([JobFilter()]) == [2]


_CHILD = """
import sys
from pathlib import Path
from adapters.lmdb_catalog import LmdbCatalog
from domain.model import Job, User
from domain.ports import ItemKind

store = LmdbCatalog(Path(sys.argv[1]), 1 << 20)
version = int(sys.argv[2])
print("ready", flush=True)
while True:
    version += 1
    taken = store.begin(str(version), frozenset(ItemKind), full=True)
    items = [Job(i, str(version), description="x" * 200) for i in range(400)]
    items += [User(i, version) for i in range(400)]
    for start in range(taken, 800, 100):
        store.extend(items[start : start + 100])
    store.finish()
    store.upsert_jobs([Job(100_000 + version)])
    print(version, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_an_import_leaves_the_old_or_the_new_and_all_acknowledged(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(7)
    acknowledged = 0
    for _ in range(30):
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path), str(acknowledged)],
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.uniform(0, 0.08))
            child.send_signal(signal.SIGKILL)
            lines = child.stdout.read().splitlines(keepends=True)
        acknowledged = max([acknowledged, *(int(line) for line in lines if line.endswith("\n"))])
        store = LmdbCatalog(tmp_path)
        jobs, users = store.jobs(range(400)), store.users(range(400))
        versions = {str(job.title) for job in jobs.values()} | {
            str(user.graduation_year) for user in users.values()
        }
        if jobs or users or acknowledged:
            assert (len(jobs), len(users), len(versions)) == (400, 400, 1)
            assert int(versions.pop()) >= acknowledged
        own = range(100_001, 100_001 + acknowledged)
        assert set(store.jobs(own)) == set(own)
    assert acknowledged > 0


def test_processes_see_each_others_changes_at_the_next_question(store: LmdbCatalog) -> None:
    store.upsert_jobs([Job(1), Job(2)])
    assert store.standing(np.array([1, 2]), at(0), None).open.tolist() == [True, True]
    script = (
        "import sys; from pathlib import Path; from adapters.lmdb_catalog import LmdbCatalog;"
        "LmdbCatalog(Path(sys.argv[1])).close_jobs([1])"
    )
    folder = store._folder  # noqa: SLF001 - where the other process finds it
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)

    assert store.standing(np.array([1, 2]), at(0), None).open.tolist() == [False, True]
