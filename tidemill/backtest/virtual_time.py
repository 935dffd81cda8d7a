"""The clock of a backtest: it stands at the latest instant that was published."""

from tidemill.shared.log.broker import Sink
from tidemill.shared.log.records import Emission


class VirtualClock:
    """Milliseconds of journal time; moved by what is published, by nothing else.

    Examples
    --------
    >>> clock = VirtualClock()
    >>> clock.reach(5_000)
    >>> clock.reach(3_000)
    >>> clock.now_ms(), clock.steady_s()
    (5000, 5.0)
    """

    def __init__(self) -> None:
        self._now_ms = 0

    def reach(self, instant_ms: int) -> None:
        """Move on to an instant; an earlier one changes nothing."""
        self._now_ms = max(self._now_ms, instant_ms)

    def now_ms(self) -> int:
        """Return the instant."""
        return self._now_ms

    def steady_s(self) -> float:
        """Return the instant in seconds."""
        return self._now_ms / 1_000


class TimedSink:
    """A sink whose records move the clock: what is published at an instant says that the instant has come."""

    def __init__(self, sink: Sink, clock: VirtualClock) -> None:
        self._sink, self._clock = sink, clock

    def publish(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None, partition: int | None = None) -> None:
        """Write one record."""
        self._sink.publish(topic, key, value, timestamp_ms, partition)
        if timestamp_ms is not None:
            self._clock.reach(timestamp_ms)

    def publish_run(self, run: Emission) -> None:
        """Write many records, in order of time."""
        self._sink.publish_run(run)
        if run.timestamps_ms is not None and len(run):
            self._clock.reach(int(run.timestamps_ms[-1]))

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all is written."""
        self._sink.flush(timeout_s)

    def close(self) -> None:
        """Flush and stop."""
        self._sink.close()
