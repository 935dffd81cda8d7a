"""Watches the declared slices of one model: their quality, their values, what they bring."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.data_quality import QualityBounds
from tidemill.services.drift.domain.findings import Coordinates, Finding, Kind, condition_of
from tidemill.services.drift.domain.measured import has_few_values, has_few_whole_numbers
from tidemill.services.drift.domain.rows import Float64, Int64, OutcomeRows
from tidemill.services.drift.domain.shifts import Summary
from tidemill.services.drift.domain.slice_labels import LEAST_LABELS, SliceLabels, slice_order
from tidemill.services.drift.domain.slice_names import SliceNames
from tidemill.services.drift.domain.slice_requests import SliceRequests
from tidemill.services.drift.domain.slice_streams import SliceStreams
from tidemill.services.drift.domain.slice_values import SliceValues, ValueBounds
from tidemill.services.drift.domain.stream_quality import StreamKind, words_of
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.statistics.histogram import Tally

_MOST_FINDINGS = 20
_Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What may be a finding."""

    kind: Kind
    subject: str
    part: str
    detector: str
    statistic: float
    bound: float
    told: str
    evidence: Mapping[str, float]

    @property
    def level(self) -> float:
        """Statistic over bound."""
        return self.statistic / self.bound


@dataclass(slots=True)
class SliceWatch:
    """Fold over one model's requests and outcomes by slice: the values of the columns that the application names (`slices`), 64 of all columns.

    A condition of a slice is not told where the whole has the same one, and at most 20 begin with a day, the strongest first.

    Attributes
    ----------
    lasting
        Levels of conditions that have begun, as they were when they were measured last: a small slice is not measured every day.
    figures
        By slice, of the window that is being closed; not part of the state.
    """

    settings: WatchSettings
    names: SliceNames = field(init=False)
    requests: SliceRequests = field(init=False)
    labels: SliceLabels = field(init=False)
    values: SliceValues = field(init=False)
    streams: SliceStreams = field(init=False)
    lasting: dict[tuple[str, str], float] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        own = self.settings
        self.names = SliceNames(own.slices)
        count = len(self.names.names)
        self.requests, self.labels = SliceRequests(len(own.slices)), SliceLabels(count)
        self.values, self.streams = SliceValues(own.features, count), SliceStreams(count)

    def vectors(self, partition: Int64, offset: Int64, batch: pa.RecordBatch, lag_ms: Float64, reference: Mapping[str, Summary]) -> None:
        """Take requests in order, with the milliseconds from the event time of each to its journal time."""
        codes = self.names.encode(batch)
        self.requests.add(partition, offset, codes)
        self.streams.requests(codes, lag_ms)
        self.values.absorb(batch, codes, reference)

    def outcomes(self, rows: OutcomeRows, labelled: _Bool, timeouts: _Bool) -> None:
        """Take outcomes in order: which are labels, and which say that none will come. Corrections are left out."""
        first = labelled & (rows.revision == 0)
        kind, ended = self.settings.kind, first | timeouts
        if not ended.any():
            return
        codes = self.requests.of(rows.at.partition[ended], rows.request[ended])
        came = codes[first[ended]]
        self.labels.absorb(kind, came, rows.label[first], rows.scores_of(kind, first), rows.predicted[first], rows.weight[first])
        known = ~np.isnan(rows.delay_ms[first])
        self.streams.labels(came[known], rows.delay_ms[first][known])
        self.streams.timeouts(codes[timeouts[ended]])

    def promote(self, before: Mapping[str, Summary]) -> None:
        """Take note of a new champion: what has been usual until now is what it is held against."""
        self.values.settle(before)
        self.values.promote()
        self.lasting.clear()

    def close(
        self,
        at: Coordinates,
        conditions: Conditions,
        day: int,
        reference: Mapping[str, Summary],
        usual: Mapping[str, QualityBounds],
        measured: Set[StreamKind],
    ) -> list[Finding]:
        """End a day, which is a measure of what is `measured` of the streams. Empty `usual`: nothing is judged."""
        self.values.settle(reference)
        codes = [code for code, name in enumerate(self.names.names) if name]
        today = {code: self.streams.figures(code) for code in codes}
        own, names = self.settings, self.names.names
        measures = self.values.close(self._bounds(reference, usual), self._active(conditions))
        candidates = [
            _Candidate(one.kind, one.feature, names[one.code], one.detector, one.statistic, one.bound, one.told, one.evidence) for one in measures
        ]
        for code, one in self.streams.close(day, codes, measured):
            stream = own.label_stream if one.kind.startswith("label") else own.ask
            evidence = {one.kind: one.value, "usual": one.usual}
            words = words_of(one, stream)
            candidates.append(_Candidate(one.kind, stream, names[code], "own_windows", one.distance, one.bound, words, evidence))
        self.labels.close()
        self._tell(codes, today)
        findings = self._hold(at, conditions, candidates) if usual else []
        freed = self.names.release(self.streams.stale())
        if freed:
            for part in (self.requests, self.labels, self.values, self.streams):
                part.forget(freed)
        return findings

    def _bounds(self, reference: Mapping[str, Summary], usual: Mapping[str, QualityBounds]) -> ValueBounds:
        own = self.settings
        return ValueBounds(
            outside={name: one.outside for name, one in usual.items() if name not in own.unbounded},
            missing_shift=own.missing_shift,
            categories={name for name, one in reference.items() if isinstance(one, Tally)},
            without_units=own.unbounded | own.shared | {name for name, one in reference.items() if has_few_values(one)},
            whole={name for name, one in reference.items() if has_few_whole_numbers(one)},
        )

    def _hold(self, at: Coordinates, conditions: Conditions, candidates: Sequence[_Candidate]) -> list[Finding]:
        """Return findings that begin; conditions that nobody measured today stay as they were."""
        measured = set()
        findings: list[Finding] = []
        for one in sorted(candidates, key=lambda one: (-one.level, one.kind, one.subject, one.part)):
            key, whole = (one.kind, condition_of(one.subject, one.part)), (one.kind, one.subject)
            measured.add(key)
            is_told = conditions.levels.get(whole, 0.0) > 1 or whole in conditions.active
            if key not in conditions.active and (one.level <= 1 or is_told or len(findings) == _MOST_FINDINGS):
                continue
            text = f"{one.subject} where {one.part}: {one.told}"
            findings += conditions.hold(at, one.kind, one.subject, one.detector, one.statistic, one.bound, text, one.evidence, part=one.part)
            self.lasting[key] = one.level
        self.lasting = {key: level for key, level in self.lasting.items() if key in conditions.active}
        conditions.levels |= {key: level for key, level in self.lasting.items() if key not in measured}
        return findings

    def _active(self, conditions: Conditions) -> set[tuple[str, str, int]]:
        """Return the conditions of slices that last: kind, subject and code."""
        code_of = {name: code for code, name in enumerate(self.names.names) if name}
        parts = [(kind, *condition.partition(" in ")) for kind, condition in conditions.active]
        return {(kind, subject, code_of[part]) for kind, subject, _, part in parts if part in code_of}

    def _tell(self, codes: Sequence[int], today: Mapping[int, Mapping[Any, float]]) -> None:
        """Make what `health` says of the slices: those with most labels first."""
        evidence: dict[str, dict[str, float]] = {}
        told: dict[str, dict[str, Any]] = {}
        for code in codes:
            name = self.names.names[code]
            figures = self.labels.figures(self.settings.kind, code)
            now = {
                "requests": today[code]["volume"],
                "freshness_ms": today[code]["freshness"],
                "label_delay_ms": today[code]["label_delay"],
                "label_share": today[code]["label_share"],
            }
            evidence[name] = figures | {key: value for key, value in now.items() if np.isfinite(value)}
            told[name] = {
                "slice": name,
                "judged": figures["labels"] >= LEAST_LABELS,
                "values_judged": self.values.judges(code),
                "metrics": evidence[name],
            }
        self.figures = [told[name] for name in slice_order(evidence)]

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        return {
            "names": self.names.snapshot(),
            "requests": self.requests.snapshot(),
            "labels": self.labels.snapshot(),
            "values": self.values.snapshot(),
            "streams": self.streams.snapshot(),
            "lasting": [[*key, level] for key, level in self.lasting.items()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.names.load(state["names"])
        self.requests.load(state["requests"])
        self.labels.load(state["labels"])
        self.values.load(state["values"])
        self.streams.load(state["streams"])
        self.lasting = {(kind, name): level for kind, name, level in state["lasting"]}
