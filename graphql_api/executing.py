"""Putting an answer together: as the library does, and sooner where nothing has to be awaited.

A batch of lists names thousands of attributes, and the same jobs and employers again and again.
What is selected below a value is compiled once for a document: one function for each type and
selection, which takes all values of a field at once, wherever in the answer they stand. It reads
attributes, calls plain resolvers, and puts an object that stands in several places together once.

Only what goes well goes this way. Whatever surprises a compiled function (an error, a null where
there must be none, a value of another type) ends it, and the library does the same again, errors
and all; what is no matter of reading (directives, abstract types, resolvers that wait or ask who
calls) is not compiled at all.
"""

from __future__ import annotations

from asyncio import gather
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from math import isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import proxy

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_nullable_type,
    get_operation_ast,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.get_variable_signature import get_variable_signature
from graphql.execution.values import (
    VariableValues,
    VariableValueSource,
    get_argument_values,
    get_variable_values,
)
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types import Info
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

if TYPE_CHECKING:
    from graphql import (
        GraphQLInputType,
        GraphQLLeafType,
        GraphQLOutputType,
        GraphQLResolveInfo,
        GraphQLSchema,
        VariableDefinitionNode,
    )
    from graphql.execution.collect_fields import FieldDetailsList
    from graphql.execution.get_variable_signature import GraphQLVariableSignature

COMPILED = 256
"""How many selections stay compiled; a document has one for each of its root fields."""

MAX_VARIABLE_ERRORS = 50
"""Nobody reads more, and the library is asked for them again."""

_INT_BOUND = 1 << 31

_PYTHON_TYPES: Mapping[str, type] = {
    "String": str,
    "ID": str,
    "Boolean": bool,
    "Int": int,
    "Float": float,
}
"""Values of these are as the answer holds them, within the bounds that are told below."""

Complete = Callable[[Sequence[Any], "_Run"], list[Any]]
"""Turns what resolvers gave into what the answer holds, one for one."""


class _Uncompiled(Exception):
    """A selection is none of those that are compiled."""


class _Surprise(Exception):
    """A value is not as it was expected."""


Test = Callable[[object], bool]


def _test_of(type_: GraphQLInputType) -> Test | None:
    """Return what tells values of a plain type that are taken as they came; None for others.

    Plain are the scalars of the language, and lists of them. Null is left to the library.
    """
    inner = get_nullable_type(type_)
    if is_list_type(inner):
        is_item = _test_of(inner.of_type)
        if is_item is None or is_list_type(get_nullable_type(inner.of_type)):
            return None
        return lambda value: type(value) is list and all(map(is_item, value))
    right = _PYTHON_TYPES.get(inner.name)  # type: ignore[union-attr] # what is no list has a name
    if right is None or right is float:
        # An integer is a right number, too, and becomes another
        return None
    if right is int:
        return lambda value: type(value) is int and -_INT_BOUND <= value < _INT_BOUND
    return lambda value: type(value) is right


class _Variables:
    """The variables of an operation.

    Where all are plain and given, most of what the library does for them is to no purpose.
    """

    def __init__(
        self, schema: GraphQLSchema, definitions: Collection[VariableDefinitionNode]
    ) -> None:
        self._schema = schema
        self._definitions = definitions
        self._plain: list[tuple[GraphQLVariableSignature, Test]] | None = []
        for definition in definitions:
            signature = get_variable_signature(schema, definition)
            if isinstance(signature, GraphQLError) or (test := _test_of(signature.type)) is None:
                self._plain = None
                break
            self._plain.append((signature, test))

    def of(self, given: Mapping[str, Any]) -> VariableValues | None:
        """Return the values of what was given; None where it does not fit."""
        if self._plain is not None:
            sources: dict[str, VariableValueSource] = {}
            for signature, is_right in self._plain:
                value = given.get(signature.name)
                if not is_right(value):
                    break
                sources[signature.name] = VariableValueSource(signature, value)
            else:
                return VariableValues(
                    sources, {name: source.value for name, source in sources.items()}
                )
        values = get_variable_values(
            self._schema, self._definitions, dict(given), MAX_VARIABLE_ERRORS
        )
        return None if isinstance(values, list) else values


