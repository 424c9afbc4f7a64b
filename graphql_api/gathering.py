"""Fetching what the jobs of an answer lead to, level by level: one read for all jobs of a level.

Nothing is read where only ids are selected. Where the catalogue does not answer, the answer goes on
with ids alone and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from application.recommending import LiveModel, Recommending
from application.recommending import SimilarJobList as ListOfSimilarJobs
from domain.employers import EmployerTypes
from domain.errors import CatalogUnavailable, ModelNotReady
from domain.model import MAX_FILTER_TEXT, JobFilter, User
from domain.model import Job as Advert
from domain.ports import JOB_FIELDS, Catalog, JobCursor, JobPage
from graphql_api.memo import Grounds
from graphql_api.outages import Outages
from graphql_api.selections import WantedEmployers, WantedJobs, WantedSimilar
from graphql_api.types import Employer, Job, JobConnection, SimilarJobList, decode_cursor

T = TypeVar("T")


ReadJobs = Callable[[Sequence[int], frozenset[str]], Mapping[int, Advert]]
"""Returns what is wanted of those jobs that exist; see `Catalog.jobs`."""

_REMEMBERED_JOBS = 10_000
_BUT_TEXT = JOB_FIELDS - {"description"}


class RememberedJobs:
    """Jobs without their texts, as the catalogue has them at its present revision."""

    def __init__(self, catalog: Catalog, outages: Outages) -> None:
        self._catalog = catalog
        self._outages = outages
        self._held: tuple[int, dict[int, Advert | None]] = (-1, {})

    def at(self, revision: int) -> ReadJobs:
        """Return what reads jobs while the catalogue is known to be at a revision."""

        def read(ids: Sequence[int], fields: frozenset[str]) -> Mapping[int, Advert]:
            if not fields <= _BUT_TEXT:
                return self._outages.watch(lambda: self._catalog.jobs(ids, fields))
            held_at, held = self._held
            if held_at != revision or len(held) > _REMEMBERED_JOBS:
                held = {}
                self._held = revision, held
            missing = [id_ for id_ in ids if id_ not in held]
            if missing:
                found = self._outages.watch(lambda: self._catalog.jobs(missing, _BUT_TEXT))
                held.update((id_, found.get(id_)) for id_ in missing)
            return {id_: job for id_ in ids if (job := held[id_]) is not None}

        return read


class Gathering:
    """Fetches for one answer.

    Args:
        model: returns the model of the whole answer; asked only where similar jobs are wanted.
        at: the time of the answer.
        grounds: takes note where the answer holds jobs whose opening or closing nobody watches.
        read_jobs: in place of the catalogue's own way; watches for outages itself.

    Attributes:
        is_partial: whether the catalogue did not answer; it is not asked again then.
    """

    def __init__(
        self,
        catalog: Catalog,
        recommending: Recommending,
        model: Callable[[], LiveModel],
        at: datetime,
        outages: Outages,
        grounds: Grounds | None = None,
        read_jobs: ReadJobs | None = None,
    ) -> None:
        self._grounds = grounds
        self._read_jobs = read_jobs or (
            lambda ids, fields: outages.watch(lambda: catalog.jobs(ids, fields))
        )
        self.is_partial = False
        self.at = at
        self._catalog = catalog
        self._recommending = recommending
        self._model = model
        self._outages = outages

    def jobs(self, wanted: WantedJobs, ids: Iterable[int]) -> PlacedJobs:
        """Return jobs with all that is wanted of them."""
        place = PlacedJobs(self, wanted, ids)
        self.fetch([place])
        return place

    def similar(
        self, wanted: WantedSimilar, lists: Sequence[ListOfSimilarJobs]
    ) -> tuple[PlacedJobs, PlacedJobs]:
        """Return the jobs that others resemble, and those, with all that is wanted of them."""
        places = self._placed(wanted, lists)
        self.fetch(places)
        return places

    def page(self, wanted: WantedJobs, page: JobPage) -> PlacedJobs:
        """Return the jobs of a page that was read, with all else that is wanted of them."""
        place = PlacedJobs.read(self, wanted, [page])
        self.fetch([place])
        return place

    def employer(self, wanted: WantedEmployers, name: str) -> Employer:
        """Return an employer with all that is wanted of it.

        Raises:
            CatalogUnavailable: the store does not answer.
        """
        place = self.employers(wanted, [name])
        if self.is_partial:
            raise CatalogUnavailable("the catalogue does not answer")
        return place.employer(name)

    def employers(self, wanted: WantedEmployers, names: Iterable[str]) -> PlacedJobs:
        """Return the place of employers with all that is wanted of them."""
        place = PlacedJobs(self, WantedJobs(employer=wanted), ())
        place.names |= set(names)
        self.fetch([place])
        return place

    @property
    def learned(self) -> EmployerTypes | None:
        """What the model of the answer knows of employers; None before the first model."""
        try:
            return self._model().employers
        except ModelNotReady:
            return None

    def users(self, ids: Sequence[int]) -> Mapping[int, User]:
        """Return those of the people that exist."""
        return self._asked(lambda: self._catalog.users(ids)) or {}

    def fetch(self, level: Sequence[PlacedJobs]) -> None:
        """Fetch for the jobs of some places, then for those to which they lead, and so on."""
        while level:
            self._read(level)
            level = [*self._similar(level), *self._offers(level), *self._related(level)]

    def _read(self, level: Sequence[PlacedJobs]) -> None:
        unread = [place for place in level if place.wanted.fields and not place.is_read]
        ids = {id_ for place in unread for id_ in place.ids}
        if not ids:
            return
        fields = frozenset({"id"}.union(*(place.wanted.fields for place in unread)))
        known = self._attempt(lambda: self._read_jobs(list(ids), fields)) or {}
        for place in unread:
            place.known = known
        for place in level:
            if place.wanted.employer is not None:
                adverts = (place.known.get(id_) for id_ in place.ids)
                place.names |= {advert.employer for advert in adverts if advert and advert.employer}

    def _similar(self, level: Sequence[PlacedJobs]) -> list[PlacedJobs]:
        """Rank what the jobs of a level resemble; return the places of the jobs found."""
        lengths = {first for place in level for first in place.wanted.similar if place.ids}
        found: list[PlacedJobs] = []
        for first in sorted(lengths):
            places = [place for place in level if first in place.wanted.similar]
            ids = {id_ for place in places for id_ in place.ids}
            lists = self._recommending.similar_lists(list(ids), first, model=self._model())
            self.is_partial |= any(list_.is_partial for list_ in lists.values())
            for place in places:
                wanted = place.wanted.similar[first]
                held = [lists[id_] for id_ in place.ids if id_ in lists]
                own, others = self._placed(wanted, held)
                place.similar_lists[first] = (lists, own, others)
                found += [own, others]
        return found

    def _placed(
        self, wanted: WantedSimilar, lists: Sequence[ListOfSimilarJobs]
    ) -> tuple[PlacedJobs, PlacedJobs]:
        others = (item.job_id for list_ in lists for item in list_.items)
        return (
            PlacedJobs(self, wanted.own, (list_.job_id for list_ in lists)),
            PlacedJobs(self, wanted.others, others),
        )

    def _offers(self, level: Sequence[PlacedJobs]) -> list[PlacedJobs]:
        """Read what the employers of a level offer; return the places of the jobs found."""
        found: list[PlacedJobs] = []
        asking = [place for place in level if place.wanted.employer is not None]
        counted = {name for place in asking if _wanted(place).count for name in place.names}
        if counted:
            counts = self._for_each(counted, self._catalog.counts)
            for place in asking:
                place.counts = counts
        for key in sorted(
            {key for place in asking for key in _wanted(place).jobs},
            key=lambda key: (key[0], key[1] or ""),
        ):
            first, after = key
            places = [place for place in asking if key in _wanted(place).jobs]
            cursor = None if after is None else decode_cursor(after)
            names = {name for place in places for name in place.names}
            pages = self._for_each(names, self._pages_behind(cursor, first))
            if self._grounds is not None:
                # The model need not know the jobs of a page
                self._grounds.is_firm = False
            for place in places:
                shown = PlacedJobs.read(self, _wanted(place).jobs[key], pages.values())
                place.pages[key] = (pages, shown)
                found.append(shown)
        return found

    def _related(self, level: Sequence[PlacedJobs]) -> list[PlacedJobs]:
        """Return the places of the employers that those of a level resemble or stand beside."""
        found: list[PlacedJobs] = []
        for place in level:
            wanted = place.wanted.employer
            if wanted is None or wanted.related is None:
                continue
            found.append(place.relate(wanted.related, self._relatives(place.names, wanted)))
        return found

    def _relatives(self, names: Iterable[str], wanted: WantedEmployers) -> Iterator[str]:
        known = self.learned
        if known is None:
            return
        for name in names:
            position = known.position(name)
            if position is None:
                continue
            for other in known.similar(position, wanted.similar) if wanted.similar else ():
                yield known.names[other.position]
            kind = known.type_at(position) if wanted.are_examples else None
            yield from () if kind is None else (known.names[own] for own in kind.examples)

    def _pages_behind(
        self, cursor: JobCursor | None, first: int
    ) -> Callable[[list[JobFilter]], list[JobPage]]:
        return lambda wheres: self._catalog.pages(wheres, cursor, first)

    def _for_each(
        self, names: Iterable[str], ask: Callable[[list[JobFilter]], list[T]]
    ) -> dict[str, T]:
        """Ask about employers; what is longer than a filter may be has none to be asked by."""
        usable = [name for name in names if len(name) <= MAX_FILTER_TEXT]
        if not usable:
            return {}
        wheres = [employed(JobFilter(employer=name), self.learned) for name in usable]
        answers = self._asked(lambda: ask(wheres))
        return {} if answers is None else dict(zip(usable, answers, strict=True))

    def _asked(self, ask: Callable[[], T]) -> T | None:
        """Ask the catalogue, unless it has failed before; None where it does not answer."""
        return self._attempt(lambda: self._outages.watch(ask))

    def _attempt(self, ask: Callable[[], T]) -> T | None:
        if self.is_partial:
            return None
        try:
            return ask()
        except CatalogUnavailable:
            self.is_partial = True
            return None


class PlacedJobs:
    """The jobs of one place in an answer, with where they lead.

    Attributes:
        names: the employers whose offers are to be read.
    """

    def __init__(self, gathering: Gathering, wanted: WantedJobs, ids: Iterable[int]) -> None:
        self.wanted = wanted
        self.ids = frozenset(ids)
        self.is_read = False
        self.known: Mapping[int, Advert] = {}
        self.names: set[str] = set()
        self.similar_lists: dict[
            int, tuple[Mapping[int, ListOfSimilarJobs], PlacedJobs, PlacedJobs]
        ] = {}
        self.counts: Mapping[str, int] = {}
        self.pages: dict[tuple[int, str | None], tuple[Mapping[str, JobPage], PlacedJobs]] = {}
        self._related: PlacedJobs | None = None
        self._gathering = gathering
        self._jobs: dict[int, Job] = {}
        self._employers: dict[str, Employer] = {}

    @classmethod
    def read(cls, gathering: Gathering, wanted: WantedJobs, pages: Iterable[JobPage]) -> PlacedJobs:
        """Return the place of jobs that have been read."""
        known = {job.id: job for page in pages for job in page.jobs}
        place = cls(gathering, wanted, known)
        place.known, place.is_read = known, True
        if wanted.employer is not None:
            place.names = {job.employer for job in known.values() if job.employer}
        return place

    @property
    def related(self) -> PlacedJobs:
        """Where the employers lead that these resemble, or that stand for their kinds."""
        return self._related or self

    def relate(self, wanted: WantedEmployers, names: Iterable[str]) -> PlacedJobs:
        """Return the place of those, which is this one's from now on."""
        self._related = PlacedJobs(self._gathering, WantedJobs(employer=wanted), ())
        self._related.names |= set(names)
        return self._related

    def close(self) -> None:
        """Forget the jobs that were handed out, since no other is going to be asked for.

        Each leads here: in a circle, all of an answer would wait for the garbage collector.
        """
        self._jobs, self._employers = {}, {}

    @property
    def learned(self) -> EmployerTypes | None:
        """What the model of the answer knows of employers."""
        return self._gathering.learned

    @property
    def is_partial(self) -> bool:
        """Whether the catalogue did not answer what was asked of it."""
        return self._gathering.is_partial

    def __getitem__(self, job_id: int) -> Job:
        """Return a job, the same wherever it stands; of one that is unknown, only the id."""
        job = self._jobs.get(job_id)
        if job is None:
            advert = self.known.get(job_id) or Advert(job_id)
            has_employer = self.wanted.employer is not None
            job = self._jobs[job_id] = Job.from_domain(
                advert, self._gathering.at, self, has_employer=has_employer
            )
        return job

    def employer(self, name: str) -> Employer:
        """Return an employer: the same for all its jobs here."""
        employer = self._employers.get(name)
        if employer is None:
            employer = self._employers[name] = Employer(name=name, links=self)
        return employer

    def similar(self, job_id: int, first: int) -> SimilarJobList | None:
        """Return the jobs that resemble one of these; None where the model does not know it."""
        lists, own, others = self.similar_lists[first]
        found = lists.get(job_id)
        return None if found is None else SimilarJobList.from_domain(found, own, others)

    def job_count(self, employer: str) -> int | None:
        """Return how many jobs an employer has; None where the catalogue does not answer."""
        return self.counts.get(employer)

    def employer_jobs(self, employer: str, first: int, after: str | None) -> JobConnection | None:
        """Return a page of an employer's jobs; None where the catalogue does not answer."""
        pages, jobs = self.pages[first, after]
        page = pages.get(employer)
        if page is None:
            return None
        return JobConnection.from_domain(page, jobs, is_continued=after is not None)


def employed(where: JobFilter, known: EmployerTypes | None) -> JobFilter:
    """Return a filter that takes the jobs of its employer under all names that are known."""
    if where.employer is None or known is None:
        return where
    return replace(where, aliases=known.names_of(where.employer))


def _wanted(place: PlacedJobs) -> WantedEmployers:
    return place.wanted.employer or WantedEmployers()
