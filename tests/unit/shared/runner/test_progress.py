"""Progress records, the topic catalogue."""

from tests.property.runner_tasks import codec
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.runner.progress import Progress


def test_progress_survives_its_wire_format() -> None:
    progress = Progress(
        "features",
        3,
        "i",
        17,
        {TopicPartition("a:b", 3): 99},
        12,
        1_700_000_000_123,
        {"vectors": 5},
        {TopicPartition("a:b", 3): 7},
        4,
        {"core": "1"},
        frozenset({("a:b", 3, 44), ("c", 0, 1)}),
        topic_ids={"a:b": "u1vRwKQxT0aW3hXkz8oUPg"},
    )
    assert Progress.decode(progress.encode(codec("progress")), codec("progress")) == progress
    assert progress.key == b"3"


def test_the_catalogue_makes_every_topic_of_every_stage() -> None:
    specs = {spec.name: spec for spec in catalogue_topics("shop", 6)}
    assert specs["shop-journal"].partitions == 6
    assert specs["shop-journal"].config == {"cleanup.policy": "delete", "retention.ms": "-1"}
    assert specs["shop-deployments"].partitions == 1
    assert specs["shop-features-progress"].config["cleanup.policy"] == "compact"
    assert {"shop-scoring-checkpoint", "shop-control-progress", "shop-archive-checkpoint"} <= set(specs)
    assert not any("{" in name for name in specs)
