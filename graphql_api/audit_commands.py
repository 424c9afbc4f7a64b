"""`jobrec audit`: the one way in for what people say of themselves, and no way into serving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters.attributes import read_attributes
from application.auditing import Audit, AuditedGroup, Auditing
from application.evaluating import EvaluationRequest, OnStage
from domain.auditing import DisclosurePolicy
from domain.significance import Bootstrap, Difference
from graphql_api.container import Container

_SHOWN = ("recall", "ndcg", "hit_rate", "novelty", "popularity")


def audited(
    container: Container,
    request: EvaluationRequest,
    attributes: Path,
    min_group: int,
    on_stage: OnStage,
) -> Audit:
    """Audit the default recipe by a file of attributes.

    Raises:
        JobrecError: see `Auditing.audit` and `read_attributes`.
    """
    auditing = Auditing(
        container.evaluating(),
        DisclosurePolicy(min_group),
        Bootstrap(seed=container.learning().seed),
    )
    return auditing.audit(request, read_attributes(attributes), on_stage)


def as_record(audit: Audit) -> dict[str, Any]:
    """Return everything that may be told as what JSON can hold."""
    return {
        **asdict(audit),
        "attributes": {
            attribute: [
                {
                    **asdict(group),
                    "differences": {
                        name: difference._asdict() for name, difference in group.differences.items()
                    },
                }
                for group in groups
            ]
            for attribute, groups in audit.attributes.items()
        },
    }


def as_lines(audit: Audit) -> Iterator[str]:
    """Return the table that a terminal shows."""
    names = [name for name in audit.means if name.partition("@")[0] in _SHOWN]
    yield f"lists of {audit.model} for {audit.people:,} people"
    yield f"groups of fewer than {audit.min_group:,} people are hidden"
    yield "differences are to all other people, with 95 % intervals; * sure, by Holm's adjustment"
    for name in names:
        yield ""
        yield f"{name:32}{'people':>8}{'mean':>10}{'difference':>12}{'95 %':^20}{'p, Holm':>8}"
        yield f"{'everybody':32}{audit.people:8,}{audit.means[name]:10.4f}"
        for attribute, groups in audit.attributes.items():
            yield attribute + (" (small groups hidden)" if audit.hidden[attribute] else "")
            for group in groups:
                yield _row(group, name)


def _row(group: AuditedGroup, name: str) -> str:
    found = group.differences.get(name)
    rest = "" if found is None else _compared(found)
    return f"  {group.name[:30]:30}{group.people:8,}{group.means[name]:10.4f}{rest}"


def _compared(found: Difference) -> str:
    star = " *" if found.p_holm < 0.05 else ""
    return (
        f"{found.value:+12.4f}{f'{found.low:+.4f} to {found.high:+.4f}':^20}{found.p_holm:8.3f}"
        f"{star}"
    )
