"""The only place with threads and processes."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from domain.errors import JobrecError
from domain.ports import Lease
from domain.runs import TrainingRun

P = ParamSpec("P")
T = TypeVar("T")

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


class Runtime:
    """Runs use cases beside the event loop, and follows what changes outside this process.

    Args:
        chores: called again and again in a thread, for following the promoted model and the like.
        interval: seconds between two rounds of chores.
    """

    def __init__(self, chores: Sequence[Callable[[], object]], interval: float = 0.25) -> None:
        self._chores = chores
        self._interval = interval
        self._pool = ThreadPoolExecutor(
            max_workers=min(8, (os.cpu_count() or 1) + 2), thread_name_prefix="jobrec"
        )
        self._stopping = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="jobrec-chores", daemon=True)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a use case in a thread, so that the loop keeps answering others."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def start(self) -> None:
        """Do each chore once, then keep doing them in the background."""
        self._do_chores()
        self._follower.start()

    def stop(self) -> None:
        """Stop the chores and wait for what is running."""
        self._stopping.set()
        self._follower.join()
        self._pool.shutdown()

    def _follow(self) -> None:
        # None where this process serves alone
        supervisor = multiprocessing.parent_process()
        while not self._stopping.wait(self._interval):
            if supervisor is not None and not supervisor.is_alive():
                # Whoever stayed would answer for ever, and keep the port from the next start
                _log.error("the process that supervises the workers is gone; this one ends")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._do_chores()

    def _do_chores(self) -> None:
        for chore in self._chores:
            try:
                chore()
            except JobrecError as error:
                _log.warning("%s", error)
            except Exception:  # noqa: BLE001 - the follower must outlive a disk that is full for a minute
                _log.exception("a background task failed and will be tried again")


class TrainingLauncher:
    """Starts a training in a process of its own, so that serving keeps its processor share.

    Args:
        environment: variables that give the process this one's settings, without secrets.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, run: TrainingRun, lease: Lease) -> None:
        """Start the process; it takes the lease over and outlives this one if it must."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("JOBREC_")
        }
        descriptor = lease.fileno()
        process = subprocess.Popen(  # noqa: S603 - our own command, with an id that we made
            [sys.executable, "-m", "graphql_api", "execute-run", run.id, str(descriptor)],
            env={**inherited, **self._environment},
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
        )
        # Waited for, so that it does not stay behind as a zombie
        threading.Thread(target=process.wait, name="jobrec-training", daemon=True).start()
