"""What an operation makes the service do, as a price that is known before it is executed.

Each field costs 1 times the product of the sizes of the lists it stands in. Each ranked list, that
is each person recommended for and each job that others resemble, costs `LIST_PRICE` and 1 per job
on top, whatever is selected, and with `variety` `VARIETY_PRICE` and `VARIETY_PRICE_A_JOB` per job.
A filter costs what looking at the whole catalogue does, about one unit for `JOBS_A_UNIT` jobs, and
so do an employer's jobs. A change of the catalogue costs `CHANGE_PRICE` for each item. A list is as
long as the arguments let it be: as `first` of the field above it, or as the ids given; the few
others have a stated length. Fields that `@skip` and `@include` leave out count, and so does a field
asked for twice.

One unit is about 3 microseconds of one core (measured: 2.9 to 3.8 from 1,000 people x 1 job up to
1,000 x 100). A price is linear in `first` of the field above, so each fragment is priced once,
wherever it is spread, and the work is linear in the document.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLError,
    GraphQLField,
    GraphQLSchema,
    InlineFragmentNode,
    NamedTypeNode,
    OperationDefinitionNode,
    SelectionSetNode,
    Undefined,
    ValueNode,
    get_named_type,
    get_nullable_type,
    get_operation_ast,
    is_list_type,
    value_from_ast_untyped,
)
from strawberry.extensions import SchemaExtension

from application.cataloguing import MAX_CHANGES
from application.managing import COMPARED_PEOPLE
from application.recommending import MAX_BATCH, MAX_FIRST, MAX_SESSION
from application.recording import MAX_RECORDED

LIST_PRICE = 10
"""Finding what one person has done, and ranking the jobs for them."""

CHANGE_PRICE = 10
"""Checking and storing one item of the catalogue."""

VARIETY_PRICE = 40
VARIETY_PRICE_A_JOB = 13
"""Choosing a list of k from a pool: 48, 126 and 1,272 units were measured for 1, 10 and 100."""

JOBS_A_UNIT = 70
"""A new filter took 250 microseconds over 7,000 jobs."""

LOOKS_OF_A_WHOLE_LIST = 8
"""Ranking all jobs for one person costs so many times what a filter does."""

_KEPT_PRICES = 100
"""Of an operation; its variables may come in many shapes."""

_MAX_ITEMS = 10 * MAX_BATCH
"""Of a list among the variables: longer ones are refused before they are even coerced."""

_FIELDS_THAT_RANK = {
    "recommendations",
    "resume",
    "batchRecommendations",
    "sessionRecommendations",
    "similarJobs",
    "similar",
}
_SEARCHES = {"jobs", "jobCount"}
"""Fields of an employer that look at the whole catalogue."""

_CHANGES = {
    "upsertJobs": "jobs",
    "closeJobs": "ids",
    "removeJobs": "ids",
    "upsertUsers": "users",
    "eraseUser": "id",
}
"""Mutations of the catalogue, and where in their input its items are."""

_OWN_PRICES = {
    "compareModels": 2 * COMPARED_PEOPLE * LIST_PRICE,
    "reasons": 2,
    "recordActivities": MAX_RECORDED,
    "sessionRecommendations": MAX_SESSION,
}

_STATED_LENGTHS = {
    # Of this service's types
    "metrics": 20,
    "employerTypes": 24,
    "expressions": 12,
    "examples": 8,
    "refusals": 10,
    "rejected": 20,
    # Of introspection, on average
    "types": 50,
    "fields": 5,
    "args": 1,
    "enumValues": 2,
    "inputFields": 1,
    "interfaces": 1,
    "possibleTypes": 1,
    "directives": 8,
    "locations": 3,
}


@dataclass(frozen=True)
class _Price:
    """A price that may depend on `first` of a field further up.

    Attributes:
        fixed: what it costs in any case.
        each: what it costs on top for each of the jobs that `first` asks for.
    """

    fixed: int = 0
    each: int = 0

    def __add__(self, other: _Price) -> _Price:
        return _Price(self.fixed + other.fixed, self.each + other.each)

    def at(self, first: int) -> int:
        """Return the price where `first` is known."""
        return self.fixed + self.each * first


def price(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation_name: str | None,
    variables: Mapping[str, Any] | None,
    jobs: int = 0,
) -> int:
    """Return the price of the operation that is to be run.

    Args:
        document: valid, and within the limits, which bound how large a price can become.
        variables: as they came, whether they fit their types or not.
        jobs: how many the model knows.
    """
    operation = get_operation_ast(document, operation_name)
    root = None if operation is None else schema.get_root_type(operation.operation)
    if operation is None or root is None:
        return 0  # nothing can be executed
    given = _with_defaults(operation, variables or {})
    pricing = _Pricing(schema, document, given, max(1, jobs // JOBS_A_UNIT))
    return pricing.selections(operation.selection_set, root).at(MAX_FIRST)


class Prices:
    """Prices of one operation, kept by what of its variables they depend on."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation_name: str | None
    ) -> None:
        self._parts = schema, document, operation_name
        operation = get_operation_ast(document, operation_name)
        definitions = () if operation is None else operation.variable_definitions or ()
        self._names = [definition.variable.name.value for definition in definitions]
        self._kept: dict[tuple[object, ...], int] = {}

    def of(self, variables: Mapping[str, Any], jobs: int) -> int:
        """Return the price; see `price`."""
        # Whatever else is given counts for nothing, and may be of any size
        shape = (
            jobs,
            *(_size(variables[name]) if name in variables else () for name in self._names),
        )
        known = self._kept.get(shape)
        if known is None:
            if len(self._kept) >= _KEPT_PRICES:
                self._kept.clear()
            known = self._kept[shape] = price(*self._parts, variables, jobs)
        return known


