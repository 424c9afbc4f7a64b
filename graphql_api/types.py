"""GraphQL types: the domain's values as front ends see them."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Annotated, Any, NamedTuple, Protocol, cast

import strawberry
from strawberry.scalars import JSON
from strawberry.types.enum import StrawberryEnumDefinition

from application.managing import Comparison
from application.recommending import MAX_FIRST
from application.recommending import RecommendationList as ListOfRecommendations
from application.recommending import SimilarJobList as ListOfSimilarJobs
from application.recording import Done
from domain import explaining, model, runs
from domain.employers import EmployerType as KindOfEmployers
from domain.employers import EmployerTypes
from domain.errors import InputError
from domain.explaining import Verdict
from domain.model import MAX_ID, ActivityKind, RecommendationSource, ShortfallReason
from domain.model import User as Person
from domain.names import employer_key
from domain.ports import JobCursor, JobPage
from domain.runs import RunStatus, TrainingPhase
from domain.variety import Variety
from graphql_api.selections import EMPLOYER_FIRST, SIMILAR_FIRST


def expose(
    enum: type[Enum], description: str, values: Mapping[Any, str], name: str | None = None
) -> None:
    """Make an enum of the domain one of GraphQL, with a description of each of its values."""
    strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined] # strawberry has set it
    for value in definition.values:
        value.description = values[enum[value.name]]


expose(
    ActivityKind,
    "What a person did with a job.",
    {
        ActivityKind.IMPRESSION: "The job was shown to them.",
        ActivityKind.REDIRECT: "They went on to the employer's page.",
        ActivityKind.APPLY: "They applied.",
        ActivityKind.EMAIL_SENT: "They were sent the job by e-mail; says nothing of interest.",
        ActivityKind.EMAIL_OPEN: "A mail client opened that e-mail; says nothing of interest.",
        ActivityKind.EMAIL_CLICK: "They followed the link in that e-mail.",
        ActivityKind.DISMISS: "They do not want to see it.",
    },
)
expose(
    RecommendationSource,
    "Why a job stands in a list.",
    {
        RecommendationSource.PERSONALISED: "The person's own activities speak for it.",
        RecommendationSource.FOLD_IN: "Activities after the training speak for it.",
        RecommendationSource.SIMILAR: "The same people are drawn to it as to the job asked for.",
        RecommendationSource.POPULAR: "It is popular with everybody lately.",
        RecommendationSource.NEW: "It came after the training; its text speaks for it.",
    },
)
expose(
    Verdict,
    "Where a job stands for a person: the first that applies.",
    {
        Verdict.UNKNOWN: "Neither the catalogue nor the model knows it.",
        Verdict.NOT_LISTED: "The catalogue does not hold it.",
        Verdict.CLOSED: "Nobody can apply now.",
        Verdict.NOT_LEARNED: "The model does not know it yet, and its text tells nothing.",
        Verdict.DISMISSED: "The person dismissed it.",
        Verdict.EXCLUDED: "The person did with it what `exclude` names.",
        Verdict.FILTERED: "It does not satisfy `where`.",
        Verdict.RANKED: "It is in their list, at `rank`.",
    },
    name="WhyNotVerdict",
)
expose(
    ShortfallReason,
    "Why a list is shorter than asked for.",
    {
        ShortfallReason.CATALOGUE: "The catalogue holds no more open jobs.",
        ShortfallReason.FILTER: "The filter admits no more.",
        ShortfallReason.EXCLUDED: "The person has done with all others.",
    },
)
expose(
    RunStatus,
    "Where a training run stands; SUCCEEDED, FAILED and CANCELLED are final.",
    {
        RunStatus.QUEUED: "It was taken, and its process has not begun.",
        RunStatus.RUNNING: "It is at work.",
        RunStatus.SUCCEEDED: "It left a model behind; `promoted` says whether that went live.",
        RunStatus.FAILED: "It went wrong; `failure` says how.",
        RunStatus.CANCELLED: "Somebody stopped it.",
    },
    name="TrainingRunStatus",
)
expose(
    TrainingPhase,
    "What a training run is doing, in the order of doing it.",
    {
        TrainingPhase.WAITING: "Nothing yet.",
        TrainingPhase.READING: "Reading the activities.",
        TrainingPhase.EVALUATING: "Learning without the hold-out, to be measured on it.",
        TrainingPhase.FITTING: "Learning from everything.",
        TrainingPhase.EMPLOYERS: "Learning types of employers from their adverts.",
        TrainingPhase.WRITING: "Storing the model.",
        TrainingPhase.PROMOTING: "Deciding whether the model goes live.",
        TrainingPhase.ENDED: "Nothing any more.",
    },
)


def parse_id(value: strawberry.ID, argument: str) -> int:
    """Return a dataset's id.

    Raises:
        InputError: it is no integer from 0 to 2^63 - 1.
    """
    digits = str(value)
    is_id = digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) <= MAX_ID
    # One spelling for each id, since permissions compare them as texts
    if not is_id or digits != str(int(digits)):
        raise InputError(
            f"{argument} is {digits[:40]!r}, expected an integer from 0 to {MAX_ID}", argument
        )
    return int(digits)


def _id(value: int) -> strawberry.ID:
    return strawberry.ID(str(value))


@strawberry.input(description="What jobs must satisfy. A field left out asks for nothing.")
class JobFilter:
    employer: str | None = strawberry.field(
        default=None,
        description="The employer's whole name, whatever its case, marks and legal form, or an "
        "alias that the live model learned.",
    )
    location: str | None = strawberry.field(
        default=None, description="The whole location, whatever its case."
    )
    title: str | None = strawberry.field(
        default=None, description="Words that the title must all contain, in any order."
    )
    posted_after: datetime | None = strawberry.field(
        default=None, description="Posted at or after this time."
    )
    closing_before: datetime | None = strawberry.field(
        default=None, description="Closing before this time."
    )

    def to_domain(self) -> model.JobFilter:
        """Return the domain's filter."""
        return model.JobFilter(
            employer=self.employer,
            location=self.location,
            title=self.title,
            posted_after=self.posted_after,
            closing_before=self.closing_before,
        )


