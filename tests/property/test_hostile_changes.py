"""Whatever stands in a Debezium message, it costs itself only: accepted, refused or skipped, each counted once, and its neighbours are read."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.unit.services.ingestion.test_debezium import CREATE, DELETE, EVENTS, REFERENCE, TIMED, TIMES, UPDATE, Bench, customers, envelope, wrapped
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["d", "c", "u", "r", "t", "9e9", "AQID"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["schema", "payload", "after", "before", "op", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)
ROW = {**TIMED, "price": 12.5, "picture": None}
MESSAGES = [CREATE, UPDATE, DELETE, {**CREATE, "after": ROW}, {**UPDATE, "before": ROW, "after": ROW}, {**DELETE, "before": ROW}]


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


@st.composite
def messages(draw: st.DrawFn) -> bytes | None:
    """One of the documentation's messages with something else somewhere in it, or without it; or none at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.none() | st.binary(max_size=12))
    message = copy.deepcopy(draw(st.sampled_from(MESSAGES)))
    message = wrapped(message) if draw(st.booleans()) else message
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(message)))
        if not path:
            return json.dumps(draw(VALUES)).encode()
        node = message
        for key in path[:-1]:
            node = node[key]
        if draw(st.booleans()):
            node.pop(path[-1])
        else:
            node[path[-1]] = draw(VALUES)
        if not isinstance(message, dict):
            break
    return json.dumps(message).encode()


@settings(max_examples=examples(60), deadline=None)
@example([b'{"schema": {"fields": [{"field": "after", "fields": 7}]}, "payload": []}', b'{"schema": [], "payload": {"op": 1}}', b"[]"], "event")
@given(st.lists(messages(), min_size=1, max_size=5), st.sampled_from(["event", "skip", "reject", "reference"]))
def test_a_message_of_any_content_costs_itself_only(drawn: list[bytes | None], fate: str) -> None:
    application = REFERENCE if fate == "reference" else f"{EVENTS}    deletes: {fate}\n    updates: {fate}\n"
    for schema in (customers(), envelope(TIMES)):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), application, schema)
        good = {**CREATE, "after": {**ROW, **CREATE["after"], "id": 77}}
        step = bench.step(*drawn, good)
        counts = {e.topic: len(e) for e in step.emissions}
        topics = bench.plan.topics
        seen = sum(counts.get(topic, 0) for topic in (topics.journal, topics.rejected, topics.duplicates))
        skipped = sum(count for (_, what), count in step.flagged.items() if what in ("tombstone", "skipped_delete", "skipped_update"))
        assert seen + skipped == len(drawn) + 1
        assert 77 in [entry["id"] for entry in bench.entries(step)]
        assert step.flagged.get(("customers", "tombstone"), 0) == sum(value is None for value in drawn)
        assert not bench.step(None, key=HEARTBEAT_KEY).flagged