def _size(value: object) -> object:
    """Return what a price may depend on; an object's lists are those of changes alone."""
    if isinstance(value, list):
        return (len(value),)
    return value if value is None or isinstance(value, int | float) else ...


class Toll:
    """Refuses what costs more than the budget, and has callers pay for the rest.

    Args:
        budget: the most that one operation may cost.
        spend: takes the operation's context and price, and returns an error where the caller has
            spent too much already.
        jobs: returns how many jobs the model knows.

    Attributes:
        taken: how many operations came.
    """

    def __init__(
        self,
        budget: int,
        spend: Callable[[Any, int], Awaitable[GraphQLError | None]],
        jobs: Callable[[], int],
    ) -> None:
        self.taken = 0
        self._budget = budget
        self._spend = spend
        self._jobs = jobs

    async def take(
        self, prices: Prices, variables: Mapping[str, Any], context: object
    ) -> tuple[dict[str, int], list[GraphQLError]]:
        """Return what the answer tells of the price, and why the operation may not run."""
        self.taken += 1
        requested = prices.of(variables, self._jobs())
        told = {"requested": requested, "budget": self._budget}
        if errors := _too_long(variables):
            return told, errors
        if requested > self._budget:
            return told, [_too_expensive(requested, self._budget)]
        refusal = await self._spend(context, requested)
        return told, [] if refusal is None else [refusal]


class Priced(SchemaExtension):
    """Takes the toll of every operation, and tells its price."""

    def __init__(self, toll: Toll) -> None:
        super().__init__()
        self._toll = toll

    async def on_validate(self) -> AsyncIterator[None]:
        """Price a document that has turned out valid."""
        context = self.execution_context
        if context.graphql_document is not None and not context.pre_execution_errors:
            schema = context.schema._schema  # noqa: SLF001 - strawberry shows the schema it made nowhere else
            prices = Prices(schema, context.graphql_document, context.operation_name)
            told, errors = await self._toll.take(prices, context.variables or {}, context.context)
            context.extensions_results["cost"] = told
            if errors:
                context.pre_execution_errors = errors
        yield


def _too_expensive(requested: int, budget: int) -> GraphQLError:
    return GraphQLError(
        f"the operation costs {requested:,}, at most {budget:,} is allowed: "
        "ask for fewer people, fewer jobs or fewer fields at once",
        extensions={"code": "COST_LIMIT_EXCEEDED", "requested": requested, "budget": budget},
    )


def _too_long(variables: Mapping[str, Any]) -> list[GraphQLError]:
    return [
        GraphQLError(
            f"${name} holds {len(value):,} items, at most {_MAX_ITEMS:,}",
            extensions={"code": "BAD_USER_INPUT", "argument": name},
        )
        for name, value in variables.items()
        if isinstance(value, list) and len(value) > _MAX_ITEMS
    ]


