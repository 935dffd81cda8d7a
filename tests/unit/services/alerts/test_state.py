"""The state of alerts in its topic, on the in-memory broker: the newest counts, and another version's is not read."""

from pathlib import Path

import pytest

from tidemill.services.alerts.domain.fold import VERSION
from tidemill.services.alerts.state import KEY, encode_state, read_state
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.memory.broker import MemoryBroker

TOPIC = "shop-alert-state"


def test_the_newest_state_is_read_and_another_version_s_is_not(caplog: pytest.LogCaptureFixture) -> None:
    broker = MemoryBroker()
    broker.create_topics([TopicSpec(TOPIC)])
    text = (Path(__file__).parents[4] / "schemas" / "alert-state.avsc").read_text()
    codec = RecordCodec(MemorySchemaRegistry(), TOPIC, text)
    assert read_state(broker, TOPIC, codec) is None
    sink = broker.sink()
    for i in range(70):
        sink.publish(TOPIC, KEY, encode_state(codec, b'{"number": %d}' % i))
    sink.flush()
    assert read_state(broker, TOPIC, codec) == b'{"number": 69}'
    sink.publish(TOPIC, KEY, codec.encode({"version": VERSION + 1, "state": b""}))
    sink.flush()
    assert read_state(broker, TOPIC, codec) is None
    assert "begin anew" in caplog.text
