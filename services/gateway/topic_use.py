"""What the gateway reads of dead letters and of drift, and what operators write through it."""

from tidemill.shared.application.topics import Topics, TopicUse


def topic_use(topics: Topics) -> TopicUse:
    """Return the topics."""
    return TopicUse(frozenset((topics.rejected, topics.replayed, topics.incidents, topics.drift)), frozenset((topics.commands, topics.replayed)))