class _Run:
    """What the compiled functions of one execution share.

    Attributes:
        together: what was put together, by selection and then by the object's identity.
        kept: those objects, so that nothing else comes to have their identities.
        arguments: of the fields with a resolver.
    """

    def __init__(self, executor: Executor) -> None:
        self.together: defaultdict[Complete, dict[int, Any]] = defaultdict(dict)
        self.kept: list[object] = []
        self.arguments: dict[int, dict[str, Any]] = {}
        # In a circle with it, all of an answer would wait for the garbage collector
        self._executor: Executor = proxy(executor)

    def arguments_of(self, node: FieldNode, field: GraphQLField, told: StrawberryField) -> Any:  # noqa: ANN401 - by name
        """Return the arguments of a field: the same for all objects of an execution."""
        known = self.arguments.get(id(node))
        if known is None:
            known = self.arguments[id(node)] = self._executor.arguments_of(node, field, told)
        return known


class Root(NamedTuple):
    """A root field of a query, compiled.

    Attributes:
        name: in the answer.
        told: the same field as it was declared.
        arguments: those that no variable changes, as the resolver takes them.
        changing: the others.
    """

    name: str
    nodes: list[FieldNode]
    field: GraphQLField
    told: StrawberryField
    arguments: Mapping[str, Any]
    changing: _Arguments
    resolve: Callable[..., Awaitable[Any]]
    complete: Complete

    @classmethod
    def of(
        cls, schema: GraphQLSchema, compiler: _Compiler, name: str, nodes: list[FieldNode]
    ) -> Root:
        """Compile a root field; nodes of the same name in the answer have equal arguments."""
        query = schema.query_type
        field = None if query is None else query.fields.get(nodes[0].name.value)
        told = None if field is None else _declared(field)
        if field is None or told is None or told.permission_classes or not told.is_async:
            raise _Uncompiled
        changing = {
            argument.name.value
            for argument in nodes[0].arguments or ()
            if has_variable(argument.value)
        }
        constant = _Arguments(schema, nodes[0], field, told, field.args.keys() - changing)
        return cls(
            name,
            nodes,
            field,
            told,
            constant.of(None),
            _Arguments(schema, nodes[0], field, told, changing),
            _root_resolver(told),
            compiler.value(field.type, nodes),
        )


