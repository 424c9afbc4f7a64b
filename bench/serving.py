"""Serving beside the REST service that jobrec replaces: the same people, the same load, in turns.

One process of each service answers on one core, and the load generator has another; a second
measurement has two processes of each on all cores. Each turn asks every candidate, one after the
other, and ratios are of one turn. The reference answers ids and scores; jobrec is asked for titles,
with credentials, prices and metrics as in production.

*Cold* is what was never asked for: each request is for another person, and each turn names its
operation anew. *Warm* asks for the same few hundred people again and again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench import wrk
from bench.answers import FIRST, Expected, Queries, graphql, write_expected
from bench.child import Outcome, Stopwatch
from bench.load import (
    Served,
    cpu_seconds,
    free_port,
    open_demo,
    running,
    served,
    workers_of,
)
from bench.measuring import ROOT, Candidate, calling, run_once
from bench.plots import Axis, Plot, Series
from bench.report import Finding, Report, table
from bench.wrk import Shot

_CONNECTIONS = (1, 4, 16, 64)
_BATCH = 100
_BATCH_CONNECTIONS = (1, 4)
_WARM_PEOPLE = 300
_BATCHES = 2_000
_SECONDS = 2
_SEED = 42
_WARM_UPS = 3
_IDLE_SECONDS, _PATIENCE_SECONDS = 0.05, 120
"""Of processor time in a second, at most, where a service is idle; waited for at most."""

_REFERENCE, _COLD, _WARM = "reference", "jobrec, cold", "jobrec, warm"
_NOTHING_AHEAD = "jobrec, cold, nothing ahead"
_TITLED, _TITLED_WARM = "jobrec, cold, titles", "jobrec, warm, titles"
_JOBREC = "jobrec"

_QUERIES = Queries(
    single="query {name}($id: ID!) { recommendations(userId: $id, first: 10) "
    "{ items { score job { id title } } } }",
    batch="query {name}($ids: [ID!]!) { batchRecommendations(userIds: $ids, first: 10) "
    "{ userId items { score job { id } } } }",
    batch_with_titles="query {name}($ids: [ID!]!) { batchRecommendations(userIds: $ids, first: 10) "
    "{ userId items { score job { id title } } } }",
    similar="query {name}($id: ID!) { similarJobs(jobId: $id, first: 10) "
    "{ items { score job { id } } } }",
)


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure both services.

    Raises:
        RuntimeError: a service answers something wrong.
    """
    scale, turns = (0.5, 2) if quick else (1.0, 5)
    folder = open_demo(scratch, scale)
    stored = _trained(folder, scratch / f"{folder.name}-serving")
    cores = wrk.cores()
    server, generator = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    with _services(folder, stored, 1, server) as services:
        routes, choice = _faster_routes(services, stored, generator)
        alone = _Setting("1 worker", "1 worker of each on a core, wrk on another", routes)
        services.check(stored.expected, routes)
        single = _Bench(alone, "one person x 10", _singles(services, stored, routes))
        single.measure(_CONNECTIONS, turns, generator)
        batch = _Bench(alone, f"{_BATCH} people x 10", _batches(services, stored, routes))
        batch.measure(_BATCH_CONNECTIONS, turns, generator)
        similar = _Bench(alone, "10 similar jobs", _resembling(services, stored, routes))
        similar.measure((16,), turns, generator)
        services.check(stored.expected, routes)
    with _services(folder, stored, 2, None, only=routes) as services:
        both = _Setting("2 workers", "2 workers of each and wrk on all cores", routes)
        pair = _Bench(both, "one person x 10", _singles(services, stored, routes))
        pair.measure(_CONNECTIONS[-2:], turns, None)
        pair_batch = _Bench(both, f"{_BATCH} people x 10", _batches(services, stored, routes))
        pair_batch.measure(_BATCH_CONNECTIONS[-1:], turns, None)
        services.check(stored.expected, routes)
    inside = _in_process(folder, stored, 10 if quick else 40)
    benches = [single, batch, similar, pair, pair_batch]
    return _ServingReport(
        name="serving",
        title=f"jobrec and the REST service that it replaces, over the same snapshot of "
        f"{len(stored.expected.people):,} people and {len(stored.expected.jobs):,} jobs; {turns} "
        f"turns of {_SECONDS} s for each candidate and concurrency",
        results=[],
        benches=benches,
        inside=inside,
        findings=[
            *_single_findings(single),
            *_batch_findings(batch),
            *inside.findings(),
            similar.ratio(_JOBREC, 16),
            *(pair.ratio(_COLD, connections) for connections in _CONNECTIONS[-2:]),
            *(pair.ratio(_WARM, connections) for connections in _CONNECTIONS[-2:]),
            pair_batch.ratio(_COLD, _BATCH_CONNECTIONS[-1]),
            pair_batch.ratio(_TITLED, _BATCH_CONNECTIONS[-1]),
            Finding(
                "requests that failed",
                sum(shot.failed for bench in benches for shot in bench.all_shots()),
                "requests",
                at_most=0,
            ),
        ],
        plots=_plots(single),
        notes=[*_NOTES, choice, inside.note()],
    )


