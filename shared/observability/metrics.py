"""Every metric of the system, by name, in this one file.

Labels are few and bounded: the stage (constant for a process), the partition, the topic, the reason.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process.

    Parameters
    ----------
    stage
        Becomes the constant label ``stage``.
    registry
        Where they are collected; one of its own for each process or test.
    """

    def __init__(self, stage: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = own = registry or CollectorRegistry()
        self.stage = stage
        self._records_in = Counter("tidemill_records_in_total", "Records read.", ["stage", "topic"], registry=own)
        self._records_out = Counter("tidemill_records_out_total", "Records written and committed.", ["stage", "topic"], registry=own)
        self._commits = Counter("tidemill_commits_total", "Transactions committed.", ["stage"], registry=own)
        self._aborts = Counter("tidemill_aborts_total", "Transactions aborted.", ["stage", "reason"], registry=own)
        self._rebalances = Counter("tidemill_rebalances_total", "Assignments received.", ["stage"], registry=own)
        recovered = "Offsets that the group had lost and that were taken from the progress record."
        self._recovered = Counter("tidemill_offsets_recovered_total", recovered, ["stage", "topic"], registry=own)
        self._quarantined = Counter("tidemill_quarantined_total", "Records set aside after crashes.", ["stage", "topic"], registry=own)
        self._dead_letters = Counter("tidemill_dead_letters_total", "Dead letters written.", ["stage"], registry=own)
        flagged = "Records accepted of which something was noticed: non_finite, future, a flagging expectation."
        self._flagged = Counter("tidemill_flagged_total", flagged, ["stage", "stream", "what"], registry=own)
        degraded = "Requests answered without a model: no_model, model_failed, latency."
        self._degraded = Counter("tidemill_degraded_total", degraded, ["stage", "model", "reason"], registry=own)
        self._suspended = Gauge("tidemill_suspended", "1 while a task crashes whatever it is given.", ["stage", "partition"], registry=own)
        self._flooded = Gauge("tidemill_flooded", "1 while most of a partition's input is refused.", ["stage", "partition"], registry=own)
        paused = "1 while nothing is read of a topic, because most of it was refused (on_flood: pause)."
        self._paused = Gauge("tidemill_paused", paused, ["stage", "partition", "topic"], registry=own)
        rejected = "Dead letters so far by source topic and reason, committed ones, restarts included."
        self._rejected = Gauge("tidemill_rejected", rejected, ["stage", "partition", "topic", "reason"], registry=own)
        self._process = Histogram("tidemill_process_seconds", "Time in the core, per step.", ["stage"], buckets=LATENCY_BUCKETS_S, registry=own)
        self._commit = Histogram("tidemill_commit_seconds", "Time from begin to commit.", ["stage"], buckets=LATENCY_BUCKETS_S, registry=own)
        self._restore = Gauge("tidemill_restore_seconds", "Time the last restore took.", ["stage", "partition"], registry=own)
        self._covered = Gauge("tidemill_covered_time_ms", "Journal time covered.", ["stage", "partition"], registry=own)
        self._checkpoint_bytes = Counter("tidemill_checkpoint_bytes_total", "State written to the checkpoint topic.", ["stage"], registry=own)
        self._ready = Gauge("tidemill_ready", "1 when partitions are assigned and state is restored.", ["stage"], registry=own)
        self._online_written = Counter("tidemill_online_written_total", "Values written to the online store.", ["stage"], registry=own)
        self._online_refills = Counter("tidemill_online_refills_total", "Times the online store was filled from state.", ["stage"], registry=own)
        self._online_waiting = Gauge("tidemill_online_waiting", "Entities newer than the online store.", ["stage", "partition"], registry=own)
        self._online_away = Gauge("tidemill_online_away", "1 while the online store does not answer.", ["stage", "partition"], registry=own)
        messages = "Messages of alerts by channel: sent, failed attempts, given up."
        self._alert_messages = Counter("tidemill_alert_messages_total", messages, ["stage", "channel", "what"], registry=own)
        self._alerts_firing = Gauge("tidemill_alerts_firing", "Alerts that are firing.", ["stage"], registry=own)

    def count_alert_message(self, channel: str, what: str) -> None:
        """Count a message of alerts: sent, failed, given_up."""
        self._alert_messages.labels(self.stage, channel, what).inc()

    def set_alerts_firing(self, alerts: int) -> None:
        """Note how many alerts are firing."""
        self._alerts_firing.labels(self.stage).set(alerts)

    def count_read(self, topic: str, records: int) -> None:
        """Count records read."""
        self._records_in.labels(self.stage, topic).inc(records)

    def count_written(self, topic: str, records: int) -> None:
        """Count records committed."""
        self._records_out.labels(self.stage, topic).inc(records)

    def count_commit(self, seconds: float) -> None:
        """Count a commit and its time."""
        self._commits.labels(self.stage).inc()
        self._commit.labels(self.stage).observe(seconds)

    def count_abort(self, reason: str) -> None:
        """Count an abort."""
        self._aborts.labels(self.stage, reason).inc()

    def count_rebalance(self) -> None:
        """Count an assignment."""
        self._rebalances.labels(self.stage).inc()

    def count_recovered(self, topic: str) -> None:
        """Count an offset that the group had lost."""
        self._recovered.labels(self.stage, topic).inc()

    def count_quarantined(self, topic: str) -> None:
        """Count a record set aside."""
        self._quarantined.labels(self.stage, topic).inc()

    def observe_suspension(self, partition: int, suspended: bool) -> None:
        """Note whether a task is set aside, because it crashes whatever it is given."""
        self._suspended.labels(self.stage, str(partition)).set(int(suspended))

    def observe_flood(self, partition: int, flooded: bool) -> None:
        """Note whether the input of a partition is a flood of records that are refused."""
        self._flooded.labels(self.stage, str(partition)).set(int(flooded))

    def observe_pause(self, partition: int, topic: str, paused: bool) -> None:
        """Note whether a topic is paused."""
        self._paused.labels(self.stage, str(partition), topic).set(int(paused))

    def observe_rejected(self, partition: int, topic: str, rejected: Mapping[str, int]) -> None:
        """Note how many records of a topic have become dead letters in all, by reason."""
        for reason, count in rejected.items():
            self._rejected.labels(self.stage, str(partition), topic, reason).set(count)

    def count_dead_letters(self, records: int) -> None:
        """Count dead letters."""
        self._dead_letters.labels(self.stage).inc(records)

    def count_flagged(self, records: Mapping[tuple[str, str], int]) -> None:
        """Count accepted records that something was noticed of, by (stream, what)."""
        for (stream, what), count in records.items():
            self._flagged.labels(self.stage, stream, what).inc(count)

    def count_degraded(self, requests: Mapping[tuple[str, str], int]) -> None:
        """Count requests answered without a model, by (model, reason)."""
        for (model, reason), count in requests.items():
            self._degraded.labels(self.stage, model, reason).inc(count)

    def count_checkpoint(self, size_bytes: int) -> None:
        """Count state written."""
        self._checkpoint_bytes.labels(self.stage).inc(size_bytes)

    def observe_process(self, seconds: float) -> None:
        """Note the time a core took for a step."""
        self._process.labels(self.stage).observe(seconds)

    def observe_restore(self, partition: int, seconds: float) -> None:
        """Note the time a restore took."""
        self._restore.labels(self.stage, str(partition)).set(seconds)

    def observe_coverage(self, partition: int, time_ms: int) -> None:
        """Note how far a task has come."""
        self._covered.labels(self.stage, str(partition)).set(time_ms)

    def observe_readiness(self, ready: bool) -> None:
        """Note whether the process is ready."""
        self._ready.labels(self.stage).set(int(ready))

    def count_online_written(self, values: int) -> None:
        """Count values written to the online store."""
        self._online_written.labels(self.stage).inc(values)

    def count_online_refill(self) -> None:
        """Count a kind of entity being written again from state."""
        self._online_refills.labels(self.stage).inc()

    def observe_online(self, partition: int, waiting: int, away: bool) -> None:
        """Note how far the online store is behind, and whether it answers."""
        self._online_waiting.labels(self.stage, str(partition)).set(waiting)
        self._online_away.labels(self.stage, str(partition)).set(int(away))
