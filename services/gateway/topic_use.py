"""What the gateway reads of dead letters, and what operators write through it."""

from tidemill.shared.application.topics import Topics, TopicUse


def topic_use(topics: Topics) -> TopicUse:
    """Return the topics."""
    return TopicUse(frozenset((topics.rejected, topics.replayed)), frozenset((topics.commands, topics.replayed)))