_NOTES = [
    (
        "reference: FastAPI and pydantic, POST routes over implicit's `recommend` and "
        "`similar_items`, the same snapshot and the same exclusions, BLAS on one thread, the same "
        "uvicorn; ids and scores alone. It ranks by factors; jobrec adds what neighbours and the "
        "trend give, as it does by default."
    ),
    (
        "jobrec: `recommendations(userId, first: 10) { items { score job { id title } } }`, "
        "the batch without and with titles; a service's token with each request, limits and prices "
        "on, callers counted against limits that nobody reaches, catalogue in LMDB."
    ),
    (
        "cold: each request is for another person, and each turn names its operation anew, so no "
        f"answer was ever given before. warm: the same {_WARM_PEOPLE} people in turns."
    ),
    (
        "Between answers jobrec makes people's lists before anybody asks (docs/kernel.md), and the "
        "bench waits until it has; the reference makes each list when it is asked for. nothing "
        "ahead: jobrec with `--ahead-bytes 0`, which does the same."
    ),
    (
        "wrk keeps so many connections busy, each sending when it has its answer; it counts other "
        "states than 200 and answers with errors. Before and after, the answers of both services "
        "to some 40 people and jobs were compared with the use case's and with plain inner "
        "products: same ids, scores, and titles."
    ),
]


@dataclass(frozen=True)
class _Stored:
    """What both services serve, and what they are asked."""

    state: Path
    token: str
    expected: Expected
    bodies: _Bodies

    @property
    def headers(self) -> Mapping[str, str]:
        """What goes with each request to jobrec."""
        return {"Authorization": f"Bearer {self.token}"}


