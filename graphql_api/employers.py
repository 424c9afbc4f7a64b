"""GraphQL: all employers that a model learned of, page by page."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import strawberry

from domain.employers import EmployerTypes
from domain.errors import InputError
from domain.model import folded, words
from graphql_api.types import Employer, Links, PageInfo


@strawberry.type(description="An employer and its place in the list.")
class EmployerEdge:
    cursor: str = strawberry.field(description="The employer's place; stays valid.")
    node: Employer = strawberry.field(description="The employer.")


@strawberry.input(description="What employers must satisfy. A field left out asks for nothing.")
class EmployerFilter:
    name: str | None = strawberry.field(
        default=None, description="Words that the name must all contain, in any order."
    )
    type: str | None = strawberry.field(
        default=None, description="The whole label of their kind, whatever its case."
    )


class EmployerPage(NamedTuple):
    """A stretch of all employers; keys and names align."""

    keys: Sequence[str]
    names: Sequence[str]
    has_next: bool


@strawberry.type(description="A page of employers, by name.")
class EmployerConnection:
    edges: list[EmployerEdge] = strawberry.field(description="The page's employers.")
    page_info: PageInfo = strawberry.field(description="How to go on.")

    @classmethod
    def from_page(
        cls, page: EmployerPage, links: Links, *, is_continued: bool
    ) -> EmployerConnection:
        """Return a page; `links` tells where its employers lead."""
        edges = [
            EmployerEdge(cursor=_encoded(key), node=links.employer(name))
            for key, name in zip(page.keys, page.names, strict=True)
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


def page_of_employers(
    known: EmployerTypes | None, where: EmployerFilter | None, after: str | None, first: int
) -> EmployerPage:
    """Return up to `first` employers behind a cursor, by key.

    Raises:
        InputError: the cursor is none.
    """
    behind = None if after is None else _decoded(after)
    if known is None:
        return EmployerPage((), (), has_next=False)
    wanted = words(where.name) if where is not None else frozenset()
    label = None if where is None or where.type is None else folded(where.type)
    kinds = {number for number, kind in enumerate(known.types) if folded(kind.label) == label}
    found: list[int] = []
    start = 0 if behind is None else bisect_right(known.keys, behind)
    for position in range(start, len(known.keys)):
        if label is not None and int(known.type_of[position]) not in kinds:
            continue
        if wanted <= words(known.names[position]):
            found.append(position)
            if len(found) > first:
                break
    return EmployerPage(
        [known.keys[position] for position in found[:first]],
        [known.names[position] for position in found[:first]],
        has_next=len(found) > first,
    )


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decoded(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"after is {cursor[:60]!r}, which is no cursor of this list", "after"
        ) from error
