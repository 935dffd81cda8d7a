"""Publishes a data set into the raw topics by availability, slice by slice, and waits until every stage has dealt with each."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tidemill.replay.feed import Feed
from tidemill.runs.coverage import WAITED_FOR, Looks, wait_until_covered
from tidemill.runs.watch import RunState
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.times import instant_text
from tidemill.shared.log.broker import Sink
from tidemill.shared.log.heartbeat import END_OF_STREAM_KEY, HEARTBEAT_KEY
from tidemill.shared.log.records import Emission

_CHUNK = 20_000
_SLICES_AFTER_THE_LAST = 100
_SLICES_BETWEEN = 100
FARTHEST_MS = 253_402_300_800_000


class ReplayRefused(RuntimeError):
    """The data set cannot be replayed into this run; says why, and what to do."""


def replay(
    plan: Plan,
    sink: Sink,
    feeds: Sequence[Feed],
    watch: Looks,
    slice_ms: int,
    on_progress: Callable[[int, int, RunState], None],
    farthest_ms: int = FARTHEST_MS,
    stages: Sequence[str] = WAITED_FOR,
    cut: Callable[[int, int], int] | None = None,
    until_ms: int = FARTHEST_MS,
) -> int:
    """Publish everything; returns the instant up to which the pipeline is complete.

    After each slice a heartbeat goes to every raw partition: nothing older will follow. One of the instant of a stream's last record says that the
    stream has ended: then it is no fault that nothing comes of it. The next slice begins when every stage has covered that
    instant and scoring has switched to the last deployment, so the result does not depend on the machine's speed. After the last record the
    slices go on until every label has come or timed out, in a hundred steps if that takes more: a label may take a day where all requests came in
    a second. Where nothing became known for longer than that, the next slice is that of the next
    record, and until then such a stretch takes a hundred slices at most: the work follows the data, not the years it spans.

    Parameters
    ----------
    farthest_ms
        Ingestion refuses what is stamped later (`future`); such records are published with the last slice.
    on_progress
        Called while waiting with the slice's end, the records published so far, and what was seen.
    stages
        Those that are waited for.
    cut
        Given the slice's begin and end, says where it really ends: behind the begin, and not later.
    until_ms
        No heartbeat behind the last record is later than this: Kafka refuses timestamps of the future, and a run that goes on live begins there.

    Raises
    ------
    CoverageTimeout
    ReplayRefused
        Every record lies beyond `farthest_ms`.
    """
    flush_ms = max((model.label.max_delay_ms for model in plan.models.values()), default=0) + slice_ms
    filled = [feed for feed in feeds if len(feed.available_ms)]
    first = min(int(feed.available_ms[0]) for feed in filled)
    near = [int(feed.available_ms[k - 1]) for feed in filled if (k := int(np.searchsorted(feed.available_ms, farthest_ms - flush_ms - slice_ms)))]
    if not near:
        raise ReplayRefused(f"expected a data set of the past, found one that begins at {instant_text(first)}; publish it live with --rate")
    last = max(near)
    begin = first - first % slice_ms
    at = {feed.topic: 0 for feed in feeds}
    published = 0
    busy_until = quiet_since = first
    stride_ms = slice_ms
    limit = max(last, until_ms) + 1
    while begin <= last + flush_ms and begin < limit:
        step_ms = stride_ms if begin <= last else max(slice_ms, flush_ms // _SLICES_AFTER_THE_LAST)
        end = min(limit, begin + step_ms if cut is None else cut(begin, begin + step_ms))
        for feed in feeds:
            stop = int(np.searchsorted(feed.available_ms, end)) if end <= last else len(feed.available_ms)
            for chunk in range(at[feed.topic], stop, _CHUNK):
                _publish(sink, feed, chunk, min(stop, chunk + _CHUNK), plan.application.partitions == 1)
            if stop > at[feed.topic]:
                busy_until, quiet_since = end + flush_ms, end
                if stop == len(feed.available_ms):
                    _beat(plan, sink, feed.topic, END_OF_STREAM_KEY, min(int(feed.available_ms[-1]), end))
            published += stop - at[feed.topic]
            at[feed.topic] = stop
        for stream in plan.streams.values():
            _beat(plan, sink, stream.topic, HEARTBEAT_KEY, end)
        sink.flush(60)
        wait_until_covered(plan, watch, end, partial(on_progress, end, published), stages=stages)
        waiting = [int(feed.available_ms[at[feed.topic]]) for feed in feeds if at[feed.topic] < len(feed.available_ms)]
        coming = min(waiting) - min(waiting) % slice_ms if waiting else end
        begin = end if end <= busy_until else max(end, coming)
        stride_ms = max(slice_ms, min((coming - quiet_since) // _SLICES_BETWEEN // slice_ms * slice_ms, coming - begin))
    return end


def _beat(plan: Plan, sink: Sink, topic: str, key: bytes, instant_ms: int) -> None:
    for partition in range(plan.application.partitions):
        # librdkafka replaces a timestamp of zero with the current time.
        sink.publish(topic, key, None, max(1, instant_ms), partition)


def refuse_a_journal_that_is_past(covered: int, feeds: Sequence[Feed]) -> None:
    """Raise ReplayRefused when journal time has passed the data set's beginning: it would be journalled at the later time, features and all.

    Parameters
    ----------
    covered
        The latest journal time that ingestion has covered, milliseconds; -1 before its first commit.
    """
    first = min((int(feed.available_ms[0]) for feed in feeds if len(feed.available_ms)), default=covered)
    if covered > first:
        raise ReplayRefused(
            f"expected a run whose journal has not reached {instant_text(first)}, when the data set begins;"
            f" this one stands at {instant_text(covered)}."
            " Either it runs on the live clock (start it with `tidemill up APPLICATION --clock replay`), or it has been fed already"
            " (remove its folder, or let `tidemill replay --up` make a fresh run), or publish live with --rate."
        )


def _publish(sink: Sink, feed: Feed, begin: int, end: int, single: bool) -> None:
    keys, values = feed.records(begin, end)
    # librdkafka replaces a timestamp of zero with the current time.
    times = np.maximum(feed.available_ms[begin:end], 1)
    if single:
        sink.publish_run(Emission(feed.topic, 0, keys, values, times))
        return
    for key, value, available in zip(keys, values, times.tolist(), strict=True):
        sink.publish(feed.topic, key, value, available)
