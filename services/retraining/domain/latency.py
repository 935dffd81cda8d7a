"""The gate of latency: what scoring costs, held against declared limits and against the champion."""

from dataclasses import dataclass

from tidemill.shared.application.gate_policy import Latency


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds that scoring a row takes, by the candidate and by the champion, measured in turns in one process; None without a champion."""

    candidate_us: float
    champion_us: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """By name, as the training's record has them."""
        return {"scoring_us": self.candidate_us} | ({} if self.champion_us is None else {"champion_scoring_us": self.champion_us})


def judge_latency(limits: Latency, cost: Cost) -> str:
    """Say which limit a candidate exceeds; empty when none.

    >>> judge_latency(Latency(times_champion=3), Cost(20.0, 5.0))
    "latency: expected at most 3 times the champion's 5 µs a row, found 20 µs (4 times)"
    >>> judge_latency(Latency(row_us=50, times_champion=3), Cost(20.0))
    ''
    """
    if limits.row_us is not None and not cost.candidate_us <= limits.row_us:
        return f"latency: expected at most {limits.row_us:g} µs a row, found {cost.candidate_us:.3g} µs"
    if limits.times_champion is None or cost.champion_us is None or cost.candidate_us <= limits.times_champion * cost.champion_us:
        return ""
    times = cost.candidate_us / cost.champion_us
    words = f"expected at most {limits.times_champion:g} times the champion's {cost.champion_us:.3g} µs a row"
    return f"latency: {words}, found {cost.candidate_us:.3g} µs ({times:.3g} times)"
