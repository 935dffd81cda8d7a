"""What the commands show, audit and compare, and what operators write by them."""

from tidemill.shared.application.topics import STAGES, Topics, TopicUse


def topic_use(topics: Topics) -> TopicUse:
    """Return the topics."""
    return TopicUse(
        frozenset(
            (
                topics.journal,
                topics.rejected,
                topics.replayed,
                topics.duplicates,
                topics.late,
                topics.schema_changes,
                topics.stream_ends,
                topics.vectors,
                topics.view_switches,
                topics.predictions,
                topics.shadow_scores,
                topics.explanations,
                topics.outcomes,
                topics.drift,
                topics.incidents,
                topics.revisions,
                topics.health,
                topics.decisions,
                topics.retraining,
                topics.deployments,
                topics.alerts,
                *map(topics.progress, STAGES),
                *map(topics.checkpoint, STAGES),
            )
        ),
        frozenset((topics.commands, topics.replayed)),
    )
