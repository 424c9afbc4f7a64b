"""How long after its exec `jobrec serve` answers, where a model and a catalogue are there already.

Time counts from the start of the process to the first answered GraphQL query, which asks for a
person's list: the model has been opened and checked by then. The floor is a process that does
nothing but import the libraries that no such service can do without.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
import urllib.error
from pathlib import Path

from bench.child import Outcome
from bench.load import open_demo, starting
from bench.measuring import Candidate, calling, measure, run_once
from bench.report import Finding, Report

_FLOOR = "import numpy, strawberry, starlette, uvicorn"
_WORKERS = (1, 2)
_MOST_SECONDS = 1.5
_DEADLINE_SECONDS = 60
_PAUSE_SECONDS = 0.002
_ASKED = "query ($user: ID!) { recommendations(userId: $user) { items { job { id title } } } }"


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure starts with one worker and with two, and the floor, in turns."""
    # As `make bench` does: else every process compiles our modules anew
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder = open_demo(scratch, 0.1 if quick else 1.0)
    state = scratch / f"startup-{secrets.token_hex(4)}"
    train = [sys.executable, "-m", "graphql_api", "train", "--data", str(folder)]
    train += ["--state", str(state), "--employers", "off", "--log-level", "warning"]
    run_once(Candidate("a model and a catalogue", train))
    repetitions = 3 if quick else 7
    names = {workers: f"serve, workers: {workers}" for workers in _WORKERS}
    results = measure(
        [
            *(
                Candidate(
                    names[workers],
                    calling(start, str(folder), str(state), str(workers)),
                    repetitions=repetitions,
                )
                for workers in _WORKERS
            ),
            Candidate(
                _FLOOR,
                [sys.executable, "-c", _FLOOR],
                whole_process=True,
                repetitions=repetitions,
            ),
        ]
    )
    floor = results[_FLOOR].seconds
    return Report(
        name="startup",
        title="From exec to the first answered GraphQL query, a model and a catalogue being there; "
        f"demo data of scale {0.1 if quick else 1:g}",
        results=list(results.values()),
        findings=[
            *(
                Finding(name, results[name].seconds, "s", at_most=_MOST_SECONDS)
                for name in names.values()
            ),
            *(
                Finding(f"time, {name} / {_FLOOR}", results[name].seconds / floor)
                for name in names.values()
            ),
        ],
        notes=[
            (
                "The query asks for a person's list with titles; until a worker listens it is "
                f"sent again after {1e3 * _PAUSE_SECONDS:.0f} ms."
            ),
            (
                "CPU of a start holds all its processes, their end, and the process that asks; "
                "peak memory is that of the largest one."
            ),
            f"{_FLOOR}: a process that does nothing else, from exec to its end.",
        ],
    )


def start(folder: str, state: str, workers: str) -> Outcome:
    """Start a service, and ask it until it answers."""
    begun = time.perf_counter()
    with starting(
        Path(folder), Path(state), "--workers", workers, "--log-level", "warning"
    ) as service:
        while True:
            try:
                found = service.post(_ASKED, user=1)["recommendations"]
                break
            except urllib.error.URLError:
                if service.process.poll() is not None:
                    raise RuntimeError("jobrec serve has ended") from None
                if time.perf_counter() - begun > _DEADLINE_SECONDS:
                    raise RuntimeError("jobrec serve does not answer") from None
                time.sleep(_PAUSE_SECONDS)
        seconds = time.perf_counter() - begun
    return Outcome(seconds, {"jobs": len(found["items"])})
