"""Processes that are forked from their supervisor are as good as new ones.

Scripts try it in processes of their own: the one of the tests has threads.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from graphql_api.forking import CAN_FORK

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="workers are not forked here")

SIGNALLED = """
import json, os, signal
from graphql_api.forking import Forking

heard = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: heard.append(number))

def ending(number):
    process = Forking().Process(target=signal.pause)
    process.start()
    os.kill(process.pid, number)
    process.join()
    return process.exitcode

ends = {number: [ending(number) for _ in range(20)] for number in (15, 1)}
os.kill(os.getpid(), signal.SIGTERM)
print(json.dumps([ends, heard, len(signal.pthread_sigmask(signal.SIG_BLOCK, []))]))
"""

INTERRUPTED = """
import json, os, signal, time
from graphql_api.forking import Forking

signal.signal(signal.SIGINT, lambda *_: None)

def interrupted():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        raise SystemExit(7)

process = Forking().Process(target=interrupted)
process.start()
process.join()
print(json.dumps(process.exitcode))
"""

DRAWN = """
import json, random, secrets, uuid
import numpy as np
from graphql_api.forking import Forking

random.random(), np.random.default_rng().random()
forking = Forking()

def draw(pipe):
    draws = [random.random(), secrets.token_hex(8), uuid.uuid4().hex]
    pipe.send([*draws, np.random.default_rng().random()])

def drawn():
    hears, tells = forking.Pipe(duplex=False)
    process = forking.Process(target=draw, args=(tells,))
    process.start()
    process.join()
    return hears.recv()

print(json.dumps([drawn() for _ in range(3)]))
"""

MULTIPLIED = """
import gc, json, threading
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits
from graphql_api.forking import Forking

matrix = np.random.default_rng(1).random((600, 600))
before = matrix @ matrix  # by threads, where there are several processors
forking = Forking()

def multiply(pipe):
    is_collecting = gc.isenabled()
    threadpool_limits(1, "blas")
    limits = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    is_near = bool(np.allclose(matrix @ matrix, before))
    pipe.send([is_near, sorted(limits), threading.active_count(), is_collecting])

hears, tells = forking.Pipe(duplex=False)
process = forking.Process(target=multiply, args=(tells,))
process.start()
answer = hears.recv()
process.join()
print(json.dumps([answer, bool(np.allclose(matrix @ matrix, before))]))
"""


def told_by(script: str) -> Any:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not finished.returncode, finished.stderr
    return json.loads(finished.stdout)


def test_a_signal_ends_a_worker_at_any_moment_and_is_not_the_supervisors() -> None:
    ends, heard, blocked = told_by(SIGNALLED)
    assert ends == {"15": [-signal.SIGTERM] * 20, "1": [-signal.SIGHUP] * 20}
    # Its own are heard as before
    assert (heard, blocked) == ([signal.SIGTERM], 0)


def test_an_interrupt_is_an_exception_in_a_worker() -> None:
    assert told_by(INTERRUPTED) == 7


def test_each_worker_draws_something_else() -> None:
    draws = told_by(DRAWN)
    assert [len(set(column)) for column in zip(*draws, strict=True)] == [3, 3, 3, 3]


def test_a_worker_multiplies_matrices_after_its_supervisor_did() -> None:
    answer, is_near_afterwards = told_by(MULTIPLIED)
    assert answer == [True, [1], 1, False]
    assert is_near_afterwards
