"""The schema: what can be asked, and who answers."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, cast

import strawberry
from graphql import DocumentNode, GraphQLError, execute
from graphql import ExecutionResult as GraphQLExecutionResult
from starlette.websockets import WebSocket
from strawberry.extensions import (
    FieldExtension,
    MaxTokensLimiter,
    SchemaExtension,
    ValidationCache,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionContext, ExecutionResult, Info, get_object_definition
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.graphql import OperationType
from strawberry.types.nodes import Selection
from strawberry.utils.await_maybe import await_maybe
from strawberry.utils.str_converters import to_camel_case

from application.cataloguing import Cataloguing
from application.managing import ModelManagement
from application.recommending import (
    MAX_BATCH,
    MAX_FIRST,
    MAX_SESSION,
    Footing,
    LiveModel,
    Models,
    Moment,
    Recommending,
    check_first,
)
from application.recommending import RecommendationList as ListOfRecommendations
from application.recording import Recording
from application.training import Retraining
from domain.errors import (
    CatalogUnavailable,
    InputError,
    ModelNotReady,
    RunMissing,
    SnapshotError,
    SnapshotMissing,
)
from domain.model import ActivityKind
from domain.model import JobFilter as DomainFilter
from domain.ports import (
    Begun,
    Busy,
    Catalog,
    Clock,
    JobPage,
    KeyReused,
    SnapshotStore,
    TrainingRuns,
)
from domain.runs import Manifest
from domain.runs import TrainingRun as DomainRun
from graphql_api.auth import Caller
from graphql_api.batching import MicroBatches
from graphql_api.bounds import MAX_TOKENS
from graphql_api.cataloguing import CatalogueMutations, UserInput
from graphql_api.employers import EmployerConnection, EmployerFilter, page_of_employers
from graphql_api.executing import Executor
from graphql_api.following import Followers
from graphql_api.gathering import Gathering, ReadJobs, RememberedJobs, employed
from graphql_api.known import KnownOperation, KnownOperations
from graphql_api.limits import Limits, nameless_choice, violations
from graphql_api.memo import Grounds
from graphql_api.outages import RETRY_SECONDS, Outages
from graphql_api.pricing import Priced, Toll
from graphql_api.profiles import HiddenSchema, without_suggestion
from graphql_api.runtime import Runtime, available_cores
from graphql_api.selections import (
    KeptSelections,
    WantedEmployers,
    WantedJobs,
    WantedLists,
    WantedSimilar,
    below,
)
from graphql_api.settings import Profile
from graphql_api.types import (
    ActivityInput,
    CancelTrainingRunInput,
    CancelTrainingRunResult,
    Employer,
    EmployerType,
    IdempotencyKeyReused,
    Job,
    JobConnection,
    JobFilter,
    Model,
    ModelComparison,
    ModelNotUsable,
    ModelPromoted,
    Partial,
    PromoteModelInput,
    PromoteModelResult,
    RecommendationList,
    RecordActivitiesInput,
    RecordActivitiesResult,
    RetrainAccepted,
    RetrainInput,
    RetrainResult,
    SimilarJobList,
    TrainingInProgress,
    TrainingRun,
    TrainingRunCancelled,
    TrainingRunEnded,
    User,
    VarietyInput,
    WhyNot,
    decode_cursor,
    parse_id,
)

T = TypeVar("T")

Observe = Callable[[str, Sequence[GraphQLError], int | None, str | None, float | None], None]
"""Counts an operation; see `probes.observe`."""

_log = logging.getLogger(__name__)

MAX_ERRORS = 5
"""An answer carries the first errors only: more would help nobody but those who flood logs."""

CACHED_DOCUMENTS = 256
"""How many documents stay parsed and checked."""

_LIMITS = Limits()

_LISTS = KeptSelections(WantedLists.of)
_SIMILAR = KeptSelections(WantedSimilar.of)

MAX_TOGETHER = 64
"""People of a micro-batch."""

BRIEF_CELLS = 1 << 20
"""People x jobs that are ranked in less time than to hand them to a thread is worth: some 6 ms."""

BRIEF_SIMILAR_JOBS = 1 << 17
"""Among so many jobs those that resemble one are found in such a time."""

BRIEF_ROWS = 1_000
"""Rows of lists that are put together in such a time."""


@dataclass(frozen=True)
class Services:
    """What the resolvers call, resolved once."""

    runtime: Runtime
    recommending: Recommending
    lists: MicroBatches[PlainTerms, PlainList]
    remembered: RememberedJobs
    recording: Recording
    models: Models
    catalog: Catalog
    snapshots: SnapshotStore
    runs: TrainingRuns
    followers: Followers
    retraining: Retraining
    management: ModelManagement
    clock: Clock
    outages: Outages
    cataloguing: Cataloguing | None


@dataclass
class Context:
    """What a resolver knows of its request, or of its web socket connection.

    Attributes:
        caller: on a web socket, anonymous until it has connected.
        remote: the address that the request comes from.
        connection_params: what a web socket's client said of itself when it connected.
        partial: why the operation's answer holds less than was asked for.
        grounds: takes note of what the answer stands on, where that is of use.
    """

    services: Services
    caller: Caller
    remote: str = ""
    pinned: LiveModel | None = None
    socket: WebSocket | None = None
    connection_params: Mapping[str, object] = field(default_factory=dict)
    partial: Partial | None = None
    grounds: Grounds | None = None

    @property
    def live(self) -> LiveModel:
        """The model that was live when the operation came: one for the whole answer.

        Raises:
            ModelNotReady: there was none.
        """
        return self.pinned or self.services.models.live


First = Annotated[int, strawberry.argument(description=f"How many at most, 1 to {MAX_FIRST}.")]
Where = Annotated[JobFilter | None, strawberry.argument(description="What the jobs must satisfy.")]
Exclude = Annotated[
    list[ActivityKind],
    strawberry.argument(description="Leave out jobs with which the person did any of these."),
]


ExcludeJobs = Annotated[
    list[strawberry.ID],
    strawberry.argument(description=f"Leave out these jobs, too; at most {MAX_BATCH:,}."),
]
IncludeClosed = Annotated[
    bool, strawberry.argument(description="For admins: jobs may be closed, or not open yet.")
]
SpreadOut = Annotated[
    VarietyInput | None,
    strawberry.argument(description="How the list is spread; null as the service is set."),
]


class _Authorised(FieldExtension):
    """Lets those pass who may."""

    async def resolve_async(
        self,
        next_: Callable[..., Any],
        source: object,
        info: Info[Context, None],
        **arguments: Any,  # noqa: ANN401 - whatever the field takes
    ) -> Any:  # noqa: ANN401 - whatever the field answers
        """Ask for the caller's permission, then for the answer."""
        info.context.caller.authorise(info.field_name, _people(info.field_name, arguments))
        answer = next_(source, info, **arguments)
        return await answer if isawaitable(answer) else answer


