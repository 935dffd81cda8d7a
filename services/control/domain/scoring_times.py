"""Whether a challenger takes too long to score, beside its champion: a fold over windows of what both took for the same requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.control.domain.decision import JournalPlace, decision
from tidemill.services.control.domain.trial_state import STAGE_WORDS, StagePolicy
from tidemill.shared.application.stages import ABStage, ScoringTimeLimit

_OF_SCORING_TIME = 0.25
"""Of the level, beside what losses, calibration and slices have."""
_BETS = (0.2, 0.5, 0.9)
"""Shares of the stake that are bet on the next window being slow: the largest finds soonest who always is, the smallest who often is."""

_AT_REST = 4.0
"""Evidence below this is none: it tends to 1.7 while no window is slow."""


@dataclass(slots=True)
class Sums:
    """Requests and what both took for them."""

    requests: int = 0
    champion_ns: int = 0
    challenger_ns: int = 0

    def add(self, other: "Sums") -> None:
        """Add those of another window or partition."""
        self.requests += other.requests
        self.champion_ns += other.champion_ns
        self.challenger_ns += other.challenger_ns

    def exceeds(self, limit: ScoringTimeLimit) -> bool:
        """Whether the challenger takes longer than both limits allow."""
        excess_us = (self.challenger_ns - self.champion_ns) / 1_000 / self.requests
        return self.challenger_ns > limit.times_champion * self.champion_ns and excess_us > limit.excess_us


@dataclass(slots=True)
class TimedChallenger:
    """One challenger, through its stages.

    Attributes
    ----------
    judged_ms
        Windows that begin by then are judged.
    open
        Windows that are not: by their begin, over all partitions.
    evidence
        Shiryaev-Roberts statistic of each bet.
    windows, slow, seen
        How many windows, and how many slow ones, and what was taken in them, since the evidence was last at rest.
    """

    version: str
    sequence: int
    stage: str
    judged_ms: int = -(2**62)
    decided: bool = False
    open: dict[int, Sums] = field(default_factory=dict)
    evidence: list[float] = field(default_factory=lambda: [0.0] * len(_BETS))
    windows: int = 0
    slow: int = 0
    seen: Sums = field(default_factory=Sums)

    @property
    def total(self) -> float:
        """Of all bets together."""
        return sum(self.evidence) / len(self.evidence)

    def judge(self, window: Sums, limit: ScoringTimeLimit) -> None:
        """Take the next window."""
        is_slow = window.exceeds(limit)
        self.windows, self.slow = self.windows + 1, self.slow + is_slow
        self.seen.add(window)
        self.evidence = [(1 + value) * (1 + bet if is_slow else 1 - bet) for value, bet in zip(self.evidence, _BETS, strict=True)]
        if not is_slow and self.total < _AT_REST:
            self.windows, self.slow, self.seen = 0, 0, Sums()


class ScoringTimeWatch:
    """Sends a challenger back once it is shown to be slower than its model's limit allows.

    A window in which the challenger took more than both limits allow, over the requests of all partitions, is slow. The null hypothesis is that
    whatever came before, the next window is slow with a probability of one half at most. A challenger that is as fast as the champion fulfils it
    however noisy the machine is, since both are scored in turns in the same process: what makes one of them look slow makes the other look so as
    often. Each bet's ``R = (1 + R) (1 + bet)`` after a slow window, ``(1 + R) (1 - bet)`` after another, is a Shiryaev-Roberts statistic
    (e-detector): ``R - windows`` is a supermartingale under the hypothesis, so ``R`` reaches ``windows / level`` among so many windows with a
    probability of `level` at most (Doob). The bound is set for the longest trial and A/B test together. What was fast for a week and becomes slow is
    found as soon as what was slow from the beginning, which a test that adds up all evidence would not do.

    Measurements are not recomputed by anybody; the decision holds their figures.

    Source: Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change detection (2023).
    """

    def __init__(self, policies: Sequence[StagePolicy]) -> None:
        self._limits = {policy.model: limit for policy in policies if (limit := policy.stages.limits.scoring_time) is not None}
        self._bounds = {policy.model: _bound(policy, self._limits[policy.model]) for policy in policies if policy.model in self._limits}
        self._challengers: dict[str, TimedChallenger] = {}

    def take(self, record: Mapping[str, Any], at: JournalPlace, *, decides: bool = True) -> list[dict[str, Any]]:
        """Take a window of one partition (`tidemill.ScoringTime`); returns the decision that follows from those before it, if one does.

        A window waits for those of other partitions until one that begins later comes.

        Parameters
        ----------
        decides
            False where something else has decided on this stage of the challenger: evidence grows, and nothing is said.
        """
        limit = self._limits.get(record["model"])
        challenger = None if limit is None else self._followed(record)
        if limit is None or challenger is None or record["window_start"] <= challenger.judged_ms or not record["requests"]:
            return []
        begin = record["window_start"]
        challenger.open.setdefault(begin, Sums()).add(Sums(record["requests"], record["champion_ns"], record["challenger_ns"]))
        for earlier in sorted(start for start in challenger.open if start < begin):
            challenger.judge(challenger.open.pop(earlier), limit)
            challenger.judged_ms = earlier
        bound = self._bounds[record["model"]]
        if challenger.decided or not decides or challenger.total < bound:
            return []
        challenger.decided = True
        return [_step_back(record["model"], challenger, limit, bound, at)]

    def sent_back(self) -> list[tuple[str, str, int]]:
        """Return model, version and sequence of the challengers that it has sent back in their present stage."""
        return [(model, one.version, one.sequence) for model, one in self._challengers.items() if one.decided]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        return {
            name: {
                **{slot: getattr(one, slot) for slot in _PLAIN},
                "open": [[start, *_values(sums)] for start, sums in one.open.items()],
                "seen": _values(one.seen),
            }
            for name, one in self._challengers.items()
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a snapshot."""
        for name, saved in state.items():
            if name in self._limits:
                waiting = {start: Sums(*values) for start, *values in saved["open"]}
                plain = {slot: saved[slot] for slot in _PLAIN}
                self._challengers[name] = TimedChallenger(**plain, open=waiting, seen=Sums(*saved["seen"]))

    def _followed(self, record: Mapping[str, Any]) -> TimedChallenger | None:
        """Return the challenger that a window is of; None for an earlier stage or challenger."""
        challenger, sequence = self._challengers.get(record["model"]), record["challenger_sequence"]
        if challenger is None or (sequence > challenger.sequence and record["challenger_version"] != challenger.version):
            challenger = self._challengers[record["model"]] = TimedChallenger(record["challenger_version"], sequence, record["stage"])
        elif sequence < challenger.sequence:
            return None
        elif sequence > challenger.sequence:
            challenger.sequence, challenger.stage, challenger.decided = sequence, record["stage"], False
        return challenger


