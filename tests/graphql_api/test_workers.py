"""Two serving processes are one service: the same runs, the same model, the same counts."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from graphql_api.forking import CAN_FORK
from tests.conftest import NewState, Service, jobrec, serving
from tests.graphql_api.test_service import ONE_RUN, RETRAIN, ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux who answers"),
]

SWAP_SECONDS = 1.0
"""Within this time every worker follows a promotion."""
SLACK_SECONDS = 0.5
"""What a busy machine may add to it."""

LISTS = "model { version } items { job { id } }"
LOAD = f"""query ($user: ID!, $users: [ID!]!) {{
    model {{ version }}
    recommendations(userId: $user) {{ {LISTS} }}
    batchRecommendations(userIds: $users) {{ {LISTS} }} }}"""
VERSION = "{ model { version } }"
SHOWN = """query ($job: ID!) {
    known: recommendations(userId: 1, first: 20) { items { source job { id } } }
    unknown: recommendations(userId: 987654321, first: 20) { items { source job { id } } }
    visitor: sessionRecommendations(activities: [{jobId: $job, kind: REDIRECT}], first: 20) {
      items { source job { id } } }
    similar: similarJobs(jobId: $job, first: 20) { items { job { id } } }
    job(id: $job) { similar(first: 20) { items { job { id } } } } }"""
DESCRIBED = """query ($ids: [ID!]) { jobs(ids: $ids) { edges { node {
    id title employer { name } location description postedAt closesAt isOpen } } } }"""
OUTCOMES = "... on CatalogueChanged { outcomes { change } }"
CLOSE = f"mutation ($ids: [ID!]!) {{ it: closeJobs(input: {{ids: $ids}}) {{ {OUTCOMES} }} }}"
REMOVE = f"mutation ($ids: [ID!]!) {{ it: removeJobs(input: {{ids: $ids}}) {{ {OUTCOMES} }} }}"
UPSERT = f"""mutation ($jobs: [JobInput!]!) {{
    it: upsertJobs(input: {{jobs: $jobs}}) {{ {OUTCOMES} }} }}"""


class Worker:
    """One of the serving processes, asked over connections that it alone accepted.

    Both listen on one socket, so who answers is known only once a connection is accepted.
    """

    def __init__(self, service: Service, process_id: int) -> None:
        self._service = service
        self._address = ("127.0.0.1", int(service.url.rpartition(":")[2]))
        self.process_id = process_id

    def __repr__(self) -> str:
        return f"worker {self.process_id}"

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPConnection]:
        """Hold a connection to this process."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(*self._address, timeout=30)
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                if self._accepted(connection):
                    yield connection
                    return
            finally:
                connection.close()
        pytest.fail(f"{self} accepted no connection within 20 s")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Send one operation as an admin and return its data."""
        with self.connected() as connection:
            return self.ask_over(connection, query, **variables)

    def ask_over(
        self, connection: http.client.HTTPConnection, query: str, **variables: Any
    ) -> dict[str, Any]:
        """Send one operation as an admin over a connection and return its data."""
        body = json.dumps({"query": query, "variables": variables})
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self._service.admin_token}",
        }
        connection.request("POST", "/graphql", body, headers)
        answer = json.loads(connection.getresponse().read())
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def counted(self, operation: str) -> dict[str, float]:
        """Return how many of an operation this worker's `/metrics` counts, by outcome."""
        with self.connected() as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        pattern = rf'jobrec_requests_total{{operation="{operation}",outcome="(\w+)"}} (\S+)'
        return {outcome: float(count) for outcome, count in re.findall(pattern, text)}

    def _accepted(self, connection: http.client.HTTPConnection) -> bool:
        server, client = (
            f"0100007F:{port:04X}" for port in (self._address[1], connection.sock.getsockname()[1])
        )
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # The kernel may tell a row twice while others come and go
        (inode,) = {row[9] for row in rows if (row[1], row[2]) == (server, client)}
        return f"socket:[{inode}]" in _open_files(self.process_id)


def _open_files(process_id: int) -> set[str]:
    """Return what a process has open; nothing where it has ended."""
    found = set()
    try:
        for path in Path(f"/proc/{process_id}/fd").iterdir():
            try:
                found.add(str(path.readlink()))
            except FileNotFoundError:
                continue  # closed meanwhile
    except OSError:
        return set()
    return found


def workers_of(service: Service) -> list[Worker]:
    """Return the serving processes: the children of `serve` that hold its listening socket."""
    own = service.process.pid
    children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
    listening = _listening(service)
    return [Worker(service, int(pid)) for pid in children if listening in _open_files(int(pid))]


