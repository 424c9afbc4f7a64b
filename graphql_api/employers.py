"""GraphQL: employers, their kinds, and who resembles whom."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from typing import Annotated, Any

import numpy as np
import strawberry
from strawberry.types import Info

from application.recommending import MAX_FIRST, check_first
from domain import employers as domain
from domain.errors import InputError
from domain.model import folded, words
from domain.ports import JobCursor
from graphql_api.types import Job, PageInfo

First = Annotated[int, strawberry.argument(description=f"How many at most, 1 to {MAX_FIRST}.")]


@strawberry.type(description="A kind of employers, learned from what their adverts say.")
class EmployerType:
    label: str = strawberry.field(description="Its three most telling expressions.")
    expressions: list[str] = strawberry.field(
        description="Expressions and words that tell it from other kinds, the most telling first."
    )
    size: int = strawberry.field(description="How many employers are of this kind.")
    known: strawberry.Private[domain.EmployerTypes]
    learned: strawberry.Private[domain.EmployerType]

    @classmethod
    def from_domain(cls, known: domain.EmployerTypes, type_: domain.EmployerType) -> EmployerType:
        """Return a type."""
        return cls(
            label=type_.label,
            expressions=list(type_.expressions),
            size=type_.size,
            known=known,
            learned=type_,
        )

    @strawberry.field(description="Its most typical employers, the most typical first.")
    def examples(self) -> list[Employer]:
        return [Employer.from_domain(self.known, position) for position in self.learned.examples]


@strawberry.type(description="Who offers jobs, as of the live model's training.")
class Employer:
    id: strawberry.ID = strawberry.field(
        description="Its name without case, marks and legal form: the same for all spellings."
    )
    name: str = strawberry.field(description="Its name as it is shown.")
    job_count: int = strawberry.field(description="How many jobs it had at the training.")
    known: strawberry.Private[domain.EmployerTypes]
    position: strawberry.Private[int]

    @classmethod
    def from_domain(cls, known: domain.EmployerTypes, position: int) -> Employer:
        """Return the employer at a position."""
        return cls(
            id=strawberry.ID(known.keys[position]),
            name=known.names[position],
            job_count=int(known.job_counts[position]),
            known=known,
            position=position,
        )

    @strawberry.field(description="Its kind; null where its adverts hold too little text.")
    def type(self) -> EmployerType | None:
        type_ = self.known.type_at(self.position)
        return None if type_ is None else EmployerType.from_domain(self.known, type_)

    @strawberry.field(
        description="Employers whose adverts resemble its own, best first; empty where they hold "
        "too little text."
    )
    def similar(self, first: First = 10) -> list[SimilarEmployer]:
        check_first(first)
        return [
            SimilarEmployer(
                employer=Employer.from_domain(self.known, other.position), score=other.score
            )
            for other in self.known.similar(self.position, first)
        ]

    @strawberry.field(description="Its jobs that are in the catalogue, newest first.")
    async def jobs(self, info: Info[Any, None], first: First = 10) -> list[Job]:
        services = info.context.services

        def find() -> list[Job]:
            check_first(first)
            own = np.flatnonzero(self.known.employer_of == self.position)
            jobs = services.catalog.jobs(self.known.job_ids[own].tolist()).values()
            # As in the catalogue: the newest first, ties by id
            ordered = sorted(jobs, key=lambda job: (-JobCursor.of(job).posted_at, job.id))
            now = services.clock()
            return [Job.from_domain(job, now) for job in ordered[:first]]

        answer: list[Job] = await services.runtime.run(find)
        return answer


@strawberry.type(description="An employer that resembles another.")
class SimilarEmployer:
    employer: Employer = strawberry.field(description="The employer.")
    score: float = strawberry.field(description="Cosine of the two, at most 1; a rank's reason.")


@strawberry.type(description="An employer and its place in the list.")
class EmployerEdge:
    cursor: str = strawberry.field(description="The employer's place; stays valid.")
    node: Employer = strawberry.field(description="The employer.")


@strawberry.type(description="A page of employers, by name.")
class EmployerConnection:
    edges: list[EmployerEdge] = strawberry.field(description="The page's employers.")
    page_info: PageInfo = strawberry.field(description="How to go on.")


@strawberry.input(description="What employers must satisfy. A field left out asks for nothing.")
class EmployerFilter:
    name: str | None = strawberry.field(
        default=None, description="Words that the name must all contain, in any order."
    )
    type: str | None = strawberry.field(
        default=None, description="The whole label of their kind, whatever its case."
    )


@strawberry.type
class EmployerQueries:
    """The root fields about employers; without types every answer is null or empty."""

    @strawberry.field(
        description="An employer by name, in any spelling, or by id. Null where there is none, or "
        "where the live model learned nothing of employers."
    )
    async def employer(
        self,
        info: Info[Any, None],
        name: Annotated[
            str | None, strawberry.argument(description="Its name or one of its aliases.")
        ] = None,
        id: Annotated[strawberry.ID | None, strawberry.argument(description="Its id.")] = None,  # noqa: A002 - the schema's word
    ) -> Employer | None:
        asked = name if id is None else str(id)
        if asked is None or (name is not None and id is not None):
            raise InputError("give either name or id", "name")
        known: domain.EmployerTypes | None = info.context.live.employers
        position = None if known is None else known.position(asked)
        if known is None or position is None:
            return None
        return Employer.from_domain(known, position)

    @strawberry.field(
        description="The kinds of employers, the largest first; empty where the live model learned "
        "none."
    )
    async def employer_types(self, info: Info[Any, None]) -> list[EmployerType] | None:
        known: domain.EmployerTypes | None = info.context.live.employers
        return [] if known is None else [EmployerType.from_domain(known, t) for t in known.types]

    @strawberry.field(
        description="All employers by name; empty where the live model learned nothing of them."
    )
    async def employers(
        self,
        info: Info[Any, None],
        where: Annotated[
            EmployerFilter | None,
            strawberry.argument(description="What the employers must satisfy."),
        ] = None,
        first: First = 20,
        after: Annotated[
            str | None, strawberry.argument(description="Go on behind this cursor.")
        ] = None,
    ) -> EmployerConnection | None:
        check_first(first)
        known: domain.EmployerTypes | None = info.context.live.employers
        behind = None if after is None else _decoded(after)

        def find() -> EmployerConnection:
            found: list[int] = [] if known is None else _matching(known, where, behind, first)
            edges = [
                EmployerEdge(
                    cursor=_encoded(known.keys[position]),
                    node=Employer.from_domain(known, position),
                )
                for position in found[:first]
                if known is not None
            ]
            return EmployerConnection(
                edges=edges,
                page_info=PageInfo(
                    has_next_page=len(found) > first,
                    has_previous_page=after is not None,
                    start_cursor=edges[0].cursor if edges else None,
                    end_cursor=edges[-1].cursor if edges else None,
                ),
            )

        answer: EmployerConnection = await info.context.services.runtime.run(find)
        return answer


def _matching(
    known: domain.EmployerTypes, where: EmployerFilter | None, behind: str | None, first: int
) -> list[int]:
    """Return the positions of a page's employers, and one more where there is a next page."""
    wanted = words(where.name) if where is not None else frozenset()
    label = None if where is None or where.type is None else folded(where.type)
    types = {number for number, type_ in enumerate(known.types) if folded(type_.label) == label}
    found: list[int] = []
    for position in range(
        0 if behind is None else bisect_right(known.keys, behind), len(known.keys)
    ):
        if label is not None and int(known.type_of[position]) not in types:
            continue
        if wanted <= words(known.names[position]):
            found.append(position)
            if len(found) > first:
                break
    return found


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decoded(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"after is {cursor[:60]!r}, which is no cursor of this list", "after"
        ) from error
