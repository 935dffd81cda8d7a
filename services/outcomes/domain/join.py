"""The join of predictions with what turned out to be true: either may come first, some truths never come, some are corrected."""

import json
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CHUNK_REQUESTS = 256
_EARLY = "early"


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
    status: str = "pending"
    revision: int = 0


@dataclass(slots=True)
class _Early:
    """A label that came before its request."""

    request_id: str
    label: Label
    at: At


@dataclass(slots=True)
class _ModelState:
    policy: JoinPolicy
    requests: dict[str, _Waiting] = field(default_factory=dict)
    pending: deque[str] = field(default_factory=deque)
    known: deque[str] = field(default_factory=deque)
    early: dict[str, list[_Early]] = field(default_factory=dict)
    early_order: deque[_Early] = field(default_factory=deque)
    dirty_chunks: set[int] = field(default_factory=set)
    early_is_dirty: bool = False


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
        state.requests[request.request_id] = _Waiting(request)
        state.pending.append(request.request_id)
        state.known.append(request.request_id)
        state.dirty_chunks.add(request.offset // CHUNK_REQUESTS)
        outcomes: list[Outcome] = []
        for early in state.early.pop(request.request_id, ()):
            state.early_is_dirty = True
            outcomes += self._labelled(state, request.request_id, early.label, at, early.at.time_ms)
        return outcomes

    def label(self, model: str, request_id: str, label: Label, at: At) -> list[Outcome]:
        """Take up a truth."""
        state = self._models[model]
        if request_id in state.requests:
            return self._labelled(state, request_id, label, at, at.time_ms)
        early = _Early(request_id, label, at)
        state.early.setdefault(request_id, []).append(early)
        state.early_order.append(early)
        state.early_is_dirty = True
        return []

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
            if state.early_is_dirty:
                waiting = [
                    [early.request_id, *early.label, *early.at] for early in state.early_order if early in state.early.get(early.request_id, ())
                ]
                changed[f"{name}/{_EARLY}"] = _pack(waiting)
            rows: dict[int, list[Any]] = {chunk: [] for chunk in state.dirty_chunks}
            for identity in state.known if rows else ():
                kept = state.requests[identity]
                chunk = kept.request.offset // CHUNK_REQUESTS
                if chunk in rows:
                    rows[chunk].append([*kept.request, kept.status, kept.revision])
            for chunk, content in rows.items():
                changed[f"{name}/{chunk}"] = _pack(content) if content else None
            state.early_is_dirty = False
            state.dirty_chunks.clear()
        return changed

    def load(self, blobs: Mapping[str, bytes]) -> None:
        """Take up the state that successive snapshots add up to."""
        chunks: dict[str, list[tuple[int, bytes]]] = {}
        for key, blob in blobs.items():
            name, part = key.split("/")
            state = self._models.get(name)
            if state is None:
                continue
            if part == _EARLY:
                for identity, value, event_time, *at in _unpack(blob):
                    early = _Early(identity, Label(value, event_time), At(*at))
                    state.early.setdefault(identity, []).append(early)
                    state.early_order.append(early)
            else:
                chunks.setdefault(name, []).append((int(part), blob))
        for name, parts in chunks.items():
            state = self._models[name]
            for _, blob in sorted(parts):
                for *request, status, revision in _unpack(blob):
                    kept = _Waiting(Request(*request), status, revision)
                    state.requests[kept.request.request_id] = kept
                    state.known.append(kept.request.request_id)
                    if status == "pending":
                        state.pending.append(kept.request.request_id)

    def _labelled(self, state: _ModelState, identity: str, label: Label, at: At, label_time_ms: int) -> list[Outcome]:
        waiting = state.requests[identity]
        if waiting.status != "pending" and not state.policy.last_correction_wins:
            self.ignored_labels += 1
            return []
        revision = 0 if waiting.status == "pending" else waiting.revision + 1
        status = "labelled" if waiting.status == "pending" else "corrected"
        waiting.status, waiting.revision = status, revision
        state.dirty_chunks.add(waiting.request.offset // CHUNK_REQUESTS)
        return [Outcome(state.policy.model, at, waiting.request, status, label, label_time_ms - waiting.request.time_ms, revision)]

    def _time_out(self, state: _ModelState, at: At) -> list[Outcome]:
        outcomes: list[Outcome] = []
        delay = state.policy.max_delay_ms
        while state.pending:
            waiting = state.requests[state.pending[0]]
            if waiting.status == "pending":
                if waiting.request.time_ms + delay >= at.time_ms:
                    break
                waiting.status = "timeout"
                state.dirty_chunks.add(waiting.request.offset // CHUNK_REQUESTS)
                value = state.policy.timeout_label
                label = None if value is None else Label(value, waiting.request.time_ms + delay)
                outcomes.append(Outcome(state.policy.model, at, waiting.request, "timeout", label, None, 0))
            state.pending.popleft()
        while state.known and state.requests[state.known[0]].request.time_ms + 2 * delay < at.time_ms:
            forgotten = state.requests.pop(state.known.popleft())
            state.dirty_chunks.add(forgotten.request.offset // CHUNK_REQUESTS)
        while state.early_order and state.early_order[0].at.time_ms + delay < at.time_ms:
            early = state.early_order.popleft()
            same = state.early.get(early.request_id, [])
            if early in same:
                same.remove(early)
                if not same:
                    del state.early[early.request_id]
                state.early_is_dirty = True
                outcomes.append(Outcome(state.policy.model, at, _nobody(early.request_id), "unmatched", early.label, None, 0))
        return outcomes


def _nobody(request_id: str) -> Request:
    """Stand for a request that never came."""
    return Request(request_id, -1, -1, -1, float("nan"), 0, "", -1, "")


def _pack(rows: Sequence[Any]) -> bytes:
    return zlib.compress(json.dumps(rows).encode(), 1)


def _unpack(blob: bytes) -> list[Any]:
    rows: list[Any] = json.loads(zlib.decompress(blob))
    return rows
