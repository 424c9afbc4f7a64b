"""Which vectors of employers are better: `python -m bench.vectorisers NAME=FOLDER...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from adapters.employers import Reduced, TextEmployerLearner, TypingPolicy, Vectoriser, blended
from adapters.texts import stop_words, tokeniser
from application.employers import all_jobs, gathered
from bench.planted import adverts
from domain.employers import (
    Amendments,
    EmployerNotes,
    EmployerText,
    nearest,
    neighbour_agreement,
    unit,
)
from domain.model import FloatArray, Interactions, Job, TimeWindow
from domain.ports import JobVectors, nobody
from graphql_api.container import Container
from graphql_api.settings import CatalogKind, Settings

_SEED, _K, _BLEND = 42, 10, 0.3
_KINDS = 12


def main() -> None:
    """Print a table, a row for each way and data set."""
    print("| data | vectors | blend | split-half@10 (x chance) | silhouette | co-interest lift |")
    print("| --- | --- | --: | --: | --: | --: |")
    with threadpool_limits(1):
        for argument in sys.argv[1:]:
            name, folder = argument.split("=", 1)
            for row in _rows(name, Path(folder)):
                print(row, flush=True)
        for vectoriser in Vectoriser:
            print(f"planted, {vectoriser}: ARI {_planted(vectoriser):.3f}", flush=True)


def _rows(name: str, folder: Path) -> Iterator[str]:
    container = Container(settings=Settings(data=folder, catalog=CatalogKind.JSONL))  # type: ignore[call-arg] # pydantic fills in the rest
    corpus = gathered(all_jobs(container.catalog()), EmployerNotes())
    interest = None
    if (folder / "activities.jsonl").stat().st_size:
        tally, _ = container.activity_log().tally(TimeWindow(), nobody)
        # Factors learn from other people than those whose co-interest judges them
        is_first = tally.user_ids % 2 == 0
        scoring = container.scoring()
        known = scoring.interactions(tally.select(is_first))
        fitted = container.trainer().fit(known, _SEED, nobody)
        factors = JobVectors(known.jobs, np.asarray(fitted.arrays()["job_factors"]))
        interest = (factors, scoring.interactions(tally.select(~is_first)))
    for vectoriser in Vectoriser:
        learner = _learner(vectoriser)
        reduced = _reduced(learner, corpus)
        rows = np.flatnonzero(reduced.distinct >= TypingPolicy().min_words)
        text = learner.vectors(reduced, rows, _SEED)
        for blend in (0.0, _BLEND) if interest is not None else (0.0,):
            factors_ = None if interest is None else interest[0]
            vectors = _blend(text, corpus, rows, factors_, blend)
            labels, _ = replace_types(learner, len(rows)).clustered(vectors, _SEED)
            silhouette = silhouette_score(vectors, labels, metric="cosine")
            agreement, chance = _split_half(learner, corpus, factors_, blend)
            lift = "-" if interest is None else f"{_lift(vectors, corpus, rows, interest[1]):.1f}"
            yield (
                f"| {name} | {vectoriser} | {blend:g} | {agreement:.3f} ({agreement / chance:.1f}) "
                f"| {silhouette:.3f} | {lift} |"
            )


def replace_types(learner: TextEmployerLearner, rows: int) -> TextEmployerLearner:
    """Return a learner of a fixed number of types, so that silhouettes compare."""
    return learner.of_types(min(_KINDS, rows // 4))


def _learner(vectoriser: Vectoriser) -> TextEmployerLearner:
    return TextEmployerLearner(
        tokeniser(), stop_words(), typing=TypingPolicy(vectoriser=vectoriser)
    )


def _reduced(learner: TextEmployerLearner, corpus: Sequence[EmployerText]) -> Reduced:
    sentences = learner.read(corpus)
    passes = learner.phrases(sentences, Amendments(), _SEED)
    return learner.reduce(sentences, passes, Amendments())


def _blend(
    text: FloatArray,
    corpus: Sequence[EmployerText],
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    factors: JobVectors | None,
    blend: float,
) -> FloatArray:
    return text if factors is None or not blend else blended(text, corpus, rows, factors, blend)


def _split_half(
    learner: TextEmployerLearner,
    corpus: Sequence[EmployerText],
    factors: JobVectors | None,
    blend: float,
) -> tuple[float, float]:
    """Return the agreement of neighbours between random halves of each employer's jobs."""
    rng = np.random.default_rng(_SEED)
    halves: tuple[list[EmployerText], list[EmployerText]] = ([], [])
    for employer in corpus:
        if len(employer.job_ids) < 2:
            continue
        order = rng.permutation(len(employer.job_ids))
        for half, chosen in zip(halves, (order[::2], order[1::2]), strict=True):
            half.append(
                replace(
                    employer,
                    job_ids=tuple(employer.job_ids[i] for i in chosen),
                    texts=tuple(employer.texts[i] for i in chosen),
                )
            )
    both = [*halves[0], *halves[1]]
    reduced = _reduced(learner, both)
    n = len(halves[0])
    enough = reduced.distinct >= TypingPolicy().min_words
    kept = np.flatnonzero(enough[:n] & enough[n:])
    rows = np.concatenate([kept, kept + n])
    vectors = _blend(learner.vectors(reduced, rows, _SEED), both, rows, factors, blend)
    return neighbour_agreement(vectors[: len(kept)], vectors[len(kept) :], _K)


def _lift(
    vectors: FloatArray,
    corpus: Sequence[EmployerText],
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    interactions: Interactions,
) -> float:
    """Return how much more the same people look at neighbours than at any two employers."""
    users, jobs = interactions.shape
    employer_of = np.full(jobs, -1)
    for place, row in enumerate(rows.tolist()):
        positions = interactions.jobs.positions(corpus[row].job_ids)
        employer_of[positions[positions >= 0]] = place
    looks = np.zeros((len(rows), users), dtype=np.float32)
    people = np.repeat(np.arange(users), np.diff(interactions.indptr))
    employers = employer_of[interactions.indices]
    looks[employers[employers >= 0], people[employers >= 0]] = 1
    looks = unit(looks)
    cosines = looks @ looks.T
    np.fill_diagonal(cosines, np.nan)
    near = nearest(vectors, np.arange(len(rows)), _K)
    return float(np.nanmean(np.take_along_axis(cosines, near, axis=1)) / np.nanmean(cosines))


def _planted(vectoriser: Vectoriser) -> float:
    planted = list(adverts(300, 6, 1_000, _KINDS, _SEED))
    jobs = (Job(i, employer=a.employer, description=a.description) for i, a in enumerate(planted))
    found = _learner(vectoriser).learn(gathered(jobs, EmployerNotes()), Amendments(), _SEED)
    return float(adjusted_rand_score(np.arange(300) % _KINDS, found.type_of))


if __name__ == "__main__":
    main()
