"""What each promotion brought: the new champion's loss against the old one's, on the same requests after it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tidemill.demo.judged_requests import JudgedRequests
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.statistics.bootstrap import Interval, mean_difference_interval
from tidemill.shared.statistics.propensity import weighted_mean

NEXT_REQUESTS = 5_000
_FEWEST_BLOCKS = 3
_LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class PromotionEffect:
    """Loss of a promoted version minus that of the one it replaced, on the labelled requests that came next.

    Attributes
    ----------
    version, predecessor
        What was promoted, and the champion before it.
    at_ms
        Journal time of the promotion.
    requests
        How many labelled requests count: the first 5,000 after the promotion, fewer where the run ends before.
    difference
        Mean difference in the unit of the loss, paired by request, with its 5 % and 95 % quantiles over drawn day blocks: each end is a 95 % bound.
        NaN with fewer than three blocks.
    allowed
        Difference up to which a version counts as no worse: the gate's margin, for regression times the old champion's loss.
    """

    version: str
    predecessor: str
    at_ms: int
    requests: int
    difference: Interval
    allowed: float

    @property
    def is_harmful(self) -> bool:
        """Whether the promotion surely cost more than is allowed."""
        return self.difference.low > self.allowed

    def figures(self) -> dict[str, str | int | float | bool]:
        """Return what stands in a report's JSON."""
        return {
            "version": self.version,
            "predecessor": self.predecessor,
            "journal_time": self.at_ms,
            "requests": self.requests,
            "difference": self.difference.estimate,
            "low": self.difference.low,
            "high": self.difference.high,
            "allowed": self.allowed,
            "harmful": self.is_harmful,
        }


def promotion_effects(
    events: Sequence[Mapping[str, Any]], requests: JudgedRequests, artifacts: ArtifactStore, margin: float, block_ms: int
) -> list[PromotionEffect]:
    """Return the effect of every promotion that replaced a champion and was followed by labelled requests, in order.

    Parameters
    ----------
    events
        Lifecycle log of one model.
    margin
        The gate's margin of the whole.
    block_ms
        Length of a block of requests that are not independent.
    """
    effects = []
    for before, after in _replacements(events):
        rows = requests.sequences >= after["sequence"]
        rows &= np.cumsum(rows) <= NEXT_REQUESTS
        if not rows.any():
            continue
        labels, blocks = requests.labels[rows], requests.times_ms[rows] // block_ms
        weights = requests.weights[rows] if requests.weights is not None else None
        new, old = (requests.kind.losses(labels, requests.answers(artifacts, event, rows).scores) for event in (after, before))
        difference = mean_difference_interval(new, old, blocks, level=_LEVEL, weights=weights)
        if len(np.unique(blocks)) < _FEWEST_BLOCKS:
            difference = Interval(difference.estimate, np.nan, np.nan)
        allowed = margin * weighted_mean(old, weights) if requests.kind.name == "regression" else margin
        effects.append(PromotionEffect(after["version"], before["version"], _milliseconds(after), int(rows.sum()), difference, allowed))
    return effects


def _replacements(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each promotion of another version than the champion, behind the event that put that champion into service."""
    served = [event for event in events if event["event"] in ("promoted", "rolled_back")]
    return ((before, after) for before, after in pairwise(served) if after["event"] == "promoted" and after["version"] != before["version"])


def _milliseconds(event: Mapping[str, Any]) -> int:
    time = event["journal_time"]
    return round(time.timestamp() * 1_000) if hasattr(time, "timestamp") else int(time)
