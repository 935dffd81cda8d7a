"""Scale-out: the same four partitions on one instance of the features stage and on two."""

from dataclasses import asdict

from benchmarks.cells import Cell, Run
from benchmarks.laboratory import Laboratory
from benchmarks.payment_stream import encode, publish
from benchmarks.processes import Together
from benchmarks.systems import COMMIT_INTERVAL_MS, EXACTLY_ONCE
from benchmarks.throughput import measure
from benchmarks.tidemill import Installation

PARTITIONS = 4
_LIMIT_S = 300.0


class ScaleOutCells:
    """Makes the cells; both instances share the core of the system under test, so only CPU time can be compared."""

    def __init__(self, laboratory: Laboratory, events: int, rounds: int) -> None:
        self._laboratory = laboratory
        self._events = events
        self._rounds = min(3, rounds)

    def cells(self) -> list[Cell]:
        """One and two instances, in turn within each run."""
        facts = {"guarantee": EXACTLY_ONCE, "commit_interval": f"{COMMIT_INTERVAL_MS} ms", "events": self._events}
        return [Cell("Tidemill, features stage", "W4", "scale-out", self._both, self._rounds, facts)]

    def _both(self, number: int) -> Run:
        return {str(instances): self._measure(instances) for instances in (1, 2)}

    def _measure(self, instances: int) -> Run:
        laboratory = self._laboratory
        installed = Installation(laboratory, "W4", None, PARTITIONS)
        try:
            topics = installed.plan.topics
            encoded = encode(laboratory.payments.first(self._events), laboratory.registry)
            publish(laboratory.bootstrap_servers, encoded, {installed.source: self._events}, lambda text: None)
            installed.throughput("ingestion", topics.journal, self._events, self._events)
            together = Together([installed.start("features", instance=str(i)) for i in range(instances)])
            place = laboratory.bootstrap_servers, laboratory.broker_pid, topics.vectors
            try:
                return asdict(measure(together, *place, self._events, self._events, _LIMIT_S, PARTITIONS))
            finally:
                together.stop()
        finally:
            installed.close()
