"""The load generator: wrk, which keeps so many connections busy for a while."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.measuring import ROOT

_SCRIPT = ROOT / "bench" / "wrk.lua"
_PATIENCE_SECONDS = 30


class Shot(NamedTuple):
    """What wrk found; times in seconds.

    Attributes:
        requests: that were answered.
        sent: those and what was under way at the end.
        refused: answered with another status than 2xx or 3xx.
        lost: not answered.
        wrong: answered with GraphQL errors.
        cpu_seconds: processor time of the servers; wrk does not know it.
    """

    requests: int
    sent: int
    seconds: float
    p50: float
    p99: float
    slowest: float
    refused: int
    lost: int
    wrong: int
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    @property
    def cpu(self) -> float:
        """Processor time of the servers for an answer, in seconds."""
        return self.cpu_seconds / max(1, self.requests)

    @property
    def failed(self) -> int:
        """How many requests were not answered as they should be."""
        return self.refused + self.lost + self.wrong


def missing() -> str | None:
    """Return what to say where wrk is not installed, None if it is."""
    if shutil.which("wrk") is not None:
        return None
    return "the load of serving comes from wrk, which is not installed: apt-get install wrk"


def fire(
    url: str,
    bodies: Path,
    connections: int,
    seconds: int,
    headers: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Shot:
    """Post bodies over connections that are kept alive, each sending when it has its answer.

    Args:
        bodies: a JSON body a line, sent in turns.
        prefix: what runs the command, such as taskset.

    Raises:
        RuntimeError: wrk failed.
    """
    command = [*prefix, "wrk", "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{seconds}s", "--timeout", "10s", "--script", str(_SCRIPT)]
    command += [url, "--", str(bodies)]
    command += [f"{name}={value}" for name, value in (headers or {}).items()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + _PATIENCE_SECONDS, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(lines) != 1:
        raise RuntimeError(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    return Shot(**json.loads(lines[0]))


def pinned(core: int | None) -> list[str]:
    """Return what runs a command on one core; nothing for None."""
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
