"""Worker processes that are forked from the one that supervises them, where that is safe.

uvicorn begins each worker as a new interpreter: two of them import, on two processors, for as long
as all else that a start takes, each holds for itself what it imported, and so does whoever takes
the place of one that died. Here the supervisor imports once what workers answer with, and forks
them.

A fork copies the memory, the descriptors and that one thread which forks. So the supervisor runs no
other, and has nothing open but standard streams, the socket to listen on, the pipes to its workers,
and a file of counts, which prometheus_client exchanges in a process of another id. What it drew at
random before is the same in all workers, `random` and `secrets` apart, which begin anew.
"""

from __future__ import annotations

import gc
import signal
import sys
from importlib import import_module
from multiprocessing.context import ForkContext, ForkProcess

from graphql_api.container import load_kernel

_ANSWERING = (
    "graphql_api.app",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)

CAN_FORK = sys.platform == "linux"
"""macOS has a fork, too, but libraries of its own do not survive it."""


def fork_workers() -> None:
    """Load what workers answer with, and have uvicorn fork them from this process."""
    from uvicorn import _subprocess
    from uvicorn.loops.auto import auto_loop_factory

    for name in _ANSWERING:
        import_module(name)
    auto_loop_factory()
    load_kernel()
    # A release of uvicorn that calls it otherwise has new interpreters, as ever
    _subprocess.spawn = Forking()  # type: ignore[assignment] # it is only asked for processes


class _Worker(ForkProcess):
    """A process that deals with signals as a new one does, from its first moment on."""

    def start(self) -> None:
        """Fork."""
        # One that is sent at once waits until the new process has given up this one's handlers
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def run(self) -> None:
        """Do in the new process what it is for."""
        gc.disable()  # as at the start of any; the application enables it
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        super().run()


class Forking(ForkContext):
    """Makes processes that are forked from this one."""

    Process = _Worker
