"""What a champion and its challenger did on the same requests of one block."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.drift.domain.arms import NO_ARMS
from tidemill.services.drift.domain.findings import Coordinates


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is tried against whom.

    Attributes
    ----------
    sequence
        Lifecycle event that began the challenger's stage.
    share
        Of the requests that the challenger answers; 0 in shadow.
    stage
        Shadow, canary or ab.
    """

    champion_version: str
    challenger_version: str
    sequence: int
    share: float
    stage: str


@dataclass(frozen=True, slots=True)
class ContestBlock:
    """One block of a contest (`tidemill.Trial`).

    Attributes
    ----------
    part
        Empty: all requests of the block; else a slice, ``column=value``.
    counts, means, arms
        By the names of the record's fields; a mean that is undefined is absent. `arms` are of the whole of a challenger that answers, else empty.
    """

    model: str
    at: Coordinates
    part: str
    contest: Contest
    block_start_ms: int
    block_end_ms: int
    counts: Mapping[str, int]
    means: Mapping[str, float]
    arms: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Fields of the Avro record."""
        return {
            "model": self.model,
            "journal_partition": self.at.partition,
            "journal_offset": self.at.offset,
            "journal_time": self.at.time_ms,
            "slice": self.part,
            "champion_version": self.contest.champion_version,
            "challenger_version": self.contest.challenger_version,
            "challenger_sequence": self.contest.sequence,
            "stage": self.contest.stage,
            "share": self.contest.share,
            "block_start": self.block_start_ms,
            "block_end": self.block_end_ms,
            **self.counts,
            **{name: self.means.get(name) for name in MEANS},
            **NO_ARMS,
            **self.arms,
        }


MEANS = (
    "champion_loss", "challenger_loss", "difference_mean", "difference_variance", "champion_score", "champion_truth", "challenger_score",
    "challenger_truth",
)  # fmt: skip