class _Arguments:
    """Some of the arguments of a field.

    Args:
        names: which.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        node: FieldNode,
        field: GraphQLField,
        told: StrawberryField,
        names: Container[str],
    ) -> None:
        strawberry = schema._strawberry_schema  # type: ignore[attr-defined] # noqa: SLF001 - set by the library
        converter = strawberry.schema_converter
        spelled = converter.config.name_converter.from_argument
        own = tuple(each for each in node.arguments or () if each.name.value in names)
        self._node = FieldNode(name=node.name, arguments=own)
        kept = {name: argument for name, argument in field.args.items() if name in names}
        self._field = GraphQLField(field.type, args=kept)
        self._told = [argument for argument in told.arguments if spelled(argument) in names]
        self._types = converter.scalar_registry, converter.config
        as_taken = {spelled(argument): argument.python_name for argument in told.arguments}
        self._plain: list[tuple[str, str]] | None = [
            (as_taken[each.name.value], each.value.name.value)
            for each in own
            if isinstance(each.value, VariableNode)
            and _test_of(kept[each.name.value].type) is not None
        ]
        if len(self._plain) < len(own):
            self._plain = None

    def of(self, variables: VariableValues | None) -> dict[str, Any]:
        """Return the arguments as the resolver takes them."""
        if self._plain is not None and variables is not None:
            # Plain variables are taken as they are
            plain = {name: variables.coerced.get(variable) for name, variable in self._plain}
            if None not in plain.values():
                return plain
        given = get_argument_values(self._field, self._node, variables, None)
        return convert_arguments(given, self._told, *self._types)


def has_variable(value: ValueNode) -> bool:
    """Tell whether a variable stands in a value, however deep."""
    if isinstance(value, VariableNode):
        return True
    if isinstance(value, ListValueNode):
        return any(map(has_variable, value.values))
    if isinstance(value, ObjectValueNode):
        return any(has_variable(field.value) for field in value.fields)
    return False


def _root_resolver(told: StrawberryField) -> Callable[..., Awaitable[Any]]:
    """Return what resolves a root field by its extensions, the first of them first."""
    resolver = told.base_resolver
    if resolver is None or resolver.info_parameter is None:
        raise _Uncompiled
    function: Callable[..., Awaitable[Any]] = resolver.wrapped_func  # type: ignore[assignment] # no class method
    name = resolver.info_parameter.name

    def resolve(source: object, info: object, **arguments: Any) -> Awaitable[Any]:  # noqa: ANN401 - whatever the field takes
        return function(source, **{name: info}, **arguments)

    for extension in reversed(told.extensions):
        resolve = partial(extension.resolve_async, resolve)
    return resolve


def compiled_roots(
    schema: GraphQLSchema, document: DocumentNode, operation_name: str | None
) -> list[Root] | None:
    """Return the root fields of a query, None where not all is compiled."""
    operation, query = get_operation_ast(document, operation_name), schema.query_type
    if operation is None or query is None or operation.directives:
        return None
    fragments = {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    compiler, selected = _Compiler(fragments), dict[str, list[FieldNode]]()
    try:
        compiler.collect(query, operation.selection_set, selected)
        return [Root.of(schema, compiler, name, nodes) for name, nodes in selected.items()]
    except (_Uncompiled, GraphQLError):
        # GraphQLError: of an argument that cannot be right
        return None


class _Compiled(NamedTuple):
    """A compiled selection, with the nodes whose identities are its key."""

    nodes: list[FieldNode]
    complete: Complete | None


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation."""

    _compiled: ClassVar[OrderedDict[tuple[int, ...], _Compiled]] = OrderedDict()
    _variables: _Variables

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the library's own
        super().__init__(*args, **options)
        self._run = _Run(self)

    def complete_value(
        self,
        return_type: GraphQLOutputType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: object,
        position_context: Any,  # noqa: ANN401 - the library's own
    ) -> Any:  # noqa: ANN401 - whatever the field answers
        """Return what the answer holds of a value; what goes wrong is left to the library."""
        complete = self._complete_of(return_type, field_details_list)
        if complete is not None:
            try:
                return complete([result], self._run)[0]
            except Exception:  # noqa: BLE001, S110 - comes again below, and is told there
                pass
        return super().complete_value(
            return_type, field_details_list, info, path, result, position_context
        )

    def template(self) -> Executor:
        """Return this one, which executes nothing itself, without what it knows of who asks."""
        # No copy: what the library has bound to this one would hold it, and its context
        self.context_value, self.variable_values = None, VariableValues({}, {})
        self._variables = _Variables(self.schema, self.operation.variable_definitions or ())
        return self

    def for_request(self, variables: dict[str, Any], context: object) -> Executor | None:
        """Return one that executes the same operation; None where the variables do not fit."""
        values = self._variables.of(variables)
        if values is None:
            return None
        executor = Executor.__new__(Executor)
        vars(executor).update(vars(self), variable_values=values, context_value=context)
        executor._run = _Run(executor)  # noqa: SLF001 - its own kind
        return executor

    async def answer(self, roots: Sequence[Root]) -> dict[str, Any] | None:
        """Return what the root fields of a query answer; None where anything is a surprise."""
        query = self.schema.query_type
        assert query is not None  # noqa: S101 - it has been compiled
        asked = []
        try:
            # All before anything is called: what is called has to be awaited
            given = [root.changing.of(self.variable_values) for root in roots]
            for root, changing in zip(roots, given, strict=True):
                raw = self.build_resolve_info(
                    root.field, root.nodes, query, Path(None, root.name, query.name)
                )
                info = Info(_raw_info=raw, _field=root.told)
                asked.append(root.resolve(None, info, **root.arguments, **changing))
            values = [await asked[0]] if len(asked) == 1 else await gather(*asked)
            return {
                root.name: root.complete([value], self._run)[0]
                for root, value in zip(roots, values, strict=True)
            }
        except Exception:  # noqa: BLE001 - the library does it again, and tells
            return None

    def build_per_event_executor(self, payload: object) -> Any:  # noqa: ANN401 - a copy of this one
        """Return what executes for an event of a subscription; it puts all together anew."""
        executor: Any = super().build_per_event_executor(payload)
        vars(executor)["_run"] = _Run(executor)
        return executor

    def arguments_of(self, node: FieldNode, field: GraphQLField, told: StrawberryField) -> Any:  # noqa: ANN401 - by name
        """Return the arguments of a field as its resolver takes them."""
        given = get_argument_values(field, node, self.variable_values, None, self.hide_suggestions)
        strawberry = self.schema._strawberry_schema  # type: ignore[attr-defined] # noqa: SLF001 - set by the library
        converter = strawberry.schema_converter
        return convert_arguments(given, told.arguments, converter.scalar_registry, converter.config)

    def _complete_of(
        self, return_type: GraphQLOutputType, field_details_list: FieldDetailsList
    ) -> Complete | None:
        key = (id(return_type), *(id(details.node) for details in field_details_list))
        known = self._compiled.get(key)
        if known is None:
            nodes = [details.node for details in field_details_list]
            complete = None
            if not (self.middleware_manager and self.middleware_manager.middlewares):
                with suppress(_Uncompiled):
                    fragments = {name: held.definition for name, held in self.fragments.items()}
                    complete = _Compiler(fragments).value(return_type, nodes)
            known = self._compiled[key] = _Compiled(nodes, complete)
            if len(self._compiled) > COMPILED:
                self._compiled.popitem(last=False)
        return known.complete


