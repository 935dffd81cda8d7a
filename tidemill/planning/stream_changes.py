"""What changes of an application's streams, and which of it the records written so far forbid."""

import re

import pyarrow as pa

from tidemill.planning.difference import ApplicationChange, Refusal
from tidemill.planning.settings_diff import changed_keys
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.compatibility import incompatibilities

_FIXED = {
    "topic": ("topic", "its offsets in the journal and in the progress records are those of the present topic"),
    "kind": ("stream_kind", "events and rows of a reference stream have other entries in the journal"),
    "event_id": ("event_id", "copies are known by the present id, and labels are joined by it"),
    "event_time": ("event_time", "entries of the journal stand at the present event time"),
    "key": ("stream_key", "its records lie on the partitions that the present key has put them on"),
    "envelope": ("envelope", "its records are read as they were published so far"),
    "primary_key": ("envelope", "a change's id is made of the present key"),
    "decimals": ("envelope", "its records are read as they were published so far"),
}


def stream_changes(old: Plan, new: Plan) -> tuple[list[ApplicationChange], list[Refusal]]:
    """Compare the streams of two applications."""
    before, after = old.application.streams, new.application.streams
    changes: list[ApplicationChange] = []
    refused: list[Refusal] = []
    for name in before:
        if name not in after:
            changes.append(ApplicationChange("streams", name, "removed"))
            refused.append(
                Refusal(
                    "stream_removed",
                    f"streams.{name}",
                    "the journal holds its entries, which every later fold reads",
                    "leave it declared and take it out of views and models: it costs nothing while nobody publishes to it",
                )
            )
    for name, stream in after.items():
        if name not in before:
            changes.append(ApplicationChange("streams", name, "added", (), (f"topic {stream.topic} is created if it is not there",)))
            continue
        declared = [one.model_dump(mode="json", by_alias=True) for one in (before[name], stream)]
        details = changed_keys(*declared)
        for key, (code, why) in _FIXED.items():
            if declared[0][key] != declared[1][key]:
                way_out = "declare a stream of another name and topic beside it, and publish there"
                refused.append(Refusal(code, f"streams.{name}.{key}", f"{declared[0][key]} cannot become {declared[1][key]}: {why}", way_out))
        schema, refusals = _schema(old.streams[name], new.streams[name])
        refused += refusals + _derivations(new, old.streams[name], new.streams[name])
        if details or schema:
            changes.append(ApplicationChange("streams", name, "changed", tuple([*details, *schema])))
    return changes, refused


def _schema(old: StreamPlan, new: StreamPlan) -> tuple[list[str], list[Refusal]]:
    if old.wire_schema == new.wire_schema:
        return [], []
    where = f"streams.{new.name}.schema"
    refused = [
        Refusal(
            "schema",
            where,
            f"records written with the present schema could not be read any more: {why}",
            "give a new field a default, keep types to what the old ones promote to, or declare a stream of another name",
        )
        for why in incompatibilities(old.wire_schema, new.wire_schema)
    ]
    before, after = {one.name: one.type for one in old.user_arrow}, {one.name: one.type for one in new.user_arrow}
    for name in before.keys() & after.keys():
        if before[name] != after[name]:
            why = f"column {name} is {_words(before[name])} in the archive so far and would be {_words(after[name])}"
            refused.append(Refusal("column_type", where, why, "give the column of the new type another name"))
    said = [f"schema: +{name}" for name in after if name not in before] + [f"schema: -{name}" for name in before if name not in after]
    return said or ["schema: says something else, and no column's name or type"], refused


def _derivations(plan: Plan, old: StreamPlan, new: StreamPlan) -> list[Refusal]:
    """Derived columns are computed once, at the door: entries of the journal keep what they were given, and have none of a later one."""
    before = {name: expression.sql for name, expression in old.derivations}
    changes = []
    for name, expression in new.derivations:
        where = f"streams.{new.name}.derive.{name}"
        if name in before and before[name] != expression.sql:
            changes.append(
                Refusal(
                    "derived_column",
                    where,
                    f"entries of the journal hold it as {before[name]!r}, and a fold over them would mix the two",
                    "give the new expression another name",
                )
            )
        elif name not in before and (readers := _readers(plan, new.name, name)):
            changes.append(
                Refusal(
                    "derived_column",
                    where,
                    f"entries of the journal so far do not have it, so {', '.join(readers)} could not be computed over them",
                    f"write {expression.sql!r} into the view itself (value, where)",
                )
            )
    return changes


def _readers(plan: Plan, stream: str, column: str) -> list[str]:
    """Return the views and entities that read a derived column of the stream."""
    readers = []
    for view in plan.views:
        texts = [view.where.sql] if view.where is not None else []
        texts += [aggregate.value.sql for aggregate in view.aggregates if aggregate.value is not None]
        joined = [view.join.column] if view.join is not None and view.source == stream else []
        joined += [view.join.request_column] if view.join is not None and view.join.stream == stream else []
        named = [*joined, *([view.entity_columns[stream]] if stream in view.entity_columns else [])]
        if column in named or (view.source == stream and any(column in re.findall(r"\w+", text) for text in texts)):
            readers.append(f"views.{view.name}")
    return readers


def _words(kind: pa.DataType) -> str:
    return str(kind)
