"""What operators and their machines ask: alive, ready, and how it goes.

Counts of requests add up over all worker processes (prometheus_client's multi-process mode, for
which `serve` sets PROMETHEUS_MULTIPROC_DIR). What is known of models and runs is read from their
stores at each scrape, so every worker gives the same answer.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

import orjson
from graphql import GraphQLError
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from strawberry.extensions import SchemaExtension

from graphql_api.known import is_stream, label_of
from graphql_api.schema import Services

_REQUESTS = Counter(
    "jobrec_requests", "GraphQL operations by root field and outcome", ["operation", "outcome"]
)
_SECONDS = Histogram(
    "jobrec_request_seconds",
    "Seconds that a query or mutation took",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
_COST = Counter("jobrec_cost", "Prices of GraphQL operations by root field", ["operation"])
_UNLIMITED = Counter(
    "jobrec_rate_limit_unavailable", "Counts that the store of the rate limits did not take"
)
_OUTAGES = Counter("jobrec_catalogue_outages", "Times that the catalogue stopped answering")
_PARTIAL = Counter(
    "jobrec_partial_answers", "Answers that hold less than was asked for, by reason", ["reason"]
)
_REMEMBERED = Counter("jobrec_remembered_answers", "Answers that were given again as they were")
_LABELS = 256
"""Operations and outcomes are some dozens."""

_COUNTED_RUNS = 1_000


def observe(
    label: str,
    errors: Sequence[GraphQLError],
    cost: int | None,
    partial: str | None,
    seconds: float | None,
) -> None:
    """Count and time an operation.

    Args:
        label: see `label_of`; ignored where an error was found before anything was executed.
        cost: its price, where it was priced.
        partial: why its answer holds less than was asked for.
        seconds: None for what is not timed.
    """
    first = errors[0] if errors else None
    outcome = "OK" if first is None else str((first.extensions or {}).get("code"))
    # An error without a path was found before anything was executed
    operation = "invalid" if first is not None and first.path is None else label
    _requests(operation, outcome).inc()
    if cost:
        _cost(operation).inc(cost)
    if partial is not None:
        _PARTIAL.labels(partial).inc()
    if seconds is not None:
        _seconds(operation).observe(seconds)


# Finding the counter of a label takes longer than counting
_requests = lru_cache(_LABELS)(_REQUESTS.labels)
_cost = lru_cache(_LABELS)(_COST.labels)
_seconds = lru_cache(_LABELS)(_SECONDS.labels)


class Observed(SchemaExtension):
    """Counts and times every operation."""

    def on_operation(self) -> Iterator[None]:
        """Measure from the document's arrival to the finished result."""
        begun = time.perf_counter()
        yield
        context = self.execution_context
        errors = getattr(context.result, "errors", None) or context.pre_execution_errors or []
        document, partial = context.graphql_document, context.context.partial
        is_invalid = any(error.path is None for error in errors[:1])
        is_timed = document is None or is_invalid or not is_stream(document)
        observe(
            "invalid" if document is None else label_of(document),
            errors,
            context.extensions_results.get("cost", {}).get("requested"),
            None if partial is None else partial.value,
            time.perf_counter() - begun if is_timed else None,
        )


def count_refusal(code: str) -> None:
    """Count a request that was refused before it became an operation."""
    _REQUESTS.labels("none", code).inc()


def count_remembered() -> None:
    """Count an answer that was given again; it counts as an operation, too."""
    _REMEMBERED.inc()


def count_unlimited() -> None:
    """Count what no rate limit was held against, since their store was out of reach."""
    _UNLIMITED.inc()


def count_outage() -> None:
    """Count that the catalogue stopped answering."""
    _OUTAGES.inc()


def probes(services: Services) -> list[Route]:
    """Return the routes `/healthz`, `/readyz` and `/metrics`."""

    async def healthz(_request: Request) -> Response:
        return _json({"alive": True}, 200)

    async def readyz(_request: Request) -> Response:
        live, trouble = services.models.current, services.models.trouble
        reasons = [trouble] if trouble else []
        if (outage := services.outages.trouble) is not None:
            # Lists go on, so taking this process out of service would help nobody
            reasons.append(f"the catalogue does not answer: {outage}")
        if live is None:
            return _json({"ready": False, "reasons": reasons or ["no model is live yet"]}, 503)
        return _json({"ready": True, "model": live.manifest.version, "reasons": reasons}, 200)

    async def metrics(_request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(_Stores(services))
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # not annotated
            own = b""
        else:
            own = generate_latest(REGISTRY)
        text = own + await services.runtime.run(generate_latest, registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
    ]


class _Stores(Collector):
    """Figures that stand in the stores of models and runs."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Read the stores."""
        live = self._services.models.current
        info = GaugeMetricFamily("jobrec_model_info", "The live model", labels=["version"])
        age = GaugeMetricFamily("jobrec_model_age_seconds", "Since the live model was trained")
        if live is not None:
            info.add_metric([live.manifest.version], 1)
            elapsed = self._services.clock() - live.manifest.trained_at
            age.add_metric([], elapsed.total_seconds())
        yield info
        yield age
        durations: dict[str, list[float]] = defaultdict(list)
        for run in self._services.runs.recent(_COUNTED_RUNS):
            if run.finished_at is not None and run.started_at is not None:
                elapsed = run.finished_at - run.started_at
                durations[run.status.lower()].append(elapsed.total_seconds())
        runs = SummaryMetricFamily(
            "jobrec_training_run_seconds",
            f"Durations of the newest {_COUNTED_RUNS:,} training runs by outcome",
            labels=["outcome"],
        )
        for outcome, seconds in sorted(durations.items()):
            runs.add_metric([outcome], count_value=len(seconds), sum_value=sum(seconds))
        yield runs


def _json(content: object, status: int) -> Response:
    return Response(
        orjson.dumps(content),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