class Links(Protocol):
    """Where the jobs of one place lead; all of it was fetched before the answer is put together."""

    def employer(self, name: str) -> Employer:
        """Return an employer: the same for all its jobs here."""

    def similar(self, job_id: int, first: int) -> SimilarJobList | None:
        """Return the jobs that resemble one of these; None where the model does not know it."""

    def job_count(self, employer: str) -> int | None:
        """Return how many jobs an employer has; None where the catalogue does not answer."""

    def employer_jobs(self, employer: str, first: int, after: str | None) -> JobConnection | None:
        """Return a page of an employer's jobs; None where the catalogue does not answer."""

    @property
    def learned(self) -> EmployerTypes | None:
        """What the model of the answer knows of employers."""

    @property
    def related(self) -> Links:
        """Where the employers lead that these resemble, or that stand for their kinds."""


ListLength = Annotated[int, strawberry.argument(description="How many at most, 1 to 100.")]


@strawberry.type(description="A kind of employers, learned from what their adverts say.")
class EmployerType:
    label: str = strawberry.field(
        description="Its three most telling expressions, those of job titles before others."
    )
    expressions: list[str] = strawberry.field(
        description="Expressions and words that tell it from other kinds, the most telling first."
    )
    size: int = strawberry.field(description="How many employers are of this kind.")
    members: strawberry.Private[list[str]]
    links: strawberry.Private[Links]

    @classmethod
    def from_domain(cls, known: EmployerTypes, kind: KindOfEmployers, links: Links) -> EmployerType:
        """Return a type; `links` tells where its examples lead."""
        return cls(
            label=kind.label,
            expressions=list(kind.expressions),
            size=kind.size,
            members=[known.names[position] for position in kind.examples],
            links=links,
        )

    @strawberry.field(description="Its most typical employers, the most typical first.")
    def examples(self) -> list[Employer]:
        return [self.links.employer(name) for name in self.members]


@strawberry.type(description="Who offers jobs.")
class Employer:
    name: str = strawberry.field(description="The name, as the adverts spell it.")
    links: strawberry.Private[Links]

    @strawberry.field(
        description="Its name without case, marks and legal form: the same for all its names."
    )
    def id(self) -> strawberry.ID:
        known, position = self._learned()
        return strawberry.ID(employer_key(self.name) if known is None else known.keys[position])

    @strawberry.field(
        description="Its kind; null where its adverts hold too little text, or where the live "
        "model learned no kinds."
    )
    def type(self) -> EmployerType | None:
        known, position = self._learned()
        kind = None if known is None else known.type_at(position)
        if known is None or kind is None:
            return None
        return EmployerType.from_domain(known, kind, self.links.related)

    @strawberry.field(
        description="Employers whose adverts resemble its own, best first; empty where they hold "
        "too little text, or where the live model learned nothing of employers."
    )
    def similar(self, first: ListLength = SIMILAR_FIRST) -> list[SimilarEmployer]:
        known, position = self._learned()
        if known is None:
            return []
        return [
            SimilarEmployer(
                employer=self.links.related.employer(known.names[other.position]),
                score=other.score,
            )
            for other in known.similar(position, first)
        ]

    def _learned(self) -> tuple[EmployerTypes | None, int]:
        """Return what the model knows of employers, and where this one stands there."""
        known = self.links.learned
        position = None if known is None else known.position(self.name)
        return (None, -1) if position is None else (known, position)

    @strawberry.field(
        description="How many of its jobs the catalogue holds, open or not; null where the "
        "catalogue does not answer."
    )
    def job_count(self) -> int | None:
        return self.links.job_count(self.name)

    @strawberry.field(
        description="Its jobs, newest first; null where the catalogue does not answer."
    )
    def jobs(
        self,
        first: ListLength = EMPLOYER_FIRST,
        after: Annotated[
            str | None, strawberry.argument(description="Go on behind this cursor.")
        ] = None,
    ) -> JobConnection | None:
        return self.links.employer_jobs(self.name, first, after)


