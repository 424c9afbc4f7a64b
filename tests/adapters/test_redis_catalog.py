from __future__ import annotations

import itertools
import multiprocessing
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import redis

from adapters.redis_catalog import RedisAddress, RedisCatalog
from domain.errors import CatalogUnavailable, InputError
from domain.model import Job, JobFilter, User
from domain.ports import CatalogStore, Change
from tests.conftest import free_port
from tests.contracts import (
    BOTH,
    CatalogContract,
    CatalogImportContract,
    CatalogStoreContract,
    ImportedCatalog,
    at,
    imported,
    titles,
)
from tests.redis_server import RedisServer

# A real server takes its time
pytestmark = pytest.mark.slow

EVERYTHING = JobFilter()

_prefixes = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a redis-server that nobody stops."""
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    yield running
    running.stop()


@pytest.fixture
def address(server: RedisServer) -> RedisAddress:
    """Return an address under which nothing is kept so far."""
    return RedisAddress(server.url, prefix=f"test{next(_prefixes)}")


@pytest.fixture
def store(address: RedisAddress) -> RedisCatalog:
    return RedisCatalog(address)


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a redis-server that keeps what it acknowledged, and may be killed."""
    running = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield running
    running.stop()


def test_what_is_withheld_is_not_told_though_it_is_stored(address: RedisAddress) -> None:
    RedisCatalog(address).upsert_users([User(1, 2027, "state", university="Leeds")])
    discreet = RedisCatalog(address, withheld=frozenset({"school_type", "graduation_year"}))
    assert discreet.users([1]) == {1: User(1, university="Leeds")}


class Editable:
    def __init__(self, catalog: RedisCatalog, jobs: Sequence[Job], users: Sequence[User]) -> None:
        self.catalog = catalog
        catalog.upsert_users(users)
        self.replace(jobs)

    def replace(self, jobs: object) -> None:
        wanted = list(jobs)  # type: ignore[call-overload] # the protocol's iterable
        held = self.catalog.page(EVERYTHING, None, None, 1_000).jobs
        self.catalog.remove_jobs([job.id for job in held])
        self.catalog.upsert_jobs(wanted)


class TestCatalog(CatalogContract):
    @pytest.fixture(autouse=True)
    def _address(self, address: RedisAddress) -> None:
        self.address = address

    def editable(self, jobs: Sequence[Job], users: Sequence[User] = ()) -> Editable:
        address = replace(self.address, prefix=f"{self.address.prefix}-{next(_prefixes)}")
        return Editable(RedisCatalog(address), jobs, users)


class TestCatalogStore(CatalogStoreContract):
    @pytest.fixture
    def store(self, address: RedisAddress) -> CatalogStore:
        return RedisCatalog(address)


class TestCatalogImport(CatalogImportContract):
    @pytest.fixture
    def store(self, address: RedisAddress) -> ImportedCatalog:
        return RedisCatalog(address)


def test_what_an_import_leaves_behind_is_removed(
    store: RedisCatalog, server: RedisServer, address: RedisAddress
) -> None:
    for stamp in "abc":
        imported(store, stamp, Job(1, stamp), User(1))
    store.begin("left", BOTH, full=True)
    store.extend([Job(1, "never live")])
    store.begin("d", BOTH, full=True)
    store.extend([Job(1, "d")])
    store.finish()

    with redis.Redis(port=server.port, decode_responses=True) as client:
        kept = {str(key).split(":", 1)[1] for key in client.scan_iter(f"{address.prefix}:*")}
    generations = {key.rsplit(":", 1)[1] for key in kept if ":" in key}
    assert len(generations) == 1, kept


def test_an_import_that_another_took_over_does_not_go_on(address: RedisAddress) -> None:
    first, second = RedisCatalog(address), RedisCatalog(address)
    first.begin("a", BOTH, full=True)
    first.extend([Job(1, "first")])
    assert second.begin("a", BOTH, full=True) == 1

    with pytest.raises(CatalogUnavailable, match="ended by another"):
        first.extend([Job(2, "first")])
    second.extend([Job(2, "second")])
    second.finish()
    assert titles(first) == {1: "first", 2: "second"}


def test_one_imports_at_a_time_on_all_hosts(address: RedisAddress) -> None:
    first, second = RedisCatalog(address), RedisCatalog(address)
    with first.importing(wait=True) as is_ours, second.importing(wait=False) as is_theirs:
        assert (is_ours, is_theirs) == (True, False)
    with second.importing(wait=False) as is_theirs:
        assert is_theirs


# Several processes