_PLAIN = tuple(slot for slot in TimedChallenger.__slots__ if slot not in ("open", "seen"))


def _values(sums: Sums) -> list[int]:
    return [sums.requests, sums.champion_ns, sums.challenger_ns]


def _bound(policy: StagePolicy, limit: ScoringTimeLimit) -> float:
    """Return what the statistic has to reach: windows of the longest trial by the level of a wrong step back within it."""
    longest_ms = policy.stages.longest + (policy.stages.ab or ABStage()).duration
    return max(1.0, longest_ms / limit.window) / (_OF_SCORING_TIME * policy.level)


def _step_back(model: str, challenger: TimedChallenger, limit: ScoringTimeLimit, bound: float, at: JournalPlace) -> dict[str, Any]:
    seen = challenger.seen
    champion_us, challenger_us = (taken / 1_000 / seen.requests for taken in (seen.champion_ns, seen.challenger_ns))
    figures = {
        "champion_scoring_us": champion_us, "challenger_scoring_us": challenger_us, "scoring_windows": float(challenger.windows),
        "slow_windows": float(challenger.slow), "scored_requests": float(seen.requests), "scoring_time_evidence": challenger.total,
        "scoring_time_bound": bound,
    }  # fmt: skip
    times = f" ({challenger_us / champion_us:.3g} times)" if champion_us else ""
    words = (
        f"scoring time: expected at most {limit.times_champion:g} times the champion's {champion_us:.3g} µs a request, or {limit.excess_us:g} µs"
        f" more, found {challenger_us:.3g} µs{times} on {seen.requests:,} requests; {challenger.slow:,} of {challenger.windows:,} windows were slow"
    )
    cause = f"{challenger.version}:{challenger.sequence}:step_back"
    reason = f"{challenger.version} {STAGE_WORDS[challenger.stage]}: {words}"
    return {
        **decision(model, "step_back", "requested", "trial", cause, at, reason),
        "version": challenger.version,
        "serving": "",
        "figures": figures,
    }