def _people(root_field: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the ids of those whom a root field is asked about."""
    if root_field == "user":
        return [arguments["id"]]
    if "user_id" in arguments:
        return [arguments["user_id"]]
    if isinstance(given := arguments.get("input"), RecordActivitiesInput):
        return [activity.user_id for activity in given.activities]
    ids: list[str] = arguments.get("user_ids", [])
    return ids


def _authorised(root: type[T]) -> type[T]:
    """Hold every field of a root type against the caller's permissions."""
    for root_field in get_object_definition(root, strict=True).fields:
        root_field.extensions.append(_Authorised())
    return root


@_authorised
@strawberry.type(description="What anybody may ask.")
class Query:
    @strawberry.field(
        description="Best jobs for one person, best first. Somebody the model does not know gets "
        "popular jobs, marked as such."
    )
    async def recommendations(
        self,
        info: Info[Context, None],
        user_id: Annotated[strawberry.ID, strawberry.argument(description="The person's id.")],
        first: First = 10,
        where: Where = None,
        exclude: Exclude = [ActivityKind.APPLY],  # noqa: B006 - strawberry reads it, nobody changes it
        exclude_job_ids: ExcludeJobs = [],  # noqa: B006 - as above
        include_closed: IncludeClosed = False,
        variety: SpreadOut = None,
    ) -> RecommendationList | None:
        terms = _Terms(first, where, exclude, exclude_job_ids, include_closed, variety)
        wanted = _wanted(info)
        if terms.is_plain and wanted.is_plain:
            return await _recommend_plainly(info, user_id, terms, wanted)
        lists = await info.context.services.runtime.run(
            _recommend, info, [user_id], terms, "userId"
        )
        return lists[0]

    @strawberry.field(
        description="One list per requested id, in the same order, duplicates and unknown people "
        "included."
    )
    async def batch_recommendations(
        self,
        info: Info[Context, None],
        user_ids: Annotated[
            list[strawberry.ID],
            strawberry.argument(description=f"The people's ids, at most {MAX_BATCH:,}."),
        ],
        first: First = 10,
        where: Where = None,
        exclude: Exclude = [ActivityKind.APPLY],  # noqa: B006 - strawberry reads it, nobody changes it
        exclude_job_ids: ExcludeJobs = [],  # noqa: B006 - as above
        include_closed: IncludeClosed = False,
        variety: SpreadOut = None,
    ) -> list[RecommendationList] | None:
        terms = _Terms(first, where, exclude, exclude_job_ids, include_closed, variety)
        wanted = _wanted(info)
        if terms.is_plain and wanted.is_plain and len(user_ids) <= MAX_BATCH:
            return await _recommend_all_plainly(info, user_ids, terms, wanted)
        return await info.context.services.runtime.run(_recommend, info, user_ids, terms, "userIds")

    @strawberry.field(
        description="Open jobs that somebody went on to and did not apply to, the latest first."
    )
    async def resume(
        self,
        info: Info[Context, None],
        user_id: Annotated[strawberry.ID, strawberry.argument(description="The person's id.")],
        first: First = 10,
    ) -> list[Job] | None:
        services = info.context.services

        def find() -> list[Job]:
            ids = services.recommending.left_off(
                parse_id(user_id, "userId"), first, info.context.live
            )
            gathering = _gathering(info)
            jobs = gathering.jobs(WantedJobs.of(_chosen(info)), ids)
            _note(info.context, is_partial=gathering.is_partial)
            return [jobs[id_] for id_ in ids]

        return await services.runtime.run(find)

    @strawberry.field(
        description="Jobs for a visitor, by what they did in this session. Nothing is kept."
    )
    async def session_recommendations(
        self,
        info: Info[Context, None],
        activities: Annotated[
            list[ActivityInput],
            strawberry.argument(description=f"What they did, at most {MAX_SESSION}."),
        ],
        first: First = 10,
        where: Where = None,
        exclude: Exclude = [ActivityKind.APPLY],  # noqa: B006 - strawberry reads it, nobody changes it
        liked: Annotated[
            list[strawberry.ID],
            strawberry.argument(
                description="What if they applied for these jobs; they are not recommended."
            ),
        ] = [],  # noqa: B006 - as above
        disliked: Annotated[
            list[strawberry.ID],
            strawberry.argument(description="What if they dismissed these jobs."),
        ] = [],  # noqa: B006 - as above
    ) -> RecommendationList | None:
        services = info.context.services

        def find() -> RecommendationList:
            answer = services.recommending.for_visitor(
                [(parse_id(did.job_id, "jobId"), did.kind) for did in activities],
                first,
                _filter(info, where),
                exclude,
                [parse_id(id_, "liked") for id_ in liked],
                [parse_id(id_, "disliked") for id_ in disliked],
                info.context.live,
                _wanted(info).reasons,
            )
            return _shown(info, [answer], [])[0]

        return await services.runtime.run(find)

    @strawberry.field(
        description="Why a job is not in a person's list, or its rank there, however far down."
    )
    async def why_not(
        self,
        info: Info[Context, None],
        user_id: Annotated[strawberry.ID, strawberry.argument(description="The person's id.")],
        job_id: Annotated[strawberry.ID, strawberry.argument(description="The job's id.")],
        where: Where = None,
        exclude: Exclude = [ActivityKind.APPLY],  # noqa: B006 - strawberry reads it, nobody changes it
    ) -> WhyNot | None:
        services = info.context.services

        def find() -> WhyNot:
            answer = services.recommending.why_not(
                parse_id(user_id, "userId"),
                parse_id(job_id, "jobId"),
                _filter(info, where),
                exclude,
                info.context.live,
            )
            gathering = _gathering(info)
            jobs = gathering.jobs(WantedJobs.of(below(_chosen(info), "job")), [answer.job_id])
            _note(info.context, is_partial=gathering.is_partial)
            return WhyNot.from_domain(answer, jobs)

        return await services.runtime.run(find)

    @strawberry.field(
        description="Jobs that the same people are drawn to. Never the job itself. Null where the "
        "job is unknown."
    )
    async def similar_jobs(
        self,
        info: Info[Context, None],
        job_id: Annotated[strawberry.ID, strawberry.argument(description="The job's id.")],
        first: First = 10,
        where: Where = None,
    ) -> SimilarJobList | None:
        services, live = info.context.services, info.context.live
        recommending, id_ = services.recommending, parse_id(job_id, "jobId")
        wanted = _similar_wanted(info)

        def find(at_hand: Moment | None = None) -> SimilarJobList | None:
            moment = at_hand or (recommending.moment(live) if where is None else None)
            _stand_on(info, [], moment)
            answer = recommending.similar(id_, first, _filter(info, where), live, moment)
            if answer is None:
                return None
            gathering = _gathering(
                info, at_hand and services.remembered.at(at_hand.candidates.revision)
            )
            own, jobs = gathering.similar(wanted, [answer])
            _note(info.context, is_partial=answer.is_partial or gathering.is_partial)
            shown = SimilarJobList.from_domain(answer, own, jobs)
            if wanted.is_plain:
                own.close()
                jobs.close()
            return shown

        if where is None and wanted.is_plain and live.manifest.jobs <= BRIEF_SIMILAR_JOBS:
            at_hand = recommending.moment_at_hand(live)
            if at_hand is not None:
                return find(at_hand)
        return await services.runtime.run(find)

    @strawberry.field(description="A job of the catalogue, null where there is none of that id.")
    async def job(
        self,
        info: Info[Context, None],
        id: Annotated[strawberry.ID, strawberry.argument(description="The job's id.")],  # noqa: A002 - the schema's word
    ) -> Job | None:
        services = info.context.services

        def find() -> Job | None:
            job_id = parse_id(id, "id")
            wanted, gathering = WantedJobs.of(_chosen(info)), _gathering(info)
            fields = frozenset({"id"} | wanted.fields)
            known = services.outages.watch(lambda: services.catalog.jobs([job_id], fields))
            if job_id not in known:
                return None
            jobs = gathering.page(wanted, JobPage([known[job_id]], has_next=False))
            _note(info.context, is_partial=gathering.is_partial)
            return jobs[job_id]

        return await services.runtime.run(find)

    @strawberry.field(
        description="The catalogue, newest first; `ids` narrows it to those that exist."
    )
    async def jobs(
        self,
        info: Info[Context, None],
        ids: Annotated[
            list[strawberry.ID] | None,
            strawberry.argument(description=f"Only these jobs, at most {MAX_BATCH:,}."),
        ] = None,
        where: Where = None,
        first: First = 20,
        after: Annotated[
            str | None, strawberry.argument(description="Go on behind this cursor.")
        ] = None,
    ) -> JobConnection | None:
        services = info.context.services

        def find() -> JobConnection:
            check_first(first)
            if ids is not None and len(ids) > MAX_BATCH:
                raise InputError(f"ids holds {len(ids):,} ids, at most {MAX_BATCH:,}", "ids")
            narrowed = None if ids is None else [parse_id(id_, "ids") for id_ in ids]
            cursor = None if after is None else decode_cursor(after)
            page = services.outages.watch(
                lambda: services.catalog.page(
                    _filter(info, where) or DomainFilter(), narrowed, cursor, first
                )
            )
            wanted = WantedJobs.of(below(_chosen(info), "edges", "node"))
            gathering = _gathering(info)
            jobs = gathering.page(wanted, page)
            _note(info.context, is_partial=gathering.is_partial)
            return JobConnection.from_domain(page, jobs, is_continued=after is not None)

        return await services.runtime.run(find)

    @strawberry.field(
        description="Who offers jobs: by name, in any spelling that the live model learned, or by "
        "id. Null where there is nobody."
    )
    async def employer(
        self,
        info: Info[Context, None],
        name: Annotated[
            str | None, strawberry.argument(description="Its name or one of its aliases.")
        ] = None,
        id: Annotated[strawberry.ID | None, strawberry.argument(description="Its id.")] = None,  # noqa: A002 - the schema's word
    ) -> Employer | None:
        services = info.context.services

        def find() -> Employer | None:
            asked = name if id is None else str(id)
            if asked is None or (name is not None and id is not None):
                raise InputError("give either name or id", "name")
            gathering = _gathering(info)
            known = gathering.learned
            position = None if known is None else known.position(asked)
            if known is not None and position is not None:
                shown = known.names[position]
            else:
                page = services.outages.watch(
                    lambda: services.catalog.page(DomainFilter(employer=asked), None, None, 1)
                )
                if not page.jobs or not page.jobs[0].employer:
                    return None
                shown = page.jobs[0].employer
            return gathering.employer(WantedEmployers.of(_chosen(info)), shown)

        return await services.runtime.run(find)

    @strawberry.field(
        description="The kinds of employers, the largest first; empty where the live model learned "
        "none."
    )
    async def employer_types(self, info: Info[Context, None]) -> list[EmployerType] | None:
        def find() -> list[EmployerType]:
            gathering, chosen = _gathering(info), _chosen(info)
            known = gathering.learned
            if known is None:
                return []
            names = {known.names[place] for kind in known.types for place in kind.examples}
            links = gathering.employers(WantedEmployers.of(below(chosen, "examples")), names)
            _note(info.context, is_partial=gathering.is_partial)
            return [EmployerType.from_domain(known, kind, links) for kind in known.types]

        return await info.context.services.runtime.run(find)

    @strawberry.field(
        description="All employers by name; empty where the live model learned nothing of them."
    )
    async def employers(
        self,
        info: Info[Context, None],
        where: Annotated[
            EmployerFilter | None,
            strawberry.argument(description="What the employers must satisfy."),
        ] = None,
        first: First = 20,
        after: Annotated[
            str | None, strawberry.argument(description="Go on behind this cursor.")
        ] = None,
    ) -> EmployerConnection | None:
        def find() -> EmployerConnection:
            check_first(first)
            gathering = _gathering(info)
            page = page_of_employers(gathering.learned, where, after, first)
            wanted = WantedEmployers.of(below(_chosen(info), "edges", "node"))
            links = gathering.employers(wanted, page.names)
            _note(info.context, is_partial=gathering.is_partial)
            return EmployerConnection.from_page(page, links, is_continued=after is not None)

        return await info.context.services.runtime.run(find)

    @strawberry.field(
        description="A person of the catalogue, null where there is none of that id: for "
        "themselves, services and admins."
    )
    async def user(
        self,
        info: Info[Context, None],
        id: Annotated[strawberry.ID, strawberry.argument(description="The person's id.")],  # noqa: A002 - the schema's word
    ) -> User | None:
        services = info.context.services

        def find() -> User | None:
            user_id = parse_id(id, "id")
            known = services.outages.watch(lambda: services.catalog.users([user_id]))
            return User.from_domain(known[user_id]) if user_id in known else None

        return await services.runtime.run(find)

    @strawberry.field(description="The model that answers now.")
    async def model(self, info: Info[Context, None]) -> Model | None:
        return Model.from_domain(info.context.live.manifest)

    @strawberry.field(description="A training run, null where there is none of that id.")
    async def training_run(
        self,
        info: Info[Context, None],
        id: Annotated[strawberry.ID, strawberry.argument(description="The run's id.")],  # noqa: A002 - the schema's word
    ) -> TrainingRun | None:
        services = info.context.services

        def find() -> TrainingRun | None:
            try:
                run = services.runs.get(str(id))
            except RunMissing:
                return None
            return _run(info.context, run)

        return await services.runtime.run(find)

    @strawberry.field(description="The newest training runs, newest first.")
    async def training_runs(
        self, info: Info[Context, None], first: First = 20
    ) -> list[TrainingRun] | None:
        services = info.context.services

        def find() -> list[TrainingRun]:
            check_first(first)
            manifests = _manifests(services)
            return [
                TrainingRun.from_domain(run, manifests, for_admin=info.context.caller.is_admin)
                for run in services.runs.recent(first)
            ]

        return await services.runtime.run(find)

    @strawberry.field(description="For admins: the stored models, newest first.")
    async def models(self, info: Info[Context, None], first: First = 20) -> list[Model] | None:
        services = info.context.services

        def find() -> list[Model]:
            check_first(first)
            return [
                Model.from_domain(manifest) for manifest in services.management.stored()[:first]
            ]

        return await services.runtime.run(find)

    @strawberry.field(
        description="For admins: what two models show the same people. Null where a version is "
        "not stored."
    )
    async def compare_models(
        self,
        info: Info[Context, None],
        a: Annotated[strawberry.ID, strawberry.argument(description="A stored version.")],
        b: Annotated[strawberry.ID, strawberry.argument(description="Another.")],
        first: Annotated[
            int, strawberry.argument(description="How many of the jobs that moved, 1 to 100.")
        ] = 20,
    ) -> ModelComparison | None:
        services = info.context.services

        def compare() -> ModelComparison | None:
            try:
                comparison = services.management.compare(str(a), str(b), first)
            except SnapshotMissing:
                return None
            wanted = WantedJobs.of(below(_chosen(info), "moved", "job"))
            gathering = _gathering(info)
            jobs = gathering.jobs(wanted, [moved.job_id for moved in comparison.moved])
            _note(info.context, is_partial=gathering.is_partial)
            return ModelComparison.from_domain(comparison, jobs)

        return await services.runtime.run(compare)


@_authorised
@strawberry.type(description="What admins may do, and what services and people may record.")
class Mutation(CatalogueMutations):
    @strawberry.mutation(
        description="Record what people did. It is there for good, counts in the next answer, "
        "and is learned in the next training. A person may tell of themselves only."
    )
    async def record_activities(
        self,
        info: Info[Context, None],
        input: Annotated[  # noqa: A002 - the schema's word
            RecordActivitiesInput, strawberry.argument(description="What they did.")
        ],
    ) -> RecordActivitiesResult | None:
        services = info.context.services

        def record() -> RecordActivitiesResult:
            done = [activity.to_domain() for activity in input.activities]
            return RecordActivitiesResult.from_domain(services.recording.record(done))

        return await services.runtime.run(record)

    @strawberry.mutation(
        description="Learn a new model beside serving, and go live with it. Answers at once; "
        "follow the run with `trainingRun`."
    )
    async def retrain(
        self,
        info: Info[Context, None],
        input: Annotated[  # noqa: A002 - the schema's word
            RetrainInput, strawberry.argument(description="What to learn from.")
        ],
    ) -> RetrainResult | None:
        services = info.context.services

        def begin() -> RetrainAccepted | TrainingInProgress | IdempotencyKeyReused:
            answer = services.retraining.request(
                input.to_domain(), info.context.caller.key, input.idempotency_key
            )
            if isinstance(answer, KeyReused):
                return IdempotencyKeyReused(
                    message=f"run {answer.run.id} used this key with another input"
                )
            run = _run(info.context, answer.run)
            if isinstance(answer, Busy):
                return TrainingInProgress(run=run)
            return RetrainAccepted(run=run, replayed=not isinstance(answer, Begun))

        return await services.runtime.run(begin)

    @strawberry.mutation(description="Stop a training run at its next step.")
    async def cancel_training_run(
        self,
        info: Info[Context, None],
        input: Annotated[  # noqa: A002 - the schema's word
            CancelTrainingRunInput, strawberry.argument(description="Which run.")
        ],
    ) -> CancelTrainingRunResult | None:
        services = info.context.services

        def cancel() -> TrainingRunCancelled | TrainingRunEnded:
            try:
                run, is_cancelled = services.retraining.cancel(str(input.id))
            except RunMissing as error:
                raise InputError(str(error), "id") from error
            shown = _run(info.context, run)
            return TrainingRunCancelled(run=shown) if is_cancelled else TrainingRunEnded(run=shown)

        return await services.runtime.run(cancel)

    @strawberry.mutation(description="Make a stored model the live one.")
    async def promote_model(
        self,
        info: Info[Context, None],
        input: Annotated[  # noqa: A002 - the schema's word
            PromoteModelInput, strawberry.argument(description="Which model.")
        ],
    ) -> PromoteModelResult | None:
        management = info.context.services.management
        return await info.context.services.runtime.run(
            _promoted, lambda: management.promote(str(input.version))
        )

    @strawberry.mutation(description="Go back to the model that was live before the live one.")
    async def rollback_model(self, info: Info[Context, None]) -> PromoteModelResult | None:
        return await info.context.services.runtime.run(
            _promoted, info.context.services.management.roll_back
        )


def _promoted(promote: Callable[[], Manifest]) -> ModelPromoted | ModelNotUsable:
    try:
        return ModelPromoted(model=Model.from_domain(promote()))
    except SnapshotError as error:
        return ModelNotUsable(message=str(error))


def _run(context: Context, run: DomainRun) -> TrainingRun:
    manifests = _manifests(context.services) if run.model_version else {}
    return TrainingRun.from_domain(run, manifests, for_admin=context.caller.is_admin)


@_authorised
@strawberry.type(description="What can be followed.")
class Subscription:
    @strawberry.subscription(
        description="A training run: its state now, then every change, until it has ended. "
        "Whoever comes late or comes back sees the same."
    )
    async def training_run(
        self,
        info: Info[Context, None],
        id: Annotated[strawberry.ID, strawberry.argument(description="The run's id.")],  # noqa: A002 - the schema's word
    ) -> AsyncGenerator[TrainingRun, None]:
        services = info.context.services
        try:
            async with aclosing(services.followers.follow(str(id))) as states:
                async for run in states:
                    # Only the stored models are worth a thread
                    if run.model_version is None:
                        yield _run(info.context, run)
                    else:
                        yield await services.runtime.run(_run, info.context, run)
        except RunMissing as error:
            raise InputError(str(error), "id") from error


class _Terms(NamedTuple):
    """What a caller asks of lists."""

    first: int
    where: JobFilter | None
    exclude: list[ActivityKind]
    exclude_job_ids: list[strawberry.ID]
    include_closed: bool
    variety: VarietyInput | None

    @property
    def is_plain(self) -> bool:
        """Whether they are those of most callers."""
        is_narrowed = self.where is not None or bool(self.exclude_job_ids)
        return not (is_narrowed or self.include_closed or self.variety is not None)


class PlainTerms(NamedTuple):
    """What is asked of a list where it is asked for no more than it has to be."""

    model: LiveModel
    first: int
    exclude: tuple[ActivityKind, ...]
    wanted: WantedLists


class PlainList(NamedTuple):
    """A list as it is shown.

    Attributes:
        footing: what it and those made with it stand on, where that is known.
        place: of its person in `footing`.
        is_partial: whether the catalogue did not help with it.
    """

    list_: RecommendationList
    footing: Footing | None
    place: int
    is_partial: bool


def micro_batches(
    runtime: Runtime,
    recommending: Recommending,
    catalog: Catalog,
    remembered: RememberedJobs,
    clock: Clock,
    outages: Outages,
) -> MicroBatches[PlainTerms, PlainList]:
    """Return what makes plain lists that are asked for at the same moment in one go."""

    def made(
        terms: PlainTerms, ids: Sequence[int], moment: Moment, read_jobs: ReadJobs | None = None
    ) -> list[PlainList]:
        footing = recommending.footing(moment, ids)
        gathering = Gathering(
            *(catalog, recommending, lambda: moment.model, clock(), outages), read_jobs=read_jobs
        )
        lists = recommending.for_users(ids, terms.first, exclude=terms.exclude, moment=moment)
        shown = _with_jobs(lists, terms.wanted, gathering, [])
        is_partial = gathering.is_partial
        return [
            PlainList(own, footing, place, is_partial or lists[place].is_partial)
            for place, own in enumerate(shown)
        ]

    def make(terms: PlainTerms, ids: Sequence[int]) -> list[PlainList]:
        return made(terms, ids, recommending.moment(terms.model))

    def make_briefly(terms: PlainTerms, ids: Sequence[int]) -> list[PlainList] | None:
        if (
            len(ids) * terms.model.manifest.jobs > BRIEF_CELLS
            or len(ids) * terms.first > BRIEF_ROWS
        ):
            return None
        moment = recommending.moment_at_hand(terms.model)
        if moment is None:
            return None
        return made(terms, ids, moment, remembered.at(moment.candidates.revision))

    return MicroBatches(runtime, make, make_briefly, MAX_TOGETHER, available_cores())


async def _recommend_plainly(
    info: Info[Context, None], user_id: strawberry.ID, terms: _Terms, wanted: WantedLists
) -> RecommendationList:
    """Recommend as `_recommend` does, together with others who ask right now."""
    context, id_ = info.context, parse_id(user_id, "userId")
    check_first(terms.first)
    exclude = tuple(terms.exclude)
    plain = await context.services.lists.one(
        PlainTerms(context.live, terms.first, exclude, wanted), id_
    )
    footing = plain.footing and plain.footing.of_one(plain.place)
    return _told_plainly(info, [id_], [plain], footing)[0]


async def _recommend_all_plainly(
    info: Info[Context, None], user_ids: list[strawberry.ID], terms: _Terms, wanted: WantedLists
) -> list[RecommendationList]:
    """Recommend as `_recommend` does, without a thread where the batch is small."""
    context, ids = info.context, [parse_id(user_id, "userIds") for user_id in user_ids]
    check_first(terms.first)
    plain = PlainTerms(context.live, terms.first, tuple(terms.exclude), wanted)
    lists = await context.services.lists.all(plain, ids)
    return _told_plainly(info, ids, lists, lists[0].footing if lists else None)


def _told_plainly(
    info: Info[Context, None],
    ids: Sequence[int],
    lists: Sequence[PlainList],
    footing: Footing | None,
) -> list[RecommendationList]:
    """Return lists as they are shown, and note on what they stand and what they lack."""
    if info.context.grounds is not None:
        info.context.grounds.add(_name(info), ids, footing)
    _note(info.context, is_partial=any(each.is_partial for each in lists))
    return [each.list_ for each in lists]


def _recommend(
    info: Info[Context, None],
    user_ids: list[strawberry.ID],
    terms: _Terms,
    argument: str,
) -> list[RecommendationList]:
    for name, given in ((argument, user_ids), ("excludeJobIds", terms.exclude_job_ids)):
        if len(given) > MAX_BATCH:
            raise InputError(f"{name} holds {len(given):,} ids, at most {MAX_BATCH:,}", name)
    context = info.context
    services = context.services
    ids = [parse_id(user_id, argument) for user_id in user_ids]
    if terms.include_closed:
        context.caller.authorise_argument("includeClosed")
    wanted = _wanted(info)
    if wanted.are_people_shown:
        context.caller.authorise("user", user_ids)
    _stand_on(info, ids)
    variety = services.recommending.variety
    lists = services.recommending.for_users(
        ids,
        terms.first,
        _filter(info, terms.where),
        terms.exclude,
        context.live,
        wanted.reasons,
        exclude_jobs=[parse_id(id_, "excludeJobIds") for id_ in terms.exclude_job_ids],
        include_closed=terms.include_closed,
        variety=None if terms.variety is None else terms.variety.over(variety),
    )
    return _shown(info, lists, list(dict.fromkeys(ids)) if wanted.are_people_shown else [])


def _shown(
    info: Info[Context, None], lists: Sequence[ListOfRecommendations], people: list[int]
) -> list[RecommendationList]:
    """Return lists with their jobs, and with those people who are to be shown."""
    gathering = _gathering(info)
    shown = _with_jobs(lists, _wanted(info), gathering, people)
    is_partial = any(list_.is_partial for list_ in lists) or gathering.is_partial
    _note(info.context, is_partial=is_partial)
    return shown


def _with_jobs(
    lists: Sequence[ListOfRecommendations],
    wanted: WantedLists,
    gathering: Gathering,
    people: list[int],
) -> list[RecommendationList]:
    items = [item for list_ in lists for item in list_.items]
    ids = {item.job_id for item in items}
    if wanted.reasons:
        ids |= {reason.job_id for item in items for reason in item.reasons}
    place = gathering.jobs(wanted.jobs, ids)
    jobs = {id_: place[id_] for id_ in ids}
    if wanted.is_plain:
        place.close()
    users = gathering.users(people) if people else {}
    # All come from one model
    models = [Model.from_domain(list_.model) for list_ in lists[:1]]
    return [
        RecommendationList.from_domain(
            list_,
            models[0],
            jobs,
            None if list_.user_id is None else users.get(list_.user_id),
            is_partial=list_.is_partial or place.is_partial,
        )
        for list_ in lists
    ]


def _filter(info: Info[Context, None], where: JobFilter | None) -> DomainFilter | None:
    return None if where is None else employed(where.to_domain(), _gathering(info).learned)


def _chosen(info: Info[Context, None]) -> list[Selection]:
    """Return what is selected on the answer of a root field."""
    return [inner for root in info.selected_fields for inner in root.selections]


def _wanted(info: Info[Context, None]) -> WantedLists:
    """Return what is wanted of the lists that a root field answers."""
    return _LISTS.of(info._raw_info.field_nodes, lambda: _chosen(info))  # noqa: SLF001 - strawberry shows nodes converted only


def _similar_wanted(info: Info[Context, None]) -> WantedSimilar:
    """Return what is wanted of the similar jobs that a root field answers."""
    return _SIMILAR.of(info._raw_info.field_nodes, lambda: _chosen(info))  # noqa: SLF001 - as above


def _gathering(info: Info[Context, None], read_jobs: ReadJobs | None = None) -> Gathering:
    services, context = info.context.services, info.context
    return Gathering(
        services.catalog,
        services.recommending,
        lambda: context.live,
        services.clock(),
        services.outages,
        context.grounds,
        read_jobs,
    )


def _stand_on(
    info: Info[Context, None], user_ids: Sequence[int], moment: Moment | None = None
) -> None:
    """Take note of what an answer stands on that is about to be worked out."""
    context = info.context
    if context.grounds is not None:
        recommending = context.services.recommending
        footing = recommending.footing(moment or recommending.moment(context.live), user_ids)
        context.grounds.add(_name(info), user_ids, footing)


def _name(info: Info[Context, None]) -> str:
    """Return a root field's name in the answer."""
    return str(info.path.key)


def _note(context: Context, *, is_partial: bool) -> None:
    """Take note of an answer that the catalogue did not help with."""
    if is_partial:
        context.partial = Partial.CATALOGUE_UNAVAILABLE


def _manifests(services: Services) -> Mapping[str, Manifest]:
    return {manifest.version: manifest for manifest in services.snapshots.manifests()}


class Schema(strawberry.Schema):
    """Gives every error a code, and keeps what nobody foresaw out of the answer.

    Args:
        withheld: fields of people that are not in it.
        toll: see `create_schema`, as for `observe`.

    Attributes:
        hides_suggestions: whether errors keep to themselves what the caller may have meant.
        known: the queries that were asked for last; without a toll, none is.
    """

    hides_suggestions = False

    def __init__(
        self,
        *,
        withheld: frozenset[str],
        toll: Toll | None,
        observe: Observe,
        **parts: Any,  # noqa: ANN401 - the library's own
    ) -> None:
        self._withheld = withheld
        self._toll = toll
        self._observe = observe
        self.known = KnownOperations()
        super().__init__(**parts)

    def get_fields(self, type_definition: StrawberryObjectDefinition) -> list[StrawberryField]:
        """Return the fields of a type."""
        fields = super().get_fields(type_definition)
        if type_definition.origin not in (User, UserInput):
            return fields
        return [each for each in fields if each.python_name not in self._withheld]

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: object = None,
        root_value: object = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Execute a query or a mutation; subscriptions need a stream."""
        allowed = {*(allowed_operation_types or OperationType)} - {OperationType.SUBSCRIPTION}
        known = self.known.find(query, operation_name)
        if known is not None and OperationType.QUERY in allowed:
            own = replace(cast("Context", context_value), partial=None)
            return await self.execute_known(known, variable_values or {}, own)
        return await super().execute(
            query,
            variable_values,
            context_value,
            root_value,
            operation_name,
            allowed,
            operation_extensions,
        )

    async def execute_known(
        self, known: KnownOperation, variables: dict[str, Any], context: Context
    ) -> ExecutionResult:
        """Do what the library and the extensions below do once a document is valid.

        Args:
            context: of this operation alone; it keeps the model that is live now.
        """
        begun = time.perf_counter()
        context.pinned = context.services.models.current
        assert self._toll is not None  # noqa: S101 - without one, none is known
        told, errors = await self._toll.take(known.prices, variables, context)
        result = GraphQLExecutionResult(None, errors)
        if not errors:
            try:
                result = await self._result_of(known, variables, context)
            except Exception as error:  # noqa: BLE001 - told below, masked
                unforeseen = GraphQLError(str(error), original_error=error)
                result = GraphQLExecutionResult(None, [unforeseen])
        if result.errors:
            self.process_errors(result.errors)
        self._observe(
            known.label,
            result.errors or [],
            told["requested"],
            None if context.partial is None else context.partial.value,
            time.perf_counter() - begun,
        )
        return ExecutionResult(
            data=result.data, errors=result.errors, extensions={**_noted(context), "cost": told}
        )

    async def _result_of(
        self, known: KnownOperation, variables: dict[str, Any], context: Context
    ) -> GraphQLExecutionResult:
        """Execute a known query: compiled, or as the library does."""
        parts = (self._schema, known.document, None, context, variables, known.operation_name)
        if known.roots is not None and self.execution_context_class is Executor:
            if known.template is None:
                built = Executor.build(*parts)
                known.template = built.template() if isinstance(built, Executor) else None
            executor = known.template and known.template.for_request(variables, context)
            data = None if executor is None else await executor.answer(known.roots)
            if data is not None:
                return GraphQLExecutionResult(data)
        return await await_maybe(execute(*parts, executor_class=self.execution_context_class))

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Rewrite an operation's errors where they are; a caller's mistake is not logged."""
        is_parsed = execution_context is None or execution_context.graphql_document is not None
        errors[:] = [_coded(error, is_parsed=is_parsed) for error in errors[:MAX_ERRORS]]
        if self.hides_suggestions:
            for error in errors:
                error.message = without_suggestion(error.message)


class _OneModel(SchemaExtension):
    """Gives each operation the model that is live then; a web socket outlives many models."""

    def on_operation(self) -> Iterator[None]:
        """Pin the model."""
        self.execution_context.context = _pinned(self.execution_context.context)
        yield


def _pinned(context: Context) -> Context:
    pinned = copy(context)
    pinned.pinned, pinned.partial = context.services.models.current, None
    return pinned


class _Noted(SchemaExtension):
    """Says beside the data where an answer holds less than was asked for."""

    def get_results(self) -> dict[str, Any]:
        """Return what is known once the operation was executed."""
        return _noted(self.execution_context.context)


def _noted(context: Context) -> dict[str, Any]:
    return {} if context.partial is None else {"partial": context.partial.value}


class _Known(SchemaExtension):
    """Keeps what has got as far as being executed."""

    def on_execute(self) -> Iterator[None]:
        """Keep the operation."""
        context = self.execution_context
        schema, document = cast("Schema", context.schema), context.graphql_document
        if context.query is not None and document is not None:
            asked_for = context._provided_operation_name  # noqa: SLF001 - as above
            schema.known.keep(schema._schema, context.query, document, asked_for)  # noqa: SLF001 - strawberry shows it nowhere else
        yield


class _ParserCache(SchemaExtension):
    """Keeps the documents that were asked for last.

    Where one cannot be parsed the library's own fails outside of what turns errors into answers.
    """

    _documents: ClassVar[OrderedDict[str, DocumentNode]] = OrderedDict()

    def on_parse(self) -> Iterator[None]:
        """Take the document from the cache, or leave to the cache what the schema parses."""
        context = self.execution_context
        query = context.query or ""
        context.graphql_document = self._documents.get(query)
        yield
        if context.graphql_document is None:
            return
        self._documents[query] = context.graphql_document
        self._documents.move_to_end(query)
        if len(self._documents) > CACHED_DOCUMENTS:
            self._documents.popitem(last=False)


class _Checked(ValidationCache):
    """Holds a document against the limits first: validating a bomb would set it off."""

    def on_validate(self) -> Iterator[None]:
        """Leave the errors with the operation."""
        context = self.execution_context
        document = context.graphql_document
        errors: list[GraphQLError] = []
        if document is not None:
            asked_for = context._provided_operation_name  # noqa: SLF001 - the public one names the first where none was asked for
            errors = nameless_choice(document, asked_for)
            errors += violations(document, _LIMITS)
        if not errors:
            yield from super().on_validate()
            return
        context.pre_execution_errors = errors
        yield


def _unobserved(*_: object) -> None:
    """Count nothing."""


def create_schema(
    *extensions: type[SchemaExtension],
    toll: Toll | None = None,
    observe: Observe = _unobserved,
    profile: Profile = Profile.DEV,
    withheld: frozenset[str] = frozenset(),
) -> Schema:
    """Return the schema, with caches that are shared by all requests.

    Args:
        extensions: what goes around every operation; `observe` does the same for known ones.
        toll: what a valid document has to pass before it is executed.
        profile: whom it is for.
        withheld: fields of people that are not in it.
    """
    is_hidden = profile is Profile.PRODUCTION
    schema = Schema(
        withheld=withheld,
        toll=toll,
        observe=observe,
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(auto_camel_case=True),
        execution_context_class=Executor,
        extensions=[
            *extensions,
            _OneModel,
            _Noted,
            lambda: MaxTokensLimiter(MAX_TOKENS),
            _ParserCache,
            lambda: _Checked(maxsize=CACHED_DOCUMENTS),
            *([HiddenSchema] if is_hidden else []),
            *([] if toll is None else [lambda: Priced(toll), _Known]),
        ],
    )
    schema.hides_suggestions = is_hidden
    return schema


def _coded(error: GraphQLError, *, is_parsed: bool) -> GraphQLError:
    original = error.original_error
    if error.extensions and "code" in error.extensions:
        return error
    if isinstance(original, GraphQLError) and original.extensions:
        return _with(error, dict(original.extensions))
    if isinstance(original, InputError):
        extensions = {"code": "BAD_USER_INPUT"}
        if original.argument is not None:
            extensions["argument"] = to_camel_case(original.argument)
        return _with(error, extensions)
    if isinstance(original, RecursionError):
        return _with(
            GraphQLError("the document is nested too deeply to be read"),
            {"code": "DEPTH_LIMIT_EXCEEDED"},
        )
    if original is None and "Parsing aborted" in error.message:
        limit = "DEPTH" if "nested too deeply" in error.message else "TOKEN"
        return _with(error, {"code": f"{limit}_LIMIT_EXCEEDED"})
    if original is None and error.message == "Maximum introspection depth exceeded":
        return _with(error, {"code": "INTROSPECTION_LIMIT_EXCEEDED"})
    if isinstance(original, CannotGetOperationTypeError | InvalidOperationTypeError):
        return _with(error, {"code": "BAD_REQUEST"})
    if isinstance(original, ModelNotReady):
        return _with(error, {"code": "MODEL_NOT_READY", "retryAfter": original.retry_after})
    if isinstance(original, CatalogUnavailable):
        return _with(error, {"code": "CATALOGUE_UNAVAILABLE", "retryAfter": RETRY_SECONDS})
    if original is None or isinstance(original, GraphQLError):
        # The caller's document or variables
        code = "GRAPHQL_VALIDATION_FAILED" if is_parsed else "GRAPHQL_PARSE_FAILED"
        return _with(error, {"code": code})
    correlation_id = secrets.token_hex(8)
    _log.error("unexpected error %s: %s", correlation_id, original, exc_info=original)
    masked = GraphQLError(
        f"something went wrong here; the log has it under {correlation_id}",
        nodes=error.nodes,
        path=error.path,
    )
    return _with(masked, {"code": "INTERNAL_SERVER_ERROR", "correlationId": correlation_id})


def _with(error: GraphQLError, extensions: dict[str, Any]) -> GraphQLError:
    error.extensions = extensions
    return error