def test_clients_see_each_others_changes_at_the_next_question(address: RedisAddress) -> None:
    one, other = RedisCatalog(address), RedisCatalog(address)
    one.upsert_jobs([Job(1, "a"), Job(2, "b")])
    one.upsert_users([User(7)])
    assert other.standing(np.array([1, 2]), at(0), None).open.tolist() == [True, True]

    one.close_jobs([1])
    assert other.standing(np.array([1, 2]), at(0), None).open.tolist() == [False, True]
    one.erase_users([7], at(5))
    assert other.erased_at(np.array([7])).tolist() == [at(5).timestamp()]
    one.upsert_jobs([Job(3, "c")])
    one.remove_jobs([2])
    page = other.page(EVERYTHING, None, None, 5)
    assert [job.title for job in page.jobs] == ["a", "c"]
    one.upsert_users([User(7)])
    assert np.isnan(other.erased_at(np.array([7])))[0]
    assert one.revision == other.revision


def test_who_missed_more_changes_than_are_kept_begins_anew(address: RedisAddress) -> None:
    one, other = RedisCatalog(address), RedisCatalog(address)
    one.upsert_jobs([Job(id_) for id_ in range(11_000)])
    assert other.counts([EVERYTHING]) == [11_000]

    one.upsert_jobs([Job(id_, "new") for id_ in range(10_500)])
    assert other.counts([JobFilter(title="new")]) == [10_500]
    for id_ in range(1_100):
        one.upsert_jobs([Job(id_, "newest")])
    assert other.counts([JobFilter(title="newest")]) == [1_100]


def test_catalogues_under_other_prefixes_are_others(server: RedisServer) -> None:
    one, other = (RedisCatalog(RedisAddress(server.url, prefix=name)) for name in ("x", "y"))
    one.upsert_jobs([Job(1)])

    assert not other.jobs([1])


def test_only_what_is_asked_for_is_returned(store: RedisCatalog) -> None:
    store.upsert_jobs([Job(1, "one", description="text")])

    assert store.jobs([1, 2], frozenset({"id"})) == {1: Job(1)}
    assert store.jobs([1], frozenset({"title"})) == {1: Job(1, "one")}
    assert store.jobs([1], frozenset({"description"})) == {1: Job(1, description="text")}


def test_the_largest_ids_are_kept_exactly(store: RedisCatalog) -> None:
    largest = 2**63 - 1
    store.upsert_jobs([Job(largest, "a"), Job(largest - 1, "b")])
    store.close_jobs([largest])

    assert set(store.jobs([largest, largest - 1, largest - 2])) == {largest, largest - 1}
    open_ = store.standing(np.array([largest - 1, largest]), at(0), None).open
    assert open_.tolist() == [True, False]


# Outages


def test_while_the_server_is_away_what_is_known_is_answered_on(durable: RedisServer) -> None:
    store = RedisCatalog(RedisAddress(durable.url))
    store.upsert_jobs([Job(1, "one", "Ward"), Job(2, "two")])
    store.close_jobs([2])
    store.erase_users([5], at(1))
    revision = store.revision
    durable.stop()

    assert revision == store.revision
    assert store.standing(np.array([1, 2]), at(0), None).open.tolist() == [True, False]
    assert store.employers(np.array([1, 2]), {})[0] >= 0
    assert store.absent(np.array([2]), at(0), 5).tolist() == [1]
    assert store.erased_at(np.array([5, 6]))[0] == at(1).timestamp()
    for ask in (
        lambda: store.jobs([1]),
        lambda: store.users([1]),
        lambda: store.coverage(np.array([1])),
        lambda: store.page(EVERYTHING, None, None, 5),
        lambda: store.close_jobs([1]),
        store.imported,
    ):
        with pytest.raises(CatalogUnavailable, match="does not answer"):
            ask()

    durable.start()
    wait_for(lambda: is_back(store), 2)
    assert titles(store) == {1: "one", 2: "two"}
    assert store.close_jobs([1]) == [Change.UPDATED]


def test_a_process_that_never_saw_the_server_says_so() -> None:
    store = RedisCatalog(RedisAddress(f"redis://127.0.0.1:{free_port()}/0"))

    with pytest.raises(CatalogUnavailable, match="does not answer"):
        store.standing(np.array([1]), at(0), None)


def test_a_server_that_lost_everything_is_not_taken_for_an_empty_one(
    store: RedisCatalog, server: RedisServer, address: RedisAddress
) -> None:
    imported(store, "a", Job(1, "one"), User(1), User(2))
    store.close_jobs([1])
    store.erase_users([2], at(1))
    revision = store.revision
    with redis.Redis(port=server.port) as client:
        client.delete(*client.scan_iter(f"{address.prefix}:*"))

    assert revision == store.revision
    assert store.standing(np.array([1]), at(0), None).listed.tolist() == [True]
    for ask in (lambda: store.jobs([1]), lambda: store.upsert_jobs([Job(2)])):
        with pytest.raises(CatalogUnavailable, match="does not hold the catalogue any more"):
            ask()

    assert store.imported() is None
    imported(store, "a", Job(1, "one"), User(1), User(2))
    assert titles(store) == {1: "one"}
    assert revision != store.revision
    # Nobody who was erased comes back with the files
    assert set(store.users([1, 2])) == {1}
    assert RedisCatalog(address).erased_at(np.array([2])).tolist() == [at(1).timestamp()]


