from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.lmdb_catalog import LmdbCatalog
from domain.errors import CatalogUnavailable, InputError
from domain.model import Job, JobFilter, User
from domain.ports import Change
from tests.contracts import CatalogImportContract, ImportedCatalog, at, imported


@pytest.fixture
def store(tmp_path: Path) -> LmdbCatalog:
    return LmdbCatalog(tmp_path / "catalogue")


class TestCatalogImport(CatalogImportContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ImportedCatalog:
        return LmdbCatalog(tmp_path / "catalogue")


def test_the_map_grows_by_itself(tmp_path: Path) -> None:
    store = LmdbCatalog(tmp_path, map_bytes=1 << 18)

    changes = store.upsert_jobs([Job(id_, description="x" * 9_000) for id_ in range(200)])

    assert set(changes) == {Change.CREATED}
    assert len(store.jobs(range(200))) == 200


def test_what_is_withheld_is_not_told_though_it_is_stored(
    store: LmdbCatalog, tmp_path: Path
) -> None:
    store.upsert_users([User(1, 2027, "state", ("Welsh",), "Leeds", "Law", ("Law",), ("Arts",))])
    discreet = LmdbCatalog(tmp_path / "catalogue", withheld=frozenset({"school_type", "languages"}))
    expected = User(1, 2027, university="Leeds", degree_subject="Law")
    expected = replace(
        expected, degree_subject_groups=("Law",), degree_subject_categories=("Arts",)
    )
    assert discreet.users([1]) == {1: expected}


def test_it_tells_which_jobs_changed_unless_all_may_have(store: LmdbCatalog) -> None:
    store.upsert_jobs([Job(1), Job(2)])
    before = store.revision
    store.close_jobs([2])
    assert store.changed_since(before) == {2}
    assert imported(store, "a", Job(1, "one"))
    assert store.changed_since(before) is None


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


def test_compacting_is_refused_while_another_process_has_the_store_open(store: LmdbCatalog) -> None:
    store.upsert_jobs([Job(1)])
    folder = store._folder  # noqa: SLF001 - where the other process finds it
    script = (
        "import sys; from pathlib import Path; from adapters.lmdb_catalog import LmdbCatalog;"
        "store = LmdbCatalog(Path(sys.argv[1])); print(store.revision, flush=True);"
        "sys.stdin.read(); print(list(store.jobs([1])))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(InputError, match="another process uses the catalogue"):
            store.compact()
        told, _ = other.communicate()
    assert told == "[1]\n"
    store.compact()
    assert set(store.jobs([1])) == {1}


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
