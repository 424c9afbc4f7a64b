"""What serving does beside answering: threads, chores, idle work, and processes that train."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from domain.errors import JobrecError
from domain.ports import Lease
from domain.runs import TrainingRun

P = ParamSpec("P")
T = TypeVar("T")

_IDLE_SECONDS = 0.25
"""How often is looked for what can be prepared."""

_log = logging.getLogger(__name__)


def available_cores() -> int:
    """Return how many processors this process may use, by its affinity and its cgroup's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):  # no cgroup of version 2
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def collect_garbage() -> None:
    """Look for garbage from now on, if the start of this process was spared it.

    What is there by now stays for good and is never looked through, which would hold answers up.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


class Runtime:
    """Runs use cases beside the event loop, and follows what changes outside this process.

    Args:
        chores: called again and again in a thread, for following the promoted model and the like.
        later: called after these, but not at the start, which waits for the others.
        interval: seconds between two rounds of chores.
    """

    def __init__(
        self,
        chores: Sequence[Callable[[], object]],
        later: Sequence[Callable[[], object]] = (),
        interval: float = 0.25,
    ) -> None:
        self._chores = chores
        self._later = later
        self._interval = interval
        self._pool = ThreadPoolExecutor(
            max_workers=min(8, (os.cpu_count() or 1) + 2), thread_name_prefix="jobrec"
        )
        self._stopping = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="jobrec-chores", daemon=True)
        self._troubles: dict[Callable[[], object], str] = {}

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a use case in a thread, so that the loop keeps answering others."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def start(self) -> None:
        """Do each chore once, then keep doing them in the background."""
        self._do(self._chores)
        self._follower.start()

    def stop(self) -> None:
        """Stop the chores and wait for what is running."""
        self._stopping.set()
        self._follower.join()
        self._pool.shutdown()

    def _follow(self) -> None:
        # None where this process serves alone
        supervisor, parent = multiprocessing.parent_process(), os.getppid()
        while not self._stopping.wait(self._interval):
            # Forked workers keep its pipe to those before them open
            if supervisor and (os.getppid() != parent or not supervisor.is_alive()):
                # Whoever stayed would answer for ever, and keep the port from the next start
                _log.error("the process that supervises the workers is gone; this one ends")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._do([*self._chores, *self._later])

    def _do(self, chores: Sequence[Callable[[], object]]) -> None:
        for chore in chores:
            try:
                chore()
            except Exception as error:  # noqa: BLE001 - the follower must outlive a disk that is full for a minute
                # Told once, not at every round
                if self._troubles.get(chore) != str(error):
                    self._troubles[chore] = str(error)
                    trace = None if isinstance(error, JobrecError) else error
                    _log.warning("%s; it is tried again", error, exc_info=trace)
            else:
                if self._troubles.pop(chore, None) is not None:
                    _log.info("what failed in the background works again")


async def idly(work: Callable[[], bool], asked: Callable[[], int]) -> None:
    """Work between answers, on the event loop, for ever: a thread would fight for the interpreter.

    Half of the time where nobody asks anything, else a twentieth of it. What fails is told and
    tried again later.

    Args:
        work: does a little, some milliseconds at most; tells whether there is more to do.
        asked: how many requests came so far.
    """
    before, is_told = asked(), False
    while True:
        begun = time.perf_counter()
        try:
            is_more = work()
        except Exception as error:  # noqa: BLE001 - answers do not need what is prepared for them
            is_more = False
            if not is_told:
                _log.warning("nothing is prepared for answers: %s", error, exc_info=error)
            is_told = True
        else:
            is_told = False
        spent, now = time.perf_counter() - begun, asked()
        await asyncio.sleep((19 if now > before else 1) * spent if is_more else _IDLE_SECONDS)
        before = now


def training_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that trains: without the secrets of this one.

    Args:
        settings: variables that give it this process's settings, without secrets.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("JOBREC_")
    }
    return {**inherited, **settings}


class TrainingLauncher:
    """Starts a training in a process of its own, so that serving keeps its processor share.

    Args:
        environment: variables that give the process this one's settings, without secrets.
        has_ended: tells whether the run of an id has ended.
        patience: seconds that a process may go on after its run was cancelled, and at most twice
            as many; then it is killed, for it would keep others from training.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        has_ended: Callable[[str], bool],
        patience: float = 5.0,
    ) -> None:
        self._environment = environment
        self._has_ended = has_ended
        self._patience = patience

    def __call__(self, run: TrainingRun, lease: Lease) -> None:
        """Start the process; it takes the lease over and outlives this one if it must."""
        descriptor = lease.fileno()
        process = subprocess.Popen(  # noqa: S603 - our own command, with an id that we made
            [sys.executable, "-m", "graphql_api", "execute-run", run.id, str(descriptor)],
            env=training_environment(self._environment),
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
        )
        threading.Thread(
            target=self._watch, args=(process, run.id), name="jobrec-training", daemon=True
        ).start()

    def _watch(self, process: subprocess.Popen[bytes], run_id: str) -> None:
        """Wait for a training process, which would stay behind as a zombie otherwise."""
        is_overdue = False
        while True:
            try:
                process.wait(self._patience)
            except subprocess.TimeoutExpired:
                pass  # the usual case: it is at work
            else:
                return
            try:
                has_ended = self._has_ended(run_id)
            except JobrecError as error:
                _log.warning("whether run %s goes on is unknown: %s", run_id, error)
                continue
            if has_ended and is_overdue:
                _log.warning("the process of run %s did not stop and is killed", run_id)
                process.kill()
            is_overdue = has_ended
