"""What people notice of retraining: a steady load on two workers, and 20 retrains in a row.

The load is an open loop: requests are due at fixed times, whether or not earlier ones were
answered, and latency counts from when a request was due. So a stall shows in every request that
fell due during it. Between two retrains lies a stretch without any, so that "idle" and "during
training" are measured in turns, on the same server, in the same run.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from bench.child import Outcome, Stopwatch
from bench.measuring import ROOT, Candidate, calling, run_once
from bench.report import Finding, Report

WORKERS = 2
_CLIENTS = 8
_RATE = 50.0
_REQUESTS_A_CONNECTION = 20
_TIMEOUT_SECONDS = 10.0
_WARM_UP_SECONDS = 6.0
_IDLE_SECONDS = 5.0
_SWAP_SECONDS = 1.0
"""What belongs to a training after its end: workers follow within a second."""

_PEOPLE = 17_000
_START_SECONDS = 120

_LIST = """model { version }
    items { rank score source job { id title employer { name } location isOpen } }"""
_ASKED = f"""query ($user: ID!, $users: [ID!]!) {{
    model {{ version }}
    recommendations(userId: $user) {{ {_LIST} }}
    batchRecommendations(userIds: $users, first: 5) {{ {_LIST} }} }}"""
_RETRAIN = """mutation { retrain(input: {note: "bench"}) { __typename
    ... on RetrainAccepted { run { id } } } }"""
_RUN = """query ($id: ID!) { trainingRun(id: $id) { status promoted failure model { version } } }"""


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure what a steady load notices of retraining.

    Raises:
        RuntimeError: a retrain did not succeed.
    """
    scale, retrains = (0.1, 3) if quick else (1.0, 20)
    folder = open_demo(scratch, scale)
    options = ["--workers", str(WORKERS), "--log-level", "warning"]
    with (
        served(folder, scratch / f"load-{secrets.token_hex(4)}", *options) as service,
        _load(service.url, scratch / "load-samples.jsonl", int(_PEOPLE * scale)) as samples,
    ):
        time.sleep(_WARM_UP_SECONDS)
        before = service.cpu_seconds()
        timeline = _Timeline()
        for number in range(retrains):
            begun = time.monotonic()
            timeline.idle.append((begun, begun + _IDLE_SECONDS))
            time.sleep(_IDLE_SECONDS)
            begun = time.monotonic()
            version = _retrain(service)
            ended = time.monotonic()
            print(f"  retrain {number + 1}: {ended - begun:.1f} s", file=sys.stderr, flush=True)
            timeline.versions.add(version)
            timeline.durations.append(ended - begun)
            timeline.training.append((begun, ended + _SWAP_SECONDS))
            time.sleep(_SWAP_SECONDS)
        shares = [after - was for was, after in zip(before, service.cpu_seconds(), strict=True)]
    everything = samples()
    idle = _Latencies.of("idle", everything, timeline.idle)
    training = _Latencies.of("during training", everything, timeline.training)
    return _LoadReport(
        name="load",
        title=f"{retrains} retrains in a row under {_RATE:g} requests a second from {_CLIENTS} "
        f"clients, {WORKERS} workers; demo data of scale {scale:g}",
        results=[],
        latencies=[idle, training],
        findings=[
            Finding("failed requests", idle.failed + training.failed, "requests", at_most=0),
            Finding("answers that mix versions", idle.mixed + training.mixed, "answers", at_most=0),
            Finding("p99 during training / idle", training.at(99) / idle.at(99), at_most=2),
            Finding("p50 during training / idle", training.at(50) / idle.at(50)),
            Finding("p99.9 during training / idle", training.at(99.9) / idle.at(99.9)),
            Finding("duration of a retrain, median", statistics.median(timeline.durations), "s"),
        ],
        notes=[
            (
                "A request asks for the model, 10 jobs for one person and 5 for each of five "
                "others, with title, employer, location; people at random. All versions in one "
                "answer must be equal."
            ),
            (
                f"Each retrain is asked for by the mutation after {_IDLE_SECONDS:g} s without "
                f"one; the {_SWAP_SECONDS:g} s in which workers swap count as training."
            ),
            (
                "An open loop: latency counts from when a request was due. The client is one "
                f"process and shares the processors; {_REQUESTS_A_CONNECTION} requests a "
                "connection, so that both workers get their share. Processor time of the "
                f"workers: {' and '.join(f'{share:.0f} s' for share in shares)}."
            ),
            (
                f"Versions that answered: {len({sample.version for sample in everything})}, of "
                f"{1 + len(timeline.versions)} that were live."
            ),
        ],
    )


