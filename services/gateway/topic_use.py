"""What the gateway reads of dead letters, drift and explanations, and what operators write through it."""

from tidemill.shared.application.topics import Topics, TopicUse


def topic_use(topics: Topics) -> TopicUse:
    """Return the topics."""
    read = (topics.rejected, topics.replayed, topics.incidents, topics.drift, topics.explanations)
    return TopicUse(frozenset(read), frozenset((topics.commands, topics.replayed)))