def _listening(service: Service) -> str:
    port = int(service.url.rpartition(":")[2])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        row = line.split()
        if (row[1], row[3]) == (f"0100007F:{port:04X}", "0A"):
            return f"socket:[{row[9]}]"
    pytest.fail(f"nobody listens on port {port}")


@pytest.fixture(scope="module")
def two(demo_data: Path, new_state: NewState) -> Iterator[Service]:
    with serving(demo_data, new_state(), "--workers", "2") as service:
        yield service


@pytest.fixture
def workers(two: Service) -> list[Worker]:
    found = workers_of(two)
    assert len(found) == 2
    return found


@dataclass
class Load:
    """What clients saw who kept asking."""

    answers: int = 0
    versions: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def ask(self, service: Service, user: int) -> None:
        """Send one request over a new connection and judge the answer."""
        try:
            answer = service.post(LOAD, user=user, users=[user + 1, user + 2])
        except Exception as error:  # noqa: BLE001 - whatever it is, the request failed
            self.wrong.append(repr(error))
            return
        self.answers += 1
        if "errors" in answer:
            self.wrong.append(str(answer["errors"]))
            return
        data = answer["data"]
        lists = [data["recommendations"], *data["batchRecommendations"]]
        named = {data["model"]["version"], *(list_["model"]["version"] for list_ in lists)}
        self.versions |= named
        if len(named) != 1:
            self.wrong.append(f"one answer names {named}")
        if not all(list_["items"] for list_ in lists):
            self.wrong.append("a list is empty")