def _trained(folder: Path, state: Path) -> _Stored:
    """Return a state with a model, a catalogue and a token, made unless it is there."""
    if not (state / "models" / "LIVE").exists():
        command = [sys.executable, "-m", "graphql_api", "train", "--data", str(folder)]
        train = Candidate("training", [*command, "--state", str(state), "--employers", "off"])
        run_once(train)
    path = state / "expected.json"
    arguments = [str(folder), str(state), str(path)]
    run_once(Candidate("answers", calling(write_expected, *arguments)))
    expected = Expected.read(path)
    name = f"bench-{time.time_ns()}"
    command = [sys.executable, "-m", "graphql_api", "tokens", "create", "--state", str(state)]
    made = subprocess.run(
        [*command, "--scope", "read", "--name", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return _Stored(state, made.stdout.strip(), expected, _Bodies(state / "bodies", expected))


class _Bodies:
    """Files of prepared requests, a body a line."""

    def __init__(self, folder: Path, expected: Expected) -> None:
        folder.mkdir(exist_ok=True)
        chance = random.Random(_SEED)  # noqa: S311 - whom a request asks for is no secret
        self._folder = folder
        self._numbers = itertools.count(1)
        self.people = chance.sample(expected.people, len(expected.people))
        self.jobs = chance.sample(expected.jobs, len(expected.jobs))
        size = min(_BATCH, len(expected.people))
        self.batches = [chance.sample(expected.people, size) for _ in range(_BATCHES)]

    def write(self, name: str, bodies: Iterator[object]) -> Path:
        """Write a file."""
        path = self._folder / f"{name}.jsonl"
        with path.open("w") as file:
            file.writelines(f"{json.dumps(body)}\n" for body in bodies)
        return path

    def fixed(self, name: str, bodies: Iterator[object]) -> Callable[[], Path]:
        """Return what gives the same file again and again."""
        path = self.write(name, bodies)
        return lambda: path

    def cold(
        self, name: str, query: str, variables: Sequence[Mapping[str, object]]
    ) -> Callable[[], Path]:
        """Return what writes a file of requests that were never sent before."""

        def write() -> Path:
            operation = f"Cold{next(self._numbers)}"
            return self.write(name, (graphql(query, operation, **each) for each in variables))

        return write


@dataclass(frozen=True)
class _Way:
    """One way of asking.

    Attributes:
        server: the process of the server.
        bodies: returns the file of bodies for a turn.
        is_cold: no body may be sent twice in a turn.
    """

    name: str
    url: str
    server: int
    bodies: Callable[[], Path]
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cold: bool = False


class _Reference(NamedTuple):
    """The reference, running."""

    url: str
    process: int


@dataclass(frozen=True)
class _Services:
    """Both services, running.

    Attributes:
        nothing_ahead: jobrec where it makes no list before somebody asks for it.
        references: the reference by the kind of its routes.
    """

    jobrec: Served
    nothing_ahead: Served | None
    references: Mapping[str, _Reference]
    headers: Mapping[str, str]

    def check(self, expected: Expected, routes: str) -> None:
        """Compare what both answer with what they should."""
        expected.check_rest(self.references[routes].url)
        expected.check_graphql(self.jobrec.url, self.headers, _QUERIES)


@contextmanager
def _services(
    folder: Path, stored: _Stored, workers: int, core: int | None, only: str | None = None
) -> Iterator[_Services]:
    """Run both services until the block ends; the reference with each kind of routes, or one."""
    prefix = wrk.pinned(core)
    options = ["--workers", str(workers), "--log-level", "warning", "--auth", "required"]
    with ExitStack() as stack:
        jobrec = stack.enter_context(served(folder, stored.state, *options, prefix=prefix))
        other = None
        if only is None:
            options += ["--ahead-bytes", "0"]
            other = stack.enter_context(served(folder, stored.state, *options, prefix=prefix))
        references = {}
        for routes in (only,) if only else ("async def", "def"):
            port = free_port()
            command = [*prefix, sys.executable, "-m", "bench.reference", str(folder)]
            command += [str(stored.state), str(port), str(workers)]
            command += ["threads"] if routes == "def" else []
            url = f"http://127.0.0.1:{port}"
            process = stack.enter_context(running(command, os.environ, f"{url}/openapi.json"))
            references[routes] = _Reference(url, process.pid)
        _await_idleness(jobrec)
        yield _Services(jobrec, other, references, stored.headers)


def _await_idleness(service: Served) -> None:
    """Wait until a service has made the lists that it makes before anybody asks."""
    before, deadline = -1.0, time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        used = cpu_seconds(service.process.pid) + sum(service.cpu_seconds())
        if 0 <= used - before < _IDLE_SECONDS and before >= 0:
            return
        before = used
        time.sleep(1)
    raise RuntimeError(f"jobrec is not idle after {_PATIENCE_SECONDS} s")


def _faster_routes(services: _Services, stored: _Stored, core: int | None) -> tuple[str, str]:
    """Return with which kind of routes the reference works less, and the figures in words."""
    bodies = _rest_singles(stored)
    ways = [
        _Way(routes, f"{reference.url}/recommend", reference.process, bodies)
        for routes, reference in services.references.items()
    ]
    bench = _Bench(_Setting("1 worker", "", ""), "routes of the reference", ways)
    bench.measure((16,), 3, core)
    costs = {routes: bench.median(routes, 16, _cpu) for routes in bench.names}
    best = min(costs, key=costs.__getitem__)
    told = ", ".join(f"`{routes}` {1e3 * cost:.2f} ms" for routes, cost in costs.items())
    return best, (
        f"The reference's routes are of the kind that takes less processor time, `{best}` (an "
        f"answer: {told})."
    )


def _rest_singles(stored: _Stored) -> Callable[[], Path]:
    asked = ({"user_id": user_id, "k": FIRST} for user_id in stored.bodies.people)
    return stored.bodies.fixed("reference", asked)


def _singles(services: _Services, stored: _Stored, routes: str) -> list[_Way]:
    bodies, url = stored.bodies, f"{services.jobrec.url}/graphql"
    reference, jobrec = services.references[routes], services.jobrec.process.pid
    everybody = [{"id": str(user_id)} for user_id in bodies.people]
    few = (graphql(_QUERIES.single, "Warm", **each) for each in everybody[:_WARM_PEOPLE])
    return [
        _Way(_REFERENCE, f"{reference.url}/recommend", reference.process, _rest_singles(stored)),
        _Way(
            _COLD,
            url,
            jobrec,
            bodies.cold("cold", _QUERIES.single, everybody),
            services.headers,
            is_cold=True,
        ),
        *_without_lists_ahead(services, bodies.cold("bare", _QUERIES.single, everybody)),
        _Way(_WARM, url, jobrec, bodies.fixed("warm", few), services.headers),
    ]


def _batches(services: _Services, stored: _Stored, routes: str) -> list[_Way]:
    bodies, url = stored.bodies, f"{services.jobrec.url}/graphql"
    reference, jobrec = services.references[routes], services.jobrec.process.pid
    asked = [{"ids": [str(user_id) for user_id in batch]} for batch in bodies.batches]
    few = [
        graphql(_QUERIES.batch_with_titles, "Warm", **each) for each in asked[: _WARM_PEOPLE // 10]
    ]
    rest = ({"user_ids": batch, "k": FIRST} for batch in bodies.batches)
    cold = {_COLD: _QUERIES.batch, _TITLED: _QUERIES.batch_with_titles}
    return [
        _Way(
            _REFERENCE,
            f"{reference.url}/recommend/bulk",
            reference.process,
            bodies.fixed("reference-bulk", rest),
        ),
        *(
            _Way(
                name,
                url,
                jobrec,
                bodies.cold("cold-batch", query, asked),
                services.headers,
                is_cold=True,
            )
            for name, query in cold.items()
        ),
        *_without_lists_ahead(services, bodies.cold("bare-batch", _QUERIES.batch, asked)),
        _Way(_TITLED_WARM, url, jobrec, bodies.fixed("warm-batch", iter(few)), services.headers),
    ]


def _without_lists_ahead(services: _Services, write: Callable[[], Path]) -> Iterator[_Way]:
    if (other := services.nothing_ahead) is not None:
        url = f"{other.url}/graphql"
        yield _Way(_NOTHING_AHEAD, url, other.process.pid, write, services.headers, is_cold=True)


def _resembling(services: _Services, stored: _Stored, routes: str) -> list[_Way]:
    bodies = stored.bodies
    rest = ({"job_id": job_id, "k": FIRST} for job_id in bodies.jobs)
    asked = [{"id": str(job_id)} for job_id in bodies.jobs]
    reference = services.references[routes]
    return [
        _Way(
            _REFERENCE,
            f"{reference.url}/similar",
            reference.process,
            bodies.fixed("reference-similar", rest),
        ),
        _Way(
            _JOBREC,
            f"{services.jobrec.url}/graphql",
            services.jobrec.process.pid,
            bodies.cold("cold-similar", _QUERIES.similar, asked),
            services.headers,
        ),
    ]


@dataclass(frozen=True)
class _Setting:
    """Where and how the services run."""

    name: str
    text: str
    routes: str


class _Bench:
    """Asks one thing in several ways; the first is what the others are held against."""

    def __init__(self, setting: _Setting, asked: str, ways: Sequence[_Way]) -> None:
        self.setting = setting
        self.asked = asked
        self.names = [way.name for way in ways]
        self.shots: dict[tuple[str, int], list[Shot]] = {}
        self._ways = ways

    def measure(self, connections: Sequence[int], turns: int, core: int | None) -> None:
        """Ask in turns, after a turn that does not count."""
        for way in self._ways:
            self._fire(way, connections[0], core)
        for turn in range(turns):
            for count in connections:
                for way in self._ways:
                    shot = self._fire(way, count, core)
                    self.shots.setdefault((way.name, count), []).append(shot)
            print(f"  {self.setting.name}, {self.asked}: turn {turn + 1}", file=sys.stderr)

    def _fire(self, way: _Way, connections: int, core: int | None) -> Shot:
        path = way.bodies()
        processes = workers_of(way.server) or [way.server]
        used = sum(map(cpu_seconds, processes))
        shot = wrk.fire(way.url, path, connections, _SECONDS, way.headers, wrk.pinned(core))
        if way.is_cold and shot.sent > (held := path.read_bytes().count(b"\n")):
            raise RuntimeError(f"{way.name}: {shot.sent:,} requests of {held:,} that are cold")
        return shot._replace(cpu_seconds=sum(map(cpu_seconds, processes)) - used)

    def all_shots(self) -> Iterator[Shot]:
        """Return what was measured."""
        return itertools.chain.from_iterable(self.shots.values())

    def connections(self) -> list[int]:
        """Return how many connections were kept busy."""
        return sorted({count for _, count in self.shots})

    def median(self, name: str, connections: int, figure: Callable[[Shot], float]) -> float:
        """Return a figure of a way, the median of the turns."""
        return statistics.median(map(figure, self.shots[name, connections]))

    def ratios(self, name: str, connections: int, figure: Callable[[Shot], float]) -> list[float]:
        """Return a way's figure over the first way's, turn by turn."""
        pairs = zip(
            self.shots[name, connections], self.shots[self.names[0], connections], strict=True
        )
        return [figure(own) / figure(first) for own, first in pairs]

    def ratio(self, name: str, connections: int, at_least: float | None = None) -> Finding:
        """Return the finding of how many more answers a second a way gives."""
        return Finding.of_turns(
            f"{self.setting.name}, {self.asked}, {_connections(connections)}: throughput, "
            f"{name} / {self.names[0]}",
            self.ratios(name, connections, _rate),
            at_least=at_least,
        )

    def lines(self) -> list[str]:
        """Return the table."""
        header = ["connections", "candidate", "a second", "ratio", "p50", "p99", "CPU an answer"]
        rows = [
            [
                str(count),
                name,
                _with_spread([shot.rate for shot in self.shots[name, count]], "{:,.0f}"),
                _with_spread(self.ratios(name, count, _rate), "{:.2f}x"),
                *(
                    f"{1e3 * self.median(name, count, figure):.2f} ms"
                    for figure in (_p50, _p99, _cpu)
                ),
            ]
            for count in self.connections()
            for name in self.names
        ]
        return [f"{self.asked}, {self.setting.text}:", "", *table(header, rows), ""]

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "setting": self.setting.text,
            "asked": self.asked,
            "shots": [
                {
                    "candidate": name,
                    "connections": count,
                    "turns": [shot._asdict() for shot in all_],
                }
                for (name, count), all_ in self.shots.items()
            ],
        }


def _rate(shot: Shot) -> float:
    return shot.rate


def _p50(shot: Shot) -> float:
    return shot.p50


def _p99(shot: Shot) -> float:
    return shot.p99


def _cpu(shot: Shot) -> float:
    return shot.cpu


def _connections(count: int) -> str:
    return f"{count} connection{'s' if count > 1 else ''}"


def _with_spread(figures: Sequence[float], form: str) -> str:
    low, middle, high = (form.format(f(figures)) for f in (min, statistics.median, max))
    return f"{middle} ({low} - {high})"


def _single_findings(bench: _Bench) -> Iterator[Finding]:
    for count in _CONNECTIONS:
        yield bench.ratio(_COLD, count, at_least=1)
        yield bench.ratio(_NOTHING_AHEAD, count)
        yield Finding.of_turns(
            f"{bench.setting.name}, {bench.asked}, {_connections(count)}: p99, "
            f"{_COLD} / {_REFERENCE}",
            bench.ratios(_COLD, count, _p99),
            at_most=1,
        )
        yield bench.ratio(_WARM, count, at_least=3)


def _batch_findings(bench: _Bench) -> Iterator[Finding]:
    for count in _BATCH_CONNECTIONS:
        yield bench.ratio(_COLD, count, at_least=1.5)
        yield bench.ratio(_TITLED, count)
        yield bench.ratio(_NOTHING_AHEAD, count)
        yield bench.ratio(_TITLED_WARM, count)


@dataclass(frozen=True)
class _Inside:
    """What takes how much processor time without sockets, in seconds, turn by turn."""

    turns: Mapping[str, Sequence[float]]
    answer_bytes: int

    def findings(self) -> Iterator[Finding]:
        """Return how jobrec compares with plain routes."""
        for ours, plain, at_most in (
            (_INSIDE, _RANKING, 2.5),
            (_INSIDE_TITLED, _RANKING, None),
            (_INSIDE_READY, _READY, 2.5),
        ):
            pairs = zip(self.turns[ours], self.turns[plain], strict=True)
            yield Finding.of_turns(
                f"in process, {_BATCH} people x 10: time, {ours} / {plain}",
                [own / theirs for own, theirs in pairs],
                at_most=at_most,
            )

    def note(self) -> str:
        """Return what the figures are of."""
        times = ", ".join(
            f"{name} {1e3 * statistics.median(seconds):.2f} ms"
            for name, seconds in self.turns.items()
        )
        return (
            "In process, without sockets, memo and lists ahead, in turns, processor time, medians: "
            f"{times}. The "
            "plain routes are Starlette's; they ask jobrec's use case for lists, make dictionaries "
            f"of them and write the {self.answer_bytes:,} bytes of jobrec's answer by orjson. "
            "Where lists are ready, the use case hands the same ones out again and again, to "
            "jobrec's application as well, so that ranking does not hide what the rest takes."
        )


_INSIDE, _INSIDE_TITLED = "jobrec's application", "jobrec's application, titles"
_RANKING = "a plain route"
_INSIDE_READY = "jobrec's application, lists ready"
_READY, _ENCODING = "a plain route, lists ready", "encoding alone"


def _in_process(folder: Path, stored: _Stored, turns: int) -> _Inside:
    path = stored.state / "in-process.json"
    arguments = [str(folder), str(stored.state), stored.token, str(turns), str(path)]
    run_once(Candidate("in process", calling(in_process, *arguments)))
    return _Inside(**json.loads(path.read_text()))


def in_process(data: str, state: str, token: str, turns: str, path: str) -> Outcome:
    """Time jobrec's application and plain routes, and write the seconds of each turn."""
    os.environ["JOBREC_MEMO_BYTES"] = "0"
    watch = Stopwatch()
    measured, size = asyncio.run(_call_in_turns(Path(data), Path(state), token, int(turns)))
    Path(path).write_text(json.dumps({"turns": measured, "answer_bytes": size}))
    watch.lap("calling")
    return watch.outcome({})


async def _call_in_turns(
    data: Path, state: Path, token: str, turns: int
) -> tuple[dict[str, list[float]], int]:
    import orjson
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from application.recommending import RecommendationList, Recommending
    from graphql_api.app import create_app
    from graphql_api.container import Container
    from graphql_api.settings import Access, Settings

    settings = Settings(  # type: ignore[call-arg] # pydantic fills in the rest
        data=data,
        state=state,
        auth=Access.REQUIRED,
        rate_limit_requests=0,
        rate_limit_cost=0,
        ahead_bytes=0,
    )
    app = create_app(settings)
    container = Container(settings=settings)
    container.models().refresh()
    recommending = container.recommending()
    people = container.models().live.interactions.users.ids[:_BATCH].tolist()
    ids = [str(user_id) for user_id in people]
    headers = {"authorization": f"Bearer {token}"}
    ready: list[Any] = []

    async def encode(request: Request) -> Response:
        await request.body()
        return Response(orjson.dumps(ready[0]), media_type="application/json")

    async def list_and_encode(request: Request) -> Response:
        asked = orjson.loads(await request.body())["variables"]["ids"]
        lists = [
            {
                "userId": str(list_.user_id),
                "items": [
                    {"score": item.score, "job": {"id": str(item.job_id)}} for item in list_.items
                ],
            }
            for list_ in recommending.for_users([int(id_) for id_ in asked], FIRST)
        ]
        answer = {**ready[0], "data": {"batchRecommendations": lists}}
        return Response(orjson.dumps(answer), media_type="application/json")

    plain = Starlette(
        routes=[
            Route("/encode", encode, methods=["POST"]),
            Route("/list", list_and_encode, methods=["POST"]),
        ]
    )
    batch = json.dumps(graphql(_QUERIES.batch, "Inside", ids=ids)).encode()
    titled = json.dumps(graphql(_QUERIES.batch_with_titles, "Inside", ids=ids)).encode()
    lists = recommending.for_users(people, FIRST)
    rank = Recommending.for_users

    handed_out: list[str] = []

    def hand_out(*_asked: object, **_terms: object) -> list[RecommendationList]:
        handed_out.append("")
        return lists

    def give(is_ready: bool) -> None:
        """Let the use case rank, or hand out what is ready."""
        Recommending.for_users = hand_out if is_ready else rank  # type: ignore[method-assign] # put back in the next turn

    calls: dict[str, tuple[bool, Callable[[], Any]]] = {
        _INSIDE: (False, lambda: _call(app, "/graphql", batch, headers)),
        _INSIDE_TITLED: (False, lambda: _call(app, "/graphql", titled, headers)),
        _RANKING: (False, lambda: _call(plain, "/list", batch, headers)),
        _INSIDE_READY: (True, lambda: _call(app, "/graphql", batch, headers)),
        _READY: (True, lambda: _call(plain, "/list", batch, headers)),
        _ENCODING: (True, lambda: _call(plain, "/encode", batch, headers)),
    }
    measured: dict[str, list[float]] = {name: [] for name in calls}
    async with app.router.lifespan_context(app):
        answer = await calls[_INSIDE][1]()
        ready.append(orjson.loads(answer))
        if "errors" in ready[0]:
            raise RuntimeError(f"jobrec answers {ready[0]['errors']}")
        for name, (is_ready, call) in calls.items():
            give(is_ready)
            before = len(handed_out)
            if name != _INSIDE_TITLED and await call() != answer:
                raise RuntimeError(f"{name} does not answer the same bytes")
            if is_ready and name != _ENCODING and len(handed_out) == before:
                raise RuntimeError(f"{name}: Recommending.for_users was not asked")
        for turn in range(turns + _WARM_UPS):
            for name, (is_ready, call) in calls.items():
                give(is_ready)
                begun = time.process_time()  # nothing here waits but for a processor
                await call()
                if turn >= _WARM_UPS:
                    measured[name].append(time.process_time() - begun)
    return measured, len(answer)


async def _call(app: Any, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:  # noqa: ANN401 - an ASGI application
    """Post to an application without a server, and return the body of the answer."""
    own = {"host": "localhost", "content-type": "application/json", **headers}
    own["content-length"] = str(len(body))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in own.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    parts: list[bytes] = []
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    if statuses != [200]:
        raise RuntimeError(f"{path} answers {statuses}: {b''.join(parts)[:200]!r}")
    return b"".join(parts)


def _plots(bench: _Bench) -> list[Plot]:
    connections = Axis("connections", is_log=True, ticks=_CONNECTIONS)
    figures: list[tuple[str, str, str, Callable[[Shot], float]]] = [
        ("throughput", "Answers a second, one person x 10", "answers a second", _rate),
        (
            "latency",
            "99th percentile of latency, one person x 10",
            "milliseconds",
            lambda shot: 1e3 * shot.p99,
        ),
    ]
    return [
        Plot(
            name,
            title,
            connections,
            Axis(axis, is_log=name == "latency"),
            [
                Series(way, [(count, bench.median(way, count, figure)) for count in _CONNECTIONS])
                for way in bench.names
            ],
        )
        for name, title, axis, figure in figures
    ]


@dataclass(frozen=True)
class _ServingReport(Report):
    """A report with a table for each setting in place of the times of candidates."""

    benches: Sequence[_Bench] = ()
    inside: _Inside | None = None

    def record(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the report as JSON has it."""
        inside = {} if self.inside is None else dict(self.inside.turns)
        return {
            **super().record(facts),
            "services": [bench.record() for bench in self.benches],
            "in_process": inside,
        }

    def _times(self) -> list[str]:
        return [line for bench in self.benches for line in bench.lines()]
