"""A stream is paused while a second ingestion joins and the first one leaves: it stays paused with its new owner, and is accounted for once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from campaigns.flood import Ingestion
from tests.integration.flights_services import ROOT
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.supervisor import ServiceSpec
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.log.records import TopicPartition

PARTITIONS = range(2)
# A flood is 10,000 records of which most are refused; what waits behind the pause is none.
JUNK, JUNK_BEHIND, GOOD, COPIES = 11_000, 500, 50, 7
FIRST, SECOND = "ingestion", "ingestion-1"


def accounts(run: Ingestion, registry: ConfluentSchemaRegistry, stream: str, partition: int) -> tuple[list[str], int, int]:
    """Return what is in the log of a stream's partition: ids in the journal, dead letters, duplicates."""
    place = TopicPartition(run.plan.topics.rejected, partition)
    reader = run.broker.reader()
    values = [value for records in reader.read(place, 0) for value in records.values]
    reader.close()
    letters = ColumnDecoder(registry, (ROOT / "schemas" / "rejected.avsc").read_text()).decode(values).batch.column("source_topic").to_pylist()
    copies = [key for key in run.keys(run.plan.topics.duplicates, partition) if key is not None and key.startswith(stream.encode())]
    return [name for name in run.ids(partition) if name.startswith(stream)], letters.count(run.plan.streams[stream].topic), len(copies)


@pytest.mark.lasts(12)
@pytest.mark.timeout(200)
def test_a_pause_and_its_counts_go_with_the_partitions_to_another_instance(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path
) -> None:
    registry = ConfluentSchemaRegistry(infrastructure.registry_url)
    run = Ingestion(infrastructure, tmp_path / "run", application_name, len(PARTITIONS))
    group = f"{application_name}-ingestion"
    good: dict[tuple[str, int], list[str]] = {(stream, partition): [] for stream in ("orders", "parcels") for partition in PARTITIONS}

    def publish(stream: str, count: int) -> None:
        for partition in PARTITIONS:
            good[stream, partition] += run.publish(stream, 0, count, partition)

    def under_traffic(condition: Callable[[], bool]) -> Callable[[], bool]:
        """Let the other stream go on while a condition is waited for."""

        def look() -> bool:
            publish("orders", 1)
            return condition()

        return look

    def owners() -> dict[str, set[int]]:
        return {
            member: {place.partition for place in places if place.topic.endswith("-orders")} for member, places in run.broker.members(group).items()
        }

    try:
        publish("orders", 1)
        run.until(lambda: run.at_end("orders"), "the first records")
        publish("parcels", COPIES)
        for partition in PARTITIONS:
            run.send("parcels", good["parcels", partition], partition)
            run.publish("parcels", JUNK, 0, partition)
        run.until(lambda: run.is_paused("parcels"), "the pause")
        for partition in PARTITIONS:
            run.publish("parcels", JUNK_BEHIND, 0, partition)
        publish("parcels", GOOD)
        before = [(run.position("parcels", p), accounts(run, registry, "parcels", p), run.flow("parcels", p)) for p in PARTITIONS]
        assert all(2 * COPIES < position <= 2 * COPIES + JUNK for position, _, _ in before), before

        run.supervisor.start([ServiceSpec(SECOND, "tidemill.services.ingestion", {"TIDEMILL_INSTANCE": "1"})])
        run.until(under_traffic(lambda: sorted(map(sorted, owners().values())) == [[0], [1]]), "an instance for each partition")
        run.until(lambda: run.at_end("orders"), "the other stream, with both instances")
        run.supervisor.halt(FIRST)
        run.until(under_traffic(lambda: list(owners().values()) == [set(PARTITIONS)]), "both partitions with the second instance")
        publish("orders", GOOD)
        run.until(lambda: run.at_end("orders"), "the other stream, with the second instance")
        assert {run.progress(p).instance for p in PARTITIONS} == {"1"}, "the second instance has committed in every partition"
        assert run.is_paused("parcels")
        assert [(run.position("parcels", p), accounts(run, registry, "parcels", p), run.flow("parcels", p)) for p in PARTITIONS] == before

        run.resume("parcels")
        run.until(lambda: run.at_end("parcels"), "everything of the stream that was paused")
        assert not any(run.flow("parcels", p).is_paused for p in PARTITIONS)
        for (stream, partition), names in good.items():
            entries, letters, copies = accounts(run, registry, stream, partition)
            assert entries == names, "each good record once, in its order"
            assert (letters, copies) == ((JUNK + JUNK_BEHIND, COPIES) if stream == "parcels" else (0, 0))
            assert run.published(stream, partition) == len(entries) + letters + copies
            assert Counter(run.flow(stream, partition).rejected) == ({"invalid_json": JUNK + JUNK_BEHIND} if stream == "parcels" else {})
        assert run.supervisor.restarts() == {FIRST: 0, SECOND: 0}
    finally:
        run.close()
