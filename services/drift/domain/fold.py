"""The drift fold: merged vectors, predictions and outcomes in, findings, incidents, trials and health records out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.champion_rows import champion_rows
from tidemill.services.drift.domain.data_quality import quantiles
from tidemill.services.drift.domain.features import FeatureColumn, FeatureFold
from tidemill.services.drift.domain.findings import Coordinates, Finding, HealthRecord
from tidemill.services.drift.domain.health import health_of
from tidemill.services.drift.domain.incident import IncidentUpdate
from tidemill.services.drift.domain.incidents import IncidentFold
from tidemill.services.drift.domain.intervals import Intervals, Revision
from tidemill.services.drift.domain.new_classes import new_classes
from tidemill.services.drift.domain.promotions import Promotion, promotions_of
from tidemill.services.drift.domain.quality import WindowRows
from tidemill.services.drift.domain.rows import MergedCoordinates, OutcomeRows, PredictionRows, VectorRows
from tidemill.services.drift.domain.schema_changes import ModelColumns, SchemaNews, SchemaWatch
from tidemill.services.drift.domain.shifts import Summary, shifts_of
from tidemill.services.drift.domain.stream_ends import EndNews, StreamEnds
from tidemill.services.drift.domain.trial import ContestBlock
from tidemill.services.drift.domain.trials import Trials
from tidemill.services.drift.domain.watch import ModelWatch
from tidemill.services.drift.domain.watch_settings import WatchSettings, feature_columns
from tidemill.shared.application.lineage import Lineage
from tidemill.shared.avro.chosen_rows import chosen_rows

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
_EMPTY_DAYS = 60
DriftRecord = Finding | IncidentUpdate | HealthRecord | Revision | ContestBlock


class DriftFold:
    """Deterministic fold over rows in merge order; windows are days of journal time (UTC).

    A window closes when journal time has passed its end: by a later row, or by coverage (`advance`). What is said, and its order, does
    not depend on which of the two came first, nor on how rows were batched.
    """

    def __init__(
        self,
        settings: Sequence[WatchSettings],
        feature_types: Mapping[str, str],
        lineage: Mapping[str, Lineage] | None = None,
        partitions: Mapping[str, int] | None = None,
    ) -> None:
        origins = self._lineage = lineage or {}
        self._watches = {one.model: ModelWatch(one) for one in settings}
        self._incidents = {one.model: IncidentFold(one.model, {name: origins[name] for name in one.features if name in origins}) for one in settings}
        self._intervals = {one.model: Intervals(one.model) for one in settings if one.kind.name == "regression"}
        self._trials = {one.model: Trials(one.model, one.kind, one.block_ms) for one in settings}
        self._features = {ask: FeatureFold(columns) for ask, columns in feature_columns(settings, feature_types).items()}
        self._schemas, self._ends = SchemaWatch(), StreamEnds(partitions or {})
        self._columns = {
            one.model: ModelColumns.of(one.model, one.ask, one.label_stream, {name: origins[name] for name in one.features if name in origins})
            for one in settings
        }
        self._day: int | None = None
        self._closed_ms = 0
        self._offset = 0
        self._empty = 0

    def absorb(
        self,
        at: MergedCoordinates,
        vectors: VectorRows | None,
        predictions: PredictionRows | None,
        outcomes: OutcomeRows | None,
        schemas: Sequence[SchemaNews] = (),
        ends: Sequence[EndNews] = (),
    ) -> list[DriftRecord]:
        """Fold released rows (the coordinates of all of them, and the rows by input) and return what is to be said."""
        said: list[DriftRecord] = []
        growths = new_classes({model: watch.settings.kind for model, watch in self._watches.items()}, predictions, outcomes)
        for begin, end, promotions in self._segments(at, predictions, growths):
            said += self.advance(int(at.time_ms[begin]))
            self._day = int(at.time_ms[begin]) // DAY_MS
            for model, classes in growths.get(begin, {}).items():
                self._watches[model].widen(classes)
                self._trials[model].widen(self._watches[model].settings.kind)
            for one in promotions:
                watch = self._watches[one.model]
                fold = self._features[watch.settings.ask]
                if one.model in self._intervals and one.version != watch.version:
                    place = Coordinates(int(at.time_ms[begin]), int(at.partition[begin]), int(at.offset[begin]))
                    said += self._intervals[one.model].begin(one.version, one.lower_offset, one.upper_offset, place)
                seen = {} if one.version in watch.references else fold.seen()
                scales = {} if one.version in watch.references else fold.scales()
                watch.promote(one.version, one.sequence, seen, fold.null, fold.daily, scales, one.classes)
            self._schemas.waiting += [news for news in schemas if begin <= news.place < end]
            self._ends.absorb(news for news in ends if begin <= news.place < end)
            for first, last in self._until_trials(at, begin, end, outcomes):
                said += self._close_trials(int(at.time_ms[first]))
                self._segment(first, last, vectors, predictions)
                said += self._outcomes(first, last, outcomes)
                self._offset = max(self._offset, int(at.offset[first:last].max()))
        return said

    def advance(self, time_ms: int) -> list[DriftRecord]:
        """Close the windows that are over when every instant before `time_ms` is complete; days without rows are windows as well.

        After 60 of those in a row the next window begins with the next row.
        """
        said: list[DriftRecord] = []
        while self._day is not None and time_ms >= (self._day + 1) * DAY_MS:
            busy = any(fold.rows for fold in self._features.values()) or any(not watch.window.empty for watch in self._watches.values())
            self._empty = 0 if busy else self._empty + 1
            end_ms = (self._day + 1) * DAY_MS
            # By the label horizon of the windows before this one, which closing it may change.
            said += [*self._close_trials(end_ms), *self._close(self._day)]
            self._closed_ms = end_ms
            self._day = self._day + 1 if self._empty < _EMPTY_DAYS else None
        return said + self._close_trials(time_ms)

    def _close_trials(self, time_ms: int) -> list[DriftRecord]:
        """Close the blocks of trials whose label horizon has passed."""
        records: list[DriftRecord] = []
        for model, trials in self._trials.items():
            records += trials.close(time_ms, self._watches[model].verdict.horizon_ms(), self._closed_ms, self._offset)
        return records

    def _until_trials(self, at: MergedCoordinates, begin: int, end: int, outcomes: OutcomeRows | None) -> Iterator[tuple[int, int]]:
        """Stretches of a segment within which no block of a trial is to be closed; the whole where nothing is tried."""
        tried = outcomes is not None and outcomes.pairs is not None
        cuts = {begin, end}
        for model, trials in self._trials.items():
            if tried or trials.blocks:
                blocks = (at.time_ms[begin:end] - self._watches[model].verdict.horizon_ms()) // trials.block_ms
                cuts |= set((begin + 1 + np.flatnonzero(np.diff(blocks))).tolist())
        yield from pairwise(sorted(cuts))

    def _close(self, day: int) -> list[DriftRecord]:
        start, end = day * DAY_MS, (day + 1) * DAY_MS
        at = Coordinates(end, 0, self._offset)
        said: list[DriftRecord] = []
        closed = {ask: fold.close_day(day) for ask, fold in self._features.items()}
        news, ended = self._schemas.close(), self._ends.close()
        for watch in self._watches.values():
            ask = watch.settings.ask
            reference = watch.reference
            shifts = shifts_of(reference, {name: one for name, one in self._features[ask].window.items() if name in reference})
            watch.conditions.levels.clear()
            lag = quantiles(closed[ask].lag_ms, (0.5,))
            rewritten = [finding for one in news if (finding := self._columns[watch.settings.model].finding(at, one)) is not None]
            findings = rewritten + watch.streams_quality(at, day, closed[ask].hours, float("nan") if lag is None else float(lag[0]), ended)
            if reference and closed[ask].rows:
                fold = self._features[ask]
                stale = frozenset(name for name, one in self._lineage.items() if one.streams & ended.before(ask))
                findings += watch.broken(at, closed[ask].summaries, fold.window if fold.has_window(day) else {}, stale)
            findings += watch.sliced(at, day)
            watch.estimates.close(watch.window.estimated_loss)
            findings += watch.shifted(at, shifts, tested=self._features[ask].has_window(day))
            findings += watch.answers_shifted(at, day)
            findings += [*watch.unknown_classes(at, day), *watch.quality(at), *watch.loss(at)]
            incidents, fallback = self._incidents[watch.settings.model], watch.window.fallback_share
            said += findings
            said += incidents.absorb(findings, fallback_share=fallback, ended=ended.before(ask))
            said += incidents.close_window(at, watch.conditions.levels, watch.window.scores, fallback_share=fallback)
            if not watch.window.empty:
                missing = {name: closed[ask].summaries[name].missing_share for name in shifts}
                said.append(health_of(watch, at, (start, end), shifts, missing))
            watch.window = WindowRows()
        return said

    def snapshot(self) -> dict[str, Any]:
        """State as entries of plain lists and numbers, by name."""
        state: dict[str, Any] = {"fold": {"day": self._day, "offset": self._offset, "empty": self._empty, "closed_ms": self._closed_ms}}
        state["schemas"], state["ends"] = self._schemas.snapshot(), self._ends.snapshot()
        for ask, fold in self._features.items():
            state |= fold.snapshot(ask)
        for model, watch in self._watches.items():
            state[f"watch/{model}"] = watch.snapshot()
            state[f"incidents/{model}"] = self._incidents[model].snapshot()
            state[f"trials/{model}"] = self._trials[model].snapshot()
            if model in self._intervals:
                state[f"intervals/{model}"] = self._intervals[model].snapshot()
            for version, reference in watch.references.items():
                for name, summary in reference.items():
                    state[f"reference/{model}/{version}/{name}"] = summary.snapshot()
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self._day, self._offset, self._empty = state["fold"]["day"], state["fold"]["offset"], state["fold"]["empty"]
        self._closed_ms = state["fold"]["closed_ms"]
        self._schemas.load(state["schemas"])
        self._ends.load(state["ends"])
        for ask, fold in self._features.items():
            fold.load(ask, state)
        for model, watch in self._watches.items():
            own = state[f"watch/{model}"]
            columns = {column.name: column for column in self._features[watch.settings.ask].columns}
            references = {version: self._reference(state, f"reference/{model}/{version}/", watch, columns) for version in own["references"]}
            watch.load(own, references)
            self._incidents[model].load(state[f"incidents/{model}"])
            self._trials[model].kind = watch.settings.kind
            self._trials[model].load(state[f"trials/{model}"])
            if model in self._intervals:
                self._intervals[model].load(state[f"intervals/{model}"])

    def _reference(self, state: Mapping[str, Any], prefix: str, watch: ModelWatch, columns: Mapping[str, FeatureColumn]) -> dict[str, Summary]:
        return {name: columns[name].load(state[prefix + name]) for name in watch.settings.features}

    def _segments(
        self, at: MergedCoordinates, predictions: PredictionRows | None, growths: Collection[int]
    ) -> Iterator[tuple[int, int, list[Promotion]]]:
        """Stretches of one day, one champion and the same classes, with the promotions at each one's begin."""
        if not at.place.size:
            return
        serving = {model: (watch.sequence, watch.version) for model, watch in self._watches.items()}
        promotions = promotions_of(predictions, serving) if predictions is not None else {}
        days = np.flatnonzero(np.diff(at.time_ms // DAY_MS)) + 1
        cuts = sorted({0, *days.tolist(), *promotions, *growths, at.place.size})
        for begin, end in pairwise(cuts):
            yield begin, end, promotions.get(begin, [])

    def _segment(self, begin: int, end: int, vectors: VectorRows | None, predictions: PredictionRows | None) -> None:
        if vectors is not None:
            inside = (vectors.at.place >= begin) & (vectors.at.place < end)
            for ask, fold in self._features.items():
                rows = np.flatnonzero(inside & (vectors.ask == ask))
                if rows.size:
                    hour = vectors.at.time_ms[rows] % DAY_MS // HOUR_MS
                    fold.absorb(chosen_rows(vectors.batch, rows), vectors.lag_ms[rows], hour)
                    self._record(ask, vectors, rows)
                    self._slices(ask, vectors, rows)
        if predictions is not None:
            inside = (predictions.at.place >= begin) & (predictions.at.place < end)
            for model, watch in self._watches.items():
                mine = inside & (predictions.model == model)
                watch.window.predictions(watch.settings.kind, predictions, mine)
                watch.answers.absorb(predictions, mine & (predictions.variant == "champion") & (predictions.version == watch.version))
                if watch.importance is not None and watch.importance.waiting:
                    rows = np.flatnonzero(mine)
                    champion = (predictions.variant[rows] == "champion") & (predictions.version[rows] == watch.version)
                    watch.importance.answered(_keys(predictions.at, rows), predictions.score[rows].tolist(), champion.tolist())

    def _record(self, ask: str, vectors: VectorRows, rows: NDArray[np.int64]) -> None:
        """Record the first requests of new champions, whose answers tell how much each feature matters."""
        for watch in self._watches.values():
            one = watch.importance
            if one is not None and one.left and watch.settings.ask == ask:
                chosen = rows[: one.left]
                one.requests(_keys(vectors.at, chosen), chosen_rows(vectors.batch, chosen), watch.references[str(watch.version)])

    def _slices(self, ask: str, vectors: VectorRows, rows: NDArray[np.int64]) -> None:
        for watch in self._watches.values():
            if watch.slices is not None and watch.settings.ask == ask:
                at, batch = vectors.at, chosen_rows(vectors.batch, rows)
                watch.slices.vectors(at.partition[rows], at.offset[rows], batch, vectors.lag_ms[rows], watch.reference)

    def _outcomes(self, begin: int, end: int, outcomes: OutcomeRows | None) -> list[DriftRecord]:
        if outcomes is None:
            return []
        first, last = np.searchsorted(outcomes.at.place, [begin, end])
        if first == last:
            return []
        part = outcomes.part(slice(int(first), int(last)))
        judged = champion_rows(part)
        findings = []
        for model, watch in self._watches.items():
            mine, kind = _mask(part.model == model), watch.settings.kind
            findings += watch.outcomes(judged.labelled_as(kind), mine)
            self._trials[model].absorb(part.labelled_as(kind), mine)
        said: list[DriftRecord] = []
        for finding in sorted(findings, key=lambda finding: finding.at):
            said.append(finding)
            said += self._incidents[finding.model].absorb([finding])
        return said + self._revisions(part)

    def _revisions(self, rows: OutcomeRows) -> list[Revision]:
        revisions: list[Revision] = []
        for model, intervals in self._intervals.items():
            watch, mine = self._watches[model], _mask(rows.model == model)
            champion = mine & (rows.variant == "champion") & (rows.version == watch.version) & watch.settings.kind.is_label(rows.label)
            labels = np.flatnonzero(champion & (rows.status != "unmatched"))
            revisions += intervals.absorb(rows, np.flatnonzero(mine), labels, watch.verdict.horizon_ms())
        return sorted(revisions, key=lambda revision: revision.at)


def _keys(at: MergedCoordinates, rows: NDArray[np.int64]) -> list[str]:
    """Return what tells requests apart: journal partition and offset."""
    return [f"{partition}/{offset}" for partition, offset in zip(at.partition[rows].tolist(), at.offset[rows].tolist(), strict=True)]


def _mask(values: Any) -> NDArray[np.bool_]:
    return np.asarray(values, dtype=np.bool_)
