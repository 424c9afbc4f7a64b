"""GraphQL: changing the catalogue, for admins; what became of each item is told by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import strawberry
from strawberry.types import Info

from application.cataloguing import MAX_CHANGES, Cataloguing, Refusal
from domain import model
from domain.errors import InputError
from domain.ports import Change
from graphql_api.types import expose, parse_id

T = TypeVar("T")

_AT_MOST = f"At most {MAX_CHANGES:,}"

expose(
    Change,
    "What became of an item of the catalogue.",
    {
        Change.CREATED: "It is new.",
        Change.UPDATED: "It was there and is another now.",
        Change.UNCHANGED: "It was there just so.",
        Change.REMOVED: "It was there and is gone.",
        Change.MISSING: "It was not there.",
    },
)


@strawberry.input(description="A job advert, whole: what is left out is unknown from then on.")
class JobInput:
    id: strawberry.ID = strawberry.field(description="The dataset's id, a 64-bit integer.")
    title: str | None = strawberry.field(default=None, description="The advert's title.")
    employer: str | None = strawberry.field(default=None, description="Who offers the job.")
    location: str | None = strawberry.field(default=None, description="Where the job is.")
    description: str | None = strawberry.field(default=None, description="The advert's text.")
    posted_at: datetime | None = strawberry.field(
        default=None, description="When the advert went up, with a time zone."
    )
    closes_at: datetime | None = strawberry.field(
        default=None, description="When applications close, with a time zone."
    )
    closed: bool = strawberry.field(
        default=False, description="Whether it is closed, whatever `closesAt` announces."
    )

    def to_domain(self) -> model.Job:
        """Return the domain's job."""
        return model.Job(
            id=parse_id(self.id, "id"),
            title=self.title,
            employer=self.employer,
            location=self.location,
            description=self.description,
            posted_at=self.posted_at,
            closes_at=self.closes_at,
            closed=self.closed,
        )


@strawberry.input(description="A person, whole: what is left out is unknown from then on.")
class UserInput:
    id: strawberry.ID = strawberry.field(description="The dataset's id, a 64-bit integer.")
    graduation_year: int | None = strawberry.field(
        default=None, description="When they graduate or did."
    )
    school_type: str | None = strawberry.field(
        default=None, description="The type of their school."
    )
    languages: list[str] = strawberry.field(
        default_factory=list, description="Languages that they speak."
    )
    university: str | None = strawberry.field(default=None, description="Their university.")
    degree_subject: str | None = strawberry.field(
        default=None, description="What they study or did."
    )
    degree_subject_groups: list[str] = strawberry.field(
        default_factory=list, description="Groups of that subject."
    )
    degree_subject_categories: list[str] = strawberry.field(
        default_factory=list, description="Categories of that subject."
    )

    def to_domain(self) -> model.User:
        """Return the domain's person."""
        return model.User(
            id=parse_id(self.id, "id"),
            graduation_year=self.graduation_year,
            school_type=self.school_type,
            languages=tuple(self.languages),
            university=self.university,
            degree_subject=self.degree_subject,
            degree_subject_groups=tuple(self.degree_subject_groups),
            degree_subject_categories=tuple(self.degree_subject_categories),
        )


@strawberry.input(description="Jobs to put into the catalogue.")
class UpsertJobsInput:
    jobs: list[JobInput] = strawberry.field(description=f"{_AT_MOST}; of an id, the last counts.")


@strawberry.input(description="Which jobs to close.")
class CloseJobsInput:
    ids: list[strawberry.ID] = strawberry.field(description=f"{_AT_MOST}.")


@strawberry.input(description="Which jobs to take out.")
class RemoveJobsInput:
    ids: list[strawberry.ID] = strawberry.field(description=f"{_AT_MOST}.")


@strawberry.input(description="People to put into the catalogue.")
class UpsertUsersInput:
    users: list[UserInput] = strawberry.field(description=f"{_AT_MOST}; of an id, the last counts.")


@strawberry.input(description="Whom to forget.")
class EraseUserInput:
    id: strawberry.ID = strawberry.field(description="The person's id.")


@strawberry.type(description="What became of one item.")
class ItemOutcome:
    id: str = strawberry.field(description="The item's id, as it was given.")
    change: Change | None = strawberry.field(
        description="What became of it; null where it was refused."
    )
    refusal: str | None = strawberry.field(
        description="Why it was refused; null where it was not. Nothing of it was changed."
    )


@strawberry.type(
    description="The catalogue is changed, for the next request on every worker. An item that was "
    "refused kept no other from being taken."
)
class CatalogueChanged:
    outcomes: list[ItemOutcome] = strawberry.field(description="One for each item, in order.")
    refused: int = strawberry.field(description="How many items were refused.")


@strawberry.type(description="The catalogue is read from files and cannot be changed here.")
class CatalogueReadOnly:
    message: str = strawberry.field(description="What to do instead.")


@strawberry.type(
    description="The person is forgotten from the next request on. That it was done is kept, under "
    "a keyed hash of the id."
)
class UserErased:
    change: Change = strawberry.field(
        description="REMOVED, or MISSING where there was no profile; either way it is recorded."
    )
    at: datetime = strawberry.field(description="When that was.")


