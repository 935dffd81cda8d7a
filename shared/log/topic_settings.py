"""How topics are made where nothing else is said: as many copies as keep them when a broker is lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tidemill.shared.log.broker import TopicSpec

_COPIES, _IN_SYNC = 3, 2


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """What an operator decides about topics when they are made; topics that exist are left as they are.

    Parameters
    ----------
    replication
        Copies of each partition. None: three, or as many as there are brokers if those are fewer.
    min_insync_replicas
        Copies that must have a record before it is acknowledged. None: two of three copies or more, else one.
    max_message_bytes
        Greatest record batch. None: the broker's.
    overrides
        Kafka's own settings by pattern of topic names (``*-predictions``), over the catalogue's; of several that match, the last.

    Examples
    --------
    >>> TopicSettings(overrides={"*-late": {"retention.ms": "1000"}}).of(TopicSpec("shop-late", config={"retention.ms": "9"}), brokers=5)
    (3, {'min.insync.replicas': '2', 'retention.ms': '1000'})
    """

    replication: int | None = None
    min_insync_replicas: int | None = None
    max_message_bytes: int | None = None
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def copies(self, brokers: int) -> int:
        """Return how many copies a topic is to have on a cluster of so many brokers."""
        return self.replication if self.replication is not None else max(1, min(_COPIES, brokers))

    def of(self, spec: TopicSpec, brokers: int) -> tuple[int, dict[str, str]]:
        """Return the replication factor and the settings of a topic on a cluster of so many brokers.

        Raises
        ------
        ValueError
            More copies are asked for than there are brokers, or more in sync than copies (crash, before the first record).
        """
        copies = self.copies(brokers)
        if copies > brokers:
            raise ValueError(f"topic {spec.name}: expected {copies} brokers or more for replication {copies}, found {brokers}")
        in_sync = self.min_insync_replicas if self.min_insync_replicas is not None else _IN_SYNC if copies >= _COPIES else 1
        if in_sync > copies:
            raise ValueError(f"topic {spec.name}: min.insync.replicas {in_sync} of {copies} copies: nothing could ever be written; set it lower")
        size = {} if self.max_message_bytes is None else {"max.message.bytes": str(self.max_message_bytes)}
        config = {"min.insync.replicas": str(in_sync), **size, **spec.config}
        for pattern, given in self.overrides.items():
            if fnmatchcase(spec.name, pattern):
                config |= given
        return copies, config
