"""Types of employers at size: time, memory, and whether it finds the planted kinds."""

from __future__ import annotations

import json
from pathlib import Path

from bench.child import Outcome, Stopwatch
from bench.measuring import Candidate, calling, measure, run_once
from bench.report import Finding, Report

_KINDS, _JOBS_EACH, _CHARACTERS, _SEED = 16, 50, 2_000, 3
_NAME = "types of employers"
_MAX_SECONDS, _MAX_MB = 300, 3_000


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure learning from adverts to what is stored."""
    employers = 200 if quick else 2_000
    folder = scratch / f"adverts-{employers}"
    if not (folder / "jobs.jsonl").exists():
        run_once(Candidate("adverts", calling(write, str(folder), str(employers))), "adverts")
    result = measure([Candidate(_NAME, calling(learn, str(folder)), warm_ups=0, repetitions=1)])[
        _NAME
    ]
    outcome = result.runs[0].outcome
    found = 0 if outcome is None else outcome.answer["ari_per_mille"] / 1_000
    return Report(
        name="employers",
        title=f"{employers:,} employers of {_KINDS} planted kinds, {employers * _JOBS_EACH:,} "
        f"adverts of {_CHARACTERS / 1_000:g} KB",
        results=[result],
        findings=[
            Finding("seconds, reading included", result.seconds, "s", at_most=_MAX_SECONDS),
            Finding("peak memory", result.peak_bytes / 1e6, "MB", at_most=_MAX_MB),
            Finding("100 x adjusted Rand index of the types", 100 * found, "of 100", at_least=95),
        ],
        notes=[
            "The number of types is chosen by silhouette and stability, not given.",
            "Every sentence is another; real adverts repeat theirs, and those are counted once.",
        ],
    )


def write(folder: str, employers: str) -> Outcome:
    """Write a catalogue of planted adverts."""
    from bench.planted import adverts

    watch = Stopwatch()
    target = Path(folder)
    target.mkdir(parents=True)
    planted = adverts(int(employers), _JOBS_EACH, _CHARACTERS, _KINDS, _SEED)
    with (target / "jobs.jsonl").open("w", encoding="utf-8") as file:
        for number, advert in enumerate(planted):
            line = {"job_id": number, "employer": advert.employer}
            file.write(json.dumps({**line, "description": advert.description}) + "\n")
    (target / "users.jsonl").touch()
    watch.lap("writing")
    return watch.outcome({})


def learn(folder: str) -> Outcome:
    """Learn the types, and compare them with the planted kinds."""
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    from graphql_api.container import Container
    from graphql_api.settings import CatalogKind, Settings

    watch = Stopwatch(announce=True)
    settings = Settings(data=Path(folder), catalog=CatalogKind.JSONL)  # type: ignore[call-arg] # pydantic fills in the rest
    names = ["words", "expressions", "counting", "vectors", "types"]

    def tell(step: int, _total: int) -> None:
        watch.lap("reading" if step == 0 else names[step - 1])

    found = Container(settings=settings).employer_learning().learn(42, None, tell)
    kinds = np.arange(len(found.keys)) % _KINDS
    ari = adjusted_rand_score(kinds, found.type_of)
    return watch.outcome({"types": len(found.types), "ari_per_mille": round(1_000 * ari)})
