"""What a task knows of each of its input topics: what of it was refused, and whether it is paused. Kept in the progress record."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tidemill.shared.log.flood import FloodLimits, Refusals

_NEVER = -1


@dataclass(frozen=True, slots=True)
class Flow:
    """One input topic of a task, a fold over committed steps.

    Attributes
    ----------
    refusals
        How much of it became dead letters lately.
    rejected
        All that ever did, by reason.
    paused_ms
        Processing time at which it was paused, -1 while it is not.
    forgotten_ms
        When the newest command to resume it was issued that is not in `obeyed` any more, -1 before the first.
    writers
        What the task knows of the schemas that its records are written with: text that only the task reads.
    ended
        Partitions of which whoever feeds them has said that they have ended.
    has_ended
        Whether the end of the stream has been told and stands.
    obeyed
        Commands to resume it that were read, followed or not needed: when they were read and when issued, by a digest of their id.

    Examples
    --------
    >>> limits = FloodLimits(share=0.5, window=100)
    >>> junk = Flow().after(100, {"invalid_json": 80}, limits)
    >>> junk.throttled, junk.paused(5).is_paused, junk.paused(5).resumed().rejected
    (True, True, {'invalid_json': 80})
    """

    refusals: Refusals = field(default_factory=Refusals)
    rejected: Mapping[str, int] = field(default_factory=dict)
    paused_ms: int = _NEVER
    forgotten_ms: int = _NEVER
    writers: str = ""
    ended: tuple[int, ...] = ()
    has_ended: bool = False
    obeyed: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_paused(self) -> bool:
        """Whether nothing of it is taken."""
        return self.paused_ms != _NEVER

    @property
    def throttled(self) -> bool:
        """Whether it is a flood that is worked off in short steps."""
        return self.refusals.flooded and not self.is_paused

    def after(self, read: int, rejected: Mapping[str, int], limits: FloodLimits) -> "Flow":
        """Return it after another step."""
        refusals = self.refusals.after(read, sum(rejected.values()), limits)
        if not rejected:
            return self if refusals is self.refusals else replace(self, refusals=refusals)
        return replace(self, refusals=refusals, rejected=dict(Counter(dict(self.rejected)) + Counter(dict(rejected))))

    def paused(self, now_ms: int) -> "Flow":
        """Return it paused."""
        return replace(self, paused_ms=now_ms)

    def resumed(self) -> "Flow":
        """Return it resumed; what was counted of the flood is forgotten, so that the next window decides anew."""
        return replace(self, refusals=Refusals(), paused_ms=_NEVER)

    def to_record(self) -> dict[str, Any]:
        """Return what the progress record holds."""
        return {
            "window": self.refusals.to_list(),
            "rejected": dict(self.rejected),
            "paused": self.paused_ms,
            "resumed": self.forgotten_ms,
            "writers": self.writers,
            "ended": list(self.ended),
            "has_ended": self.has_ended,
            "obeyed": {name: list(when) for name, when in self.obeyed.items()},
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Flow":
        """Flow of a progress record."""
        return cls(
            Refusals.of_list(record["window"]),
            dict(record["rejected"]),
            record["paused"],
            record["resumed"],
            record["writers"],
            tuple(record["ended"]),
            record["has_ended"],
            {name: (read, issued) for name, (read, issued) in record["obeyed"].items()},
        )
