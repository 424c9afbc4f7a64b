"""From an activity file to a model that can be served."""

from __future__ import annotations

import json
import os
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import data
from bench.child import Outcome, Stopwatch
from bench.measuring import Candidate, calling, measure, run_once
from bench.report import Finding, Report

_COMMAND, _GATED, _FIRST = "jobrec train --hold-out 0", "jobrec train", "jobrec train, the first"
_IN_PROCESS = "jobrec train, without process start"
_PANDAS, _PANDAS_AT = "row by row in pandas", "row by row in pandas, .at"
_BARE_FIT = "bare implicit fit"
_FACTORS, _REGULARIZATION, _ITERATIONS, _ALPHA = 64, 0.05, 15, 2.0


def run(scratch: Path, *, quick: bool) -> Report:
    """Measure jobrec against the way of the service that it replaces.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    if find_spec("pandas") is None:
        raise ModuleNotFoundError("the bench `train` needs pandas: pip install -e '.[bench]'")
    folder = data.demo(scratch, 0.1 if quick else 1.0)
    path = folder / "activities.jsonl"
    lines = data.warm(path)
    repetitions = 2 if quick else 5
    # As `make bench` does: else every process compiles our modules anew
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    state = str(scratch / f"train-{secrets.token_hex(4)}")
    train = [sys.executable, "-m", "graphql_api", "train", "--data", str(folder)]
    # The row-by-row ways learn nothing of employers either
    train += ["--log-level", "warning", "--employers", "off", "--state"]
    run_once(Candidate("a live model and a catalogue", [*train, state]))
    results = measure(
        [
            Candidate(
                _COMMAND,
                [*train, state, "--hold-out", "0"],
                whole_process=True,
                repetitions=repetitions,
            ),
            Candidate(_GATED, [*train, state], whole_process=True, repetitions=repetitions),
            Candidate(
                _FIRST,
                [*train, "{fresh}/state"],
                whole_process=True,
                warm_ups=0,
                repetitions=1 if quick else 2,
            ),
            Candidate(_IN_PROCESS, calling(jobrec, str(folder), state), repetitions=repetitions),
            Candidate(
                _PANDAS,
                calling(row_by_row, str(path), "{fresh}/model.pickle", "loc"),
                whole_process=True,
                warm_ups=0,
                repetitions=1,
            ),
            Candidate(
                _PANDAS_AT,
                calling(row_by_row, str(path), "{fresh}/model.pickle", "at"),
                whole_process=True,
                warm_ups=0,
                repetitions=1,
            ),
            Candidate(_BARE_FIT, calling(bare_fit, str(folder)), repetitions=repetitions),
        ]
    )
    ours, pandas, fit = results[_COMMAND], results[_PANDAS], results[_BARE_FIT]
    gated = results[_GATED]
    answer = pandas.runs[0].outcome
    shape = "" if answer is None else "{users:,} users x {jobs:,} jobs".format(**answer.answer)
    return Report(
        name="train",
        title=f"{lines:,} activity lines to a servable model, {shape}; "
        f"{_FACTORS} factors, {_ITERATIONS} iterations",
        results=[
            *(ours, gated, results[_FIRST], results[_IN_PROCESS]),
            *(pandas, results[_PANDAS_AT], fit),
        ],
        notes=[
            (
                f"{_COMMAND}: a fresh process, start of the interpreter and imports included, "
                "where a model is live and the catalogue is imported: reads, scores, fits, learns "
                "what texts tell, writes the snapshot with checksums to disk (fsync) and promotes "
                "it. The row-by-row ways do less: no neighbours, no texts, and nothing measured."
            ),
            (
                f"{_GATED}: before that the recipe is fitted in brief on an earlier part and "
                "measured beside popularity, for the promotion policy: what a retrain is."
            ),
            f"{_FIRST}: that in an empty folder, which imports the catalogue before.",
            f"{_IN_PROCESS}: a retrain after all imports.",
            "All of these with `--employers off`, for the row-by-row ways learn no types either.",
            (
                f"{_PANDAS}: a fresh process as well: `iterrows` into nested dicts, scores in "
                "plain Python, a dense user x job DataFrame filled cell by cell with `.loc`, "
                "`csr_matrix(frame.values)`, implicit, pickle. One run, no warm-up."
            ),
            (
                f"{_PANDAS_AT}: the same but for `.at` in place of `.loc`, because what one `.loc` "
                "costs differs widely between releases of pandas, and it decides the ratio."
            ),
            (
                f"{_BARE_FIT}: only `AlternatingLeastSquares.fit` on the ready matrix, BLAS "
                "limited to one thread as jobrec does it; memory includes what made the matrix."
            ),
            (
                "Users, jobs, pairs and the sum of scores of the matrices are compared, and agree; "
                "only the command line does not report them."
            ),
        ],
        findings=[
            Finding(f"time, {_PANDAS} / {_COMMAND}", pandas.seconds / ours.seconds, at_least=20),
            Finding(f"time, {_PANDAS} / {_GATED}", pandas.seconds / gated.seconds, at_least=20),
            Finding(f"time, {_PANDAS_AT} / {_COMMAND}", results[_PANDAS_AT].seconds / ours.seconds),
            Finding(f"peak memory of {_GATED}", gated.peak_bytes / 1e6, "MB", at_most=300),
            Finding(f"peak memory of {_PANDAS}", pandas.peak_bytes / 1e6, "MB"),
            Finding(f"time, {_COMMAND} / {_BARE_FIT}", ours.seconds / fit.seconds),
            Finding(f"time, {_GATED} / {_BARE_FIT}", gated.seconds / fit.seconds, at_most=1.6),
            Finding(
                f"time, {_IN_PROCESS} / {_BARE_FIT}", results[_IN_PROCESS].seconds / fit.seconds
            ),
        ],
    )


def jobrec(folder: str, state: str) -> Outcome:
    """Train as `jobrec train` does, in this process."""
    import adapters.als  # noqa: F401 - so that the time goes to imports
    from domain.ports import Begun
    from domain.runs import RunRequest, RunStatus, TrainingPhase
    from graphql_api.container import Container
    from graphql_api.settings import EmployerTyping, Settings

    watch = Stopwatch()
    settings = Settings(  # type: ignore[call-arg] # pydantic fills in the rest
        data=Path(folder), state=Path(state), employers=EmployerTyping.OFF
    )
    container = Container(settings=settings)
    begun = container.runs().begin(RunRequest(), "bench", None)
    if not isinstance(begun, Begun):
        raise TypeError(f"a fresh folder holds a run already: {begun!r}")
    current = "setting up"

    def follow(phase: TrainingPhase, _step: int, _total: int) -> None:
        nonlocal current
        name = phase.lower()
        if name != current:
            watch.lap(current)
            current = name

    run = container.training().execute(begun.run, follow)
    begun.lease.close()
    watch.lap(current)
    if run.status is not RunStatus.SUCCEEDED or run.model_version is None:
        raise RuntimeError(f"the training ended as {run.status}: {run.failure}")
    arrays = container.snapshots().open(run.model_version).arrays
    return watch.outcome(_answer(len(arrays["user_ids"]), len(arrays["job_ids"]), arrays["scores"]))


def bare_fit(folder: str) -> Outcome:
    """Fit on the ready matrix, as jobrec's trainer sets the library up."""
    import numpy as np
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    from domain.model import TimeWindow
    from domain.ports import nobody
    from domain.scoring import ScoringPolicy

    tally, _ = data.activity_log(folder).tally(TimeWindow(), nobody)
    ready = ScoringPolicy.funnel().interactions(tally)
    matrix = csr_matrix(
        (ready.scores, ready.indices, ready.indptr.astype(np.int32)), shape=ready.shape
    )
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=_FACTORS,
            regularization=_REGULARIZATION,
            alpha=_ALPHA,
            iterations=_ITERATIONS,
            num_threads=0,  # all cores, as is the default of jobrec
            random_state=42,
        )
        watch = Stopwatch()
        model.fit(matrix, show_progress=False)
        watch.lap("fit")
    return watch.outcome(_answer(*ready.shape, ready.scores))


