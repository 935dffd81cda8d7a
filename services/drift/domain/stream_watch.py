"""What the streams of one model bring in a window, requests and labels: held against the windows before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.drift.domain.conditions import Conditions
from tidemill.services.drift.domain.findings import Coordinates, Finding, Severity
from tidemill.services.drift.domain.quality import WindowRows
from tidemill.services.drift.domain.silence import Silence, words_of_pause
from tidemill.services.drift.domain.stream_quality import StreamKind, StreamQuality, words_of

_LEAST_ROWS = 20


@dataclass(slots=True)
class StreamWatch:
    """Volume, freshness, silence and labels of the stream that asks a model, and of the one that brings its labels.

    Attributes
    ----------
    silent
        Whether the stream of requests was silent at the end of the last window.
    whole_volume, whole_labels
        Whether the window that is being closed is a measure of the number of requests and of labels; not part of the state.
    """

    ask: str
    label_stream: str
    streams: StreamQuality = field(default_factory=StreamQuality)
    silence: Silence = field(default_factory=Silence)
    silent: bool = False
    whole_volume: bool = True
    whole_labels: bool = True

    def close(
        self, at: Coordinates, conditions: Conditions, window: WindowRows, day: int, hours: Sequence[int], lag_ms: float, *, judged: bool
    ) -> list[Finding]:
        """Take a window: rows of requests by hour, the median time from event to journal, and what came for the model.

        Volume is judged on whole windows: of one in which the stream went silent the silence is told, as a lack of freshness, and not the rows that
        are missing because of it, nor their labels.

        Parameters
        ----------
        judged
            Whether findings are given; without a champion windows are only learned.
        """
        nothing, rows = float("nan"), sum(hours)
        labels, ended = len(window.delay_ms), len(window.delay_ms) + window.timeouts
        pause = self.silence.close(day, hours)
        was_silent, self.silent = self.silent, pause is not None and pause.is_silent
        self.whole_volume, self.whole_labels = not (pause is not None and pause.hides_volume), not (self.silent or was_silent)
        figures: dict[StreamKind, float] = {
            "volume": float(rows) if self.whole_volume else nothing,
            "freshness": lag_ms if rows >= _LEAST_ROWS else nothing,
            "labels": float(labels) if self.whole_labels else nothing,
            "label_delay": window.delay_ms.quantile(0.5) if labels >= _LEAST_ROWS else nothing,
            "label_share": labels / ended if ended >= _LEAST_ROWS else nothing,
        }
        measures = self.streams.close(day, figures)
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

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {"streams": self.streams.snapshot(), "silence": self.silence.snapshot(), "silent": self.silent}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.streams, self.silence = StreamQuality.load(state["streams"]), Silence.load(state["silence"])
        self.silent = bool(state["silent"])
