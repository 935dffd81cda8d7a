"""What is said when a log does not hold a position: where, which one was wanted, what is there, and what to do."""

from tidemill.shared.log.broker import OffsetLostError
from tidemill.shared.log.records import TopicPartition

WAY_OUT = (
    "Nothing is read until somebody decides: bring the records back (a mirror, a backup) and give the topic a longer retention, or start the"
    " application anew under another name, without them"
)


def offset_lost(place: TopicPartition, who: str, wanted: int, low: int, end: int, loss: str = "") -> OffsetLostError:
    """Return the error (crash).

    Parameters
    ----------
    who
        What wants to read there.
    wanted
        The position.
    low, end
        First offset of the log, and its end.
    loss
        What would be wrong if reading went on elsewhere; by default that records are passed over.
    """
    cause = "retention, or somebody, has deleted records before they were processed" if wanted < low else "it was cut off or created anew"
    return OffsetLostError(
        f"{place.topic}:{place.partition}: {who} wants offset {wanted}, the log holds [{low}, {end}): {cause}, and"
        f" {loss or 'records would be passed over in silence'}. {WAY_OUT}"
    )
