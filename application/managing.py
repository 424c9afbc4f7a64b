"""Looking after models: which there are, which is live, and how two of them differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from application.recommending import LiveModel, Models, top_lists
from domain.errors import InputError, SnapshotMissing
from domain.metrics import mean_overlap
from domain.model import IdArray
from domain.ports import SnapshotStore
from domain.runs import Manifest

COMPARED_K = 10
COMPARED_PEOPLE = 2_000
"""So many people, spread evenly over the ids, give the overlap to within a percent."""


@dataclass(frozen=True)
class MovedJob:
    """How much a job is shown by two models.

    Attributes:
        before: share of the people compared whose list of model a holds the job.
        after: the same of model b.
    """

    job_id: int
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """Two models side by side.

    Attributes:
        people: how many people's lists were compared: people whom both models know.
        overlap: share of jobs that their lists of 10 have in common, averaged over people.
        moved: the jobs that are shown more or less often, the greatest change first.
    """

    a: Manifest
    b: Manifest
    people: int
    overlap: float
    moved: tuple[MovedJob, ...]


class ModelManagement:
    """What admins do with stored models. All serving processes follow within a second."""

    def __init__(self, snapshots: SnapshotStore, models: Models) -> None:
        self._snapshots = snapshots
        self._models = models

    def stored(self) -> list[Manifest]:
        """Return the stored models, newest first."""
        return self._snapshots.manifests()

    def promote(self, version: str) -> Manifest:
        """Make a stored model the live one, after checking that it can be used.

        Raises:
            SnapshotError: it is missing or not usable.
        """
        manifest = self._models.open(version).manifest
        self._snapshots.promote(version)
        self._models.refresh()
        return manifest

    def roll_back(self) -> Manifest:
        """Make the model that was live before the live one the live one again.

        Raises:
            SnapshotError: there is none, or it is not usable.
        """
        version = self._snapshots.previous()
        if version is None:
            raise SnapshotMissing("no model was live before the live one, or it is not stored")
        return self.promote(version)

    def compare(self, a: str, b: str, jobs: int) -> Comparison:
        """Compare what two models show the same people.

        Args:
            a: a stored version.
            b: another.
            jobs: how many of the jobs that moved most to return, 1 to 100.

        Raises:
            InputError: `jobs` is out of bounds.
            SnapshotError: a version is missing or not usable.
        """
        if not 1 <= jobs <= 100:
            raise InputError(f"first is {jobs}, expected 1 to 100", "first")
        model_a, model_b = self._models.open(a), self._models.open(b)
        shared = np.intersect1d(model_a.interactions.users.ids, model_b.interactions.users.ids)
        spread = np.linspace(0, len(shared) - 1, min(len(shared), COMPARED_PEOPLE)).astype(int)
        people = shared[spread]
        lists_a, lists_b = _lists(model_a, people), _lists(model_b, people)
        return Comparison(
            model_a.manifest,
            model_b.manifest,
            len(people),
            mean_overlap(lists_a, lists_b),
            _moved(lists_a, lists_b)[:jobs],
        )


def _lists(model: LiveModel, people: IdArray) -> IdArray:
    return top_lists(model.interactions, model.recommender, people, COMPARED_K, exclude=())


def _moved(lists_a: IdArray, lists_b: IdArray) -> tuple[MovedJob, ...]:
    people = max(1, len(lists_a))
    jobs = np.union1d(lists_a, lists_b)
    jobs = jobs[jobs >= 0]
    shown = [
        np.bincount(np.searchsorted(jobs, lists[lists >= 0]), minlength=len(jobs)) / people
        for lists in (lists_a, lists_b)
    ]
    change = np.abs(shown[1] - shown[0])
    order = np.lexsort((jobs, -change))
    return tuple(
        MovedJob(int(jobs[job]), float(shown[0][job]), float(shown[1][job]))
        for job in order
        if change[job] > 0
    )