class _Compiler:
    """Compiles what is selected of a document's values."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments

    def value(self, type_: GraphQLOutputType, nodes: list[FieldNode]) -> Complete:
        """Return what completes values of a type.

        Raises:
            _Uncompiled: something that is selected is not compiled.
        """
        is_required = is_non_null_type(type_)
        inner = get_nullable_type(type_)
        if is_leaf_type(inner):
            return _coerced(inner, is_required=is_required)
        if is_list_type(inner):
            return _nullable(_listed(self.value(inner.of_type, nodes)), is_required=is_required)
        if is_object_type(inner):
            return _nullable(self._object(inner, nodes), is_required=is_required)
        raise _Uncompiled

    def _object(self, type_: GraphQLObjectType, nodes: list[FieldNode]) -> Complete:
        if type_.is_type_of is not None:
            raise _Uncompiled
        selected: dict[str, list[FieldNode]] = {}
        for node in nodes:
            if node.selection_set is not None:
                self.collect(type_, node.selection_set, selected)
        names = [*selected]
        fields = [self._field(type_, own) for own in selected.values()]
        # Most objects of an answer have few fields, and there are thousands of them
        if len(fields) == 1:
            (name,), (field,) = names, fields
            return lambda values, run: [{name: each} for each in field(values, run)]
        if len(fields) == 2:
            (first, second), (one, two) = names, fields
            return lambda values, run: [
                {first: left, second: right}
                for left, right in zip(one(values, run), two(values, run), strict=True)
            ]

        def complete(values: Sequence[Any], run: _Run) -> list[Any]:
            columns = [field(values, run) for field in fields]
            return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

        return complete

    def collect(
        self,
        type_: GraphQLObjectType,
        selections: SelectionSetNode,
        selected: dict[str, list[FieldNode]],
    ) -> None:
        """Gather fields by the name that they have in the answer, fragments expanded."""
        for node in selections.selections:
            if node.directives:
                raise _Uncompiled
            if isinstance(node, FieldNode):
                name = node.name.value if node.alias is None else node.alias.value
                selected.setdefault(name, []).append(node)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                if condition is not None and condition.name.value != type_.name:
                    raise _Uncompiled
                self.collect(type_, node.selection_set, selected)
            elif isinstance(node, FragmentSpreadNode):
                fragment = self._fragments[node.name.value]
                if fragment.directives or fragment.type_condition.name.value != type_.name:
                    raise _Uncompiled
                self.collect(type_, fragment.selection_set, selected)
            else:
                raise _Uncompiled

    def _field(self, parent: GraphQLObjectType, nodes: list[FieldNode]) -> Complete:
        """Return what reads a field off its objects and completes it."""
        name = nodes[0].name.value
        if name == "__typename":
            return lambda values, _run: [parent.name] * len(values)
        field = parent.fields[name]
        told = _declared(field)
        inner = get_nullable_type(field.type)
        if told.is_basic_field and is_leaf_type(inner):
            return _leaf_read(told.python_name, inner, is_required=is_non_null_type(field.type))
        complete = self.value(field.type, nodes)
        if is_object_type(inner):
            complete = _once(complete)
        if told.is_basic_field:
            read = attrgetter(told.python_name)
            return lambda values, run: complete([*map(read, values)], run)
        return _resolved(nodes[0], field, told, complete)


def _declared(field: GraphQLField) -> StrawberryField:
    """Return a field as it was declared."""
    told = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(told, StrawberryField):
        raise _Uncompiled
    return told


def _resolved(
    node: FieldNode, field: GraphQLField, told: StrawberryField, complete: Complete
) -> Complete:
    """Return what calls a resolver that needs nothing but its object and arguments."""
    resolver = told.base_resolver
    if resolver is None or told.is_async or told.extensions or told.permission_classes:
        raise _Uncompiled
    if resolver.info_parameter or resolver.parent_parameter:
        raise _Uncompiled
    resolve: Callable[..., Any] = resolver.wrapped_func  # type: ignore[assignment] # no class method

    def resolved(values: Sequence[Any], run: _Run) -> list[Any]:
        if not told.arguments or not values:
            return complete([resolve(value) for value in values], run)
        arguments = run.arguments_of(node, field, told)
        return complete([resolve(value, **arguments) for value in values], run)

    return resolved


def _nullable(complete: Complete, *, is_required: bool) -> Complete:
    """Return what completes the others where some values are null, if they may be."""

    def nullable(values: Sequence[Any], run: _Run) -> list[Any]:
        present = [value for value in values if value is not None]
        if len(present) == len(values):
            return complete(values, run)
        if is_required:
            raise _Surprise
        completed = iter(complete(present, run))
        return [None if value is None else next(completed) for value in values]

    return nullable


def _listed(complete: Complete) -> Complete:
    """Return what completes the items of all lists at once."""

    def listed(values: Sequence[Any], run: _Run) -> list[Any]:
        if any(type(value) is not list for value in values):
            raise _Surprise
        items = iter(complete([*chain.from_iterable(values)], run))
        return [[*islice(items, len(value))] for value in values]

    return listed


def _once(complete: Complete) -> Complete:
    """Return what puts an object together once in an execution, wherever it stands."""

    def once(values: Sequence[Any], run: _Run) -> list[Any]:
        together = run.together[complete]
        new = {id(value): value for value in values if id(value) not in together}
        if new:
            objects = [*new.values()]
            run.kept += objects
            together.update(zip(new, complete(objects, run), strict=True))
        return [together[id(value)] for value in values]

    return once


def _leaf_read(attribute: str, type_: GraphQLLeafType, *, is_required: bool) -> Complete:
    """Return what reads a scalar or an enum off objects: what is right stays as it is."""
    read, coerced = attrgetter(attribute), _coerced(type_, is_required=is_required)
    right = {_PYTHON_TYPES[type_.name]} if type_.name in _PYTHON_TYPES else set()
    if right and not is_required:
        right.add(type(None))
    are_right = _BOUNDED.get(type_.name)

    def leaf(values: Sequence[Any], run: _Run) -> list[Any]:
        found = [*map(read, values)]
        is_right = right.issuperset(map(type, found)) and (are_right is None or are_right(found))
        return found if is_right else coerced(found, run)

    return leaf


def _coerced(type_: GraphQLLeafType, *, is_required: bool) -> Complete:
    coerce = type_.coerce_output_value

    def coerced(values: Sequence[Any], _run: _Run) -> list[Any]:
        completed = [None if value is None else coerce(value) for value in values]
        for value, each in zip(values, completed, strict=True):
            if each is None and (is_required or value is not None):
                raise _Surprise
        return completed

    return coerced


def _are_finite(found: Sequence[float | None]) -> bool:
    return all(map(isfinite, filter(None, found)))


def _are_small(found: Sequence[int | None]) -> bool:
    given = [*filter(None, found)]
    return not given or (min(given) >= -_INT_BOUND and max(given) < _INT_BOUND)


_BOUNDED: Mapping[str, Callable[[Sequence[Any]], bool]] = {
    "Float": _are_finite,
    "Int": _are_small,
}
"""Not all values of the right type are right."""