def test_a_process_that_starts_after_the_loss_knows_the_erasures_of_its_host(
    server: RedisServer, address: RedisAddress, tmp_path: Path
) -> None:
    kept = tmp_path / "state" / "erasures"
    first, second = (RedisCatalog(address, kept) for _ in range(2))
    imported(first, "a", Job(1, "one"), User(1), User(2), User(3))
    assert set(second.users([1, 2, 3])) == {1, 2, 3}
    first.erase_users([2, 3], at(1))
    second.upsert_users([User(3)])
    assert np.isnan(second.erased_at(np.array([3])))[0]
    assert kept.stat().st_mode & 0o777 == 0o600
    with redis.Redis(port=server.port) as client:
        client.delete(*client.scan_iter(f"{address.prefix}:*"))

    fresh = RedisCatalog(address, kept)
    # Nothing else makes a catalogue that knows of nobody
    with pytest.raises(CatalogUnavailable, match="does not hold the catalogue any more"):
        fresh.upsert_users([User(2)])
    imported(fresh, "a", Job(1, "one"), User(1), User(2), User(3))

    assert set(fresh.users([1, 2, 3])) == {1, 3}
    elsewhere = RedisCatalog(address)
    assert elsewhere.erased_at(np.array([2])).tolist() == [at(1).timestamp()]
    assert np.isnan(elsewhere.erased_at(np.array([1, 3]))).all()
    elsewhere.upsert_users([User(2)])
    assert np.isnan(fresh.erased_at(np.array([2])))[0]
    assert RedisCatalog(address, kept).upsert_jobs([Job(2)]) == [Change.CREATED]

    kept.write_bytes(b"?")
    with pytest.raises(InputError, match="cannot be read"):
        RedisCatalog(address, kept)


