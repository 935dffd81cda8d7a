"""The join of predictions with what turned out to be true: either may come first, some truths never come, some are corrected."""

import json
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

CHUNK_REQUESTS = 256
"""Journal offsets whose requests, or early labels, make one entry of the checkpoint."""
_EARLY = "early-"
_PENDING, _INVALID = "pending", "invalid"
_OPEN = (_PENDING, _INVALID)
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class JoinPolicy:
    """How one model's truth is waited for.

    Attributes
    ----------
    timeout_label
        Label of a request whose truth never came; None leaves it unlabelled.
    last_correction_wins
        False: the first label stays; True: every further one makes a new revision.
    """

    model: str
    max_delay_ms: int
    timeout_label: float | None = None
    last_correction_wins: bool = False


class At(NamedTuple):
    """Journal coordinates of what is being worked on."""

    time_ms: int
    partition: int
    offset: int


class Request(NamedTuple):
    """A prediction as it was served."""

    request_id: str
    offset: int
    time_ms: int
    event_time_ms: int
    score: float
    predicted: int
    model_version: str
    deployment_sequence: int
    variant: str


class Label(NamedTuple):
    """A truth and when it happened."""

    value: float
    event_time_ms: int


class Outcome(NamedTuple):
    """What became of a request: the columns of `tidemill.Outcome` that are not the request's."""

    model: str
    at: At
    request: Request
    status: str
    label: Label | None
    delay_ms: int | None
    revision: int


@dataclass(slots=True)
class _Waiting:
    request: Request
    status: str = _PENDING
    revision: int = 0


@dataclass(slots=True, eq=False)
class _Early:
    """A label that came before its request; it waits until that comes or the label is given up."""

    request_id: str
    label: Label
    at: At
    waits: bool = True


