from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters import catalog_records
from adapters.catalog_records import hashed
from adapters.lmdb_catalog import LmdbCatalog, _View
from domain.errors import CatalogUnavailable, InputError
from domain.model import Job, JobFilter, User
from domain.ports import CatalogStore, Change, ItemKind
from tests.contracts import (
    CatalogImportContract,
    CatalogStoreContract,
    ImportedCatalog,
    at,
    imported,
)
from tests.processes import Script, script


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


_COMPACTING = """
import sys
from pathlib import Path
from adapters.lmdb_catalog import LmdbCatalog

store = LmdbCatalog(Path(sys.argv[1]), 1 << 20)
while True:
    store.compact()
    print("compacted", flush=True)
"""


@contextmanager
def compacting(folder: Path) -> Iterator[Script]:
    """Let another process compact a store all the time."""
    with script(_COMPACTING, folder) as other:
        assert other.lines.readline() == "compacted\n"
        yield other


@pytest.mark.slow
class TestCatalogStoreWhileItIsCompacted(CatalogStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[CatalogStore]:
        with compacting(tmp_path):
            yield LmdbCatalog(tmp_path)


@pytest.mark.slow
class TestCatalogImportWhileItIsCompacted(CatalogImportContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ImportedCatalog]:
        with compacting(tmp_path):
            yield LmdbCatalog(tmp_path)


@pytest.mark.slow
def test_nothing_is_lost_while_another_process_compacts_and_is_killed_at_any_moment(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(5)
    store = LmdbCatalog(tmp_path)
    added, places, changes = 0, set(), [0]
    store.upsert_jobs([Job(1_000_000 + id_, description="x" * 9_000) for id_ in range(300)])
    for _ in range(30):
        with compacting(tmp_path) as other:
            end = time.monotonic() + random.uniform(0, 0.08)
            while time.monotonic() < end:
                assert store.upsert_jobs([Job(added)]) == [Change.CREATED]
                added += 1
                assert store.counts([JobFilter()]) == [300 + added]
                changes.append(store.revision)
            other.kill()
        # Whoever was there all along and whoever comes now see the same
        places.add((tmp_path / "current").readlink())
        held = set(range(added)) | set(range(1_000_000, 1_000_300))
        assert set(store.jobs(list(held))) == held
        count = f"import sys; {_OPEN}; print(len(store.jobs(range({added}))))"
        with script(count, tmp_path) as newcomer:
            assert int(newcomer.lines.read()) == added
    assert changes == sorted(set(changes))
    assert len(places) > 20
    store.compact()
    assert len(list(tmp_path.glob("**/data.mdb"))) == 1


def test_nobody_waits_for_an_import_that_ends_and_what_they_change_meanwhile_stays(
    store: LmdbCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.upsert_jobs([Job(id_) for id_ in (7, 8)])
    store.begin("one", frozenset({ItemKind.JOBS}), full=True)
    store.extend([Job(id_) for id_ in (1, 2, 3)])
    looking = _View.own

    def changing(view: _View, kind: ItemKind, generation: int) -> list[int]:
        found = looking(view, kind, generation)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.remove_jobs, [1, 7]).result(10)
            pool.submit(store.upsert_jobs, [Job(2, "changed"), Job(9)]).result(10)
        return found

    monkeypatch.setattr(_View, "own", changing)
    assert store.finish()

    titles = {id_: job.title for id_, job in store.jobs(range(10)).items()}
    assert titles == {2: "changed", 3: None, 8: None, 9: None}
    assert store.counts([JobFilter()]) == [4]


def test_people_are_hashed_once_however_often_the_catalogue_changes(
    store: LmdbCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = 0

    def counting(user_id: int, key: bytes) -> bytes:
        nonlocal hashes
        hashes += 1
        return hashed(user_id, key)

    people = np.arange(3_000)
    store.erase_users([5], at(1))
    monkeypatch.setattr(catalog_records, "hashed", counting)
    for id_ in range(10):
        store.upsert_jobs([Job(id_)])
        assert np.flatnonzero(~np.isnan(store.erased_at(people))).tolist() == [5]

    assert hashes == 3_000


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


_OPEN = (
    "from pathlib import Path; from adapters.lmdb_catalog import LmdbCatalog;"
    "store = LmdbCatalog(Path(sys.argv[1]))"
)

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
        with script(_CHILD, tmp_path, str(acknowledged)) as child:
            child.lines.readline()
            time.sleep(random.uniform(0, 0.08))
            child.kill()
            lines = child.lines.read().splitlines(keepends=True)
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


def test_a_reader_that_was_killed_holds_nothing_up_once_another_process_comes(
    store: LmdbCatalog, tmp_path: Path
) -> None:
    texts = [Job(id_, description="x" * 9_000) for id_ in range(50)]
    store.upsert_jobs(texts)
    folder = tmp_path / "catalogue"
    source = (
        f"import sys; {_OPEN}\nwith store._reading() as view: print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.kill()

    def grown(changes: int) -> int:
        """Return by how much the file has grown after changes that need no more space."""
        before = (folder / "data.mdb").stat().st_size
        for _ in range(changes):
            store.remove_jobs(range(50))
            store.upsert_jobs(texts)
        return (folder / "data.mdb").stat().st_size - before

    assert grown(5) > 1 << 20
    subprocess.run(
        [sys.executable, "-c", f"import sys; {_OPEN}; store.revision", folder], check=True
    )
    grown(2)
    assert grown(5) == 0


def test_processes_see_each_others_changes_at_the_next_question(store: LmdbCatalog) -> None:
    store.upsert_jobs([Job(1), Job(2)])
    assert store.standing(np.array([1, 2]), at(0), None).open.tolist() == [True, True]
    source = (
        "import sys; from pathlib import Path; from adapters.lmdb_catalog import LmdbCatalog;"
        "LmdbCatalog(Path(sys.argv[1])).close_jobs([1])"
    )
    folder = store._folder  # noqa: SLF001 - where the other process finds it
    subprocess.run([sys.executable, "-c", source, str(folder)], check=True)

    assert store.standing(np.array([1, 2]), at(0), None).open.tolist() == [False, True]