@strawberry.type(description="An employer that resembles another.")
class SimilarEmployer:
    employer: Employer = strawberry.field(description="The employer.")
    score: float = strawberry.field(description="Cosine of the two, at most 1; a rank's reason.")


@strawberry.type(
    description="A job advert. Of a job that the catalogue lacks only the id is known."
)
class Job:
    id: strawberry.ID = strawberry.field(description="The dataset's id, a 64-bit integer.")
    title: str | None = strawberry.field(description="The advert's title.")
    employer: Employer | None = strawberry.field(description="Who offers the job.")
    location: str | None = strawberry.field(description="Where the job is.")
    description: str | None = strawberry.field(description="The advert's text.")
    posted_at: datetime | None = strawberry.field(description="When the advert went up.")
    closes_at: datetime | None = strawberry.field(description="When applications close.")
    is_open: bool = strawberry.field(
        description="Whether people can apply now, as far as it is known."
    )
    links: strawberry.Private[Links]

    @strawberry.field(
        description="Jobs that the same people are drawn to; null where the model does not know "
        "the job."
    )
    def similar(self, first: ListLength = SIMILAR_FIRST) -> SimilarJobList | None:
        return self.links.similar(int(self.id), first)

    @classmethod
    def from_domain(
        cls, job: model.Job, at: datetime, links: Links, *, has_employer: bool = True
    ) -> Job:
        """Return the job as it stands at a time.

        Args:
            has_employer: whether anything is wanted of its employer.
        """
        employer = job.employer if has_employer else None
        row = _JobRow(
            _id(job.id),
            job.title,
            None if employer is None else links.employer(employer),
            job.location,
            job.description,
            job.posted_at,
            job.closes_at,
            job.is_open(at),
            links,
        )
        return cast("Job", row)


class _JobRow(NamedTuple):
    """What a `Job` is read off; hundreds are made for an answer, hence no object."""

    id: str
    title: str | None
    employer: Employer | None
    location: str | None
    description: str | None
    posted_at: datetime | None
    closes_at: datetime | None
    is_open: bool
    links: Links


class Jobs(Protocol):
    """The jobs of one place in an answer."""

    @property
    def is_partial(self) -> bool:
        """Whether the catalogue did not answer what was asked of it."""

    def __getitem__(self, job_id: int) -> Job:
        """Return a job; of one that was not found, only the id is known."""


class Partial(Enum):
    """Why an answer holds less than was asked for."""

    CATALOGUE_UNAVAILABLE = "CATALOGUE_UNAVAILABLE"


expose(
    Partial,
    "Why an answer holds less than was asked for.",
    {
        Partial.CATALOGUE_UNAVAILABLE: "The store of jobs and people does not answer: ids and "
        "scores are right, what else is known of the jobs is left out, and filters and changes "
        "of the catalogue may not be heeded."
    },
)


def _partial(*, is_partial: bool) -> Partial | None:
    return Partial.CATALOGUE_UNAVAILABLE if is_partial else None


@strawberry.type(
    description="A person, as far as recommending knows them: for themselves, services and admins."
)
class User:
    id: strawberry.ID = strawberry.field(description="The dataset's id, a 64-bit integer.")
    graduation_year: int | None = strawberry.field(description="When they graduate or did.")
    school_type: str | None = strawberry.field(description="The type of their school.")
    languages: list[str] = strawberry.field(description="Languages that they speak.")
    university: str | None = strawberry.field(description="Their university.")
    degree_subject: str | None = strawberry.field(description="What they study or did.")
    degree_subject_groups: list[str] = strawberry.field(description="Groups of that subject.")
    degree_subject_categories: list[str] = strawberry.field(
        description="Categories of that subject."
    )

    @classmethod
    def from_domain(cls, user: Person) -> User:
        """Return a person."""
        return cls(
            id=_id(user.id),
            graduation_year=user.graduation_year,
            school_type=user.school_type,
            languages=list(user.languages),
            university=user.university,
            degree_subject=user.degree_subject,
            degree_subject_groups=list(user.degree_subject_groups),
            degree_subject_categories=list(user.degree_subject_categories),
        )


