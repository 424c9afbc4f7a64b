"""Putting an answer together: as the library does, and sooner where nothing has to be asked.

A batch of lists names thousands of attributes, and the same jobs and employers again and again. An
attribute is read off its object without all that a resolver is told, and an object that stands in
several places is put together once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from graphql import get_nullable_type, is_leaf_type, is_non_null_type
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

if TYPE_CHECKING:
    from graphql import GraphQLObjectType, GraphQLResolveInfo
    from graphql.execution.collect_fields import FieldDetailsList
    from graphql.pyutils import Path


class _Attribute(NamedTuple):
    """A leaf that a field without a resolver reads off its object."""

    name: str
    is_required: bool
    coerce: Callable[[Any], Any]


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the library's own
        super().__init__(*args, **options)
        self._attributes: dict[tuple[str, str], _Attribute | None] = {}
        self._put_together: dict[tuple[int, int], tuple[object, object, dict[str, Any]]] = {}

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: object,
        field_details_list: FieldDetailsList,
        path: Path,
        position_context: Any,  # noqa: ANN401 - the library's own
    ) -> Any:  # noqa: ANN401 - whatever the field answers
        """Return the value of a field; what goes wrong is left to the library to tell."""
        key = parent_type.name, field_details_list[0].node.name.value
        try:
            attribute = self._attributes[key]
        except KeyError:
            attribute = self._attributes[key] = self._attribute_of(parent_type, key[1])
        if attribute is not None:
            try:
                value = getattr(source, attribute.name)
                if value is not None:
                    return attribute.coerce(value)
            except Exception:  # noqa: BLE001, S110 - comes again below
                pass
            else:
                if not attribute.is_required:
                    return None
        return super().execute_field(
            parent_type, source, field_details_list, path, position_context
        )

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: object,
        position_context: Any,  # noqa: ANN401 - the library's own
    ) -> Any:  # noqa: ANN401 - a dictionary, or what will be one
        """Return what is selected of an object; the same object gives the same for a selection.

        Where something went wrong or is awaited, each place has its own.
        """
        key = id(result), id(field_details_list)
        known = self._put_together.get(key)
        if known is not None:
            return known[-1]
        errors = len(self.collected_errors.errors)
        selected = super().complete_object_value(
            return_type, field_details_list, info, path, result, position_context
        )
        if isinstance(selected, dict) and len(self.collected_errors.errors) == errors:
            # What the key is made of is kept, so that nothing else comes to have it
            self._put_together[key] = result, field_details_list, selected
        return selected

    def build_per_event_executor(self, payload: object) -> Any:  # noqa: ANN401 - a copy of this one
        """Return what executes for an event of a subscription; it puts all together anew."""
        executor = super().build_per_event_executor(payload)
        vars(executor)["_put_together"] = {}
        return executor

    def _attribute_of(self, parent_type: GraphQLObjectType, name: str) -> _Attribute | None:
        field = parent_type.fields.get(name)
        middleware = self.middleware_manager
        if field is None or (middleware is not None and middleware.middlewares):
            return None
        leaf = get_nullable_type(field.type)
        told = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if not is_leaf_type(leaf) or not isinstance(told, StrawberryField):
            return None
        if not told.is_basic_field:
            return None
        return _Attribute(told.python_name, is_non_null_type(field.type), leaf.coerce_output_value)