def open_demo(scratch: Path, scale: float) -> Path:
    """Return the folder of a demo dataset whose jobs are open today."""
    today = datetime.now(UTC).date().isoformat()
    folder = scratch / f"demo-{scale:g}-{today}"
    if not (folder / "activities.jsonl").exists():
        arguments = [str(folder), str(scale), f"{today}T00:00:00+00:00"]
        run_once(Candidate("demo data", calling(write_demo_until, *arguments)), f"scale {scale}")
    return folder


def write_demo_until(folder: str, scale: str, until: str) -> Outcome:
    """Write a demo dataset."""
    from adapters.demo import write_demo

    watch = Stopwatch()
    write_demo(Path(folder), scale=float(scale), until=datetime.fromisoformat(until))
    # Of what closes while it is measured, one service would know and another would not
    soon = {str(datetime.fromisoformat(until).date() + timedelta(days=days)) for days in range(3)}
    path = Path(folder) / "jobs.jsonl"
    jobs = [json.loads(line) for line in path.read_text().splitlines()]
    for job in jobs:
        if str(job.get("closes_at"))[:10] in soon:
            del job["closes_at"]
    path.write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    watch.lap("writing")
    return watch.outcome({})


class Sample(NamedTuple):
    """One request.

    Attributes:
        due: when it was to be sent, on the monotonic clock.
        seconds: from then to the end of the answer.
        version: what the whole answer names; None where it mixes versions or failed.
        failure: what went wrong.
    """

    due: float
    seconds: float
    version: str | None
    failure: str | None


