"""The join of predictions with what turned out to be true: either may come first, some truths never come, some are corrected."""

import json
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.early_labels import EarlyLabels
from tidemill.services.outcomes.domain.request import At, Pair, Request, TimedLabel
from tidemill.services.outcomes.domain.request_table import CORRECTED, INVALID, LABELLED, OPEN, PENDING, STATUSES, TIMEOUT, RequestTable

CHUNK_REQUESTS = 256
"""Journal offsets whose requests, or early labels, make one entry of the checkpoint."""
_EARLY = "early-"
_PAIR = "pair"
NEVER = sys.maxsize
"""No journal time comes after it."""
_NO_LABEL = TimedLabel(float("nan"), 0)  # stands among early labels for a truth that was none


@dataclass(frozen=True, slots=True)
class JoinPolicy:
    """How one model's truth is waited for.

    Attributes
    ----------
    timeout_label
        Label of a request whose truth never came; None leaves it unlabelled.
    last_correction_wins
        False: the first label stays; True: every further one makes a new revision.
    numbers, classes
        How many numbers a request has beside its score, and a pair. Of a model that learns its classes 0: as many as come.
    has_control_share
        The last two of them are the propensity of the label and whether the request is in the control share. Silence about a request whose answer
        has hidden its label is no label.
    """

    model: str
    max_delay_ms: int
    timeout_label: float | None = None
    last_correction_wins: bool = False
    numbers: int = 0
    classes: int = 0
    has_control_share: bool = False


class Outcome(NamedTuple):
    """What became of a request: the columns of `tidemill.Outcome` that are not the request's."""

    model: str
    at: At
    request: Request
    status: str
    label: TimedLabel | None
    delay_ms: int | None
    revision: int


