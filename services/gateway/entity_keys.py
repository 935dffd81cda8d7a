"""What a caller calls an entity, and what the stages call it."""

from collections.abc import Mapping

import pyarrow as pa

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import leaf_type
from tidemill.shared.avro.key_text import KeyTextError, key_text, written_key

Key = str | bool | int | float


class EntityKeys:
    """Writes keys as the stages write them: ``True`` and true are `true`, 1.50 is `1.5`, where the entity's columns hold such values.

    An entity whose columns have several types is looked for as it is written.
    """

    def __init__(self, plan: Plan) -> None:
        self._types: dict[str, pa.DataType | None] = {}
        self._uuids: set[str] = set()
        columns = {name: entity.columns for name, entity in plan.application.entities.items()}
        # The entities of label rates are columns of the requests, declared nowhere else.
        columns |= {view.entity: dict(view.entity_columns) for view in plan.views if view.entity is not None and view.entity not in columns}
        for name, own in columns.items():
            types = {plan.streams[stream].entry_arrow.field(column).type for stream, column in own.items()}
            self._types[name] = types.pop() if len(types) == 1 else None
            if own and all(leaf_type(plan.streams[stream].entry_schema, column).logical == "uuid" for stream, column in own.items()):
                self._uuids.add(name)

    @property
    def types(self) -> Mapping[str, pa.DataType | None]:
        """The type of an entity's columns; None where they have several."""
        return self._types

    def written(self, entity: str, key: Key) -> str:
        """Return a key as the stages write it.

        Raises
        ------
        KeyTextError
            No value of the entity's columns is written so.
        """
        kind = self._types.get(entity)
        if isinstance(key, str):
            return key if kind is None else written_key(key, kind, uuid=entity in self._uuids)
        if kind is None:
            raise KeyTextError(f"expected a key as text, got {key!r}")
        return key_text(key, kind)