def _with_defaults(operation: OperationDefinitionNode, given: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {
        definition.variable.name.value: value_from_ast_untyped(definition.default_value)
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }
    return {**defaults, **given}


class _Pricing:
    """Prices of the parts of one document; each fragment is priced once."""

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        variables: dict[str, Any],
        filter_price: int,
    ) -> None:
        self._schema = schema
        self._variables = variables
        self._filter_price = filter_price
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._prices: dict[str, _Price] = {}

    def selections(self, node: SelectionSetNode, parent: GraphQLCompositeType) -> _Price:
        """Price a selection set on a type."""
        total = _Price()
        for selection in node.selections:
            if isinstance(selection, FieldNode):
                total += self._field(selection, parent)
            elif isinstance(selection, FragmentSpreadNode):
                total += self._fragment(selection.name.value)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inside = parent if condition is None else self._type(condition)
                total += self.selections(selection.selection_set, inside)
        return total

    def _fragment(self, name: str) -> _Price:
        if name not in self._prices:
            node = self._fragments[name]
            inside = self._type(node.type_condition)
            self._prices[name] = self.selections(node.selection_set, inside)
        return self._prices[name]

    def _field(self, node: FieldNode, parent: GraphQLCompositeType) -> _Price:
        name = node.name.value
        # There is one, since the document is valid
        definition = cast("GraphQLField", self._schema.get_field(parent, name))
        inner = _Price()
        if node.selection_set is not None:
            inside = cast("GraphQLCompositeType", get_named_type(definition.type))
            inner = self.selections(node.selection_set, inside)
        is_list = is_list_type(get_nullable_type(definition.type))
        if name in _CHANGES:
            items = self._items(node, _CHANGES[name])
            return _Price(1 + items * CHANGE_PRICE + inner.at(items))
        is_search = parent.name == "Employer" and name in _SEARCHES
        if "first" not in definition.args:
            if is_search:
                return _Price(1 + self._filter_price)
            if not is_list:
                own = _OWN_PRICES.get(name, 0)
                if name == "whyNot":
                    own += LOOKS_OF_A_WHOLE_LIST * self._filter_price
                if _argument(node, "where") is not None:
                    own += self._filter_price
                return _Price(1 + own + inner.fixed, inner.each)
            if name in _STATED_LENGTHS:
                return _Price(1 + inner.at(MAX_FIRST) * _STATED_LENGTHS[name])
            return _Price(1, inner.at(MAX_FIRST))
        first, ids = self._first(node, definition), self._ids(node)
        if not is_list and ids is not None:
            first = min(first, ids)
        lists = 1 if not is_list else first if ids is None else ids
        ranking = _OWN_PRICES.get(name, 0)
        if name in _FIELDS_THAT_RANK:
            ranking += LIST_PRICE + first
        if _argument(node, "variety") is not None:
            ranking += VARIETY_PRICE + VARIETY_PRICE_A_JOB * first
        is_search |= _argument(node, "where") is not None
        filtering = self._filter_price if is_search else 0
        return _Price(1 + filtering + lists * (ranking + inner.at(first)))

    def _first(self, node: FieldNode, definition: GraphQLField) -> int:
        """Return `first`; what lies out of bounds, which is refused later, counts as the most."""
        argument = _argument(node, "first")
        if argument is None:
            value = definition.args["first"].default_value
        else:
            value = value_from_ast_untyped(argument, self._variables)
        if isinstance(value, int | float) and 0 <= value <= MAX_FIRST:
            return int(value)
        return MAX_FIRST

    def _ids(self, node: FieldNode) -> int | None:
        """Return how many ids are given; None where they do not limit the answer."""
        argument = _argument(node, "userIds") or _argument(node, "ids")
        value = None if argument is None else value_from_ast_untyped(argument, self._variables)
        if isinstance(value, list):
            return min(len(value), MAX_BATCH)
        return None if value is None or value is Undefined else 1

    def _items(self, node: FieldNode, name: str) -> int:
        """Return how many items a change is to take; too many, refused later, as the most."""
        given = _argument(node, "input")
        value = None if given is None else value_from_ast_untyped(given, self._variables)
        items = value.get(name) if isinstance(value, dict) else None
        return min(len(items), MAX_CHANGES) if isinstance(items, list) else 1

    def _type(self, condition: NamedTypeNode) -> GraphQLCompositeType:
        return cast("GraphQLCompositeType", self._schema.get_type(condition.name.value))


def _argument(node: FieldNode, name: str) -> ValueNode | None:
    given = (argument.value for argument in node.arguments or () if argument.name.value == name)
    return next(given, None)
