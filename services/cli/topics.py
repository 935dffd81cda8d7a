"""Makes an application's topics ahead of its services."""

from pathlib import Path

from shared.application.planning import load_plan
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import TopicSpec
from shared.streaming.kafka_broker import KafkaBroker
from shared.streaming.topics import catalogue_topics


def make_topics(application: Path) -> tuple[str, ...]:
    """Make the topics that do not exist yet, raw ones included, and return the names of all; safe to repeat.

    The broker is the one that the environment names, with its options and password.

    Raises
    ------
    ApplicationError
        The application is wrong.
    ValueError
        A topic exists with another number of partitions.
    """
    plan = load_plan(application)
    settings = ServiceSettings(application=application)
    partitions = plan.application.partitions
    broker = KafkaBroker(settings.kafka.bootstrap_servers, settings.kafka.client_options())
    topics = [*catalogue_topics(plan.application.app, partitions), *(TopicSpec(topic, partitions) for topic in plan.topics.raw)]
    broker.create_topics(topics)
    return tuple(spec.name for spec in topics)