def test_a_host_says_when_its_erasures_are_of_another_catalogue(
    server: RedisServer, address: RedisAddress, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    RedisCatalog(address, tmp_path / "erasures").erase_users([1, 2], at(1))
    with redis.Redis(port=server.port) as client:
        client.delete(*client.scan_iter(f"{address.prefix}:*"))
    imported(RedisCatalog(address), "b", User(1))

    assert np.isnan(RedisCatalog(address, tmp_path / "erasures").erased_at(np.array([1])))[0]

    assert "made anew without the 2 erasures known here" in caplog.text


def test_a_server_that_lost_its_last_changes_is_noticed(
    server: RedisServer, address: RedisAddress
) -> None:
    store, other = RedisCatalog(address), RedisCatalog(address)
    store.upsert_jobs([Job(1, "old")])
    with redis.Redis(port=server.port) as client:
        kept = {key: client.dump(key) for key in client.scan_iter(f"{address.prefix}:*")}
        store.upsert_jobs([Job(1, "lost")])
        assert store.counts([JobFilter(title="lost")]) == [1]
        for key, value in kept.items():
            client.restore(key, 0, value, replace=True)

    other.upsert_jobs([Job(2, "after it")])

    titles_ = [JobFilter(title=title) for title in ("old", "lost", "after it")]
    assert store.counts(titles_) == [1, 0, 1]


def test_a_refusal_is_told_and_is_no_outage(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    try:
        store = RedisCatalog(RedisAddress(server.url))
        store.upsert_jobs([Job(1, "one")])
        with redis.Redis(port=server.port) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(CatalogUnavailable, match=r"refuses: .*memory"):
                store.upsert_jobs([Job(2, "two")])
        assert titles(store) == {1: "one"}
    finally:
        server.stop()


@pytest.mark.parametrize("fate", ["wrong", "away"])
def test_no_message_holds_the_password(fate: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path) if fate == "wrong" else None
    port = free_port() if server is None else server.port
    address = RedisAddress(f"redis://me:hunter2%2F@127.0.0.1:{port}/0")
    try:
        with pytest.raises(CatalogUnavailable) as caught:
            RedisCatalog(address).jobs([1])
    finally:
        if server is not None:
            server.stop()

    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in repr(error)
        error = error.__cause__ or error.__context__
    assert "hunter2" not in repr(address)
    assert "127.0.0.1" in str(caught.value)


def test_a_server_is_trusted_by_the_authority_that_was_named(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    server = RedisServer(
        *(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(certificate)),
    )
    url = f"rediss://127.0.0.1:{port}/0"
    try:
        store = RedisCatalog(RedisAddress(url, ca=certificate))
        assert store.upsert_jobs([Job(1, "one")]) == [Change.CREATED]
        assert titles(store) == {1: "one"}
        with pytest.raises(CatalogUnavailable, match="certificate verify failed"):
            RedisCatalog(RedisAddress(url)).jobs([1])
    finally:
        server.stop()


@pytest.mark.slow
def test_killed_and_restarted_under_load_it_answers_what_it_knows_and_then_all(
    durable: RedisServer,
) -> None:
    store = RedisCatalog(RedisAddress(durable.url))
    store.upsert_jobs([Job(id_, "open" if id_ % 2 else "shut") for id_ in range(400)])
    store.close_jobs(range(0, 400, 2))
    ids, stop = np.arange(400), threading.Event()
    wrong: list[object] = []
    outcomes: list[bool] = []

    def load() -> None:
        while not stop.is_set():
            standing = store.standing(ids, at(0), None)
            if standing.open.sum() != 200 or standing.open[0]:
                wrong.append(standing)
            try:
                found = store.jobs(range(400))
            except CatalogUnavailable:
                outcomes.append(False)
            else:
                outcomes.append(True)
                if len(found) != 400 or not found[0].closed:
                    wrong.append(found)

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            wait_for(lambda: outcomes[-1:] == [True])
            durable.stop()
            wait_for(lambda: not outcomes[-1])
            durable.start()
            wait_for(lambda: outcomes[-1], 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert not wrong
    assert set(outcomes) == {True, False}
    assert store.upsert_jobs([Job(1, "open")]) == [Change.UNCHANGED]


@pytest.mark.slow
def test_a_server_that_hangs_is_away_until_it_goes_on(server: RedisServer) -> None:
    store = RedisCatalog(RedisAddress(server.url, prefix="hanging", answer_seconds=0.2))
    store.upsert_jobs([Job(1)])
    assert store.counts([EVERYTHING]) == [1]
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(CatalogUnavailable, match="does not answer"):
            store.jobs([1])
        for _ in range(1_000):
            assert store.standing(np.array([1]), at(0), None).listed.tolist() == [True]
    finally:
        server.process.send_signal(signal.SIGCONT)
    wait_for(lambda: is_back(store))


def import_on_and_on(url: str, version: int, told: Connection) -> None:
    """Import one version after the other, and tell of each that is acknowledged."""
    store = RedisCatalog(RedisAddress(url))
    while True:
        version += 1
        taken = store.begin(str(version), BOTH, full=True)
        items: list[Job | User] = [
            Job(id_, str(version), description="x" * 200) for id_ in range(400)
        ]
        items += [User(id_, version) for id_ in range(400)]
        for start in range(taken, 800, 100):
            store.extend(items[start : start + 100])
        store.finish()
        store.upsert_jobs([Job(100_000 + version)])
        told.send(version)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["importer", "server"])
def test_killed_at_any_moment_an_import_leaves_the_old_or_the_new_and_all_acknowledged(
    victim: str, durable: RedisServer
) -> None:
    random = np.random.default_rng(7)
    fork = multiprocessing.get_context("fork")
    acknowledged, usual = 0, 0.0
    for moment in range(31):
        hears, tells = fork.Pipe(duplex=False)
        child = fork.Process(target=import_on_and_on, args=(durable.url, acknowledged, tells))
        begun = time.monotonic()
        child.start()
        tells.close()
        if moment == 0:
            # How long an import takes tells within what time the moments lie
            acknowledged = hears.recv()
            usual = time.monotonic() - begun
        else:
            time.sleep(random.uniform(0, max(0.15, 2 * usual)))
        if victim == "server":
            durable.stop()
        child.kill()
        child.join()
        with suppress(EOFError):
            while True:
                acknowledged = hears.recv()
        if victim == "server":
            durable.start()
        store = RedisCatalog(RedisAddress(durable.url))
        jobs, users = store.jobs(range(400)), store.users(range(400))
        versions = {str(job.title) for job in jobs.values()} | {
            str(user.graduation_year) for user in users.values()
        }
        if jobs or users or acknowledged:
            assert (len(jobs), len(users), len(versions)) == (400, 400, 1)
            version = versions.pop()
            assert int(version) >= acknowledged
            assert store.counts([JobFilter(title=version)]) == [400]
        own = range(100_001, 100_001 + acknowledged)
        assert set(store.jobs(own)) == set(own)
    assert acknowledged > 1


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something holds that others bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def is_back(store: RedisCatalog) -> bool:
    try:
        store.jobs([1])
    except CatalogUnavailable:
        return False
    return True
