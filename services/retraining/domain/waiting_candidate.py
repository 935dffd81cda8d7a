"""The candidate that an A/B test keeps waiting, and where it goes when the test has ended: a fold of the lifecycle log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.services.retraining.domain.first_stage import REFIT, FirstStage, Tried, first_stage, held_back
from tidemill.shared.application.stages import Stages
from tidemill.shared.models.deployments import Lifecycle

WAITS_FOR, JUDGED_AGAINST = "waits_for", "judged_against"
"""Details of a passed candidate that waits: for whose A/B test, and the artifact of the champion that it was judged against."""
_PLACED = ("shadow", "canary", "ab", "promoted", "gate_refused")


def waits(lifecycle: Lifecycle) -> dict[str, str]:
    """Return the details of a candidate that passes now and is tried once an A/B test has ended; empty where none runs that it could wait for."""
    if lifecycle.pin is not None or not lifecycle.compares or lifecycle.challenger is None or lifecycle.champion is None:
        return {}
    return {WAITS_FOR: lifecycle.challenger.version, JUDGED_AGAINST: lifecycle.champion.artifact_sha256}


@dataclass(frozen=True, slots=True)
class WaitingCandidate:
    """One model's candidate that waits: the newest that has passed. Replay-safe; it lives on the lifecycle log.

    Attributes
    ----------
    event
        Its ``gate_passed``; None where none waits.
    ended_at
        Place of the last lifecycle event: when it is free, of what freed it.
    """

    event: Mapping[str, Any] | None = None
    ended_at: tuple[int, int, int] = (0, 0, 0)

    def deployed(self, event: Mapping[str, Any], before: Lifecycle, after: Lifecycle) -> "WaitingCandidate":
        """Return the state after an event that took the lifecycle from one state to another; an ignored one changes nothing."""
        if after.head == before.head:
            return self
        at = event["journal_partition"], event["journal_offset"], event["journal_time"]
        if event["event"] == "gate_passed":
            # A newer candidate that has passed takes an older one's place, whether it waits itself or not.
            return WaitingCandidate(event if WAITS_FOR in event["details"] else None, at)
        is_placed = self.event is not None and event["event"] in _PLACED and event["version"] == self.event["version"]
        return WaitingCandidate(None if is_placed or event["event"] == "retired" else self.event, at)

    def freed(self, lifecycle: Lifecycle, stages: Stages, tried: Tried = "unknown") -> "FirstStage | str | None":
        """Return where it goes now, or why nowhere any more; None while it waits, or where none does.

        A champion that has changed meanwhile is not the one that it was judged against. Its trial compares it with whatever serves; where it would
        serve at once nobody would have compared them, nor is a refit of the former champion's recipe one of the new one's.
        """
        if self.event is None or lifecycle.compares or lifecycle.pin is not None:
            return None
        admission, champion = self.event["details"].get("admission", ""), lifecycle.champion
        if held_back(lifecycle, stages, admission, tried):
            return None
        goes = first_stage(stages, lifecycle, admission, tried)
        if champion is not None and champion.artifact_sha256 == self.event["details"][JUDGED_AGAINST]:
            return goes
        if goes.event == "promoted" or admission == REFIT:
            serving = champion.version if champion is not None else "nothing"
            waited = f"while it waited for the A/B test of {self.event['details'][WAITS_FOR]} to end"
            return f"expected the champion that it was judged against, found {serving}, which came into service {waited}; the next training meets it"
        return goes
