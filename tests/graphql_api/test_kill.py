"""`kill -9` at random moments of a run: the answers stay whole, and the runs tell the truth."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.demo import write_demo
from adapters.snapshots import DirectorySnapshotStore
from tests.conftest import Service, serving
from tests.graphql_api.test_service import ONE_RUN, RETRAIN, ended
from tests.graphql_api.test_workers import workers_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for processes"),
]

TRUTH_SECONDS = 5.0
"""Within this time the record of a run says that its process has ended."""
SLACK_SECONDS = 0.5
PEOPLE = [str(person) for person in range(1, 41)]
LISTS = """query ($people: [ID!]!) { batchRecommendations(userIds: $people) {
    userId model { version } items { rank score source job { id } } } }"""
VERSIONS = "{ models(first: 100) { version } }"
LOST = "its process ended before the run did"


@dataclass
class Data:
    """Two sets of activities, of which models learn in turns, so that their lists differ."""

    folder: Path
    variants: dict[str, bytes]
    lists: dict[str, Any] = field(default_factory=dict)

    def use(self, variant: str) -> None:
        """Replace the activities at once, as a careful import would."""
        staged = self.folder / "staged"
        staged.write_bytes(self.variants[variant])
        staged.replace(self.folder / "activities.jsonl")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("kill") / "data"
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    write_demo(folder, scale=0.02, seed=7, until=until)
    # Without dates no job opens or closes during the test, so lists change with the model only
    jobs = folder / "jobs.jsonl"
    records = [json.loads(line) for line in jobs.read_text().splitlines()]
    dated = {"posted_at", "closes_at"}
    undated = [{key: record[key] for key in record.keys() - dated} for record in records]
    jobs.write_text("".join(f"{json.dumps(record)}\n" for record in undated))
    lines = (folder / "activities.jsonl").read_bytes().splitlines(keepends=True)
    rest = [line for number, line in enumerate(lines) if number % 7]
    return Data(folder, {"whole": b"".join(lines), "part": b"".join(rest)})


class Crashing:
    """A service that is started again whenever it was killed."""

    def __init__(self, data: Data, state: Path) -> None:
        self._data = data
        self._state = state
        self._running = ExitStack()
        self.service = self._started()

    def restart(self) -> None:
        """Start the service that was killed."""
        self.close()
        self.service = self._started()

    def close(self) -> None:
        """Stop the service."""
        self._running.close()

    def _started(self) -> Service:
        # What a killed service leaves in the folder for temporary files goes with the test's
        temporary = str(self._state.parent)
        return self._running.enter_context(
            serving(self._data.folder, self._state, "--workers", "2", TMPDIR=temporary)
        )

    def workers(self) -> list[int]:
        """Return the serving processes."""
        return [worker.process_id for worker in workers_of(self.service)]

    def kill_all(self, trainer: int | None) -> None:
        """Kill everything that belongs to the service, as the crash of a machine would."""
        top = self.service.process.pid
        for process in (top, *descendants(top), *([trainer] if trainer else [])):
            kill(process)
        self.service.process.wait()


def children(process: int) -> list[int]:
    found = []
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


def descendants(process: int) -> Iterator[int]:
    for child in children(process):
        yield child
        yield from descendants(child)


def command(process: int) -> bytes:
    """Return a process's command line; empty where it has ended, also where nobody noticed yet."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def kill(process: int) -> bool:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def trainer_of(run_id: str) -> int | None:
    """Return the process that carries a run out, None where there is none."""
    sign = b"execute-run\0" + run_id.encode()
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and sign in command(int(path.name)):
            return int(path.name)
    return None


def shown(service: Service) -> tuple[str, Any]:
    """Return the version that answers and its lists, after checking that it is one version."""
    found = service.data_of(LISTS, people=PEOPLE)["batchRecommendations"]
    (version,) = {list_["model"]["version"] for list_ in found}
    return version, [list_["items"] for list_ in found]


def begin(service: Service, note: str) -> str:
    """Begin a run; a right to train that nobody gave back would show here."""
    # Forced: the two sets of activities take turns, which the promotion policy may not like
    answer = service.data_of(RETRAIN, admin=True, input={"note": note, "force": True})["retrain"]
    assert (answer["__typename"], answer.get("replayed")) == ("RetrainAccepted", False), answer
    run_id: str = answer["run"]["id"]
    return run_id


def until_shown(service: Service, version: str) -> None:
    """Wait until so many answers over new connections name a version that both workers do."""
    deadline, agreeing = time.monotonic() + 10, 0
    while agreeing < 20:
        named = service.data_of("{ model { version } }")["model"]["version"]
        agreeing = agreeing + 1 if named == version else 0
        assert time.monotonic() < deadline, f"model {version} did not go live within 10 s"


def has_ended(service: Service, run_id: str) -> bool:
    run = service.data_of(ONE_RUN, admin=True, id=run_id)["trainingRun"]
    return run["status"] not in {"QUEUED", "RUNNING"}


def truth(service: Service, run_id: str) -> dict[str, Any]:
    """Wait for the end of a run whose process may be dead.

    Once the process is gone, the record may lag behind it for some seconds only.
    """
    gone_at: float | None = None
    while True:
        is_alive = trainer_of(run_id) is not None
        run: dict[str, Any] = service.data_of(ONE_RUN, admin=True, id=run_id)["trainingRun"]
        if run["status"] not in {"QUEUED", "RUNNING"}:
            return run
        now = time.monotonic()
        gone_at = None if is_alive else gone_at or now
        lag = 0.0 if gone_at is None else now - gone_at
        assert lag < TRUTH_SECONDS + SLACK_SECONDS, f"its process is gone for {lag:.1f} s: {run}"
        time.sleep(0.05)


