"""What servers under load should answer, found out beforehand without them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.child import Outcome, Stopwatch

FIRST = 10
_CHECKED = 40
_CLOSE = 1e-4
"""Of scores in float32 that were added up in another order."""

Scored = list[tuple[int, float]]
"""A list: ids of jobs with their scores, best first."""


@dataclass(frozen=True)
class Expected:
    """What may be asked, and what the answer is for some of it.

    Attributes:
        people: the ids of all whom the model knows.
        jobs: likewise.
        recommended: by person, what jobrec's use case lists.
        factors_only: by person, the best by inner product, without what neighbours and trend add.
        similar: by job, what jobrec's use case lists.
        titles: by job, of all that is listed.
    """

    people: list[int]
    jobs: list[int]
    recommended: dict[int, Scored]
    factors_only: dict[int, Scored]
    similar: dict[int, Scored]
    titles: dict[int, str]

    @classmethod
    def read(cls, path: Path) -> Expected:
        """Read what `write_expected` wrote."""
        stored: dict[str, Any] = json.loads(path.read_text())
        for name in ("recommended", "factors_only", "similar", "titles"):
            stored[name] = {int(id_): found for id_, found in stored[name].items()}
        return cls(**stored)

    def check_rest(self, url: str) -> None:
        """Ask the reference, and compare.

        Raises:
            RuntimeError: an answer is another.
        """
        asked = list(self.recommended)
        for user_id in asked:
            answer = post(f"{url}/recommend", {"user_id": user_id, "k": FIRST})
            _compare("reference", user_id, _of_rest(answer), self.factors_only[user_id])
        answers = post(f"{url}/recommend/bulk", {"user_ids": asked, "k": FIRST})
        for user_id, answer in zip(asked, answers, strict=True):
            _compare("reference, bulk", user_id, _of_rest(answer), self.factors_only[user_id])
        for job_id, expected in self.similar.items():
            answer = post(f"{url}/similar", {"job_id": job_id, "k": FIRST})
            _compare("reference, similar", job_id, _of_rest(answer), expected)

    def check_graphql(self, url: str, headers: Mapping[str, str], queries: Queries) -> None:
        """Ask jobrec, and compare ids, scores and titles.

        Raises:
            RuntimeError: an answer is another, or holds errors.
        """
        asked = list(self.recommended)
        for user_id in asked:
            body = graphql(queries.single, "Check", id=str(user_id))
            answer = post(f"{url}/graphql", body, headers)["data"]["recommendations"]
            self._compare(user_id, answer, self.recommended)
        for query in (queries.batch, queries.batch_with_titles):
            body = graphql(query, "Check", ids=[str(user_id) for user_id in asked])
            answers = post(f"{url}/graphql", body, headers)["data"]["batchRecommendations"]
            for user_id, answer in zip(asked, answers, strict=True):
                self._compare(user_id, answer, self.recommended)
        for job_id in self.similar:
            body = graphql(queries.similar, "Check", id=str(job_id))
            answer = post(f"{url}/graphql", body, headers)["data"]["similarJobs"]
            self._compare(job_id, answer, self.similar)

    def _compare(self, id_: int, answer: Any, expected: Mapping[int, Scored]) -> None:  # noqa: ANN401 - JSON
        items = answer["items"]
        listed = [(int(item["job"]["id"]), item["score"]) for item in items]
        _compare("jobrec", id_, listed, expected[id_])
        titled = {
            int(item["job"]["id"]): item["job"]["title"] for item in items if "title" in item["job"]
        }
        if any(self.titles[job_id] != title for job_id, title in titled.items()):
            raise RuntimeError(f"jobrec answers the titles {titled} for {id_}")


@dataclass(frozen=True)
class Queries:
    """What jobrec is asked; `{name}` in them names the operation."""

    single: str
    batch: str
    batch_with_titles: str
    similar: str


def graphql(query: str, name: str, **variables: object) -> dict[str, object]:
    """Return the body of a GraphQL request."""
    return {"query": query.replace("{name}", name), "variables": variables}


def post(url: str, body: object, headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
    """Post JSON and return the JSON of the answer.

    Raises:
        RuntimeError: the answer holds GraphQL errors.
    """
    request = urllib.request.Request(  # noqa: S310 - our own service
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own service
        found = json.load(answer)
    if "errors" in found:
        raise RuntimeError(f"{url} answers {found['errors']}")
    return found


def write_expected(data: str, state: str, path: str) -> Outcome:
    """Find out what is to be answered by jobrec's use cases and by plain inner products."""
    import numpy as np

    from application.recommending import Recommending
    from domain.model import ActivityKind
    from graphql_api.container import Container
    from graphql_api.settings import Settings

    watch = Stopwatch()
    settings = Settings(data=Path(data), state=Path(state))  # type: ignore[call-arg] # pydantic fills in the rest
    container = Container(settings=settings)
    container.models().refresh()
    recommending: Recommending = container.recommending()
    model = container.models().live
    interactions, catalog = model.interactions, container.catalog()
    people, jobs = interactions.users.ids.tolist(), interactions.jobs.ids.tolist()
    asked = people[:: max(1, len(people) // _CHECKED)][:_CHECKED]
    lists = recommending.for_users(asked, FIRST)
    recommended = {
        asked_id: [(item.job_id, item.score) for item in list_.items]
        for asked_id, list_ in zip(asked, lists, strict=True)
    }
    resembled = recommending.similar_lists(jobs[:: max(1, len(jobs) // _CHECKED)], FIRST)
    similar = {
        job_id: [(item.job_id, item.score) for item in list_.items]
        for job_id, list_ in resembled.items()
    }
    arrays = container.snapshots().open(model.manifest.version).arrays
    standing = catalog.standing(interactions.jobs.ids, container.clock()(), None)
    factors_only: dict[int, Scored] = {}
    for row, user_id in zip(interactions.users.positions(asked).tolist(), asked, strict=True):
        scores = arrays["job_factors"].astype(np.float64) @ arrays["user_factors"][row]
        scores[~(standing.listed & standing.open)] = -np.inf
        entries = slice(arrays["indptr"][row], arrays["indptr"][row + 1])
        has_applied = (arrays["kinds"][entries] & ActivityKind.APPLY.flag) != 0
        scores[arrays["indices"][entries][has_applied]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:FIRST]
        factors_only[user_id] = [(jobs[column], float(scores[column])) for column in best]
    listed = {job_id for found in (recommended, similar) for job_id in _ids(found.values())}
    known = catalog.jobs(sorted(listed))
    expected = {
        "people": people,
        "jobs": jobs,
        "recommended": recommended,
        "factors_only": factors_only,
        "similar": similar,
        "titles": {job_id: job.title for job_id, job in known.items()},
    }
    Path(path).write_text(json.dumps(expected))
    watch.lap("asking")
    return watch.outcome({})


def _ids(lists: Iterable[Scored]) -> Iterable[int]:
    return (job_id for list_ in lists for job_id, _ in list_)


def _of_rest(answer: Any) -> Scored:  # noqa: ANN401 - JSON
    return [(item["job_id"], item["score"]) for item in answer["items"]]


def _compare(who: str, id_: int, found: Scored, expected: Sequence[tuple[int, float]]) -> None:
    """Compare lists; jobs may change places only where their scores are as good as the same."""
    are_close = len(found) == len(expected) and all(
        abs(ours - theirs) <= _CLOSE for (_, ours), (_, theirs) in zip(found, expected, strict=True)
    )
    known = dict(expected)
    last = expected[-1][1] if expected else 0.0
    are_same = all(abs(known.get(job_id, last) - score) <= _CLOSE for job_id, score in found)
    if not (are_close and are_same):
        raise RuntimeError(f"{who} answers {found} for {id_}, expected {expected}")
