"""When which version of a model was tried, went into service and out of it: a fold of the lifecycle log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.shared.instant import utc
from tidemill.shared.models.deployments import Lifecycle


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Times of one model's versions.

    Attributes
    ----------
    versions
        By version: `shadow_at`, `canary_at` (where its trial began), `ab_at`, `ab_against`, `ab_ended_at`, `ab_ended` (of both versions of an A/B
        test: against which one, and by which event it ended), `stepped_back_at`, `promoted_at`, `retired_at`, `rolled_back_at` (out of service,
        because it was a mistake), `restored_at` (in again, by a roll-back); ISO 8601 in journal time.
    champion
        What serves; empty before the first promotion.
    """

    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    champion: str = ""

    def apply(self, event: Mapping[str, Any], before: Lifecycle, after: Lifecycle) -> "ServiceTimes":
        """Return the times after an event that took the lifecycle from one state to another; an ignored one changes nothing."""
        if after.head == before.head:
            return self
        at = utc(event["journal_time"]).isoformat()
        versions = {version: dict(times) for version, times in self.versions.items()}

        def note(version: str, **times: str) -> None:
            versions.setdefault(version, {}).update(times)

        tried, champion = before.challenger, before.champion
        if before.compares and not after.compares and tried is not None:
            for version in (tried.version, *([champion.version] if champion else [])):
                note(version, ab_ended_at=at, ab_ended=f"{event['version']} {event['event']}")
        if event["event"] in ("shadow", "canary"):
            note(event["version"], **{f"{event['event']}_at": at})
        elif event["event"] == "ab":
            note(event["version"], ab_at=at, ab_against=champion.version if champion else "")
            if champion is not None:
                note(champion.version, ab_at=at, ab_against=event["version"])
        elif event["event"] == "stepped_back":
            note(event["version"], stepped_back_at=at)
        elif event["event"] in ("promoted", "rolled_back") and after.champion is not None:
            into, out = ("promoted_at", "retired_at") if event["event"] == "promoted" else ("restored_at", "rolled_back_at")
            if champion is not None:
                note(champion.version, **{out: at})
            note(after.champion.version, **{into: at})
        return self if versions == self.versions else ServiceTimes(versions, after.champion.version if after.champion else self.champion)
