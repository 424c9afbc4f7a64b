"""Runs candidates in processes of their own, and takes time, processor time and peak memory.

The kernel hands the resources of exactly that process over when it ends (`wait4`, the RUSAGE_SELF
and RUSAGE_CHILDREN of its last moment), so a candidate need not be written in Python. Its peak
memory cannot be reported below that of the process which starts it (Linux carries the mark over
`exec`), hence this one imports no numpy.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.child import Outcome

_SECONDS_BETWEEN_LOOKS = 0.1

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Candidate:
    """One way of doing what a bench compares.

    Attributes:
        name: as the tables call it.
        command: what to run. `{fresh}` in an argument stands for a folder, new for each run.
        whole_process: whether the time counts from the start of the process to its end, rather
            than what the function reports of itself.
        warm_ups: runs beforehand that do not count.
        repetitions: runs that count.
        samples_memory: whether to look at the memory of all its processes together, some times a
            second, which costs it a little time.
    """

    name: str
    command: Sequence[str]
    whole_process: bool = False
    warm_ups: int = 1
    repetitions: int = 3
    samples_memory: bool = False


@dataclass(frozen=True)
class Run:
    """One run of a candidate.

    Attributes:
        seconds: the time that counts.
        process_seconds: from the start of the process to its end.
        cpu_seconds: user and system time of the whole process, all threads.
        peak_bytes: the most memory that was resident at once, in its largest process.
        outcome: what the candidate's function reported, if it is one.
        peak_of_all_bytes: the most that all its processes held together, as far as seen; pages
            that they share count once (Pss). 0 where nobody looked.
    """

    seconds: float
    process_seconds: float
    cpu_seconds: float
    peak_bytes: int
    outcome: Outcome | None = None
    peak_of_all_bytes: int = 0


@dataclass(frozen=True)
class Result:
    """All counted runs of a candidate."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest run."""
        seconds = [run.seconds for run in self.runs]
        return min(seconds), max(seconds)

    @property
    def process_seconds(self) -> float:
        """The median from the start of the process to its end."""
        return statistics.median(run.process_seconds for run in self.runs)

    @property
    def cpu_seconds(self) -> float:
        """The median."""
        return statistics.median(run.cpu_seconds for run in self.runs)

    @property
    def peak_bytes(self) -> int:
        """The highest of all runs."""
        return max(run.peak_bytes for run in self.runs)

    @property
    def peak_of_all_bytes(self) -> int:
        """The highest of all runs."""
        return max(run.peak_of_all_bytes for run in self.runs)

    @property
    def phases(self) -> dict[str, float]:
        """The median of each phase that the candidate reported, in its order."""
        reported = [run.outcome.phases for run in self.runs if run.outcome is not None]
        names = dict.fromkeys(name for phases in reported for name in phases)
        return {
            name: statistics.median(phases.get(name, 0.0) for phases in reported) for name in names
        }


def calling(function: Callable[..., Outcome], *arguments: str) -> list[str]:
    """Return the command that calls a function of this package with these arguments."""
    target = f"{function.__module__}:{function.__qualname__}"
    return [sys.executable, "-m", "bench.child", target, "{fresh}/outcome.json", *arguments]


def measure(candidates: Sequence[Candidate]) -> dict[str, Result]:
    """Run every candidate, in turns, so that a busy minute of the machine hits all of them.

    Raises:
        RuntimeError: a candidate failed, or two of them came to different answers.
    """
    results = {candidate.name: Result(candidate.name) for candidate in candidates}
    for turn in range(max(candidate.warm_ups for candidate in candidates)):
        for candidate in candidates:
            if turn < candidate.warm_ups:
                run_once(candidate, f"warm-up {turn + 1}")
    for turn in range(max(candidate.repetitions for candidate in candidates)):
        for candidate in candidates:
            if turn < candidate.repetitions:
                label = f"{turn + 1} of {candidate.repetitions}"
                results[candidate.name].runs.append(run_once(candidate, label))
    _compare(results)
    return results


def run_once(candidate: Candidate, label: str = "") -> Run:
    """Run a candidate once, and say so on standard error.

    Raises:
        RuntimeError: it failed.
    """
    print(f"  {candidate.name}: {label} ...", file=sys.stderr, flush=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("JOBREC_")
    }
    with tempfile.TemporaryDirectory(prefix="jobrec-bench-run-") as fresh:
        command = [argument.replace("{fresh}", fresh) for argument in candidate.command]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        with _Sampling(process.pid if candidate.samples_memory else None) as sampling:
            _, status, usage = os.wait4(process.pid, 0)
            elapsed = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{candidate.name} ended with exit code {process.returncode}")
        outcome = _outcome(Path(fresh) / "outcome.json")
    run = Run(
        seconds=elapsed if outcome is None or candidate.whole_process else outcome.seconds,
        process_seconds=elapsed,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        # Kibibytes on Linux, bytes on macOS
        peak_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        outcome=outcome,
        peak_of_all_bytes=sampling.most,
    )
    print(
        f"  {candidate.name}: {run.seconds:.2f} s, {run.peak_bytes / 1e6:,.0f} MB",
        file=sys.stderr,
        flush=True,
    )
    return run


class _Sampling:
    """Looks at the memory of a process and its descendants until it is left; None is nobody."""

    def __init__(self, process: int | None) -> None:
        self.most = 0
        self._process = process
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self._process is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._process is not None:
            self._thread.join()

    def _look(self) -> None:
        while self._process is not None and not self._is_over.wait(_SECONDS_BETWEEN_LOOKS):
            self.most = max(self.most, _memory_of_all(self._process))


def _memory_of_all(process: int) -> int:
    """Return the proportional bytes of a process and its descendants; one that ended has none."""
    folder = Path(f"/proc/{process}")
    try:
        fields = (folder / "smaps_rollup").read_text().split()
        children = (folder / f"task/{process}/children").read_text().split()
        bytes_ = 1024 * int(fields[fields.index("Pss:") + 1])
    except (OSError, ValueError):
        return 0
    return bytes_ + sum(_memory_of_all(int(child)) for child in children)


def _outcome(path: Path) -> Outcome | None:
    return Outcome(**json.loads(path.read_text())) if path.exists() else None


def _compare(results: Mapping[str, Result]) -> None:
    answers = [
        (result.name, run.outcome.answer)
        for result in results.values()
        for run in result.runs
        if run.outcome is not None
    ]
    if any(answer != answers[0][1] for _, answer in answers):
        raise RuntimeError(f"the candidates do not agree: {answers}")
