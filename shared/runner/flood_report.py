"""Says of each input topic when it becomes a flood of junk, is paused, or goes on: in the log, the metrics and the probes."""

import logging

from tidemill.shared.log.flow import Flow
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.progress import Progress

log = logging.getLogger(__name__)
_NOTHING = Flow()


class FloodReport:
    """Compares what is committed with what was.

    Parameters
    ----------
    letters
        Topic of the dead letters.
    """

    def __init__(self, letters: str, metrics: Metrics, health: ProcessHealth) -> None:
        self._letters = letters
        self._metrics = metrics
        self._health = health

    def begin(self, partition: int, progress: Progress) -> None:
        """Say what a task that was restored finds."""
        self.tell(partition, Progress(progress.stage, partition), progress)

    def tell(self, partition: int, before: Progress, after: Progress) -> None:
        """Say what a commit has changed."""
        if before.flooded != after.flooded:
            self._metrics.observe_flood(partition, after.flooded)
        if before.refusals.flooded != after.refusals.flooded:
            self._say(partition, "the input", Flow(before.refusals), Flow(after.refusals))
        if before.flows == after.flows:
            return
        for topic in before.flows.keys() | after.flows.keys():
            was, is_now = before.flows.get(topic, _NOTHING), after.flows.get(topic, _NOTHING)
            if was == is_now:
                continue
            if was.rejected != is_now.rejected:
                self._metrics.observe_rejected(partition, topic, is_now.rejected)
            if (was.throttled, was.is_paused) != (is_now.throttled, is_now.is_paused):
                self._metrics.observe_pause(partition, topic, is_now.is_paused)
                self._say(partition, topic, was, is_now)

    def _say(self, partition: int, topic: str, was: Flow, is_now: Flow) -> None:
        refusals = is_now.refusals
        detail = {"topic": topic, "partition": partition, "refused": refusals.refused, "of": refusals.read, "in_a_row": refusals.row}
        trouble = f"{topic} in partition {partition}"
        what = f"{refusals.refused} of the last {refusals.read} records of {topic} in partition {partition} became dead letters"
        advice = f"read {self._letters} for the reasons and correct the producer or the application"
        if is_now.is_paused:
            log.error("%s is paused, as declared: nothing of it is read until `tidemill resume`; %s", topic, advice, extra=detail)
            self._health.report(trouble, f"paused: {what}; {advice}, then resume it with `tidemill resume`")
        elif is_now.throttled:
            log.warning("%s is a flood of records that are refused: steps are short until it is over; %s", topic, advice, extra=detail)
            self._health.report(trouble, f"throttled: {what}; {advice}")
        else:
            log.warning("%s: %s", topic, "resumed" if was.is_paused else "the flood of refused records is over", extra=detail)
            self._health.report(trouble, None)