@dataclass(frozen=True)
class Served:
    """A running `jobrec serve`."""

    url: str
    token: str
    process: subprocess.Popen[bytes]

    def post(self, query: str, **variables: object) -> dict[str, Any]:
        """Send an operation as an admin and return its data.

        Raises:
            RuntimeError: the answer holds errors.
        """
        request = urllib.request.Request(  # noqa: S310 - our own service
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own service
            body: dict[str, Any] = json.load(answer)
        if "errors" in body:
            raise RuntimeError(f"the service answers {body['errors']}")
        found: dict[str, Any] = body["data"]
        return found

    def workers(self) -> list[int]:
        """Return the process ids of the workers; none where there is one, which is the process."""
        return workers_of(self.process.pid)

    def cpu_seconds(self) -> list[float]:
        """Return the processor time that each worker has used."""
        return list(map(cpu_seconds, self.workers()))


@contextmanager
def served(
    folder: Path, state: Path, *options: str, prefix: Sequence[str] = ()
) -> Iterator[Served]:
    """Run `jobrec serve` until the block ends; ready when entered.

    Args:
        prefix: what runs the command, such as taskset.
    """
    with starting(folder, state, *options, prefix=prefix) as service:
        _await(service.process, f"{service.url}/readyz")
        yield service


@contextmanager
def starting(
    folder: Path, state: Path, *options: str, prefix: Sequence[str] = ()
) -> Iterator[Served]:
    """Run `jobrec serve` until the block ends; not waited for when entered."""
    port = free_port()
    token = secrets.token_hex(16)
    command = [*prefix, sys.executable, "-m", "graphql_api", "serve", "--data", str(folder)]
    command += ["--state", str(state), "--port", str(port), *options]
    # All the load comes from one caller, who is counted, but never too much
    command += ["--rate-limit-requests", "1000000000", "--rate-limit-cost", "1000000000000"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("JOBREC_")
    }
    with _process(command, {**environment, "JOBREC_ADMIN_TOKEN": token}) as process:
        yield Served(f"http://127.0.0.1:{port}", token, process)


def workers_of(server: int) -> list[int]:
    """Return the ids of the worker processes of a server; none where it works itself."""
    found, own = [], Path(f"/proc/{server}/cmdline").read_bytes()
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and _parent(path) == server:
            command = (path / "cmdline").read_bytes()
            # Forked or spawned; there are helpers and trainings besides
            if command == own or b"spawn_main" in command:
                found.append(int(path.name))
    return sorted(found)


def cpu_seconds(process: int) -> float:
    """Return the processor time that a process has used, all threads."""
    ticks: int = os.sysconf("SC_CLK_TCK")
    return sum(map(int, _status(Path(f"/proc/{process}"))[11:13])) / ticks


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], page: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; when entered, it answers for a page.

    Raises:
        RuntimeError: it did not come to that.
    """
    with _process(command, environment) as process:
        _await(process, page)
        yield process


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _await(process: subprocess.Popen[bytes], page: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(page, timeout=5):  # noqa: S310 - our own service
                return
        except urllib.error.URLError:
            time.sleep(0.1)
    raise RuntimeError(f"the server of {page} did not become ready")


def _parent(process: Path) -> int | None:
    try:
        return int(_status(process)[1])
    except OSError:
        return None


def _status(process: Path) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before may hold spaces."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def _retrain(service: Served) -> str:
    """Retrain, wait for the end, and return the version that went live."""
    accepted = service.post(_RETRAIN)["retrain"]
    if accepted["__typename"] != "RetrainAccepted":
        raise RuntimeError(f"retrain answers {accepted}")
    while True:
        found: dict[str, Any] = service.post(_RUN, id=accepted["run"]["id"])["trainingRun"]
        if found["status"] not in {"QUEUED", "RUNNING"}:
            break
        time.sleep(0.1)
    if not found["promoted"]:
        raise RuntimeError(f"the run ended as {found}")
    version: str = found["model"]["version"]
    return version


@dataclass
class _Timeline:
    """When what went on, on the monotonic clock, which all processes share."""

    idle: list[tuple[float, float]] = field(default_factory=list)
    training: list[tuple[float, float]] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Latencies:
    """The requests of one kind of stretch."""

    name: str
    seconds: Sequence[float]
    failed: int
    mixed: int

    @classmethod
    def of(
        cls, name: str, samples: Sequence[Sample], stretches: Sequence[tuple[float, float]]
    ) -> _Latencies:
        inside = [
            sample
            for sample in samples
            if any(start <= sample.due < end for start, end in stretches)
        ]
        failures = [sample.failure for sample in inside if sample.failure]
        for failure in sorted(set(failures)):
            print(f"  {name}: {failures.count(failure)} x {failure}", file=sys.stderr)
        mixed = sum(sample.failure is None and sample.version is None for sample in inside)
        return cls(name, sorted(sample.seconds for sample in inside), len(failures), mixed)

    def at(self, percentile: float) -> float:
        """Return the latency that so many percent of the requests do not exceed."""
        return self.seconds[max(0, math.ceil(len(self.seconds) * percentile / 100) - 1)]

    def row(self) -> list[str]:
        """Return the cells of its row."""
        figures = [*(self.at(percentile) for percentile in (50, 90, 99, 99.9)), self.seconds[-1]]
        milliseconds = [f"{1_000 * figure:.1f} ms" for figure in figures]
        return [self.name, f"{len(self.seconds):,}", *milliseconds]


@dataclass(frozen=True)
class _LoadReport(Report):
    """A report with latencies in place of the times of candidates."""

    latencies: Sequence[_Latencies] = ()

    def record(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the report as JSON has it."""
        latencies = {
            each.name: {f"p{percentile:g}": each.at(percentile) for percentile in (50, 99, 99.9)}
            for each in self.latencies
        }
        return {**super().record(facts), "latencies": latencies}

    def _times(self) -> list[str]:
        header = ["", "requests", "p50", "p90", "p99", "p99.9", "slowest"]
        rows = [header, ["-", *["-:"] * 6], *(each.row() for each in self.latencies)]
        return [f"| {' | '.join(row)} |" for row in rows]


