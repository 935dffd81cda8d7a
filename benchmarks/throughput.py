"""One run at full speed, measured from outside: how fast the output topic grows, and what that costs in CPU time."""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.processes import SystemUnderTest, Together, cpu_s, peak_memory_mb

_SAMPLE_S = 0.05
_START_LIMIT_S = 90.0
_QUIET_S, _IDLE_RECORDS = 1.0, 5
_STALL_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """Figures of one run.

    Attributes
    ----------
    events
        Input events of the whole run.
    steady_events
        Those of the measured part: the second half, when JVMs have warmed up and every cache is filled.
    cpu_s_per_million, broker_cpu_s_per_million
        CPU seconds of the system, and of the broker, per million input events of the measured part.
    events_per_cpu_s, events_per_s
        Of the measured part: per CPU second of the system, and per second of wall time.
    first_output_s
        From the start of the process.
    """

    events: int
    steady_events: int
    cpu_s_per_million: float
    broker_cpu_s_per_million: float
    events_per_cpu_s: float
    events_per_s: float
    peak_memory_mb: float
    first_output_s: float


class RunFailed(RuntimeError):
    """A system did not finish; says what was expected, how far it came, and the end of its log."""


@dataclass(frozen=True, slots=True)
class _Sample:
    time: float
    output: int
    cpu_s: float
    broker_cpu_s: float


def measure(
    system: SystemUnderTest | Together,
    bootstrap_servers: str,
    broker_pid: int,
    output: str,
    events: int,
    expected: int,
    limit_s: float,
    partitions: int = 1,
) -> Throughput:
    """Watch a system until its output topic holds what is expected; the caller stops it.

    Parameters
    ----------
    output
        Topic with so many partitions, empty at the start.
    events, expected
        Input events, and output records that they amount to.
    limit_s
        For the whole run.

    Raises
    ------
    RunFailed
        It ended, did not begin, stalled, or took longer than the limit.
    """
    watch = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "benchmark-watch", "enable.auto.commit": False, "log_level": 2})
    places = [TopicPartition(output, partition) for partition in range(partitions)]
    samples: list[_Sample] = []
    reached: int | None = None
    begun = moved = time.perf_counter()
    peak = 0.0
    try:
        while True:
            now = time.perf_counter()
            try:
                end = sum(watch.get_watermark_offsets(place, timeout=5)[1] for place in places)
            except KafkaException:  # the topic is made by the system itself
                end = 0
            pids = system.pids
            sample = _Sample(now, end, cpu_s(pids), cpu_s([broker_pid]))
            if end > (samples[-1].output if samples else 0):
                moved = now
            samples.append(sample)
            if len(samples) % 5 == 0:
                peak = max(peak, peak_memory_mb(pids))
            if end >= expected:
                reached = reached or len(samples)
                if _is_quiet(samples, partitions):
                    break
            _check(system, output, end, expected, now - begun, now - moved, limit_s)
            time.sleep(max(0.0, _SAMPLE_S - (time.perf_counter() - now)))
        peak = max(peak, peak_memory_mb(system.pids))
    finally:
        watch.close()
    return _figures(samples[:reached], events, expected, peak, begun)


def _check(system: SystemUnderTest | Together, output: str, end: int, expected: int, elapsed_s: float, idle_s: float, limit_s: float) -> None:
    if system.exit_code is not None:
        reason = f"ended with exit code {system.exit_code}"
    elif elapsed_s > limit_s:
        reason = f"was not done after {limit_s:.0f} s"
    elif idle_s > (_STALL_LIMIT_S if end else _START_LIMIT_S):
        reason = f"wrote nothing for {idle_s:.0f} s"
    else:
        return
    raise RunFailed(f"expected {expected:,} records in {output}, found {end:,}; it {reason}. The end of its log ({system.log}):\n{system.tail()}")


def _is_quiet(samples: list[_Sample], partitions: int) -> bool:
    """Say whether a second has passed without work: end offsets count transaction markers too, so the last records come a little later.

    An idle ingestion goes on writing a tick a second to each partition.
    """
    before = next((sample for sample in reversed(samples) if sample.time <= samples[-1].time - _QUIET_S), None)
    return before is not None and samples[-1].output - before.output <= _IDLE_RECORDS * partitions


def _figures(samples: list[_Sample], events: int, expected: int, peak: float, begun: float) -> Throughput:
    first = next(sample for sample in samples if sample.output)
    middle = next(sample for sample in samples if sample.output >= expected / 2)
    last = samples[-1]
    done = (last.output - middle.output) * events / last.output
    wall, cpu = last.time - middle.time, last.cpu_s - middle.cpu_s
    if wall <= 0 or cpu <= 0:
        raise RunFailed(f"expected at least two samples in the second half of {events:,} events: too few events for this system")
    broker = last.broker_cpu_s - middle.broker_cpu_s
    return Throughput(events, round(done), cpu / done * 1e6, broker / done * 1e6, done / cpu, done / wall, peak, first.time - begun)


def committed_records(bootstrap_servers: str, topic: str) -> list[bytes]:
    """Read what committed transactions wrote to a topic's only partition."""
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "benchmark-check",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "log_level": 2,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
        }
    )
    reader.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    try:
        while True:
            messages = reader.consume(10_000, 10.0)
            if not messages:
                raise TimeoutError(f"{topic}: no end of the partition within 10 s after {len(values):,} committed records; is a transaction open?")
            values += [message.value() or b"" for message in messages if message.error() is None]
            if any(message.error() is not None for message in messages):
                return values
    finally:
        reader.close()


def output_length(bootstrap_servers: str, topic: str) -> int:
    """Return the end offset of a topic's only partition: records, and a marker for each transaction."""
    watch = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "benchmark-watch", "enable.auto.commit": False, "log_level": 2})
    try:
        return int(watch.get_watermark_offsets(TopicPartition(topic, 0), timeout=5)[1])
    finally:
        watch.close()
