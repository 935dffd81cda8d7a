"""The join of a whole batch: column by column where rows are as they usually are, row by row where one is not."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, repeat
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.equal_lengths import require_equal_lengths
from tidemill.services.outcomes.domain.join import NEVER, ModelState, Outcome, OutcomeJoin
from tidemill.services.outcomes.domain.join_batch import INVALID_LABEL, LABEL, PAIR, REQUEST, TICK, JoinBatch, ModelBatch
from tidemill.services.outcomes.domain.request import Pair
from tidemill.services.outcomes.domain.request_table import LABELLED, OPEN, STATUSES, TIMEOUT

Int64 = NDArray[np.int64]
LEAST_ROWS = 96
"""Neighbouring rows that are worth being joined as columns: fewer cost less row by row."""
_GIVEN_UP, _LABELLED = 0, 1


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A model's part of a batch, the number of the request of each label, and that request's journal time; only those of usual rows hold."""

    batch: ModelBatch
    row: Int64
    asked_ms: Int64


class _Ended(NamedTuple):
    """An outcome, and what orders it among those of other models: the place, and what happens there first."""

    place: int
    phase: int
    outcome: Outcome


class BulkJoin:
    """Joins batches as `OutcomeJoin` joins row by row: the same outcomes and the same state.

    A row is usual when what becomes of it does not depend on the rows before it but through what columns tell: a request with an id of its own that
    nobody has told a label of; the label of a request that is known. Requests may wait, time out and be forgotten. All else goes row by row, and so
    does every row of a batch, or between two such, that is too short: early labels, ids that come again, corrections that count, invalid labels,
    numbers of more classes than before.

    Parameters
    ----------
    join
        Holds the state.
    """

    def __init__(self, join: OutcomeJoin) -> None:
        self._join = join

    def absorb(self, batch: JoinBatch) -> list[Outcome]:
        """Take up a batch, and return what becomes of requests, in order."""
        end = len(batch)
        if end < LEAST_ROWS or not all(_has_room(self._join.states[name], one) for name, one in batch.models.items()):
            return self._by_row(batch, 0, end)
        resolved = {name: _resolved(self._join.states[name], one) for name, one in batch.models.items()}
        unusual = {place for name, one in resolved.items() for place in _unusual(self._join.states[name], one, batch)}
        outcomes: list[Outcome] = []
        by_row = 0
        for before, after in pairwise([-1, *sorted(unusual), end]):
            if after - before - 1 < LEAST_ROWS:
                continue
            outcomes += self._by_row(batch, by_row, before + 1)
            place = before + 1
            while place < after:
                until = min(after, self._early_due(batch, place, after))
                outcomes += self._in_bulk(batch, resolved, place, until)
                # A record at which an early label is given up.
                place = min(after, until + 1)
                outcomes += self._by_row(batch, until, place)
            by_row = after
        return outcomes + self._by_row(batch, by_row, end)

    def _by_row(self, batch: JoinBatch, begin: int, end: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        if begin == end:
            return outcomes
        join, models = self._join, list(batch.models.items())
        for place, what, number, i in batch.rows(begin, end):
            at = batch.at(place)
            if what == TICK:
                outcomes += join.advance(at)
                continue
            model, own = models[number]
            if what == REQUEST:
                outcomes += join.request(model, own.requests.request(i), at)
            elif what == LABEL:
                outcomes += join.label(model, own.labels.request_id[i], own.labels.label(i), at)
            elif what == PAIR:
                join.pair(model, *own.pairs[i])
            elif what == INVALID_LABEL:
                join.invalid(model, own.invalid[i], at)
        return outcomes

    def _early_due(self, batch: JoinBatch, begin: int, end: int) -> int:
        """Return the first place in [begin, end) at which an early label is given up; `end` when there is none."""
        due_ms = min((state.early_due_ms() for state in self._join.states.values()), default=NEVER)
        first, last = np.searchsorted(batch.journal_place, (begin, end))
        places = batch.journal_place[first:last]
        later = int(np.searchsorted(batch.time_ms[places], due_ms, side="right"))
        return int(places[later]) if later < len(places) else end

    def _in_bulk(self, batch: JoinBatch, resolved: Mapping[str, _Resolved], begin: int, end: int) -> list[Outcome]:
        """Join the usual rows of a stretch."""
        ended: list[_Ended] = []
        first, last = np.searchsorted(batch.journal_place, (begin, end))
        journal = batch.journal_place[first:last]
        for name, state in self._join.states.items():
            if name in resolved:
                whole = resolved[name]
                own = whole.batch.within(begin, end)
                told = slice(*np.searchsorted(whole.batch.label_place, (begin, end)).tolist())
                _ask(state, own)
                ended += self._tell(state, batch, own, whole.row[told], whole.asked_ms[told])
            if len(journal):
                ended += _give_up(state, batch, journal)
        self._join.due_ms = min((state.due_ms for state in self._join.states.values()), default=NEVER)
        # In a stable sort those of one record stay in the order of the models.
        return [one.outcome for one in sorted(ended, key=itemgetter(0, 1))]

    def _tell(self, state: ModelState, batch: JoinBatch, own: ModelBatch, row: Int64, asked_ms: Int64) -> Iterator[_Ended]:
        """Join labels with their requests: the first that comes in time counts."""
        if not len(row):
            return
        time_ms = batch.time_ms[own.label_place]
        in_time = np.flatnonzero((time_ms - asked_ms <= state.policy.max_delay_ms) & np.isin(state.requests.statuses(row), OPEN))
        counts = np.sort(in_time[np.unique(row[in_time], return_index=True)[1]])
        self._join.ignored_labels += len(row) - len(counts)
        if not len(counts):
            return
        state.requests.set_all(row[counts], LABELLED)
        requests = state.requests.get_all(row[counts])
        state.touch_all(state.requests.offsets(row[counts]))
        places, delays = own.label_place[counts], (time_ms - asked_ms)[counts].tolist()
        labels = own.labels.of(counts)
        require_equal_lengths(places, requests, labels.value, delays)
        outcomes = map(
            Outcome, repeat(state.policy.model), batch.all_at(places), requests, repeat(STATUSES[LABELLED]), labels.all(), delays, repeat(0)
        )
        yield from map(_Ended, places.tolist(), repeat(_LABELLED), outcomes)


def _has_room(state: ModelState, one: ModelBatch) -> bool:
    numbers = max(map(len, one.requests.numbers), default=0)
    classes = max((len(pair.numbers) for _, pair in one.pairs), default=0)
    return state.requests.holds(numbers, classes if state.pair is None else max(classes, len(state.pair[1].numbers)))


def _resolved(state: ModelState, one: ModelBatch) -> _Resolved:
    """Find the requests of labels: those that are known, and those of the batch, which will be numbered from the present end on."""
    names, asked = one.labels.request_id, one.requests
    row = state.requests.find_all(names)
    asked_ms = np.zeros(len(row), np.int64)
    there = np.flatnonzero(row >= 0)
    asked_ms[there] = state.requests.times_ms(row[there])
    inside = {name: i for i, name in enumerate(asked.request_id)}
    unknown = [(i, inside[names[i]]) for i in np.flatnonzero(row < 0).tolist() if names[i] in inside]
    if unknown:
        labels, requests = np.array(unknown, np.int64).T
        follows = one.request_place[requests] < one.label_place[labels]
        row[labels[follows]] = state.requests.end + requests[follows]
        asked_ms[labels[follows]] = asked.time_ms[requests[follows]]
    return _Resolved(one, row, asked_ms)


def _unusual(state: ModelState, resolved: _Resolved, batch: JoinBatch) -> list[int]:
    """Return the places of rows that have to be joined by themselves, and of all others with their ids."""
    one, row, policy = resolved.batch, resolved.row, state.policy
    ids, names = one.requests.request_id, one.labels.request_id
    age_ms = batch.time_ms[one.label_place] - resolved.asked_ms
    stray = (row < 0) | (age_ms > 2 * policy.max_delay_ms)
    if policy.last_correction_wins:
        known = np.flatnonzero((row >= 0) & (row < state.requests.end))
        closed = np.zeros(len(row), np.bool_)
        closed[known] = ~np.isin(state.requests.statuses(row[known]), OPEN)
        _, which, counts = np.unique(row, return_inverse=True, return_counts=True)
        stray |= closed | (age_ms > policy.max_delay_ms) | (counts[which] > 1)
    strange = {names[i] for i in np.flatnonzero(stray).tolist()} | set(one.invalid)
    strange |= {ids[i] for i in np.flatnonzero(state.requests.find_all(ids) >= 0).tolist()}
    if len(set(ids)) < len(ids):
        strange |= {name for name, count in Counter(ids).items() if count > 1}
    if len(state.early):
        strange |= {name for name in ids if state.early.waits_for(name)}
    if not strange:
        return []
    columns = ((ids, one.request_place), (names, one.label_place), (one.invalid, one.invalid_place))
    return [place for some, places in columns for name, place in zip(some, places.tolist(), strict=True) if name in strange]


def _ask(state: ModelState, own: ModelBatch) -> None:
    """Remember requests, each with the pair that came right before it."""
    count = len(own.requests)
    pairs: list[Pair | None] = [None] * count
    if state.pair is not None or own.pairs:
        last = np.searchsorted(own.pair_place, own.request_place).tolist()
        for i, (before, until, offset) in enumerate(zip([0, *last], last, own.requests.offset.tolist(), strict=False)):
            came = own.pairs[until - 1] if until > before else state.pair if i == 0 else None
            if came is not None and came[0] == offset:
                pairs[i] = came[1]
        if len(own.pairs) > (last[-1] if count else 0):
            state.pair = own.pairs[-1]
        elif count:
            state.pair = None
    if count:
        state.requests.extend(own.requests, pairs)
        state.touch_all(own.requests.offset)
        state.due_ms = min(state.due_ms, int(own.requests.time_ms[0]) + state.policy.max_delay_ms)


def _give_up(state: ModelState, batch: JoinBatch, journal: Int64) -> Iterator[_Ended]:
    """Time out and forget what the journal records of a stretch leave behind; no early label is due."""
    times, requests, delay_ms = batch.time_ms[journal], state.requests, state.policy.max_delay_ms
    now_ms = int(times[-1])
    if now_ms <= state.due_ms:
        return
    end = requests.first_from(now_ms - delay_ms, state.pending)
    rows = np.arange(state.pending, end)
    rows = rows[np.isin(requests.statuses(rows), OPEN)]
    state.pending = end
    if len(rows):
        expires_ms = requests.times_ms(rows) + delay_ms
        places = journal[np.searchsorted(times, expires_ms, side="right")].tolist()
        waited = zip(places, requests.get_all(rows), requests.statuses(rows).tolist(), expires_ms.tolist(), strict=True)
        for place, request, status, expiry_ms in waited:
            label = state.silence(request, status, expiry_ms)
            yield _Ended(place, _GIVEN_UP, Outcome(state.policy.model, batch.at(place), request, STATUSES[TIMEOUT], label, None, 0))
        requests.set_all(rows, TIMEOUT)
        state.touch_all(requests.offsets(rows))
    forgotten = requests.first_from(now_ms - 2 * delay_ms, requests.first)
    state.touch_all(requests.offsets(np.arange(requests.first, forgotten)))
    requests.forget_until(forgotten)
    state.due_ms = state.next_due_ms()