@strawberry.type(description="A measured property of a model.")
class Metric:
    name: str = strawberry.field(description="What was measured, for example `recall@10`.")
    value: float = strawberry.field(description="The figure.")


def _metrics(values: Mapping[str, float]) -> list[Metric]:
    return [Metric(name=name, value=value) for name, value in values.items()]


@strawberry.type(
    description="A trained, promoted snapshot. Each training run makes a new version, "
    "also from unchanged data."
)
class Model:
    version: strawberry.ID = strawberry.field(description="Sorts by the time of the training.")
    trained_at: datetime = strawberry.field(description="When the training ended.")
    users: int = strawberry.field(description="People it knows.")
    jobs: int = strawberry.field(description="Jobs it knows.")
    activities: int = strawberry.field(description="Activities it learned from.")
    measured: strawberry.Private[Mapping[str, float]]

    # Made when asked for: each list of an answer names its model
    @strawberry.field(description="What was measured before it went live.")
    def metrics(self) -> list[Metric]:
        return _metrics(self.measured)

    @classmethod
    def from_domain(cls, manifest: runs.Manifest) -> Model:
        """Return a model by its record."""
        return cls(
            version=strawberry.ID(manifest.version),
            trained_at=manifest.trained_at,
            users=manifest.users,
            jobs=manifest.jobs,
            activities=manifest.activities,
            measured=manifest.metrics,
        )


@strawberry.type(description="What one job of a person's history adds to a recommendation.")
class Reason:
    job: Job = strawberry.field(description="The job of the history.")
    kinds: list[ActivityKind] = strawberry.field(description="What the person did with it.")
    contribution: float = strawberry.field(
        description="In units of the score. Those of the whole history, and `trend` of the "
        "recommendation, add up to the score."
    )
    share: float = strawberry.field(description="`contribution` / `score`; may be negative.")

    @classmethod
    def from_domain(cls, reason: model.Reason, jobs: Mapping[int, Job]) -> Reason:
        """Return a reason."""
        return cls(
            job=jobs[reason.job_id],
            kinds=list(reason.kinds),
            contribution=reason.contribution,
            share=reason.share,
        )


@strawberry.input(
    description="How a list is spread over employers, kinds of jobs, and jobs that few know. What "
    "is left out is as the service is set."
)
class VarietyInput:
    max_per_employer: int | None = strawberry.field(
        default=None, description="So many jobs of one employer at most; 0 sets no bound."
    )
    max_per_type: int | None = strawberry.field(
        default=None,
        description="So many jobs of employers of one kind at most; 0 sets no bound. Without "
        "effect where the live model learned no kinds.",
    )
    diversity: float | None = strawberry.field(
        default=None, description="0 to 1, how much jobs that are alike stand back."
    )
    spread: float | None = strawberry.field(
        default=None,
        description="0 to 1, how much jobs stand back in which many are interested, so that small "
        "employers and new jobs are seen.",
    )

    def over(self, default: Variety) -> Variety:
        """Return the domain's value, with a default for what is left out."""
        given = {
            name: value
            for name in ("max_per_employer", "max_per_type", "diversity", "spread")
            if (value := getattr(self, name)) is not None
        }
        bounds = {"max_per_employer", "max_per_type"}
        unbound = {name: None for name in bounds if given.get(name) == 0}
        return dataclasses.replace(default, **{**given, **unbound})


@strawberry.type(description="A job recommended to somebody.")
class Recommendation:
    rank: int = strawberry.field(description="1 for the best.")
    score: float = strawberry.field(
        description="What the rank follows from. No probability; comparable only within one "
        "list and one source, not across people or model versions. Of POPULAR jobs it is "
        "their share of all interest, which halves in 30 days."
    )
    source: RecommendationSource = strawberry.field(description="Why the job stands here.")
    trend: float = strawberry.field(
        description="The part of the score that comes from what everybody is interested in lately, "
        "0 where the model heeds no trend. Of a POPULAR job it is 0."
    )
    job: Job = strawberry.field(description="The job.")
    all_reasons: strawberry.Private[list[Reason]]

    @strawberry.field(
        description="The jobs of the person's own history that add most to the score, by the "
        "model's arithmetic, the strongest first. None where no activity speaks for the job: "
        "`source` is the reason then."
    )
    def reasons(
        self,
        first: Annotated[
            int, strawberry.argument(description=f"How many at most, 1 to {MAX_FIRST}.")
        ] = 3,
    ) -> list[Reason]:
        # The root has looked ahead, and found out as many as are asked for
        return self.all_reasons[:first]