@contextmanager
def _load(url: str, path: Path, people: int) -> Iterator[Callable[[], list[Sample]]]:
    """Keep a load on the service until the block ends; then the samples can be read."""
    command = [sys.executable, "-m", "bench.load", url, str(path), str(people)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)

    def samples() -> list[Sample]:
        return [Sample(*json.loads(line)) for line in path.read_text().splitlines()]

    try:
        yield samples
    finally:
        # The end of its input is the client's sign to finish
        process.communicate(timeout=60)
    if process.returncode:
        raise RuntimeError(f"the client ended with exit code {process.returncode}")


def main() -> None:
    """Be the client: `python -m bench.load URL FILE PEOPLE`, until the standard input ends."""
    url, path, people = sys.argv[1:]
    samples = asyncio.run(_keep_asking(url, int(people)))
    with Path(path).open("w") as file:
        file.writelines(f"{json.dumps(sample)}\n" for sample in samples)


async def _keep_asking(url: str, people: int) -> list[Sample]:
    host, port = url.removeprefix("http://").split(":")
    dues: asyncio.Queue[float | None] = asyncio.Queue()
    samples: list[Sample] = []
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopped.set)
    clients = [
        asyncio.create_task(_Client(host, int(port), people, seed).work(dues, samples))
        for seed in range(_CLIENTS)
    ]
    begun, sent = time.monotonic(), 0
    while not stopped.is_set():
        due = begun + sent / _RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        dues.put_nowait(due)
        sent += 1
    for _ in clients:
        dues.put_nowait(None)
    await asyncio.gather(*clients)
    return samples


class _Client:
    """Sends requests one after the other over one connection, and renews it now and then."""

    def __init__(self, host: str, port: int, people: int, seed: int) -> None:
        self._host = host
        self._port = port
        self._people = people
        self._random = random.Random(seed)  # noqa: S311 - whom a request asks for is no secret
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def work(self, dues: asyncio.Queue[float | None], samples: list[Sample]) -> None:
        """Send a request for each time in the queue, until it says None."""
        sent = 0
        while (due := await dues.get()) is not None:
            version, failure = None, None
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    answer = await self._ask()
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
                failure = repr(error)
                self._close()
            seconds = time.monotonic() - due
            if failure is None:
                version, failure = _judged(answer)
            samples.append(Sample(due, seconds, version, failure))
            sent += 1
            if sent % _REQUESTS_A_CONNECTION == 0:
                self._close()
        self._close()

    async def _ask(self) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        user, *users = (self._random.randint(1, self._people) for _ in range(6))
        body = json.dumps({"query": _ASKED, "variables": {"user": user, "users": users}}).encode()
        writer.write(
            b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").lower().split("\r\n")
        if " 200 " not in status:
            raise ValueError(status)
        headers = dict(line.split(": ", 1) for line in lines if line)
        return await reader.readexactly(int(headers["content-length"]))

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _judged(answer: bytes) -> tuple[str | None, str | None]:
    """Return the version of an answer, None where it mixes them, and what is wrong with it."""
    body = json.loads(answer)
    if "errors" in body:
        return None, str(body["errors"])[:200]
    found = body["data"]
    lists = [found["recommendations"], *found["batchRecommendations"]]
    if [len(list_["items"]) for list_ in lists] != [10] + [5] * 5:
        return None, "a list is short"
    versions = {found["model"]["version"], *(list_["model"]["version"] for list_ in lists)}
    return (versions.pop(), None) if len(versions) == 1 else (None, None)


if __name__ == "__main__":
    main()
