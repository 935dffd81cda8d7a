"""Which version of the views a vector follows: digests of what each of its columns means, and of all of them."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from tidemill.shared.application.plan import FeaturePlan, Plan, StreamPlan, ViewPlan

MOST_VERSIONS_BYTES = 1_000_000
"""What the versions of all features may weigh: the record that says from where on vectors follow them has all of them, and must fit its topic."""
_DIGITS, _LENGTHS_BYTES = 16, 3


def feature_versions(plan: Plan) -> Mapping[str, str]:
    """Return by column of the vector the digest of its definition.

    The digest covers whatever changes the column's values over one and the same journal: the expression of a derived column, the age a reference row
    may have, a view's source, entity, filter, join and time, and the aggregate with its window. It does not cover models, policies, the topology, or
    other columns.
    """
    views = {view.name: view for view in plan.views}
    return {feature.name: _digest(feature.name, feature.type, *_definition(plan, views, feature)) for feature in plan.features}


def versions_bytes(features: Iterable[FeaturePlan]) -> int:
    """Return what `feature_versions` weigh in a record at most: names in UTF-8, digests and the lengths of both."""
    return sum(len(feature.name.encode()) + _DIGITS + _LENGTHS_BYTES for feature in features)


def view_version(plan: Plan) -> str:
    """Return the digest of all that the vectors of a journal depend on: columns in their order, and which streams ask."""
    return _digest(plan.vector_schema, *plan.asking_streams, *feature_versions(plan).values())


def _definition(plan: Plan, views: Mapping[str, ViewPlan], feature: FeaturePlan) -> list[str]:
    asking = [plan.streams[name] for name in plan.asking_streams]
    if feature.origin == "event":
        # One column of the vector, filled by whichever stream asks.
        return [stream.name + _derivations(stream, feature.column) for stream in asking] + [feature.column]
    if feature.origin == "reference":
        stream = plan.streams[feature.source]
        return [stream.name, feature.column, _derivations(stream, feature.column), stream.key, str(stream.max_age_ms)]
    view = views[feature.source]
    own = next(aggregate for aggregate in view.aggregates if aggregate.feature == feature.name)
    parts = [repr(aggregate) for aggregate in view.aggregates if aggregate is own or aggregate.feature in own.operands]
    text = " ".join(
        [*parts, repr((view.entity, view.source, sorted(view.entity_columns.items()), view.join, view.event_time, view.where, view.ttl_ms))]
    )
    # Expressions name columns, not what these are made of.
    read = [plan.streams[view.source], *([plan.streams[view.join.stream]] if view.join else []), *asking]
    return [text, *(_derivations(stream, text) for stream in read)]


def _derivations(stream: StreamPlan, text: str) -> str:
    """Return the derived columns of a stream that a text names, and those that they name in turn, with their expressions."""
    derivations: list[tuple[str, str]] = []
    # A derived column can use those before it only.
    for name, expression in reversed(stream.derivations):
        if name in re.findall(r"\w+", " ".join([text, *(sql for _, sql in derivations)])):
            derivations.append((name, expression.sql))
    return repr(derivations)


def _digest(*parts: str) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return made.hexdigest()[:_DIGITS]
