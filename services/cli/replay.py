"""Publishes a data set into the raw topics by availability, slice by slice, and waits until every stage has dealt with each."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from services.cli.coverage import wait_until_covered
from services.cli.feed import Feed
from services.cli.watch import Seen, Watch
from shared.application.plan import Plan
from shared.streaming.broker import Sink

_CHUNK = 20_000
_HEARTBEAT = b"heartbeat"


class ReplayRefused(RuntimeError):
    """The data set cannot be replayed into this run; says why, and what to do."""


def replay(plan: Plan, sink: Sink, feeds: Sequence[Feed], watch: Watch, slice_ms: int, on_progress: Callable[[int, int, Seen], None]) -> int:
    """Publish everything; returns the instant up to which the pipeline is complete.

    After each slice a heartbeat goes to every raw partition: nothing older will follow. The next slice begins when every stage has covered that
    instant and scoring has switched to the last deployment, so the result does not depend on the machine's speed. After the last record the
    slices go on until every label has come or timed out.

    Parameters
    ----------
    on_progress
        Called while waiting with the slice's end, the records published so far, and what was seen.

    Raises
    ------
    CoverageTimeout
    """
    filled = [feed for feed in feeds if len(feed.available_ms)]
    first = min(int(feed.available_ms[0]) for feed in filled)
    last = max(int(feed.available_ms[-1]) for feed in filled)
    begin = first - first % slice_ms
    at = {feed.topic: 0 for feed in feeds}
    published = 0
    flush_until = max((model.label.max_delay_ms for model in plan.models.values()), default=0) + slice_ms
    while begin <= last + flush_until:
        end = begin + slice_ms
        for feed in feeds:
            stop = int(np.searchsorted(feed.available_ms, end))
            for chunk in range(at[feed.topic], stop, _CHUNK):
                _publish(sink, feed, chunk, min(stop, chunk + _CHUNK))
            published += stop - at[feed.topic]
            at[feed.topic] = stop
        for stream in plan.streams.values():
            for partition in range(plan.application.partitions):
                sink.publish(stream.topic, _HEARTBEAT, None, end, partition)
        sink.flush(60)
        wait_until_covered(plan, watch, end, partial(on_progress, end, published))
        begin = end
    return begin


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
            f"expected a run whose journal has not reached {_text(first)}, when the data set begins; this one stands at {_text(covered)}."
            " Either it runs on the live clock (start it with `tidemill up APPLICATION --clock replay`), or it has been fed already"
            " (remove its folder, or let `tidemill replay --up` make a fresh run), or publish live with --rate."
        )


def _publish(sink: Sink, feed: Feed, begin: int, end: int) -> None:
    keys, values = feed.records(begin, end)
    for key, value, available in zip(keys, values, feed.available_ms[begin:end].tolist(), strict=True):
        sink.publish(feed.topic, key, value, available)


def _text(instant: int) -> str:
    return f"{np.datetime64(instant, 'ms')}Z"