@contextmanager
def light_load(service: Service, clients: int = 2) -> Iterator[Load]:
    """Let clients ask again and again until the block ends."""
    load, stopping = Load(), threading.Event()

    def keep_asking(client: int) -> None:
        user = client
        while not stopping.wait(0.02):
            load.ask(service, 1 + user % 500)
            user += 7

    threads = [threading.Thread(target=keep_asking, args=[client]) for client in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def together(*calls: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """Make calls at once, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def call(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def retrain_at_once(workers: list[Worker], **options: Any) -> list[dict[str, Any]]:
    """Ask every worker for a retrain at the same moment."""
    with workers[0].connected() as first, workers[1].connected() as second:
        answers = together(
            lambda: workers[0].ask_over(first, RETRAIN, input=options),
            lambda: workers[1].ask_over(second, RETRAIN, input=options),
        )
    return [answer["retrain"] for answer in answers]


def test_retraining_under_load_fails_no_request_and_mixes_no_versions(two: Service) -> None:
    workers = workers_of(two)
    trained = [two.data_of(VERSION)["model"]["version"]]
    with light_load(two) as load:
        for number in range(3):
            begun = two.data_of(RETRAIN, admin=True, input={"note": f"run {number}"})["retrain"]
            assert begun["__typename"] == "RetrainAccepted"
            run = ended(two, begun["run"]["id"])
            known_at = time.monotonic()
            assert (run["status"], run["promoted"]) == ("SUCCEEDED", True)
            version = run["model"]["version"]
            for worker in workers:
                while (live := worker.ask(VERSION)["model"]["version"]) != version:
                    waited = time.monotonic() - known_at
                    assert live == trained[-1]
                    assert waited < SWAP_SECONDS + SLACK_SECONDS, f"{worker} answers from {live}"
                    time.sleep(0.02)
            trained.append(version)
    assert load.wrong == []
    assert load.answers > 50
    assert load.versions <= set(trained)
    assert len(load.versions) > 1


def test_two_retrains_at_once_from_two_workers_are_one_run(
    two: Service, workers: list[Worker]
) -> None:
    for number in range(5):
        answers = retrain_at_once(workers, note=f"at once {number}")
        kinds = sorted(answer["__typename"] for answer in answers)
        assert kinds == ["RetrainAccepted", "TrainingInProgress"], answers
        assert {answer["run"]["id"] for answer in answers} == {answers[0]["run"]["id"]}
        assert [answer["replayed"] for answer in answers if "replayed" in answer] == [False]
        assert ended(two, answers[0]["run"]["id"])["status"] == "SUCCEEDED"


def test_one_key_at_once_from_two_workers_is_one_run_and_one_replay(
    two: Service, workers: list[Worker]
) -> None:
    for number in range(3):
        answers = retrain_at_once(workers, idempotencyKey=f"at once {number}")
        assert [answer["__typename"] for answer in answers] == ["RetrainAccepted"] * 2, answers
        assert sorted(answer["replayed"] for answer in answers) == [False, True]
        assert answers[0]["run"]["id"] == answers[1]["run"]["id"]
        other = workers[number % 2].ask(
            RETRAIN, input={"idempotencyKey": f"at once {number}", "note": "another"}
        )
        assert other["retrain"]["__typename"] == "IdempotencyKeyReused"
        assert ended(two, answers[0]["run"]["id"])["status"] == "SUCCEEDED"


def test_counts_add_up_over_the_workers_and_each_tells_the_whole(workers: list[Worker]) -> None:
    before = workers[0].counted("similarJobs")
    for worker, times in zip(workers, (7, 5), strict=True):
        for job in range(1, times + 1):
            worker.ask(f"{{ similarJobs(jobId: {job}) {{ job {{ id }} }} }}")
    expected = {"OK": before.get("OK", 0) + 12}
    assert [worker.counted("similarJobs") for worker in (*workers, *workers)] == [expected] * 4


def test_counts_stay_when_a_worker_dies(demo_data: Path, new_state: NewState) -> None:
    with serving(demo_data, new_state(), "--workers", "2") as service:
        victim, other = workers_of(service)
        for job in range(1, 5):
            victim.ask(f"{{ similarJobs(jobId: {job}) {{ job {{ id }} }} }}")
        os.kill(victim.process_id, 9)
        deadline = time.monotonic() + 20
        while len(alive := {worker.process_id for worker in workers_of(service)}) < 2 or (
            victim.process_id in alive
        ):
            assert time.monotonic() < deadline, f"only {alive} serve 20 s after the kill"
            time.sleep(0.05)
        assert other.process_id in alive
        for worker in workers_of(service):
            assert worker.counted("similarJobs") == {"OK": 4}
        answers = [worker.ask(SHOWN, job="1") for worker in workers_of(service)]
        assert answers[0] == answers[1]


@pytest.mark.skipif(not CAN_FORK, reason="workers are not forked here")
def test_what_forks_workers_has_one_thread_and_nothing_of_the_stores(
    two: Service, workers: list[Worker]
) -> None:
    supervisor = two.process.pid
    stores = f"{two.state}/", f"{two.data}/"
    opened = _open_files(supervisor)
    mapped = Path(f"/proc/{supervisor}/maps").read_text()
    assert [path for path in opened if path.startswith(stores)] == []
    assert [folder for folder in stores if folder in mapped] == []
    assert len(list(Path(f"/proc/{supervisor}/task").iterdir())) == 1
    for worker in workers:
        worker.ask(VERSION)
        # In the folder to which it was compacted last, if it was
        held = [Path(path) for path in _open_files(worker.process_id)]
        catalogue = two.state / "catalogue"
        assert [path for path in held if path.name == "lock.mdb" and catalogue in path.parents]


def test_a_hangup_exchanges_all_workers_while_they_answer(
    demo_data: Path, new_state: NewState
) -> None:
    with serving(demo_data, new_state(), "--workers", "2") as service:
        before = {worker.process_id for worker in workers_of(service)}
        with light_load(service) as load:
            service.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while len(after := {worker.process_id for worker in workers_of(service)}) != 2 or (
                after & before
            ):
                assert time.monotonic() < deadline, f"{after & before} serve 30 s after SIGHUP"
                time.sleep(0.05)
    # The server cuts what has just been opened to a worker that leaves, before anything is read
    cut = ("ReadError", "RemoteProtocolError")
    assert [wrong for wrong in load.wrong if not wrong.startswith(cut)] == []
    assert len(load.wrong) <= len(before)
    assert load.answers


def test_runs_are_known_after_a_restart_to_every_worker(
    demo_data: Path, new_state: NewState
) -> None:
    listed, state = "{ trainingRuns { id status note phase } }", new_state()
    with serving(demo_data, state, "--workers", "2") as service:
        begun = service.data_of(RETRAIN, admin=True, input={"note": "kept"})["retrain"]
        run = ended(service, begun["run"]["id"])
        runs = service.data_of(listed, admin=True)["trainingRuns"]
    assert [known["note"] for known in runs] == ["kept", None]
    with serving(demo_data, state, "--workers", "2") as service:
        for worker in workers_of(service):
            assert worker.ask(ONE_RUN, id=run["id"])["trainingRun"] == run
            assert worker.ask(listed)["trainingRuns"] == runs
            assert worker.ask(VERSION)["model"]["version"] == run["model"]["version"]


def shown(data: dict[str, Any]) -> dict[str, list[str]]:
    """Return which jobs stand in each list of an answer."""
    lists = {**data, "job": data["job"]["similar"]}
    return {name: [item["job"]["id"] for item in lists[name]["items"]] for name in lists}


@pytest.mark.parametrize(
    ("mutation", "command"),
    [(CLOSE, "close-jobs"), (REMOVE, "remove-jobs")],
    ids=["close", "remove"],
)
@pytest.mark.parametrize("way", ["mutation", "command line"])
def test_a_job_that_goes_is_in_no_next_answer_of_any_worker_until_it_is_put_back(
    two: Service, workers: list[Worker], mutation: str, command: str, way: str
) -> None:
    job = "7"

    def answers(query: str, **variables: Any) -> list[dict[str, Any]]:
        """Return the next answer of each worker."""
        return [worker.ask(query, **variables) for worker in workers]

    # Asked twice, so that all that is ever kept of an answer is kept
    before = [[shown(data) for data in answers(SHOWN, job=job)] for _ in range(2)][-1]
    assert before[0] == before[1]
    assert all(before[0].values())
    gone = sorted({ids[0] for ids in before[0].values()} - {job})
    described = workers[0].ask(DESCRIBED, ids=gone)["jobs"]["edges"]
    if way == "mutation":
        outcomes = workers[0].ask(mutation, ids=gone)["it"]["outcomes"]
        assert {outcome["change"] for outcome in outcomes} <= {"UPDATED", "REMOVED"}
    else:
        jobrec("catalogue", command, *gone, "--state", two.state)

    for data in answers(SHOWN, job=job):
        lists = shown(data)
        assert all(lists.values())
        assert not set(gone) & {id_ for ids in lists.values() for id_ in ids}
    for data in answers(DESCRIBED, ids=gone):
        there = {edge["node"]["id"]: edge["node"]["isOpen"] for edge in data["jobs"]["edges"]}
        assert there == (dict.fromkeys(gone, False) if command == "close-jobs" else {})

    back = [{**edge["node"], "employer": edge["node"]["employer"]["name"]} for edge in described]
    for node in back:
        assert node.pop("isOpen")
    outcomes = workers[1].ask(UPSERT, jobs=back)["it"]["outcomes"]
    assert {outcome["change"] for outcome in outcomes} <= {"UPDATED", "CREATED"}
    assert [shown(data) for data in answers(SHOWN, job=job)] == before


@pytest.mark.parametrize("way", ["mutation", "command line"])
def test_who_is_erased_is_unknown_to_the_next_answer_of_every_worker_until_they_come_back(
    two: Service, workers: list[Worker], way: str
) -> None:
    ask = (
        "{ user(id: 3) { university } recommendations(userId: 3) { items { source job { id } } } }"
    )
    erase = "mutation { eraseUser(input: {id: 3}) { ... on UserErased { change } } }"
    restore = f"mutation {{ upsertUsers(input: {{users: [{{id: 3}}]}}) {{ {OUTCOMES} }} }}"

    def sources() -> list[tuple[bool, set[str]]]:
        """Return from each worker whether there is a profile, and why jobs are listed."""
        told = [worker.ask(ask) for worker in workers]
        return [
            (data["user"] is not None, {item["source"] for item in list_["items"]})
            for data in told
            for list_ in [data["recommendations"]]
        ]

    assert sources() == [(True, {"PERSONALISED"})] * 2
    if way == "mutation":
        assert workers[1].ask(erase) == {"eraseUser": {"change": "REMOVED"}}
    else:
        jobrec("catalogue", "erase-user", "3", "--state", two.state, "--data", two.data)
    assert sources() == [(False, {"POPULAR"})] * 2
    workers[0].ask(restore)
    assert sources() == [(True, {"PERSONALISED"})] * 2


def test_the_catalogue_is_compacted_while_both_workers_serve(
    two: Service, workers: list[Worker]
) -> None:
    title = "{ job(id: 900001) { title } }"
    with light_load(two) as load:
        for number in range(3):
            told = jobrec("catalogue", "compact", "--state", two.state).stdout
            assert "MB now" in told
            job = {"id": "900001", "title": f"after compaction {number}"}
            changed = workers[number % 2].ask(UPSERT, jobs=[job])["it"]["outcomes"]
            assert changed == [{"change": "UPDATED" if number else "CREATED"}]
            for worker in workers:
                assert worker.ask(title)["job"] == {"title": job["title"]}
    assert load.wrong == []
    assert load.answers > 0
