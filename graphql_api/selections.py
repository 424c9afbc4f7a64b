"""What an operation wants of the jobs in its answer, told before anything is read.

Selections of the same place are merged, whatever their aliases: what several of them want is read
once. What `@skip` and `@include` leave out is not wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from graphql import FieldNode, SelectionSetNode
from strawberry.types.nodes import SelectedField, Selection

from application.recommending import MAX_FIRST
from domain.errors import InputError
from graphql_api.executing import has_variable

W = TypeVar("W")

SIMILAR_FIRST = 10
EMPLOYER_FIRST = 20
REASONS_FIRST = 3
"""What is meant where `first` is not given."""

_KEPT_SELECTIONS = 256

_READ_FOR: Mapping[str, frozenset[str]] = {
    "title": frozenset({"title"}),
    "employer": frozenset({"employer"}),
    "location": frozenset({"location"}),
    "description": frozenset({"description"}),
    "postedAt": frozenset({"posted_at"}),
    "closesAt": frozenset({"closes_at"}),
    "isOpen": frozenset({"posted_at", "closes_at", "closed"}),
}
"""Attributes of the domain's job that a field of the graph's is made of; the others need none."""


@dataclass
class WantedJobs:
    """What is wanted of the jobs of one place.

    Attributes:
        fields: attributes of the domain's job.
        similar: what is wanted of lists of similar jobs, by `first`.
        employer: what is wanted of their employers.
    """

    fields: set[str] = field(default_factory=set)
    similar: dict[int, WantedSimilar] = field(default_factory=dict)
    employer: WantedEmployers | None = None

    @property
    def is_leading(self) -> bool:
        """Whether anything is wanted that does not stand in the adverts."""
        return bool(self.similar) or (self.employer is not None and self.employer.is_leading)

    @classmethod
    def of(cls, selections: Iterable[Selection]) -> WantedJobs:
        """Return what selections on jobs want."""
        wanted = cls()
        wanted.add(selections)
        return wanted

    def add(self, selections: Iterable[Selection]) -> None:
        """Want what further selections on the same jobs do, too."""
        for chosen in fields_of(selections):
            self.fields |= _READ_FOR.get(chosen.name, frozenset())
            if chosen.name == "similar":
                first = _first(chosen, SIMILAR_FIRST)
                self.similar.setdefault(first, WantedSimilar()).add(chosen.selections)
            elif chosen.name == "employer":
                self.employer = self.employer or WantedEmployers()
                self.employer.add(chosen.selections)


@dataclass
class WantedSimilar:
    """What is wanted of lists of similar jobs: of the jobs that others resemble, and of those."""

    own: WantedJobs = field(default_factory=WantedJobs)
    others: WantedJobs = field(default_factory=WantedJobs)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is wanted but the lists, and what stands in the adverts."""
        return not (self.own.is_leading or self.others.is_leading)

    @classmethod
    def of(cls, selections: Sequence[Selection]) -> WantedSimilar:
        """Return what selections on lists want.

        Raises:
            InputError: an argument is out of bounds.
        """
        wanted = cls()
        wanted.add(selections)
        return wanted

    def add(self, selections: Iterable[Selection]) -> None:
        """Want what further selections on the same lists do, too."""
        self.own.add(below(selections, "job"))
        self.others.add(below(selections, "items", "job"))


@dataclass
class WantedEmployers:
    """What is wanted of employers.

    Attributes:
        count: whether it is how many jobs they have.
        jobs: what is wanted of pages of their jobs, by `first` and `after`.
        similar: of how many employers that resemble them something is wanted.
        are_examples: whether it is something of employers that stand for their kinds.
        related: what is wanted of both.
    """

    count: bool = False
    jobs: dict[tuple[int, str | None], WantedJobs] = field(default_factory=dict)
    similar: int = 0
    are_examples: bool = False
    related: WantedEmployers | None = None

    @property
    def is_leading(self) -> bool:
        """Whether anything is wanted that has to be asked for."""
        return self.count or bool(self.jobs) or self.related is not None

    @classmethod
    def of(cls, selections: Iterable[Selection]) -> WantedEmployers:
        """Return what selections on employers want."""
        wanted = cls()
        wanted.add(selections)
        return wanted

    def add(self, selections: Iterable[Selection]) -> None:
        """Want what further selections on the same employers do, too."""
        for chosen in fields_of(selections):
            if chosen.name == "jobCount":
                self.count = True
            elif chosen.name == "jobs":
                page = (_first(chosen, EMPLOYER_FIRST), chosen.arguments.get("after"))
                self.jobs.setdefault(page, WantedJobs()).add(
                    below(chosen.selections, "edges", "node")
                )
            elif chosen.name == "similar":
                self.similar = max(self.similar, _first(chosen, SIMILAR_FIRST))
                self._relate(below(chosen.selections, "employer"))
            elif chosen.name == "type":
                examples = below(chosen.selections, "examples")
                self.are_examples |= bool(examples)
                self._relate(examples)

    def _relate(self, selections: Iterable[Selection]) -> None:
        self.related = self.related or WantedEmployers()
        self.related.add(selections)


