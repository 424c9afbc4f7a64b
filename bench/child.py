"""A candidate's own process: `python -m bench.child MODULE:FUNCTION OUTCOME [ARGUMENT...]`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a candidate's function reports of itself.

    Attributes:
        seconds: the measured part of it; preparation and checks are left out.
        answer: what every candidate of a bench must find alike.
        phases: seconds of each phase.
    """

    seconds: float
    answer: Mapping[str, int] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)


class Stopwatch:
    """Splits a stretch of time into named phases.

    Args:
        announce: whether to print each phase that ended, for what takes minutes.
    """

    def __init__(self, *, announce: bool = False) -> None:
        self._announce = announce
        self._started = self._last = time.perf_counter()
        self.phases: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        """End a phase; one that is named again grows."""
        now = time.perf_counter()
        self.phases[phase] = self.phases.get(phase, 0.0) + now - self._last
        if self._announce:
            print(f"    {phase}: {now - self._last:.1f} s", file=sys.stderr, flush=True)
        self._last = now

    def outcome(self, answer: Mapping[str, int]) -> Outcome:
        """Return the outcome of what was timed, up to the last lap."""
        return Outcome(self._last - self._started, answer, self.phases)


def main() -> None:
    """Call the function, and leave what it reports in a file."""
    target, outcome_path, *arguments = sys.argv[1:]
    module, name = target.split(":")
    outcome = getattr(import_module(module), name)(*arguments)
    Path(outcome_path).write_text(json.dumps(dataclasses.asdict(outcome)))


if __name__ == "__main__":
    main()
