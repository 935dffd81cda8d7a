"""Tells metrics, probes and the log what a commit has changed."""

from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.chain import Work
from tidemill.shared.runner.flood_report import FloodReport


class CommitReport:
    """Compares the step of a task that was committed with the task as it was before.

    Parameters
    ----------
    floods
        Is told of inputs that became a flood of refused records, or are one no more.
    """

    def __init__(self, floods: FloodReport, metrics: Metrics, health: ProcessHealth) -> None:
        self._floods = floods
        self._metrics = metrics
        self._health = health

    def tell(self, work: Work) -> None:
        """Report one task's step, before the task has accepted the commit."""
        running, outcome = work.running, work.outcome
        self._floods.tell(running.partition, running.progress, outcome.progress)
        for culprit, _ in running.owed:
            self._metrics.count_quarantined(culprit.topic)
        for place in running.recovered:
            self._health.report(f"offset of {place.topic}:{place.partition}", None)
        self._metrics.observe_coverage(running.partition, outcome.progress.covered_time)
        self._metrics.count_dead_letters(outcome.refused)
        self._metrics.count_flagged(outcome.flagged)
        self._metrics.count_checkpoint(outcome.checkpoint_bytes)
        for emission in outcome.emissions:
            self._metrics.count_written(emission.topic, len(emission))