@dataclass(slots=True)
class _ModelState:
    policy: JoinPolicy
    requests: dict[str, _Waiting] = field(default_factory=dict)
    pending: deque[str] = field(default_factory=deque)
    known: deque[str] = field(default_factory=deque)
    early: dict[str, deque[_Early]] = field(default_factory=dict)
    early_order: deque[_Early] = field(default_factory=deque)
    request_chunks: dict[int, list[_Waiting]] = field(default_factory=dict)
    early_chunks: dict[int, list[_Early]] = field(default_factory=dict)
    dirty_requests: set[int] = field(default_factory=set)
    dirty_early: set[int] = field(default_factory=set)

    def touch(self, waiting: _Waiting) -> None:
        """Note that a request changed."""
        self.dirty_requests.add(waiting.request.offset // CHUNK_REQUESTS)

    def settle(self, early: _Early) -> None:
        """Note that an early label waits no longer."""
        early.waits = False
        self.dirty_early.add(early.at.offset // CHUNK_REQUESTS)

    def keep_request(self, waiting: _Waiting) -> None:
        """Remember a request."""
        self.requests[waiting.request.request_id] = waiting
        self.known.append(waiting.request.request_id)
        self.request_chunks.setdefault(waiting.request.offset // CHUNK_REQUESTS, []).append(waiting)

    def keep_early(self, early: _Early) -> None:
        """Remember a label whose request has not come."""
        self.early.setdefault(early.request_id, deque()).append(early)
        self.early_order.append(early)
        self.early_chunks.setdefault(early.at.offset // CHUNK_REQUESTS, []).append(early)


class OutcomeJoin:
    """Joins requests and labels of all models in journal order. Pure, replay-safe; time is journal time.

    A request is known from its prediction until twice the maximum delay later: within the first it waits for its label and then
    times out; within the second a late label is still recognised as belonging to it (and is a correction, or is ignored).
    A label that comes before its request waits for it as long as a request would wait for a label, then is reported unmatched.
    """

    def __init__(self, policies: Iterable[JoinPolicy]) -> None:
        self._models = {policy.model: _ModelState(policy) for policy in policies}
        self.ignored_labels = 0

    def request(self, model: str, request: Request, at: At) -> list[Outcome]:
        """Take up a prediction; its label may be waiting already."""
        state = self._models[model]
        if request.request_id in state.requests:
            raise ValueError(f"model {model}: expected one prediction per request, found a second one for {request.request_id} at {at}")
        waiting = _Waiting(request)
        state.keep_request(waiting)
        state.pending.append(request.request_id)
        state.touch(waiting)
        outcomes: list[Outcome] = []
        for early in state.early.pop(request.request_id, ()):
            state.settle(early)
            outcomes += self._labelled(state, request.request_id, early.label, at, early.at.time_ms)
        return outcomes

    def label(self, model: str, request_id: str, label: Label, at: At) -> list[Outcome]:
        """Take up a truth."""
        state = self._models[model]
        if request_id in state.requests:
            return self._labelled(state, request_id, label, at, at.time_ms)
        state.keep_early(_Early(request_id, label, at))
        state.dirty_early.add(at.offset // CHUNK_REQUESTS)
        return []

    def invalid(self, model: str, request_id: str) -> None:
        """Take note that a truth came which is no label: a request that still waits for one will not be taken to have met silence."""
        state = self._models[model]
        waiting = state.requests.get(request_id)
        if waiting is not None and waiting.status == _PENDING:
            waiting.status = _INVALID
            state.touch(waiting)

    def advance(self, at: At) -> list[Outcome]:
        """Time out and forget what journal time has left behind; call with every journal record, ticks included."""
        outcomes: list[Outcome] = []
        for state in self._models.values():
            outcomes += self._time_out(state, at)
        return outcomes

    def snapshot(self) -> dict[str, bytes | None]:
        """Return what has changed since the last call, by key; None deletes."""
        changed: dict[str, bytes | None] = {}
        for name, state in self._models.items():
            for chunk in state.dirty_requests:
                requests = [one for one in state.request_chunks.get(chunk, ()) if state.requests.get(one.request.request_id) is one]
                rows = [[*one.request, one.status, one.revision] for one in requests]
                changed[f"{name}/{chunk}"] = _pack(rows) if rows else None
                _replace(state.request_chunks, chunk, requests)
            for chunk in state.dirty_early:
                waiting = [early for early in state.early_chunks.get(chunk, ()) if early.waits]
                rows = [[early.request_id, *early.label, *early.at] for early in waiting]
                changed[f"{name}/{_EARLY}{chunk}"] = _pack(rows) if rows else None
                _replace(state.early_chunks, chunk, waiting)
            state.dirty_requests.clear()
            state.dirty_early.clear()
        return changed

    def load(self, blobs: Mapping[str, bytes]) -> None:
        """Take up the state that successive snapshots add up to."""
        requests: list[tuple[str, int, bytes]] = []
        early: list[tuple[str, int, bytes]] = []
        for key, blob in blobs.items():
            name, part = key.split("/")
            if name in self._models:
                (early if part.startswith(_EARLY) else requests).append((name, int(part.removeprefix(_EARLY)), blob))
        for name, _, blob in sorted(requests):
            for *request, status, revision in _unpack(blob):
                self._models[name].keep_request(_Waiting(Request(*request), status, revision))
                if status in _OPEN:
                    self._models[name].pending.append(request[0])
        for name, _, blob in sorted(early):
            for identity, value, event_time, *at in _unpack(blob):
                self._models[name].keep_early(_Early(identity, Label(value, event_time), At(*at)))

    def _labelled(self, state: _ModelState, identity: str, label: Label, at: At, label_time_ms: int) -> list[Outcome]:
        waiting = state.requests[identity]
        if waiting.status not in _OPEN and not state.policy.last_correction_wins:
            self.ignored_labels += 1
            return []
        revision = 0 if waiting.status in _OPEN else waiting.revision + 1
        status = "labelled" if waiting.status in _OPEN else "corrected"
        waiting.status, waiting.revision = status, revision
        state.touch(waiting)
        return [Outcome(state.policy.model, at, waiting.request, status, label, label_time_ms - waiting.request.time_ms, revision)]

    def _time_out(self, state: _ModelState, at: At) -> list[Outcome]:
        outcomes: list[Outcome] = []
        delay = state.policy.max_delay_ms
        while state.pending:
            waiting = state.requests[state.pending[0]]
            if waiting.status in _OPEN:
                if waiting.request.time_ms + delay >= at.time_ms:
                    break
                # A truth came, but none that counts: silence, which may mean something, it was not.
                value = None if waiting.status == _INVALID else state.policy.timeout_label
                waiting.status = "timeout"
                state.touch(waiting)
                label = None if value is None else Label(value, waiting.request.time_ms + delay)
                outcomes.append(Outcome(state.policy.model, at, waiting.request, "timeout", label, None, 0))
            state.pending.popleft()
        while state.known and state.requests[state.known[0]].request.time_ms + 2 * delay < at.time_ms:
            state.touch(state.requests.pop(state.known.popleft()))
        while state.early_order and state.early_order[0].at.time_ms + delay < at.time_ms:
            early = state.early_order.popleft()
            if early.waits:
                state.settle(early)
                # Labels of one request wait in the order in which they are given up.
                same = state.early[early.request_id]
                same.popleft()
                if not same:
                    del state.early[early.request_id]
                outcomes.append(Outcome(state.policy.model, at, _nobody(early.request_id), "unmatched", early.label, None, 0))
        return outcomes


def _nobody(request_id: str) -> Request:
    """Stand for a request that never came."""
    return Request(request_id, -1, -1, -1, float("nan"), 0, "", -1, "")


def _replace(chunks: dict[int, list[_Row]], chunk: int, rows: list[_Row]) -> None:
    if rows:
        chunks[chunk] = rows
    else:
        chunks.pop(chunk, None)


def _pack(rows: Sequence[Any]) -> bytes:
    return zlib.compress(json.dumps(rows).encode(), 1)


def _unpack(blob: bytes) -> list[Any]:
    rows: list[Any] = json.loads(zlib.decompress(blob))
    return rows
