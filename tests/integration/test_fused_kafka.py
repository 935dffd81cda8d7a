"""The fused topology on real Kafka: killed again and again, then relieved by the separate services, it answers every request once."""

import signal
from pathlib import Path

import pytest

from tests.integration.flights_services import FlightsTopics, application, service, until
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.service.stage import FUSED, FUSIBLE

__all__ = ["application"]
KILLS, SLICE = 3, 700


@pytest.mark.lasts(52)
@pytest.mark.timeout(300)
def test_kills_and_a_change_of_topology_lose_and_double_nothing(application: Path, infrastructure: Infrastructure, tmp_path: Path) -> None:
    flights = FlightsTopics(application, infrastructure)
    topics = flights.plan.topics
    with service(FUSED, application, infrastructure, tmp_path) as start:
        running = start()
        for turn in range(KILLS):
            flights.publish(turn * SLICE, (turn + 1) * SLICE)
            until(lambda enough=turn * SLICE: len(flights.values(topics.predictions)) > enough, f"predictions of slice {turn}", tmp_path)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            running.send_signal(signal.SIGKILL)
            running.wait()
            running = start()
        until(lambda: len(flights.values(topics.predictions)) == KILLS * SLICE, "predictions of the fused topology", tmp_path)
        assert registered_transaction(tmp_path), "the fused process went to work"
    with service(FUSIBLE[0], application, infrastructure, tmp_path) as one, service(FUSIBLE[1], application, infrastructure, tmp_path) as two:
        with service(FUSIBLE[2], application, infrastructure, tmp_path) as three:
            for begin in (one, two, three):
                begin()
            flights.publish(KILLS * SLICE, (KILLS + 1) * SLICE)
            until(lambda: len(flights.values(topics.predictions)) >= (KILLS + 1) * SLICE, "predictions of the separate topology", tmp_path)

    count = (KILLS + 1) * SLICE
    _, vectors = flights.answers(count)
    at: dict[int, bytes | None] = {}
    for records in flights.reader.read(TopicPartition(topics.journal, 0), 0):
        at.update(zip(records.offsets.tolist(), records.keys, strict=True))
    offsets = vectors.column("_journal_offset").to_pylist()
    assert [at[offset] for offset in offsets] == [f"f{i}".encode() for i in range(count)], "every vector names the true offset of its entry"
    flights.reader.close()


def registered_transaction(folder: Path) -> bool:
    """Whether the log of the fused process says that it was given its partition."""
    return "assigned" in (folder / f"{FUSED}.log").read_text()