class RecommendationRow(NamedTuple):
    """What a `Recommendation` is read off; thousands are made for an answer, hence no object."""

    rank: int
    score: float
    source: RecommendationSource
    trend: float
    job: Job
    all_reasons: list[Reason]


# Without a call of Python's own for each
_row = partial(tuple.__new__, RecommendationRow)


@strawberry.type(description="Where a job stands for a person.")
class WhyNot:
    job: Job = strawberry.field(description="The job.")
    verdict: Verdict = strawberry.field(description="Why it is not in their list, or that it is.")
    rank: int | None = strawberry.field(
        description="In their whole list, 1 for the best; null unless RANKED."
    )
    score: float | None = strawberry.field(
        description="What the rank follows from; null unless RANKED."
    )
    source: RecommendationSource | None = strawberry.field(
        description="Why it stands there; null unless RANKED."
    )

    @classmethod
    def from_domain(cls, answer: explaining.WhyNot, jobs: Jobs) -> WhyNot:
        """Return an answer."""
        return cls(
            job=jobs[answer.job_id],
            verdict=answer.verdict,
            rank=answer.rank,
            score=answer.score,
            source=answer.source,
        )


@strawberry.input(description="What a visitor did with a job.")
class ActivityInput:
    job_id: strawberry.ID = strawberry.field(description="The job's id.")
    kind: ActivityKind = strawberry.field(description="What they did.")


@strawberry.input(description="What a person did with a job.")
class RecordedActivityInput:
    user_id: strawberry.ID = strawberry.field(description="The person's id.")
    job_id: strawberry.ID = strawberry.field(description="The job's id.")
    kind: ActivityKind = strawberry.field(description="What they did.")
    at: datetime | None = strawberry.field(default=None, description="When; now if left out.")

    def to_domain(self) -> Done | InputError:
        """Return the activity, or why it cannot be read."""
        try:
            return Done(
                parse_id(self.user_id, "userId"), parse_id(self.job_id, "jobId"), self.kind, self.at
            )
        except InputError as error:
            return error


@strawberry.input(description="What people did.")
class RecordActivitiesInput:
    activities: list[RecordedActivityInput] = strawberry.field(description="At most 1,000.")


@strawberry.type(description="What became of one activity.")
class ActivityOutcome:
    recorded: bool = strawberry.field(
        description="Whether it was recorded. It counts in the next answer, then."
    )
    message: str | None = strawberry.field(description="Why it was not; null where it was.")


@strawberry.type(description="What became of activities.")
class RecordActivitiesResult:
    recorded: int = strawberry.field(description="How many were recorded.")
    outcomes: list[ActivityOutcome] = strawberry.field(
        description="One for each activity, in the same order."
    )

    @classmethod
    def from_domain(cls, outcomes: list[InputError | None]) -> RecordActivitiesResult:
        """Return what became of activities."""
        return cls(
            recorded=outcomes.count(None),
            outcomes=[
                ActivityOutcome(
                    recorded=error is None, message=None if error is None else str(error)
                )
                for error in outcomes
            ],
        )


@strawberry.type(description="Jobs for one person, best first.")
class RecommendationList:
    user_id: strawberry.ID | None = strawberry.field(
        description="For whom; null for a visitor without an account."
    )
    model: Model = strawberry.field(description="The model that the whole list comes from.")
    items: list[Recommendation] = strawberry.field(description="At most `first` jobs.")
    shortfall: ShortfallReason | None = strawberry.field(
        description="Why there are fewer than `first` jobs; null where there are not."
    )
    user: User | None = strawberry.field(
        description="The person, for callers who may see them; null where the catalogue lacks "
        "them or does not answer."
    )
    partial: Partial | None = strawberry.field(
        description="Why the answer holds less than was asked for; null where it does not."
    )

    @classmethod
    def from_domain(
        cls,
        answer: ListOfRecommendations,
        model: Model,
        jobs: Mapping[int, Job],
        user: Person | None,
        *,
        is_partial: bool,
    ) -> RecommendationList:
        """Return one person's list."""
        columns: Iterator[tuple[Any, ...]] = zip(*answer.items, strict=True)
        rows: list[RecommendationRow] = []
        if answer.items:
            ranks, ids, scores, sources, trends, reasons = columns
            whys = (
                [Reason.from_domain(reason, jobs) for reason in own] if own else []
                for own in reasons
            )
            held = map(jobs.__getitem__, ids)
            rows += map(_row, zip(ranks, scores, sources, trends, held, whys, strict=True))
        return cls(
            user_id=None if answer.user_id is None else _id(answer.user_id),
            model=model,
            items=cast("list[Recommendation]", rows),
            shortfall=answer.shortfall,
            user=None if user is None else User.from_domain(user),
            partial=_partial(is_partial=is_partial),
        )


