"""Whether groups of people are served alike, for those who answer for the service.

Attributes come in beside lists that are finished: nothing that makes lists can see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from application.evaluating import Evaluating, EvaluationRequest, OnStage
from domain.auditing import Attributes, DisclosurePolicy
from domain.errors import NothingToMeasure
from domain.exposure import Exposure
from domain.metrics import MetricArray
from domain.model import IndexArray
from domain.significance import Bootstrap, Difference, adjusted, unpaired


@dataclass(frozen=True)
class AuditedGroup:
    """A group large enough to be told of.

    Attributes:
        people: how many of those measured.
        means: by metric.
        differences: how far the means lie above those of all other people measured, by metric,
            adjusted for the number of groups audited; empty where there is nobody else.
    """

    name: str
    people: int
    means: Mapping[str, float]
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        model: the recipe audited.
        people: how many were measured.
        means: of all of them, by metric.
        attributes: by attribute, the groups that may be told of.
        hidden: by attribute, whether other groups are hidden.
        min_group: the least size told of.
    """

    model: str
    people: int
    means: Mapping[str, float]
    attributes: Mapping[str, Sequence[AuditedGroup]]
    hidden: Mapping[str, bool]
    min_group: int


class Auditing:
    """Compares what a recipe's lists are worth to groups, and what they show them."""

    def __init__(
        self, evaluating: Evaluating, policy: DisclosurePolicy, bootstrap: Bootstrap
    ) -> None:
        self._evaluating = evaluating
        self._policy = policy
        self._bootstrap = bootstrap

    def audit(self, request: EvaluationRequest, attributes: Attributes, on_stage: OnStage) -> Audit:
        """Measure the default recipe, then compare groups.

        Quality is that of `domain.metrics.per_person`; exposure is `novelty` and `popularity` of
        the jobs that a person is shown, see `domain.exposure`.

        Raises:
            NothingToMeasure: fewer people can be measured than a group must hold.
            JobrecError: see `Evaluating.evaluate`.
        """
        default = self._evaluating.default
        judged = self._evaluating.judge(replace(request, models=(default,)), on_stage)
        user_ids, k = judged.hold.targets.user_ids, request.ks[-1]
        if len(user_ids) < self._policy.min_group:
            raise NothingToMeasure(
                f"{len(user_ids):,} people can be measured, fewer than the "
                f"{self._policy.min_group:,} that a group must hold"
            )
        exposure = Exposure(judged.hold.known).of_people(judged.lists[default].jobs)
        values = {
            **judged.values[default],
            **{f"{name}@{k}": each for name, each in exposure.items()},
        }
        names, columns = list(values), np.column_stack(list(values.values()))
        found: dict[str, list[AuditedGroup]] = {}
        hidden: dict[str, bool] = {}
        on_stage("auditing", 0, len(attributes.values))
        for done, attribute in enumerate(attributes.values, 1):
            groups = attributes.groups(attribute, user_ids)
            shown = self._policy.shown({name: len(own) for name, own in groups.items()})
            found[attribute] = [self._group(name, groups[name], names, columns) for name in shown]
            hidden[attribute] = len(shown) < len(groups)
            on_stage("auditing", done, len(attributes.values))
        means = dict(zip(names, columns.mean(axis=0).tolist(), strict=True))
        return Audit(
            default, len(user_ids), means, _adjusted(found), hidden, self._policy.min_group
        )

    def _group(
        self, name: str, own: IndexArray, names: Sequence[str], columns: MetricArray
    ) -> AuditedGroup:
        others = np.ones(len(columns), dtype=np.bool_)
        others[own] = False
        differences = (
            dict(zip(names, unpaired(columns[own], columns[others], self._bootstrap), strict=True))
            if others.any()
            else {}
        )
        means = dict(zip(names, columns[own].mean(axis=0).tolist(), strict=True))
        return AuditedGroup(name, len(own), means, differences)


def _adjusted(
    found: Mapping[str, Sequence[AuditedGroup]],
) -> Mapping[str, Sequence[AuditedGroup]]:
    """Adjust the p-values of each metric for the number of groups of all attributes."""
    groups = [group for own in found.values() for group in own if group.differences]
    mended: dict[int, dict[str, Difference]] = {id(group): {} for group in groups}
    for name in groups[0].differences if groups else ():
        ps = adjusted([group.differences[name] for group in groups])
        for group, difference in zip(groups, ps, strict=True):
            mended[id(group)][name] = difference
    return {
        attribute: [replace(group, differences=mended.get(id(group), {})) for group in own]
        for attribute, own in found.items()
    }
