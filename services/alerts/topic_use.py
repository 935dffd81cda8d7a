"""What the agents read, and where alerts and their state go."""

from tidemill.shared.application.topics import STAGES, Topics, TopicUse


def topic_use(topics: Topics) -> TopicUse:
    """Return the topics."""
    return TopicUse(
        frozenset(
            (
                topics.drift,
                topics.incidents,
                topics.health,
                topics.decisions,
                topics.retraining,
                topics.deployments,
                topics.rejected,
                topics.commands,
                topics.alert_state,
                *map(topics.progress, STAGES),
            )
        ),
        frozenset((topics.alerts, topics.alert_state)),
    )