@strawberry.type(description="A job that resembles another.")
class SimilarJob:
    rank: int = strawberry.field(description="1 for the most similar.")
    score: float = strawberry.field(description="Cosine of the two jobs' factors, -1 to 1.")
    source: RecommendationSource = strawberry.field(
        description="SIMILAR, or NEW where its text alone places the job."
    )
    job: Job = strawberry.field(description="The job.")


class _SimilarRow(NamedTuple):
    """What a `SimilarJob` is read off."""

    rank: int
    score: float
    source: RecommendationSource
    job: Job


@strawberry.type(description="Jobs that the same people are drawn to, best first.")
class SimilarJobList:
    job: Job = strawberry.field(description="The job that the others resemble.")
    model: Model = strawberry.field(description="The model that the whole list comes from.")
    items: list[SimilarJob] = strawberry.field(description="At most `first` jobs.")
    partial: Partial | None = strawberry.field(
        description="Why the answer holds less than was asked for; null where it does not."
    )

    @classmethod
    def from_domain(cls, answer: ListOfSimilarJobs, own: Jobs, jobs: Jobs) -> SimilarJobList:
        """Return the jobs that resemble one, which is among `own`."""
        rows = [
            _SimilarRow(item.rank, item.score, item.source, jobs[item.job_id])
            for item in answer.items
        ]
        return cls(
            job=own[answer.job_id],
            model=Model.from_domain(answer.model),
            items=cast("list[SimilarJob]", rows),
            partial=_partial(is_partial=answer.is_partial or jobs.is_partial),
        )


@strawberry.type(description="Where a page of the catalogue begins and ends.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more jobs follow.")
    has_previous_page: bool = strawberry.field(description="Whether the page follows a cursor.")
    start_cursor: str | None = strawberry.field(description="The first edge's cursor.")
    end_cursor: str | None = strawberry.field(description="Hand this to `after` for more.")


@strawberry.type(description="A job and its place in the catalogue.")
class JobEdge:
    cursor: str = strawberry.field(description="The job's place; stays valid when jobs go.")
    node: Job = strawberry.field(description="The job.")


@strawberry.type(description="A page of the catalogue, newest job first.")
class JobConnection:
    edges: list[JobEdge] = strawberry.field(description="The page's jobs.")
    page_info: PageInfo = strawberry.field(description="How to go on.")

    @classmethod
    def from_domain(cls, page: JobPage, jobs: Jobs, *, is_continued: bool) -> JobConnection:
        """Return a page."""
        edges = [
            JobEdge(cursor=encode_cursor(JobCursor.of(job)), node=jobs[job.id]) for job in page.jobs
        ]
        return cls(
            edges=edges,
            page_info=PageInfo(
                has_next_page=page.has_next,
                has_previous_page=is_continued,
                start_cursor=edges[0].cursor if edges else None,
                end_cursor=edges[-1].cursor if edges else None,
            ),
        )


def encode_cursor(cursor: JobCursor) -> str:
    """Return a place in the catalogue as an opaque string."""
    return base64.urlsafe_b64encode(f"{cursor.posted_at!r} {cursor.job_id}".encode()).decode()


def decode_cursor(text: str) -> JobCursor:
    """Return the place that `encode_cursor` wrote.

    Raises:
        InputError: it did not write that.
    """
    try:
        posted_at, job_id = base64.urlsafe_b64decode(text).decode().split(" ")
        return JobCursor(float(posted_at), int(job_id))
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"after is {text[:60]!r}, which is no cursor of this list", "after"
        ) from error


@strawberry.type(description="Lines that were not used, of one cause.")
class RejectedLines:
    cause: str = strawberry.field(description="What was wrong.")
    lines: int = strawberry.field(description="How many lines.")
    first: str = strawberry.field(description="The first of them: file, line, value, expectation.")