def until_gone(run_id: str) -> None:
    """Wait for the end of a process that has told how its run ended, at a low priority."""
    deadline = time.monotonic() + 10
    while trainer_of(run_id) is not None:
        assert time.monotonic() < deadline, f"the process of run {run_id} is there after 10 s"
        time.sleep(0.05)


def check_models(state: Path, service: Service) -> set[str]:
    """Check every byte of each model that is listed; return their versions."""
    listed = {model["version"] for model in service.data_of(VERSIONS, admin=True)["models"]}
    store = DirectorySnapshotStore(state / "models")
    for version in listed:
        store.open(version)
    return listed


# 50 moments; those of a victim are a test of their own, so that they can run side by side
@pytest.mark.parametrize(
    ("victim", "moments"), [("training", 17), ("worker", 17), ("supervisor", 16)]
)
def test_killed_anywhere_at_any_moment_it_answers_from_one_whole_model_and_runs_tell_the_truth(
    data: Data, tmp_path: Path, victim: str, moments: int
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # pytest shows it with a failure
    chance = random.Random(seed)  # noqa: S311 - moments are no secret
    state = tmp_path / "state"
    data.use("part")
    crashing = Crashing(data, state)
    outcomes = {"SUCCEEDED": 0, "FAILED": 0}
    try:
        learned_from: dict[str, str] = {}
        live, usual = "", 60.0
        for variant in ("whole", "part"):
            data.use(variant)
            begun = time.monotonic()
            run = ended(crashing.service, begin(crashing.service, f"lists of {variant}"))
            usual = min(usual, time.monotonic() - begun)
            assert run["promoted"] is True, run
            live = run["model"]["version"]
            learned_from[live] = variant
            until_shown(crashing.service, live)
            data.lists[variant] = shown(crashing.service)[1]
        assert data.lists["whole"] != data.lists["part"]

        for moment in range(moments):
            delay = chance.uniform(0, usual)
            print(f"moment {moment}: {victim} after {delay:.3f} s of {usual:.3f} s")
            old = live
            variant = "whole" if learned_from[old] == "part" else "part"
            data.use(variant)
            run_id = begin(crashing.service, f"moment {moment}")
            learned_from[run_id] = variant
            time.sleep(delay)
            trainer = trainer_of(run_id)
            if trainer is None and has_ended(crashing.service, run_id):
                # The machine was busy while the usual duration was taken; the next shall hit
                usual = min(usual, delay)
            if victim == "training":
                if trainer is not None:
                    kill(trainer)
            elif victim == "worker":
                assert kill(chance.choice(crashing.workers()))
            else:
                crashing.kill_all(trainer)
                crashing.restart()

            asked_at = time.monotonic()
            version, lists = shown(crashing.service)
            answered = time.monotonic() - asked_at
            assert version in {old, run_id}
            assert lists == data.lists[learned_from[version]]
            if victim == "training":
                assert answered < 1, f"it took {answered:.1f} s to answer after the kill"

            run = truth(crashing.service, run_id)
            until_gone(run_id)
            outcomes[run["status"]] += 1
            listed = check_models(state, crashing.service)
            if run["status"] == "SUCCEEDED":
                assert (run["promoted"], run["model"]["version"]) == (True, run_id)
                assert run_id in listed
                live = run_id
                until_shown(crashing.service, live)
            else:
                assert run["status"] == "FAILED", run
                assert run["failure"].startswith(LOST), run
                assert DirectorySnapshotStore(state / "models").live() == old
                until_shown(crashing.service, live)
            assert shown(crashing.service)[1] == data.lists[learned_from[live]]

        run_id = begin(crashing.service, "after all")
        run = ended(crashing.service, run_id)
        assert (run["status"], run["promoted"]) == ("SUCCEEDED", True), run
    finally:
        print(f"outcomes: {outcomes}")
        crashing.close()
    if victim == "worker":
        assert outcomes["FAILED"] == 0, "a training outlives the worker that started it"
    else:
        assert outcomes["FAILED"] >= 5, f"the moments lie within runs: {outcomes}"


def test_training_killed_the_moment_its_model_goes_live_has_succeeded(
    data: Data, tmp_path: Path
) -> None:
    data.use("part")
    state = tmp_path / "state"
    crashing = Crashing(data, state)
    pointer = state / "models" / "LIVE"
    try:
        for _ in range(10):
            run_id = begin(crashing.service, "killed as it goes live")
            trainer: int | None = None
            deadline = time.monotonic() + 30
            while run_id.encode() not in pointer.read_bytes():
                trainer = trainer or trainer_of(run_id)
                assert time.monotonic() < deadline, "the model did not go live within 30 s"
            if trainer is not None:
                kill(trainer)
            run = truth(crashing.service, run_id)
            assert (run["status"], run["promoted"], run["failure"]) == ("SUCCEEDED", True, None)
            assert run["model"]["version"] == run_id
            until_shown(crashing.service, run_id)
    finally:
        crashing.close()


def test_workers_end_with_their_supervisor_and_leave_the_port_to_the_next_start(
    data: Data, tmp_path: Path
) -> None:
    data.use("part")
    crashing = Crashing(data, tmp_path / "state")
    workers = crashing.workers()
    try:
        assert len(workers) == 2
        kill(crashing.service.process.pid)
        crashing.service.process.wait()
        deadline = time.monotonic() + 5
        while alive := [worker for worker in workers if command(worker)]:
            assert time.monotonic() < deadline, f"{alive} serve 5 s after their supervisor died"
            time.sleep(0.05)
        with socket.socket() as next_start:
            next_start.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            next_start.bind(("127.0.0.1", int(crashing.service.url.rpartition(":")[2])))
    finally:
        for worker in workers:
            kill(worker)
        crashing.close()
