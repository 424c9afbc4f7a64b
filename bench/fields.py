"""What titles and employers add to the price of ids, over HTTP."""

from __future__ import annotations

import secrets
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from bench.load import Served, open_demo, served
from bench.report import Finding, Report

_PEOPLE, _FIRST = 100, 10
_ASKED = """query ($users: [ID!]!, $first: Int!) {{
  batchRecommendations(userIds: $users, first: $first) {{
    items {{ job {{ id {0} }} }} }} }}"""
_SELECTED = {
    "ids": "",
    "titles and employers": "title employer { name }",
    "with 3 similar jobs": "title employer { name } similar(first: 3) { items { job { title } } }",
}


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure a batch with more and more of its jobs selected, in turns."""
    folder = open_demo(scratch, 0.1 if quick else 1.0)
    state = scratch / f"fields-{secrets.token_hex(4)}"
    # Each answer is worked out: what is given again costs next to nothing, whatever it holds
    options = ("--log-level", "warning", "--memo-bytes", "0")
    with served(folder, state, *options) as service:
        turns = [
            {name: _seconds(service, selected) for name, selected in _SELECTED.items()}
            for _ in range(10 if quick else 40)
        ][2:]
    measured = {name: statistics.median(turn[name] for turn in turns) for name in _SELECTED}
    ids, *others = measured
    return _Timed(
        name="fields",
        title=f"{_PEOPLE} people x {_FIRST} jobs over HTTP, 1 worker, in turns, medians",
        results=[],
        measured=measured,
        findings=[
            Finding(f"{others[0]} / {ids}", measured[others[0]] / measured[ids], at_most=1.5),
            Finding(f"{others[1]} / {ids}", measured[others[1]] / measured[ids]),
        ],
        notes=["All ask for the id of each job and for nothing else of a list."],
    )


def _seconds(service: Served, selected: str) -> float:
    begun = time.perf_counter()
    service.post(_ASKED.format(selected), users=list(range(1, _PEOPLE + 1)), first=_FIRST)
    return time.perf_counter() - begun


@dataclass(frozen=True)
class _Timed(Report):
    measured: dict[str, float] = None  # type: ignore[assignment] # always given; the base has defaults

    def _times(self) -> list[str]:
        return [f"- {name}: {1e3 * seconds:.1f} ms" for name, seconds in self.measured.items()]