@strawberry.type(description="The health of the data that a run learned from.")
class DataReport:
    lines_read: float = strawberry.field(description="Lines read = used + rejected.")
    lines_used: float = strawberry.field(description="Lines used.")
    lines_rejected: float = strawberry.field(description="Lines not used.")
    rejected: list[RejectedLines] = strawberry.field(description="Lines not used, by cause.")
    outside_window: float = strawberry.field(description="Used lines outside the time window.")
    pairs: float = strawberry.field(description="Distinct pairs of a person and a job.")
    users: int = strawberry.field(description="People with activities that count.")
    jobs: int = strawberry.field(description="Jobs with activities that count.")
    users_with_redirects_never_shown: int = strawberry.field(
        description="People who went on to an employer and were never shown a job."
    )
    jobs_with_redirects_never_shown: int = strawberry.field(
        description="Jobs from which people went on and which were never shown."
    )
    users_sent_emails_never_opening: int = strawberry.field(
        description="People who were sent e-mails and opened and followed none; they lose nothing."
    )
    users_not_in_catalogue: int = strawberry.field(description="Active people not listed.")
    jobs_not_in_catalogue: int = strawberry.field(description="Active jobs not listed.")
    pairs_in_the_future: float = strawberry.field(
        description="Pairs whose last activity lies after the run's time."
    )
    only_fallback: float = strawberry.field(
        description="Share of the listed people whom the model does not know."
    )

    @classmethod
    def from_domain(cls, report: Mapping[str, Any]) -> DataReport:
        """Return a run's report."""
        plain = (field.name for field in dataclasses.fields(cls) if field.name != "rejected")
        return cls(
            rejected=[
                RejectedLines(cause=cause, lines=lines, first=report["first_rejected"][cause])
                for cause, lines in report["rejected_by_cause"].items()
            ],
            **{name: report[name] for name in plain},
        )


@strawberry.type(description="One training, from the request to its outcome.")
class TrainingRun:
    id: strawberry.ID = strawberry.field(description="Sorts by the time of the request.")
    status: RunStatus = strawberry.field(description="Where the run stands.")
    phase: TrainingPhase = strawberry.field(description="What the run is doing.")
    step: int = strawberry.field(
        description="Steps done in this phase: per mille read, or iterations fitted."
    )
    total_steps: int = strawberry.field(description="Steps in this phase; 0 before it is known.")
    requested_at: datetime = strawberry.field(description="When it was asked for.")
    requested_by: str = strawberry.field(
        description="Who asked; by name for admins only, for others by kind."
    )
    started_at: datetime | None = strawberry.field(description="When work began.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    note: str | None = strawberry.field(description="The requester's remark.")
    since: datetime | None = strawberry.field(description="Where the time window begins.")
    until: datetime | None = strawberry.field(description="Where the time window ends.")
    force: bool = strawberry.field(description="Whether it goes live even if refused.")
    parameters: JSON = strawberry.field(description="Scoring policy, trainer and seed.")
    metrics: list[Metric] = strawberry.field(
        description="Measured on the hold-out: its own, and with `live/` and `popular/` in front "
        "those of the live model and of what is popular."
    )
    data_report: DataReport | None = strawberry.field(
        description="The health of its data; null before it was read, and for all but admins."
    )
    model: Model | None = strawberry.field(
        description="The model that it left behind; null before, and after that model was removed."
    )
    promoted: bool | None = strawberry.field(
        description="Whether that model went live; null until this is decided."
    )
    refusals: list[str] = strawberry.field(
        description="Why that model should not go live; it did all the same if forced."
    )
    unmeasured: str | None = strawberry.field(
        description="Why there are no metrics; null where there are, or until that is known."
    )
    employers_note: str | None = strawberry.field(
        description="Why it learned no types of employers; null where it did, or was not to. For "
        "all but admins without the cause."
    )
    failure: str | None = strawberry.field(
        description="What went wrong; for all but admins without what the data holds."
    )

    @classmethod
    def from_domain(
        cls,
        run: runs.TrainingRun,
        manifests: Mapping[str, runs.Manifest],
        *,
        for_admin: bool = False,
    ) -> TrainingRun:
        """Return a run; its model is looked up among the stored ones."""
        manifest = manifests.get(run.model_version or "")
        report = run.data_report if for_admin else {}
        return cls(
            id=strawberry.ID(run.id),
            status=run.status,
            phase=run.phase,
            step=run.step,
            total_steps=run.total_steps,
            requested_at=run.requested_at,
            requested_by=run.requested_by if for_admin else run.requested_by.partition(":")[0],
            started_at=run.started_at,
            finished_at=run.finished_at,
            note=run.request.note,
            since=run.request.window.since,
            until=run.request.window.until,
            force=run.request.force,
            parameters=JSON(dict(run.parameters)),
            metrics=_metrics(run.metrics),
            data_report=DataReport.from_domain(report) if report else None,
            model=None if manifest is None else Model.from_domain(manifest),
            promoted=run.promoted,
            refusals=list(run.refusals),
            unmeasured=run.unmeasured,
            employers_note=run.employers_note
            if for_admin or run.employers_note is None
            else "no types of employers were learned",
            failure=run.failure if for_admin else _plain_failure(run),
        )


def _plain_failure(run: runs.TrainingRun) -> str | None:
    """Return what anybody may know of a failure: lines of the data may be personal."""
    if run.failure_kind is runs.FailureKind.DATA:
        return "the data cannot be used"
    return run.failure


@strawberry.input(description="What to learn from, and how to treat the result.")
class RetrainInput:
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="Asking again with the same key and input returns the same run.",
    )
    since: datetime | None = strawberry.field(
        default=None, description="Learn only from activities at or after this time."
    )
    until: datetime | None = strawberry.field(
        default=None, description="Learn only from activities before this time."
    )
    note: str | None = strawberry.field(
        default=None, description="A remark for whoever reads the list of runs."
    )
    force: bool = strawberry.field(
        default=False, description="Go live even where the promotion policy refuses."
    )

    def to_domain(self) -> runs.RunRequest:
        """Return the domain's request."""
        return runs.RunRequest(
            window=model.TimeWindow(self.since, self.until), note=self.note, force=self.force
        )


