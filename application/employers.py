"""Employers: gathers what is written of each, and has their kinds learned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from domain.employers import EmployerNotes, EmployerText, EmployerTypes
from domain.errors import TrainingError
from domain.model import Job, JobFilter
from domain.names import employer_key
from domain.ports import (
    Catalog,
    EmployerLearner,
    JobCursor,
    JobVectors,
    OnProgress,
    nobody,
)

_PAGE = 1_000


class EmployerLearning:
    """Learns types of employers from the catalogue's adverts.

    Args:
        catalog: holds the adverts.
        read_notes: returns what the owner knows beyond them, read anew for each training.
        make_learner: makes the learner.
        obstacle: why there is none, None where there is.
    """

    def __init__(
        self,
        catalog: Catalog,
        read_notes: Callable[[], EmployerNotes],
        make_learner: Callable[[], EmployerLearner],
        obstacle: str | None = None,
    ) -> None:
        self._catalog = catalog
        self._read_notes = read_notes
        self._make_learner = make_learner
        self._obstacle = obstacle

    def learn(
        self, seed: int, factors: JobVectors | None = None, on_progress: OnProgress = nobody
    ) -> EmployerTypes:
        """Learn from the adverts as they are now.

        Raises:
            TrainingError: no advert with an employer has a description, too few employers have
                enough of them, or there is no learner.
            DataError: the owner's notes cannot be used.
            InputError: the notes contradict themselves.
        """
        if self._obstacle is not None:
            raise TrainingError(self._obstacle)
        notes = self._read_notes()
        corpus = gathered(all_jobs(self._catalog), notes)
        if not any(text.strip() for employer in corpus for text in employer.texts):
            raise TrainingError("no job with an employer has a description")
        types = self._make_learner().learn(corpus, notes.amendments, seed, factors, on_progress)
        return types.known_as(notes.keys())


def all_jobs(catalog: Catalog) -> Iterator[Job]:
    """Walk through the whole catalogue, page by page."""
    after: JobCursor | None = None
    while True:
        page = catalog.page(JobFilter(), None, after, _PAGE)
        yield from page.jobs
        if not page.has_next:
            return
        after = JobCursor.of(page.jobs[-1])


def gathered(jobs: Iterator[Job], notes: EmployerNotes) -> Sequence[EmployerText]:
    """Return the texts of each employer, ascending by key; jobs without one belong to none.

    A job's text is its title and its description, nothing where it has none. An employer is shown
    as its profile writes it, else in the spelling that most of its jobs use.
    """
    aliases = notes.keys()
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    texts: defaultdict[str, dict[int, str]] = defaultdict(dict)
    titles: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for job in jobs:
        key = employer_key(job.employer)
        if not key or job.employer is None:
            continue
        key = aliases.get(key, key)
        names[key][" ".join(job.employer.split())] += 1
        titles[key][job.id] = job.title or ""
        texts[key][job.id] = f"{job.title or ''}\n{job.description}" if job.description else ""
    profiles = {employer_key(profile.name): profile for profile in notes.profiles}
    corpus = []
    for key in sorted(texts):
        profile = profiles.get(key)
        ids = sorted(texts[key])
        spelling = min(names[key], key=lambda name: (-names[key][name], name))
        own = [profile.text] if profile is not None and profile.text else []
        corpus.append(
            EmployerText(
                key=key,
                name=spelling if profile is None else profile.name,
                job_ids=tuple(ids),
                texts=(*(texts[key][id_] for id_ in ids), *own),
                titles=tuple(dict.fromkeys(titles[key][id_] for id_ in ids)),
            )
        )
    return corpus