def row_by_row(path: str, target: str, indexer: str) -> Outcome:
    """Train as the replaced service did: row by row, cell by cell, through a dense matrix.

    Args:
        path: the activities.
        target: where to pickle the model.
        indexer: `loc` or `at`, by which cells are set.
    """
    import pickle

    import pandas as pd
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    watch = Stopwatch(announce=True)
    with Path(path).open(encoding="utf-8") as file:
        activities = pd.DataFrame([json.loads(line) for line in file])
    watch.lap("reading")

    counts: dict[int, dict[int, dict[str, int]]] = {}
    for _, activity in activities.iterrows():
        jobs = counts.setdefault(activity["user_id"], {})
        pair = jobs.setdefault(activity["job_id"], {"impression": 0, "redirect": 0})
        pair[activity["type"]] += 1
    watch.lap("iterrows")

    scores = {
        user: {job: _score(pair["impression"], pair["redirect"]) for job, pair in jobs.items()}
        for user, jobs in counts.items()
    }
    watch.lap("scoring")

    all_jobs = sorted({job for jobs in scores.values() for job in jobs})
    frame = pd.DataFrame(0.0, index=sorted(scores), columns=all_jobs)
    cells = getattr(frame, indexer)
    for user, row in scores.items():
        for job, score in row.items():
            cells[user, job] = score
    watch.lap("dense frame")

    matrix = csr_matrix(frame.values)
    watch.lap("csr")

    model = AlternatingLeastSquares(
        factors=_FACTORS,
        regularization=_REGULARIZATION,
        alpha=_ALPHA,
        iterations=_ITERATIONS,
        random_state=42,
    )
    model.fit(matrix, show_progress=False)
    watch.lap("fit")

    with Path(target).open("wb") as file_:
        pickle.dump((model, list(frame.index), list(frame.columns)), file_)
    watch.lap("pickle")
    return watch.outcome(_answer(len(frame.index), len(frame.columns), matrix.data))


def _score(impressions: int, redirects: int) -> int:
    """Score a pair by the funnel rule."""
    shown, redirected = min(impressions, 10), min(redirects, 10)
    score = 2 * redirected + shown - max(0, shown - redirected)
    if redirected:
        score = max(score, 2)
    if shown:
        score = max(score, 1)
    return score


def _answer(users: int, jobs: int, scores: Any) -> dict[str, int]:  # noqa: ANN401 - an array; numpy is imported by candidates only
    return {"users": users, "jobs": jobs, "pairs": len(scores), "sum": int(scores.sum(dtype=float))}
