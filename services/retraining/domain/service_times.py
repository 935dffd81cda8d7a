"""When which version of a model went into and out of service: a fold of the lifecycle log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tidemill.shared.models.deployments import Lifecycle


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Times of one model's versions.

    Attributes
    ----------
    versions
        By version: `promoted_at`, `retired_at`, `rolled_back_at` (out of service, because it was a mistake), `restored_at` (in again, by a
        roll-back); ISO 8601 in journal time.
    champion
        What serves; empty before the first promotion.
    """

    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    champion: str = ""

    def apply(self, event: Mapping[str, Any], before: Lifecycle, after: Lifecycle) -> "ServiceTimes":
        """Return the times after an event that took the lifecycle from one state to another; an ignored one changes nothing."""
        if after.head == before.head or event["event"] not in ("promoted", "rolled_back") or after.champion is None:
            return self
        at = datetime.fromtimestamp(event["journal_time"] / 1e3, UTC).isoformat()
        into, out = ("promoted_at", "retired_at") if event["event"] == "promoted" else ("restored_at", "rolled_back_at")
        versions = {version: dict(times) for version, times in self.versions.items()}
        if before.champion is not None:
            versions.setdefault(before.champion.version, {})[out] = at
        versions.setdefault(after.champion.version, {})[into] = at
        return ServiceTimes(versions, after.champion.version)
