"""What the streams of one model bring in a window, requests and labels: held against the windows before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.findings import Coordinates, Finding, Severity
from tidemill.services.drift.domain.quality import WindowRows
from tidemill.services.drift.domain.silence import Silence, words_of_pause
from tidemill.services.drift.domain.stream_ends import EndedStreams
from tidemill.services.drift.domain.stream_quality import OF_LABELS, OF_REQUESTS, StreamKind, StreamQuality, words_of

_LEAST_ROWS = 20
_NONE_ENDED = EndedStreams()


@dataclass(slots=True)
class StreamWatch:
    """Volume, freshness, silence and labels of the stream that asks a model, and of the one that brings its labels.

    Attributes
    ----------
    silent
        Whether the stream of requests was silent, or had ended, at the end of the last window.
    measured
        What the window that is being closed is a measure of; not part of the state.
    """

    ask: str
    label_stream: str
    streams: StreamQuality = field(default_factory=StreamQuality)
    silence: Silence = field(default_factory=Silence)
    silent: bool = False
    measured: frozenset[StreamKind] = OF_REQUESTS | OF_LABELS

    def close(
        self,
        at: Coordinates,
        conditions: Conditions,
        window: WindowRows,
        day: int,
        hours: Sequence[int],
        lag_ms: float,
        *,
        judged: bool,
        ended: EndedStreams = _NONE_ENDED,
    ) -> list[Finding]:
        """Take a window: rows of requests by hour, the median time from event to journal, and what came for the model.

        Volume is judged on whole windows: of one in which the stream went silent the silence is told, as a lack of freshness, and not the rows that
        are missing because of it, nor their labels. A window in which a stream had ended says nothing of it, and nothing is learned from it; where
        the requests have ended it says nothing of their labels either.

        Parameters
        ----------
        judged
            Whether findings are given; without a champion windows are only learned.
        """
        nothing, rows = float("nan"), sum(hours)
        labels, waited = len(window.delay_ms), len(window.delay_ms) + window.timeouts
        pause = None if self.ask in ended else self.silence.close(day, hours)
        was_silent, self.silent = self.silent, self.ask in ended or (pause is not None and pause.is_silent)
        self.measured = self._measured(ended, volume=pause is None or not pause.hides_volume, labels=not (self.silent or was_silent))
        figures: dict[StreamKind, float] = {
            "volume": float(rows),
            "freshness": lag_ms if rows >= _LEAST_ROWS else nothing,
            "labels": float(labels),
            "label_delay": window.delay_ms.quantile(0.5) if labels >= _LEAST_ROWS else nothing,
            "label_share": labels / waited if waited >= _LEAST_ROWS else nothing,
        }
        measures = self.streams.close(day, {kind: value for kind, value in figures.items() if kind in self.measured})
        if not judged:
            return []
        findings: list[Finding] = []
        for one in measures:
            stream = self.label_stream if one.kind.startswith("label") else self.ask
            if one.kind == "freshness" and pause is not None and pause.share / pause.bound > one.distance / one.bound:
                continue
            evidence = {one.kind: one.value, "usual": one.usual}
            severity: Severity = "alarm" if one.is_gone else "warning"
            findings += conditions.hold(at, one.kind, stream, "own_windows", one.distance, one.bound, words_of(one, stream), evidence, severity)
        if pause is not None and ("freshness", self.ask) not in conditions.levels:
            evidence = {"rows": float(rows), "usual_before": pause.usual_before, "usual_after": pause.usual_after}
            words = words_of_pause(pause, self.ask)
            findings += conditions.hold(at, "freshness", self.ask, "silence", pause.share, pause.bound, words, evidence)
        return findings

    def _measured(self, ended: EndedStreams, *, volume: bool, labels: bool) -> frozenset[StreamKind]:
        """Return what a window is a measure of; `volume` and `labels` say whether it is one of their number, as far as streams have not ended."""
        partial = {kind for kind, is_whole in (("volume", volume), ("labels", labels)) if not is_whole}
        of_requests = frozenset[StreamKind]() if self.ask in ended else OF_REQUESTS
        of_labels = frozenset[StreamKind]() if self.ask in ended or self.label_stream in ended else OF_LABELS
        return (of_requests | of_labels) - partial

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {"streams": self.streams.snapshot(), "silence": self.silence.snapshot(), "silent": self.silent}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.streams, self.silence = StreamQuality.load(state["streams"]), Silence.load(state["silence"])
        self.silent = bool(state["silent"])