@dataclass(frozen=True, eq=False)
class WantedLists:
    """What is wanted of lists of recommendations.

    Attributes:
        are_people_shown: whether something of the people is.
        reasons: so many of each job.
    """

    are_people_shown: bool
    reasons: int
    jobs: WantedJobs

    @classmethod
    def of(cls, selections: Sequence[Selection]) -> WantedLists:
        """Return what selections on lists want.

        Raises:
            InputError: an argument is out of bounds.
        """
        jobs = WantedJobs.of(below(selections, "items", "job"))
        jobs.add(below(selections, "items", "reasons", "job"))
        return cls(
            any(field.name == "user" for field in fields_of(selections)),
            most_asked_for(selections, "reasons", REASONS_FIRST),
            jobs,
        )

    @property
    def is_plain(self) -> bool:
        """Whether nothing is wanted but the lists, and what stands in the adverts."""
        return not (self.are_people_shown or self.reasons or self.jobs.is_leading)


class KeptSelections(Generic[W]):
    """What documents want of something: found out once where no variable changes it.

    Args:
        find: finds it out.
    """

    def __init__(self, find: Callable[[Sequence[Selection]], W]) -> None:
        self._find = find
        self._kept: OrderedDict[tuple[int, ...], tuple[list[FieldNode], W]] = OrderedDict()

    def of(self, nodes: list[FieldNode], chosen: Callable[[], Sequence[Selection]]) -> W:
        """Return what is wanted of a root field's answer.

        Args:
            nodes: of the field; they stay with a document.
            chosen: returns what is selected on it.

        Raises:
            InputError: an argument is out of bounds.
        """
        key = tuple(map(id, nodes))
        known = self._kept.get(key)
        if known is not None:
            return known[1]
        wanted = self._find(chosen())
        if not any(_is_varied(node.selection_set) for node in nodes):
            # The nodes are kept, so that nothing else comes to have their identities
            self._kept[key] = nodes, wanted
            if len(self._kept) > _KEPT_SELECTIONS:
                self._kept.popitem(last=False)
        return wanted


def _is_varied(selections: SelectionSetNode | None) -> bool:
    """Tell whether anything below depends on a variable; of fragments, it is taken for granted."""
    for node in () if selections is None else selections.selections:
        if not isinstance(node, FieldNode) or node.directives:
            return True
        if any(has_variable(argument.value) for argument in node.arguments or ()):
            return True
        if _is_varied(node.selection_set):
            return True
    return False


def most_asked_for(selections: Iterable[Selection], name: str, default: int) -> int:
    """Return the largest `first` of the fields of a name, at any depth; 0 where there is none.

    Args:
        default: `first` of a field that does not give it.

    Raises:
        InputError: one is out of bounds.
    """
    most = 0
    for chosen in fields_of(selections):
        if chosen.name == name:
            most = max(most, _first(chosen, default))
        most = max(most, most_asked_for(chosen.selections, name, default))
    return most


def below(selections: Iterable[Selection], *path: str) -> list[Selection]:
    """Return what is selected at the end of a path of fields."""
    found = list(selections)
    for name in path:
        found = [
            inner
            for chosen in fields_of(found)
            if chosen.name == name
            for inner in chosen.selections
        ]
    return found


def fields_of(selections: Iterable[Selection]) -> Iterator[SelectedField]:
    """Yield the fields that are executed, fragments expanded."""
    for selection in selections:
        directives = selection.directives
        if directives and (
            _is_true(directives.get("skip", {}).get("if"))
            or not _is_true(directives.get("include", {}).get("if", True))
        ):
            continue
        if isinstance(selection, SelectedField):
            yield selection
        else:
            # No type of the graph that holds jobs is abstract, so each condition is met
            yield from fields_of(selection.selections)


def _is_true(given: object) -> bool:
    # The library hands literals on as booleans or as their text, by its version
    return given is True or given == "true"


def _first(chosen: SelectedField, default: int) -> int:
    given = chosen.arguments.get("first")
    first = default if given is None else int(given)
    if not 1 <= first <= MAX_FIRST:
        raise InputError(f"first of {chosen.name} is {first}, expected 1 to {MAX_FIRST}", "first")
    return first
