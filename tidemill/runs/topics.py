"""Makes an application's topics ahead of its services."""

from pathlib import Path

from tidemill.runs.kafka_clients import connect
from tidemill.runs.settings import read_settings
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.log.broker import Broker, TopicSpec
from tidemill.shared.log.topics import catalogue_topics


def make_topics(application: Path) -> tuple[str, ...]:
    """Make the topics that do not exist yet, raw ones included, and return the names of all; safe to repeat.

    The broker is the one that the environment names, with its options and password.

    Raises
    ------
    ApplicationError
        The application is wrong.
    SettingsError
        The environment says something that cannot be used.
    ValueError
        A topic exists with another number of partitions.
    """
    return create_topics(load_plan(application), connect(read_settings().kafka))


def create_topics(plan: Plan, broker: Broker) -> tuple[str, ...]:
    """Make an application's topics that do not exist yet, raw ones included, and return the names of all.

    Raises
    ------
    ValueError
        A topic exists with another number of partitions.
    """
    partitions = plan.application.partitions
    topics = [*catalogue_topics(plan.application.app, partitions), *(TopicSpec(topic, partitions) for topic in plan.topics.raw)]
    broker.create_topics(topics)
    return tuple(spec.name for spec in topics)
