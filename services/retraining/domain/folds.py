"""Cuts along time for comparing recipes: each fold learns what was known when its first validation request was asked."""

from dataclasses import dataclass

from tidemill.services.retraining.domain.examples import Examples


@dataclass(frozen=True, slots=True)
class Folds:
    """Stretches of time to validate on, the newest first, each with the past it may learn from.

    Between what a fold learns and what it is judged on lies a gap of the label horizon: requests younger than that have only their early labels, and
    those are no fair sample.

    Attributes
    ----------
    horizon_ms
        The label horizon.
    known_ms
        Labels that came later are not looked at.
    spans
        Begin and end of each stretch of requests.
    """

    horizon_ms: int
    known_ms: int
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, end_ms: int, known_ms: int, horizon_ms: int, span_ms: int, most: int, earliest_ms: int) -> "Folds":
        """Cut the time before `end_ms` into folds of equal length: at most `most`, so many that the oldest still learns from half of the history.

        >>> Folds.of(100, 102, 2, 10, 3, 0).spans
        ((90, 100), (80, 90), (70, 80))
        >>> Folds.of(100, 102, 2, 30, 3, 0).spans
        ((70, 100),)
        """
        reach = end_ms - horizon_ms - earliest_ms - (end_ms - earliest_ms) // 2
        count = max(1, min(most, reach // max(1, span_ms)))
        return cls(horizon_ms, known_ms, tuple((end_ms - (k + 1) * span_ms, end_ms - k * span_ms) for k in range(count)))

    def __len__(self) -> int:
        return len(self.spans)

    def learning(self, examples: Examples, fold: int, window_days: int) -> Examples:
        """Return what whoever trained at the fold's begin could learn from, of the last days before (0: all)."""
        at = self.spans[fold][0]
        last = at - self.horizon_ms
        begin = examples.window_begin(last, window_days)
        return examples.where((examples.label_ms < at) & (examples.request_ms < last) & (examples.request_ms >= begin))

    def validation(self, examples: Examples, fold: int) -> Examples:
        """Return the rows a fold is judged on."""
        begin, end = self.spans[fold]
        return examples.where((examples.label_ms < self.known_ms) & (examples.request_ms >= begin) & (examples.request_ms < end))