@strawberry.type(description="The run was taken.")
class RetrainAccepted:
    run: TrainingRun = strawberry.field(description="The run.")
    replayed: bool = strawberry.field(
        description="Whether an earlier request under the same key began it."
    )


@strawberry.type(description="Another run is under way; nothing was begun.")
class TrainingInProgress:
    run: TrainingRun = strawberry.field(description="The run under way.")


@strawberry.type(description="The key was used before, with another input; nothing was begun.")
class IdempotencyKeyReused:
    message: str = strawberry.field(description="Which run used it.")


RetrainResult = Annotated[
    RetrainAccepted | TrainingInProgress | IdempotencyKeyReused,
    strawberry.union("RetrainResult", description="What became of a request to retrain."),
]


@strawberry.input(description="Which model.")
class PromoteModelInput:
    version: strawberry.ID = strawberry.field(description="A stored version.")


@strawberry.input(description="Which run.")
class CancelTrainingRunInput:
    id: strawberry.ID = strawberry.field(description="The run's id.")


@strawberry.type(description="The run ends at its next step; the live model stays.")
class TrainingRunCancelled:
    run: TrainingRun = strawberry.field(description="The run.")


@strawberry.type(description="The run had ended, or its model was going live already.")
class TrainingRunEnded:
    run: TrainingRun = strawberry.field(description="The run.")


CancelTrainingRunResult = Annotated[
    TrainingRunCancelled | TrainingRunEnded,
    strawberry.union("CancelTrainingRunResult", description="What became of a cancellation."),
]


@strawberry.type(description="The model is live; every serving process follows within a second.")
class ModelPromoted:
    model: Model = strawberry.field(description="The model.")


@strawberry.type(description="The model is missing or damaged; nothing was changed.")
class ModelNotUsable:
    message: str = strawberry.field(description="What is wrong with it.")


PromoteModelResult = Annotated[
    ModelPromoted | ModelNotUsable,
    strawberry.union("PromoteModelResult", description="What became of a promotion."),
]


@strawberry.type(description="A metric of two models.")
class ComparedMetric:
    name: str = strawberry.field(description="What was measured, each on its own hold-out.")
    a: float | None = strawberry.field(description="Model a's figure.")
    b: float | None = strawberry.field(description="Model b's figure.")


@strawberry.type(description="A job that two models show to different shares of people.")
class MovedJob:
    job: Job = strawberry.field(description="The job.")
    a: float = strawberry.field(description="Share of people whose top 10 of model a hold it.")
    b: float = strawberry.field(description="Share of people whose top 10 of model b hold it.")


@strawberry.type(description="Two models side by side.")
class ModelComparison:
    a: Model = strawberry.field(description="One model.")
    b: Model = strawberry.field(description="The other.")
    metrics: list[ComparedMetric] = strawberry.field(description="Their metrics side by side.")
    people: int = strawberry.field(description="How many people's lists were compared.")
    mean_overlap: float = strawberry.field(
        description="Share of jobs that two top 10 have in common, averaged over people."
    )
    moved: list[MovedJob] = strawberry.field(description="Jobs that moved most, first.")

    @classmethod
    def from_domain(cls, comparison: Comparison, jobs: Jobs) -> ModelComparison:
        """Return a comparison."""
        a, b = comparison.a.metrics, comparison.b.metrics
        return cls(
            a=Model.from_domain(comparison.a),
            b=Model.from_domain(comparison.b),
            metrics=[
                ComparedMetric(name=name, a=a.get(name), b=b.get(name)) for name in {**a, **b}
            ],
            people=comparison.people,
            mean_overlap=comparison.overlap,
            moved=[
                MovedJob(job=jobs[moved.job_id], a=moved.before, b=moved.after)
                for moved in comparison.moved
            ],
        )