@dataclass(slots=True)
class ModelState:
    """Requests of one model, labels that came before theirs, and what of both has changed since it was last written."""

    policy: JoinPolicy
    requests: RequestTable
    early: EarlyLabels = field(default_factory=EarlyLabels)
    pending: int = 0
    """The oldest request that may still be open; older ones are not."""
    due_ms: int = NEVER
    """Nothing is to be given up before this journal time has passed."""
    dirty_requests: set[int] = field(default_factory=set)
    dirty_early: set[int] = field(default_factory=set)
    pair: tuple[int, Pair] | None = None
    """The last pair, and the journal offset of its request, while that request has not come."""
    pair_is_written: bool = False

    def touch(self, request_offset: int) -> None:
        """Note that a request changed."""
        self.dirty_requests.add(request_offset // CHUNK_REQUESTS)

    def touch_all(self, request_offsets: NDArray[np.int64]) -> None:
        """Note that requests changed."""
        self.dirty_requests.update(np.unique(request_offsets // CHUNK_REQUESTS).tolist())

    def touch_early(self, label_offset: int) -> None:
        """Note that an early label came, or waits no longer."""
        self.dirty_early.add(label_offset // CHUNK_REQUESTS)

    def keep_request(self, request: Request, status: int = PENDING, revision: int = 0) -> bool:
        """Remember a request; False if there is one with its id."""
        self.due_ms = min(self.due_ms, request.time_ms + self.policy.max_delay_ms)
        numbers, classes = len(request.numbers), len(request.pair.numbers) if request.pair is not None else 0
        if not self.requests.holds(numbers, classes):
            self.pending -= self.requests.first
            self.requests = self.requests.widened(numbers, classes)
        return self.requests.add(request, status, revision)

    def spoil(self, row: int) -> None:
        """Note that a request that waits has got a truth that is no label."""
        request, status, revision = self.requests.get(row)
        if status == PENDING:
            self.requests.set(row, INVALID, revision)
            self.touch(request.offset)

    def silence(self, request: Request, status: int, expires_ms: int) -> TimedLabel | None:
        """Return the label of a request that has waited in vain; None leaves it unlabelled."""
        # A truth came, but none that counts: silence, which may mean something, it was not.
        value = None if status == INVALID or (self.policy.has_control_share and _is_hidden(request)) else self.policy.timeout_label
        return None if value is None else TimedLabel(value, expires_ms)

    def early_due_ms(self) -> int:
        """Return the journal time after which the oldest early label is given up."""
        return self.early.oldest()[0].time_ms + self.policy.max_delay_ms if len(self.early) else NEVER

    def next_due_ms(self) -> int:
        """Return the journal time until which there is nothing to be given up or forgotten, as far as the oldest tell."""
        due, delay = self.early_due_ms(), self.policy.max_delay_ms
        if self.pending < self.requests.end:
            due = min(due, self.requests.time_ms(self.pending) + delay)
        return min(due, self.requests.oldest()[1] + 2 * delay) if len(self.requests) else due

    def keep_early(self, identity: str, label: TimedLabel, at: At) -> None:
        """Remember a label whose request has not come."""
        self.due_ms = min(self.due_ms, at.time_ms + self.policy.max_delay_ms)
        self.early.add(identity, label, at)


class OutcomeJoin:
    """Joins requests and labels of all models in journal order. Pure, replay-safe; time is journal time.

    A request is known from its prediction until twice the maximum delay later: within the first it waits for its label and then
    times out; within the second a late label is still recognised as belonging to it (and is a correction, or is ignored).
    A label that comes before its request waits for it as long as a request would wait for a label, then is reported unmatched.

    Attributes
    ----------
    states
        By model.
    due_ms
        `advance` has nothing to do before this journal time has passed.
    """

    def __init__(self, policies: Iterable[JoinPolicy]) -> None:
        self.states = {policy.model: ModelState(policy, RequestTable(policy.numbers, policy.classes)) for policy in policies}
        self.ignored_labels = 0
        self.due_ms = NEVER

    def pair(self, model: str, offset: int, pair: Pair) -> None:
        """Take up what the other one of champion and challenger said of the request that comes next."""
        state = self.states.get(model)
        if state is not None:
            state.pair = offset, pair

    def request(self, model: str, request: Request, at: At) -> list[Outcome]:
        """Take up a prediction; its label may be waiting already. One of a model that the application has no more waits for nothing."""
        state = self.states.get(model)
        if state is None:
            return []
        if state.pair is not None:
            offset, pair = state.pair
            request, state.pair = request._replace(pair=pair) if offset == request.offset else request, None
        if not state.keep_request(request):
            raise ValueError(f"model {model}: expected one prediction per request, found a second one for {request.request_id} at {at}")
        self.due_ms = min(self.due_ms, state.due_ms)
        state.touch(request.offset)
        outcomes: list[Outcome] = []
        for label, label_at in state.early.take(request.request_id):
            state.touch_early(label_at.offset)
            if _is_label(label):
                outcomes += self._labelled(state, state.requests.end - 1, label, at, label_at.time_ms)
            else:
                state.spoil(state.requests.end - 1)
        return outcomes

    def label(self, model: str, request_id: str, label: TimedLabel, at: At) -> list[Outcome]:
        """Take up a truth."""
        state = self.states[model]
        row = state.requests.find(request_id)
        if row is not None:
            return self._labelled(state, row, label, at, at.time_ms)
        self._keep_early(state, request_id, label, at)
        return []

    def invalid(self, model: str, request_id: str, at: At) -> None:
        """Take note that a truth came which is no label: a request that waits for one, or comes later, will not be taken to have met silence."""
        state = self.states[model]
        row = state.requests.find(request_id)
        if row is not None:
            state.spoil(row)
        elif state.policy.timeout_label is not None:
            self._keep_early(state, request_id, _NO_LABEL, at)

    def advance(self, at: At) -> list[Outcome]:
        """Time out and forget what journal time has left behind; call with every journal record later than `due_ms`, ticks included."""
        if at.time_ms <= self.due_ms:
            return []
        outcomes: list[Outcome] = []
        for state in self.states.values():
            if at.time_ms > state.due_ms:
                outcomes += self._time_out(state, at)
        self.due_ms = min((state.due_ms for state in self.states.values()), default=NEVER)
        return outcomes

    def snapshot(self) -> dict[str, bytes | None]:
        """Return what has changed since the last call, by key; None deletes."""
        changed: dict[str, bytes | None] = {}
        for name, state in self.states.items():
            for chunk in state.dirty_requests:
                rows = state.requests.between(chunk * CHUNK_REQUESTS, (chunk + 1) * CHUNK_REQUESTS)
                changed[f"{name}/{chunk}"] = _pack(rows) if rows else None
            for chunk in state.dirty_early:
                rows = state.early.between(chunk * CHUNK_REQUESTS, (chunk + 1) * CHUNK_REQUESTS)
                changed[f"{name}/{_EARLY}{chunk}"] = _pack(rows) if rows else None
            if state.pair is not None or state.pair_is_written:
                changed[f"{name}/{_PAIR}"] = None if state.pair is None else _pack(state.pair)
                state.pair_is_written = state.pair is not None
            state.dirty_requests.clear()
            state.dirty_early.clear()
        return changed

    def load(self, blobs: Mapping[str, bytes]) -> None:
        """Take up the state that successive snapshots add up to."""
        requests: list[tuple[str, int, bytes]] = []
        early: list[tuple[str, int, bytes]] = []
        for key, blob in blobs.items():
            name, part = key.split("/")
            if name not in self.states:
                continue
            if part == _PAIR:
                offset, pair = _unpack(blob)
                self.states[name].pair, self.states[name].pair_is_written = (offset, _pair(pair)), True
            else:
                (early if part.startswith(_EARLY) else requests).append((name, int(part.removeprefix(_EARLY)), blob))
        for name, _, blob in sorted(requests):
            state = self.states[name]
            for row in _unpack(blob):
                pair = _pair(row.pop()) if isinstance(row[-1], list) else None
                *request, status, revision = row
                numbers = tuple(request.pop()) if isinstance(request[-1], list) else ()
                state.keep_request(Request._make((*request, numbers, pair)), STATUSES.index(status), revision)
        for name, _, blob in sorted(early):
            state = self.states[name]
            for identity, time_ms, partition, offset, value, event_time, label_name in _unpack(blob):
                state.keep_early(identity, TimedLabel(value, event_time, label_name), At(time_ms, partition, offset))
        self.due_ms = min((state.due_ms for state in self.states.values()), default=NEVER)

    def _keep_early(self, state: ModelState, request_id: str, label: TimedLabel, at: At) -> None:
        state.keep_early(request_id, label, at)
        self.due_ms = min(self.due_ms, state.due_ms)
        state.touch_early(at.offset)

    def _labelled(self, state: ModelState, row: int, label: TimedLabel, at: At, label_time_ms: int) -> list[Outcome]:
        request, status, revision = state.requests.get(row)
        if status not in OPEN and not state.policy.last_correction_wins:
            self.ignored_labels += 1
            return []
        status, revision = (LABELLED, 0) if status in OPEN else (CORRECTED, revision + 1)
        state.requests.set(row, status, revision)
        state.touch(request.offset)
        return [Outcome(state.policy.model, at, request, STATUSES[status], label, label_time_ms - request.time_ms, revision)]

    def _time_out(self, state: ModelState, at: At) -> list[Outcome]:
        outcomes: list[Outcome] = []
        delay, requests, early = state.policy.max_delay_ms, state.requests, state.early
        due = []
        while state.pending < requests.end:
            if requests.status(state.pending) in OPEN:
                expires_ms = requests.time_ms(state.pending) + delay
                if expires_ms >= at.time_ms:
                    due.append(expires_ms)
                    break
                request, status, revision = requests.get(state.pending)
                requests.set(state.pending, TIMEOUT, revision)
                state.touch(request.offset)
                label = state.silence(request, status, expires_ms)
                outcomes.append(Outcome(state.policy.model, at, request, STATUSES[TIMEOUT], label, None, 0))
            state.pending += 1
        while len(requests):
            offset, time_ms = requests.oldest()
            if time_ms + 2 * delay >= at.time_ms:
                due.append(time_ms + 2 * delay)
                break
            state.touch(offset)
            requests.forget_oldest()
        while len(early):
            label_at, waits = early.oldest()
            if label_at.time_ms + delay >= at.time_ms:
                due.append(label_at.time_ms + delay)
                break
            given_up = early.give_up_oldest()
            if waits:
                state.touch_early(label_at.offset)
                identity, label = given_up
                if _is_label(label):
                    outcomes.append(Outcome(state.policy.model, at, _nobody(identity), "unmatched", label, None, 0))
        state.due_ms = min(due, default=NEVER)
        return outcomes


def _is_label(label: TimedLabel) -> bool:
    """Whether it is one: a learned class has a name and no number."""
    return bool(label.name) or label.value == label.value


def _is_hidden(request: Request) -> bool:
    *_, propensity, is_control = request.numbers
    return propensity < 1.0 and not is_control


def _nobody(request_id: str) -> Request:
    """Stand for a request that never came."""
    return Request(request_id, -1, -1, -1, float("nan"), 0, "", -1, "")


def _pair(fields: Sequence[Any]) -> Pair:
    version, sequence, score, predicted, numbers, slices, share, stage, draw = fields
    return Pair(version, sequence, score, predicted, tuple(numbers), slices, share, stage, draw)


def _pack(rows: Sequence[Any]) -> bytes:
    return zlib.compress(json.dumps(rows).encode(), 1)


def _unpack(blob: bytes) -> list[Any]:
    rows: list[Any] = json.loads(zlib.decompress(blob))
    return rows