ChangeCatalogueResult = Annotated[
    CatalogueChanged | CatalogueReadOnly,
    strawberry.union("ChangeCatalogueResult", description="What became of changes."),
]
EraseUserResult = Annotated[
    UserErased | CatalogueReadOnly,
    strawberry.union("EraseUserResult", description="What became of a request to be forgotten."),
]

_READ_ONLY = CatalogueReadOnly(
    message="the catalogue is read from files, which are read again when they change: "
    "change the files, or serve from a store"
)


@strawberry.type
class CatalogueMutations:
    """What admins may do with the catalogue."""

    @strawberry.mutation(description="Put jobs in place of those of the same ids, whole.")
    async def upsert_jobs(
        self,
        info: Info[Any, None],
        input: Annotated[UpsertJobsInput, strawberry.argument(description="The jobs.")],  # noqa: A002 - the schema's word
    ) -> ChangeCatalogueResult | None:
        return await _change(
            info,
            [job.id for job in input.jobs],
            lambda: [_read(job.to_domain) for job in input.jobs],
            Cataloguing.upsert_jobs,
        )

    @strawberry.mutation(description="Close jobs: nobody is shown them any more.")
    async def close_jobs(
        self,
        info: Info[Any, None],
        input: Annotated[CloseJobsInput, strawberry.argument(description="Which jobs.")],  # noqa: A002 - the schema's word
    ) -> ChangeCatalogueResult | None:
        return await _change(info, input.ids, lambda: _ids(input.ids), Cataloguing.close_jobs)

    @strawberry.mutation(description="Take jobs out of the catalogue.")
    async def remove_jobs(
        self,
        info: Info[Any, None],
        input: Annotated[RemoveJobsInput, strawberry.argument(description="Which jobs.")],  # noqa: A002 - the schema's word
    ) -> ChangeCatalogueResult | None:
        return await _change(info, input.ids, lambda: _ids(input.ids), Cataloguing.remove_jobs)

    @strawberry.mutation(
        description="Put people in place of those of the same ids, whole; ends their erasure."
    )
    async def upsert_users(
        self,
        info: Info[Any, None],
        input: Annotated[UpsertUsersInput, strawberry.argument(description="The people.")],  # noqa: A002 - the schema's word
    ) -> ChangeCatalogueResult | None:
        return await _change(
            info,
            [user.id for user in input.users],
            lambda: [_read(user.to_domain) for user in input.users],
            Cataloguing.upsert_users,
        )

    @strawberry.mutation(
        description="Forget a person: their profile and what answers know of them from the next "
        "request on, their activities with the next training."
    )
    async def erase_user(
        self,
        info: Info[Any, None],
        input: Annotated[EraseUserInput, strawberry.argument(description="Whom.")],  # noqa: A002 - the schema's word
    ) -> EraseUserResult | None:
        services = info.context.services
        cataloguing: Cataloguing | None = services.cataloguing

        def erase() -> UserErased | CatalogueReadOnly:
            user_id = parse_id(input.id, "id")
            if cataloguing is None:
                return _READ_ONLY
            erasure = services.outages.watch(
                lambda: cataloguing.erase_user(user_id, info.context.caller.key)
            )
            return UserErased(change=erasure.change, at=erasure.at)

        erased: UserErased | CatalogueReadOnly = await services.runtime.run(erase)
        return erased


async def _change(
    info: Info[Any, None],
    ids: Sequence[str],
    read: Callable[[], list[T | Refusal]],
    change: Callable[[Cataloguing, list[T | Refusal]], list[Change | Refusal]],
) -> CatalogueChanged | CatalogueReadOnly:
    services = info.context.services
    cataloguing: Cataloguing | None = services.cataloguing

    def apply() -> CatalogueChanged | CatalogueReadOnly:
        if len(ids) > MAX_CHANGES:
            raise InputError(f"input holds {len(ids):,} items, at most {MAX_CHANGES:,}", "input")
        if cataloguing is None:
            return _READ_ONLY
        results = services.outages.watch(lambda: change(cataloguing, read()))
        outcomes = [
            ItemOutcome(id=str(id_), change=None, refusal=result.reason)
            if isinstance(result, Refusal)
            else ItemOutcome(id=str(id_), change=result, refusal=None)
            for id_, result in zip(ids, results, strict=True)
        ]
        refused = sum(outcome.change is None for outcome in outcomes)
        return CatalogueChanged(outcomes=outcomes, refused=refused)

    answer: CatalogueChanged | CatalogueReadOnly = await services.runtime.run(apply)
    return answer


def _ids(ids: Sequence[strawberry.ID]) -> list[int | Refusal]:
    return [_read(lambda id_=id_: parse_id(id_, "id")) for id_ in ids]  # type: ignore[misc] # mypy knows no defaults of lambdas


def _read(read: Callable[[], T]) -> T | Refusal:
    try:
        return read()
    except InputError as error:
        return Refusal(str(error))
