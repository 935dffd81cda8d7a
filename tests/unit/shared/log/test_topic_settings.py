"""Copies of topics follow the cluster's size, and what an operator says comes before the catalogue."""

import pytest

from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.topic_settings import TopicSettings
from tidemill.shared.observability.settings import KafkaSettings

JOURNAL = TopicSpec("shop-journal", 2, {"cleanup.policy": "delete", "retention.ms": "-1"})


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")])
def test_three_copies_and_two_in_sync_where_the_cluster_has_them(brokers: int, copies: int, in_sync: str) -> None:
    assert TopicSettings().of(JOURNAL, brokers) == (copies, {**JOURNAL.config, "min.insync.replicas": in_sync})


def test_settings_come_before_the_catalogue_and_by_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = KafkaSettings.model_validate(
        {"replication": 2, "min_insync_replicas": 2, "max_message_bytes": 5_000_000, "topics": {"*-journal": {"retention.ms": "86400000"}}}
    )
    copies, config = kafka.topic_settings().of(JOURNAL, 3)
    assert copies == 2
    assert config == {"cleanup.policy": "delete", "retention.ms": "86400000", "min.insync.replicas": "2", "max.message.bytes": "5000000"}
    assert kafka.topic_settings().of(TopicSpec("shop-late", config={"retention.ms": "7"}), 3)[1]["retention.ms"] == "7"


@pytest.mark.parametrize(
    ("settings", "message"),
    [(TopicSettings(replication=3), "expected 3 brokers or more"), (TopicSettings(min_insync_replicas=2), "nothing could ever be written")],
)
def test_what_no_cluster_of_this_size_can_do_is_refused(settings: TopicSettings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings.of(JOURNAL, 1)
