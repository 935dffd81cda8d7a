"""Kafka's admin client.

`confluent_kafka.admin` takes these names from modules of its own and exports none of them, which mypy is told here, once.
"""

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package has no stubs of them
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    ConsumerGroupDescription,
    MemberDescription,
    NewTopic,
    OffsetSpec,
    TopicDescription,
    TopicMetadata,
)

__all__ = [
    "AdminClient",
    "AlterConfigOpType",
    "ClusterMetadata",
    "ConfigEntry",
    "ConfigResource",
    "ConsumerGroupDescription",
    "MemberDescription",
    "NewTopic",
    "OffsetSpec",
    "TopicDescription",
    "TopicMetadata",
]
