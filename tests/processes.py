"""Processes of their own that are forked after the imports, which take most of a short command.

They are forked from one process that has imported this project and has done nothing yet, so that
each begins as a new one does. They share the seed of hashes; what shall be the same whatever that
seed is must be started anew.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    ["graphql_api.command_line", "adapters.als", "adapters.neighbours", "adapters.lmdb_catalog"]
)


def run_module(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Do what `python -Wdefault -m` does, and return how it ended and what it printed.

    Raises:
        subprocess.TimeoutExpired: it took longer than `seconds`, and was killed.
    """
    with TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = _FORKING.Process(
            target=_module, args=(module, arguments, environment, Path.cwd(), output, errors)
        )
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, seconds)
        return subprocess.CompletedProcess(
            arguments, process.exitcode, output.read_text(), errors.read_text()
        )


def _module(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    output: Path,
    errors: Path,
) -> None:
    for path, descriptor in ((output, 1), (errors, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = arguments
    warnings.resetwarnings()
    warnings.simplefilter("default")
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@dataclass(frozen=True)
class Script:
    """A process that runs a script, and what it prints."""

    process: ForkServerProcess
    lines: TextIO

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.join()


@contextmanager
def script(source: str, *arguments: str | Path) -> Iterator[Script]:
    """Do what `python -c` does until the block ends."""
    hears, tells = _FORKING.Pipe(duplex=False)
    process = _FORKING.Process(target=_script, args=(source, list(map(str, arguments)), tells))
    process.start()
    tells.close()
    with hears, open(hears.fileno(), closefd=False) as lines:
        started = Script(process, lines)
        try:
            yield started
        finally:
            started.kill()


def _script(source: str, arguments: list[str], tells: Connection) -> None:
    os.dup2(tells.fileno(), 1)
    tells.close()
    sys.argv[1:] = arguments
    exec(compile(source, "<script>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's own
